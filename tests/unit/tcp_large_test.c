/* tcp_large_test.c - frames larger than a segment of memory: chains coming in, and an MSS of up to
 * 64 KiB. */
#include <errno.h>

#include "stack/pkt.h"
#include "stack/stack.h"
#include "tests/unit/pair.h"
#include "tests/unit/peer.h"

static uint8_t pattern[200000];

static void fill_pattern(void)
{
    for (uint32_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i * 7 + (i >> 8));
}

static void open_peer(struct peer *p, uint32_t cut)
{
    fill_pattern();
    peer_open(p, &(struct zest_config){.mtu = 65535});
    p->cut = cut;
    peer_connected(p);
}

/* The stream has come as far as `len`, byte by byte. */
static void check_read(struct peer *p, uint32_t len)
{
    static uint8_t got[sizeof pattern];
    CU_ASSERT_EQUAL(peer_read(p, got, sizeof got), len);
    CU_ASSERT_EQUAL(memcmp(got, pattern, len), 0);
}

static void chains_of_any_cut_are_read(void)
{
    static const uint32_t cuts[] = {100, 123, 159, 160, 161, 333, 777, 1024, 3776, 4999, 5066};
    for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct peer p;
        open_peer(&p, cuts[i]);
        for (uint32_t at = 0; at < 15000; at += 5000)
            peer_send(&p, WIRE_ACK, 1 + at, 1, pattern + at, 5000);
        check_read(&p, 15000);
        struct zest_stats st = peer_stats(&p);
        CU_ASSERT_EQUAL(st.tcp_rx_ooo + st.drop_tcp_csum + st.drop_eth_chain, 0);
        peer_close(&p);
    }
}

/* The very headers come in pieces; small frames may, too. */
static void headers_in_pieces(void)
{
    static const uint32_t cuts[] = {1, 2, 13, 14, 15, 33, 34, 35, 53, 54, 55};
    for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct peer p;
        open_peer(&p, cuts[i]);
        peer_send(&p, WIRE_ACK, 1, 1, pattern, 10);
        peer_send(&p, WIRE_ACK, 11, 1, pattern + 10, 50);
        peer_send(&p, WIRE_ACK, 61, 1, pattern + 60, 600);
        check_read(&p, 660);
        peer_close(&p);
    }
}

/* What comes again begins in another segment of memory than what is new. */
static void what_is_old_is_cut_off(void)
{
    struct peer p;
    open_peer(&p, 700);
    peer_send(&p, WIRE_ACK, 1, 1, pattern, 5000);
    peer_send(&p, WIRE_ACK, 1 + 1234, 1, pattern + 1234, 9000);
    peer_send(&p, WIRE_ACK, 1, 1, pattern, 10234 + 1);
    check_read(&p, 10235);
    peer_close(&p);
}

static void what_passes_the_window_is_cut_off(void)
{
    struct peer p;
    fill_pattern();
    peer_open(&p, &(struct zest_config){.mtu = 65535, .rcv_buf = 4096});
    p.cut = 777;
    peer_connected(&p);
    peer_send(&p, WIRE_ACK, 1, 1, pattern, 9000);
    check_read(&p, 4096);
    peer_close(&p);
}

static void out_of_order_chains_wait(void)
{
    struct peer p;
    open_peer(&p, 1000);
    peer_send(&p, WIRE_ACK, 1 + 20000, 1, pattern + 20000, 9000);
    CU_ASSERT_EQUAL(p.n, 1); /* one frame, one ACK */
    peer_send(&p, WIRE_ACK, 1 + 5000, 1, pattern + 5000, 5000);
    peer_send(&p, WIRE_ACK, 1 + 3000, 1, pattern + 3000,
              20000); /* over both, and what is between */
    struct zest_stats st = peer_stats(&p);
    CU_ASSERT_EQUAL(st.tcp_rx_ooo, 3);
    peer_send(&p, WIRE_ACK, 1, 1, pattern, 4000);
    check_read(&p, 29000);
    peer_close(&p);
}

