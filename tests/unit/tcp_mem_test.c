/* tcp_mem_test.c - who may hold how much received memory: minima that hold against floods and
 * stalled readers, ceilings, and how one hears of memory. */
#include "mem_fixture.h"

/* ---- guarantees */

static void nothing_stops_one_within_its_guarantee(void)
{
    struct peer p;
    uint32_t seq = 1;
    open_mem(&p, NULL);
    peer_establish(&p);
    struct end end = end_of(&p);
    zest_handle stalled = p.conn, reads = another(&p);
    struct end other = end_of(&p);
    flood_pool(&p);
    speak_for(&p, end);
    CU_ASSERT(fill(&p, &seq) < 64); /* nobody reads it: it gets what is left, and no more */
    CU_ASSERT(info_of(&p, stalled).mem_held >= SEG);

    /* The other one, a frame at a time, for ever. */
    speak_for(&p, other);
    uint64_t dropped = peer_stats(&p).drop_tcp_no_memory;
    uint32_t at = 1, frames = 0;
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t wnd = info_of(&p, reads).rcv_wnd, len = wnd < TEXT ? wnd : TEXT;
        CU_ASSERT_FATAL(len >= 536); /* what it says was its MSS */
        peer_send(&p, A, at, 1, text, len);
        CU_ASSERT_EQUAL_FATAL(info_of(&p, reads).rcv_queued, len);
        at += len;
        frames += len == TEXT;
        release_all(&p, reads);
        peer_wait(&p, 50000000); /* the delayed ACK */
        CU_ASSERT_EQUAL_FATAL(p.n, 1);
        CU_ASSERT_EQUAL(p.out[0].ack, p.iss + at);
    }
    CU_ASSERT(frames > 100); /* whole ones, as a rule */
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_no_memory, dropped);

    /* And what is no connection's: ARP, ping, RST. */
    uint8_t frame[WIRE_MAX];
    struct wire ping = peer_seg(&p, 0, 0, 0);
    ping.proto = 1;
    ping.icmp_type = 8;
    ping.payload = text;
    ping.payload_len = 56;
    p.n = 0;
    peer_frame(&p, frame, wire_build_icmp(&ping, frame, 1));
    CU_ASSERT_EQUAL(p.n, 1);
    CU_ASSERT_EQUAL(peer_stats(&p).icmp_echo_replies, 1);
    uint16_t port = p.stack_port;
    p.stack_port = 81;
    peer_send(&p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].flags & WIRE_RST, WIRE_RST);
    p.stack_port = port;
    uint64_t sent = peer_stats(&p).tx_frames;
    struct wire arp = {
        .eth_type = 0x0806, .arp_op = 1, .arp_spa = 0x0a000002, .arp_tpa = 0x0a000001};
    memset(arp.eth_dst, 0xff, 6);
    memcpy(arp.eth_src, (uint8_t[6]){2, 0, 0, 0, 0, 2}, 6);
    memcpy(arp.arp_sha, arp.eth_src, 6);
    peer_frame(&p, frame, wire_build_arp(&arp, frame));
    CU_ASSERT_EQUAL(peer_stats(&p).tx_frames, sent + 1);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_ctrl_queue, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).tx_no_memory, 0);
    flood_ends();
    peer_close(&p);
}

static void a_minimum_is_there_when_all_else_is_gone(void)
{
    struct peer p;
    uint32_t seq = 1;
    struct zbuf_budget_stat kept;
    open_mem(&p, &(struct zest_config){.conn_mem_min = ZEST_MEM_NONE});
    peer_establish(&p);
    CU_ASSERT_EQUAL(info_of(&p, p.conn).mem_min, 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MIN, 40 * SEG), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MIN, 1u << 29), -ENOBUFS);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MIN, UINT32_MAX), -EINVAL);
    CU_ASSERT_EQUAL(info_of(&p, p.conn).mem_min, 40 * SEG);
    CU_ASSERT_FATAL(budget_of(&p, "kept for connections", &kept));
    CU_ASSERT(kept.min >= 40 * SEG);
    flood_pool(&p);
    unsigned n = fill(&p, &seq);
    CU_ASSERT(n >= 40);
    CU_ASSERT(n < 40 + 32); /* what others share, and batches */
    /* Another, without a guarantee, gets nothing now. */
    zest_handle poor = another(&p);
    peer_send(&p, A, 1, 1, text, TEXT);
    CU_ASSERT_EQUAL(info_of(&p, poor).rcv_queued, 0);
    /* What is given up is there for others. */
    CU_ASSERT_EQUAL(zest_abort(p.z, p.conn), 0);
    peer_flush(&p);
    CU_ASSERT_FATAL(budget_of(&p, "kept for connections", &kept));
    CU_ASSERT(kept.min <= 16 * SEG);
    CU_ASSERT_EQUAL(kept.used, 0);
    peer_send(&p, A, 1, 1, text, TEXT);
    CU_ASSERT_EQUAL(info_of(&p, poor).rcv_queued, TEXT);
    flood_ends();
    peer_close(&p);
}

