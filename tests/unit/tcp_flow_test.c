/* tcp_flow_test.c - when a connection sends, acknowledges, waits and sends again: windows, Nagle,
 * delayed ACKs, RTO, NewReno, persist and keepalive, packet by packet (RFC 9293 3.8, RFC 5681,
 * 6582, 6298, 7323). */
#include "peer.h"

/* ---- receiving */

static void every_second_segment_is_acknowledged(void) /* SHLD-19, RFC 5681 4.2 */
{
    struct peer p;
    uint8_t buf[4096];

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 1, 1, zeros, MSS);
    CU_ASSERT_EQUAL(p.n, 0);
    peer_send(&p, A, 1 + MSS, 1, zeros, MSS);
    EXPECT_SEG(&p, 0, A, 1, 1 + 2 * MSS, 0);
    peer_read(&p, buf, sizeof buf);
    peer_send(&p, A, 1 + 2 * MSS, 1, zeros, MSS);
    CU_ASSERT_EQUAL(p.n, 0);
    uint64_t t0_ns = p.now_ns;
    peer_wait(&p, 1000 * MS);
    EXPECT_SEG(&p, 0, A, 1, 1 + 3 * MSS, 0);
    CU_ASSERT(p.at_ns[0] - t0_ns < 500 * MS); /* MUST-40 */
    CU_ASSERT_EQUAL(p.n, 1);
    peer_close(&p);
}

static void a_train_is_acknowledged_once(void)
{
    struct peer p;
    uint8_t buf[4096];
    uint32_t seq = 1, acks = 0;

    peer_open(&p, NULL);
    p.ts = true; /* and a scaled window */
    peer_listen(&p, 80);
    struct wire syn = peer_seg(&p, S, 0, 0);
    syn.opt.has_wscale = syn.opt.has_mss = true;
    syn.opt.mss = 1460;
    peer_deliver(&p, &syn);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    for (; seq < 300000; seq += 1448) { /* until it is bulk, every second one */
        peer_send(&p, A, seq, 1, zeros, 1448);
        acks += p.n;
        peer_read(&p, buf, sizeof buf);
    }
    CU_ASSERT(acks >= 256 * 1024 / 1448 / 2);
    peer_wait(&p, 1000 * MS);
    for (int i = 0; i < 15; i++, seq += 1448) {
        peer_send(&p, A, seq, 1, zeros, 1448);
        CU_ASSERT_EQUAL(p.n, 0);
        peer_read(&p, buf, sizeof buf);
    }
    peer_send(&p, A, seq, 1, zeros, 1448);
    EXPECT_SEG(&p, 0, A, 1, seq + 1448, 0);
    seq += 1448;
    peer_read(&p, buf, sizeof buf);
    for (int i = 0; i < 2; i++, seq += 1448)
        peer_send(&p, A, seq, 1, zeros, 1448);
    CU_ASSERT_EQUAL(p.n, 0);
    uint64_t t0_ns = p.now_ns;
    peer_wait(&p, 1 * MS); /* nothing follows: at once, nearly */
    EXPECT_SEG(&p, 0, A, 1, seq, 0);
    CU_ASSERT(p.at_ns[0] - t0_ns <= 20000);
    peer_read(&p, buf, sizeof buf);
    peer_close(&p);
}

static void an_ack_rides_on_data(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 1, 1, "ping", 4);
    CU_ASSERT_EQUAL(p.n, 0);
    peer_write(&p, 4);
    EXPECT_SEG(&p, 0, A, 1, 5, 4);
    peer_wait(&p, 100 * MS);
    CU_ASSERT_EQUAL(p.n, 0);
    peer_close(&p);
}

