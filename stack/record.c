/* record.c - writing a recording, and the questions that both sides of it ask. See record.h. */
#include "record.h"

#include "checkpoint.h"
#include "cksum.h"
#include "eth.h"
#include "stack.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "recordings are little-endian");

/* ---- writing */

/* Nothing fits any more after that. */
void record_give_up(struct record *r)
{
    if (r->cut)
        return;
    r->cut = true;
    r->used = r->entry;
    r->buf[r->used++] = REC_FULL;
    r->size = r->used;
}

/* A NULL one is a length of 0. */
void record_addr(struct record *r, const struct zest_addr *a)
{
    uint8_t text[19] = {0};

    if (a) {
        text[0] = 1;
        memcpy(text + 1, a->ip, 16);
        memcpy(text + 17, &a->port, 2);
    }
    record_put(r, text, sizeof text);
}

/* But for `received`, which matters where something is written from it. */
static struct record_place place_of(const struct record *r, const struct zbuf *zb, const uint8_t *p)
{
    return (struct record_place){
        .unit = (uint32_t)((size_t)(zb->first - r->base) / RECORD_UNIT),
        .generation = zb->generation,
        .off = (uint32_t)(p - zb->first),
        .data_off = (uint32_t)(zb->data - zb->first),
        .cls = zb->cls,
    };
}

void record_begin_write(struct record *r, const struct zest *z, zest_handle conn, const void *addr,
                        uint64_t len)
{
    const struct zbuf *zb = zbuf_of(z->pool, addr);
    struct record_place place = {.unit = RECORD_NOWHERE};

    if (zb) {
        place = place_of(r, zb, addr);
        if (zb->owner != 0) /* the application's own */
            place.received = (uint16_t)mem_kind(z, zb);
    }
    record_open(r);
    uint8_t *p = record_room(r, 1 + sizeof conn + sizeof place + sizeof len);
    if (!p)
        return;
    *p++ = REC_WRITE;
    memcpy(p, &conn, sizeof conn);
    memcpy(p + sizeof conn, &place, sizeof place);
    memcpy(p + sizeof conn + sizeof place, &len, sizeof len);
}

void record_view(struct record *r, const struct zest *z, const struct zest_view *v)
{
    const struct zbuf *zb = zbuf_of(z->pool, v->addr);
    struct record_place place =
        zb ? place_of(r, zb, v->addr) : (struct record_place){.unit = RECORD_NOWHERE};
    uint8_t *p = record_room(r, sizeof place + sizeof v->len);

    if (!p)
        return;
    memcpy(p, &place, sizeof place);
    memcpy(p + sizeof place, &v->len, sizeof v->len);
}

uint32_t record_header_len(const uint8_t *p, uint32_t len)
{
    uint32_t ip_len, tcp_len;

    if (len < ETH_HLEN + 40 || be16_get(p + 12) != 0x0800 || p[14] >> 4 != 4 || p[23] != 6 ||
        (be16_get(p + 20) & 0x3fff) != 0)
        return len;
    ip_len = (p[14] & 15u) * 4;
    if (ip_len < 20 || ETH_HLEN + ip_len + 20 > len)
        return len;
    tcp_len = (uint32_t)(p[ETH_HLEN + ip_len + 12] >> 4) * 4;
    return tcp_len < 20 || ETH_HLEN + ip_len + tcp_len > len ? len : ETH_HLEN + ip_len + tcp_len;
}

/* The same, for what nearly all frames are: TCP over IPv4 without options. */
static inline uint32_t header_len(const uint8_t *p, uint32_t len)
{
    uint32_t type;

    if (len >= ETH_HLEN + 40) {
        memcpy(&type, p + 12, 4); /* 08 00 45 and TOS */
        uint32_t all = ETH_HLEN + 20 + (uint32_t)(p[46] >> 4) * 4;
        if ((type & 0xffffff) == 0x450008 && p[23] == 6 && (be16_get(p + 20) & 0x3fff) == 0 &&
            p[46] >> 4 >= 5 && all <= len)
            return all;
    }
    return record_header_len(p, len);
}

