/* replay.c - playing a recording: the same calls in the same order against a new stack.
 *
 * Segments of the recorded pool are stood in for by segments of the same class in ours; which one
 * for which is kept in a table of seats, one for each place where a segment can begin. A seat is
 * good as long as both sides still mean the same allocation (generation): what the stack no longer
 * holds it can't compare, so a fresh stand-in does as well. The link is done with every frame at
 * once, and the notes say where that was not so.
 *
 * The file is not trusted: nothing in it may make the stack see a caller that breaks the contract
 * of zest.h, as that is answered with abort(). */
#include "record.h"
#include "stack.h"
#include "tcp_conn.h"

#define BURST_MAX    65536u        /* frames, events or views in one call */
#define STACK_MAX    (1ull << 30)  /* bytes of a stack that we are willing to build */
#define POOL_MAX     (16ull << 30) /* and of a pool */
#define POOL_SLACK   (32u << 20) /* a pool that is cut into classes otherwise may waste a little */
#define CLOCK_MAX_NS (UINT64_MAX / 4)

struct seat {
    struct zbuf *zb;
    uint32_t generation, our_generation; /* of the recorded segment, and of its stand-in */
    uint8_t *lent;                       /* a view into it is out */
    uint32_t lent_len;
    zest_handle lent_by;
};

union burst {
    struct zest_frame frames[BURST_MAX];
    struct zest_event events[BURST_MAX];
    struct zest_view views[BURST_MAX];
    struct zbuf *zbufs[BURST_MAX];
};

struct replay {
    struct zest *z;
    struct record *r;
    struct zbuf_pool *pool;
    struct seat *seats;
    uint32_t *seat_of; /* by place in our pool */
    uint32_t nseats;
    union burst *burst;
    struct zest_replay_result *res;
};

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

/* ---- reading */

static bool fail(struct replay *p, enum zest_replay_end end, const char *why)
{
    if (!p->res->why[0]) {
        p->res->end = end;
        p->res->why = why;
    }
    return false;
}
static bool damaged(struct replay *p, const char *why)
{
    return fail(p, ZEST_REPLAY_DAMAGED, why);
}

static bool take(struct replay *p, void *out, size_t n)
{
    return record_take(p->r, out, n) || damaged(p, "the file ends in the middle of a call");
}
static uint32_t take_u32(struct replay *p)
{
    uint32_t v = 0;
    take(p, &v, sizeof v);
    return v;
}
static uint64_t take_u64(struct replay *p)
{
    uint64_t v = 0;
    take(p, &v, sizeof v);
    return v;
}
/* NULL if that is what was passed. */
static const struct zest_addr *take_addr(struct replay *p, struct zest_addr *a)
{
    uint8_t text[19] = {0};

    take(p, text, sizeof text);
    *a = (struct zest_addr){.port = 0};
    memcpy(a->ip, text + 1, 16);
    memcpy(&a->port, text + 17, 2);
    return text[0] ? a : NULL;
}
static bool is_good(const struct replay *p)
{
    return !p->res->why[0];
}

/* ---- segments */

static bool is_seated(const struct replay *p, const struct seat *s)
{
    return s->zb && zbuf_of(p->pool, (uint8_t *)s->zb + ZBUF_HEADER) == s->zb &&
           s->zb->generation == s->our_generation;
}

/* A place in a segment, or -1 in *seat for one that was in none. */
static bool take_place(struct replay *p, struct record_place *at)
{
    if (!take(p, at, sizeof *at))
        return false;
    if (at->unit == RECORD_NOWHERE)
        return true;
    uint32_t size = at->cls < ZBUF_CLASSES ? ZBUF_SEG_MIN << at->cls : 0;
    if (at->unit >= p->nseats || at->off < ZBUF_HEADER || at->off > size ||
        at->data_off < ZBUF_HEADER || at->data_off > size)
        return damaged(p, "an address that is in no segment");
    return true;
}

