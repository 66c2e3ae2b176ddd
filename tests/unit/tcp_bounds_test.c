/* tcp_bounds_test.c - what mutations of the stack showed to be untested: rules that could be broken
 * at their edge without any other test noticing, or only the simulator, after a while. */
#include "peer.h"

/* A stream ends once: what claims to be another FIN, behind the first, is not acknowledged. */
static void a_second_fin_is_none(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, F | A, 1, 1, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1, 2, 0);
    peer_send(&p, F | A, 2, 1, NULL, 0);
    peer_send(&p, F | A, 1, 1, NULL, 0); /* and the first, again, is acknowledged as before */
    EXPECT_SEG(&p, 0, A, 1, 2, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSE_WAIT);
    peer_close(&p);
}

/* RFC 7323 2.2: the window in a SYN is what it says, the peer's and ours. */
static void windows_of_syns_are_not_scaled(void)
{
    struct zest_addr a;
    struct peer p;

    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, S, 0, 0, 0);
    CU_ASSERT(p.out[0].opt.has_wscale && p.out[0].opt.wscale > 0);
    CU_ASSERT_EQUAL(p.out[0].wnd, 65535);
    struct wire w = peer_seg(&p, S | A, 0, 1);
    w.opt.has_wscale = true;
    w.opt.wscale = 7;
    w.wnd = 1000;
    peer_deliver(&p, &w);
    CU_ASSERT_EQUAL(peer_info(&p).snd_wnd, 1000);
    peer_write(&p, 10000);
    CU_ASSERT_EQUAL(peer_info(&p).bytes_sent, 1000 / 536 * 536); /* no more than fits */
    p.wnd = 1000;
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL(peer_info(&p).snd_wnd, 1000 << 7);
    peer_close(&p);

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    w = peer_seg(&p, S, 0, 0);
    w.opt.has_wscale = true;
    peer_deliver(&p, &w);
    CU_ASSERT_EQUAL(p.out[0].wnd, 65535);
    peer_close(&p);
}

/* The SYN and ACK of a simultaneous open answers a SYN that was already taken, with its scale. */
static void windows_of_crossing_syns_are_not_scaled(void)
{
    struct zest_addr a;
    struct peer p;

    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    peer_flush(&p);
    struct wire w = peer_seg(&p, S, 0, 0);
    w.opt.has_wscale = true;
    w.opt.wscale = 7;
    w.wnd = 1000;
    peer_deliver(&p, &w);
    EXPECT_SEG(&p, 0, S | A, 0, 1, 0);
    w.flags = S | A;
    w.ack = peer_seg(&p, S | A, 0, 1).ack;
    peer_deliver(&p, &w);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL(peer_info(&p).snd_wnd, 1000);
    peer_write(&p, 10000);
    CU_ASSERT_EQUAL(peer_info(&p).bytes_sent, 1000 / 536 * 536);
    peer_close(&p);
}

/* RFC 7323 4.3: what is echoed is the time of the segment that the ACK answers, so a round trip is
 * measured from the hole, not from what came after it. */
static void the_right_timestamp_is_echoed(void)
{
    struct peer p;

    peer_open(&p, NULL);
    p.ts = true;
    peer_establish(&p);
    uint32_t first = p.ts_base + (uint32_t)(p.now_ns / MS);
    p.now_ns += 10 * MS;
    peer_send(&p, A, 4, 1, "def", 3);
    EXPECT_SEG(&p, 0, A, 1, 1, 0);
    CU_ASSERT_EQUAL(p.out[0].opt.ts_ecr, first);
    p.now_ns += 10 * MS;
    peer_send(&p, A, 1, 1, "abc", 3);
    EXPECT_SEG(&p, 0, A, 1, 7, 0);
    CU_ASSERT_EQUAL(p.out[0].opt.ts_ecr, first + 20);
    peer_close(&p);
}

/* Overlaps in the reassembly queue, with nothing behind them that would cut them right. */
static void overlaps_out_of_order(void)
{
    struct peer p;
    uint8_t buf[32];

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 5, 1, "efgh", 4);
    peer_send(&p, A, 7, 1, "ghijkl", 6); /* half of it is new */
    peer_send(&p, A, 6, 1, "fg", 2);     /* none of it is */
    peer_send(&p, A, 5, 1, "efgh", 4);
    peer_send(&p, A, 3, 1, "cdef", 4); /* the front of it is */
    peer_send(&p, A, 1, 1, "abcde", 5);
    EXPECT_SEG(&p, 0, A, 1, 13, 0);
    CU_ASSERT_EQUAL(peer_read(&p, buf, 32), 12);
    CU_ASSERT_EQUAL(memcmp(buf, "abcdefghijkl", 12), 0);
    peer_close(&p);
}