/* Bytes of a frame, 16 at a time: headers are a few of these. Both sides have that much more room.
 */
static void put_bytes(uint8_t *to, const uint8_t *from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 16)
        memcpy(to + i, from + i, 16);
}

static void put_segment(struct record *r, const struct zbuf *zb, uint32_t kept)
{
    struct {
        struct record_place place;
        uint32_t len, kept;
    } seg = {place_of(r, zb, zb->data), zb->len | (zb->next ? RECORD_MORE : 0), kept};
    bool roomy = kept <= 128 && (size_t)(zbuf_end(zb) - zb->data) >= 128 &&
                 r->size - r->used >= sizeof seg + 128;
    uint8_t *p = record_room(r, sizeof seg + kept);

    if (!p)
        return;
    memcpy(p, &seg, sizeof seg);
    if (roomy)
        put_bytes(p + sizeof seg, zb->data, kept);
    else
        memcpy(p + sizeof seg, zb->data, kept);
}

void record_frame_in(struct record *r, struct zbuf *zb)
{
    uint32_t len;

    /* The stack would do it: now the headers can be found. What it refuses is told apart by its
     * lengths. */
    if (zb->next)
        (void)pkt_pull_up(zb, &len);
    uint32_t kept = header_len(zb->data, zb->len);
    bool all = kept == zb->len;

    __builtin_prefetch(r->buf + r->used + 512, 1);
    put_segment(r, zb, kept);
    for (zb = zb->next; zb; zb = zb->next)
        put_segment(r, zb, all ? zb->len : 0);
}

void record_end(struct record *r, int64_t result)
{
    uint8_t end[17] = {REC_END};

    record_hash_u64(r, (uint64_t)result);
    memcpy(end + 1, &result, 8);
    memcpy(end + 9, &r->hash, 8);
    record_put(r, end, sizeof end);
}

/* ---- the hash: 128-bit products folded, 16 bytes at a time */

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t m = (__uint128_t)(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xc2b2ae3d27d4eb4fu);
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* The low n bytes of w, n up to 8. */
static uint64_t low_bytes(uint64_t w, size_t n)
{
    return n < 8 ? w & ((1ull << 8 * n) - 1) : w;
}

static uint64_t hash_bytes(uint64_t h, const uint8_t *p, size_t n)
{
    uint64_t w[2];
    size_t left = n;

    for (; left >= 16; p += 16, left -= 16) {
        memcpy(w, p, 16);
        h = mix(h ^ w[0], w[1]);
    }
    if (((uintptr_t)p & (ZBUF_SEG_MIN - 1)) <= ZBUF_SEG_MIN - 16) { /* in the same segment */
        memcpy(w, p, 16);
        w[1] = left > 8 ? low_bytes(w[1], left - 8) : 0;
        w[0] = low_bytes(w[0], left);
    } else {
        w[0] = w[1] = 0;
        memcpy(w, p, left);
    }
    return mix(mix(h ^ w[0], w[1]), n);
}

void record_hash_u64(struct record *r, uint64_t v)
{
    r->hash = mix(r->hash, v);
}

void record_hash_frames(struct record *r, const struct zest_frame *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++, f++) {
        uint64_t shape = (uint64_t)f->n << 48 | (uint64_t)f->csum << 40 |
                         (f->csum ? (uint64_t)f->csum_start << 16 | f->csum_offset : 0);
        for (unsigned s = 0; s < f->n; s++)
            shape = mix(shape, f->seg[s].len);
        if (f->gso_size)
            shape = mix(shape, f->gso_size);
        r->hash = mix(
            hash_bytes(r->hash, f->seg[0].addr, header_len(f->seg[0].addr, f->seg[0].len)), shape);
    }
}

void record_hash_events(struct record *r, const struct zest_event *ev, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        r->hash =
            mix(mix(r->hash, ev[i].handle), (uint64_t)ev[i].events << 32 | (uint32_t)ev[i].error);
}

