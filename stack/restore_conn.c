/* restore_conn.c - a connection out of a checkpoint, with its queues, and what must hold of it.
 *
 * Its conditions are those that the simulator checks after each step (tests/sim/inside.c), and what
 * tcp_output.c relies on to come to an end. */
#include "restore.h"

#include "eth.h"
#include "ipv4.h"

/* ---- segments */

/* A reference on the segment, *off: of the bytes in it, len of which it must hold. */
static struct zbuf *take_segment(struct restore *r, const struct tcp_conn *c, uint32_t len,
                                 bool alone, uint32_t *off)
{
    struct record_place at;
    struct checkpoint_seg more;
    struct zest *z = r->z;
    struct zbuf *zb;

    restore_take(r, &at, sizeof at);
    if (!restore_take(r, &more, sizeof more))
        return NULL;
    bool own = at.unit == RECORD_OWN;
    uint32_t size = own ? ZBUF_SEG_MAX : at.cls < ZBUF_CLASSES ? ZBUF_SEG_MIN << at.cls : 0;
    if (at.unit == RECORD_NOWHERE || (own && alone) || at.off < ZBUF_GUARD || at.off > size ||
        len == 0 || len > size - at.off || more.data_off < ZBUF_GUARD || more.data_off > size ||
        more.kind > 2 || (own && more.data_off > at.off)) {
        restore_bad(r, "bytes that are in no segment");
        return NULL;
    }
    at.data_off = more.data_off;
    if (own) {
        uint32_t end = at.off + len;
        zb = zbuf_alloc_from(z->tcp.copied, end > ZBUF_OVERHEAD ? end - ZBUF_OVERHEAD : 0);
        if (zb)
            zb->data = zb->first + more.data_off;
    } else {
        zb = r->segment(r->ctx, &at, alone);
    }
    if (!zb) {
        if (restore_is_good(r))
            restore_bad(r, "segments that can't be had");
        return NULL;
    }
    struct zbuf_budget *to = more.kind == 1   ? c->group->budget
                             : more.kind == 2 ? z->tcp.mem.kept
                                              : NULL;
    if (to && !own && mem_kind(z, zb) != more.kind && zbuf_charge(zb, to) < 0) {
        zbuf_free(zb);
        restore_starve(r);
        return NULL;
    }
    zbuf_set_holder(zb, more.holder);
    *off = at.off;
    return zb;
}

/* ---- a connection's queues */

static bool take_send_queue(struct restore *r, struct tcp_conn *c)
{
    struct tcp *t = &r->z->tcp;
    uint32_t n = restore_u32(r);

    for (; n > 0 && restore_is_good(r); n--) {
        uint32_t off, len, seq;
        /* The length comes after the place. */
        const uint8_t *rest = r->at + sizeof(struct record_place) + sizeof(struct checkpoint_seg);
        if ((size_t)(r->end - r->at) <
            sizeof(struct record_place) + sizeof(struct checkpoint_seg) + 9)
            return restore_bad(r, "the checkpoint ends too early");
        memcpy(&len, rest, sizeof len);
        memcpy(&seq, rest + 4, sizeof seq);
        struct pbuf *pb = t->free_pbufs;
        if (!pb || rest[8] > 1 || len > 1u << 30)
            return restore_bad(r, "too many bytes are queued");
        if (c->sq_tail && seq != c->sq_tail->seq + c->sq_tail->len)
            return restore_bad(r, "a send queue with a hole");
        struct zbuf *zb = take_segment(r, c, len, false, &off);
        if (!zb)
            return false;
        r->at = rest + 9;
        t->free_pbufs = pb->next;
        t->pbufs_free--;
        if (c->sq_pbufs++ == 0)
            t->conns_without_pbuf--;
        *pb = (struct pbuf){
            .addr = zb->first + off, .len = len, .seq = seq, .zb = zb, .received = rest[8] != 0};
        if (pb->received)
            mem_hold(r->z, c, zb);
        *(c->sq_tail ? &c->sq_tail->next : &c->sq_head) = pb;
        c->sq_tail = pb;
    }
    return restore_is_good(r);
}

