/* record.h - the flight recorder, from the inside. See zest_record.h for what it is for.
 *
 * A stack depends on the time, frames, calls and configuration, and on three things that nobody
 * hands it: what the pool answers (is there memory? is the headroom free? how much is held?), the
 * sums over payload, and the verdict on a received checksum. The first are asked for in a fixed
 * order, so only the exceptions are noted, by their number within the call: in the ordinary case a
 * question costs an increment. So payload itself is never needed: two bytes a frame stand for it.
 *
 * A recording is a header and then entries; an entry is
 *
 *     op, arguments | notes: exceptions and sums, in the order they came up | END, result, hash
 *
 * where hash runs over all results so far. The entry is opened before the stack acts on it: one
 * without END is what the stack was doing when the process died.
 *
 *     memory:  header | half: entries ... | half: STATE, checkpoint, entries ... |
 *
 * When one half is full, the other begins anew with a checkpoint (checkpoint.h), over what was
 * there. So what is saved is the header, the older half and the newer one: between half and all of
 * the memory's worth of the newest calls. */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "zest_record.h"

struct zest;

#define RECORD_MAGIC "zestrec1"
#define RECORD_UNIT  ZBUF_SEG_MIN /* segments are named by where they begin, in units of this */

struct record_head {
    char magic[8];
    uint32_t head_size; /* of this */
    uint32_t rules;     /* changes when the same input may give another output */
    uint64_t pool_size;
    uint64_t rx_hold_max, ctrl_reserve;
    uint32_t conn_mem_min, rx_seg;
    uint32_t max_conns, max_listeners, max_pbufs, snd_buf, rcv_buf;
    uint16_t mtu;
    uint8_t gather, gather_max, tx_csum_offload, rx_csum_trusted, prefix_len;
    uint8_t mac[6], ip[16], gateway[16], secret[16];
    uint8_t share_count, share_index;
    uint8_t tso_segs;
};
_Static_assert(sizeof(struct record_head) == 136, "the same on every machine");
#define RECORD_RULES 10u

enum record_op {
    REC_INPUT = 1, /* calls */
    REC_OUTPUT,
    REC_EVENTS,
    REC_LISTEN,
    REC_ACCEPT,
    REC_CONNECT,
    REC_WRITE,
    REC_WRITE_COPY,
    REC_READ,
    REC_RELEASE,
    REC_SHUTDOWN,
    REC_CLOSE,
    REC_ABORT,
    REC_SET_USER,
    REC_SET_OPTION,
    REC_CHANGE_PORT,
    REC_URGENT,
    REC_LINK_UP,
    REC_OPS,
    REC_EXCEPTION = 'x', /* notes */
    REC_SUM = 's',
    REC_END = 'e',
    REC_FULL = 'f', /* the memory is used up: nothing follows */
    REC_STATE = 'c' /* between calls: a checkpoint and its length before it */
};

/* Where bytes are, in a way that another pool can follow. */
struct record_place {
    uint32_t unit;       /* of the segment; RECORD_NOWHERE = in no live segment of the pool */
    uint32_t generation; /* of the segment */
    uint32_t off;        /* of the bytes in it */
    uint32_t data_off;   /* of zb->data */
    uint16_t cls;
    uint16_t received; /* mem_kind(), where it is written from */
};
#define RECORD_NOWHERE       UINT32_MAX
#define RECORD_OWN           (UINT32_MAX - 1) /* in a checkpoint: in one that the stack allocated */
#define RECORD_CLOCK_MAX_NS  (UINT64_MAX / 4) /* of a recording that is played */
#define RECORD_EXCEPTION_LEN 9u               /* with its tag */
#define RECORD_SUM_LEN       3u
#define RECORD_STATE_LEN     9u /* in front of a checkpoint */
#define RECORD_MORE                                                                                \
    (1u << 31) /* with the length of a received segment: the frame goes on in the next */