void record_hash_views(struct record *r, const struct zest *z, const struct zest_view *v,
                       unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *first = zbuf_of(z->pool, v[i].addr)->first;
        r->hash = mix(r->hash, (uint64_t)(v[i].addr - first) << 32 | v[i].len);
    }
}

/* ---- questions */

bool record_take(struct record *r, void *p, size_t n)
{
    if (n > r->size - r->used)
        return false;
    memcpy(p, r->buf + r->used, n);
    r->used += n;
    return true;
}

struct exception {
    uint8_t tag;
    uint8_t body[8]; /* number, value */
};
_Static_assert(sizeof(struct exception) == RECORD_EXCEPTION_LEN, "what a replay looks for");

bool record_ask_slowly(struct record *r, bool exceptional, uint32_t *value)
{
    uint32_t number = r->questions++, body[2] = {number, value ? *value : 0};
    struct exception e = {.tag = REC_EXCEPTION};

    if (!r->replaying) {
        if (exceptional) {
            memcpy(e.body, body, sizeof body);
            record_put(r, &e, sizeof e);
        }
        return exceptional;
    }
    size_t here = r->used;
    if (!record_take(r, &e, sizeof e) || e.tag != REC_EXCEPTION) {
        r->used = here;
        return false;
    }
    memcpy(body, e.body, sizeof body);
    if (body[0] != number) {
        r->used = here;
        return false;
    }
    if (value)
        *value = body[1];
    return true;
}

uint64_t record_sum(struct record *r, uint64_t sum)
{
    uint16_t folded = cksum_fold_raw(sum);
    uint8_t note[RECORD_SUM_LEN] = {REC_SUM};

    if (!r->replaying) {
        memcpy(note + 1, &folded, 2);
        record_put(r, note, sizeof note);
        return sum;
    }
    size_t here = r->used;
    if (!record_take(r, note, sizeof note) || note[0] != REC_SUM) {
        r->used = here; /* the end of the call will find that it differs */
        return sum;
    }
    memcpy(&folded, note + 1, 2);
    return folded;
}

struct zbuf *record_alloc(struct record *r, struct zbuf_budget *budget, size_t bytes)
{
    if (r->replaying && record_ask(r, false, NULL))
        return NULL;
    struct zbuf *zb = zbuf_alloc_from(budget, bytes);
    if (r->replaying)
        r->starved |= !zb;
    else
        (void)record_ask(r, !zb, NULL);
    return zb;
}

bool record_charge(struct record *r, struct zbuf *zb, struct zbuf_budget *to)
{
    if (r->replaying && record_ask(r, false, NULL))
        return false;
    bool done = zbuf_charge(zb, to) == 0;
    if (r->replaying)
        r->starved |= !done;
    else
        (void)record_ask(r, !done, NULL);
    return done;
}

/* When it is played, the link is done with each frame at once: what was free then is free now. */
bool record_claim(struct record *r, struct zbuf *zb)
{
    if (r->replaying && record_ask(r, false, NULL))
        return false;
    bool mine = zbuf_headroom_claim(zb);
    if (!r->replaying)
        (void)record_ask(r, !mine, NULL);
    return mine;
}

/* ---- the two halves */

#define FIRST_HALF sizeof(struct record_head)
#define LAST_CALL  (256u << 10) /* room that there should be for one call */
#define SKIP_MIN   64u          /* calls */
#define SKIP_MAX   65536u

static bool in_second(const struct record *r)
{
    return r->used > r->mid;
}

/* A half that ends at end is written to. */
static void begin_half(struct record *r, size_t begin, size_t end)
{
    size_t spare = (end - begin) / 8;

    r->size = end - 1;
    r->turn = end - (spare < LAST_CALL ? spare : LAST_CALL);
}

/* What there is stays until the state has become smaller. It is looked at less and less often. */
static void pause(struct record *r)
{
    if (!r->cut) {
        r->entry = r->used;
        record_give_up(r);
    }
    r->full = true;
    r->skip = r->skipped = r->skipped < SKIP_MAX ? 2 * r->skipped + SKIP_MIN : SKIP_MAX;
}

