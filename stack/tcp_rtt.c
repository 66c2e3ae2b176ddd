/* tcp_rtt.c - the retransmission time-out (RFC 6298).
 *
 * One segment a window is timed, to the nanosecond, and never one that was sent twice (Karn). With
 * timestamps (RFC 7323) a sample can also be had while retransmitting, to the millisecond. */
#include "tcp_conn.h"

void tcp_rtt_init(struct tcp_conn *c)
{
    c->srtt_ns = 0;
    c->rttvar_ns = 0;
    c->rto_ns = TCP_RTO_INIT_NS; /* 2.1 */
}

void tcp_rtt_sample(struct tcp_conn *c, uint64_t rtt_ns)
{
    if (c->srtt_ns == 0) { /* 2.2 */
        c->srtt_ns = max_u64(rtt_ns, 1);
        c->rttvar_ns = rtt_ns / 2;
    } else { /* 2.3: beta = 1/4, alpha = 1/8, and RTTVAR before SRTT */
        uint64_t delta = c->srtt_ns > rtt_ns ? c->srtt_ns - rtt_ns : rtt_ns - c->srtt_ns;
        c->rttvar_ns = c->rttvar_ns - c->rttvar_ns / 4 + delta / 4;
        c->srtt_ns = max_u64(c->srtt_ns - c->srtt_ns / 8 + rtt_ns / 8, 1);
    }
    uint64_t rto_ns = c->srtt_ns + max_u64(TCP_RTO_GRANULE_NS, 4 * c->rttvar_ns);
    c->rto_ns = min_u64(max_u64(rto_ns, TCP_RTO_MIN_NS), TCP_RTO_MAX_NS); /* 2.4, 2.5 */
}

uint64_t tcp_rto_backed_off(const struct tcp_conn *c)
{
    /* 5.5: doubled for each time-out in a row; the shift is bounded because the time is. */
    return min_u64(c->rto_ns << (c->backoff < 16 ? c->backoff : 16), TCP_RTO_MAX_NS);
}
