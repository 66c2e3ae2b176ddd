/* xdp_open.c - making an AF_XDP link, and unmaking it.
 *
 * In this order: look at the interface, load and attach the program, register the region as UMEM,
 * bind a socket to the queue with the best of what was asked for, fill the ring, and only then put
 * the socket into the program's map, so that no frame is taken from the kernel before we can
 * receive it. Closing goes the other way round and is also how a failed opening cleans up. */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "neigh.h"
#include "probe_priv.h"
#include "xdp.h"

#define DRAIN_TRIES    50 /* frames still in the kernel when the link is closed */
#define DRAIN_SLEEP_US 2000
#define HANDED_ON      512u /* segments, beyond the ring, that the minimum allows for */

static int say_nothing(enum libxdp_print_level level, const char *fmt, va_list ap)
{
    (void)level, (void)fmt, (void)ap;
    return 0;
}

/* ---- closing ---- */

static void drain(struct xdp *x)
{
    for (int i = 0; i < DRAIN_TRIES; i++) {
        if (xdp_kick(&x->nif) != 0 || x->n_in_flight == 0)
            return;
        usleep(DRAIN_SLEEP_US);
    }
}

static void free_link(struct xdp *x)
{
    xdp_take_back(x);
    if (x->budget)
        zbuf_budget_destroy(x->budget); /* -EBUSY: frames are still with the stack */
    free(x->lent);
    free(x->lent_free);
    free(x->in_flight);
    free(x);
}

static void xdp_close(struct netif *nif)
{
    struct xdp *x = xdp_of(nif), *next;
    struct xdp_share *s = x->share;
    neigh_close(nif->neigh);
    pthread_mutex_lock(&s->lock);
    bool last = --s->refs == 0;
    if (last) {
        steer_close(&s->steer);
        ethtool_close(&s->nic);
        xdp_prog_detach(&s->prog);
    }
    if (!last && x->xsk)
        xdp_prog_remove(&s->prog, x->queue);
    if (x->xsk) {
        drain(x);
        xsk_socket__delete(x->xsk);
        x->xsk = NULL;
    }
    if (x->umem)
        xsk_umem__delete(x->umem);
    x->next_closed = s->closed;
    s->closed = x;
    pthread_mutex_unlock(&s->lock);
    if (!last)
        return;
    if (s->umem)
        xsk_umem__delete(s->umem);
    for (x = s->closed; x; x = next) {
        next = x->next_closed;
        free_link(x);
    }
    pthread_mutex_destroy(&s->lock);
    free(s->rss);
    free(s);
}

/* An interface leaves the lists before what is attached to it is taken off. */
static int xdp_attached(struct netif *nif)
{
    struct xdp_share *s = xdp_of(nif)->share;
    char name[IF_NAMESIZE];
    pthread_mutex_lock(&s->lock); /* another queue's thread may ask, too */
    bool there = xdp_prog_attached(&s->prog);
    pthread_mutex_unlock(&s->lock);
    return there ? 0 : if_indextoname(s->prog.ifindex, name) ? -EUNATCH : -ENODEV;
}

static const struct netif_ops xdp_ops = {
    .rx = xdp_rx,
    .rx_waiting = xdp_rx_waiting,
    .tx_room = xdp_tx_room,
    .tx = xdp_tx,
    .kick = xdp_kick,
    .in_flight = xdp_in_flight,
    .count = xdp_count,
    .reopen = xdp_reopen,
    .may_reopen = xdp_may_reopen,
    .attached = xdp_attached,
    .close = xdp_close,
};

/* ---- opening ---- */

static bool ring_ok(uint32_t n)
{
    return n >= XDP_RING_MIN && n <= XDP_RING_MAX && (n & (n - 1)) == 0;
}

