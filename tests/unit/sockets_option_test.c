/* sockets_option_test.c - options: what is said is heard, before and after there is a connection,
 * and what it does on the wire; time-outs; TCP_INFO. */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/time.h>

#include "sockets_net.h"

static struct net n;

#define SET(fd, level, name, v) net_set(&n, 0, fd, level, name, v)
#define GET(fd, level, name)    net_get(&n, 0, fd, level, name)

static void what_is_said_is_heard(void)
{
    static const struct {
        int level, name, dflt, value, bad, shown;
    } o[] = {
        {SOL_SOCKET, SO_REUSEADDR, 0, 1, 0, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 0, 1, 0, 1},
        {SOL_SOCKET, SO_SNDBUF, 2 << 20, 10000, 0, 20000},
        {SOL_SOCKET, SO_RCVBUF, 2 << 20, 10000, 0, 20000},
        {IPPROTO_TCP, TCP_NODELAY, 0, 1, 0, 1},
        {IPPROTO_TCP, TCP_CORK, 0, 1, 0, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 7200, 10, 40000, 10},
        {IPPROTO_TCP, TCP_KEEPINTVL, 75, 5, -1, 5},
        {IPPROTO_TCP, TCP_KEEPCNT, 9, 3, 128, 3},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, 0, 5000, -1, 5000},
    };
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    int fresh = net_socket(&n, 0, 0);
    for (size_t i = 0; i < sizeof o / sizeof o[0]; i++)
        for (int k = 0; k < 2; k++) {
            int fd = k ? c[0] : fresh;
            CU_ASSERT_EQUAL(GET(fd, o[i].level, o[i].name), o[i].dflt);
            CU_ASSERT_EQUAL(SET(fd, o[i].level, o[i].name, o[i].value), 0);
            if (o[i].bad)
                CU_ASSERT_EQUAL(SET(fd, o[i].level, o[i].name, o[i].bad), -EINVAL);
            CU_ASSERT_EQUAL(GET(fd, o[i].level, o[i].name), o[i].shown);
        }
    CU_ASSERT_EQUAL(SET(fresh, SOL_SOCKET, SO_SNDBUF, 1), 0);
    CU_ASSERT_EQUAL(GET(fresh, SOL_SOCKET, SO_SNDBUF), 4608);
    CU_ASSERT_EQUAL(GET(fresh, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    CU_ASSERT_EQUAL(GET(fresh, SOL_SOCKET, SO_DOMAIN), AF_INET);
    CU_ASSERT_EQUAL(GET(fresh, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    CU_ASSERT_EQUAL(GET(fresh, SOL_SOCKET, SO_ACCEPTCONN), 0);
    CU_ASSERT_EQUAL(GET(fresh, IPPROTO_TCP, TCP_MAXSEG), 536);
    CU_ASSERT_EQUAL(GET(c[0], IPPROTO_TCP, TCP_MAXSEG), 1448); /* timestamps allowed for */
    CU_ASSERT_EQUAL(SET(fresh, IPPROTO_TCP, 9999, 1), -ENOPROTOOPT);
    CU_ASSERT_EQUAL(SET(fresh, 9999, 1, 1), -ENOPROTOOPT);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[0], fresh, SOL_SOCKET, SO_KEEPALIVE, "", 1), -EINVAL);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[0], fresh, SOL_SOCKET, SO_KEEPALIVE, NULL, 4), -EFAULT);
    net_close(&n);
}

/* Set before connect(), on a listener, or later: the stack knows. */
static void keepalive(void)
{
    char buf[4];
    int c[2];

    for (int how = 0; how < 3; how++) {
        net_open(&n, false, NULL);
        int l = net_listen(&n, 80, 0);
        c[0] = net_socket(&n, 0, 0);
        int side = how == 1;
        int before = how == 1 ? l : c[0];
        if (how == 2)
            CU_ASSERT_EQUAL(net_connect(&n, 0, c[0], 80), 0);
        net_set(&n, side, before, IPPROTO_TCP, TCP_KEEPIDLE, 10);
        net_set(&n, side, before, IPPROTO_TCP, TCP_KEEPINTVL, 2);
        net_set(&n, side, before, IPPROTO_TCP, TCP_KEEPCNT, 3);
        net_set(&n, side, before, SOL_SOCKET, SO_KEEPALIVE, 1);
        if (how != 2)
            CU_ASSERT_EQUAL(net_connect(&n, 0, c[0], 80), 0);
        c[1] = sockets_accept(n.s[1], l, NULL, NULL, 0);
        n.cut = true;
        uint64_t before_ns = n.now_ns;
        CU_ASSERT_EQUAL(sockets_recv(n.s[side], c[side], buf, 4, 0), -ETIMEDOUT);
        uint64_t took_ms = (n.now_ns - before_ns) / 1000000;
        CU_ASSERT_TRUE(took_ms >= 15900 && took_ms <= 16000); /* 10 and three times 2 */
        net_close(&n);
    }
}

static void user_timeout(void)
{
    char buf[4];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(SET(c[0], IPPROTO_TCP, TCP_USER_TIMEOUT, 3000), 0);
    n.cut = true;
    uint64_t before_ns = n.now_ns;
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "x", 1, 0), 1);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 4, 0), -ETIMEDOUT);
    CU_ASSERT_TRUE(n.now_ns - before_ns >= 3 * NET_S && n.now_ns - before_ns < 6 * NET_S);
    net_close(&n);
}

