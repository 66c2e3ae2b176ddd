/* tcp_found_test.c - what the simulator and the fuzzers found, each made as small as it gets. */
#include "peer.h"

#include <errno.h>

#define SEC 1000000000ull

/* The peer's machine is gone from the link, so ARP fails time after time: each failure put the
 * retransmission timer off, and the connection was never given up. */
static void a_vanished_neighbour_is_given_up(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    p.no_arp = true;
    peer_wait(&p, 700 * SEC); /* nobody used the address: it is forgotten */
    peer_write(&p, 100);
    peer_wait(&p, 400 * SEC); /* R2 is 300 s */
    CU_ASSERT(peer_events(&p) & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(p.error, EHOSTUNREACH);
    peer_close(&p);
}

/* Less than a segment of room in the send buffer: what the cork held back could never become a full
 * segment, and no event came. */
static void a_full_buffer_beats_the_cork(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_SND_BUF, 1000), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_CORK, 1), 0);
    CU_ASSERT_EQUAL(peer_write(&p, 500), 500);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_write(&p, 600), 500);
    EXPECT_SEG(&p, 0, A, 1, 1, 1000);
    peer_send(&p, A, 1, 1001, NULL, 0);
    CU_ASSERT(peer_events(&p) & ZEST_EV_WRITABLE);
    CU_ASSERT_EQUAL(peer_write(&p, 1000), 1000); /* full, but nobody has been sent away yet */
    CU_ASSERT_EQUAL(p.n, 0);
    struct zbuf *zb = zbuf_alloc(p.pool, 10);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data, 10), -EAGAIN);
    zbuf_free(zb);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, A, 1001, 1, 1000);
    peer_close(&p);
}

static void nothing_is_queued_after_the_fin(void)
{
    struct zest_conn_info i;
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    zest_shutdown(p.z, p.conn);
    peer_flush(&p);
    peer_send(&p, A, 1, 2, NULL, 0);
    CU_ASSERT_EQUAL(zest_conn_info(p.z, p.conn, &i), 0);
    CU_ASSERT_EQUAL(i.state, ZEST_FIN_WAIT_2);
    CU_ASSERT_EQUAL(i.snd_queued, 0);
    peer_close(&p);
}

/* While lost data is repeated, ACKs went out with the repeated bytes' sequence number; a peer takes
 * no window from what is older than what it had. */
static void acks_carry_the_highest_sequence_number(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 4 * 1460);
    CU_ASSERT_EQUAL(p.n, 4);
    peer_wait(&p, 1100 * 1000000ull);
    EXPECT_SEG(&p, 0, A, 1, 1, 1460); /* the time-out; three are still to be repeated */
    peer_send(&p, A, 11, 1, "x", 1);  /* out of order: acknowledged at once */
    EXPECT_SEG(&p, 0, A, 1 + 4 * 1460, 1, 0);
    p.wnd = 2000; /* but not past the peer's window, where it would not be acceptable */
    peer_send(&p, A, 13, 1, "x", 1);
    EXPECT_SEG(&p, 0, A, 1 + 2000, 1, 0);
    peer_close(&p);
}

/* And the other way round: a segment with an old sequence number that acknowledges more than any
 * before has the newest window. With the older one, snd_una + snd_wnd passed what was allowed. */
static void a_new_ack_brings_its_window(void)
{
    struct zest_conn_info i;
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 2 * 1460);
    p.wnd = 6000;
    peer_send(&p, A, 5001, 1, "x", 1);
    p.wnd = 3080;
    peer_send(&p, A, 1, 1 + 2 * 1460, NULL, 0);
    CU_ASSERT_EQUAL(zest_conn_info(p.z, p.conn, &i), 0);
    CU_ASSERT_EQUAL(i.snd_wnd, 3080);
    peer_send(&p, A, 5001, 1 + 2 * 1460, "x", 1);
    p.wnd = 9000; /* old, and acknowledges nothing new */
    peer_send(&p, A, 1, 1 + 2 * 1460, NULL, 0);
    CU_ASSERT_EQUAL(zest_conn_info(p.z, p.conn, &i), 0);
    CU_ASSERT_EQUAL(i.snd_wnd, 3080);
    peer_close(&p);
}

