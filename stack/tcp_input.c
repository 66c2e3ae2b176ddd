/* tcp_input.c - a segment arrives: RFC 9293 3.10.7, its steps in its order, with RFC 5961's
 * defences against segments that only guess, and RFC 7323's against old ones.
 *
 * A segment changes the connection and nothing else: whatever there is to send because of it (ACK,
 * data, FIN) is decided by tcp_next() afterwards. */
#include "cksum.h"
#include "ipv4.h"
#include "tcp_conn.h"

/* ---- what a segment says */

/* A sender that left the checksum to hardware put the sum of the pseudo-header there. On veth and
 * the like, that is how it arrives. */
static bool is_partial_sum(const struct pkt *pk)
{
    uint16_t field, pseudo = cksum_fold_raw(cksum_pseudo(&pk->src, &pk->dst, IP_TCP, pk->len));

    memcpy(&field, pk->p + 16, 2);
    return field == pseudo;
}

static bool parse(struct zest *z, struct pkt *pk, struct tcp_seg *seg)
{
    const uint8_t *h = pk->p;

    if (pk->len < TCP_HLEN || (uint32_t)(h[12] >> 4) * 4 < TCP_HLEN ||
        (uint32_t)(h[12] >> 4) * 4 > pk->len) {
        z->stats.drop_tcp_short++;
        return false;
    }
    if (!z->cfg.rx_csum_trusted) {
        uint64_t sum = cksum_pseudo(&pk->src, &pk->dst, IP_TCP, pk->len);
        bool bad = !pk->csum_ok && cksum_fold(pkt_sum(pk, sum, h, pk->len)) != 0;
        if (z->rec ? record_ask(z->rec, bad, NULL) : bad) {
            z->stats.drop_tcp_csum += !is_partial_sum(pk);
            z->stats.drop_tcp_csum_partial += is_partial_sum(pk);
            return false;
        }
    }
    uint32_t hdr_len = (uint32_t)(h[12] >> 4) * 4;
    if (!tcp_opt_parse(&seg->opt, h + TCP_HLEN, hdr_len - TCP_HLEN)) {
        z->stats.drop_tcp_option++;
        return false;
    }
    seg->src_port = be16_get(h);
    seg->dst_port = be16_get(h + 2);
    seg->seq = be32_get(h + 4);
    seg->ack = be32_get(h + 8);
    seg->flags = h[13];
    seg->wnd = be16_get(h + 14);
    seg->urp = be16_get(h + 18);
    pk->p += hdr_len;
    pk->len -= hdr_len;
    seg->len = pk->len;
    return true;
}

static uint32_t seg_end(const struct tcp_seg *seg)
{
    return seg->seq + seg->len + ((seg->flags & TH_SYN) ? 1 : 0) + ((seg->flags & TH_FIN) ? 1 : 0);
}

static void owe_ack(struct tcp_conn *c)
{
    if (!c->acks_owed)
        c->acks_owed = 1;
}

/* RFC 5961 7: an answer to what may be an attack, so not at any rate. */
static void challenge_ack(struct zest *z, struct tcp_conn *c)
{
    if (z->now_ns - c->challenge_ns < TCP_CHALLENGE_NS && c->challenge_ns)
        return;
    c->challenge_ns = z->now_ns;
    z->stats.tcp_challenge_acks++;
    owe_ack(c);
}

/* ---- opening */

static uint8_t window_shift(uint32_t rcv_buf)
{
    uint8_t shift = 0;

    while (shift < TCP_WSCALE_MAX && rcv_buf >> shift > TCP_WND_MAX)
        shift++;
    return shift;
}

