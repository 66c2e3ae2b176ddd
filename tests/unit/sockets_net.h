/* sockets_net.h - two instances of sockets, 0 (10.0.0.1) and 1 (10.0.0.2), on one wire in virtual
 * time, for unit tests.
 *
 * In one thread, a call that would block drives both stacks until it need not wait any more, and
 * fails with -EDEADLK if nothing can ever happen. With threads (net_open's second argument) calls
 * sleep, and the test itself drives with net_run(). */
#ifndef SOCKETS_NET_H
#define SOCKETS_NET_H

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "sockets/sockets.h"

#define NET_WIRE     4096u
#define NET_DELAY_NS 1000000u
#define NET_S        1000000000ull

struct net;
struct net_side {
    struct net *net;
    int i;
};
struct net {
    struct zbuf_pool *pool;
    struct sockets *s[2];
    struct net_side side[2];
    _Atomic uint64_t now_ns; /* threads look at it */
    struct {
        struct zbuf *zb;
        uint64_t at_ns;
        int to;
    } wire[NET_WIRE];
    unsigned head, tail;
    bool cut; /* frames are lost */
};

/* Everything that is due now; returns when there is more. held: the side that is locked, or -1. */
static uint64_t net_turn(struct net *n, int held, struct zest *held_z)
{
    uint64_t next_ns = ZEST_NEVER;

    for (int i = 0; i < 2; i++) {
        struct zest *z = i == held ? held_z : sockets_lock(n->s[i]);
        struct zest_frame f[16];
        for (unsigned h = n->head; h != n->tail; h++) {
            struct zbuf **zb = &n->wire[h % NET_WIRE].zb;
            if (*zb && n->wire[h % NET_WIRE].to == i && n->wire[h % NET_WIRE].at_ns <= n->now_ns) {
                zest_input(z, n->now_ns, zb, 1);
                *zb = NULL;
            }
        }
        while (n->head != n->tail && !n->wire[n->head % NET_WIRE].zb)
            n->head++;
        for (unsigned k; (k = zest_output(z, n->now_ns, f, 16)) > 0;)
            for (unsigned j = 0; j < k; j++) {
                struct zbuf *zb = zbuf_alloc(n->pool, 3800);
                for (unsigned g = 0; g < f[j].n; g++) {
                    if (zb) {
                        memcpy(zb->data + zb->len, f[j].seg[g].addr, f[j].seg[g].len);
                        zb->len += f[j].seg[g].len;
                    }
                    zbuf_tx_done(n->pool, f[j].seg[g].addr);
                }
                if (!zb || n->cut || n->tail - n->head == NET_WIRE) {
                    zbuf_free(zb);
                    continue;
                }
                n->wire[n->tail % NET_WIRE].zb = zb;
                n->wire[n->tail % NET_WIRE].at_ns = n->now_ns + NET_DELAY_NS;
                n->wire[n->tail++ % NET_WIRE].to = !i;
            }
        uint64_t d = i == held ? zest_deadline(z) : sockets_deadline(n->s[i]);
        if (i != held)
            sockets_unlock(n->s[i]);
        next_ns = d < next_ns ? d : next_ns;
    }
    for (unsigned h = n->head; h != n->tail; h++)
        if (n->wire[h % NET_WIRE].zb && n->wire[h % NET_WIRE].at_ns < next_ns)
            next_ns = n->wire[h % NET_WIRE].at_ns;
    return next_ns;
}

static uint64_t net_now_ns(void *ctx)
{
    return ((struct net_side *)ctx)->net->now_ns;
}

static int net_wait(void *ctx, struct zest *z, uint64_t until_ns)
{
    struct net_side *side = ctx;
    struct net *n = side->net;
    uint64_t next_ns = net_turn(n, side->i, z);

    if (next_ns > until_ns)
        next_ns = until_ns;
    if (next_ns == ZEST_NEVER)
        return -EDEADLK;
    if (next_ns > n->now_ns)
        n->now_ns = next_ns;
    (void)net_turn(n, side->i, z);
    return 0;
}

