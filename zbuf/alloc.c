/* alloc.c - segments are allocated, referred to and freed. The data path of this room.
 *
 * Each operation has a fast path on the thread's own magazine (a few nanoseconds, nothing shared)
 * and a slow one under the pool's lock, which refills or empties the magazine by batches, so that
 * most operations never see it. The slow path alone knows of debug mode, waiters and ceilings: when
 * one of them matters, caches are shut, and everybody is kept off the fast path.
 *
 * The last reference can be dropped without an atomic instruction: whoever sees 1 and holds it is
 * the only one who could change it.
 *
 * A free segment's header is ready for its next life: refcount 1, data at the payload. Whether it
 * is free is written elsewhere (birth_of() in internal.h). So allocation touches no header, and
 * free only reads one that its holder has left as it was: where one thread allocates and another
 * frees, both have it in their caches, and it stays there. */
#include "internal.h"
#include "sanitize.h"

static inline size_t offset_in(const struct cache *c, const void *addr)
{
    return (size_t)((uintptr_t)addr - (uintptr_t)c->base);
}

static inline void begin_life(struct zbuf *zb, uint32_t *birth, uint32_t now)
{
    ASAN_UNPOISON_MEMORY_REGION((uint8_t *)zb + ZBUF_HEADER, zb->size - ZBUF_HEADER);
    (void)zb;
    __atomic_store_n(birth, now, __ATOMIC_RELAXED);
}

/* The segment that was m's at-th is live. */
static inline void mark_taken(const struct mag *m, uint32_t at, uint8_t *live, uint8_t code)
{
    if (at >= m->marked)
        __atomic_store_n(live, code, __ATOMIC_RELAXED);
}

/* Has a holder written to the part of a header that free does not compare with a stamp? */
static inline bool header_used(const struct zbuf *zb)
{
    uintptr_t moved = (uintptr_t)zb->data ^ ((uintptr_t)zb + ZBUF_OVERHEAD);
    uint64_t holder = __atomic_load_n(&zb->priv, __ATOMIC_RELAXED);
    return (moved | zb->len | (uintptr_t)zb->next | holder) != 0;
}

static inline void end_life(struct zbuf *zb, uint8_t *live, bool used)
{
    __atomic_store_n(live, 0, __ATOMIC_RELAXED);
    if (used) {
        zb->data = (uint8_t *)zb + ZBUF_OVERHEAD;
        zb->len = 0;
        zb->generation++;
        zb->next = NULL;
        __atomic_store_n(&zb->priv, 0, __ATOMIC_RELAXED);
    }
    ASAN_POISON_MEMORY_REGION((uint8_t *)zb + ZBUF_HEADER, zb->size - ZBUF_HEADER);
}

static inline struct mag *mag_of(const struct cache *c, uint32_t budget, uint32_t cls)
{
    return c->mag[budget * ZBUF_CLASSES + cls];
}

