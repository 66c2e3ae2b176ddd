/* replay_calls.c - the calls in a recording, made again: each takes its arguments, and returns its
 * result. See replay.h. */
#include "replay.h"

#include "tcp_conn.h"

static const char *const names[REC_OPS] = {
    [REC_INPUT] = "zest_input",
    [REC_OUTPUT] = "zest_output",
    [REC_EVENTS] = "zest_events",
    [REC_LISTEN] = "zest_listen",
    [REC_ACCEPT] = "zest_accept",
    [REC_CONNECT] = "zest_connect",
    [REC_WRITE] = "zest_write",
    [REC_WRITE_COPY] = "zest_write_copy",
    [REC_READ] = "zest_read",
    [REC_RELEASE] = "zest_release",
    [REC_SHUTDOWN] = "zest_shutdown",
    [REC_CLOSE] = "zest_close",
    [REC_ABORT] = "zest_abort",
    [REC_SET_USER] = "zest_set_user",
    [REC_SET_OPTION] = "zest_set_option",
    [REC_CHANGE_PORT] = "zest_change_port",
    [REC_URGENT] = "zest_urgent",
    [REC_LINK_UP] = "zest_link_up",
};

const char *replay_call_name(uint8_t op)
{
    return op < REC_OPS ? names[op] : NULL;
}

/* NULL if that is what was passed. */
static const struct zest_addr *take_addr(struct replay *p, struct zest_addr *a)
{
    uint8_t text[19] = {0};

    replay_take(p, text, sizeof text);
    *a = (struct zest_addr){.port = 0};
    memcpy(a->ip, text + 1, 16);
    memcpy(&a->port, text + 17, 2);
    return text[0] ? a : NULL;
}

/* One segment of a received frame; NULL: there is something wrong with it. */
static struct zbuf *take_segment(struct replay *p, bool *more)
{
    struct record_place at;
    bool placed = seats_take_place(p, &at);
    uint32_t len = replay_u32(p), kept = replay_u32(p);

    if (!placed || !replay_is_good(p))
        return NULL;
    *more = len & RECORD_MORE;
    len &= ~RECORD_MORE;
    if (at.unit == RECORD_NOWHERE || kept > len || len > (ZBUF_SEG_MIN << at.cls) - at.data_off) {
        replay_damaged(p, "a frame that does not fit its segment");
        return NULL;
    }
    struct zbuf *zb = seats_stand_in(p, &at);
    if (!zb)
        return NULL;
    zb->len = len;
    memset(zb->data, 0, len);
    if (replay_take(p, zb->data, kept))
        return zb;
    zbuf_free(zb);
    return NULL;
}

/* A frame, as a chain if it came as one. */
static struct zbuf *take_frame(struct replay *p)
{
    bool more = false;
    struct zbuf *head = take_segment(p, &more);

    for (struct zbuf *last = head; last && more; last = last->next) {
        last->next = take_segment(p, &more);
        if (!last->next) {
            zbuf_chain_free(head);
            return NULL;
        }
    }
    return head;
}

static int64_t play_input(struct replay *p)
{
    uint64_t now = replay_u64(p);
    uint32_t n = replay_u32(p), got = 0;

    if (replay_is_good(p) && (now < p->z->now_ns || now > RECORD_CLOCK_MAX_NS))
        replay_damaged(p, "the clock goes backwards");
    if (n > REPLAY_BURST_MAX)
        replay_damaged(p, "too many frames");
    while (replay_is_good(p) && got < n && (p->burst->zbufs[got] = take_frame(p)))
        got++;
    if (!replay_is_good(p)) {
        while (got > 0)
            zbuf_chain_free(p->burst->zbufs[--got]);
        return 0;
    }
    p->res->frames_in += n;
    stack_input(p->z, now, p->burst->zbufs, n);
    return 0;
}

