/* tcp_rules_test.c - rules of RFC 9293 Appendix B that no other test here is about, packet by
 * packet. docs/conformance.md says which function stands for which of them. */
#include "peer.h"

/* ---- options */

/* Delivers w with these option bytes (a multiple of four) in front of its payload. */
static void deliver_with(struct peer *p, struct wire *w, const void *opts, uint32_t n)
{
    static uint8_t buf[WIRE_MAX], bytes[2048];

    memcpy(bytes, opts, n);
    if (w->payload_len)
        memcpy(bytes + n, w->payload, w->payload_len);
    w->payload = bytes;
    w->payload_len += n;
    size_t len = wire_build_tcp(w, buf);
    buf[14 + 20 + 12] = (uint8_t)((20 + n) / 4 << 4);
    wire_fix_checksums(buf, len);
    p->n = 0;
    peer_frame(p, buf, len);
}

static void options_of_any_kind_anywhere(void) /* MUST-4, 5, 6, 64, 68 */
{
    struct peer p;
    uint8_t buf[16];

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    /* NOP, unknown (254, 5 bytes), MSS at an odd offset, end, and what follows that is nothing */
    struct wire w = peer_seg(&p, S, 0, 0);
    deliver_with(&p, &w, "\x01\xfe\x05???\x02\x04\x03\xe8\x00\x02", 12);
    EXPECT_SEG(&p, 0, S | A, 0, 1, 0);
    w = peer_seg(&p, A, 1, 1);
    w.payload = (const uint8_t *)"abc";
    w.payload_len = 3;
    deliver_with(&p, &w, "\x01\xfd\x03?\x02\x04\x00\x64", 8); /* not only in a SYN */
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    CU_ASSERT_EQUAL(peer_info(&p).mss, 1000); /* but there an MSS means nothing */
    CU_ASSERT_EQUAL(peer_read(&p, buf, 16), 3);
    CU_ASSERT_EQUAL(memcmp(buf, "abc", 3), 0);
    peer_close(&p);
}

static void impossible_option_lengths(void) /* MUST-7 */
{
    static const char *const bad[] = {"\x02\x00\x05\xb4", "\x02\x01\x05\xb4", "\xfe\x05??",
                                      "\x01\x01\x01\x02", "\x02\x28\x05\xb4"};
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    for (unsigned i = 0; i < 5; i++) {
        struct wire w = peer_seg(&p, S, 0, 0);
        deliver_with(&p, &w, bad[i], 4);
        CU_ASSERT_EQUAL(p.n, 0);
        CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_option, i + 1);
    }
    peer_close(&p);
}

/* True if every byte of the options of the i-th segment out belongs to an option or is a zero after
 * the end. */
static bool options_are_whole(const struct peer *p, unsigned i)
{
    const uint8_t *h = p->bytes[i] + 14 + 20, *o = h + 20, *end = h + (h[12] >> 4) * 4;

    while (o < end && *o != 0)
        o += *o == 1 ? 1 : o + 1 < end && o[1] >= 2 ? o[1] : 64;
    for (; o < end; o++)
        if (*o != 0)
            return false;
    return o == end;
}

static void mss_is_said_in_syns_only(void) /* MUST-14, 65, 67, 69, SHLD-5, 6, MAY-3 */
{
    static const uint16_t mtu[] = {576, 1500, 9000};
    struct peer p;

    for (unsigned i = 0; i < 3; i++) {
        peer_open(&p, &(struct zest_config){.mtu = mtu[i]});
        CU_ASSERT_EQUAL(peer_connect(&p, "10.0.0.2", NULL), 0);
        peer_flush(&p);
        EXPECT_SEG(&p, 0, S, 0, 0, 0);
        CU_ASSERT(p.out[0].opt.has_mss);
        CU_ASSERT_EQUAL(p.out[0].opt.mss, mtu[i] - 40);
        CU_ASSERT(options_are_whole(&p, 0));
        p.ts = true;
        struct wire w = peer_seg(&p, S | A, 0, 1);
        w.opt.has_mss = true;
        w.opt.mss = 1000;
        peer_deliver(&p, &w);
        CU_ASSERT_EQUAL(p.n, 1);
        CU_ASSERT_FALSE(p.out[0].opt.has_mss);
        CU_ASSERT(options_are_whole(&p, 0));
        peer_write(&p, 10);
        CU_ASSERT_EQUAL(p.n, 1);
        CU_ASSERT_FALSE(p.out[0].opt.has_mss);
        peer_close(&p);
    }
}

