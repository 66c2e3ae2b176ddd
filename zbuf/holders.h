/* holders.h - picks the oldest live segments; for this process (stat.c) and another (reader.c). */
#ifndef ZBUF_HOLDERS_H
#define ZBUF_HOLDERS_H

#include "internal.h"

struct oldest {
    struct zbuf_holder *out; /* a heap, youngest first; age_ns holds the time of birth */
    unsigned max, live;
};
void oldest_add(struct oldest *o, uint64_t addr, const struct zbuf *zb, unsigned cls);
/* Sorts, and turns births into ages. */
void oldest_finish(struct oldest *o, uint64_t now_ns);

#endif
