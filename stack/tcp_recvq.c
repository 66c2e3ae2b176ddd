/* tcp_recvq.c - received bytes: the queue that zest_read() lends from, and the segments that came
 * out of order.
 *
 * Nothing is copied: a received segment's memory moves from the link's budget to that of the
 * connection's group (tcp_mem.c) and waits here. The exceptions are small segments, which would
 * each hold a whole frame for a few bytes: they are joined to the one before; and when memory is
 * used up.
 *
 * How much memory one connection may hold is tcp_mem.c's business, and the window that is
 * advertised follows. Segments out of order get half of that, and make room for the next one in
 * order, so a queue full of them can't stop the byte they wait for. */
#include "tcp_conn.h"

#define HEADERS_MAX (14u + 20 + TCP_HLEN + TCP_OPT_MAX) /* in front of a frame's text */

/* What is held just now depends on when links and readers give back: for a recording it is an
 * answer of the pool's like any other. */
bool recvq_is_over(const struct zest *z, bool limit_reached)
{
    return z->rec ? record_ask(z->rec, limit_reached, NULL) : limit_reached;
}

static void append(struct tcp_conn *c, struct zbuf *zb)
{
    zb->next = NULL;
    *(c->rq_tail ? &c->rq_tail->next : &c->rq_head) = zb;
    c->rq_tail = zb;
    c->rcv_queued += zb->len;
    c->rcv_nxt += zb->len;
    c->bytes_received += zb->len;
}

/* Moves what has become contiguous from the reassembly queue to the receive queue. */
static void drain_reass(struct zest *z, struct tcp_conn *c)
{
    for (struct zbuf *zb; (zb = c->reass) && seq_leq((uint32_t)zb->user, c->rcv_nxt);) {
        uint32_t old = c->rcv_nxt - (uint32_t)zb->user;
        c->reass = zb->next;
        c->reass_segs--;
        if (old >= zb->len) {
            mem_drop(z, c, zb);
            continue;
        }
        zb->data += old;
        zb->len -= old;
        append(c, zb);
    }
}

static void drop_last_reass(struct zest *z, struct tcp_conn *c)
{
    struct zbuf **p = &c->reass;

    while ((*p)->next)
        p = &(*p)->next;
    mem_drop(z, c, *p);
    *p = NULL;
    c->reass_segs--;
}

static bool is_shared(const struct zest *z, const struct zbuf *zb)
{
    bool shared = zbuf_refcount(zb) != 1;
    return z->rec ? record_ask(z->rec, shared, NULL) : shared;
}

/* A segment of up to `most` bytes behind the last one in the queue, if that has room and nobody
 * else looks at it. */
static bool join(struct zest *z, struct tcp_conn *c, const struct pkt *pk, uint32_t len,
                 uint32_t most)
{
    struct zbuf *tail = c->rq_tail;

    if (len > most || !tail || zbuf_room(tail) < tail->len + len || is_shared(z, tail))
        return false;
    memcpy(tail->data + tail->len, pk->p, len);
    tail->len += len;
    c->rcv_queued += len;
    c->rcv_nxt += len;
    c->bytes_received += len;
    z->stats.rx_copied_bytes += len;
    return true;
}

/* RFC 9293 3.8.6.3, RFC 5681 4.2: at least every second segment is acknowledged, and at once when a
 * gap closes.
 *
 * A bulk transfer is acknowledged as receivers that merge segments before TCP sees them (GRO) do
 * it: once for a train. An ACK costs both sides as much as a data segment, and by then the sender's
 * window is so large that it does not wait for them. The train ends when nothing follows for
 * TCP_ACK_HOLD_NS. */
static void plan_ack(struct zest *z, struct tcp_conn *c, bool gap_closed, uint32_t len)
{
    /* More than our MSS: the link has not cut it, or has joined it. For the sender it was several.
     */
    uint32_t segs = c->unacked_segs + max_u32(1, len / (z->cfg.mtu - 40u));
    bool bulk =
        c->bytes_received >= TCP_BULK && c->rcv_adv - c->rcv_nxt >= 4 * TCP_ACK_BATCH * c->mss;

    c->unacked_segs = (uint8_t)min_u32(segs, UINT8_MAX);
    if (gap_closed || c->unacked_segs >= (bulk ? TCP_ACK_BATCH : 2))
        c->acks_owed = c->acks_owed ? c->acks_owed : 1;
    else if (c->unacked_segs >= 2)
        c->delack_ns = z->now_ns + TCP_ACK_HOLD_NS;
    else if (c->delack_ns == ZEST_NEVER)
        c->delack_ns = z->now_ns + TCP_DELACK_NS;
}

/* Memory is used up: payload that lies thin in its segments is packed together, in front of the
 * queue first. The window that was offered counts on three bytes of memory for each of payload, so
 * then it can be kept to whatever the sizes of segments were. How much has come since the last time
 * bounds the work. False: nothing became free. */
