/* zbuf_test.c - the pool's contract as zbuf.h states it. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/unit/zbuf_fixture.h"
#include "zbuf/sanitize.h" /* whether this build has AddressSanitizer */

static void the_region_is_aligned_and_rounded_up(void)
{
    struct zbuf_pool *pool = pool_of(3 * MIB);
    CU_ASSERT_EQUAL((uintptr_t)zbuf_pool_base(pool) % ZBUF_SLAB, 0);
    CU_ASSERT_EQUAL(zbuf_pool_size(pool), 4 * MIB);
    CU_ASSERT_EQUAL(zbuf_pool_pages(pool), ZBUF_PAGES_ORDINARY);
    CU_ASSERT_TRUE(zbuf_pool_contains(pool, zbuf_pool_base(pool)));
    CU_ASSERT_TRUE(zbuf_pool_contains(pool, zbuf_pool_base(pool) + 4 * MIB - 1));
    CU_ASSERT_FALSE(zbuf_pool_contains(pool, zbuf_pool_base(pool) + 4 * MIB));
    CU_ASSERT_FALSE(zbuf_pool_contains(pool, zbuf_pool_base(pool) - 1));
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void defaults_and_bad_sizes(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    CU_ASSERT_EQUAL(zbuf_pool_size(pool), 64 * MIB);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_pool_create(&(struct zbuf_pool_config){.size = SIZE_MAX}));
    CU_ASSERT_EQUAL(errno, EINVAL);
    CU_ASSERT_PTR_NULL(zbuf_pool_create(&(struct zbuf_pool_config){.size = (size_t)1 << 60}));
    CU_ASSERT_EQUAL(errno, EINVAL);
}

static void no_memory(void)
{
    setrlimit(RLIMIT_AS, &(struct rlimit){64 * MIB, 64 * MIB});
    if (zbuf_pool_create(&(struct zbuf_pool_config){.size = 256 * MIB}) || errno != ENOMEM)
        _exit(1);
}
static void a_pool_that_does_not_fit_is_refused(void)
{
#ifndef ZBUF_ASAN /* which has mapped more than that already */
    CU_ASSERT_EQUAL(last_words(no_memory), 0);
#else
    (void)no_memory;
#endif
}

/* What is asked for and not there is done without, and said. */
static void pages_are_as_large_as_there_are(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(
        &(struct zbuf_pool_config){.size = 4 * MIB, .try_1g = true, .name = "large"});
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    enum zbuf_pages pages = zbuf_pool_pages(pool);
    CU_ASSERT_EQUAL(zbuf_pool_size(pool), pages == ZBUF_PAGES_HUGE_1G ? 1024 * MIB : 4 * MIB);
    CU_ASSERT_EQUAL(stat_of(pool).pages, pages);
    CU_ASSERT_STRING_EQUAL(stat_of(pool).name, "large");
    CU_ASSERT_STRING_EQUAL(zbuf_pages_name(ZBUF_PAGES_ORDINARY), "ordinary");
    CU_ASSERT_STRING_EQUAL(zbuf_pages_name(ZBUF_PAGES_HUGE_1G), "huge 1G");
    zbuf_free(zbuf_alloc(pool, 1));
    done_with(pool);
}

static void memory_is_bound_to_a_node_or_refused(void)
{
    struct zbuf_pool_config cfg = {.size = 2 * MIB, .bind_node = true, .node = 0};
    struct zbuf_pool *pool = zbuf_pool_create(&cfg);
    /* There may be a kernel without NUMA, or a sandbox. */
    CU_ASSERT(pool || errno == ENOSYS || errno == EPERM);
    if (pool)
        done_with(pool);
    for (cfg.node = 1000; cfg.node < 3000; cfg.node += 500) {
        CU_ASSERT_PTR_NULL(zbuf_pool_create(&cfg));
        CU_ASSERT(errno == EINVAL || errno == ENOSYS || errno == EPERM);
    }
}

