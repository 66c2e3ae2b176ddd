/* cache.c - what each thread has at hand, and how others get at it.
 *
 * A cache belongs to one thread and one pool. In it is a magazine for each budget and class that
 * the thread has used: a small stack of free segments, charged to that budget. The owner uses it
 * without atomic operations, between mag_begin() and mag_end(), or cache_begin() and cache_leave()
 * if it needs more than one. Anybody else does the following, under the pool's lock: shut each
 * cache, have every thread fence with membarrier(2), wait until each `busy` is clear. That costs
 * microseconds, and is done only when the store can't satisfy somebody.
 *
 * A magazine starts small and grows with use, so that a budget used once in a while holds little. A
 * drained one is out of use (cap 0) until its thread comes past the store again.
 *
 * A cache is freed by its own thread only, as that is who has a pointer to it: at the thread's
 * exit, or when it finds that the pool has gone. */
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* linux/membarrier.h */
#define MEMBARRIER_PRIVATE          (1 << 3)
#define MEMBARRIER_PRIVATE_REGISTER (1 << 4)

#define BATCH_FIRST 4u
/* How long is waited for a thread that was preempted between begin and leave. It may be the one
 * whose core this thread runs on, with a priority that never gives it up unless it sleeps. */
#define YIELDS_MAX 1024u
#define NAPS_MAX   20000u
#define NAP_NS     50000u

/* Of no pool: what zbuf_tls points to before the first operation. */
struct mag zbuf_no_mag;                                  /* of cap 0 */
static struct mag *no_mags[ZBUF_BUDGETS * ZBUF_CLASSES]; /* never written to: costs no memory */
static struct cache no_cache = {.mag = no_mags, .last = &zbuf_no_mag};
__thread struct cache *zbuf_tls = &no_cache;
static __thread struct cache *thread_caches;

/* The registry: all pools, and which cache belongs to which. */
static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct zbuf_pool *pools;
static pthread_key_t exit_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool have_membarrier;

/* Opens c to its owner's fast paths, or shuts it if there is a reason. */
static void cache_set_open(struct cache *c, uint32_t slow)
{
    __atomic_store_n(&c->open, slow ? NULL : c->pool, __ATOMIC_RELEASE);
    __atomic_store_n(&c->open_units, slow ? 0 : c->units, __ATOMIC_RELEASE);
}

/* ---- threads come and go */

/* Its mags go with it, and not with the pool, as its thread looks into the last one it used before
 * it knows whether the pool is still there. */
