/* netif_ring_test.c - the AF_XDP link's accounts, against rings that the test plays the kernel on.
 */
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "ring_fixture.h"

#define POOL (4u << 20)

static struct netif *nif;

/* The calls that the link makes are answered here, in place of the C library's. */
static int send_error;
static unsigned send_calls, send_moves; /* descriptors that one call takes off the ring */
static uint64_t clock_ns;

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t len)
{
    (void)fd, (void)p, (void)n, (void)flags, (void)to, (void)len;
    send_calls++;
    for (unsigned i = 0; i < send_moves && tx.consumer != tx.producer; i++, tx.consumer++)
        kernel_completes(tx.descs[tx.consumer % RING].addr);
    errno = send_error;
    return send_error ? -1 : 0;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    (void)id;
    *ts = (struct timespec){(time_t)(clock_ns / 1000000000u), (long)(clock_ns % 1000000000u)};
    return 0;
}

static void open_rings(size_t pool_size)
{
    rings_open(pool_size, RING * XDP_CHUNK);
    nif = &x->nif;
    send_error = 0;
    send_calls = send_moves = 0;
    clock_ns = 1000000000;
}

/* The kernel takes a buffer from the fill ring, and puts a frame of len bytes into it. */
static void kernel_receives(uint32_t len, uint32_t options)
{
    CU_ASSERT_NOT_EQUAL_FATAL(fill.producer, fill.consumer);
    uint64_t addr = addrs(&fill)[fill.consumer++ % RING];
    uint64_t offset = ZBUF_GUARD + XDP_HEADROOM;
    memset(x->base + addr + offset, (int)len, len);
    rx.descs[rx.producer++ % RING] = (struct xdp_desc){
        .addr = addr | offset << XSK_UNALIGNED_BUF_OFFSET_SHIFT, .len = len, .options = options};
}

static struct zest_frame frame(uint32_t len)
{
    struct zbuf *zb = zbuf_alloc(x->nif.pool, len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    return (struct zest_frame){.seg[0] = {zb->data, len}, .n = 1};
}

static void fills_the_ring_with_chunks(void)
{
    open_rings(POOL);
    xdp_refill(x);
    CU_ASSERT_EQUAL(fill.producer, RING);
    for (uint32_t i = 0; i < RING; i++) {
        const struct zbuf *zb = zbuf_of(x->nif.pool, x->base + addrs(&fill)[i] + ZBUF_GUARD);
        CU_ASSERT_EQUAL(addrs(&fill)[i] % XDP_CHUNK, 0);
        CU_ASSERT_TRUE(zb->size >= XDP_CHUNK);
    }
    xdp_refill(x);
    CU_ASSERT_EQUAL(fill.producer, RING); /* full is full */
    rings_close();
}

static void receives_and_replaces(void)
{
    open_rings(POOL);
    struct zbuf *in[RING];
    xdp_refill(x);
    kernel_receives(60, 0);
    kernel_receives(1514, 0);
    kernel_receives(XDP_RX_ROOM, 0);
    CU_ASSERT_EQUAL_FATAL(xdp_rx(nif, in, RING), 3);
    const uint32_t lens[] = {60, 1514, XDP_RX_ROOM};
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(in[i]->len, lens[i]);
        CU_ASSERT_EQUAL(in[i]->data[lens[i] - 1], lens[i] & 255);
        CU_ASSERT_EQUAL(zbuf_of(x->nif.pool, in[i]->data), in[i]); /* the header survived */
    }
    struct zbuf *none[1];
    CU_ASSERT_EQUAL(xdp_rx(nif, none, 1), 0); /* so few are replaced by the next look */
    CU_ASSERT_EQUAL(fill.producer - fill.consumer, RING);
    zbuf_free_bulk(in, 3);
    CU_ASSERT_EQUAL(x->nif.stats.rx_bytes, 60 + 1514 + XDP_RX_ROOM);
    rings_close();
}

