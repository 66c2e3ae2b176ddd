/* zbuf_model_test.c - random operations on a pool, each outcome foretold by a simple model.
 *
 *   zbuf_model_test [OPERATIONS [SEED]]     default: 3 million, a fresh seed, which is printed
 *
 * zbuf_model.h says what the model is. A request that fails although there was memory is an error
 * as much as one that succeeds and should not. */
#include <inttypes.h>
#include <stdio.h>

#include "tests/unit/zbuf_model.h"

struct live {
    struct zbuf *zb;
    uint32_t generation, refs, budget;
    uint64_t mark;
};

static struct live seg[LIVE_MAX];
static uint32_t lives;
static uint64_t op, run_seed, rng;
static uint64_t outcome_counts[3]; /* best fit, fallen up, refused */
static uint64_t allocs[ZBUF_CLASSES];

static _Noreturn void fail(const char *what)
{
    printf("%s, at operation %" PRIu64 "\nrepeat: zbuf_model_test %" PRIu64 " %" PRIu64 "\n", what,
           op, op + 1, run_seed);
    printf("zbuf_model: 1 passed, 1 failed\n");
    exit(1);
}

static uint32_t rnd(uint32_t below)
{
    return random_below(&rng, below);
}

/* ---- what the pool did, told to the model */

static void occupy(struct zbuf *zb, uint32_t budget)
{
    MUST(zb->cls < ZBUF_CLASSES && zb->size == size_of(zb->cls));
    MUST((uintptr_t)zb->first % zb->size == 0);
    enter(slab_of(zb), zb->cls, &m.budget[budget]);
    MUST(lives < LIVE_MAX);
    seg[lives] = (struct live){zb, zb->generation, 1, budget, op << 16 | lives};
    MUST(zb->owner == zbuf_budget_id(m.budget[budget].b));
    zb->user = seg[lives++].mark;
    memcpy(zbuf_end(zb) - sizeof zb->user, &zb->user, sizeof zb->user);
    allocs[zb->cls]++;
}

static void vacate(uint32_t i)
{
    leave(slab_of(seg[i].zb), seg[i].zb->cls, &m.budget[seg[i].budget]);
    seg[i] = seg[--lives];
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
    uint8_t *at = l->zb->first + ZBUF_GUARD + rnd(l->zb->size - ZBUF_GUARD);
    MUST(zbuf_of(m.pool, at) == l->zb);
}

/* ---- operations */

static unsigned any_class(void)
{
    /* Long stretches prefer a class, so that slabs have reason to move. */
    return rnd(4) ? (unsigned)(op >> 18) % ZBUF_CLASSES : rnd(ZBUF_CLASSES);
}

static struct budget *any_budget(void)
{
    for (;;) {
        struct budget *b = &m.budget[rnd(BUDGETS)];
        if (b->b)
            return b;
    }
}

static void op_alloc(void)
{
    struct budget *b = any_budget();
    unsigned want = any_class(), told = foretell(b, want);
    struct zbuf *zb = zbuf_alloc_from(b->b, bytes_for(&rng, want));
    MUST((zb ? zb->cls : ZBUF_CLASSES) == told);
    outcome_counts[told == ZBUF_CLASSES ? 2 : told != want]++;
    if (!zb)
        return;
    MUST(zbuf_refcount(zb) == 1 && zb->len == 0 && !zb->next && !zb->headroom_busy);
    MUST(zb->data == zb->first + ZBUF_OVERHEAD);
    occupy(zb, (uint32_t)(b - m.budget));
}

static void op_alloc_bulk(void)
{
    struct budget *b = any_budget();
    unsigned want = any_class();
    struct zbuf *zb[BULK_MAX];
    unsigned n = 1 + rnd(BULK_MAX), got = zbuf_alloc_bulk(b->b, bytes_for(&rng, want), zb, n);
    for (unsigned i = 0; i < got; i++) {
        MUST(zb[i]->cls == foretell(b, want));
        occupy(zb[i], (uint32_t)(b - m.budget));
    }
    if (got < n)
        MUST(foretell(b, want) == ZBUF_CLASSES);
}

