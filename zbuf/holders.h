/* holders.h - picks the oldest live segments; for this process (stat.c) and another (reader.c). */
#ifndef ZBUF_HOLDERS_H
#define ZBUF_HOLDERS_H

#include "internal.h"

struct oldest {
    struct zbuf_holder *out; /* a heap, youngest first */
    unsigned max, live;
    uint64_t now_ns;
};
void oldest_add(struct oldest *o, uint64_t addr, const struct zbuf *zb, uint32_t birth);
void oldest_finish(struct oldest *o); /* sorts */

#endif