void tcp_open(struct zest *z, struct tcp_conn *c, const uint32_t *above)
{
    c->iss = tcp_new_iss(z, c);
    if (above && seq_leq(c->iss, *above))
        c->iss = *above + 64000;
    c->snd_una = c->snd_nxt = c->snd_max = c->rtx_high = c->iss;
    c->recover = c->let_go = c->iss;
    c->snd_end = c->iss + 1;
    c->ts_on = c->wscale_on = true;
    c->ts_offset = (uint32_t)(c->iss * 2654435761u);
    c->rcv_wscale = window_shift(c->rcv_buf);
    c->who = addr_holder(&c->remote, c->remote_port);
    tcp_set_mss(z, c);
    tcp_table_insert(z, c);
}

/* What the peer's SYN says. An option that only one side sent is off. */
static void take_syn(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg)
{
    c->irs = seg->seq;
    c->rcv_nxt = seg->seq + 1;
    c->rcv_adv = c->rcv_nxt + (c->state == ZEST_SYN_SENT ? min_u32(c->rcv_adv, TCP_WND_MAX) : 0);
    c->peer_mss = seg->opt.has_mss ? seg->opt.mss : TCP_MSS_DEFAULT;
    c->ts_on = c->ts_on && seg->opt.has_ts;
    c->wscale_on = c->wscale_on && seg->opt.has_wscale;
    c->snd_wscale = c->wscale_on ? seg->opt.wscale : 0;
    if (!c->wscale_on)
        c->rcv_wscale = 0;
    tcp_ecn_take_syn(c, seg);
    if (c->ts_on) {
        c->ts_recent = seg->opt.ts_val;
        c->ts_recent_ns = z->now_ns;
    }
    c->snd_wnd = c->max_snd_wnd = seg->wnd;
    c->snd_wl1 = seg->seq;
    c->snd_wl2 = seg->ack;
    tcp_set_mss(z, c);
    c->cc->init(c);
}

static void established(struct zest *z, struct tcp_conn *c)
{
    struct tcp_listener *l = c->listener;

    tcp_set_state(z, c, c->fin_queued ? ZEST_FIN_WAIT_1 : ZEST_ESTABLISHED);
    if (c->rtos && !c->srtt_ns)
        c->rto_ns = 3 * NS_PER_S; /* RFC 6298 5.7 */
    if (c->keep_idle_s)
        c->keep_ns = z->now_ns + c->keep_idle_s * NS_PER_S;
    if (l) {
        *(l->acc_tail ? &l->acc_tail->acc_next : &l->acc_head) = c;
        l->acc_tail = c;
        z->stats.tcp_passive_opens++;
        tcp_listener_event(z, l);
    } else {
        z->stats.tcp_active_opens++;
        tcp_event(z, c, ZEST_EV_CONNECTED | (c->want_write ? ZEST_EV_WRITABLE : 0));
        c->want_write = false;
    }
}

/* 3.10.7.2 */
static void input_listen(struct zest *z, struct tcp_listener *l, struct pkt *pk,
                         struct tcp_seg *seg, const uint32_t *above)
{
    if (seg->flags & TH_RST) {
        z->stats.drop_tcp_state++;
        return;
    }
    if (seg->flags & TH_ACK) {
        z->stats.drop_tcp_no_conn++;
        tcp_rst_reply(z, pk, seg);
        return;
    }
    if (!(seg->flags & TH_SYN)) {
        z->stats.drop_tcp_state++;
        return;
    }
    struct tcp_conn *c = l->waiting < l->backlog ? tcp_conn_new(z) : NULL;
    if (!c) {
        z->stats.drop_tcp_backlog++;
        return;
    }
    c->remote = pk->src;
    c->remote_port = seg->src_port;
    c->local = pk->dst;
    c->local_port = seg->dst_port;
    c->passive = true;
    c->listener = l;
    l->waiting++;
    c->nodelay = l->nodelay;
    mem_group_leave(z, c->group);
    c->group = l->group;
    c->group->members++;
    c->mem_max = l->mem_max;
    c->snd_buf = l->snd_buf;
    c->rcv_buf = l->rcv_buf;
    c->keep_idle_s = l->keep_idle_s;
    c->keep_intvl_s = l->keep_intvl_s;
    c->keep_cnt = l->keep_cnt;
    c->user_timeout_ms = l->user_timeout_ms;
    c->ttl = l->ttl;
    c->dscp = l->dscp;
    c->ecn_mode = l->ecn_mode;
    c->soft_quiet = l->soft_quiet;
    if (l->mem_min == UINT32_MAX)
        mem_promise_default(z, c);
    else if (mem_promise(z, c, l->mem_min) < 0) {
        z->stats.drop_tcp_promise++;
        tcp_conn_end(z, c, ENOBUFS);
        return;
    }
    tcp_open(z, c, above);
    tcp_set_state(z, c, ZEST_SYN_RECEIVED);
    take_syn(z, c, seg);
    tcp_touch(z, c);
}

