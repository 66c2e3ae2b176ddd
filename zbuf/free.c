/* free.c - references to segments are taken and given back; with the last one a segment is free.
 *
 * The last reference can be dropped without an atomic instruction: whoever sees 1 and holds it is
 * the only one who could change it.
 *
 * Free leaves a header as allocation wants it, and only reads one that its holder has left so:
 * where one thread allocates and another frees, both have it in their caches, and it stays there.
 * Fast and slow paths are as in alloc.c.
 *
 * What passes from thread to thread is limited by the slower of the two, most often the one that
 * frees; so what the fast path asks is put in as few comparisons as may be (header_ready(),
 * `space`), and what can be counted elsewhere is not counted here. */
#include "internal.h"
#include "sanitize.h"

static inline bool stamp_is(const struct zbuf *zb, const struct mag *m)
{
    return memcmp(&zb->owner, &m->stamp, sizeof m->stamp) == 0;
}

/* Has the segment one reference, and the rest of its header what allocation wants there? */
static inline bool header_ready(const struct zbuf *zb)
{
    static_assert(offsetof(struct zbuf, len) == offsetof(struct zbuf, refcount) + sizeof(uint32_t),
                  "they are looked at together");
    typedef uint64_t __attribute__((may_alias)) both;
    const uint64_t one_and_none = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 1 : 1ull << 32;
    /* acquire: sees what those did who gave their references back */
    return likely(__atomic_load_n((const both *)&zb->refcount, __ATOMIC_ACQUIRE) == one_and_none) &&
           likely(zb->data == zb->first + ZBUF_OVERHEAD) &&
           likely(((uintptr_t)zb->next | __atomic_load_n(&zb->priv, __ATOMIC_RELAXED)) == 0);
}

static inline void header_renew(struct zbuf *zb)
{
    zb->data = zb->first + ZBUF_OVERHEAD;
    zb->len = 0;
    zb->generation++;
    zb->next = NULL;
    __atomic_store_n(&zb->priv, 0, __ATOMIC_RELAXED);
}

static inline void end_life(struct zbuf *zb, uint8_t *live, size_t unit)
{
    __atomic_store_n(&live[unit], 0, __ATOMIC_RELAXED);
    ASAN_POISON_MEMORY_REGION(zb->first + ZBUF_GUARD, zb->size - ZBUF_GUARD);
    (void)zb;
}

static inline void mag_push(const struct zbuf_pool *pool, struct mag *m, uint32_t unit)
{
    uint32_t n = m->n;
    mag_unmark(pool, m);
    m->unit[n] = unit;
    __atomic_store_n(&m->n, n + 1, __ATOMIC_RELAXED);
}

/* ---- references */

