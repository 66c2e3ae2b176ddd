/* depot.c - full batches on their way from one thread's magazine to another's.
 *
 * Where one thread allocates and another frees, every segment would pass through the store, one by
 * one, under the lock. Instead the one that frees leaves whole batches here and the one that
 * allocates collects them. A depot is for one budget and one class, as a magazine is, and what is
 * in it stays charged to that budget. It has a few bays; each is taken and left with one atomic
 * operation for the whole batch. It is made when a magazine overflows and there is another thread.
 *
 * A thread uses a bay only between cache_enter() and cache_leave(): so whoever drains the pool
 * finds no bay half filled. */
#include "internal.h"

enum { BAY_EMPTY, BAY_BUSY, BAY_FULL };

static bool bay_claim(struct bay *bay, uint32_t from)
{
    return __atomic_load_n(&bay->state, __ATOMIC_RELAXED) == from &&
           __atomic_compare_exchange_n(&bay->state, &from, BAY_BUSY, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static struct depot *depot_of(const struct zbuf_pool *pool, const struct mag *m)
{
    return __atomic_load_n(&pool->depot[m->budget * ZBUF_CLASSES + m->cls], __ATOMIC_ACQUIRE);
}

/* What is in bays is neither in use nor in anybody's magazine. */
static void count(struct zbuf_pool *pool, struct depot *d, uint32_t by)
{
    __atomic_fetch_add(&d->segs, by, __ATOMIC_RELAXED);
    __atomic_fetch_add(&pool->cls[d->cls].in_bays, by, __ATOMIC_RELAXED);
}

bool depot_put(struct zbuf_pool *pool, struct mag *m)
{
    struct depot *d = depot_of(pool, m);
    if (!d || m->cap == 0 || m->batch > BAY_SEGS)
        return false;
    for (unsigned i = 0; i < BAYS; i++) {
        struct bay *bay = &d->bay[i];
        if (!bay_claim(bay, BAY_EMPTY))
            continue;
        uint32_t n = m->batch < m->n ? m->batch : m->n;
        memcpy(bay->slot, m->slot, n * sizeof(void *));
        bay->n = n;
        count(pool, d, n);
        __atomic_store_n(&bay->state, BAY_FULL, __ATOMIC_RELEASE);
        memmove(m->slot, m->slot + n, (m->n - n) * sizeof(void *));
        m->frees -= n; /* gone, but not allocated */
        __atomic_store_n(&m->n, m->n - n, __ATOMIC_RELAXED);
        return true;
    }
    return false;
}

bool depot_get(struct zbuf_pool *pool, struct mag *m)
{
    struct depot *d = depot_of(pool, m);
    if (!d || m->cap == 0 || m->n > 0)
        return false;
    for (unsigned i = 0; i < BAYS; i++) {
        struct bay *bay = &d->bay[i];
        if (!bay_claim(bay, BAY_FULL))
            continue;
        uint32_t n = bay->n;
        memcpy(m->slot, bay->slot, n * sizeof(void *));
        count(pool, d, -n);
        m->frees += n;
        __atomic_store_n(&m->n, n, __ATOMIC_RELAXED);
        __atomic_store_n(&bay->state, BAY_EMPTY, __ATOMIC_RELEASE);
        if (n > m->batch) { /* a thread that only allocates grows with the batches it is given */
            m->batch = n;
            m->cap = 2 * n;
        }
        return true;
    }
    return false;
}

/* ---- under the pool's lock */

void depot_make(struct zbuf_pool *pool, const struct mag *m)
{
    struct depot **at = &pool->depot[m->budget * ZBUF_CLASSES + m->cls];
    if (*at || m->batch * 2 < 1u << m->limit_shift)
        return;
    struct depot *d = aligned_alloc(64, (sizeof *d + 63) & ~(size_t)63);
    if (!d)
        return;
    *d = (struct depot){.next = pool->depots, .budget = m->budget, .cls = m->cls};
    pool->depots = d;
    __atomic_store_n(at, d, __ATOMIC_RELEASE);
}

static bool in_scope(const struct zbuf_pool *pool, const struct depot *d,
                     const struct zbuf_budget *scope)
{
    const struct zbuf_budget *b = &pool->budget[d->budget];
    return !scope || b == scope || b->parent == scope;
}

uint32_t depot_segs(const struct zbuf_pool *pool, uint16_t budget, unsigned cls)
{
    const struct depot *d =
        __atomic_load_n(&pool->depot[budget * ZBUF_CLASSES + cls], __ATOMIC_ACQUIRE);
    return d ? __atomic_load_n(&d->segs, __ATOMIC_RELAXED) : 0;
}

unsigned depot_drain(struct zbuf_pool *pool, const struct zbuf_budget *scope)
{
    unsigned total = 0;
    for (struct depot *d = pool->depots; d; d = d->next) {
        if (!in_scope(pool, d, scope))
            continue;
        for (unsigned i = 0; i < BAYS; i++) {
            struct bay *bay = &d->bay[i];
            if (!bay_claim(bay, BAY_FULL))
                continue;
            budget_adjust(&pool->budget[d->budget], d->cls, -(int)bay->n);
            for (uint32_t s = 0; s < bay->n; s++)
                store_give(pool, bay->slot[s], d->cls);
            count(pool, d, -bay->n);
            total += bay->n;
            __atomic_store_n(&bay->state, BAY_EMPTY, __ATOMIC_RELEASE);
        }
    }
    return total;
}

void depots_free(struct zbuf_pool *pool)
{
    while (pool->depots) {
        struct depot *d = pool->depots;
        pool->depots = d->next;
        free(d);
    }
}
