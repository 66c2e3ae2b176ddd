/* tcp_path_test.c - what is heard of the path besides segments, and what is said of it: ICMP
 * errors, doubts after R1 (RFC 9293 3.8.3, 3.9.1.8, 3.9.2.2; RFC 1191; RFC 5927). */
#include "peer.h"

static void r1_doubts_the_path_and_says_so(void) /* MUST-20, SHLD-9, 10 */
{
    struct peer p;
    int error;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 100);
    uint64_t frames = peer_stats(&p).tx_frames, rto_ns = peer_info(&p).rto_ns;
    peer_wait(&p, 4 * rto_ns); /* two repetitions: nothing special */
    CU_ASSERT_EQUAL(p.n, 2);
    CU_ASSERT_EQUAL(peer_stats(&p).tx_frames - frames, 2);
    CU_ASSERT_EQUAL(peer_event(&p, &error), 0);
    peer_wait(&p, 4 * rto_ns); /* the third: is the neighbour still there? */
    CU_ASSERT_EQUAL(p.n, 1);
    CU_ASSERT_EQUAL(peer_stats(&p).tx_frames - frames, 4);
    CU_ASSERT_EQUAL(peer_event(&p, &error), ZEST_EV_SOFT_ERROR);
    CU_ASSERT_EQUAL(error, ETIMEDOUT);
    CU_ASSERT_EQUAL(peer_info(&p).soft_error, ETIMEDOUT);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_send(&p, A, 1, 101, NULL, 0);
    CU_ASSERT_EQUAL(peer_info(&p).soft_error, 0);
    peer_close(&p);
}

/* An ICMP message that quotes what the stack sent last. */
static void icmp_about(struct peer *p, uint8_t type, uint8_t code)
{
    static uint8_t buf[WIRE_MAX], quoted[28];
    struct wire e = peer_seg(p, 0, 0, 0);

    memcpy(quoted, p->bytes[0] + 14, 28);
    e.proto = 1;
    e.icmp_type = type;
    e.icmp_code = code;
    e.payload = quoted;
    e.payload_len = 28;
    size_t len = wire_build_icmp(&e, buf, 0);
    struct zbuf *zb = zbuf_alloc(p->pool, len);
    memcpy(zb->data, buf, len);
    zb->len = (uint32_t)len;
    zest_input(p->z, p->now_ns, &zb, 1);
}

static void icmp_tells_and_does_not_abort(void) /* MUST-47, 54, 55, 56, SHLD-25, 26 */
{
    static const struct {
        uint8_t type, code;
        int error; /* 0: silently discarded */
    } msg[] = {{3, 0, EHOSTUNREACH},  {3, 1, EHOSTUNREACH},
               {3, 5, EHOSTUNREACH},  {11, 0, EPROTO},
               {11, 1, EPROTO},       {12, 0, EPROTO},
               {3, 2, ECONNREFUSED},  {3, 3, ECONNREFUSED},
               {3, 13, EHOSTUNREACH}, {4, 0, 0}};
    struct peer p;
    int error;

    for (int established = 0; established < 2; established++)
        for (unsigned i = 0; i < sizeof msg / sizeof msg[0]; i++) {
            peer_open(&p, NULL);
            if (established) {
                peer_establish(&p);
                peer_write(&p, 100);
            } else {
                CU_ASSERT_EQUAL(peer_connect(&p, "10.0.0.2", NULL), 0);
                peer_flush(&p);
            }
            CU_ASSERT_EQUAL_FATAL(p.n, 1);
            uint32_t cwnd = peer_info(&p).cwnd;
            bool refused = !established && msg[i].error == ECONNREFUSED;
            icmp_about(&p, msg[i].type, msg[i].code);
            uint32_t ev = peer_event(&p, &error);
            CU_ASSERT_EQUAL(ev, refused ? ZEST_EV_ERROR : msg[i].error ? ZEST_EV_SOFT_ERROR : 0);
            CU_ASSERT_EQUAL(error, msg[i].error);
            CU_ASSERT_EQUAL(peer_state(&p), refused       ? ZEST_CLOSED
                                            : established ? ZEST_ESTABLISHED
                                                          : ZEST_SYN_SENT);
            CU_ASSERT_EQUAL(peer_info(&p).cwnd, cwnd); /* a source quench slows nothing down */
            peer_close(&p);
        }
}

