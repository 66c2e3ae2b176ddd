/* alloc.c - segments are allocated.
 *
 * Allocation and free (free.c) have a fast path each on the thread's own magazine (a few
 * nanoseconds, nothing shared) and a slow one under the pool's lock, which refills or empties the
 * magazine by batches, so that most operations never see it. The slow path alone knows of debug
 * mode, waiters and ceilings: when one of them matters, caches are shut, and everybody is kept off
 * the fast path.
 *
 * A free segment's header is ready for its next life: refcount 1, data at the payload. Whether it
 * is free is written elsewhere (LIVE() in internal.h). So allocation touches no header. */
#include "internal.h"
#include "sanitize.h"

static inline void begin_life(struct zbuf *zb, uint32_t *birth, uint32_t now)
{
    ASAN_UNPOISON_MEMORY_REGION(zb->first + ZBUF_GUARD, zb->size - ZBUF_GUARD);
    (void)zb;
    /* Most often it is less than a unit of time since it was allocated last: looking is cheaper
     * than one more store. */
    if (__atomic_load_n(birth, __ATOMIC_RELAXED) != now)
        __atomic_store_n(birth, now, __ATOMIC_RELAXED);
}

/* m's at-th segment is allocated. What does not change comes by value: it need not be read again
 * after a mark is written, a byte that for all the compiler knows might be anywhere. */
static inline __attribute__((always_inline)) struct zbuf *take(const struct mag *m, uint32_t at,
                                                               bool marked, struct marks marks,
                                                               uint32_t now)
{
    size_t unit = m->unit[at];
    struct zbuf *zb = &marks.header[unit];
    if (!marked)
        __atomic_store_n(&marks.live[unit], m->live, __ATOMIC_RELAXED);
    begin_life(zb, &marks.birth[unit], now);
    return zb;
}

/* ---- allocation */

/* Takes what b may have of cls, at most n. */
static unsigned take_of_class(struct zbuf_pool *pool, struct zbuf_budget *b, unsigned cls,
                              struct zbuf **out, unsigned n, uint32_t room)
{
    uint32_t may = budget_may_take(b, cls);
    n = n < may ? n : may;
    n = n < room ? n : room;
    n = store_take(pool, cls, out, n);
    budget_adjust(b, cls, (int)n);
    return n;
}

unsigned pool_take(struct zbuf_pool *pool, struct cache *own, struct zbuf_budget *b, unsigned want,
                   struct zbuf **out, unsigned n, unsigned *cls)
{
    bool drained = false;
    for (*cls = want; *cls < ZBUF_CLASSES; ++*cls) {
        for (;;) {
            struct zbuf_budget *limit;
            uint32_t room = budget_room(b, *cls, &limit);
            if (room == 0) {
                /* What the limiting budget has at hand counts against it. */
                if (pool_drain(pool, own, limit))
                    continue;
                if (*cls < b->min_cls) /* it may still have what it is promised */
                    break;
                return 0;
            }
            unsigned got = take_of_class(pool, b, *cls, out, n, room);
            if (got)
                return got;
            if (class_grow(pool, *cls))
                continue;
            if (drained || !pool_drain(pool, own, NULL))
                break;
            drained = true;
        }
    }
    return 0;
}

static void class_note_peak(struct class *c, unsigned cls)
{
    int64_t used = (int64_t)c->slabs * class_segs(cls) - c->store - c->cached - c->in_depots;
    if (used > (int64_t)c->high_water)
        c->high_water = (uint32_t)used;
}

/* The magazine is empty: perhaps another thread has left a batch for it. */
static bool collect(struct zbuf_pool *pool, uint32_t id, unsigned cls)
{
    struct cache *c = zbuf_tls;
    bool got = false;
    if (__atomic_load_n(&c->pool, __ATOMIC_RELAXED) == pool && cache_enter(c)) {
        struct mag *m = cache_mag(c, id, cls);
        got = m && depot_get(pool, m);
        cache_leave(c);
    }
    return got;
}

/* The first of out[] comes from the store, with as many more as there are without growing the
 * class; the magazine is filled on the same trip. */
