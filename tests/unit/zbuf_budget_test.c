/* zbuf_budget_test.c - who may have how much: minima, ceilings, two levels, and waiting. */
#include <poll.h>

#include "tests/unit/zbuf_fixture.h"

#define MANY 8192
static struct zbuf *held[MANY];

static struct zbuf_budget *child_of(struct zbuf_budget *parent, struct zbuf_pool *pool, size_t min,
                                    size_t max)
{
    struct zbuf_budget_config cfg = {
        .name = "child", .parent = parent, .min_bytes = min, .max_bytes = max};
    return zbuf_budget_open(pool, &cfg);
}

static struct zbuf_budget_stat bstat(const struct zbuf_pool *pool, const struct zbuf_budget *b)
{
    struct zbuf_budget_stat st[64];
    unsigned n = zbuf_budget_stats(pool, st, 64);
    for (unsigned i = 0; i < n && i < 64; i++)
        if (st[i].id == zbuf_budget_id(b))
            return st[i];
    CU_FAIL_FATAL("no such budget");
    return st[0];
}

/* Takes all that it can get of each class, the largest first. */
static unsigned flood(struct zbuf_budget *b)
{
    unsigned n = 0;
    for (uint32_t size = ZBUF_SEG_MAX; size >= ZBUF_SEG_MIN; size /= 2)
        n += zbuf_alloc_bulk(b, FITS(size), held + n, MANY - n);
    return n;
}

static void no_flood_takes_what_is_set_aside(void)
{
    for (uint32_t seg = ZBUF_SEG_MIN; seg <= ZBUF_SEG_MAX; seg *= 2) {
        struct zbuf_pool *pool = pool_of(6 * MIB);
        struct zbuf_budget_config cfg = {.name = "ctrl", .min_bytes = 9 * seg, .min_seg = seg};
        struct zbuf_budget *ctrl = zbuf_budget_open(pool, &cfg);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ctrl);
        unsigned n = flood(zbuf_budget_app(pool));
        CU_ASSERT_EQUAL(stat_of(pool).size - stat_of(pool).used, 9 * seg);
        struct zbuf *mine[10];
        /* Again and again, in any size up to seg, while the others stay hungry. */
        for (unsigned round = 0; round < 50; round++) {
            for (unsigned i = 0; i < 9; i++) {
                mine[i] = zbuf_alloc_from(ctrl, round % 2 ? FITS(seg) : 1);
                CU_ASSERT_PTR_NOT_NULL_FATAL(mine[i]);
                CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 1));
            }
            CU_ASSERT_PTR_NULL(zbuf_alloc_from(ctrl, 1));
            CU_ASSERT_EQUAL(errno, ENOBUFS);
            for (unsigned i = 0; i < 9; i++) {
                zbuf_free(mine[i]);
                CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 1));
            }
        }
        zbuf_free_bulk(held, n);
        CU_ASSERT_EQUAL(zbuf_budget_destroy(ctrl), 0);
        done_with(pool);
    }
}

/* A promise is kept although slabs move between classes under it. */
static void elasticity_spares_what_is_set_aside(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf_budget *ctrl = zbuf_budget_create(pool, "ctrl", 1000 * 2048, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ctrl);
    for (unsigned round = 0; round < 20; round++) {
        unsigned n = flood(zbuf_budget_app(pool));
        CU_ASSERT(n > 0);
        unsigned got = zbuf_alloc_bulk(ctrl, FITS(2048), held + n, 1000);
        CU_ASSERT_EQUAL(got, 1000);
        if (round % 2)
            zbuf_free_bulk(held, n + got);
        else /* in the other order */
            for (unsigned i = n + got; i-- > 0;)
                zbuf_free(held[i]);
    }
    CU_ASSERT_EQUAL(zbuf_budget_destroy(ctrl), 0);
    done_with(pool);
}

static void a_minimum_that_is_not_there_is_refused(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    unsigned n = flood(zbuf_budget_app(pool));
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_budget_create(pool, "late", 1, 0));
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    zbuf_free(held[--n]); /* 1K: too small for a 2K segment */
    CU_ASSERT_PTR_NULL(zbuf_budget_create(pool, "late", 1, 0));
    zbuf_free_bulk(held, n);
    struct zbuf_budget *b = zbuf_budget_create(pool, "late", 4 * MIB, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b);
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 1));
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_budget_create(pool, "far too much", SIZE_MAX, 0));
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    done_with(pool);
}

