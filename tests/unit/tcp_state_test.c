/* tcp_state_test.c - the eleven states and the ways between them, packet by packet against a peer
 * that the test plays (RFC 9293 3.5, 3.6, 3.10; RFC 5961). */
#include "peer.h"

static void passive_open(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_close(&p);
}

static void syn_ack_offers_only_what_was_offered(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    peer_send(&p, S, 0, 0, NULL, 0); /* no options at all */
    EXPECT_SEG(&p, 0, S | A, 0, 1, 0);
    CU_ASSERT(p.out[0].opt.has_mss && p.out[0].opt.mss == 1460);
    CU_ASSERT_FALSE(p.out[0].opt.has_ts);
    CU_ASSERT_FALSE(p.out[0].opt.has_wscale);

    struct wire syn = peer_seg(&p, S, 0, 0);
    syn.sport++;
    syn.opt.has_ts = syn.opt.has_wscale = true;
    syn.opt.ts_val = 7;
    peer_deliver(&p, &syn);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT(p.out[0].opt.has_ts && p.out[0].opt.ts_ecr == 7);
    CU_ASSERT(p.out[0].opt.has_wscale);
    peer_close(&p);
}

static void default_mss_is_536(void) /* MUST-15 */
{
    struct peer p;
    struct zest_conn_info i;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    peer_send(&p, S, 0, 0, NULL, 0);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    zest_conn_info(p.z, p.conn, &i);
    CU_ASSERT_EQUAL(i.mss, 536);
    peer_write(&p, 2000);
    CU_ASSERT_EQUAL(p.out[0].payload_len, 536);
    peer_close(&p);
}

static void active_open_and_simultaneous(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_connected(&p);
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_close(&p);

    /* RFC 9293 figure 8: both sent a SYN */
    struct zest_addr a;
    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, S, 0, 0, 0);
    peer_send(&p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_SYN_RECEIVED);
    EXPECT_SEG(&p, 0, S | A, 0, 1, 0);
    peer_send(&p, S | A, 0, 1, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    CU_ASSERT(peer_events(&p) & ZEST_EV_CONNECTED);
    peer_close(&p);
}

static void syn_sent_answers(void)
{
    struct peer p;
    struct zest_addr a;

    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    peer_flush(&p);
    peer_send(&p, S | A, 0, 2, NULL, 0); /* acknowledges what was never sent: RST, and we wait on */
    EXPECT_SEG(&p, 0, R, 2, 0, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_SYN_SENT);
    peer_send(&p, R, 0, 0, NULL, 0); /* no ACK: ignored */
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_SYN_SENT);
    peer_send(&p, A, 0, 1, NULL, 0); /* no SYN: the same */
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_SYN_SENT);
    peer_send(&p, R | A, 0, 1, NULL, 0);
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, ECONNREFUSED);
    peer_close(&p);
}

static void syn_is_repeated_and_given_up(void)
{
    struct peer p;
    struct zest_addr a;

    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    peer_flush(&p);
    uint64_t first_ns = p.at_ns[0];
    peer_wait(&p, 10000 * MS);
    CU_ASSERT_EQUAL_FATAL(p.n, 3); /* after 1, 3, 7 seconds */
    CU_ASSERT_EQUAL(p.at_ns[0] - first_ns, 1000 * MS);
    CU_ASSERT_EQUAL(p.at_ns[1] - first_ns, 3000 * MS);
    CU_ASSERT_EQUAL(p.at_ns[2] - first_ns, 7000 * MS);
    peer_wait(&p, 165000 * MS); /* MUST-23: at least three minutes */
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_SYN_SENT);
    peer_wait(&p, 60000 * MS);
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, ETIMEDOUT);
    peer_close(&p);
}

