/* room.c - how much more a budget could have now.
 *
 * What it is for: whoever promises memory ahead, as a receive window does, should promise what
 * there is. The answer counts what requests would find: the store above what is promised to others,
 * slabs that its class could get, and what lies in magazines and depots beyond the minima of those
 * who have it at hand. Other threads' magazines change meanwhile, so it is an estimate, and holds
 * for nobody. */
#include "internal.h"

/* Of n segments that b has at hand, those that it could not keep for itself as promised. */
static uint64_t spare(const struct zbuf_budget *b, unsigned cls, uint32_t n)
{
    uint32_t promised = b->min_cls == cls ? b->min_segs : 0, others = b->held[cls];
    others = others > n ? others - n : 0;
    uint32_t back = promised > others ? promised - others : 0;
    return n > back ? n - back : 0;
}

/* What lies ready in threads and between them. */
struct at_hand {
    uint64_t segs;        /* of the class, that b could have */
    uint64_t under_limit; /* bytes charged to the budget whose ceiling is the nearest */
};

static void add(struct at_hand *h, const struct zbuf_budget *b, const struct zbuf_budget *limit,
                unsigned cls, const struct zbuf_budget *of, unsigned of_cls, uint32_t n)
{
    if (cls == of_cls)
        h->segs += of == b ? n : spare(of, cls, n);
    if (of == limit || of->parent == limit)
        h->under_limit += (uint64_t)n * class_size(of_cls);
}

static struct at_hand at_hand(const struct zbuf_budget *b, const struct zbuf_budget *limit,
                              unsigned cls)
{
    const struct zbuf_pool *pool = b->pool;
    struct at_hand h = {0};
    for (const struct cache *c = pool->caches; c; c = c->next_in_pool)
        for (const struct mag *m = c->in_use; m; m = m->next)
            add(&h, b, limit, cls, &pool->budget[m->budget], m->cls,
                __atomic_load_n(&m->n, __ATOMIC_RELAXED));
    for (const struct depot *d = pool->depots; d; d = d->next)
        add(&h, b, limit, cls, &pool->budget[d->budget], d->cls,
            depot_segs(pool, d->budget, d->cls));
    return h;
}

/* Segments that whole slabs would be: free ones, and those that other classes could give up. */
static uint64_t in_slabs(const struct zbuf_pool *pool, unsigned cls)
{
    uint64_t slabs = pool->slabs_free;
    for (unsigned i = 0; i < ZBUF_CLASSES; i++) {
        const struct class *c = &pool->cls[i];
        uint32_t spares = i == cls ? 0 : (c->store - c->unmet) / class_segs(i);
        slabs += spares < c->idle ? spares : c->idle;
    }
    return slabs * class_segs(cls);
}

size_t zbuf_budget_room(struct zbuf_budget *b, size_t bytes)
{
    struct zbuf_pool *pool = b->pool;
    if (bytes > ZBUF_SEG_MAX - ZBUF_OVERHEAD)
        return 0;
    unsigned cls = class_for(bytes);
    struct zbuf_budget *limit;
    pool_lock(pool);
    uint64_t most = budget_room(b, cls, &limit);
    struct at_hand ready = at_hand(b, limit, cls);
    if (limit) /* what is at hand under it is charged already */
        most += ready.under_limit / class_size(cls);
    uint64_t there = budget_may_take(b, cls) + in_slabs(pool, cls) + ready.segs;
    pool_unlock(pool);
    return (there < most ? there : most) * class_size(cls);
}