static void bad_configurations_are_refused(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB), *other = pool_of(2 * MIB);
    struct zbuf_budget *parent = zbuf_budget_create(pool, "p", 0, 0);
    struct zbuf_budget *child = child_of(parent, pool, 0, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(child);
    struct zbuf_budget_config bad[] = {
        {.min_seg = 512},
        {.min_seg = 3000},
        {.min_seg = 2 * ZBUF_SEG_MAX},
        {.parent = child},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        CU_ASSERT_PTR_NULL(zbuf_budget_open(pool, &bad[i]));
        CU_ASSERT_EQUAL(errno, EINVAL);
    }
    CU_ASSERT_PTR_NULL(child_of(parent, other, 0, 0));
    CU_ASSERT_EQUAL(zbuf_budget_destroy(parent), -EBUSY);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(zbuf_budget_app(pool)), -EBUSY);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(child), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(parent), 0);
    done_with(pool);
    done_with(other);
}

/* Of a minimum above the ceiling a part could never be had, not even by those it is for. */
static void a_minimum_fits_under_its_ceiling(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget_config cfg = {
        .name = "b", .min_bytes = 5 * 16384 + 1, .min_seg = 16384, .max_bytes = 6 * 16384 - 1};
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_budget_open(pool, &cfg)); /* the minimum is six segments */
    CU_ASSERT_EQUAL(errno, EINVAL);
    cfg.min_bytes = 5 * 16384;
    struct zbuf_budget *b = zbuf_budget_open(pool, &cfg);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b);
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, 5 * 16384 + 1, 6 * 16384 - 1), -EINVAL);
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, 5 * 16384, 5 * 16384 - 1), -EINVAL);
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, SIZE_MAX / 2, SIZE_MAX), -ENOBUFS);
    CU_ASSERT_EQUAL(bstat(pool, b).min, 5 * 16384);
    CU_ASSERT_EQUAL(bstat(pool, b).max, 6 * 16384 - 1);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(b, FITS(16384), held, 6), 5);
    zbuf_free_bulk(held, 5);
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, 5 * 16384 + 1, 0), 0); /* no ceiling */
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    done_with(pool);
}

static void names_are_cut_and_ids_used_again(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *b = zbuf_budget_create(pool, "a name of more than 24 bytes", 0, 0);
    CU_ASSERT_STRING_EQUAL(bstat(pool, b).name, "a name of more than 24 ");
    uint16_t id = zbuf_budget_id(b);
    for (unsigned i = 0; i < 3 * ZBUF_BUDGETS; i++) {
        CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
        b = zbuf_budget_create(pool, NULL, 0, 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(b);
    }
    CU_ASSERT_EQUAL(zbuf_budget_id(b), id);
    CU_ASSERT_STRING_EQUAL(bstat(pool, b).name, "");
    /* There are as many as promised, and then no more. */
    unsigned n = 2;
    while (zbuf_budget_create(pool, "x", 0, 0))
        n++;
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    CU_ASSERT_EQUAL(n, ZBUF_BUDGETS);
    done_with(pool);
}

static void children_share_their_parents_ceiling(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf_budget *p = zbuf_budget_create(pool, "listener", 0, 10 * 2048);
    struct zbuf_budget *a = child_of(p, pool, 0, 0), *b = child_of(p, pool, 0, 8 * 2048);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(a, FITS(2048), held, 6), 6);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(b, FITS(2048), held + 6, 6), 4);
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(p, 1));
    CU_ASSERT_EQUAL(bstat(pool, p).used, 10 * 2048);
    CU_ASSERT_EQUAL(bstat(pool, a).used, 6 * 2048);
    CU_ASSERT_EQUAL(bstat(pool, p).high_water, 10 * 2048);
    CU_ASSERT_EQUAL(bstat(pool, a).parent, zbuf_budget_id(p));
    /* Between two children the parent's use does not change. */
    CU_ASSERT_EQUAL(zbuf_charge(held[0], b), 0);
    CU_ASSERT_EQUAL(zbuf_charge(held[0], zbuf_budget_app(pool)), 0);
    CU_ASSERT_EQUAL(bstat(pool, p).used, 9 * 2048);
    zbuf_free_bulk(held, 6);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(b, FITS(2048), held, 6), 4); /* its own ceiling now */
    zbuf_free_bulk(held, 4);
    zbuf_free_bulk(held + 6, 4);
    CU_ASSERT_EQUAL(bstat(pool, p).used, 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(a), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(p), 0);
    done_with(pool);
}

