/* host.c - see host.h. */
#include "host.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

void (*die_hook)(const char *what);

_Noreturn void die(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, "violated: %s\n", text);
    if (die_hook)
        die_hook(text);
    abort();
}

/* Stacks come and go by the thousand: their rings are kept for the next one. */
static struct host_tx *spare[4];
static unsigned spares;

static uint64_t hash_bytes(uint64_t h, const uint8_t *p, size_t len)
{
    uint64_t w = 0;
    for (; len >= 8; p += 8, len -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x9fb21c651e98df25ull;
        h ^= h >> 29;
    }
    w = len;
    memcpy((uint8_t *)&w + 1, p, len);
    return rng_mix(h ^ w);
}

static uint64_t hash_frame(const struct zest_frame *f)
{
    uint64_t h = f->n;
    for (unsigned i = 0; i < f->n; i++)
        h = hash_bytes(h, f->seg[i].addr, f->seg[i].len);
    return h;
}

static void give_ring_back(struct host *h)
{
    if (spares < sizeof spare / sizeof spare[0])
        spare[spares++] = h->tx;
    else
        free(h->tx);
    h->tx = NULL;
}

int host_init(struct host *h, const char *name, const struct zest_config *cfg, uint32_t ip,
              size_t rx_max, uint32_t rx_cut)
{
    memset(h, 0, sizeof *h);
    h->name = name;
    h->cfg = *cfg;
    h->pool = cfg->pool;
    h->ip = ip;
    uint8_t *b = h->cfg.ip.ip;
    memset(b, 0, 16);
    b[10] = b[11] = 0xff;
    for (unsigned i = 0; i < 4; i++)
        b[12 + i] = (uint8_t)(ip >> (24 - 8 * i));
    size_t size = zest_size(&h->cfg);
    if (size == 0)
        die("zest_size() refuses the configuration");
    h->mem = aligned_alloc(64, (size + 63) & ~(size_t)63);
    h->tx = spares ? spare[--spares] : malloc(HOST_TX_MAX * sizeof *h->tx);
    /* A driver's ring always holds some segments: else applications that fill the pool with what
     * they send would keep the ACKs out that free it. */
    uint32_t seg = ZBUF_SEG_MIN;
    uint32_t frame = (cfg->mtu ? cfg->mtu : 1500u) + 14, part = frame;
    if (rx_cut && rx_cut < frame)
        part = rx_cut > frame / 64 ? rx_cut : frame / 64;
    while (seg < ZBUF_OVERHEAD + HOST_FRONT_MAX + part)
        seg *= 2;
    size_t least = (size_t)HOST_RX_MIN * (frame / part + 1) * seg;
    h->rx_cut = rx_cut;
    h->cfg.rx_seg = seg;
    h->rx = zbuf_budget_open(
        h->pool, &(struct zbuf_budget_config){.name = "receive ring",
                                              .min_bytes = least,
                                              .min_seg = seg,
                                              .max_bytes = rx_max > least ? rx_max : least});
    if (!h->mem || !h->tx)
        die("out of memory in the test itself");
    int err = h->rx ? zest_init(h->mem, &h->cfg, &h->z) : -ENOBUFS;
    if (err != 0) {
        if (h->rx)
            zbuf_budget_destroy(h->rx);
        free(h->mem);
        give_ring_back(h);
    }
    return err;
}

static void complete_one(struct host *h)
{
    struct host_tx *t = &h->tx[h->tx_head++ % HOST_TX_MAX];
    if (hash_frame(&t->f) != t->hash)
        die("%s: a frame was changed while the link owned it", h->name);
    for (unsigned i = 0; i < t->f.n; i++)
        zbuf_tx_done(h->pool, t->f.seg[i].addr);
}

void host_complete(struct host *h, uint64_t now_ns)
{
    while (h->tx_head != h->tx_tail && h->tx[h->tx_head % HOST_TX_MAX].due_ns <= now_ns)
        complete_one(h);
}

uint64_t host_complete_due(const struct host *h)
{
    return h->tx_head == h->tx_tail ? ZEST_NEVER : h->tx[h->tx_head % HOST_TX_MAX].due_ns;
}

void host_fini(struct host *h)
{
    while (h->tx_head != h->tx_tail)
        complete_one(h);
    zest_fini(h->z);
    int err = zbuf_budget_destroy(h->rx);
    if (err != 0)
        die("%s: received segments are still held after zest_fini(): %zu bytes", h->name,
            zbuf_budget_used(h->rx));
    free(h->mem);
    give_ring_back(h);
    h->z = NULL;
}

bool host_receive(struct host *h, uint64_t now_ns, const uint8_t *frame, size_t len, uint32_t front)
{
    h->now_ns = now_ns;
    struct zbuf *zb = wire_receive(h->rx, frame, len, front, h->rx_cut, h->cfg.rx_seg);
    if (!zb) {
        h->rx_no_memory++;
        return false;
    }
    h->dirty = true;
    zest_input(h->z, now_ns, &zb, 1);
    return true;
}

