/* zbuf_model_threads_ops.h - the operations of zbuf_model_threads_test.c. Of each the outcome is
 * foretold if all other threads have stopped (`alone`), and else only what must be so anyway. */
#ifndef ZBUF_MODEL_THREADS_OPS_H
#define ZBUF_MODEL_THREADS_OPS_H

#include <unistd.h>

#include "tests/unit/zbuf_model_threads.h"

/* ---- allocation */

static inline unsigned any_class(struct worker *w)
{
    return rnd(w, 4) ? fashion : rnd(w, ZBUF_CLASSES);
}

/* One that w may draw on. */
static inline struct budget *any_budget(struct worker *w)
{
    uint32_t n = rnd(w, BUDGETS - SHARED + 6);
    return &m.budget[n < BUDGETS - SHARED        ? SHARED + n
                     : n == BUDGETS - SHARED     ? FAMILY
                     : n <= BUDGETS - SHARED + 2 ? OWN + w->id
                                                 : 0];
}

/* Within its minimum nobody is refused. It may have to wait until a thread that was interrupted in
 * the middle of a call goes on: that is not expected, and counted. */
static inline struct zbuf *insist(struct worker *w, struct budget *b)
{
    struct zbuf *zb = NULL;
    for (uint32_t ms = 0; !zb && ms < LATE_MAX; ms++) {
        w->late++;
        usleep(1000);
        zb = zbuf_alloc_from(b->b, bytes_for(&w->rng, b->min_cls));
    }
    MUST(zb);
    return zb;
}

static inline bool op_alloc_of(struct worker *w, struct budget *b, unsigned want)
{
    uint32_t index = (uint32_t)(b - m.budget);
    bool entitled = false;
    unsigned told = alone ? foretell(b, want) : 0;
    if (is_own(w, b) && want == b->min_cls)
        entitled = __atomic_load_n(&promised[index], __ATOMIC_RELAXED) < b->min;
    struct zbuf *zb = zbuf_alloc_from(b->b, bytes_for(&w->rng, want));
    MUST(zb || errno == ENOBUFS);
    MUST(!alone || (zb ? zb->cls : ZBUF_CLASSES) == told);
    if (!zb && entitled)
        zb = insist(w, b);
    if (zb)
        adopt(w, zb, index, NULL);
    else
        w->refused++;
    return zb != NULL;
}

static inline void op_alloc(struct worker *w)
{
    struct budget *b = any_budget(w);
    op_alloc_of(w, b, is_own(w, b) ? b->min_cls : any_class(w));
}

static inline unsigned op_alloc_bulk(struct worker *w, struct budget *b, unsigned want)
{
    struct zbuf *zb[BULK_MAX];
    unsigned n = 1 + rnd(w, BULK_MAX);
    unsigned got = zbuf_alloc_bulk(b->b, bytes_for(&w->rng, want), zb, n);
    for (unsigned i = 0; i < got; i++) {
        MUST(!alone || zb[i]->cls == foretell(b, want));
        adopt(w, zb[i], (uint32_t)(b - m.budget), NULL);
    }
    MUST(!alone || got == n || foretell(b, want) == ZBUF_CLASSES);
    w->refused += got < n;
    return got;
}

static inline void op_chain(struct worker *w)
{
    struct budget *b = any_budget(w);
    size_t bytes = 1 + rnd(w, 400000), len = 0;
    uint32_t frame = rnd(w, 2) ? 1000 + rnd(w, 9000) : 0, links = 0;
    bool told = alone && chain_told(b, bytes, frame);
    struct zbuf *chain = zbuf_chain_alloc(b->b, bytes, frame);
    MUST(!alone || told == (chain != NULL));
    if (!chain) {
        MUST(errno == ENOBUFS);
        w->doubt += 1 + bytes / (ZBUF_SEG_MIN - ZBUF_OVERHEAD);
        return;
    }
    for (struct zbuf *zb = chain, *next; zb; zb = next, links++) {
        next = zb->next;
        len += zb->len;
        MUST(zb->len <= zbuf_room(zb) && (!frame || zb->len == frame || !next));
        zb->next = NULL;
        zb->len = 0;
        adopt(w, zb, (uint32_t)(b - m.budget), NULL);
    }
    MUST(len == bytes && (!frame || links == (bytes + frame - 1) / frame));
}

/* ---- references */

/* A thread that is the only one to have a reference to zb is about to have two. */
static inline void share(struct zbuf *zb)
{
    struct record *r = record_of(zb);
    if (r->shared)
        return;
    zbuf_share(zb);
    r->shared = true;
}

