/* netif_link_test.c - a link that gives nothing back is told of once, and so is that it does again.
 */
#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "netif/loop_link.h"

static unsigned waiting;
static unsigned in_flight(const struct netif *nif)
{
    (void)nif;
    return waiting;
}
static const struct netif_ops ops = {.in_flight = in_flight};

static unsigned told[8];
static uint32_t value;
static void note(void *ctx, const struct netif_link_event *e)
{
    (void)ctx;
    told[e->what]++;
    value = e->value;
}

#define SECOND 1000000000ull

static struct netif nif;
static struct netif_loop_config cfg = {.nif = &nif, .on_link_change = note};
static struct loop_link l;

static void begin(void)
{
    nif = (struct netif){.ops = &ops, .caps.kind = "mem"};
    memset(told, 0, sizeof told);
    waiting = 0;
    loop_link_open(&l, &cfg);
    CU_ASSERT_EQUAL(l.watch.fd, -1);
    loop_link_check(&l, SECOND);
}

static void no_completion_ever(void)
{
    begin();
    uint64_t now = 100 * SECOND;
    loop_link_check(&l, now);
    for (int i = 0; i < 20; i++) { /* goes on sending; nothing comes back */
        nif.stats.tx_frames += 2;
        waiting += 2;
        now += SECOND / 2;
        loop_link_check(&l, now);
        CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], i >= 10); /* 5 s after the first look at it */
    }
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 0);
    waiting -= 1;
    loop_link_check(&l, now);
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 1);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
    for (int i = 0; i < 5; i++) /* and again nothing */
        loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 2);
    CU_ASSERT_EQUAL(value, 39);
}

static void slow_is_not_stalled(void)
{
    begin();
    uint64_t now = SECOND;
    for (int i = 0; i < 20; i++) { /* a frame comes back every 4 s, while more are sent */
        nif.stats.tx_frames += 2;
        waiting += 1;
        now += 4 * SECOND;
        loop_link_check(&l, now);
    }
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    waiting = 0;
    loop_link_check(&l, now + 100 * SECOND); /* idle is not stalled */
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    now += 200 * SECOND;
    nif.stats.tx_frames += 1; /* the first frame after a long time is not late yet */
    waiting = 1;
    loop_link_check(&l, now);
    loop_link_check(&l, now + SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    loop_link_check(&l, now + 30 * SECOND); /* it was us who did not look */
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    l.down = true; /* what is down need not give back */
    waiting = 5;
    loop_link_check(&l, now + 101 * SECOND);
    loop_link_check(&l, now + 201 * SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
}

/* Nobody looks while there is nothing to do, and then not in the very moment that something is. */
static void after_an_idle_time_is_not_stalled(void)
{
    begin();
    for (int i = 1; i <= 3; i++) {
        uint64_t now = (uint64_t)i * 100 * SECOND;
        nif.stats.tx_frames++;
        waiting = 1;
        loop_link_check(&l, now);
        CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
        waiting = 0;
        loop_link_check(&l, now + SECOND);
    }
    nif.stats.tx_frames++;
    waiting = 1;
    for (uint64_t now = 400 * SECOND; now < 405 * SECOND; now += SECOND)
        loop_link_check(&l, now);
    loop_link_check(&l, 405 * SECOND - 1);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    loop_link_check(&l, 405 * SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
}

/* ---- a kind that can be opened anew */

static int reopen_says;
static unsigned reopens;
static int reopen(struct netif *n)
{
    CU_ASSERT_PTR_EQUAL(n, &nif);
    reopens++;
    if (reopen_says == 0)
        waiting = 0; /* taken back */
    return reopen_says;
}
static const struct netif_ops reopens_ops = {.in_flight = in_flight, .reopen = reopen};
static struct zbuf_pool *pool;
static void *mem;

static void begin_with_stack(void)
{
    begin();
    nif.ops = &reopens_ops;
    reopen_says = 0;
    reopens = 0;
    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 8u << 20, .no_huge = true});
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    struct zest_config zc = {.pool = pool, .mac = {2}, .secret = {1}};
    CU_ASSERT_EQUAL_FATAL(zest_addr_parse(&zc.ip, "10.0.0.1", 0), 0);
    mem = aligned_alloc(64, (zest_size(&zc) + 63) & ~(size_t)63);
    CU_ASSERT_EQUAL_FATAL(zest_init(mem, &zc, &cfg.z), 0);
}

static void end_with_stack(void)
{
    zest_fini(cfg.z);
    cfg.z = NULL;
    free(mem);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static uint64_t send_and_wait(uint64_t now)
{
    nif.stats.tx_frames++;
    waiting++;
    loop_link_check(&l, now);
    for (int i = 0; i < 5; i++)
        loop_link_check(&l, now += SECOND);
    return now;
}

static void a_stall_is_mended(void)
{
    begin_with_stack();
    uint64_t now = send_and_wait(10 * SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 1);
    CU_ASSERT_EQUAL(value, 1);
    CU_ASSERT_EQUAL(nif.stats.reopened, 1);
    CU_ASSERT_TRUE(l.fd_changed);
    loop_link_check(&l, now += SECOND); /* it has nothing, so it gave nothing back */
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 0);
    nif.stats.tx_frames++;
    waiting = 1;
    loop_link_check(&l, now += SECOND);
    waiting = 0;
    loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 1);
    for (unsigned i = 0; i < 3; i++) /* the next stall has all its attempts again */
        now = send_and_wait(now + SECOND);
    CU_ASSERT_EQUAL(value, 3);
    CU_ASSERT_EQUAL(reopens, 4);
    end_with_stack();
}

