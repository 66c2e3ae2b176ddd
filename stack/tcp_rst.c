/* tcp_rst.c - resets (RFC 9293 3.5.2). They are control packets: built on the spot, from the
 * control reserve, sent through ARP's queue if need be, and forgotten. */
#include "cksum.h"
#include "ipv4.h"
#include "tcp_conn.h"

static void send_rst(struct zest *z, const struct ipaddr *local, uint16_t local_port,
                     const struct ipaddr *remote, uint16_t remote_port, uint32_t seq, uint32_t ack,
                     uint8_t flags, uint8_t tos)
{
    struct zbuf *zb = ctrl_alloc(z, TCP_HLEN);

    if (!zb)
        return;
    uint8_t *h = zb->data;
    memset(h, 0, TCP_HLEN);
    be16_put(h, local_port);
    be16_put(h + 2, remote_port);
    be32_put(h + 4, seq);
    be32_put(h + 8, ack);
    h[12] = TCP_HLEN / 4 << 4;
    h[13] = flags;
    uint16_t sum =
        cksum_fold(cksum_add(cksum_pseudo(local, remote, IP_TCP, TCP_HLEN), h, TCP_HLEN));
    memcpy(h + 16, &sum, 2);
    zb->len = TCP_HLEN;
    z->stats.tcp_rsts_sent++;
    z->stats.tcp_tx_segs++;
    ipv4_output(z, zb, remote->w[3], IP_TCP, tos);
}

void tcp_rst_reply(struct zest *z, const struct pkt *pk, const struct tcp_seg *seg)
{
    if ((seg->flags & TH_RST) || pk->multicast)
        return;
    uint32_t seg_len = seg->len + ((seg->flags & TH_SYN) ? 1 : 0) + ((seg->flags & TH_FIN) ? 1 : 0);
    if (seg->flags & TH_ACK) /* 3.10.7.1 */
        send_rst(z, &pk->dst, seg->dst_port, &pk->src, seg->src_port, seg->ack, 0, TH_RST, 0);
    else
        send_rst(z, &pk->dst, seg->dst_port, &pk->src, seg->src_port, 0, seg->seq + seg_len,
                 TH_RST | TH_ACK, 0);
}

void tcp_rst_conn(struct zest *z, const struct tcp_conn *c)
{
    switch ((enum zest_tcp_state)c->state) { /* 3.10.5: in the other states an abort is silent */
    case ZEST_SYN_RECEIVED:
    case ZEST_ESTABLISHED:
    case ZEST_FIN_WAIT_1:
    case ZEST_FIN_WAIT_2:
    case ZEST_CLOSE_WAIT:
        send_rst(z, &c->local, c->local_port, &c->remote, c->remote_port, c->snd_nxt, c->rcv_nxt,
                 TH_RST | TH_ACK, (uint8_t)(c->dscp << 2));
        break;
    default:
        break;
    }
}

/* The peer's half-open connection expects iss + 1. */
void tcp_rst_opening(struct zest *z, const struct tcp_conn *c)
{
    send_rst(z, &c->local, c->local_port, &c->remote, c->remote_port, c->iss + 1, 0, TH_RST,
             (uint8_t)(c->dscp << 2));
}
