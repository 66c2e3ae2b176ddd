/* tcp_path.c - what is heard of the path besides segments: a link that comes up or carries less,
 * and what ICMP reports (RFC 9293 3.9.2.2).
 *
 * None of it ends a connection that is established: links come back, and anyone can send an ICMP
 * error (RFC 5927). */
#include "icmp.h"
#include "tcp_conn.h"

/* What is in flight, and larger, is sent again in smaller segments. */
static void lower_mtu(struct zest *z, struct tcp_conn *c, uint32_t mtu)
{
    c->path_mtu = mtu;
    tcp_set_mss(z, c);
    if (!tcp_synchronized(c))
        return;
    c->snd_nxt = c->snd_una;
    c->again_why = ZEST_WHY_MTU;
    c->sq_send = sendq_find(c, c->snd_nxt);
    c->rtx_now = false;
    c->rtx_high = c->snd_max;
    c->rtt_timing = false;
}

/* A timer that has backed off measures how long the link was down, not the path: it goes off now,
 * and the next one is short again. Who has lost nothing is left alone. */
void tcp_link_up(struct zest *z, uint32_t mtu)
{
    if (mtu && mtu < z->cfg.mtu)
        z->cfg.mtu = (uint16_t)max_u32(mtu, 576);
    for (uint32_t i = 0; i < z->cfg.max_conns; i++) {
        struct tcp_conn *c = &z->tcp.conns[i];
        if (c->state == ZEST_CLOSED)
            continue;
        if (c->path_mtu > z->cfg.mtu)
            lower_mtu(z, c, z->cfg.mtu);
        if (c->rtx_ns != ZEST_NEVER && c->backoff > 0) {
            c->backoff = 1;
            c->rtx_ns = z->now_ns;
        }
        if (c->on == TCP_ON_BLOCKED)
            tcp_make_ready(z, c);
        else
            tcp_touch(z, c);
    }
}

/* RFC 9293 3.9.2.2, RFC 5927: believed only if it quotes a segment that is in flight, and never
 * enough to end a connection that is established. */
void tcp_icmp_error(struct zest *z, const struct icmp_error *e)
{
    struct tcp_conn *c = tcp_table_find(z, e->local, e->local_port, e->remote, e->remote_port);

    if (!c || c->state == ZEST_CLOSED || seq_lt(e->seq, c->snd_una) || seq_geq(e->seq, c->snd_max))
        return;
    if (e->type != ICMP_UNREACH) {
        tcp_soft_error(z, c, EPROTO);
        return;
    }
    if (e->code == ICMP_UNREACH_NEEDFRAG) {
        uint32_t mtu = e->mtu ? max_u32(e->mtu, 576)
                              : 576; /* RFC 1191, with the floor of RFC 9293's default MSS */
        if (mtu >= c->path_mtu)
            return;
        lower_mtu(z, c, mtu);
    } else if (e->code == ICMP_UNREACH_PROTOCOL || e->code == ICMP_UNREACH_PORT) {
        if (c->state == ZEST_SYN_SENT) {
            tcp_conn_end(z, c, ECONNREFUSED);
            return;
        }
        tcp_soft_error(z, c, ECONNREFUSED);
    } else {
        tcp_soft_error(z, c, EHOSTUNREACH);
    }
    tcp_touch(z, c);
}
