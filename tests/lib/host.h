/* host.h - a stack with a link around it that trusts nothing: for fuzzing, simulation and scripts.
 *
 * What goes out is taken apart and checked, byte for byte, by code of our own (wire.h), and the
 * memory that a descriptor points at must be the same when the link gives it back as it was when it
 * was handed over. What comes in is copied to a fresh segment, as a driver would. */
#ifndef HOST_H
#define HOST_H

#include "wire.h"

#define HOST_TX_MAX    4096u /* frames that the link owns at most */
#define HOST_RX_MIN    16u   /* segments that are always there to receive into */
#define HOST_FRONT_MAX 256u  /* bytes left free in front of a received frame, at most */

struct host_tx {
    struct zest_frame f;
    uint64_t hash; /* of what the descriptors pointed at */
    uint64_t due_ns;
};

struct host {
    struct zest *z;
    struct zest_config cfg;
    struct zbuf_pool *pool;
    struct zbuf_budget *rx; /* the receive ring's */
    void *mem;
    const char *name;
    uint32_t ip; /* host order */
    uint64_t now_ns;
    struct host_tx *tx; /* a ring */
    uint32_t tx_head, tx_tail;
    uint32_t burst;  /* frames asked for in one call; 0 = 32 */
    uint32_t rx_cut; /* frames arrive in segments of so many bytes; 0 = in one */
    uint64_t rx_no_memory;
    bool dirty; /* something happened since the last drain: there may be output at any time */
};

typedef void host_sink(void *ctx, struct host *h, const uint8_t *frame, size_t len,
                       const struct wire *w);

/* Prints the sentence, and what there is of the run to repeat it; aborts. */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Called by die() first, with its sentence. */
extern void (*die_hook)(const char *what);

/* cfg->pool must be set; ip is in host order and fills in cfg->ip. rx_max: ceiling of the receive
 * ring's segments, in bytes. rx_cut: see below. Returns what zest_init() does. */
int host_init(struct host *h, const char *name, const struct zest_config *cfg, uint32_t ip,
              size_t rx_max, uint32_t rx_cut);
/* Ends it. Frames that the link owns are completed first; every segment that is left then must be
 * one of `held` that the caller knows of. */
void host_fini(struct host *h);

/* A frame arrives; `front` bytes of the segment stay free before it. false: no memory for it. */
bool host_receive(struct host *h, uint64_t now_ns, const uint8_t *frame, size_t len,
                  uint32_t front);
/* Takes everything that there is to send now (up to `max` frames) and hands it to sink; dies if a
 * frame is malformed, if there is no end of it, or if the deadline contradicts. The link gives the
 * memory back after hold_ns. Returns the number of frames. */
unsigned host_drain(struct host *h, uint64_t now_ns, unsigned max, uint64_t hold_ns,
                    host_sink *sink, void *ctx);
/* The link gives back what is due. */
void host_complete(struct host *h, uint64_t now_ns);
/* When the next frame is due to be given back. */
uint64_t host_complete_due(const struct host *h);

#endif
