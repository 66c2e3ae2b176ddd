/* tcp_state.c - the life of a connection: its slot, its state, the lists it is on, and its end.
 *
 * A slot is free, or a connection of the application's (attached), or one that only TCP still needs
 * (detached: closing in the background, or not yet accepted). It is freed when it is both CLOSED
 * and detached. tcp_set_state() is the only writer of the state. */
#include "eth.h"
#include "ipv4.h"
#include "tcp_conn.h"

#define HANDLE_LISTENER 0x80000000u

static size_t align_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static uint32_t bucket_count(const struct zest_config *cfg)
{
    uint32_t n = 16;
    while (n < 2 * cfg->max_conns)
        n *= 2;
    return n;
}

size_t tcp_size(const struct zest_config *cfg)
{
    return align_64(cfg->max_conns * sizeof(struct tcp_conn)) +
           align_64(cfg->max_listeners * sizeof(struct tcp_listener)) +
           align_64(cfg->max_pbufs * sizeof(struct pbuf)) +
           align_64(bucket_count(cfg) * sizeof(struct tcp_conn *)) +
           align_64((cfg->max_conns + 1) * sizeof(struct tcp_conn *)) + align_64(mem_size(cfg));
}

static void *carve(uint8_t **p, size_t n)
{
    void *at = *p;
    *p += align_64(n);
    return at;
}

int tcp_init(struct zest *z, void *mem)
{
    const struct zest_config *cfg = &z->cfg;
    struct tcp *t = &z->tcp;
    uint8_t *p = mem;

    memset(mem, 0, tcp_size(cfg));
    t->conns = carve(&p, cfg->max_conns * sizeof(struct tcp_conn));
    t->listeners = carve(&p, cfg->max_listeners * sizeof(struct tcp_listener));
    t->pbufs = carve(&p, cfg->max_pbufs * sizeof(struct pbuf));
    t->buckets = carve(&p, bucket_count(cfg) * sizeof(struct tcp_conn *));
    t->heap = carve(&p, (cfg->max_conns + 1) * sizeof(struct tcp_conn *));
    void *groups = carve(&p, mem_size(cfg));
    if (mem_init(z, groups) < 0)
        return -ENOBUFS;
    t->bucket_mask = bucket_count(cfg) - 1;
    for (uint32_t i = cfg->max_conns; i-- > 0;) {
        t->conns[i].next = t->free_conns;
        t->free_conns = &t->conns[i];
    }
    for (uint32_t i = cfg->max_pbufs; i-- > 0;) {
        t->pbufs[i].next = t->free_pbufs;
        t->free_pbufs = &t->pbufs[i];
    }
    t->pbufs_free = cfg->max_pbufs;
    t->conns_without_pbuf = cfg->max_conns;
    return 0;
}

void tcp_fini(struct zest *z)
{
    for (uint32_t i = 0; i < z->cfg.max_conns; i++) {
        sendq_free(z, &z->tcp.conns[i]);
        recvq_free(z, &z->tcp.conns[i]);
    }
    mem_fini(z);
}

/* ---- handles */

zest_handle tcp_conn_handle(const struct zest *z, const struct tcp_conn *c)
{
    return (zest_handle)c->generation << 32 | ((uint32_t)(c - z->tcp.conns) + 1);
}

zest_handle tcp_listener_handle(const struct zest *z, const struct tcp_listener *l)
{
    return (zest_handle)l->generation << 32 | HANDLE_LISTENER |
           ((uint32_t)(l - z->tcp.listeners) + 1);
}

struct tcp_conn *tcp_conn_of(const struct zest *z, zest_handle h)
{
    uint32_t i = (uint32_t)h - 1; /* a listener's bit makes it too large */

    if (i >= z->cfg.max_conns || z->tcp.conns[i].generation != h >> 32 || !z->tcp.conns[i].attached)
        return NULL;
    return &z->tcp.conns[i];
}

struct tcp_listener *tcp_listener_of(const struct zest *z, zest_handle h)
{
    uint32_t i = ((uint32_t)h & ~HANDLE_LISTENER) - 1;

    if (!(h & HANDLE_LISTENER) || i >= z->cfg.max_listeners || !z->tcp.listeners[i].used ||
        z->tcp.listeners[i].generation != h >> 32)
        return NULL;
    return &z->tcp.listeners[i];
}

/* ---- lists */

void tcp_list_remove(struct zest *z, struct tcp_conn *c)
{
    if (c->on == TCP_ON_NONE)
        return;
    struct tcp_list *list = c->on == TCP_ON_READY ? &z->tcp.ready : &z->tcp.blocked;
    *(c->prev ? &c->prev->next : &list->head) = c->next;
    *(c->next ? &c->next->prev : &list->tail) = c->prev;
    c->on = TCP_ON_NONE;
    c->prev = c->next = NULL;
}

static void list_append(struct tcp_list *list, struct tcp_conn *c, enum tcp_list_id on)
{
    c->prev = list->tail;
    c->next = NULL;
    *(list->tail ? &list->tail->next : &list->head) = c;
    list->tail = c;
    c->on = (uint8_t)on;
}

