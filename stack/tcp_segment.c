/* tcp_segment.c - one segment of a connection: its payload is laid out (tcp_frame.c), headers are
 * written in front of it, and checksums go where the link wants them.
 *
 * Every segment of a connection is made here, RSTs apart (tcp_rst.c), so what a segment promises or
 * settles is noted here and nowhere else: the window's right edge, the ACK that was owed, urgent
 * data, marks of congestion. When and what to send is tcp_output.c's. */
#include "cksum.h"
#include "ipv4.h"
#include "tcp_conn.h"

/* The window field, and the promise that goes with it. */
static uint16_t window_field(const struct zest *z, struct tcp_conn *c, bool syn)
{
    c->refused = recvq_is_refused(z, c);
    if (c->refused)
        return 0;
    uint32_t wnd = min_u32(recvq_window(z, c), syn ? TCP_WND_MAX : UINT32_MAX);
    uint8_t shift = syn ? 0 : c->rcv_wscale; /* RFC 7323 2.2: never scaled in a SYN */
    uint32_t edge = c->rcv_nxt + wnd;

    if (seq_gt(edge, c->rcv_adv))
        c->rcv_adv = edge;
    return (uint16_t)(wnd >> shift);
}

static uint32_t options_len(const struct tcp_conn *c, uint8_t flags)
{
    if (!(flags & TH_SYN))
        return c->ts_on ? TCP_TS_LEN : 0;
    return 4 + (c->wscale_on ? 4u : 0) + (c->ts_on ? TCP_TS_LEN : 0);
}

/* Everything that carries an ACK settles what was owed. */
static void ack_sent(struct tcp_conn *c)
{
    if (c->acks_owed)
        c->acks_owed--;
    c->unacked_segs = 0;
    c->delack_ns = ZEST_NEVER;
    c->last_ack_sent = c->rcv_nxt;
}

/* 3.8.5: every segment says where urgent data ends, until all before that has been sent. What the
 * field can't reach is promised as far as it goes, and the pointer then moves on; but only beyond
 * what has ever been sent: many receivers take the byte before the pointer out of the stream. */
static void mark_urgent(struct zest *z, struct tcp_conn *c, uint8_t *h, uint32_t seq)
{
    uint32_t ahead = c->snd_up - seq;

    if (seq_geq(c->snd_una, c->snd_up)) { /* all of it is there */
        c->urgent = false;
        tcp_set_mss(z, c);
        return;
    }
    if (seq_geq(seq, c->snd_up) || (ahead > UINT16_MAX && seq_leq(seq + UINT16_MAX, c->snd_max)))
        return;
    h[13] |= TH_URG;
    be16_put(h + 18, (uint16_t)min_u32(ahead, UINT16_MAX));
}

/* Writes the TCP header so that it ends at payload. Returns its first byte. */
static uint8_t *tcp_header(struct zest *z, struct tcp_conn *c, uint8_t *payload, uint32_t seq,
                           uint8_t flags, uint32_t opt_len)
{
    uint8_t *h = payload - TCP_HLEN - opt_len;

    be16_put(h, c->local_port);
    be16_put(h + 2, c->remote_port);
    be32_put(h + 4, seq);
    be32_put(h + 8, (flags & TH_ACK) ? c->rcv_nxt : 0);
    h[12] = (uint8_t)((TCP_HLEN + opt_len) / 4 << 4);
    h[13] = flags;
    be16_put(h + 14, window_field(z, c, flags & TH_SYN));
    memset(h + 16, 0, 4); /* checksum, urgent pointer */
    if (c->urgent && !(flags & TH_SYN))
        mark_urgent(z, c, h, seq);
    uint32_t written = flags & TH_SYN ? tcp_opt_syn(z, c, h + TCP_HLEN)
                       : c->ts_on     ? tcp_opt_ts(z, c, h + TCP_HLEN)
                                      : 0;
    assert(written == opt_len);
    return h;
}

int tcp_segment(struct zest *z, struct tcp_conn *c, uint32_t seq, uint8_t *flags,
                struct tcp_payload *pl, struct zest_frame *f)
{
    uint32_t opt_len = options_len(c, *flags);
    uint8_t *payload;
    uint64_t sum = 0;

    if (c->path.gen != z->arp.gen) {
        int err = ipv4_path(z, &c->path, &c->remote, IP_TCP);
        if (err < 0)
            return err;
        ipv4_path_mark(&c->path, c->ttl, (uint8_t)(c->dscp << 2));
    }
    uint32_t hdr_len = c->path.hdr_len + TCP_HLEN + opt_len;
    if (pl->len > 0) {
        uint32_t cut = tcp_frame_cut(z, pl, hdr_len, c->mss);
        if (cut < pl->len) {
            pl->len = cut;
            *flags &= (uint8_t) ~(TH_FIN | TH_PSH);
        }
        if (tcp_frame_data(z, pl, hdr_len, f, &payload, &sum) < 0) {
            z->stats.tx_no_memory++;
            return -ENOBUFS;
        }
        if (z->rec && !z->cfg.tx_csum_offload)
            sum = record_sum(z->rec, sum);
    } else {
        struct zbuf *zb = stack_alloc(z, z->ctrl, 0);
        if (!zb) {
            z->stats.tx_no_memory++;
            return -ENOBUFS;
        }
        f->n = 1;
        f->seg[0].addr = payload = zb->data;
        f->seg[0].len = 0;
    }

    if (c->ecn && !(*flags & TH_SYN))
        *flags |= tcp_ecn_flags(c, seq, pl->len);
    uint32_t tcp_len = TCP_HLEN + opt_len + pl->len;
    uint8_t *h = tcp_header(z, c, payload, seq, *flags, opt_len);
    sum = cksum_plus(sum, cksum_pseudo(&c->local, &c->remote, IP_TCP, tcp_len));
    f->csum = z->cfg.tx_csum_offload;
    f->gso_size = pl->len > c->mss ? (uint16_t)c->mss : 0;
    uint16_t field;
    if (f->csum) {
        f->csum_start = c->path.hdr_len;
        f->csum_offset = 16;
        field = cksum_fold_raw(sum);
    } else {
        field = cksum_fold(cksum_add(sum, h, TCP_HLEN + opt_len));
    }
    memcpy(h + 16, &field, 2);
    f->seg[0].addr = ipv4_path_header(&c->path, h, tcp_len);
    f->seg[0].len += hdr_len;
    if (c->ecn)
        tcp_ecn_sent(z, c, f->seg[0].addr, seq, pl->len, *flags);

    for (unsigned i = 0; i < f->n; i++)
        z->stats.tx_bytes += f->seg[i].len;
    z->stats.tcp_tx_segs++;
    c->segs_sent++;
    c->bytes_sent += pl->len;
    if (*flags & TH_ACK)
        ack_sent(c);
    return 0;
}