static void listen_answers(void) /* 3.10.7.2 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    peer_send(&p, R, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 0);
    peer_send(&p, A, 5, 9, NULL, 0);
    EXPECT_SEG(&p, 0, R, 9, 0, 0);
    peer_send(&p, F, 5, 0, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 0);
    p.stack_port = 81; /* nobody listens */
    peer_send(&p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].flags, R | A);
    CU_ASSERT_EQUAL(p.out[0].seq, 0);
    CU_ASSERT_EQUAL(p.out[0].ack, p.iss + 1);
    peer_send(&p, R, 0, 0, NULL, 0); /* a RST is never answered */
    CU_ASSERT_EQUAL(p.n, 0);
    peer_close(&p);
}

static void backlog_is_a_limit(void)
{
    struct peer p;
    struct zest_addr a = {.port = 80};

    peer_open(&p, NULL);
    CU_ASSERT_EQUAL(zest_listen(p.z, &a, 2, &p.listener), 0);
    CU_ASSERT_EQUAL(zest_listen(p.z, &a, 2, &p.listener), -EADDRINUSE);
    p.stack_port = 80;
    for (unsigned i = 0; i < 3; i++, p.port++) {
        peer_send(&p, S, 0, 0, NULL, 0);
        CU_ASSERT_EQUAL(p.n, i < 2);
    }
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_backlog, 1);
    /* A RST lets one go, and its place is free again. */
    p.port = 4000;
    peer_send(&p, R, 1, 0, NULL, 0);
    p.port = 4002;
    peer_send(&p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 1);
    peer_close(&p);
}

static void syn_again_is_answered_again(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    peer_send(&p, S, 0, 0, NULL, 0);
    EXPECT_SEG(&p, 0, S | A, 0, 1, 0);
    peer_send(&p, S, 0, 0, NULL, 0);
    EXPECT_SEG(&p, 0, S | A, 0, 1, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 1);
    peer_close(&p);
}

static void active_close(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    CU_ASSERT_EQUAL(zest_shutdown(p.z, p.conn), 0);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, F | A, 1, 1, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_FIN_WAIT_1);
    peer_send(&p, A, 1, 2, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_FIN_WAIT_2);
    peer_send(&p, A, 1, 2, "late", 4); /* half-closed: still read */
    uint8_t buf[8];
    CU_ASSERT_EQUAL(peer_read(&p, buf, 8), 4);
    peer_send(&p, F | A, 5, 2, NULL, 0);
    EXPECT_SEG(&p, 0, A, 2, 6, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    uint32_t ev = peer_events(&p);
    CU_ASSERT((ev & ZEST_EV_EOF) && (ev & ZEST_EV_CLOSED));
    /* Our last ACK was lost. */
    peer_wait(&p, 50000 * MS);
    peer_send(&p, F | A, 5, 2, NULL, 0);
    EXPECT_SEG(&p, 0, A, 2, 6, 0);
    peer_wait(&p, 50000 * MS); /* 2 MSL began anew */
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    peer_wait(&p, 11000 * MS);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSED);
    peer_close(&p);
}

static void passive_close(void)
{
    struct peer p;
    struct zest_view v;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, F | A, 1, 1, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1, 2, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSE_WAIT);
    CU_ASSERT(peer_events(&p) & ZEST_EV_EOF);
    CU_ASSERT_EQUAL(zest_read(p.z, p.conn, &v, 1), 0);
    CU_ASSERT_EQUAL(peer_write(&p, 10), 10); /* still written */
    EXPECT_SEG(&p, 0, A, 1, 2, 10);
    CU_ASSERT_EQUAL(zest_shutdown(p.z, p.conn), 0);
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, "x", 1), -EPIPE);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, F | A, 11, 2, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_LAST_ACK);
    peer_send(&p, A, 2, 12, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSED);
    CU_ASSERT(peer_events(&p) & ZEST_EV_CLOSED);
    peer_close(&p);
}

static void simultaneous_close(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    zest_shutdown(p.z, p.conn);
    peer_flush(&p);
    peer_send(&p, F | A, 1, 1, NULL, 0); /* crossed ours */
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSING);
    EXPECT_SEG(&p, 0, A, 2, 2, 0);
    peer_send(&p, A, 2, 2, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    peer_close(&p);
}