static void attempts_are_bounded(void)
{
    begin_with_stack();
    uint64_t now = 10 * SECOND;
    for (unsigned i = 0; i < 10; i++)
        now = send_and_wait(now + SECOND);
    CU_ASSERT_EQUAL(reopens, 5);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 5);
    CU_ASSERT_EQUAL(value, 5);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
    CU_ASSERT_EQUAL(nif.error, 0);
    waiting--; /* what nobody believed in any more */
    loop_link_check(&l, now + SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 1);
    end_with_stack();
}

static void the_kernel_takes_its_time(void)
{
    begin_with_stack();
    reopen_says = -EAGAIN;
    uint64_t now = send_and_wait(10 * SECOND);
    waiting = 0;
    CU_ASSERT_EQUAL(reopens, 1);
    CU_ASSERT_TRUE(l.closed);
    loop_link_check(&l, now + 1000000); /* not with every turn */
    CU_ASSERT_EQUAL(reopens, 1);
    loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(reopens, 2);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 0);
    reopen_says = 0;
    loop_link_check(&l, now += SECOND);
    CU_ASSERT_FALSE(l.closed);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 1);
    CU_ASSERT_EQUAL(nif.error, 0);

    reopen_says = -EAGAIN; /* and now it never lets go: that ends, too */
    now = send_and_wait(now + SECOND);
    for (unsigned i = 0; i < 200 && nif.error == 0; i++)
        loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(nif.error, -EBUSY);
    CU_ASSERT_EQUAL(reopens, 3 + 100);
    end_with_stack();
}

static void what_can_not_be_had_again_is_gone(void)
{
    begin_with_stack();
    reopen_says = -EINVAL;
    send_and_wait(10 * SECOND);
    CU_ASSERT_EQUAL(nif.error, -EINVAL);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 0);
    CU_ASSERT_FALSE(l.closed);
    end_with_stack();
}

/* ---- a kind whose frames somebody can keep from us */

static int attached_says;
static unsigned asked;
static int attached(struct netif *n)
{
    CU_ASSERT_PTR_EQUAL(n, &nif);
    asked++;
    return attached_says;
}
static const struct netif_ops attached_ops = {.in_flight = in_flight, .attached = attached};

/* A loop of one's own asks at once, and then every half a minute, if nothing else happens. */
static void what_brings_us_frames_is_looked_for(void)
{
    struct netif_watch *w;
    uint64_t again = 0, now = 5 * SECOND;
    begin();
    nif.ops = &attached_ops;
    asked = 0;
    attached_says = 0;
    struct zest *none = (struct zest *)(void *)&nif; /* nothing is to be told to it */
    const struct netif_loop_config with = {.nif = &nif, .z = none, .on_link_change = note};
    CU_ASSERT_EQUAL_FATAL(netif_watch_open(&with, &w), 0);
    CU_ASSERT_EQUAL(netif_watch_turn(w, false, now, &again), 0);
    CU_ASSERT_EQUAL(asked, 1);
    CU_ASSERT_EQUAL(again, now + 30 * SECOND);
    CU_ASSERT_EQUAL(netif_watch_turn(w, false, now + SECOND, &again), 0);
    CU_ASSERT_EQUAL(asked, 1);
    CU_ASSERT_EQUAL(again, now + 30 * SECOND);
    attached_says = -EUNATCH;
    CU_ASSERT_EQUAL(netif_watch_turn(w, false, again, &again), -EUNATCH);
    CU_ASSERT_EQUAL(asked, 2);
    CU_ASSERT_EQUAL(again, ZEST_NEVER);
    attached_says = 0; /* that is the end of it */
    CU_ASSERT_EQUAL(netif_watch_turn(w, false, now + 100 * SECOND, &again), -EUNATCH);
    CU_ASSERT_EQUAL(asked, 2);
    netif_watch_close(w);
    struct netif_error why;
    netif_explain(&nif, -EUNATCH, &why);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "took zest's XDP program off"));
    netif_explain(&nif, -ENODEV, &why);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "is gone: No such device"));
}

CHECK_MAIN("netif link", CHECK(no_completion_ever), CHECK(slow_is_not_stalled),
           CHECK(after_an_idle_time_is_not_stalled), CHECK(a_stall_is_mended),
           CHECK(attempts_are_bounded), CHECK(the_kernel_takes_its_time),
           CHECK(what_can_not_be_had_again_is_gone), CHECK(what_brings_us_frames_is_looked_for))