static void a_flipped_bit_in_any_segment_is_found(void)
{
    struct peer p;
    open_peer(&p, 333);
    uint64_t before = peer_stats(&p).tcp_rx_segs;
    for (uint32_t at = 0; at < 3000; at += 97) {
        static uint8_t buf[WIRE_MAX];
        struct wire w = peer_seg(&p, WIRE_ACK, 1, 1);
        w.payload = pattern;
        w.payload_len = 3000;
        size_t len = wire_build_tcp(&w, buf);
        buf[54 + at] ^= 0x10;
        peer_frame(&p, buf, len);
    }
    struct zest_stats st = peer_stats(&p);
    CU_ASSERT_EQUAL(st.drop_tcp_csum, 31);
    CU_ASSERT_EQUAL(st.tcp_rx_segs, before);
    peer_close(&p);
}

/* ICMP of 64 KiB, in parts of an odd size; the answer holds every byte. */
static void a_large_ping_is_answered(void)
{
    static const uint32_t cuts[] = {0, 3776, 1111};
    for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        static uint8_t buf[WIRE_MAX], reply[WIRE_MAX];
        struct peer p;
        open_peer(&p, cuts[i]);
        struct wire w = {.src = 0x0a000002,
                         .dst = 0x0a000001,
                         .icmp_type = 8,
                         .payload = pattern,
                         .payload_len = 65535 - 28};
        memcpy(w.eth_dst, (uint8_t[6]){2, 0, 0, 0, 0, 1}, 6);
        memcpy(w.eth_src, (uint8_t[6]){2, 0, 0, 0, 0, 2}, 6);
        struct zbuf *zb =
            wire_receive(zbuf_budget_app(p.pool), buf, wire_build_icmp(&w, buf, 77), 0, p.cut, 0);
        struct zest_frame f[4];
        const char *why = "none";
        zest_input(p.z, p.now_ns, &zb, 1);
        CU_ASSERT_EQUAL_FATAL(zest_output(p.z, p.now_ns, f, 4), 1);
        size_t len = wire_gather(p.pool, f, reply, &why);
        CU_ASSERT_EQUAL_FATAL(len, 14 + 65535);
        CU_ASSERT_EQUAL(wire_parse(&w, reply, len), NULL); /* checksums, too */
        CU_ASSERT_EQUAL(w.icmp_type, 0);
        CU_ASSERT_EQUAL(memcmp(reply + 42, pattern, 65535 - 28), 0);
        zbuf_tx_done(p.pool, f[0].seg[0].addr);
        peer_close(&p);
    }
}

/* An error about a packet in parts quotes 548 bytes of it (RFC 1812 4.3.2.3). */
static void errors_quote_over_segments(void)
{
    static uint8_t buf[WIRE_MAX];
    struct peer p;
    open_peer(&p, 170);
    struct wire w = peer_seg(&p, WIRE_ACK, 1, 1);
    w.payload = pattern;
    w.payload_len = 1000;
    size_t len = wire_build_tcp(&w, buf);
    buf[23] = 17; /* UDP, to no port */
    wire_fix_checksums(buf, len);
    p.n = 0;
    peer_frame(&p, buf, len);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].icmp_type, 3);
    CU_ASSERT_EQUAL(memcmp(p.bytes[0] + 42, buf + 14, 548), 0);
    peer_close(&p);
}

static uint32_t links(struct peer *p, struct zbuf **head, unsigned n, uint32_t each)
{
    struct zbuf **at = head;
    for (unsigned i = 0; i < n; i++, at = &(*at)->next) {
        *at = zbuf_alloc(p->pool, each ? each : 1);
        memset((*at)->data, 0, each);
        (*at)->len = each;
    }
    return n * each;
}

