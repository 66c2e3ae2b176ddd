/* host.c - start-up and take-down of a pool, a link, a stack and a loop. See host.h. */
#include "host.h"

#include "say.h"

#include <errno.h>
#include <ev.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening */

/* Everything that the link decides, and one secret. number: of so many in this pool. */
static int open_stack(struct host *h, const struct host_options *o, const struct zest_addr *ip,
                      uint8_t prefix_len, unsigned number, unsigned of)
{
    int rc = o->pcap ? capture_open(h, number) : 0;
    if (rc == 0 && o->record)
        rc = recording_open(h, o->record, o->record_max, number);
    if (rc < 0)
        return rc;
    const struct netif_caps *caps = netif_caps(h->nif);
    h->gather = caps->gather && (o->gather == HOST_GATHER_ALWAYS ||
                                 (o->gather == HOST_GATHER_AUTO && caps->gather_cheap));
    if (o->gather == HOST_GATHER_ALWAYS && !caps->gather) {
        say("--gather always: %s (%s, %s) takes one descriptor a frame only; leave --gather out, "
            "or write payload that lies at the front of its zbuf",
            caps->name, caps->kind, caps->mode);
        return -EOPNOTSUPP;
    }
    struct zest_config cfg = {
        .pool = h->pool,
        .ip = *ip,
        .prefix_len = prefix_len,
        .gateway = o->gateway,
        .max_conns = o->max_conns,
        .snd_buf = o->snd_buf,
        .rcv_buf = o->rcv_buf,
        .record_mem = h->rec.mem,
        .record_size = h->rec.size,
        .share_count = (uint8_t)h->members,
        .share_index = (uint8_t)h->member,
        .rx_hold_max = zbuf_pool_size(h->pool) / 2 / h->members,
        .ctrl_reserve = HOST_CTRL_RESERVE,
    };
    rc = netif_configure(h->nif, &cfg);
    if (rc < 0) {
        say("no random bytes from the kernel: %s", strerror(errno));
        return rc;
    }
    cfg.gather = h->gather ? ZEST_GATHER_ALWAYS : ZEST_GATHER_NEVER;
    cfg.gather_max = h->gather ? caps->gather_max : 0;
    cfg.tso_segs = h->gather ? caps->tso_segs : 0;
    size_t size = zest_size(&cfg);
    if (size == 0) {
        say("the stack refuses these settings: MTU %u, %u connections", cfg.mtu, cfg.max_conns);
        return -EINVAL;
    }
    h->mem = aligned_alloc(64, (size + 63) & ~(size_t)63);
    if (!h->mem) {
        say("no memory for %u connections; try a smaller --conns", cfg.max_conns);
        return -ENOMEM;
    }
    rc = zest_init(h->mem, &cfg, &h->z);
    if (rc < 0) {
        if (rc == -ENOBUFS)
            host_say_pool_least(h->pool, caps->rx_seg, of,
                                (of - number) *
                                    (HOST_CTRL_RESERVE + HOST_RX_SEGS * (size_t)caps->rx_seg));
        else
            say("the stack did not start: %s", strerror(-rc));
        free(h->mem);
        h->mem = NULL;
    }
    return rc;
}

