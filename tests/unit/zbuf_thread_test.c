/* zbuf_thread_test.c - several threads and one pool. Meant for ThreadSanitizer, too:
 * make SAN=thread tests. */
#include <pthread.h>
#include <sched.h>

#include "tests/unit/zbuf_fixture.h"
#include "zbuf/internal.h"

#define ROUNDS 40000u

static struct zbuf_pool *pool;

/* One pointer at a time from thread to thread. */
struct slot {
    _Alignas(64) struct zbuf *zb[256];
    uint32_t head, tail;
};
static void put(struct slot *s, struct zbuf *zb)
{
    uint32_t tail = s->tail;
    while (tail - __atomic_load_n(&s->head, __ATOMIC_ACQUIRE) == 256)
        sched_yield();
    s->zb[tail % 256] = zb;
    __atomic_store_n(&s->tail, tail + 1, __ATOMIC_RELEASE);
}
static struct zbuf *get(struct slot *s)
{
    uint32_t head = s->head;
    while (head == __atomic_load_n(&s->tail, __ATOMIC_ACQUIRE))
        sched_yield();
    struct zbuf *zb = s->zb[head % 256];
    __atomic_store_n(&s->head, head + 1, __ATOMIC_RELEASE);
    return zb;
}

static void *run(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    void *result = NULL;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, fn, arg), 0);
    pthread_join(t, &result);
    return result;
}

/* ---- allocated here, freed there */

static void *frees(void *arg)
{
    struct zbuf *zb;
    while ((zb = get(arg))) {
        if (zb->data[0] != (uint8_t)zb->user ||
            zbuf_budget_used(zbuf_budget_app(pool)) > zbuf_pool_size(pool))
            abort();
        zbuf_free(zb);
    }
    return NULL;
}

static void freed_on_another_thread(void)
{
    static struct slot way;
    pthread_t t;
    pool = pool_of(4 * MIB);
    way = (struct slot){.head = 0};
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, frees, &way), 0);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct zbuf *zb = zbuf_alloc(pool, FITS(i % 16 ? 2048 : 4096));
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb); /* there is always enough: at most 257 are under way */
        zb->user = i;
        zb->data[0] = (uint8_t)i;
        put(&way, zb);
    }
    put(&way, NULL);
    pthread_join(t, NULL);
    struct zbuf_pool_stat st = stat_of(pool);
    CU_ASSERT_EQUAL(st.cls[1].allocs + st.cls[2].allocs, ROUNDS);
    /* At most 258 were; what two threads had at hand may be counted, and no more. */
    CU_ASSERT(st.cls[1].high_water > 0 && st.cls[1].high_water <= 258 + 4 * 128);
    done_with(pool);
}

/* A first act may be any: a bulk free, a reference, a question. */
static void *first_is_bulk_free(void *zbs)
{
    zbuf_free_bulk(zbs, 50);
    return NULL;
}
static void *first_is_ref(void *zb)
{
    zbuf_free(zbuf_ref(zb));
    return NULL;
}

static void any_first_act_will_do(void)
{
    struct zbuf *zb[50];
    pool = pool_of(2 * MIB);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), 1000, zb, 50), 50);
    run(first_is_ref, zb[0]);
    run(first_is_bulk_free, zb);
    done_with(pool);
}

/* ---- what a thread has at hand */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int stage;
} play = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static void reach(int stage)
{
    pthread_mutex_lock(&play.lock);
    play.stage = stage;
    pthread_cond_broadcast(&play.cond);
    pthread_mutex_unlock(&play.lock);
}
static void wait_for(int stage)
{
    pthread_mutex_lock(&play.lock);
    while (play.stage < stage)
        pthread_cond_wait(&play.cond, &play.lock);
    pthread_mutex_unlock(&play.lock);
}

static void *hoards_and_sleeps(void *arg)
{
    struct zbuf *zb[100];
    (void)arg;
    for (unsigned i = 0; i < 100; i++)
        zb[i] = zbuf_alloc(pool, FITS(2048));
    zbuf_free_bulk(zb, 100);
    reach(1);
    wait_for(2);
    struct zbuf *again = zbuf_alloc(pool, FITS(2048)); /* its cache has been emptied: no matter */
    zbuf_free(again);
    return again;
}

static void a_sleeping_threads_hoard_is_not_lost(void)
{
    static struct zbuf *all[1024];
    pthread_t t;
    void *again = NULL;
    play.stage = 0;
    pool = pool_of(2 * MIB);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, hoards_and_sleeps, NULL), 0);
    wait_for(1);
    CU_ASSERT_EQUAL(stat_of(pool).live, 0);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), all, 1024), 1024);
    CU_ASSERT_EQUAL(stat_of(pool).drains, 1);
    zbuf_free(all[0]);
    all[0] = NULL;
    reach(2);
    pthread_join(t, &again);
    CU_ASSERT_PTR_NOT_NULL(again);
    zbuf_free_bulk(all, 1024);
    done_with(pool);
}