static void op_ref(void)
{
    if (lives == 0)
        return;
    struct live *l = &seg[rnd(lives)];
    if (l->refs < 5) {
        MUST(zbuf_ref(l->zb) == l->zb);
        l->refs++;
    }
}

static void op_free(void)
{
    if (lives == 0)
        return;
    uint32_t i = rnd(lives);
    struct zbuf *zb = seg[i].zb;
    inspect(&seg[i]);
    if (--seg[i].refs > 0) {
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
        zbuf_tx_done(m.pool, zb->first + ZBUF_GUARD);
    else
        zbuf_free(zb);
    MUST(zbuf_of(m.pool, zb->first + ZBUF_GUARD) == NULL);
}

static void op_free_bulk(void)
{
    struct zbuf *zb[BULK_MAX];
    unsigned n = rnd(BULK_MAX), k = 0;
    while (k < n && lives > 0) {
        uint32_t i = rnd(lives);
        zb[k++] = seg[i].zb;
        if (--seg[i].refs == 0)
            vacate(i);
        else
            break; /* one segment twice in one call is tested by the next one */
    }
    zbuf_free_bulk(zb, k);
}

static void op_charge(void)
{
    if (lives == 0)
        return;
    struct live *l = &seg[rnd(lives)];
    struct budget *from = &m.budget[l->budget], *to = any_budget();
    bool told = recharge(from, to, l->zb->cls);
    MUST(zbuf_charge(l->zb, to->b) == (told ? 0 : -ENOBUFS));
    if (told)
        l->budget = (uint32_t)(to - m.budget);
    MUST(l->zb->owner == zbuf_budget_id(m.budget[l->budget].b));
}

static void op_exchange(void)
{
    if (lives == 0)
        return;
    uint32_t i = rnd(lives), from = seg[i].budget;
    struct zbuf *zb = seg[i].zb;
    struct budget *to = any_budget();
    unsigned told = foretell(to, zb->cls);
    struct zbuf *fresh = zbuf_exchange(zb, to->b);
    MUST((fresh != NULL) == (told == zb->cls));
    if (!fresh) {
        if (told < ZBUF_CLASSES)
            allocs[told]++; /* one too large, which went back */
        return;
    }
    hold(&m.budget[from], zb->cls, -1);
    hold(to, zb->cls, 1);
    seg[i].budget = (uint32_t)(to - m.budget);
    occupy(fresh, from);
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
    promise(b, n, UINT32_MAX);
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
        promise(b, 0, 0);
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
    promise(b, 0, 0);
    if (b->parent != NO_PARENT)
        m.budget[b->parent].children--;
    b->b = NULL;
}

static void op_budget_resize(void)
{
    struct budget *b = any_budget();
    uint32_t n = rnd(2) ? rnd(1 + segs_of(b->min_cls) * 2) : 0;
    uint64_t max = rnd(2) || b == m.budget ? 0 : rnd(4 * ZBUF_SLAB);
    int told = resize(b, n, max);
    MUST(zbuf_budget_resize(b->b, (size_t)n * size_of(b->min_cls), max) == told);
}

static void op_chain(void)
{
    struct budget *b = any_budget();
    size_t bytes = 1 + rnd(600000), len = 0;
    uint32_t frame = rnd(2) ? 1 + rnd(9000) : 0, links = 0;
    struct zbuf_pool_stat before, after;
    zbuf_pool_stat(m.pool, &before);
    bool too_many = frame && bytes / frame >= ZBUF_CHAIN_MAX;
    bool told = !too_many && chain_told(b, bytes, frame);
    struct zbuf *chain = zbuf_chain_alloc(b->b, bytes, frame);
    MUST((chain != NULL) == told);
    if (!chain) {
        MUST(errno == (too_many ? EMSGSIZE : ENOBUFS));
        zbuf_pool_stat(m.pool, &after);
        for (unsigned c = 0; c < ZBUF_CLASSES; c++) /* links that it had got so far */
            allocs[c] += after.cls[c].allocs - before.cls[c].allocs;
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

/* Whoever waits is told as soon as it could have what it asked for, and not before: two of them,
 * while whatever gives memory back, or room, is done at random. */
static void op_wait(void)
{
    struct budget *b[2] = {any_budget(), any_budget()};
    unsigned want[2] = {any_class(), any_class()};
    for (unsigned i = 0; i < 2; i++) {
        bool told = foretell(b[i], want[i]) != ZBUF_CLASSES;
        if (i && b[1] == b[0])
            b[1] = NULL;
        else
            MUST(zbuf_budget_wait(b[i]->b, bytes_for(&rng, want[i])) == told);
        if (told)
            b[i] = NULL;
    }
    for (unsigned tries = 0; tries < 200 && (b[0] || b[1]); tries++) {
        for (unsigned i = 0; i < 2; i++) {
            if (!b[i])
                continue;
            bool told = foretell(b[i], want[i]) != ZBUF_CLASSES;
            MUST(zbuf_budget_ready(b[i]->b) == told);
            if (told)
                b[i] = NULL;
        }
        uint32_t what = rnd(16);
        what < 8    ? op_free()
        : what < 11 ? op_charge()
        : what < 14 ? op_exchange()
                    : op_budget_resize();
    }
    for (unsigned i = 0; i < 2; i++)
        if (b[i])
            zbuf_budget_wait_cancel(b[i]->b);
    for (unsigned i = 0; i < 2; i++)
        MUST(!b[i] || !zbuf_budget_ready(b[i]->b));
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
    MUST(st.live == lives);
    for (uint32_t i = 0; i < lives; i++) {
        inspect(&seg[i]);
        live[seg[i].zb->cls]++;
        used += seg[i].zb->size;
    }
    MUST(st.used == used);
    unmet(need);
    for (unsigned c = 0; c < ZBUF_CLASSES; c++) {
        MUST(st.cls[c].segs - st.cls[c].free == live[c] && st.cls[c].high_water >= live[c]);
        MUST(st.cls[c].allocs == allocs[c]);
        MUST(st.cls[c].set_aside <= need[c]);
    }
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
    bool flood = (op >> 14) % 3 != 2;
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
    memset(allocs, 0, sizeof allocs);
    op = 0;
    run_seed = seed;
    rng = seed * 0x9e3779b97f4a7c15u | 1;
    m.pool = zbuf_pool_create(&(struct zbuf_pool_config){
        .size = SLABS * ZBUF_SLAB, .no_huge = true, .owned_refs = seed % 2 == 0, .debug = debug});
    if (!m.pool)
        fail("no pool");
    m.empty = SLABS;
    m.budget[0] =
        (struct budget){.b = zbuf_budget_app(m.pool), .parent = NO_PARENT, .min_cls = 1 /* 2K */};
    for (; op < ops; op++) {
        step();
        if (op % 500000 == 0)
            audit();
    }
    audit();
    while (lives > 0)
        op_free();
    audit();
    MUST(zbuf_pool_destroy(m.pool) == 0);
}

int main(int argc, char **argv)
{
    uint64_t ops = argc > 1 ? strtoull(argv[1], NULL, 10) : 3000000;
    uint64_t seed = seed_from(argc > 2 ? argv[2] : NULL);
    run(ops, seed, false);
    printf("%" PRIu64 " operations, seed %" PRIu64 ": %" PRIu64 " best fits, %" PRIu64
           " fallen up, %" PRIu64 " refused, all as foretold\n",
           ops, seed, outcome_counts[0], outcome_counts[1], outcome_counts[2]);
    run(ops / 100 < 100000 ? ops / 100 : 100000, seed, true);
    printf("zbuf_model: 2 passed, 0 failed\n");
    return 0;
}