void host_pin(int core)
{
    if (core < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        say("--affinity: core %d: %s; running on any", core, strerror(errno));
}

int host_open(struct host *h, const struct host_options *o, struct ev_loop *loop)
{
    *h = (struct host){.opt = o, .loop = loop, .members = 1, .core = o->core};
    host_pin(o->core);
    int rc = host_open_pool(h, o, 1);
    if (rc == 0)
        rc = host_open_links(h->pool, o, 1, &h->nif);
    if (rc == 0)
        rc = open_stack(h, o, &o->ip, o->prefix_len, 0, 1);
    if (rc == 0)
        rc = host_share_pool(h, 1);
    if (rc < 0)
        host_close(h);
    return rc;
}

int host_open_pair(struct host h[2], const struct host_options *o, struct ev_loop *loop)
{
    h[0] = h[1] = (struct host){.opt = o, .loop = loop, .members = 1, .core = o->core};
    host_pin(o->core);
    int rc = host_open_pool(&h[0], o, 1);
    if (rc < 0)
        return rc;
    h[1].pool = h[0].pool;

    struct netif_mem_config cfg = {
        .pool = {h[0].pool, h[0].pool}, .mtu = o->mtu, .gather = o->gather == HOST_GATHER_ALWAYS};
    struct netif *ends[2];
    struct netif_error err = {""};
    rc = netif_open_mem_pair(&cfg, ends, &err);
    if (rc < 0) {
        say("%s", err.text[0] ? err.text : strerror(-rc));
    } else {
        for (unsigned i = 0; i < 2; i++)
            h[i].nif = ends[i];
        for (unsigned i = 0; i < 2 && rc == 0; i++) {
            struct zest_addr ip;
            zest_addr_parse(&ip, i == 0 ? "10.0.0.1" : "10.0.0.2", 0);
            rc = open_stack(&h[i], o, &ip, 24, i, 2);
        }
        if (rc == 0)
            rc = host_share_pool(&h[0], 2);
    }
    if (rc < 0)
        host_close_pair(h);
    return rc;
}

/* The n-th core from `first` on (-1: from the lowest) of those that we may run on, round and round.
 */
static int nth_core(int first, unsigned n)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0 || CPU_COUNT(&set) == 0)
        return -1;
    int core = first < 0 ? 0 : first % CPU_SETSIZE;
    for (;; core = (core + 1) % CPU_SETSIZE)
        if (CPU_ISSET((size_t)core, &set) && n-- == 0)
            return core;
}

int host_open_queues(struct host *h, unsigned n, const struct host_options *o)
{
    struct netif *links[NETIF_QUEUES_MAX];
    struct netif_group *group = NULL;
    for (unsigned i = 0; i < n; i++)
        h[i] = (struct host){.opt = o, .member = i, .members = n, .core = nth_core(o->core, i)};
    int rc = host_open_pool(&h[0], o, n);
    if (rc < 0)
        return rc;
    rc = host_open_links(h[0].pool, o, n, links);
    for (unsigned i = 0; i < n && rc == 0; i++) {
        h[i].pool = h[0].pool;
        h[i].nif = links[i];
    }
    if (rc == 0)
        rc = netif_group_create(n, &group);
    for (unsigned i = 0; i < n && rc == 0; i++) {
        h[i].group = group;
        h[i].loop = ev_loop_new(EVFLAG_AUTO);
        if (!h[i].loop) {
            say("the event loop did not start");
            rc = -ENOMEM;
        }
    }
    for (unsigned i = 0; i < n && rc == 0; i++)
        rc = open_stack(&h[i], o, &o->ip, o->prefix_len, i, n);
    if (rc == 0)
        rc = host_share_pool(&h[0], n);
    if (rc < 0)
        host_close_queues(h, n);
    return rc;
}

/* Without a link there is nothing left to do, and who watches over us may start us anew. A file
 * that has ended is no failure. */
static void on_link(void *ctx, int error)
{
    struct host *h = ctx;
    static atomic_flag said; /* once for all queues: the first to go ends the others */
    struct netif_error why;
    if (error != -ENODATA) {
        netif_explain(h->nif, error, &why);
        if (!atomic_flag_test_and_set(&said))
            say("%s", why.text);
        h->failed = true;
    }
    ev_break(h->loop, EVBREAK_ALL);
}

static void pass_on(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n)
{
    const struct host *h = ctx;
    h->on_event(h->ctx, z, ev, n);
}

