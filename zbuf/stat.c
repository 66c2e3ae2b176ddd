/* stat.c - the pool explains itself, to its own process.
 *
 * The accounts count what lies in magazines as charged. What is really in use follows by
 * subtracting that: as of the last synchronisation (mirror.c), or counted now (here). */
#include "holders.h"

void stat_pool(const struct zbuf_pool *pool, struct zbuf_pool_stat *out, const uint32_t *cached)
{
    *out = (struct zbuf_pool_stat){.size = pool->region.size,
                                   .pages = pool->region.pages,
                                   .slabs = pool->slabs,
                                   .slabs_free = pool->slabs_free,
                                   .drains = pool->drains,
                                   .debug = pool->debug != NULL};
    memcpy(out->name, pool->name, sizeof out->name);
    for (unsigned i = 0; i < ZBUF_CLASSES; i++) {
        const struct class *c = &pool->cls[i];
        uint32_t segs = c->slabs * class_segs(i), free = c->store + cached[i];
        out->cls[i] = (struct zbuf_class_stat){.seg_size = class_size(i),
                                               .segs = segs,
                                               .free = free,
                                               .high_water = c->high_water,
                                               .allocs = c->allocs,
                                               .failures = c->failures,
                                               .fall_ups = c->fall_ups,
                                               .fall_up_waste = c->fall_up_waste,
                                               .slabs = c->slabs,
                                               .set_aside = c->unmet,
                                               .grown = c->grown,
                                               .shrunk = c->shrunk};
        out->live += segs - free;
        out->used += (size_t)(segs - free) * class_size(i);
    }
}

void stat_budget(const struct zbuf_budget *b, struct zbuf_budget_stat *out, uint64_t cached)
{
    *out = (struct zbuf_budget_stat){.id = b->id,
                                     .used = b->charged - cached,
                                     .min = (size_t)b->min_segs * class_size(b->min_cls),
                                     .max = b->max,
                                     .high_water = b->high_water,
                                     .failures = b->failures,
                                     .fall_ups = b->fall_ups,
                                     .parent = b->parent ? b->parent->id : b->id,
                                     .waiting = b->waiting,
                                     .min_seg = class_size(b->min_cls)};
    memcpy(out->name, b->name, sizeof out->name);
}

/* A magazine's peaks are noted at its next trip to the store, or here: as far as this thread may
 * look at it. */
static void sync_own(struct zbuf_pool *pool)
{
    if (zbuf_tls->pool != pool)
        return;
    for (struct mag *m = zbuf_tls->in_use; m; m = m->next) {
        mag_sync(pool, m);
        mag_settle(pool, m);
    }
}

void zbuf_pool_stat(const struct zbuf_pool *cpool, struct zbuf_pool_stat *out)
{
    struct zbuf_pool *pool = pool_mutable(cpool);
    uint32_t cached[ZBUF_CLASSES] = {0};
    pool_lock(pool);
    sync_own(pool);
    for (struct cache *c = pool->caches; c; c = c->next_in_pool)
        for (struct mag *m = c->in_use; m; m = m->next)
            cached[m->cls] += __atomic_load_n(&m->n, __ATOMIC_RELAXED);
    for (const struct depot *d = pool->depots; d; d = d->next)
        cached[d->cls] += depot_segs(pool, d->budget, d->cls);
    stat_pool(pool, out, cached);
    pool_unlock(pool);
}

static void add_at_hand(struct zbuf_budget *b, uint64_t bytes)
{
    for (; b; b = b->parent)
        b->at_hand += bytes;
}

/* What each budget and its children have at hand, in all threads and between them. */
static void count_at_hand(struct zbuf_pool *pool)
{
    for (uint32_t i = 0; i < pool->budgets_used; i++)
        pool->budget[i].at_hand = 0;
    for (const struct cache *c = pool->caches; c; c = c->next_in_pool)
        for (const struct mag *m = c->in_use; m; m = m->next)
            add_at_hand(&pool->budget[m->budget],
                        (uint64_t)__atomic_load_n(&m->n, __ATOMIC_RELAXED) * class_size(m->cls));
    for (const struct depot *d = pool->depots; d; d = d->next)
        add_at_hand(&pool->budget[d->budget],
                    (uint64_t)depot_segs(pool, d->budget, d->cls) * class_size(d->cls));
}

unsigned zbuf_budget_stats(const struct zbuf_pool *cpool, struct zbuf_budget_stat *out,
                           unsigned max)
{
    struct zbuf_pool *pool = pool_mutable(cpool);
    unsigned n = 0;
    pool_lock(pool);
    sync_own(pool);
    count_at_hand(pool);
    for (unsigned i = 0; i < pool->budgets_used; i++) {
        const struct zbuf_budget *b = &pool->budget[i];
        if (!b->open)
            continue;
        if (n < max)
            stat_budget(b, &out[n], b->at_hand);
        n++;
    }
    pool_unlock(pool);
    return n;
}

/* Headers of segments in use may change under its eyes: that is in the nature of the question. */
static void walk(struct zbuf_pool *pool, struct oldest *oldest)
{
    oldest->now_ns = clock_now(pool);
    oldest_begin(oldest);
    pool_lock(pool);
    if (pool->depots) /* what is in them, or comes from one, is marked as live */
        pool_drain(pool, NULL, NULL);
    for (uint32_t i = 0; i < pool->slabs; i++) {
        unsigned cls = slab_class(pool, i);
        if (cls == CLASS_NONE)
            continue;
        for (uint32_t s = 0; s < class_segs(cls); s++) {
            const struct zbuf *zb = slab_seg(pool, i, s);
            if (is_live(pool, zb))
                oldest_add(oldest, (uintptr_t)pool_first(pool, zb), zb,
                           pool->birth[pool_unit(pool, zb)]);
        }
    }
    oldest_finish(oldest);
    for (unsigned i = 0; i < oldest->max && i < oldest->live && pool->debug; i++) {
        unsigned cls;
        const struct zbuf *zb = pool_seg(pool, pointer(oldest->out[i].addr), &cls);
        oldest->out[i].site = debug_side_of(pool, zb)->site;
    }
    pool_unlock(pool);
}

unsigned zbuf_holders(const struct zbuf_pool *pool, struct zbuf_holder *out, unsigned max)
{
    struct oldest oldest = {.out = out, .max = max};
    walk(pool_mutable(pool), &oldest);
    return oldest.live;
}

unsigned zbuf_ages(const struct zbuf_pool *pool, struct zbuf_age *cls, struct zbuf_age *budget,
                   unsigned n)
{
    struct oldest oldest = {.cls = cls, .budget = budget, .budgets = n};
    walk(pool_mutable(pool), &oldest);
    return oldest.live;
}
