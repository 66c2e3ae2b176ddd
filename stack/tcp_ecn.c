/* tcp_ecn.c - explicit congestion notification, RFC 3168: a router that would have to drop marks
 * instead (CE), the receiver echoes that in every ACK (ECE) until the sender says that it has
 * slowed down (CWR), which it does once for each window.
 *
 * Both sides must agree in their SYNs. We agree when asked, and ask if told to (ZEST_OPT_ECN): some
 * middleboxes drop a SYN that asks, so only the first one does. What is marked as capable (ECT) is
 * new data within the window and nothing else (6.1.4 to 6.1.6): what is lost otherwise, nobody
 * would notice. */
#include "ipv4.h"
#include "tcp_conn.h"

#define ECN_MASK (TH_ECE | TH_CWR)
#define IP_CE    3u

uint8_t tcp_ecn_syn_flags(const struct tcp_conn *c)
{
    if (c->state == ZEST_SYN_SENT)
        return c->ecn_mode == ZEST_ECN_ASK && c->rtos == 0 ? ECN_MASK : 0;
    return c->ecn ? TH_ECE : 0;
}

/* 6.1.1: ECE alone in a SYN and ACK agrees; ECE and CWR in a SYN ask. A peer that reflects what it
 * was sent does neither. */
void tcp_ecn_take_syn(struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint8_t said = seg->flags & ECN_MASK;

    c->ecn = seg->flags & TH_ACK ? c->ecn_mode == ZEST_ECN_ASK && said == TH_ECE
                                 : c->ecn_mode != ZEST_ECN_OFF && said == ECN_MASK;
    c->ecn_end = c->iss;
}

/* 6.1.2: as for a lost segment, but nothing is missing; once for what was in flight then. */
static void slow_down(struct zest *z, struct tcp_conn *c)
{
    c->ecn_end = c->snd_max;
    c->ecn_cwr = true;
    tcp_set_mss(z, c);
    if (c->in_recovery || seq_leq(c->snd_una, c->recover))
        return; /* it has just slowed down for a loss */
    c->cc->lost(c, c->cwnd, z->now_ns);
    c->cwnd = c->ssthresh;
    z->stats.tcp_ecn_slowed++;
}

/* An acceptable segment, after its ACK was taken. */
void tcp_ecn_input(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg, uint8_t tos)
{
    if (seg->flags & TH_CWR)
        c->ecn_echo = false;
    if ((tos & IP_CE) == IP_CE && seg->len > 0) {
        c->ecn_echo = true;
        z->stats.tcp_ecn_marked++;
    }
    if (seq_leq(c->snd_una, c->ecn_end))
        return;
    if (seg->flags & TH_ECE)
        slow_down(z, c);
    else
        c->ecn_end = c->snd_una; /* so that it never falls half a turn behind */
}

/* Flags for the segment [seq, seq + len). */
uint8_t tcp_ecn_flags(const struct tcp_conn *c, uint32_t seq, uint32_t len)
{
    bool is_new = len > 0 && seq_geq(seq, c->snd_max);

    return (uint8_t)((c->ecn_echo ? TH_ECE : 0) | (c->ecn_cwr && is_new ? TH_CWR : 0));
}

/* Its frame begins at `frame`. */
void tcp_ecn_sent(struct zest *z, struct tcp_conn *c, uint8_t *frame, uint32_t seq, uint32_t len,
                  uint8_t flags)
{
    if (flags & TH_CWR) {
        c->ecn_cwr = false;
        tcp_set_mss(z, c);
    }
    if (len > 0 && seq_geq(seq, c->snd_max) && seq_leq(seq + len, c->snd_una + c->snd_wnd))
        ipv4_mark_ect(frame);
}
