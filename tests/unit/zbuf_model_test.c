/* zbuf_model_test.c - random operations on a pool, each outcome foretold by a simple model.
 *
 *   zbuf_model_test [OPERATIONS [SEED]]     default: 3 million, a fresh seed, which is printed
 *
 * The model knows the rules and nothing of how the pool works: magazines, stores and bitmaps don't
 * exist in it. It knows which segments are live and in which slab they lie, who holds how many of
 * each class, and what is promised to whom. From that follows for each request whether it must
 * succeed, and with which class: the smallest that fits of which there is a segment free, in a slab
 * in use or in an empty one, that is not needed to keep a promise. A request that fails although
 * the model says there was memory is an error as much as one that succeeds and should not. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
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

struct live {
    struct zbuf *zb;
    uint32_t generation, refs, budget;
    uint64_t mark;
};
struct budget {
    struct zbuf_budget *b;
    uint32_t parent, children;
    unsigned min_cls;
    uint32_t min, carved, given;
    uint64_t max, used; /* with children */
    uint32_t held[ZBUF_CLASSES];
    bool waiting;
};

static struct {
    struct zbuf_pool *pool;
    uint32_t live[SLABS];           /* segments, by slab */
    unsigned cls[SLABS];            /* of the live ones in it */
    uint32_t partial[ZBUF_CLASSES]; /* free segments in slabs with live ones */
    uint32_t empty;                 /* slabs */
    struct budget budget[BUDGETS];
    struct live seg[LIVE_MAX];
    uint32_t n;
    uint64_t op, seed, rng;
} m;
static uint64_t outcome_counts[3]; /* best fit, fallen up, refused */

static _Noreturn void fail(const char *what)
{
    printf("%s, at operation %" PRIu64 "\nrepeat: zbuf_model_test %" PRIu64 " %" PRIu64 "\n", what,
           m.op, m.op + 1, m.seed);
    printf("zbuf_model: 1 passed, 1 failed\n");
    exit(1);
}
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fail("not so: " #cond);                                                                \
    } while (0)

static uint32_t rnd(uint32_t below)
{
    m.rng ^= m.rng << 13;
    m.rng ^= m.rng >> 7;
    m.rng ^= m.rng << 17;
    return (uint32_t)(((m.rng >> 32) * below) >> 32);
}

static uint32_t size_of(unsigned cls)
{
    return ZBUF_SEG_MIN << cls;
}
static uint32_t segs_of(unsigned cls)
{
    return SEGS_1K >> cls;
}
static uint32_t above(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}

/* ---- promises */

/* What is promised of each class and not taken: first a child's own, then its parent's. */
static void unmet(uint32_t out[ZBUF_CLASSES])
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
static bool keepable(const uint32_t partial[ZBUF_CLASSES], uint32_t empty)
{
    uint32_t need[ZBUF_CLASSES], slabs = 0;
    unmet(need);
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        slabs += (above(need[c], partial[c]) + segs_of(c) - 1) / segs_of(c);
    return slabs <= empty;
}

static void hold(struct budget *b, unsigned cls, int n)
{
    b->held[cls] += (uint32_t)n;
    b->used += (uint64_t)((int64_t)n * size_of(cls));
    if (b->parent != NO_PARENT)
        m.budget[b->parent].used += (uint64_t)((int64_t)n * size_of(cls));
}

/* Under a parent's ceiling there is room for what all its children use and are promised. */
static bool within_ceiling(struct budget *b, unsigned cls)
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

static bool can_have(struct budget *b, unsigned cls)
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
static unsigned foretell(struct budget *b, unsigned want)
{
    for (unsigned cls = want; cls < ZBUF_CLASSES; cls++)
        if (within_ceiling(b, cls) && can_have(b, cls))
            return cls;
    return ZBUF_CLASSES;
}

/* ---- what the pool did, told to the model */

static uint32_t slab_of(const struct zbuf *zb)
{
    return (uint32_t)(((const uint8_t *)zb - zbuf_pool_base(m.pool)) / ZBUF_SLAB);
}

