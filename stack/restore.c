/* restore.c - a stack's state out of a checkpoint (checkpoint.h).
 *
 * What comes from a file is not trusted: everything that the stack takes for granted between two
 * calls is looked at here, since it would assert it, or rely on it without a word. What one thing
 * says of another is derived, and compared. Queues are built so that zest_fini() can take them down
 * wherever this ends. */
#include "restore.h"

#include "eth.h"

/* ---- bytes */

bool restore_bad(struct restore *r, const char *why)
{
    if (!r->why)
        r->why = why;
    r->at = r->end;
    return false;
}

bool restore_starve(struct restore *r)
{
    r->starved = true;
    return restore_bad(r, "the pool is too small to play it");
}

bool restore_take(struct restore *r, void *p, size_t n)
{
    if (n > (size_t)(r->end - r->at)) {
        memset(p, 0, n);
        return restore_bad(r, "the checkpoint ends too early");
    }
    memcpy(p, r->at, n);
    r->at += n;
    return true;
}
uint8_t restore_u8(struct restore *r)
{
    uint8_t v;
    restore_take(r, &v, sizeof v);
    return v;
}
uint32_t restore_u32(struct restore *r)
{
    uint32_t v;
    restore_take(r, &v, sizeof v);
    return v;
}
uint64_t restore_u64(struct restore *r)
{
    uint64_t v;
    restore_take(r, &v, sizeof v);
    return v;
}
bool restore_fields(struct restore *r, void *to, const struct checkpoint_field *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = (uint8_t *)to + f[i].off;
        restore_take(r, p, f[i].size);
        if (f[i].is_bool && *p > 1) {
            *p = 1;
            restore_bad(r, "a flag that is neither");
        }
    }
    return restore_is_good(r);
}

/* A connection by its number, or NULL at the end of a list. It must be alive. */
static struct tcp_conn *take_conn(struct restore *r)
{
    struct tcp *t = &r->z->tcp;
    uint32_t n = restore_u32(r);

    if (n == 0)
        return NULL;
    if (n > r->z->cfg.max_conns ||
        (t->conns[n - 1].state == ZEST_CLOSED && !t->conns[n - 1].attached)) {
        restore_bad(r, "a list names a connection that is not there");
        return NULL;
    }
    return &t->conns[n - 1];
}

struct tcp_group *restore_group(struct restore *r)
{
    struct tcp_group *group = r->z->tcp.mem.group;
    uint32_t n = restore_u32(r);

    if (n > r->groups + 1 || n >= mem_groups(r->z)) {
        restore_bad(r, "no such memory group");
        return NULL;
    }
    if (n > r->groups) {
        uint64_t min = restore_u64(r), max = restore_u64(r);
        if (!restore_is_good(r))
            return NULL;
        if (!mem_restore_group(r->z, &group[n], min, max)) {
            restore_starve(r);
            return NULL;
        }
        r->groups = n;
    }
    group[n].members++;
    return &group[n];
}

/* ---- connections' slots */

static bool take_conns(struct restore *r)
{
    struct zest *z = r->z;
    uint32_t before = 0;

    for (uint32_t n; (n = restore_u32(r)) > 0; before = n) {
        if (n <= before || n > z->cfg.max_conns)
            return restore_bad(r, "connections out of order");
        if (!restore_conn(r, &z->tcp.conns[n - 1]))
            return false;
    }
    if (z->tcp.pbufs_free < z->tcp.conns_without_pbuf)
        return restore_bad(r, "too many bytes are queued");
    return restore_is_good(r);
}

/* Every slot that no connection lives in, once. */
static bool take_free_conns(struct restore *r)
{
    struct zest *z = r->z;
    struct tcp_conn **end = &z->tcp.free_conns;
    uint32_t left = z->cfg.max_conns - z->stats.conns;

    for (uint32_t n; (n = restore_u32(r)) > 0;) {
        uint32_t first = restore_u32(r), generation = restore_u32(r);
        if (n > left || first == 0 || first > z->cfg.max_conns ||
            n > z->cfg.max_conns - (first - 1))
            return restore_bad(r, "free connections that are not there");
        for (left -= n; n > 0; n--, first++) {
            struct tcp_conn *c = &z->tcp.conns[first - 1];
            if (c->state != ZEST_CLOSED || c->attached || c->group) /* group: seen before */
                return restore_bad(r, "a connection both free and not");
            c->group = z->tcp.mem.group;
            c->generation = generation;
            *end = c;
            end = &c->next;
        }
    }
    *end = NULL;
    for (struct tcp_conn *c = z->tcp.free_conns; c; c = c->next)
        c->group = NULL;
    return left == 0 ? restore_is_good(r) : restore_bad(r, "connections neither free nor not");
}

