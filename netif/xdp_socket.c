/* xdp_socket.c - the UMEM and the socket of a link: registering the region, filling the ring,
 * binding to a queue with the best of what was asked for. What a refusal means is said in a
 * sentence. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xdp.h"

#define BUSY_TRIES    100 /* the kernel releases a queue some time after its socket was closed */
#define BUSY_SLEEP_US 20000
#define SNDBUF_BYTES  (64 << 20) /* copy mode takes its buffers out of this */

static struct xsk_umem_config umem_config(const struct xdp *x)
{
    return (struct xsk_umem_config){
        .fill_size = x->rx_ring,
        .comp_size = x->tx_ring,
        .frame_size = XDP_CHUNK,
        .frame_headroom = ZBUF_GUARD,
        .flags = XDP_UMEM_UNALIGNED_CHUNK_FLAG,
    };
}

bool xdp_socket_try_umem(const struct xdp *x)
{
    const struct xsk_umem_config ucfg = umem_config(x);
    struct xsk_umem *umem;
    struct xsk_ring_prod f;
    struct xsk_ring_cons c;
    return xsk_umem__create(&umem, x->base, x->region_size, &f, &c, &ucfg) == 0 &&
           xsk_umem__delete(umem) == 0;
}

int xdp_socket_umem(struct xdp *x, struct xsk_umem **umem, const char *ifname,
                    struct netif_error *err)
{
    const struct xsk_umem_config ucfg = umem_config(x);
    size_t size = x->region_size;
    int rc = xsk_umem__create(umem, x->base, size, &x->fill, &x->comp, &ucfg);
    if (rc == -ENOBUFS || rc == -ENOMEM) { /* the pages are locked: RLIMIT_MEMLOCK */
        struct rlimit lim = {RLIM_INFINITY, RLIM_INFINITY};
        if (setrlimit(RLIMIT_MEMLOCK, &lim) < 0 && getrlimit(RLIMIT_MEMLOCK, &lim) == 0) {
            lim.rlim_cur = lim.rlim_max;
            setrlimit(RLIMIT_MEMLOCK, &lim);
        }
        rc = xsk_umem__create(umem, x->base, size, &x->fill, &x->comp, &ucfg);
    }
    switch (rc) {
    case 0:
        return 0;
    case -EPERM:
    case -EACCES:
        return link_error(err, -EPERM,
                          "%s: AF_XDP sockets need root, or the capability cap_net_raw", ifname);
    case -ENOBUFS:
    case -ENOMEM:
        return link_error(
            err, rc,
            "%s: the kernel may not lock the pool's %zu MiB: ulimit -l unlimited, or the "
            "capability cap_ipc_lock",
            ifname, size >> 20);
    case -EAFNOSUPPORT:
        return link_error(err, rc, "%s: this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)", ifname);
    default:
        return link_error(err, rc, "%s: the kernel does not take the pool as UMEM: %s", ifname,
                          strerror(-rc));
    }
}

/* The kernel's segments to receive into. A driver in zero-copy mode takes them as soon as a socket
 * is bound, and one that finds none may not look again before it is woken: so they are there first.
 * (Only the first socket's fill ring exists before it is bound.) */
int xdp_socket_fill(struct xdp *x, const char *ifname, struct netif_error *err)
{
    xdp_refill(x);
    if (x->n_lent_free == x->rx_ring)
        return link_error(err, -ENOBUFS, "%s: the pool has no 4 KiB segment to receive into",
                          ifname);
    return 0;
}

int xdp_socket_bind(struct xdp *x, const char *ifname, unsigned flags)
{
    const struct xsk_socket_config scfg = {
        .rx_size = x->rx_ring,
        .tx_size = x->tx_ring,
        .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
        .bind_flags = (uint16_t)(XDP_USE_NEED_WAKEUP | flags),
    };
    /* The first takes the UMEM's own two rings, and so does one with a UMEM of its own; the others
     * get theirs. */
    if (x->umem)
        return xsk_socket__create(&x->xsk, ifname, x->queue, x->umem, &x->rx, &x->tx, &scfg);
    if (x->first)
        return xsk_socket__create(&x->xsk, ifname, x->queue, x->share->umem, &x->rx, &x->tx, &scfg);
    return xsk_socket__create_shared(&x->xsk, ifname, x->queue, x->share->umem, &x->rx, &x->tx,
                                     &x->fill, &x->comp, &scfg);
}

static int bind_patiently(struct xdp *x, const char *ifname, unsigned flags)
{
    int rc = -EBUSY;
    for (int i = 0; i < BUSY_TRIES && rc == -EBUSY; i++) {
        if (i > 0)
            usleep(BUSY_SLEEP_US);
        rc = xdp_socket_bind(x, ifname, flags);
    }
    return rc;
}

