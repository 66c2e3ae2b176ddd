/* zbuf_model_threads_test.c - random operations by several threads on one pool, against the model.
 *
 *   zbuf_model_threads_test [OPERATIONS [SEED [THREADS]]]
 *
 * Threads allocate, share, charge, exchange, make chains, resize budgets, wait for memory, and free
 * each other's segments, which they hand on through queues. What must hold whatever the order:
 *
 *   - no segment is handed out while it is live: each KiB of the region has a record, and whoever
 *     allocates a segment must find its record free;
 *   - nobody else writes to it: each is stamped at both ends and in its header, and the stamps are
 *     looked at by whoever gets a reference and before each one is given back;
 *   - within its minimum a budget that only one thread draws on is never refused.
 *
 * After each round all threads stop, and one of them compares everything the pool says of itself
 * with the sum of the records. Then it goes on alone: each outcome is now foretold, with whatever
 * the other threads have left in their magazines and depots. So what these lose, or hand out twice,
 * shows at the end of the round in which it happened. Whoever waits must not be waiting for what
 * could be had. Now and then all threads end, and others take their places.
 *
 * The same seed gives each thread the same random numbers. With one thread that repeats a run. */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>

#include "tests/unit/zbuf_model_threads_ops.h"
#include "zbuf/internal.h"

#define ROUND_OPS   2000u /* of each thread */
#define ROUNDS_LIFE 24u   /* of a thread */

static uint64_t total_ops, run_seed, rounds, first_round, most_in_depots, drains;
static bool over;
static pthread_barrier_t barrier;

/* What a round is about. MIX: everything. FLOOD, EBB: more is taken than given back, and less.
 * PIPE: half of the threads only allocate, of one class and budget, and the others only free, so
 * that all goes through depots. DUEL: several have references to the same few segments, and give
 * them back at the same time. THIRST: there is no memory, and many wait. DRAIN: one thread drains
 * magazines that the others are using. */
enum mode { MIX, PIPE, FLOOD, EBB, DUEL, THIRST, DRAIN, MODES };
static enum mode mode;
static unsigned only_budget; /* of PIPE and DRAIN */

static _Noreturn void fail(const char *what)
{
    printf("%s, in round %" PRIu64 "%s\nseed: zbuf_model_threads_test %" PRIu64 " %" PRIu64 " %u\n",
           what, rounds, alone ? ", with all others stopped" : "", total_ops, run_seed, threads);
    printf("zbuf_model_threads: 0 passed, 1 failed\n");
    fflush(stdout);
    _exit(1); /* the others are still at work */
}

/* ---- with all threads stopped */

/* The model's sums, out of the records. */
static void add_up(void)
{
    memset(m.live, 0, sizeof m.live);
    memset(m.partial, 0, sizeof m.partial);
    m.empty = SLABS;
    for (uint32_t i = 0; i < BUDGETS; i++) {
        m.budget[i].used = 0;
        memset(m.budget[i].held, 0, sizeof m.budget[i].held);
    }
    for (uint32_t i = 0; i < LIVE_MAX; i++) {
        const struct record *r = &record[i];
        if (r->refs == 0)
            continue;
        unsigned cls;
        struct zbuf *zb = pool_seg(m.pool, zbuf_pool_base(m.pool) + (size_t)i * ZBUF_SEG_MIN, &cls);
        inspect(zb, r->stamp);
        MUST(zbuf_refcount(zb) == r->refs);
        MUST(zb->owner == zbuf_budget_id(m.budget[r->budget].b));
        enter(i / SEGS_1K, r->cls, &m.budget[r->budget]);
    }
}

static void audit(void)
{
    struct zbuf_pool_stat st;
    struct zbuf_budget_stat bst[BUDGETS + 1];
    uint64_t live = 0, used = 0, held[ZBUF_CLASSES] = {0}, in_depots = 0;
    add_up();
    MUST(keepable(m.partial, m.empty));
    zbuf_pool_stat(m.pool, &st);
    unsigned n = zbuf_budget_stats(m.pool, bst, BUDGETS + 1), open = 0;
    for (uint32_t i = 0; i < BUDGETS; i++) {
        const struct budget *b = &m.budget[i];
        const struct zbuf_budget_stat *s = bst;
        while (b->b && s < bst + n && s->id != zbuf_budget_id(b->b))
            s++;
        if (!b->b)
            continue;
        MUST(s < bst + n);
        MUST(s->used == b->used && s->max == b->max);
        MUST(s->min == (size_t)b->min * size_of(b->min_cls));
        open++;
        for (unsigned c = 0; c < ZBUF_CLASSES; c++) {
            held[c] += b->held[c];
            in_depots += depot_segs(m.pool, zbuf_budget_id(b->b), c);
        }
    }
    MUST(n == open);
    for (unsigned c = 0; c < ZBUF_CLASSES; c++) {
        MUST(st.cls[c].segs - st.cls[c].free == held[c]);
        live += held[c];
        used += held[c] * size_of(c);
    }
    MUST(st.live == live && st.used == used);
    drains = st.drains;
    most_in_depots = in_depots > most_in_depots ? in_depots : most_in_depots;
    look_at_waiters(bst, n);
    zbuf_debug_check(m.pool);
}

