/* flags.c - what --so_flags says. Names may be spelled as packetdrill's own options are
 * (--local_ip=...). */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"

/* "a.b.c.d" or "a.b.c.d/n"; *prefix_len stays as it is without n. */
static bool parse_net(struct zest_addr *addr, uint8_t *prefix_len, const char *text)
{
    char copy[ZEST_ADDR_TEXT];

    size_t len = strlen(text);
    if (len >= sizeof copy)
        return false;
    memcpy(copy, text, len + 1);
    char *slash = strchr(copy, '/');
    if (slash) {
        char *end;
        unsigned long n = strtoul(slash + 1, &end, 10);
        if (*end || end == slash + 1 || n < 1 || n > 32)
            return false;
        *prefix_len = (uint8_t)n;
        *slash = 0;
    }
    return !strchr(copy, ':') && zest_addr_parse(addr, copy, 0) == 0;
}

static bool parse_number(uint64_t *out, const char *text, uint64_t min, uint64_t max)
{
    char *end;

    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && *out >= min && *out <= max;
}

static bool parse_one(struct adapter_flags *f, char *name, const char **why)
{
    struct zest_addr remote;
    uint8_t any_len = 32;
    uint64_t n;
    char *value = strchr(name, '=');

    while (*name == '-')
        name++;
    if (!value || value < name) {
        *why = "flags are name=value";
        return false;
    }
    *value++ = 0;
    char *suffix = strstr(name, "_ip");
    if (suffix && !suffix[3])
        *suffix = 0;
    if (strcmp(name, "local") == 0) {
        *why = "local is an IPv4 address, and /length if the gateway does not say it";
        return parse_net(&f->local, &f->prefix_len, value);
    }
    if (strcmp(name, "gateway") == 0) {
        *why = "gateway is an IPv4 address, maybe with /length of the local network";
        return parse_net(&f->gateway, &f->prefix_len, value);
    }
    if (strcmp(name, "remote") == 0) {
        /* Anyone but us is there, and reached at once: nothing depends on it. */
        *why = "remote is an IPv4 network";
        return parse_net(&remote, &any_len, value);
    }
    if (strcmp(name, "mtu") == 0) {
        *why = "mtu is a number from 576 to 9000";
        f->mtu = parse_number(&n, value, 576, 9000) ? (uint16_t)n : 0;
        return f->mtu != 0;
    }
    if (strcmp(name, "timeout_ms") == 0) {
        *why = "timeout_ms is a number from 1 to 3600000";
        f->timeout_ns = parse_number(&n, value, 1, 3600000) ? n * 1000000 : 0;
        return f->timeout_ns != 0;
    }
    *why = "the flags are local, gateway, remote, mtu, timeout_ms";
    return false;
}

bool adapter_parse(struct adapter_flags *out, const char *text, const char **why)
{
    char copy[512];
    char *rest = NULL;

    *out = (struct adapter_flags){.prefix_len = 16, .mtu = 1500, .timeout_ns = 20000000000};
    (void)zest_addr_parse(&out->local, "192.168.0.1", 0);
    (void)zest_addr_parse(&out->gateway, "192.168.0.2", 0);
    *why = "flags are too long";
    if (!text)
        return true;
    size_t len = strlen(text);
    if (len >= sizeof copy)
        return false;
    memcpy(copy, text, len + 1);
    for (char *t = strtok_r(copy, ", \t", &rest); t; t = strtok_r(NULL, ", \t", &rest))
        if (!parse_one(out, t, why))
            return false;
    return true;
}
