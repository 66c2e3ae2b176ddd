/* tcp_sendq_test.c - what has been written and is not acknowledged: which memory is held for how
 * long, and how it becomes segments. */
#include "peer.h"

static void references_wait_for_the_last_byte(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    struct zbuf *zb = zbuf_alloc(p.pool, 4000);
    memset(zb->data, 1, 4000);
    zest_set_option(p.z, p.conn, ZEST_OPT_NODELAY, 1);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data, 4000), 4000);
    peer_flush(&p);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 2);
    peer_send(&p, A, 1, 4000, NULL, 0); /* all but one byte */
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 2);
    peer_send(&p, A, 1, 4001, NULL, 0);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 1);
    zbuf_free(zb);
    peer_close(&p);
}

static void frames_fall_in_with_zbufs_again(void)
{
    struct peer p;
    struct zbuf *zb[6];

    peer_open(&p, NULL);
    peer_establish(&p);
    for (int i = 0; i < 6; i++) {
        zb[i] = zbuf_alloc(p.pool, MSS);
        memset(zb[i]->data, i, MSS);
    }
    /* The first was taken in part, at an odd place; the rest follow, a zbuf for each segment. */
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb[0]->data + 700, MSS - 700), MSS - 700);
    for (int i = 1; i < 5; i++)
        CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb[i]->data, MSS), MSS);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb[5]->data, 10), 10);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, A, 1, 1, MSS - 700);
    for (unsigned i = 1; i < 5; i++)
        EXPECT_SEG(&p, i, A, 1 + i * MSS - 700, 1, MSS);
    CU_ASSERT_EQUAL(peer_stats(&p).tx_copied_bytes, MSS - 700);
    CU_ASSERT_EQUAL(peer_stats(&p).tx_headroom_frames, 4);
    for (int i = 0; i < 6; i++)
        zbuf_free(zb[i]);
    peer_close(&p);

    /* A header and a body in turn are not such a run: small segments would be worse than a copy. */
    peer_open(&p, NULL);
    peer_establish(&p);
    for (int i = 0; i < 6; i++) {
        zb[i] = zbuf_alloc(p.pool, MSS);
        memset(zb[i]->data, i, MSS);
        uint32_t n = i % 2 ? MSS : 20;
        CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb[i]->data, n), n);
    }
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.out[0].payload_len, MSS);
    for (int i = 0; i < 6; i++)
        zbuf_free(zb[i]);
    peer_close(&p);
}

/* A chain whose links are an MSS each leaves as one descriptor a frame, which is the link's own
 * memory, whatever the link can do. */
static void send_a_chain_of_frames(enum zest_gather gather)
{
    struct peer p;
    struct zest_frame f[8];
    struct zbuf *at[4], *zb;
    unsigned n = 0, links = 0;

    peer_open(&p, &(struct zest_config){.gather = gather});
    peer_establish(&p);
    struct zbuf *chain = zbuf_chain_alloc(zbuf_budget_app(p.pool), 3 * MSS + 100, MSS);
    CU_ASSERT_PTR_NOT_NULL_FATAL(chain);
    for (zb = chain; zb; zb = zb->next) {
        memset(zb->data, 'a' + (int)links, zb->len);
        at[links++] = zb;
        CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data, zb->len), zb->len);
    }
    CU_ASSERT_EQUAL_FATAL(links, 4);
    zest_set_option(p.z, p.conn, ZEST_OPT_NODELAY, 1);
    n = zest_output(p.z, p.now_ns, f, 8);
    CU_ASSERT_EQUAL_FATAL(n, 4);
    for (unsigned i = 0; i < n; i++) {
        CU_ASSERT_EQUAL(f[i].n, 1);
        CU_ASSERT_PTR_EQUAL(zbuf_of(p.pool, f[i].seg[0].addr), at[i]);
        CU_ASSERT_PTR_EQUAL(f[i].seg[0].addr + f[i].seg[0].len, at[i]->data + at[i]->len);
        zbuf_tx_done(p.pool, f[i].seg[0].addr);
    }
    CU_ASSERT_EQUAL(peer_stats(&p).tx_headroom_frames, 4);
    CU_ASSERT_EQUAL(peer_stats(&p).tx_copied_bytes, 0);
    zbuf_chain_free(chain);
    peer_close(&p);
}
static void a_chain_made_as_frames_is_a_descriptor_each(void)
{
    send_a_chain_of_frames(ZEST_GATHER_NEVER);
    send_a_chain_of_frames(ZEST_GATHER_ALWAYS);
}

