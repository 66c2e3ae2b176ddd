/* depot.c - full batches on their way from one thread's magazine to another's.
 *
 * Where one thread allocates and another frees, every segment would pass through the store, one by
 * one, under the lock. Instead the one that frees leaves whole batches here and the one that
 * allocates collects them. A depot is for one budget and one class, as a magazine is, and what is
 * in it stays charged to that budget. It is made when a magazine overflows and there is another
 * thread.
 *
 * It is a ring of bays, each for one batch. Who wants to fill (empty) one takes the next ticket of
 * `in` (`out`); whose turn it is in a bay is written in the bay. So those who fill share `in` with
 * nobody but each other, those who empty `out`, and all that goes from one core to another is the
 * bay itself. The ring has space for as much as two threads are likely to be apart: what does not
 * fit goes through the store, at fifty times the price.
 *
 * What costs most between two cores is a line that both write. Were a segment's mark (LIVE() in
 * internal.h) cleared by the one who frees and set by the one who allocates, it would be such a
 * line. So the one who leaves a batch here marks it as live again, while the marks are in its own
 * core, and the one who collects it finds them as allocation wants them, and need not touch them
 * (`marked` in its magazine, and no longer than until it frees one itself). The price is that
 * meanwhile a second free of such a segment is taken for a first one. It comes out when both are
 * brought to the store.
 *
 * A thread uses a bay only between cache_enter() and cache_leave(): so whoever drains the pool
 * finds no bay half filled. */
#include "internal.h"

#define DEPOT_BYTES (4u * 1024 * 1024) /* most that one holds, */
#define BAYS_MAX    32u                /* in at most so many bays; */
#define BAYS_CHILD  4u                 /* a connection's has fewer, as there are many of those */
#define CLAIMS_MAX  16u                /* others who may be quicker, before it is given up */

static void mark(const struct zbuf_pool *pool, const struct mag *m, uint32_t n)
{
    uint8_t *live = pool->live; /* not to be read again after each byte that is written */
    const uint8_t code = m->live;
#pragma GCC unroll 8
    for (uint32_t i = 0; i < n; i++)
        __atomic_store_n(&live[m->unit[i]], code, __ATOMIC_RELAXED);
}

/* Their order turned round. `restrict`, or compilers would not do it by vectors. */
static void copy_turned(uint32_t *restrict to, const uint32_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[n - 1 - i];
}

/* Asks for the lines of a bay before they are needed. `writing` is worth a call of its own only to
 * who has the instruction for it. Inlined, or a compiler would take it for a call without effect.
 */
#if defined(__x86_64__)
#define HAS_PREFETCHW __attribute__((target("prfchw")))
#else
#define HAS_PREFETCHW
#endif
static inline __attribute__((always_inline)) void expect(const struct bay *bay, uint32_t segs,
                                                         bool writing)
{
    const char *line = (const char *)bay;
    for (size_t i = 0; i < offsetof(struct bay, unit) + segs * sizeof(uint32_t); i += 64)
        if (writing)
            __builtin_prefetch(line + i, 1);
        else
            __builtin_prefetch(line + i, 0);
}

static struct depot *depot_of(const struct zbuf_pool *pool, const struct mag *m)
{
    return __atomic_load_n(&pool->depot[m->budget * ZBUF_CLASSES + m->cls], __ATOMIC_ACQUIRE);
}

static struct bay *bay_at(struct depot *d, uint32_t ticket)
{
    return &d->bay[ticket & (d->bays - 1)];
}

/* Takes the next ticket of `in` (phase 0) or `out` (phase 1) and returns its bay. NULL if that one
 * is not to be had: the depot is full, or empty, or another thread is still at work in it. */