/* What one thread frees and another allocates goes by the depot, and is kept from nobody there. */
static void *frees_and_sleeps(void *zbs)
{
    zbuf_free_bulk(zbs, 1024);
    reach(1);
    wait_for(2);
    return NULL;
}

static void a_depot_lies_between_two_threads(void)
{
    static struct zbuf *all[2048], *freed[1024];
    pthread_t t;
    play.stage = 0;
    pool = pool_of(4 * MIB);
    struct zbuf_budget *app = zbuf_budget_app(pool);
    struct zbuf_budget *other = zbuf_budget_create(pool, "other", 0, 0);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(app, FITS(2048), all, 1024), 1024);
    memcpy(freed, all, sizeof freed);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, frees_and_sleeps, all), 0);
    wait_for(1);
    uint32_t there = depot_segs(pool, 0, 1);
    CU_ASSERT(there >= 512);
    CU_ASSERT_EQUAL(stat_of(pool).live, 0);
    /* It is what the next allocations get, in the order in which they were freed, */
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(app, FITS(2048), all, 256), 256);
    unsigned first = 0;
    while (first < 1024 - 256 && freed[first] != all[0])
        first++;
    CU_ASSERT_EQUAL(memcmp(freed + first, all, 256 * sizeof all[0]), 0);
    CU_ASSERT_EQUAL(depot_segs(pool, 0, 1), there - 256);
    CU_ASSERT_EQUAL(stat_of(pool).live, 256);
    /* and who is short of memory, whoever that is. */
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(other, FITS(2048), all + 256, 2048 - 256), 2048 - 256);
    CU_ASSERT_EQUAL(depot_segs(pool, 0, 1), 0);
    CU_ASSERT_EQUAL(stat_of(pool).drains, 1);
    reach(2);
    pthread_join(t, NULL);
    zbuf_free_bulk(all, 2048);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(other), 0);
    done_with(pool);
}

static void *hoards_and_ends(void *arg)
{
    struct zbuf *zb[100];
    (void)arg;
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), 1000, zb, 100), 100);
    zbuf_free_bulk(zb, 100);
    return NULL;
}

static void a_thread_that_ends_gives_back_its_hoard(void)
{
    static struct zbuf *all[1024];
    pool = pool_of(2 * MIB);
    run(hoards_and_ends, NULL);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), all, 1024), 1024);
    CU_ASSERT_EQUAL(stat_of(pool).drains, 0);
    zbuf_free_bulk(all, 1024);
    done_with(pool);
}

static void *uses_two_pools(void *arg)
{
    struct zbuf_pool *other = arg;
    zbuf_free(zbuf_alloc(pool, 1000));
    reach(1);
    wait_for(2); /* the first pool goes */
    struct zbuf *zb = zbuf_alloc(other, 1000);
    zbuf_free(zb);
    return zb;
}

static void a_pool_may_go_before_a_thread_that_used_it(void)
{
    pthread_t t;
    void *zb = NULL;
    play.stage = 0;
    struct zbuf_pool *other = pool_of(2 * MIB);
    pool = pool_of(2 * MIB);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, uses_two_pools, other), 0);
    wait_for(1);
    done_with(pool);
    pool = pool_of(2 * MIB); /* perhaps at the same address */
    reach(2);
    pthread_join(t, &zb);
    CU_ASSERT_PTR_NOT_NULL(zb);
    done_with(pool);
    done_with(other);
}

/* ---- one that was preempted at the worst moment */

static void *is_not_run(void *arg)
{
    zbuf_free(zbuf_alloc(pool, FITS(2048))); /* some are at hand now */
    cache_begin(zbuf_tls);
    reach(1);
    usleep(200000); /* longer than yielding alone goes on */
    cache_leave(zbuf_tls);
    wait_for(2);
    return arg;
}

/* Its hoard is waited for. */
static void a_thread_that_is_not_run_is_waited_for(void)
{
    static struct zbuf *all[1024];
    pthread_t t;
    play.stage = 0;
    pool = pool_of(2 * MIB);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, is_not_run, NULL), 0);
    wait_for(1);
    unsigned n = zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), all, 1024);
    CU_ASSERT_EQUAL(n, 1024);
    reach(2);
    pthread_join(t, NULL);
    zbuf_free_bulk(all, n);
    done_with(pool);
}

/* ---- exhaustion while others are busy */

static bool stop;

static void *busy(void *arg)
{
    struct zbuf_budget *b = arg;
    struct zbuf *zb[40];
    uintptr_t refused = 0;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        unsigned n = zbuf_alloc_bulk(b, FITS(2048), zb, 40);
        for (unsigned i = 0; i < n; i++) {
            zb[i]->user = (uintptr_t)b;
            memset(zb[i]->data, 1, 100);
        }
        for (unsigned i = 0; i < n; i++) {
            if (zb[i]->user != (uintptr_t)b)
                abort(); /* two owners */
            zbuf_free(zb[i]);
        }
        refused += n < 40;
    }
    return (void *)refused;
}