static COLD struct cache *cache_for(const struct zbuf *zb, const char *what)
{
    struct cache *c = cache_of(zb);
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
    if (unlikely(marks_unit(&c->marks, zb) >= __atomic_load_n(&c->units, __ATOMIC_RELAXED)))
        c = cache_for(zb, "reference to something that is not a zbuf");
    uint8_t live = __atomic_load_n(&c->marks.live[marks_unit(&c->marks, zb)], __ATOMIC_RELAXED);
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
    VALGRIND_MEMPOOL_FREE(pool, zb->first + ZBUF_GUARD);
    if (pool->debug || !header_ready(zb))
        header_renew(zb);
    end_life(zb, pool->live, pool_unit(pool, zb));
    struct mag *m = own && !pool->slow && !budget_over(b) ? mag_get(own, b, cls) : NULL;
    if (m) {
        mag_sync(pool, m);
        if (m->n == m->cap) {
            mag_bring(pool, m, m->batch);
            if (pool->caches->next_in_pool)
                depot_make(pool, m);
        }
        mag_settle(pool, m);
        mag_push(pool, m, pool_unit(pool, zb));
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

static COLD void free_wrong(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    unsigned cls;
    bool is_one = pool_seg_is(pool, zb, &cls);
    zbuf_misuse(pool, zb, is_one ? "double free" : "free of something that is not a zbuf");
}

/* It is not the last reference, it belongs into another magazine than the last one did, or it is a
 * case for one of the slow paths. */
static __attribute__((noinline)) void free_other(struct zbuf *zb, struct cache *c)
{
    uint32_t unit = (uint32_t)marks_unit(&c->marks, zb);
    uint8_t live = __atomic_load_n(&c->marks.live[unit], __ATOMIC_RELAXED);
    if (unlikely(live == 0))
        free_wrong(c->pool, zb);
    uint32_t seen = __atomic_load_n(&zb->refcount, __ATOMIC_ACQUIRE);
    if (seen != 1 && !drop(c->pool, zb, seen))
        return;
    if (likely(cache_enter(c))) {
        struct mag *m = cache_mag(c, zb->owner % ZBUF_BUDGETS, LIVE_CLS(live));
        if (likely(m && stamp_is(zb, m) && (m->n < m->cap || depot_put(c->pool, m)))) {
            if (!header_ready(zb))
                header_renew(zb);
            end_life(zb, c->marks.live, unit);
            mag_push(c->pool, m, unit);
            c->last = m;
            cache_leave(c);
            return;
        }
        cache_leave(c);
    }
    free_slow(c->pool, zb, LIVE_CLS(live));
}

/* zb is in no pool that this thread has open: in one that is shut at present, in another than the
 * last, or in none. */
static COLD void free_not_open(struct zbuf *zb, struct cache *c)
{
    if (!zb)
        return;
    if (marks_unit(&c->marks, zb) < __atomic_load_n(&c->units, __ATOMIC_RELAXED))
        free_other(zb, c);
    else
        free_elsewhere(zb);
}

/* Ends the life of zb, if it is a live segment that goes into m with its last reference. m is tried
 * before it is known whether it is the right one: so everything that is asked of the segment is a
 * branch to be predicted, not an address to be waited for. */
static inline __attribute__((always_inline)) bool ends_in(struct zbuf *zb, uint8_t *live,
                                                          size_t unit, const struct mag *m)
{
    if (unlikely(__atomic_load_n(&live[unit], __ATOMIC_RELAXED) != m->live || !stamp_is(zb, m)))
        return false;
    if (unlikely(!header_ready(zb))) {
        if (unlikely(__atomic_load_n(&zb->refcount, __ATOMIC_ACQUIRE) != 1))
            return false;
        header_renew(zb);
    }
    end_life(zb, live, unit);
    return true;
}

static inline __attribute__((always_inline)) void free_one(struct zbuf *zb)
{
    struct cache *c = zbuf_tls;
    struct mag *m = c->last;
    size_t unit = marks_unit(&c->marks, zb);
    mag_begin(c, m);
    bool open = unit < cache_open_units(c);
    if (likely(open)) {
        size_t n = m->n;
        if (likely(n < m->space && ends_in(zb, c->marks.live, unit, m))) {
            m->unit[n] = (uint32_t)unit;
            mag_end(c, m, n + 1);
            return;
        }
    }
    mag_leave(c, m);
    if (likely(open))
        free_other(zb, c);
    else
        free_not_open(zb, c);
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
    mag_begin(c, m);
    const struct marks marks = c->marks;
    const size_t units = cache_open_units(c);
    const uint32_t have = m->n, room = have < m->space ? m->space - have : 0;
    unsigned i = 0;
    for (n = n < room ? n : room; i < n; i++) {
        size_t unit = marks_unit(&marks, zbs[i]);
        if (unlikely(unit >= units || !ends_in(zbs[i], marks.live, unit, m)))
            break;
        m->unit[have + i] = (uint32_t)unit;
    }
    if (unlikely(i == 0)) { /* perhaps it is shut, and m->n in other hands */
        mag_leave(c, m);
        return 0;
    }
    mag_end(c, m, have + i);
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
    if (unlikely(!zb || (uintptr_t)addr % class_size(cls) < ZBUF_GUARD || !is_live(pool, zb)))
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