static void occupy(struct zbuf *zb, uint32_t budget)
{
    uint32_t s = slab_of(zb);
    MUST(s < SLABS);
    MUST(zb->cls < ZBUF_CLASSES && zb->size == size_of(zb->cls));
    MUST((uintptr_t)zb % zb->size == 0);
    if (m.live[s]++ == 0) {
        m.empty--;
        m.cls[s] = zb->cls;
        m.partial[zb->cls] += segs_of(zb->cls);
    }
    MUST(m.cls[s] == zb->cls);
    MUST(m.partial[zb->cls] > 0);
    m.partial[zb->cls]--;
    MUST(m.n < LIVE_MAX);
    m.seg[m.n++] = (struct live){zb, zb->generation, 1, budget, m.op << 16 | m.n};
    hold(&m.budget[budget], zb->cls, 1);
    MUST(zb->owner == zbuf_budget_id(m.budget[budget].b));
    zb->user = m.seg[m.n - 1].mark;
    memcpy(zbuf_end(zb) - sizeof zb->user, &zb->user, sizeof zb->user);
}

static void vacate(uint32_t i)
{
    struct live *l = &m.seg[i];
    unsigned cls = l->zb->cls;
    uint32_t s = slab_of(l->zb);
    hold(&m.budget[l->budget], cls, -1);
    m.partial[cls]++;
    if (--m.live[s] == 0) {
        m.partial[cls] -= segs_of(cls);
        m.empty++;
    }
    m.seg[i] = m.seg[--m.n];
}

/* A live segment is as it was left. */
static void inspect(const struct live *l)
{
    uint64_t at_end;
    memcpy(&at_end, zbuf_end(l->zb) - sizeof at_end, sizeof at_end);
    MUST(l->zb->user == l->mark && at_end == l->mark);
    MUST(l->zb->generation == l->generation);
    MUST(zbuf_refcount(l->zb) == l->refs);
    MUST(l->zb->owner == zbuf_budget_id(m.budget[l->budget].b));
    uint8_t *at = (uint8_t *)l->zb + ZBUF_HEADER + rnd(l->zb->size - ZBUF_HEADER);
    MUST(zbuf_of(m.pool, at) == l->zb);
}

/* ---- operations */

static unsigned any_class(void)
{
    /* Long stretches prefer a class, so that slabs have reason to move. */
    return rnd(4) ? (unsigned)(m.op >> 18) % ZBUF_CLASSES : rnd(ZBUF_CLASSES);
}

static struct budget *any_budget(void)
{
    for (;;) {
        struct budget *b = &m.budget[rnd(BUDGETS)];
        if (b->b)
            return b;
    }
}

static size_t bytes_for(unsigned cls)
{
    uint32_t most = size_of(cls) - ZBUF_OVERHEAD;
    uint32_t least = cls ? size_of(cls - 1) - ZBUF_OVERHEAD + 1 : 0;
    return least + rnd(most - least + 1);
}

static void op_alloc(void)
{
    struct budget *b = any_budget();
    unsigned want = any_class(), told = foretell(b, want);
    struct zbuf *zb = zbuf_alloc_from(b->b, bytes_for(want));
    MUST((zb ? zb->cls : ZBUF_CLASSES) == told);
    outcome_counts[told == ZBUF_CLASSES ? 2 : told != want]++;
    if (!zb)
        return;
    MUST(zbuf_refcount(zb) == 1 && zb->len == 0 && !zb->next && !zb->headroom_busy);
    MUST(zb->data == (uint8_t *)zb + ZBUF_OVERHEAD);
    occupy(zb, (uint32_t)(b - m.budget));
}

static void op_alloc_bulk(void)
{
    struct budget *b = any_budget();
    unsigned want = any_class();
    struct zbuf *zb[BULK_MAX];
    unsigned n = 1 + rnd(BULK_MAX), got = zbuf_alloc_bulk(b->b, bytes_for(want), zb, n);
    for (unsigned i = 0; i < got; i++) {
        MUST(zb[i]->cls == foretell(b, want));
        occupy(zb[i], (uint32_t)(b - m.budget));
    }
    if (got < n)
        MUST(foretell(b, want) == ZBUF_CLASSES);
}