static void each_size_gets_the_best_fitting_class(void)
{
    struct zbuf_pool *pool = pool_of(32 * MIB);
    for (uint32_t size = ZBUF_SEG_MIN, cls = 0; size <= ZBUF_SEG_MAX; size *= 2, cls++) {
        size_t bytes[] = {cls ? size / 2 - ZBUF_OVERHEAD + 1 : 0, size - ZBUF_OVERHEAD};
        for (unsigned i = 0; i < 2; i++) {
            struct zbuf *zb = zbuf_alloc(pool, bytes[i]);
            CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
            CU_ASSERT_EQUAL(zb->size, size);
            CU_ASSERT_EQUAL(zb->cls, cls);
            CU_ASSERT_EQUAL((uintptr_t)zb->first % size, 0);
            CU_ASSERT_EQUAL(zbuf_refcount(zb), 1);
            CU_ASSERT_PTR_EQUAL(zb->data, zb->first + ZBUF_OVERHEAD);
            CU_ASSERT_EQUAL(zbuf_room(zb), size - ZBUF_OVERHEAD);
            CU_ASSERT_EQUAL(zb->len, 0);
            CU_ASSERT_PTR_NULL(zb->next);
            CU_ASSERT_PTR_EQUAL(zbuf_pool_of(zb), pool);
            memset(zb->data, 0xee, zbuf_room(zb));
            zbuf_free(zb);
        }
    }
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, ZBUF_SEG_MAX - ZBUF_OVERHEAD + 1));
    CU_ASSERT_EQUAL(errno, EMSGSIZE);
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, SIZE_MAX));
    CU_ASSERT_EQUAL(errno, EMSGSIZE);
    errno = 0;
    struct zbuf *none[2];
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), SIZE_MAX, none, 2), 0);
    CU_ASSERT_EQUAL(errno, EMSGSIZE);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void a_frame_of_1460_fits_2k_with_its_headers(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf *zb = zbuf_alloc(pool, 1460);
    CU_ASSERT_EQUAL(zb->size, 2048);
    zbuf_free(zb);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void any_address_leads_to_its_segment(void)
{
    struct zbuf_pool *pool = pool_of(32 * MIB);
    for (size_t bytes = 1; bytes <= ZBUF_SEG_MAX - ZBUF_OVERHEAD; bytes = bytes * 2 + 100) {
        struct zbuf *zb = zbuf_alloc(pool, bytes);
        uint8_t *seg = zb->first;
        CU_ASSERT_PTR_NULL(zbuf_of(pool, seg));
        CU_ASSERT_PTR_NULL(zbuf_of(pool, seg + ZBUF_GUARD - 1));
        CU_ASSERT_PTR_EQUAL(zbuf_of(pool, seg + ZBUF_GUARD), zb);
        CU_ASSERT_PTR_EQUAL(zbuf_of(pool, zb->data), zb);
        CU_ASSERT_PTR_EQUAL(zbuf_of(pool, zbuf_end(zb) - 1), zb);
        CU_ASSERT_PTR_NOT_EQUAL(zbuf_of(pool, zbuf_end(zb) + ZBUF_OVERHEAD), zb);
        uint8_t *data = zb->data;
        zbuf_free(zb);
        CU_ASSERT_PTR_NULL(zbuf_of(pool, data));
    }
    int local;
    CU_ASSERT_PTR_NULL(zbuf_of(pool, &local));
    CU_ASSERT_PTR_NULL(zbuf_of(pool, NULL));
    CU_ASSERT_PTR_NULL(zbuf_of(pool, zbuf_pool_base(pool) + zbuf_pool_size(pool)));
    CU_ASSERT_PTR_NULL(zbuf_of(pool, zbuf_pool_base(pool) + zbuf_pool_size(pool) - 1));
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void the_last_reference_frees(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_pool_stat st;
    struct zbuf *zb = zbuf_alloc(pool, 100);
    CU_ASSERT_PTR_EQUAL(zbuf_ref(zb), zb);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 2);
    zbuf_free(zb);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 1);
    zbuf_pool_stat(pool, &st);
    CU_ASSERT_EQUAL(st.live, 1);
    CU_ASSERT_EQUAL(st.used, 1024);
    zbuf_free(zb);
    zbuf_pool_stat(pool, &st);
    CU_ASSERT_EQUAL(st.live, 0);
    CU_ASSERT_EQUAL(st.used, 0);
    zbuf_free(NULL);
    struct zbuf *again = zbuf_alloc(pool, 100);
    CU_ASSERT_PTR_EQUAL(again, zb);
    zbuf_free(again);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

/* Those of one thread are counted without atomics, and no otherwise. */
static void the_last_owned_reference_frees(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(
        &(struct zbuf_pool_config){.size = 2 * MIB, .no_huge = true, .owned_refs = true});
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    struct zbuf *zb = zbuf_alloc(pool, 100);
    for (uint32_t n = 2; n <= 4; n++) {
        CU_ASSERT_PTR_EQUAL(zbuf_ref(zb), zb);
        CU_ASSERT_EQUAL(zbuf_refcount(zb), n);
    }
    for (uint32_t n = 3; n >= 1; n--) {
        zbuf_free(zb);
        CU_ASSERT_EQUAL(zbuf_refcount(zb), n);
        CU_ASSERT_EQUAL(stat_of(pool).live, 1);
    }
    zbuf_free(zb);
    CU_ASSERT_EQUAL(stat_of(pool).live, 0);
    struct zbuf *again = zbuf_alloc(pool, 100);
    CU_ASSERT_PTR_EQUAL(again, zb);
    zbuf_free(again);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

/* And one that was left as it was is only read: two threads that hand segments to each other would
 * pay for each line that one of them writes. */
static void a_used_header_is_made_new(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf *zb = zbuf_alloc(pool, 100);
    uint8_t *data = zb->data;
    for (int use = 0; use < 5; use++) {
        uint32_t generation = zb->generation;
        switch (use) {
        case 1:
            zb->data += 64;
            break;
        case 2:
            zb->len = 1;
            break;
        case 3:
            zb->next = zb;
            break;
        case 4:
            zbuf_set_holder(zb, 815);
            break;
        default:
            break;
        }
        zbuf_free(zb);
        CU_ASSERT_PTR_EQUAL_FATAL(zbuf_alloc(pool, 100), zb); /* the last one freed */
        CU_ASSERT_EQUAL(zb->generation != generation, use > 0);
        CU_ASSERT_PTR_EQUAL(zb->data, data);
        CU_ASSERT_EQUAL(zb->len, 0);
        CU_ASSERT_PTR_NULL(zb->next);
        CU_ASSERT_EQUAL(zb->priv, 0);
    }
    zbuf_free(zb);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void exhaustion_is_enobufs_and_every_segment_is_distinct(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    static struct zbuf *zb[2048];
    for (unsigned i = 0; i < 2048; i++) {
        zb[i] = zbuf_alloc(pool, 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb[i]);
        zb[i]->user = i;
        memset(zb[i]->data, (int)i & 0xff, zbuf_room(zb[i]));
    }
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 0));
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    struct zbuf_pool_stat st;
    zbuf_pool_stat(pool, &st);
    CU_ASSERT_EQUAL(st.used, 2 * MIB);
    CU_ASSERT_EQUAL(st.cls[0].segs, 2048);
    CU_ASSERT_EQUAL(st.cls[0].free, 0);
    CU_ASSERT_EQUAL(st.cls[0].high_water, 2048);
    CU_ASSERT_EQUAL(st.cls[0].allocs, 2048);
    CU_ASSERT_EQUAL(st.cls[0].failures, 1);
    for (unsigned i = 0; i < 2048; i++) {
        CU_ASSERT_EQUAL(zb[i]->user, i);
        CU_ASSERT_EQUAL(*zb[i]->data, i & 0xff);
    }
    zbuf_free_bulk(zb, 2048);
    zbuf_pool_stat(pool, &st);
    CU_ASSERT_EQUAL(st.live, 0);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), 0, zb, 2048), 2048);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), 0, zb, 1), 0);
    zbuf_free_bulk(zb, 2048);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void falls_upward_when_the_class_cannot_grow(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf *big = zbuf_alloc(pool, 100 * 1024), *small[2048];
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), 0, small, 2048), 2048);
    struct zbuf *up = zbuf_alloc(pool, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(up);
    CU_ASSERT_EQUAL(up->size, ZBUF_SEG_MAX);
    struct zbuf_pool_stat st;
    zbuf_pool_stat(pool, &st);
    CU_ASSERT_EQUAL(st.cls[0].fall_ups, 1);
    struct zbuf_budget_stat b;
    CU_ASSERT_EQUAL(zbuf_budget_stats(pool, &b, 1), 1);
    CU_ASSERT_EQUAL(b.fall_ups, 1);
    zbuf_free(up);
    zbuf_free(big);
    zbuf_free_bulk(small, 2048);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void a_ceiling_holds(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf_budget *b = zbuf_budget_create(pool, "conn", 0, 8192);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b);
    CU_ASSERT_NOT_EQUAL(zbuf_budget_id(b), zbuf_budget_id(zbuf_budget_app(pool)));
    struct zbuf *zb[4], *other = zbuf_alloc(pool, 1000);
    for (unsigned i = 0; i < 4; i++) {
        zb[i] = zbuf_alloc_from(b, 1000);
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb[i]);
        CU_ASSERT_EQUAL(zb[i]->owner, zbuf_budget_id(b));
    }
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(b, 1000));
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    CU_ASSERT_EQUAL(zbuf_charge(other, b), -ENOBUFS);
    CU_ASSERT_EQUAL(other->owner, zbuf_budget_id(zbuf_budget_app(pool)));
    CU_ASSERT_EQUAL(zbuf_budget_used(b), 8192);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), -EBUSY);
    zbuf_free(zb[0]);
    CU_ASSERT_EQUAL(zbuf_budget_used(b), 6144);
    CU_ASSERT_EQUAL(zbuf_charge(other, b), 0);
    CU_ASSERT_EQUAL(zbuf_budget_used(zbuf_budget_app(pool)), 0);
    zbuf_free(other);
    CU_ASSERT_EQUAL(zbuf_budget_used(b), 6144);
    zbuf_free_bulk(zb + 1, 3);
    struct zbuf_budget_stat st[4];
    CU_ASSERT_EQUAL(zbuf_budget_stats(pool, st, 4), 2);
    CU_ASSERT_STRING_EQUAL(st[1].name, "conn");
    CU_ASSERT_EQUAL(st[1].high_water, 8192);
    CU_ASSERT_EQUAL(st[1].failures, 2);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    CU_ASSERT_EQUAL(zbuf_budget_stats(pool, st, 1), 1);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void a_minimum_is_there_whatever_the_others_do(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf_budget *ctrl = zbuf_budget_create(pool, "ctrl", 16 * 2048, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ctrl);
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_budget_create(pool, "too much", 4 * MIB, 0));
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    static struct zbuf *flood[4096];
    unsigned n = zbuf_alloc_bulk(zbuf_budget_app(pool), 1000, flood, 4096);
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 1000));
    struct zbuf *zb[16];
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(ctrl, 1000, zb, 16), 16);
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(ctrl, 1000));
    zbuf_free_bulk(zb, 16);
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 1000));
    zbuf_free_bulk(flood, n);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(ctrl), 0);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void the_headroom_has_one_user_until_tx_done(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf *zb = zbuf_alloc(pool, 1000);
    CU_ASSERT_TRUE(zbuf_headroom_claim(zb));
    CU_ASSERT_FALSE(zbuf_headroom_claim(zb));
    zbuf_ref(zb);
    zbuf_ref(zb);
    zbuf_tx_done(pool, zb->data); /* payload only: the claim stays */
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 2);
    CU_ASSERT_FALSE(zbuf_headroom_claim(zb));
    zbuf_tx_done(pool, zb->data - 54);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 1);
    CU_ASSERT_TRUE(zbuf_headroom_claim(zb));
    zbuf_free(zb);
    zb = zbuf_alloc(pool, 1000); /* a new life begins unclaimed */
    CU_ASSERT_TRUE(zbuf_headroom_claim(zb));
    zbuf_free(zb);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