static bool pack(struct zest *z, struct tcp_conn *c)
{
    bool freed = false;

    if (c->bytes_received - c->packed_at < c->rcv_queued / 64 + 1)
        return false;
    c->packed_at = c->bytes_received;
    for (struct zbuf *zb = c->rq_head, *next; zb && (next = zb->next);) {
        if (zbuf_room(zb) < zb->len + next->len || is_shared(z, zb)) {
            zb = next;
            continue;
        }
        memcpy(zb->data + zb->len, next->data, next->len);
        zb->len += next->len;
        zb->next = next->next;
        if (c->rq_tail == next)
            c->rq_tail = zb;
        z->stats.rx_copied_bytes += next->len;
        mem_drop(z, c, next);
        freed = true;
    }
    return freed;
}

/* The sum of all windows may be more than there is memory, and what was free when one was offered
 * may be others' by now. Silence would have the peer repeat the segment until it gives the
 * connection up; told of a closed window it waits, and asks (RFC 9293 3.8.6, 3.8.6.1). This is the
 * one case in which a window is taken back (SHLD-14): of the two, it does less harm. */
static void refuse(struct zest *z, struct tcp_conn *c)
{
    z->stats.drop_tcp_no_memory++;
    mem_look(z);
    c->refused = true;
    c->acks_owed = c->acks_owed ? c->acks_owed : 1;
}

/* False: there is no memory for it. */
static bool keep_next(struct zest *z, struct tcp_conn *c, struct pkt *pk, uint32_t len)
{
    if (join(z, c, pk, len, TCP_COPYBREAK))
        return true;
    while (!mem_take(z, c, pk->zb, mem_limit(z, c))) {
        if (pack(z, c))
            continue;
        if (join(z, c, pk, len, UINT32_MAX))
            return true;
        if (!c->reass) {
            refuse(z, c);
            return false;
        }
        drop_last_reass(z, c);
        z->stats.drop_tcp_reass++;
    }
    struct zbuf *zb = pk->zb;
    pk->zb = NULL;
    zb->data = pk->p;
    zb->len = len;
    append(c, zb);
    return true;
}

/* What has just been kept was next in order. */
static void moved_on(struct zest *z, struct tcp_conn *c, uint32_t len)
{
    bool filled = c->reass != NULL || c->refused;
    drain_reass(z, c);
    plan_ack(z, c, filled, len);
    tcp_event(z, c, ZEST_EV_READABLE);
}

static void note_out_of_order(struct zest *z, struct tcp_conn *c)
{
    z->stats.tcp_rx_ooo++;
    /* RFC 5681 4.2: an ACK for each, at once: the sender counts them. */
    if (c->acks_owed < UINT8_MAX)
        c->acks_owed++;
}

/* Sorted by sequence number, without overlaps: what is there stays, what is new is cut to the gaps.
 * A new segment that covers a whole old one and more only keeps the part in front: the rest will be
 * sent again. */
static void keep_later(struct zest *z, struct tcp_conn *c, struct pkt *pk, uint32_t seq,
                       uint32_t len)
{
    struct zbuf **p = &c->reass;
    struct zbuf *before = NULL;

    for (; *p && seq_leq((uint32_t)(*p)->user, seq); p = &(*p)->next)
        before = *p;
    if (before) {
        uint32_t before_end = (uint32_t)before->user + before->len;
        if (seq_leq(seq + len, before_end)) {
            z->stats.tcp_rx_dup++;
            return;
        }
        if (seq_lt(seq, before_end)) {
            uint32_t overlap = before_end - seq;
            pk->p += overlap;
            seq += overlap;
            len -= overlap;
        }
    }
    if (*p && seq_lt((uint32_t)(*p)->user, seq + len))
        len = (uint32_t)(*p)->user - seq;
    if (len == 0) {
        z->stats.tcp_rx_dup++;
        return;
    }
    if (c->reass_segs >= TCP_REASS_MAX || !mem_take(z, c, pk->zb, mem_limit(z, c) / 2)) {
        z->stats.drop_tcp_reass++;
        return;
    }
    struct zbuf *zb = pk->zb;
    pk->zb = NULL;
    zb->data = pk->p;
    zb->len = len;
    zb->user = seq;
    zb->next = *p;
    *p = zb;
    c->reass_segs++;
}

/* A text over several segments of memory is queued as if it had come in as many TCP segments, but
 * for the ACKs. Where memory ends, so does what is kept: the rest will be sent again. True: some of
 * it was next in order. */
static bool keep_chain(struct zest *z, struct tcp_conn *c, struct pkt *pk, struct tcp_seg *seg)
{
    bool in_order = seg->seq == c->rcv_nxt, kept = true;
    uint32_t seq = seg->seq, left = seg->len, skip = pk->skip;
    struct zbuf *zb = pk->zb;
    uint8_t *p = pk->p;

    pk->zb = NULL;
    while (kept && left > 0) {
        struct zbuf *rest = zb->next;
        uint32_t n = (uint32_t)(zb->data + zb->len - p), old = min_u32(skip, n);
        struct pkt part = {.zb = zb, .p = p + old};
        zb->next = NULL;
        n = min_u32(n - old, left);
        if (n > 0 && in_order)
            kept = keep_next(z, c, &part, n);
        else if (n > 0)
            keep_later(z, c, &part, seq, n);
        zbuf_free(part.zb);
        skip -= old;
        seq += n;
        left -= n;
        zb = rest;
        assert(zb || left == 0 || !kept);
        p = zb ? zb->data : NULL;
    }
    zbuf_chain_free(zb);
    return c->rcv_nxt != seg->seq;
}

