/* tcp_share.c - one of several stacks with one address: which frames are for another of them, and
 * how a connection moves to a port whose answers come in here.
 *
 * A stack knows its own connections only. Whoever holds several of them (netif/group.c) asks about
 * a frame before handing it in; what is for none of this stack's connections goes to the next, and
 * only what all have declined comes back to be refused. So the claim must say no exactly where
 * tcp_input() would answer with a RST, and also for a segment that does not fit a half-open
 * connection: a peer whose second SYN took another queue has one in each of two stacks, and goes on
 * with one of them. */
#include "eth.h"
#include "icmp.h"
#include "ipv4.h"
#include "tcp_conn.h"

/* Of n ports, one n-th has its answers come in here, if they are spread evenly: 1 in 3000
 * connections finds none among so many times n. */
#define TCP_PORT_CHANGES 8u

/* What an IPv4 packet says of its connection, seen from our side. */
struct tuple {
    struct ipaddr local, remote;
    uint16_t local_port, remote_port;
};

static enum zest_claim claim_half_open(const struct tcp_conn *c, const uint8_t *tcp)
{
    uint32_t seq = be32_get(tcp + 4), ack = be32_get(tcp + 8);
    uint8_t flags = tcp[13];

    if ((flags & TH_ACK) && (seq_leq(ack, c->snd_una) || seq_gt(ack, c->snd_max)))
        return ZEST_CLAIM_STRAY;
    return (flags & TH_RST) && seq != c->rcv_nxt ? ZEST_CLAIM_STRAY : ZEST_CLAIM_OURS;
}

static enum zest_claim claim_tcp(const struct zest *z, const struct tuple *t, const uint8_t *tcp,
                                 zest_handle *conn)
{
    uint8_t flags = tcp[13];
    const struct tcp_conn *c =
        tcp_table_peek(z, &t->local, t->local_port, &t->remote, t->remote_port);

    if (!c) {
        bool opens = (flags & (TH_SYN | TH_ACK | TH_RST)) == TH_SYN;
        return opens && tcp_listener_find(z, &t->local, t->local_port) ? ZEST_CLAIM_OURS
                                                                       : ZEST_CLAIM_STRAY;
    }
    if (c->state == ZEST_SYN_RECEIVED)
        return claim_half_open(c, tcp);
    if (c->state == ZEST_SYN_SENT && (flags & (TH_SYN | TH_ACK | TH_RST)) == (TH_SYN | TH_ACK) &&
        be32_get(tcp + 8) == c->iss + 1) {
        *conn = tcp_conn_handle(z, c);
        return ZEST_CLAIM_ANSWER;
    }
    return ZEST_CLAIM_OURS;
}

/* An error about a segment of ours: what it quotes went the other way. */
static enum zest_claim claim_icmp(const struct zest *z, const uint8_t *icmp, uint32_t len)
{
    const uint8_t *ip = icmp + ICMP_HLEN;
    struct tuple t;
    uint32_t src, dst;

    if (len < ICMP_HLEN + IPV4_HLEN ||
        (icmp[0] != ICMP_UNREACH && icmp[0] != ICMP_TIME_EXCEEDED && icmp[0] != ICMP_PARAM_PROBLEM))
        return ZEST_CLAIM_OURS;
    uint32_t hlen = (ip[0] & 15u) * 4;
    if (ip[0] >> 4 != 4 || hlen < IPV4_HLEN || len < ICMP_HLEN + hlen + 8 || ip[9] != IP_TCP)
        return ZEST_CLAIM_OURS;
    memcpy(&src, ip + 12, 4);
    memcpy(&dst, ip + 16, 4);
    t.local = ipaddr_from_v4(src);
    t.remote = ipaddr_from_v4(dst);
    t.local_port = be16_get(ip + hlen);
    t.remote_port = be16_get(ip + hlen + 2);
    return tcp_table_peek(z, &t.local, t.local_port, &t.remote, t.remote_port) ? ZEST_CLAIM_OURS
                                                                               : ZEST_CLAIM_STRAY;
}

/* What is cut short, a fragment, or not for us is ours to drop and count. Of a frame in several
 * segments the first holds all headers, unless its link makes uncommonly short ones. */
enum zest_claim zest_claim(const struct zest *z, const struct zbuf *frame, zest_handle *conn)
{
    const uint8_t *p = frame->data, *ip = p + ETH_HLEN;
    struct tuple t;
    uint32_t src, dst;

    if (frame->len < ETH_HLEN + IPV4_HLEN || be16_get(p + 12) != ETH_TYPE_IPV4 || (p[0] & 1))
        return ZEST_CLAIM_OURS;
    uint32_t hlen = (ip[0] & 15u) * 4, total = be16_get(ip + 2);
    uint32_t here = min_u32(total, frame->len - ETH_HLEN);
    memcpy(&src, ip + 12, 4);
    memcpy(&dst, ip + 16, 4);
    if (ip[0] >> 4 != 4 || hlen < IPV4_HLEN || here < hlen ||
        total > zbuf_chain_len(frame) - ETH_HLEN || (be16_get(ip + 6) & 0x3fff) != 0 ||
        dst != z->ip4_be)
        return ZEST_CLAIM_OURS;
    if (ip[9] == IP_ICMP)
        return claim_icmp(z, ip + hlen, here - hlen);
    if (ip[9] != IP_TCP || here - hlen < TCP_HLEN)
        return ZEST_CLAIM_OURS;
    t.local = z->ip;
    t.remote = ipaddr_from_v4(src);
    t.local_port = be16_get(ip + hlen + 2);
    t.remote_port = be16_get(ip + hlen);
    return claim_tcp(z, &t, ip + hlen, conn);
}

/* The connection keeps its numbers: its initial one was told to this peer only, and what is queued
 * counts from it. */
int tcp_change_port(struct zest *z, zest_handle conn, uint16_t port)
{
    struct tcp_conn *c = tcp_conn_of(z, conn);

    if (!c)
        return -EBADF;
    if (c->state != ZEST_SYN_SENT)
        return -EISCONN;
    if (port && tcp_table_find(z, &c->local, port, &c->remote, c->remote_port))
        return -EADDRINUSE;
    if (!port && (c->port_given || c->port_changes >= TCP_PORT_CHANGES * z->cfg.share_count))
        return -EADDRNOTAVAIL;
    if (!port)
        port = tcp_free_port(z, &c->remote, c->remote_port);
    if (!port)
        return -EADDRNOTAVAIL;
    if (c->snd_max != c->iss)
        tcp_rst_opening(z, c);
    tcp_table_remove(z, c);
    c->local_port = port;
    c->port_changes++;
    tcp_table_insert(z, c);
    c->snd_nxt = c->snd_max = c->rtx_high = c->iss;
    c->rtx_ns = ZEST_NEVER;
    c->rtt_timing = false;
    tcp_kick(z, c);
    return 0;
}
