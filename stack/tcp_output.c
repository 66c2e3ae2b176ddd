/* tcp_output.c - what a connection does next, and doing it.
 *
 * tcp_next() looks at a connection and the time and says what is to be done and when. tcp_run()
 * asks it which connections may send, tcp_deadline() relies on its answer, and nobody else decides,
 * so they cannot disagree. A connection with something to do now is on the ready list; connections
 * take turns of TCP_QUANTUM frames. What a segment looks like is tcp_segment.c's. */
#include "tcp_conn.h"

/* ---- deciding */

/* What the peer's window and the congestion window leave, past snd_nxt. */
uint32_t tcp_usable_window(const struct tcp_conn *c)
{
    uint32_t cwnd = c->cwnd;
    uint32_t flight = tcp_flight(c);

    if (!c->in_recovery &&
        c->dupacks > 0) /* RFC 3042: a new segment for each of the first two duplicates */
        cwnd += min_u32(c->dupacks, 2) * c->mss;
    uint32_t wnd = min_u32(c->snd_wnd, cwnd);
    return wnd > flight ? wnd - flight : 0;
}

static bool may_carry_data(const struct tcp_conn *c)
{
    switch ((enum zest_tcp_state)c->state) {
    case ZEST_ESTABLISHED:
    case ZEST_CLOSE_WAIT:
    case ZEST_FIN_WAIT_1:
    case ZEST_CLOSING:
    case ZEST_LAST_ACK:
        return true;
    default:
        return false;
    }
}

static uint32_t unsent_bytes(const struct tcp_conn *c)
{
    return seq_lt(c->snd_nxt, c->snd_end) ? c->snd_end - c->snd_nxt : 0;
}

static bool urgent_due(const struct tcp_conn *c)
{
    return c->urgent && seq_lt(c->snd_nxt, c->snd_up);
}

/* Less than a full segment, from `at` to the end of what there is: may it go? */
static bool rest_may_go(const struct tcp_conn *c, uint32_t at)
{
    if (seq_lt(at, c->snd_max))
        return true; /* again: it was right to send it the first time */
    if (urgent_due(c))
        return true;
    if (c->cork && !c->want_write) /* with a full buffer, nothing could ever end the wait */
        return false;
    return c->nodelay || at == c->snd_una || c->fin_queued || seq_lt(at, c->let_go);
}

/* Several full segments go as one frame if the link cuts it up. Not what is repeated: that goes by
 * the segment. (tcp_set_mss() knows more such cases.) */
static uint32_t frame_limit(const struct tcp_conn *c)
{
    return seq_lt(c->snd_nxt, c->snd_max) ? c->mss : c->send_max;
}

/* The payload of a full segment to this peer: of a window smaller than two of them, half. A single
 * one in flight would wait for the peer's delayed ACK every time. (Below the default MSS windows
 * are so small that headers would outweigh them.) */
static uint32_t full_segment(const struct tcp_conn *c)
{
    uint32_t half = c->max_snd_wnd / 2;

    return half < c->mss && half >= TCP_MSS_DEFAULT ? half : c->mss;
}

/* Bytes to send at snd_nxt now; *fin if the FIN goes with them. False: nothing is to be sent yet.
 * The rules against silly windows (RFC 9293 3.8.6.2.1) and Nagle's (3.7.4) are here, and only here.
 */
static bool data_due(const struct tcp_conn *c, uint32_t *len, bool *fin)
{
    if (!may_carry_data(c) || c->snd_nxt == tcp_snd_limit(c))
        return false;
    uint32_t unsent = unsent_bytes(c);
    uint32_t usable = tcp_usable_window(c);
    uint32_t full = full_segment(c);
    *len = min_u32(min_u32(unsent, usable), full < c->mss ? full : frame_limit(c));
    if (*len > c->mss) {
        uint32_t rest = *len % c->mss;
        if (*len < unsent || !rest_may_go(c, c->snd_nxt + *len - rest))
            *len -= rest;
    }
    *fin = c->fin_queued && *len == unsent && usable > unsent;
    if (*len >= full || (*fin && *len == unsent))
        return true;
    if (*len == 0)
        return false;
    if (*len == unsent) /* all that there is */
        return rest_may_go(c, c->snd_nxt);
    return seq_lt(c->snd_nxt, c->let_go) ||
           (c->snd_nxt == c->snd_una && *len >= c->max_snd_wnd / 2);
}