static inline void mag_push(struct mag *m, struct zbuf *zb)
{
    uint32_t n = m->n;
    mag_note_low(m);
    m->slot[n] = zb;
    m->frees++;
    __atomic_store_n(&m->n, n + 1, __ATOMIC_RELAXED);
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
        struct mag *m = mag_of(c, id, cls);
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
            VALGRIND_MEMPOOL_ALLOC(pool, (uint8_t *)out[i] + ZBUF_HEADER,
                                   class_size(cls) - ZBUF_HEADER);
            memcpy(&out[i]->owner, &stamp, sizeof stamp);
            size_t unit = pool_unit(pool, out[i]);
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
    unsigned cls = class_for(bytes);
    struct mag *m;
    uint32_t n;
    cache_begin(c);
    if (unlikely(cache_open(c) != pool || !(m = mag_of(c, id, cls)) || (n = m->n) == 0)) {
        cache_leave(c);
        return NULL;
    }
    struct zbuf *zb = m->slot[--n];
    __atomic_store_n(&m->n, n, __ATOMIC_RELAXED);
    size_t unit = offset_in(c, zb) >> SEG_SHIFT;
    mark_taken(m, n, &c->live[unit], LIVE(cls));
    begin_life(zb, &c->birth[unit], c->now);
    cache_leave(c);
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
    unsigned got = 0;
    struct mag *m;
    cache_begin(c);
    if (likely(cache_open(c) == pool && (m = mag_of(c, id, cls)))) {
        uint32_t left = m->n, now = c->now;
        for (; got < n && left > 0; got++) {
            struct zbuf *zb = m->slot[--left];
            size_t unit = offset_in(c, zb) >> SEG_SHIFT;
            mark_taken(m, left, &c->live[unit], LIVE(cls));
            begin_life(zb, &c->birth[unit], now);
            out[got] = zb;
        }
        __atomic_store_n(&m->n, left, __ATOMIC_RELAXED);
    }
    cache_leave(c);
    return got;
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

/* ---- references */

static COLD struct cache *cache_for(const struct zbuf *zb, const char *what)
{
    struct cache *c = cache_of_addr(zb);
    if (!c)
        zbuf_misuse(NULL, zb, what);
    return c;
}

static COLD void ref_wrong(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    zbuf_misuse(pool, zb, is_live(pool, zb) ? "refcount overflow" : "reference to a freed segment");
}

struct zbuf *zbuf_ref(struct zbuf *zb)
{
    const struct cache *c = zbuf_tls;
    if (unlikely(offset_in(c, zb) >= __atomic_load_n(&c->size, __ATOMIC_RELAXED)))
        c = cache_for(zb, "reference to something that is not a zbuf");
    uint8_t live = __atomic_load_n(&c->live[offset_in(c, zb) >> SEG_SHIFT], __ATOMIC_RELAXED);
    uint32_t before = zbuf_refcount(zb);
    if (unlikely(!live || before >= INT32_MAX))
        ref_wrong(c->pool, zb);
    if (zb->flags & FLAG_OWNED)
        __atomic_store_n(&zb->refcount, before + 1, __ATOMIC_RELAXED);
    else
        __atomic_fetch_add(&zb->refcount, 1, __ATOMIC_RELAXED);
    return zb;
}

void zbuf_share(struct zbuf *zb)
{
    zb->flags &= (uint8_t)~FLAG_OWNED;
}

/* ---- free */

/* Takes out of a header what a segment in a magazine must not have. Returns the segment that was
 * borrowed from, if one was. */
static struct zbuf *clean(const struct zbuf_pool *pool, struct zbuf *zb)
{
    struct zbuf *from = NULL;
    if (zb->owner >= pool->budgets_used)
        zbuf_misuse(pool, zb, "damaged header");
    if (zb->flags & FLAG_BORROWED)
        from = lender(zb);
    zb->flags = pool->flags;
    zb->headroom_busy = 0;
    zb->rx_csum = 0;
    return from;
}

/* The last reference is given back: anything that the fast path is not for. */
static COLD void free_slow(struct zbuf_pool *pool, struct zbuf *zb, unsigned cls)
{
    struct cache *own = cache_get(pool);
    pool_lock(pool);
    if (own)
        own->now = birth_of(clock_now(pool));
    if (unlikely(pool->debug))
        debug_free(pool, zb, cls);
    struct zbuf *lent_from = clean(pool, zb);
    struct zbuf_budget *b = &pool->budget[zb->owner];
    VALGRIND_MEMPOOL_FREE(pool, (uint8_t *)zb + ZBUF_HEADER);
    end_life(zb, &pool->live[pool_unit(pool, zb)], pool->debug || header_used(zb));
    struct mag *m = own && !pool->slow && !budget_over(b) ? mag_get(own, b, cls) : NULL;
    if (m) {
        mag_sync(pool, m);
        if (m->n == m->cap) {
            mag_bring(pool, m, m->batch);
            if (pool->caches->next_in_pool)
                depot_make(pool, m);
        }
        mag_settle(pool, m);
        mag_push(m, zb);
    } else {
        budget_adjust(b, cls, -1);
        store_give(pool, zb, cls);
    }
    if (unlikely(pool->waiters != NULL))
        waiters_check(pool);
    mirror_publish(pool, b);
    pool_unlock(pool);
    if (lent_from)
        zbuf_free(lent_from);
}

/* zb is not in the pool that this thread used last: finds out which, or whether it is a zbuf. */
static void free_elsewhere(struct zbuf *zb)
{
    cache_for(zb, "free of something that is not a zbuf");
    zbuf_free(zb);
}

/* One of several references; true if it turned out to be the last. */
static bool drop(const struct zbuf_pool *pool, struct zbuf *zb, uint32_t seen)
{
    uint32_t before = seen;
    if (zb->flags & FLAG_OWNED)
        __atomic_store_n(&zb->refcount, seen - 1, __ATOMIC_RELAXED);
    else
        before = __atomic_fetch_sub(&zb->refcount, 1, __ATOMIC_ACQ_REL);
    if (unlikely(before == 0 || before > INT32_MAX))
        zbuf_misuse(pool, zb, "damaged header");
    if (likely(before != 1))
        return false;
    __atomic_store_n(&zb->refcount, 1, __ATOMIC_RELAXED); /* the others were dropped meanwhile */
    return true;
}

static inline bool stamp_is(const struct zbuf *zb, const struct mag *m)
{
    return memcmp(&zb->owner, &m->stamp, sizeof m->stamp) == 0;
}

/* It is not the last reference, it belongs into another magazine than the last one did, or it is a
 * case for one of the slow paths. */
static __attribute__((noinline)) void free_other(struct cache *c, struct zbuf *zb)
{
    size_t off = offset_in(c, zb);
    uint64_t id = __atomic_load_n(&c->slab_id[off >> SLAB_SHIFT], __ATOMIC_RELAXED);
    if (unlikely(id == SLAB_NONE || off & slab_mask(id)))
        zbuf_misuse(c->pool, zb, "free of something that is not a zbuf");
    if (unlikely(__atomic_load_n(&c->live[off >> SEG_SHIFT], __ATOMIC_RELAXED) == 0))
        zbuf_misuse(c->pool, zb, "double free");
    uint32_t seen = __atomic_load_n(&zb->refcount, __ATOMIC_ACQUIRE);
    if (seen != 1 && !drop(c->pool, zb, seen))
        return;
    if (likely(cache_enter(c))) {
        struct mag *m = mag_of(c, zb->owner % ZBUF_BUDGETS, slab_cls(id));
        if (likely(m && stamp_is(zb, m) && (m->n < m->cap || depot_put(c->pool, m)))) {
            end_life(zb, &c->live[off >> SEG_SHIFT], header_used(zb));
            mag_push(m, zb);
            c->last = m;
            cache_leave(c);
            return;
        }
        cache_leave(c);
    }
    free_slow(c->pool, zb, slab_cls(id));
}

/* zb is in no pool that this thread has open: in one that is shut at present, in another than the
 * last, or in none. */
static COLD void free_not_open(struct cache *c, struct zbuf *zb)
{
    if (!zb)
        return;
    if (offset_in(c, zb) < __atomic_load_n(&c->size, __ATOMIC_RELAXED))
        free_other(c, zb);
    else
        free_elsewhere(zb);
}

/* True if zb, at off, is a live segment that goes into m with its last reference. m is tried before
 * it is known whether it is the right one: so everything that is asked of the segment is a branch
 * to be predicted, not an address to be waited for. */
static inline __attribute__((always_inline)) bool goes_into(const struct cache *c,
                                                            const struct zbuf *zb, size_t off,
                                                            const struct mag *m)
{
    return off % ZBUF_SEG_MIN == 0 &&
           __atomic_load_n(&c->live[off >> SEG_SHIFT], __ATOMIC_RELAXED) == m->live &&
           /* acquire: sees what those did who gave theirs back */
           __atomic_load_n(&zb->refcount, __ATOMIC_ACQUIRE) == 1 && stamp_is(zb, m);
}

static inline __attribute__((always_inline)) void free_one(struct zbuf *zb)
{
    struct cache *c = zbuf_tls;
    struct mag *m = c->last;
    size_t off = offset_in(c, zb);
    cache_begin(c);
    bool open = off < cache_open_size(c);
    if (likely(open && goes_into(c, zb, off, m) && m->n < m->cap)) {
        end_life(zb, &c->live[off >> SEG_SHIFT], header_used(zb));
        mag_push(m, zb);
        cache_leave(c);
        return;
    }
    cache_leave(c);
    if (likely(open))
        free_other(c, zb);
    else
        free_not_open(c, zb);
}

void zbuf_free(struct zbuf *zb)
{
    free_one(zb); /* NULL is not in the region either */
}

/* Frees those at the front that go into the same magazine as the first; how many that were. */
static unsigned free_run(struct zbuf **zbs, unsigned n)
{
    struct cache *c = zbuf_tls;
    struct mag *m = c->last;
    cache_begin(c);
    const size_t size = cache_open_size(c);
    uint32_t have = m->n;
    unsigned i = 0, room = m->cap - have;
    n = n < room ? n : room;
    for (; i < n; i++) {
        struct zbuf *zb = zbs[i];
        size_t off = offset_in(c, zb);
        if (unlikely(off >= size || !goes_into(c, zb, off, m)))
            break;
        end_life(zb, &c->live[off >> SEG_SHIFT], header_used(zb));
        m->slot[have + i] = zb;
    }
    if (i > 0) {
        mag_note_low(m);
        m->frees += i;
        __atomic_store_n(&m->n, have + i, __ATOMIC_RELAXED);
    }
    cache_leave(c);
    return i;
}

void zbuf_free_bulk(struct zbuf **zbs, unsigned n)
{
    while (n > 0) {
        unsigned done = free_run(zbs, n);
        if (done < n) /* this one decides which magazine is next */
            zbuf_free(zbs[done++]);
        zbs += done;
        n -= done;
    }
}

/* ---- addresses */

struct zbuf *zbuf_of(const struct zbuf_pool *pool, const void *addr)
{
    unsigned cls;
    struct zbuf *zb = pool_seg(pool, addr, &cls);
    if (unlikely(!zb || (uintptr_t)addr - (uintptr_t)zb < ZBUF_HEADER || !is_live(pool, zb)))
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
