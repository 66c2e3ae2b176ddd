/* zbuf_model.h - what a pool must do, as a simple model foretells it; for zbuf_model_test.c and
 * zbuf_model_threads_test.c.
 *
 * The model knows the rules and nothing of how the pool works: magazines, stores and bitmaps don't
 * exist in it. It knows how many segments are live in each slab, who holds how many of each class,
 * and what is promised to whom. From that follows for each request whether it must succeed, and
 * with which class: the smallest that fits of which there is a segment free, in a slab in use or in
 * an empty one, that is not needed to keep a promise. */
#ifndef ZBUF_MODEL_H
#define ZBUF_MODEL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "zbuf/zbuf.h"

#define SLABS     12u
#define SEGS_1K   (ZBUF_SLAB / ZBUF_SEG_MIN)
#define BUDGETS   24u
#define LIVE_MAX  (SLABS * SEGS_1K)
#define BULK_MAX  40u
#define NO_PARENT UINT32_MAX

struct budget {
    struct zbuf_budget *b;
    uint32_t parent, children;
    unsigned min_cls;
    uint32_t min, carved, given;
    uint64_t max, used; /* with children */
    uint32_t held[ZBUF_CLASSES];
};

static struct {
    struct zbuf_pool *pool;
    uint32_t live[SLABS];           /* segments, by slab */
    unsigned cls[SLABS];            /* of the live ones in it */
    uint32_t partial[ZBUF_CLASSES]; /* free segments in slabs with live ones */
    uint32_t empty;                 /* slabs */
    struct budget budget[BUDGETS];
} m;

static _Noreturn void fail(const char *what); /* says how to repeat it, and ends the program */
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fail("not so: " #cond);                                                                \
    } while (0)

static inline uint32_t random_below(uint64_t *state, uint32_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(((*state >> 32) * below) >> 32);
}

/* The argument or, where there is none, what tests/run or else the clock says. */
static inline uint64_t seed_from(const char *argument)
{
    const char *fresh = getenv("FRESH");
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return argument          ? strtoull(argument, NULL, 10)
           : fresh && *fresh ? strtoull(fresh, NULL, 10)
                             : (uint64_t)ts.tv_nsec;
}

static inline uint32_t size_of(unsigned cls)
{
    return ZBUF_SEG_MIN << cls;
}
static inline uint32_t segs_of(unsigned cls)
{
    return SEGS_1K >> cls;
}
static inline uint32_t above(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}

/* ---- promises */

/* What is promised of each class and not taken: first a child's own, then its parent's. */
static inline void unmet(uint32_t out[ZBUF_CLASSES])
{
    uint32_t spill[BUDGETS] = {0};
    memset(out, 0, ZBUF_CLASSES * sizeof *out);
    for (uint32_t i = 0; i < BUDGETS; i++) {
        const struct budget *b = &m.budget[i];
        if (!b->b || b->parent == NO_PARENT)
            continue;
        out[b->min_cls] += above(b->min, b->held[b->min_cls]);
        unsigned c = m.budget[b->parent].min_cls;
        spill[b->parent] += above(b->held[c], b->min_cls == c ? b->min : 0);
    }
    for (uint32_t i = 0; i < BUDGETS; i++) {
        const struct budget *b = &m.budget[i];
        if (b->b && b->parent == NO_PARENT)
            out[b->min_cls] += above(b->min - b->given, b->held[b->min_cls] + spill[i]);
    }
}

/* Could all that is promised be handed out, with these free segments and empty slabs? */
static inline bool keepable(const uint32_t partial[ZBUF_CLASSES], uint32_t empty)
{
    uint32_t need[ZBUF_CLASSES], slabs = 0;
    unmet(need);
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        slabs += (above(need[c], partial[c]) + segs_of(c) - 1) / segs_of(c);
    return slabs <= empty;
}

static inline void hold(struct budget *b, unsigned cls, int n)
{
    b->held[cls] += (uint32_t)n;
    b->used += (uint64_t)((int64_t)n * size_of(cls));
    if (b->parent != NO_PARENT)
        m.budget[b->parent].used += (uint64_t)((int64_t)n * size_of(cls));
}

/* Under a parent's ceiling there is room for what all its children use and are promised. */
static inline bool within_ceiling(struct budget *b, unsigned cls)
{
    uint32_t top = b->parent == NO_PARENT ? (uint32_t)(b - m.budget) : b->parent;
    const struct budget *t = &m.budget[top];
    if (b->max && b != t && b->used + size_of(cls) > b->max)
        return false;
    if (!t->max)
        return true;
    hold(b, cls, 1);
    uint64_t sum = t->used;
    for (uint32_t i = 0; i < BUDGETS; i++) {
        const struct budget *c = &m.budget[i];
        if (c->b && c->parent == top)
            sum += (uint64_t)above(c->min, c->held[c->min_cls]) * size_of(c->min_cls);
    }
    hold(b, cls, -1);
    return sum <= t->max;
}

static inline bool can_have(struct budget *b, unsigned cls)
{
    uint32_t partial[ZBUF_CLASSES], empty = m.empty;
    memcpy(partial, m.partial, sizeof partial);
    if (partial[cls] > 0) {
        partial[cls]--;
    } else if (empty > 0) {
        empty--;
        partial[cls] = segs_of(cls) - 1;
    } else {
        return false;
    }
    hold(b, cls, 1);
    bool ok = keepable(partial, empty);
    hold(b, cls, -1);
    return ok;
}