static void one_zbuf_to_many(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    zest_handle first = p.conn;
    p.port++;
    struct wire syn = peer_seg(&p, S, 0, 0);
    peer_deliver(&p, &syn);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    struct zbuf *zb = zbuf_alloc(p.pool, 500);
    memset(zb->data, 1, 500);
    CU_ASSERT_EQUAL(zest_write(p.z, first, zb->data, 500), 500);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data, 500), 500);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 3);
    zbuf_free(zb);
    struct zest_frame
        f[4]; /* both before the link gives either back: one headroom for two headers */
    CU_ASSERT_EQUAL_FATAL(zest_output(p.z, p.now_ns, f, 4), 2);
    for (int i = 0; i < 2; i++) {
        static uint8_t buf[WIRE_MAX];
        const char *why = NULL;
        struct wire w;
        size_t len = wire_gather(p.pool, &f[i], buf, &why);
        CU_ASSERT_PTR_NULL(why);
        CU_ASSERT_PTR_NULL(wire_parse(&w, buf, len));
        CU_ASSERT_EQUAL(w.dport, 4000 + i);
        CU_ASSERT_EQUAL(w.payload_len, 500);
    }
    for (int i = 0; i < 2; i++)
        zbuf_tx_done(p.pool, f[i].seg[0].addr);
    peer_close(&p);
}

static void window_full_is_taken_up_again(void)
{
    struct peer p;

    peer_open(&p, &(struct zest_config){.snd_buf = 1000});
    peer_establish(&p);
    p.wnd = 0;
    peer_send(&p, A, 1, 1, NULL, 0);
    struct zbuf *zb = zbuf_alloc(p.pool, 4000);
    memset(zb->data, 3, 4000);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data, 600), 600);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data + 600, 3400), 400); /* a part */
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data + 1000, 3000), -EAGAIN);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 2); /* all in one pbuf */
    CU_ASSERT_EQUAL(peer_stats(&p).pbufs, 1);
    p.wnd = 20000;
    peer_send(&p, A, 1, 1, NULL, 0);
    EXPECT_SEG(&p, 0, A, 1, 1, 1000);
    peer_send(&p, A, 1, 1001, NULL, 0);
    CU_ASSERT(peer_events(&p) & ZEST_EV_WRITABLE);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data + 1000, 3000), 1000);
    zbuf_free(zb);
    peer_close(&p);
}

static bool no_pbufs_left_means_wait(struct peer *p)
{
    struct zest_stats st = peer_stats(p);
    return st.pbufs < 64;
}

static void pbufs_are_shared_out(void)
{
    struct peer p;
    struct zest_conn_info i;

    peer_open(&p, &(struct zest_config){.max_conns = 8, .max_pbufs = 64, .snd_buf = 1u << 20});
    peer_establish(&p);
    zest_handle hog = p.conn;
    p.port++;
    struct wire syn = peer_seg(&p, S, 0, 0);
    peer_deliver(&p, &syn);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    struct zbuf *zb = zbuf_alloc(p.pool, 100000);
    uint32_t at = 0;
    memset(zb->data, 3, 100000);
    while (at < 50000 && zest_write(p.z, hog, zb->data + at, 1) == 1)
        at += 2; /* never contiguous: a pbuf for each byte */
    CU_ASSERT(at < 50000);
    CU_ASSERT(no_pbufs_left_means_wait(&p));
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data, 100), 100); /* the other one still can */
    zest_conn_info(p.z, hog, &i);
    CU_ASSERT(i.snd_queued >= 16);
    zbuf_free(zb);
    peer_close(&p);
}

/* One is kept for connections that are yet to come, too. */
static void the_next_connection_can_write(void)
{
    struct peer p;
    zest_handle h;

    peer_open(&p, &(struct zest_config){.max_conns = 8, .max_pbufs = 10});
    struct zbuf *zb = zbuf_alloc(p.pool, 1000);
    for (unsigned i = 0; i < 8; i++) {
        struct zest_addr to;
        zest_addr_parse(&to, "10.0.0.2", (uint16_t)(1000 + i));
        CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &to, NULL, &h), 0);
        CU_ASSERT_EQUAL(zest_write(p.z, h, zb->data, 1), 1);
        for (uint32_t at = 2; zest_write(p.z, h, zb->data + at, 1) == 1; at += 2)
            CU_ASSERT_FATAL(at < 100);
    }
    CU_ASSERT_EQUAL(peer_stats(&p).pbufs, 10);
    zbuf_free(zb);
    peer_close(&p);
}

CHECK_MAIN("tcp send queue", CHECK(references_wait_for_the_last_byte),
           CHECK(frames_fall_in_with_zbufs_again),
           CHECK(a_chain_made_as_frames_is_a_descriptor_each), CHECK(one_zbuf_to_many),
           CHECK(window_full_is_taken_up_again), CHECK(pbufs_are_shared_out),
           CHECK(the_next_connection_can_write))