/* ---- misuse: each case in a child, whose last words are read */

static void free_twice(void)
{
    struct zbuf *zb = zbuf_alloc(zbuf_pool_create(NULL), 3000);
    zbuf_free(zb);
    zbuf_free(zb);
}
static void ref_freed(void)
{
    struct zbuf *zb = zbuf_alloc(zbuf_pool_create(NULL), 3000);
    zbuf_free(zb);
    zbuf_ref(zb);
}
static struct zbuf *owned(void)
{
    return zbuf_alloc(zbuf_pool_create(&(struct zbuf_pool_config){.owned_refs = true}), 3000);
}
static void free_owned_twice(void)
{
    struct zbuf *zb = owned();
    zbuf_ref(zb);
    zbuf_free(zb);
    zbuf_free(zb);
    zbuf_free(zb);
}
static void ref_owned_freed(void)
{
    struct zbuf *zb = owned();
    zbuf_free(zb);
    zbuf_ref(zb);
}
static void owned_overflow(void)
{
    struct zbuf *zb = owned();
    zb->refcount = INT32_MAX;
    zbuf_ref(zb);
}
static void owned_gone_wild(void)
{
    struct zbuf *zb = owned();
    zb->refcount = 0;
    zbuf_free(zb);
}
static void free_foreign(void)
{
    zbuf_pool_create(NULL);
    static struct zbuf foreign;
    foreign.refcount = 1;
    zbuf_free(&foreign);
}
static void free_interior(void)
{
    struct zbuf *zb = zbuf_alloc(zbuf_pool_create(NULL), 3000);
    zbuf_free((struct zbuf *)(void *)(zb->data));
}
static void overflow(void)
{
    struct zbuf *zb = zbuf_alloc(zbuf_pool_create(NULL), 3000);
    zb->refcount = UINT32_MAX;
    zbuf_ref(zb);
}
static void tx_done_dead(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(NULL);
    struct zbuf *zb = zbuf_alloc(pool, 3000);
    zbuf_free(zb);
    zbuf_tx_done(pool, zb->first + ZBUF_OVERHEAD);
}
static void tx_done_foreign(void)
{
    int local;
    zbuf_tx_done(zbuf_pool_create(NULL), &local);
}

