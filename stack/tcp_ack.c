/* tcp_ack.c - what acknowledgements, and their absence, do to the sender: RFC 9293 3.10.7.4
 * (fifth), loss recovery by RFC 6582 (NewReno) with RFC 3042 (limited transmit, in
 * tcp_usable_window), time-outs by RFC 6298 5.
 *
 * The retransmission timer runs while anything is in flight. The same timer is the persist timer
 * (c->probing) while nothing is in flight and the peer's window keeps what is queued from being
 * sent (RFC 9293 3.8.6.1). */
#include "ipv4.h"
#include "tcp_conn.h"

/* Something is queued that a window stops, and nothing is in flight whose ACK could open it. */
static bool persist_needed(const struct tcp_conn *c)
{
    return c->snd_nxt == c->snd_una && tcp_window_stalled(c);
}

/* When the connection is given up if nothing is acknowledged until then. */
uint64_t tcp_give_up_ns(const struct tcp_conn *c)
{
    uint64_t r2_ns = tcp_synchronized(c) ? TCP_R2_NS : TCP_R2_SYN_NS;

    if (c->user_timeout_ms)
        r2_ns = c->user_timeout_ms * NS_PER_MS;
    /* A closed window may stay closed for as long as the peer answers (RFC 9293 3.8.6.1, MUST-37).
     */
    return (c->probing ? c->last_ack_ns : c->progress_ns) + r2_ns;
}

void tcp_rtx_arm(struct zest *z, struct tcp_conn *c)
{
    bool in_flight = c->snd_nxt != c->snd_una;

    if (!in_flight && !persist_needed(c)) {
        c->rtx_ns = ZEST_NEVER;
        c->probing = false;
        return;
    }
    if (c->rtx_ns != ZEST_NEVER && c->probing != in_flight)
        return; /* it runs */
    if (c->probing == in_flight) {
        c->probing = !in_flight;
        c->backoff = 0;
    }
    c->rtx_ns = z->now_ns + tcp_rto_backed_off(c);
    c->rtx_ns = min_u64(c->rtx_ns, max_u64(tcp_give_up_ns(c), z->now_ns + NS_PER_MS));
}

void tcp_rtx_timeout(struct zest *z, struct tcp_conn *c)
{
    if (z->now_ns >= tcp_give_up_ns(c)) {
        tcp_conn_end(z, c, c->soft_error ? c->soft_error : ETIMEDOUT);
        return;
    }
    c->rtx_ns = ZEST_NEVER;
    if (c->probing) {
        c->probe_now = true;
        if (c->backoff < UINT8_MAX)
            c->backoff++;
        c->rtx_ns = z->now_ns + tcp_rto_backed_off(c);
        return;
    }
    z->stats.tcp_rtos++;
    c->rtos++;
    c->cc->timed_out(c, c->snd_nxt - c->snd_una, z->now_ns);
    if (c->backoff < UINT8_MAX)
        c->backoff++;           /* RFC 6298 5.5 */
    if (c->backoff == TCP_R1) { /* RFC 9293 3.8.3 */
        ipv4_doubt(z, c->remote.w[3]);
        tcp_soft_error(z, c, c->soft_error ? c->soft_error : ETIMEDOUT);
    }
    c->in_recovery = false;
    c->rtx_now = false;
    c->dupacks = 0;
    c->recover = c->snd_max; /* RFC 6582 3.2, step 6 */
    c->rtx_high = c->snd_max;
    c->rtt_timing = false;
    c->again_why = ZEST_WHY_RTO;
    c->snd_nxt = c->snd_una;
    c->sq_send = sendq_find(c, c->snd_nxt);
}

static void update_window(struct tcp_conn *c, const struct tcp_seg *seg)
{
    /* Only from a segment that is newer than the one the window came from: by its sequence number,
     * or because it acknowledges more than any before (a peer that repeats old data says so with
     * old sequence numbers). */
    bool old =
        seq_gt(c->snd_wl1, seg->seq) || (c->snd_wl1 == seg->seq && seq_gt(c->snd_wl2, seg->ack));
    if (old && seq_leq(seg->ack, c->snd_una))
        return;
    c->snd_wnd = seg->wnd;
    c->max_snd_wnd = max_u32(c->max_snd_wnd, c->snd_wnd);
    c->snd_wl1 = seg->seq;
    c->snd_wl2 = seg->ack;
}

static void enter_recovery(struct zest *z, struct tcp_conn *c)
{
    c->cc->lost(c, c->snd_max - c->snd_una, z->now_ns);
    c->cwnd =
        c->ssthresh + 3 * c->mss; /* RFC 5681 3.2 step 3: the three that have left the network */
    c->recover = c->snd_max;
    c->in_recovery = true;
    c->partial_acked = false;
    c->rtx_now = true;
    c->rtx_why = ZEST_WHY_FAST;
    c->fast_retransmits++;
    z->stats.tcp_fast_retransmits++;
}

