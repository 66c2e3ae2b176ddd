/* tcp_ecn_test.c - explicit congestion notification, RFC 3168, segment by segment. */
#include "peer.h"

#define E WIRE_ECE
#define W WIRE_CWR

/* The ECN field of the i-th packet out. */
static uint8_t field(struct peer *p, unsigned i)
{
    return p->bytes[i][14 + 1] & 3;
}

/* The peer asks, and the stack agrees. */
static void establish(struct peer *p)
{
    peer_listen(p, 80);
    struct wire w = peer_seg(p, S | E | W, 0, 0);
    w.opt.has_mss = true;
    w.opt.mss = 1460;
    peer_deliver(p, &w);
    EXPECT_SEG(p, 0, S | A | E, 0, 1, 0);
    peer_send(p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p->z, p->listener, &p->conn, NULL), 0);
    CU_ASSERT_EQUAL(peer_info(p).ecn, true);
    peer_events(p);
}

/* Data that a router marked. */
static void send_marked(struct peer *p, uint8_t flags, uint32_t seq, uint32_t len)
{
    struct wire w = peer_seg(p, flags, seq, 1);
    w.tos = 3;
    w.payload = zeros;
    w.payload_len = len;
    peer_deliver(p, &w);
}

static void who_asks_and_who_agrees(void) /* SHLD-8 */
{
    static const struct {
        uint8_t mode, syn, answer; /* what the peer's SYN has, what ours then */
    } passive[] = {{ZEST_ECN_OFF, E | W, 0}, {ZEST_ECN_AGREE, E | W, E}, {ZEST_ECN_ASK, E | W, E},
                   {ZEST_ECN_AGREE, 0, 0},   {ZEST_ECN_AGREE, E, 0},     {ZEST_ECN_AGREE, W, 0}};
    static const struct {
        uint8_t mode, syn, answer; /* what our SYN has, and the peer's then */
        bool ecn;
    } active[] = {{ZEST_ECN_OFF, 0, E, false},         {ZEST_ECN_AGREE, 0, E, false},
                  {ZEST_ECN_ASK, E | W, E, true},      {ZEST_ECN_ASK, E | W, 0, false},
                  {ZEST_ECN_ASK, E | W, E | W, false}, {ZEST_ECN_ASK, E | W, W, false}};
    struct peer p;
    struct zest_addr a;

    for (unsigned i = 0; i < 6; i++) {
        peer_open(&p, NULL);
        peer_listen(&p, 80);
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_ECN, passive[i].mode), 0);
        peer_send(&p, (uint8_t)(S | passive[i].syn), 0, 0, NULL, 0);
        EXPECT_SEG(&p, 0, S | A | passive[i].answer, 0, 1, 0);
        CU_ASSERT_EQUAL(field(&p, 0), 0);
        peer_close(&p);
    }
    for (unsigned i = 0; i < 6; i++) {
        peer_open(&p, NULL);
        zest_addr_parse(&a, "10.0.0.2", p.port);
        CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_ECN, 3), -EINVAL);
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_ECN, active[i].mode), 0);
        peer_flush(&p);
        EXPECT_SEG(&p, 0, S | active[i].syn, 0, 0, 0);
        peer_send(&p, (uint8_t)(S | A | active[i].answer), 0, 1, NULL, 0);
        CU_ASSERT_EQUAL(peer_info(&p).ecn, active[i].ecn);
        CU_ASSERT_EQUAL(p.out[0].flags, A); /* and no more of it in what follows */
        peer_close(&p);
    }
}

static void a_syn_that_asks_in_vain(void) /* 6.1.1.1 */
{
    struct peer p;
    struct zest_addr a;

    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_ECN, ZEST_ECN_ASK), 0);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, S | E | W, 0, 0, 0);
    peer_wait(&p, 1500 * MS);
    EXPECT_SEG(&p, 0, S, 0, 0, 0);
    peer_close(&p);
}

static void marks_are_echoed_until_answered(void) /* 6.1.3 */
{
    struct peer p;

    peer_open(&p, NULL);
    establish(&p);
    peer_send(&p, A, 1, 1, zeros, 1000);
    peer_send(&p, A, 1001, 1, zeros, 1000);
    EXPECT_SEG(&p, 0, A, 1, 2001, 0);
    send_marked(&p, A, 2001, 0); /* a mark on what carries nothing is not looked at */
    send_marked(&p, A, 2001, 1000);
    peer_send(&p, A, 3001, 1, zeros, 1000);
    EXPECT_SEG(&p, 0, A | E, 1, 4001, 0);
    CU_ASSERT_EQUAL(field(&p, 0), 0);
    peer_write(&p, 100);
    EXPECT_SEG(&p, 0, A | E, 1, 4001, 100);
    peer_send(&p, A, 4001, 101, zeros, 1000);
    peer_send(&p, A, 5001, 101, zeros, 1000);
    EXPECT_SEG(&p, 0, A | E, 101, 6001, 0);
    peer_send(&p, A | W, 6001, 101, zeros, 1000); /* it has slowed down */
    peer_send(&p, A, 7001, 101, zeros, 1000);
    EXPECT_SEG(&p, 0, A, 101, 8001, 0);
    send_marked(&p, A | W, 8001, 1000); /* and this one is marked itself */
    peer_send(&p, A, 9001, 101, zeros, 1000);
    EXPECT_SEG(&p, 0, A | E, 101, 10001, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_ecn_marked, 2);
    peer_close(&p);
}