static void ref_foreign(void)
{
    static struct zbuf foreign;
    zbuf_free(zbuf_alloc(zbuf_pool_create(NULL), 1));
    zbuf_ref(&foreign);
}
static void free_in_a_free_slab(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(NULL);
    zbuf_free(zbuf_alloc(pool, 1));
    zbuf_free((struct zbuf *)(void *)(zbuf_pool_base(pool) + 8 * ZBUF_SLAB));
}
/* Where there could be a header. */
static void free_of_no_segments_header(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(NULL);
    struct zbuf *zb = zbuf_alloc(pool, 3000);
    zbuf_free(zb + 512); /* so many of 4K has a slab */
}
static void free_of_half_a_header(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(NULL);
    struct zbuf *zb = zbuf_alloc(pool, 3000);
    zbuf_free((struct zbuf *)(void *)((uint8_t *)zb + 8));
}
static void refcount_gone_wild(void)
{
    struct zbuf *zb = zbuf_alloc(zbuf_pool_create(NULL), 3000);
    zb->refcount = 0;
    zbuf_free(zb);
}
static void owner_gone_wild(void)
{
    struct zbuf *zb = zbuf_alloc(zbuf_pool_create(NULL), 3000);
    zb->owner = 4711;
    zbuf_free(zb);
}
static void charge_freed(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(NULL);
    struct zbuf *zb = zbuf_alloc(pool, 3000);
    zbuf_free(zb);
    zbuf_charge(zb, zbuf_budget_app(pool));
}
static void charge_damaged(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(NULL);
    struct zbuf *zb = zbuf_alloc(pool, 3000);
    zb->owner = 4711;
    zbuf_charge(zb, zbuf_budget_app(pool));
}
static void charge_to_another_pool(void)
{
    struct zbuf *zb = zbuf_alloc(zbuf_pool_create(NULL), 3000);
    zbuf_charge(zb, zbuf_budget_app(zbuf_pool_create(NULL)));
}
static void damage_is_met_with_an_abort(void)
{
    ABORTS(ref_foreign);
    SAYS("not a zbuf");
    ABORTS(free_in_a_free_slab);
    SAYS("in a slab that is not in use");
    ABORTS(free_of_no_segments_header);
    SAYS("not a zbuf");
    SAYS("a header that is not in use");
    ABORTS(free_of_half_a_header);
    SAYS("not a zbuf");
    ABORTS(refcount_gone_wild);
    SAYS("damaged header");
    ABORTS(owner_gone_wild);
    SAYS("damaged header");
    SAYS("owner 4711 (?)");
    ABORTS(charge_freed);
    SAYS("in free segment");
    ABORTS(charge_damaged);
    SAYS("damaged header");
    ABORTS(charge_to_another_pool);
    SAYS("not a live zbuf of the budget's pool");
}

