/* tcp_test.c - connections between two stacks: the ordinary life, and what loss does to it. */
#include "check.h"
#include "pair.h"

static struct zest_conn_info info(struct pair *p, int side, zest_handle c)
{
    struct zest_conn_info i = {0};
    CU_ASSERT_EQUAL(zest_conn_info(p->z[side], c, &i), 0);
    return i;
}

static uint8_t pattern(uint32_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

/* Moves total bytes from A to B through zbufs of size bytes, checking each. Returns how many
 * arrived whole. */
static uint32_t transfer(struct pair *p, zest_handle c[2], uint32_t total, uint32_t size,
                         uint64_t limit_ns)
{
    uint32_t sent = 0, got = 0, off = 0;
    struct zbuf *zb = NULL;
    uint64_t end_ns = p->now_ns + limit_ns;
    struct zest_view v[8];

    while (got < total && p->now_ns < end_ns) {
        while (sent < total) {
            if (!zb) {
                zb = zbuf_alloc(p->pool, size);
                if (!zb)
                    break;
                zb->len = total - sent < size ? total - sent : size;
                for (uint32_t i = 0; i < zb->len; i++)
                    zb->data[i] = pattern(sent + i);
                off = 0;
            }
            ssize_t n = zest_write(p->z[0], c[0], zb->data + off, zb->len - off);
            if (n < 0)
                break;
            off += (uint32_t)n;
            sent += (uint32_t)n;
            if (off == zb->len) {
                zbuf_free(zb);
                zb = NULL;
            }
        }
        if (!pair_step(p, end_ns) && sent == total && got < total)
            break;
        for (int n; (n = zest_read(p->z[1], c[1], v, 8)) > 0;) {
            for (int i = 0; i < n; i++) {
                for (uint32_t k = 0; k < v[i].len; k++)
                    if (v[i].addr[k] != pattern(got + k))
                        return got;
                got += v[i].len;
            }
            zest_release(p->z[1], c[1], v, (unsigned)n);
        }
    }
    if (zb)
        zbuf_free(zb);
    return got;
}

static void opens_and_closes(void)
{
    struct pair p;
    zest_handle c[2], l;
    struct zest_view v;

    pair_open(&p, NULL);
    CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, &l), 0);
    CU_ASSERT_EQUAL(info(&p, 0, c[0]).state, ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL(info(&p, 1, c[1]).state, ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL(p.events[0][1], 1); /* CONNECTED */
    CU_ASSERT_EQUAL(zest_read(p.z[1], c[1], &v, 1), -EAGAIN);
    CU_ASSERT_EQUAL(zest_shutdown(p.z[0], c[0]), 0);
    pair_run(&p, 100000000);
    CU_ASSERT_EQUAL(info(&p, 0, c[0]).state, ZEST_FIN_WAIT_2);
    CU_ASSERT_EQUAL(info(&p, 1, c[1]).state, ZEST_CLOSE_WAIT);
    CU_ASSERT_EQUAL(zest_read(p.z[1], c[1], &v, 1), 0);
    CU_ASSERT_EQUAL(zest_shutdown(p.z[1], c[1]), 0);
    pair_run(&p, 100000000);
    CU_ASSERT_EQUAL(info(&p, 0, c[0]).state, ZEST_TIME_WAIT);
    CU_ASSERT_EQUAL(info(&p, 1, c[1]).state, ZEST_CLOSED);
    CU_ASSERT_EQUAL(zest_close(p.z[0], c[0]), 0);
    CU_ASSERT_EQUAL(zest_close(p.z[1], c[1]), 0);
    CU_ASSERT_EQUAL(zest_close(p.z[1], c[1]), -EBADF);
    pair_run(&p, 61000000000);
    struct zest_stats st;
    zest_stats(p.z[0], &st);
    CU_ASSERT_EQUAL(st.conns, 0);
    CU_ASSERT_EQUAL(pair_close(&p), 0);
}

static void moves_bytes_without_copying(void)
{
    struct pair p;
    zest_handle c[2];
    struct zest_stats st;

    pair_open(&p, NULL);
    CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, NULL), 0);
    CU_ASSERT_EQUAL(transfer(&p, c, 4u << 20, 1448, 10000000000), 4u << 20);
    zest_stats(p.z[0], &st);
    CU_ASSERT_EQUAL(st.tx_copied_bytes, 0);
    CU_ASSERT_EQUAL(st.tcp_retransmits, 0);
    CU_ASSERT(st.tx_headroom_frames >= (4u << 20) / 1448);
    pair_run(&p, 1000000000);
    CU_ASSERT_EQUAL(info(&p, 0, c[0]).snd_queued, 0);
    CU_ASSERT_EQUAL(pair_close(&p), 0);
}

static void moves_large_zbufs(void)
{
    for (int gather = 0; gather < 2; gather++) {
        struct pair p;
        zest_handle c[2];
        struct zest_stats st;

        pair_open(&p,
                  &(struct zest_config){.gather = gather ? ZEST_GATHER_ALWAYS : ZEST_GATHER_NEVER});
        CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, NULL), 0);
        CU_ASSERT_EQUAL(transfer(&p, c, 4u << 20, 100001, 10000000000), 4u << 20);
        zest_stats(p.z[0], &st);
        if (gather)
            CU_ASSERT_EQUAL(st.tx_copied_bytes, 0);
        CU_ASSERT_EQUAL(st.tcp_retransmits, 0);
        CU_ASSERT_EQUAL(pair_close(&p), 0);
    }
}