/* ---- listeners */

static bool check_listener(struct restore *r, const struct tcp_listener *l)
{
    if (l->generation == 0 || l->port == 0 || l->snd_buf == 0 || l->rcv_buf == 0 ||
        l->snd_buf > 1u << 30 || l->rcv_buf > 1u << 30 || l->keep_intvl_s == 0 ||
        l->keep_cnt == 0 || l->keep_cnt > UINT8_MAX || l->ttl == 0 || l->dscp > 63 ||
        l->ecn_mode > ZEST_ECN_ASK || (l->mem_min > 1u << 30 && l->mem_min != UINT32_MAX))
        return restore_bad(r, "a listener with settings that nobody can make");
    return true;
}

static bool take_accept_queue(struct restore *r, struct tcp_listener *l)
{
    for (struct tcp_conn *c; (c = take_conn(r));) {
        if (c->listener != l || c->acc_next || c == l->acc_tail || c->state < ZEST_ESTABLISHED)
            return restore_bad(r, "an accept queue of other connections");
        *(l->acc_tail ? &l->acc_tail->acc_next : &l->acc_head) = c;
        l->acc_tail = c;
    }
    return restore_is_good(r);
}

static bool take_listeners(struct restore *r)
{
    struct zest *z = r->z;
    struct tcp *t = &z->tcp;
    uint32_t before = 0;

    for (uint32_t n; (n = restore_u32(r)) > 0; before = n) {
        if (n <= before || n > z->cfg.max_listeners)
            return restore_bad(r, "listeners out of order");
        struct tcp_listener *l = &t->listeners[n - 1];
        if (!restore_fields(r, l, checkpoint_listener, checkpoint_listener_fields))
            return false;
        if (!l->used)
            continue;
        l->group = restore_group(r);
        if (!l->group || !check_listener(r, l) || !take_accept_queue(r, l))
            return false;
    }
    for (uint32_t i = 0; i < z->cfg.max_listeners; i++)
        if (t->listeners[i].waiting > 0 && !t->listeners[i].used)
            return restore_bad(r, "no such listener");
    struct tcp_listener **end = &t->listener_events;
    for (uint32_t n; (n = restore_u32(r)) > 0;) {
        struct tcp_listener *l = n <= z->cfg.max_listeners ? &t->listeners[n - 1] : NULL;
        if (!l || !l->used || l->has_event)
            return restore_bad(r, "an event of no listener");
        l->has_event = true;
        *end = l;
        end = &l->ev_next;
    }
    return restore_is_good(r);
}

/* ---- the order of things */

static bool take_ready(struct restore *r, struct tcp_list *list, enum tcp_list_id on)
{
    for (struct tcp_conn *c; (c = take_conn(r));) {
        if (c->on != TCP_ON_NONE || c->state == ZEST_CLOSED)
            return restore_bad(r, "a connection on two lists");
        c->on = (uint8_t)on;
        c->prev = list->tail;
        *(list->tail ? &list->tail->next : &list->head) = c;
        list->tail = c;
    }
    return restore_is_good(r);
}

static bool take_time_wait(struct restore *r)
{
    struct tcp_list *list = &r->z->tcp.time_wait;

    for (struct tcp_conn *c; (c = take_conn(r));) {
        if (c->in_time_wait || c->state != ZEST_TIME_WAIT || c->attached)
            return restore_bad(r, "a connection that waits for its end, and does not");
        c->in_time_wait = true;
        c->tw_prev = list->tail;
        *(list->tail ? &list->tail->tw_next : &list->head) = c;
        list->tail = c;
    }
    return restore_is_good(r);
}

static bool take_events(struct restore *r)
{
    struct tcp_list *list = &r->z->tcp.events;

    for (struct tcp_conn *c; (c = take_conn(r));) {
        if (c->has_event || !c->attached)
            return restore_bad(r, "events that nobody waits for");
        c->has_event = true;
        c->ev_prev = list->tail;
        *(list->tail ? &list->tail->ev_next : &list->head) = c;
        list->tail = c;
    }
    return restore_is_good(r);
}

static bool take_waiting(struct restore *r)
{
    struct tcp_conn **end = &r->z->tcp.mem.waiting, *before = NULL;

    for (struct tcp_conn *c; (c = take_conn(r)); before = c) {
        if (c->waits || c->state == ZEST_CLOSED || c->state == ZEST_TIME_WAIT)
            return restore_bad(r, "a connection that waits for memory, and does not");
        c->waits = true;
        c->wait_prev = before;
        *end = c;
        end = &c->wait_next;
    }
    return restore_is_good(r);
}