/* A jumbo frame over several segments: what is kept by default is enough for all of them, or the
 * peer would send most of each frame again. */
static void a_frame_in_parts_is_within_the_guarantee(void)
{
    enum { PART = 4096, FRAME = 8900 };
    static uint8_t large[FRAME];
    struct peer p;
    uint32_t seq = 1;
    peer_open(&p, &(struct zest_config){.mtu = 9000, .rx_seg = PART});
    p.rx_seg = PART;
    p.cut = 3700;
    p.rx = zbuf_budget_open(p.pool, &(struct zbuf_budget_config){.name = "ring",
                                                                 .min_bytes = 16 * PART,
                                                                 .min_seg = PART,
                                                                 .max_bytes = 16 * PART});
    CU_ASSERT_PTR_NOT_NULL_FATAL(p.rx);
    peer_establish(&p);
    struct end end = end_of(&p);
    zest_handle reads = another(&p);
    struct end other = end_of(&p);
    flood_pool(&p);
    speak_for(&p, end);
    CU_ASSERT(fill(&p, &seq) < 200); /* this one stalls, and has what is for all */

    speak_for(&p, other);
    uint64_t dropped = peer_stats(&p).drop_tcp_no_memory;
    for (uint32_t i = 0; i < 20; i++) {
        peer_send(&p, A, 1 + i * FRAME, 1, large, FRAME);
        CU_ASSERT_EQUAL_FATAL(info_of(&p, reads).rcv_queued, FRAME);
        release_all(&p, reads);
        peer_wait(&p, 50000000);
    }
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_no_memory, dropped);
    flood_ends();
    peer_close(&p);
}

/* Sums of many connections: set aside in batches, given back in batches, never less than promised.
 */
static void promises_add_up(void)
{
    struct peer p;
    struct zbuf_budget_stat kept;
    zest_handle conn[50];
    open_mem(&p, NULL);
    peer_establish(&p);
    for (unsigned i = 0; i < 50; i++) {
        conn[i] = another(&p);
        CU_ASSERT_EQUAL(info_of(&p, conn[i]).mem_min, SEG);
        CU_ASSERT_FATAL(budget_of(&p, "kept for connections", &kept));
        CU_ASSERT(kept.min >= (i + 2) * SEG && kept.min <= (i + 2 + 32) * SEG);
    }
    for (unsigned i = 0; i < 50; i++) {
        CU_ASSERT_EQUAL(zest_abort(p.z, conn[i]), 0);
        CU_ASSERT_FATAL(budget_of(&p, "kept for connections", &kept));
        CU_ASSERT(kept.min >= (50 - i) * SEG && kept.min <= (50 - i + 32) * SEG);
    }
    peer_flush(&p);
    peer_close(&p);
}

/* The defaults never take more than half of what may be held. */
static void defaults_leave_a_half(void)
{
    struct peer p;
    struct zbuf_budget_stat kept;
    open_mem(&p, &(struct zest_config){.rx_hold_max = 64 * SEG});
    peer_establish(&p);
    zest_handle conn = 0;
    for (unsigned i = 0; i < 60; i++)
        conn = another(&p);
    CU_ASSERT_EQUAL(info_of(&p, conn).mem_min, 0);
    CU_ASSERT_FATAL(budget_of(&p, "kept for connections", &kept));
    CU_ASSERT_EQUAL(kept.min, 32 * SEG);
    peer_close(&p);
}