static void time_outs(void)
{
    struct timeval tv = {.tv_sec = 2, .tv_usec = 500000}, got;
    struct timeval bad = {.tv_usec = 1000000};
    static char big[4 << 20];
    socklen_t len = sizeof got;
    char buf[4];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    int l = net_listen(&n, 81, 0);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[0], c[0], SOL_SOCKET, SO_RCVTIMEO, &bad, sizeof bad),
                    -EDOM);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[0], c[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[0], c[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv), 0);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[1], l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
    CU_ASSERT_EQUAL(sockets_getsockopt(n.s[0], c[0], SOL_SOCKET, SO_RCVTIMEO, &got, &len), 0);
    CU_ASSERT_EQUAL(got.tv_usec, 500000);
    uint64_t before_ns = n.now_ns;
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 4, 0), -EAGAIN);
    CU_ASSERT_EQUAL(n.now_ns - before_ns, 2500000000);
    before_ns = n.now_ns;
    CU_ASSERT_EQUAL(sockets_accept(n.s[1], l, NULL, NULL, 0), -EAGAIN);
    CU_ASSERT_EQUAL(n.now_ns - before_ns, 2500000000);
    before_ns = n.now_ns;
    CU_ASSERT_EQUAL(net_poll(&n, 0, c[0], POLLIN, 1500), 0);
    CU_ASSERT_EQUAL(n.now_ns - before_ns, 1500000000);
    before_ns = n.now_ns;
    ssize_t k = sockets_send(n.s[0], c[0], big, sizeof big, 0);
    CU_ASSERT_TRUE(k > 0 && (size_t)k < sizeof big); /* what went before time was over */
    CU_ASSERT_EQUAL(n.now_ns - before_ns, 2500000000);
    n.cut = true;
    int d = net_socket(&n, 0, 0);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[0], d, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv), 0);
    CU_ASSERT_EQUAL(net_connect(&n, 0, d, 80), -EINPROGRESS);
    net_close(&n);
}

static uint64_t frames_for(int c, int flags)
{
    struct zest_stats before, after;
    struct zest *z = sockets_lock(n.s[0]);

    zest_stats(z, &before);
    sockets_unlock(n.s[0]);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c, "0123456789", 10, flags), 10);
    net_run(&n, 10000000);
    sockets_lock(n.s[0]);
    zest_stats(z, &after);
    sockets_unlock(n.s[0]);
    return after.tcp_tx_segs - before.tcp_tx_segs;
}

static void corks(void)
{
    char buf[64];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    net_run(&n, NET_S);
    CU_ASSERT_EQUAL(frames_for(c[0], 0), 1);
    CU_ASSERT_EQUAL(frames_for(c[0], MSG_MORE), 0);
    CU_ASSERT_EQUAL(frames_for(c[0], 0), 1);
    CU_ASSERT_EQUAL(SET(c[0], IPPROTO_TCP, TCP_CORK, 1), 0);
    CU_ASSERT_EQUAL(frames_for(c[0], 0), 0);
    CU_ASSERT_EQUAL(SET(c[0], IPPROTO_TCP, TCP_CORK, 0), 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 40, MSG_WAITALL), 40);
    net_close(&n);
}

static void info(void)
{
    struct tcp_info t;
    socklen_t len = sizeof t;
    char buf[8];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "hello", 5, 0), 5);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 8, 0), 5);
    net_run(&n, NET_S);
    memset(&t, 0xff, sizeof t);
    CU_ASSERT_EQUAL(sockets_getsockopt(n.s[0], c[0], IPPROTO_TCP, TCP_INFO, &t, &len), 0);
    CU_ASSERT_EQUAL(len, sizeof t);
    CU_ASSERT_EQUAL(t.tcpi_state, 1);
    CU_ASSERT_EQUAL(t.tcpi_snd_mss, 1448);
    CU_ASSERT_EQUAL(t.tcpi_unacked, 0);
    CU_ASSERT_TRUE(t.tcpi_rtt >= 2000 && t.tcpi_rtt < 60000);
    CU_ASSERT_EQUAL(t.tcpi_bytes_acked, 6); /* the SYN counts, as on Linux */
    CU_ASSERT_TRUE(t.tcpi_snd_cwnd >= 2 && t.tcpi_snd_cwnd <= 20);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[0], c[0], SHUT_WR), 0);
    net_run(&n, NET_S);
    len = 1; /* as much as there is room for */
    memset(&t, 0xff, sizeof t);
    CU_ASSERT_EQUAL(sockets_getsockopt(n.s[0], c[0], IPPROTO_TCP, TCP_INFO, &t, &len), 0);
    CU_ASSERT_EQUAL(len, 1);
    CU_ASSERT_EQUAL(t.tcpi_state, 5);
    CU_ASSERT_EQUAL(t.tcpi_ca_state, 0xff);
    net_close(&n);
}

CHECK_MAIN("sockets_option", CHECK(what_is_said_is_heard), CHECK(keepalive), CHECK(user_timeout),
           CHECK(time_outs), CHECK(corks), CHECK(info))
