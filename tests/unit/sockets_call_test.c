/* sockets_call_test.c - the life of sockets by their calls: opening, talking, ending, and what
 * goes wrong on the way, with Linux's answers. */
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "sockets_net.h"

static struct net n;

static void talk_and_close(void)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    char buf[16];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(sockets_getpeername(n.s[0], c[0], (struct sockaddr *)&a, &len), 0);
    CU_ASSERT_EQUAL(ntohl(a.sin_addr.s_addr), 0x0a000002);
    CU_ASSERT_EQUAL(ntohs(a.sin_port), 80);
    CU_ASSERT_EQUAL(sockets_getsockname(n.s[1], c[1], (struct sockaddr *)&a, &len), 0);
    CU_ASSERT_EQUAL(ntohl(a.sin_addr.s_addr), 0x0a000002);
    CU_ASSERT_EQUAL(ntohs(a.sin_port), 80);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "hello", 5, 0), 5);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 2, 0), 2);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf + 2, 14, 0), 3);
    CU_ASSERT_NSTRING_EQUAL(buf, "hello", 5);
    CU_ASSERT_EQUAL(sockets_send(n.s[1], c[1], "world", 5, 0), 5);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), 5);
    CU_ASSERT_NSTRING_EQUAL(buf, "world", 5);
    CU_ASSERT_EQUAL(sockets_close(n.s[1], c[1]), 0);
    CU_ASSERT_EQUAL(sockets_close(n.s[1], c[1]), -EBADF);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), 0);
    CU_ASSERT_EQUAL(sockets_close(n.s[0], c[0]), 0);
    net_close(&n);
}

static void half_close(void)
{
    char buf[16];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[0], c[0], 7), -EINVAL);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[0], c[0], SHUT_WR), 0);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "x", 1, MSG_NOSIGNAL), -EPIPE);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 16, 0), 0);
    CU_ASSERT_EQUAL(net_poll(&n, 1, c[1], POLLIN | POLLRDHUP | POLLOUT, 0),
                    POLLIN | POLLRDHUP | POLLOUT);
    CU_ASSERT_EQUAL(sockets_send(n.s[1], c[1], "still", 5, 0), 5);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), 5);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[0], c[0], SHUT_RD), 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), 0);
    net_close(&n);
}

static void connect_without_blocking(void)
{
    char buf[4];

    net_open(&n, false, NULL);
    int l = net_listen(&n, 80, SOCK_NONBLOCK), c = net_socket(&n, 0, SOCK_NONBLOCK);
    CU_ASSERT_EQUAL(sockets_accept(n.s[1], l, NULL, NULL, 0), -EAGAIN);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 80), -EINPROGRESS);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 80), -EALREADY);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c, "x", 1, 0), -EAGAIN);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c, buf, 4, 0), -EAGAIN);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c, POLLIN | POLLOUT, 0), 0);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c, POLLIN | POLLOUT, -1), POLLOUT);
    CU_ASSERT_EQUAL(net_get(&n, 0, c, SOL_SOCKET, SO_ERROR), 0);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 80), 0);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 80), -EISCONN);
    CU_ASSERT_EQUAL(net_poll(&n, 1, l, POLLIN, -1), POLLIN);
    int d = sockets_accept(n.s[1], l, NULL, NULL, SOCK_NONBLOCK);
    CU_ASSERT_TRUE(d >= 0);
    CU_ASSERT_EQUAL(net_poll(&n, 1, l, POLLIN, 0), 0);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], d, F_GETFL, 0), O_RDWR | O_NONBLOCK);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], d, buf, 4, 0), -EAGAIN);
    net_close(&n);
}

static void refused(void)
{
    char buf[4];

    net_open(&n, false, NULL);
    int c = net_socket(&n, 0, 0);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 81), -ECONNREFUSED);
    CU_ASSERT_EQUAL(net_get(&n, 0, c, SOL_SOCKET, SO_ERROR), 0); /* told already */
    net_listen(&n, 80, 0);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 80), 0); /* and it may try again */
    c = net_socket(&n, 0, SOCK_NONBLOCK);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 81), -EINPROGRESS);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c, POLLOUT, -1), POLLOUT | POLLERR | POLLHUP);
    CU_ASSERT_EQUAL(net_get(&n, 0, c, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    CU_ASSERT_EQUAL(net_get(&n, 0, c, SOL_SOCKET, SO_ERROR), 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c, buf, 4, 0), 0);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c, buf, 4, 0), -EPIPE);
    net_close(&n);
}

