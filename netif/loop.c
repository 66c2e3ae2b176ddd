/* loop.c - a stack and a link on a libev loop.
 *
 * All work is done in one place, an ev_prepare watcher, right before libev would sleep: a turn. The
 * other watchers (frames have arrived, a deadline has passed, there is room again) have nothing to
 * do but end the sleep. So what any callback of the application wrote goes out before the next
 * sleep, and there is one order of things to think about. A turn is a few rounds:
 *
 *     receive a burst -> zest_input -> events to the application -> zest_output while there is room
 *
 * until a round finds nothing to do, or the rounds are used up; then an ev_idle watcher keeps libev
 * from sleeping, its other descriptors get their turn, and we come back. With nothing to do no
 * timer is armed but the stack's own, and, over AF_XDP, one of 30 s; so an idle process sleeps. */
#include <errno.h>
#include <ev.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sched.h>
#include <unistd.h>

#include "connect.h"
#include "group.h"
#include "loop_link.h"
#include "loop_mem.h"
#include "neigh.h"

#define BURST        64u /* frames a round receives */
#define SENDS        4u  /* bursts a round sends */
#define EVENT_ROUNDS 16u /* bursts of events a round delivers */
#define ROUNDS       8u  /* rounds a turn, then the other watchers */

/* How often to look for completions or room, when nothing else happens: from the first to the last.
 */
#define POKE_MIN_NS     1000000u
#define POKE_MAX_NS     256000000u
#define FRUITLESS       16u /* wake-ups for room that was not there, before only the timer is trusted */
#define BULK_FRAME      512u /* bytes, on average */
#define PAUSE_FRAME_NS  2000u
#define PAUSE_MAX_NS    20000u
#define LINGER_DEF_US   40u        /* more than the longest pause */
#define LINGER_BULK     3u         /* times as long after bulk: a sleeper costs its sender much */
#define YIELD_AFTER_NS  5000u      /* of waiting awake; most answers are there before */
#define SPIN_NS         50000u     /* how long a turn lasts when spinning */
#define SPIN_LOOKS      1024u      /* at the ring alone, then all else: some two microseconds */
#define CHECK_NS        100000000u /* how often spinning looks whether the link is still there */
#define CSUM_CHECK_NS   250000000u
#define SAY_NS          10000000000u
#define NS_PER_SECOND_F 1e9

struct netif_loop {
    struct netif_loop_config cfg;
    struct netif *nif;
    struct zest *z;
    ev_prepare prepare;
    ev_io io;       /* on epoll_fd */
    ev_timer timer; /* the stack's deadline */
    ev_timer poke;  /* room and completions that nobody tells of */
    ev_io mem_io;   /* on mem.epoll_fd */
    struct loop_mem mem;
    ev_io link_io; /* on link.watch.fd */
    ev_timer look; /* what nobody tells of: LOOP_LINK_EVERY_S */
    struct loop_link link;
    ev_idle idle;      /* active: libev does not sleep */
    uint64_t armed_ns; /* what timer is set to */
    uint64_t poke_ns;  /* how far ahead poke is set */
    uint64_t linger_ns, check_ns;
    uint64_t busy_ns;     /* when there was something to do */
    uint64_t until_ns;    /* not to sleep before */
    uint64_t rx_after_ns; /* when to look at the receive ring again */
    unsigned fruitless;
    int epoll_fd;     /* holds the link's descriptor, or nothing */
    uint32_t watched; /* for which EPOLL events; 0 = it is not in there */
    bool readable;    /* it said so */
    bool in_turn, stopped;
    bool gone, said_down, said_csum;
    uint64_t csum_check_ns;
    uint64_t trouble_ns; /* when it was last said */
};

