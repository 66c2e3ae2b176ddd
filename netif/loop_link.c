/* loop_link.c - what happens to a link while a loop runs on it, told to the application, or to
 * people.
 *
 * Most faults mend themselves: AF_XDP sockets and TAPs stay bound while their interface is down,
 * renamed, or changes its queues, and TCP repeats what was lost. What TCP cannot know is that the
 * link is up again; so it is told (zest_link_up), and does not wait for a timer that backed off
 * meanwhile. An MTU that became smaller has it cut its segments anew.
 *
 * A link that keeps what it was given is noticed by the absence of completions. If its kind can, it
 * is opened anew (netif_ops.reopen), up to five times; else, and then, its segments stay accounted
 * for (in_flight), and come home when it is closed.
 *
 * A link by which nothing comes in may be deaf (its driver or the kernel forgot its receive side),
 * or there is nobody who would say anything. From here that cannot be told apart; but where nothing
 * comes in, nothing is lost by opening it anew, and if that helps it was the link. So this is done
 * once in each silence, when frames were sent for ten seconds and none came in. Each time that it
 * was in vain doubles the time until the next, and is not worth a word. */
#include "loop_link.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define STALL_NS 5000000000u
/* With something in flight the loop looks more often than this. A longer time between two looks
 * says that we were stopped, or waited for a processor, and nothing about the link. */
#define LOOK_NS    1000000000u
#define REOPEN_MAX 5u   /* until something comes back */
#define TRIES_MAX  100u /* while the kernel does not let go of the queue */
#define TRY_NS     20000000u

#define SILENT_NS     10000000000u         /* frames are sent, and none comes in */
#define SILENT_MAX_NS (64ull * SILENT_NS)  /* after it was in vain */
#define SILENT_ASKS   2u                   /* and not just at its beginning and end */
#define HELPED_NS     10000000000u         /* something came in so soon: it was the link */
#define FORGOTTEN_NS  (360ull * SILENT_NS) /* what was in vain so long ago counts no more */
#define NS_PER_SECOND 1000000000u

static void say(const struct netif_link_event *e)
{
    switch (e->what) {
    case NETIF_LINK_DOWN:
        if (e->value)
            fprintf(stderr, "zest: %s has no carrier: is the other end up?\n", e->name);
        else
            fprintf(stderr, "zest: %s is down: ip link set dev %s up\n", e->name, e->name);
        break;
    case NETIF_LINK_UP:
        fprintf(stderr, "zest: %s is up again\n", e->name);
        break;
    case NETIF_LINK_RENAMED:
        fprintf(stderr, "zest: the interface is now called %s\n", e->name);
        break;
    case NETIF_LINK_MTU:
        fprintf(stderr, "zest: %s: its MTU is now %u%s\n", e->name, e->value,
                e->grown ? "; a restart makes use of it" : "");
        break;
    case NETIF_LINK_STALLED:
        fprintf(stderr,
                "zest: %s keeps what it is given: nothing of %u descriptors came back for 5 s\n",
                e->name, e->value);
        break;
    case NETIF_LINK_REOPENED:
        fprintf(stderr, "zest: %s: its socket was opened anew\n", e->name);
        break;
    case NETIF_LINK_RESUMED:
        fprintf(stderr, "zest: %s gives back again what it is given\n", e->name);
        break;
    case NETIF_LINK_DEAF:
        fprintf(
            stderr,
            "zest: %s was deaf: nothing came in for %u s though frames were sent. Its socket was "
            "opened anew, and now something does\n",
            e->name, e->value);
        break;
    }
}

static void tell(const struct loop_link *l, enum netif_link_what what, uint32_t value, bool grown)
{
    struct netif_link_event e = {
        .what = what, .name = l->nif->caps.name, .value = value, .grown = grown};
    if (l->cfg->on_link_change)
        l->cfg->on_link_change(l->cfg->ctx, &e);
    else if (!l->cfg->group || l->cfg->member == 0 || what >= NETIF_LINK_STALLED)
        say(&e); /* once for all queues, if it concerns all */
}

void loop_link_open(struct loop_link *l, const struct netif_loop_config *cfg)
{
    struct ifinfo info;
    *l = (struct loop_link){
        .cfg = cfg, .nif = cfg->nif, .watch = {.fd = -1}, .ear.patience_ns = SILENT_NS};
    const struct netif_caps *c = &cfg->nif->caps;
    if (!c->kind || strcmp(c->kind, "mem") == 0 || ifinfo_get(c->name, &info) != 0)
        return;
    (void)watch_open(&l->watch, info.index, c->name, info.mtu);
}

void loop_link_close(struct loop_link *l)
{
    watch_close(&l->watch);
}

bool loop_link_attached(struct loop_link *l)
{
    struct netif *nif = l->nif;
    if (nif->error == 0 && nif->ops->attached)
        nif->error = nif->ops->attached(nif);
    return nif->error == 0;
}

bool loop_link_heard(struct loop_link *l, uint64_t now_ns)
{
    struct watch_state before, *now = &l->watch.now;
    bool differs = watch_look(&l->watch, &before);
    if (now->gone) {
        l->nif->error = -ENODEV;
        return false;
    }
    if (l->watch.told && !loop_link_attached(l))
        return false;
    if (!differs)
        return true;
    if (strcmp(now->name, before.name) != 0) {
        snprintf(l->nif->caps.name, sizeof l->nif->caps.name, "%s", now->name);
        tell(l, NETIF_LINK_RENAMED, 0, false);
    }
    bool was_down = l->down;
    l->down = !now->up || !now->carrier;
    if (l->down && (!was_down || now->up != before.up))
        tell(l, NETIF_LINK_DOWN, now->up, false);
    if (was_down && !l->down)
        tell(l, NETIF_LINK_UP, 0, false);
    if (now->mtu != before.mtu)
        tell(l, NETIF_LINK_MTU, now->mtu, now->mtu > l->nif->caps.mtu);
    /* A link that went down and up between two looks shows no difference here: what it lost then is
     * repeated soon in any case. */
    if ((was_down && !l->down) || now->mtu < before.mtu)
        zest_link_up(l->cfg->z, now_ns, now->mtu);
    return true;
}