static void op_ref(void)
{
    if (m.n == 0)
        return;
    struct live *l = &m.seg[rnd(m.n)];
    if (l->refs < 5) {
        MUST(zbuf_ref(l->zb) == l->zb);
        l->refs++;
    }
}

static void op_free(void)
{
    if (m.n == 0)
        return;
    uint32_t i = rnd(m.n);
    struct zbuf *zb = m.seg[i].zb;
    inspect(&m.seg[i]);
    if (--m.seg[i].refs > 0) {
        zbuf_free(zb);
        return;
    }
    if (rnd(4) == 0) { /* what holders leave behind in a header must not reach the next one */
        zb->data += 5;
        zb->len = 77;
        zb->next = zb;
        zb->headroom_busy = 1;
    }
    vacate(i);
    if (rnd(8) == 0)
        zbuf_tx_done(m.pool, (uint8_t *)zb + ZBUF_HEADER);
    else
        zbuf_free(zb);
    MUST(zbuf_of(m.pool, (uint8_t *)zb + ZBUF_HEADER) == NULL);
}

static void op_free_bulk(void)
{
    struct zbuf *zb[BULK_MAX];
    unsigned n = rnd(BULK_MAX), k = 0;
    while (k < n && m.n > 0) {
        uint32_t i = rnd(m.n);
        zb[k++] = m.seg[i].zb;
        if (--m.seg[i].refs == 0)
            vacate(i);
        else
            break; /* one segment twice in one call is tested by the next one */
    }
    zbuf_free_bulk(zb, k);
}

static void op_charge(void)
{
    if (m.n == 0)
        return;
    struct live *l = &m.seg[rnd(m.n)];
    struct budget *from = &m.budget[l->budget], *to = any_budget();
    unsigned cls = l->zb->cls;
    bool told = true;
    if (from != to) {
        hold(from, cls, -1);
        told = within_ceiling(to, cls);
        hold(to, cls, 1);
        told = told && keepable(m.partial, m.empty);
        if (!told) {
            hold(to, cls, -1);
            hold(from, cls, 1);
        }
    }
    MUST(zbuf_charge(l->zb, to->b) == (told ? 0 : -ENOBUFS));
    if (told)
        l->budget = (uint32_t)(to - m.budget);
    MUST(l->zb->owner == zbuf_budget_id(m.budget[l->budget].b));
}

static void op_exchange(void)
{
    if (m.n == 0)
        return;
    uint32_t i = rnd(m.n), from = m.seg[i].budget;
    struct zbuf *zb = m.seg[i].zb;
    struct budget *to = any_budget();
    bool told = foretell(to, zb->cls) == zb->cls;
    struct zbuf *fresh = zbuf_exchange(zb, to->b);
    MUST((fresh != NULL) == told);
    if (!fresh)
        return;
    hold(&m.budget[from], zb->cls, -1);
    hold(to, zb->cls, 1);
    m.seg[i].budget = (uint32_t)(to - m.budget);
    occupy(fresh, from);
}

/* A child's promise is carved out of its parent's as far as that goes. */
static void promise(struct budget *b, uint32_t n)
{
    struct budget *p = b->parent == NO_PARENT ? NULL : &m.budget[b->parent];
    b->min = n;
    if (!p)
        return;
    p->given -= b->carved;
    uint32_t left = p->min_cls == b->min_cls ? p->min - p->given : 0;
    b->carved = n < left ? n : left;
    p->given += b->carved;
}

/* Nobody is promised what his own ceiling would refuse. */
static bool fits_under(uint32_t n, unsigned cls, uint64_t max)
{
    return !max || (uint64_t)n * size_of(cls) <= max;
}