static void small_writes(void)
{
    struct pair p;
    zest_handle c[2];

    pair_open(&p, NULL);
    CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, NULL), 0);
    CU_ASSERT_EQUAL(transfer(&p, c, 200000, 37, 100000000000), 200000);
    CU_ASSERT_EQUAL(pair_close(&p), 0);
}

static bool lose_some(struct pair *p, int from, const uint8_t *frame, uint32_t len)
{
    uint32_t *seed = p->ctx;

    (void)from;
    (void)frame;
    (void)len;
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8 < (1u << 24) / 30;
}

static void survives_loss(void)
{
    for (uint32_t seed = 1; seed <= 20; seed++) {
        struct pair p;
        zest_handle c[2];
        uint32_t state = seed;

        pair_open(
            &p, &(struct zest_config){.gather = seed & 1 ? ZEST_GATHER_ALWAYS : ZEST_GATHER_NEVER});
        CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, NULL), 0);
        p.drop = lose_some;
        p.ctx = &state;
        CU_ASSERT_EQUAL(transfer(&p, c, 1u << 20, seed % 3 ? 1448 : 5000, 600000000000), 1u << 20);
        p.drop = NULL;
        zest_close(p.z[0], c[0]);
        zest_close(p.z[1], c[1]);
        pair_run(&p, 200000000000);
        struct zest_stats st;
        zest_stats(p.z[0], &st);
        CU_ASSERT_EQUAL(st.conns, 0);
        CU_ASSERT_EQUAL(pair_close(&p), 0);
    }
}

static void reader_that_stops(void)
{
    struct pair p;
    zest_handle c[2];
    struct zbuf *zb;
    uint32_t sent = 0;

    pair_open(&p, NULL);
    CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c, NULL), 0);
    for (ssize_t n = 1; n > 0;) {
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb = zbuf_alloc(p.pool, 1448));
        memset(zb->data, 7, 1448);
        n = zest_write(p.z[0], c[0], zb->data, 1448);
        sent += n > 0 ? (uint32_t)n : 0;
        zbuf_free(zb);
        pair_run(&p, 1000000);
    }
    pair_run(&p, 3600000000000); /* an hour */
    CU_ASSERT_EQUAL(info(&p, 1, c[1]).rcv_wnd, 0);
    CU_ASSERT_EQUAL(info(&p, 0, c[0]).state, ZEST_ESTABLISHED);
    uint32_t got = 0;
    struct zest_view v[16];
    for (int turns = 0; turns < 100; turns++) {
        for (int n; (n = zest_read(p.z[1], c[1], v, 16)) > 0;
             zest_release(p.z[1], c[1], v, (unsigned)n))
            for (int i = 0; i < n; i++)
                got += v[i].len;
        pair_run(&p, 100000000);
    }
    CU_ASSERT_EQUAL(got, sent);
    CU_ASSERT(p.events[0][3] >= 1); /* WRITABLE */
    CU_ASSERT_EQUAL(pair_close(&p), 0);
}

static void refuses(void)
{
    struct pair p;
    zest_handle c, c2[2];
    struct zest_addr b = pair_addr(1, 9);

    pair_open(&p, NULL);
    CU_ASSERT_EQUAL(zest_connect(p.z[0], &b, NULL, &c), 0);
    pair_run(&p, 100000000);
    CU_ASSERT_EQUAL(p.events[0][5], 1);
    CU_ASSERT_EQUAL(p.last_error[0], ECONNREFUSED);
    CU_ASSERT_EQUAL(zest_close(p.z[0], c), 0);
    zest_addr_parse(&b, "10.0.0.77", 9); /* nobody */
    CU_ASSERT_EQUAL(zest_connect(p.z[0], &b, NULL, &c), 0);
    pair_run(&p, 100000000000);
    CU_ASSERT_EQUAL(p.last_error[0], EHOSTUNREACH);
    CU_ASSERT_EQUAL(zest_close(p.z[0], c), 0);

    CU_ASSERT_EQUAL_FATAL(pair_connect(&p, c2, NULL), 0);
    static uint8_t outside[64];
    CU_ASSERT_EQUAL(zest_write(p.z[0], c2[0], outside, 64), -EFAULT);
    CU_ASSERT_EQUAL(zest_write(p.z[0], c, outside, 64), -EBADF);
    struct zbuf *zb = zbuf_alloc(p.pool, 100);
    CU_ASSERT_EQUAL(zest_write(p.z[0], c2[0], zb->data, zb->size), -EFAULT);
    CU_ASSERT_EQUAL(zest_write(p.z[0], c2[0], zb->data - 1, 1), -EFAULT);
    CU_ASSERT_EQUAL(zest_write(p.z[0], c2[0], zb->data, 10), 10);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 2);
    CU_ASSERT_EQUAL(zest_write(p.z[0], c2[0], zb->data + 10, 10), 10);
    CU_ASSERT_EQUAL(zbuf_refcount(zb), 2); /* lengthened, no new reference */
    zbuf_free(zb);
    CU_ASSERT_EQUAL(zest_abort(p.z[0], c2[0]), 0);
    pair_run(&p, 100000000);
    CU_ASSERT_EQUAL(p.last_error[1], ECONNRESET);
    CU_ASSERT_EQUAL(pair_close(&p), 0);
}

CHECK_MAIN("tcp", CHECK(opens_and_closes), CHECK(moves_bytes_without_copying),
           CHECK(moves_large_zbufs), CHECK(small_writes), CHECK(survives_loss),
           CHECK(reader_that_stops), CHECK(refuses))