/* What all share as a minimum is whole segments, and can be had: it is not above the ceiling. */
static void a_minimum_for_all_fits_under_its_ceiling(void)
{
    struct peer p;
    struct zbuf_budget_stat all;
    peer_open(&p, &(struct zest_config){.mtu = 9000, .rx_hold_max = 82712});
    CU_ASSERT_FATAL(budget_of(&p, "received", &all));
    CU_ASSERT_EQUAL(all.min_seg, 16384);
    CU_ASSERT_EQUAL(all.min, 5 * 16384);
    CU_ASSERT_EQUAL(all.max, 82712);
    peer_close(&p);
}

/* A guarantee that a listener gives its connections is kept, or the connection does not come. */
static void no_connection_without_its_guarantee(void)
{
    struct peer p;
    open_mem(&p, NULL);
    peer_establish(&p);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_MEM_MIN, 8 << 20), 0);
    zest_handle one = another(&p);
    CU_ASSERT_EQUAL(info_of(&p, one).mem_min, 8 << 20);
    another(&p);
    another(&p);
    p.port++;
    peer_send(&p, S, 0, 0, NULL, 0); /* 32 MiB is not in a pool of that size */
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_promise, 1);
    CU_ASSERT_EQUAL(zest_abort(p.z, one), 0);
    peer_flush(&p);
    another(&p);
    peer_close(&p);
}

/* What was kept for one may not be held by another: it changes to that one's account, or stays. */
static void what_is_kept_for_one_is_not_anothers(void)
{
    struct peer p;
    uint32_t seq = 1;
    struct zest_view v = {0};
    struct zbuf_budget_stat kept;
    open_mem(&p, NULL);
    peer_establish(&p);
    struct end end = end_of(&p);
    zest_handle full = p.conn, one = another(&p);
    struct end other = end_of(&p);
    flood_pool(&p);
    speak_for(&p, end);
    fill(&p, &seq);
    speak_for(&p, other);
    peer_events(&p);
    peer_send(&p, A, 1, 1, text, TEXT); /* this one is of what is kept */
    CU_ASSERT_FATAL(budget_of(&p, "kept for connections", &kept));
    CU_ASSERT(kept.used >= SEG);
    CU_ASSERT_EQUAL_FATAL(zest_read(p.z, one, &v, 1), 1);
    CU_ASSERT_EQUAL(zest_write(p.z, full, v.addr, v.len), -EAGAIN);
    peer_events(&p);
    CU_ASSERT_EQUAL(zest_write(p.z, one, v.addr, v.len), TEXT); /* an echo is its own affair */
    flood_ends();
    CU_ASSERT_EQUAL(peer_events(&p) & ZEST_EV_WRITABLE, ZEST_EV_WRITABLE);
    CU_ASSERT_EQUAL(zest_write(p.z, full, v.addr, v.len), TEXT);
    CU_ASSERT_EQUAL(zest_release(p.z, one, &v, 1), 0);
    CU_ASSERT_FATAL(budget_of(&p, "kept for connections", &kept));
    peer_close(&p);
}

/* ---- ceilings */

/* What the window offers must be taken in the end: whoever holds nothing may hold one segment,
 * however small the ceilings are and however large the link's segments. */
static void one_segment_always_fits(void)
{
    static const uint32_t hold_max[] = {64u << 10, 200u << 10, 0};
    for (unsigned i = 0; i < 3; i++) {
        struct peer p;
        peer_open(&p, &(struct zest_config){
                          .mtu = 65535, .rx_seg = 128u << 10, .rx_hold_max = hold_max[i]});
        p.rx_seg = 128u << 10;
        peer_establish(&p);
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MIN, 0), 0);
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MAX, i == 2), 0);
        peer_send(&p, A, 1, 1, text, TEXT);
        CU_ASSERT_EQUAL(info_of(&p, p.conn).rcv_queued, TEXT);
        peer_close(&p);
    }
}

