/* tcp_refuse_test.c - what calls refuse, and why: each error that stack/zest.h names, and that what
 * fails changes nothing. And segments that are not worth an answer. */
#include "peer.h"

static void stale_handles(void)
{
    struct zest_conn_info i;
    struct zest_view v;
    zest_handle h;
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    struct zbuf *zb = zbuf_alloc(p.pool, 100);
    zest_handle no[] = {0, p.conn + (1ull << 32), p.conn + 1, p.listener + 1, ~0ull};
    for (unsigned k = 0; k < 5; k++) {
        CU_ASSERT_EQUAL(zest_accept(p.z, no[k], &h, NULL), -EBADF);
        CU_ASSERT_EQUAL(zest_write(p.z, no[k], zb->data, 1), -EBADF);
        CU_ASSERT_EQUAL(zest_write_copy(p.z, no[k], "x", 1), -EBADF);
        CU_ASSERT_EQUAL(zest_read(p.z, no[k], &v, 1), -EBADF);
        CU_ASSERT_EQUAL(zest_shutdown(p.z, no[k]), -EBADF);
        CU_ASSERT_EQUAL(zest_close(p.z, no[k]), -EBADF);
        CU_ASSERT_EQUAL(zest_abort(p.z, no[k]), -EBADF);
        CU_ASSERT_EQUAL(zest_set_user(p.z, no[k], NULL), -EBADF);
        CU_ASSERT_EQUAL(zest_set_option(p.z, no[k], ZEST_OPT_NODELAY, 1), -EBADF);
        CU_ASSERT_EQUAL(zest_conn_info(p.z, no[k], &i), -EBADF);
    }
    CU_ASSERT_EQUAL(zest_accept(p.z, p.conn, &h, NULL), -EBADF); /* of another kind */
    CU_ASSERT_EQUAL(zest_abort(p.z, p.listener), -EBADF);
    CU_ASSERT_EQUAL(zest_conn_info(p.z, p.listener, &i), -EBADF);
    zbuf_free(zb);
    peer_close(&p);
}

static void impossible_arguments(void)
{
    struct zest_addr a = {.port = 81}, v6 = {.ip = {0x20, 1}, .port = 80};
    struct zest_view v;
    zest_handle h;
    struct peer p;

    peer_open(&p, &(struct zest_config){.max_listeners = 2});
    peer_establish(&p);
    CU_ASSERT_EQUAL(zest_listen(p.z, NULL, 0, &h), -EINVAL);
    CU_ASSERT_EQUAL(zest_listen(p.z, &a, 0, NULL), -EINVAL);
    CU_ASSERT_EQUAL(zest_listen(p.z, &(struct zest_addr){0}, 0, &h), -EINVAL);
    CU_ASSERT_EQUAL(zest_listen(p.z, &a, 0, &h), 0);
    a.port = 82;
    CU_ASSERT_EQUAL(zest_listen(p.z, &a, 0, &h), -ENOBUFS);
    CU_ASSERT_EQUAL(zest_accept(p.z, p.listener, NULL, NULL), -EINVAL);
    CU_ASSERT_EQUAL(zest_accept(p.z, p.listener, &h, NULL), -EAGAIN);
    CU_ASSERT_EQUAL(zest_connect(p.z, NULL, NULL, &h), -EINVAL);
    CU_ASSERT_EQUAL(zest_connect(p.z, &v6, NULL, &h), -EINVAL);
    zest_addr_parse(&a, "10.0.0.2", 0);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &h), -EINVAL);
    a.port = 1;
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, NULL), -EINVAL);
    CU_ASSERT_EQUAL(zest_read(p.z, p.conn, NULL, 1), -EINVAL);
    CU_ASSERT_EQUAL(zest_read(p.z, p.conn, &v, 0), -EINVAL);
    CU_ASSERT_EQUAL(zest_read(p.z, p.conn, &v, 1), -EAGAIN);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, &a, 1), -EFAULT);
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, NULL, 1), -EFAULT);
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, NULL, 0), 0);
    struct zbuf *zb = zbuf_alloc(p.pool, 100);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data, 0), 0);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data - 1, 1), -EFAULT);
    CU_ASSERT_EQUAL(zest_write(p.z, p.conn, zb->data, (size_t)(zbuf_end(zb) - zb->data) + 1),
                    -EFAULT);
    zbuf_free(zb);
    v = (struct zest_view){(uint8_t *)&a, 1};
    CU_ASSERT_EQUAL(zest_release(p.z, p.conn, &v, 1), -EFAULT);
    peer_close(&p);
}

