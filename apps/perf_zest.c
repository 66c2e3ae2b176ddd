/* perf_zest.c - zest perf over zest's own connections.
 *
 * The sender writes zbufs in the headroom layout: each holds the payload of one full segment right
 * behind its headroom, so every frame leaves as one descriptor that begins with headers written in
 * front of the payload, and nothing is copied on any link. A new zbuf is allocated when the send
 * buffer has room, and our own reference is dropped as soon as all of it was written: the stack's
 * reference then frees it when the peer has acknowledged it. When the pool is used up, the loop
 * calls when there is memory again (netif_loop_wait). With --frames these zbufs come as chains made
 * as frames, many to an allocation. With -l alone the zbufs are that large instead, and what the
 * stack does with the parts that have no headroom is up to --gather. */
#include "perf.h"

#include "say.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VIEWS       32    /* borrowed at a time */
#define CHAIN_BYTES 65536 /* --frames without -l */

struct zconn {
    struct perf_conn c; /* first */
    zest_handle handle;
    struct zbuf *zb; /* being written; wrote bytes of zb->len have been taken, none of the links
                        that follow */
    uint32_t wrote;
    struct netif_loop_wait wait; /* for memory for the next zbuf */
    uint32_t record;             /* bytes at its front that are no payload and not yet taken */
    uint32_t mss;
};

struct zside {
    zest_handle listener;
};

static struct zconn *zconn_of(struct perf_stream *s)
{
    return (struct zconn *)(void *)s; /* c.s is its first member */
}
static struct zest *stack_of(const struct zconn *k)
{
    return k->c.end->host->z;
}

/* ---- the wire */

/* What goes into one zbuf. */
static uint32_t write_size(const struct zconn *k)
{
    const struct perf_plan *p = &k->c.s.plan;
    return p->length && !p->frames ? p->length : k->mss;
}

/* Refused memory for the next zbuf: the loop calls when there is some. */
static void wait_for_memory(struct zconn *k)
{
    k->wait.bytes = write_size(k);
    k->c.end->memory_waits++;
    /* It can't fail: what can be allocated can be waited for. */
    (void)netif_loop_wait(k->c.end->host->nl, &k->wait);
}

/* One zbuf, or NULL: wait_for_memory() has been called, unless it is being waited for already. */
static struct zbuf *new_zbuf(struct zconn *k)
{
    if (k->wait.active)
        return NULL;
    struct zbuf *zb = zbuf_alloc(k->c.end->host->pool, write_size(k));
    if (!zb)
        wait_for_memory(k);
    return zb;
}

/* The next bytes' memory: a zbuf, or a chain of them. A chain is a number of whole frames: a short
 * link in the middle of a stream would be a short segment, or copied to fill one up. Where there is
 * not the memory for all of it, one frame is better than none. */
static struct zbuf *new_chain(struct zconn *k, uint64_t max)
{
    const struct perf_plan *p = &k->c.s.plan;
    uint32_t frame = write_size(k), most = frame;
    if (p->frames)
        most *= ((p->length ? p->length : CHAIN_BYTES) + frame - 1) / frame;
    uint32_t len = most < max ? most : (uint32_t)max;
    struct zbuf *zb = NULL;
    if (len > frame && !k->wait.active)
        zb = zbuf_chain_alloc(zbuf_budget_app(k->c.end->host->pool), len, frame);
    if (!zb && (zb = new_zbuf(k)) != NULL)
        zb->len = len < frame ? len : frame;
    return zb;
}

/* A record goes its own, copied way, but for the hello that a stream of payload follows: it takes
 * the front of the first zbuf. In a frame's worth of its own it would shift all that comes after
 * by 64 bytes, and no frame would begin where a zbuf does. */
static ssize_t z_send_copy(struct perf_stream *s, const void *from, size_t len)
{
    struct zconn *k = zconn_of(s);
    bool payload_follows = s->tx_grant && s->plan.mode != PERF_RR && write_size(k) > len;
    if (payload_follows && !k->zb) {
        k->zb = new_zbuf(k);
        if (!k->zb)
            return -EAGAIN;
        memcpy(k->zb->data, from, len);
        k->zb->len = k->record = (uint32_t)len;
        k->wrote = 0;
        return (ssize_t)len;
    }
    ssize_t n = zest_write_copy(stack_of(k), k->handle, from, len);
    return n == -ENOBUFS ? -EAGAIN : n; /* an event follows either */
}

