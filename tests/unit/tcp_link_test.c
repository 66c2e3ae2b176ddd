/* tcp_link_test.c - what the stack does when it hears that the link is up again, or carries less
 * (zest_link_up). */
#include "tests/unit/pair.h"

#include "check.h"

static bool cut;
static uint32_t largest;

static bool drop(struct pair *p, int from, const uint8_t *frame, uint32_t len)
{
    (void)p, (void)from, (void)frame;
    if (!cut && len > largest)
        largest = len;
    return cut;
}

static uint64_t got(struct pair *p, zest_handle c)
{
    struct zest_view v[16];
    uint64_t bytes = 0;
    for (int n; (n = zest_read(p->z[1], c, v, 16)) > 0;) {
        for (int i = 0; i < n; i++)
            bytes += v[i].len;
        zest_release(p->z[1], c, v, (unsigned)n);
    }
    return bytes;
}

static void send_some(struct pair *p, zest_handle c, uint32_t bytes)
{
    struct zbuf *zb = zbuf_alloc(p->pool, bytes);
    memset(zb->data, 1, bytes);
    CU_ASSERT_EQUAL(zest_write(p->z[0], c, zb->data, bytes), bytes);
    zbuf_free(zb);
}

/* Twenty seconds without a link: the timer stands at many more. Told of the link, the connection
 * goes on at once; without that word it waits. */
static void a_long_time_down_is_not_waited_for(void)
{
    for (int told = 0; told < 2; told++) {
        struct pair p;
        zest_handle c[2], l;
        pair_open(&p, NULL);
        p.drop = drop;
        cut = false;
        CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, &l), 0);
        cut = true;
        send_some(&p, c[0], 20000);
        pair_run(&p, 20000000000);
        CU_ASSERT_EQUAL(got(&p, c[1]), 0);
        cut = false;
        if (told)
            zest_link_up(p.z[0], p.now_ns, 0);
        pair_run(&p, 1000000);
        CU_ASSERT_EQUAL(got(&p, c[1]), told ? 20000 : 0);
        CU_ASSERT_EQUAL(pair_close(&p), 0);
    }
}

static void who_has_lost_nothing_is_left_alone(void)
{
    struct pair p;
    zest_handle c[2], l;
    struct zest_stats st;
    pair_open(&p, NULL);
    CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, &l), 0);
    send_some(&p, c[0], 20000);
    pair_step(&p, p.now_ns); /* in flight */
    zest_link_up(p.z[0], p.now_ns, 0);
    zest_link_up(p.z[0], p.now_ns, 9000); /* a larger MTU changes nothing */
    pair_run(&p, 100000000);
    CU_ASSERT_EQUAL(got(&p, c[1]), 20000);
    zest_stats(p.z[0], &st);
    CU_ASSERT_EQUAL(st.tcp_retransmits + st.tcp_rtos, 0);
    CU_ASSERT_EQUAL(pair_close(&p), 0);
}

static void a_smaller_mtu_cuts_what_is_in_flight(void)
{
    struct pair p;
    zest_handle c[2], l;
    pair_open(&p, NULL);
    p.drop = drop;
    cut = false;
    CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, &l), 0);
    cut = true;
    send_some(&p, c[0], 20000);
    pair_step(&p, p.now_ns);
    cut = false;
    largest = 0;
    zest_link_up(p.z[0], p.now_ns, 1000);
    pair_run(&p, 10000000);
    CU_ASSERT_EQUAL(got(&p, c[1]), 20000);
    CU_ASSERT_EQUAL(largest, 1014);
    zest_link_up(p.z[0], p.now_ns, 1); /* never below what every host takes */
    send_some(&p, c[0], 20000);
    largest = 0;
    pair_run(&p, 10000000);
    CU_ASSERT_EQUAL(largest, 576 + 14);
    CU_ASSERT_EQUAL(pair_close(&p), 0);
}

CHECK_MAIN("tcp link", CHECK(a_long_time_down_is_not_waited_for),
           CHECK(who_has_lost_nothing_is_left_alone), CHECK(a_smaller_mtu_cuts_what_is_in_flight))