static void new_data_is_capable(void) /* 6.1.4 to 6.1.6 */
{
    struct peer p;

    peer_open(&p, NULL);
    establish(&p);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_DSCP, 46), 0);
    peer_write(&p, 100);
    CU_ASSERT_EQUAL(field(&p, 0), 2);
    CU_ASSERT_EQUAL(p.bytes[0][14 + 1], 46 << 2 | 2);
    peer_wait(&p, 1500 * MS); /* again */
    EXPECT_SEG(&p, 0, A, 1, 1, 100);
    CU_ASSERT_EQUAL(field(&p, 0), 0);
    p.wnd = 0;
    peer_send(&p, A, 1, 101, NULL, 0);
    peer_write(&p, 100);
    peer_wait(&p, 3000 * MS); /* a probe */
    EXPECT_SEG(&p, 0, A, 101, 1, 1);
    CU_ASSERT_EQUAL(field(&p, 0), 0);
    peer_close(&p);

    peer_open(&p, NULL); /* nobody asked for it */
    peer_establish(&p);
    peer_write(&p, 100);
    CU_ASSERT_EQUAL(field(&p, 0), 0);
    CU_ASSERT_EQUAL(peer_info(&p).ecn, false);
    send_marked(&p, A, 1, 1000);
    peer_send(&p, A | E, 1001, 101, zeros, 1000);
    EXPECT_SEG(&p, 0, A, 101, 2001, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_ecn_slowed, 0);
    peer_close(&p);
}

static void slows_down_once_a_window(void) /* 6.1.2 */
{
    struct peer p;

    peer_open(&p, NULL);
    establish(&p);
    peer_write(&p, 30 * MSS);
    CU_ASSERT_EQUAL(p.n, 10);
    uint32_t cwnd = peer_info(&p).cwnd;
    peer_send(&p, A | E, 1, 1 + 2 * MSS, NULL, 0);
    CU_ASSERT(peer_info(&p).cwnd <= cwnd / 2 + 2 * MSS && peer_info(&p).cwnd >= cwnd / 2);
    CU_ASSERT_EQUAL(peer_info(&p).ssthresh, peer_info(&p).cwnd);
    CU_ASSERT_EQUAL(peer_info(&p).segs_retransmitted, 0);
    cwnd = peer_info(&p).cwnd;
    for (uint32_t n = 4; n <= 10; n += 2) { /* the same window: heard already */
        peer_send(&p, A | E, 1, 1 + n * MSS, NULL, 0);
        for (unsigned i = 0; i < p.n; i++) /* said once, with the first new data */
            CU_ASSERT_EQUAL(!!(p.out[i].flags & W), p.out[i].seq - p.irs == 1 + 10 * MSS);
        CU_ASSERT(peer_info(&p).cwnd >= cwnd);
    }
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_ecn_slowed, 1);
    CU_ASSERT(peer_info(&p).snd_unsent < 20 * MSS);
    cwnd = peer_info(&p).cwnd;
    peer_send(&p, A | E, 1, 1 + 11 * MSS, NULL, 0); /* the next */
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_ecn_slowed, 2);
    CU_ASSERT(peer_info(&p).cwnd < cwnd);
    peer_close(&p);
}

/* What a loss has halved is not halved again for the marks of the same window; it is answered. */
static void a_loss_counts_for_both(void)
{
    struct peer p;

    peer_open(&p, NULL);
    establish(&p);
    peer_write(&p, 10 * MSS);
    CU_ASSERT_EQUAL(p.n, 10);
    peer_send(&p, A, 1, 1 + MSS, NULL, 0);
    for (int i = 0; i < 3; i++)
        peer_send(&p, A, 1, 1 + MSS, NULL, 0);
    CU_ASSERT_EQUAL(peer_info(&p).fast_retransmits, 1);
    uint32_t ssthresh = peer_info(&p).ssthresh;
    peer_send(&p, A | E, 1, 1 + 10 * MSS, NULL, 0);
    CU_ASSERT_EQUAL(peer_info(&p).ssthresh, ssthresh);
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_ecn_slowed, 0);
    peer_write(&p, MSS);
    EXPECT_SEG(&p, 0, A | W, 1 + 10 * MSS, 1, MSS);
    peer_close(&p);
}

CHECK_MAIN("tcp ecn", CHECK(who_asks_and_who_agrees), CHECK(a_syn_that_asks_in_vain),
           CHECK(marks_are_echoed_until_answered), CHECK(new_data_is_capable),
           CHECK(slows_down_once_a_window), CHECK(a_loss_counts_for_both))