int host_start(struct host *h, host_event_fn *on_event, void *ctx)
{
    h->on_event = on_event;
    h->ctx = ctx;
    struct netif_loop_config cfg = {
        .loop = h->loop,
        .nif = h->nif,
        .z = h->z,
        .spin = h->opt->spin,
        /* On a link in memory the peer can only go on when we return. */
        .linger_us = strcmp(netif_caps(h->nif)->kind, "mem") == 0 ? 1 : 0,
        .on_event = pass_on,
        .on_link = on_link,
        .ctx = h,
        .group = h->group,
        .member = h->member};
    int rc = netif_loop_start(&cfg, &h->nl);
    if (rc < 0)
        say("the event loop did not start: %s", strerror(-rc));
    recording_start(h);
    return rc;
}

/* ---- running */

static void on_signal(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)revents;
    /* Whoever asks twice does not want to wait for an orderly end. */
    signal(w->signum, SIG_DFL);
    *(bool *)w->data = true;
    ev_break(loop, EVBREAK_ALL);
}

bool host_run(struct ev_loop *loop)
{
    bool signalled = false;
    ev_signal sigint, sigterm;
    ev_signal_init(&sigint, on_signal, SIGINT);
    ev_signal_init(&sigterm, on_signal, SIGTERM);
    sigint.data = sigterm.data = &signalled;
    signal(SIGPIPE, SIG_IGN);
    ev_signal_start(loop, &sigint);
    ev_signal_start(loop, &sigterm);
    /* The watchers alone must not keep the loop going. */
    ev_unref(loop);
    ev_unref(loop);
    ev_run(loop, 0);
    ev_ref(loop);
    ev_ref(loop);
    ev_signal_stop(loop, &sigint);
    ev_signal_stop(loop, &sigterm);
    return signalled;
}

/* ---- closing */

size_t host_pool_used(const struct host *h)
{
    struct zbuf_pool_stat st;
    zbuf_pool_stat(h->pool, &st);
    return st.used;
}

void host_flush(struct host *h)
{
    if (!h->nl)
        return;
    for (unsigned turn = 0; turn < 4; turn++) {
        netif_loop_wake(h->nl);
        ev_run(h->loop, EVRUN_NOWAIT);
    }
}

/* All but the pool, which a pair shares. */
static void close_upper(struct host *h)
{
    if (h->z && h->opt->counters) {
        host_print_counters(h);
        if (h->member == 0)
            host_print_pool(h->pool);
    }
    if (h->nl)
        netif_loop_stop(h->nl);
    recording_close(h);
    if (h->nif)
        capture_close(h);
    if (h->z)
        zest_fini(h->z);
    if (h->nif)
        netif_close(h->nif);
    free(h->mem);
    h->nl = NULL;
    h->z = NULL;
    h->nif = NULL;
    h->mem = NULL;
}

static int close_pool(struct zbuf_pool *pool)
{
    struct zbuf_pool_stat st;
    zbuf_pool_stat(pool, &st);
    if (st.live)
        say("%" PRIu64 " segments were not given back", st.live);
    return zbuf_pool_destroy(pool) < 0 || st.live ? EXIT_FAILED : EXIT_OK;
}

int host_close(struct host *h)
{
    close_upper(h);
    int rc = h->pool ? close_pool(h->pool) : EXIT_OK;
    h->pool = NULL;
    return rc;
}

int host_close_queues(struct host *h, unsigned n)
{
    struct netif_group *group = NULL;
    for (unsigned i = 0; i < n; i++) {
        group = h[i].group ? h[i].group : group;
        close_upper(&h[i]);
        if (h[i].loop)
            ev_loop_destroy(h[i].loop);
        h[i].loop = NULL;
    }
    netif_group_destroy(group);
    int rc = h[0].pool ? close_pool(h[0].pool) : EXIT_OK;
    h[0].pool = NULL;
    return rc;
}

int host_close_pair(struct host h[2])
{
    close_upper(&h[0]);
    close_upper(&h[1]);
    int rc = h[0].pool ? close_pool(h[0].pool) : EXIT_OK;
    h[0].pool = h[1].pool = NULL;
    return rc;
}
