/* holders.h - picks the oldest live segments; for this process (stat.c) and another (reader.c). */
#ifndef ZBUF_HOLDERS_H
#define ZBUF_HOLDERS_H

#include "internal.h"

struct oldest {
    struct zbuf_holder *out; /* a heap, youngest first */
    unsigned max, live;
    uint64_t now_ns;
    struct zbuf_age *cls, *budget; /* sums, if not NULL; the latter by id, below budgets */
    unsigned budgets;
};
void oldest_add(struct oldest *o, uint64_t addr, const struct zbuf *zb, uint32_t birth);
/* Clears the sums. */
void oldest_begin(struct oldest *o);
void oldest_finish(struct oldest *o); /* sorts */

#endif