static void two_pools_in_turn(void)
{
    struct zbuf_pool *a = pool_of(2 * MIB), *b = pool_of(2 * MIB);
    struct zbuf *za[8], *zb[8];
    for (unsigned i = 0; i < 8; i++) {
        za[i] = zbuf_alloc(a, 1000);
        zb[i] = zbuf_alloc(b, 1000);
        CU_ASSERT_PTR_EQUAL(zbuf_pool_of(za[i]), a);
        CU_ASSERT_PTR_EQUAL(zbuf_pool_of(zb[i]), b);
        CU_ASSERT_PTR_NULL(zbuf_of(a, zb[i]->data));
        zbuf_ref(za[i]); /* in the pool that was not used last */
        zbuf_free(za[i]);
    }
    struct zbuf *mixed[] = {za[0], zb[0], NULL, za[1], za[2], zb[1], NULL};
    zbuf_free_bulk(mixed, 7);
    for (unsigned i = 2; i < 8; i++) {
        if (i > 2)
            zbuf_free(za[i]);
        zbuf_free(zb[i]);
    }
    done_with(a);
    done_with(b);
}

/* The pool that was used last has gone; the thread still looks into the magazine that it used
 * there. */
static void the_last_pool_has_gone(void)
{
    for (unsigned first = 0; first < 4; first++) { /* what is done first after that */
        struct zbuf_pool *a = pool_of(2 * MIB), *b = pool_of(2 * MIB);
        struct zbuf *zb[2] = {zbuf_alloc(b, 1000), zbuf_alloc(b, 1000)}, *more[2];
        zbuf_free(zbuf_alloc(a, 1000));
        done_with(a);
        if (first == 2)
            zbuf_free(zbuf_alloc(b, 1000));
        if (first == 3) {
            CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(b), 1000, more, 2), 2);
            zbuf_free_bulk(more, 2);
        }
        if (first == 1) {
            zbuf_free_bulk(zb, 2);
        } else {
            zbuf_free(zb[0]);
            zbuf_free(zb[1]);
        }
        done_with(b);
    }
}