/* One try at a time; what it led to is in the link and in *l. */
static void open_anew(struct loop_link *l, uint64_t now_ns)
{
    struct netif *nif = l->nif;
    int rc = nif->ops->reopen(nif);
    l->fd_changed = true;
    l->closed = rc == -EAGAIN && ++l->tries < TRIES_MAX;
    if (l->closed) {
        l->again_ns = now_ns + TRY_NS;
        return;
    }
    l->tries = 0;
    if (rc) { /* the queue is another's by now, or gone */
        nif->error = rc == -EAGAIN ? -EBUSY : rc;
        return;
    }
    if (!l->quietly)
        l->attempts++;
    l->done = nif->stats.tx_frames; /* they have been taken back: none of them came */
    l->still_ns = 0;
    l->waited = false;
    nif->stats.reopened++;
    l->ear.opened = l->quietly;
    if (!l->quietly)
        tell(l, NETIF_LINK_REOPENED, l->attempts, false);
    zest_link_up(l->cfg->z, now_ns, 0);
}

/* ---- is it deaf? */

/* In all; what came in on another queue, and was handed over, was heard, too. */
static uint64_t frames_heard(const struct loop_link *l)
{
    struct netif_group_stats st = {0};
    if (l->cfg->group)
        netif_group_get_stats(l->cfg->group, l->cfg->member, &st);
    return l->nif->stats.rx_frames + st.handed;
}

/* From here on the next silence counts. */
static void begin_to_listen(struct loop_link *l, uint64_t heard)
{
    struct loop_ear *e = &l->ear;
    e->heard = heard;
    e->sent = l->nif->stats.tx_frames;
    e->since_ns = 0;
    e->asks = 0;
    e->tried = e->opened = false;
}

/* Something came in. Was that our doing? */
static void hear(struct loop_link *l, uint64_t now_ns)
{
    struct loop_ear *e = &l->ear;
    uint64_t ago_ns = now_ns - e->tried_ns;
    if (e->opened && ago_ns < HELPED_NS) {
        e->patience_ns = SILENT_NS;
        tell(l, NETIF_LINK_DEAF, (uint32_t)(e->silent_ns / NS_PER_SECOND), false);
    } else if (e->tried && e->patience_ns < SILENT_MAX_NS) {
        e->patience_ns *= 2;
    } else if (ago_ns > FORGOTTEN_NS) {
        e->patience_ns = SILENT_NS;
    }
}

/* True if it is time to open it anew. */
static bool is_deaf(struct loop_link *l, uint64_t now_ns)
{
    struct loop_ear *e = &l->ear;
    uint64_t heard = frames_heard(l), sent = l->nif->stats.tx_frames;
    if (heard != e->heard)
        hear(l, now_ns);
    if (heard != e->heard || l->down || l->stalled) {
        begin_to_listen(l, heard);
        return false;
    }
    if (sent == e->sent || heard == 0 || e->tried)
        return false;
    e->sent = sent;
    e->asks++;
    if (e->since_ns == 0)
        e->since_ns = now_ns;
    e->silent_ns = now_ns - e->since_ns;
    return e->silent_ns >= e->patience_ns && e->asks > SILENT_ASKS;
}

static void listen_anew(struct loop_link *l, uint64_t now_ns)
{
    const struct netif_ops *ops = l->nif->ops;
    l->ear.tried = true;
    l->ear.tried_ns = now_ns;
    if (!loop_link_attached(l) || (ops->may_reopen && !ops->may_reopen(l->nif)))
        return;
    l->quietly = true;
    open_anew(l, now_ns);
}

/* ---- is it stalled? */

void loop_link_check(struct loop_link *l, uint64_t now_ns)
{
    if (l->closed) {
        l->looked_ns = now_ns;
        if (now_ns >= l->again_ns && !l->down) /* nobody binds to what is down */
            open_anew(l, now_ns);
        return;
    }
    if (l->nif->ops->reopen && is_deaf(l, now_ns)) {
        listen_anew(l, now_ns);
        if (l->closed || l->nif->error)
            return;
    }
    unsigned waiting = link_in_flight(l->nif);
    uint64_t done = l->nif->stats.tx_frames - waiting;
    /* A frame of several descriptors counts below zero until they are back. What it was given since
     * the last look has not kept us waiting yet: an idle loop does not look. Just opened anew, a
     * link that has nothing to give back proves nothing. */
    bool moved = (int64_t)(done - l->done) > 0, progress = moved || waiting == 0;
    uint64_t since = now_ns - l->looked_ns;
    bool waited = l->waited;
    l->done = done;
    l->looked_ns = now_ns;
    l->waited = waiting > 0;
    if (progress || l->down || !waited) {
        l->still_ns = 0;
        if (l->stalled && (moved || (waiting == 0 && l->attempts == 0))) {
            l->stalled = false;
            l->attempts = 0;
            tell(l, NETIF_LINK_RESUMED, 0, false);
        }
        return;
    }
    l->still_ns += since < LOOK_NS ? since : LOOK_NS;
    if (l->still_ns >= STALL_NS) {
        if (!l->stalled)
            tell(l, NETIF_LINK_STALLED, waiting, false);
        l->stalled = true;
        l->quietly = false;
        if (l->nif->ops->reopen && l->attempts < REOPEN_MAX)
            open_anew(l, now_ns);
    }
}
