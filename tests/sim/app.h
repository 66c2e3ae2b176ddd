/* app.h - between app.c, what an application means to do, and app_io.c, how it reads and writes. */
#ifndef SIM_APP_H
#define SIM_APP_H

#include "sim.h"

static inline struct zest *stack_of(const struct side *s)
{
    return sim.node[s->node].h.z;
}
static inline struct side *other(struct side *s)
{
    return &s->conn->side[s == &s->conn->side[0]];
}
static inline uint64_t min2(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Errors that trouble, and no fault of anybody's, ends a connection with. */
bool may_fail_with(int error);

/* As much as the stack, and this application's patience, allow now. */
void app_read(struct side *s);
void app_write(struct side *s);
/* What is known of the other side's urgent data: never more than it has marked, all of it once that
 * has been read, and nothing that no event told of (told: events have just been taken). */
void app_check_urgent(struct side *s, bool told);

/* Views that were read: gives back those whose time has come, or (all) every one. */
void app_release(struct side *s, bool all);
/* What was written, or was about to be. */
void app_drop_buffers(struct side *s);

#endif
