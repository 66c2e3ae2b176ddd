/* zbuf_transit_test.c - segments on their way from the thread that freed them to one that will
 * allocate them: free, but marked as live (zbuf/depot.c). Nobody may take them for held. */
#include <pthread.h>
#include <sys/syscall.h>

#include "tests/unit/zbuf_fixture.h"
#include "zbuf/internal.h"

#define SEGS  600u
#define EXTRA 300u /* more than a magazine holds */

static struct zbuf_pool *pool;
static struct zbuf *seg[SEGS];
static struct zbuf *held[SEGS + EXTRA];
static unsigned n_held;

static void *frees_all(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < SEGS; i++)
        zbuf_free(seg[i]);
    return NULL;
}

static struct mag *own_mag(void)
{
    return zbuf_tls->mag[1]; /* the application's, 2K */
}

/* Batches in the depot, and a part of one in this thread's magazine; all else is in the store, or
 * held[]. */
static void set_out(void)
{
    pthread_t t;
    pool = pool_of(4 * MIB);
    n_held = EXTRA;
    CU_ASSERT_EQUAL_FATAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), held, EXTRA), EXTRA);
    CU_ASSERT_EQUAL_FATAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), seg, SEGS), SEGS);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, frees_all, NULL), 0);
    pthread_join(t, NULL);
    CU_ASSERT_EQUAL(stat_of(pool).cls[1].high_water, SEGS + EXTRA); /* what left is not in use */
    while (n_held < SEGS + EXTRA && own_mag()->marked == 0)
        held[n_held++] = zbuf_alloc(pool, FITS(2048));
    CU_ASSERT_FATAL(own_mag()->marked && own_mag()->n > 2);
    CU_ASSERT_FATAL(depot_segs(pool, 0, 1) > 0);
}

static uint64_t taken(void)
{
    return stat_of(pool).cls[1].allocs;
}

static void give_back(void)
{
    zbuf_free_bulk(held, n_held);
    done_with(pool);
}

static bool is_held(const struct zbuf *zb)
{
    for (unsigned i = 0; i < n_held; i++)
        if (held[i] == zb)
            return true;
    return false;
}

/* Live or not. */
static const struct zbuf *seg_at(uint64_t addr)
{
    unsigned cls;
    return pool_seg(pool, pointer(addr), &cls);
}

static unsigned taken_for_held(void)
{
    unsigned wrong = 0;
    for (unsigned i = 0; i < SEGS; i++)
        wrong += (zbuf_of(pool, seg[i]->first + ZBUF_OVERHEAD) != NULL) != is_held(seg[i]);
    return wrong;
}

static void they_are_nobodys(void)
{
    struct zbuf_age age[ZBUF_CLASSES];
    set_out();
    CU_ASSERT_EQUAL(stat_of(pool).live, n_held);
    CU_ASSERT_EQUAL(zbuf_ages(pool, age, NULL, 0), n_held);
    CU_ASSERT_EQUAL(age[1].segs, n_held);
    CU_ASSERT_EQUAL(taken_for_held(), 0); /* that called all of them in */
    give_back();
}

static void another_process_sees_that(void)
{
    struct zbuf_reader *rd;
    struct zbuf_holder h[SEGS + EXTRA];
    set_out();
    CU_ASSERT_EQUAL_FATAL(zbuf_reader_open(getpid(), 0, &rd), 0);
    int live = zbuf_reader_holders(rd, h, SEGS + EXTRA);
    if (live != -EPERM) { /* a sandbox may forbid it */
        CU_ASSERT_EQUAL_FATAL(live, (int)n_held);
        for (unsigned i = 0; i < n_held; i++)
            CU_ASSERT_TRUE(is_held(seg_at(h[i].addr)));
    }
    CU_ASSERT(depot_segs(pool, 0, 1) > 0); /* and nobody had to stop for it */
    zbuf_reader_close(rd);
    give_back();
}

/* Freed by the one who collected them, they are as any other. */
static void freed_again_they_are_marked_free(void)
{
    set_out();
    struct zbuf *a = held[n_held - 1], *b = zbuf_alloc(pool, FITS(2048));
    CU_ASSERT_PTR_NOT_NULL(zbuf_of(pool, a->data));
    CU_ASSERT_PTR_NOT_NULL(zbuf_of(pool, b->data));
    zbuf_free(b);
    zbuf_free(a);
    n_held--;
    CU_ASSERT_PTR_NULL(zbuf_of(pool, a->data));
    CU_ASSERT_PTR_NULL(zbuf_of(pool, b->data));
    struct zbuf *both[2];
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), both, 2), 2);
    CU_ASSERT(both[0] == a && both[1] == b); /* the last freed first, and marked anew */
    CU_ASSERT_PTR_NOT_NULL(zbuf_of(pool, a->data));
    CU_ASSERT_PTR_NOT_NULL(zbuf_of(pool, b->data));
    zbuf_free_bulk(both, 2);
    CU_ASSERT_PTR_NULL(zbuf_of(pool, a->data));
    give_back();
}