/* One packet as it goes on the wire. why: what was wrong with it already, or NULL. */
static void check(const struct host *h, const uint8_t *buf, size_t len, const char *why,
                  struct wire *parsed)
{
    struct wire w;

    if (!why)
        why = wire_parse(&w, buf, len);
    if (!why && memcmp(w.eth_src, h->cfg.mac, 6) != 0)
        why = "Ethernet: not our source address";
    if (!why && w.eth_type == 0x0800 && w.src != h->ip)
        why = "IPv4: not our source address";
    if (!why && w.eth_type == 0x0800 && w.ip_len > (h->cfg.mtu ? h->cfg.mtu : 1500))
        why = "IPv4: longer than the MTU";
    if (!why && w.eth_type == 0x0800 && len != 14 + w.ip_len)
        why = "bytes after the packet";
    if (!why && w.eth_type == 0x0800 && w.proto == 6 &&
        ((w.flags & WIRE_SYN && w.flags & (WIRE_FIN | WIRE_RST)) ||
         (w.flags & (WIRE_SYN | WIRE_RST) && w.payload_len) ||
         !(w.flags & (WIRE_SYN | WIRE_RST | WIRE_ACK))))
        why = "TCP: flags that do not go together";
    if (why) {
        char text[512];
        die("%s sends a malformed frame: %s: %s", h->name, why,
            len ? wire_text(buf, len, text, sizeof text) : "");
    }
    *parsed = w;
}

/* What the stack leaves to the link to cut: a TCP frame with its checksum left to the link, of more
 * segments than one and no more than the link was said to take. */
static const char *check_gso(const struct host *h, const struct zest_frame *f, const uint8_t *buf,
                             size_t len)
{
    struct wire w;
    const char *why = wire_parse(&w, buf, len);

    if (why || w.proto != 6 || !f->csum)
        return why ? why : "segmentation of what is no TCP with its checksum left out";
    if (w.payload_len <= f->gso_size)
        return "segmentation of a single segment";
    if (w.payload_len > (uint64_t)h->cfg.tso_segs * f->gso_size || w.flags & (WIRE_SYN | WIRE_URG))
        return "segmentation beyond what the link can do";
    return NULL;
}

/* One frame of what goes out. */
static void take(struct host *h, const struct zest_frame *f, uint64_t hold_ns, host_sink *sink,
                 void *ctx)
{
    static uint8_t buf[WIRE_MAX], one[WIRE_MAX];
    struct wire w;
    const char *why;
    size_t len = wire_gather(h->pool, f, buf, &why), n;

    if (!why && f->gso_size)
        why = check_gso(h, f, buf, len);
    if (why || !f->gso_size)
        check(h, buf, len, why, &w);
    if (h->tx_tail - h->tx_head == HOST_TX_MAX) /* a link of that size does not exist */
        complete_one(h);
    h->tx[h->tx_tail++ % HOST_TX_MAX] =
        (struct host_tx){.f = *f, .hash = hash_frame(f), .due_ns = h->now_ns + hold_ns};
    if (!f->gso_size && sink)
        sink(ctx, h, buf, len, &w);
    for (unsigned i = 0; f->gso_size && (n = wire_segment(buf, len, f->gso_size, i, one)); i++) {
        check(h, one, n, NULL, &w);
        if (sink)
            sink(ctx, h, one, n, &w);
    }
}

unsigned host_drain(struct host *h, uint64_t now_ns, unsigned max, uint64_t hold_ns,
                    host_sink *sink, void *ctx)
{
    struct zest_frame out[64];
    unsigned total = 0, burst = h->burst ? h->burst : 32;
    uint64_t promised = zest_deadline(h->z);

    h->now_ns = now_ns;
    while (total < max) {
        unsigned want = max - total < burst ? max - total : burst;
        unsigned n = zest_output(h->z, now_ns, out, want);
        if (n > want)
            die("%s: zest_output() returned %u of %u", h->name, n, want);
        for (unsigned i = 0; i < n; i++)
            take(h, &out[i], hold_ns, sink, ctx);
        total += n;
        if (total > 100000)
            die("%s: no end of output", h->name);
        if (n < want) {
            if (zest_deadline(h->z) <= now_ns)
                die("%s: nothing more to send, but the deadline is not in the future", h->name);
            break;
        }
    }
    /* "Fewer than max: there is nothing more until the deadline or an input." */
    if (total > 0 && !h->dirty && promised > now_ns)
        die("%s: output %llu ns before the deadline", h->name,
            (unsigned long long)(promised - now_ns));
    h->dirty = false;
    return total;
}