static inline void op_ref(struct worker *w)
{
    const struct ref *ref = any_ref(w);
    if (!ref || refs_of(record_of(ref->zb)) >= REFS_MAX || w->held == HELD_MAX)
        return;
    share(ref->zb);
    __atomic_fetch_add(&record_of(ref->zb)->refs, 1, __ATOMIC_RELAXED);
    MUST(zbuf_ref(ref->zb) == ref->zb);
    struct ref second = {ref->zb, ref->stamp, false};
    if (!put(w, rnd(w, threads), second))
        w->ref[w->held++] = second;
}

/* A link that borrows, by splitting who is alone or by cloning anyone. */
static inline void op_borrow(struct worker *w)
{
    const struct ref *ref = any_ref(w);
    struct budget *b = any_budget(w);
    if (!ref || w->held == HELD_MAX)
        return;
    struct zbuf *zb = ref->zb, *link = NULL;
    struct zbuf *from = record_of(zb)->lender ? record_of(zb)->lender : zb;
    if (refs_of(record_of(from)) >= REFS_MAX)
        return;
    bool split = from == zb && !record_of(zb)->shared && rnd(w, 2),
         told = !alone || foretell(b, 0) < ZBUF_CLASSES;
    share(from);
    __atomic_fetch_add(&record_of(from)->refs, 1, __ATOMIC_RELAXED);
    if (split) {
        zb->len = 200;
        MUST(zbuf_chain_split(zb, 100, b->b, &link) == (link ? 0 : -ENOBUFS));
        MUST(!link || (link->data == zb->data + 100 && link->len == 100 && zb->len == 100));
        zb->len = 0;
    } else {
        link = zbuf_chain_clone(zb, b->b);
        MUST(!link || link->data == zb->data);
    }
    MUST(!alone || told == (link != NULL));
    if (link)
        adopt(w, link, (uint32_t)(b - m.budget), from);
    else
        __atomic_fetch_sub(&record_of(from)->refs, 1, __ATOMIC_RELAXED);
}

static inline void op_free(struct worker *w)
{
    if (w->held)
        give_back(w, take_out(w, rnd(w, w->held)));
}

static inline unsigned op_free_bulk(struct worker *w)
{
    struct zbuf *zb[BULK_MAX];
    struct ended e[BULK_MAX];
    unsigned n = 0, most = 1 + rnd(w, BULK_MAX);
    for (; n < most && w->held; n++) {
        struct ref ref = take_out(w, rnd(w, w->held));
        zb[n] = ref.zb;
        e[n] = end_ref(w, ref);
    }
    zbuf_free_bulk(zb, n);
    for (unsigned i = 0; i < n; i++)
        has_ended(&e[i]);
    return n;
}

/* ---- charges and budgets */

static inline void op_charge(struct worker *w)
{
    const struct ref *ref = any_ref(w);
    struct budget *to = any_budget(w);
    if (!ref || !ref->first)
        return;
    struct zbuf *zb = ref->zb;
    struct record *r = record_of(zb);
    uint32_t from = r->budget, index = (uint32_t)(to - m.budget);
    bool told = alone && recharge(&m.budget[from], to, zb->cls);
    promise_used(index, zb->cls, 1);
    int err = zbuf_charge(zb, to->b);
    MUST(err == 0 || err == -ENOBUFS);
    MUST(!alone || told == (err == 0));
    if (err == 0)
        __atomic_store_n(&r->budget, index, __ATOMIC_RELAXED);
    promise_used(err ? index : from, zb->cls, -1);
    MUST(zb->owner == zbuf_budget_id(m.budget[r->budget].b));
}

static inline void op_exchange(struct worker *w)
{
    const struct ref *ref = any_ref(w);
    struct budget *to = any_budget(w);
    if (!ref || !ref->first)
        return;
    struct zbuf *zb = ref->zb;
    struct record *r = record_of(zb);
    uint32_t from = r->budget, index = (uint32_t)(to - m.budget);
    bool told = alone && foretell(to, zb->cls) == zb->cls;
    promise_used(index, zb->cls, 1);
    struct zbuf *fresh = zbuf_exchange(zb, to->b);
    MUST(fresh || errno == ENOBUFS);
    MUST(!alone || told == (fresh != NULL));
    if (!fresh) {
        promise_used(index, zb->cls, -1);
        w->doubt++; /* perhaps one too large, which went back */
        return;
    }
    __atomic_store_n(&r->budget, index, __ATOMIC_RELAXED);
    if (alone) {
        hold(&m.budget[from], zb->cls, -1);
        hold(to, zb->cls, 1);
    }
    adopt(w, fresh, from, NULL);
    promise_used(from, zb->cls, -1);
}