static void not_connected(void)
{
    struct sockaddr_in a = net_addr(0, 0);
    socklen_t len = sizeof a;
    char buf[4];

    net_open(&n, false, NULL);
    int c = net_socket(&n, 1, 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c, buf, 4, 0), -ENOTCONN);
    CU_ASSERT_EQUAL(sockets_send(n.s[1], c, buf, 4, 0), -EPIPE);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[1], c, SHUT_WR), -ENOTCONN);
    CU_ASSERT_EQUAL(sockets_getpeername(n.s[1], c, (struct sockaddr *)&a, &len), -ENOTCONN);
    CU_ASSERT_EQUAL(sockets_accept(n.s[1], c, NULL, NULL, 0), -EINVAL);
    CU_ASSERT_EQUAL(net_poll(&n, 1, c, POLLIN | POLLOUT, 0), POLLOUT | POLLHUP);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], 99, buf, 4, 0), -EBADF);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], -1, buf, 4, 0), -EBADF);
    int l = net_listen(&n, 80, 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], l, buf, 4, 0), -ENOTCONN);
    CU_ASSERT_EQUAL(net_connect(&n, 1, l, 80), -EISCONN);
    CU_ASSERT_EQUAL(sockets_socket(n.s[1], AF_UNIX, SOCK_STREAM, 0), -EAFNOSUPPORT);
    CU_ASSERT_EQUAL(sockets_socket(n.s[1], AF_INET, SOCK_DGRAM, 0), -ESOCKTNOSUPPORT);
    CU_ASSERT_EQUAL(sockets_socket(n.s[1], AF_INET, SOCK_STREAM, 17), -EPROTONOSUPPORT);
    net_close(&n);
}

static void names(void)
{
    struct sockaddr_in a = net_addr(0, 90); /* the other side's */
    struct sockaddr_in6 b = {.sin6_family = AF_INET6, .sin6_port = htons(91)};
    socklen_t len = sizeof b;

    net_open(&n, false, NULL);
    int c = net_socket(&n, 1, 0), d = net_socket(&n, 1, 0);
    CU_ASSERT_EQUAL(sockets_bind(n.s[1], c, (struct sockaddr *)&a, sizeof a), -EADDRNOTAVAIL);
    CU_ASSERT_EQUAL(sockets_bind(n.s[1], c, (struct sockaddr *)&a, 4), -EINVAL);
    CU_ASSERT_EQUAL(sockets_bind(n.s[1], c, (struct sockaddr *)&b, sizeof b), -EAFNOSUPPORT);
    CU_ASSERT_EQUAL(net_bind(&n, 1, c, 90), 0);
    CU_ASSERT_EQUAL(net_bind(&n, 1, c, 91), -EINVAL);
    CU_ASSERT_EQUAL(net_bind(&n, 1, d, 90), -EADDRINUSE);
    CU_ASSERT_EQUAL(net_set(&n, 1, c, SOL_SOCKET, SO_REUSEADDR, 1), 0);
    CU_ASSERT_EQUAL(net_bind(&n, 1, d, 90), -EADDRINUSE); /* both have to say so */
    CU_ASSERT_EQUAL(net_set(&n, 1, d, SOL_SOCKET, SO_REUSEADDR, 1), 0);
    CU_ASSERT_EQUAL(net_bind(&n, 1, d, 90), 0);
    CU_ASSERT_EQUAL(sockets_listen(n.s[1], c, 1), 0);
    CU_ASSERT_EQUAL(sockets_listen(n.s[1], d, 1), -EADDRINUSE);
    int e = sockets_socket(n.s[1], AF_INET6, SOCK_STREAM, 0);
    CU_ASSERT_EQUAL(sockets_bind(n.s[1], e, (struct sockaddr *)&b, sizeof b), 0);
    CU_ASSERT_EQUAL(sockets_listen(n.s[1], e, 1), 0);
    int f = net_socket(&n, 0, 0);
    CU_ASSERT_EQUAL(net_connect(&n, 0, f, 91), 0);
    f = sockets_accept(n.s[1], e, (struct sockaddr *)&b, &len, 0);
    CU_ASSERT_TRUE(f >= 0);
    CU_ASSERT_EQUAL(len, sizeof b);
    CU_ASSERT_TRUE(IN6_IS_ADDR_V4MAPPED(&b.sin6_addr));
    f = net_socket(&n, 1, 0);
    CU_ASSERT_EQUAL(sockets_listen(n.s[1], f, 1), 0); /* picks a port */
    len = sizeof a;
    CU_ASSERT_EQUAL(sockets_getsockname(n.s[1], f, (struct sockaddr *)&a, &len), 0);
    CU_ASSERT_TRUE(ntohs(a.sin_port) >= 32768);
    net_close(&n);
}

