/* netif_mem_test.c - the cable in memory. */
#include <errno.h>
#include <poll.h>

#include "check.h"
#include "netif/netif.h"

#define POOL (8u << 20)

static struct zbuf_pool *pool[2];
static struct netif *end[2];

static void open_pair(unsigned queue_len, uint16_t mtu, bool two_pools)
{
    const struct zbuf_pool_config pc = {.size = POOL, .no_huge = true};
    struct netif_error err = {""};
    pool[0] = zbuf_pool_create(&pc);
    pool[1] = two_pools ? zbuf_pool_create(&pc) : pool[0];
    const struct netif_mem_config cfg = {
        .pool = {pool[0], pool[1]}, .mtu = mtu, .queue_len = queue_len, .gather = true};
    CU_ASSERT_EQUAL_FATAL(netif_open_mem_pair(&cfg, end, &err), 0);
}

/* A segment that did not come home makes the pool's destruction fail. */
static void close_pair(void)
{
    netif_close(end[0]);
    netif_close(end[1]);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool[0]), 0);
    if (pool[1] != pool[0])
        CU_ASSERT_EQUAL(zbuf_pool_destroy(pool[1]), 0);
}

/* One descriptor, headers in the headroom: `len` bytes in all, of which the first is `first`. */
static struct zest_frame one(unsigned from, uint32_t len, uint8_t first)
{
    struct zbuf *zb = zbuf_alloc(pool[from], len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    CU_ASSERT_TRUE(zbuf_headroom_claim(zb));
    uint8_t *p = zb->data - 54;
    memset(p, 0x5a, len);
    p[0] = first;
    return (struct zest_frame){.seg[0] = {p, len}, .n = 1};
}

static bool readable(const struct netif *nif)
{
    struct pollfd p = {.fd = netif_fd(nif), .events = POLLIN};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

static void whole_and_in_order(void)
{
    open_pair(0, 0, false);
    struct zbuf *in[8];
    for (uint8_t i = 0; i < 5; i++) {
        struct zest_frame f = one(0, 60u + i, i);
        netif_tx(end[0], &f, 1);
    }
    CU_ASSERT_EQUAL(netif_kick(end[0]), 0);
    CU_ASSERT_EQUAL(netif_rx(end[0], in, 8), 0); /* not to ourselves */
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in, 3), 3);
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in + 3, 5), 2);
    for (uint8_t i = 0; i < 5; i++) {
        CU_ASSERT_EQUAL(in[i]->len, 60u + i);
        CU_ASSERT_EQUAL(in[i]->data[0], i);
        CU_ASSERT_EQUAL(in[i]->data[59 + i], 0x5a);
        CU_ASSERT_EQUAL(zbuf_refcount(in[i]), 1);
        CU_ASSERT_EQUAL(in[i]->size, netif_caps(end[1])->rx_seg); /* however short it is */
    }
    zbuf_free_bulk(in, 5);
    struct netif_stats a, b;
    netif_get_stats(end[0], &a);
    netif_get_stats(end[1], &b);
    CU_ASSERT_EQUAL(a.tx_frames, 5);
    CU_ASSERT_EQUAL(b.rx_frames, 5);
    CU_ASSERT_EQUAL(a.tx_bytes, 60 + 61 + 62 + 63 + 64);
    CU_ASSERT_EQUAL(a.tx_bytes, b.rx_bytes);
    close_pair();
}

static void gathered(void)
{
    open_pair(0, 0, true);
    struct zbuf *h = zbuf_alloc(pool[0], 64), *p = zbuf_alloc(pool[0], 1500), *in[2];
    memset(h->data, 1, 54);
    memset(p->data, 2, 1000);
    zbuf_ref(p); /* ours stays: this is what may be sent again */
    const struct zest_frame f = {.seg = {{h->data, 54}, {p->data + 100, 900}}, .n = 2};
    netif_tx(end[0], &f, 1);
    CU_ASSERT_EQUAL(zbuf_refcount(p), 1);
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in, 2), 1);
    CU_ASSERT_EQUAL(in[0]->len, 954);
    CU_ASSERT_EQUAL(in[0]->data[53], 1);
    CU_ASSERT_EQUAL(in[0]->data[54], 2);
    CU_ASSERT_EQUAL(in[0]->data[953], 2);
    /* The receiver's own memory: writing there changes nothing at the sender. */
    CU_ASSERT_TRUE(zbuf_pool_contains(pool[1], in[0]->data));
    memset(in[0]->data, 9, in[0]->len);
    CU_ASSERT_EQUAL(p->data[100], 2);
    zbuf_free(in[0]);
    zbuf_free(p);
    close_pair();
}

static void completes_at_once(void)
{
    open_pair(0, 0, false);
    struct zbuf *zb = zbuf_alloc(pool[0], 200), *in[1];
    CU_ASSERT_TRUE(zbuf_headroom_claim(zb));
    zbuf_ref(zb);
    const struct zest_frame f = {.seg[0] = {zb->data - 54, 254}, .n = 1};
    netif_tx(end[0], &f, 1);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 1);
    CU_ASSERT_TRUE(zbuf_headroom_claim(zb)); /* the claim ended with the frame */
    zbuf_headroom_release(zb);
    zbuf_free(zb);
    CU_ASSERT_EQUAL(netif_rx(end[1], in, 1), 1);
    zbuf_free(in[0]);
    close_pair();
}

