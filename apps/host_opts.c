/* host_opts.c - the options that choose and tune a link and a stack. */
#include "host.h"

#include "say.h"

#include "../stack/zest_record.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>

enum {
    O_QUEUE = OPT_LONG + 100, /* clear of the subcommands' own */
    O_QUEUES,
    O_TAP,
    O_IP,
    O_PORTS,
    O_GATEWAY,
    O_HOST_IP,
    O_MTU,
    O_MODE,
    O_ATTACH,
    O_STEER,
    O_GATHER,
    O_RING,
    O_POOL,
    O_NO_HUGE,
    O_HUGE_1G,
    O_NODE,
    O_SND_BUF,
    O_RCV_BUF,
    O_CONNS,
    O_SPIN,
    O_COUNTERS,
    O_RECORD,
    O_RECORD_MAX,
    O_PCAP,
    O_PCAP_MAX,
    O_PCAP_RING,
    O_PCAP_RING_MAX,
    O_NO_OFFLOAD,
    O_PCAP_LIVE,
    O_PCAP_READ,
    O_PCAP_FAST,
    O_PROMISC
};

const struct opt host_opts[] = {
    OPT_HEAD("Link (one of them):"),
    {'I', "interface", "IF", "AF_XDP on this network interface (root)"},
    {O_TAP, "tap", "NAME", "a TAP interface of this name, made if there is none"},
    {O_PCAP_LIVE, "pcap-live", "IF",
     "libpcap on this network interface: any driver, no XDP (root)"},
    {O_PCAP_READ, "pcap-read", "FILE",
     "the frames to --ip in a capture file, at the pace at which they were captured; what is sent "
     "goes nowhere (but see --pcap)"},
    OPT_HEAD("Address:"),
    {O_IP, "ip", "A.B.C.D/N",
     "the stack's own address and subnet; one that no host uses, this one's kernel included. Or "
     "'host': that of the interface itself, of which the stack gets some --ports"},
    {O_PORTS, "ports", "LIST",
     "of the host's own address, these TCP ports only, as in 7,5000-5010; all else stays the "
     "kernel's, ARP too"},
    {O_GATEWAY, "gateway", "A.B.C.D", "router for everything beyond the subnet (default: none)"},
    {O_HOST_IP, "host-ip", "A.B.C.D/N",
     "address to give to the kernel's side of the TAP interface (default: leave it alone)"},
    OPT_HEAD("Tuning:"),
    {O_MODE, "mode", "M",
     "AF_XDP: auto, native, generic, zero-copy or copy (default: auto, the best that the driver "
     "can do)"},
    {O_ATTACH, "attach", "HOW",
     "AF_XDP: dispatcher (libxdp's, beside other programs and other zest processes), link (alone, "
     "and "
     "gone with the process even if that is killed), or auto (default: dispatcher where it can be "
     "had)"},
    {O_QUEUE, "queue", "N", "AF_XDP: the interface's receive queue (default: 0)"},
    {O_QUEUES, "queues", "N",
     "AF_XDP: so many queues, from --queue on, with a stack and a thread for each; or all "
     "(default: "
     "1)"},
    {O_STEER, "steer", "HOW",
     "AF_XDP, several queues: how answers to connections of our own come in on the right one: auto "
     "(default: by rules that the card is given, else hash), hash (by the port, as the card's hash "
     "is known; else learn), or learn (by trying ports)"},
    {O_RING, "ring", "N", "AF_XDP: descriptors in each ring, a power of two (default: 2048)"},
    {O_GATHER, "gather", "G",
     "send payload that has no headroom from where it lies, as several descriptors a frame: auto "
     "(if that is measured to cost less than copying it; up to 384 frames to nobody), always, or "
     "never (copy it behind its headers; counted)"},
    {O_PROMISC, "promisc", NULL,
     "--pcap-live: in promiscuous mode, with a MAC address of our own instead of the interface's"},
    {O_PCAP_FAST, "pcap-fast", NULL, "--pcap-read: as fast as it goes"},
    {O_NO_OFFLOAD, "no-offload", NULL,
     "TAP: send and take whole packets with their checksums, not frames of up to 64 KiB that the "
     "kernel cuts, or has not cut"},
    {O_MTU, "mtu", "N", "largest IP packet of a TAP or memory link (default: 1500)"},
    {O_POOL, "pool", "SIZE",
     "memory for all packets, sent and received (default: 64M for each queue)"},
    {O_NO_HUGE, "no-huge", NULL, "do not ask for huge pages"},
    {O_HUGE_1G, "huge-1g", NULL,
     "memory of 1 GiB pages, if any are free; --pool is rounded up to them"},
    {O_NODE, "node", "N", "memory on NUMA node N (the card's), or not at all"},
    {O_SND_BUF, "snd-buf", "SIZE",
     "most bytes that a connection queues (default: 1M; echo: less when there are many)"},
    {O_RCV_BUF, "rcv-buf", "SIZE", "largest receive window of a connection (default: likewise)"},
    {O_CONNS, "conns", "N", "most connections at a time (default: 4096)"},
    {O_SPIN, "spin", NULL, "poll without ever sleeping: lowest latency, a whole core"},
    {'A', "affinity", "CORE",
     "run on this core only; with several queues, on the ones from there on (default: from the "
     "lowest)"},
    {O_COUNTERS, "counters", NULL, "at the end, print every counter that is not zero"},
    OPT_HEAD("Finding out:"),
    {O_RECORD, "record", "FILE",
     "note all that goes into the stack, for 'zest replay': saved at the end, when an assertion "
     "fails, and on a storm of time-outs"},
    {O_RECORD_MAX, "record-max", "SIZE", "memory for that; what is newest is kept (default: 64M)"},
    {O_PCAP, "pcap", "FILE",
     "write what crosses the link, both ways, as pcapng, with what the stack made of it"},
    {O_PCAP_MAX, "pcap-max", "SIZE", "the capture ends at that size (default: 1G)"},
    {O_PCAP_RING, "pcap-ring", "N",
     "keep the last N seconds in memory, and write them only when a connection ends in an error, "
     "on a storm of time-outs, when an assertion fails, and on SIGUSR1"},
    {O_PCAP_RING_MAX, "pcap-ring-max", "SIZE", "memory for that (default: 64M)"},
    OPT_END,
};

