/* tcp_api.c - what applications call (by way of api.c). Nothing is sent from here: a call changes
 * the connection, and tcp_next() decides what follows from it. Every call that fails leaves
 * everything as it was. */
#include "ipv4.h"
#include "tcp_conn.h"

static struct ipaddr ip_of(const struct zest_addr *a)
{
    struct ipaddr ip;
    memcpy(ip.b, a->ip, 16);
    return ip;
}

static bool is_any(const struct ipaddr *a)
{
    return a->q[0] == 0 && a->q[1] == 0;
}

static bool is_any_v4(const struct ipaddr *a)
{
    struct ipaddr any = ipaddr_from_v4(0);
    return is_any(a) || ipaddr_equal(a, &any);
}

static void addr_of(struct zest_addr *out, const struct ipaddr *ip, uint16_t port)
{
    memcpy(out->ip, ip->b, 16);
    out->port = port;
}

/* Why a connection can't be written to or read from any more. */
static int why_not(const struct tcp_conn *c)
{
    return c->error ? -c->error : -ENOTCONN;
}

/* ---- opening */

int tcp_listen(struct zest *z, const struct zest_addr *local, unsigned backlog, zest_handle *out)
{
    if (!local || !out || local->port == 0)
        return -EINVAL;
    struct ipaddr ip = ip_of(local);
    if (is_any_v4(&ip))
        ip = (struct ipaddr){0};
    else if (!ipaddr_equal(&ip, &z->ip))
        return -EADDRNOTAVAIL;

    struct tcp_listener *slot = NULL;
    for (uint32_t i = 0; i < z->cfg.max_listeners; i++) {
        struct tcp_listener *l = &z->tcp.listeners[i];
        if (l->used && l->port == local->port)
            return -EADDRINUSE;
        if (!l->used && !slot)
            slot = l;
    }
    if (!slot)
        return -ENOBUFS;
    uint32_t generation = slot->generation ? slot->generation : 1;
    *slot = (struct tcp_listener){
        .used = true,
        .generation = generation,
        .local = ip,
        .port = local->port,
        .backlog = backlog ? backlog : TCP_BACKLOG,
        .group = mem_group_open(z, local->port),
        .mem_min = UINT32_MAX,
        .snd_buf = z->cfg.snd_buf,
        .rcv_buf = z->cfg.rcv_buf,
        .keep_intvl_s = 75,
        .keep_cnt = 9,
        .ttl = IP_TTL,
        .ecn_mode = ZEST_ECN_AGREE,
    };
    *out = tcp_listener_handle(z, slot);
    return 0;
}

int tcp_accept(struct zest *z, zest_handle listener, zest_handle *out, struct zest_addr *peer)
{
    struct tcp_listener *l = tcp_listener_of(z, listener);

    if (!l)
        return -EBADF;
    if (!out)
        return -EINVAL;
    struct tcp_conn *c = l->acc_head;
    if (!c)
        return -EAGAIN;
    l->acc_head = c->acc_next;
    if (!l->acc_head)
        l->acc_tail = NULL;
    l->waiting--;
    c->listener = NULL;
    c->attached = true;
    if (peer)
        addr_of(peer, &c->remote, c->remote_port);
    *out = tcp_conn_handle(z, c);
    /* What happened while it waited. */
    if (c->rcv_queued)
        tcp_event(z, c, ZEST_EV_READABLE);
    if (c->fin_received)
        tcp_event(z, c, ZEST_EV_EOF);
    if (c->urgent_end)
        tcp_event(z, c, ZEST_EV_URGENT);
    if (l->acc_head)
        tcp_listener_event(z, l);
    return 0;
}

