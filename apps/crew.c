/* crew.c - a thread for each queue. See crew.h.
 *
 * The main thread only waits, for signals and for the others. They share the pool and the mailboxes
 * of netif_group; a thread's messages to another are ev_async_send(), nothing else. */
#include "crew.h"

#include "say.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

unsigned crew_size(const struct host_options *o)
{
    if (o->tap && o->queues != HOST_QUEUES_ALL)
        return o->queues > 1 ? o->queues : 1;
    if (!o->ifname || o->queues <= 1)
        return 1;
    int has = netif_queues(o->ifname);
    if (has < 0)
        return 1; /* opening it says why */
    uint32_t left = o->queue < (uint32_t)has ? (uint32_t)has - o->queue : 0;
    if (o->queues == HOST_QUEUES_ALL)
        return left == 0 ? 1 : left > NETIF_QUEUES_MAX ? NETIF_QUEUES_MAX : left;
    if (o->queues > left)
        say_usage("--queues: %s has %d queue%s, counted from 0 (ethtool -l %s)", o->ifname, has,
                  has == 1 ? "" : "s", o->ifname);
    return o->queues;
}

int crew_open(struct crew *c, const struct host_options *o, unsigned n)
{
    *c = (struct crew){.n = n, .busy = n, .loop = ev_default_loop(0)};
    c->h = calloc(n, sizeof *c->h);
    c->m = calloc(n, sizeof *c->m);
    if (!c->h || !c->m) {
        say("out of memory");
        free(c->h);
        free(c->m);
        return -ENOMEM;
    }
    int rc = host_open_queues(c->h, n, o);
    if (rc < 0) {
        free(c->h);
        free(c->m);
    }
    return rc;
}

int crew_close(struct crew *c)
{
    int rc = host_close_queues(c->h, c->n);
    free(c->h);
    free(c->m);
    return rc;
}

/* ---- the threads */

static void on_stop(struct ev_loop *loop, ev_async *w, int revents)
{
    (void)w, (void)revents;
    ev_break(loop, EVBREAK_ALL);
}

static void *run_member(void *arg)
{
    struct crew_member *m = arg;
    struct crew *c = m->crew;
    host_pin(m->host->core);
    ev_run(m->host->loop, 0);
    if (m->host->failed)
        crew_stop(c); /* without all of its queues it serves nobody well */
    c->end(c->ctx, m->host->member);
    __atomic_fetch_sub(&c->running, 1, __ATOMIC_RELEASE);
    ev_async_send(c->loop, &c->ended);
    return NULL;
}

static void on_ended(struct ev_loop *loop, ev_async *w, int revents)
{
    struct crew *c = w->data;
    (void)revents;
    if (__atomic_load_n(&c->running, __ATOMIC_ACQUIRE) == 0)
        ev_break(loop, EVBREAK_ALL);
}

void crew_stop(struct crew *c)
{
    for (unsigned i = 0; i < c->n; i++)
        ev_async_send(c->h[i].loop, &c->m[i].stop);
}

void crew_done(struct crew *c)
{
    if (__atomic_sub_fetch(&c->busy, 1, __ATOMIC_ACQ_REL) == 0)
        crew_stop(c);
}

/* The main thread's loop ends by a signal, or because all others have. */
bool crew_run(struct crew *c, void (*end)(void *ctx, unsigned i), void *ctx)
{
    c->end = end;
    c->ctx = ctx;
    c->running = 0;
    ev_async_init(&c->ended, on_ended);
    c->ended.data = c;
    ev_async_start(c->loop, &c->ended);
    for (unsigned i = 0; i < c->n; i++) {
        c->m[i].crew = c;
        c->m[i].host = &c->h[i];
        ev_async_init(&c->m[i].stop, on_stop);
        ev_async_start(c->h[i].loop, &c->m[i].stop);
    }
    /* Signals are the main thread's: its children inherit them blocked. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    unsigned started = 0;
    for (; started < c->n; started++) {
        __atomic_fetch_add(&c->running, 1, __ATOMIC_RELAXED);
        int rc = pthread_create(&c->m[started].thread, NULL, run_member, &c->m[started]);
        if (rc) {
            __atomic_fetch_sub(&c->running, 1, __ATOMIC_RELAXED);
            say("no thread for queue %u: %s", started, strerror(rc));
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    bool signalled = started < c->n || host_run(c->loop);
    crew_stop(c);
    for (unsigned i = 0; i < started; i++)
        pthread_join(c->m[i].thread, NULL);
    for (unsigned i = 0; i < c->n; i++)
        ev_async_stop(c->h[i].loop, &c->m[i].stop);
    ev_async_stop(c->loop, &c->ended);
    return signalled;
}

bool crew_failed(const struct crew *c)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->h[i].failed)
            return true;
    return false;
}

struct netif_group_stats crew_strays(const struct crew *c)
{
    struct netif_group_stats sum = {0}, one;
    for (unsigned i = 0; i < c->n; i++) {
        netif_group_get_stats(c->h[i].group, i, &one);
        sum.strays += one.strays;
        sum.handed += one.handed;
        sum.refused += one.refused;
        sum.dropped += one.dropped;
        sum.port_changes += one.port_changes;
    }
    return sum;
}
