/* zbuf_chain_test.c - payloads of more than one segment. */
#include "tests/unit/zbuf_fixture.h"

static uint8_t image[1 << 20], out[1 << 20];

static void paint(void)
{
    for (size_t i = 0; i < sizeof image; i++)
        image[i] = (uint8_t)(i * 31 + (i >> 8));
}

static struct zbuf *painted(struct zbuf_pool *pool, size_t bytes, uint32_t frame)
{
    struct zbuf *chain = zbuf_chain_alloc(zbuf_budget_app(pool), bytes, frame);
    CU_ASSERT_PTR_NOT_NULL_FATAL(chain);
    paint();
    CU_ASSERT_EQUAL(zbuf_chain_copy_in(chain, 0, image, bytes), bytes);
    return chain;
}

/* chain holds image[from .. from + len). */
static bool holds(const struct zbuf *chain, size_t from, size_t len)
{
    memset(out, 0, sizeof out);
    return zbuf_chain_len(chain) == len && zbuf_chain_copy_out(chain, 0, out, sizeof out) == len &&
           memcmp(out, image + from, len) == 0;
}

static void a_large_request_is_as_few_segments_as_can_be(void)
{
    struct zbuf_pool *pool = pool_of(8 * MIB);
    const size_t most = FITS(ZBUF_SEG_MAX);
    size_t sizes[] = {1, most, most + 1, 2 * most, 5 * most + 100};
    unsigned links[] = {1, 1, 2, 2, 6};
    for (unsigned i = 0; i < 5; i++) {
        struct zbuf *chain = painted(pool, sizes[i], 0);
        CU_ASSERT_EQUAL(zbuf_chain_count(chain), links[i]);
        CU_ASSERT_TRUE(holds(chain, 0, sizes[i]));
        zbuf_chain_free(chain);
    }
    struct zbuf *tail = painted(pool, most + 100, 0);
    CU_ASSERT_EQUAL(zbuf_chain_last(tail)->size, 1024); /* the rest is fitted, too */
    zbuf_chain_free(tail);
    struct zbuf *empty = zbuf_chain_alloc(zbuf_budget_app(pool), 0, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(empty);
    CU_ASSERT_EQUAL(empty->len, 0);
    zbuf_chain_free(empty);
    zbuf_chain_free(NULL);
    CU_ASSERT_EQUAL(zbuf_chain_count(NULL), 0);
    done_with(pool);
}

static void a_chain_of_frames_has_headroom_in_each(void)
{
    struct zbuf_pool *pool = pool_of(8 * MIB);
    struct zbuf *chain = painted(pool, 100 * 1448 + 7, 1448);
    CU_ASSERT_EQUAL(zbuf_chain_count(chain), 101);
    for (struct zbuf *zb = chain; zb; zb = zb->next) {
        CU_ASSERT_EQUAL(zb->len, zb->next ? 1448 : 7);
        CU_ASSERT_EQUAL(zb->size, 2048);
        CU_ASSERT_PTR_EQUAL(zb->data, zb->first + ZBUF_OVERHEAD);
        CU_ASSERT_TRUE(zbuf_headroom_claim(zb));
    }
    CU_ASSERT_TRUE(holds(chain, 0, 100 * 1448 + 7));
    zbuf_chain_free(chain);
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_chain_alloc(zbuf_budget_app(pool), 1, FITS(ZBUF_SEG_MAX) + 1));
    CU_ASSERT_EQUAL(errno, EMSGSIZE);
    CU_ASSERT_PTR_NULL(zbuf_chain_alloc(zbuf_budget_app(pool), ZBUF_CHAIN_MAX, 1));
    CU_ASSERT_EQUAL(errno, EMSGSIZE);
    CU_ASSERT_PTR_NULL(zbuf_chain_alloc(zbuf_budget_app(pool), SIZE_MAX, 0));
    CU_ASSERT_EQUAL(errno, EMSGSIZE);
    done_with(pool);
}

static void a_chain_comes_whole_or_not_at_all(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_chain_alloc(zbuf_budget_app(pool), 5 * MIB, 0));
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    CU_ASSERT_PTR_NULL(zbuf_chain_alloc(zbuf_budget_app(pool), 4 * MIB, 1448));
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    CU_ASSERT_EQUAL(stat_of(pool).live, 0);
    done_with(pool);
}