static void step_urg(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg,
                     uint32_t seq_on_wire);

/* 3.10.7.3 */
static void input_syn_sent(struct zest *z, struct tcp_conn *c, struct pkt *pk, struct tcp_seg *seg)
{
    bool ack = seg->flags & TH_ACK;

    if (ack && (seq_leq(seg->ack, c->iss) || seq_gt(seg->ack, c->snd_max))) { /* first */
        z->stats.drop_tcp_ack++;
        tcp_rst_reply(z, pk, seg);
        return;
    }
    if (seg->flags & TH_RST) { /* second */
        if (!ack) {
            z->stats.drop_tcp_state++;
            return;
        }
        z->stats.tcp_rsts_received++;
        tcp_conn_end(z, c, ECONNREFUSED);
        return;
    }
    if (!(seg->flags & TH_SYN)) { /* fourth, fifth */
        z->stats.drop_tcp_state++;
        return;
    }
    take_syn(z, c, seg);
    if (!ack) { /* simultaneous open: answer with SYN and ACK */
        tcp_set_state(z, c, ZEST_SYN_RECEIVED);
        c->snd_nxt = c->iss;
        c->again_why = ZEST_WHY_PEER_SYN;
        c->rtx_ns = ZEST_NEVER;
        return;
    }
    tcp_ack(z, c, seg);
    established(z, c);
    if (seg->flags & TH_URG)
        step_urg(z, c, seg, seg->seq);
    owe_ack(c);
}

/* ---- 3.10.7.4: the other states, step by step. Each returns false if the segment is done with. */

/* RFC 7323 5.3 R1: older than what came before. */
static bool is_paws_old(const struct zest *z, const struct tcp_conn *c, const struct tcp_seg *seg)
{
    return c->ts_on && seg->opt.has_ts && !(seg->flags & TH_RST) &&
           seq_lt(seg->opt.ts_val, c->ts_recent) && z->now_ns - c->ts_recent_ns < TCP_PAWS_IDLE_NS;
}

static bool in_window(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint32_t wnd = c->rcv_adv - c->rcv_nxt;
    uint32_t len = seg_end(seg) - seg->seq;

    /* An ACK that follows data which filled the window, and has not arrived, lies right at its
     * edge: RFC 9293's test would drop it, and with it what it acknowledges. */
    if (len == 0)
        return seq_geq(seg->seq, c->rcv_nxt) && seq_leq(seg->seq, c->rcv_adv);
    if (wnd == 0)
        return false;
    return seq_lt(seg->seq, c->rcv_adv) && seq_gt(seg->seq + len, c->rcv_nxt);
}

/* Leaves of the segment what is new and within the window. */
static void cut_to_window(struct tcp_conn *c, struct pkt *pk, struct tcp_seg *seg)
{
    if (seq_lt(seg->seq, c->rcv_nxt)) {
        uint32_t old = c->rcv_nxt - seg->seq;
        if (seg->flags & TH_SYN) {
            seg->flags &= (uint8_t)~TH_SYN;
            seg->seq++;
            old--;
        }
        old = min_u32(old, seg->len);
        if (pk->parted)
            pk->skip = old;
        else
            pk->p += old;
        seg->seq += old;
        seg->len -= old;
    }
    if (seq_gt(seg_end(seg), c->rcv_adv)) {
        uint32_t over = seg_end(seg) - c->rcv_adv;
        if (seg->flags & TH_FIN) {
            seg->flags &= (uint8_t)~TH_FIN;
            over--;
        }
        seg->len -= min_u32(over, seg->len);
    }
}