static int look(const struct netif_xdp_config *cfg, unsigned n, struct ifinfo *info,
                struct netif_error *err)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t none[4];
    if (!cfg->pool || !cfg->ifname || memcmp(cfg->ip.ip, mapped, sizeof mapped) != 0 ||
        memcmp(cfg->ip.ip + 12, none, sizeof none) == 0)
        return link_error(err, -EINVAL,
                          "AF_XDP: a pool, an interface and an IPv4 address are needed");
    int rc = ifinfo_get(cfg->ifname, info);
    if (rc == -ENODEV)
        return link_error(err, rc, "%s: there is no such interface here (ip link shows which are)",
                          cfg->ifname);
    if (rc)
        return link_error(err, rc, "%s: %s", cfg->ifname, strerror(-rc));
    if (!info->up)
        return link_error(err, -ENETDOWN, "%s is down: ip link set dev %s up", cfg->ifname,
                          cfg->ifname);
    if (info->queues && (cfg->queue >= info->queues || n > info->queues - cfg->queue))
        return link_error(err, -EINVAL,
                          "%s has no queue %u: it has %u, counted from 0 (ethtool -l %s)",
                          cfg->ifname, cfg->queue + n - 1, info->queues, cfg->ifname);
    if (info->queues > 1 && n == 1 && !cfg->quiet)
        fprintf(stderr,
                "zest: %s has %u queues and this uses queue %u only: use them all (zest --queues "
                "all), or "
                "let it have one: ethtool -L %s combined 1 (or rx 1)\n",
                cfg->ifname, info->queues, cfg->queue, cfg->ifname);
    return 0;
}

static int set_memory_aside(struct xdp *x, const struct netif_xdp_config *cfg,
                            struct netif_error *err)
{
    char name[ZBUF_NAME_MAX];
    snprintf(name, sizeof name, "rx %.15s/%u", cfg->ifname, x->queue);
    size_t min = (size_t)(x->rx_ring + HANDED_ON) * XDP_CHUNK;
    /* Set aside as segments of the size that the ring takes: smaller ones would be of no use to it.
     */
    x->budget = zbuf_budget_open(
        cfg->pool,
        &(struct zbuf_budget_config){.name = name, .min_bytes = min, .min_seg = XDP_CHUNK});
    if (!x->budget)
        return link_error(
            err, -ENOBUFS,
            "%s: the pool cannot set %zu MiB aside to receive into: a larger pool, or a "
            "receive ring of fewer than %u",
            cfg->ifname, (min + (1 << 20) - 1) >> 20, x->rx_ring);
    x->lent = calloc(x->rx_ring, sizeof(struct zbuf *));
    x->lent_free = calloc(x->rx_ring, sizeof *x->lent_free);
    x->in_flight = calloc(2 * (size_t)x->tx_ring, sizeof *x->in_flight);
    if (!x->lent || !x->lent_free || !x->in_flight)
        return link_error(err, -ENOMEM, "%s: out of memory", cfg->ifname);
    for (uint32_t i = 0; i < x->rx_ring; i++)
        x->lent_free[x->n_lent_free++] = x->rx_ring - 1 - i;
    return 0;
}

/* How large frames may be, and how many descriptors each takes: 1, unless the socket has them
 * several a frame. */
static void describe_frames(struct xdp *x, uint32_t mtu)
{
    struct netif_caps *c = &x->nif.caps;
    bool zero_copy = strcmp(c->mode, "zero-copy") == 0;
    uint32_t most = XDP_FRAME_DESCS;
    if (zero_copy && x->share->zc_segs == 0)
        most = XDP_FRAME_DESCS_ZC;
    else if (zero_copy && x->share->zc_segs < most)
        most = x->share->zc_segs;
    uint32_t one = XDP_RX_ROOM - ETH_HEADER;
    /* To send: the headers, and at least one stretch of payload that ends in the middle of a page.
     */
    uint32_t largest = c->gather ? (most - 1) * XDP_CHUNK - 1 : one;
    largest = largest < UINT16_MAX ? largest : UINT16_MAX;
    c->mtu = (uint16_t)(mtu < largest ? mtu : largest);
    x->rx_descs = 1 + (c->mtu + ETH_HEADER) / XDP_RX_ROOM;
    /* Each stretch may need a descriptor more than its bytes would. */
    uint32_t spare = most - c->mtu / XDP_CHUNK;
    uint32_t worth = c->mtu > one ? ZEST_FRAME_SEGS : NETIF_XDP_GATHER_MAX;
    c->gather_max = (uint8_t)(!c->gather ? 0 : spare < worth ? spare : worth);
    c->frame_descs = (uint8_t)(c->gather ? c->gather_max + c->mtu / XDP_CHUNK : 1);
    /* Whether a second one is cheap is measured, if that is asked for (xdp_measure.c). Frames that
     * need several in any case are another matter. */
    c->gather_cheap = c->mtu > one;
}

