/* perf_proto.c - the records and the pattern of perf_proto.h. */
#include "perf_proto.h"

#include <endian.h>
#include <string.h>

#define MAGIC 0x5a504631u /* "ZPF1" */
enum { KIND_HELLO = 1, KIND_RESULT = 2 };
enum { FLAG_VERIFY = 1, FLAG_FRAMES = 2, FLAG_ZEST = 1 };

struct record {
    uint32_t magic;
    uint8_t kind, mode, flags, zero;
    uint64_t v[7];
};
_Static_assert(sizeof(struct record) == PERF_RECORD, "a record has no padding");

static struct record begin(uint8_t kind)
{
    struct record r = {.magic = htobe32(MAGIC), .kind = kind};
    return r;
}

static bool read_record(struct record *r, const uint8_t *rec, uint8_t kind)
{
    memcpy(r, rec, sizeof *r);
    for (unsigned i = 0; i < 7; i++)
        r->v[i] = be64toh(r->v[i]);
    return be32toh(r->magic) == MAGIC && r->kind == kind;
}

static void write_record(uint8_t *rec, struct record *r, const uint64_t v[7])
{
    for (unsigned i = 0; i < 7; i++)
        r->v[i] = htobe64(v[i]);
    memcpy(rec, r, sizeof *r);
}

void perf_plan_encode(uint8_t rec[PERF_RECORD], const struct perf_plan *p)
{
    struct record r = begin(KIND_HELLO);
    r.mode = (uint8_t)p->mode;
    r.flags = (uint8_t)((p->verify ? FLAG_VERIFY : 0) | (p->frames ? FLAG_FRAMES : 0));
    uint64_t counts = (uint64_t)p->stream << 16 | p->streams;
    write_record(rec, &r,
                 (uint64_t[7]){p->session, p->duration_ns, p->amount, p->length, counts, 0, 0});
}

bool perf_plan_decode(struct perf_plan *p, const uint8_t rec[PERF_RECORD])
{
    struct record r;
    if (!read_record(&r, rec, KIND_HELLO) || r.mode > PERF_RR || r.v[3] > PERF_LENGTH_MAX)
        return false;
    *p = (struct perf_plan){
        .mode = (enum perf_mode)r.mode,
        .verify = r.flags & FLAG_VERIFY,
        .frames = r.flags & FLAG_FRAMES,
        .session = r.v[0],
        .duration_ns = r.v[1],
        .amount = r.v[2],
        .length = (uint32_t)r.v[3],
        .stream = (uint16_t)(r.v[4] >> 16),
        .streams = (uint16_t)r.v[4],
    };
    bool ends = p->duration_ns || p->amount;
    return ends && p->streams && p->streams <= PERF_STREAMS && p->stream < p->streams &&
           (p->mode != PERF_RR || p->length);
}

void perf_result_encode(uint8_t rec[PERF_RECORD], const struct perf_result *s)
{
    struct record r = begin(KIND_RESULT);
    r.flags = s->zest ? FLAG_ZEST : 0;
    write_record(rec, &r,
                 (uint64_t[7]){s->rx_bytes, s->rx_ns, s->tx_bytes, s->bad_bytes, s->copied_bytes,
                               s->retransmits, 0});
}

bool perf_result_decode(struct perf_result *s, const uint8_t rec[PERF_RECORD])
{
    struct record r;
    if (!read_record(&r, rec, KIND_RESULT))
        return false;
    *s = (struct perf_result){
        .rx_bytes = r.v[0],
        .rx_ns = r.v[1],
        .tx_bytes = r.v[2],
        .bad_bytes = r.v[3],
        .copied_bytes = r.v[4],
        .retransmits = r.v[5],
        .zest = r.flags & FLAG_ZEST,
    };
    return true;
}

/* ---- the pattern: a hash of each eight-byte word's number, little-endian */

static uint64_t word_at(uint64_t n)
{
    n = (n + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return htole64(n ^ n >> 29);
}

void perf_pattern_fill(uint8_t *to, size_t len, uint64_t offset)
{
    while (len) {
        uint64_t w = word_at(offset >> 3);
        size_t skip = offset & 7, n = 8 - skip < len ? 8 - skip : len;
        memcpy(to, (const uint8_t *)&w + skip, n);
        to += n;
        offset += n;
        len -= n;
    }
}

size_t perf_pattern_check(const uint8_t *from, size_t len, uint64_t offset)
{
    size_t bad = 0;
    while (len) {
        uint64_t w = word_at(offset >> 3);
        size_t skip = offset & 7, n = 8 - skip < len ? 8 - skip : len;
        if (memcmp(from, (const uint8_t *)&w + skip, n) != 0)
            for (size_t i = 0; i < n; i++)
                bad += from[i] != ((const uint8_t *)&w)[skip + i];
        from += n;
        offset += n;
        len -= n;
    }
    return bad;
}

const char *perf_mode_name(enum perf_mode mode)
{
    static const char *const names[] = {"send", "receive", "bidir", "rr"};
    return names[mode];
}
