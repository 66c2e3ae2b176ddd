/* zbuf_model_threads.h - what zbuf_model_threads_test.c knows of each segment and each thread, and
 * the queues between these. */
#ifndef ZBUF_MODEL_THREADS_H
#define ZBUF_MODEL_THREADS_H

#include <pthread.h>

#include "tests/unit/zbuf_model.h"

#define THREADS_MAX 8u
#define HELD_MAX    (2 * LIVE_MAX)
#define QUEUE       512u
#define REFS_MAX    6u
#define LATE_MAX    20000u /* milliseconds until a promise counts as broken */

/* Budgets: the application's; a family of a fixed ceiling; one for each thread, which only that one
 * draws on, every other of them in the family; and those that all draw on, two of them parents. */
#define FAMILY   1u
#define OWN      2u
#define SHARED   (OWN + THREADS_MAX)
#define PARENTS  2u
#define CHILDREN 4u /* of each */

/* Of the segment that begins at a KiB. The accesses to refs and budget order nothing: what one
 * thread did before another gets a segment is to be seen through the pool alone. */
struct record {
    uint32_t refs;   /* 0 = free */
    uint32_t budget; /* changed only by who has the first reference */
    uint32_t generation;
    uint8_t cls;
    bool shared; /* has had a second reference */
    bool messed; /* its last holder wrote to its header */
    uint64_t stamp;
    struct zbuf *lender; /* a borrowed link's */
};
static struct record record[LIVE_MAX];

struct ref {
    struct zbuf *zb;
    uint64_t stamp;
    bool first; /* the one that may be charged elsewhere */
};

struct queue {
    _Alignas(64) uint32_t in;
    _Alignas(64) uint32_t out;
    struct ref slot[QUEUE];
};
static struct queue queue[THREADS_MAX][THREADS_MAX]; /* from, to */

struct worker {
    _Alignas(64) pthread_t thread;
    unsigned id;
    uint64_t rng, ops, stamps;
    uint32_t held;
    struct ref *ref; /* HELD_MAX */
    struct ref hot;  /* one that all have, or none */
    uint64_t allocs[ZBUF_CLASSES];
    uint64_t refused, late, passed, woken;
    uint64_t doubt;       /* allocations that a refused chain or exchange may have begun with */
    struct budget *waits; /* for a segment of wait_cls; NULL = for nothing */
    unsigned wait_cls;
    uint32_t patience;
};
static struct worker worker[THREADS_MAX];

static unsigned threads;
static bool alone;                 /* alone: all others have stopped */
static uint32_t promised[BUDGETS]; /* live or on their way there or back, of the minimum's class */
static unsigned fashion;           /* the class preferred in this round */

static inline uint32_t rnd(struct worker *w, uint32_t below)
{
    return random_below(&w->rng, below);
}

static inline struct record *record_of(const struct zbuf *zb)
{
    size_t off = (size_t)(zb->first - zbuf_pool_base(m.pool));
    MUST(off < zbuf_pool_size(m.pool) && off % ZBUF_SEG_MIN == 0);
    return &record[off / ZBUF_SEG_MIN];
}

static inline uint32_t refs_of(const struct record *r)
{
    return __atomic_load_n(&r->refs, __ATOMIC_RELAXED);
}

/* ---- promises: counted before a segment is asked for, and until after it has gone back */

static inline void promise_used(uint32_t budget, unsigned cls, int by)
{
    if (cls == m.budget[budget].min_cls)
        __atomic_fetch_add(&promised[budget], (uint32_t)by, __ATOMIC_RELAXED);
}

static inline bool is_own(const struct worker *w, const struct budget *b)
{
    return b == &m.budget[OWN + w->id];
}

/* ---- segments */

static inline void stamp(struct zbuf *zb, uint64_t value, bool borrowed)
{
    zb->user = value;
    if (borrowed)
        return;
    memcpy(zb->data, &value, sizeof value);
    memcpy(zbuf_end(zb) - sizeof value, &value, sizeof value);
}

static inline void inspect(const struct zbuf *zb, uint64_t value)
{
    const struct record *r = record_of(zb);
    uint64_t front = value, back = value;
    if (!r->lender) {
        memcpy(&front, zb->first + ZBUF_OVERHEAD, sizeof front);
        memcpy(&back, zbuf_end(zb) - sizeof back, sizeof back);
    }
    MUST(refs_of(r) > 0 && r->stamp == value);
    MUST(zb->user == value && front == value && back == value);
    MUST(zb->size == size_of(r->cls) && zb->generation == r->generation);
    MUST(zbuf_of(m.pool, zb->first + ZBUF_GUARD) == zb);
    MUST(!r->lender || zbuf_of(m.pool, zb->data) == r->lender);
}

static inline void keep(struct worker *w, struct zbuf *zb, uint64_t value, bool first)
{
    MUST(w->held < HELD_MAX);
    w->ref[w->held++] = (struct ref){zb, value, first};
}