static int open_queue(struct xdp *x, const struct netif_xdp_config *cfg, const struct ifinfo *info,
                      struct netif_error *err)
{
    uint32_t each = info->mtu < XDP_RX_ROOM ? info->mtu : XDP_RX_ROOM;
    x->fill_min = XDP_RING_MIN;
    while (x->fill_min < x->rx_ring && x->fill_min * each < XDP_FILL_BYTES)
        x->fill_min *= 2;
    x->fill_target = x->fill_min;

    int rc = set_memory_aside(x, cfg, err);
    if (rc == 0 && x->first)
        rc = xdp_socket_umem(x, &x->share->umem, cfg->ifname, err);
    if (rc == 0 && x->first)
        rc = xdp_socket_fill(x, cfg->ifname, err);
    bool large = info->mtu > XDP_RX_ROOM - ETH_HEADER;
    if (rc == 0)
        rc = xdp_socket_open(x, cfg, large, err);
    if (rc == 0)
        rc = xdp_socket_fill(x, cfg->ifname, err);
    if (rc)
        return rc;

    struct netif_caps *c = &x->nif.caps;
    c->kind = "xdp";
    snprintf(c->name, sizeof c->name, "%s", cfg->ifname);
    c->queue = x->queue;
    c->dispatched = x->share->prog.dispatched != NULL;
    memcpy(c->mac, info->mac, sizeof c->mac);
    c->rx_seg = XDP_CHUNK;
    describe_frames(x, info->mtu);
    return 0;
}

static struct xdp *new_link(const struct netif_xdp_config *cfg, struct xdp_share *s, uint32_t queue)
{
    struct xdp *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->nif = (struct netif){.ops = &xdp_ops, .pool = cfg->pool, .fd = -1};
    x->rx_ring = cfg->rx_ring ? cfg->rx_ring : XDP_RING_DEF;
    x->tx_ring = cfg->tx_ring ? cfg->tx_ring : XDP_RING_DEF;
    x->base = zbuf_pool_base(cfg->pool);
    x->region_size = zbuf_pool_size(cfg->pool);
    x->queue = queue;
    x->share = s;
    x->first = s->refs++ == 0;
    return x;
}

/* One queue of an interface is like the other. */
static void measure(struct netif **links, unsigned n)
{
    struct netif_caps *c = &links[0]->caps;
    xdp_measure(xdp_of(links[0]));
    for (unsigned i = 1; i < n; i++) {
        struct netif_caps *other = &links[i]->caps;
        other->send_ns = c->send_ns;
        other->gather_ns = c->gather_ns;
        other->linear_ns = c->linear_ns;
        other->gather_cheap = c->gather_cheap && other->gather;
    }
}

/* Ours are bound by now, so nobody asks about them. What can't be known may be so. */
static bool has_socket(const void *ctx, uint32_t queue)
{
    const struct netif_probe_if *i = ctx;
    bool has = i->sockets_known != NETIF_YES || i->n_sockets == NETIF_PROBE_SOCKETS;
    for (unsigned k = 0; k < i->n_sockets && !has; k++)
        has = i->sockets[k].queue == queue;
    return has;
}

/* Has the card bring our frames to our queues, if it can. */
static void steer(struct xdp_share *s, const struct netif_xdp_config *cfg, uint32_t queues,
                  struct netif **links, unsigned n)
{
    struct netif_probe_if probe = {.index = s->prog.ifindex};
    struct steer_wants w = {
        .taken = has_socket,
        .ctx = &probe,
        .first = cfg->queue,
        .n = n,
        .queues = queues,
        .ports = cfg->n_ports ? cfg->ports : NULL,
        .n_ports = cfg->n_ports,
    };
    struct ethtool e;
    if (queues < 2 || ethtool_open(&s->nic, cfg->ifname, &e) != 0)
        return;
    memcpy(w.ip, cfg->ip.ip + 12, sizeof w.ip);
    probe_sockets(&probe);
    uint32_t rules = steer_open(&s->steer, &e, &w);
    if (s->steer.arp_elsewhere && !cfg->quiet)
        fprintf(stderr,
                "zest: %s: ARP comes in on queue %u, which is another process's, so this one hears "
                "none: leave it to the kernel (zest --ip host --ports ...)\n",
                cfg->ifname, s->steer.arp_queue);
    if (rules == 0)
        ethtool_close(&s->nic);
    for (unsigned i = 0; i < n; i++)
        links[i]->caps.steer_rules = rules;
}