static int64_t play_output(struct replay *p)
{
    uint64_t now = replay_u64(p);
    uint32_t max = min_u32(replay_u32(p), REPLAY_BURST_MAX);
    struct zest_frame *f = p->burst->frames;

    if (replay_is_good(p) && (now < p->z->now_ns || now > RECORD_CLOCK_MAX_NS))
        replay_damaged(p, "the clock goes backwards");
    if (!replay_is_good(p))
        return 0;
    unsigned n = stack_output(p->z, now, f, max);
    record_hash_frames(p->r, f, n);
    record_hash_u64(p->r, zest_deadline(p->z));
    for (unsigned i = 0; i < n; i++)
        for (unsigned s = 0; s < f[i].n; s++)
            zbuf_tx_done(p->pool, f[i].seg[s].addr);
    p->res->frames_out += n;
    return n;
}

static int64_t play_link_up(struct replay *p)
{
    uint64_t now = replay_u64(p);
    uint32_t mtu = replay_u32(p);

    if (replay_is_good(p) && (now < p->z->now_ns || now > RECORD_CLOCK_MAX_NS))
        replay_damaged(p, "the clock goes backwards");
    if (!replay_is_good(p))
        return 0;
    stack_link_up(p->z, now, mtu);
    record_hash_u64(p->r, zest_deadline(p->z));
    return 0;
}

static int64_t play_events(struct replay *p)
{
    uint32_t max = min_u32(replay_u32(p), REPLAY_BURST_MAX);

    if (!replay_is_good(p))
        return 0;
    unsigned n = tcp_events(p->z, p->burst->events, max);
    record_hash_events(p->r, p->burst->events, n);
    return n;
}

static int64_t play_open(struct replay *p, enum record_op op)
{
    struct zest_addr a[2];
    const struct zest_addr *first = NULL, *second = NULL;
    zest_handle h = 0, listener = 0;
    uint32_t backlog = 0;
    int rc;

    if (op == REC_ACCEPT)
        listener = replay_u64(p);
    else
        first = take_addr(p, &a[0]);
    if (op == REC_CONNECT)
        second = take_addr(p, &a[1]);
    if (op == REC_LISTEN)
        backlog = replay_u32(p);
    zest_handle *out = replay_u32(p) ? &h : NULL;
    if (!replay_is_good(p))
        return 0;
    if (op == REC_LISTEN)
        rc = tcp_listen(p->z, first, backlog, out);
    else if (op == REC_ACCEPT)
        rc = tcp_accept(p->z, listener, out, NULL);
    else
        rc = tcp_connect(p->z, first, second, out);
    record_hash_u64(p->r, rc == 0 ? h : 0);
    return rc;
}

static int64_t play_write(struct replay *p)
{
    zest_handle conn = replay_u64(p);
    struct record_place at;
    bool placed = seats_take_place(p, &at);
    uint64_t len = replay_u64(p);

    if (!placed || !replay_is_good(p))
        return 0;
    if (at.unit == RECORD_NOWHERE)
        return tcp_write(p->z, conn, NULL, len);
    bool fresh = !seats_same(p, &at);
    struct zbuf *zb = fresh ? seats_stand_in(p, &at) : p->seats[at.unit].zb;
    if (!zb)
        return 0;
    /* Whose memory it is decides what it counts against. */
    struct zbuf_budget *whose = at.received == 0   ? zbuf_budget_app(p->pool)
                                : at.received == 1 ? p->z->tcp.rcv
                                                   : p->z->tcp.mem.kept;
    if (mem_kind(p->z, zb) != at.received && zbuf_charge(zb, whose) < 0)
        replay_fail(p, ZEST_REPLAY_DIFFERS, "the pool is too small to play it");
    ssize_t n = replay_is_good(p) ? tcp_write(p->z, conn, zb->first + at.off, len) : 0;
    if (fresh)
        zbuf_free(zb);
    return n;
}

static int64_t play_write_copy(struct replay *p)
{
    zest_handle conn = replay_u64(p);
    uint32_t there = replay_u32(p);
    uint64_t len = replay_u64(p);

    return replay_is_good(p) ? tcp_write_copy(p->z, conn, there ? p : NULL, len) : 0;
}