static struct bay *claim(struct depot *d, uint32_t *tickets, uint32_t phase, uint32_t *ticket)
{
    uint32_t t = __atomic_load_n(tickets, __ATOMIC_RELAXED);
    for (unsigned tries = 0; tries < CLAIMS_MAX; tries++) {
        struct bay *bay = bay_at(d, t);
        if (__atomic_load_n(&bay->turn, __ATOMIC_ACQUIRE) != t + phase)
            return NULL;
        if (__atomic_compare_exchange_n(tickets, &t, t + 1, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            *ticket = t;
            return bay;
        }
    }
    return NULL;
}

/* The turn of the one who empties it, and then of the one who fills it a lap later. */
static void filled(struct bay *bay, uint32_t ticket)
{
    __atomic_store_n(&bay->turn, ticket + 1, __ATOMIC_RELEASE);
}
static void emptied(const struct depot *d, struct bay *bay, uint32_t ticket)
{
    __atomic_store_n(&bay->turn, ticket + d->bays, __ATOMIC_RELEASE);
}

void mag_unmark(const struct zbuf_pool *pool, struct mag *m)
{
    if (!m->marked)
        return;
    for (uint32_t i = 0; i < m->n; i++)
        unmark(pool, m->unit[i]);
    m->allocs -= m->n;
    m->marked = 0;
    mag_set_cap(m, m->cap);
}

HAS_PREFETCHW bool depot_put(struct zbuf_pool *pool, struct mag *m)
{
    struct depot *d = depot_of(pool, m);
    uint32_t ticket;
    if (!d || m->cap == 0 || m->n < d->batch)
        return false;
    struct bay *bay = claim(d, &d->in, 0, &ticket);
    if (!bay)
        return false;
    const uint32_t batch = d->batch, left = m->n - batch;
    assert(!m->marked); /* since the first that was freed on top of them */
    mark(pool, m, batch);
    memcpy(bay->unit, m->unit, batch * sizeof m->unit[0]);
    filled(bay, ticket);
    expect(bay_at(d, ticket + 1), batch, true);
    memmove(m->unit, m->unit + batch, left * sizeof m->unit[0]);
    mag_note_low(m, left);
    __atomic_store_n(&m->n, left, __ATOMIC_RELAXED);
    return true;
}

bool depot_get(struct zbuf_pool *pool, struct mag *m)
{
    struct depot *d = depot_of(pool, m);
    uint32_t ticket;
    if (!d || m->cap == 0 || m->n > 0)
        return false;
    struct bay *bay = claim(d, &d->out, 1, &ticket);
    if (!bay)
        return false;
    /* They are taken from the end: so they are allocated in the order in which they were freed.
     * With each batch turned round, neighbours would part company until the order is a random one,
     * and each segment's marks (birth_of()) in another cache line than the one before. */
    const uint32_t batch = d->batch;
    copy_turned(m->unit, bay->unit, batch);
    emptied(d, bay, ticket);
    expect(bay_at(d, ticket + 1), batch, false);
    m->allocs += batch;
    __atomic_store_n(&m->n, batch, __ATOMIC_RELAXED);
    m->batch = batch; /* a thread that only allocates never had a reason to grow its own */
    m->marked = 1;
    mag_set_cap(m, 2 * batch);
    return true;
}

/* Those who are at work in a bay may be counted here and in their magazine, or in neither. */
static uint32_t depot_count(const struct depot *d)
{
    uint32_t out = __atomic_load_n(&d->out, __ATOMIC_RELAXED);
    uint32_t full = __atomic_load_n(&d->in, __ATOMIC_RELAXED) - out;
    return (full < d->bays ? full : d->bays) * d->batch;
}

uint32_t depot_segs(const struct zbuf_pool *pool, uint16_t budget, unsigned cls)
{
    const struct depot *d =
        __atomic_load_n(&pool->depot[budget * ZBUF_CLASSES + cls], __ATOMIC_ACQUIRE);
    return d ? depot_count(d) : 0;
}

/* ---- under the pool's lock */

void depot_make(struct zbuf_pool *pool, const struct mag *m)
{
    struct depot **at = &pool->depot[m->budget * ZBUF_CLASSES + m->cls];
    if (*at || m->batch * 2 < mag_slots(m->cls))
        return; /* there is one, or the magazine may still grow */
    uint32_t bays = DEPOT_BYTES / (m->batch * class_size(m->cls));
    bays = bays < BAYS_MAX ? bays : BAYS_MAX;
    if (pool->budget[m->budget].parent && bays > BAYS_CHILD)
        bays = BAYS_CHILD;
    assert((bays & (bays - 1)) == 0); /* bay_at() */
    struct depot *d = aligned_alloc(64, sizeof *d + bays * sizeof d->bay[0]);
    if (!d)
        return;
    *d = (struct depot){
        .next = pool->depots, .budget = m->budget, .cls = m->cls, .batch = m->batch, .bays = bays};
    for (uint32_t i = 0; i < bays; i++)
        d->bay[i].turn = i;
    pool->depots = d;
    __atomic_store_n(at, d, __ATOMIC_RELEASE);
}

/* The class's account of what lies in depots; returns what is in this one. */
static uint32_t note(struct zbuf_pool *pool, struct depot *d)
{
    uint32_t n = depot_count(d);
    pool->cls[d->cls].in_depots += n - d->synced;
    return d->synced = n;
}

uint32_t depot_sync(struct zbuf_pool *pool, const struct mag *m)
{
    struct depot *d = depot_of(pool, m);
    return d ? note(pool, d) : 0;
}

static bool in_scope(const struct zbuf_pool *pool, const struct depot *d,
                     const struct zbuf_budget *scope)
{
    const struct zbuf_budget *b = &pool->budget[d->budget];
    return !scope || b == scope || b->parent == scope;
}

unsigned depot_drain(struct zbuf_pool *pool, const struct zbuf_budget *scope)
{
    unsigned total = 0;
    for (struct depot *d = pool->depots; d; d = d->next) {
        uint32_t ticket;
        if (!in_scope(pool, d, scope))
            continue;
        for (struct bay *bay; (bay = claim(d, &d->out, 1, &ticket)) != NULL;) {
            budget_adjust(&pool->budget[d->budget], d->cls, -(int)d->batch);
            for (uint32_t i = 0; i < d->batch; i++) {
                unmark(pool, bay->unit[i]);
                store_give(pool, &pool->header[bay->unit[i]], d->cls);
            }
            total += d->batch;
            emptied(d, bay, ticket);
        }
        note(pool, d);
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
