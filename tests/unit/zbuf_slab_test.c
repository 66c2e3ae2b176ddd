/* zbuf_slab_test.c - classes grow and shrink by slabs, and only when there is reason to. */
#include "tests/unit/zbuf_fixture.h"

#define MANY 8192
static struct zbuf *held[MANY];

static unsigned fill(struct zbuf_pool *pool, uint32_t size, unsigned max)
{
    return zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(size), held, max);
}

static void every_class_can_have_the_whole_pool_in_turn(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    for (unsigned round = 0; round < 3; round++)
        for (uint32_t size = ZBUF_SEG_MIN; size <= ZBUF_SEG_MAX; size *= 2) {
            unsigned n = fill(pool, size, MANY);
            CU_ASSERT_EQUAL(n, 4 * MIB / size);
            CU_ASSERT_EQUAL(stat_of(pool).used, 4 * MIB);
            zbuf_free_bulk(held, n);
        }
    done_with(pool);
}

static void the_class_grows_before_anybody_falls_upward(void)
{
    struct zbuf_pool *pool = pool_of(6 * MIB);
    struct zbuf *big = zbuf_alloc(pool, FITS(ZBUF_SEG_MAX));
    unsigned n = fill(pool, 1024, 4096);
    CU_ASSERT_EQUAL(n, 4096);
    struct zbuf_pool_stat st = stat_of(pool);
    CU_ASSERT_EQUAL(st.cls[0].slabs, 2);
    CU_ASSERT_EQUAL(st.cls[0].grown, 2);
    CU_ASSERT_EQUAL(st.cls[0].fall_ups, 0);
    CU_ASSERT_EQUAL(st.slabs_free, 0);
    /* Nothing is left to grow by: upward, and the waste is counted. */
    struct zbuf *up = zbuf_alloc(pool, 100);
    CU_ASSERT_PTR_NOT_NULL_FATAL(up);
    CU_ASSERT_EQUAL(up->size, ZBUF_SEG_MAX);
    st = stat_of(pool);
    CU_ASSERT_EQUAL(st.cls[0].fall_ups, 1);
    CU_ASSERT_EQUAL(st.cls[0].fall_up_waste, ZBUF_SEG_MAX - 1024);
    /* As soon as the class has one again, that is taken. */
    zbuf_free(held[--n]);
    held[n] = zbuf_alloc(pool, 100);
    CU_ASSERT_EQUAL(held[n]->size, 1024);
    zbuf_free_bulk(held, n + 1);
    zbuf_free(up);
    zbuf_free(big);
    done_with(pool);
}

static void an_idle_slab_serves_another_class(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf *zb = zbuf_alloc(pool, 1);
    errno = 0;
    CU_ASSERT_EQUAL(zbuf_alloc(pool, FITS(4096)), NULL); /* one live segment keeps a slab */
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    uint32_t generation = zb->generation;
    zbuf_free(zb);
    zb = zbuf_alloc(pool, FITS(4096));
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    CU_ASSERT_EQUAL(stat_of(pool).cls[0].slabs, 0);
    CU_ASSERT_EQUAL(stat_of(pool).cls[0].shrunk, 1);
    CU_ASSERT_NOT_EQUAL(zb->generation, generation);
    /* What was the front of a segment may now be inside another one. */
    CU_ASSERT_PTR_EQUAL(zbuf_of(pool, zb->first + 1024), zb);
    zbuf_free(zb);
    done_with(pool);
}

/* A load that swings around the edge of a slab does not move it to and fro. */
static void a_swing_does_not_thrash(void)
{
    struct zbuf_pool *pool = pool_of(8 * MIB);
    unsigned n = fill(pool, 4096, 512 + 512);
    uint64_t grown = stat_of(pool).cls[2].grown;
    for (unsigned i = 0; i < 100; i++) {
        struct zbuf *burst[200];
        CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(4096), burst, 200), 200);
        zbuf_free_bulk(burst, 200);
        struct zbuf_budget *b = zbuf_budget_create(pool, "drains what is at hand", 0, 0);
        zbuf_budget_destroy(b);
    }
    CU_ASSERT(stat_of(pool).cls[2].grown <= grown + 1);
    zbuf_free_bulk(held, n);
    done_with(pool);
}

/* After a burst a class gives slabs up by itself, down to the mark. */
static void after_a_burst_slabs_come_back(void)
{
    struct zbuf_pool *pool = pool_of(16 * MIB);
    unsigned n = fill(pool, 4096, 4096);
    CU_ASSERT_EQUAL(n, 4096);
    CU_ASSERT_EQUAL(stat_of(pool).slabs_free, 0);
    zbuf_free_bulk(held, n);
    CU_ASSERT(stat_of(pool).slabs_free >= 5);
    CU_ASSERT(stat_of(pool).cls[2].slabs >= 1);
    done_with(pool);
}

static unsigned shuffle(unsigned n)
{
    static unsigned seed = 1;
    for (unsigned i = n; i > 1; i--) {
        unsigned k = ((seed = seed * 1103515245u + 12345u) >> 8) % i;
        struct zbuf *t = held[k];
        held[k] = held[i - 1];
        held[i - 1] = t;
    }
    return n;
}

/* Scattered over all slabs at first, a load that breathes ends up in few. */
static void use_gathers_in_few_slabs(void)
{
    struct zbuf_pool *pool = pool_of(16 * MIB);
    unsigned n = shuffle(fill(pool, 4096, 4096));
    CU_ASSERT_EQUAL(n, 4096);
    zbuf_free_bulk(held + 512, n - 512);
    for (unsigned i = 0; i < 100; i++) {
        shuffle(512);
        zbuf_free_bulk(held, 300);
        CU_ASSERT_EQUAL(fill(pool, 4096, 300), 300);
    }
    /* 512 are one slab's worth. */
    CU_ASSERT(stat_of(pool).cls[2].slabs <= 3);
    zbuf_free_bulk(held, 512);
    done_with(pool);
}

static void high_water_and_counts_are_exact_for_one_thread(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    for (unsigned peak = 1; peak <= 300; peak += 37) {
        for (unsigned i = 0; i < peak; i++)
            held[i] = zbuf_alloc(pool, FITS(2048));
        for (unsigned i = 0; i < peak; i++)
            zbuf_free(held[i]);
        CU_ASSERT_EQUAL(stat_of(pool).cls[1].high_water, peak);
    }
    uint64_t allocs = 0;
    for (unsigned peak = 1; peak <= 300; peak += 37)
        allocs += peak;
    CU_ASSERT_EQUAL(stat_of(pool).cls[1].allocs, allocs);
    struct zbuf_budget_stat st;
    CU_ASSERT_EQUAL(zbuf_budget_stats(pool, &st, 1), 1);
    CU_ASSERT_EQUAL(st.high_water, 297 * 2048);
    done_with(pool);
}

CHECK_MAIN("zbuf_slab", CHECK(every_class_can_have_the_whole_pool_in_turn),
           CHECK(the_class_grows_before_anybody_falls_upward),
           CHECK(an_idle_slab_serves_another_class), CHECK(a_swing_does_not_thrash),
           CHECK(after_a_burst_slabs_come_back), CHECK(use_gathers_in_few_slabs),
           CHECK(high_water_and_counts_are_exact_for_one_thread))