static void rearm(struct zest *z, struct tcp_conn *c)
{
    tcp_rtx_arm(z, c);
    if (c->on == TCP_ON_BLOCKED && c->rtx_ns == ZEST_NEVER)
        tcp_make_ready(z, c); /* without a timer, nothing else need ever end its wait */
}

void tcp_received(struct zest *z, struct tcp_conn *c)
{
    rearm(z, c);
    tcp_kick(z, c);
}

void tcp_touch(struct zest *z, struct tcp_conn *c)
{
    uint64_t when_ns;

    rearm(z, c);
    if (c->on != TCP_ON_NONE)
        return;
    (void)tcp_next(z, c, &when_ns);
    if (when_ns == 0)
        list_append(&z->tcp.ready, c, TCP_ON_READY);
    else if (!c->heap_pos || when_ns < c->heap_key)
        timer_set(z, c, when_ns);
}

void tcp_kick(struct zest *z, struct tcp_conn *c)
{
    if (c->on == TCP_ON_NONE)
        list_append(&z->tcp.ready, c, TCP_ON_READY);
}

void tcp_make_ready(struct zest *z, struct tcp_conn *c)
{
    tcp_list_remove(z, c);
    list_append(&z->tcp.ready, c, TCP_ON_READY);
}

void tcp_block(struct zest *z, struct tcp_conn *c)
{
    tcp_list_remove(z, c);
    list_append(&z->tcp.blocked, c, TCP_ON_BLOCKED);
}

static void time_wait_remove(struct zest *z, struct tcp_conn *c)
{
    struct tcp_list *list = &z->tcp.time_wait;

    if (!c->in_time_wait)
        return;
    *(c->tw_prev ? &c->tw_prev->tw_next : &list->head) = c->tw_next;
    *(c->tw_next ? &c->tw_next->tw_prev : &list->tail) = c->tw_prev;
    c->in_time_wait = false;
}

/* Only those that no application holds: they are the ones that may be ended early for their slot.
 */
static void time_wait_append(struct zest *z, struct tcp_conn *c)
{
    struct tcp_list *list = &z->tcp.time_wait;

    c->tw_prev = list->tail;
    c->tw_next = NULL;
    *(list->tail ? &list->tail->tw_next : &list->head) = c;
    list->tail = c;
    c->in_time_wait = true;
}

/* ---- events */

void tcp_event(struct zest *z, struct tcp_conn *c, uint32_t events)
{
    struct tcp_list *list = &z->tcp.events;

    if (!c->attached)
        return;
    c->events |= events;
    if (c->has_event)
        return;
    c->has_event = true;
    c->ev_prev = list->tail;
    c->ev_next = NULL;
    *(list->tail ? &list->tail->ev_next : &list->head) = c;
    list->tail = c;
}

void tcp_soft_error(struct zest *z, struct tcp_conn *c, int error)
{
    c->soft_error = error;
    if (!c->soft_quiet)
        tcp_event(z, c, ZEST_EV_SOFT_ERROR);
}

static void event_remove(struct zest *z, struct tcp_conn *c)
{
    struct tcp_list *list = &z->tcp.events;

    if (!c->has_event)
        return;
    *(c->ev_prev ? &c->ev_prev->ev_next : &list->head) = c->ev_next;
    *(c->ev_next ? &c->ev_next->ev_prev : &list->tail) = c->ev_prev;
    c->has_event = false;
    c->events = 0;
}

void tcp_listener_event(struct zest *z, struct tcp_listener *l)
{
    if (l->has_event)
        return;
    l->has_event = true;
    l->ev_next = z->tcp.listener_events;
    z->tcp.listener_events = l;
}

unsigned tcp_events(struct zest *z, struct zest_event *ev, unsigned max)
{
    unsigned n = 0;

    if (z->tcp.mem.waiting)
        mem_wake(z);
    for (struct tcp_listener *l; n < max && (l = z->tcp.listener_events); n++) {
        ev[n] = (struct zest_event){
            .handle = tcp_listener_handle(z, l), .user = l->user, .events = ZEST_EV_ACCEPT};
        z->tcp.listener_events = l->ev_next;
        l->has_event = false;
    }
    for (struct tcp_conn *c; n < max && (c = z->tcp.events.head); n++) {
        ev[n] = (struct zest_event){tcp_conn_handle(z, c), c->user, c->events,
                                    c->error ? c->error : c->soft_error};
        event_remove(z, c);
    }
    return n;
}

/* ---- from slot to slot */

static void slot_free(struct zest *z, struct tcp_conn *c)
{
    assert(c->state == ZEST_CLOSED && !c->attached && !c->in_table);
    sendq_free(z, c);
    recvq_free(z, c);
    tcp_list_remove(z, c);
    timer_off(z, c);
    event_remove(z, c);
    mem_wait_end(z, c);
    (void)mem_promise(z, c, 0);
    mem_forget(z, c);
    mem_group_leave(z, c->group);
    z->stats.conns--;
    uint32_t generation = c->generation;
    memset(c, 0, sizeof *c);
    c->generation = generation + 1;
    c->next = z->tcp.free_conns;
    z->tcp.free_conns = c;
}

