/* netif_link_test.c - a link that gives nothing back is told of once, and so is that it does again.
 */
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

CHECK_MAIN("netif link", CHECK(no_completion_ever), CHECK(slow_is_not_stalled),
           CHECK(after_an_idle_time_is_not_stalled))
