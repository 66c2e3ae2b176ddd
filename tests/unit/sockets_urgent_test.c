/* sockets_urgent_test.c - MSG_OOB and what belongs to it, call by call. sockets_netif_test.c
 * compares with Linux itself; this runs anywhere, and says what is meant. */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "sockets_net.h"

static struct net n;
static int c[2];
static char buf[65536];

/* Both by side 1. */
static int get(unsigned long request)
{
    int v = -1;
    CU_ASSERT_EQUAL(sockets_ioctl(n.s[1], c[1], request, &v), 0);
    return v;
}
static ssize_t take(size_t len, int flags)
{
    memset(buf, 0, sizeof buf);
    return sockets_recv(n.s[1], c[1], buf, len, flags | MSG_DONTWAIT);
}
static int ready(void)
{
    return net_poll(&n, 1, c[1], POLLIN | POLLPRI, 0);
}
/* Side 0 sends; it arrives. */
static void put(const char *text, int flags)
{
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], text, strlen(text), flags), (ssize_t)strlen(text));
    net_run(&n, NET_S / 10);
}
static void begin(void)
{
    net_open(&n, false, NULL);
    net_pair(&n, c);
    net_set(&n, 0, c[0], IPPROTO_TCP, TCP_NODELAY, 1);
}

static void one_byte_is_apart(void)
{
    begin();
    put("normal", 0);
    CU_ASSERT_EQUAL(ready(), POLLIN);
    CU_ASSERT_EQUAL(take(9, MSG_OOB), -EINVAL);
    put("abU", MSG_OOB);
    put("xyz", 0);
    CU_ASSERT_EQUAL(ready(), POLLIN | POLLPRI);
    CU_ASSERT_EQUAL(get(FIONREAD), 8);
    CU_ASSERT_EQUAL(get(SIOCATMARK), 0);
    CU_ASSERT_EQUAL(take(9, MSG_OOB | MSG_PEEK), 1);
    CU_ASSERT_EQUAL(buf[0], 'U');
    CU_ASSERT_EQUAL(take(9, MSG_OOB), 1);
    CU_ASSERT_EQUAL(buf[0], 'U');
    CU_ASSERT_EQUAL(take(9, MSG_OOB), -EINVAL); /* once */
    CU_ASSERT_EQUAL(ready(), POLLIN);
    CU_ASSERT_EQUAL(take(99, MSG_WAITALL), 8); /* to the mark, no further */
    CU_ASSERT_NSTRING_EQUAL(buf, "normalab", 8);
    CU_ASSERT_EQUAL(get(SIOCATMARK), 1);
    CU_ASSERT_EQUAL(get(FIONREAD), 0);
    CU_ASSERT_EQUAL(take(99, MSG_PEEK), 3);
    CU_ASSERT_NSTRING_EQUAL(buf, "xyz", 3);
    CU_ASSERT_EQUAL(get(SIOCATMARK), 1);
    CU_ASSERT_EQUAL(take(99, 0), 3);
    CU_ASSERT_NSTRING_EQUAL(buf, "xyz", 3);
    CU_ASSERT_EQUAL(get(SIOCATMARK), 0);
    CU_ASSERT_EQUAL(ready(), 0);
    net_close(&n);
}

static void in_line(void)
{
    begin();
    CU_ASSERT_EQUAL(net_get(&n, 1, c[1], SOL_SOCKET, SO_OOBINLINE), 0);
    CU_ASSERT_EQUAL(net_set(&n, 1, c[1], SOL_SOCKET, SO_OOBINLINE, 7), 0);
    CU_ASSERT_EQUAL(net_get(&n, 1, c[1], SOL_SOCKET, SO_OOBINLINE), 1);
    put("abU", MSG_OOB);
    put("xyz", 0);
    CU_ASSERT_EQUAL(ready(), POLLIN | POLLPRI);
    CU_ASSERT_EQUAL(get(FIONREAD), 6);
    CU_ASSERT_EQUAL(take(9, MSG_OOB), -EINVAL);
    CU_ASSERT_EQUAL(take(99, 0), 2);
    CU_ASSERT_EQUAL(get(SIOCATMARK), 1);
    CU_ASSERT_EQUAL(take(99, 0), 4);
    CU_ASSERT_NSTRING_EQUAL(buf, "Uxyz", 4);
    CU_ASSERT_EQUAL(ready(), 0);
    net_close(&n);
}

static void a_mark_that_moves_on(void)
{
    begin();
    put("aU", MSG_OOB);
    put("bV", MSG_OOB); /* the first is an ordinary byte again */
    CU_ASSERT_EQUAL(take(9, MSG_OOB), 1);
    CU_ASSERT_EQUAL(buf[0], 'V');
    CU_ASSERT_EQUAL(take(99, 0), 3);
    CU_ASSERT_NSTRING_EQUAL(buf, "aUb", 3);
    CU_ASSERT_EQUAL(get(SIOCATMARK), 1);
    put("W", MSG_OOB); /* the program was just there: V is gone */
    CU_ASSERT_EQUAL(get(SIOCATMARK), 1);
    CU_ASSERT_EQUAL(ready(), POLLPRI); /* nothing but the urgent byte */
    CU_ASSERT_EQUAL(take(9, MSG_OOB), 1);
    CU_ASSERT_EQUAL(buf[0], 'W');
    CU_ASSERT_EQUAL(take(9, 0), -EAGAIN);
    net_close(&n);
}