static void reset_is_told_once(void)
{
    struct linger hard = {1, 0};
    char buf[16];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(sockets_send(n.s[1], c[1], "last", 4, 0), 4);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 1, 0), 1);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[1], c[1], SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    CU_ASSERT_EQUAL(sockets_close(n.s[1], c[1]), 0);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c[0], POLLRDHUP, -1), POLLRDHUP | POLLERR | POLLHUP);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), 3); /* what it had begun to read */
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), -ECONNRESET);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), 0);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], buf, 16, 0), -EPIPE);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[0], c[0], SHUT_WR), -ENOTCONN);
    net_close(&n);
}

/* RFC 1122 4.2.2.13, also for bytes of which the program has read a part. */
static void closing_with_bytes_unread_resets(void)
{
    char buf[16];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "hello", 5, 0), 5);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 2, 0), 2);
    CU_ASSERT_EQUAL(sockets_close(n.s[1], c[1]), 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[0], c[0], buf, 16, 0), -ECONNRESET);
    net_close(&n);
}

static void lingering_close(void)
{
    struct linger l = {1, 5};
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[0], c[0], SOL_SOCKET, SO_LINGER, &l, sizeof l), 0);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "hello", 5, 0), 5);
    uint64_t before_ns = n.now_ns;
    CU_ASSERT_EQUAL(sockets_close(n.s[0], c[0]), 0);
    CU_ASSERT_EQUAL(n.now_ns - before_ns, 2 * NET_DELAY_NS); /* there and back */
    CU_ASSERT_EQUAL(net_poll(&n, 1, c[1], POLLRDHUP, 0), POLLRDHUP);
    net_close(&n);

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(sockets_setsockopt(n.s[0], c[0], SOL_SOCKET, SO_LINGER, &l, sizeof l), 0);
    n.cut = true;
    before_ns = n.now_ns;
    CU_ASSERT_EQUAL(sockets_close(n.s[0], c[0]), 0);
    CU_ASSERT_EQUAL(n.now_ns - before_ns, 5 * NET_S);
    net_close(&n);
}

static void ways_to_read(void)
{
    char a[4], b[4], buf[16];
    struct iovec in[3] = {{a, 3}, {NULL, 0}, {b, 4}};
    struct iovec out[2] = {{(void *)(uintptr_t) "abc", 3}, {(void *)(uintptr_t) "defgh", 5}};
    int c[2], count;

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(sockets_writev(n.s[0], c[0], out, 2), 8);
    CU_ASSERT_EQUAL(sockets_ioctl(n.s[0], c[0], SIOCOUTQ, &count), 0);
    CU_ASSERT_EQUAL(count, 8);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 3, MSG_PEEK), 3);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 1, 0), 1);
    CU_ASSERT_EQUAL(net_poll(&n, 1, c[1], POLLIN, 500), POLLIN);
    net_run(&n, NET_S);
    CU_ASSERT_EQUAL(sockets_ioctl(n.s[0], c[0], SIOCOUTQ, &count), 0);
    CU_ASSERT_EQUAL(count, 0);
    CU_ASSERT_EQUAL(sockets_ioctl(n.s[1], c[1], FIONREAD, &count), 0);
    CU_ASSERT_EQUAL(count, 7);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 16, MSG_PEEK), 7);
    CU_ASSERT_NSTRING_EQUAL(buf, "bcdefgh", 7);
    CU_ASSERT_EQUAL(sockets_readv(n.s[1], c[1], in, 3), 7);
    CU_ASSERT_NSTRING_EQUAL(a, "bcd", 3);
    CU_ASSERT_NSTRING_EQUAL(b, "efgh", 4);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 16, MSG_DONTWAIT), -EAGAIN);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 0, 0), 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 1, MSG_OOB), -EINVAL);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], NULL, 1, 0), -EFAULT);
    CU_ASSERT_EQUAL(sockets_readv(n.s[1], c[1], in, -1), -EINVAL);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 16, 0), -EDEADLK); /* it does wait */
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "1234", 4, 0), 4);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[0], c[0], SHUT_WR), 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 16, MSG_WAITALL), 4); /* up to the end */
    net_close(&n);
}

