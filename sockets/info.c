/* info.c - TCP_INFO: what zest_conn_info() knows, in Linux's structure and units (microseconds;
 * windows in segments). What the stack does not keep is 0. */
#include <linux/tcp.h>

#include "sock.h"

/* Numbers of Linux's states. */
static const uint8_t LINUX_STATE[] = {
    [ZEST_CLOSED] = 7,      [ZEST_LISTEN] = 10,    [ZEST_SYN_SENT] = 2,   [ZEST_SYN_RECEIVED] = 3,
    [ZEST_ESTABLISHED] = 1, [ZEST_FIN_WAIT_1] = 4, [ZEST_FIN_WAIT_2] = 5, [ZEST_CLOSE_WAIT] = 8,
    [ZEST_CLOSING] = 11,    [ZEST_LAST_ACK] = 9,   [ZEST_TIME_WAIT] = 6,
};

static uint32_t usecs(uint64_t ns)
{
    return ns / 1000 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 1000);
}

static uint32_t in_segments(uint32_t bytes, uint32_t mss)
{
    return mss ? bytes / mss + (bytes % mss != 0) : 0;
}

static void fill(struct tcp_info *t, const struct zest_conn_info *i)
{
    t->tcpi_state = LINUX_STATE[i->state];
    t->tcpi_rto = usecs(i->rto_ns);
    t->tcpi_snd_mss = i->mss;
    t->tcpi_rcv_mss = i->mss;
    t->tcpi_unacked = in_segments(i->snd_queued - i->snd_unsent, i->mss);
    t->tcpi_rtt = usecs(i->srtt_ns);
    t->tcpi_rttvar = usecs(i->rttvar_ns);
    /* "Not set yet" is a number of its own there. */
    t->tcpi_snd_ssthresh = i->ssthresh > INT32_MAX ? INT32_MAX : in_segments(i->ssthresh, i->mss);
    t->tcpi_snd_cwnd = in_segments(i->cwnd, i->mss);
    t->tcpi_advmss = i->mss;
    t->tcpi_rcv_space = i->rcv_wnd;
    t->tcpi_total_retrans = (uint32_t)i->segs_retransmitted;
    t->tcpi_bytes_acked = i->bytes_acked;
    t->tcpi_bytes_received = i->bytes_received;
    t->tcpi_segs_out = (uint32_t)i->segs_sent;
    t->tcpi_segs_in = (uint32_t)i->segs_received;
    t->tcpi_notsent_bytes = i->snd_unsent;
    t->tcpi_bytes_sent = i->bytes_sent;
    t->tcpi_snd_wnd = i->snd_wnd;
    t->tcpi_options = i->ecn ? TCPI_OPT_ECN : 0;
}

int tcp_info(struct sockets *s, struct sock *k, void *value, socklen_t *len)
{
    struct zest_conn_info i;
    struct tcp_info t;

    memset(&t, 0, sizeof t);
    t.tcpi_state = LINUX_STATE[k->kind == SOCK_LISTENER ? ZEST_LISTEN : ZEST_CLOSED];
    if (k->kind != SOCK_LISTENER && k->handle && zest_conn_info(s->z, k->handle, &i) == 0)
        fill(&t, &i);
    if (*len > sizeof t)
        *len = sizeof t;
    memcpy(value, &t, *len);
    return 0;
}
