/* link.c - the public functions, and what all kinds share. */
#include "neigh.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

_Noreturn void link_bug(const char *cond, const char *file, int line)
{
    fprintf(stderr, "netif: bug: %s does not hold (%s:%d)\n", cond, file, line);
    abort();
}

int link_error(struct netif_error *out, int err, const char *fmt, ...)
{
    if (out) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(out->text, sizeof out->text, fmt, ap);
        va_end(ap);
    }
    return err;
}

int link_check(struct netif *nif)
{
    int err = 0;
    socklen_t len = sizeof err;
    if (nif->error == 0 && nif->fd >= 0 &&
        getsockopt(nif->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err != 0)
        nif->error = -err;
    return nif->error;
}

void netif_explain(const struct netif *nif, int error, struct netif_error *out)
{
    const char *name = nif->caps.name;
    if (error == -EUNATCH)
        link_error(out, error,
                   "%s: somebody took zest's XDP program off, so nothing comes in any more: a "
                   "restart puts it there again (zest doctor %s tells what is there now)",
                   name, name);
    else
        link_error(out, error, "%s is gone: %s", name, strerror(-error));
}

const struct netif_caps *netif_caps(const struct netif *nif)
{
    return &nif->caps;
}

int netif_configure(const struct netif *nif, struct zest_config *cfg)
{
    const struct netif_caps *caps = &nif->caps;
    bool gather = caps->gather && caps->gather_cheap;
    uint8_t secret[sizeof cfg->secret];
    if (getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret)
        return -EIO;
    memcpy(cfg->secret, secret, sizeof secret);
    memcpy(cfg->mac, caps->mac, sizeof cfg->mac);
    cfg->mtu = caps->mtu;
    cfg->rx_seg = caps->rx_seg;
    cfg->rx_csum_trusted = caps->rx_csum;
    cfg->tx_csum_offload = caps->tx_csum;
    cfg->gather = gather ? ZEST_GATHER_ALWAYS : ZEST_GATHER_NEVER;
    cfg->gather_max = gather ? caps->gather_max : 0;
    cfg->tso_segs = gather ? caps->tso_segs : 0;
    return 0;
}

unsigned netif_rx(struct netif *nif, struct zbuf **frames, unsigned max)
{
    unsigned n = nif->ops->rx(nif, frames, max);
    if (nif->neigh && n < max)
        n += neigh_rx(nif->neigh, nif->pool, frames + n, max - n);
    if (nif->capture)
        capture_rx(nif->capture, frames, n);
    return n;
}

void netif_input(struct netif *nif, struct zest *z, uint64_t now_ns, struct zbuf **frames,
                 unsigned n)
{
    if (nif->capture)
        capture_input(nif->capture, z, now_ns, frames, n);
    else
        zest_input(z, now_ns, frames, n);
}

unsigned netif_tx_room(const struct netif *nif)
{
    return nif->ops->tx_room(nif);
}

/* ARP is for the kernel to answer, the rest goes out. */
static void tx_beside_kernel(struct netif *nif, const struct zest_frame *frames, unsigned n)
{
    unsigned from = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct zest_frame *f = &frames[i];
        if (!neigh_takes(nif->neigh, f->seg[0].addr, f->seg[0].len))
            continue;
        for (unsigned s = 0; s < f->n; s++)
            zbuf_tx_done(nif->pool, f->seg[s].addr);
        if (i > from)
            nif->ops->tx(nif, frames + from, i - from);
        from = i + 1;
    }
    if (n > from)
        nif->ops->tx(nif, frames + from, n - from);
}

void netif_tx(struct netif *nif, const struct zest_frame *frames, unsigned n)
{
    if (nif->capture)
        capture_tx(nif->capture, frames, n);
    if (nif->neigh)
        tx_beside_kernel(nif, frames, n);
    else
        nif->ops->tx(nif, frames, n);
}

int netif_kick(struct netif *nif)
{
    return nif->ops->kick(nif);
}

int netif_fd(const struct netif *nif)
{
    return nif->fd;
}

void netif_get_stats(struct netif *nif, struct netif_stats *out)
{
    if (nif->ops->count)
        nif->ops->count(nif);
    *out = nif->stats;
}

void netif_close(struct netif *nif)
{
    if (!nif)
        return;
    netif_capture_stop(nif, NULL);
    nif->ops->close(nif);
}

uint64_t netif_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