/* Neither is vital: without, sending takes more calls. */
void xdp_socket_tune(struct xdp *x)
{
    struct xdp_options got = {0};
    socklen_t len = sizeof got;
    x->nif.fd = xsk_socket__fd(x->xsk);
    getsockopt(x->nif.fd, SOL_XDP, XDP_OPTIONS, &got, &len);
    bool zero_copy = got.flags & XDP_OPTIONS_ZEROCOPY;
    x->nif.caps.mode = zero_copy ? "zero-copy" : x->share->prog.generic ? "generic" : "copy";
    int bytes = SNDBUF_BYTES, budget = (int)x->tx_ring;
    if (setsockopt(x->nif.fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
        setsockopt(x->nif.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (setsockopt(x->nif.fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof budget) < 0)
        budget = XDP_TX_BUDGET_DEF;
    x->nif.caps.tx_budget = zero_copy ? 0 : (uint32_t)budget;
}

/* What a refused bind in zero-copy mode means; rc as the kernel says it. */
static const char *no_zero_copy(int rc, bool generic)
{
    if (generic)
        return "generic XDP never has it";
    switch (rc) {
    case -EOPNOTSUPP:
        return "the driver has none";
    case -EINVAL:
        return "the driver has it, but not with this device as it is";
    case -ENOMEM:
        return "the driver has no memory for it";
    default:
        return strerror(-rc);
    }
}

/* The best that was asked for and can be had: zero-copy before gather, gather before neither. */
static int bind_best(struct xdp *x, const struct netif_xdp_config *cfg, bool large)
{
    bool zero_copy = cfg->copy != NETIF_XDP_COPY && !x->share->prog.generic;
    bool copy = cfg->copy != NETIF_XDP_ZERO_COPY;
    int rc = -EOPNOTSUPP;
    x->share->zero_copy_rc = -EOPNOTSUPP;
    for (int way = zero_copy ? 0 : 2; way < (copy ? 4 : 2) && rc != 0 && rc != -EBUSY; way++) {
        bool gather = way == 0 || way == 2;
        if (gather && !cfg->gather && !cfg->measure && !large)
            continue;
        /* To be refused has a price: the kernel (6.18 to 7.2) remembers with the UMEM that several
         * descriptors were asked for, and then refuses every other socket of this UMEM. */
        if (way == 0 && x->share->zc_segs == 1)
            continue;
        x->share->bind_flags =
            (way < 2 ? XDP_ZEROCOPY : XDP_COPY) | (gather ? (unsigned)XDP_USE_SG : 0);
        rc = bind_patiently(x, cfg->ifname, x->share->bind_flags);
        if (way < 2)
            x->share->zero_copy_rc = rc;
    }
    return rc;
}

int xdp_socket_open(struct xdp *x, const struct netif_xdp_config *cfg, bool large,
                    struct netif_error *err)
{
    bool copy = cfg->copy != NETIF_XDP_ZERO_COPY;
    /* Who shares the first one's UMEM has its mode, too, whatever it asks for. */
    int rc =
        x->first ? bind_best(x, cfg, large) : bind_patiently(x, cfg->ifname, x->share->bind_flags);
    switch (rc) {
    case 0:
        break;
    case -EBUSY:
        return link_error(
            err, rc,
            "%s: queue %u has an AF_XDP socket already, in another process; the kernel "
            "gives one of them each queue (ethtool -l %s says how many there are)",
            cfg->ifname, x->queue, cfg->ifname);
    case -EOPNOTSUPP:
        return link_error(err, rc,
                          "%s: its driver has no zero-copy AF_XDP%s; copy mode works anywhere",
                          cfg->ifname, x->share->prog.generic ? " in generic mode" : "");
    case -EINVAL:
        if (!copy)
            return link_error(err, rc,
                              "%s: no zero-copy: %s (zest doctor %s tells what is missing); copy "
                              "mode works anywhere",
                              cfg->ifname, no_zero_copy(rc, false), cfg->ifname);
        return link_error(err, rc,
                          "%s: the kernel does not bind to queue %u in this mode: no such queue "
                          "(ethtool -l %s), or the device was not made for it",
                          cfg->ifname, x->queue, cfg->ifname);
    default:
        return link_error(err, rc, "%s: cannot bind to queue %u: %s", cfg->ifname, x->queue,
                          strerror(-rc));
    }

    xdp_socket_tune(x);
    x->nif.caps.gather = x->share->bind_flags & XDP_USE_SG;
    if (strcmp(x->nif.caps.mode, "zero-copy") != 0 && cfg->copy != NETIF_XDP_COPY)
        x->nif.caps.why_copy = no_zero_copy(x->share->zero_copy_rc, x->share->prog.generic);
    return 0;
}