static bool take_heap(struct restore *r)
{
    struct tcp *t = &r->z->tcp;

    for (struct tcp_conn *c; (c = take_conn(r));) {
        if (c->heap_pos || c->state == ZEST_CLOSED)
            return restore_bad(r, "a timer that runs twice");
        c->heap_pos = ++t->heap_len;
        t->heap[c->heap_pos] = c;
        if (c->heap_pos > 1 && t->heap[c->heap_pos / 2]->heap_key > c->heap_key)
            return restore_bad(r, "timers out of order");
    }
    return restore_is_good(r);
}

/* ---- ARP, and what waits to be sent */

static struct zbuf *take_frame(struct restore *r)
{
    uint32_t len = restore_u32(r);

    if (!restore_is_good(r) || len < ETH_HLEN || len > ZBUF_SEG_MAX - ZBUF_OVERHEAD ||
        len > (size_t)(r->end - r->at)) {
        restore_bad(r, "a frame that can't be one");
        return NULL;
    }
    struct zbuf *zb = zbuf_alloc_from(r->z->ctrl, len);
    if (!zb) {
        restore_starve(r);
        return NULL;
    }
    zb->len = len;
    restore_take(r, zb->data, len);
    return zb;
}

static bool take_arp(struct restore *r)
{
    struct arp *arp = &r->z->arp;
    uint32_t before = 0;

    arp->gen = restore_u32(r);
    arp->due_ns = restore_u64(r);
    arp->defended_ns = restore_u64(r);
    for (uint32_t n; (n = restore_u32(r)) > 0; before = n) {
        if (n <= before || n > ARP_ENTRIES)
            return restore_bad(r, "ARP entries out of order");
        struct arp_entry *e = &arp->entry[n - 1];
        e->ip_be = restore_u32(r);
        restore_take(r, e->mac, sizeof e->mac);
        e->state = restore_u8(r);
        e->tries = restore_u8(r);
        uint8_t queued = restore_u8(r);
        e->due_ns = restore_u64(r);
        e->used_ns = restore_u64(r);
        if (e->state == ARP_FREE || e->state > ARP_FAILED || queued > ARP_QUEUE_MAX ||
            (queued > 0 && e->state != ARP_INCOMPLETE))
            return restore_bad(r, "an ARP entry in no state that there is");
        for (; e->queued < queued; e->queued++)
            if (!(e->queue[e->queued] = take_frame(r)))
                return false;
    }
    return restore_is_good(r);
}

static bool take_control(struct restore *r)
{
    struct ctrlq *q = &r->z->ctrlq;
    uint32_t n = restore_u32(r);

    if (n > CTRLQ_LEN)
        return restore_bad(r, "too many control frames");
    for (; n > 0; n--, q->tail++)
        if (!(q->frame[q->tail % CTRLQ_LEN] = take_frame(r)))
            return false;
    return restore_is_good(r);
}

/* ---- as a whole */

static bool take_head(struct restore *r)
{
    struct zest *z = r->z;

    z->now_ns = restore_u64(r);
    z->record.hash = restore_u64(r);
    uint32_t mtu = restore_u32(r);
    restore_take(r, &z->stats, CHECKPOINT_STATS * sizeof(uint64_t));
    z->icmp.echo_tokens = restore_u32(r);
    z->icmp.error_tokens = restore_u32(r);
    z->icmp.refilled_ns = restore_u64(r);
    z->tcp.arp_gen = restore_u32(r);
    z->tcp.retry_ns = restore_u64(r);
    z->tcp.port_hint = restore_u32(r);
    uint32_t aside = restore_u32(r);
    if (!restore_is_good(r))
        return false;
    if (z->now_ns > RECORD_CLOCK_MAX_NS || z->icmp.refilled_ns > z->now_ns)
        return restore_bad(r, "a clock that no stack can have");
    if (mtu < 576 || mtu > z->cfg.mtu)
        return restore_bad(r, "an MTU that the link does not have");
    z->cfg.mtu = (uint16_t)mtu;
    return mem_restore_kept(z, aside) || restore_starve(r);
}

bool checkpoint_get(struct restore *r)
{
    struct tcp *t = &r->z->tcp;

    if (!take_head(r) || !take_arp(r) || !take_conns(r) || !take_free_conns(r) ||
        !take_listeners(r) || !take_ready(r, &t->ready, TCP_ON_READY) ||
        !take_ready(r, &t->blocked, TCP_ON_BLOCKED) || !take_time_wait(r) || !take_events(r) ||
        !take_waiting(r) || !take_heap(r) || !take_control(r))
        return false;
    if (t->mem.kept_segs > t->mem.kept_aside)
        return restore_bad(r, "more is promised than is set aside");
    return r->at == r->end || restore_bad(r, "the checkpoint goes on after its end");
}