static void a_childs_minimum_is_carved_out_of_its_parents(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB); /* one slab: 1024 segments of 2K */
    struct zbuf_budget *p = zbuf_budget_create(pool, "p", 100 * 2048, 0);
    struct zbuf_budget *a = child_of(p, pool, 60 * 2048, 0), *b = child_of(p, pool, 40 * 2048, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b);
    CU_ASSERT_EQUAL(stat_of(pool).cls[1].set_aside, 100); /* not 200 */
    unsigned n = zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), held, MANY);
    CU_ASSERT_EQUAL(n, 924);
    /* A greedy child does not get at its sibling's. */
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(a, FITS(2048), held + n, 100), 60);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(b, FITS(2048), held + n + 60, 100), 40);
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(p, 1));
    zbuf_free_bulk(held + n, 100);
    /* Nor the parent at theirs; and when a child goes, its part is the parent's again. */
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(p, 1));
    CU_ASSERT_EQUAL(zbuf_budget_destroy(a), 0);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(p, FITS(2048), held + n, 100), 60);
    CU_ASSERT_EQUAL(zbuf_budget_resize(p, 39 * 2048, 0), -EBUSY); /* b has 40 of it */
    zbuf_free_bulk(held, n + 60);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(p), 0);
    CU_ASSERT_EQUAL(stat_of(pool).cls[1].set_aside, 0);
    done_with(pool);
}

static void a_lower_ceiling_takes_effect_as_buffers_come_home(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *b = zbuf_budget_create(pool, "b", 0, 0);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(b, FITS(2048), held, 20), 20);
    zbuf_free_bulk(held + 10, 10); /* at hand in the thread's magazine */
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, 0, 4 * 2048), 0);
    for (unsigned i = 0; i < 7; i++) {
        CU_ASSERT_PTR_NULL(zbuf_alloc_from(b, 1000));
        zbuf_free(held[i]);
    }
    held[0] = zbuf_alloc_from(b, FITS(2048)); /* three are held: there is room for one */
    CU_ASSERT_PTR_NOT_NULL(held[0]);
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(b, 1000));
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, 0, 0), 0);
    held[1] = zbuf_alloc_from(b, FITS(2048));
    CU_ASSERT_PTR_NOT_NULL(held[1]);
    zbuf_free_bulk(held, 2);
    zbuf_free_bulk(held + 7, 3);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    done_with(pool);
}

static void a_minimum_grows_only_if_it_can(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *b = zbuf_budget_create(pool, "b", 10 * 2048, 0);
    unsigned n = zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), held, MANY);
    CU_ASSERT_EQUAL(n, 1014);
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, 11 * 2048, 0), -ENOBUFS);
    CU_ASSERT_EQUAL(bstat(pool, b).min, 10 * 2048);
    zbuf_free(held[--n]);
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, 11 * 2048, 0), 0);
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 1));
    CU_ASSERT_EQUAL(zbuf_budget_resize(b, 0, 0), 0);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), held + n, MANY - n), 11);
    zbuf_free_bulk(held, n + 11);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    done_with(pool);
}

static void what_is_at_hand_for_one_is_taken_back_for_another(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *a = zbuf_budget_create(pool, "a", 0, 0);
    struct zbuf_budget *b = zbuf_budget_create(pool, "b", 0, 0);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(a, FITS(2048), held, 1024), 1024);
    for (unsigned i = 0; i < 30; i++) /* into a's magazine */
        zbuf_free(held[i]);
    CU_ASSERT_EQUAL(zbuf_budget_used(a), 994 * 2048);
    for (unsigned i = 0; i < 30; i++) {
        held[i] = zbuf_alloc_from(b, FITS(2048));
        CU_ASSERT_PTR_NOT_NULL_FATAL(held[i]);
    }
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(b, 1));
    CU_ASSERT_EQUAL(zbuf_budget_used(b), 30 * 2048);
    /* And for another class: all but the 128K's worth stays. */
    zbuf_free_bulk(held, 1024);
    held[0] = zbuf_alloc_from(b, FITS(ZBUF_SEG_MAX));
    CU_ASSERT_PTR_NOT_NULL(held[0]);
    zbuf_free(held[0]);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(a), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    done_with(pool);
}