static void a_connections_ceiling(void)
{
    struct peer p;
    uint32_t seq = 1;
    open_mem(&p, NULL);
    peer_establish(&p);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MAX, SEG - 1),
                    -EINVAL); /* < minimum */
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MAX, 10 * SEG), 0);
    CU_ASSERT_EQUAL(fill(&p, &seq), 10);
    CU_ASSERT_EQUAL(info_of(&p, p.conn).mem_held, 10 * SEG);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MAX, 12 * SEG), 0);
    CU_ASSERT_EQUAL(fill(&p, &seq), 2);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MAX, 5 * SEG), 0);
    CU_ASSERT_EQUAL(fill(&p, &seq), 0);
    release_all(&p, p.conn);
    CU_ASSERT_EQUAL(fill(&p, &seq), 5);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MAX, 0), 0);
    CU_ASSERT(fill(&p, &seq) > 20);
    peer_close(&p);
}

static void minimum_and_ceiling_must_agree(void)
{
    struct peer p;
    open_mem(&p, NULL);
    peer_establish(&p);
    for (int i = 0; i < 2; i++) {
        zest_handle h = i ? p.conn : p.listener;
        CU_ASSERT_EQUAL(zest_set_option(p.z, h, ZEST_OPT_MEM_MAX, 10 * SEG), 0);
        CU_ASSERT_EQUAL(zest_set_option(p.z, h, ZEST_OPT_MEM_MIN, 10 * SEG + 1), -EINVAL);
        CU_ASSERT_EQUAL(zest_set_option(p.z, h, ZEST_OPT_MEM_MIN, 10 * SEG), 0);
        CU_ASSERT_EQUAL(zest_set_option(p.z, h, ZEST_OPT_MEM_MAX, 10 * SEG - 1), -EINVAL);
        CU_ASSERT_EQUAL(zest_set_option(p.z, h, ZEST_OPT_MEM_MAX, 0), 0);
        CU_ASSERT_EQUAL(zest_set_option(p.z, h, ZEST_OPT_MEM_MIN, (1u << 30) + 1), -EINVAL);
        CU_ASSERT_EQUAL(zest_set_option(p.z, h, ZEST_OPT_MEM_MIN, 11 * SEG), 0);
    }
    CU_ASSERT_EQUAL(info_of(&p, p.conn).mem_min, 11 * SEG);
    /* In TIME-WAIT nothing is received any more: nothing is set aside. */
    CU_ASSERT_EQUAL(zest_shutdown(p.z, p.conn), 0);
    peer_flush(&p);
    peer_send(&p, A | F, 1, 2, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, ZEST_OPT_MEM_MIN, 1u << 29), 0);
    peer_close(&p);
}

static void a_listeners_minimum_and_ceiling(void)
{
    struct peer p;
    uint32_t seq[3] = {1, 1, 1};
    struct zbuf_budget_stat b;
    open_mem(&p, &(struct zest_config){.conn_mem_min = ZEST_MEM_NONE});
    peer_establish(&p);
    struct end end = end_of(&p);
    zest_handle first = p.conn, second = another(&p);
    struct end other = end_of(&p);
    CU_ASSERT_EQUAL(zest_set_option(p.z, first, ZEST_OPT_LISTENER_MEM_MAX, 20 * SEG), -EINVAL);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_LISTENER_MEM_MIN, 8 * SEG), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_LISTENER_MEM_MAX, 7 * SEG), -EINVAL);
    /* In segments, as what is set aside: the eighth would not fit. */
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_LISTENER_MEM_MIN, 7 * SEG + 1), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_LISTENER_MEM_MAX, 8 * SEG - 1),
                    -EINVAL);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_LISTENER_MEM_MAX, 20 * SEG), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_LISTENER_MEM_MIN, 1u << 29), -EINVAL);
    CU_ASSERT_FATAL(budget_of(&p, "listener :80", &b));
    CU_ASSERT_EQUAL(b.min, 8 * SEG);
    CU_ASSERT_EQUAL(b.max, 20 * SEG);
    flood_pool(&p);
    speak_for(&p, end);
    unsigned n = fill(&p, &seq[0]);
    speak_for(&p, other);
    n += fill(&p, &seq[1]);
    CU_ASSERT(n >= 8 && n <= 20); /* whatever is left elsewhere */
    flood_ends();
    n += fill(&p, &seq[1]);
    speak_for(&p, end);
    n += fill(&p, &seq[0]);
    CU_ASSERT(n >= 10 && n <= 20);
    CU_ASSERT_FATAL(budget_of(&p, "listener :80", &b));
    CU_ASSERT(b.used <= 20 * SEG);
    /* Its budget outlives it, as long as it has connections, and no longer. */
    CU_ASSERT_EQUAL(zest_close(p.z, p.listener), 0);
    CU_ASSERT_TRUE(budget_of(&p, "listener :80", &b));
    CU_ASSERT_EQUAL(zest_abort(p.z, first), 0);
    CU_ASSERT_TRUE(budget_of(&p, "listener :80", &b));
    CU_ASSERT_EQUAL(zest_abort(p.z, second), 0);
    peer_flush(&p);
    CU_ASSERT_FALSE(budget_of(&p, "listener :80", &b));
    peer_close(&p);
}

