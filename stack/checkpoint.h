/* checkpoint.h - the state of a stack between two calls, as bytes: where a recording that has
 * overwritten its beginning starts from.
 *
 * It holds all that a later call's results depend on, but nothing that can be had from the rest
 * (hash chains, sums, free pbufs), and no payload: a recording does without (record.h). Connections
 * and listeners are named by their number, segments by their place.
 *
 *     clock and counters | ARP | connections, each with its queues | free slots | listeners |
 *     the order of lists and of the timer heap | control frames
 *
 * A replay that comes to a checkpoint in the middle of a recording writes its own and compares:
 * nothing is left out that matters, or it would not be equal for long. Reading trusts nothing:
 * restore.c. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "record.h"

struct checkpoint {
    uint8_t *at, *end;
    bool compares;       /* with what is there, instead of writing */
    bool full;           /* it did not fit; comparing: the recorded one is shorter */
    uint32_t groups;     /* memory groups seen so far */
    const char *part;    /* what is being written */
    const char *differs; /* comparing: the first part that did; NULL if none */
    /* Replaying: the recorded pool's name for a segment. NULL: its own. */
    bool (*name)(void *ctx, const struct zbuf *zb, struct record_place *out);
    void *ctx;
};
/* Writes or compares all. The stack stays as it is, but for marks in its memory groups. */
void checkpoint_put(struct checkpoint *k, struct zest *z);

struct restore {
    const uint8_t *at, *end;
    struct zest *z;
    const char *why; /* NULL, or what is wrong */
    bool starved;    /* the pool had less than the recorded one */
    uint32_t groups; /* memory groups seen so far */
    /* A reference on what stands in for a segment; NULL: it can't be had. alone: nobody else may
     * have one. */
    struct zbuf *(*segment)(void *ctx, const struct record_place *at, bool alone);
    /* Connection number i has lent so many bytes, in segments of so many. */
    void (*lent)(void *ctx, uint32_t i, uint32_t len, uint32_t size);
    void *ctx;
};
/* Into a stack that zest_init() has just made. False: it is no state that a stack can be in, or
 * there was too little memory; zest_fini() is safe all the same. */
bool checkpoint_get(struct restore *r);

/* Fields that are copied as they are. */
struct checkpoint_field {
    uint16_t off;
    uint8_t size;
    bool is_bool;
};
extern const struct checkpoint_field checkpoint_conn[], checkpoint_listener[];
extern const unsigned checkpoint_conn_fields, checkpoint_listener_fields;

/* A segment in a queue, after its place: what another recording of the same need not agree on. */
struct checkpoint_seg {
    uint64_t holder; /* zbuf_set_holder() */
    uint32_t data_off;
    uint32_t kind; /* mem_kind() */
};

#define CHECKPOINT_STATS (offsetof(struct zest_stats, conns) / sizeof(uint64_t))

#endif
