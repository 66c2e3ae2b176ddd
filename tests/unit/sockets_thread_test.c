/* sockets_thread_test.c - calls that block on threads of their own, while another one drives. Time
 * is virtual: it moves only when every call has looked (sockets_settle), so the order of things is
 * the same in each run. */
#include <pthread.h>
#include <sched.h>

#include "sockets_net.h"

#define BULK (3u << 20)

static struct net n;

struct job {
    pthread_t thread;
    int fd;
    ssize_t ret;
    size_t done;
    bool ended;
};

static void wait_until(unsigned side, unsigned waiting)
{
    while (sockets_waiting(n.s[side]) != waiting)
        sched_yield();
}

static void *accept_job(void *arg)
{
    struct job *j = arg;
    j->ret = sockets_accept(n.s[1], j->fd, NULL, NULL, 0);
    return NULL;
}

static void *connect_job(void *arg)
{
    struct job *j = arg;
    j->ret = net_connect(&n, 0, j->fd, 80);
    return NULL;
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

static void *write_job(void *arg)
{
    struct job *j = arg;
    uint8_t *bytes = malloc(BULK);

    for (size_t i = 0; i < BULK; i++)
        bytes[i] = pattern(i);
    j->ret = sockets_send(n.s[0], j->fd, bytes, BULK, 0); /* all of it, in one call */
    free(bytes);
    (void)sockets_shutdown(n.s[0], j->fd, SHUT_WR);
    __atomic_store_n(&j->ended, true, __ATOMIC_RELEASE);
    return NULL;
}

static void *read_job(void *arg)
{
    struct job *j = arg;
    uint8_t buf[7001];
    bool same = true;

    while ((j->ret = sockets_recv(n.s[1], j->fd, buf, sizeof buf, 0)) > 0)
        for (ssize_t i = 0; i < j->ret; i++)
            same &= buf[i] == pattern(j->done++);
    if (!same)
        j->ret = -EILSEQ;
    __atomic_store_n(&j->ended, true, __ATOMIC_RELEASE);
    return NULL;
}

static void *recv_job(void *arg)
{
    struct job *j = arg;
    char buf[8];
    j->ret = sockets_recv(n.s[1], j->fd, buf, sizeof buf, 0);
    return NULL;
}

static void *poll_job(void *arg)
{
    struct job *j = arg;
    struct pollfd p = {.fd = j->fd, .events = POLLIN};
    j->ret = sockets_poll(n.s[1], &p, 1, -1) == 1 ? p.revents : -1;
    return NULL;
}

static void start(struct job *j, void *(*fn)(void *), int fd)
{
    *j = (struct job){.fd = fd};
    CU_ASSERT_EQUAL_FATAL(pthread_create(&j->thread, NULL, fn, j), 0);
}

static void pair_of_threads(int c[2])
{
    struct job a, b;
    int l = net_listen(&n, 80, 0);

    start(&a, accept_job, l);
    wait_until(1, 1);
    c[0] = net_socket(&n, 0, 0);
    start(&b, connect_job, c[0]);
    wait_until(0, 1);
    net_run(&n, 10000000);
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    CU_ASSERT_TRUE(a.ret >= 0);
    CU_ASSERT_EQUAL(b.ret, 0);
    c[1] = (int)a.ret;
}

static void bulk_between_threads(void)
{
    struct job w, r;
    int c[2];

    net_open(&n, true, NULL);
    pair_of_threads(c);
    start(&w, write_job, c[0]);
    start(&r, read_job, c[1]);
    while (!__atomic_load_n(&w.ended, __ATOMIC_ACQUIRE) ||
           !__atomic_load_n(&r.ended, __ATOMIC_ACQUIRE))
        net_run(&n, 1000000);
    pthread_join(w.thread, NULL);
    pthread_join(r.thread, NULL);
    CU_ASSERT_EQUAL(w.ret, BULK);
    CU_ASSERT_EQUAL(r.ret, 0);
    CU_ASSERT_EQUAL(r.done, BULK);
    net_close(&n);
}

/* Whoever shuts a socket down for reading wakes those that read from it. */
static void shutdown_wakes(void)
{
    struct job r, p;
    int c[2];

    net_open(&n, true, NULL);
    pair_of_threads(c);
    start(&r, recv_job, c[1]);
    start(&p, poll_job, c[1]);
    wait_until(1, 2);
    CU_ASSERT_EQUAL(sockets_shutdown(n.s[1], c[1], SHUT_RD), 0);
    pthread_join(r.thread, NULL);
    pthread_join(p.thread, NULL);
    CU_ASSERT_EQUAL(r.ret, 0);
    CU_ASSERT_EQUAL(p.ret, POLLIN);
    net_close(&n);
}

/* As in Linux: a call that waits keeps its socket, whatever becomes of the descriptor. */
static void close_under_a_reader(void)
{
    struct job r;
    int c[2];

    net_open(&n, true, NULL);
    pair_of_threads(c);
    start(&r, recv_job, c[1]);
    wait_until(1, 1);
    CU_ASSERT_EQUAL(sockets_close(n.s[1], c[1]), 0);
    CU_ASSERT_EQUAL(sockets_send(n.s[0], c[0], "late", 4, 0), 4);
    net_run(&n, 100000000);
    pthread_join(r.thread, NULL);
    CU_ASSERT_EQUAL(r.ret, 4);
    net_close(&n);
}

static void the_end_wakes(void)
{
    struct job a, r;
    int c[2];

    net_open(&n, true, NULL);
    pair_of_threads(c);
    start(&a, accept_job, net_listen(&n, 81, 0));
    start(&r, recv_job, c[1]);
    wait_until(1, 2);
    net_close(&n);
    pthread_join(a.thread, NULL);
    pthread_join(r.thread, NULL);
    CU_ASSERT_EQUAL(a.ret, -EINTR);
    CU_ASSERT_EQUAL(r.ret, -EINTR);
}

CHECK_MAIN("sockets_thread", CHECK(bulk_between_threads), CHECK(shutdown_wakes),
           CHECK(close_under_a_reader), CHECK(the_end_wakes))