static void out_of_order_is_kept_and_told(void)
{
    struct peer p;
    uint8_t buf[16];

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 4, 1, "def", 3);
    EXPECT_SEG(&p, 0, A, 1, 1, 0); /* a duplicate ACK for each */
    peer_send(&p, A, 10, 1, "jkl", 3);
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    peer_send(&p, A, 6, 1, "fghijk", 6); /* overlaps both */
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    CU_ASSERT_EQUAL(peer_read(&p, buf, 16), 0);
    peer_send(&p, A, 1, 1, "abcd", 4);
    EXPECT_SEG(&p, 0, A, 1, 13, 0); /* at once, the gap is closed */
    CU_ASSERT_EQUAL(peer_read(&p, buf, 16), 12);
    CU_ASSERT_EQUAL(memcmp(buf, "abcdefghijkl", 12), 0);
    peer_send(&p, A, 4, 1, "def", 3); /* old: ACKed again, nothing to read */
    EXPECT_SEG(&p, 0, A, 1, 13, 0);
    CU_ASSERT_EQUAL(peer_read(&p, buf, 16), 0);
    peer_send(&p, A, 10, 1, "jklmno", 6); /* half old */
    CU_ASSERT_EQUAL(peer_read(&p, buf, 16), 3);
    CU_ASSERT_EQUAL(memcmp(buf, "mno", 3), 0);
    peer_close(&p);
}

static void window_is_kept_to(void)
{
    struct peer p;
    uint8_t buf[8192];

    peer_open(&p, &(struct zest_config){.rcv_buf = 4000});
    peer_establish(&p);
    CU_ASSERT_EQUAL(peer_info(&p).rcv_wnd, 4000);
    peer_send(&p, A, 1, 1, zeros, 1400);
    peer_send(&p, A, 1401, 1, zeros, 1400);
    EXPECT_SEG(&p, 0, A, 1, 2801, 0);
    CU_ASSERT_EQUAL(p.out[0].wnd, 1200);
    peer_send(&p, A, 2801, 1, zeros, 1400); /* 200 too many: cut off */
    peer_wait(&p, 100 * MS);
    EXPECT_SEG(&p, 0, A, 1, 4001, 0);
    CU_ASSERT_EQUAL(p.out[0].wnd, 0);
    peer_send(&p, A, 4001, 1, zeros, 1); /* a probe of the closed window: refused, answered */
    EXPECT_SEG(&p, 0, A, 1, 4001, 0);
    CU_ASSERT_EQUAL(peer_read(&p, buf, sizeof buf), 4000);
    peer_flush(&p); /* the window opens, unasked */
    EXPECT_SEG(&p, 0, A, 1, 4001, 0);
    CU_ASSERT_EQUAL(p.out[0].wnd, 4000);
    peer_close(&p);
}

static void window_opens_by_worthwhile_steps(void) /* MUST-39 */
{
    struct peer p;
    struct zest_view v[8];

    peer_open(&p, &(struct zest_config){.rcv_buf = 4000});
    peer_establish(&p);
    for (uint32_t i = 0; i < 4; i++)
        peer_send(&p, A, 1 + i * 1000, 1, zeros, 1000);
    CU_ASSERT_EQUAL(p.out[0].wnd, 0);
    CU_ASSERT_EQUAL(zest_read(p.z, p.conn, v, 8), 4);
    zest_release(p.z, p.conn, v, 1);
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.n, 0); /* 1000 of 4000 are less than a segment */
    zest_release(p.z, p.conn, v + 1, 1);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].wnd, 2000);
    zest_release(p.z, p.conn, v + 2, 2);
    peer_close(&p);
}

static void small_segments_share_memory(void)
{
    struct peer p;
    struct zbuf_pool_stat a, b;
    static uint8_t buf[2048];

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 1, 1, "0", 1);
    zbuf_pool_stat(p.pool, &a);
    for (uint32_t i = 1; i < 500; i++)
        peer_send(&p, A, 1 + i, 1, "0", 1);
    zbuf_pool_stat(p.pool, &b);
    CU_ASSERT(b.used <= a.used + 2048);
    CU_ASSERT_EQUAL(peer_read(&p, buf, sizeof buf), 500);
    peer_close(&p);
}

static void old_timestamps_are_refused(void) /* RFC 7323 5 */
{
    struct peer p;
    uint8_t buf[8];

    peer_open(&p, NULL);
    p.ts = true;
    peer_establish(&p);
    peer_send(&p, A, 1, 1, "abc", 3);
    peer_wait(&p, 100 * MS);
    EXPECT_SEG(&p, 0, A, 1, 4, 0);
    CU_ASSERT_EQUAL(p.out[0].opt.ts_ecr, p.ts_base + 5000);
    p.ts_base -= 1000;
    peer_send(&p, A, 4, 1, "old", 3);
    EXPECT_SEG(&p, 0, A, 1, 4, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_paws, 1);
    p.ts_base += 1000;
    peer_send(&p, A, 4, 1, "new", 3);
    CU_ASSERT_EQUAL(peer_read(&p, buf, 8), 6);
    CU_ASSERT_EQUAL(memcmp(buf + 3, "new", 3), 0);
    peer_close(&p);
}