static void frames_that_are_none_are_dropped(void)
{
    struct peer p;
    struct zbuf *zb = NULL;
    uint32_t len;
    open_peer(&p, 0);
    links(&p, &zb, 20, 3776); /* longer than any packet */
    zest_input(p.z, p.now_ns, &zb, 1);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_eth_chain, 1);
    links(&p, &zb, 2, 100); /* no room to bring the headers together */
    zb->data = zbuf_end(zb) - 100;
    zest_input(p.z, p.now_ns, &zb, 1);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_eth_chain, 2);
    links(&p, &zb, 70, 0); /* empty ones are let go of */
    CU_ASSERT_TRUE(pkt_pull_up(zb, &len));
    CU_ASSERT_EQUAL(len, 0);
    CU_ASSERT_PTR_NULL(zb->next);
    zest_input(p.z, p.now_ns, &zb, 1);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_eth_short, 1);
    peer_close(&p);
}

/* Where memory ends in the middle of a frame, because others hold the rest, what fitted stays and
 * is acknowledged. */
static void memory_that_ends_in_a_frame(void)
{
    struct peer p;
    fill_pattern();
    peer_open(&p, &(struct zest_config){.mtu = 65535, .rx_seg = 4096, .rx_hold_max = 64u << 10});
    p.cut = 3776;
    peer_connected(&p);
    struct zbuf *others = zbuf_chain_alloc(p.z->tcp.rcv, 13 * 3700, 3700);
    peer_send(&p, WIRE_ACK, 1, 1, pattern, 20000);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].ack - p.iss - 1, 3 * 3776 - 54); /* 3 of 16 */
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_no_memory, 1);
    zbuf_chain_free(others);
    peer_send(&p, WIRE_ACK, 1, 1, pattern, 20000);
    check_read(&p, 20000);
    peer_close(&p);
}

/* ---- both ways */

struct transfer {
    struct pair p;
    zest_handle c[2], l;
    uint64_t sent, got, sum[2];
};

static uint64_t weigh(uint64_t at, const uint8_t *p, uint32_t len)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum += (at + i) * p[i];
    return sum;
}

/* A sends `bytes` in writes of `each` from zbufs of their own; true if B has them all within ns. */
static bool transfer(struct transfer *t, uint64_t bytes, uint32_t each, uint64_t ns)
{
    struct pair *p = &t->p;
    uint64_t until_ns = p->now_ns + ns;
    struct zbuf *zb = NULL;
    uint32_t off = 0;
    while ((t->got < bytes || t->got < t->sent) && p->now_ns < until_ns) {
        while (t->sent < bytes) {
            if (!zb) {
                zb = zbuf_alloc(p->pool, each);
                CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
                memset(zb->data, (int)(t->sent / 3), each);
                off = 0;
            }
            ssize_t n = zest_write(p->z[0], t->c[0], zb->data + off, each - off);
            if (n <= 0)
                break;
            t->sum[0] += weigh(t->sent, zb->data + off, (uint32_t)n);
            t->sent += (uint64_t)n;
            off += (uint32_t)n;
            if (off == each) {
                zbuf_free(zb);
                zb = NULL;
            }
        }
        pair_step(p, until_ns);
        pair_events(p, 0);
        pair_events(p, 1);
        struct zest_view v[8];
        for (int n; (n = zest_read(p->z[1], t->c[1], v, 8)) > 0;) {
            for (int i = 0; i < n; i++) {
                t->sum[1] += weigh(t->got, v[i].addr, v[i].len);
                t->got += v[i].len;
            }
            zest_release(p->z[1], t->c[1], v, (unsigned)n);
        }
    }
    zbuf_free(zb);
    return t->got >= bytes && t->sum[0] == t->sum[1];
}