static void op_budget_open(void)
{
    struct budget *b = &m.budget[1 + rnd(BUDGETS - 1)], *p = any_budget();
    if (b->b)
        return;
    if (p->parent != NO_PARENT || rnd(2))
        p = NULL;
    unsigned cls = rnd(ZBUF_CLASSES);
    uint32_t n = rnd(3) ? 0 : rnd(1 + segs_of(cls));
    *b = (struct budget){.parent = p ? (uint32_t)(p - m.budget) : NO_PARENT,
                         .min_cls = cls,
                         .max = rnd(2) ? 0 : (uint64_t)rnd(4 * ZBUF_SLAB)};
    b->b = (struct zbuf_budget *)b; /* counts as open */
    promise(b, n);
    bool sound = fits_under(n, cls, b->max), told = sound && keepable(m.partial, m.empty);
    struct zbuf_budget_config cfg = {.name = "model",
                                     .parent = p ? p->b : NULL,
                                     .min_bytes = (size_t)n * size_of(cls),
                                     .min_seg = size_of(cls),
                                     .max_bytes = b->max};
    struct zbuf_budget *made = zbuf_budget_open(m.pool, &cfg);
    MUST((made != NULL) == told);
    MUST(made || errno == (sound ? ENOBUFS : EINVAL));
    b->b = made;
    if (!made)
        promise(b, 0);
    else if (p)
        p->children++;
}

static void op_budget_close(void)
{
    struct budget *b = any_budget();
    if (b == m.budget)
        return;
    bool told = b->children == 0 && b->used == 0;
    MUST(zbuf_budget_destroy(b->b) == (told ? 0 : -EBUSY));
    if (!told)
        return;
    promise(b, 0);
    if (b->parent != NO_PARENT)
        m.budget[b->parent].children--;
    b->b = NULL;
}

static void op_budget_resize(void)
{
    struct budget *b = any_budget();
    uint32_t n = rnd(2) ? rnd(1 + segs_of(b->min_cls) * 2) : 0, old = b->min;
    uint64_t max = rnd(2) || b == m.budget ? 0 : rnd(4 * ZBUF_SLAB);
    int told = !fits_under(n, b->min_cls, max) ? -EINVAL : n < b->given ? -EBUSY : 0;
    if (!told) {
        promise(b, n);
        if (!keepable(m.partial, m.empty)) {
            promise(b, old);
            told = -ENOBUFS;
        }
    }
    MUST(zbuf_budget_resize(b->b, (size_t)n * size_of(b->min_cls), max) == told);
    if (!told)
        b->max = max;
}

static void op_chain(void)
{
    struct budget *b = any_budget();
    size_t bytes = 1 + rnd(600000), len = 0;
    uint32_t frame = rnd(2) ? 1 + rnd(9000) : 0, links = 0;
    struct zbuf *chain = zbuf_chain_alloc(b->b, bytes, frame);
    if (!chain) {
        MUST(errno == (frame && bytes / frame >= ZBUF_CHAIN_MAX ? EMSGSIZE : ENOBUFS));
        return;
    }
    for (struct zbuf *zb = chain, *next; zb; zb = next) {
        next = zb->next;
        zb->next = NULL;
        len += zb->len;
        links++;
        MUST(zb->len <= zbuf_room(zb));
        MUST(!frame || zb->len == frame || !next);
        zb->len = 0;
        occupy(zb, (uint32_t)(b - m.budget));
    }
    MUST(len == bytes);
    MUST(!frame || links == (bytes + frame - 1) / frame);
}

/* Whoever waits is told as soon as it could have what it asked for, and not before. */
static void op_wait(void)
{
    struct budget *b = any_budget();
    unsigned want = any_class();
    bool told = foretell(b, want) != ZBUF_CLASSES;
    MUST(zbuf_budget_wait(b->b, bytes_for(want)) == told);
    if (told)
        return;
    b->waiting = true;
    for (unsigned tries = 0; foretell(b, want) == ZBUF_CLASSES; tries++) {
        MUST(!zbuf_budget_ready(b->b));
        if (m.n == 0 || tries == 200)
            break;
        op_free();
    }
    if (foretell(b, want) == ZBUF_CLASSES)
        zbuf_budget_wait_cancel(b->b);
    else
        MUST(zbuf_budget_ready(b->b));
    MUST(!zbuf_budget_ready(b->b));
    b->waiting = false;
}