/* First: the sequence number. */
static bool step_sequence(struct zest *z, struct tcp_conn *c, struct pkt *pk, struct tcp_seg *seg)
{
    if (is_paws_old(z, c, seg)) {
        z->stats.drop_tcp_paws++;
        owe_ack(c);
        return false;
    }
    /* The SYN that made us, come again: with an ACK in it, it is the other half of a simultaneous
     * open; without, our SYN and ACK was lost. */
    if (c->state == ZEST_SYN_RECEIVED && (seg->flags & TH_SYN) && seg->seq == c->irs) {
        if (!(seg->flags & TH_ACK)) {
            z->stats.tcp_rx_dup++;
            c->snd_nxt = c->iss;
            c->again_why = ZEST_WHY_PEER_SYN;
            c->rtt_timing = false;
            c->rtx_high = c->snd_max;
            return false;
        }
        seg->flags &= (uint8_t)~TH_SYN;
        seg->seq++;
    }
    if (in_window(c, seg)) {
        cut_to_window(c, pk, seg);
        return true;
    }
    /* A closed window still takes ACKs and RSTs (3.10.7.4, MUST-66), of segments right at its edge.
     */
    if (c->rcv_adv == c->rcv_nxt && seg->seq == c->rcv_nxt && seg->len > 0) {
        z->stats.drop_tcp_seq++;
        owe_ack(c);
        seg->len = 0;
        seg->flags &= (uint8_t) ~(TH_FIN | TH_PSH);
        return true;
    }
    if (c->state == ZEST_TIME_WAIT && (seg->flags & TH_FIN))
        c->wait_ns = z->now_ns + 2 * TCP_MSL_NS; /* our last ACK was lost */
    z->stats.tcp_rx_dup += seq_leq(seg_end(seg), c->rcv_nxt);
    z->stats.drop_tcp_seq += seq_gt(seg_end(seg), c->rcv_nxt);
    if (seg->flags & TH_RST)
        return false;
    /* Two peers out of step must not answer each other's answers for ever: what carries nothing is
     * answered rarely. */
    if (seg_end(seg) == seg->seq)
        challenge_ack(z, c);
    else
        owe_ack(c);
    return false;
}

/* Second: RST (RFC 5961 3.2: only the exact sequence number resets). */
static bool step_rst(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg)
{
    if (!(seg->flags & TH_RST))
        return true;
    if (seg->seq != c->rcv_nxt) {
        challenge_ack(z, c);
        return false;
    }
    z->stats.tcp_rsts_received++;
    switch ((enum zest_tcp_state)c->state) {
    case ZEST_SYN_RECEIVED:
        tcp_conn_end(z, c, c->passive ? ECONNRESET : ECONNREFUSED);
        break;
    case ZEST_CLOSING:
    case ZEST_LAST_ACK:
    case ZEST_TIME_WAIT:
        tcp_conn_end(z, c, 0);
        break;
    default:
        tcp_conn_end(z, c, c->state == ZEST_CLOSE_WAIT && !c->fin_queued ? EPIPE : ECONNRESET);
        break;
    }
    return false;
}

/* Fourth: SYN (RFC 5961 4.2: never resets a synchronized connection). */
static bool step_syn(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg)
{
    if (!(seg->flags & TH_SYN))
        return true;
    z->stats.drop_tcp_state++;
    if (c->state == ZEST_SYN_RECEIVED && c->passive)
        tcp_conn_end(z, c, ECONNRESET);
    else
        challenge_ack(z, c);
    return false;
}

static bool our_fin_acked(const struct tcp_conn *c)
{
    return c->fin_queued && c->snd_una == c->snd_end + 1;
}

