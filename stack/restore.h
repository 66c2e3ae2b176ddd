/* restore.h - reading a checkpoint: what its files share. See restore.c. */
#ifndef RESTORE_H
#define RESTORE_H

#include "checkpoint.h"
#include "stack.h"
#include "tcp_conn.h"

/* restore.c. After the first that is wrong nothing more is read. */
bool restore_bad(struct restore *r, const char *why);
bool restore_starve(struct restore *r);
bool restore_take(struct restore *r, void *p, size_t n);
uint8_t restore_u8(struct restore *r);
uint32_t restore_u32(struct restore *r);
uint64_t restore_u64(struct restore *r);
bool restore_fields(struct restore *r, void *to, const struct checkpoint_field *f, unsigned n);
struct tcp_group *restore_group(struct restore *r);
static inline bool restore_is_good(const struct restore *r)
{
    return !r->why;
}

/* restore_conn.c */
bool restore_conn(struct restore *r, struct tcp_conn *c);

#endif