/* Listeners that come and go while views of their connections are still out. */
static void listeners_come_and_go(void)
{
    struct peer p;
    struct zest_view v[100];
    struct zbuf_budget_stat b;
    open_mem(&p, &(struct zest_config){.max_listeners = 2});
    for (unsigned i = 0; i < 20; i++) {
        p.stack_port = 0;
        p.port = (uint16_t)(5000 + i);
        peer_establish(&p);
        peer_send(&p, A, 1, 1, text, TEXT);
        CU_ASSERT_EQUAL_FATAL(zest_read(p.z, p.conn, &v[i], 1), 1);
        CU_ASSERT_EQUAL(zest_abort(p.z, p.conn), 0);
        CU_ASSERT_EQUAL(zest_close(p.z, p.listener), 0);
        peer_flush(&p);
    }
    CU_ASSERT_TRUE(budget_of(&p, "listener :80", &b));
    CU_ASSERT_EQUAL(zest_release(p.z, p.conn, v, 20), 0);
    peer_establish(&p); /* looks whether they have come home */
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_LISTENER_MEM_MIN, SEG), 0);
    peer_close(&p);
}

/* ---- being told */

static void a_refused_copy_is_told_of_memory(void)
{
    struct peer p;
    open_mem(&p, NULL);
    peer_establish(&p);
    struct zbuf *tiny = zbuf_alloc(p.pool, 100); /* so that there is such a slab */
    flood_pool(&p);
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, text, TEXT), -ENOBUFS);
    CU_ASSERT_EQUAL(peer_events(&p), 0);
    CU_ASSERT_EQUAL(tiny->size, 1024);
    zbuf_free(tiny); /* that is not enough */
    CU_ASSERT_EQUAL(peer_events(&p), 0);
    zbuf_free_bulk(flood, nflood);
    nflood = 0;
    CU_ASSERT_EQUAL(peer_events(&p), ZEST_EV_WRITABLE);
    CU_ASSERT_EQUAL(peer_events(&p), 0); /* once */
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, text, TEXT), TEXT);
    /* One that ends while it waits is not told, and is no burden. */
    flood_pool(&p);
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, text, TEXT), -ENOBUFS);
    CU_ASSERT_EQUAL(zest_abort(p.z, p.conn), 0);
    peer_flush(&p);
    struct zbuf_budget_stat b;
    CU_ASSERT_FATAL(budget_of(&p, "copied writes", &b));
    CU_ASSERT_EQUAL(b.waiting, 0);
    flood_ends();
    CU_ASSERT_EQUAL(peer_events(&p), 0);
    peer_close(&p);
}

/* Of several that wait, whichever ends, the others are told. */
static void who_waits_may_leave(void)
{
    for (unsigned leaver = 0; leaver < 3; leaver++) {
        struct zest_event ev[8];
        zest_handle conn[3];
        struct peer p;
        open_mem(&p, NULL);
        peer_listen(&p, 80);
        for (unsigned i = 0; i < 3; i++) {
            p.port = (uint16_t)(4000 + i);
            peer_handshake(&p);
            conn[i] = p.conn;
        }
        flood_pool(&p);
        for (unsigned i = 0; i < 3; i++)
            CU_ASSERT_EQUAL(zest_write_copy(p.z, conn[i], text, TEXT), -ENOBUFS);
        CU_ASSERT_EQUAL(zest_abort(p.z, conn[leaver]), 0);
        CU_ASSERT_EQUAL(zest_events(p.z, ev, 8), 0);
        flood_ends();
        CU_ASSERT_EQUAL_FATAL(zest_events(p.z, ev, 8), 2);
        for (unsigned i = 0; i < 2; i++) {
            CU_ASSERT_EQUAL(ev[i].events, ZEST_EV_WRITABLE);
            CU_ASSERT_NOT_EQUAL(ev[i].handle, conn[leaver]);
        }
        CU_ASSERT_NOT_EQUAL(ev[0].handle, ev[1].handle);
        peer_close(&p);
    }
}

