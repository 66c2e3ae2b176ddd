/* checkpoint.c - writing a checkpoint, and comparing one. See checkpoint.h.
 *
 * The cost is that of what is live, and of a look at each slot: a recorder pays it once for each
 * half of its memory. */
#include "checkpoint.h"

#include "stack.h"
#include "tcp_conn.h"

#define FIELD(type, f)                                                                             \
    {                                                                                              \
        offsetof(struct type, f), sizeof(((struct type *)0)->f),                                   \
            _Generic(((struct type *)0)->f, bool                                                   \
                     : true, default                                                               \
                     : false)                                                                      \
    }
#define C(f) FIELD(tcp_conn, f)
#define L(f) FIELD(tcp_listener, f)

/* Not here: pointers, which are written as numbers or follow from the lists; what the queues say
 * (sq_pbufs, sq_send, rcv_queued, reass_segs); which lists it is on. */
const struct checkpoint_field checkpoint_conn[] = {
    C(remote), C(local), C(remote_port), C(local_port), C(port_changes), C(state), C(generation),
    /* flags */
    C(attached), C(passive), C(port_given), C(fin_queued), C(acks_owed), C(rtx_now), C(rtx_why),
    C(again_why), C(probing), C(probe_now), C(nodelay), C(cork), C(ecn), C(ecn_echo), C(ecn_cwr),
    C(ecn_mode), C(soft_quiet), C(want_write), C(urgent), C(start_keep), C(start_wait), C(ts_on),
    C(wscale_on), C(in_recovery), C(partial_acked), C(refused), C(fin_received), C(fin_seen),
    C(unacked_segs), C(snd_wscale), C(rcv_wscale), C(dupacks), C(backoff), C(keep_sent),
    /* send */
    C(iss), C(snd_una), C(snd_nxt), C(snd_max), C(snd_end), C(snd_up), C(let_go), C(snd_wnd),
    C(snd_wl1), C(snd_wl2), C(max_snd_wnd), C(mss), C(send_max), C(peer_mss), C(path_mtu),
    C(snd_buf),
    /* congestion control and RTT */
    C(cwnd), C(ssthresh), C(cc_acked), C(ecn_end), C(recover), C(rtx_high), C(rtt_timing),
    C(rtt_seq), C(rtt_start_ns), C(srtt_ns), C(rttvar_ns), C(rto_ns), C(last_sent_ns),
    /* receive */
    C(irs), C(rcv_nxt), C(rcv_adv), C(fin_seq), C(rcv_buf), C(rcv_lent), C(held), C(mem_min),
    C(mem_max), C(who), C(packed_at), C(ts_recent), C(last_ack_sent), C(ts_recent_ns), C(ts_offset),
    C(urgent_end),
    /* timers */
    C(rtx_ns), C(delack_ns), C(keep_ns), C(wait_ns), C(progress_ns), C(challenge_ns), C(heap_key),
    /* options */
    C(keep_idle_s), C(keep_intvl_s), C(keep_cnt), C(user_timeout_ms), C(ttl), C(dscp), C(path.gen),
    C(path.hdr_len), C(path.hdr), C(path.hdr_sum), C(events), C(error), C(soft_error),
    C(last_ack_ns), C(bytes_sent), C(bytes_acked), C(bytes_received), C(segs_sent),
    C(segs_received), C(segs_retransmitted), C(rtos), C(fast_retransmits)};
const unsigned checkpoint_conn_fields = sizeof checkpoint_conn / sizeof checkpoint_conn[0];

const struct checkpoint_field checkpoint_listener[] = {
    L(used),        L(generation),      L(local),      L(port),    L(backlog),
    L(events),      L(nodelay),         L(soft_quiet), L(snd_buf), L(rcv_buf),
    L(keep_idle_s), L(keep_intvl_s),    L(keep_cnt),   L(ttl),     L(dscp),
    L(ecn_mode),    L(user_timeout_ms), L(mem_min),    L(mem_max)};
const unsigned checkpoint_listener_fields =
    sizeof checkpoint_listener / sizeof checkpoint_listener[0];

/* Whoever adds a field puts it here, too, if it is one of those above, and raises RECORD_RULES. */
_Static_assert(sizeof(struct tcp_conn) == 728, "a field more? It belongs into a checkpoint");
_Static_assert(sizeof(struct tcp_listener) == 128, "a field more? It belongs into a checkpoint");
_Static_assert(sizeof(struct arp_entry) == 64, "a field more? It belongs into a checkpoint");

/* ---- bytes */

static void differ(struct checkpoint *k)
{
    if (!k->differs)
        k->differs = k->part;
}

static void put(struct checkpoint *k, const void *p, size_t n)
{
    if (n > (size_t)(k->end - k->at)) {
        k->full = true;
        k->end = k->at; /* nothing more fits */
        return;
    }
    if (!k->compares)
        memcpy(k->at, p, n);
    else if (memcmp(k->at, p, n) != 0)
        differ(k);
    k->at += n;
}