static void a_charge_moves_only_to_those_who_may(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *rx = zbuf_budget_create(pool, "rx", 512 * 2048, 0);
    struct zbuf_budget *conn = zbuf_budget_create(pool, "conn", 0, 0);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(rx, FITS(2048), held, 512), 512);
    unsigned n = 512 + zbuf_alloc_bulk(conn, FITS(2048), held + 512, MANY - 512);
    CU_ASSERT_EQUAL(n, 1024);
    /* rx would have one less than it is promised, and there is nothing to make up for it. */
    CU_ASSERT_EQUAL(zbuf_charge(held[0], conn), -ENOBUFS);
    CU_ASSERT_EQUAL(held[0]->owner, zbuf_budget_id(rx));
    zbuf_free(held[--n]);
    CU_ASSERT_EQUAL(zbuf_charge(held[0], conn), 0);
    CU_ASSERT_EQUAL(zbuf_charge(held[1], conn), -ENOBUFS);
    struct zbuf *zb = zbuf_alloc_from(rx, FITS(2048)); /* its replacement */
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    zbuf_free(zb);
    zbuf_free_bulk(held, n);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(rx), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(conn), 0);
    done_with(pool);
}

/* A reader that stalls holds what it may; the link keeps as many frames as it had. */
static void a_frame_is_handed_on_only_for_a_replacement(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *rx = zbuf_budget_open(
        pool, &(struct zbuf_budget_config){
                  .name = "rx", .min_bytes = 64 * 4096, .min_seg = 4096, .max_bytes = 64 * 4096});
    struct zbuf_budget *conn = zbuf_budget_create(pool, "conn", 0, 100 * 4096);
    struct zbuf *ring[64];
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(rx, FITS(4096), ring, 64), 64);
    unsigned n = 0;
    for (unsigned i = 0; i < 500; i++) {
        struct zbuf *fresh = zbuf_exchange(ring[i % 64], conn);
        if (!fresh) {
            CU_ASSERT_EQUAL(errno, ENOBUFS);
            CU_ASSERT_EQUAL(ring[i % 64]->owner, zbuf_budget_id(rx));
            continue;
        }
        CU_ASSERT_EQUAL(fresh->size, 4096);
        CU_ASSERT_EQUAL(fresh->owner, zbuf_budget_id(rx));
        CU_ASSERT_EQUAL(ring[i % 64]->owner, zbuf_budget_id(conn));
        held[n++] = ring[i % 64];
        ring[i % 64] = fresh;
    }
    CU_ASSERT_EQUAL(n, 100);
    CU_ASSERT_EQUAL(zbuf_budget_used(rx), 64 * 4096);
    CU_ASSERT_EQUAL(zbuf_budget_used(conn), 100 * 4096);
    zbuf_free_bulk(held, n);
    zbuf_free_bulk(ring, 64);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(rx), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(conn), 0);
    done_with(pool);
}

static void who_waits_is_told_once_memory_is_back(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *b = zbuf_budget_create(pool, "b", 0, 4 * 2048);
    struct zbuf_budget *c = zbuf_budget_create(pool, "c", 0, 0);
    CU_ASSERT_EQUAL(zbuf_budget_wait(b, 1000), 1); /* no need to */
    CU_ASSERT_EQUAL(zbuf_budget_wait(b, SIZE_MAX), -EMSGSIZE);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(b, FITS(2048), held, 4), 4);
    unsigned n = 4 + zbuf_alloc_bulk(c, FITS(2048), held + 4, MANY - 4);
    CU_ASSERT_EQUAL(zbuf_budget_wait(b, 1000), 0);
    CU_ASSERT_EQUAL(zbuf_budget_wait(c, FITS(4096)), 0);
    CU_ASSERT_EQUAL(bstat(pool, b).waiting, 1);
    uint32_t before = zbuf_pool_wakeups(pool);
    CU_ASSERT_FALSE(zbuf_budget_ready(b));
    zbuf_free(held[--n]); /* 2K for everybody: b is at its ceiling, c wants more */
    CU_ASSERT_FALSE(zbuf_budget_ready(b));
    CU_ASSERT_FALSE(zbuf_budget_ready(c));
    CU_ASSERT_EQUAL(zbuf_pool_wakeups(pool), before);
    zbuf_free(held[0]); /* one of b's own */
    CU_ASSERT_NOT_EQUAL(zbuf_pool_wakeups(pool), before);
    CU_ASSERT_TRUE(zbuf_budget_ready(b));
    CU_ASSERT_FALSE(zbuf_budget_ready(b)); /* told once */
    CU_ASSERT_EQUAL(bstat(pool, b).waiting, 0);
    CU_ASSERT_FALSE(zbuf_budget_ready(c));
    while (n > 1 && !zbuf_budget_ready(c)) /* 4K there is only when the slab is empty */
        zbuf_free(held[--n]);
    CU_ASSERT_EQUAL(n, 1);
    struct zbuf *zb = zbuf_alloc_from(c, FITS(4096));
    CU_ASSERT_PTR_NOT_NULL(zb);
    zbuf_free(zb);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(c), 0);
    done_with(pool);
}