/* ---- explaining */

static void a_segments_connection_is_known(void)
{
    struct peer p;
    struct zbuf_holder h[64];
    char name[ZEST_ADDR_TEXT];
    struct zest_addr addr;
    open_mem(&p, NULL);
    peer_establish(&p);
    peer_send(&p, A, 1, 1, text, TEXT);
    CU_ASSERT_EQUAL(peer_write(&p, 1000), 1000);
    unsigned n = zbuf_holders(p.pool, h, 64), ours = 0;
    for (unsigned i = 0; i < n && i < 64; i++)
        if (zest_holder_addr(&addr, h[i].who)) {
            CU_ASSERT_STRING_EQUAL(zest_addr_text(&addr, name), "10.0.0.2:4000");
            ours++;
        }
    CU_ASSERT_EQUAL(ours, 2); /* one received, one written */
    CU_ASSERT_FALSE(zest_holder_addr(&addr, 0));
    peer_close(&p);
}

static void change_too_early(void)
{
    struct peer p;
    setenv("ZBUF_DEBUG", "1", 1);
    peer_open(&p, NULL);
    peer_establish(&p);
    struct zbuf *zb = zbuf_alloc(p.pool, TEXT);
    memset(zb->data, 7, TEXT);
    if (zest_write(p.z, p.conn, zb->data, TEXT) != TEXT)
        _exit(1);
    peer_flush(&p);
    zb->data[1000] = 8;
    peer_send(&p, A, 1, 1 + TEXT, NULL, 0);
}
static void change_in_time(void)
{
    struct peer p;
    setenv("ZBUF_DEBUG", "1", 1);
    peer_open(&p, NULL);
    peer_establish(&p);
    struct zbuf *zb = zbuf_alloc(p.pool, TEXT);
    for (uint32_t i = 0; i < 3; i++) {
        memset(zb->data, (int)i, TEXT);
        if (zest_write(p.z, p.conn, zb->data, TEXT / 2) != TEXT / 2)
            _exit(1);
        if (zest_write(p.z, p.conn, zb->data + TEXT / 2, TEXT / 2) != TEXT / 2) /* joined to it */
            _exit(2);
        peer_flush(&p);
        peer_send(&p, A, 1, 1 + (i + 1) * TEXT, NULL, 0);
    }
    zbuf_free(zb);
}
static void bytes_that_change_before_the_ack_are_found(void)
{
    ABORTS(change_too_early);
    SAYS("changed between write and acknowledgement (connection with 10.0.0.2:4000)");
    SAYS("was 0x07, is 0x08");
    SAYS("offset 1192 in live segment");
    CU_ASSERT_EQUAL(last_words(change_in_time), 0);
}

CHECK_MAIN("tcp mem", CHECK(nothing_stops_one_within_its_guarantee),
           CHECK(a_minimum_is_there_when_all_else_is_gone), CHECK(promises_add_up),
           CHECK(a_frame_in_parts_is_within_the_guarantee), CHECK(one_segment_always_fits),
           CHECK(defaults_leave_a_half), CHECK(a_minimum_for_all_fits_under_its_ceiling),
           CHECK(no_connection_without_its_guarantee), CHECK(what_is_kept_for_one_is_not_anothers),
           CHECK(a_connections_ceiling), CHECK(minimum_and_ceiling_must_agree),
           CHECK(a_listeners_minimum_and_ceiling), CHECK(listeners_come_and_go),
           CHECK(a_refused_copy_is_told_of_memory), CHECK(who_waits_may_leave),
           CHECK(a_segments_connection_is_known), CHECK(bytes_that_change_before_the_ack_are_found))
