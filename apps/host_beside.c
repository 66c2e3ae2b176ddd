/* host_beside.c - --ip host and --ports: some ports of an address that the kernel has. What the
 * stack needs to know besides (subnet, router) is what the kernel knows of that interface. */
#include "host.h"

#include "say.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "7,5000-5010" */
void host_ports_parse(struct host_options *o, const char *name, const char *arg)
{
    const char *p = arg;
    o->n_ports = 0;
    while (*p) {
        char *end;
        unsigned long first = strtoul(p, &end, 10), last = first;
        if (end != p && *end == '-') {
            p = end + 1;
            last = strtoul(p, &end, 10);
        }
        if (end == p || (*end && *end != ',') || *p == '-' || *p == '+' || *p == ' ' || first < 1 ||
            last < first || last > 65535)
            say_usage("--%s: '%s' is no list of ports and ranges like 7,5000-5010", name, arg);
        if (o->n_ports == HOST_PORTS)
            say_usage("--%s: at most %d ports and ranges", name, HOST_PORTS);
        o->ports[o->n_ports++] =
            (struct netif_ports){.first = (uint16_t)first, .last = (uint16_t)last};
        p = *end ? end + 1 : end;
    }
    if (o->n_ports == 0)
        say_usage("--%s: which?", name);
}

bool host_has_port(const struct host_options *o, uint16_t port)
{
    bool has = o->n_ports == 0;
    for (unsigned i = 0; i < o->n_ports; i++)
        has |= port >= o->ports[i].first && port <= o->ports[i].last;
    return has;
}

/* The interface's first address, or the given one if the interface has it. */
static bool find_address(struct host_options *o)
{
    struct ifaddrs *list;
    bool found = false;
    if (getifaddrs(&list) < 0)
        return false;
    for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
        struct sockaddr_in at, mask;
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !i->ifa_netmask ||
            strcmp(i->ifa_name, o->ifname) != 0)
            continue;
        memcpy(&at, i->ifa_addr, sizeof at);
        memcpy(&mask, i->ifa_netmask, sizeof mask);
        if (!o->host_ip && memcmp(&at.sin_addr, &o->ip.ip[12], 4) != 0)
            continue;
        o->ip = (struct zest_addr){.ip = {[10] = 0xff, [11] = 0xff}};
        memcpy(&o->ip.ip[12], &at.sin_addr, 4);
        o->prefix_len = (uint8_t)__builtin_popcount(mask.sin_addr.s_addr);
        o->have_ip = found = true;
    }
    freeifaddrs(list);
    return found;
}

/* The router of the interface's default route, if there is one. A line of the table is: interface,
 * destination, router, flags, three numbers, mask; addresses as the machine's words, in
 * hexadecimal. */
static void find_gateway(struct host_options *o)
{
    char line[256];
    FILE *f = fopen("/proc/net/route", "re");
    if (!f)
        return;
    while (fgets(line, sizeof line, f)) {
        char *rest, *field[8];
        unsigned n = 0;
        for (char *w = strtok_r(line, "\t \n", &rest); w && n < 8;
             w = strtok_r(NULL, "\t \n", &rest))
            field[n++] = w;
        if (n < 8 || strcmp(field[0], o->ifname) != 0)
            continue;
        uint32_t via_be = (uint32_t)strtoul(field[2], NULL, 16);
        if (strtoul(field[1], NULL, 16) != 0 || strtoul(field[7], NULL, 16) != 0 || via_be == 0)
            continue;
        o->gateway = (struct zest_addr){.ip = {[10] = 0xff, [11] = 0xff}};
        memcpy(&o->gateway.ip[12], &via_be, 4);
        break;
    }
    fclose(f);
}

void host_beside_kernel(struct host_options *o)
{
    static const uint8_t none[16];
    char text[ZEST_ADDR_TEXT];
    if (!o->ifname)
        say_usage("--ports and --ip host are for AF_XDP (-I)");
    if (o->n_ports == 0)
        say_usage("--ip host: which of its ports? Give --ports, as in --ports 7,5000-5010; the "
                  "kernel keeps the others");
    if (find_address(o)) {
        if (memcmp(o->gateway.ip, none, sizeof none) == 0)
            find_gateway(o);
        return;
    }
    if (o->host_ip)
        say_usage("--ip host: %s has no IPv4 address", o->ifname);
    say_usage("--ports: %s is no address of %s; single ports are had of the host's own (--ip host)",
              zest_addr_text(&o->ip, text), o->ifname);
}