static uint32_t largest_segment(uint16_t peer_mss, bool ts)
{
    struct peer p;

    peer_open(&p, NULL);
    p.ts = ts;
    peer_listen(&p, 80);
    struct wire syn = peer_seg(&p, S, 0, 0);
    syn.opt.has_mss = true;
    syn.opt.mss = peer_mss;
    peer_deliver(&p, &syn);
    CU_ASSERT(p.out[0].opt.has_mss);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    peer_write(&p, 4 * MSS);
    uint32_t len = p.n ? p.out[0].payload_len : 0;
    peer_close(&p);
    return len;
}

static void effective_mss(void) /* MUST-16 */
{
    CU_ASSERT_EQUAL(largest_segment(1460, false), 1460);
    CU_ASSERT_EQUAL(largest_segment(8960, false), 1460); /* what the link carries */
    CU_ASSERT_EQUAL(largest_segment(500, false), 500);   /* what the peer takes */
    CU_ASSERT_EQUAL(largest_segment(1460, true), 1448);  /* options take their part */
    CU_ASSERT_EQUAL(largest_segment(500, true), 488);
    CU_ASSERT_EQUAL(largest_segment(0, false), 64); /* nobody is made to send byte by byte */
}

/* ---- initial sequence numbers */

static uint32_t first_seq(const char *secret, uint16_t local_port, uint64_t wait_ns)
{
    struct zest_config cfg = {0};
    struct zest_addr local = {.port = local_port};
    struct peer p;

    peer_open(&p, NULL);
    zest_fini(p.z);
    cfg.pool = p.pool;
    zest_addr_parse(&cfg.ip, "10.0.0.1", 0);
    cfg.mac[0] = 2;
    memcpy(cfg.secret, secret, 16);
    CU_ASSERT_EQUAL_FATAL(zest_init(p.mem, &cfg, &p.z), 0);
    peer_wait(&p, wait_ns);
    peer_flush(&p);
    /* The time is what the last input or output brought. */
    CU_ASSERT_EQUAL(peer_connect(&p, "10.0.0.2", &local), 0);
    peer_flush(&p);
    peer_close(&p);
    return p.irs;
}

static void initial_sequence_numbers(void) /* MUST-8, 9, SHLD-1 */
{
    uint32_t a = first_seq("0123456789abcdef", 5000, 0);
    CU_ASSERT_EQUAL(first_seq("0123456789abcdef", 5000, 400000), a + 100); /* one each 4 us */
    CU_ASSERT_EQUAL(first_seq("0123456789abcdef", 5000, 4000000000), a + 1000000);
    CU_ASSERT_NOT_EQUAL(first_seq("0123456789abcdef", 5001, 0), a);
    CU_ASSERT_NOT_EQUAL(first_seq("0123456789abcdeF", 5000, 0), a);
}

/* ---- opening */

static void where_a_half_open_one_came_from(void) /* MUST-11 */
{
    struct peer p;
    int error;

    peer_open(&p, NULL); /* from LISTEN: back to it, and nobody hears of it */
    peer_listen(&p, 80);
    peer_send(&p, S, 0, 0, NULL, 0);
    peer_send(&p, R, 1, 0, NULL, 0);
    CU_ASSERT_EQUAL(peer_event(&p, &error), 0);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0);
    p.iss += 1000;
    peer_send(&p, S, 0, 0, NULL, 0);
    EXPECT_SEG(&p, 0, S | A, 0, 1, 0);
    peer_close(&p);

    peer_open(&p, NULL); /* from SYN-SENT: refused */
    CU_ASSERT_EQUAL(peer_connect(&p, "10.0.0.2", NULL), 0);
    peer_flush(&p);
    peer_send(&p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_SYN_RECEIVED);
    peer_send(&p, R, 1, 0, NULL, 0);
    CU_ASSERT_EQUAL(peer_event(&p, &error), ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(error, ECONNREFUSED);
    peer_close(&p);
}

static void listen_beside_a_connection(void) /* MUST-41, 42 */
{
    struct zest_addr local = {.port = 80};
    struct peer p;

    peer_open(&p, NULL);
    CU_ASSERT_EQUAL(peer_connect(&p, "10.0.0.2", &local), 0);
    peer_flush(&p);
    peer_listen(&p, 80); /* while it is in SYN-SENT */
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_SYN_SENT);
    struct wire other = peer_seg(&p, S, 0, 0);
    other.sport++;
    uint32_t irs = p.irs;
    peer_deliver(&p, &other);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].flags, S | A);
    p.irs = irs;
    peer_send(&p, S | A, 0, 1, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_close(&p);
}

