/* zbuf_depot_test.c - several threads at one depot, and nothing else, as fast as they can: so that
 * they meet in a bay that is just being filled or emptied. */
#include <pthread.h>
#include <sched.h>

#include "tests/unit/zbuf_fixture.h"
#include "zbuf/internal.h"

#define THREADS 4u
#define BATCHES 6u /* more than one for each thread, and more than there are bays */
#define TRIES   (ZBUF_TSAN ? 40000u : 1600000u)

static struct zbuf_pool *pool;
static uint32_t holder[BATCHES * BAY_SEGS]; /* 0 = in the depot */
static struct mag *mag[THREADS + 1];        /* the last is for who has no thread */
static uint64_t moved[THREADS + 1];
static uint64_t wrong;

static void hold(struct mag *m, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < m->n; i++) {
        uint32_t was = from;
        uint32_t k = m->unit[i] / 2;
        if (k >= BATCHES * BAY_SEGS ||
            !__atomic_compare_exchange_n(&holder[k], &was, to, false, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED))
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    }
}

/* A batch in, or a batch out. */
static bool move(uint32_t id)
{
    struct mag *m = mag[id];
    bool in = m->n > 0;
    if (in) {
        mag_unmark(pool, m);
        hold(m, id + 1, 0);
        if (!depot_put(pool, m)) {
            hold(m, 0, id + 1);
            return false;
        }
    } else {
        if (!depot_get(pool, m))
            return false;
        hold(m, 0, id + 1);
    }
    moved[id]++;
    return true;
}

static void *moves(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg;
    for (uint32_t i = 0; i < TRIES; i++)
        if (!move(id) && i % 16 == 0)
            sched_yield();
    return NULL;
}

static void make_mags(uint16_t budget)
{
    for (uint32_t id = 0; id <= THREADS; id++) {
        mag[id] = aligned_alloc(64, sizeof *mag[id] + 2 * BAY_SEGS * sizeof mag[id]->unit[0]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(mag[id]);
        *mag[id] = (struct mag){.cap = 2 * BAY_SEGS, .batch = BAY_SEGS, .budget = budget, .cls = 1};
    }
}

/* Each segment is in the depot once or with one thread: never with two, and none gets lost. */
static void each_batch_is_had_by_one(void)
{
    pthread_t t[THREADS];
    pool = pool_of(2 * MIB);
    struct zbuf_budget *child = zbuf_budget_open(
        pool, &(struct zbuf_budget_config){.name = "few bays", .parent = zbuf_budget_app(pool)});
    CU_ASSERT_PTR_NOT_NULL_FATAL(child);
    make_mags(zbuf_budget_id(child));
    pool_lock(pool);
    depot_make(pool, mag[0]);
    pool_unlock(pool);
    CU_ASSERT(pool->depots->bays < BATCHES);
    /* All but two batches begin with a thread. */
    for (uint32_t b = 0; b < BATCHES; b++) {
        uint32_t id = b < THREADS ? b : THREADS;
        for (uint32_t i = 0; i < BAY_SEGS; i++) {
            mag[id]->unit[i] = (b * BAY_SEGS + i) * 2; /* used are only their marks */
            holder[b * BAY_SEGS + i] = id + 1;
        }
        mag[id]->n = BAY_SEGS;
        if (id == THREADS)
            CU_ASSERT_TRUE(move(id));
    }
    for (uintptr_t id = 0; id < THREADS; id++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&t[id], NULL, moves, (void *)id), 0);
    uint64_t moves_made = 0;
    for (uint32_t id = 0; id < THREADS; id++) {
        pthread_join(t[id], NULL);
        moves_made += moved[id];
    }
    CU_ASSERT(moves_made > 0);
    CU_ASSERT_EQUAL(wrong, 0);
    while (move(THREADS))    /* one out, */
        mag[THREADS]->n = 0; /* and set apart */
    for (uint32_t i = 0; i < BATCHES * BAY_SEGS; i++)
        CU_ASSERT_NOT_EQUAL(holder[i], 0);
    CU_ASSERT_EQUAL(wrong, 0);
    for (uint32_t id = 0; id <= THREADS; id++)
        free(mag[id]);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(child), 0);
    done_with(pool);
}

CHECK_MAIN("zbuf_depot", CHECK(each_batch_is_had_by_one))