/* The class that a request must get; ZBUF_CLASSES if it must be refused. */
static inline unsigned foretell(struct budget *b, unsigned want)
{
    for (unsigned cls = want; cls < ZBUF_CLASSES; cls++)
        if (within_ceiling(b, cls) && can_have(b, cls))
            return cls;
    return ZBUF_CLASSES;
}

/* A child's promise is carved out of its parent's as far as that goes, or as far as `carve`. */
static inline void promise(struct budget *b, uint32_t n, uint32_t carve)
{
    struct budget *p = b->parent == NO_PARENT ? NULL : &m.budget[b->parent];
    b->min = n;
    if (!p)
        return;
    p->given -= b->carved;
    uint32_t left = p->min_cls == b->min_cls ? p->min - p->given : 0;
    left = left < carve ? left : carve;
    b->carved = n < left ? n : left;
    p->given += b->carved;
}

/* Nobody is promised what his own ceiling would refuse. */
static inline bool fits_under(uint32_t n, unsigned cls, uint64_t max)
{
    return !max || (uint64_t)n * size_of(cls) <= max;
}

/* ---- what the pool did, told to the model */

static inline uint32_t slab_of(const struct zbuf *zb)
{
    return (uint32_t)((zb->first - zbuf_pool_base(m.pool)) / ZBUF_SLAB);
}

/* A segment of slab s is live, and held by b; and is not any more. */
static inline void enter(uint32_t s, unsigned cls, struct budget *b)
{
    MUST(s < SLABS);
    if (m.live[s]++ == 0) {
        m.empty--;
        m.cls[s] = cls;
        m.partial[cls] += segs_of(cls);
    }
    MUST(m.cls[s] == cls);
    MUST(m.partial[cls] > 0);
    m.partial[cls]--;
    hold(b, cls, 1);
}

static inline void leave(uint32_t s, unsigned cls, struct budget *b)
{
    hold(b, cls, -1);
    m.partial[cls]++;
    if (--m.live[s] == 0) {
        m.partial[cls] -= segs_of(cls);
        m.empty++;
    }
}

/* Whether the charge for one segment could be moved; if so, it is. */
static inline bool recharge(struct budget *from, struct budget *to, unsigned cls)
{
    if (from == to)
        return true;
    hold(from, cls, -1);
    bool ok = within_ceiling(to, cls);
    hold(to, cls, 1);
    ok = ok && keepable(m.partial, m.empty);
    if (!ok) {
        hold(to, cls, -1);
        hold(from, cls, 1);
    }
    return ok;
}

static inline unsigned class_of(size_t bytes)
{
    unsigned cls = 0;
    while (size_of(cls) - ZBUF_OVERHEAD < bytes)
        cls++;
    return cls;
}

/* Whether a chain is to be had: of frames, one for each; else as large as there are, and once a
 * size is not there, smaller. What it would take is taken, and then put back. */
static inline bool chain_told(struct budget *b, size_t bytes, size_t frame)
{
    struct budget *p = b->parent == NO_PARENT ? b : &m.budget[b->parent], own = *b, parents = *p;
    uint32_t partial[ZBUF_CLASSES], empty = m.empty;
    size_t piece = frame ? frame : ZBUF_SEG_MAX - ZBUF_OVERHEAD;
    bool ok = true;
    memcpy(partial, m.partial, sizeof partial);
    while (ok && bytes > 0) {
        size_t want = frame || piece < bytes ? piece : bytes;
        unsigned best = class_of(want), cls = foretell(b, best);
        if (cls < ZBUF_CLASSES) {
            size_t room = frame ? frame : size_of(cls) - ZBUF_OVERHEAD;
            bytes -= bytes < room ? bytes : room;
            hold(b, cls, 1);
            m.empty -= m.partial[cls] == 0;
            m.partial[cls] += m.partial[cls] ? -1u : segs_of(cls) - 1;
        } else {
            ok = !frame && best > 0;
            piece = best > 0 ? size_of(best - 1) - ZBUF_OVERHEAD : 0;
        }
    }
    memcpy(m.partial, partial, sizeof partial);
    m.empty = empty;
    *b = own;
    *p = parents;
    return ok;
}

/* What zbuf_budget_resize() must say; if that is 0, it is done. */
static inline int resize(struct budget *b, uint32_t n, uint64_t max)
{
    if (!fits_under(n, b->min_cls, max))
        return -EINVAL;
    if (n < b->given)
        return -EBUSY;
    uint32_t old = b->min, old_carved = b->carved;
    promise(b, n, UINT32_MAX);
    if (!keepable(m.partial, m.empty)) {
        promise(b, old, old_carved);
        return -ENOBUFS;
    }
    b->max = max;
    return 0;
}

static inline size_t bytes_for(uint64_t *rng, unsigned cls)
{
    uint32_t most = size_of(cls) - ZBUF_OVERHEAD;
    uint32_t least = cls ? size_of(cls - 1) - ZBUF_OVERHEAD + 1 : 0;
    return least + random_below(rng, most - least + 1);
}

#endif
