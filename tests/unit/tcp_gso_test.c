/* tcp_gso_test.c - frames that the link is to cut into segments: what goes into one, and what does
 * not. */
#include "tests/unit/peer.h"

#define MSS 1460u

static const struct zest_config cuts = {.gather = ZEST_GATHER_ALWAYS,
                                        .gather_max = ZEST_FRAME_SEGS,
                                        .tx_csum_offload = true,
                                        .tso_segs = 44};

/* The next frame, parsed; false: there is none. */
static bool next(struct peer *p, struct zest_frame *f, struct wire *w)
{
    static uint8_t buf[WIRE_MAX];
    const char *why;
    if (zest_output(p->z, p->now_ns, f, 1) == 0)
        return false;
    size_t len = wire_gather(p->pool, f, buf, &why);
    CU_ASSERT_PTR_NULL(why);
    CU_ASSERT_PTR_NULL(wire_parse(w, buf, len));
    for (unsigned s = 0; s < f->n; s++)
        zbuf_tx_done(p->pool, f->seg[s].addr);
    return true;
}

static void write_bytes(struct peer *p, uint32_t len, uint32_t each)
{
    while (len > 0) {
        uint32_t n = len < each ? len : each;
        struct zbuf *zb = zbuf_alloc(p->pool, n);
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
        memset(zb->data, 0x5a, n);
        CU_ASSERT_EQUAL(zest_write(p->z, p->conn, zb->data, n), (ssize_t)n);
        zbuf_free(zb);
        len -= n;
    }
}

/* The initial window is ten segments: they go as one frame. The rest is Nagle's to hold back. */
static void whole_segments_go_as_one(void)
{
    struct peer p;
    struct zest_frame f;
    struct wire w;
    for (uint32_t each = 40000; each >= 1000; each = each == 40000 ? 1000 : 0) {
        peer_open(&p, &cuts);
        peer_connected(&p);
        write_bytes(&p, 9 * MSS + 100, each);
        CU_ASSERT_TRUE_FATAL(next(&p, &f, &w));
        CU_ASSERT_EQUAL(w.payload_len, 9 * MSS);
        CU_ASSERT_EQUAL(f.gso_size, MSS);
        CU_ASSERT_TRUE(f.csum);
        CU_ASSERT_EQUAL(w.flags, WIRE_ACK); /* it is not the end: no PSH */
        CU_ASSERT_EQUAL(f.n, each == 40000 ? 1 : 1 + 14);
        CU_ASSERT_FALSE(next(&p, &f, &w));
        CU_ASSERT_EQUAL(peer_stats(&p).tx_copied_bytes, 0);
        peer_close(&p);
    }
}

static void the_rest_goes_with_them_if_it_may(void)
{
    struct peer p;
    struct zest_frame f;
    struct wire w;
    peer_open(&p, &cuts);
    peer_connected(&p);
    zest_set_option(p.z, p.conn, ZEST_OPT_NODELAY, 1);
    write_bytes(&p, 3 * MSS + 100, 40000);
    CU_ASSERT_TRUE_FATAL(next(&p, &f, &w));
    CU_ASSERT_EQUAL(w.payload_len, 3 * MSS + 100);
    CU_ASSERT_EQUAL(f.gso_size, MSS);
    CU_ASSERT_EQUAL(w.flags, WIRE_ACK | WIRE_PSH);
    peer_close(&p);
}

/* RFC 5681 3.1, RFC 6298 5.4: after a time-out, one segment. */
static void what_is_repeated_goes_by_the_segment(void)
{
    struct peer p;
    struct zest_frame f;
    struct wire w;
    peer_open(&p, &cuts);
    peer_connected(&p);
    write_bytes(&p, 8 * MSS, 40000);
    CU_ASSERT_TRUE_FATAL(next(&p, &f, &w));
    CU_ASSERT_EQUAL(w.payload_len, 8 * MSS);
    uint32_t seq = w.seq;
    CU_ASSERT_FALSE(next(&p, &f, &w));
    p.now_ns = zest_deadline(p.z);
    CU_ASSERT_TRUE_FATAL(next(&p, &f, &w));
    CU_ASSERT_EQUAL(w.seq, seq);
    CU_ASSERT_EQUAL(w.payload_len, MSS);
    CU_ASSERT_EQUAL(f.gso_size, 0);
    CU_ASSERT_EQUAL(f.why, ZEST_WHY_RTO);
    CU_ASSERT_FALSE(next(&p, &f, &w));
    CU_ASSERT_EQUAL(peer_stats(&p).tcp_retransmits, 1);
    peer_close(&p);
}

static void needs_gather_and_checksums(void)
{
    struct zbuf_pool *pool =
        zbuf_pool_create(&(struct zbuf_pool_config){.size = 8u << 20, .no_huge = true});
    struct zest_config cfg = cuts;
    cfg.pool = pool;
    zest_addr_parse(&cfg.ip, "10.0.0.1", 0);
    cfg.mac[0] = 2;
    CU_ASSERT_NOT_EQUAL(zest_size(&cfg), 0);
    cfg.tx_csum_offload = false;
    CU_ASSERT_EQUAL(zest_size(&cfg), 0);
    cfg.tx_csum_offload = true;
    cfg.gather = ZEST_GATHER_NEVER;
    CU_ASSERT_EQUAL(zest_size(&cfg), 0);
    zbuf_pool_destroy(pool);
}

/* A checksum that the link vouches for is not looked at; the word is of that one frame only. */
static void the_links_word_for_a_checksum(void)
{
    static uint8_t buf[WIRE_MAX];
    struct peer p;
    peer_open(&p, NULL);
    peer_connected(&p);
    for (unsigned i = 0; i < 2; i++) {
        struct wire w = peer_seg(&p, WIRE_ACK, 1 + i * 10, 1);
        w.payload = (const uint8_t *)"0123456789";
        w.payload_len = 10;
        size_t len = wire_build_tcp(&w, buf);
        struct zbuf *zb = zbuf_alloc(p.pool, len);
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
        memcpy(zb->data, buf, len);
        zb->data[len - 1] ^= 1;
        zb->len = (uint32_t)len;
        zb->rx_csum = i == 0 ? ZBUF_CSUM_PARTIAL : ZBUF_CSUM_UNKNOWN;
        zest_input(p.z, p.now_ns, &zb, 1);
        CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_csum, i);
    }
    peer_flush(&p);
    peer_close(&p);
}

CHECK_MAIN("tcp gso", CHECK(whole_segments_go_as_one), CHECK(the_rest_goes_with_them_if_it_may),
           CHECK(what_is_repeated_goes_by_the_segment), CHECK(needs_gather_and_checksums),
           CHECK(the_links_word_for_a_checksum))