/* events: of epoll; 0 takes the descriptor out of the set. */
static void watch_for(struct netif_loop *nl, uint32_t events)
{
    if (nl->watched == events)
        return;
    struct epoll_event ev = {.events = events};
    int op = !events ? EPOLL_CTL_DEL : nl->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(nl->epoll_fd, op, netif_fd(nl->nif), &ev) == 0)
        nl->watched = events;
}

/* ---- what is said to people ---- */

static void say_csum(struct netif_loop *nl)
{
    const char *ifname = nl->nif->caps.name;
    struct ifinfo info;
    char peer[IF_NAMESIZE] = "", where[96] = "";
    nl->said_csum = true;
    if (ifinfo_get(ifname, &info) == 0 && info.peer_index) {
        struct ifinfo other;
        /* An index means something in its own namespace only: if the interface of that index here
         * does not have us for a peer, it is another one. */
        if (if_indextoname(info.peer_index, peer) && ifinfo_get(peer, &other) == 0 &&
            other.peer_index == info.index)
            snprintf(where, sizeof where, "here");
        else
            snprintf(where, sizeof where,
                     "there (the other end of %s, interface %u of its namespace)", ifname,
                     info.peer_index);
        if (strcmp(where, "here") != 0)
            peer[0] = 0;
    } else {
        snprintf(where, sizeof where, "on the machine at the other end of %s", ifname);
    }
    fprintf(
        stderr,
        "zest: %s: the peer leaves TCP checksums to hardware that is not there, so its segments "
        "are dropped. Mend it %s: ethtool -K %s tx off gso off\n",
        ifname, where, *peer ? peer : "INTERFACE");
}

static void look_for_csum(struct netif_loop *nl, uint64_t now)
{
    struct zest_stats st;
    if (nl->said_csum || now < nl->csum_check_ns)
        return;
    nl->csum_check_ns = now + CSUM_CHECK_NS;
    zest_stats(nl->z, &st);
    if (st.drop_tcp_csum_partial > 0)
        say_csum(nl);
}

/* A capture that keeps the last seconds writes them out when something has gone wrong. */
static void look_for_trouble(struct netif_loop *nl, uint64_t now)
{
    const char *why = capture_trouble(nl->nif->capture, nl->z, now);
    if (!why)
        return;
    int rc = netif_capture_save(nl->nif, why);
    if (nl->trouble_ns && now - nl->trouble_ns < SAY_NS)
        return;
    nl->trouble_ns = now;
    fprintf(stderr, "zest: %s: %s: %s\n", nl->nif->caps.name, why,
            rc == 0 ? "what led to it is in the capture" : "the capture cannot be written");
}

static void link_failed(struct netif_loop *nl, int err)
{
    if (err == -ENETDOWN && !nl->nif->error) {
        if (!nl->said_down && nl->link.watch.fd < 0) /* else that tells */
            fprintf(stderr, "zest: %s is down: ip link set dev %s up\n", nl->nif->caps.name,
                    nl->nif->caps.name);
        nl->said_down = true;
        return;
    }
    if (!nl->nif->error || nl->gone)
        return; /* a passing trouble: tried again by and by */
    nl->gone = true;
    watch_for(nl, 0);
    ev_timer_stop(nl->cfg.loop, &nl->poke);
    ev_timer_stop(nl->cfg.loop, &nl->look);
    if (nl->cfg.on_link) {
        nl->cfg.on_link(nl->cfg.ctx, nl->nif->error);
        return;
    }
    struct netif_error why;
    netif_explain(nl->nif, nl->nif->error, &why);
    fprintf(stderr, "zest: %s\n", why.text);
}

/* ---- a round ---- */

static bool deliver_events(struct netif_loop *nl)
{
    struct zest_event ev[BURST];
    unsigned n, rounds = 0;
    while (!nl->stopped && rounds < EVENT_ROUNDS && (n = zest_events(nl->z, ev, BURST)) > 0) {
        rounds++;
        if (nl->cfg.on_event)
            nl->cfg.on_event(nl->cfg.ctx, nl->z, ev, n);
    }
    return rounds > 0;
}