/* Fifth: ACK. */
static bool step_ack(struct zest *z, struct tcp_conn *c, struct pkt *pk, const struct tcp_seg *seg)
{
    if (!(seg->flags & TH_ACK)) {
        z->stats.drop_tcp_state++;
        return false;
    }
    if (c->state == ZEST_SYN_RECEIVED) {
        if (seq_leq(seg->ack, c->snd_una) || seq_gt(seg->ack, c->snd_max)) {
            z->stats.drop_tcp_ack++;
            tcp_rst_reply(z, pk, seg);
            return false;
        }
        established(z, c);
    } else if (seq_gt(seg->ack, c->snd_max) || seq_lt(seg->ack, c->snd_una - c->max_snd_wnd)) {
        z->stats.drop_tcp_ack++;
        challenge_ack(z, c); /* RFC 5961 5.2 */
        return false;
    }
    tcp_ack(z, c, seg);
    if (!our_fin_acked(c))
        return true;
    switch ((enum zest_tcp_state)c->state) {
    case ZEST_FIN_WAIT_1:
        tcp_set_state(z, c, ZEST_FIN_WAIT_2);
        if (!c->attached)
            c->wait_ns = z->now_ns + TCP_FIN_WAIT_2_NS;
        return true;
    case ZEST_CLOSING:
        tcp_start_time_wait(z, c);
        return true;
    case ZEST_LAST_ACK:
        tcp_conn_end(z, c, 0);
        return false;
    default:
        return true;
    }
}

static bool may_receive(const struct tcp_conn *c)
{
    return (c->state == ZEST_ESTABLISHED || c->state == ZEST_FIN_WAIT_1 ||
            c->state == ZEST_FIN_WAIT_2) &&
           !c->fin_received;
}

/* Sixth: the urgent pointer, to the byte after the last urgent one (3.8.5, MUST-62), which may be
 * far ahead of what has arrived, and which is told of as soon as it is known. It never moves back.
 */
static void step_urg(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg,
                     uint32_t seq_on_wire)
{
    int32_t ahead = (int32_t)(seq_on_wire + seg->urp - c->rcv_nxt);
    int64_t end = (int64_t)c->bytes_received + ahead;

    if (!may_receive(c) || end <= (int64_t)c->urgent_end)
        return;
    c->urgent_end = (uint64_t)end;
    if (c->urgent_end > c->bytes_received - c->rcv_queued)
        tcp_event(z, c, ZEST_EV_URGENT);
}

/* Seventh: the segment text. */
static bool step_text(struct zest *z, struct tcp_conn *c, struct pkt *pk, struct tcp_seg *seg)
{
    if (seg->len == 0 || !may_receive(c))
        return true;
    if (!c->attached && !c->listener) {
        /* Closed by the application, and there is more: RFC 1122 4.2.2.13 asks for a RST. */
        z->stats.drop_tcp_state++;
        tcp_rst_conn(z, c);
        tcp_conn_end(z, c, 0);
        return false;
    }
    /* Full segments are acknowledged every second time; see recvq_data(). */
    recvq_data(z, c, pk, seg);
    return true;
}

/* Eighth: FIN, once everything before it is there. */
static void step_fin(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg)
{
    if ((seg->flags & TH_FIN) && !c->fin_seen && may_receive(c)) {
        c->fin_seen = true;
        c->fin_seq = seg->seq + seg->len;
    }
    if (!c->fin_seen || c->fin_received || c->rcv_nxt != c->fin_seq)
        return;
    c->fin_received = true;
    c->rcv_nxt++;
    c->urgent_end = min_u64(c->urgent_end, c->bytes_received); /* there is nothing beyond, */
    recvq_free_reass(z, c); /* even if the peer has sent something from there before */
    assert(seq_leq(c->rcv_nxt, c->rcv_adv)); /* beyond the window it is cut off */
    owe_ack(c);
    tcp_event(z, c, ZEST_EV_EOF);
    switch ((enum zest_tcp_state)c->state) {
    case ZEST_ESTABLISHED:
        tcp_set_state(z, c, ZEST_CLOSE_WAIT);
        break;
    case ZEST_FIN_WAIT_1:
        tcp_set_state(z, c, ZEST_CLOSING);
        break;
    case ZEST_FIN_WAIT_2:
        tcp_start_time_wait(z, c);
        break;
    default:
        break;
    }
}