/* Without membarrier there are no magazines, without memfd no statistics for others, and pages are
 * touched by hand: as on an old kernel, or in a strict sandbox. */
static int forbid(int nr, int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = 4, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
               ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)
               : -1;
}
static void in_a_sandbox(void)
{
    static struct zbuf *all[1024];
    struct zbuf_reader *rd;
    if (forbid(SYS_membarrier, EPERM) || forbid(SYS_memfd_create, EPERM) ||
        forbid(SYS_madvise, EINVAL))
        _exit(77);
    struct zbuf_pool *pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 2 * MIB});
    if (!pool || zbuf_pool_pages(pool) != ZBUF_PAGES_ORDINARY)
        _exit(1);
    if (zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), all, 1024) != 1024 ||
        zbuf_alloc(pool, 1))
        _exit(2);
    zbuf_free_bulk(all, 1024);
    struct zbuf_pool_stat st;
    zbuf_pool_stat(pool, &st);
    if (st.live || zbuf_reader_open(getpid(), 0, &rd) != -ENOENT || zbuf_pool_destroy(pool) != 0)
        _exit(3);
}
static void it_works_in_a_sandbox(void)
{
    int status = last_words(in_a_sandbox);
    CU_ASSERT(status == 0 || status == -77);
}

static void misuse_aborts_and_says_what_it_knows(void)
{
    ABORTS(free_twice);
    SAYS("double free");
    SAYS("4096 bytes");
    SAYS("(app)");
    SAYS("generation ");
    ABORTS(ref_freed);
    ABORTS(free_foreign);
    SAYS("not a zbuf");
    ABORTS(free_interior);
    SAYS("not a zbuf");
    ABORTS(overflow);
    SAYS("overflow");
    ABORTS(free_owned_twice);
    SAYS("double free");
    ABORTS(ref_owned_freed);
    SAYS("reference to a freed segment");
    ABORTS(owned_overflow);
    SAYS("refcount overflow");
    ABORTS(owned_gone_wild);
    SAYS("damaged header");
    ABORTS(tx_done_dead);
    ABORTS(tx_done_foreign);
}