static void local_and_remote_addresses(void) /* MUST-43, 44, 45, 46 */
{
    static const char *const no_peer[] = {"255.255.255.255", "10.0.0.255", "10.0.0.0",
                                          "224.0.0.1",       "0.0.0.0",    "127.0.0.1"};
    struct zest_addr local;
    struct peer p;

    peer_open(&p, NULL);
    for (unsigned i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(peer_connect(&p, no_peer[i], NULL), -EINVAL);
    zest_addr_parse(&local, "10.0.0.7", 5000);
    CU_ASSERT_EQUAL(peer_connect(&p, "10.0.0.2", &local), -EADDRNOTAVAIL);
    CU_ASSERT_EQUAL(zest_listen(p.z, &local, 0, &p.listener), -EADDRNOTAVAIL);
    zest_addr_parse(&local, "10.0.0.1", 5000);
    CU_ASSERT_EQUAL(peer_connect(&p, "10.0.0.2", &local), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.out[0].src, 0x0a000001);
    CU_ASSERT_EQUAL(p.out[0].sport, 5000);
    peer_send(&p, S | A, 0, 1, NULL, 0);
    CU_ASSERT_EQUAL(p.out[0].src, 0x0a000001);
    zest_abort(p.z, p.conn);
    memset(&local, 0, sizeof local); /* not named: the stack's */
    CU_ASSERT_EQUAL(peer_connect(&p, "10.0.0.2", &local), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.out[p.n - 1].src, 0x0a000001);
    peer_close(&p);
}

static void syns_of_nobody_and_to_everybody(void) /* MUST-57, 63 */
{
    static const uint32_t from[] = {0xffffffff, 0x0a0000ff, 0xe0000001, 0, 0x7f000001, 0x0a000001};
    static const uint32_t to[] = {0xffffffff, 0x0a0000ff, 0xe0000001};
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    struct wire w;
    for (unsigned i = 0; i < 6; i++) {
        w = peer_seg(&p, S, 0, 0);
        w.src = from[i];
        peer_deliver(&p, &w);
        CU_ASSERT_EQUAL(p.n, 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        w = peer_seg(&p, S, 0, 0);
        w.dst = to[i];
        peer_deliver(&p, &w);
        memset(w.eth_dst, 0xff, 6);
        peer_deliver(&p, &w);
        CU_ASSERT_EQUAL(p.n, 0);
    }
    w = peer_seg(&p, S, 0, 0); /* our address in a broadcast frame */
    memset(w.eth_dst, 0xff, 6);
    peer_deliver(&p, &w);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_rsts_sent, 0);
    peer_close(&p);
}

/* ---- closing */

static void a_reset_may_carry_text(void) /* SHLD-2 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, R, 1, 0, "why", 3);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, ECONNRESET);
    peer_close(&p);
}

static void timestamps_shorten_time_wait(void) /* SHLD-4, RFC 6191 */
{
    struct peer p;

    peer_open(&p, NULL);
    p.ts = true;
    peer_establish(&p);
    zest_shutdown(p.z, p.conn);
    peer_flush(&p);
    peer_send(&p, F | A, 1, 2, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    p.ts_base += 1000;
    p.iss -= 5000; /* a lower sequence number, but a later time */
    peer_send(&p, S, 0, 0, NULL, 0);
    EXPECT_SEG(&p, 0, S | A, 0, 1, 0);
    peer_close(&p);
}

/* ---- sending */

static void push_is_on_the_last_segment(void) /* MUST-61, SHLD-28 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 2 * MSS + 100);
    peer_send(&p, A, 1, 1 + 2 * MSS, NULL, 0); /* Nagle held the rest back */
    CU_ASSERT_EQUAL(p.n, 1);
    CU_ASSERT(p.out[0].flags & WIRE_PSH);
    peer_send(&p, A, 1, 1 + 2 * MSS + 100, NULL, 0);
    zest_set_option(p.z, p.conn, ZEST_OPT_NODELAY, 1);
    peer_write(&p, 2 * MSS + 100);
    CU_ASSERT_EQUAL_FATAL(p.n, 3);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL((p.out[i].flags & WIRE_PSH) != 0, i == 2);
    peer_close(&p);
}

static void small_writes_make_full_segments(void) /* SHLD-28, MAY-16 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    for (int i = 0; i < 40; i++) {
        peer_write(&p, 100);
        if (i > 0 && p.n)
            CU_ASSERT_EQUAL(p.out[0].payload_len, MSS);
    }
    CU_ASSERT_EQUAL(peer_info(&p).bytes_sent, 100 + 2 * MSS);
    peer_close(&p);
}

static void windows_are_large_and_unsigned(void) /* MUST-1, REC-1 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    struct wire syn = peer_seg(&p, S, 0, 0);
    syn.opt.has_wscale = true;
    syn.opt.wscale = 14;
    peer_deliver(&p, &syn);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    CU_ASSERT_EQUAL(peer_info(&p).snd_wnd, 65535u << 14);
    p.wnd = 0x8001; /* its highest bit is no sign */
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL(peer_info(&p).snd_wnd, 0x8001u << 14);
    CU_ASSERT_EQUAL(peer_write(&p, 1000), 1000);
    CU_ASSERT_EQUAL(p.n, 1);
    peer_close(&p);
}