/* With a receive buffer below 4 bytes every look found an update of the window due: ACKs without
 * end. And below the window's scale, no byte could ever come again. */
static void tiny_receive_buffers(void)
{
    struct peer p;
    uint8_t buf[4096];
    static const uint8_t data[1000];

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    struct wire syn = peer_seg(&p, WIRE_SYN, 0, 0);
    syn.opt.has_wscale = true;
    peer_deliver(&p, &syn);
    uint32_t scale = p.out[0].opt.wscale;
    CU_ASSERT(scale > 0);
    peer_send(&p, A, 1, 1, data, 1000);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_RCV_BUF, 3), 0);
    /* The window that was offered stands; it is used up, the reader reads, and it opens again. */
    uint32_t at = 1001, edge = 1 + 65535;
    for (unsigned i = 0; i < 500 && at < edge; i++) {
        uint32_t n = edge - at < 1000 ? edge - at : 1000;
        peer_send(&p, A, at, 1, data, n);
        at += n;
        for (unsigned k = 0; k < p.n; k++) {
            uint32_t e = p.out[k].ack - p.iss + ((uint32_t)p.out[k].wnd << scale);
            edge = e > edge ? e : edge;
        }
        CU_ASSERT_FATAL(p.n < 10);
        peer_read(&p, buf, sizeof buf);
        peer_flush(&p);
        CU_ASSERT_FATAL(p.n < 10);
    }
    CU_ASSERT(at > 200000);
    peer_close(&p);

    peer_open(&p, &(struct zest_config){.rcv_buf = 3});
    peer_establish(&p);
    peer_send(&p, A, 1, 1, "abc", 3);
    CU_ASSERT(p.n < 10);
    peer_close(&p);
}

/* The application holds every segment that it can get. Memory for frames that data is copied into
 * was set aside in 2K segments: a jumbo frame's worth could never be sent. */
static void a_full_pool_still_sends_jumbo_frames(void)
{
    struct zbuf *hoard[65536];
    unsigned n = 0;
    struct peer p;

    peer_open(&p, &(struct zest_config){.mtu = 9000});
    peer_listen(&p, 80);
    struct wire syn = peer_seg(&p, WIRE_SYN, 0, 0);
    syn.opt.has_mss = true;
    syn.opt.mss = 8960;
    peer_deliver(&p, &syn);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    for (size_t size = 131072; size >= 1024; size /= 2)
        while (n < 65536 && (hoard[n] = zbuf_alloc(p.pool, size - ZBUF_OVERHEAD)))
            n++;
    /* Not at the front of its zbuf, so that it can't go out in place. */
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, hoard[0]->data + 100, 8960), 8960);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].payload_len, 8960);
    while (n > 0)
        zbuf_free(hoard[--n]);
    peer_close(&p);
}

/* A link that gathers two descriptors: each small write is a frame of its own. Nagle's rule let the
 * first of them go and held the others back for a round trip each. */
static void frames_cut_short_are_not_held_back(void)
{
    struct peer p;

    peer_open(&p, &(struct zest_config){.gather = ZEST_GATHER_ALWAYS, .gather_max = 2});
    peer_establish(&p);
    CU_ASSERT_EQUAL(peer_write(&p, 100), 100);
    EXPECT_SEG(&p, 0, A, 1, 1, 100);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(peer_write(&p, 100), 100);
    CU_ASSERT_EQUAL(p.n, 0);
    peer_send(&p, A, 1, 101, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 3);
    EXPECT_SEG(&p, 0, A, 101, 1, 100);
    EXPECT_SEG(&p, 1, A, 201, 1, 100);
    EXPECT_SEG(&p, 2, A, 301, 1, 100);
    CU_ASSERT_EQUAL(peer_write(&p, 100), 100); /* this one has to wait, as ever */
    CU_ASSERT_EQUAL(p.n, 0);
    peer_close(&p);
}