struct record {
    uint8_t *buf;
    const uint8_t *base; /* of the pool */
    size_t used, size;   /* writing: one byte is kept back, for REC_FULL */
    size_t entry;        /* where the open one begins */
    size_t turn;         /* used up to there: the other half is next */
    uint64_t hash;       /* of all results so far */
    uint32_t questions;  /* asked in this call */
    bool cut;            /* a call did not fit: what is here is not followed by what comes next */
    bool full;           /* nothing is recorded: the stack's state is too large to go on from */
    bool replaying;      /* buf is read: `used` is how far */
    bool starved;        /* replaying: the pool had less than the recorded one */
    uint32_t skip, skipped; /* calls until the state is looked at again; the last time */
    size_t mid, end;        /* writing: the second half begins and ends there */
    size_t half_end[2];     /* of the half that is not being written; 0: there is nothing in it */
};

/* Writing. What does not fit takes the whole entry back, and ends the half. Inline, as nearly all
 * that is written is a few bytes of a size that the compiler knows. */
void record_give_up(struct record *r);
static inline void record_put(struct record *r, const void *p, size_t n)
{
    if (n > r->size - r->used) {
        record_give_up(r);
        return;
    }
    memcpy(r->buf + r->used, p, n);
    r->used += n;
}
/* Room for n bytes, to be filled in at once; NULL: there is none. */
static inline uint8_t *record_room(struct record *r, size_t n)
{
    if (__builtin_expect(n > r->size - r->used, 0)) {
        record_give_up(r);
        return NULL;
    }
    r->used += n;
    return r->buf + r->used - n;
}
static inline void record_u32(struct record *r, uint32_t v)
{
    record_put(r, &v, sizeof v);
}
static inline void record_u64(struct record *r, uint64_t v)
{
    record_put(r, &v, sizeof v);
}
static inline void record_open(struct record *r)
{
    r->entry = r->used;
    r->questions = 0;
    __builtin_prefetch(r->buf + r->used + 512, 1); /* memory never touched before */
}
static inline void record_begin(struct record *r, enum record_op op)
{
    record_open(r);
    record_put(r, &(uint8_t){(uint8_t)op}, 1);
}
void record_addr(struct record *r, const struct zest_addr *a);
/* What applications do for each segment is put at once. */
void record_begin_write(struct record *r, const struct zest *z, zest_handle conn, const void *addr,
                        uint64_t len);
void record_view(struct record *r, const struct zest *z, const struct zest_view *v);
void record_frame_in(struct record *r, struct zbuf *zb);
void record_end(struct record *r, int64_t result);

/* Results: what the hash runs over. Addresses are left out, but for their place in the segment. */
void record_hash_u64(struct record *r, uint64_t v);
void record_hash_frames(struct record *r, const struct zest_frame *f, unsigned n);
void record_hash_events(struct record *r, const struct zest_event *ev, unsigned n);
void record_hash_views(struct record *r, const struct zest *z, const struct zest_view *v,
                       unsigned n);
/* Bytes at the front of a frame that are not TCP payload. */
uint32_t record_header_len(const uint8_t *p, uint32_t len);

/* Questions that have an ordinary answer. exceptional: what this machine says; returned is what the
 * recording says. *value goes with an exception. */
bool record_ask_slowly(struct record *r, bool exceptional, uint32_t *value);
static inline bool record_ask(struct record *r, bool exceptional, uint32_t *value)
{
    if (__builtin_expect(r->replaying || exceptional, 0))
        return record_ask_slowly(r, exceptional, value);
    r->questions++;
    return false;
}
uint64_t record_sum(struct record *r, uint64_t sum);
/* Replaying only: the next note, if it is of this kind, and its value. */
bool record_take(struct record *r, void *p, size_t n);
struct zbuf *record_alloc(struct record *r, struct zbuf_budget *budget, size_t bytes);
bool record_charge(struct record *r, struct zbuf *zb, struct zbuf_budget *to);
bool record_claim(struct record *r, struct zbuf *zb);

/* Starts if cfg asks for it; the stack's configuration is complete by now. */
void record_init(struct zest *z);
/* Between two calls: goes on in the other half, which begins with the stack's state now. If that
 * does not fit, nothing is recorded until it does. */
void record_turn(struct zest *z);
/* After each call. */
static inline bool record_turn_due(struct record *r)
{
    return __builtin_expect(r->used >= r->turn || r->cut, 0) && (!r->skip || --r->skip == 0);
}

#endif