static void full_and_room_again(void)
{
    static char big[300000];
    size_t sent = 0;
    ssize_t k;
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    CU_ASSERT_EQUAL(net_set(&n, 0, c[0], SOL_SOCKET, SO_SNDBUF, 20000), 0);
    CU_ASSERT_EQUAL(net_set(&n, 1, c[1], SOL_SOCKET, SO_RCVBUF, 20000), 0);
    while ((k = sockets_send(n.s[0], c[0], big, sizeof big, MSG_DONTWAIT)) > 0) {
        CU_ASSERT_TRUE((size_t)k < sizeof big); /* never all at once */
        sent += (size_t)k;
        if (sent > 10u << 20)
            break;
        net_run(&n, NET_S);
    }
    CU_ASSERT_EQUAL(k, -EAGAIN);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c[0], POLLOUT, 0), 0);
    while (sent > 0 && (k = sockets_recv(n.s[1], c[1], big, sizeof big, 0)) > 0)
        sent -= (size_t)k;
    CU_ASSERT_EQUAL(sent, 0);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c[0], POLLOUT, 1000), POLLOUT);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], big, 1, MSG_DONTWAIT), 1);
    net_close(&n);
}

/* A write that finds no memory waits for it, and does not fail. */
static void no_memory(void)
{
    static struct zbuf *all[70000];
    unsigned k = 0;
    char buf[64];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    for (size_t bytes = 100000; bytes >= 500; bytes /= 2)
        while (k < 70000 && (all[k] = zbuf_alloc(n.pool, bytes)))
            k++;
    CU_ASSERT_TRUE_FATAL(k < 70000);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "x", 1, MSG_DONTWAIT), -EAGAIN);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c[0], POLLOUT, 0), 0);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c[0], POLLOUT, 1000), POLLOUT); /* worth a try */
    zbuf_free_bulk(all, k);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "x", 1, 0), 1);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 64, 0), 1);
    net_close(&n);
}

static void descriptors(void)
{
    const struct sockets_config few = {.max_fds = 3};
    char buf[4];

    net_open(&n, false, &few);
    int l = net_listen(&n, 80, 0);
    CU_ASSERT_EQUAL(l, 3);
    CU_ASSERT_EQUAL(net_socket(&n, 1, SOCK_CLOEXEC), 4);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], 4, F_GETFD, 0), FD_CLOEXEC);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], l, F_DUPFD, 0), 5);
    CU_ASSERT_EQUAL(sockets_socket(n.s[1], AF_INET, SOCK_STREAM, 0), -EMFILE);
    int c = net_socket(&n, 0, 0);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 80), 0);
    CU_ASSERT_EQUAL(net_poll(&n, 1, l, POLLIN, -1), POLLIN);
    CU_ASSERT_EQUAL(sockets_accept(n.s[1], l, NULL, NULL, 0), -EMFILE);
    CU_ASSERT_EQUAL(sockets_close(n.s[1], l), 0); /* its double goes on listening */
    CU_ASSERT_EQUAL(sockets_accept(n.s[1], 5, NULL, NULL, 0), 3);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], 3, F_SETFL, O_NONBLOCK), 0);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], 3, buf, 4, 0), -EAGAIN);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], 3, F_DUPFD, 100), -EINVAL);
    CU_ASSERT_EQUAL(sockets_fcntl(n.s[1], 3, 9999, 0), -EINVAL);
    CU_ASSERT_EQUAL(sockets_ioctl(n.s[1], 3, 9999, buf), -ENOTTY);
    net_close(&n);
}

static void listener_ends(void)
{
    net_open(&n, false, NULL);
    int l = net_listen(&n, 80, 0), c = net_socket(&n, 0, 0), d = net_socket(&n, 0, 0);
    CU_ASSERT_EQUAL(net_connect(&n, 0, c, 80), 0);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[1], l, SHUT_RD), 0);
    CU_ASSERT_EQUAL(sockets_accept(n.s[1], l, NULL, NULL, 0), -EINVAL);
    CU_ASSERT_EQUAL(net_poll(&n, 0, c, POLLIN, -1), POLLIN | POLLERR | POLLHUP);
    CU_ASSERT_EQUAL(net_get(&n, 0, c, SOL_SOCKET, SO_ERROR), ECONNRESET);
    CU_ASSERT_EQUAL(net_connect(&n, 0, d, 80), -ECONNREFUSED);
    CU_ASSERT_EQUAL(sockets_listen(n.s[1], l, 1), 0); /* it kept its port */
    CU_ASSERT_EQUAL(net_connect(&n, 0, d, 80), 0);
    net_close(&n);
}

CHECK_MAIN("sockets_call", CHECK(talk_and_close), CHECK(half_close),
           CHECK(connect_without_blocking), CHECK(refused), CHECK(not_connected), CHECK(names),
           CHECK(reset_is_told_once), CHECK(closing_with_bytes_unread_resets),
           CHECK(lingering_close), CHECK(ways_to_read), CHECK(full_and_room_again),
           CHECK(no_memory), CHECK(descriptors), CHECK(listener_ends))