static void room_under_a_ceiling_wakes_too(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf_budget *p = zbuf_budget_create(pool, "p", 0, 4 * 2048);
    struct zbuf_budget *b = child_of(p, pool, 0, 0);
    for (unsigned way = 0; way < 3; way++) {
        CU_ASSERT_EQUAL(zbuf_alloc_bulk(p, FITS(2048), held, 4), 4);
        CU_ASSERT_EQUAL(zbuf_budget_wait(b, 1000), 0);
        int err = 0;
        if (way == 0)
            zbuf_free(held[0]);
        else if (way == 1)
            err = zbuf_charge(held[0], zbuf_budget_app(pool));
        else
            err = zbuf_budget_resize(p, 0, 5 * 2048);
        CU_ASSERT_EQUAL(err, 0);
        CU_ASSERT_TRUE(zbuf_budget_ready(b));
        zbuf_free_bulk(held + (way == 0), 4 - (way == 0));
    }
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(p), 0);
    done_with(pool);
}

static void one_who_waits_can_change_its_mind(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *b[3];
    for (unsigned i = 0; i < 3; i++)
        b[i] = zbuf_budget_create(pool, "b", 0, 0);
    unsigned n = zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), held, MANY);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(zbuf_budget_wait(b[i], 1), 0);
    CU_ASSERT_EQUAL(zbuf_budget_wait(b[0], 1), 0); /* twice is once */
    zbuf_budget_wait_cancel(b[2]);
    zbuf_budget_wait_cancel(b[2]);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b[1]), 0); /* waiting is no reason to stay */
    zbuf_free(held[--n]);
    CU_ASSERT_TRUE(zbuf_budget_ready(b[0]));
    CU_ASSERT_FALSE(zbuf_budget_ready(b[2]));
    CU_ASSERT_EQUAL(zbuf_pool_wakeups(pool), 1);
    zbuf_free_bulk(held, n);
    done_with(pool);
}

/* Two loops, say, that share a budget: neither must sleep on because of the other's request. */
static void two_wait_on_one_budget(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *app = zbuf_budget_app(pool);
    unsigned n = zbuf_alloc_bulk(app, FITS(2048), held, MANY);
    CU_ASSERT_EQUAL(zbuf_budget_wait(app, FITS(2048)), 0);
    CU_ASSERT_EQUAL(zbuf_budget_wait(app, FITS(4096)), 0);
    uint32_t before = zbuf_pool_wakeups(pool);
    zbuf_free(held[--n]);
    CU_ASSERT_NOT_EQUAL(zbuf_pool_wakeups(pool), before);
    CU_ASSERT_EQUAL(zbuf_budget_wait(app, FITS(4096)), 0); /* the other asks again */
    before = zbuf_pool_wakeups(pool);
    zbuf_free_bulk(held, n);
    CU_ASSERT_NOT_EQUAL(zbuf_pool_wakeups(pool), before);
    CU_ASSERT_EQUAL(zbuf_budget_wait(app, FITS(4096)), 1);
    done_with(pool);
}