/* Written only. */
static void put_aside(struct checkpoint *k, const void *p, size_t n)
{
    if (!k->compares || n > (size_t)(k->end - k->at))
        put(k, p, n);
    else
        k->at += n;
}

static void put_u8(struct checkpoint *k, uint8_t v)
{
    put(k, &v, sizeof v);
}
static void put_u32(struct checkpoint *k, uint32_t v)
{
    put(k, &v, sizeof v);
}
static void put_u64(struct checkpoint *k, uint64_t v)
{
    put(k, &v, sizeof v);
}

static void put_fields(struct checkpoint *k, const void *of, const struct checkpoint_field *f,
                       unsigned n)
{
    for (unsigned i = 0; i < n;) { /* neighbours at once */
        uint32_t begin = f[i].off, end = begin;
        while (i < n && f[i].off == end)
            end += f[i++].size;
        put(k, (const uint8_t *)of + begin, end - begin);
    }
}

/* ---- numbers for pointers: 0 is none */

static uint32_t conn_number(const struct zest *z, const struct tcp_conn *c)
{
    return c ? (uint32_t)(c - z->tcp.conns) + 1 : 0;
}

static uint32_t listener_number(const struct zest *z, const struct tcp_listener *l)
{
    return l ? (uint32_t)(l - z->tcp.listeners) + 1 : 0;
}

/* Groups by when they come up, with their limits then: which place in the table one has depends on
 * when segments came home. */
static void put_group(struct checkpoint *k, const struct zest *z, struct tcp_group *g)
{
    bool seen = g->mark != 0 || g == z->tcp.mem.group;

    if (!seen)
        g->mark = ++k->groups;
    put_u32(k, g->mark);
    if (!seen) {
        put_u64(k, g->min);
        put_u64(k, g->max);
    }
}

/* ---- segments */

static void put_segment(struct checkpoint *k, const struct zest *z, const struct zbuf *zb,
                        const uint8_t *p)
{
    struct record_place at = {.off = (uint32_t)(p - zb->first)};

    if (zb->owner == zbuf_budget_id(z->tcp.copied)) { /* the stack's own: nobody knows its name */
        at.unit = RECORD_OWN;
    } else if (k->name) {
        at.cls = zb->cls;
        if (!k->name(k->ctx, zb, &at))
            differ(k);
    } else {
        at.cls = zb->cls;
        at.unit = (uint32_t)((size_t)(zb->first - zbuf_pool_base(z->pool)) / RECORD_UNIT);
        at.generation = zb->generation;
    }
    put(k, &at, sizeof at);
    struct checkpoint_seg more = {.holder = zb->priv >> 16,
                                  .data_off = (uint32_t)(zb->data - zb->first),
                                  .kind = mem_kind(z, zb)};
    put_aside(k, &more, sizeof more);
}

static void put_frame(struct checkpoint *k, const struct zbuf *zb)
{
    put_u32(k, zb->len);
    put(k, zb->data, zb->len);
}

/* ---- connections */

static void put_queues(struct checkpoint *k, const struct zest *z, const struct tcp_conn *c)
{
    put_u32(k, c->sq_pbufs);
    for (const struct pbuf *pb = c->sq_head; pb; pb = pb->next) {
        put_segment(k, z, pb->zb, pb->addr);
        put_u32(k, pb->len);
        put_u32(k, pb->seq);
        put_u8(k, pb->received);
    }
    for (const struct zbuf *zb = c->rq_head; zb; zb = zb->next) {
        put_u32(k, zb->len); /* never 0 */
        put_segment(k, z, zb, zb->data);
    }
    put_u32(k, 0);
    for (const struct zbuf *zb = c->reass; zb; zb = zb->next) {
        put_u32(k, zb->len);
        put_u32(k, (uint32_t)zb->user);
        put_segment(k, z, zb, zb->data);
    }
    put_u32(k, 0);
}

static bool is_live(const struct tcp_conn *c)
{
    return c->state != ZEST_CLOSED || c->attached;
}

static void put_conns(struct checkpoint *k, const struct zest *z)
{
    k->part = "connections";
    for (uint32_t i = 0; i < z->cfg.max_conns && !k->full; i++) {
        const struct tcp_conn *c = &z->tcp.conns[i];
        if (!is_live(c))
            continue;
        put_u32(k, i + 1);
        put_fields(k, c, checkpoint_conn, checkpoint_conn_fields);
        put_group(k, z, c->group);
        put_u32(k, listener_number(z, c->listener));
        put_queues(k, z, c);
    }
    put_u32(k, 0);
}