int tcp_connect(struct zest *z, const struct zest_addr *remote, const struct zest_addr *local,
                zest_handle *out)
{
    if (!remote || !out || remote->port == 0)
        return -EINVAL;
    struct ipaddr to = ip_of(remote);
    if (!ipaddr_equal(&to, &(struct ipaddr){.w = {0, 0, to.w[2], to.w[3]}}) || to.b[10] != 0xff ||
        to.b[11] != 0xff || ipv4_bad_peer(z, to.w[3]))
        return -EINVAL;
    if (ipaddr_equal(&to, &z->ip))
        return -EADDRNOTAVAIL; /* there is no loopback inside a stack */
    uint16_t port = local ? local->port : 0;
    if (local) {
        struct ipaddr from = ip_of(local);
        if (!is_any_v4(&from) && !ipaddr_equal(&from, &z->ip))
            return -EADDRNOTAVAIL;
    }
    if (port && tcp_table_find(z, &z->ip, port, &to, remote->port))
        return -EADDRINUSE;
    if (!port)
        port = tcp_free_port(z, &to, remote->port);
    if (!port)
        return -EADDRNOTAVAIL;
    struct tcp_conn *c = tcp_conn_new(z);
    if (!c)
        return -ENOBUFS;
    c->attached = true;
    c->remote = to;
    c->remote_port = remote->port;
    c->local = z->ip;
    c->local_port = port;
    c->port_given = local && local->port;
    mem_promise_default(z, c);
    tcp_open(z, c, NULL);
    tcp_set_state(z, c, ZEST_SYN_SENT);
    *out = tcp_conn_handle(z, c);
    tcp_kick(z, c);
    return 0;
}

/* ---- moving bytes */

/* 0 if c may be written to. */
static int check_writable(const struct tcp_conn *c)
{
    switch ((enum zest_tcp_state)c->state) {
    case ZEST_SYN_SENT:
    case ZEST_SYN_RECEIVED:
    case ZEST_ESTABLISHED:
    case ZEST_CLOSE_WAIT:
        return c->fin_queued ? -EPIPE : 0;
    case ZEST_CLOSED:
        return why_not(c);
    default:
        return -EPIPE;
    }
}

ssize_t tcp_write(struct zest *z, zest_handle conn, const void *addr, size_t len)
{
    struct tcp_conn *c = tcp_conn_of(z, conn);

    if (!c)
        return -EBADF;
    struct zbuf *zb = zbuf_of(z->pool, addr);
    if (!zb || (const uint8_t *)addr < zb->data ||
        len > (size_t)(zbuf_end(zb) - (const uint8_t *)addr))
        return -EFAULT;
    int err = check_writable(c);
    if (err < 0)
        return err;
    if (len == 0)
        return 0;
    uint32_t n = (uint32_t)min_u64(len, sendq_room(z, c));
    if (n > 0 && !mem_may_send(z, c, zb)) {
        mem_wait(z, c, c->group->budget, zb->size - ZBUF_OVERHEAD);
        n = 0;
    }
    if (n > 0)
        sendq_append(z, c, (uint8_t *)(uintptr_t)addr, n, zb);
    if (n < len)
        c->want_write = true;
    if (n > 0 || c->cork) /* a full buffer lets go of what the cork held back */
        tcp_kick(z, c);
    return n ? (ssize_t)n : -EAGAIN;
}

ssize_t tcp_write_copy(struct zest *z, zest_handle conn, const void *addr, size_t len)
{
    struct tcp_conn *c = tcp_conn_of(z, conn);
    size_t done = 0;

    if (!c)
        return -EBADF;
    if (!addr && len)
        return -EFAULT;
    int err = check_writable(c);
    if (err < 0)
        return err;
    while (done < len) {
        /* One full segment each, so that it leaves in place. */
        uint32_t n = (uint32_t)min_u64(min_u64(len - done, sendq_room(z, c)), c->mss);
        struct zbuf *zb = n ? stack_alloc(z, z->tcp.copied, n) : NULL;
        if (!zb) {
            if (n)
                mem_wait(z, c, z->tcp.copied, n);
            if (n && done == 0)
                return -ENOBUFS;
            c->want_write = true;
            break;
        }
        if (!z->rec || !z->rec->replaying) /* a recording is without payload */
            memcpy(zb->data, (const uint8_t *)addr + done, n);
        sendq_append(z, c, zb->data, n, zb);
        zbuf_free(zb);
        z->stats.app_copied_bytes += n;
        done += n;
    }
    tcp_kick(z, c);
    return done || !len ? (ssize_t)done : -EAGAIN;
}