static void room_is_what_the_queue_has(void)
{
    open_pair(4, 0, false);
    struct zbuf *in[4];
    for (uint8_t i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(netif_tx_room(end[0]), 4u - i);
        struct zest_frame f = one(0, 60, i);
        netif_tx(end[0], &f, 1);
    }
    CU_ASSERT_EQUAL(netif_tx_room(end[0]), 0);
    CU_ASSERT_EQUAL(netif_tx_room(end[1]), 4); /* each way has its own */
    CU_ASSERT_EQUAL(netif_rx(end[1], in, 1), 1);
    CU_ASSERT_EQUAL(netif_tx_room(end[0]), 1);
    struct zest_frame f = one(0, 60, 4);
    netif_tx(end[0], &f, 1); /* past the end of the ring */
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in + 1, 3), 3);
    CU_ASSERT_EQUAL(in[3]->data[0], 3);
    zbuf_free_bulk(in, 4);
    close_pair(); /* with one frame still in the cable */
}

static void readable_while_frames_wait(void)
{
    open_pair(0, 0, false);
    struct zbuf *in[2];
    CU_ASSERT_FALSE(readable(end[1]));
    for (int round = 0; round < 2; round++) {
        for (uint8_t i = 0; i < 2; i++) {
            struct zest_frame f = one(0, 60, i);
            netif_tx(end[0], &f, 1);
        }
        netif_kick(end[0]);
        CU_ASSERT_TRUE(readable(end[1]));
        CU_ASSERT_FALSE(readable(end[0]));
        CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in, 1), 1);
        CU_ASSERT_TRUE(readable(end[1]));
        CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in + 1, 1), 1);
        CU_ASSERT_FALSE(readable(end[1]));
        zbuf_free_bulk(in, 2);
    }
    close_pair();
}

/* The receiver has no memory: the frame is lost, the sender has its segments back, it is counted.
 */
static void no_memory_loses_the_frame(void)
{
    open_pair(0, 0, true);
    static struct zbuf *hoard[POOL / ZBUF_SEG_MIN], *in[64];
    unsigned n = 0, arrived;
    while ((hoard[n] = zbuf_alloc(pool[1], 1500)) != NULL)
        n++;
    /* The link's own minimum is still there, and then it is not. */
    for (unsigned i = 0; i < 64; i++) {
        struct zest_frame f = one(0, 1500, 0);
        netif_tx(end[0], &f, 1);
    }
    struct netif_stats st;
    netif_get_stats(end[1], &st);
    arrived = netif_rx(end[1], in, 64);
    CU_ASSERT_TRUE(arrived >= 32 && arrived < 64);
    CU_ASSERT_EQUAL(st.rx_no_memory, 64 - arrived);
    CU_ASSERT_EQUAL(st.rx_dropped, 64 - arrived);
    zbuf_free_bulk(in, arrived);
    struct zest_frame f = one(0, 1500, 7);
    netif_tx(end[0], &f, 1); /* and it goes on by itself */
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in, 1), 1);
    CU_ASSERT_EQUAL(in[0]->data[0], 7);
    zbuf_free(in[0]);
    zbuf_free_bulk(hoard, n);
    close_pair();
}

static void too_long_is_dropped(void)
{
    open_pair(0, 1500, false);
    struct zbuf *in[2];
    struct zest_frame f = one(0, 1515, 1), g = one(0, 1514, 2);
    netif_tx(end[0], &f, 1);
    netif_tx(end[0], &g, 1);
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in, 2), 1);
    CU_ASSERT_EQUAL(in[0]->data[0], 2);
    zbuf_free(in[0]);
    struct netif_stats st;
    netif_get_stats(end[1], &st);
    CU_ASSERT_EQUAL(st.rx_dropped, 1);
    CU_ASSERT_EQUAL(st.rx_no_memory, 0);
    close_pair();
}

static void the_other_end_closed(void)
{
    open_pair(2, 0, false);
    netif_close(end[1]);
    for (uint8_t i = 0; i < 5; i++) {
        struct zest_frame f = one(0, 60, i);
        CU_ASSERT_TRUE(netif_tx_room(end[0]) > 0);
        netif_tx(end[0], &f, 1);
    }
    CU_ASSERT_EQUAL(netif_kick(end[0]), -ENODEV);
    netif_close(end[0]);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool[0]), 0);
}

static void bad_settings(void)
{
    struct netif_error err = {""};
    pool[0] = zbuf_pool_create(&(struct zbuf_pool_config){.size = 1, .no_huge = true});
    struct netif_mem_config cfg = {.pool = {pool[0], NULL}};
    CU_ASSERT_EQUAL(netif_open_mem_pair(&cfg, end, &err), -EINVAL);
    CU_ASSERT_NOT_EQUAL(err.text[0], 0);
    cfg.pool[1] = pool[0];
    cfg.mtu = 100;
    CU_ASSERT_EQUAL(netif_open_mem_pair(&cfg, end, NULL), -EINVAL);
    cfg.mtu = 65000; /* 2 x 32 segments of 64K: more than a slab */
    CU_ASSERT_EQUAL(netif_open_mem_pair(&cfg, end, &err), -ENOBUFS);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool[0]), 0);
}

CHECK_MAIN("netif_mem", CHECK(whole_and_in_order), CHECK(gathered), CHECK(completes_at_once),
           CHECK(room_is_what_the_queue_has), CHECK(readable_while_frames_wait),
           CHECK(no_memory_loses_the_frame), CHECK(too_long_is_dropped),
           CHECK(the_other_end_closed), CHECK(bad_settings))
