/* alloc.c - segments are allocated, referred to and freed. The data path of this room.
 *
 * Each operation has a fast path on the thread's own magazine (a few nanoseconds, nothing shared)
 * and a slow one under the pool's lock, which refills or empties the magazine by batches, so that
 * most operations never see it. The slow path alone knows of debug mode, waiters and ceilings: when
 * one of them matters, the cache's `slow` keeps everybody off the fast path.
 *
 * A free segment has refcount 0. The last reference can be dropped without an atomic instruction:
 * whoever sees 1 and holds it is the only one who could change it. */
#include "internal.h"
#include "sanitize.h"

/* Gives a segment from magazine or store a fresh header. size, cls and pool are there since the
 * slab has its class. */
static inline void begin_life(struct zbuf *zb, const struct mag *m, uint64_t clock_ns)
{
    ASAN_UNPOISON_MEMORY_REGION((uint8_t *)zb + ZBUF_HEADER, zb->size - ZBUF_HEADER);
    zb->data = (uint8_t *)zb + ZBUF_OVERHEAD;
    zb->len = 0;
    zb->generation++;
    memcpy(&zb->owner, &m->stamp, sizeof m->stamp);
    zb->next = NULL;
    zb->priv = clock_ns;
    __atomic_store_n(&zb->refcount, 1, __ATOMIC_RELAXED);
}
static_assert(offsetof(struct zbuf, next) - offsetof(struct zbuf, owner) ==
                  sizeof(((struct mag *)0)->stamp),
              "the stamp covers what lies from owner to next");