static void sixty_four_kib_frames(void)
{
    static const struct zest_config kinds[] = {
        {.mtu = 65535},
        {.mtu = 65535, .gather = ZEST_GATHER_ALWAYS},
        {.mtu = 65535, .gather = ZEST_GATHER_ALWAYS, .gather_max = 2},
        {.mtu = 9000, .gather = ZEST_GATHER_ALWAYS, .gather_max = 3},
    };
    for (unsigned i = 0; i < 4; i++) {
        struct transfer t = {.sent = 0};
        struct zest_conn_info info;
        struct zest_stats st;
        pair_open(&t.p, &kinds[i]);
        t.p.cut = 3776;
        CU_ASSERT_EQUAL_FATAL(pair_connect(&t.p, t.c, &t.l), 0);
        zest_conn_info(t.p.z[0], t.c[0], &info);
        CU_ASSERT_EQUAL(info.mss, kinds[i].mtu - 52u);
        uint32_t each = i == 2 ? 1000 : info.mss;
        CU_ASSERT_TRUE(transfer(&t, 100ull * each, each, 1000000000));
        zest_stats(t.p.z[0], &st);
        /* Full segments, each one frame from where it lies, but for the first few: the window of a
         * SYN, which is not scaled, has room for halves only. */
        if (i != 2)
            CU_ASSERT_TRUE(st.tx_headroom_frames >= 99);
        CU_ASSERT_TRUE(st.tx_copied_bytes <= (kinds[i].gather ? 0u : 2u * 65535));
        CU_ASSERT_EQUAL(st.tcp_retransmits, 0);
        CU_ASSERT_EQUAL(pair_close(&t.p), 0);
    }
}

/* A receiver whose window is smaller than two segments, or than one: the sender cuts its segments
 * to half of it, so that no ACK has to wait for the delayed ACK's timer. */
static void windows_smaller_than_a_segment(void)
{
    static const uint32_t rcv_buf[] = {4096, 30000, 65535, 100000, 131072};
    for (unsigned i = 0; i < sizeof rcv_buf / sizeof rcv_buf[0]; i++) {
        struct transfer t = {.sent = 0};
        pair_open(&t.p, &(struct zest_config){.mtu = 65535, .rcv_buf = rcv_buf[i]});
        CU_ASSERT_EQUAL_FATAL(pair_connect(&t.p, t.c, &t.l), 0);
        uint64_t start_ns = t.p.now_ns;
        CU_ASSERT_TRUE(transfer(&t, 100 * rcv_buf[i], 60000, 10000000000));
        /* Two delays of the wire for each window; a delayed ACK would be 40 ms. */
        CU_ASSERT_TRUE(t.p.now_ns - start_ns < 100 * 4 * PAIR_DELAY_NS + 100000000);
        struct zest_stats st;
        zest_stats(t.p.z[0], &st);
        CU_ASSERT_EQUAL(st.tcp_retransmits + st.tcp_zero_window_probes, 0);
        CU_ASSERT_EQUAL(pair_close(&t.p), 0);
    }
}

/* Memory for less than one segment each: the window opens all the same (simulator, seed 468). */
static void a_window_that_memory_keeps_small(void)
{
    struct transfer t = {.sent = 0};
    pair_open(&t.p, &(struct zest_config){.mtu = 65535, .rx_hold_max = 200000});
    CU_ASSERT_EQUAL_FATAL(pair_connect(&t.p, t.c, &t.l), 0);
    CU_ASSERT_TRUE(transfer(&t, 1000000, 60000, 60000000000));
    CU_ASSERT_EQUAL(pair_close(&t.p), 0);
}

CHECK_MAIN("tcp large", CHECK(chains_of_any_cut_are_read), CHECK(headers_in_pieces),
           CHECK(what_is_old_is_cut_off), CHECK(what_passes_the_window_is_cut_off),
           CHECK(out_of_order_chains_wait), CHECK(a_flipped_bit_in_any_segment_is_found),
           CHECK(a_large_ping_is_answered), CHECK(errors_quote_over_segments),
           CHECK(frames_that_are_none_are_dropped), CHECK(memory_that_ends_in_a_frame),
           CHECK(sixty_four_kib_frames), CHECK(windows_smaller_than_a_segment),
           CHECK(a_window_that_memory_keeps_small))