static void fin_with_the_last_data_and_its_ack(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    zest_shutdown(p.z, p.conn);
    peer_flush(&p);
    peer_send(&p, F | A, 1, 2, "end", 3); /* FIN-WAIT-1 to TIME-WAIT in one segment */
    EXPECT_SEG(&p, 0, A, 2, 5, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    uint8_t buf[8];
    CU_ASSERT_EQUAL(peer_read(&p, buf, 8), 3);
    peer_close(&p);
}

static void fin_out_of_order_waits(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, F | A, 4, 1, "def", 3);
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_send(&p, A, 1, 1, "abc", 3);
    EXPECT_SEG(&p, 0, A, 1, 8, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSE_WAIT);
    uint8_t buf[8];
    CU_ASSERT_EQUAL(peer_read(&p, buf, 8), 6);
    CU_ASSERT_EQUAL(memcmp(buf, "abcdef", 6), 0);
    peer_close(&p);
}

static void close_with_unread_bytes_resets(void) /* RFC 1122 4.2.2.13 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 1, 1, "abc", 3);
    CU_ASSERT_EQUAL(zest_close(p.z, p.conn), 0);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, R | A, 1, 4, 0);
    CU_ASSERT_EQUAL(zest_close(p.z, p.conn), -EBADF);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0);
    peer_close(&p);
}

static void data_after_close_resets(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    CU_ASSERT_EQUAL(zest_close(p.z, p.conn), 0);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, F | A, 1, 1, 0);
    peer_send(&p, A, 1, 2, "abc", 3);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT(p.out[0].flags & R);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0);
    peer_close(&p);
}

static void fin_wait_2_ends_without_a_reader(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    zest_close(p.z, p.conn);
    peer_flush(&p);
    peer_send(&p, A, 1, 2, NULL, 0);
    peer_wait(&p, 59000 * MS);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 1);
    peer_wait(&p, 2000 * MS);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0);
    peer_close(&p);
}

static void abort_resets(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 3000);
    CU_ASSERT_EQUAL(zest_abort(p.z, p.conn), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].flags, R | A);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0);
    peer_close(&p);
}

static void rst_needs_the_exact_number(void) /* RFC 5961 3.2 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, R, 2, 0, NULL, 0); /* in the window, not exact */
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_send(&p, R, 3, 0, NULL, 0); /* the next challenge has to wait */
    CU_ASSERT_EQUAL(p.n, 0);
    peer_send(&p, R, (uint32_t)-5, 0, NULL, 0); /* outside: dropped */
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_send(&p, R, 1, 0, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, ECONNRESET);
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, "x", 1), -ECONNRESET);
    CU_ASSERT_EQUAL(zest_shutdown(p.z, p.conn), -ECONNRESET);
    CU_ASSERT_EQUAL(zest_close(p.z, p.conn), 0);
    peer_close(&p);
}

static void syn_in_the_window_is_challenged(void) /* RFC 5961 4.2 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, S, 10, 0, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_challenge_acks, 1);
    peer_close(&p);
}

static void ack_out_of_range_is_challenged(void) /* RFC 5961 5.2 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 1, 1 + 1, "evil", 4); /* acknowledges the future */
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    peer_wait(&p, 200 * MS);
    peer_send(&p, A, 1, 1u - 70000u, "evil", 4); /* ... and the far past */
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    uint8_t buf[8];
    CU_ASSERT_EQUAL(peer_read(&p, buf, 8), 0);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_ack, 2);
    peer_close(&p);
}

static void time_wait_is_reopened_by_a_newer_syn(void) /* MAY-2 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    zest_shutdown(p.z, p.conn);
    peer_flush(&p);
    peer_send(&p, F | A, 1, 2, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    peer_send(&p, S, (uint32_t)-100, 0, NULL, 0); /* an old one is not */
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    uint32_t old_irs = p.irs;
    peer_send(&p, S, 1000, 0, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].flags, S | A);
    CU_ASSERT((int32_t)(p.irs - old_irs) > 0); /* RFC 6528: it grows with time */
    peer_close(&p);
}