/* A signal handler may look at any moment: what zest_recording() finds is whole at each step. */
void record_turn(struct zest *z)
{
    struct record *r = &z->record;
    bool second = in_second(r);
    size_t begin = second ? FIRST_HALF : r->mid, end = second ? r->mid : r->end;
    uint8_t *at = r->buf + begin;
    struct checkpoint k = {.at = at + RECORD_STATE_LEN, .end = at + (end - begin) / 2};

    r->half_end[!second] = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    checkpoint_put(&k, z);
    if (k.full) { /* a half of one: or all the time would go into checkpoints */
        pause(r);
        return;
    }
    uint64_t len = (uint64_t)(k.at - at) - RECORD_STATE_LEN;
    at[0] = REC_STATE;
    memcpy(at + 1, &len, sizeof len);
    r->half_end[second] = r->cut ? 0 : r->used;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    r->used = r->entry = (size_t)(k.at - r->buf);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    r->cut = r->full = false;
    r->skipped = 0;
    begin_half(r, begin, end);
}

int zest_recording(const struct zest *z, struct zest_recording *out)
{
    const struct record *r = &z->record;

    *out = (struct zest_recording){.parts = 0};
    if (!r->buf)
        return -ENOENT;
    size_t used = r->used;
    bool second = used > r->mid;
    size_t begin[2] = {FIRST_HALF, r->mid};
    struct zest_recording_part part[ZEST_RECORDING_PARTS] = {
        {r->buf, FIRST_HALF},
        {r->buf + begin[!second], r->half_end[!second] ? r->half_end[!second] - begin[!second] : 0},
        {r->buf + begin[second], used - begin[second]},
    };
    for (unsigned i = 0; i < ZEST_RECORDING_PARTS; i++)
        if (part[i].len > 0) {
            out->part[out->parts++] = part[i];
            out->len += part[i].len;
        }
    out->from_start = out->parts == 1 || *(const uint8_t *)out->part[1].p != REC_STATE;
    out->full = r->full;
    return 0;
}

/* ---- beginning */

void record_init(struct zest *z)
{
    const struct zest_config *cfg = &z->cfg;
    struct record *r = &z->record;
    struct record_head head = {
        .magic = RECORD_MAGIC,
        .head_size = sizeof head,
        .rules = RECORD_RULES,
        .pool_size = zbuf_pool_size(z->pool),
        .rx_hold_max = cfg->rx_hold_max,
        .ctrl_reserve = cfg->ctrl_reserve,
        .max_conns = cfg->max_conns,
        .conn_mem_min = cfg->conn_mem_min,
        .rx_seg = cfg->rx_seg,
        .max_listeners = cfg->max_listeners,
        .max_pbufs = cfg->max_pbufs,
        .snd_buf = cfg->snd_buf,
        .rcv_buf = cfg->rcv_buf,
        .mtu = cfg->mtu,
        .gather = (uint8_t)cfg->gather,
        .gather_max = cfg->gather_max,
        .tx_csum_offload = cfg->tx_csum_offload,
        .tso_segs = cfg->tso_segs,
        .rx_csum_trusted = cfg->rx_csum_trusted,
        .prefix_len = cfg->prefix_len,
        .share_count = cfg->share_count,
        .share_index = cfg->share_index,
    };

    if (!cfg->record_mem)
        return;
    memcpy(head.mac, cfg->mac, 6);
    memcpy(head.ip, cfg->ip.ip, 16);
    memcpy(head.gateway, cfg->gateway.ip, 16);
    memcpy(head.secret, cfg->secret, 16);
    size_t half = (cfg->record_size - sizeof head) / 2;
    *r = (struct record){.buf = cfg->record_mem,
                         .base = zbuf_pool_base(z->pool),
                         .size = cfg->record_size,
                         .mid = sizeof head + half,
                         .end = sizeof head + 2 * half};
    record_put(r, &head, sizeof head);
    r->entry = r->used;
    begin_half(r, FIRST_HALF, r->mid);
    z->rec = r;
}