bool tcp_window_stalled(const struct tcp_conn *c)
{
    uint32_t len;
    bool fin;

    if (!may_carry_data(c) || c->snd_nxt == tcp_snd_limit(c) || data_due(c, &len, &fin))
        return false;
    uint32_t unsent = unsent_bytes(c);
    uint32_t usable = tcp_usable_window(c);
    return usable < min_u32(unsent, full_segment(c)) || usable == 0; /* else it is only corked */
}

static bool syn_due(const struct tcp_conn *c)
{
    return (c->state == ZEST_SYN_SENT || c->state == ZEST_SYN_RECEIVED) && c->snd_nxt == c->iss;
}

static bool may_ack(const struct tcp_conn *c)
{
    return c->state >= ZEST_SYN_RECEIVED;
}

enum tcp_action tcp_next(const struct zest *z, const struct tcp_conn *c, uint64_t *when_ns)
{
    uint64_t now_ns = z->now_ns;
    uint32_t len;
    bool fin;

    *when_ns = ZEST_NEVER;
    if (c->state == ZEST_CLOSED)
        return TCP_DO_NOTHING;
    *when_ns = 0;
    if (c->wait_ns <= now_ns)
        return TCP_DO_EXPIRE;
    if (c->rtx_ns <= now_ns)
        return TCP_DO_TIMEOUT;
    if (c->keep_ns <= now_ns)
        return TCP_DO_KEEPALIVE;
    if (c->rtx_now)
        return TCP_DO_RETRANSMIT;
    if (syn_due(c) || data_due(c, &len, &fin))
        return TCP_DO_SEND;
    if (c->probe_now)
        return TCP_DO_PROBE;
    if (may_ack(c) && (c->acks_owed || c->delack_ns <= now_ns || recvq_update_due(z, c)))
        return TCP_DO_ACK;
    *when_ns = min_u64(min_u64(c->wait_ns, c->rtx_ns), min_u64(c->keep_ns, c->delack_ns));
    return TCP_DO_NOTHING;
}

/* ---- doing */

static struct tcp_payload payload_at(struct pbuf *pb, uint32_t seq, uint32_t len)
{
    assert(len == 0 || pb);
    return (struct tcp_payload){.pb = pb, .off = pb ? seq - pb->seq : 0, .len = len};
}

static void advance(struct tcp_conn *c, uint32_t len)
{
    c->snd_nxt += len;
    c->snd_max = seq_max(c->snd_max, c->snd_nxt);
    c->let_go = seq_max(c->let_go, c->snd_nxt);
    while (c->sq_send && seq_leq(c->sq_send->seq + c->sq_send->len, c->snd_nxt))
        c->sq_send = c->sq_send->next;
}

static int send_syn(struct zest *z, struct tcp_conn *c, struct zest_frame *f)
{
    uint8_t flags =
        (uint8_t)((c->state == ZEST_SYN_SENT ? TH_SYN : TH_SYN | TH_ACK) | tcp_ecn_syn_flags(c));
    struct tcp_payload none = {0};
    int err = tcp_segment(z, c, c->iss, &flags, &none, f);

    if (err < 0)
        return err;
    if (c->snd_max != c->iss) {
        f->why = c->again_why;
        c->segs_retransmitted++;
        z->stats.tcp_retransmits++;
    } else {
        c->rtt_timing = true;
        c->rtt_seq = c->iss;
        c->rtt_start_ns = z->now_ns;
        c->progress_ns = z->now_ns;
    }
    advance(c, 1);
    return 0;
}

/* The next segment at snd_nxt, or (forced) as much of it as the override time-out lets past a silly
 * window. */