/* Where there is no large segment any more, smaller ones do. */
static void a_chain_makes_do_with_smaller_segments(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf *small = zbuf_alloc(pool, FITS(4096)), *big[16];
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(ZBUF_SEG_MAX), big, 16), 16);
    struct zbuf *chain = painted(pool, 300000, 0);
    CU_ASSERT_EQUAL(chain->size, 4096);
    CU_ASSERT_TRUE(holds(chain, 0, 300000));
    zbuf_chain_free(chain);
    zbuf_free_bulk(big, 16);
    zbuf_free(small);
    done_with(pool);
}

static void any_byte_is_found(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf *chain = painted(pool, 10000, 700);
    uint32_t at = 0;
    for (size_t off = 0; off < 10000; off += 13) {
        struct zbuf *zb = zbuf_chain_at(chain, off, &at);
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
        CU_ASSERT_EQUAL(zb->data[at], image[off]);
    }
    CU_ASSERT_PTR_NULL(zbuf_chain_at(chain, 10000, &at));
    /* Copies start and end anywhere. */
    for (size_t off = 0; off < 10000; off += 977) {
        CU_ASSERT_EQUAL(zbuf_chain_copy_out(chain, off, out, 1500),
                        10000 - off < 1500 ? 10000 - off : 1500);
        CU_ASSERT_EQUAL(memcmp(out, image + off, 10000 - off < 1500 ? 10000 - off : 1500), 0);
    }
    CU_ASSERT_EQUAL(zbuf_chain_copy_out(chain, 10000, out, 1), 0);
    CU_ASSERT_EQUAL(zbuf_chain_copy_in(chain, 9990, image, 100), 10);
    zbuf_chain_free(chain);
    done_with(pool);
}

static void split_and_append_undo_each_other(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    for (size_t at = 1; at < 5000; at += 61) {
        struct zbuf *chain = painted(pool, 5000, 1000), *tail = NULL;
        unsigned before = zbuf_chain_count(chain);
        CU_ASSERT_EQUAL(zbuf_chain_split(chain, at, zbuf_budget_app(pool), &tail), 0);
        CU_ASSERT_TRUE(holds(chain, 0, at));
        CU_ASSERT_TRUE(holds(tail, at, 5000 - at));
        CU_ASSERT_EQUAL(zbuf_chain_count(chain) + zbuf_chain_count(tail), before + (at % 1000 > 0));
        zbuf_chain_append(chain, tail);
        CU_ASSERT_TRUE(holds(chain, 0, 5000));
        zbuf_chain_free(chain);
        CU_ASSERT_EQUAL_FATAL(stat_of(pool).live, 0);
    }
    struct zbuf *chain = painted(pool, 5000, 1000), *tail = NULL;
    CU_ASSERT_EQUAL(zbuf_chain_split(chain, 0, zbuf_budget_app(pool), &tail), -EINVAL);
    CU_ASSERT_EQUAL(zbuf_chain_split(chain, 5000, zbuf_budget_app(pool), &tail), -EINVAL);
    CU_ASSERT_EQUAL(zbuf_chain_split(chain, 5001, zbuf_budget_app(pool), &tail), -EINVAL);
    struct zbuf_budget *none = zbuf_budget_create(pool, "none", 0, 1);
    CU_ASSERT_EQUAL(zbuf_chain_split(chain, 500, none, &tail), -ENOBUFS);
    CU_ASSERT_EQUAL(zbuf_chain_split(chain, 1000, none, &tail), 0); /* needs no memory */
    CU_ASSERT_TRUE(holds(chain, 0, 1000));
    zbuf_chain_free(chain);
    zbuf_chain_free(tail);
    done_with(pool);
}