/* A new stand-in. */
static struct zbuf *stand_in(struct replay *p, const struct record_place *at)
{
    struct seat *s = &p->seats[at->unit];
    struct zbuf *zb = zbuf_alloc(p->pool, (ZBUF_SEG_MIN << at->cls) - ZBUF_OVERHEAD);

    if (!zb || zb->cls != at->cls) {
        zbuf_free(zb);
        fail(p, ZEST_REPLAY_DIFFERS, "the pool is too small to play it");
        return NULL;
    }
    if (is_seated(p, s) && s->lent)
        zbuf_free(s->zb); /* let go of without a zest_release() */
    zb->data = (uint8_t *)zb + at->data_off;
    *s = (struct seat){.zb = zb, .generation = at->generation, .our_generation = zb->generation};
    p->seat_of[(size_t)((uint8_t *)zb - zbuf_pool_base(p->pool)) / RECORD_UNIT] = at->unit;
    return zb;
}

static bool same_segment(const struct replay *p, const struct record_place *at)
{
    const struct seat *s = &p->seats[at->unit];
    return is_seated(p, s) && s->generation == at->generation && s->zb->cls == at->cls;
}

/* ---- the calls; each returns its result */

/* One segment of a received frame; NULL: there is something wrong with it. */
static struct zbuf *take_segment(struct replay *p, bool *more)
{
    struct record_place at;
    bool placed = take_place(p, &at);
    uint32_t len = take_u32(p), kept = take_u32(p);

    if (!placed || !is_good(p))
        return NULL;
    *more = len & RECORD_MORE;
    len &= ~RECORD_MORE;
    if (at.unit == RECORD_NOWHERE || kept > len || len > (ZBUF_SEG_MIN << at.cls) - at.data_off) {
        damaged(p, "a frame that does not fit its segment");
        return NULL;
    }
    struct zbuf *zb = stand_in(p, &at);
    if (!zb)
        return NULL;
    zb->len = len;
    memset(zb->data, 0, len);
    if (take(p, zb->data, kept))
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
    uint64_t now = take_u64(p);
    uint32_t n = take_u32(p), got = 0;