static void window_shrunk_to_nothing(void) /* MUST-34, 35, SHLD-15, 16, 17 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 12 * MSS); /* 10 are out */
    CU_ASSERT_EQUAL(p.n, 10);
    p.wnd = (uint16_t)(2 * MSS);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 0);                      /* nothing new */
    peer_wait(&p, peer_info(&p).rto_ns + 1 * MS); /* but what fits is repeated */
    EXPECT_SEG(&p, 0, A, 1, 1, MSS);
    p.wnd = 0;
    peer_send(&p, A, 1, 1 + MSS, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 0);
    for (int i = 0; i < 10; i++) {
        peer_wait(&p, 61000 * MS); /* probed, and the peer answers: for ten minutes */
        CU_ASSERT_FATAL(p.n >= 1);
        CU_ASSERT_EQUAL(p.out[0].payload_len, 1);
        peer_send(&p, A, 1, 1 + MSS, NULL, 0);
    }
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    p.wnd = 65535;
    peer_send(&p, A, 1, 1 + MSS, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1 + MSS, 1, MSS);
    peer_close(&p);
}

static void our_window_is_never_taken_back(void) /* SHLD-14 */
{
    struct peer p;

    peer_open(&p, &(struct zest_config){.rcv_buf = 60000});
    peer_establish(&p);
    CU_ASSERT_EQUAL(peer_info(&p).rcv_wnd, 60000);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_RCV_BUF, 5000), 0);
    peer_send(&p, A, 1, 1, zeros, MSS);
    peer_send(&p, A, 1 + MSS, 1, zeros, MSS);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].ack - p.iss + p.out[0].wnd, 60001);
    peer_close(&p);
}

static void a_closed_window_still_hears(void) /* MUST-66 (RST; and ACKs, 3.10.7.4) */
{
    struct peer p;

    peer_open(&p, &(struct zest_config){.rcv_buf = 2000});
    peer_establish(&p);
    peer_write(&p, 100);
    peer_send(&p, A, 1, 1, zeros, 1000);
    peer_send(&p, A, 1001, 1, zeros, 1000);
    CU_ASSERT_EQUAL(peer_info(&p).rcv_wnd, 0);
    peer_send(&p, A, 2001, 51, "x", 1); /* its text is refused, its ACK is not */
    CU_ASSERT_EQUAL(peer_info(&p).snd_queued, 50);
    peer_send(&p, A, 2001, 101, NULL, 0);
    CU_ASSERT_EQUAL(peer_info(&p).snd_queued, 0);
    peer_send(&p, R, 2001, 0, NULL, 0);
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, ECONNRESET);
    peer_close(&p);
}

static void what_was_sent_twice_is_not_timed(void) /* MUST-18 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 100);
    peer_wait(&p, 50 * MS);
    peer_send(&p, A, 1, 101, NULL, 0);
    uint64_t srtt_ns = peer_info(&p).srtt_ns;
    CU_ASSERT(srtt_ns > 0);
    peer_write(&p, 100);
    peer_wait(&p, 2000 * MS); /* sent again; which of them is acknowledged now? */
    peer_send(&p, A, 1, 201, NULL, 0);
    CU_ASSERT_EQUAL(peer_info(&p).srtt_ns, srtt_ns);
    peer_write(&p, 100);
    peer_wait(&p, 1 * MS);
    peer_send(&p, A, 1, 301, NULL, 0);
    CU_ASSERT(peer_info(&p).srtt_ns < srtt_ns);
    peer_close(&p);
}