static int send_data(struct zest *z, struct tcp_conn *c, uint32_t len, bool fin,
                     struct zest_frame *f)
{
    struct tcp_payload pl = payload_at(c->sq_send, c->snd_nxt, len);
    uint32_t unsent = unsent_bytes(c);
    /* MUST-60: PSH on the last of what is queued. */
    uint8_t flags = (uint8_t)(TH_ACK | (fin ? TH_FIN : 0) | (len && len == unsent ? TH_PSH : 0));
    bool again = seq_lt(c->snd_nxt, c->snd_max);

    if (c->snd_nxt == c->snd_una && !again) {
        /* RFC 5681 4.1: after a pause longer than the RTO the path is probed anew. */
        if (z->now_ns - c->last_sent_ns > c->rto_ns && !c->in_recovery)
            c->cc->idle(c);
    }
    uint32_t let_go = c->snd_nxt == c->snd_una ? c->snd_nxt + len : c->let_go;
    int err = tcp_segment(z, c, c->snd_nxt, &flags, &pl, f);
    if (err < 0)
        return err;
    c->let_go = let_go;
    if (again) {
        f->why = c->again_why;
        c->segs_retransmitted++;
        z->stats.tcp_retransmits++;
    } else if (!c->rtt_timing && !tcp_karn(c)) {
        c->rtt_timing = true;
        c->rtt_seq = c->snd_nxt;
        c->rtt_start_ns = z->now_ns;
    }
    if (c->snd_nxt == c->snd_una && !again)
        c->progress_ns = z->now_ns;
    c->last_sent_ns = z->now_ns;
    advance(c, pl.len + ((flags & TH_FIN) ? 1 : 0));
    return 0;
}

/* The segment at snd_una, for the third duplicate ACK or a partial one. snd_nxt stays. */
static int retransmit(struct zest *z, struct tcp_conn *c, struct zest_frame *f)
{
    uint32_t sent = min_u32(c->snd_end - c->snd_una, c->snd_max - c->snd_una);
    uint32_t len = min_u32(sent, c->mss);
    bool fin = c->fin_queued && c->snd_una + len == c->snd_end && seq_gt(c->snd_max, c->snd_end);
    uint8_t flags =
        (uint8_t)(TH_ACK | (fin ? TH_FIN : 0) | (c->snd_una + len == c->snd_end ? TH_PSH : 0));
    struct tcp_payload pl = payload_at(len ? c->sq_head : NULL, c->snd_una, len);

    if (len == 0 && !fin) { /* acknowledged meanwhile */
        c->rtx_now = false;
        return 1;
    }
    int err = tcp_segment(z, c, c->snd_una, &flags, &pl, f);
    if (err < 0)
        return err;
    f->why = c->rtx_why;
    c->rtx_now = false;
    c->rtt_timing = false;
    c->rtx_high = c->snd_max;
    c->segs_retransmitted++;
    z->stats.tcp_retransmits++;
    if (c->rtx_why == ZEST_WHY_FAST) /* after a partial ACK: see ack_in_recovery() */
        c->rtx_ns = ZEST_NEVER;
    return 0;
}

/* RFC 9293 3.8.6.1: at least one octet of new data. What the window does let through goes as an
 * ordinary segment: the override time-out of 3.8.6.2.1. */
static int send_probe(struct zest *z, struct tcp_conn *c, struct zest_frame *f)
{
    uint32_t unsent = unsent_bytes(c);
    uint32_t usable = min_u32(tcp_usable_window(c), c->mss);
    int err;

    if (!tcp_window_stalled(c)) {
        c->probe_now = false;
        return 1;
    }
    if (usable > 0 && unsent > 0) {
        err = send_data(z, c, min_u32(unsent, usable), false, f);
    } else {
        struct tcp_payload pl = payload_at(unsent ? c->sq_send : NULL, c->snd_nxt, unsent ? 1 : 0);
        uint8_t flags = unsent ? TH_ACK : TH_ACK | TH_FIN;
        err = tcp_segment(z, c, c->snd_nxt, &flags, &pl, f);
        if (err ==
            0) { /* the peer may take it: its ACK must be acceptable, and no RTT is measured */
            c->rtx_high = c->snd_max = seq_max(c->snd_max, c->snd_nxt + 1);
            c->again_why = ZEST_WHY_PROBED;
        }
    }
    if (err < 0)
        return err;
    if (f->why == ZEST_WHY_NEW)
        f->why = ZEST_WHY_PROBE;
    c->probe_now = false;
    z->stats.tcp_zero_window_probes++;
    return 0;
}