/* The ACK that is owed from here goes with the data, or, if no window lets that out, alone: it is
 * the segment that tells of the urgent data. */
int tcp_urgent(struct zest *z, zest_handle conn)
{
    struct tcp_conn *c = tcp_conn_of(z, conn);

    if (!c)
        return -EBADF;
    int err = check_writable(c);
    if (err < 0)
        return err;
    if (!c->sq_head || seq_geq(c->snd_max, c->snd_end))
        return -EINVAL;
    c->urgent = true;
    c->snd_up = c->snd_end;
    tcp_set_mss(z, c);
    if (!c->acks_owed)
        c->acks_owed = 1;
    tcp_kick(z, c);
    return 0;
}

int tcp_read(struct zest *z, zest_handle conn, struct zest_view *views, unsigned max)
{
    struct tcp_conn *c = tcp_conn_of(z, conn);
    unsigned n = 0;

    if (!c)
        return -EBADF;
    if (!views || max == 0 || max > INT32_MAX)
        return -EINVAL;
    for (struct zbuf *zb; n < max && (zb = c->rq_head); n++) {
        c->rq_head = zb->next;
        if (!c->rq_head)
            c->rq_tail = NULL;
        zb->next = NULL;
        views[n] = (struct zest_view){zb->data, zb->len};
        c->rcv_queued -= zb->len;
        c->rcv_lent += zb->len;
    }
    if (n > 0)
        return (int)n;
    if (c->error)
        return -c->error;
    if (c->fin_received)
        return 0;
    assert(c->state != ZEST_CLOSED); /* it would have ended with an error, or the peer's FIN */
    return -EAGAIN;
}

int tcp_release(struct zest *z, zest_handle conn, const struct zest_view *views, unsigned n)
{
    struct tcp_conn *c = tcp_conn_of(z, conn);

    for (unsigned i = 0; i < n; i++)
        if (!zbuf_of(z->pool, views[i].addr))
            return -EFAULT;
    for (unsigned i = 0; i < n; i++) {
        struct zbuf *zb = zbuf_of(z->pool, views[i].addr);
        if (c) {
            assert(c->rcv_lent >= views[i].len && c->held >= zb->size);
            c->rcv_lent -= views[i].len;
            mem_drop(z, c, zb);
        } else {
            zbuf_free(zb);
        }
    }
    if (c && c->state != ZEST_CLOSED)
        tcp_kick(z, c);
    return 0;
}

/* ---- closing */

int tcp_shutdown(struct zest *z, zest_handle conn)
{
    struct tcp_conn *c = tcp_conn_of(z, conn);

    if (!c)
        return -EBADF;
    switch ((enum zest_tcp_state)c->state) { /* 3.10.4 */
    case ZEST_CLOSED:
        return why_not(c);
    case ZEST_SYN_SENT:
        return -ENOTCONN;
    case ZEST_SYN_RECEIVED: /* FIN-WAIT-1 as soon as the SYN is acknowledged */
        c->fin_queued = true;
        break;
    case ZEST_ESTABLISHED:
        c->fin_queued = true;
        tcp_set_state(z, c, ZEST_FIN_WAIT_1);
        break;
    case ZEST_CLOSE_WAIT:
        c->fin_queued = true;
        tcp_set_state(z, c, ZEST_LAST_ACK);
        break;
    default: /* it has been called before */
        assert(c->fin_queued);
        return 0;
    }
    tcp_kick(z, c);
    return 0;
}

