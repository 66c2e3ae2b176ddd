/* sockets_epoll_test.c - epoll: level and edge, one shot, and descriptors that go away. */
#include "sockets_net.h"

static struct net n;

static int control(int ep, int op, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};
    return sockets_epoll_ctl(n.s[1], ep, op, fd, &ev);
}

/* The events of the one that is ready; 0: none. */
static uint32_t ready(int ep, int fd)
{
    struct epoll_event ev[4];
    int k = sockets_epoll_wait(n.s[1], ep, ev, 4, 0);
    CU_ASSERT_TRUE(k == 0 || (k == 1 && ev[0].data.fd == fd));
    return k == 1 ? ev[0].events : 0;
}

static void say(int c, const char *what)
{
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c, what, strlen(what), 0), (ssize_t)strlen(what));
    net_run(&n, 100000000);
}

static void level(void)
{
    char buf[8];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    int ep = sockets_epoll_create(n.s[1], 0);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_MOD, c[1], EPOLLIN), -ENOENT);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_ADD, c[1], EPOLLIN), 0);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_ADD, c[1], EPOLLIN), -EEXIST);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_ADD, 99, EPOLLIN), -EBADF);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_ADD, ep, EPOLLIN), -EINVAL);
    CU_ASSERT_EQUAL(control(c[1], EPOLL_CTL_ADD, c[1], EPOLLIN), -EINVAL);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], ep, buf, 8, 0), -ENOTSOCK);
    CU_ASSERT_EQUAL(ready(ep, c[1]), 0);
    CU_ASSERT_EQUAL(net_poll(&n, 1, ep, POLLIN, 0), 0);
    say(c[0], "hello");
    CU_ASSERT_EQUAL(net_poll(&n, 1, ep, POLLIN, 0), POLLIN);
    CU_ASSERT_EQUAL(ready(ep, c[1]), EPOLLIN);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 2, 0), 2);
    CU_ASSERT_EQUAL(ready(ep, c[1]), EPOLLIN); /* there is still some */
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 8, 0), 3);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 8, MSG_DONTWAIT), -EAGAIN);
    CU_ASSERT_EQUAL(ready(ep, c[1]), 0);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_MOD, c[1], EPOLLIN | EPOLLOUT), 0);
    CU_ASSERT_EQUAL(ready(ep, c[1]), EPOLLOUT);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_DEL, c[1], 0), 0);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_DEL, c[1], 0), -ENOENT);
    CU_ASSERT_EQUAL(ready(ep, c[1]), 0);
    net_close(&n);
}

static void edge_and_one_shot(void)
{
    char buf[8];
    int c[2];

    net_open(&n, false, NULL);
    net_pair(&n, c);
    int ep = sockets_epoll_create(n.s[1], EPOLL_CLOEXEC);
    say(c[0], "a");
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_ADD, c[1], EPOLLIN | EPOLLET), 0);
    CU_ASSERT_EQUAL(ready(ep, c[1]), EPOLLIN); /* it was so before */
    CU_ASSERT_EQUAL(ready(ep, c[1]), 0);
    say(c[0], "b");
    CU_ASSERT_EQUAL(ready(ep, c[1]), EPOLLIN);
    CU_ASSERT_EQUAL(ready(ep, c[1]), 0);
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_MOD, c[1], EPOLLIN | EPOLLONESHOT), 0);
    CU_ASSERT_EQUAL(ready(ep, c[1]), EPOLLIN);
    say(c[0], "c");
    CU_ASSERT_EQUAL(ready(ep, c[1]), 0); /* it has fired */
    CU_ASSERT_EQUAL(control(ep, EPOLL_CTL_MOD, c[1], EPOLLIN | EPOLLONESHOT), 0);
    CU_ASSERT_EQUAL(ready(ep, c[1]), EPOLLIN);
    CU_ASSERT_EQUAL(sockets_recv(n.s[1], c[1], buf, 8, 0), 3);
    net_close(&n);
}

static void nothing_starves_and_nothing_stays(void)
{
    struct epoll_event ev;
    int told[8] = {0}, d[3];

    net_open(&n, false, NULL);
    int l = net_listen(&n, 80, 0), ep = sockets_epoll_create(n.s[1], 0);
    for (int i = 0; i < 3; i++) {
        int c = net_socket(&n, 0, 0);
        CU_ASSERT_EQUAL(net_connect(&n, 0, c, 80), 0);
        d[i] = sockets_accept(n.s[1], l, NULL, NULL, 0);
        struct epoll_event add = {.events = EPOLLOUT, .data.u32 = (uint32_t)i};
        CU_ASSERT_EQUAL(sockets_epoll_ctl(n.s[1], ep, EPOLL_CTL_ADD, d[i], &add), 0);
    }
    for (int i = 0; i < 6; i++) {
        CU_ASSERT_EQUAL_FATAL(sockets_epoll_wait(n.s[1], ep, &ev, 1, 0), 1);
        told[ev.data.u32]++;
    }
    CU_ASSERT_TRUE(told[0] == 2 && told[1] == 2 && told[2] == 2);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(sockets_close(n.s[1], d[i]), 0);
    CU_ASSERT_EQUAL(sockets_epoll_wait(n.s[1], ep, &ev, 1, 10), 0);
    CU_ASSERT_EQUAL(sockets_epoll_wait(n.s[1], ep, &ev, 0, 10), -EINVAL);
    CU_ASSERT_EQUAL(sockets_epoll_wait(n.s[1], l, &ev, 1, 10), -EINVAL);
    CU_ASSERT_EQUAL(sockets_close(n.s[1], ep), 0);
    CU_ASSERT_EQUAL(sockets_epoll_wait(n.s[1], ep, &ev, 1, 10), -EBADF);
    net_close(&n);
}

CHECK_MAIN("sockets_epoll", CHECK(level), CHECK(edge_and_one_shot),
           CHECK(nothing_starves_and_nothing_stays))