/* A family at its ceiling still has what one of its members was promised. */
static void a_childs_minimum_is_kept_free_under_its_parents_ceiling(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf_budget *p = zbuf_budget_create(pool, "p", 0, 10 * 2048);
    struct zbuf_budget *a = child_of(p, pool, 4 * 2048, 0), *b = child_of(p, pool, 0, 0);
    unsigned n = zbuf_alloc_bulk(b, FITS(2048), held, MANY);
    CU_ASSERT_EQUAL(n, 6);
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(p, 100));
    for (unsigned i = 0; i < 4; i++) /* small requests, too: of larger segments if need be */
        CU_ASSERT_PTR_NOT_NULL_FATAL(held[n++] = zbuf_alloc_from(a, i % 2 ? 100 : FITS(2048)));
    CU_ASSERT_PTR_NULL(zbuf_alloc_from(a, 100));
    zbuf_free_bulk(held, n);
    /* Promised later: what is at hand in the thread for another is no way around it. */
    n = zbuf_alloc_bulk(b, FITS(2048), held, 6);
    zbuf_free_bulk(held, n);
    CU_ASSERT_EQUAL(zbuf_budget_resize(a, 8 * 2048, 0), 0);
    n = zbuf_alloc_bulk(b, FITS(2048), held, MANY);
    CU_ASSERT_EQUAL(n, 2);
    zbuf_free_bulk(held, n);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(a), 0);
    n = zbuf_alloc_bulk(b, FITS(2048), held, MANY);
    CU_ASSERT_EQUAL(n, 10);
    zbuf_free_bulk(held, n);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(p), 0);
    done_with(pool);
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void a_descriptor_tells_who_sleeps(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_budget *app = zbuf_budget_app(pool);
    int fd = zbuf_pool_wakeup_fd(pool);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(zbuf_pool_wakeup_fd(pool), fd);
    CU_ASSERT_FALSE(readable(fd));
    unsigned n = zbuf_alloc_bulk(app, FITS(2048), held, MANY);
    CU_ASSERT_EQUAL(zbuf_budget_wait(app, 1), 0);
    CU_ASSERT_FALSE(readable(fd));
    zbuf_free(held[--n]);
    CU_ASSERT_TRUE(readable(fd));
    uint64_t count = 0;
    CU_ASSERT_EQUAL(read(fd, &count, sizeof count), sizeof count);
    zbuf_free(held[--n]); /* nobody waits now */
    CU_ASSERT_FALSE(readable(fd));
    zbuf_free_bulk(held, n);
    done_with(pool);
}

/* What b can have of 2K, counted by taking it; all of it is given back. */
static size_t had(struct zbuf_budget *b)
{
    unsigned n = 0;
    while (n < MANY && (held[n] = zbuf_alloc_from(b, FITS(2048)))) {
        bool larger = held[n]->size > 2048; /* it fell up: none of 2K was left */
        n++;
        if (larger)
            zbuf_free(held[--n]);
        if (larger)
            break;
    }
    zbuf_free_bulk(held, n);
    return n * 2048u;
}