static void leak_then_destroy(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(NULL);
    struct zbuf_budget *b = zbuf_budget_create(pool, "leaky", 0, 0);
    struct zbuf *zb = zbuf_alloc_from(b, 3000);
    if (zbuf_pool_destroy(pool) != -EBUSY)
        return;
    memset(zb->data, 1, 3000); /* still mapped */
    zbuf_free(zb);
    if (zbuf_pool_destroy(pool) == 0)
        abort();
}

static void destroy_names_who_still_holds(void)
{
    ABORTS(leak_then_destroy);
    SAYS("leaky");
    SAYS("4096");
}

CHECK_MAIN("zbuf", CHECK(the_region_is_aligned_and_rounded_up), CHECK(defaults_and_bad_sizes),
           CHECK(a_pool_that_does_not_fit_is_refused), CHECK(pages_are_as_large_as_there_are),
           CHECK(memory_is_bound_to_a_node_or_refused),
           CHECK(each_size_gets_the_best_fitting_class),
           CHECK(a_frame_of_1460_fits_2k_with_its_headers), CHECK(any_address_leads_to_its_segment),
           CHECK(the_last_reference_frees), CHECK(the_last_owned_reference_frees),
           CHECK(a_used_header_is_made_new),
           CHECK(exhaustion_is_enobufs_and_every_segment_is_distinct),
           CHECK(falls_upward_when_the_class_cannot_grow), CHECK(a_ceiling_holds),
           CHECK(a_minimum_is_there_whatever_the_others_do),
           CHECK(the_headroom_has_one_user_until_tx_done),
           CHECK(misuse_aborts_and_says_what_it_knows), CHECK(damage_is_met_with_an_abort),
           CHECK(two_pools_in_turn), CHECK(the_last_pool_has_gone), CHECK(it_works_in_a_sandbox),
           CHECK(destroy_names_who_still_holds))
