/* pair.h - two stacks, A (10.0.0.1) and B (10.0.0.2), joined by a wire in virtual time, for unit
 * tests.
 *
 * pair_run() lets both work until nothing is left to do or the time is up. drop() may look at each
 * frame and have it lost. Segments are exchanged by copying, as any wire does. */
#ifndef PAIR_H
#define PAIR_H

#include <stdlib.h>
#include <string.h>

#include "stack/zest.h"
#include "tests/lib/wire.h"

#define PAIR_WIRE     4096u
#define PAIR_DELAY_NS 10000u

struct pair_frame {
    struct zbuf *zb;
    uint64_t at_ns;
    int to;
};
struct pair {
    struct zbuf_pool *pool;
    void *mem[2];
    struct zest *z[2];
    uint64_t now_ns;
    struct pair_frame wire[PAIR_WIRE];
    unsigned head, tail;
    bool (*drop)(struct pair *p, int from, const uint8_t *frame, uint32_t len);
    void *ctx;
    uint32_t cut; /* frames arrive in segments of so many bytes; 0 = in one */
    unsigned frames[2];
    unsigned events[2][9]; /* how often each bit was seen */
    int last_error[2];
};

static inline struct zest_addr pair_addr(int side, uint16_t port)
{
    struct zest_addr a;
    zest_addr_parse(&a, side ? "10.0.0.2" : "10.0.0.1", port);
    return a;
}

static inline void pair_open(struct pair *p, const struct zest_config *proto)
{
    memset(p, 0, sizeof *p);
    p->now_ns = 1000000000;
    p->pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 64u << 20, .no_huge = true});
    for (int i = 0; i < 2; i++) {
        struct zest_config cfg = proto ? *proto : (struct zest_config){0};
        cfg.pool = p->pool;
        cfg.ip = pair_addr(i, 0);
        memcpy(cfg.mac, (uint8_t[6]){2, 0, 0, 0, 0, (uint8_t)(i + 1)}, 6);
        memset(cfg.secret, 'a' + i, sizeof cfg.secret);
        if (cfg.record_mem) { /* a half for each */
            cfg.record_size /= 2;
            cfg.record_mem = (uint8_t *)cfg.record_mem + (size_t)i * cfg.record_size;
        }
        size_t n = zest_size(&cfg);
        if (n == 0 || !(p->mem[i] = aligned_alloc(64, (n + 63) & ~63ull)) ||
            zest_init(p->mem[i], &cfg, &p->z[i]) < 0)
            abort();
    }
}

static inline void pair_send(struct pair *p, int from)
{
    struct zest_frame f[16];
    unsigned n;

    while ((n = zest_output(p->z[from], p->now_ns, f, 16)) > 0) {
        for (unsigned i = 0; i < n; i++) {
            uint32_t len = 0;
            for (unsigned s = 0; s < f[i].n; s++)
                len += f[i].seg[s].len;
            struct zbuf *zb = zbuf_alloc(p->pool, len < 3800 ? 3800 : len);
            if (!zb)
                abort();
            for (unsigned s = 0; s < f[i].n; s++) {
                memcpy(zb->data + zb->len, f[i].seg[s].addr, f[i].seg[s].len);
                zb->len += f[i].seg[s].len;
                zbuf_tx_done(p->pool, f[i].seg[s].addr);
            }
            p->frames[from]++;
            if ((p->drop && p->drop(p, from, zb->data, zb->len)) ||
                p->tail - p->head == PAIR_WIRE) {
                zbuf_free(zb);
                continue;
            }
            if (p->cut) {
                struct zbuf *whole = zb;
                zb = wire_receive(zbuf_budget_app(p->pool), whole->data, len, 0, p->cut, 0);
                zbuf_free(whole);
                if (!zb)
                    abort();
            }
            p->wire[p->tail++ % PAIR_WIRE] =
                (struct pair_frame){zb, p->now_ns + PAIR_DELAY_NS, !from};
        }
    }
}

static inline void pair_events(struct pair *p, int side)
{
    struct zest_event ev[16];
    unsigned n;

    while ((n = zest_events(p->z[side], ev, 16)) > 0)
        for (unsigned i = 0; i < n; i++) {
            for (int b = 0; b < 9; b++)
                p->events[side][b] += ev[i].events >> b & 1;
            if (ev[i].events & ZEST_EV_ERROR)
                p->last_error[side] = ev[i].error;
        }
}

/* One step: delivers what is due, or moves the time on to what is next. False: nothing will happen
 * any more before until_ns. */
static inline bool pair_step(struct pair *p, uint64_t until_ns)
{
    while (p->head != p->tail && p->wire[p->head % PAIR_WIRE].at_ns <= p->now_ns) {
        struct pair_frame *w = &p->wire[p->head++ % PAIR_WIRE];
        zest_input(p->z[w->to], p->now_ns, &w->zb, 1);
    }
    pair_send(p, 0);
    pair_send(p, 1);
    uint64_t next = p->head != p->tail ? p->wire[p->head % PAIR_WIRE].at_ns : ZEST_NEVER;
    for (int i = 0; i < 2; i++) {
        uint64_t d = zest_deadline(p->z[i]);
        if (d < next)
            next = d;
    }
    if (next > until_ns)
        return false;
    if (next > p->now_ns)
        p->now_ns = next;
    return true;
}

static inline void pair_run(struct pair *p, uint64_t for_ns)
{
    uint64_t until_ns = p->now_ns + for_ns;

    while (pair_step(p, until_ns)) {
        pair_events(p, 0);
        pair_events(p, 1);
    }
    pair_events(p, 0);
    pair_events(p, 1);
    p->now_ns = until_ns;
}

/* A connects to a listener of B's. c[0], c[1]: the two ends. 0 or -errno. */
static inline int pair_connect(struct pair *p, zest_handle c[2], zest_handle *listener)
{
    struct zest_addr b = pair_addr(1, 7);
    zest_handle l;
    int err = zest_listen(p->z[1], &b, 0, &l);

    if (err == 0)
        err = zest_connect(p->z[0], &b, NULL, &c[0]);
    if (err < 0)
        return err;
    pair_run(p, 5000000);
    if (listener)
        *listener = l;
    return zest_accept(p->z[1], l, &c[1], NULL);
}

/* Segments that are still out. */
static inline uint64_t pair_close(struct pair *p)
{
    struct zbuf_pool_stat st;

    while (p->head != p->tail)
        zbuf_chain_free(p->wire[p->head++ % PAIR_WIRE].zb);
    for (int i = 0; i < 2; i++) {
        zest_fini(p->z[i]);
        free(p->mem[i]);
    }
    zbuf_pool_stat(p->pool, &st);
    if (st.live == 0)
        zbuf_pool_destroy(p->pool);
    return st.live;
}

#endif