/* The next ones to be given out, in runs: those never used are all in order. */
static void put_free_conns(struct checkpoint *k, const struct zest *z)
{
    k->part = "free connections";
    for (const struct tcp_conn *c = z->tcp.free_conns; c;) {
        const struct tcp_conn *first = c;
        uint32_t n = 0;
        for (; c && c == first + n && c->generation == first->generation; c = c->next)
            n++;
        put_u32(k, n);
        put_u32(k, conn_number(z, first));
        put_u32(k, first->generation);
    }
    put_u32(k, 0);
}

/* ---- listeners */

static void put_listeners(struct checkpoint *k, const struct zest *z)
{
    k->part = "listeners";
    for (uint32_t i = 0; i < z->cfg.max_listeners && !k->full; i++) {
        const struct tcp_listener *l = &z->tcp.listeners[i];
        if (!l->used && l->generation == 0)
            continue;
        put_u32(k, i + 1);
        put_fields(k, l, checkpoint_listener, checkpoint_listener_fields);
        if (!l->used)
            continue;
        put_group(k, z, l->group);
        for (const struct tcp_conn *c = l->acc_head; c; c = c->acc_next)
            put_u32(k, conn_number(z, c));
        put_u32(k, 0);
    }
    put_u32(k, 0);
    for (const struct tcp_listener *l = z->tcp.listener_events; l; l = l->ev_next)
        put_u32(k, listener_number(z, l));
    put_u32(k, 0);
}

/* ---- the order of things */

static void put_lists(struct checkpoint *k, const struct zest *z)
{
    const struct tcp *t = &z->tcp;
    const struct tcp_conn *c;

    k->part = "lists of connections";
    for (c = t->ready.head; c; c = c->next)
        put_u32(k, conn_number(z, c));
    put_u32(k, 0);
    for (c = t->blocked.head; c; c = c->next)
        put_u32(k, conn_number(z, c));
    put_u32(k, 0);
    for (c = t->time_wait.head; c; c = c->tw_next)
        put_u32(k, conn_number(z, c));
    put_u32(k, 0);
    for (c = t->events.head; c; c = c->ev_next)
        put_u32(k, conn_number(z, c));
    put_u32(k, 0);
    for (c = t->mem.waiting; c; c = c->wait_next)
        put_u32(k, conn_number(z, c));
    put_u32(k, 0);
    k->part = "timers";
    for (uint32_t i = 1; i <= t->heap_len; i++)
        put_u32(k, conn_number(z, t->heap[i]));
    put_u32(k, 0);
}

/* ---- ARP, and what waits to be sent */

static void put_arp(struct checkpoint *k, const struct zest *z)
{
    k->part = "ARP";
    put_u32(k, z->arp.gen);
    put_u64(k, z->arp.due_ns);
    put_u64(k, z->arp.defended_ns);
    for (uint32_t i = 0; i < ARP_ENTRIES; i++) {
        const struct arp_entry *e = &z->arp.entry[i];
        if (e->state == ARP_FREE)
            continue;
        put_u32(k, i + 1);
        put_u32(k, e->ip_be);
        put(k, e->mac, sizeof e->mac);
        put_u8(k, e->state);
        put_u8(k, e->tries);
        put_u8(k, e->queued);
        put_u64(k, e->due_ns);
        put_u64(k, e->used_ns);
        for (uint32_t q = 0; q < e->queued; q++)
            put_frame(k, e->queue[q]);
    }
    put_u32(k, 0);
}

static void put_control(struct checkpoint *k, const struct zest *z)
{
    k->part = "control frames";
    put_u32(k, z->ctrlq.tail - z->ctrlq.head);
    for (uint32_t i = z->ctrlq.head; i != z->ctrlq.tail; i++)
        put_frame(k, z->ctrlq.frame[i % CTRLQ_LEN]);
}

/* ---- as a whole */

static void put_head(struct checkpoint *k, const struct zest *z)
{
    k->part = "the clock";
    put_u64(k, z->now_ns);
    k->part = "results so far";
    put_u64(k, z->record.hash);
    k->part = "settings";
    put_u32(k, z->cfg.mtu);
    k->part = "counters";
    put(k, &z->stats, CHECKPOINT_STATS * sizeof(uint64_t));
    k->part = "ICMP";
    put_u32(k, z->icmp.echo_tokens);
    put_u32(k, z->icmp.error_tokens);
    put_u64(k, z->icmp.refilled_ns);
    k->part = "TCP";
    put_u32(k, z->tcp.arp_gen);
    put_u64(k, z->tcp.retry_ns);
    put_u32(k, z->tcp.port_hint);
    put_u32(k, z->tcp.mem.kept_aside);
}

void checkpoint_put(struct checkpoint *k, struct zest *z)
{
    k->groups = 0;
    for (uint32_t i = 0; i < mem_groups(z); i++)
        z->tcp.mem.group[i].mark = 0;
    put_head(k, z);
    put_arp(k, z);
    put_conns(k, z);
    put_free_conns(k, z);
    put_listeners(k, z);
    put_lists(k, z);
    put_control(k, z);
}
