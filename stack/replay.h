/* replay.h - playing a recording: what its files share.
 *
 * Segments of the recorded pool are stood in for by segments of the same class in ours; which one
 * for which is kept in a table of seats (seats.c), one for each place where a segment can begin. A
 * seat is good as long as both sides still mean the same allocation (generation): what the stack no
 * longer holds it can't compare, so a fresh stand-in does as well. The link is done with every
 * frame at once, and the notes say where that was not so.
 *
 * The file is not trusted: nothing in it may make the stack see a caller that breaks the contract
 * of zest.h, as that is answered with abort(). */
#ifndef REPLAY_H
#define REPLAY_H

#include "record.h"
#include "stack.h"

#define REPLAY_BURST_MAX 65536u /* frames, events or views in one call */

struct seat {
    struct zbuf *zb;
    uint32_t generation, our_generation; /* of the recorded segment, and of its stand-in */
    uint8_t *lent;                       /* a view into it is out */
    uint32_t lent_len;
    zest_handle lent_by;
    bool alone; /* it came in a checkpoint, in a queue that no other may share */
};

/* What a connection had lent when the recording begins: bytes, and bytes of the segments. */
struct lent {
    uint32_t len, size;
};

union burst {
    struct zest_frame frames[REPLAY_BURST_MAX];
    struct zest_event events[REPLAY_BURST_MAX];
    struct zest_view views[REPLAY_BURST_MAX];
    struct zbuf *zbufs[REPLAY_BURST_MAX];
};

struct replay {
    struct zest *z;
    struct record *r;
    struct zbuf_pool *pool;
    struct seat *seats;
    uint32_t *seat_of; /* by place in our pool */
    uint32_t nseats;
    struct lent *lent; /* by connection */
    union burst *burst;
    struct zest_replay_result *res;
};

/* replay.c. The first of these that is called is what the replay ends with. */
bool replay_fail(struct replay *p, enum zest_replay_end end, const char *why);
bool replay_damaged(struct replay *p, const char *why);
bool replay_take(struct replay *p, void *out, size_t n);
uint32_t replay_u32(struct replay *p);
uint64_t replay_u64(struct replay *p);
static inline bool replay_is_good(const struct replay *p)
{
    return !p->res->why[0];
}

/* replay_calls.c: NULL: there is no such call. */
const char *replay_call_name(uint8_t op);
int64_t replay_call(struct replay *p, enum record_op op);

/* seats.c */
bool seats_take_place(struct replay *p, struct record_place *at);
struct zbuf *seats_stand_in(struct replay *p, const struct record_place *at);
bool seats_same(const struct replay *p, const struct record_place *at);
struct seat *seats_under(struct replay *p, const uint8_t *addr);
/* The view that at and len say was lent by conn before the recording begins; false if that can't
 * be. It is a view like one that was read, then. */
bool seats_lent_before(struct replay *p, const struct record_place *at, uint32_t len,
                       zest_handle conn);
void seats_give_back(struct replay *p);
/* For checkpoint.h: ctx is the struct replay. */
bool seats_name(void *ctx, const struct zbuf *zb, struct record_place *out);
struct zbuf *seats_restore(void *ctx, const struct record_place *at, bool alone);
void seats_restore_lent(void *ctx, uint32_t i, uint32_t len, uint32_t size);

#endif