static void impossible_options(void)
{
    static const struct {
        enum zest_option opt;
        uint32_t value;
    } no[] = {{ZEST_OPT_NODELAY, 2},    {ZEST_OPT_CORK, 2},           {ZEST_OPT_KEEPINTVL, 0},
              {ZEST_OPT_KEEPCNT, 0},    {ZEST_OPT_KEEPCNT, 256},      {ZEST_OPT_SND_BUF, 0},
              {ZEST_OPT_RCV_BUF, 0},    {ZEST_OPT_SND_BUF, 1u << 31}, {ZEST_OPT_RCV_BUF, 1u << 31},
              {(enum zest_option)99, 1}};
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    for (unsigned i = 0; i < sizeof no / sizeof no[0]; i++)
        CU_ASSERT_EQUAL(zest_set_option(p.z, p.conn, no[i].opt, no[i].value), -EINVAL);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_CORK, 1), -EINVAL);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_NODELAY, 1), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_KEEPALIVE, 10), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_KEEPINTVL, 1), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_KEEPCNT, 1), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_USER_TIMEOUT, 1000), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_SND_BUF, 10), 0);
    CU_ASSERT_EQUAL(zest_set_option(p.z, p.listener, ZEST_OPT_RCV_BUF, 4096), 0);
    p.port++; /* its connections begin with these */
    peer_send(&p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL(p.out[0].wnd, 4096);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    CU_ASSERT_EQUAL(peer_write(&p, 100), 10);
    peer_wait(&p, 1500 * MS);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSED);
    peer_close(&p);
}

static void no_place_left(void)
{
    struct zest_addr a, local = {.port = 5000};
    zest_handle h;
    struct peer p;

    peer_open(&p, &(struct zest_config){.max_conns = 2});
    zest_addr_parse(&a, "10.0.0.1", 80);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &h), -EADDRNOTAVAIL); /* to ourselves */
    zest_addr_parse(&a, "10.0.0.2", 80);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, &local, &h), 0);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, &local, &h), -EADDRINUSE);
    local.port++;
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, &local, &h), 0);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &h), -ENOBUFS);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 2);
    CU_ASSERT_EQUAL(zest_close(p.z, h), 0); /* nothing was sent: it is gone at once */
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &h), 0);
    peer_close(&p);
}

static void calls_in_the_wrong_state(void)
{
    struct zest_view v;
    struct zest_addr a;
    struct peer p;

    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    CU_ASSERT_EQUAL(zest_shutdown(p.z, p.conn), -ENOTCONN);
    CU_ASSERT_EQUAL(zest_read(p.z, p.conn, &v, 1), -EAGAIN);
    CU_ASSERT_EQUAL(peer_write(&p, 10), 10); /* goes when it is open */
    EXPECT_SEG(&p, 0, S, 0, 0, 0);
    peer_send(&p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_SYN_RECEIVED);
    CU_ASSERT_EQUAL(zest_shutdown(p.z, p.conn), 0); /* the FIN follows what was written */
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, "x", 1), -EPIPE);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_FIN_WAIT_1);
    EXPECT_SEG(&p, 0, F | A, 1, 1, 10);
    CU_ASSERT_EQUAL(zest_shutdown(p.z, p.conn), 0); /* again: nothing more */
    CU_ASSERT_EQUAL(peer_write(&p, 10), 0);
    peer_send(&p, A, 1, 12, NULL, 0);
    peer_send(&p, F | A, 1, 12, NULL, 0);
    peer_wait(&p, 61000 * MS);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSED);
    CU_ASSERT_EQUAL(zest_read(p.z, p.conn, &v, 1), 0);
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, "x", 1), -ENOTCONN);
    CU_ASSERT_EQUAL(zest_shutdown(p.z, p.conn), -ENOTCONN);
    CU_ASSERT_EQUAL(zest_close(p.z, p.conn), 0);
    peer_close(&p);
}

/* A segment whose header says nonsense, or that goes nowhere. */
static void nonsense(void)
{
    static uint8_t buf[WIRE_MAX];
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    struct wire w = peer_seg(&p, S, 0, 0);
    for (unsigned words = 0; words < 16; words++) {
        size_t len = wire_build_tcp(&w, buf);
        buf[14 + 20 + 12] = (uint8_t)(words << 4);
        wire_fix_checksums(buf, len);
        if (words != 5) {
            peer_frame(&p, buf, len);
            CU_ASSERT_EQUAL(p.n, 0);
        }
    }
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_short, 15);
    w.sport = 0;
    peer_deliver(&p, &w);
    w = peer_seg(&p, S, 0, 0);
    w.dport = 0;
    peer_deliver(&p, &w);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_state, 2);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0);
    peer_close(&p);
}