/* The cable is cut: frames fall out of its end, so that the stack's timers go on as they should. */
static void lose(struct netif_loop *nl, const struct zest_frame *out, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        for (unsigned s = 0; s < out[i].n; s++)
            zbuf_tx_done(nl->nif->pool, out[i].seg[s].addr);
}

static void kick(struct netif_loop *nl)
{
    int err = netif_kick(nl->nif);
    if (err)
        link_failed(nl, err);
    else
        nl->said_down = false;
}

/* How many frames the link takes now. */
static unsigned frame_room(const struct netif_loop *nl)
{
    if (nl->gone)
        return BURST;
    unsigned room = netif_tx_room(nl->nif) / link_frame_descs(nl->nif);
    return room < BURST ? room : BURST;
}

/* True if something was sent. *blocked: there was no room. */
static bool send_frames(struct netif_loop *nl, uint64_t now, bool *blocked)
{
    struct zest_frame out[BURST];
    unsigned sent = 0, room, n = 0;
    for (unsigned i = 0; i < SENDS && !nl->stopped; i++) {
        room = frame_room(nl);
        n = room > 0 ? zest_output(nl->z, now, out, room) : 0;
        if (nl->gone)
            lose(nl, out, n);
        else if (n > 0)
            netif_tx(nl->nif, out, n);
        sent += n;
        /* A burst at a time goes to the kernel: the peer starts on it while we make the next. With
         * nothing to send, or no room to, this is how completions are seen. */
        if (!nl->gone && (n > 0 || i == 0))
            kick(nl);
        if (n < room || n == 0)
            break;
    }
    *blocked = !nl->stopped && frame_room(nl) == 0;
    return sent > 0;
}

/* Bulk that comes in faster than it is looked for is looked for less often: then a burst is
 * answered by one ACK, not by one for each pair of segments, and the ring's cache lines stay with
 * the sender. The pause grows with the bursts; small frames, and single ones, are never kept
 * waiting. */
static uint64_t rx_pause(struct zbuf *const *in, unsigned n)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < n; i++)
        bytes += in[i]->len;
    if (n < 2 || bytes < n * (uint64_t)BULK_FRAME)
        return 0;
    uint64_t pause = n * (uint64_t)PAUSE_FRAME_NS;
    return pause < PAUSE_MAX_NS ? pause : PAUSE_MAX_NS;
}

/* What came in on other queues. */
static bool hear_group(struct netif_loop *nl, uint64_t now)
{
    struct zbuf *in[BURST];
    bool looked;
    if (nl->readable)
        group_woken(nl->cfg.group, nl->cfg.member);
    unsigned n = group_take(nl->cfg.group, nl->cfg.member, nl->z, in, BURST, &looked);
    if (n > 0)
        zest_input(nl->z, now, in, n);
    if (looked && nl->nif->rss.rss) { /* answers that were to come in here, and did not */
        struct netif_group_stats st;
        netif_group_get_stats(nl->cfg.group, nl->cfg.member, &st);
        rss_was_wrong(&nl->nif->rss, st.port_changes);
    }
    return looked;
}

static bool do_round(struct netif_loop *nl, uint64_t now, bool *blocked)
{
    struct zbuf *in[BURST];
    if (nl->readable && nl->nif->neigh)
        neigh_woken(nl->nif->neigh);
    unsigned n = nl->gone || now < nl->rx_after_ns ? 0 : netif_rx(nl->nif, in, BURST);
    bool received = n > 0;
    if (received) {
        nl->rx_after_ns = now + rx_pause(in, n);
        if (nl->cfg.group)
            n = group_sort(nl->cfg.group, nl->cfg.member, nl->z, in, n);
        netif_input(nl->nif, nl->z, now, in, n);
        look_for_csum(nl, now);
    } else if (nl->readable || (nl->cfg.spin && now >= nl->check_ns)) {
        nl->check_ns = now + CHECK_NS;
        if (link_check(nl->nif))
            link_failed(nl, nl->nif->error);
    }
    bool busy = received;
    if (nl->cfg.group)
        busy |= hear_group(nl, now);
    nl->readable = false;
    busy |= loop_mem_run(&nl->mem, &nl->stopped);
    busy |= deliver_events(nl);
    /* Spinning is mostly this: nothing came, nothing is due. Then the next look is what matters. */
    if (!busy && zest_deadline(nl->z) > now) {
        *blocked = false;
        if (!nl->gone && link_in_flight(nl->nif) > 0)
            kick(nl);
        return false;
    }
    busy |= send_frames(nl, now, blocked);
    if (nl->nif->capture)
        look_for_trouble(nl, now);
    return busy;
}