/* Takes all there is for a budget, to the last segment, and gives most of it back. */
static void exhaust(struct worker *w)
{
    uint32_t before = w->held;
    struct budget *b = any_budget(w);
    unsigned want = is_own(w, b) ? b->min_cls : rnd(w, ZBUF_CLASSES);
    while (w->held < HELD_MAX && op_alloc_of(w, b, want))
        ;
    uint32_t after = rnd(w, 4) ? before : before + (w->held - before) / 2;
    while (w->held > after)
        give_back(w, take_out(w, w->held - 1));
}

/* ---- threads */

static void look(struct worker *w)
{
    struct zbuf_pool_stat st;
    struct zbuf_budget_stat bst[BUDGETS];
    zbuf_pool_stat(m.pool, &st); /* of what others change meanwhile: it need only come back */
    zbuf_budget_stats(m.pool, bst, BUDGETS);
    zbuf_tick(m.pool, w->ops << 20);
}

static void step(struct worker *w)
{
    static const uint32_t more_of_100[MODES] = {
        [MIX] = 50, [FLOOD] = 70, [EBB] = 30, [THIRST] = 50};
    uint32_t what = rnd(w, 10000);
    bool more = rnd(w, 100) < more_of_100[mode] && w->held + 1000 < HELD_MAX;
    poll_wait(w);
    w->ops++;
    if (what < 5700)
        more ? op_alloc(w) : op_free(w);
    else if (what < 6300)
        w->ops += more ? op_alloc_bulk(w, any_budget(w), any_class(w)) : op_free_bulk(w);
    else if (what < 7100)
        op_send(w);
    else if (what < 7500)
        op_ref(w);
    else if (what < 8000)
        op_charge(w);
    else if (what < 8500)
        op_exchange(w);
    else if (what < 8550)
        more ? op_chain(w) : op_free(w);
    else if (what < 8700)
        op_borrow(w);
    else if (what < 8760)
        op_resize(w);
    else if (what < 8790)
        op_own(w);
    else if (what < 8800)
        look(w);
    else if (what < 9100 && mode == THIRST) /* else nobody would ever have anything at hand */
        op_wait(w);
    else
        op_receive(w);
}

static void step_pipe(struct worker *w)
{
    struct ref ref;
    unsigned runs = 1 + rnd(w, 12); /* in bursts, so that depots run full and empty */
    if (w->id % 2 == 0 && w->id + 1 < threads) {
        for (; runs > 0 && w->held + BULK_MAX < HELD_MAX; runs--) {
            uint32_t before = w->held;
            w->ops += op_alloc_bulk(w, &m.budget[only_budget], fashion);
            for (unsigned tries = 0; w->held > before && tries < 64;) {
                if (put(w, w->id + 1, w->ref[w->held - 1])) {
                    w->held--;
                } else {
                    sched_yield();
                    tries++;
                }
            }
            while (w->held > before)
                give_back(w, take_out(w, w->held - 1));
        }
    } else {
        uint32_t before = w->held;
        while (w->held < HELD_MAX && get(w, (w->id + threads - 1) % threads, &ref))
            w->ref[w->held++] = ref;
        if (before == w->held)
            sched_yield();
        for (; w->held > 0 && runs > 0; runs--)
            w->ops += op_free_bulk(w);
    }
    w->ops++;
}

static void step_duel(struct worker *w)
{
    struct ref ref;
    if (w->hot.zb && rnd(w, 2)) {
        struct record *r = record_of(w->hot.zb);
        for (unsigned i = 0; i < 20; i++) {
            __atomic_fetch_add(&r->refs, 1, __ATOMIC_RELAXED);
            zbuf_ref(w->hot.zb);
            give_back(w, w->hot);
        }
        w->ops += 20;
    } else if (w->held + 1000 < HELD_MAX && op_alloc_of(w, &m.budget[0], fashion)) {
        /* One more to each of the others; then all let go. */
        ref = take_out(w, w->held - 1);
        share(ref.zb);
        for (unsigned t = 0; t < threads; t++) {
            struct ref second = {ref.zb, ref.stamp, false};
            __atomic_fetch_add(&record_of(ref.zb)->refs, 1, __ATOMIC_RELAXED);
            zbuf_ref(ref.zb);
            if (t == w->id || !put(w, t, second))
                give_back(w, second);
        }
        give_back(w, ref);
    }
    for (unsigned t = 0; t < threads; t++)
        while (get(w, t, &ref))
            give_back(w, ref);
    w->ops++;
}