/* Fills up the first zbuf, which holds a record so far. */
static void follow_record(struct zconn *k, uint64_t max)
{
    uint32_t room = write_size(k) - k->record;
    uint32_t len = room < max ? room : (uint32_t)max;
    if (k->c.s.plan.verify)
        perf_pattern_fill(k->zb->data + k->zb->len, len, k->c.s.tx_bytes);
    k->zb->len += len;
}

/* Sees that there is a zbuf with the next bytes of the stream. False: not before there is memory.
 */
static bool have_zbuf(struct zconn *k, uint64_t max)
{
    if (k->zb) {
        if (k->record && k->zb->len == k->record && k->wrote == 0)
            follow_record(k, max);
        return true;
    }
    k->zb = new_chain(k, max);
    k->wrote = 0;
    uint64_t at = k->c.s.tx_bytes;
    for (struct zbuf *zb = k->zb; zb && k->c.s.plan.verify; at += zb->len, zb = zb->next)
        perf_pattern_fill(zb->data, zb->len, at);
    return k->zb != NULL;
}

static ssize_t z_send_payload(struct perf_stream *s, uint64_t max)
{
    struct zconn *k = zconn_of(s);
    if (!have_zbuf(k, max))
        return -EAGAIN;
    ssize_t n = zest_write(stack_of(k), k->handle, k->zb->data + k->wrote, k->zb->len - k->wrote);
    if (n < 0)
        return n;
    k->wrote += (uint32_t)n;
    if (k->wrote == k->zb->len) {
        struct zbuf *next = k->zb->next;
        zbuf_free(k->zb);
        k->zb = next;
        k->wrote = 0;
    }
    uint32_t record = k->record < n ? k->record : (uint32_t)n; /* of the n, no payload */
    k->record -= record;
    return n - record ? n - record : -EAGAIN;
}

static int z_shutdown(struct perf_stream *s)
{
    struct zconn *k = zconn_of(s);
    return zest_shutdown(stack_of(k), k->handle);
}

static void z_counters(struct perf_stream *s, struct perf_result *r)
{
    struct zconn *k = zconn_of(s);
    struct zest_stats st;
    zest_stats(stack_of(k), &st);
    r->copied_bytes = st.tx_copied_bytes;
    r->retransmits = st.tcp_retransmits;
    r->zest = true;
}

static const struct perf_wire wire = {
    .send_copy = z_send_copy,
    .send_payload = z_send_payload,
    .shutdown = z_shutdown,
    .counters = z_counters,
};

/* ---- a connection's life */

static void set_options(struct perf_end *e, zest_handle h, bool rr)
{
    if (rr || e->opt->nodelay)
        zest_set_option(e->host->z, h, ZEST_OPT_NODELAY, 1);
}

static void on_memory(struct netif_loop_wait *w);

static struct zconn *new_conn(struct perf_end *e, zest_handle h)
{
    struct zconn *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->handle = h;
    k->wait = (struct netif_loop_wait){
        .budget = zbuf_budget_app(e->host->pool), .ready = on_memory, .ctx = k};
    perf_end_add(e, &k->c);
    zest_set_user(e->host->z, h, k);
    return k;
}

/* Closes it in order if it ended well, and with a RST if not. */
static void end_conn(struct zconn *k, int rc)
{
    struct zest *z = stack_of(k);
    netif_loop_wait_stop(k->c.end->host->nl, &k->wait);
    perf_end_remove(&k->c, rc);
    zbuf_chain_free(k->zb);
    rc < 0 ? zest_abort(z, k->handle) : zest_close(z, k->handle);
    free(k);
}

static void learn_mss(struct zconn *k)
{
    struct zest_conn_info info;
    if (zest_conn_info(stack_of(k), k->handle, &info) == 0 && info.mss)
        k->mss = info.mss;
    else if (k->mss == 0)
        k->mss = 536;
}