static void unsummed_segments_are_known(void)
{
    struct peer p;
    static uint8_t buf[WIRE_MAX];

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    struct wire syn = peer_seg(&p, S, 0, 0);
    size_t len = wire_build_tcp(&syn, buf);
    buf[14 + 20 + 16] ^= 1;
    peer_frame(&p, buf, len);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_csum, 1);
    /* What a kernel leaves to hardware: the sum of the pseudo-header, not complemented. */
    uint16_t sum = wire_sum(6 + 20, buf + 14 + 12, 8);
    buf[14 + 20 + 16] = (uint8_t)(sum >> 8);
    buf[14 + 20 + 17] = (uint8_t)sum;
    peer_frame(&p, buf, len);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_csum_partial, 1);
    peer_close(&p);
}

/* ---- sending */

static void nagle(void) /* SHLD-7, MUST-17 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 10);
    EXPECT_SEG(&p, 0, A, 1, 1, 10);
    CU_ASSERT(p.out[0].flags & WIRE_PSH);
    peer_write(&p, 10); /* held: 10 bytes are on their way */
    CU_ASSERT_EQUAL(p.n, 0);
    peer_write(&p, 10);
    CU_ASSERT_EQUAL(p.n, 0);
    peer_send(&p, A, 1, 11, NULL, 0);
    EXPECT_SEG(&p, 0, A, 11, 1, 20);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_NODELAY, 1), 0);
    peer_write(&p, 5);
    EXPECT_SEG(&p, 0, A, 31, 1, 5);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_NODELAY, 2), -EINVAL);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_CORK, 1), 0);
    peer_send(&p, A, 1, 36, NULL, 0);
    peer_write(&p, 5);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_CORK, 0), 0);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, A, 36, 1, 5);
    peer_close(&p);
}

static void silly_window_is_not_filled(void) /* MUST-38 */
{
    struct peer p;

    peer_open(&p, NULL);
    p.wnd = 3000;
    peer_establish(&p);
    peer_write(&p, 5 * MSS);
    CU_ASSERT_EQUAL(p.n, 2); /* 80 bytes of window are left, and not used */
    p.wnd = 100;
    peer_send(&p, A, 1, 1 + 2 * MSS, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 0);
    uint64_t t0_ns = p.now_ns;
    peer_wait(&p, 5000 * MS); /* the override time-out lets it go */
    CU_ASSERT_FATAL(p.n >= 1);
    CU_ASSERT_EQUAL(p.out[0].payload_len, 100);
    CU_ASSERT(p.at_ns[0] - t0_ns >= 100 * MS);
    peer_close(&p);
}

static void slow_start(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 40 * MSS);
    CU_ASSERT_EQUAL(p.n, 10); /* RFC 6928 */
    peer_send(&p, A, 1, 1 + 10 * MSS, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 20);
    peer_close(&p);
}