/* More frames than the ring has places, a few at a time: every index wraps. */
static void goes_round_for_ever(void)
{
    open_rings(POOL);
    struct zbuf *in[RING];
    xdp_refill(x);
    for (uint32_t i = 0; i < 10 * RING; i++) {
        uint32_t burst = 1 + i % 7;
        for (uint32_t k = 0; k < burst; k++)
            kernel_receives(60 + k, 0);
        CU_ASSERT_EQUAL_FATAL(xdp_rx(nif, in, RING), burst);
        /* Sent back from where they lie. */
        for (uint32_t k = 0; k < burst; k++) {
            CU_ASSERT_EQUAL(in[k]->len, 60 + k);
            const struct zest_frame f = {.seg[0] = {in[k]->data, in[k]->len}, .n = 1};
            xdp_tx(nif, &f, 1);
        }
        CU_ASSERT_EQUAL(xdp_kick(nif), 0);
        for (; tx.consumer != tx.producer; tx.consumer++)
            kernel_completes(tx.descs[tx.consumer % RING].addr);
        CU_ASSERT_EQUAL(xdp_kick(nif), 0);
        CU_ASSERT_EQUAL(xdp_in_flight(nif), 0);
    }
    rings_close();
}

static void a_frame_over_several_buffers_is_a_chain(void)
{
    open_rings(POOL);
    struct zbuf *in[8];
    x->rx_descs = 3;
    xdp_refill(x);
    kernel_receives(3000, XDP_PKT_CONTD);
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 8), 0); /* its parts may come apart */
    kernel_receives(2999, XDP_PKT_CONTD);
    kernel_receives(100, 0);
    kernel_receives(64, 0);
    CU_ASSERT_EQUAL_FATAL(xdp_rx(nif, in, 8), 2);
    CU_ASSERT_EQUAL(zbuf_chain_count(in[0]), 3);
    CU_ASSERT_EQUAL(zbuf_chain_len(in[0]), 6099);
    CU_ASSERT_EQUAL(in[0]->len, 3000);
    CU_ASSERT_EQUAL(in[0]->next->data[2998], 2999 & 255);
    CU_ASSERT_EQUAL(in[0]->next->next->len, 100);
    CU_ASSERT_EQUAL(in[1]->len, 64);
    CU_ASSERT_PTR_NULL(in[1]->next);
    xdp_count(nif);
    CU_ASSERT_EQUAL(x->nif.stats.rx_dropped, 0);
    CU_ASSERT_EQUAL(x->nif.stats.rx_frames, 2);
    CU_ASSERT_EQUAL(x->nif.stats.rx_bytes, 6163);
    zbuf_chain_free(in[0]);
    zbuf_free(in[1]);
    /* No more frames than asked for, whatever they are made of; the rest waits on the ring. */
    for (int i = 0; i < 6; i++)
        kernel_receives(60, i == 1 ? XDP_PKT_CONTD : 0);
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 2), 2);
    CU_ASSERT_EQUAL(zbuf_chain_count(in[1]), 2);
    CU_ASSERT_EQUAL(xdp_rx(nif, in + 2, 6), 3);
    for (int i = 0; i < 5; i++)
        zbuf_chain_free(in[i]);
    kernel_receives(60, XDP_PKT_CONTD); /* closed in the middle of one */
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 2), 0);
    rings_close();
}

/* A frame without end is thrown away, and so is what is left of it when it does end. */
static void a_frame_that_is_too_long_is_dropped(void)
{
    open_rings(POOL);
    struct zbuf *in[8];
    x->rx_descs = 8;
    xdp_refill(x);
    for (int i = 0; i < 30; i++) {
        kernel_receives(XDP_RX_ROOM, XDP_PKT_CONTD);
        CU_ASSERT_EQUAL(xdp_rx(nif, in, 8), 0);
    }
    CU_ASSERT_PTR_NULL(x->rx_head);
    kernel_receives(10, 0);
    kernel_receives(70, 0);
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 8), 1);
    CU_ASSERT_EQUAL(in[0]->len, 70);
    zbuf_free(in[0]);
    for (int i = 0; i < 3; i++) /* nor are parts that are empty put together for ever */
        kernel_receives(0, XDP_PKT_CONTD);
    kernel_receives(70, 0);
    kernel_receives(71, 0);
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 8), 1);
    CU_ASSERT_EQUAL(in[0]->len, 71);
    zbuf_free(in[0]);
    xdp_count(nif);
    CU_ASSERT_EQUAL(x->nif.stats.rx_dropped, 2);
    rings_close();
}