/* ---- a turn ---- */

/* Spinning, what the next frame waits for is how soon it is noticed: so most looks are at the
 * ring's index alone, and few at clock, timers and events. */
static void look_hard(const struct netif_loop *nl)
{
    if (nl->gone || !nl->nif->ops->rx_waiting)
        return;
    for (unsigned i = 0; i < SPIN_LOOKS && !nl->nif->ops->rx_waiting(nl->nif); i++)
        ;
}

/* There was nothing to do, and it is too early to sleep. Whom we wait for may need this very core:
 * then each look of ours is time taken from it. On a core of our own this costs a system call. */
static void wait_awake(const struct netif_loop *nl, uint64_t now)
{
    if (!nl->cfg.spin && now - nl->busy_ns >= YIELD_AFTER_NS)
        sched_yield();
    else if (nl->cfg.spin && now >= nl->rx_after_ns)
        look_hard(nl);
}

static void set_timer(struct netif_loop *nl, ev_timer *t, uint64_t in_ns)
{
    /* libev counts from when it last woke, which may be some time ago. */
    ev_now_update(nl->cfg.loop);
    ev_timer_stop(nl->cfg.loop, t);
    ev_timer_set(t, (double)in_ns / NS_PER_SECOND_F, 0.);
    ev_timer_start(nl->cfg.loop, t);
}

/* A timer that is set too early is left alone: it wakes us once, and is set anew then. That is much
 * less work than moving it with every ACK. */
static void set_deadline(struct netif_loop *nl, uint64_t deadline, uint64_t now)
{
    if (deadline == ZEST_NEVER) {
        ev_timer_stop(nl->cfg.loop, &nl->timer);
    } else if (!ev_is_active(&nl->timer) || deadline < nl->armed_ns) {
        nl->armed_ns = deadline;
        set_timer(nl, &nl->timer, deadline > now ? deadline - now : 0);
    }
}

/* Waits for room by the descriptor, as long as that tells the truth, and by a timer, which also
 * looks for completions that no event announces. Each time in vain doubles its interval. */
static void wait_for_link(struct netif_loop *nl, bool blocked, bool progress)
{
    if (progress) {
        nl->fruitless = 0;
        nl->poke_ns = POKE_MIN_NS;
    } else if (blocked) {
        nl->fruitless += nl->fruitless < FRUITLESS;
    }
    watch_for(nl, nl->gone                               ? 0
                  : blocked && nl->fruitless < FRUITLESS ? EPOLLIN | EPOLLOUT
                                                         : EPOLLIN);
    if (!nl->gone && (blocked || link_in_flight(nl->nif) > 0 || nl->link.closed)) {
        if (!ev_is_active(&nl->poke)) {
            set_timer(nl, &nl->poke, nl->poke_ns);
            if (nl->poke_ns < POKE_MAX_NS)
                nl->poke_ns *= 2;
        }
    } else {
        ev_timer_stop(nl->cfg.loop, &nl->poke);
    }
}