/* RFC 9293 3.10.7.4, fourth: a new SYN for a half-open connection that came from LISTEN. */
static void another_syn_for_a_half_open_one(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    peer_send(&p, S, 0, 0, NULL, 0);
    peer_send(&p, S, 10, 0, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 0);
    CU_ASSERT_EQUAL(peer_stats(&p).conns, 0); /* back to LISTEN */
    peer_send(&p, S, 10, 0, NULL, 0);
    CU_ASSERT_EQUAL(p.n, 1);
    peer_send(&p, A, 11, 7, NULL, 0); /* an ACK of nothing that was sent */
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].flags, R);
    peer_close(&p);
}

/* The window ends between the text and the FIN: the FIN waits for another segment. */
static void a_fin_beyond_the_window(void)
{
    uint8_t buf[4096] = {0};
    struct peer p;

    peer_open(&p, &(struct zest_config){.rcv_buf = 2048});
    peer_establish(&p);
    peer_send(&p, A, 1, 1, buf, 1048);
    peer_send(&p, F | A, 1049, 1, buf, 1000);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL(p.out[p.n - 1].ack - p.iss, 2049);
    CU_ASSERT_EQUAL(peer_read(&p, buf, sizeof buf), 2048);
    peer_flush(&p);
    peer_send(&p, F | A, 2049, 1, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_CLOSE_WAIT);
    peer_close(&p);
}

static void impossible_configurations(void)
{
    struct zest_config good = {.mac = {2, 0, 0, 0, 0, 9}};
    struct peer p;
    struct zest *z;

    peer_open(&p, NULL);
    good.pool = p.pool;
    zest_addr_parse(&good.ip, "10.0.0.9", 0);
    CU_ASSERT(zest_size(&good) > 0);
    CU_ASSERT_EQUAL(zest_size(NULL), 0);
#define WITHOUT(change)                                                                            \
    do {                                                                                           \
        struct zest_config bad = good;                                                             \
        bad.change;                                                                                \
        CU_ASSERT_EQUAL(zest_size(&bad), 0);                                                       \
        CU_ASSERT_EQUAL(zest_init(p.mem, &bad, &z), -EINVAL);                                      \
    } while (0)
    WITHOUT(pool = NULL);
    WITHOUT(ip.ip[0] = 0xfe);
    WITHOUT(ip.ip[15] = bad.ip.ip[12] = bad.ip.ip[13] = bad.ip.ip[14] = 0);
    WITHOUT(prefix_len = 33);
    WITHOUT(mac[0] = 1);
    WITHOUT(mac[0] = bad.mac[5] = 0);
    WITHOUT(gateway.ip[0] = 0xfe);
    WITHOUT(gather_max = 1);
    WITHOUT(gather_max = ZEST_FRAME_SEGS + 1);
    WITHOUT(mtu = 575);
    WITHOUT(max_conns = (1u << 24) + 1);
    WITHOUT(max_listeners = (1u << 16) + 1);
    WITHOUT(max_pbufs = 1);
    WITHOUT(snd_buf = (1u << 30) + 1);
    WITHOUT(rcv_buf = (1u << 30) + 1);
    WITHOUT(rx_hold_max = 1000);
    CU_ASSERT_EQUAL(zest_init(NULL, &good, &z), -EINVAL);
    CU_ASSERT_EQUAL(zest_init(p.mem, NULL, &z), -EINVAL);
    CU_ASSERT_EQUAL(zest_init(p.mem, &good, NULL), -EINVAL);
    CU_ASSERT_EQUAL(zest_init((char *)p.mem + 8, &good, &z), -EINVAL);
    zest_fini(p.z);
    good.ctrl_reserve = 1ull << 30; /* more than the pool has */
    CU_ASSERT_EQUAL(zest_init(p.mem, &good, &z), -ENOBUFS);
    good.ctrl_reserve = 0;
    CU_ASSERT_EQUAL(zest_init(p.mem, &good, &p.z), 0);
    peer_close(&p);
}

static void names_of_states(void)
{
    CU_ASSERT_STRING_EQUAL(zest_tcp_state_name(ZEST_CLOSED), "CLOSED");
    CU_ASSERT_STRING_EQUAL(zest_tcp_state_name(ZEST_TIME_WAIT), "TIME-WAIT");
    CU_ASSERT_STRING_EQUAL(zest_tcp_state_name((enum zest_tcp_state)11), "?");
}

CHECK_MAIN("tcp refusals", CHECK(stale_handles), CHECK(impossible_arguments),
           CHECK(impossible_options), CHECK(no_place_left), CHECK(calls_in_the_wrong_state),
           CHECK(nonsense), CHECK(another_syn_for_a_half_open_one), CHECK(a_fin_beyond_the_window),
           CHECK(impossible_configurations), CHECK(names_of_states))