static int close_listener(struct zest *z, struct tcp_listener *l)
{
    /* Half-open ones and those that nobody accepted. They are few: at most the backlog. */
    for (uint32_t i = 0; l->waiting > 0 && i < z->cfg.max_conns; i++) {
        struct tcp_conn *c = &z->tcp.conns[i];
        if (c->listener != l)
            continue;
        tcp_rst_conn(z, c);
        tcp_conn_end(z, c, ECONNABORTED);
    }
    for (struct tcp_listener **p = &z->tcp.listener_events; *p; p = &(*p)->ev_next) {
        if (*p == l) {
            *p = l->ev_next;
            break;
        }
    }
    mem_group_leave(z, l->group);
    uint32_t generation = l->generation;
    *l = (struct tcp_listener){.generation = generation + 1};
    return 0;
}

int tcp_close(struct zest *z, zest_handle handle)
{
    struct tcp_listener *l = tcp_listener_of(z, handle);
    struct tcp_conn *c = tcp_conn_of(z, handle);

    if (l)
        return close_listener(z, l);
    if (!c)
        return -EBADF;
    if (c->state == ZEST_SYN_SENT || c->rcv_queued || c->reass_segs)
        return tcp_abort(z, handle); /* RFC 1122 4.2.2.13: bytes are lost, so the peer is told */
    (void)tcp_shutdown(z, handle);
    tcp_conn_detach(z, c);
    return 0;
}

int tcp_abort(struct zest *z, zest_handle conn)
{
    struct tcp_conn *c = tcp_conn_of(z, conn);

    if (!c)
        return -EBADF;
    if (c->state != ZEST_CLOSED && c->state != ZEST_TIME_WAIT) {
        tcp_rst_conn(z, c);
        tcp_conn_end(z, c, ECONNABORTED);
    }
    tcp_conn_detach(z, c);
    return 0;
}

/* ---- settings and facts */

int tcp_set_user(struct zest *z, zest_handle handle, void *user)
{
    struct tcp_listener *l = tcp_listener_of(z, handle);
    struct tcp_conn *c = tcp_conn_of(z, handle);

    if (!l && !c)
        return -EBADF;
    *(l ? &l->user : &c->user) = user;
    return 0;
}

/* The options that a listener hands on are fields of the same name in both. */
#define SET(field, v) (l ? (l->field = (v)) : (c->field = (v)))