static COLD unsigned alloc_slow(struct zbuf_pool *pool, struct zbuf_budget *b, unsigned want,
                                struct zbuf **out, unsigned n, const void *site)
{
    struct cache *own = cache_get(pool);
    unsigned cls;
    pool_lock(pool);
    uint32_t now = birth_of(clock_now(pool));
    if (own)
        own->now = now;
    struct mag *m = own && !pool->slow && !budget_over(b) ? mag_get(own, b, want) : NULL;
    if (m) {
        mag_sync(pool, m);
        mag_settle(pool, m); /* or what pool_take() drains would be counted once more */
    }
    unsigned got = pool_take(pool, own, b, want, out, n, &cls);
    struct class *c = &pool->cls[want];
    if (got) {
        struct stamp stamp = {.owner = b->id, .cls = (uint8_t)cls, .flags = pool->flags};
        for (unsigned i = 0; i < got; i++) {
            VALGRIND_MEMPOOL_ALLOC(pool, out[i]->first + ZBUF_GUARD, class_size(cls) - ZBUF_GUARD);
            memcpy(&out[i]->owner, &stamp, sizeof stamp);
            uint32_t unit = pool_unit(pool, out[i]);
            begin_life(out[i], &pool->birth[unit], now);
            __atomic_store_n(&pool->live[unit], LIVE(cls), __ATOMIC_RELAXED);
            if (unlikely(pool->debug))
                debug_alloc(pool, out[i], site);
        }
        pool->cls[cls].allocs += got;
        if (cls != want) {
            c->fall_ups += got;
            b->fall_ups += got;
            c->fall_up_waste += (uint64_t)got * (class_size(cls) - class_size(want));
        }
        class_note_peak(&pool->cls[cls], cls);
        budget_note_peak(b);
        /* pool_take() may have drained m, with all others, and put it out of use. */
        if (m && m->cap) {
            uint32_t surplus = (c->store - c->unmet) / 2;
            mag_fetch(pool, m, b, surplus < m->batch ? surplus : m->batch);
        }
    } else {
        c->failures++;
        b->failures++;
    }
    if (m)
        mag_settle(pool, m);
    mirror_publish(pool, b);
    pool_unlock(pool);
    if (!got)
        errno = ENOBUFS;
    return got;
}

/* NULL: take the slow path. Its users do so by a tail call, and so save no registers before. */
static inline __attribute__((always_inline)) struct zbuf *alloc_one(const struct zbuf_pool *pool,
                                                                    uint32_t id, size_t bytes)
{
    struct cache *c = zbuf_tls;
    if (unlikely(bytes > ZBUF_SEG_MAX - ZBUF_OVERHEAD))
        return NULL;
    struct mag *m = cache_mag(c, id, class_for(bytes));
    if (unlikely(!m))
        return NULL;
    mag_begin(c, m);
    if (unlikely(cache_open(c) != pool)) {
        mag_leave(c, m);
        return NULL;
    }
    uint32_t n = m->n;
    if (unlikely(n <= m->low)) { /* which is never more: so one comparison says both */
        if (n == 0) {
            mag_leave(c, m);
            return NULL;
        }
        m->low = n - 1;
    }
    const bool marked = m->marked != 0;
    if (!marked)
        m->allocs++;
    struct zbuf *zb = take(m, --n, marked, c->marks, c->now);
    mag_end(c, m, n);
    if (!zb) /* for the compiler: NULL is what was returned above */
        __builtin_unreachable();
    return zb;
}

static COLD struct zbuf *alloc_one_slow(struct zbuf_budget *b, size_t bytes, const void *site)
{
    struct zbuf *zb;
    if (bytes > ZBUF_SEG_MAX - ZBUF_OVERHEAD) {
        errno = EMSGSIZE;
        return NULL;
    }
    if (collect(b->pool, b->id, class_for(bytes)) && (zb = alloc_one(b->pool, b->id, bytes)))
        return zb;
    return alloc_slow(b->pool, b, class_for(bytes), &zb, 1, site) ? zb : NULL;
}

struct zbuf *zbuf_alloc(struct zbuf_pool *pool, size_t bytes)
{
    struct zbuf *zb = alloc_one(pool, 0, bytes);
    if (likely(zb))
        return zb;
    return alloc_one_slow(&pool->budget[0], bytes, __builtin_return_address(0));
}

struct zbuf *zbuf_alloc_from(struct zbuf_budget *b, size_t bytes)
{
    struct zbuf *zb = alloc_one(b->pool, b->id, bytes);
    if (likely(zb))
        return zb;
    return alloc_one_slow(b, bytes, __builtin_return_address(0));
}

/* What the magazine has. */
static inline unsigned alloc_run(const struct zbuf_pool *pool, uint32_t id, unsigned cls,
                                 struct zbuf **out, unsigned n)
{
    struct cache *c = zbuf_tls;
    struct mag *m = cache_mag(c, id, cls);
    if (unlikely(!m))
        return 0;
    mag_begin(c, m);
    if (unlikely(cache_open(c) != pool)) {
        mag_leave(c, m);
        return 0;
    }
    const struct marks marks = c->marks;
    const bool marked = m->marked != 0;
    uint32_t left = m->n, now = c->now;
    n = n < left ? n : left;
    for (unsigned i = 0; i < n; i++)
        out[i] = take(m, --left, marked, marks, now);
    if (!marked)
        m->allocs += n;
    mag_note_low(m, left);
    mag_end(c, m, left);
    return n;
}

unsigned zbuf_alloc_bulk(struct zbuf_budget *b, size_t bytes, struct zbuf **out, unsigned n)
{
    if (unlikely(bytes > ZBUF_SEG_MAX - ZBUF_OVERHEAD)) {
        errno = EMSGSIZE;
        return 0;
    }
    unsigned cls = class_for(bytes);
    unsigned got = alloc_run(b->pool, b->id, cls, out, n);
    while (unlikely(got < n)) {
        unsigned more =
            collect(b->pool, b->id, cls)
                ? alloc_run(b->pool, b->id, cls, out + got, n - got)
                : alloc_slow(b->pool, b, cls, out + got, n - got, __builtin_return_address(0));
        if (more == 0)
            break;
        got += more;
    }
    return got;
}
