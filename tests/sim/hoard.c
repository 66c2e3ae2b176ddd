/* hoard.c - an application that takes all the memory there is, and sits on it for a while. What is
 * promised to others is not to be had by it, and that is the point: see starve.c. */
#include "sim.h"

#define HOARD_MAX 16384u

static struct hoard {
    struct zbuf *zb[HOARD_MAX];
    unsigned n;
    uint64_t next_ns; /* when it begins, or ends */
} hoard[STACKS];

void hoards_init(void)
{
    for (unsigned i = 0; i < STACKS; i++)
        hoard[i].next_ns = sim.plan.hoard_every_ns
                               ? 1 + rng_below(&sim.rng, 2 * sim.plan.hoard_every_ns)
                               : ZEST_NEVER;
}

static void take_all(struct hoard *h, struct zbuf_pool *pool)
{
    struct zbuf_budget *app = zbuf_budget_app(pool);
    for (size_t size = ZBUF_SEG_MAX; size >= ZBUF_SEG_MIN; size /= 2)
        h->n += zbuf_alloc_bulk(app, size - ZBUF_OVERHEAD, h->zb + h->n, HOARD_MAX - h->n);
    count(F_hoarded);
}

void hoard_give_back(unsigned node)
{
    struct hoard *h = &hoard[node];
    zbuf_free_bulk(h->zb, h->n);
    h->n = 0;
    h->next_ns = sim.calm || !sim.plan.hoard_every_ns
                     ? ZEST_NEVER
                     : sim.now_ns + 1 + rng_below(&sim.rng, 2 * sim.plan.hoard_every_ns);
}

void hoard_run(unsigned node)
{
    struct hoard *h = &hoard[node];
    if (h->next_ns > sim.now_ns || !sim.node[node].alive)
        return;
    if (h->n > 0) {
        hoard_give_back(node);
        return;
    }
    take_all(h, sim.node[node].h.pool);
    h->next_ns = sim.now_ns + 1 + rng_below(&sim.rng, 2 * sim.plan.hoard_for_ns);
}

uint64_t hoard_next(unsigned node)
{
    return hoard[node].next_ns;
}

unsigned hoard_segments(unsigned node, struct zbuf *const **zb)
{
    *zb = hoard[node].zb;
    return hoard[node].n;
}