void host_options_init(struct host_options *o)
{
    memset(o, 0, sizeof *o);
    o->max_conns = 4096;
    o->core = -1;
    o->record_max = 64ull << 20;
    o->pcap_max = 1ull << 30;
}

bool host_option(struct host_options *o, int key, const char *name, const char *arg)
{
    static const char *const modes[] = {"auto", "native", "generic", "zero-copy", "copy", NULL};
    static const char *const attaches[] = {"auto", "link", "dispatcher", NULL};
    static const char *const steers[] = {"auto", "hash", "learn", NULL};
    static const char *const gathers[] = {"auto", "always", "never", NULL};
    switch (key) {
    case 'I':
        o->ifname = arg;
        return true;
    case O_TAP:
        o->tap = arg;
        return true;
    case O_PORTS:
        host_ports_parse(o, name, arg);
        return true;
    case O_IP:
        o->host_ip = strcmp(arg, "host") == 0;
        if (o->host_ip)
            return true;
        o->ip = opt_cidr(name, arg, &o->prefix_len);
        o->have_ip = true;
        return true;
    case O_GATEWAY:
        o->gateway = opt_addr(name, arg);
        return true;
    case O_HOST_IP: {
        uint8_t ignored;
        opt_cidr(name, arg, &ignored);
        o->host_cidr = arg;
        return true;
    }
    case O_MTU:
        o->mtu = (uint16_t)opt_number(name, arg, 576, 65535);
        return true;
    case O_MODE:
        o->mode = (enum host_mode)opt_word(name, arg, modes);
        return true;
    case O_ATTACH:
        o->attach = (enum netif_xdp_by)opt_word(name, arg, attaches);
        return true;
    case O_STEER:
        o->steer = (enum netif_xdp_steer)opt_word(name, arg, steers);
        return true;
    case O_QUEUE:
        o->queue = (uint32_t)opt_number(name, arg, 0, 4095);
        return true;
    case O_QUEUES:
        o->queues = strcmp(arg, "all") == 0 ? HOST_QUEUES_ALL
                                            : (uint32_t)opt_number(name, arg, 1, NETIF_QUEUES_MAX);
        return true;
    case O_RING:
        o->ring = (uint32_t)opt_number(name, arg, 64, 65536);
        if (o->ring & (o->ring - 1))
            say_usage("--%s: %s is not a power of two", name, arg);
        return true;
    case O_GATHER:
        o->gather = (enum host_gather)opt_word(name, arg, gathers);
        return true;
    case O_POOL:
        o->pool_size = opt_size(name, arg, 8ull << 20, 64ull << 30);
        return true;
    case O_NO_HUGE:
        o->no_huge = true;
        return true;
    case O_HUGE_1G:
        o->huge_1g = true;
        return true;
    case O_NODE:
        o->have_node = true;
        o->node = (uint32_t)opt_number(name, arg, 0, 1023);
        return true;
    case O_SND_BUF:
        o->snd_buf = (uint32_t)opt_size(name, arg, 4096, 1u << 30);
        return true;
    case O_RCV_BUF:
        o->rcv_buf = (uint32_t)opt_size(name, arg, 4096, 1u << 30);
        return true;
    case O_CONNS:
        o->max_conns = (uint32_t)opt_number(name, arg, 1, 1u << 20);
        return true;
    case O_SPIN:
        o->spin = true;
        return true;
    case 'A':
        o->core = (int)opt_number(name, arg, 0, 4095);
        return true;
    case O_COUNTERS:
        o->counters = true;
        return true;
    case O_RECORD:
        o->record = arg;
        return true;
    case O_RECORD_MAX:
        o->record_max = opt_size(name, arg, ZEST_RECORD_MIN, 64ull << 30);
        return true;
    case O_PCAP:
        o->pcap = arg;
        return true;
    case O_PCAP_MAX:
        o->pcap_max = opt_size(name, arg, 4096, 1ull << 40);
        return true;
    case O_PCAP_LIVE:
        o->pcap_live = arg;
        return true;
    case O_PCAP_READ:
        o->pcap_read = arg;
        return true;
    case O_PCAP_FAST:
        o->pcap_fast = true;
        return true;
    case O_PROMISC:
        o->promisc = true;
        return true;
    case O_NO_OFFLOAD:
        o->no_offload = true;
        return true;
    case O_PCAP_RING:
        o->pcap_ring = (uint32_t)opt_number(name, arg, 1, 86400);
        return true;
    case O_PCAP_RING_MAX:
        o->pcap_ring_max = opt_size(name, arg, 1ull << 20, 64ull << 30);
        return true;
    default:
        return false;
    }
}