/* A family's limits are one thread's to change, as what a child's minimum takes of its parent's
 * depends on the order. */
static inline struct budget *mine_to_change(struct worker *w)
{
    uint32_t n = rnd(w, BUDGETS - SHARED);
    uint32_t family = n < PARENTS ? n : n < PARENTS * (1 + CHILDREN) ? n % PARENTS : n;
    return family % threads == w->id ? &m.budget[SHARED + n] : NULL;
}

static inline void op_resize(struct worker *w)
{
    struct budget *b = mine_to_change(w);
    if (!b)
        return;
    uint32_t n = rnd(w, 2) ? rnd(w, segs_of(b->min_cls) / 2) : 0;
    uint64_t max = rnd(w, 2) ? 0 : rnd(w, 4 * ZBUF_SLAB);
    int told = alone                             ? resize(b, n, max)
               : !fits_under(n, b->min_cls, max) ? -EINVAL
               : n < b->given                    ? -EBUSY
                                                 : 0;
    int err = zbuf_budget_resize(b->b, (size_t)n * size_of(b->min_cls), max);
    MUST(err == told || (!alone && !told && err == -ENOBUFS));
    if (alone || err)
        return;
    promise(b, n, UINT32_MAX);
    b->max = max;
}

static inline int open_budget(uint32_t index, uint32_t n)
{
    struct budget *b = &m.budget[index];
    struct zbuf_budget_config cfg = {.name = "model",
                                     .parent =
                                         b->parent == NO_PARENT ? NULL : m.budget[b->parent].b,
                                     .min_bytes = (size_t)n * size_of(b->min_cls),
                                     .min_seg = size_of(b->min_cls),
                                     .max_bytes = b->max};
    b->b = zbuf_budget_open(m.pool, &cfg);
    if (b->b)
        promise(b, n, UINT32_MAX);
    return b->b ? 0 : -errno;
}

/* A thread's own budget comes and goes, if it is not in the family. */
static inline void op_own(struct worker *w)
{
    struct budget *b = &m.budget[OWN + w->id];
    if (b->parent != NO_PARENT)
        return;
    int err = zbuf_budget_destroy(b->b);
    MUST(err == 0 || err == -EBUSY);
    MUST(!alone || (err == 0) == (b->used == 0));
    if (err)
        return;
    if (w->waits == b)
        w->waits = NULL;
    if (open_budget(OWN + w->id, rnd(w, 128)) != 0)
        MUST(open_budget(OWN + w->id, 0) == 0);
}

/* ---- waiting */

static inline void op_wait(struct worker *w)
{
    struct budget *b = rnd(w, 4) ? mine_to_change(w) : &m.budget[OWN + w->id];
    unsigned want = any_class(w);
    if (w->waits || !b)
        return;
    int err = zbuf_budget_wait(b->b, bytes_for(&w->rng, want));
    MUST(err == 0 || err == 1);
    MUST(!alone || err == (foretell(b, want) < ZBUF_CLASSES));
    if (err)
        return;
    w->waits = b;
    w->wait_cls = want;
    w->patience = 1 + rnd(w, 1000);
}

static inline void stop_waiting(struct worker *w)
{
    if (w->waits)
        zbuf_budget_wait_cancel(w->waits->b);
    w->waits = NULL;
}

static inline void poll_wait(struct worker *w)
{
    if (!w->waits)
        return;
    if (zbuf_budget_ready(w->waits->b)) {
        w->woken++;
        w->waits = NULL;
    } else if (--w->patience == 0) {
        stop_waiting(w);
    }
}

/* With all stopped: who has not been told is right to wait. */
static inline void look_at_waiters(const struct zbuf_budget_stat *st, unsigned n)
{
    for (unsigned t = 0; t < threads; t++) {
        struct worker *w = &worker[t];
        bool waiting = false;
        for (unsigned k = 0; k < n && w->waits; k++)
            waiting = waiting || (st[k].id == zbuf_budget_id(w->waits->b) && st[k].waiting);
        if (waiting) {
            MUST(foretell(w->waits, w->wait_cls) == ZBUF_CLASSES);
        } else if (w->waits) {
            MUST(zbuf_budget_ready(w->waits->b));
            w->woken++;
            w->waits = NULL;
        }
    }
}

#endif