/* Stretches of more than a page become descriptors of a page each. The segment comes home when all
 * of them have been given back, in whatever order. */
static void large_frames_are_cut_into_pages(void)
{
    open_rings(POOL);
    x->rx_descs = 18;
    nif->caps.frame_descs = 18;
    struct zest_frame f = frame(65000), head = frame(54), last = frame(5000);
    f.seg[2] = last.seg[0];
    f.seg[1] = f.seg[0];
    f.seg[0] = head.seg[0];
    f.n = 3;
    f.seg[1].len = 4097;
    CU_ASSERT_EQUAL(xdp_pieces(&f), 5);
    xdp_tx(nif, &f, 1);
    struct zest_frame whole = frame(65000);
    xdp_tx(nif, &whole, 1);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(tx.producer, 5 + 16);
    static const uint32_t lens[] = {54, 4096, 1, 4096, 904};
    for (unsigned i = 0; i < 5; i++) {
        CU_ASSERT_EQUAL(tx.descs[i].len, lens[i]);
        CU_ASSERT_EQUAL(tx.descs[i].options, i < 4 ? XDP_PKT_CONTD : 0);
    }
    CU_ASSERT_EQUAL(x->base + tx.descs[2].addr, f.seg[1].addr + 4096);
    CU_ASSERT_EQUAL(x->base + tx.descs[6].addr, whole.seg[0].addr + 4096);
    CU_ASSERT_EQUAL(tx.descs[20].options, 0);
    CU_ASSERT_EQUAL(tx.descs[20].len, 65000 - 15 * 4096);
    CU_ASSERT_EQUAL(nif->stats.tx_bytes, 54 + 4097 + 5000 + 65000);
    CU_ASSERT_EQUAL(xdp_tx_room(nif), RING - 21);
    for (unsigned i = 21; i-- > 6;) /* all but the first piece of the last frame's */
        kernel_completes(tx.descs[i].addr);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(zbuf_of(nif->pool, whole.seg[0].addr)->refcount, 1);
    kernel_completes(tx.descs[5].addr);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_PTR_NULL(zbuf_of(nif->pool, whole.seg[0].addr));
    rings_close(); /* the other frame's pieces are taken back */
}

/* The pool is empty: what the kernel has goes on being used; once there is memory, all is as
 * before. */
static void lives_through_an_empty_pool(void)
{
    open_rings(POOL);
    static struct zbuf *hoard[POOL / ZBUF_SEG_MIN];
    struct zbuf *in[RING];
    xdp_refill(x);
    unsigned n = 0, held = 0;
    /* All that the budget's minimum leaves, and frames that nobody gives back. */
    while ((hoard[n] = zbuf_alloc(x->nif.pool, 1)) != NULL)
        n++;
    while (fill.producer != fill.consumer && held < RING) {
        kernel_receives(60, 0);
        CU_ASSERT_EQUAL_FATAL(xdp_rx(nif, in + held, 1), 1);
        held++;
    }
    CU_ASSERT_EQUAL(held, RING); /* every buffer was used before it stopped */
    CU_ASSERT_EQUAL(fill.producer, fill.consumer);
    CU_ASSERT_TRUE(x->short_of_memory);
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 0), 0); /* tries again, in vain */
    CU_ASSERT_EQUAL(fill.producer, fill.consumer);
    /* One frame let go is one buffer, whatever the hoarder holds. */
    zbuf_free(in[--held]);
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 0), 0);
    CU_ASSERT_EQUAL(fill.producer - fill.consumer, 1);
    zbuf_free_bulk(in, held);
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 0), 0);
    CU_ASSERT_EQUAL(fill.producer - fill.consumer, RING);
    CU_ASSERT_FALSE(x->short_of_memory);
    zbuf_free_bulk(hoard, n);
    rings_close();
}

/* The kernel shows a frame a moment before it shows that it took the buffer. */
static void fill_ring_that_looks_too_full(void)
{
    open_rings(POOL);
    struct zbuf *in[4];
    xdp_refill(x);
    kernel_receives(60, 0);
    fill.consumer--;
    CU_ASSERT_EQUAL_FATAL(xdp_rx(nif, in, 4), 1);
    CU_ASSERT_EQUAL(fill.producer, RING); /* no room, nothing lost */
    fill.consumer++;
    CU_ASSERT_EQUAL(xdp_rx(nif, in + 1, 3), 0);
    CU_ASSERT_EQUAL(fill.producer, RING + 1);
    zbuf_free(in[0]);
    rings_close();
}