static void room_is_what_can_be_had(void)
{
    struct zbuf_pool *pool = pool_of(6 * MIB);
    struct zbuf_budget *app = zbuf_budget_app(pool), *ctrl, *rx, *child;
    struct zbuf *kept[600];
    CU_ASSERT_EQUAL(zbuf_budget_room(app, FITS(2048)), 6 * MIB);
    CU_ASSERT_EQUAL(zbuf_budget_room(app, FITS(ZBUF_SEG_MAX)), 6 * MIB);
    CU_ASSERT_EQUAL(zbuf_budget_room(app, ZBUF_SEG_MAX), 0); /* no segment holds so much */
    ctrl = zbuf_budget_create(pool, "ctrl", 500 * 2048, 0);
    rx = zbuf_budget_create(pool, "rx", 16 * 2048, 1000 * 2048);
    child = child_of(rx, pool, 10 * 2048, 100 * 2048);
    CU_ASSERT_FATAL(ctrl && rx && child);
    CU_ASSERT_EQUAL(zbuf_budget_room(app, FITS(2048)), 6 * MIB - 516 * 2048);
    CU_ASSERT_EQUAL(zbuf_budget_room(ctrl, FITS(2048)), 6 * MIB - 16 * 2048);
    CU_ASSERT_EQUAL(zbuf_budget_room(rx, FITS(2048)), 990 * 2048);
    CU_ASSERT_EQUAL(zbuf_budget_room(child, FITS(2048)), 100 * 2048);
    /* Whatever is held, of whichever class, and wherever what is free lies: three times, so that
     * magazines are full, too. */
    for (unsigned round = 0; round < 3; round++) {
        unsigned n = zbuf_alloc_bulk(app, FITS(round % 2 ? 65536 : 2048), kept, 600);
        struct zbuf_budget *each[] = {app, ctrl, rx, child};
        for (unsigned i = 0; i < 4; i++) {
            size_t room = zbuf_budget_room(each[i], FITS(2048)), most = had(each[i]);
            /* Only that 64K segments at hand are a whole slab together is not seen. */
            CU_ASSERT(room == most || (round == 2 && i == 0 && room < most));
            CU_ASSERT_EQUAL(most, zbuf_budget_room(each[i], FITS(2048)));
        }
        zbuf_free_bulk(kept, n);
    }
    /* Others have taken all: it is what is set aside, and what of that is not used. */
    unsigned n = flood(app);
    CU_ASSERT_EQUAL(zbuf_budget_room(app, FITS(2048)), 0);
    CU_ASSERT_EQUAL(zbuf_budget_room(rx, FITS(2048)), 6 * 2048); /* 10 are the child's */
    CU_ASSERT_EQUAL(zbuf_budget_room(child, FITS(2048)), 16 * 2048);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(child, FITS(2048), kept, 12), 12);
    CU_ASSERT_EQUAL(zbuf_budget_room(rx, FITS(2048)), 4 * 2048);
    zbuf_free_bulk(kept, 12);
    CU_ASSERT_EQUAL(zbuf_budget_room(child, FITS(2048)), 16 * 2048);
    zbuf_free_bulk(held, n);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(child), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(rx), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(ctrl), 0);
    done_with(pool);
}

static void a_resize_that_fails_changes_nothing(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf *taken = zbuf_alloc(pool, FITS(2048));
    struct zbuf_budget *p = zbuf_budget_create(pool, "parent", 0, 0);
    struct zbuf_budget *c = zbuf_budget_open(
        pool, &(struct zbuf_budget_config){.name = "child", .parent = p, .min_bytes = 8 * 2048});
    CU_ASSERT_EQUAL(zbuf_budget_resize(p, 8 * 2048, 0), 0); /* after the child's: beside it */
    CU_ASSERT_EQUAL(stat_of(pool).cls[1].set_aside, 16);
    CU_ASSERT_EQUAL(zbuf_budget_resize(c, 4 * MIB, 0), -ENOBUFS); /* but for one segment */
    CU_ASSERT_EQUAL(stat_of(pool).cls[1].set_aside, 16);
    CU_ASSERT_EQUAL(zbuf_budget_resize(c, 9 * 2048, 0),
                    0); /* out of the parent's, as far as it goes */
    CU_ASSERT_EQUAL(stat_of(pool).cls[1].set_aside, 9);
    zbuf_free(taken);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(c), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(p), 0);
    done_with(pool);
}

CHECK_MAIN("zbuf_budget", CHECK(a_resize_that_fails_changes_nothing),
           CHECK(no_flood_takes_what_is_set_aside), CHECK(elasticity_spares_what_is_set_aside),
           CHECK(a_minimum_that_is_not_there_is_refused), CHECK(bad_configurations_are_refused),
           CHECK(a_minimum_fits_under_its_ceiling), CHECK(names_are_cut_and_ids_used_again),
           CHECK(children_share_their_parents_ceiling),
           CHECK(a_childs_minimum_is_carved_out_of_its_parents),
           CHECK(a_lower_ceiling_takes_effect_as_buffers_come_home),
           CHECK(a_minimum_grows_only_if_it_can),
           CHECK(what_is_at_hand_for_one_is_taken_back_for_another),
           CHECK(a_charge_moves_only_to_those_who_may),
           CHECK(a_frame_is_handed_on_only_for_a_replacement),
           CHECK(who_waits_is_told_once_memory_is_back), CHECK(room_under_a_ceiling_wakes_too),
           CHECK(one_who_waits_can_change_its_mind), CHECK(a_descriptor_tells_who_sleeps),
           CHECK(two_wait_on_one_budget), CHECK(room_is_what_can_be_had),
           CHECK(a_childs_minimum_is_kept_free_under_its_parents_ceiling))
