/* transit.h - which segments of another process's pool are free, but marked as live: those that lie
 * in its depots, or came out of one (depot.c). */
#ifndef ZBUF_TRANSIT_H
#define ZBUF_TRANSIT_H

#include "mirror.h"

/* Reads `len` bytes of the other process at addr; 0 or -errno. */
typedef int (*transit_fetch)(const void *process, uint64_t addr, void *dst, size_t len);

struct transit {
    uint32_t *unit; /* sorted; see pool_unit() */
    size_t n, space;
};

/* 0 or -errno: what `fetch` said; -EPROTO for structures that can't be; -ENOMEM. Whether it
 * succeeds or fails, to be closed with transit_close(). */
int transit_open(struct transit *t, const struct mirror *m, transit_fetch fetch,
                 const void *process) HIDDEN;
bool transit_has(const struct transit *t, uint32_t unit) HIDDEN;
void transit_close(struct transit *t) HIDDEN;

#endif
