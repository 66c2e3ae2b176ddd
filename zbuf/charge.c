/* charge.c - a live segment's charge moves from one budget to another.
 *
 * The common case is a received frame that a connection keeps: once a packet. It is a swap: if the
 * thread has a free segment of the same class at hand for the new budget, that one goes over to the
 * old budget's magazine and no account changes. */
#include "internal.h"

/* True if it could be done within the thread's magazines. */
static bool swap_charge(struct cache *c, struct zbuf *zb, unsigned cls, uint16_t to)
{
    bool done = false;
    if (!cache_enter(c))
        return false;
    struct mag *mf = cache_mag(c, zb->owner, cls);
    struct mag *mt = cache_mag(c, to, cls);
    if (mf && mt && mf->n < mf->cap && mt->n > 0) {
        uint32_t n = mt->n - 1;
        uint32_t unit = mt->unit[n];
        struct zbuf *other = &c->pool->header[unit];
        if (mt->marked)
            unmark(c->pool, unit);
        mag_unmark(c->pool, mf);
        mag_note_low(mt, n);
        other->owner = zb->owner;
        zb->owner = to;
        mf->unit[mf->n] = unit;
        if (mt->marked)
            mt->allocs--;
        __atomic_store_n(&mf->n, mf->n + 1, __ATOMIC_RELAXED);
        __atomic_store_n(&mt->n, n, __ATOMIC_RELAXED);
        done = true;
    }
    cache_leave(c);
    return done;
}

/* Fetches free segments for the magazine that the next swaps will take from. */
static void stock(struct zbuf_pool *pool, struct cache *own, struct zbuf_budget *b, unsigned cls)
{
    struct mag *m = pool->slow || !own ? NULL : mag_get(own, b, cls);
    if (!m || m->n)
        return;
    mag_sync(pool, m);
    uint32_t surplus = (pool->cls[cls].store - pool->cls[cls].unmet) / 2;
    mag_fetch(pool, m, b, surplus < m->batch ? surplus : m->batch);
    mag_settle(pool, m);
}

/* Sees that the other magazine has space for what they give. */
static void make_space(struct zbuf_pool *pool, struct cache *own, struct zbuf_budget *b,
                       unsigned cls)
{
    struct mag *m = pool->slow || !own || budget_over(b) ? NULL : mag_get(own, b, cls);
    if (!m || m->n < m->cap)
        return;
    mag_sync(pool, m);
    mag_bring(pool, m, m->batch);
    mag_settle(pool, m);
}

static int charge_slow(struct zbuf_pool *pool, struct zbuf *zb, unsigned cls,
                       struct zbuf_budget *to)
{
    struct cache *own = cache_get(pool);
    pool_lock(pool);
    struct zbuf_budget *from = &pool->budget[zb->owner], *limit;
    struct class *c = &pool->cls[cls];
    bool drained = false, ok = false;
    while (!ok) {
        budget_adjust(from, cls, -1);
        uint32_t room = budget_room(to, cls, &limit);
        budget_adjust(to, cls, 1);
        ok = room > 0 && (c->unmet <= c->store || class_grow(pool, cls));
        if (ok)
            break;
        /* What was promised `from` may now be lacking: undo, then see what can be called back. */
        budget_adjust(to, cls, -1);
        budget_adjust(from, cls, 1);
        if (room == 0) {
            if (!pool_drain(pool, own, limit))
                break;
        } else if (drained || !pool_drain(pool, own, NULL)) {
            break;
        }
        drained = room > 0;
    }
    if (ok) {
        zb->owner = to->id;
        if (pool->debug)
            debug_own(pool, zb);
        stock(pool, own, to, cls);
        make_space(pool, own, from, cls);
        budget_note_peak(to);
        mirror_publish(pool, from);
        waiters_check(pool);
    } else {
        to->failures++;
    }
    mirror_publish(pool, to);
    pool_unlock(pool);
    return ok ? 0 : -ENOBUFS;
}

int zbuf_charge(struct zbuf *zb, struct zbuf_budget *to)
{
    unsigned cls = 0;
    struct zbuf_pool *pool = to->pool;
    if (unlikely(!pool_seg_is(pool, zb, &cls) || !is_live(pool, zb)))
        zbuf_misuse(pool, zb, "charge of something that is not a live zbuf of the budget's pool");
    if (unlikely(zb->owner >= pool->budgets_used))
        zbuf_misuse(pool, zb, "damaged header");
    if (zb->owner == to->id)
        return 0;
    struct cache *c = zbuf_tls;
    if (likely(c->pool == pool) && swap_charge(c, zb, cls, to->id))
        return 0;
    return charge_slow(pool, zb, cls, to);
}

/* The replacement is allocated for `to`, and then the two swap owners: so nobody's ceiling is
 * passed on the way, and there is nothing to undo. */
struct zbuf *zbuf_exchange(struct zbuf *zb, struct zbuf_budget *to)
{
    struct zbuf *fresh = zbuf_alloc_from(to, zb->size - ZBUF_OVERHEAD);
    if (!fresh)
        return NULL;
    if (fresh->size != zb->size) { /* a larger one would not be a replacement */
        zbuf_free(fresh);
        errno = ENOBUFS;
        return NULL;
    }
    if (unlikely(to->pool->debug)) {
        pool_lock(to->pool);
        fresh->owner = zb->owner;
        zb->owner = to->id;
        debug_own(to->pool, zb);
        debug_own(to->pool, fresh);
        pool_unlock(to->pool);
    } else {
        fresh->owner = zb->owner;
        zb->owner = to->id;
    }
    return fresh;
}