/* Reads everything there is. 0 or -errno. */
static int read_all(struct zconn *k, uint64_t now_ns)
{
    struct zest *z = stack_of(k);
    struct zest_view v[VIEWS];
    while (!k->c.s.rx_eof) {
        int n = zest_read(z, k->handle, v, VIEWS);
        if (n == -EAGAIN)
            return 0;
        if (n < 0)
            return n;
        if (n == 0)
            return perf_stream_eof(&k->c.s, now_ns);
        int rc = 0;
        for (int i = 0; i < n && rc == 0; i++)
            rc = perf_stream_input(&k->c.s, now_ns, v[i].addr, v[i].len);
        zest_release(z, k->handle, v, (unsigned)n);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Everything that can be done now. True if that ended the connection: k is gone. */
static bool work(struct zconn *k, uint64_t now_ns)
{
    if (k->c.s.plan.mode != PERF_RR) /* which writes messages, not segments */
        learn_mss(k);
    bool was_hello = k->c.s.state == PERF_HELLO;
    int rc = read_all(k, now_ns);
    if (was_hello && k->c.s.state != PERF_HELLO)
        set_options(k->c.end, k->handle, k->c.s.plan.mode == PERF_RR);
    if (rc == 0)
        rc = perf_stream_push(&k->c.s, now_ns);
    if (!perf_conn_over(&k->c, rc))
        return false;
    end_conn(k, rc);
    return true;
}

static void on_memory(struct netif_loop_wait *w)
{
    work(w->ctx, netif_now());
}

static void z_poll(struct perf_conn *c, uint64_t now_ns)
{
    work((struct zconn *)(void *)c, now_ns);
}

static void accept_all(struct perf_end *e, uint64_t now_ns)
{
    const struct zside *side = e->impl;
    zest_handle h;
    while (zest_accept(e->host->z, side->listener, &h, NULL) == 0) {
        struct zconn *k = new_conn(e, h);
        if (!k) {
            zest_abort(e->host->z, h);
            continue;
        }
        perf_stream_init_server(&k->c.s, &wire);
        work(k, now_ns);
    }
}

static void handle_event(struct zconn *k, const struct zest_event *ev, uint64_t now_ns)
{
    if (ev->events & ZEST_EV_ERROR) {
        end_conn(k, ev->error ? -ev->error : -EIO);
        return;
    }
    if (ev->events & ZEST_EV_CONNECTED) {
        learn_mss(k);
        set_options(k->c.end, k->handle, k->c.s.plan.mode == PERF_RR);
        int rc = perf_stream_start(&k->c.s, now_ns);
        if (perf_conn_over(&k->c, rc)) {
            end_conn(k, rc);
            return;
        }
    }
    /* Closed, and the result was not among what could still be read: it ended too early. */
    if (!work(k, now_ns) && ev->events & ZEST_EV_CLOSED)
        end_conn(k, -EPROTO);
}

static void on_event(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n)
{
    struct perf_end *e = ctx;
    const struct zside *side = e->impl;
    uint64_t now_ns = netif_now();
    (void)z;
    for (unsigned i = 0; i < n; i++) {
        if (side->listener && ev[i].handle == side->listener)
            accept_all(e, now_ns);
        else if (ev[i].user)
            handle_event(ev[i].user, &ev[i], now_ns);
    }
}

/* ---- the transport */

static int start(struct perf_end *e)
{
    if (e->impl)
        return 0;
    e->impl = calloc(1, sizeof(struct zside));
    if (!e->impl)
        return -ENOMEM;
    return host_start(e->host, on_event, e);
}

static int z_listen(struct perf_end *e)
{
    int rc = start(e);
    if (rc < 0)
        return rc;
    struct zside *side = e->impl;
    struct zest_addr local = {.port = e->opt->port};
    return zest_listen(e->host->z, &local, PERF_STREAMS, &side->listener);
}

static int z_connect(struct perf_end *e)
{
    int rc = start(e);
    if (rc < 0)
        return rc;
    zest_handle h;
    rc = netif_connect(e->host->nl, &e->opt->peer_addr, &h);
    if (rc < 0)
        return rc;
    struct zconn *k = new_conn(e, h);
    if (!k) {
        zest_abort(e->host->z, h);
        return -ENOMEM;
    }
    perf_stream_init_client(&k->c.s, &wire, &e->plan, e->hist);
    netif_loop_wake(e->host->nl);
    return 0;
}

static void z_close(struct perf_end *e)
{
    struct zside *side = e->impl;
    if (!side)
        return;
    while (e->conns) {
        struct zconn *k = (struct zconn *)(void *)e->conns;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list's head is a link, too */
        *k->c.link = k->c.next;
        if (k->c.next)
            k->c.next->link = k->c.link;
        netif_loop_wait_stop(e->host->nl, &k->wait);
        zbuf_chain_free(k->zb);
        zest_abort(e->host->z, k->handle);
        free(k);
    }
    if (side->listener)
        zest_close(e->host->z, side->listener);
    host_flush(e->host);
    free(side);
    e->impl = NULL;
}

const struct perf_transport perf_over_zest = {
    .listen = z_listen,
    .connect = z_connect,
    .poll = z_poll,
    .close = z_close,
};