/* The pool's own account agrees. */
static void audit(void)
{
    struct zbuf_pool_stat st;
    struct zbuf_budget_stat bst[BUDGETS + 1];
    uint32_t live[ZBUF_CLASSES] = {0}, need[ZBUF_CLASSES], open = 0;
    uint64_t used = 0;
    MUST(keepable(m.partial, m.empty));
    zbuf_pool_stat(m.pool, &st);
    MUST(st.live == m.n);
    for (uint32_t i = 0; i < m.n; i++) {
        inspect(&m.seg[i]);
        live[m.seg[i].zb->cls]++;
        used += m.seg[i].zb->size;
    }
    MUST(st.used == used);
    unmet(need);
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        MUST(st.cls[c].segs - st.cls[c].free == live[c] && st.cls[c].high_water >= live[c]);
    unsigned n = zbuf_budget_stats(m.pool, bst, BUDGETS + 1);
    for (uint32_t i = 0; i < BUDGETS; i++) {
        const struct budget *b = &m.budget[i];
        if (!b->b)
            continue;
        open++;
        MUST(zbuf_budget_used(b->b) == b->used || b->children); /* see its declaration */
        bool found = false;
        for (unsigned k = 0; k < n; k++)
            if (bst[k].id == zbuf_budget_id(b->b)) {
                MUST(bst[k].used == b->used && bst[k].high_water >= b->used);
                MUST(bst[k].min == (size_t)b->min * size_of(b->min_cls));
                found = true;
            }
        MUST(found);
    }
    MUST(n == open);
    zbuf_debug_check(m.pool);
}

static void step(void)
{
    /* Tides: the pool fills and empties. */
    bool flood = (m.op >> 14) % 3 != 2;
    uint32_t what = rnd(1000);
    if (what < 450)
        flood ? op_alloc() : op_free();
    else if (what < 760)
        (rnd(5) < 3) == flood ? op_alloc() : op_free();
    else if (what < 820)
        flood ? op_alloc_bulk() : op_free_bulk();
    else if (what < 850)
        op_free_bulk();
    else if (what < 900)
        op_ref();
    else if (what < 940)
        op_charge();
    else if (what < 970)
        op_exchange();
    else if (what < 980)
        op_budget_open();
    else if (what < 988)
        op_budget_resize();
    else if (what < 994)
        op_budget_close();
    else if (what < 998)
        op_chain();
    else
        op_wait();
}

/* From an empty pool to an empty pool. */
static void run(uint64_t ops, uint64_t seed, bool debug)
{
    memset(&m, 0, sizeof m);
    m.seed = seed;
    m.rng = seed * 0x9e3779b97f4a7c15u | 1;
    m.pool = zbuf_pool_create(&(struct zbuf_pool_config){
        .size = SLABS * ZBUF_SLAB, .no_huge = true, .owned_refs = seed % 2 == 0, .debug = debug});
    if (!m.pool)
        fail("no pool");
    m.empty = SLABS;
    m.budget[0] =
        (struct budget){.b = zbuf_budget_app(m.pool), .parent = NO_PARENT, .min_cls = 1 /* 2K */};
    for (; m.op < ops; m.op++) {
        step();
        if (m.op % 500000 == 0)
            audit();
    }
    audit();
    while (m.n > 0)
        op_free();
    audit();
    MUST(zbuf_pool_destroy(m.pool) == 0);
}

int main(int argc, char **argv)
{
    uint64_t ops = argc > 1 ? strtoull(argv[1], NULL, 10) : 3000000;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    const char *fresh = getenv("FRESH"); /* tests/run */
    uint64_t seed = argc > 2          ? strtoull(argv[2], NULL, 10)
                    : fresh && *fresh ? strtoull(fresh, NULL, 10)
                                      : (uint64_t)ts.tv_nsec;
    run(ops, seed, false);
    printf("%" PRIu64 " operations, seed %" PRIu64 ": %" PRIu64 " best fits, %" PRIu64
           " fallen up, %" PRIu64 " refused, all as foretold\n",
           ops, seed, outcome_counts[0], outcome_counts[1], outcome_counts[2]);
    run(ops / 100 < 100000 ? ops / 100 : 100000, seed, true);
    printf("zbuf_model: 2 passed, 0 failed\n");
    return 0;
}