/* zb has just been allocated. */
static inline void adopt(struct worker *w, struct zbuf *zb, uint32_t budget, struct zbuf *lender)
{
    struct record *r = record_of(zb);
    uint32_t none = 0;
    MUST(__atomic_compare_exchange_n(&r->refs, &none, 1, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED)); /* or it has been handed out twice */
    MUST(zb->cls < ZBUF_CLASSES && zb->size == size_of(zb->cls) &&
         (uintptr_t)zb->first % zb->size == 0);
    MUST(zbuf_refcount(zb) == 1 && !zb->next && !zb->headroom_busy);
    MUST(lender || (zb->len == 0 && zb->data == zb->first + ZBUF_OVERHEAD));
    MUST(zb->owner == zbuf_budget_id(m.budget[budget].b));
    MUST(zb->generation != r->generation || !r->messed);
    r->budget = budget;
    r->generation = zb->generation;
    r->cls = zb->cls;
    r->shared = r->messed = false;
    r->stamp = (uint64_t)(w->id + 1) << 56 | ++w->stamps;
    r->lender = lender;
    stamp(zb, r->stamp, lender != NULL);
    keep(w, zb, r->stamp, true);
    w->allocs[zb->cls]++;
    promise_used(budget, zb->cls, 1);
    if (alone)
        enter(slab_of(zb), zb->cls, &m.budget[budget]);
}

/* A reference is about to be given back. True if it is the last: then nobody is to look at the
 * record after this. */
static inline bool unref(struct zbuf *zb, uint32_t *budget)
{
    struct record *r = record_of(zb);
    unsigned cls = r->cls;
    if (__atomic_fetch_sub(&r->refs, 1, __ATOMIC_RELAXED) != 1)
        return false;
    *budget = __atomic_load_n(&r->budget, __ATOMIC_RELAXED);
    if (alone)
        leave(slab_of(zb), cls, &m.budget[*budget]);
    return true;
}

/* What a reference's end was the end of. */
struct ended {
    uint32_t n, budget[2];
    unsigned cls[2];
};

/* All but the call itself. Who has the only reference leaves a mess. */
static inline struct ended end_ref(struct worker *w, struct ref ref)
{
    struct zbuf *zb = ref.zb, *lender = record_of(zb)->lender;
    struct ended e = {0};
    inspect(zb, ref.stamp);
    if (!record_of(zb)->shared && !lender) {
        stamp(zb, ~ref.stamp, false);
        if (rnd(w, 8) == 0) {
            record_of(zb)->messed = true;
            zb->data += 5;
            zb->len = 77;
            zb->next = zb;
            zb->headroom_busy = 1;
        }
    }
    e.cls[0] = zb->cls;
    if (!unref(zb, &e.budget[0]))
        return e;
    e.n = 1;
    if (lender) {
        e.cls[1] = lender->cls;
        e.n += unref(lender, &e.budget[1]);
    }
    return e;
}

static inline void has_ended(const struct ended *e)
{
    for (uint32_t i = 0; i < e->n; i++)
        promise_used(e->budget[i], e->cls[i], -1);
}

static inline void give_back(struct worker *w, struct ref ref)
{
    bool borrowed = record_of(ref.zb)->lender != NULL;
    struct ended e = end_ref(w, ref);
    if (!borrowed && rnd(w, 8) == 0)
        zbuf_tx_done(m.pool, ref.zb->first + ZBUF_GUARD);
    else
        zbuf_free(ref.zb);
    has_ended(&e);
}

static inline struct ref take_out(struct worker *w, uint32_t i)
{
    struct ref ref = w->ref[i];
    w->ref[i] = w->ref[--w->held];
    return ref;
}

static inline struct ref *any_ref(struct worker *w)
{
    return w->held ? &w->ref[rnd(w, w->held)] : NULL;
}

/* ---- queues */

static inline bool put(struct worker *w, unsigned to, struct ref ref)
{
    struct queue *q = &queue[w->id][to];
    uint32_t in = q->in;
    if (in - __atomic_load_n(&q->out, __ATOMIC_ACQUIRE) == QUEUE)
        return false;
    q->slot[in % QUEUE] = ref;
    __atomic_store_n(&q->in, in + 1, __ATOMIC_RELEASE);
    w->passed++;
    return true;
}

static inline bool get(struct worker *w, unsigned from, struct ref *ref)
{
    struct queue *q = &queue[from][w->id];
    uint32_t out = q->out;
    if (out == __atomic_load_n(&q->in, __ATOMIC_ACQUIRE))
        return false;
    *ref = q->slot[out % QUEUE];
    __atomic_store_n(&q->out, out + 1, __ATOMIC_RELEASE);
    inspect(ref->zb, ref->stamp);
    return true;
}

static inline void op_receive(struct worker *w)
{
    struct ref ref;
    unsigned from = rnd(w, threads);
    for (unsigned n = rnd(w, 64); n > 0 && w->held < HELD_MAX && get(w, from, &ref); n--)
        w->ref[w->held++] = ref;
}

static inline void op_send(struct worker *w)
{
    if (w->held == 0)
        return;
    uint32_t i = rnd(w, w->held);
    if (put(w, rnd(w, threads), w->ref[i]))
        take_out(w, i);
}

#endif