static int send_ack(struct zest *z, struct tcp_conn *c, uint32_t seq, struct zest_frame *f)
{
    uint8_t flags = TH_ACK;
    struct tcp_payload none = {0};

    return tcp_segment(z, c, seq, &flags, &none, f);
}

/* An ACK without data goes with the highest sequence number that was sent, even while earlier bytes
 * are being repeated: to the peer, a lower one would be old, and so would the window in it. But not
 * beyond the peer's window: there it would not be acceptable. */
static uint32_t ack_seq(const struct tcp_conn *c)
{
    uint32_t edge = c->snd_una + c->snd_wnd;

    return seq_leq(c->snd_max, edge) ? c->snd_max : seq_max(c->snd_nxt, edge);
}

/* RFC 9293 3.8.4: an empty segment one before the window makes the peer answer. */
static int keepalive(struct zest *z, struct tcp_conn *c, struct zest_frame *f)
{
    if (!tcp_synchronized(c) || c->state == ZEST_TIME_WAIT || c->snd_una != c->snd_max) {
        c->keep_ns =
            z->now_ns + c->keep_idle_s * NS_PER_S; /* only an idle connection is probed (MUST-26) */
        return 1;
    }
    if (c->keep_sent >= c->keep_cnt) {
        tcp_rst_conn(z, c);
        tcp_conn_end(z, c, ETIMEDOUT);
        return 1;
    }
    int err = send_ack(z, c, c->snd_nxt - 1, f);
    if (err < 0)
        return err;
    f->why = ZEST_WHY_KEEPALIVE;
    c->keep_sent++;
    c->keep_ns = z->now_ns + c->keep_intvl_s * NS_PER_S;
    z->stats.tcp_keepalive_probes++;
    return 0;
}

/* Does one thing. 0: a frame was built. 1: done without one. -errno as tcp_segment(). */
static int act(struct zest *z, struct tcp_conn *c, enum tcp_action action, struct zest_frame *f)
{
    uint32_t len;
    bool fin;

    switch (action) {
    case TCP_DO_EXPIRE:
        tcp_conn_end(z, c, 0);
        return 1;
    case TCP_DO_TIMEOUT:
        tcp_rtx_timeout(z, c);
        return 1;
    case TCP_DO_KEEPALIVE:
        return keepalive(z, c, f);
    case TCP_DO_RETRANSMIT:
        return retransmit(z, c, f);
    case TCP_DO_SEND:
        if (syn_due(c))
            return send_syn(z, c, f);
        if (!data_due(c, &len, &fin))
            return 1;
        return send_data(z, c, len, fin, f);
    case TCP_DO_PROBE:
        return send_probe(z, c, f);
    case TCP_DO_ACK:
        if (!c->acks_owed)
            c->acks_owed = 1;
        return send_ack(z, c, ack_seq(c), f);
    case TCP_DO_NOTHING:
        break;
    }
    return 1;
}

/* The peer's link address can't be had. A connection being opened fails; any other waits for its
 * timer, as if the segment had been lost. */
static void unreachable(struct zest *z, struct tcp_conn *c, int err)
{
    if (!tcp_synchronized(c)) {
        tcp_conn_end(z, c, -err);
        return;
    }
    tcp_soft_error(z, c, -err);
    c->rtx_now = c->probe_now = false;
    c->acks_owed = 0;
    c->delack_ns = ZEST_NEVER;
    if (c->rtx_ns == ZEST_NEVER) {
        c->rtx_ns = z->now_ns + tcp_rto_backed_off(c);
        c->rtx_ns = min_u64(c->rtx_ns, max_u64(tcp_give_up_ns(c), z->now_ns + NS_PER_MS));
    }
    tcp_block(z, c);
    timer_set(z, c, c->rtx_ns);
}