/* seg has been cut to the window: its text begins at pk->p. */
void recvq_data(struct zest *z, struct tcp_conn *c, struct pkt *pk, struct tcp_seg *seg)
{
    if (seg->seq != c->rcv_nxt) {
        note_out_of_order(z, c);
        if (pk->parted)
            keep_chain(z, c, pk, seg);
        else
            keep_later(z, c, pk, seg->seq, seg->len);
    } else if (pk->parted ? keep_chain(z, c, pk, seg) : keep_next(z, c, pk, seg->len)) {
        moved_on(z, c, seg->len);
    }
}

void recvq_free_reass(struct zest *z, struct tcp_conn *c)
{
    while (c->reass) {
        struct zbuf *zb = c->reass;
        c->reass = zb->next;
        mem_drop(z, c, zb);
    }
    c->reass_segs = 0;
}

void recvq_free(struct zest *z, struct tcp_conn *c)
{
    while (c->rq_head) {
        struct zbuf *zb = c->rq_head;
        c->rq_head = zb->next;
        mem_drop(z, c, zb);
    }
    c->rq_tail = NULL;
    c->rcv_queued = 0;
    recvq_free_reass(z, c);
}

static uint32_t free_buffer(const struct tcp_conn *c)
{
    uint32_t taken = c->rcv_queued + c->rcv_lent;
    return taken < c->rcv_buf ? c->rcv_buf - taken : 0;
}

/* Text of one frame that fits into so much memory, however the peer cuts it: it is joined. */
static uint32_t of_a_frame(const struct zest *z, uint32_t memory)
{
    uint32_t seg = z->tcp.mem.seg, room = seg - ZBUF_OVERHEAD - TCP_RX_FRONT;
    return min_u32(z->cfg.mtu - 40u, memory / seg * room - HEADERS_MAX);
}

/* Bytes that may still come. A segment of payload holds about three times its size; but who holds
 * nothing can receive a frame. *whole: the same if nothing were held. */
static uint32_t free_window(const struct zest *z, const struct tcp_conn *c, uint32_t *whole)
{
    uint32_t by_buffer = free_buffer(c);
    uint32_t limit = mem_prospect(z, c);
    uint32_t by_memory = limit > c->held ? (limit - c->held) / 3 : 0;
    if (by_memory < z->cfg.mtu && c->held == 0)
        by_memory = max_u32(by_memory, of_a_frame(z, limit));
    bool scarce = by_memory < by_buffer;

    if (z->rec)
        scarce = record_ask(z->rec, scarce, &by_memory);
    *whole = scarce ? min_u32(c->rcv_buf, by_memory + c->held / 3) : c->rcv_buf;
    return scarce ? by_memory : by_buffer;
}

/* The window to advertise now, unless text is refused. Its right edge never moves back (SHLD-14),
 * and forward only by steps that are worth a segment or half of all that there could be (3.8.6.2.2,
 * MUST-39): where memory is scarce, or segments are large, that is the smaller. */
uint32_t recvq_window(const struct zest *z, const struct tcp_conn *c)
{
    uint32_t offered = c->rcv_adv - c->rcv_nxt, as_said = offered >> c->rcv_wscale << c->rcv_wscale;
    uint32_t whole;

    /* Who only sends never asks for the memory's state. */
    if (free_buffer(c) < offered + min_u32(c->mss, c->rcv_buf / 2))
        return as_said;
    uint32_t now = min_u32(free_window(z, c, &whole) >> c->rcv_wscale, TCP_WND_MAX)
                   << c->rcv_wscale; /* what can be said */
    return now < offered || now - offered < min_u32(c->mss, whole / 2) ? as_said : now;
}

bool recvq_is_refused(const struct zest *z, const struct tcp_conn *c)
{
    uint32_t whole;

    return c->refused && (recvq_is_over(z, !mem_is_there(z, c)) ||
                          free_window(z, c, &whole) < min_u32(c->mss, whole / 2));
}

/* True if the reader has made so much room that the peer should hear of it without waiting for its
 * next segment. */
bool recvq_update_due(const struct zest *z, const struct tcp_conn *c)
{
    uint32_t offered = c->rcv_adv - c->rcv_nxt;

    if (c->refused && !c->fin_received)
        return !recvq_is_refused(z, c);
    if (offered >= c->rcv_buf / 2 || c->fin_received || c->bytes_received == 0)
        return false;
    uint32_t now = recvq_window(z, c);
    uint32_t gain = now > offered ? now - offered : 0;
    return gain > 0 && (gain >= c->rcv_buf / 4 || offered < 2 * c->mss);
}