static inline void net_open(struct net *n, bool threads, const struct sockets_config *proto)
{
    memset(n, 0, sizeof *n);
    n->now_ns = NET_S;
    n->pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 64u << 20, .no_huge = true});
    for (int i = 0; i < 2; i++) {
        struct sockets_config cfg = proto ? *proto : (struct sockets_config){0};
        n->side[i] = (struct net_side){n, i};
        cfg.stack.pool = n->pool;
        zest_addr_parse(&cfg.stack.ip, i ? "10.0.0.2" : "10.0.0.1", 0);
        memcpy(cfg.stack.mac, (uint8_t[6]){2, 0, 0, 0, 0, (uint8_t)(i + 1)}, 6);
        memset(cfg.stack.secret, 'a' + i, sizeof cfg.stack.secret);
        cfg.first_fd = 3;
        cfg.driver = (struct sockets_driver){
            .ctx = &n->side[i], .now_ns = net_now_ns, .wait = threads ? NULL : net_wait};
        CU_ASSERT_EQUAL_FATAL(sockets_open(&cfg, &n->s[i]), 0);
    }
}

/* Lets ns pass, with every call that waits in step. */
static inline void net_run(struct net *n, uint64_t ns)
{
    uint64_t until_ns = n->now_ns + ns;

    for (;;) {
        (void)sockets_settle(n->s[0]);
        (void)sockets_settle(n->s[1]);
        uint64_t next_ns = net_turn(n, -1, NULL);
        if (next_ns > until_ns)
            break;
        if (next_ns > n->now_ns)
            n->now_ns = next_ns;
    }
    n->now_ns = until_ns;
    (void)net_turn(n, -1, NULL);
    (void)sockets_settle(n->s[0]);
    (void)sockets_settle(n->s[1]);
}

static inline void net_close(struct net *n)
{
    struct zbuf_pool_stat st;

    for (int i = 0; i < 2; i++)
        sockets_fini(n->s[i]);
    for (; n->head != n->tail; n->head++)
        zbuf_free(n->wire[n->head % NET_WIRE].zb);
    zbuf_pool_stat(n->pool, &st);
    CU_ASSERT_EQUAL(st.live, 0); /* every segment is home */
    CU_ASSERT_EQUAL(zbuf_pool_destroy(n->pool), 0);
}

static inline struct sockaddr_in net_addr(int side, uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(0x0a000001u + (uint32_t)side)};
}

static inline int net_socket(struct net *n, int side, int flags)
{
    int fd = sockets_socket(n->s[side], AF_INET, SOCK_STREAM | flags, 0);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    return fd;
}

static inline int net_connect(struct net *n, int side, int fd, uint16_t port)
{
    struct sockaddr_in a = net_addr(!side, port);
    return sockets_connect(n->s[side], fd, (struct sockaddr *)&a, sizeof a);
}

static inline int net_bind(struct net *n, int side, int fd, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    return sockets_bind(n->s[side], fd, (struct sockaddr *)&a, sizeof a);
}

/* A listener of side 1's. */
static inline int net_listen(struct net *n, uint16_t port, int flags)
{
    int fd = net_socket(n, 1, flags);
    CU_ASSERT_EQUAL_FATAL(net_bind(n, 1, fd, port), 0);
    CU_ASSERT_EQUAL_FATAL(sockets_listen(n->s[1], fd, 8), 0);
    return fd;
}

/* c[0] of side 0 is connected to c[1] of side 1. Single-threaded. */
static inline void net_pair(struct net *n, int c[2])
{
    int l = net_listen(n, 80, 0);
    c[0] = net_socket(n, 0, 0);
    CU_ASSERT_EQUAL_FATAL(net_connect(n, 0, c[0], 80), 0);
    c[1] = sockets_accept(n->s[1], l, NULL, NULL, 0);
    CU_ASSERT_TRUE_FATAL(c[1] >= 0);
    CU_ASSERT_EQUAL(sockets_close(n->s[1], l), 0);
}

static inline int net_poll(struct net *n, int side, int fd, short events, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = events};
    int ret = sockets_poll(n->s[side], &p, 1, timeout_ms);
    CU_ASSERT_EQUAL(ret, p.revents != 0);
    return p.revents;
}

static inline int net_get(struct net *n, int side, int fd, int level, int name)
{
    int v = -1;
    socklen_t len = sizeof v;
    int err = sockets_getsockopt(n->s[side], fd, level, name, &v, &len);
    return err < 0 ? err : v;
}

static inline int net_set(struct net *n, int side, int fd, int level, int name, int v)
{
    return sockets_setsockopt(n->s[side], fd, level, name, &v, sizeof v);
}

#endif
