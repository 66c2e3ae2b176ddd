/* ring_fixture.h - an AF_XDP link without a kernel: the test plays the other end of its four rings,
 * and brings the calls that the link makes (sendto, clock_gettime). */
#ifndef RING_FIXTURE_H
#define RING_FIXTURE_H

#include <stdlib.h>

#include "check.h"
#include "netif/xdp.h"

#define RING 64u

static struct xdp *x;

/* The kernel's end of a ring. */
static struct kernel_ring {
    uint32_t producer, consumer, flags;
    struct xdp_desc descs[RING]; /* or as many addresses */
} fill, comp, rx, tx;

static inline uint64_t *addrs(struct kernel_ring *r)
{
    return (uint64_t *)(void *)r->descs;
}

static inline void kernel_completes(uint64_t addr)
{
    addrs(&comp)[comp.producer++ % RING] = addr;
}

static inline struct xsk_ring_prod link_produces(struct kernel_ring *r)
{
    return (struct xsk_ring_prod){.cached_cons = RING,
                                  .mask = RING - 1,
                                  .size = RING,
                                  .producer = &r->producer,
                                  .consumer = &r->consumer,
                                  .ring = r->descs,
                                  .flags = &r->flags};
}

static inline struct xsk_ring_cons link_consumes(struct kernel_ring *r)
{
    return (struct xsk_ring_cons){.mask = RING - 1,
                                  .size = RING,
                                  .producer = &r->producer,
                                  .consumer = &r->consumer,
                                  .ring = r->descs,
                                  .flags = &r->flags};
}

/* budget: bytes set aside for the link. */
static inline void rings_open(size_t pool_size, size_t budget)
{
    static const struct netif_ops no_ops;

    memset(&fill, 0, sizeof fill);
    comp = rx = tx = fill;
    x = calloc(1, sizeof *x);
    x->nif.ops = &no_ops;
    x->nif.fd = -1;
    x->nif.pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = pool_size, .no_huge = true});
    x->base = zbuf_pool_base(x->nif.pool);
    x->region_size = zbuf_pool_size(x->nif.pool);
    x->rx_ring = x->tx_ring = x->fill_target = x->fill_min = RING;
    x->rx_descs = x->nif.caps.frame_descs = 1;
    x->budget = zbuf_budget_create(x->nif.pool, "rx", budget, 0);
    x->lent = calloc(RING, sizeof *x->lent);
    x->lent_free = calloc(RING, sizeof *x->lent_free);
    x->in_flight = calloc(2 * RING, sizeof *x->in_flight);
    CU_ASSERT_FATAL(x->budget && x->lent && x->lent_free && x->in_flight);
    for (uint32_t i = 0; i < RING; i++)
        x->lent_free[x->n_lent_free++] = i;
    x->fill = link_produces(&fill);
    x->tx = link_produces(&tx);
    x->rx = link_consumes(&rx);
    x->comp = link_consumes(&comp);
}

/* What is still with the kernel comes home; nothing else may be out. */
static inline void rings_close(void)
{
    struct zbuf_pool *pool = x->nif.pool;
    struct zbuf_pool_stat st;

    xdp_take_back(x);
    zbuf_pool_stat(pool, &st);
    CU_ASSERT_EQUAL(st.live, 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(x->budget), 0);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
    free(x->lent);
    free(x->lent_free);
    free(x->in_flight);
    free(x);
}

#endif