static struct zbuf *take_received(struct restore *r, struct tcp_conn *c, uint32_t len)
{
    uint32_t off;
    struct zbuf *zb = take_segment(r, c, len, true, &off);

    if (!zb)
        return NULL;
    zb->data = zb->first + off;
    zb->len = len;
    zb->next = NULL;
    mem_hold(r->z, c, zb);
    return zb;
}

static bool take_receive_queue(struct restore *r, struct tcp_conn *c)
{
    for (uint32_t len; (len = restore_u32(r)) > 0;) {
        struct zbuf *zb = take_received(r, c, len);
        if (!zb)
            return false;
        *(c->rq_tail ? &c->rq_tail->next : &c->rq_head) = zb;
        c->rq_tail = zb;
        c->rcv_queued += len;
        if (c->rcv_queued > 1u << 30)
            return restore_bad(r, "too many bytes are queued");
    }
    return restore_is_good(r);
}

static bool take_reassembly(struct restore *r, struct tcp_conn *c)
{
    uint32_t after = c->rcv_nxt;

    struct zbuf **end = &c->reass;
    for (uint32_t len; (len = restore_u32(r)) > 0; end = &(*end)->next) {
        uint32_t seq = restore_u32(r);
        if (c->reass_segs == TCP_REASS_MAX || len > 1u << 30 || seq_lt(seq, after) ||
            seq == c->rcv_nxt || seq_gt(seq + len, c->rcv_adv))
            return restore_bad(r, "a reassembly queue out of order");
        *end = take_received(r, c, len);
        if (!*end)
            return false;
        (*end)->user = seq;
        c->reass_segs++;
        after = seq + len;
    }
    return restore_is_good(r);
}

/* ---- what must hold of a connection */

static bool is_opening(const struct tcp_conn *c)
{
    return c->state == ZEST_SYN_SENT || c->state == ZEST_SYN_RECEIVED;
}

static bool sends_right(const struct tcp_conn *c)
{
    uint32_t first = is_opening(c) ? c->iss + 1 : c->snd_una;

    if (!seq_leq(c->snd_una, c->snd_nxt) || !seq_leq(c->snd_nxt, c->snd_max) ||
        !seq_leq(c->snd_max, tcp_snd_limit(c)) || tcp_snd_limit(c) - c->snd_una > (1u << 30) + 2)
        return false;
    if (is_opening(c) && (c->snd_una != c->iss || c->snd_max - c->iss > 1 || c->rtx_now ||
                          c->probe_now || c->in_recovery || c->probing))
        return false;
    if (!c->sq_head)
        return seq_leq(c->snd_end, first);
    return seq_leq(c->sq_head->seq, first) && seq_gt(c->sq_head->seq + c->sq_head->len, first) &&
           (!is_opening(c) || c->sq_head->seq == first) &&
           c->sq_tail->seq + c->sq_tail->len == c->snd_end;
}

static bool options_right(const struct tcp_conn *c)
{
    return c->ecn_mode <= ZEST_ECN_ASK && c->dscp <= 63 && c->ttl > 0 && c->keep_intvl_s > 0 &&
           c->keep_cnt > 0 && (c->keep_ns == ZEST_NEVER || c->keep_idle_s > 0) &&
           c->snd_wscale <= TCP_WSCALE_MAX && c->rcv_wscale <= TCP_WSCALE_MAX &&
           c->snd_buf <= 1u << 30 && c->rcv_buf <= 1u << 30 && c->rcv_buf > 0 && c->snd_buf > 0 &&
           c->path_mtu >= 576 && c->path_mtu <= UINT16_MAX && c->rto_ns > 0 &&
           c->rto_ns <= TCP_RTO_MAX_NS && c->mem_min <= 1u << 30 && c->generation > 0 &&
           (c->path.hdr_len == ETH_HLEN + IPV4_HLEN || c->path.hdr_len == 0);
}

