/* loop_mem.h - those who wait for memory, on a loop. Private to netif/. */
#ifndef NETIF_LOOP_MEM_H
#define NETIF_LOOP_MEM_H

#include "netif.h"

struct loop_mem {
    struct zbuf_pool *pool;
    struct netif_loop_wait *head, *tail;
    uint32_t seen; /* the pool's wake-ups, when last looked at */
    uint32_t round;
    bool again;   /* one has come since */
    int epoll_fd; /* readable when there may be memory */
};

int loop_mem_open(struct loop_mem *m, struct zbuf_pool *pool); /* 0 or -errno */
void loop_mem_close(struct loop_mem *m);
/* The descriptor said so. */
void loop_mem_heard(struct loop_mem *m);
void loop_mem_add(struct loop_mem *m, struct netif_loop_wait *w);
void loop_mem_remove(struct loop_mem *m, struct netif_loop_wait *w);
/* Calls those for whom there is memory; true if there were any. *stopped ends it: a callback may
 * end the loop. */
bool loop_mem_run(struct loop_mem *m, const bool *stopped);

#endif