    if (is_good(p) && (now < p->z->now_ns || now > CLOCK_MAX_NS))
        damaged(p, "the clock goes backwards");
    if (n > BURST_MAX)
        damaged(p, "too many frames");
    while (is_good(p) && got < n && (p->burst->zbufs[got] = take_frame(p)))
        got++;
    if (!is_good(p)) {
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
    uint64_t now = take_u64(p);
    uint32_t max = min_u32(take_u32(p), BURST_MAX);
    struct zest_frame *f = p->burst->frames;

    if (is_good(p) && (now < p->z->now_ns || now > CLOCK_MAX_NS))
        damaged(p, "the clock goes backwards");
    if (!is_good(p))
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
    uint64_t now = take_u64(p);
    uint32_t mtu = take_u32(p);

    if (is_good(p) && (now < p->z->now_ns || now > CLOCK_MAX_NS))
        damaged(p, "the clock goes backwards");
    if (!is_good(p))
        return 0;
    stack_link_up(p->z, now, mtu);
    record_hash_u64(p->r, zest_deadline(p->z));
    return 0;
}

static int64_t play_events(struct replay *p)
{
    uint32_t max = min_u32(take_u32(p), BURST_MAX);

    if (!is_good(p))
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
        listener = take_u64(p);
    else
        first = take_addr(p, &a[0]);
    if (op == REC_CONNECT)
        second = take_addr(p, &a[1]);
    if (op == REC_LISTEN)
        backlog = take_u32(p);
    zest_handle *out = take_u32(p) ? &h : NULL;
    if (!is_good(p))
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
    zest_handle conn = take_u64(p);
    struct record_place at;
    bool placed = take_place(p, &at);
    uint64_t len = take_u64(p);

    if (!placed || !is_good(p))
        return 0;
    if (at.unit == RECORD_NOWHERE)
        return tcp_write(p->z, conn, NULL, len);
    bool fresh = !same_segment(p, &at);
    struct zbuf *zb = fresh ? stand_in(p, &at) : p->seats[at.unit].zb;
    if (!zb)
        return 0;
    /* Whose memory it is decides what it counts against. */
    struct zbuf_budget *whose = at.received == 0   ? zbuf_budget_app(p->pool)
                                : at.received == 1 ? p->z->tcp.rcv
                                                   : p->z->tcp.mem.kept;
    if (mem_kind(p->z, zb) != at.received && zbuf_charge(zb, whose) < 0)
        fail(p, ZEST_REPLAY_DIFFERS, "the pool is too small to play it");
    ssize_t n = is_good(p) ? tcp_write(p->z, conn, (uint8_t *)zb + at.off, len) : 0;
    if (fresh)
        zbuf_free(zb);
    return n;
}

static int64_t play_write_copy(struct replay *p)
{
    zest_handle conn = take_u64(p);
    uint32_t there = take_u32(p);
    uint64_t len = take_u64(p);

    return is_good(p) ? tcp_write_copy(p->z, conn, there ? p : NULL, len) : 0;
}

static int64_t play_read(struct replay *p)
{
    zest_handle conn = take_u64(p);
    uint32_t max = min_u32(take_u32(p), BURST_MAX);
    struct zest_view *v = p->burst->views;

    if (!is_good(p))
        return 0;
    int n = tcp_read(p->z, conn, v, max);
    for (int i = 0; i < n; i++) {
        struct zbuf *zb = zbuf_of(p->pool, v[i].addr);
        struct seat *s =
            &p->seats[p->seat_of[(size_t)((uint8_t *)zb - zbuf_pool_base(p->pool)) / RECORD_UNIT]];
        if (s->zb != zb || s->our_generation != zb->generation) {
            damaged(p, "a segment arrived twice"); /* another has taken its seat meanwhile */
            zbuf_free(zb);
            continue;
        }
        s->lent = v[i].addr;
        s->lent_len = v[i].len;
        s->lent_by = conn;
    }
    record_hash_views(p->r, p->z, v, is_good(p) && n > 0 ? (unsigned)n : 0);
    return n;
}

static struct seat *seat_under(struct replay *p, const uint8_t *addr)
{
    const uint8_t *zb = (const uint8_t *)zbuf_of(p->pool, addr);
    return &p->seats[p->seat_of[(size_t)(zb - zbuf_pool_base(p->pool)) / RECORD_UNIT]];
}

static int64_t play_release(struct replay *p)
{
    zest_handle conn = take_u64(p);
    uint32_t n = take_u32(p);
    bool nowhere = false;
    struct zest_view *v = p->burst->views;

    if (n > BURST_MAX)
        damaged(p, "too many views");
    for (uint32_t i = 0; i < n && is_good(p); i++) {
        struct record_place at;
        bool placed = take_place(p, &at);
        uint32_t len = take_u32(p);
        v[i] = (struct zest_view){NULL, len};
        if (!placed || !is_good(p))
            break;
        if (at.unit == RECORD_NOWHERE) {
            nowhere = true; /* -EFAULT, and nothing is given back */
            continue;
        }
        struct seat *s = &p->seats[at.unit];
        if (same_segment(p, &at))
            v[i].addr = (uint8_t *)s->zb + at.off;
        if (!v[i].addr || s->lent != v[i].addr || s->lent_len != len || s->lent_by != conn)
            damaged(p, "it gives back what was not lent");
    }
    for (uint32_t i = 0; i < n && is_good(p) && !nowhere; i++) {
        struct seat *s = seat_under(p, v[i].addr);
        if (!s->lent) {
            damaged(p, "it gives the same view back twice");
            while (i-- > 0) /* nothing is given back: all of them are still lent */
                seat_under(p, v[i].addr)->lent = v[i].addr;
            break;
        }
        s->lent = NULL;
    }
    return is_good(p) ? tcp_release(p->z, conn, v, n) : 0;
}

static int64_t play_conn(struct replay *p, enum record_op op)
{
    zest_handle h = take_u64(p);
    uint32_t opt = 0, value = 0;

    if (op == REC_SET_OPTION) {
        opt = take_u32(p);
        value = take_u32(p);
    } else if (op == REC_CHANGE_PORT) {
        value = take_u32(p);
    }
    if (!is_good(p))
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

static int64_t play(struct replay *p, enum record_op op)
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

/* ---- one after the other */

/* The file ends inside a note: the stack was not told what it says. */
static bool is_cut_note(const struct record *r)
{
    size_t whole = r->buf[r->used] == REC_EXCEPTION ? RECORD_EXCEPTION_LEN
                   : r->buf[r->used] == REC_SUM     ? RECORD_SUM_LEN
                                                    : 1;
    return r->size - r->used < whole;
}

static bool compare(struct replay *p, int64_t result)
{
    struct record *r = p->r;
    uint8_t end[17];
    uint64_t hash;

    record_hash_u64(r, (uint64_t)result);
    if (r->starved)
        return fail(p, ZEST_REPLAY_DIFFERS, "the pool is too small to play it");
    if (r->used == r->size)
        return fail(p, ZEST_REPLAY_UNFINISHED, "the recording ends inside this call");
    if (is_cut_note(r))
        return damaged(p, "the file ends in the middle of a call");
    if (r->buf[r->used] != REC_END)
        return fail(p, ZEST_REPLAY_DIFFERS, "it took another way through the call");
    if (!take(p, end, sizeof end))
        return false;
    memcpy(&p->res->recorded_result, end + 1, 8);
    memcpy(&hash, end + 9, 8);
    p->res->result = result;
    if (result != p->res->recorded_result)
        return fail(p, ZEST_REPLAY_DIFFERS, "another result");
    if (hash != r->hash)
        return fail(p, ZEST_REPLAY_DIFFERS, "the same result, but other contents");
    return true;
}

static void play_all(struct replay *p)
{
    struct record *r = p->r;
    struct zest_replay_result *res = p->res;

    while (r->used < r->size) {
        res->offset = r->used;
        uint8_t op = r->buf[r->used++];
        if (op == REC_FULL && r->used == r->size) {
            res->full = true;
            break;
        }
        res->inputs++;
        res->call = op < REC_OPS && names[op] ? names[op] : "?";
        if (op >= REC_OPS || !names[op]) {
            damaged(p, "there is no such call");
            break;
        }
        r->questions = 0;
        int64_t result = play(p, (enum record_op)op);
        if (!is_good(p) || !compare(p, result))
            break;
        res->hash = r->hash;
    }
    res->now_ns = p->z->now_ns;
}

/* ---- as a whole */

static int read_head(const void *recording, size_t len, struct record_head *head,
                     struct zest_config *cfg)
{
    if (!recording || len < sizeof *head)
        return -EINVAL;
    memcpy(head, recording, sizeof *head);
    if (memcmp(head->magic, RECORD_MAGIC, sizeof head->magic) != 0 ||
        head->head_size != sizeof *head || head->rules != RECORD_RULES || head->pool_size == 0 ||
        head->pool_size > POOL_MAX || head->pool_size % ZBUF_SLAB != 0 || head->rx_hold_max == 0)
        return -EINVAL;
    *cfg = (struct zest_config){
        .prefix_len = head->prefix_len,
        .mtu = head->mtu,
        .gather = head->gather ? ZEST_GATHER_ALWAYS : ZEST_GATHER_NEVER,
        .gather_max = head->gather_max,
        .tx_csum_offload = head->tx_csum_offload != 0,
        .tso_segs = head->tso_segs,
        .rx_csum_trusted = head->rx_csum_trusted != 0,
        .max_conns = head->max_conns,
        .conn_mem_min = head->conn_mem_min ? head->conn_mem_min : ZEST_MEM_NONE,
        .rx_seg = head->rx_seg,
        .max_listeners = head->max_listeners,
        .max_pbufs = head->max_pbufs,
        .snd_buf = head->snd_buf,
        .rcv_buf = head->rcv_buf,
        .rx_hold_max = head->rx_hold_max,
        .ctrl_reserve = head->ctrl_reserve,
        .share_count = head->share_count,
        .share_index = head->share_index,
    };
    memcpy(cfg->mac, head->mac, 6);
    memcpy(cfg->ip.ip, head->ip, 16);
    memcpy(cfg->gateway.ip, head->gateway, 16);
    memcpy(cfg->secret, head->secret, 16);
    return 0;
}

static size_t round_up_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* The stack, the seats, the way back to them, and room for one call. */
static size_t layout(const struct record_head *head, size_t stack, size_t pool_size, size_t at[4])
{
    at[0] = round_up_64(stack);
    at[1] = at[0] + round_up_64(head->pool_size / RECORD_UNIT * sizeof(struct seat));
    at[2] = at[1] + round_up_64(pool_size / RECORD_UNIT * sizeof(uint32_t));
    at[3] = at[2] + sizeof(union burst);
    return at[3];
}

int zest_replay_needs(const void *recording, size_t len, struct zest_replay_needs *out)
{
    struct record_head head;
    struct zest_config cfg;
    size_t at[4];

    if (!out || read_head(recording, len, &head, &cfg) < 0)
        return -EINVAL;
    /* A stack asks its pool for its size only. */
    static uint8_t no_pool;
    cfg.pool = (struct zbuf_pool *)(void *)&no_pool;
    size_t stack = zest_size(&cfg);
    if (stack == 0 || stack > STACK_MAX || head.ctrl_reserve > head.pool_size)
        return -EINVAL;
    out->pool_size = head.pool_size + POOL_SLACK;
    out->mem_size = round_up_64(layout(&head, stack, out->pool_size, at));
    return 0;
}

static void give_back_lent(struct replay *p)
{
    for (uint32_t i = 0; i < p->nseats; i++)
        if (p->seats[i].lent && is_seated(p, &p->seats[i]))
            zbuf_free(p->seats[i].zb);
}

int zest_replay(const void *recording, size_t len, struct zbuf_pool *pool, void *mem,
                size_t mem_size, struct zest_replay_result *out)
{
    struct record_head head;
    struct zest_config cfg;
    struct zest_replay_needs needs;
    size_t at[4];

    if (!pool || !mem || (uintptr_t)mem % 64 != 0 || !out ||
        zest_replay_needs(recording, len, &needs) < 0 || read_head(recording, len, &head, &cfg) < 0)
        return -EINVAL;
    cfg.pool = pool;
    layout(&head, zest_size(&cfg), zbuf_pool_size(pool), at);
    if (zbuf_pool_size(pool) < needs.pool_size || mem_size < at[3])
        return -ENOBUFS;

    *out = (struct zest_replay_result){.end = ZEST_REPLAY_IDENTICAL, .call = "", .why = ""};
    struct replay p = {
        .pool = pool,
        .seats = (void *)((uint8_t *)mem + at[0]),
        .nseats = (uint32_t)(head.pool_size / RECORD_UNIT),
        .seat_of = (void *)((uint8_t *)mem + at[1]),
        .burst = (void *)((uint8_t *)mem + at[2]),
        .res = out,
    };
    memset((uint8_t *)mem + at[0], 0, at[2] - at[0]);
    int rc = zest_init(mem, &cfg, &p.z);
    if (rc < 0)
        return rc;
    p.r = p.z->rec = &p.z->record;
    *p.r = (struct record){.buf = (uint8_t *)(uintptr_t)recording, /* only read */
                           .used = sizeof head,
                           .size = len,
                           .replaying = true};
    play_all(&p);
    p.z->rec = NULL;
    give_back_lent(&p);
    zest_fini(p.z);
    return 0;
}