struct tcp_conn *tcp_conn_new(struct zest *z)
{
    if (!z->tcp.free_conns && z->tcp.time_wait.head) {
        z->stats.tcp_time_waits_recycled++;
        tcp_conn_end(z, z->tcp.time_wait.head, 0);
    }
    struct tcp_conn *c = z->tcp.free_conns;
    if (!c)
        return NULL;
    z->tcp.free_conns = c->next;
    uint32_t generation = c->generation;
    memset(c, 0, sizeof *c);
    c->generation = generation ? generation : 1;
    c->group = &z->tcp.mem.group[0];
    c->group->members++;
    c->cc = &tcp_cc_newreno;
    c->path_mtu = z->cfg.mtu;
    c->peer_mss = TCP_MSS_DEFAULT;
    c->snd_buf = z->cfg.snd_buf;
    c->rcv_buf = z->cfg.rcv_buf;
    c->rtx_ns = c->delack_ns = c->keep_ns = c->wait_ns = ZEST_NEVER;
    c->keep_intvl_s = 75;
    c->keep_cnt = 9;
    c->ttl = IP_TTL;
    c->ecn_mode = ZEST_ECN_AGREE;
    c->progress_ns = c->last_ack_ns = c->last_sent_ns = z->now_ns;
    c->path.gen = z->arp.gen - 1; /* not looked up yet */
    tcp_rtt_init(c);
    z->stats.conns++;
    return c;
}

void tcp_set_state(struct zest *z, struct tcp_conn *c, enum zest_tcp_state state)
{
    if (c->state == ZEST_TIME_WAIT)
        z->stats.time_wait--;
    if (state == ZEST_TIME_WAIT)
        z->stats.time_wait++;
    c->state = (uint8_t)state;
}

/* A half-open or unaccepted connection leaves its listener. */
static void leave_listener(struct tcp_conn *c)
{
    struct tcp_listener *l = c->listener;

    if (!l)
        return;
    struct tcp_conn *before = NULL;
    for (struct tcp_conn *a = l->acc_head; a; before = a, a = a->acc_next) {
        if (a != c)
            continue;
        *(before ? &before->acc_next : &l->acc_head) = c->acc_next;
        if (l->acc_tail == c)
            l->acc_tail = before;
        break;
    }
    l->waiting--;
    c->listener = NULL;
}

void tcp_conn_end(struct zest *z, struct tcp_conn *c, int error)
{
    leave_listener(c);
    mem_wait_end(z, c);
    (void)mem_promise(z, c, 0);
    sendq_free(z, c);
    if (error || !c->attached)
        recvq_free(z, c);
    tcp_table_remove(z, c);
    time_wait_remove(z, c);
    tcp_list_remove(z, c);
    timer_off(z, c);
    enum zest_tcp_state before = c->state;
    tcp_set_state(z, c, ZEST_CLOSED);
    if (error) {
        z->stats.tcp_conns_aborted++;
        c->error = error;
        tcp_event(z, c, ZEST_EV_ERROR);
    } else if (before != ZEST_TIME_WAIT) { /* TIME-WAIT has told it already */
        tcp_event(z, c, ZEST_EV_CLOSED);
    }
    if (!c->attached)
        slot_free(z, c);
}

void tcp_conn_detach(struct zest *z, struct tcp_conn *c)
{
    event_remove(z, c);
    c->attached = false;
    c->user = NULL;
    recvq_free(z, c); /* nobody will read it */
    if (c->state == ZEST_CLOSED) {
        slot_free(z, c);
        return;
    }
    if (c->state == ZEST_TIME_WAIT)
        time_wait_append(z, c);
    c->start_wait = c->state == ZEST_FIN_WAIT_2;
    tcp_kick(z, c);
}

void tcp_start_time_wait(struct zest *z, struct tcp_conn *c)
{
    tcp_set_state(z, c, ZEST_TIME_WAIT);
    sendq_free(z, c);
    mem_wait_end(z, c);
    (void)mem_promise(z, c, 0); /* nothing will come any more */
    c->rtx_ns = c->keep_ns = c->delack_ns = ZEST_NEVER;
    c->wait_ns = z->now_ns + 2 * TCP_MSL_NS;
    tcp_event(z, c, ZEST_EV_CLOSED);
    if (!c->attached) {
        recvq_free(z, c);
        time_wait_append(z, c);
    }
}

const char *zest_tcp_state_name(enum zest_tcp_state state)
{
    static const char *const names[] = {"CLOSED",      "LISTEN",     "SYN-SENT",   "SYN-RECEIVED",
                                        "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT",
                                        "CLOSING",     "LAST-ACK",   "TIME-WAIT"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "?";
}
