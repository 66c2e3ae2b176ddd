/* netif_frames.c - frames over a real link, without a stack: what tests/system/netif_*.sh are made
 * of.
 *
 *   netif_frames info    LINK        opens the link, prints what it can do, closes it
 *   netif_frames reflect LINK        sends IPv4 frames back until it is told to stop (SIGTERM)
 *   netif_frames verify  LINK MAC IP N   sends N numbered frames to a reflector, and compares every
 *                                    byte of what comes back
 *   netif_frames hold    LINK        opens the link and waits to be told to stop
 *
 * LINK is xdp:IFNAME:OUR_IP[:generic|native|zero-copy|gather|measure|pool=MiB] or
 * tap:IFNAME:OUR_IP[:HOST_CIDR|mtu=N]. Before it ends, it closes the link and destroys the pool: a
 * segment that did not come home fails. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "netif/netif.h"

#define HEADERS    34u /* Ethernet and IPv4 */
#define WINDOW     64u
#define GIVE_UP_NS 60000000000u

static volatile sig_atomic_t stop;

static struct {
    struct zbuf_pool *pool;
    struct netif *nif;
    const struct netif_caps *caps;
    struct zest_addr ip;
    bool gather;
} l;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static void __attribute__((noreturn)) die(const char *what)
{
    fprintf(stderr, "netif_frames: %s\n", what);
    exit(1);
}

static void open_link(char *text)
{
    struct netif_error err = {""};
    char *kind = strtok(text, ":"), *ifname = strtok(NULL, ":"), *ip = strtok(NULL, ":"), *opt;
    size_t pool_mib = 32;
    int rc = -EINVAL;
    if (!kind || !ifname || !ip || zest_addr_parse(&l.ip, ip, 0) != 0)
        die("LINK is xdp:IFNAME:IP or tap:IFNAME:IP[:HOST_CIDR]");
    struct netif_xdp_config xc = {.ifname = ifname, .ip = l.ip};
    struct netif_tap_config tc = {.ifname = ifname};
    while ((opt = strtok(NULL, ":")) != NULL) {
        if (strcmp(opt, "generic") == 0)
            xc.attach = NETIF_XDP_GENERIC;
        else if (strcmp(opt, "native") == 0)
            xc.attach = NETIF_XDP_NATIVE;
        else if (strcmp(opt, "zero-copy") == 0)
            xc.copy = NETIF_XDP_ZERO_COPY;
        else if (strcmp(opt, "link") == 0)
            xc.by = NETIF_XDP_BY_LINK;
        else if (strcmp(opt, "dispatcher") == 0)
            xc.by = NETIF_XDP_BY_DISPATCHER;
        else if (strncmp(opt, "queue=", 6) == 0)
            xc.queue = (uint32_t)strtoul(opt + 6, NULL, 10);
        else if (strcmp(opt, "gather") == 0)
            xc.gather = true;
        else if (strcmp(opt, "measure") == 0)
            xc.measure = true;
        else if (strncmp(opt, "pool=", 5) == 0)
            pool_mib = strtoul(opt + 5, NULL, 10);
        else if (strncmp(opt, "mtu=", 4) == 0)
            tc.mtu = (uint16_t)strtoul(opt + 4, NULL, 10);
        else
            tc.host_cidr = opt;
    }
    l.pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = pool_mib << 20});
    if (!l.pool)
        die("no pool");
    xc.pool = tc.pool = l.pool;
    if (strcmp(kind, "xdp") == 0)
        rc = netif_open_xdp(&xc, &l.nif, &err);
    else if (strcmp(kind, "tap") == 0)
        rc = netif_open_tap(&tc, &l.nif, &err);
    if (rc) {
        fprintf(stderr, "%s\n", err.text);
        exit(3);
    }
    l.caps = netif_caps(l.nif);
    printf("%s %s mode=%s mtu=%u gather=%d mac=%02x:%02x:%02x:%02x:%02x:%02x\n", l.caps->kind,
           l.caps->name, l.caps->mode, l.caps->mtu, l.caps->gather, l.caps->mac[0], l.caps->mac[1],
           l.caps->mac[2], l.caps->mac[3], l.caps->mac[4], l.caps->mac[5]);
    if (xc.measure)
        printf("send_ns=%u gather_ns=%u linear_ns=%u gather_cheap=%d tx_budget=%u\n",
               l.caps->send_ns, l.caps->gather_ns, l.caps->linear_ns, l.caps->gather_cheap,
               l.caps->tx_budget);
    fflush(stdout);
    l.gather = l.caps->gather;
}