static void freed_again_at_once_they_are_marked_free(void)
{
    struct zbuf *zb[8];
    set_out();
    for (unsigned n = 2; n <= 8; n += 2) { /* each time two that were not touched before */
        CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), zb, n), n);
        for (unsigned i = 0; i < n; i++)
            CU_ASSERT_PTR_NOT_NULL(zbuf_of(pool, zb[i]->data));
        zbuf_free_bulk(zb, n);
        for (unsigned i = 0; i < n; i++)
            CU_ASSERT_PTR_NULL(zbuf_of(pool, zb[i]->data));
    }
    give_back();
}

static void they_may_travel_on(void)
{
    set_out();
    for (unsigned i = 0; i < EXTRA; i++)
        zbuf_free(held[i]);
    CU_ASSERT_EQUAL(own_mag()->marked, 0);
    for (unsigned i = 0; i < EXTRA; i++) {
        held[i] = zbuf_alloc(pool, FITS(2048));
        CU_ASSERT_PTR_NOT_NULL(zbuf_of(pool, held[i]->data));
    }
    give_back();
}

/* Not when they are collected, but when somebody gets them. */
static void they_count_when_they_are_allocated(void)
{
    set_out();
    uint64_t made = SEGS + n_held;
    CU_ASSERT_EQUAL(taken(), made);
    struct zbuf *zb = zbuf_alloc(pool, FITS(2048));
    CU_ASSERT_EQUAL(taken(), ++made);
    zbuf_free(zb); /* and the others are marked as free */
    CU_ASSERT_EQUAL(taken(), made);
    zb = zbuf_alloc(pool, FITS(2048));
    CU_ASSERT_EQUAL(taken(), ++made);
    zbuf_free(zb);
    give_back();
}

/* One goes over to another budget as a replacement for a frame: on top of what is marked free. */
static void given_in_exchange_they_are_marked_free(void)
{
    set_out();
    struct zbuf_budget *rx = zbuf_budget_create(pool, "rx", 0, 0);
    struct zbuf *frame = zbuf_alloc_from(rx, FITS(2048));
    const struct zbuf *other = &pool->header[own_mag()->unit[own_mag()->n - 1]];
    const uint64_t made = taken();
    CU_ASSERT_EQUAL(zbuf_charge(frame, zbuf_budget_app(pool)), 0);
    CU_ASSERT_EQUAL(taken(), made);
    CU_ASSERT_EQUAL(other->owner, zbuf_budget_id(rx)); /* they have changed places */
    CU_ASSERT_PTR_NULL(zbuf_of(pool, other->first + ZBUF_OVERHEAD));
    zbuf_free(frame);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(rx), 0);
    give_back();
}

/* One comes from another budget, and lies on top of those that are marked as live. */
static void come_by_exchange_it_is_not_one_of_them(void)
{
    set_out();
    struct zbuf_budget *rx = zbuf_budget_create(pool, "rx", 0, 0);
    zbuf_free(zbuf_alloc_from(rx, FITS(2048)));
    const struct mag *theirs = zbuf_tls->mag[zbuf_budget_id(rx) * ZBUF_CLASSES + 1];
    const struct zbuf *other = &pool->header[theirs->unit[theirs->n - 1]];
    struct zbuf *frame = held[--n_held];
    CU_ASSERT(own_mag()->marked);
    CU_ASSERT_EQUAL(zbuf_charge(frame, rx), 0);
    struct zbuf *zb = zbuf_alloc(pool, FITS(2048));
    CU_ASSERT_PTR_EQUAL_FATAL(zb, other);
    CU_ASSERT_PTR_NOT_NULL(zbuf_of(pool, zb->data));
    zbuf_free(zb);
    zbuf_free(frame);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(rx), 0);
    give_back();
}

/* ---- a second free */

static void by_the_collector(void)
{
    set_out();
    zbuf_free(held[n_held - 1]);
    zbuf_free(held[n_held - 1]);
}
static void of_one_in_the_depot(void)
{
    set_out();
    const struct depot *d = pool->depots;
    zbuf_free(&pool->header[d->bay[d->out % d->bays].unit[0]]);
    dprintf(STDERR_FILENO, "not seen yet, ");
    zbuf_free_bulk(held, n_held);
    zbuf_pool_destroy(pool);
}

static void a_second_free_comes_out(void)
{
    ABORTS(by_the_collector);
    SAYS("double free");
    ABORTS(of_one_in_the_depot);
    SAYS("not seen yet, zbuf: free of a segment that is free");
}

CHECK_MAIN("zbuf_transit", CHECK(they_are_nobodys), CHECK(another_process_sees_that),
           CHECK(freed_again_they_are_marked_free), CHECK(freed_again_at_once_they_are_marked_free),
           CHECK(they_may_travel_on), CHECK(they_count_when_they_are_allocated),
           CHECK(come_by_exchange_it_is_not_one_of_them),
           CHECK(given_in_exchange_they_are_marked_free), CHECK(a_second_free_comes_out))