/* The kernel would answer for that address as well, and one of the two would reset the other's
 * connections. Returns the interface that has it, or NULL. */
static const char *kernel_owns(const struct zest_addr *ip, char name[64])
{
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0)
        return NULL;
    const char *found = NULL;
    for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        struct sockaddr_in in;
        memcpy(&in, i->ifa_addr, sizeof in);
        if (memcmp(&in.sin_addr, &ip->ip[12], 4) == 0) {
            strncpy(name, i->ifa_name, 63);
            name[63] = '\0';
            found = name;
        }
    }
    freeifaddrs(list);
    return found;
}

void host_options_check(struct host_options *o)
{
    int links = (o->ifname != NULL) + (o->tap != NULL) + (o->pcap_live != NULL) +
                (o->pcap_read != NULL) + o->mem;
    if (links == 0)
        say_usage("which link? Give one of\n"
                  "    -I IF --ip A.B.C.D/N        AF_XDP on interface IF, as root\n"
                  "    --tap NAME --ip A.B.C.D/N   a TAP interface\n"
                  "    --pcap-live IF, --pcap-read FILE   libpcap");
    if (links > 1)
        say_usage("more than one link given: choose between %s%s%s%s%s", o->ifname ? "-I " : "",
                  o->tap ? "--tap " : "", o->pcap_live ? "--pcap-live " : "",
                  o->pcap_read ? "--pcap-read " : "", o->mem ? "--mem" : "");
    if (o->n_ports || o->host_ip)
        host_beside_kernel(o);
    if (!o->mem && !o->have_ip)
        say_usage("which address is the stack to have? Give --ip A.B.C.D/N, one that is free in "
                  "the subnet of %s",
                  o->ifname      ? o->ifname
                  : o->tap       ? o->tap
                  : o->pcap_live ? o->pcap_live
                                 : o->pcap_read);
    if (o->promisc && !o->pcap_live)
        say_usage("--promisc is for --pcap-live");
    if (o->pcap_fast && !o->pcap_read)
        say_usage("--pcap-fast is for --pcap-read");
    if (o->host_cidr && !o->tap)
        say_usage("--host-ip is for --tap: other links have no kernel's side of their own");
    if (o->mtu && o->ifname)
        say_usage("--mtu is for --tap and --mem: AF_XDP takes that of %s (set it with 'ip link "
                  "set %s mtu %u')",
                  o->ifname, o->ifname, o->mtu);
    if (o->queues && !o->ifname && !o->tap)
        say_usage("--queues is for AF_XDP (-I) and --tap");
    if (o->queues == HOST_QUEUES_ALL && o->tap)
        say_usage("--queues: a TAP interface has as many as are asked for: give a number");
    if (o->mode != HOST_MODE_AUTO && !o->ifname)
        say_usage("--mode is for AF_XDP (-I)");
    if (o->pcap_ring && !o->pcap)
        say_usage("--pcap-ring: into which file, if something goes wrong? Give --pcap FILE");
    char name[64];
    if (o->have_ip && !o->mem && !o->pcap_read && !o->n_ports && kernel_owns(&o->ip, name)) {
        char text[ZEST_ADDR_TEXT];
        say_usage("--ip: %s is already this host's own (on %s): give the stack another address of "
                  "that subnet, or some ports of this one (--ip host --ports LIST)",
                  zest_addr_text(&o->ip, text), name);
    }
}