static int close_link(void)
{
    struct netif_stats st;
    netif_get_stats(l.nif, &st);
    printf("rx %llu tx %llu dropped %llu no_memory %llu invalid %llu\n",
           (unsigned long long)st.rx_frames, (unsigned long long)st.tx_frames,
           (unsigned long long)st.rx_dropped, (unsigned long long)st.rx_no_memory,
           (unsigned long long)st.tx_invalid);
    netif_close(l.nif);
    if (zbuf_pool_destroy(l.pool) != 0)
        die("segments did not come home");
    return 0;
}

static void wait_frames(int ms)
{
    struct pollfd p = {.fd = netif_fd(l.nif), .events = POLLIN};
    poll(&p, 1, ms);
}

static void swap(uint8_t *a, uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

static unsigned frame_room(void)
{
    return netif_tx_room(l.nif) / (l.caps->frame_descs ? l.caps->frame_descs : 1u);
}

/* Of several segments one: a chain may have more links than a frame has stretches. */
static struct zbuf *join(struct zbuf *chain)
{
    if (!chain->next)
        return chain;
    struct zbuf *zb = zbuf_alloc(l.pool, zbuf_chain_len(chain));
    if (!zb)
        die("no memory to join a frame in");
    for (const struct zbuf *part = chain; part; part = part->next) {
        memcpy(zb->data + zb->len, part->data, part->len);
        zb->len += part->len;
    }
    zbuf_chain_free(chain);
    return zb;
}

static int reflect(void)
{
    struct zbuf *in[64];
    while (!stop) {
        unsigned room = frame_room(), n = netif_rx(l.nif, in, room < 64 ? room : 64);
        for (unsigned i = 0; i < n; i++) {
            in[i] = join(in[i]);
            uint8_t *p = in[i]->data;
            if (in[i]->len < HEADERS || p[12] != 8 || p[13] != 0) {
                zbuf_free(in[i]);
                continue;
            }
            swap(p, p + 6, 6);
            swap(p + 26, p + 30, 4);
            netif_tx(l.nif, &(struct zest_frame){.seg[0] = {p, in[i]->len}, .n = 1}, 1);
        }
        netif_kick(l.nif);
        if (n == 0)
            wait_frames(50);
    }
    return close_link();
}

/* Sizes from the smallest frame to the largest, so that every page offset and both ends are met. */
static uint32_t payload_len(uint32_t seq)
{
    uint32_t max = l.caps->mtu - 20u;
    return seq % 7 == 0 ? max : 26 + (seq * 97u) % (max - 26);
}

static uint8_t pattern(uint32_t seq, uint32_t i)
{
    return (uint8_t)(seq * 31u + i * 7u + (i >> 8));
}

static void write_headers(uint8_t *p, const uint8_t to_mac[6], const struct zest_addr *to,
                          uint32_t payload)
{
    uint32_t sum = 0, total = 20 + payload;
    memcpy(p, to_mac, 6);
    memcpy(p + 6, l.caps->mac, 6);
    const uint8_t ip[] = {8,  0,   0x45, 0, (uint8_t)(total >> 8), (uint8_t)total, 0, 0, 0, 0,
                          64, 253, 0,    0}; /* 253: for experiments, RFC 3692 */
    memcpy(p + 12, ip, sizeof ip);
    memcpy(p + 26, l.ip.ip + 12, 4);
    memcpy(p + 30, to->ip + 12, 4);
    for (int i = 14; i < 34; i += 2)
        sum += (uint32_t)(p[i] << 8 | p[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    p[24] = (uint8_t)(sum >> 8);
    p[25] = (uint8_t)sum;
}

static bool send_one(uint32_t seq, const uint8_t to_mac[6], const struct zest_addr *to)
{
    uint32_t len = payload_len(seq);
    struct zbuf *zb = zbuf_alloc(l.pool, len);
    if (!zb)
        return false;
    for (uint32_t i = 0; i < len; i++)
        zb->data[i] = pattern(seq, i);
    memcpy(zb->data, &seq, sizeof seq);
    struct zest_frame f = {.n = 1};
    if (l.gather && seq % 2) { /* the headers from a segment of their own */
        struct zbuf *h = zbuf_alloc(l.pool, HEADERS);
        if (!h) {
            zbuf_free(zb);
            return false;
        }
        write_headers(h->data, to_mac, to, len);
        f.seg[0].addr = h->data;
        f.seg[0].len = HEADERS;
        f.seg[1].addr = zb->data;
        f.seg[1].len = len;
        f.n = 2;
    } else { /* the headers in the headroom */
        if (!zbuf_headroom_claim(zb))
            die("a fresh segment's headroom is busy");
        write_headers(zb->data - HEADERS, to_mac, to, len);
        f.seg[0].addr = zb->data - HEADERS;
        f.seg[0].len = HEADERS + len;
    }
    netif_tx(l.nif, &f, 1);
    return true;
}

static void check_frame(const struct zbuf *zb, const struct zest_addr *from, uint8_t *seen,
                        uint32_t count)
{
    const uint8_t *p = zb->data;
    uint32_t seq;
    if (zb->len < HEADERS + 4 || memcmp(p + 26, from->ip + 12, 4) != 0 || p[23] != 253)
        die("a frame that is not from the reflector");
    memcpy(&seq, p + HEADERS, sizeof seq);
    if (seq >= count || seen[seq])
        die("a frame came back twice, or was never sent");
    /* Ethernet pads short frames, we send none so short. */
    if (zb->len != HEADERS + payload_len(seq))
        die("a frame came back in another length");
    for (uint32_t i = 4; i < zb->len - HEADERS; i++)
        if (p[HEADERS + i] != pattern(seq, i))
            die("a frame came back changed");
    seen[seq] = 1;
}

static int verify(const char *mac, const char *ip, uint32_t count)
{
    struct zest_addr to;
    uint8_t m[6], *seen = calloc(count, 1);
    struct zbuf *in[64];
    if (!seen || zest_addr_parse(&to, ip, 0) != 0 ||
        sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", m, m + 1, m + 2, m + 3, m + 4, m + 5) != 6)
        die("verify LINK MAC IP N");
    uint32_t sent = 0, back = 0;
    /* The receive ring holds a megabyte or two to begin with. */
    uint32_t window = l.caps->mtu > 9000 ? WINDOW / 4 : WINDOW;
    uint64_t last = netif_now();
    while (back < count && !stop) {
        while (sent < count && sent - back < window && frame_room() > 0 && send_one(sent, m, &to))
            sent++;
        netif_kick(l.nif);
        unsigned n = netif_rx(l.nif, in, 64);
        for (unsigned i = 0; i < n; i++) {
            in[i] = join(in[i]);
            check_frame(in[i], &to, seen, count);
        }
        zbuf_free_bulk(in, n);
        back += n;
        if (n > 0)
            last = netif_now();
        else if (netif_now() - last > GIVE_UP_NS)
            break;
        else
            wait_frames(10);
    }
    printf("sent %u back %u\n", sent, back);
    free(seen);
    int rc = close_link();
    return back == count ? rc : 1;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        die("info|reflect|hold LINK, verify LINK MAC IP N");
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    open_link(argv[2]);
    if (strcmp(argv[1], "info") == 0)
        return close_link();
    if (strcmp(argv[1], "reflect") == 0)
        return reflect();
    if (strcmp(argv[1], "verify") == 0 && argc == 6)
        return verify(argv[3], argv[4], (uint32_t)strtoul(argv[5], NULL, 10));
    while (strcmp(argv[1], "hold") == 0 && !stop)
        usleep(10000);
    return close_link();
}
