/* tcp_sendq.c - the send queue: pbufs, references into the memory that applications wrote.
 *
 * A pbuf holds one reference on one segment. What continues the last unsent pbuf lengthens it;
 * anything else takes a new pbuf. sendq_acked() lets go of what the peer has. pbufs are shared by
 * all connections, so none may starve the others: one is kept for each connection that has none,
 * and beyond that a connection may hold as many as are left. */
#include "tcp_conn.h"

static bool pbuf_may_take(const struct zest *z, const struct tcp_conn *c)
{
    const struct tcp *t = &z->tcp;

    return c->sq_pbufs == 0 || (t->pbufs_free > t->conns_without_pbuf &&
                                c->sq_pbufs <= t->pbufs_free - t->conns_without_pbuf);
}

uint32_t sendq_room(const struct zest *z, const struct tcp_conn *c)
{
    uint32_t queued = c->snd_end - c->snd_una;

    if (c->sq_head && (!pbuf_may_take(z, c) || recvq_is_over(z, c->held > mem_limit(z, c))))
        return 0; /* an ACK will make room */
    return queued < c->snd_buf ? c->snd_buf - queued : 0;
}

/* The pool's debug mode: bytes must not change as long as they may have to be sent again. */
static const char *who(const struct tcp_conn *c, char text[80])
{
    struct zest_addr peer;

    (void)zest_holder_addr(&peer, c->who);
    char *end = stpcpy(text, "connection with ");
    zest_addr_text(&peer, end);
    return text;
}
static void watch_begin(struct zest *z, const struct tcp_conn *c, const uint8_t *addr, uint32_t len)
{
    char text[80];
    zbuf_watch_begin(z->pool, addr, len, who(c, text));
}
static void watch_end(struct zest *z, const struct tcp_conn *c, const struct pbuf *pb)
{
    char text[80];
    zbuf_watch_end(z->pool, pb->addr, pb->len, who(c, text));
}

void sendq_append(struct zest *z, struct tcp_conn *c, uint8_t *addr, uint32_t len, struct zbuf *zb)
{
    struct pbuf *pb = c->sq_tail;

    if (z->watch)
        watch_begin(z, c, addr, len);
    if (pb && c->sq_send && pb->zb == zb && pb->addr + pb->len == addr) {
        pb->len += len;
        c->snd_end += len;
        return;
    }
    pb = z->tcp.free_pbufs;
    assert(pb && (c->sq_pbufs || z->tcp.conns_without_pbuf));
    z->tcp.free_pbufs = pb->next;
    z->tcp.pbufs_free--;
    if (c->sq_pbufs++ == 0)
        z->tcp.conns_without_pbuf--;
    *pb = (struct pbuf){.addr = addr, .len = len, .seq = c->snd_end, .zb = zbuf_ref(zb)};
    pb->received = mem_kind(z, zb) != 0; /* its owner may change: another stack may receive it */
    if (pb->received)
        mem_hold(z, c, zb);
    zbuf_set_holder(zb, c->who);
    *(c->sq_tail ? &c->sq_tail->next : &c->sq_head) = pb;
    c->sq_tail = pb;
    if (!c->sq_send)
        c->sq_send = pb;
    c->snd_end += len;
}

static void pop(struct zest *z, struct tcp_conn *c)
{
    struct pbuf *pb = c->sq_head;

    c->sq_head = pb->next;
    if (!c->sq_head)
        c->sq_tail = NULL;
    if (z->watch)
        watch_end(z, c, pb);
    if (pb->received)
        mem_drop(z, c, pb->zb);
    else
        zbuf_free(pb->zb);
    pb->next = z->tcp.free_pbufs;
    z->tcp.free_pbufs = pb;
    z->tcp.pbufs_free++;
    if (--c->sq_pbufs == 0)
        z->tcp.conns_without_pbuf++;
}

void sendq_acked(struct zest *z, struct tcp_conn *c)
{
    while (c->sq_head && seq_leq(c->sq_head->seq + c->sq_head->len, c->snd_una))
        pop(z, c);
}

void sendq_free(struct zest *z, struct tcp_conn *c)
{
    while (c->sq_head)
        pop(z, c);
    c->sq_send = NULL;
}

struct pbuf *sendq_find(struct tcp_conn *c, uint32_t seq)
{
    struct pbuf *pb = c->sq_head;

    while (pb && seq_leq(pb->seq + pb->len, seq))
        pb = pb->next;
    return pb;
}