/* Its segments are as long as what it knows of the path says. */
static bool mss_right(struct zest *z, const struct tcp_conn *c)
{
    struct tcp_conn copy = *c;

    tcp_set_mss(z, &copy);
    return copy.mss == c->mss && copy.send_max == c->send_max;
}

static bool state_right(const struct tcp_conn *c)
{
    bool fin = c->fin_queued;

    switch ((enum zest_tcp_state)c->state) {
    case ZEST_CLOSED: /* only the application knows it still */
        return c->attached && !c->sq_head && c->mem_min == 0;
    case ZEST_SYN_SENT:
        return !fin && c->delack_ns == ZEST_NEVER && c->attached;
    case ZEST_SYN_RECEIVED:
        return true;
    case ZEST_ESTABLISHED:
    case ZEST_CLOSE_WAIT:
        return !fin;
    case ZEST_FIN_WAIT_1:
    case ZEST_FIN_WAIT_2:
    case ZEST_CLOSING:
    case ZEST_LAST_ACK:
        return fin;
    case ZEST_TIME_WAIT:
        return fin && c->mem_min == 0 && !c->sq_head;
    default:
        return false;
    }
}

static bool check_conn(struct restore *r, struct tcp_conn *c)
{
    if (!state_right(c))
        return restore_bad(r, "a connection in no state that there is");
    if (!options_right(c))
        return restore_bad(r, "a connection with settings that nobody can make");
    if (c->state == ZEST_CLOSED)
        return true;
    if (!mss_right(r->z, c))
        return restore_bad(r, "segments that are not as long as the path says");
    if (!sends_right(c))
        return restore_bad(r, "a send queue that does not fit its sequence numbers");
    if (c->state != ZEST_SYN_SENT && c->rcv_adv - c->rcv_nxt > 1u << 30)
        return restore_bad(r, "a receive window that nobody can offer");
    return true;
}

/* What it holds beyond its queues are views that the application has. */
static bool settle_held(struct restore *r, struct tcp_conn *c, uint32_t held)
{
    if (held < c->held || (held == c->held) != (c->rcv_lent == 0) || held > 1u << 31 ||
        c->rcv_lent > 1u << 30)
        return restore_bad(r, "a connection that holds less than its queues");
    uint32_t more = held - c->held;
    r->lent(r->ctx, (uint32_t)(c - r->z->tcp.conns), c->rcv_lent, more);
    c->held += more;
    c->group->held += more;
    r->z->tcp.mem.held += more;
    return true;
}

bool restore_conn(struct restore *r, struct tcp_conn *c)
{
    struct zest *z = r->z;
    struct tcp *t = &z->tcp;

    *c = (struct tcp_conn){.cc = &tcp_cc_newreno};
    restore_fields(r, c, checkpoint_conn, checkpoint_conn_fields);
    uint32_t held = c->held;
    c->held = 0; /* until its queues say so */
    c->group = restore_group(r);
    uint32_t listener = restore_u32(r);
    if (!restore_is_good(r) || listener > z->cfg.max_listeners) {
        c->state = ZEST_CLOSED;
        return restore_bad(r, "no such listener");
    }
    z->stats.conns++;
    z->stats.time_wait += c->state == ZEST_TIME_WAIT;
    t->mem.kept_segs += (c->mem_min + t->mem.seg - 1) / t->mem.seg;
    if (listener) {
        c->listener = &t->listeners[listener - 1];
        c->listener->waiting++;
    }
    if (!take_send_queue(r, c) || !take_receive_queue(r, c) || !take_reassembly(r, c) ||
        !check_conn(r, c) || !settle_held(r, c, held))
        return false;
    if (c->listener && (c->attached || c->state < ZEST_SYN_RECEIVED))
        return restore_bad(r, "a connection that its listener still has, and the application, too");
    if (c->path.hdr_len == 0 && (int32_t)(z->arp.gen - c->path.gen) <= 0)
        return restore_bad(r, "a way to a peer that was never found");
    if (c->state == ZEST_CLOSED)
        return true;
    c->sq_send = sendq_find(c, c->snd_nxt);
    tcp_table_insert(z, c);
    return true;
}
