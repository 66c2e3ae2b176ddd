/* addr.c - addresses to text and back. Text comes from people and configuration: anything that is
 * not wholly an address is refused, nothing is guessed. */
#include <arpa/inet.h>
#include <stdio.h>

#include "stack.h"

/* Digits only, to the end of the string; 1 to 65535. */
static int parse_port(const char *text, uint16_t *port)
{
    uint32_t v = 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9')
            return -EINVAL;
        v = v * 10 + (uint32_t)(*p - '0');
        if (v > UINT16_MAX)
            return -EINVAL;
    }
    if (v == 0)
        return -EINVAL;
    *port = (uint16_t)v;
    return 0;
}

static int parse_ip(const char *text, uint8_t ip[16])
{
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        struct ipaddr a = ipaddr_from_v4(v4.s_addr);
        memcpy(ip, a.b, 16);
        return 0;
    }
    return inet_pton(AF_INET6, text, ip) == 1 ? 0 : -EINVAL;
}

int zest_addr_parse(struct zest_addr *out, const char *text, uint16_t port)
{
    struct zest_addr addr = {.port = port};
    char host[ZEST_ADDR_TEXT];
    const char *end, *port_text = NULL;

    if (!out || !text)
        return -EINVAL;
    if (*text == '[') { /* RFC 3986: brackets keep the colons of IPv6 apart from the port's */
        end = strchr(++text, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return -EINVAL;
        if (end[1] == ':')
            port_text = end + 2;
    } else {
        const char *colon = strchr(text, ':');
        if (colon && !strchr(colon + 1, ':')) /* one colon: a port; more: bare IPv6 */
            port_text = colon + 1;
        end = port_text ? colon : text + strlen(text);
    }
    size_t n = (size_t)(end - text);
    if (n >= sizeof host)
        return -EINVAL;
    memcpy(host, text, n);
    host[n] = '\0';
    if (parse_ip(host, addr.ip) != 0 || (port_text && parse_port(port_text, &addr.port) != 0))
        return -EINVAL;
    *out = addr;
    return 0;
}

char *zest_addr_text(const struct zest_addr *addr, char buf[ZEST_ADDR_TEXT])
{
    char ip[INET6_ADDRSTRLEN];
    struct ipaddr a;
    memcpy(a.b, addr->ip, 16);
    struct ipaddr v4 = ipaddr_from_v4(a.w[3]);
    bool is_v4 = ipaddr_equal(&a, &v4);

    if (is_v4)
        inet_ntop(AF_INET, &a.w[3], ip, sizeof ip);
    else
        inet_ntop(AF_INET6, a.b, ip, sizeof ip);
    if (addr->port == 0)
        snprintf(buf, ZEST_ADDR_TEXT, "%s", ip);
    else
        snprintf(buf, ZEST_ADDR_TEXT, is_v4 ? "%s:%u" : "[%s]:%u", ip, addr->port);
    return buf;
}

uint64_t addr_holder(const struct ipaddr *ip, uint16_t port)
{
    return (uint64_t)be32_get(&ip->w[3]) << 16 | port;
}

bool zest_holder_addr(struct zest_addr *out, uint64_t who)
{
    struct ipaddr ip = ipaddr_from_v4(__builtin_bswap32((uint32_t)(who >> 16)));

    *out = (struct zest_addr){.port = (uint16_t)who};
    memcpy(out->ip, ip.b, sizeof out->ip);
    return who != 0;
}