static void step_drain(struct worker *w)
{
    struct budget *b = &m.budget[only_budget];
    uint32_t before = w->held;
    w->ops++;
    if (w->id ==
        0) { /* it is not empty, but that is known only when nobody has any of it at hand */
        MUST(zbuf_budget_destroy(b->b) == -EBUSY);
        return;
    }
    for (unsigned n = rnd(w, 6); n > 0 && before + n < HELD_MAX; n--)
        w->ops += op_alloc_of(w, b, fashion);
    while (w->held > before)
        give_back(w, take_out(w, w->held - 1));
}

/* ---- rounds */

static void cool_down(void)
{
    for (unsigned t = 0; t < threads; t++)
        if (worker[t].hot.zb)
            give_back(&worker[t], worker[t].hot);
    for (unsigned t = 0; t < threads; t++)
        worker[t].hot.zb = NULL;
}

/* One segment that all threads have a reference to. */
static void heat_up(struct worker *w)
{
    if (w->held == HELD_MAX || !op_alloc_of(w, &m.budget[0], fashion))
        return;
    w->hot = take_out(w, w->held - 1);
    share(w->hot.zb);
    for (unsigned t = 0; t < threads; t++) {
        if (t == w->id)
            continue;
        record_of(w->hot.zb)->refs++;
        zbuf_ref(w->hot.zb);
        worker[t].hot = (struct ref){w->hot.zb, w->hot.stamp, false};
    }
}

/* Gives back what threads hold until no more than so much is live. */
static void ebb_away(size_t most)
{
    size_t used = 0;
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        for (uint32_t i = 0; i < BUDGETS; i++)
            used += (size_t)m.budget[i].held[c] * size_of(c);
    for (unsigned t = 0; t < threads && used > most; t++)
        while (worker[t].held && used > most) {
            struct worker *w = &worker[t];
            struct ref ref = take_out(w, rnd(w, w->held));
            used -= refs_of(record_of(ref.zb)) == 1 ? ref.zb->size : 0;
            give_back(w, ref);
        }
}

static void prepare_round(struct worker *w)
{
    cool_down();
    rounds++;
    mode = (enum mode)rnd(w, MODES);
    fashion = rnd(w, ZBUF_CLASSES);
    only_budget = rnd(w, 3) ? SHARED + rnd(w, BUDGETS - SHARED) : FAMILY * rnd(w, 2);
    if (mode == PIPE || mode == DUEL || mode == DRAIN)
        for (unsigned t = 0; t < threads; t++)
            stop_waiting(&worker[t]);
    if (mode == THIRST)
        while (w->held + 1000 < HELD_MAX && op_alloc_of(w, &m.budget[0], fashion))
            ;
    else
        ebb_away(zbuf_pool_size(m.pool) / (1 + rnd(w, 8)));
    if (mode == DUEL)
        heat_up(w);
    if (mode == DRAIN) {
        only_budget = BUDGETS - 1 - rnd(w, 4);
        if (w->held == HELD_MAX || !op_alloc_of(w, &m.budget[only_budget], fashion))
            mode = MIX;
    }
}

/* What one thread does while the others wait for it. */
static void alone_for_a_while(struct worker *w)
{
    uint64_t ops = 0;
    alone = true;
    audit();
    mode = MIX;
    for (unsigned i = 0; i < 100; i++)
        step(w);
    for (unsigned i = 0; i < 3 && rounds % 8 == 0; i++)
        exhaust(w);
    audit();
    prepare_round(w);
    for (unsigned t = 0; t < threads; t++)
        ops += worker[t].ops;
    over = ops >= total_ops;
    alone = false;
}

static void *life(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; i < ROUNDS_LIFE; i++) {
        pthread_barrier_wait(&barrier);
        if ((first_round + i) % threads == w->id)
            alone_for_a_while(w);
        pthread_barrier_wait(&barrier);
        if (over)
            break;
        for (uint64_t end = w->ops + ROUND_OPS; w->ops < end;)
            (mode == PIPE    ? step_pipe
             : mode == DUEL  ? step_duel
             : mode == DRAIN ? step_drain
                             : step)(w);
    }
    return NULL;
}