/* A window that was closed for longer than R2, and every probe answered; then it opens. The time
 * without progress counted, and the connection was given up a millisecond after the next segment.
 */
static void a_window_closed_for_long_is_no_loss(void)
{
    struct peer p;

    peer_open(&p, NULL);
    p.wnd = 0;
    peer_establish(&p);
    peer_write(&p, 1000);
    for (unsigned i = 0; i < 100 && p.now_ns < 1000 * SEC; i++) {
        peer_wait(&p, 20 * SEC);
        if (p.n > 0)
            peer_send(&p, A, 1, 1, NULL, 0);
    }
    CU_ASSERT(p.now_ns >= 400 * SEC);
    p.wnd = 5000;
    peer_send(&p, A, 1, 1, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1, 1, 1000);
    peer_wait(&p, 100 * 1000000ull);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    peer_send(&p, A, 1, 1001, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    CU_ASSERT(!(peer_events(&p) & ZEST_EV_ERROR));
    peer_close(&p);
}

/* Memory that was free when the window was offered is not there when it is used: the peer hears of
 * a closed window, so it does not give up, and of an open one as soon as there is room. */
static void without_memory_the_window_is_closed(void)
{
    struct peer p;
    struct zest_view v[16];
    uint32_t seq = 1;

    peer_open(&p, &(struct zest_config){.rcv_buf = 60000});
    peer_establish(&p);
    CU_ASSERT_EQUAL(peer_info(&p).rcv_wnd, 60000);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MAX, 8192), 0);
    do {
        peer_send(&p, A, seq, 1, zeros, 1400);
        if (p.n == 0)
            peer_wait(&p, 100 * MS); /* the ACK was put off */
        CU_ASSERT_FATAL(p.n > 0 && seq < 60000);
        seq = p.out[p.n - 1].ack - p.iss == seq ? seq : seq + 1400;
    } while (p.out[p.n - 1].wnd > 0);
    CU_ASSERT_EQUAL(p.out[p.n - 1].ack - p.iss, seq);
    for (int i = 0; i < 3; i++) { /* as often as it is sent again */
        peer_send(&p, A, seq, 1, zeros, 1400);
        EXPECT_SEG(&p, 0, A, 1, seq, 0);
        CU_ASSERT_EQUAL(p.out[0].wnd, 0);
    }
    int n = zest_read(p.z, p.conn, v, 16);
    CU_ASSERT_FATAL(n > 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.n, 0); /* lent is not free */
    zest_release(p.z, p.conn, v, (unsigned)n);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, A, 1, seq, 0);
    CU_ASSERT(p.out[0].wnd >= 1400);
    peer_send(&p, A, seq, 1, zeros, 1400);
    if (p.n == 0)
        peer_wait(&p, 100 * MS);
    EXPECT_SEG(&p, 0, A, 1, seq + 1400, 0);
    CU_ASSERT(p.out[0].wnd > 0);
    peer_close(&p);
}

/* Segments of 600 bytes in frames of 4K hold seven times what they carry. The window counts on
 * three times, so memory ran out inside it, and what the peer sent was dropped until it gave up. */