static void fast_retransmit_and_recovery(void) /* RFC 6582 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 40 * MSS); /* 10 out; say the 1st and the 5th are lost */
    peer_send(&p, A, 1, 1, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1 + 10 * MSS, 1, MSS); /* RFC 3042 */
    peer_send(&p, A, 1, 1, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1 + 11 * MSS, 1, MSS);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 1);
    EXPECT_SEG(&p, 0, A, 1, 1, MSS);
    CU_ASSERT_EQUAL(peer_info(&p).fast_retransmits, 1);
    CU_ASSERT_EQUAL(peer_info(&p).ssthresh, 6 * MSS);
    CU_ASSERT_EQUAL(peer_info(&p).cwnd, 9 * MSS);
    for (int i = 0; i < 3; i++) {
        peer_send(&p, A, 1, 1, NULL, 0); /* inflates; 12 are out */
        CU_ASSERT_EQUAL(p.n, 0);
    }
    peer_send(&p, A, 1, 1, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1 + 12 * MSS, 1, MSS);
    peer_send(&p, A, 1, 1 + 4 * MSS, NULL, 0); /* partial: the 5th goes again, at once */
    CU_ASSERT_FATAL(p.n >= 1);
    EXPECT_SEG(&p, 0, A, 1 + 4 * MSS, 1, MSS);
    CU_ASSERT_EQUAL(peer_info(&p).fast_retransmits, 1);
    peer_send(&p, A, 1, 1 + 12 * MSS, NULL, 0); /* all that was out when it began */
    CU_ASSERT(peer_info(&p).cwnd <= 6 * MSS);
    CU_ASSERT_EQUAL(peer_info(&p).rtos, 0);
    CU_ASSERT_EQUAL(peer_info(&p).segs_retransmitted, 2);
    peer_close(&p);
}

static void rto_backs_off_and_goes_back(void) /* RFC 6298 5 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 3 * MSS);
    CU_ASSERT_EQUAL(p.n, 3);
    uint64_t t0_ns = p.now_ns, rto_ns = peer_info(&p).rto_ns;
    peer_wait(&p, 7 * rto_ns + 100 * MS);
    CU_ASSERT_EQUAL_FATAL(p.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_SEG(&p, i, A, 1, 1, MSS);
        CU_ASSERT_EQUAL(p.at_ns[i] - t0_ns, rto_ns * ((2ull << i) - 1));
    }
    CU_ASSERT_EQUAL(peer_info(&p).cwnd, MSS);
    peer_send(&p, A, 1, 1 + MSS, NULL, 0); /* the others were lost, too: two may go now */
    CU_ASSERT_EQUAL(p.n, 2);
    EXPECT_SEG(&p, 0, A, 1 + MSS, 1, MSS);
    EXPECT_SEG(&p, 1, A, 1 + 2 * MSS, 1, MSS);
    peer_send(&p, A, 1, 1 + 3 * MSS, NULL, 0);
    peer_wait(&p, 10000 * MS);
    CU_ASSERT_EQUAL(p.n, 0);
    peer_close(&p);
}

static void ack_past_what_is_sent_again(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 5 * MSS);
    peer_wait(&p, peer_info(&p).rto_ns + MS);
    CU_ASSERT_EQUAL(p.n, 1); /* only the first was lost */
    peer_send(&p, A, 1, 1 + 5 * MSS, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_info(&p).snd_queued, 0);
    peer_write(&p, 100);
    EXPECT_SEG(&p, 0, A, 1 + 5 * MSS, 1, 100);
    peer_close(&p);
}

static void gives_up_after_r2(void) /* MUST-20 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 100);
    peer_wait(&p, 99000 * MS); /* not before 100 s: SHLD-11 */
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_wait(&p, 260000 * MS);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSED);
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, ETIMEDOUT);
    peer_close(&p);

    peer_open(&p, NULL);
    peer_establish(&p);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_USER_TIMEOUT, 3000), 0);
    peer_write(&p, 100);
    peer_wait(&p, 2900 * MS);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_wait(&p, 200 * MS);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSED);
    peer_close(&p);
}

static void closed_window_is_probed(void) /* MUST-36, MUST-37, SHLD-29, SHLD-30 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    p.wnd = 0;
    peer_send(&p, A, 1, 1, NULL, 0);
    peer_write(&p, 3 * MSS);
    CU_ASSERT_EQUAL(p.n, 0);
    uint64_t t0_ns = p.now_ns, rto_ns = peer_info(&p).rto_ns;
    peer_wait(&p, 7 * rto_ns + MS);
    CU_ASSERT_EQUAL_FATAL(p.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_SEG(&p, i, A, 1, 1, 1);
        CU_ASSERT_EQUAL(p.at_ns[i] - t0_ns, rto_ns * ((2ull << i) - 1));
    }
    for (int i = 0; i < 100; i++) { /* for as long as the peer answers */
        peer_wait(&p, 60000 * MS);
        peer_send(&p, A, 1, 1, NULL, 0);
    }
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    p.wnd = 20000;
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 3);
    EXPECT_SEG(&p, 0, A, 1, 1, MSS);
    peer_close(&p);
}