static void duplicate_ack(struct zest *z, struct tcp_conn *c)
{
    if (c->dupacks < UINT8_MAX)
        c->dupacks++;
    if (c->in_recovery) {
        c->cwnd = min_u32(c->cwnd + c->mss, 1u << 30); /* another has left the network */
        return;
    }
    /* RFC 6582 3.2 step 2: not for the echoes of what was sent again before. */
    if (c->dupacks == 3 && seq_gt(c->snd_una, c->recover))
        enter_recovery(z, c);
}

/* RFC 6582 3.2 step 3. True if the retransmission timer is to start anew, which of partial ACKs
 * only the first has it do: recovery mends one loss in a round trip, and the peer, which has
 * nothing beyond it, puts off each ACK. Where hundreds were lost in a row the timer mends them
 * sooner. */
static bool ack_in_recovery(struct tcp_conn *c, uint32_t acked)
{
    if (seq_geq(c->snd_una, c->recover)) {
        uint32_t flight = c->snd_max - c->snd_una;
        c->cwnd = min_u32(c->ssthresh, max_u32(flight, c->mss) + c->mss);
        c->in_recovery = false;
        c->dupacks = 0;
        return true;
    }
    /* A partial ACK: the next hole begins at snd_una. */
    c->rtx_now = true;
    c->rtx_why = ZEST_WHY_PARTIAL_ACK;
    c->cwnd = c->cwnd > acked ? c->cwnd - acked : 0;
    if (acked >= c->mss)
        c->cwnd += c->mss;
    c->cwnd = max_u32(c->cwnd, c->mss);
    bool first = !c->partial_acked;
    c->partial_acked = true;
    return first;
}

static void sample_rtt(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg)
{
    if (c->rtt_timing && seq_gt(seg->ack, c->rtt_seq)) {
        tcp_rtt_sample(c, z->now_ns - c->rtt_start_ns);
        c->rtt_timing = false;
    } else if (tcp_karn(c) && c->ts_on && seg->opt.has_ts && seg->opt.ts_ecr) {
        /* RFC 7323 4.3: the echoed timestamp says which of the two was acknowledged. */
        uint32_t ms = tcp_ts_now(z, c) - seg->opt.ts_ecr;
        if (ms < 60 * 1000)
            tcp_rtt_sample(c, ms * NS_PER_MS);
    }
}

static void new_ack(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint32_t acked = seg->ack - c->snd_una;
    uint32_t flight = c->snd_nxt - c->snd_una;
    bool restart = true; /* of the timer: RFC 6298 5.2, 5.3 */

    sample_rtt(z, c, seg);
    c->snd_una = seg->ack;
    c->bytes_acked += acked;
    c->progress_ns = z->now_ns;
    c->backoff = 0;
    c->soft_error = 0;
    c->rtx_now = false;
    /* The pbuf that sq_send points to may be freed now: look it up again where snd_nxt was passed
     * by. */
    bool passed = seq_lt(c->snd_nxt, c->snd_una);
    if (passed)
        c->snd_nxt = c->snd_una;
    sendq_acked(z, c);
    if (passed)
        c->sq_send = sendq_find(c, c->snd_nxt);

    if (c->in_recovery) {
        restart = ack_in_recovery(c, acked);
    } else {
        c->dupacks = 0;
        /* RFC 7661's reason: a window that was not filled has not been tested. */
        uint32_t slack = c->cwnd < c->ssthresh ? c->cwnd / 2 : 2 * c->mss;
        if (flight + slack >= c->cwnd)
            c->cc->acked(c, acked, z->now_ns);
    }
    if (restart)
        c->rtx_ns = ZEST_NEVER; /* by tcp_rtx_arm(), while something is in flight */
    if (c->want_write && c->snd_end - c->snd_una <= c->snd_buf - c->snd_buf / 4 &&
        sendq_room(z, c) > 0) {
        c->want_write = false;
        tcp_event(z, c, ZEST_EV_WRITABLE);
    }
}

/* seg->ack is acceptable: between snd_una - max_snd_wnd and snd_max (RFC 5961 5.2). */
void tcp_ack(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint32_t wnd_before = c->snd_wnd;

    c->last_ack_ns = z->now_ns;
    if (c->probing) /* who answers probes of a closed window is there: R2 counts from now */
        c->progress_ns = z->now_ns;
    c->keep_sent = 0;
    if (c->keep_idle_s)
        c->keep_ns = z->now_ns + c->keep_idle_s * NS_PER_S;
    if (seq_lt(seg->ack, c->snd_una))
        return; /* old: its window is old, too */
    update_window(c, seg);
    if (seq_gt(seg->ack, c->snd_una))
        new_ack(z, c, seg);
    else if (seg->len == 0 && !(seg->flags & (TH_SYN | TH_FIN)) && c->snd_wnd == wnd_before &&
             c->snd_una != c->snd_max && !c->probing)
        duplicate_ack(z, c); /* RFC 5681 2, DUPLICATE ACKNOWLEDGMENT (a) to (e) */
    if (c->probing && !tcp_window_stalled(c))
        c->backoff = 0;
}