static void short_of_memory_among_busy_threads(void)
{
    static struct zbuf *all[2048];
    pthread_t t[2];
    struct zbuf_budget *b[2];
    void *refused[2];
    stop = false;
    pool = pool_of(4 * MIB);
    for (unsigned i = 0; i < 2; i++) {
        b[i] = zbuf_budget_create(pool, "busy", 40 * 2048, 0);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&t[i], NULL, busy, b[i]), 0);
    }
    for (unsigned i = 0; i < 1500; i++) {
        unsigned n = zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), all, 2048);
        CU_ASSERT_EQUAL(n, 2048 - 80); /* all but what is set aside for them */
        for (unsigned k = 0; k < n; k++) {
            all[k]->user = 0;
        }
        zbuf_free_bulk(all, n);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(t[i], &refused[i]);
        CU_ASSERT(stat_of(pool).drains > 0);
        CU_ASSERT_PTR_NULL(refused[i]); /* never, within the guarantee */
        CU_ASSERT_EQUAL(zbuf_budget_destroy(b[i]), 0);
    }
    done_with(pool);
}

/* ---- references shared between threads */

static void *refs_and_frees(void *arg)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        zbuf_free(zbuf_ref(arg));
    zbuf_free(arg); /* the one it was given */
    return NULL;
}

static void share_between_threads(bool owned)
{
    pthread_t t[2];
    pool = zbuf_pool_create(
        &(struct zbuf_pool_config){.size = 2 * MIB, .no_huge = true, .owned_refs = owned});
    struct zbuf *zb = zbuf_alloc(pool, 1000);
    CU_ASSERT_EQUAL(zb->flags & 1, owned ? 1 : 0);
    zbuf_share(zb);
    CU_ASSERT_EQUAL(zb->flags & 1, 0); /* or the counts below add up by luck */
    for (unsigned i = 0; i < 2; i++) {
        zbuf_ref(zb);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&t[i], NULL, refs_and_frees, zb), 0);
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 1);
    zbuf_free(zb);
    struct zbuf *again = zbuf_alloc(pool, 1000);
    CU_ASSERT_EQUAL(again->flags & 1, owned ? 1 : 0); /* shared for one life only */
    zbuf_free(again);
    done_with(pool);
}
static void references_are_shared(void)
{
    share_between_threads(false);
}
static void owned_references_can_be_shared(void)
{
    share_between_threads(true);
}

/* Two threads race for who gives the last reference back. */
static void *frees_one(void *arg)
{
    for (;;) {
        struct zbuf *zb = get(arg);
        if (!zb)
            return NULL;
        zbuf_free(zb);
    }
}
static void the_last_of_two_frees_it(void)
{
    static struct slot way;
    pthread_t t;
    pool = pool_of(2 * MIB);
    way = (struct slot){.head = 0};
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, frees_one, &way), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct zbuf *zb = zbuf_alloc(pool, 1000);
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
        put(&way, zbuf_ref(zb));
        zbuf_free(zb);
    }
    put(&way, NULL);
    pthread_join(t, NULL);
    done_with(pool);
}

/* ---- waking */

static void *frees_after_a_while(void *zb)
{
    wait_for(1);
    zbuf_free(zb);
    reach(2);
    return NULL;
}

static void one_thread_frees_what_another_waits_for(void)
{
    static struct zbuf *all[1024];
    pthread_t t;
    play.stage = 0;
    pool = pool_of(2 * MIB);
    struct zbuf_budget *app = zbuf_budget_app(pool);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(app, FITS(2048), all, 1024), 1024);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, frees_after_a_while, all[7]), 0);
    CU_ASSERT_EQUAL(zbuf_budget_wait(app, 1000), 0);
    CU_ASSERT_FALSE(zbuf_budget_ready(app));
    reach(1);
    wait_for(2);
    CU_ASSERT_TRUE(zbuf_budget_ready(app));
    all[7] = zbuf_alloc(pool, 1000);
    CU_ASSERT_PTR_NOT_NULL(all[7]);
    pthread_join(t, NULL);
    zbuf_free_bulk(all, 1024);
    done_with(pool);
}

CHECK_MAIN("zbuf_thread", CHECK(freed_on_another_thread), CHECK(any_first_act_will_do),
           CHECK(a_sleeping_threads_hoard_is_not_lost), CHECK(a_depot_lies_between_two_threads),
           CHECK(a_thread_that_ends_gives_back_its_hoard),
           CHECK(a_pool_may_go_before_a_thread_that_used_it),
           CHECK(a_thread_that_is_not_run_is_waited_for), CHECK(short_of_memory_among_busy_threads),
           CHECK(references_are_shared), CHECK(owned_references_can_be_shared),
           CHECK(the_last_of_two_frees_it), CHECK(one_thread_frees_what_another_waits_for))