static void check_link(struct netif_loop *nl, uint64_t now)
{
    loop_link_check(&nl->link, now);
    if (nl->link.fd_changed) {
        nl->link.fd_changed = false;
        nl->watched = 0;     /* the old one left the set when it was closed */
        netif_loop_wake(nl); /* what waited for room goes out */
    }
    if (nl->nif->error)
        link_failed(nl, nl->nif->error);
}

static void turn(struct netif_loop *nl)
{
    unsigned busy_rounds = 0;
    bool busy = true, worked = false, blocked = false;
    uint64_t now = netif_now(), start = now, deadline = 0;
    zbuf_tick(nl->nif->pool, now);
    while (!nl->stopped && (nl->cfg.spin ? now - start < SPIN_NS
                                         : busy_rounds < ROUNDS && (busy || now < nl->until_ns))) {
        if (!busy)
            wait_awake(nl, now);
        busy = do_round(nl, now, &blocked);
        worked |= busy;
        if (busy) {
            nl->busy_ns = now;
            nl->until_ns = now + nl->linger_ns * (nl->rx_after_ns > now ? LINGER_BULK : 1u);
        }
        deadline = nl->stopped ? ZEST_NEVER : zest_deadline(nl->z);
        blocked &= deadline <= now; /* nothing to send needs no room */
        busy |= deadline <= now && !blocked;
        busy_rounds += busy;
        now = netif_now();
    }
    if (nl->stopped)
        return;
    if (!nl->gone && ((!busy && !nl->cfg.spin) || now - nl->link.looked_ns >= CHECK_NS))
        check_link(nl, now);
    if (nl->stopped)
        return;
    if (busy || nl->cfg.spin) {
        /* The load lasts: spare the peer the calls into our epoll set. */
        watch_for(nl, 0);
        ev_idle_start(nl->cfg.loop, &nl->idle);
        return;
    }
    ev_idle_stop(nl->cfg.loop, &nl->idle);
    set_deadline(nl, blocked ? ZEST_NEVER : deadline, now);
    wait_for_link(nl, blocked, worked);
}

/* ---- libev's side ---- */

static void release(struct netif_loop *nl)
{
    loop_mem_close(&nl->mem);
    loop_link_close(&nl->link);
    close(nl->epoll_fd);
    free(nl);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int revents)
{
    struct netif_loop *nl = w->data;
    (void)loop, (void)revents;
    nl->in_turn = true;
    turn(nl);
    nl->in_turn = false;
    if (nl->stopped)
        release(nl);
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    ((struct netif_loop *)w->data)->readable |= (revents & EV_READ) != 0;
}

static void on_memory(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    loop_mem_heard(&((struct netif_loop *)w->data)->mem);
}

static void on_watch(struct ev_loop *loop, ev_io *w, int revents)
{
    struct netif_loop *nl = w->data;
    (void)revents;
    if (loop_link_heard(&nl->link, netif_now()))
        return;
    ev_io_stop(loop, w);
    link_failed(nl, nl->nif->error);
}

static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct netif_loop *nl = w->data;
    (void)loop, (void)revents;
    if (!loop_link_attached(&nl->link))
        link_failed(nl, nl->nif->error);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)w, (void)revents; /* the prepare watcher does what is due */
}

static void on_idle(struct ev_loop *loop, ev_idle *w, int revents)
{
    (void)loop, (void)w, (void)revents;
}