static void cache_free(struct cache *c)
{
    for (struct mag *m = c->in_use, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    munmap((void *)c->mag, TABLE_BYTES);
    free(c);
}

static void cache_empty(struct zbuf_pool *pool, struct cache *c, const struct zbuf_budget *scope,
                        unsigned *count);

/* Under the registry's lock and the pool's. c may be gone afterwards, if it is another thread's. */
static void cache_detach(struct zbuf_pool *pool, struct cache *c)
{
    unsigned count = 0;
    cache_empty(pool, c, NULL, &count);
    struct cache **p = &pool->caches;
    while (*p != c)
        p = &(*p)->next_in_pool;
    *p = c->next_in_pool;
    for (size_t i = 0; i < (size_t)pool->budgets_used * ZBUF_CLASSES; i++)
        if (c->mag[i]) {
            c->mag[i]->next = c->in_use;
            c->in_use = c->mag[i];
        }
    cache_set_open(c, SLOW_REVOKED);
    __atomic_store_n(&c->units, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&c->pool, NULL, __ATOMIC_RELEASE);
}

static void thread_exit(void *list)
{
    struct cache *c = list;
    thread_caches = NULL;
    zbuf_tls = &no_cache;
    while (c) {
        struct cache *next = c->next_in_thread;
        pthread_mutex_lock(&registry);
        struct zbuf_pool *pool = c->pool;
        if (pool) {
            pool_lock(pool);
            cache_detach(pool, c);
            waiters_check(pool);
            pool_unlock(pool);
        }
        pthread_mutex_unlock(&registry);
        cache_free(c);
        c = next;
    }
}

/* The child has the parent's memory by copy, but shares the statistics file with it. */
static void after_fork(void)
{
    for (struct zbuf_pool *pool = pools; pool; pool = pool->next)
        mirror_forget(pool);
}

static void init_once(void)
{
    if (pthread_key_create(&exit_key, thread_exit) != 0)
        abort();
    pthread_atfork(NULL, NULL, after_fork);
    have_membarrier = syscall(SYS_membarrier, MEMBARRIER_PRIVATE_REGISTER, 0, 0) == 0;
}

struct cache *cache_get(struct zbuf_pool *pool)
{
    if (zbuf_tls->pool == pool)
        return zbuf_tls;
    /* Another pool's turn, or the first time; pools that have gone are dropped on the way. */
    for (struct cache **p = &thread_caches; *p;) {
        struct cache *c = *p;
        struct zbuf_pool *of = __atomic_load_n(&c->pool, __ATOMIC_ACQUIRE);
        if (of == pool)
            return zbuf_tls = c;
        if (of) {
            p = &c->next_in_thread;
        } else {
            *p = c->next_in_thread;
            if (zbuf_tls == c)
                zbuf_tls = &no_cache;
            cache_free(c);
        }
    }
    struct cache *c = aligned_alloc(64, (sizeof *c + 63) & ~(size_t)63);
    if (!c)
        return NULL;
    void *table = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED) {
        free(c);
        return NULL;
    }
    *c = (struct cache){.pool = pool,
                        .units = pool_units(pool),
                        .marks = {pool->header, pool->live, pool->birth},
                        .mag = table,
                        .last = &zbuf_no_mag,
                        .next_in_thread = thread_caches};
    pthread_setspecific(exit_key, c);
    pool_lock(pool);
    if (!have_membarrier && !ZBUF_TSAN)
        pool_set_slow(pool, SLOW_NO_FENCE, true);
    cache_set_open(c, pool->slow);
    c->now = birth_of(clock_now(pool));
    c->next_in_pool = pool->caches;
    pool->caches = c;
    pool_unlock(pool);
    thread_caches = c;
    return zbuf_tls = c;
}

void pool_register(struct zbuf_pool *pool)
{
    pthread_once(&once, init_once);
    pthread_mutex_lock(&registry);
    pool->next = pools;
    pools = pool;
    pthread_mutex_unlock(&registry);
}

void pool_unregister(struct zbuf_pool *pool)
{
    pthread_mutex_lock(&registry);
    struct zbuf_pool **p = &pools;
    while (*p != pool)
        p = &(*p)->next;
    *p = pool->next;
    pool_lock(pool);
    while (pool->caches)
        cache_detach(pool, pool->caches);
    pool_unlock(pool);
    pthread_mutex_unlock(&registry);
}

void pools_visit(void (*fn)(struct zbuf_pool *pool))
{
    if (pthread_mutex_trylock(&registry) != 0)
        return;
    for (struct zbuf_pool *pool = pools; pool; pool = pool->next)
        fn(pool);
    pthread_mutex_unlock(&registry);
}

struct zbuf_pool *pool_of_addr(const void *addr)
{
    pthread_mutex_lock(&registry);
    struct zbuf_pool *pool = pools;
    while (pool && !zbuf_pool_contains(pool, addr) && !pool_has(pool, addr))
        pool = pool->next;
    pthread_mutex_unlock(&registry);
    return pool;
}

struct cache *cache_of(const struct zbuf *zb)
{
    for (struct cache *c = thread_caches; c; c = c->next_in_thread)
        if (marks_unit(&c->marks, zb) < __atomic_load_n(&c->units, __ATOMIC_ACQUIRE))
            return zbuf_tls = c;
    struct zbuf_pool *pool = pool_of_addr(zb);
    if (!pool || !pool_has(pool, zb))
        return NULL;
    struct cache *c = cache_get(pool);
    if (!c)
        zbuf_misuse(pool, zb, "no memory for this thread's cache");
    return c;
}

struct zbuf_pool *zbuf_pool_of(const struct zbuf *zb)
{
    struct cache *c = zbuf_tls;
    if (marks_unit(&c->marks, zb) < __atomic_load_n(&c->units, __ATOMIC_RELAXED))
        return c->pool;
    return pool_of_addr(zb);
}

