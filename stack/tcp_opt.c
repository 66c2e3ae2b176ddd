/* tcp_opt.c - TCP options (RFC 9293 3.2, RFC 7323) on the wire, both ways. */
#include "ipv4.h"
#include "tcp_conn.h"

enum { OPT_END = 0, OPT_NOP = 1, OPT_MSS = 2, OPT_WSCALE = 3, OPT_SACK_PERMITTED = 4, OPT_TS = 8 };

/* False if the options are malformed: a length below 2 or past the end (MUST-7). Unknown ones are
 * skipped (MUST-6); known ones with a wrong length are skipped, too. */
bool tcp_opt_parse(struct tcp_opts *o, const uint8_t *p, uint32_t len)
{
    *o = (struct tcp_opts){0};
    /* Nearly every segment carries just this. */
    if (len == TCP_TS_LEN && be32_get(p) == (OPT_NOP << 24 | OPT_NOP << 16 | OPT_TS << 8 | 10)) {
        o->has_ts = true;
        o->ts_val = be32_get(p + 4);
        o->ts_ecr = be32_get(p + 8);
        return true;
    }
    for (uint32_t i = 0; i < len;) {
        if (p[i] == OPT_END)
            return true;
        if (p[i] == OPT_NOP) {
            i++;
            continue;
        }
        if (i + 1 >= len || p[i + 1] < 2 || p[i + 1] > len - i)
            return false;
        const uint8_t *v = p + i + 2;
        if (p[i] == OPT_MSS && p[i + 1] == 4) {
            o->has_mss = true;
            o->mss = be16_get(v);
        } else if (p[i] == OPT_WSCALE && p[i + 1] == 3) {
            o->has_wscale = true;
            o->wscale = v[0] > TCP_WSCALE_MAX ? TCP_WSCALE_MAX : v[0];
        } else if (p[i] == OPT_SACK_PERMITTED && p[i + 1] == 2) {
            o->sack_permitted = true;
        } else if (p[i] == OPT_TS && p[i + 1] == 10) {
            o->has_ts = true;
            o->ts_val = be32_get(v);
            o->ts_ecr = be32_get(v + 4);
        }
        i += p[i + 1];
    }
    return true;
}

uint32_t tcp_opt_ts(const struct zest *z, const struct tcp_conn *c, uint8_t *p)
{
    be32_put(p, OPT_NOP << 24 | OPT_NOP << 16 | OPT_TS << 8 | 10);
    be32_put(p + 4, tcp_ts_now(z, c));
    be32_put(p + 8, c->ts_recent);
    return TCP_TS_LEN;
}

/* The options of a SYN: on an active open all that we know, on a passive one only what the peer has
 * offered. */
uint32_t tcp_opt_syn(const struct zest *z, const struct tcp_conn *c, uint8_t *p)
{
    uint32_t n = 4;

    p[0] = OPT_MSS;
    p[1] = 4;
    be16_put(p + 2, (uint16_t)(z->cfg.mtu - 40)); /* RFC 6691: options are not allowed for here */
    if (c->wscale_on) {
        p[n] = OPT_NOP;
        p[n + 1] = OPT_WSCALE;
        p[n + 2] = 3;
        p[n + 3] = c->rcv_wscale;
        n += 4;
    }
    if (c->ts_on)
        n += tcp_opt_ts(z, c, p + n);
    return n;
}

/* RFC 9293 3.7.1: the smaller of what the peer takes and what the path carries, less the options of
 * every segment. */
void tcp_set_mss(struct zest *z, struct tcp_conn *c)
{
    uint32_t mtu = min_u32(z->cfg.mtu, c->path_mtu);
    uint32_t mss = min_u32(mtu - 40, max_u32(c->peer_mss, TCP_MSS_MIN));

    c->mss = mss - (c->ts_on ? TCP_TS_LEN : 0);
    uint32_t fit = (TCP_GSO_MAX - IPV4_HLEN - TCP_HLEN - TCP_TS_LEN) / c->mss;
    /* What an urgent pointer is about goes by the segment, and a CWR: the link would give the same
     * to each that it cuts. */
    bool by_segment = c->urgent || c->ecn_cwr;
    c->send_max = c->mss * (by_segment ? 1 : max_u32(1, min_u32(z->cfg.tso_segs, fit)));
}