static void the_offered_window_is_kept_to(void)
{
    struct zest_config cfg = {.rx_hold_max = 128u << 10};
    static uint8_t data[600], frame[2048];
    struct zest_stats st;
    struct zest_view v[8];
    struct peer p;
    uint32_t seq = 1, back = 0;

    peer_open(&p, &cfg);
    peer_establish(&p);
    peer_write(&p, 10);
    for (;;) {
        struct wire w = peer_seg(&p, A, seq, 11);
        memset(data, (int)seq, sizeof data);
        w.payload = data;
        w.payload_len = sizeof data;
        size_t len = wire_build_tcp(&w, frame);
        struct zbuf *zb = zbuf_alloc(p.pool, 3000);
        memcpy(zb->data, frame, len);
        zb->len = (uint32_t)len;
        p.n = 0;
        zest_input(p.z, p.now_ns, &zb, 1);
        peer_collect(&p);
        if (p.n == 0)
            peer_wait(&p, 50 * 1000000ull); /* the ACK was put off */
        CU_ASSERT_FATAL(p.n > 0);
        CU_ASSERT_EQUAL_FATAL(p.out[p.n - 1].ack - p.iss, seq + sizeof data);
        seq += (uint32_t)sizeof data;
        if (p.out[p.n - 1].wnd < sizeof data)
            break;
    }
    CU_ASSERT_TRUE(seq > 20000);
    zest_stats(p.z, &st);
    CU_ASSERT_EQUAL(st.drop_tcp_no_memory, 0);
    for (int n; (n = zest_read(p.z, p.conn, v, 8)) > 0; zest_release(p.z, p.conn, v, (unsigned)n))
        for (int i = 0; i < n; i++)
            for (uint32_t k = 0; k < v[i].len; k++, back++)
                if (v[i].addr[k] != (uint8_t)(back / sizeof data * sizeof data + 1))
                    CU_FAIL_FATAL("other bytes");
    CU_ASSERT_EQUAL(back, seq - 1);
    peer_close(&p);
}

/* The same, and the window is smaller than a segment: half of it may go at once, but only the first
 * frame of it did. */
static void a_small_window_is_filled_frame_by_frame(void)
{
    struct peer p;

    peer_open(&p, &(struct zest_config){.gather = ZEST_GATHER_ALWAYS, .gather_max = 2});
    p.wnd = 500;
    peer_establish(&p);
    CU_ASSERT_EQUAL(peer_write(&p, 100), 100);
    EXPECT_SEG(&p, 0, A, 1, 1, 100);
    for (unsigned i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(peer_write(&p, 100), 100);
    peer_send(&p, A, 1, 101, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 5);
    EXPECT_SEG(&p, 0, A, 101, 1, 100);
    EXPECT_SEG(&p, 4, A, 501, 1, 100);
    peer_close(&p);
}

/* The peer's address was given up while data was in flight; then the data was acknowledged after
 * all. That ended the timer, and what was still unsent waited for an address that nobody asked for.
 */
static void an_ack_ends_the_wait_for_an_address(void)
{
    struct zest_event ev = {.error = 0};
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    peer_write(&p, 100);
    EXPECT_SEG(&p, 0, A, 1, 1, 100);
    p.no_arp = true;
    for (unsigned i = 0; i < 600 && ev.error != EHOSTUNREACH; i++) {
        peer_wait(&p, SEC / 10);
        zest_events(p.z, &ev, 1);
    }
    CU_ASSERT_EQUAL_FATAL(ev.error, EHOSTUNREACH);
    peer_write(&p, 50);
    peer_wait(&p, 2 * SEC); /* the failure is forgotten */
    p.no_arp = false;
    peer_send(&p, A, 1, 101, NULL, 0);
    CU_ASSERT_FATAL(p.n > 0);
    EXPECT_SEG(&p, p.n - 1, A, 101, 1, 50);
    peer_close(&p);
}

CHECK_MAIN("tcp_found", CHECK(the_offered_window_is_kept_to),
           CHECK(without_memory_the_window_is_closed), CHECK(an_ack_ends_the_wait_for_an_address),
           CHECK(a_small_window_is_filled_frame_by_frame),
           CHECK(a_window_closed_for_long_is_no_loss), CHECK(frames_cut_short_are_not_held_back),
           CHECK(a_full_pool_still_sends_jumbo_frames), CHECK(tiny_receive_buffers),
           CHECK(a_vanished_neighbour_is_given_up), CHECK(a_full_buffer_beats_the_cork),
           CHECK(nothing_is_queued_after_the_fin), CHECK(acks_carry_the_highest_sequence_number),
           CHECK(a_new_ack_brings_its_window))