static void live_and_end(void)
{
    struct zbuf_pool_stat st;
    uint64_t sum = 0, seen = 0, doubt = 0;
    first_round = rounds;
    for (unsigned t = 0; t < threads; t++)
        MUST(pthread_create(&worker[t].thread, NULL, life, &worker[t]) == 0);
    for (unsigned t = 0; t < threads; t++)
        pthread_join(worker[t].thread, NULL);
    /* What they had at hand has gone back: so now the counts are exact. */
    zbuf_pool_stat(m.pool, &st);
    for (unsigned c = 0; c < ZBUF_CLASSES; c++) {
        uint64_t of_class = 0;
        for (unsigned t = 0; t < threads; t++)
            of_class += worker[t].allocs[c];
        MUST(st.cls[c].allocs >= of_class);
        sum += of_class;
        seen += st.cls[c].allocs;
    }
    for (unsigned t = 0; t < threads; t++)
        doubt += worker[t].doubt;
    MUST(seen <= sum + doubt);
}

static void make_budgets(void)
{
    m.budget[0] =
        (struct budget){.b = zbuf_budget_app(m.pool), .parent = NO_PARENT, .min_cls = 1 /* 2K */};
    for (uint32_t i = FAMILY; i < BUDGETS; i++) {
        struct budget *b = &m.budget[i];
        *b = (struct budget){.parent = NO_PARENT, .min_cls = i % ZBUF_CLASSES};
        uint32_t n = 0;
        if (i == FAMILY) {
            b->max = 2 * ZBUF_SLAB;
        } else if (i < SHARED) {
            b->min_cls = (i - OWN) % 4;
            b->parent = i % 2 ? FAMILY : NO_PARENT;
            n = i - OWN < threads ? 32 : 0;
        } else if (i >= SHARED + PARENTS && i < SHARED + PARENTS * (1 + CHILDREN)) {
            b->parent = SHARED + (i - SHARED) % PARENTS;
        }
        MUST(open_budget(i, n) == 0);
    }
}

/* From an empty pool to an empty pool. */
static void run(uint64_t ops, bool debug)
{
    memset(&m, 0, sizeof m);
    memset(record, 0, sizeof record);
    memset(promised, 0, sizeof promised);
    m.pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = SLABS * ZBUF_SLAB,
                                                         .no_huge = true,
                                                         .owned_refs = run_seed % 2 == 0,
                                                         .debug = debug});
    MUST(m.pool);
    make_budgets();
    total_ops = ops;
    mode = MIX;
    rounds = 0;
    over = false;
    for (unsigned t = 0; t < threads; t++) {
        struct ref *ref = malloc(HELD_MAX * sizeof *ref);
        MUST(ref);
        worker[t] = (struct worker){
            .id = t, .ref = ref, .rng = (run_seed * THREADS_MAX + t + 1) * 0x9e3779b97f4a7c15u | 1};
    }
    pthread_barrier_init(&barrier, NULL, threads);
    while (!over)
        live_and_end();
    pthread_barrier_destroy(&barrier);

    alone = true;
    audit();
    cool_down();
    for (unsigned t = 0; t < threads; t++) {
        struct worker *w = &worker[t];
        stop_waiting(w);
        for (unsigned from = 0; from < threads; from++)
            for (struct ref ref; get(w, from, &ref);)
                give_back(w, ref);
        while (w->held)
            give_back(w, w->ref[--w->held]);
        free(w->ref);
    }
    audit();
    alone = false;
    for (uint32_t i = 0; i < LIVE_MAX; i++)
        MUST(record[i].refs == 0);
    for (uint32_t i = 0; i < BUDGETS; i++)
        MUST(promised[i] == 0);
    MUST(zbuf_pool_destroy(m.pool) == 0);
}

int main(int argc, char **argv)
{
    uint64_t ops = argc > 1 ? strtoull(argv[1], NULL, 10) : ZBUF_TSAN ? 300000 : 2000000;
    uint64_t allocs = 0, refused = 0, passed = 0, woken = 0, late = 0;
    run_seed = seed_from(argc > 2 ? argv[2] : NULL);
    threads = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 4;
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    run(ops, false);
    for (unsigned t = 0; t < threads; t++) {
        const struct worker *w = &worker[t];
        for (unsigned c = 0; c < ZBUF_CLASSES; c++)
            allocs += w->allocs[c];
        refused += w->refused;
        passed += w->passed;
        woken += w->woken;
        late += w->late;
    }
    printf("%" PRIu64 " operations of %u threads, seed %" PRIu64 ": %" PRIu64
           " allocations, %" PRIu64 " refused, %" PRIu64 " passed on, %" PRIu64 " woken, %" PRIu64
           " drains, at most %" PRIu64 " in depots, %" PRIu64 " within a minimum were late\n",
           ops, threads, run_seed, allocs, refused, passed, woken, drains, most_in_depots, late);
    /* Or it has not tested what it is for. */
    MUST(threads == 1 || ops < 300000 || (drains > 0 && most_in_depots > 0));
    run(ops / 20, true);
    printf("zbuf_model_threads: 2 passed, 0 failed\n");
    return 0;
}