/* Begins short, and doubles when most of it has filled up before anybody came. */
static void the_fill_ring_grows_with_the_load(void)
{
    open_rings(POOL);
    struct zbuf *in[RING];
    x->fill_target = x->fill_min = 16;
    xdp_refill(x);
    CU_ASSERT_EQUAL(fill.producer, 16);
    for (int i = 0; i < 7; i++)
        kernel_receives(60, 0);
    CU_ASSERT_EQUAL_FATAL(xdp_rx(nif, in, RING), 7);
    zbuf_free_bulk(in, 7);
    CU_ASSERT_EQUAL(fill.producer - fill.consumer, 16);
    for (int i = 0; i < 16; i++)
        kernel_receives(60, 0);
    CU_ASSERT_EQUAL_FATAL(xdp_rx(nif, in, RING), 16);
    CU_ASSERT_EQUAL(fill.producer - fill.consumer, 32);
    zbuf_free_bulk(in, 16);
    for (int k = 0; k < 3; k++) { /* and no further than the ring is long */
        while (fill.consumer != fill.producer)
            kernel_receives(60, 0);
        unsigned n = xdp_rx(nif, in, RING);
        zbuf_free_bulk(in, n);
    }
    CU_ASSERT_EQUAL(fill.producer - fill.consumer, RING);
    rings_close();
}

static void sends_what_it_is_given(void)
{
    open_rings(POOL);
    struct zest_frame f = frame(100), h = frame(54);
    f.seg[1] = f.seg[0];
    f.seg[0] = h.seg[0];
    f.n = 2;
    struct zest_frame g = frame(200);
    CU_ASSERT_EQUAL(xdp_tx_room(nif), RING);
    xdp_tx(nif, &f, 1);
    xdp_tx(nif, &g, 1);
    CU_ASSERT_EQUAL(tx.producer, 0); /* only queued */
    CU_ASSERT_EQUAL(xdp_tx_room(nif), RING - 3);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(tx.producer, 3);
    CU_ASSERT_EQUAL(tx.descs[0].len, 54);
    CU_ASSERT_EQUAL(tx.descs[0].options, XDP_PKT_CONTD);
    CU_ASSERT_EQUAL(tx.descs[1].len, 100);
    CU_ASSERT_EQUAL(tx.descs[1].options, 0);
    CU_ASSERT_EQUAL(x->base + tx.descs[2].addr, g.seg[0].addr);
    CU_ASSERT_EQUAL(tx.descs[2].options, 0);
    CU_ASSERT_EQUAL(x->nif.stats.tx_frames, 2);
    CU_ASSERT_EQUAL(x->nif.stats.tx_bytes, 354);
    rings_close(); /* none was completed: taken back */
}

/* In any order, one never: room is counted by what the kernel holds. */
static void completions_in_any_order(void)
{
    open_rings(POOL);
    struct zest_frame stuck = frame(60);
    xdp_tx(nif, &stuck, 1);
    xdp_kick(nif);
    tx.consumer++;
    for (int lap = 0; lap < 50; lap++) {
        uint64_t a[5];
        for (int i = 0; i < 5; i++) {
            struct zest_frame f = frame(60);
            xdp_tx(nif, &f, 1);
        }
        xdp_kick(nif);
        for (int i = 0; i < 5; i++)
            a[i] = tx.descs[tx.consumer++ % RING].addr;
        CU_ASSERT_EQUAL(xdp_tx_room(nif), RING - 6);
        const int order[] = {3, 1, 4, 0, 2};
        for (int i = 0; i < 5; i++)
            kernel_completes(a[order[i]]);
        xdp_kick(nif);
        CU_ASSERT_EQUAL(xdp_in_flight(nif), 1);
        CU_ASSERT_EQUAL(xdp_tx_room(nif), RING - 1);
    }
    rings_close();
}