static void time_wait_gives_way_when_slots_run_out(void)
{
    struct peer p;

    peer_open(&p, &(struct zest_config){.max_conns = 2});
    peer_listen(&p, 80);
    for (int i = 0; i < 5; i++, p.port++) {
        peer_send(&p, S, 0, 0, NULL, 0);
        CU_ASSERT_EQUAL_FATAL(p.n, 1);
        peer_send(&p, A, 1, 1, NULL, 0);
        CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
        zest_close(p.z, p.conn);
        peer_flush(&p);
        peer_send(&p, F | A, 1, 2, NULL, 0);
    }
    CU_ASSERT_EQUAL(peer_stats(&p).time_wait, 2);
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_time_waits_recycled, 3);
    peer_close(&p);
}

static void closing_a_listener_resets_what_waits(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    peer_send(&p, S, 0, 0, NULL, 0);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL(zest_close(p.z, p.listener), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT(p.out[0].flags & R);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0);
    CU_ASSERT_EQUAL(zest_accept(p.z, p.listener, &p.conn, NULL), -EBADF);
    CU_ASSERT_EQUAL(peer_events(&p), 0);
    peer_close(&p);
}

static void closing_a_listener_spares_the_others(void)
{
    struct zest_event ev[4];
    zest_handle first, conn;
    struct peer p;

    peer_open(&p, NULL);
    for (uint16_t i = 0; i < 2; i++) { /* each has a connection that waits, and an event of it */
        first = p.listener;
        p.port = (uint16_t)(4000 + i);
        peer_listen(&p, (uint16_t)(80 + i));
        peer_send(&p, S, 0, 0, NULL, 0);
        peer_send(&p, A, 1, 1, NULL, 0);
    }
    CU_ASSERT_EQUAL(zest_close(p.z, p.listener), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].dport, 4001);
    CU_ASSERT_EQUAL(p.out[0].flags & R, R);
    CU_ASSERT_EQUAL_FATAL(zest_events(p.z, ev, 4), 1);
    CU_ASSERT_EQUAL(ev[0].handle, first);
    CU_ASSERT_EQUAL(zest_accept(p.z, first, &conn, NULL), 0);
    CU_ASSERT_EQUAL(zest_close(p.z, first), 0);
    CU_ASSERT_EQUAL(zest_close(p.z, conn), 0);
    peer_close(&p);
}

static void no_address_no_connection(void)
{
    struct peer p;
    struct zest_addr a;

    peer_open(&p, NULL);
    p.no_arp = true;
    zest_addr_parse(&a, "10.0.0.2", 4000);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    peer_wait(&p, 20000 * MS);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, EHOSTUNREACH);
    CU_ASSERT_EQUAL(zest_close(p.z, p.conn), 0);
    peer_close(&p);
}

CHECK_MAIN("tcp states", CHECK(passive_open), CHECK(syn_ack_offers_only_what_was_offered),
           CHECK(default_mss_is_536), CHECK(active_open_and_simultaneous), CHECK(syn_sent_answers),
           CHECK(syn_is_repeated_and_given_up), CHECK(listen_answers), CHECK(backlog_is_a_limit),
           CHECK(syn_again_is_answered_again), CHECK(active_close), CHECK(passive_close),
           CHECK(simultaneous_close), CHECK(fin_with_the_last_data_and_its_ack),
           CHECK(fin_out_of_order_waits), CHECK(close_with_unread_bytes_resets),
           CHECK(data_after_close_resets), CHECK(fin_wait_2_ends_without_a_reader),
           CHECK(abort_resets), CHECK(rst_needs_the_exact_number),
           CHECK(syn_in_the_window_is_challenged), CHECK(ack_out_of_range_is_challenged),
           CHECK(time_wait_is_reopened_by_a_newer_syn),
           CHECK(time_wait_gives_way_when_slots_run_out),
           CHECK(closing_a_listener_resets_what_waits), CHECK(closing_a_listener_spares_the_others),
           CHECK(no_address_no_connection))