/* For connections of our own: which port to open one from. */
static void learn_hash(struct xdp_share *s, const char *ifname, struct netif **links, unsigned n)
{
    struct ethtool_nic nic;
    struct ethtool e;
    if (n < 2 || s->steer.own || ethtool_open(&nic, ifname, &e) != 0)
        return;
    if (rss_read(&e, &s->rss) != 0)
        s->rss = NULL;
    ethtool_close(&nic);
    for (unsigned i = 0; i < n && s->rss; i++)
        if (rss_has_queue(s->rss, links[i]->caps.queue)) {
            links[i]->rss.rss = s->rss;
            links[i]->caps.hash_known = true;
        }
}

/* links[0 .. *made) exist, whatever is returned. */
static int build(struct xdp_share *s, const struct netif_xdp_config *cfg, unsigned n,
                 struct netif **links, unsigned *made, struct netif_error *err)
{
    struct ifinfo info = {0};
    int rc = look(cfg, n, &info, err);
    for (; rc == 0 && *made < n; ++*made) {
        struct xdp *x = new_link(cfg, s, cfg->queue + *made);
        if (!x)
            return link_error(err, -ENOMEM, "AF_XDP: out of memory");
        links[*made] = &x->nif;
        if (cfg->n_ports)
            rc = neigh_open(cfg, info.index, info.mac, x->first, &x->nif.neigh, err);
    }
    struct netif_probe_if probe = {.index = info.index};
    if (rc == 0)
        probe_netdev(&probe);
    s->zc_segs = probe.zc_max_segs;
    if (rc == 0)
        rc = xdp_prog_attach(&s->prog, cfg, &info, err);
    for (unsigned i = 0; i < n && rc == 0; i++)
        rc = open_queue(xdp_of(links[i]), cfg, &info, err);
    if (rc == 0 && cfg->steer == NETIF_XDP_STEER_AUTO)
        steer(s, cfg, info.queues, links, n);
    if (rc == 0 && cfg->steer != NETIF_XDP_STEER_LEARN)
        learn_hash(s, cfg->ifname, links, n);
    if (rc == 0 && cfg->measure && info.carrier)
        measure(links, n);
    /* Only when all can receive. */
    for (unsigned i = 0; i < n && rc == 0; i++) {
        const struct xdp *x = xdp_of(links[i]);
        rc = xdp_prog_add(&s->prog, x->queue, x->nif.fd);
        if (rc)
            rc = link_error(err, rc, "%s: the XDP program does not take queue %u: %s", cfg->ifname,
                            x->queue, strerror(-rc));
    }
    return rc;
}

int netif_open_xdp_queues(const struct netif_xdp_config *cfg, unsigned n, struct netif **out,
                          struct netif_error *err)
{
    unsigned made = 0;
    uint32_t rx = cfg->rx_ring ? cfg->rx_ring : XDP_RING_DEF;
    uint32_t tx = cfg->tx_ring ? cfg->tx_ring : XDP_RING_DEF;
    if (!ring_ok(rx) || !ring_ok(tx))
        return link_error(err, -EINVAL,
                          "AF_XDP: rings have 64 to 32768 descriptors, a power of two");
    if (n == 0 || n > NETIF_QUEUES_MAX)
        return link_error(err, -EINVAL, "AF_XDP: 1 to %u queues", NETIF_QUEUES_MAX);
    struct xdp_share *s = calloc(1, sizeof *s);
    struct netif **links = calloc(n, sizeof(struct netif *));
    if (!s || !links) {
        free(s);
        free(links);
        return link_error(err, -ENOMEM, "AF_XDP: out of memory");
    }
    pthread_mutex_init(&s->lock, NULL);
    xdp_prog_init(&s->prog);
    s->nic.fd = -1;

    libxdp_print_fn_t old = libxdp_set_print(say_nothing);
    int rc = build(s, cfg, n, links, &made, err);
    libxdp_set_print(old);
    if (rc == 0)
        memcpy(out, links, n * sizeof(struct netif *));
    for (unsigned i = 0; i < made && rc; i++)
        xdp_close(links[i]); /* the last one takes s along */
    if (made == 0) {
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
    free(links);
    return rc;
}

int netif_open_xdp(const struct netif_xdp_config *cfg, struct netif **out, struct netif_error *err)
{
    return netif_open_xdp_queues(cfg, 1, out, err);
}
