/* crew.h - several queues of one interface: a host, a loop and a thread for each.
 *
 *     n = crew_size(&o)                 1: no crew is needed
 *     crew_open(&c, &o, n)              says what went wrong, if something did
 *     ... crew.h[i]: listen, host_start(), as with a single host
 *     crew_run(&c, end, ctx)            until SIGINT, SIGTERM, crew_stop(), or all loops have ended
 *     crew_close(&c)
 *
 * What a host does is done by its thread only, once crew_run() has begun. */
#ifndef APPS_CREW_H
#define APPS_CREW_H

#include <ev.h>
#include <pthread.h>

#include "host.h"

struct crew;

struct crew_member {
    struct crew *crew;
    struct host *host;
    pthread_t thread;
    ev_async stop;
};

struct crew {
    unsigned n;
    struct host *h; /* [n] */
    struct crew_member *m;
    struct ev_loop *loop; /* of the thread that waits for them */
    ev_async ended;
    unsigned running;
    unsigned busy; /* members that have not said crew_done() */
    /* Runs in host i's thread after its loop, to take leave of its connections. */
    void (*end)(void *ctx, unsigned i);
    void *ctx;
};

/* How many queues o asks for. Ends the program with a sentence if the interface has not so many. */
unsigned crew_size(const struct host_options *o);
int crew_open(struct crew *c, const struct host_options *o, unsigned n);
/* True if a signal ended it. */
bool crew_run(struct crew *c, void (*end)(void *ctx, unsigned i), void *ctx);
/* One of them lost its link, which ended all. */
bool crew_failed(const struct crew *c);
/* From any thread: all loops end. */
void crew_stop(struct crew *c);
/* From a member's thread: it has done its part. The last one to say so stops all; until then each
 * goes on, for the sake of frames that came in on its queue and are another's. */
void crew_done(struct crew *c);
int crew_close(struct crew *c);

/* What came in on the wrong queue, over all. */
struct netif_group_stats crew_strays(const struct crew *c);

#endif