/* The halves of a segment live as long as either of them. */
static void a_borrowed_link_keeps_its_lender(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf *chain = painted(pool, 1500, 0), *tail = NULL, *last = NULL;
    uint8_t *bytes = chain->data;
    CU_ASSERT_EQUAL(zbuf_chain_split(chain, 500, zbuf_budget_app(pool), &tail), 0);
    CU_ASSERT_PTR_EQUAL(tail->data, bytes + 500);          /* nothing was copied, */
    CU_ASSERT_PTR_EQUAL(zbuf_of(pool, tail->data), chain); /* a stack finds the lender, */
    CU_ASSERT_EQUAL(zbuf_refcount(chain), 2);              /* which is held */
    CU_ASSERT_EQUAL(zbuf_room(tail), 0);                   /* and not written to */
    CU_ASSERT_EQUAL(zbuf_chain_copy_in(tail, 0, image, 10), 0);
    CU_ASSERT_EQUAL(zbuf_chain_split(tail, 300, zbuf_budget_app(pool), &last), 0);
    CU_ASSERT_EQUAL(zbuf_refcount(chain), 3); /* by the lender itself, not by the link between */
    zbuf_chain_free(chain);
    zbuf_chain_free(tail);
    CU_ASSERT_TRUE(holds(last, 800, 700));
    CU_ASSERT_EQUAL(stat_of(pool).live, 2);
    zbuf_chain_free(last);
    struct zbuf *fresh = zbuf_alloc(pool, 0); /* a link's next life is an ordinary one */
    CU_ASSERT_NOT_EQUAL(zbuf_room(fresh), 0);
    zbuf_free(fresh);
    done_with(pool);
}

static void trims_drop_what_is_empty(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    for (size_t cut = 0; cut <= 5200; cut += 100) {
        size_t left = cut < 5000 ? 5000 - cut : 0;
        struct zbuf *a = zbuf_chain_trim_front(painted(pool, 5000, 1000), cut);
        struct zbuf *b = zbuf_chain_trim_back(painted(pool, 5000, 1000), cut);
        CU_ASSERT_TRUE(holds(a, 5000 - left, left));
        CU_ASSERT_TRUE(holds(b, 0, left));
        CU_ASSERT_EQUAL(zbuf_chain_count(a), left ? (left + 999) / 1000 : 1);
        CU_ASSERT_EQUAL(zbuf_chain_count(b), left ? (left + 999) / 1000 : 1);
        zbuf_chain_free(a);
        zbuf_chain_free(b);
    }
    done_with(pool);
}

static void a_clone_outlives_its_original(void)
{
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf *chain = painted(pool, 5000, 1000);
    struct zbuf *clone = zbuf_chain_clone(chain, zbuf_budget_app(pool));
    CU_ASSERT_PTR_NOT_NULL_FATAL(clone);
    struct zbuf *second = zbuf_chain_clone(clone, zbuf_budget_app(pool));
    CU_ASSERT_PTR_NOT_NULL_FATAL(second);
    chain = zbuf_chain_trim_front(chain, 4500); /* its own view only */
    CU_ASSERT_TRUE(holds(clone, 0, 5000));
    zbuf_chain_free(chain);
    zbuf_chain_free(clone);
    CU_ASSERT_TRUE(holds(second, 0, 5000));
    CU_ASSERT_EQUAL(stat_of(pool).live, 10);
    zbuf_chain_free(second);
    /* Without the memory for all of it there is none. */
    struct zbuf_budget *few = zbuf_budget_create(pool, "few", 0, 3 * 1024);
    chain = painted(pool, 5000, 1000);
    errno = 0;
    CU_ASSERT_PTR_NULL(zbuf_chain_clone(chain, few));
    CU_ASSERT_EQUAL(errno, ENOBUFS);
    CU_ASSERT_EQUAL(zbuf_budget_used(few), 0);
    CU_ASSERT_EQUAL(zbuf_refcount(chain), 1);
    zbuf_chain_free(chain);
    done_with(pool);
}

CHECK_MAIN("zbuf_chain", CHECK(a_large_request_is_as_few_segments_as_can_be),
           CHECK(a_chain_of_frames_has_headroom_in_each), CHECK(a_chain_comes_whole_or_not_at_all),
           CHECK(a_chain_makes_do_with_smaller_segments), CHECK(any_byte_is_found),
           CHECK(split_and_append_undo_each_other), CHECK(a_borrowed_link_keeps_its_lender),
           CHECK(trims_drop_what_is_empty), CHECK(a_clone_outlives_its_original))