/* Hours of time-outs, far more than their counter counts: the time between two stays the longest.
 */
static void patience_does_not_wrap(void)
{
    struct peer p;

    for (int probing = 0; probing < 2; probing++) {
        peer_open(&p, NULL);
        peer_establish(&p);
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_USER_TIMEOUT, 10 * 3600 * 1000), 0);
        p.wnd = probing ? 0 : p.wnd;
        peer_send(&p, A, 1, 1, NULL, 0);
        peer_write(&p, 100);
        for (int hour = 0; hour < 9; hour++) {
            peer_wait(&p, 3600000 * MS);
            CU_ASSERT(hour == 0 || (p.n >= 59 && p.n <= 61));
        }
        CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
        peer_close(&p);
    }
}

static void probe_that_is_taken(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    p.wnd = 0;
    peer_send(&p, A, 1, 1, NULL, 0);
    peer_write(&p, MSS);
    peer_wait(&p, peer_info(&p).rto_ns + MS);
    EXPECT_SEG(&p, 0, A, 1, 1, 1);
    peer_send(&p, A, 1, 2, NULL, 0); /* the byte was taken, the window is still closed */
    CU_ASSERT_EQUAL(p.n, 0);
    p.wnd = 20000;
    peer_send(&p, A, 1, 2, NULL, 0);
    EXPECT_SEG(&p, 0, A, 2, 1, MSS - 1);
    peer_close(&p);
}

static void shrunk_window_is_survived(void) /* SHLD-16, MUST-34 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 10 * MSS);
    CU_ASSERT_EQUAL(p.n, 10);
    p.wnd = (uint16_t)(2 * MSS);
    peer_send(&p, A, 1, 1 + MSS, NULL, 0); /* 9 are out, 2 are allowed */
    CU_ASSERT_EQUAL(p.n, 0);
    peer_send(&p, A, 1, 1 + 10 * MSS, NULL, 0);
    CU_ASSERT_EQUAL(peer_info(&p).snd_queued, 0);
    peer_close(&p);
}

static void keepalive(void) /* 3.8.4 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_wait(&p, 10000000 * MS);
    CU_ASSERT_EQUAL(p.n, 0); /* MUST-25: off */
    zest_set_option(p.z, p.conn, ZEST_OPT_KEEPALIVE, 100);
    zest_set_option(p.z, p.conn, ZEST_OPT_KEEPINTVL, 10);
    zest_set_option(p.z, p.conn, ZEST_OPT_KEEPCNT, 3);
    uint64_t t0_ns = p.now_ns;
    peer_wait(&p, 101000 * MS);
    EXPECT_SEG(&p, 0, A, 0, 1, 0);
    CU_ASSERT_EQUAL(p.at_ns[0] - t0_ns, 100000 * MS);
    peer_send(&p, A, 1, 1, NULL, 0); /* answered */
    peer_wait(&p, 99000 * MS);
    CU_ASSERT_EQUAL(p.n, 0);
    peer_wait(&p, 25000 * MS);
    CU_ASSERT_EQUAL(p.n, 3);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_wait(&p, 10000 * MS); /* three unanswered */
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSED);
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, ETIMEDOUT);
    peer_close(&p);
}

CHECK_MAIN("tcp flow", CHECK(every_second_segment_is_acknowledged),
           CHECK(a_train_is_acknowledged_once), CHECK(an_ack_rides_on_data),
           CHECK(out_of_order_is_kept_and_told), CHECK(window_is_kept_to),
           CHECK(window_opens_by_worthwhile_steps), CHECK(small_segments_share_memory),
           CHECK(old_timestamps_are_refused), CHECK(unsummed_segments_are_known), CHECK(nagle),
           CHECK(silly_window_is_not_filled), CHECK(slow_start),
           CHECK(fast_retransmit_and_recovery), CHECK(rto_backs_off_and_goes_back),
           CHECK(ack_past_what_is_sent_again), CHECK(gives_up_after_r2),
           CHECK(closed_window_is_probed), CHECK(patience_does_not_wrap),
           CHECK(probe_that_is_taken), CHECK(shrunk_window_is_survived), CHECK(keepalive))