/* A segment of n bytes in a frame of size bytes: what it holds is far more than what it brings.
 * Somebody else looks at it, too, so it can't be packed. */
static struct zbuf *watched[512];
static unsigned nwatched;
static void wasteful(struct peer *p, uint32_t seq, uint32_t n, size_t size)
{
    static uint8_t buf[WIRE_MAX], text[2048];
    struct wire w = peer_seg(p, A, seq, 1);

    w.payload = text;
    w.payload_len = n;
    size_t len = wire_build_tcp(&w, buf);
    struct zbuf *zb = zbuf_alloc(p->pool, size);
    memcpy(zb->data, buf, len);
    zb->len = (uint32_t)len;
    p->n = 0;
    CU_ASSERT_FATAL(nwatched < 512);
    watched[nwatched++] = zbuf_ref(zb);
    zest_input(p->z, p->now_ns, &zb, 1);
    peer_collect(p);
}
static void watch_no_more(void)
{
    while (nwatched > 0)
        zbuf_free(watched[--nwatched]);
}

static uint64_t received_memory(struct peer *p)
{
    struct zbuf_budget_stat b[16];
    unsigned n = zbuf_budget_stats(p->pool, b, 16);

    for (unsigned i = 0; i < n && i < 16; i++)
        if (strcmp(b[i].name, "received") == 0)
            return b[i].used;
    return 0;
}

/* Bytes from beyond the FIN came first: no one can ever read them, so they hold no memory. */
static void beyond_the_fin_there_is_nothing(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 3, 1, "beyond", 6);
    CU_ASSERT(received_memory(&p) > 0);
    peer_send(&p, A | F, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSE_WAIT);
    CU_ASSERT_EQUAL(received_memory(&p), 0);
    peer_close(&p);
}

/* One connection that nobody reads may hold no more than half of what is left: others go on. */
static void held_memory_is_shared(void)
{
    struct zest_view v[256];
    struct peer p;
    uint32_t seq = 1;

    peer_open(&p, &(struct zest_config){.rx_hold_max = 2u << 20});
    peer_establish(&p);
    for (unsigned i = 0; i < 200 && peer_stats(&p).drop_tcp_no_memory == 0; i++, seq += 1000)
        wasteful(&p, seq, 1000, 16000);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_no_memory, 1);
    CU_ASSERT(received_memory(&p) >= 512u << 10);
    CU_ASSERT(received_memory(&p) <= 1u << 20);
    seq -= 1000;
    for (uint32_t i = 1; i < 100; i++) /* nor by way of the reassembly queue */
        wasteful(&p, seq + i * 1000, 1000, 16000);
    CU_ASSERT(received_memory(&p) <= 1u << 20);

    zest_handle first = p.conn;
    p.port++;
    peer_send(&p, S, 0, 0, NULL, 0);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    wasteful(&p, 1, 1000, 16000);
    CU_ASSERT_EQUAL(peer_info(&p).rcv_queued, 1000);
    int n = zest_read(p.z, first, v, 256);
    CU_ASSERT_FATAL(n > 0);
    CU_ASSERT_EQUAL(zest_release(p.z, first, v, (unsigned)n), 0);
    CU_ASSERT_EQUAL(zest_read(p.z, first, v, 256), -EAGAIN);
    watch_no_more();
    peer_close(&p);
}

/* Refusals that nobody fetches: as many as fit wait, the others are counted and forgotten. */
static void replies_wait_in_a_bounded_queue(void)
{
    static uint8_t buf[WIRE_MAX];
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    struct wire w = peer_seg(&p, A, 1, 1);
    w.dport = 81; /* nobody listens there */
    size_t len = wire_build_tcp(&w, buf);
    for (unsigned i = 0; i < 1000; i++) {
        struct zbuf *zb = wire_receive(zbuf_budget_app(p.pool), buf, len, 0, 0, 0);
        zest_input(p.z, p.now_ns, &zb, 1);
    }
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_no_conn, 1000);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_ctrl_queue, 1000 - 256);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 256);
    CU_ASSERT_EQUAL(p.out[255].flags, R);
    peer_close(&p);
}

CHECK_MAIN("tcp bounds", CHECK(a_second_fin_is_none), CHECK(windows_of_syns_are_not_scaled),
           CHECK(windows_of_crossing_syns_are_not_scaled), CHECK(the_right_timestamp_is_echoed),
           CHECK(overlaps_out_of_order), CHECK(held_memory_is_shared),
           CHECK(beyond_the_fin_there_is_nothing), CHECK(replies_wait_in_a_bounded_queue))