/* One segment in several frames at a time: each completion drops one reference. */
static void one_segment_in_many_frames(void)
{
    open_rings(POOL);
    struct zbuf *zb = zbuf_alloc(x->nif.pool, 1000);
    for (int i = 0; i < 3; i++) {
        zbuf_ref(zb);
        const struct zest_frame f = {.seg[0] = {zb->data + 10, 100}, .n = 1}; /* the same address */
        xdp_tx(nif, &f, 1);
    }
    xdp_kick(nif);
    for (uint32_t left = 3; left > 0; left--) {
        CU_ASSERT_EQUAL(zbuf_refcount(zb), 1 + left);
        kernel_completes(tx.descs[tx.consumer++ % RING].addr);
        xdp_kick(nif);
    }
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 1);
    zbuf_free(zb);
    rings_close();
}

static void no_room_left(void)
{
    open_rings(POOL);
    for (uint32_t i = 0; i < RING; i++) {
        struct zest_frame f = frame(60);
        xdp_tx(nif, &f, 1);
    }
    CU_ASSERT_EQUAL(xdp_tx_room(nif), 0);
    xdp_kick(nif);
    tx.consumer = tx.producer; /* the ring is empty again, but nothing has come back */
    CU_ASSERT_EQUAL(xdp_tx_room(nif), 0);
    kernel_completes(tx.descs[5].addr);
    xdp_kick(nif);
    CU_ASSERT_EQUAL(xdp_tx_room(nif), 1);
    rings_close();
}

static void queue_frames(unsigned n)
{
    tx.flags = XDP_RING_NEED_WAKEUP;
    while (n-- > 0) {
        struct zest_frame f = frame(60);
        xdp_tx(nif, &f, 1);
    }
}

/* One call moves a part: called again until the ring is empty, and no further. */
static void kicks_until_all_is_sent(void)
{
    open_rings(POOL);
    send_moves = 10;
    send_error = EAGAIN; /* there is more */
    queue_frames(25);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(send_calls, 3);
    CU_ASSERT_EQUAL(xdp_in_flight(nif), 0);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(send_calls, 3); /* nothing to send, no call */
    rings_close();
}

static void stops_when_nothing_moves(void)
{
    open_rings(POOL);
    send_error = EAGAIN;
    queue_frames(5);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(send_calls, 1);
    send_error = ENETDOWN;
    CU_ASSERT_EQUAL(xdp_kick(nif), -ENETDOWN);
    CU_ASSERT_EQUAL(x->nif.error, 0); /* it may come up again */
    send_error = ENXIO;
    CU_ASSERT_EQUAL(xdp_kick(nif), -ENODEV);
    CU_ASSERT_EQUAL(x->nif.error, -ENODEV);
    rings_close();
}

/* A frame was dropped: the rest waits, longer each time, and then goes on. */
static void holds_back_when_the_device_drops(void)
{
    open_rings(POOL);
    send_moves = 1;
    send_error = EBUSY;
    queue_frames(10);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(send_calls, 1); /* one frame lost, not ten */
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(send_calls, 1);
    uint64_t first = x->held_until_ns - clock_ns;
    clock_ns += first;
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(send_calls, 2);
    CU_ASSERT_EQUAL(x->held_until_ns - clock_ns, 2 * first);
    clock_ns += 2 * first;
    send_error = 0;
    send_moves = 10;
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(xdp_in_flight(nif), 0);
    CU_ASSERT_EQUAL(x->hold_ns, 0);
    CU_ASSERT_EQUAL(x->nif.stats.tx_held, 2);
    rings_close();
}

CHECK_MAIN("netif_ring", CHECK(fills_the_ring_with_chunks), CHECK(receives_and_replaces),
           CHECK(goes_round_for_ever), CHECK(a_frame_over_several_buffers_is_a_chain),
           CHECK(a_frame_that_is_too_long_is_dropped), CHECK(large_frames_are_cut_into_pages),
           CHECK(lives_through_an_empty_pool), CHECK(fill_ring_that_looks_too_full),
           CHECK(the_fill_ring_grows_with_the_load), CHECK(sends_what_it_is_given),
           CHECK(completions_in_any_order), CHECK(one_segment_in_many_frames), CHECK(no_room_left),
           CHECK(kicks_until_all_is_sent), CHECK(stops_when_nothing_moves),
           CHECK(holds_back_when_the_device_drops))