static int64_t play_read(struct replay *p)
{
    zest_handle conn = replay_u64(p);
    uint32_t max = min_u32(replay_u32(p), REPLAY_BURST_MAX);
    struct zest_view *v = p->burst->views;

    if (!replay_is_good(p))
        return 0;
    int n = tcp_read(p->z, conn, v, max);
    for (int i = 0; i < n; i++) {
        struct zbuf *zb = zbuf_of(p->pool, v[i].addr);
        struct seat *s = seats_under(p, v[i].addr);
        if (s->zb != zb || s->our_generation != zb->generation) {
            replay_damaged(p, "a segment arrived twice"); /* another has taken its seat meanwhile */
            zbuf_free(zb);
            continue;
        }
        s->lent = v[i].addr;
        s->lent_len = v[i].len;
        s->lent_by = conn;
    }
    record_hash_views(p->r, p->z, v, replay_is_good(p) && n > 0 ? (unsigned)n : 0);
    return n;
}

static int64_t play_release(struct replay *p)
{
    zest_handle conn = replay_u64(p);
    uint32_t n = replay_u32(p);
    bool nowhere = false;
    struct zest_view *v = p->burst->views;

    if (n > REPLAY_BURST_MAX)
        replay_damaged(p, "too many views");
    for (uint32_t i = 0; i < n && replay_is_good(p); i++) {
        struct record_place at;
        bool placed = seats_take_place(p, &at);
        uint32_t len = replay_u32(p);
        v[i] = (struct zest_view){NULL, len};
        if (!placed || !replay_is_good(p))
            break;
        if (at.unit == RECORD_NOWHERE) {
            nowhere = true; /* -EFAULT, and nothing is given back */
            continue;
        }
        struct seat *s = &p->seats[at.unit];
        if ((!seats_same(p, &at) || !s->lent) && !seats_lent_before(p, &at, len, conn)) {
            replay_damaged(p, "it gives back what was not lent");
            break;
        }
        v[i].addr = s->zb->first + at.off;
        if (s->lent != v[i].addr || s->lent_len != len || s->lent_by != conn)
            replay_damaged(p, "it gives back what was not lent");
    }
    for (uint32_t i = 0; i < n && replay_is_good(p) && !nowhere; i++) {
        struct seat *s = seats_under(p, v[i].addr);
        if (!s->lent) {
            replay_damaged(p, "it gives the same view back twice");
            while (i-- > 0) /* nothing is given back: all of them are still lent */
                seats_under(p, v[i].addr)->lent = v[i].addr;
            break;
        }
        s->lent = NULL;
    }
    return replay_is_good(p) ? tcp_release(p->z, conn, v, n) : 0;
}

static int64_t play_conn(struct replay *p, enum record_op op)
{
    zest_handle h = replay_u64(p);
    uint32_t opt = 0, value = 0;

    if (op == REC_SET_OPTION) {
        opt = replay_u32(p);
        value = replay_u32(p);
    } else if (op == REC_CHANGE_PORT) {
        value = replay_u32(p);
    }
    if (!replay_is_good(p))
        return 0;
    switch (op) {
    case REC_SHUTDOWN:
        return tcp_shutdown(p->z, h);
    case REC_CLOSE:
        return tcp_close(p->z, h);
    case REC_ABORT:
        return tcp_abort(p->z, h);
    case REC_SET_USER:
        return tcp_set_user(p->z, h, NULL);
    case REC_CHANGE_PORT:
        return tcp_change_port(p->z, h, (uint16_t)value);
    case REC_URGENT:
        return tcp_urgent(p->z, h);
    default:
        return tcp_set_option(p->z, h, (enum zest_option)opt, value);
    }
}

int64_t replay_call(struct replay *p, enum record_op op)
{
    switch (op) {
    case REC_INPUT:
        return play_input(p);
    case REC_OUTPUT:
        return play_output(p);
    case REC_EVENTS:
        return play_events(p);
    case REC_LINK_UP:
        return play_link_up(p);
    case REC_LISTEN:
    case REC_ACCEPT:
    case REC_CONNECT:
        return play_open(p, op);
    case REC_WRITE:
        return play_write(p);
    case REC_WRITE_COPY:
        return play_write_copy(p);
    case REC_READ:
        return play_read(p);
    case REC_RELEASE:
        return play_release(p);
    default:
        return play_conn(p, op);
    }
}
