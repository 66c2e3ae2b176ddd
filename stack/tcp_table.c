/* tcp_table.c - from a segment's addresses and ports to its connection or listener, and the numbers
 * that a peer must not be able to guess: initial sequence numbers (RFC 6528) and ephemeral ports
 * (RFC 6056).
 *
 * The table is chained and its hash is keyed, so nobody outside can aim at one chain. */
#include "siphash.h"
#include "tcp_conn.h"

#define EPHEMERAL_FIRST 32768u
#define EPHEMERAL_COUNT 28232u /* 32768 to 60999 */

struct four_tuple {
    struct ipaddr local, remote;
    uint16_t local_port, remote_port;
    uint32_t purpose; /* so that the three uses of the hash tell nothing of one another */
};

static uint64_t hash_tuple(const struct zest *z, const struct ipaddr *local, uint16_t local_port,
                           const struct ipaddr *remote, uint16_t remote_port, uint32_t purpose)
{
    struct four_tuple t = {*local, *remote, local_port, remote_port, purpose};
    return siphash(z->cfg.secret, &t, sizeof t);
}

/* The last 64 bits are where IPv4 peers differ; IPv6's first 64 are folded in. One connection's
 * worth of work for each received segment, so it is kept short. */
static struct tcp_conn **bucket(const struct zest *z, const struct ipaddr *local,
                                uint16_t local_port, const struct ipaddr *remote,
                                uint16_t remote_port)
{
    uint64_t key[2] = {remote->q[1] ^ (remote->q[0] * 0x9e3779b97f4a7c15ull),
                       (uint64_t)local->w[3] << 32 | (uint32_t)local_port << 16 | remote_port};
    return &z->tcp.buckets[siphash(z->cfg.secret, key, sizeof key) & z->tcp.bucket_mask];
}

void tcp_table_insert(struct zest *z, struct tcp_conn *c)
{
    struct tcp_conn **b = bucket(z, &c->local, c->local_port, &c->remote, c->remote_port);

    assert(!c->in_table);
    c->hash_next = *b;
    *b = c;
    c->in_table = true;
}

void tcp_table_remove(struct zest *z, struct tcp_conn *c)
{
    if (!c->in_table)
        return;
    struct tcp_conn **p = bucket(z, &c->local, c->local_port, &c->remote, c->remote_port);
    while (*p != c)
        p = &(*p)->hash_next;
    *p = c->hash_next;
    c->in_table = false;
    if (z->tcp.last == c)
        z->tcp.last = NULL;
}

static bool is_tuple(const struct tcp_conn *c, const struct ipaddr *local, uint16_t local_port,
                     const struct ipaddr *remote, uint16_t remote_port)
{
    return c->remote_port == remote_port && c->local_port == local_port &&
           ipaddr_equal(&c->remote, remote) && ipaddr_equal(&c->local, local);
}

struct tcp_conn *tcp_table_find(struct zest *z, const struct ipaddr *local, uint16_t local_port,
                                const struct ipaddr *remote, uint16_t remote_port)
{
    struct tcp_conn *c = z->tcp.last; /* segments come in trains */

    if (c && is_tuple(c, local, local_port, remote, remote_port))
        return c;
    for (c = *bucket(z, local, local_port, remote, remote_port); c; c = c->hash_next)
        if (is_tuple(c, local, local_port, remote, remote_port))
            return z->tcp.last = c;
    return NULL;
}

const struct tcp_conn *tcp_table_peek(const struct zest *z, const struct ipaddr *local,
                                      uint16_t local_port, const struct ipaddr *remote,
                                      uint16_t remote_port)
{
    const struct tcp_conn *c = z->tcp.last;

    if (c && is_tuple(c, local, local_port, remote, remote_port))
        return c;
    for (c = *bucket(z, local, local_port, remote, remote_port); c; c = c->hash_next)
        if (is_tuple(c, local, local_port, remote, remote_port))
            return c;
    return NULL;
}

struct tcp_listener *tcp_listener_find(const struct zest *z, const struct ipaddr *local,
                                       uint16_t port)
{
    static const struct ipaddr any;

    for (uint32_t i = 0; i < z->cfg.max_listeners; i++) {
        struct tcp_listener *l = &z->tcp.listeners[i];
        if (l->used && l->port == port &&
            (ipaddr_equal(&l->local, &any) || ipaddr_equal(&l->local, local)))
            return l;
    }
    return NULL;
}

uint32_t tcp_new_iss(struct zest *z, const struct tcp_conn *c)
{
    /* RFC 6528 3: ISN = M + F(tuple, secret), M a 4-microsecond timer. */
    uint32_t m = (uint32_t)(z->now_ns / (4 * NS_PER_US));
    return m + (uint32_t)hash_tuple(z, &c->local, c->local_port, &c->remote, c->remote_port, 1);
}

uint16_t tcp_free_port(struct zest *z, const struct ipaddr *remote, uint16_t remote_port)
{
    /* RFC 6056 3.3.3, double-hash port selection with one counter; of the ports, every
     * share_count-th is ours. */
    uint32_t offset = (uint32_t)hash_tuple(z, &z->ip, 0, remote, remote_port, 2);
    uint32_t step = z->cfg.share_count, count = EPHEMERAL_COUNT / step;
    uint32_t first = EPHEMERAL_FIRST + (z->cfg.share_index + step - EPHEMERAL_FIRST % step) % step;

    for (uint32_t i = 0; i < count; i++) {
        uint16_t port = (uint16_t)(first + (offset + z->tcp.port_hint++) % count * step);
        if (!tcp_table_find(z, &z->ip, port, remote, remote_port) &&
            !tcp_listener_find(z, &z->ip, port))
            return port;
    }
    return 0;
}
