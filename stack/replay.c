/* replay.c - playing a recording: the same calls in the same order against a new stack, or one that
 * is put into the state that the recording begins with. See replay.h. */
#include "replay.h"

#include "checkpoint.h"

#define STACK_MAX  (1ull << 30)  /* bytes of a stack that we are willing to build */
#define POOL_MAX   (16ull << 30) /* and of a pool */
#define POOL_SLACK (32u << 20)   /* a pool that is cut into classes otherwise may waste a little */

/* ---- reading */

bool replay_fail(struct replay *p, enum zest_replay_end end, const char *why)
{
    if (!p->res->why[0]) {
        p->res->end = end;
        p->res->why = why;
    }
    return false;
}
bool replay_damaged(struct replay *p, const char *why)
{
    return replay_fail(p, ZEST_REPLAY_DAMAGED, why);
}

bool replay_take(struct replay *p, void *out, size_t n)
{
    return record_take(p->r, out, n) || replay_damaged(p, "the file ends in the middle of a call");
}
uint32_t replay_u32(struct replay *p)
{
    uint32_t v = 0;
    replay_take(p, &v, sizeof v);
    return v;
}
uint64_t replay_u64(struct replay *p)
{
    uint64_t v = 0;
    replay_take(p, &v, sizeof v);
    return v;
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
        return replay_fail(p, ZEST_REPLAY_DIFFERS, "the pool is too small to play it");
    if (r->used == r->size)
        return replay_fail(p, ZEST_REPLAY_UNFINISHED, "the recording ends inside this call");
    if (is_cut_note(r))
        return replay_damaged(p, "the file ends in the middle of a call");
    if (r->buf[r->used] != REC_END)
        return replay_fail(p, ZEST_REPLAY_DIFFERS, "it took another way through the call");
    if (!replay_take(p, end, sizeof end))
        return false;
    memcpy(&p->res->recorded_result, end + 1, 8);
    memcpy(&hash, end + 9, 8);
    p->res->result = result;
    if (result != p->res->recorded_result)
        return replay_fail(p, ZEST_REPLAY_DIFFERS, "another result");
    if (hash != r->hash)
        return replay_fail(p, ZEST_REPLAY_DIFFERS, "the same result, but other contents");
    return true;
}

/* ---- checkpoints */

static bool restore(struct replay *p, const uint8_t *at, size_t len)
{
    struct zest *z = p->z;
    struct restore k = {.at = at,
                        .end = at + len,
                        .z = z,
                        .segment = seats_restore,
                        .lent = seats_restore_lent,
                        .ctx = p};

    p->res->from_start = false;
    z->rec = NULL; /* it asks nothing that is in the recording */
    bool done = checkpoint_get(&k);
    z->rec = p->r;
    if (!done)
        return replay_fail(p, k.starved ? ZEST_REPLAY_DIFFERS : ZEST_REPLAY_DAMAGED, k.why);
    p->res->from_ns = z->now_ns;
    p->res->from_conns = z->stats.conns;
    return true;
}

/* In the middle of a recording: the stack must have come to the same state by itself. */
static bool compare_state(struct replay *p, uint8_t *at, size_t len)
{
    struct checkpoint k = {
        .at = at, .end = at + len, .compares = true, .name = seats_name, .ctx = p};

    checkpoint_put(&k, p->z);
    p->res->call = k.differs ? k.differs : k.part;
    if (k.differs || k.full || k.at != k.end)
        return replay_fail(p, ZEST_REPLAY_DIFFERS, "the same results, but another state");
    p->res->states++;
    return true;
}

static bool play_state(struct replay *p)
{
    struct record *r = p->r;
    bool first = p->res->offset == sizeof(struct record_head);
    uint64_t len;

    p->res->call = "state";
    if (!replay_take(p, &len, sizeof len))
        return false;
    if (len > r->size - r->used)
        return replay_damaged(p, "the file ends in the middle of a checkpoint");
    uint8_t *at = r->buf + r->used;
    r->used += len;
    return first ? restore(p, at, len) : compare_state(p, at, len);
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
        if (op == REC_STATE) {
            if (!play_state(p))
                break;
            continue;
        }
        res->inputs++;
        res->call = replay_call_name(op) ? replay_call_name(op) : "?";
        if (!replay_call_name(op)) {
            replay_damaged(p, "there is no such call");
            break;
        }
        r->questions = 0;
        int64_t result = replay_call(p, (enum record_op)op);
        if (!replay_is_good(p) || !compare(p, result))
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

/* The stack, the seats, the way back to them, what was lent, and room for one call. */
static size_t layout(const struct record_head *head, size_t stack, size_t pool_size, size_t at[5])
{
    at[0] = round_up_64(stack);
    at[1] = at[0] + round_up_64(head->pool_size / RECORD_UNIT * sizeof(struct seat));
    at[2] = at[1] + round_up_64(pool_size / RECORD_UNIT * sizeof(uint32_t));
    at[3] = at[2] + round_up_64(head->max_conns * sizeof(struct lent));
    at[4] = at[3] + sizeof(union burst);
    return at[4];
}

int zest_replay_needs(const void *recording, size_t len, struct zest_replay_needs *out)
{
    struct record_head head;
    struct zest_config cfg;
    size_t at[5];

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

int zest_replay(const void *recording, size_t len, struct zbuf_pool *pool, void *mem,
                size_t mem_size, struct zest_replay_result *out)
{
    struct record_head head;
    struct zest_config cfg;
    struct zest_replay_needs needs;
    size_t at[5];

    if (!pool || !mem || (uintptr_t)mem % 64 != 0 || !out ||
        zest_replay_needs(recording, len, &needs) < 0 || read_head(recording, len, &head, &cfg) < 0)
        return -EINVAL;
    cfg.pool = pool;
    layout(&head, zest_size(&cfg), zbuf_pool_size(pool), at);
    if (zbuf_pool_size(pool) < needs.pool_size || mem_size < at[4])
        return -ENOBUFS;

    *out = (struct zest_replay_result){
        .end = ZEST_REPLAY_IDENTICAL, .from_start = true, .call = "", .why = ""};
    struct replay p = {
        .pool = pool,
        .seats = (void *)((uint8_t *)mem + at[0]),
        .nseats = (uint32_t)(head.pool_size / RECORD_UNIT),
        .seat_of = (void *)((uint8_t *)mem + at[1]),
        .lent = (void *)((uint8_t *)mem + at[2]),
        .burst = (void *)((uint8_t *)mem + at[3]),
        .res = out,
    };
    memset((uint8_t *)mem + at[0], 0, at[3] - at[0]);
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
    seats_give_back(&p);
    zest_fini(p.z);
    return 0;
}