uint64_t clock_now(const struct zbuf_pool *pool)
{
    uint64_t ticked = __atomic_load_n(&pool->clock_ns, __ATOMIC_RELAXED);
    if (ticked)
        return ticked;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void zbuf_tick(struct zbuf_pool *pool, uint64_t now_ns)
{
    __atomic_store_n(&pool->clock_ns, now_ns, __ATOMIC_RELAXED);
    if (zbuf_tls->pool == pool)
        zbuf_tls->now = birth_of(now_ns);
}

/* ---- magazines, under the pool's lock */

static void count_magazine(struct zbuf_budget *b, uint32_t by)
{
    for (; b; b = b->parent)
        b->magazines += by;
}

struct mag *mag_get(struct cache *c, struct zbuf_budget *b, unsigned cls)
{
    struct mag **at = &c->mag[b->id * ZBUF_CLASSES + cls], *m = *at;
    if (!m) {
        size_t bytes = sizeof *m + mag_slots(cls) * sizeof m->unit[0];
        m = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
        if (!m)
            return NULL;
        *m = (struct mag){.budget = b->id, .cls = (uint8_t)cls, .live = LIVE(cls)};
        m->stamp.owner = b->id;
        m->stamp.cls = (uint8_t)cls;
        m->stamp.flags = b->pool->flags;
        *at = m;
    }
    if (m->cap == 0) {
        uint32_t half = mag_slots(cls) / 2;
        m->batch = half < BATCH_FIRST ? half : BATCH_FIRST;
        mag_set_cap(m, 2 * m->batch);
        m->next = c->in_use;
        c->in_use = m;
        count_magazine(b, 1);
    }
    __atomic_store_n(&b->cached_classes, b->cached_classes | 1u << cls, __ATOMIC_RELAXED);
    return m;
}

void mag_sync(struct zbuf_pool *pool, struct mag *m)
{
    struct class *c = &pool->cls[m->cls];
    /* Most were in use when the magazine was lowest. Signed, as what other threads moved meanwhile
     * may make it less than nothing. */
    assert(m->low <= m->n);
    int64_t out = (int64_t)m->synced - m->low, in_depot = depot_sync(pool, m);
    int64_t used =
        (int64_t)c->slabs * class_segs(m->cls) - c->store - c->cached + out - c->in_depots;
    if (used > (int64_t)c->high_water)
        c->high_water = (uint32_t)used;
    out -= in_depot;
    for (struct zbuf_budget *b = &pool->budget[m->budget]; b; b = b->parent) {
        used = (int64_t)(b->charged - b->cached) + out * class_size(m->cls);
        if (used > (int64_t)b->high_water)
            b->high_water = (uint64_t)used;
    }
    uint64_t to_come = m->marked ? m->n : 0;
    c->allocs += m->allocs - to_come;
    m->allocs = to_come;
}

void mag_settle(struct zbuf_pool *pool, struct mag *m)
{
    uint32_t n = m->n, by = n - m->synced;
    uint64_t bytes = (uint64_t)((int64_t)(int32_t)by * class_size(m->cls));
    pool->cls[m->cls].cached += by;
    for (struct zbuf_budget *b = &pool->budget[m->budget]; b; b = b->parent)
        __atomic_store_n(&b->cached, b->cached + bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&m->synced, n, __ATOMIC_RELAXED);
    m->low = n;
}

void mag_fetch(struct zbuf_pool *pool, struct mag *m, struct zbuf_budget *b, uint32_t n)
{
    struct zbuf_budget *limit;
    uint32_t room = budget_room(b, m->cls, &limit);
    uint32_t may = budget_may_take(b, m->cls), space = m->cap - m->n;
    n = n < room ? n : room;
    n = n < may ? n : may;
    n = n < space ? n : space;
    struct zbuf *zb[MAG_SLOTS];
    n = store_take(pool, m->cls, zb, n);
    mag_unmark(pool, m);
    /* The store gives them in order of address; taken from the end, they should be so again. */
    for (uint32_t i = 0; i < n; i++) {
        memcpy(&zb[i]->owner, &m->stamp, sizeof m->stamp);
        m->unit[m->n + n - 1 - i] = pool_unit(pool, zb[i]);
    }
    __atomic_store_n(&m->n, m->n + n, __ATOMIC_RELAXED);
    budget_adjust(b, m->cls, (int)n);
    if (m->batch * 2 < mag_slots(m->cls))
        m->batch *= 2;
    mag_set_cap(m, m->batch * 2);
}

void mag_bring(struct zbuf_pool *pool, struct mag *m, unsigned n)
{
    n = n < m->n ? n : m->n;
    budget_adjust(&pool->budget[m->budget], m->cls, -(int)n);
    mag_unmark(pool, m);
    for (unsigned i = 0; i < n; i++)
        store_give(pool, &pool->header[m->unit[i]], m->cls);
    memmove(m->unit, m->unit + n, (m->n - n) * sizeof m->unit[0]);
    __atomic_store_n(&m->n, m->n - n, __ATOMIC_RELAXED);
    if (m->batch * 2 < mag_slots(m->cls))
        m->batch *= 2;
    if (m->cap)
        mag_set_cap(m, m->batch * 2);
}

/* ---- draining */

static void cache_empty(struct zbuf_pool *pool, struct cache *c, const struct zbuf_budget *scope,
                        unsigned *count)
{
    for (struct mag **p = &c->in_use; *p;) {
        struct mag *m = *p;
        struct zbuf_budget *b = &pool->budget[m->budget];
        if (scope && b != scope && b->parent != scope) {
            p = &m->next;
            continue;
        }
        *p = m->next;
        mag_set_cap(m, 0);
        *count += m->n;
        mag_sync(pool, m);
        mag_bring(pool, m, m->n);
        mag_settle(pool, m);
        count_magazine(b, -1u);
        mirror_budget(pool, b);
    }
}

/* Gets all other threads out of their caches, and keeps them out; then lets them in again. */
static void others_stop(struct zbuf_pool *pool, const struct cache *own)
{
    for (struct cache *c = pool->caches; c; c = c->next_in_pool)
        if (c != own)
            cache_set_open(c, pool->slow | SLOW_REVOKED);
#if !ZBUF_TSAN
    if (have_membarrier && syscall(SYS_membarrier, MEMBARRIER_PRIVATE, 0, 0) != 0)
        abort(); /* registered, so it can't fail */
#endif
}
static bool is_out(struct cache *c)
{
#if ZBUF_TSAN
    return __atomic_exchange_n(&c->busy, 1, __ATOMIC_ACQUIRE) == 0;
#else
    if (__atomic_load_n(&c->busy, __ATOMIC_ACQUIRE))
        return false;
    for (const struct mag *m = c->in_use; m; m = m->next)
        if (__atomic_load_n(&m->busy, __ATOMIC_ACQUIRE))
            return false;
    return true;
#endif
}
static bool other_is_out(struct cache *c)
{
    for (unsigned i = 0; i < YIELDS_MAX + NAPS_MAX; i++) {
        if (is_out(c))
            return true;
        if (i < YIELDS_MAX)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    return false;
}
static void others_resume(struct zbuf_pool *pool, const struct cache *own)
{
    for (struct cache *c = pool->caches; c; c = c->next_in_pool)
        if (c != own)
            cache_set_open(c, pool->slow);
}

/* Might anybody but the caller have something at hand? */
static bool others_have(const struct zbuf_pool *pool, const struct cache *own)
{
    for (const struct cache *c = pool->caches; c; c = c->next_in_pool)
        if (c != own && c->in_use)
            return true;
    return false;
}

unsigned pool_drain(struct zbuf_pool *pool, struct cache *own, const struct zbuf_budget *scope)
{
    unsigned count = 0;
    if (scope && scope->magazines == 0 && !pool->depots)
        return 0;
    if (own)
        cache_empty(pool, own, scope, &count);
    bool others = others_have(pool, own);
    if (others) {
        pool->drains++;
        others_stop(pool, own);
        for (struct cache *c = pool->caches; c; c = c->next_in_pool) {
            if (c == own || !other_is_out(c))
                continue;
            cache_empty(pool, c, scope, &count);
#if ZBUF_TSAN
            cache_leave(c);
#endif
        }
    }
    count += depot_drain(pool, scope);
    if (others)
        others_resume(pool, own);
    return count;
}

void pool_set_slow(struct zbuf_pool *pool, uint32_t why, bool on)
{
    pool->slow = on ? pool->slow | why : pool->slow & ~why;
    for (struct cache *c = pool->caches; c; c = c->next_in_pool)
        cache_set_open(c, pool->slow);
}
