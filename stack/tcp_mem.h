/* tcp_mem.h - how much received memory each listener and connection may hold. See tcp_mem.c. */
#ifndef TCP_MEM_H
#define TCP_MEM_H

#include <stdbool.h>
#include <stdint.h>

#include "zbuf/zbuf.h"

struct zest;
struct zest_config;
struct tcp_conn;
struct tcp_listener;

/* The connections that one listener made; the first group has those of no listener. */
struct tcp_group {
    struct zbuf_budget *budget; /* NULL: not in use */
    uint64_t held;              /* by its connections, bytes */
    uint64_t min, max;          /* of the budget; 0 = none */
    uint32_t members;           /* connections, and the listener; 0 with a budget: closing */
    uint32_t mark;              /* scratch of checkpoint.c */
};

struct tcp_mem {
    struct tcp_group *group;  /* 1 + 2 * max_listeners */
    struct zbuf_budget *kept; /* set aside for connections within their minimum */
    uint64_t held;            /* by all connections, bytes */
    uint32_t seg;             /* the class that frames arrive in */
    uint32_t kept_segs;       /* promised to connections */
    uint32_t kept_aside;      /* set aside for it: a few more */
    uint32_t wakeups;         /* the pool's, when last looked at */
    uint64_t reach;           /* `held` could come to this: as of the last look at the pool */
    uint64_t next_look;       /* when so many bytes of frames have come in, ... */
    uint64_t next_look_ns;    /* ... or then */
    struct tcp_conn *waiting; /* were refused memory, and want to know when there is some */
    uint64_t budgets[ZBUF_BUDGETS / 64]; /* bit set: received segments of ours */
};

/* Members of tcp_size() and tcp_init(). 0 or -ENOBUFS. */
size_t mem_size(const struct zest_config *cfg);
int mem_init(struct zest *z, void *groups);
void mem_fini(struct zest *z);

/* Places in the table of groups. */
uint32_t mem_groups(const struct zest *z);
/* A recording goes on from a checkpoint: group g as it was, and what was set aside; false if the
 * pool has not as much. */
bool mem_restore_group(struct zest *z, struct tcp_group *g, uint64_t min, uint64_t max);
bool mem_restore_kept(struct zest *z, uint32_t aside);

/* A listener's group. It lasts until its last connection has gone. */
struct tcp_group *mem_group_open(struct zest *z, uint16_t port);
void mem_group_leave(struct zest *z, struct tcp_group *g);
int mem_group_limits(struct zest *z, struct tcp_group *g, uint64_t min, uint64_t max);
/* Sets c's minimum: 0, or -ENOBUFS with nothing changed. */
int mem_promise(struct zest *z, struct tcp_conn *c, uint32_t bytes);
void mem_promise_default(struct zest *z, struct tcp_conn *c);

/* Most that c may hold now; and what a window may count on: no more than there is. */
uint32_t mem_limit(const struct zest *z, const struct tcp_conn *c);
uint32_t mem_prospect(const struct zest *z, const struct tcp_conn *c);
/* There is a segment for c, as far as the pool goes. */
bool mem_is_there(const struct zest *z, const struct tcp_conn *c);
/* Asks the pool how much there is: after input, if that is due, and when it has refused. */
void mem_look(struct zest *z);
/* Received memory passes to c; false if it may not have it now. limit: of what it holds, unless it
 * is within its minimum. */
bool mem_take(struct zest *z, struct tcp_conn *c, struct zbuf *zb, uint32_t limit);
/* A reference on a received segment is c's, or no longer. */
void mem_hold(struct zest *z, struct tcp_conn *c, const struct zbuf *zb);
void mem_unhold(struct zest *z, struct tcp_conn *c, uint32_t size);
/* ... and is given back. */
void mem_drop(struct zest *z, struct tcp_conn *c, struct zbuf *zb);
/* What c holds is no concern of its group's any more: views of a connection that has gone. */
void mem_forget(struct zest *z, struct tcp_conn *c);
/* c wants to send from zb. False: it was kept for another connection, and can't be had. */
bool mem_may_send(struct zest *z, struct tcp_conn *c, struct zbuf *zb);
/* For recordings: 0 it is no received memory, 1 it is, 2 it was kept for a connection. */
unsigned mem_kind(const struct zest *z, const struct zbuf *zb);

/* Out of memory of b for so many bytes: c hears of it when there is some (ZEST_EV_WRITABLE). */
void mem_wait(struct zest *z, struct tcp_conn *c, struct zbuf_budget *b, uint32_t bytes);
void mem_wait_end(struct zest *z, struct tcp_conn *c);
void mem_wake(struct zest *z);

#endif
