/* cc_newreno.c - slow start and congestion avoidance (RFC 5681) by bytes acknowledged (RFC 3465).
 *
 * The window grows only while it is what limits the sender; one that the application does not fill
 * says nothing about the path (RFC 7661's reason). Recovery itself, RFC 6582, is in tcp_ack.c: it
 * is the same for every algorithm. */
#include "tcp_conn.h"

/* RFC 6928: ten segments, at most 14600 bytes. */
static uint32_t initial_window(const struct tcp_conn *c)
{
    return min_u32(10 * c->mss, max_u32(2 * c->mss, 14600));
}

static void newreno_init(struct tcp_conn *c)
{
    c->cwnd = initial_window(c);
    c->ssthresh = UINT32_MAX / 2;
    c->cc_acked = 0;
}

static void newreno_acked(struct tcp_conn *c, uint32_t acked, uint64_t now_ns)
{
    (void)now_ns;
    if (c->cwnd < c->ssthresh) {
        /* Slow start. RFC 3465's limit L: after a time-out one segment for each ACK; otherwise all
         * that was acknowledged, since receivers that take frames in batches send few ACKs. */
        c->cwnd += tcp_karn(c) ? min_u32(acked, c->mss) : acked;
        if (c->cwnd > c->ssthresh)
            c->cwnd = c->ssthresh;
    } else {
        c->cc_acked += acked; /* one segment for each window acknowledged */
        while (c->cc_acked >= c->cwnd) {
            c->cc_acked -= c->cwnd;
            c->cwnd += c->mss;
        }
    }
    c->cwnd = min_u32(c->cwnd, 1u << 30);
}

static void halve(struct tcp_conn *c, uint32_t flight)
{
    c->ssthresh = max_u32(flight / 2, 2 * c->mss); /* RFC 5681 equation 4 */
    c->cc_acked = 0;
}

static void newreno_lost(struct tcp_conn *c, uint32_t flight, uint64_t now_ns)
{
    (void)now_ns;
    halve(c, flight);
    c->cwnd = c->ssthresh;
}

static void newreno_timed_out(struct tcp_conn *c, uint32_t flight, uint64_t now_ns)
{
    (void)now_ns;
    if (c->backoff == 0) /* once for a loss event: RFC 5681 3.1 */
        halve(c, flight);
    c->cwnd = c->mss;
}

static void newreno_idle(struct tcp_conn *c)
{
    c->cwnd = min_u32(c->cwnd, initial_window(c)); /* RFC 5681 4.1 */
    c->cc_acked = 0;
}

const struct tcp_cc tcp_cc_newreno = {
    .name = "newreno",
    .init = newreno_init,
    .acked = newreno_acked,
    .lost = newreno_lost,
    .timed_out = newreno_timed_out,
    .idle = newreno_idle,
};