int tcp_set_option(struct zest *z, zest_handle handle, enum zest_option opt, uint32_t value)
{
    struct tcp_listener *l = tcp_listener_of(z, handle);
    struct tcp_conn *c = tcp_conn_of(z, handle);
    int err;

    if (!l && !c)
        return -EBADF;
    switch (opt) {
    case ZEST_OPT_NODELAY:
        if (value > 1)
            return -EINVAL;
        SET(nodelay, value != 0);
        break;
    case ZEST_OPT_CORK:
        if (value > 1 || l)
            return -EINVAL;
        c->cork = value != 0;
        break;
    case ZEST_OPT_KEEPALIVE:
        SET(keep_idle_s, value);
        if (c) {
            c->start_keep = value > 0;
            c->keep_ns = ZEST_NEVER;
        }
        break;
    case ZEST_OPT_KEEPINTVL:
        if (value == 0)
            return -EINVAL;
        SET(keep_intvl_s, value);
        break;
    case ZEST_OPT_KEEPCNT:
        if (value == 0 || value > UINT8_MAX)
            return -EINVAL;
        SET(keep_cnt, value);
        break;
    case ZEST_OPT_USER_TIMEOUT:
        SET(user_timeout_ms, value);
        break;
    case ZEST_OPT_SND_BUF:
        if (value == 0 || value > 1u << 30)
            return -EINVAL;
        SET(snd_buf, value);
        break;
    case ZEST_OPT_RCV_BUF:
        if (value == 0 || value > 1u << 30)
            return -EINVAL;
        /* The scale of a connection's window stands since its SYN: what is less than a few of its
         * units could not be offered to the peer at all. */
        value = max_u32(value, max_u32(TCP_RCV_BUF_MIN, 4u << (c ? c->rcv_wscale : 0)));
        SET(rcv_buf, value);
        break;
    case ZEST_OPT_TTL:
        if (value == 0 || value > UINT8_MAX)
            return -EINVAL;
        SET(ttl, (uint8_t)value);
        break;
    case ZEST_OPT_MEM_MIN:
        if (value > 1u << 30 ||
            (l ? l->mem_max && value > l->mem_max : c->mem_max && value > c->mem_max))
            return -EINVAL;
        if (c && c->state != ZEST_CLOSED && c->state != ZEST_TIME_WAIT &&
            mem_promise(z, c, value) < 0)
            return -ENOBUFS;
        if (l)
            l->mem_min = value;
        break;
    case ZEST_OPT_MEM_MAX:
        if (value && value < (l ? l->mem_min == UINT32_MAX ? 0 : l->mem_min : c->mem_min))
            return -EINVAL;
        SET(mem_max, value);
        break;
    case ZEST_OPT_LISTENER_MEM_MIN:
    case ZEST_OPT_LISTENER_MEM_MAX:
        if (!l)
            return -EINVAL;
        err = opt == ZEST_OPT_LISTENER_MEM_MIN
                  ? mem_group_limits(z, l->group, value, l->group->max)
                  : mem_group_limits(z, l->group, l->group->min, value);
        if (err < 0)
            return err;
        break;
    case ZEST_OPT_SOFT_ERRORS:
        if (value > 1)
            return -EINVAL;
        SET(soft_quiet, value == 0);
        break;
    case ZEST_OPT_ECN:
        if (value > ZEST_ECN_ASK)
            return -EINVAL;
        SET(ecn_mode, (uint8_t)value);
        break;
    case ZEST_OPT_DSCP:
        if (value > 63)
            return -EINVAL;
        SET(dscp, (uint8_t)value);
        break;
    default:
        return -EINVAL;
    }
    if (c)
        c->path.gen = z->arp.gen - 1; /* its header may be another now */
    if (c && c->state != ZEST_CLOSED)
        tcp_kick(z, c);
    return 0;
}

int zest_conn_info(const struct zest *z, zest_handle conn, struct zest_conn_info *out)
{
    const struct tcp_conn *c = tcp_conn_of(z, conn);

    if (!c)
        return -EBADF;
    *out = (struct zest_conn_info){
        .state = c->state,
        .mss = c->mss,
        .snd_queued = seq_lt(c->snd_una, c->snd_end) ? c->snd_end - c->snd_una : 0,
        .snd_unsent = seq_lt(c->snd_nxt, c->snd_end) ? c->snd_end - c->snd_nxt : 0,
        .snd_wnd = c->snd_wnd,
        .rcv_wnd = c->rcv_adv - c->rcv_nxt,
        .cwnd = c->cwnd,
        .ssthresh = c->ssthresh,
        .srtt_ns = c->srtt_ns,
        .rttvar_ns = c->rttvar_ns,
        .rto_ns = c->rto_ns,
        .rcv_queued = c->rcv_queued,
        .rcv_lent = c->rcv_lent,
        .bytes_sent = c->bytes_sent,
        .bytes_acked = c->bytes_acked,
        .bytes_received = c->bytes_received,
        .segs_sent = c->segs_sent,
        .segs_received = c->segs_received,
        .segs_retransmitted = c->segs_retransmitted,
        .rtos = c->rtos,
        .fast_retransmits = c->fast_retransmits,
        .ecn = c->ecn,
        .soft_error = c->soft_error,
        .mem_held = c->held,
        .mem_min = c->mem_min,
        .mem_max = mem_limit(z, c),
        .bytes_read = c->bytes_received - c->rcv_queued,
        .urgent_end = c->urgent_end,
    };
    addr_of(&out->local, &c->local, c->local_port);
    addr_of(&out->remote, &c->remote, c->remote_port);
    return 0;
}