/* RFC 7323 4.3 (2): a timestamp is kept from the segment that the next ACK answers. */
static void keep_timestamp(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg,
                           uint32_t seq_on_wire)
{
    if (c->ts_on && seg->opt.has_ts && seq_geq(seg->opt.ts_val, c->ts_recent) &&
        seq_leq(seq_on_wire, c->last_ack_sent)) {
        c->ts_recent = seg->opt.ts_val;
        c->ts_recent_ns = z->now_ns;
    }
}

static void input_general(struct zest *z, struct tcp_conn *c, struct pkt *pk, struct tcp_seg *seg)
{
    uint32_t seq_on_wire = seg->seq;
    uint32_t generation = c->generation;

    if (!step_sequence(z, c, pk, seg) || !step_rst(z, c, seg) || !step_syn(z, c, seg))
        return;
    keep_timestamp(z, c, seg, seq_on_wire);
    if (!step_ack(z, c, pk, seg))
        return;
    if (c->ecn)
        tcp_ecn_input(z, c, seg, pk->ip[1]);
    if (seg->flags & TH_URG)
        step_urg(z, c, seg, seq_on_wire);
    if (!step_text(z, c, pk, seg) || c->generation != generation)
        return;
    step_fin(z, c, seg);
}

/* A SYN for a connection in TIME-WAIT that is clearly newer begins it anew (RFC 9293 3.6.1 MAY-2,
 * RFC 6191). */
static bool reopens(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    if (c->state != ZEST_TIME_WAIT || (seg->flags & (TH_SYN | TH_ACK | TH_RST)) != TH_SYN)
        return false;
    return seq_gt(seg->seq, c->rcv_nxt) ||
           (c->ts_on && seg->opt.has_ts && seq_gt(seg->opt.ts_val, c->ts_recent));
}

void tcp_input(struct zest *z, struct pkt *pk)
{
    struct tcp_seg seg;
    uint32_t last_seq;
    const uint32_t *above = NULL;

    if (!parse(z, pk, &seg))
        return;
    z->stats.tcp_rx_segs++;
    if (pk->multicast || seg.src_port == 0 || seg.dst_port == 0) { /* MUST-57 */
        z->stats.drop_tcp_state++;
        return;
    }
    struct tcp_conn *c = tcp_table_find(z, &pk->dst, seg.dst_port, &pk->src, seg.src_port);
    if (c && reopens(c, &seg) && tcp_listener_find(z, &pk->dst, seg.dst_port)) {
        last_seq = c->snd_max;
        above = &last_seq;
        tcp_conn_end(z, c, 0);
        c = NULL;
    }
    if (!c) {
        struct tcp_listener *l = tcp_listener_find(z, &pk->dst, seg.dst_port);
        if (l) {
            input_listen(z, l, pk, &seg, above);
        } else {
            z->stats.drop_tcp_no_conn++;
            tcp_rst_reply(z, pk, &seg);
        }
        return;
    }
    c->segs_received++;
    /* Here, where a SYN is still one: step_sequence() takes it off what answers ours. */
    if (!(seg.flags & TH_SYN)) /* RFC 7323 2.2: never scaled in a SYN */
        seg.wnd <<= c->snd_wscale;
    if (c->state == ZEST_SYN_SENT)
        input_syn_sent(z, c, pk, &seg);
    else
        input_general(z, c, pk, &seg);
    if (c->state != ZEST_CLOSED)
        tcp_received(z, c);
}