static void congestion_avoidance(void) /* MUST-19, RFC 5681 3.1 */
{
    struct peer p;
    uint32_t una = 1 + 10 * MSS;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 60 * MSS);
    for (int i = 0; i < 3; i++)
        peer_send(&p, A, 1, 1, NULL, 0);
    peer_send(&p, A, 1, 1 + 12 * MSS, NULL, 0); /* recovered */
    una = 1 + 12 * MSS;
    uint32_t cwnd = peer_info(&p).cwnd, windows = 0;
    CU_ASSERT_EQUAL(peer_info(&p).ssthresh, 6 * MSS);
    while (peer_info(&p).cwnd < 6 * MSS) /* up to the threshold */
        peer_send(&p, A, 1, una += MSS, NULL, 0);
    cwnd = peer_info(&p).cwnd;
    for (uint32_t acked = 0; windows < 3 && una < 50 * MSS; acked = 0, windows++) {
        for (; acked < cwnd; acked += MSS)
            peer_send(&p, A, 1, una += MSS, NULL, 0);
        CU_ASSERT(peer_info(&p).cwnd <= cwnd + MSS); /* one segment for each window, no more */
        CU_ASSERT(peer_info(&p).cwnd > cwnd - 1);
        cwnd = peer_info(&p).cwnd;
    }
    CU_ASSERT(cwnd >= 8 * MSS);
    peer_close(&p);
}

static void all_that_came_is_looked_at_first(void) /* MUST-58, 59 */
{
    static uint8_t buf[WIRE_MAX];
    struct zbuf *zb[6];
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    for (uint32_t i = 0; i < 6; i++) {
        struct wire w = peer_seg(&p, A, 1 + i * MSS, 1);
        w.payload = zeros;
        w.payload_len = MSS;
        size_t len = wire_build_tcp(&w, buf);
        zb[i] = zbuf_alloc(p.pool, len);
        memcpy(zb[i]->data, buf, len);
        zb[i]->len = (uint32_t)len;
    }
    zest_input(p.z, p.now_ns, zb, 6);
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.n, 1);
    EXPECT_SEG(&p, 0, A, 1, 1 + 6 * MSS, 0);
    peer_close(&p);
}

static void ttl_and_code_point(void) /* MUST-48, 49, SHLD-21, 22 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_TTL, 255), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_DSCP, 10), 0);
    peer_send(&p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.bytes[0][14 + 8], 255);
    CU_ASSERT_EQUAL(p.bytes[0][14 + 1], 10 << 2);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_DSCP, 46), 0); /* half-way */
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_TTL, 7), 0);
    peer_write(&p, 10);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.bytes[0][14 + 8], 7);
    CU_ASSERT_EQUAL(p.bytes[0][14 + 1], 46 << 2);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_TTL, 0), -EINVAL);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_TTL, 256), -EINVAL);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_DSCP, 64), -EINVAL);
    zest_abort(p.z, p.conn);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT(p.out[0].flags & R);
    CU_ASSERT_EQUAL(p.bytes[0][14 + 1], 46 << 2);
    peer_close(&p);
}

static void keepalive_is_for_idle_connections(void) /* MUST-26 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    zest_set_option(p.z, p.conn, ZEST_OPT_KEEPALIVE, 1);
    peer_write(&p, 100);
    peer_wait(&p, 5000 * MS); /* not acknowledged: repeated, not probed */
    CU_ASSERT(p.n >= 2);
    for (unsigned i = 0; i < p.n; i++)
        CU_ASSERT_EQUAL(p.out[i].payload_len, 100);
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_keepalive_probes, 0);
    peer_close(&p);
}

CHECK_MAIN("tcp rules", CHECK(options_of_any_kind_anywhere), CHECK(impossible_option_lengths),
           CHECK(mss_is_said_in_syns_only), CHECK(effective_mss), CHECK(initial_sequence_numbers),
           CHECK(where_a_half_open_one_came_from), CHECK(listen_beside_a_connection),
           CHECK(local_and_remote_addresses), CHECK(syns_of_nobody_and_to_everybody),
           CHECK(a_reset_may_carry_text), CHECK(timestamps_shorten_time_wait),
           CHECK(push_is_on_the_last_segment), CHECK(small_writes_make_full_segments),
           CHECK(windows_are_large_and_unsigned), CHECK(window_shrunk_to_nothing),
           CHECK(our_window_is_never_taken_back), CHECK(a_closed_window_still_hears),
           CHECK(what_was_sent_twice_is_not_timed), CHECK(congestion_avoidance),
           CHECK(all_that_came_is_looked_at_first), CHECK(ttl_and_code_point),

           CHECK(keepalive_is_for_idle_connections))