/* Heard of, and not here yet: the window is closed. */
static void under_way(void)
{
    struct msghdr msg = {.msg_flags = -1};

    begin();
    net_set(&n, 1, c[1], SOL_SOCKET, SO_RCVBUF, 4096);
    CU_ASSERT_EQUAL(net_set(&n, 0, c[0], SOL_SOCKET, SO_SNDBUF, 1 << 20), 0);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], buf, sizeof buf, MSG_DONTWAIT), (ssize_t)sizeof buf);
    net_run(&n, 10 * NET_S);
    while (take(2000, 0) > 0 && n.now_ns < 1000 * NET_S)
        net_run(&n, NET_S / 10);
    net_run(&n, 10 * NET_S);
    for (int i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], buf, 1000, MSG_DONTWAIT), 1000);
    net_run(&n, 10 * NET_S);
    put("U", MSG_OOB);
    CU_ASSERT_EQUAL(ready(), POLLIN); /* told of, but POLLPRI is for what can be fetched */
    CU_ASSERT_EQUAL(take(9, MSG_OOB), -EAGAIN);
    for (size_t got = 0; got < 100000 && n.now_ns < 3000 * NET_S;) {
        ssize_t k = take(sizeof buf, 0);
        got += k > 0 ? (size_t)k : 0;
        net_run(&n, NET_S);
    }
    CU_ASSERT_EQUAL(get(SIOCATMARK), 1);
    CU_ASSERT_EQUAL(ready(), POLLPRI);
    CU_ASSERT_EQUAL(sockets_recvmsg(n.s[1], c[1], &msg, MSG_OOB), 0); /* no place for it */
    CU_ASSERT_EQUAL(msg.msg_flags, MSG_OOB | MSG_TRUNC);
    net_close(&n);
}

/* Far behind many segments; a lot is lent to reach it. */
static void far_behind(void)
{
    begin();
    for (int i = 0; i < 40; i++) {
        memset(buf, 'a' + i % 26, 1000);
        buf[1000] = 0;
        put(buf, 0);
    }
    put("U", MSG_OOB);
    CU_ASSERT_EQUAL(take(9, MSG_OOB), 1);
    CU_ASSERT_EQUAL(buf[0], 'U');
    CU_ASSERT_EQUAL(take(sizeof buf, MSG_PEEK), 40000);
    for (int i = 0; i < 40; i++) {
        CU_ASSERT_EQUAL(take(1000, 0), 1000);
        CU_ASSERT_EQUAL(buf[0], 'a' + i % 26);
        CU_ASSERT_EQUAL(buf[999], 'a' + i % 26);
        if (i == 20) /* room is made where some have gone */
            put("more", 0);
    }
    CU_ASSERT_EQUAL(get(SIOCATMARK), 1);
    CU_ASSERT_EQUAL(take(9, 0), 4);
    net_close(&n);
}

static volatile sig_atomic_t signals;
static void on_urgent(int sig)
{
    signals += sig == SIGURG;
}

static void the_owner_is_signalled(void)
{
    struct sigaction sa = {.sa_handler = on_urgent};

    begin();
    sigaction(SIGURG, &sa, NULL);
    put("U", MSG_OOB);
    CU_ASSERT_EQUAL(signals, 0); /* nobody has asked for it */
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], c[1], F_GETOWN, 0), 0);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], c[1], F_SETOWN, -1), -EINVAL);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], c[1], F_SETOWN, getpid()), 0);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], c[1], F_GETOWN, 0), getpid());
    put("V", MSG_OOB);
    CU_ASSERT_EQUAL(signals, 1);
    put("x", 0);
    CU_ASSERT_EQUAL(signals, 1);
    net_close(&n);
}

static void at_the_end(void)
{
    int v;

    begin();
    put("aU", MSG_OOB);
    CU_ASSERT_EQUAL(take(9, 0), 1);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[0], c[0], SHUT_WR), 0);
    net_run(&n, NET_S / 10);
    CU_ASSERT_EQUAL(take(9, 0), 0); /* the byte that is left out was the last */
    CU_ASSERT_EQUAL(take(9, MSG_OOB), -EINVAL);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "x", 1, MSG_OOB | MSG_NOSIGNAL), -EPIPE);
    int l = net_listen(&n, 81, 0);
    CU_ASSERT_EQUAL(sockets_ioctl(n.s[1], l, SIOCATMARK, &v), -EINVAL);
    CU_ASSERT_EQUAL(sockets_ioctl(n.s[1], c[1], SIOCATMARK, NULL), -EFAULT);
    net_close(&n);
}

CHECK_MAIN("sockets_urgent", CHECK(one_byte_is_apart), CHECK(in_line), CHECK(a_mark_that_moves_on),
           CHECK(under_way), CHECK(far_behind), CHECK(the_owner_is_signalled), CHECK(at_the_end))