int netif_loop_start(const struct netif_loop_config *cfg, struct netif_loop **out)
{
    if (!cfg->loop || !cfg->nif || !cfg->z)
        return -EINVAL;
    struct netif_loop *nl = calloc(1, sizeof *nl);
    if (!nl)
        return -ENOMEM;
    nl->cfg = *cfg;
    nl->nif = cfg->nif;
    nl->z = cfg->z;
    loop_link_open(&nl->link, &nl->cfg);
    nl->poke_ns = POKE_MIN_NS;
    nl->linger_ns = (cfg->linger_us ? cfg->linger_us : LINGER_DEF_US) * 1000ull;
    nl->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (nl->epoll_fd < 0) {
        int rc = -errno;
        loop_link_close(&nl->link);
        free(nl);
        return rc;
    }
    int no_mem = loop_mem_open(&nl->mem, nl->nif->pool);
    if (no_mem) {
        release(nl);
        return no_mem;
    }
    struct epoll_event ev = {.events = EPOLLIN};
    if ((cfg->group &&
         epoll_ctl(nl->epoll_fd, EPOLL_CTL_ADD, group_fd(cfg->group, cfg->member), &ev) < 0) ||
        (cfg->nif->neigh &&
         epoll_ctl(nl->epoll_fd, EPOLL_CTL_ADD, neigh_fd(cfg->nif->neigh), &ev) < 0)) {
        int rc = -errno;
        release(nl);
        return rc;
    }
    ev_prepare_init(&nl->prepare, on_prepare);
    ev_io_init(&nl->io, on_io, nl->epoll_fd, EV_READ);
    ev_timer_init(&nl->timer, on_timer, 0., 0.);
    ev_timer_init(&nl->poke, on_timer, 0., 0.);
    ev_timer_init(&nl->look, on_look, LOOP_LINK_EVERY_S, LOOP_LINK_EVERY_S);
    ev_idle_init(&nl->idle, on_idle);
    ev_io_init(&nl->mem_io, on_memory, nl->mem.epoll_fd, EV_READ);
    nl->prepare.data = nl->io.data = nl->mem_io.data = nl->look.data = nl;
    /* After the application's own prepare watchers, so that what they write goes out too. */
    ev_set_priority(&nl->prepare, EV_MINPRI);
    ev_prepare_start(cfg->loop, &nl->prepare);
    ev_io_start(cfg->loop, &nl->io);
    ev_io_start(cfg->loop, &nl->mem_io);
    if (nl->link.watch.fd >= 0) {
        ev_io_init(&nl->link_io, on_watch, nl->link.watch.fd, EV_READ);
        nl->link_io.data = nl;
        ev_io_start(cfg->loop, &nl->link_io);
    }
    if (nl->nif->ops->attached)
        ev_timer_start(cfg->loop, &nl->look);
    *out = nl;
    return 0;
}

int netif_connect(struct netif_loop *nl, const struct zest_addr *remote, zest_handle *out)
{
    unsigned members = nl->cfg.group ? group_size(nl->cfg.group) : 1;
    return connect_from(nl->nif, nl->z, members, nl->cfg.member, remote, out);
}

void netif_loop_wake(struct netif_loop *nl)
{
    ev_idle_start(nl->cfg.loop, &nl->idle);
}

void netif_loop_stop(struct netif_loop *nl)
{
    if (!nl || nl->stopped)
        return;
    struct ev_loop *loop = nl->cfg.loop;
    ev_prepare_stop(loop, &nl->prepare);
    ev_io_stop(loop, &nl->io);
    ev_io_stop(loop, &nl->mem_io);
    ev_io_stop(loop, &nl->link_io);
    ev_timer_stop(loop, &nl->timer);
    ev_timer_stop(loop, &nl->poke);
    ev_timer_stop(loop, &nl->look);
    ev_idle_stop(loop, &nl->idle);
    nl->stopped = true;
    if (!nl->in_turn)
        release(nl); /* else the turn that we are in does it */
}

int netif_loop_wait(struct netif_loop *nl, struct netif_loop_wait *w)
{
    if (w->active)
        return -EALREADY;
    int rc = zbuf_budget_wait(w->budget, w->bytes);
    if (rc < 0)
        return rc;
    loop_mem_add(&nl->mem, w); /* if there is memory now, the next turn finds that out */
    netif_loop_wake(nl);
    return 0;
}

void netif_loop_wait_stop(struct netif_loop *nl, struct netif_loop_wait *w)
{
    loop_mem_remove(&nl->mem, w);
}