static void soft_errors_can_be_silenced(void) /* SHLD-20 */
{
    struct peer p;
    int error;

    for (uint32_t on = 0; on < 2; on++) {
        peer_open(&p, NULL);
        peer_establish(&p);
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_SOFT_ERRORS, 2), -EINVAL);
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_SOFT_ERRORS, on), 0);
        peer_write(&p, 100);
        icmp_about(&p, 3, 1);
        CU_ASSERT_EQUAL(peer_event(&p, &error), on ? ZEST_EV_SOFT_ERROR : 0);
        CU_ASSERT_EQUAL(peer_info(&p).soft_error, EHOSTUNREACH); /* for who asks */
        peer_close(&p);
    }
    /* A listener's connections begin with what it has. */
    peer_open(&p, NULL);
    peer_listen(&p, 80);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_SOFT_ERRORS, 0), 0);
    peer_handshake(&p);
    peer_write(&p, 100);
    icmp_about(&p, 3, 1);
    CU_ASSERT_EQUAL(peer_event(&p, &error), 0);
    CU_ASSERT_EQUAL(peer_info(&p).soft_error, EHOSTUNREACH);
    peer_close(&p);
}

/* RFC 5927 4.1: what quotes a sequence number that is not in flight comes from a stranger. */
static void icmp_of_strangers(void)
{
    struct peer p;
    int error;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 100);
    p.bytes[0][14 + 20 + 4] ^= 0x40;
    icmp_about(&p, 3, 1);
    icmp_about(&p, 3, 3);
    CU_ASSERT_EQUAL(peer_event(&p, &error), 0);
    peer_close(&p);
}

/* "Too big, and mtu would fit", about the i-th segment out. */
static void too_big(struct peer *p, unsigned i, uint32_t mtu)
{
    static uint8_t buf[WIRE_MAX];
    struct wire e = peer_seg(p, 0, 0, 0);
    e.proto = 1;
    e.icmp_type = 3;
    e.icmp_code = 4;
    e.payload = p->bytes[i] + 14;
    e.payload_len = 28;
    size_t len = wire_build_icmp(&e, buf, mtu);
    p->n = 0;
    peer_frame(p, buf, len);
}

static void icmp_too_big_makes_smaller(void) /* RFC 1191 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 3 * MSS);
    CU_ASSERT_EQUAL_FATAL(p.n, 3);
    too_big(&p, 0, 1000);
    CU_ASSERT_FATAL(p.n >= 1);
    EXPECT_SEG(&p, 0, A, 1, 1, 960);
    CU_ASSERT_EQUAL(peer_info(&p).mss, 960);
    too_big(&p, 0, 1000); /* known already, */
    CU_ASSERT_EQUAL(p.n, 0);
    too_big(&p, 0, 1400); /* and it never makes larger */
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_info(&p).mss, 960);
    too_big(&p, 0, 0); /* from a router that is older than RFC 1191 */
    EXPECT_SEG(&p, 0, A, 1, 1, 536);
    CU_ASSERT_EQUAL(peer_info(&p).mss, 536);
    peer_close(&p);
}

/* About a SYN: it is not sent again, but what follows is smaller. */
static void a_small_path_is_known_before_the_answer(void)
{
    struct peer p;

    peer_open(&p, NULL);
    CU_ASSERT_EQUAL_FATAL(peer_connect(&p, "10.0.0.2", NULL), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    too_big(&p, 0, 1000);
    CU_ASSERT_EQUAL(p.n, 0);
    struct wire w = peer_seg(&p, S | A, 0, 1);
    w.opt.has_mss = true;
    w.opt.mss = MSS;
    peer_deliver(&p, &w);
    peer_write(&p, MSS);
    EXPECT_SEG(&p, 0, A, 1, 1, 960);
    peer_close(&p);
}

CHECK_MAIN("tcp path", CHECK(r1_doubts_the_path_and_says_so), CHECK(icmp_tells_and_does_not_abort),
           CHECK(soft_errors_can_be_silenced), CHECK(icmp_of_strangers),
           CHECK(icmp_too_big_makes_smaller), CHECK(a_small_path_is_known_before_the_answer))