/* What the application's calls left to be done once the time is known. */
static void start_timers(struct zest *z, struct tcp_conn *c)
{
    if (c->start_keep && tcp_synchronized(c))
        c->keep_ns = z->now_ns + c->keep_idle_s * NS_PER_S;
    if (c->start_wait)
        c->wait_ns = z->now_ns + TCP_FIN_WAIT_2_NS;
    c->start_keep = c->start_wait = false;
    if (c->rtx_ns == ZEST_NEVER) /* what was just queued may face a closed window */
        tcp_rtx_arm(z, c);
}

/* One connection's turn. *more: it was its time that ran out, not its work. */
static unsigned turn(struct zest *z, struct tcp_conn *c, struct zest_frame *out, unsigned max,
                     bool *more)
{
    unsigned n = 0;
    uint64_t when_ns;
    uint32_t generation = c->generation;

    *more = false;
    start_timers(z, c);
    for (unsigned steps = 0; n < max; steps++) {
        assert(steps < 4 * TCP_QUANTUM + 16); /* every step sends, or takes a reason to send away */
        enum tcp_action action = tcp_next(z, c, &when_ns);
        if (when_ns != 0) {
            if (when_ns != ZEST_NEVER || c->heap_pos)
                timer_set(z, c, when_ns);
            return n;
        }
        zest_frame_clear(&out[n]);
        int err = act(z, c, action, &out[n]);
        if (c->generation != generation || c->state == ZEST_CLOSED)
            return n; /* it is gone */
        if (err == -ENOBUFS) {
            z->tcp.retry_ns = z->now_ns + TCP_RETRY_NS;
            *more = true;
            return n;
        }
        if (err == -EAGAIN) {
            tcp_block(z, c);
            return n;
        }
        if (err < 0) {
            unreachable(z, c, err);
            return n;
        }
        if (err == 0)
            n++;
        tcp_rtx_arm(z, c);
    }
    *more = true;
    return n;
}

static void unblock(struct zest *z)
{
    if (z->tcp.arp_gen == z->arp.gen)
        return;
    z->tcp.arp_gen = z->arp.gen;
    while (z->tcp.blocked.head)
        tcp_make_ready(z, z->tcp.blocked.head);
}

static void fire_timers(struct zest *z)
{
    for (struct tcp_conn *c; (c = timer_first(z)) && c->heap_key <= z->now_ns;) {
        timer_off(z, c);
        if (c->on == TCP_ON_BLOCKED)
            tcp_make_ready(z, c);
        else
            tcp_touch(z, c);
    }
}

unsigned tcp_run(struct zest *z, struct zest_frame *out, unsigned max)
{
    unsigned n = 0;

    unblock(z);
    fire_timers(z);
    if (z->now_ns < z->tcp.retry_ns)
        return 0;
    z->tcp.retry_ns = 0;
    while (n < max && z->tcp.ready.head) {
        struct tcp_conn *c = z->tcp.ready.head;
        bool more;
        tcp_list_remove(z, c);
        n += turn(z, c, out + n, min_u32(max - n, TCP_QUANTUM), &more);
        if (more)
            tcp_make_ready(z, c);
        if (z->tcp.retry_ns)
            break;
    }
    unblock(z); /* asking for an address may have changed what others wait for */
    return n;
}

uint64_t tcp_deadline(const struct zest *z)
{
    struct tcp_conn *first = timer_first(z);
    uint64_t timer_ns = first ? first->heap_key : ZEST_NEVER;

    if (z->tcp.arp_gen != z->arp.gen && z->tcp.blocked.head)
        return 0;
    if (z->tcp.ready.head)
        return z->tcp.retry_ns;
    return timer_ns;
}

void tcp_settle(struct zest *z)
{
    for (struct tcp_conn *c; (c = timer_first(z));) {
        uint64_t when_ns;
        if (c->on == TCP_ON_READY) { /* the ready list looks after it; its timer comes back then */
            timer_off(z, c);
            continue;
        }
        (void)tcp_next(z, c, &when_ns);
        if (when_ns <= c->heap_key)
            return;
        timer_set(z, c, when_ns);
    }
}