static inline void end_life(struct zbuf *zb, unsigned cls)
{
    __atomic_store_n(&zb->refcount, 0, __ATOMIC_RELAXED);
    ASAN_POISON_MEMORY_REGION((uint8_t *)zb + ZBUF_HEADER, class_size(cls) - ZBUF_HEADER);
    (void)cls;
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

/* The first of out[] comes from the store, with as many more as there are without growing the
 * class; the magazine is filled on the same trip. */
static unsigned alloc_slow(struct zbuf_pool *pool, struct zbuf_budget *b, unsigned want,
                           struct zbuf **out, unsigned n, const void *site)
{
    struct cache *own = cache_get(pool);
    struct mag direct = {.stamp = {b->id, 0, pool->flags, 0, {0}}};
    unsigned cls;
    pool_lock(pool);
    uint64_t now = clock_now(pool);
    if (own)
        own->clock_ns = now;
    struct mag *m = own && !pool->slow && !budget_over(b) ? mag_get(own, b, want) : NULL;
    if (m)
        mag_sync(pool, m);
    unsigned got = pool_take(pool, own, b, want, out, n, &cls);
    struct class *c = &pool->cls[want];
    if (got) {
        direct.stamp.cls = (uint8_t)cls;
        for (unsigned i = 0; i < got; i++) {
            VALGRIND_MEMPOOL_ALLOC(pool, (uint8_t *)out[i] + ZBUF_HEADER,
                                   class_size(cls) - ZBUF_HEADER);
            begin_life(out[i], &direct, now);
            if (unlikely(pool->debug))
                debug_alloc(pool, out[i], site);
        }
        pool->cls[cls].allocs += got;
        if (cls != want) {
            c->fall_ups += got;
            c->fall_up_waste += (uint64_t)got * (class_size(cls) - class_size(want));
        }
        struct class *t = &pool->cls[cls];
        uint32_t used = t->slabs * class_segs(cls) - t->store - t->cached;
        if (used > t->high_water)
            t->high_water = used;
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

static inline struct zbuf *alloc_one(struct zbuf_pool *pool, struct zbuf_budget *b, size_t bytes,
                                     const void *site)
{
    if (unlikely(bytes > ZBUF_SEG_MAX - ZBUF_OVERHEAD)) {
        errno = EMSGSIZE;
        return NULL;
    }
    unsigned cls = class_for(bytes);
    struct cache *c = zbuf_tls;
    struct zbuf *zb = NULL;
    if (likely(__atomic_load_n(&c->pool, __ATOMIC_RELAXED) == pool && cache_enter(c))) {
        struct mag *m = c->mag[b->id * ZBUF_CLASSES + cls];
        if (likely(m && m->n)) {
            uint32_t n = m->n - 1;
            zb = m->slot[n];
            __atomic_store_n(&m->n, n, __ATOMIC_RELAXED);
            if (n < m->low)
                m->low = n;
            m->allocs++;
            begin_life(zb, m, c->clock_ns);
        }
        cache_leave(c);
        if (likely(zb))
            return zb;
    }
    return alloc_slow(pool, b, cls, &zb, 1, site) ? zb : NULL;
}

struct zbuf *zbuf_alloc(struct zbuf_pool *pool, size_t bytes)
{
    return alloc_one(pool, &pool->budget[0], bytes, __builtin_return_address(0));
}

struct zbuf *zbuf_alloc_from(struct zbuf_budget *b, size_t bytes)
{
    return alloc_one(b->pool, b, bytes, __builtin_return_address(0));
}

unsigned zbuf_alloc_bulk(struct zbuf_budget *b, size_t bytes, struct zbuf **out, unsigned n)
{
    if (unlikely(bytes > ZBUF_SEG_MAX - ZBUF_OVERHEAD)) {
        errno = EMSGSIZE;
        return 0;
    }
    struct zbuf_pool *pool = b->pool;
    unsigned cls = class_for(bytes), got = 0;
    struct cache *c = zbuf_tls;
    if (likely(__atomic_load_n(&c->pool, __ATOMIC_RELAXED) == pool && cache_enter(c))) {
        struct mag *m = c->mag[b->id * ZBUF_CLASSES + cls];
        if (likely(m)) {
            got = n < m->n ? n : m->n;
            struct zbuf **from = m->slot + m->n;
            for (unsigned i = 0; i < got; i++) {
                out[i] = *--from;
                begin_life(out[i], m, c->clock_ns);
            }
            __atomic_store_n(&m->n, m->n - got, __ATOMIC_RELAXED);
            if (m->n < m->low)
                m->low = m->n;
            m->allocs += got;
        }
        cache_leave(c);
    }
    while (unlikely(got < n)) {
        unsigned more = alloc_slow(pool, b, cls, out + got, n - got, __builtin_return_address(0));
        if (more == 0)
            break;
        got += more;
    }
    return got;
}

/* ---- references */

struct zbuf *zbuf_ref(struct zbuf *zb)
{
    uint32_t before;
    if (zb->flags & FLAG_OWNED) {
        before = zbuf_refcount(zb);
        __atomic_store_n(&zb->refcount, before + 1, __ATOMIC_RELAXED);
    } else {
        before = __atomic_fetch_add(&zb->refcount, 1, __ATOMIC_RELAXED);
    }
    if (unlikely(before - 1 >= INT32_MAX))
        zbuf_misuse(zb->pool, zb, before ? "refcount overflow" : "reference to a freed segment");
    return zb;
}

void zbuf_share(struct zbuf *zb)
{
    zb->flags &= (uint8_t)~FLAG_OWNED;
}

/* One of several references is dropped; true if it turned out to be the last. */
static bool drop_one(struct zbuf_pool *pool, struct zbuf *zb, uint32_t seen)
{
    if (unlikely(seen == 0))
        zbuf_misuse(pool, zb, "double free");
    if (zb->flags & FLAG_OWNED) {
        __atomic_store_n(&zb->refcount, seen - 1, __ATOMIC_RELAXED);
        return false;
    }
    uint32_t before = __atomic_fetch_sub(&zb->refcount, 1, __ATOMIC_ACQ_REL);
    if (unlikely(before == 0))
        zbuf_misuse(pool, zb, "double free");
    return before == 1;
}

/* ---- free */

static void free_slow(struct zbuf_pool *pool, struct zbuf *zb, unsigned cls)
{
    struct cache *own = cache_get(pool);
    pool_lock(pool);
    struct zbuf_budget *b = &pool->budget[zb->owner];
    if (own)
        own->clock_ns = clock_now(pool);
    if (unlikely(pool->debug))
        debug_free(pool, zb, cls);
    VALGRIND_MEMPOOL_FREE(pool, (uint8_t *)zb + ZBUF_HEADER);
    end_life(zb, cls);
    struct mag *m = own && !pool->slow && !budget_over(b) ? mag_get(own, b, cls) : NULL;
    if (m) {
        mag_sync(pool, m);
        if (m->n == m->cap)
            mag_bring(pool, m, m->batch);
        m->slot[m->n] = zb;
        __atomic_store_n(&m->n, m->n + 1, __ATOMIC_RELAXED);
        mag_settle(pool, m);
    } else {
        store_give(pool, zb, cls);
        budget_adjust(b, cls, -1);
    }
    if (unlikely(pool->waiters != NULL))
        waiters_check(pool);
    mirror_publish(pool, b);
    pool_unlock(pool);
}

/* zb's one reference is given back. */
static inline void free_last(struct cache *c, struct zbuf *zb, unsigned cls)
{
    if (unlikely(zb->owner >= ZBUF_BUDGETS))
        zbuf_misuse(c->pool, zb, "damaged header");
    struct zbuf *lent_from = NULL;
    if (unlikely(zb->flags & FLAG_BORROWED))
        lent_from = *lender(zb);
    if (likely(cache_enter(c))) {
        struct mag *m = c->mag[zb->owner * ZBUF_CLASSES + cls];
        if (likely(m && m->n < m->cap)) {
            end_life(zb, cls);
            m->slot[m->n] = zb;
            __atomic_store_n(&m->n, m->n + 1, __ATOMIC_RELAXED);
            zb = NULL;
        }
        cache_leave(c);
    }
    if (unlikely(zb != NULL))
        free_slow(c->pool, zb, cls);
    if (unlikely(lent_from != NULL))
        zbuf_free(lent_from);
}

/* zb is not in the pool that this thread used last. */
static struct cache *cache_for(const struct zbuf *zb)
{
    struct zbuf_pool *pool = pool_of_addr(zb);
    if (!pool)
        zbuf_misuse(NULL, zb, "free of something that is not a zbuf");
    struct cache *c = cache_get(pool);
    if (!c)
        zbuf_misuse(pool, zb, "no memory for this thread's cache, needed to free");
    return c;
}

static inline void free_one(struct zbuf *zb)
{
    struct cache *c = zbuf_tls;
    size_t off = (size_t)((uintptr_t)zb - (uintptr_t)c->base);
    if (unlikely(off >= __atomic_load_n(&c->size, __ATOMIC_RELAXED))) {
        c = cache_for(zb);
        off = (size_t)((uintptr_t)zb - (uintptr_t)c->base);
    }
    unsigned cls = __atomic_load_n(&c->slab_class[off >> SLAB_SHIFT], __ATOMIC_RELAXED);
    if (unlikely(cls == CLASS_NONE || off & (class_size(cls) - 1)))
        zbuf_misuse(c->pool, zb, "free of something that is not a zbuf");
    uint32_t seen = __atomic_load_n(&zb->refcount, __ATOMIC_ACQUIRE);
    if (unlikely(seen != 1) && !drop_one(c->pool, zb, seen))
        return;
    free_last(c, zb, cls);
}

void zbuf_free(struct zbuf *zb)
{
    if (likely(zb != NULL))
        free_one(zb);
}

void zbuf_free_bulk(struct zbuf **zbs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (likely(zbs[i] != NULL))
            free_one(zbs[i]);
}

/* ---- addresses */

struct zbuf *zbuf_of(const struct zbuf_pool *pool, const void *addr)
{
    unsigned cls;
    struct zbuf *zb = pool_seg(pool, addr, &cls);
    if (unlikely(!zb || (uintptr_t)addr - (uintptr_t)zb < ZBUF_HEADER || zbuf_refcount(zb) == 0))
        return NULL;
    return zb;
}

void zbuf_tx_done(struct zbuf_pool *pool, const void *addr)
{
    struct zbuf *zb = zbuf_of(pool, addr);
    if (unlikely(!zb))
        zbuf_misuse(pool, addr, "completion of a frame that is in no live segment");
    if ((const uint8_t *)addr < zb->data)
        zbuf_headroom_release(zb);
    free_one(zb);
}
