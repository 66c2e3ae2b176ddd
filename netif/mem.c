/* mem.c - a cable in memory, between two stacks of one thread.
 *
 * A sent frame still belongs to its sender, which may send it again, and its header may lie in the
 * headroom of a segment that holds other frames' payload; so the receiver cannot be given the
 * segment itself. Each frame is copied once, into a segment of the receiver's pool - that copy is
 * the wire - and the sender gets its segments back at once.
 *
 * An end's descriptor is an eventfd that is readable while frames wait, so that a loop can sleep on
 * it. A frame for which the receiver has no memory is lost, as on any wire, and counted there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "link.h"

#define ETH_HEADER 14u
#define QUEUE_DEF  1024u
#define QUEUE_MAX  65536u
#define MTU_MIN    576u
#define MTU_MAX    65535u
#define AHEAD      32u /* frames that each end's budget guarantees */

struct mem {
    struct netif nif;
    struct mem *peer; /* NULL once that end is closed: the cable is cut */
    struct zbuf_budget *budget;
    struct zbuf **queue; /* [queue_len]: arrived here, not yet taken by netif_rx() */
    unsigned queue_len, head, count;
    bool told; /* the eventfd is readable */
};

static struct mem *mem_of(const struct netif *nif)
{
    return (struct mem *)nif;
}

static void tell(struct mem *m)
{
    if (m->count > 0 && !m->told) {
        eventfd_write(m->nif.fd, 1);
        m->told = true;
    }
}

static unsigned mem_rx(struct netif *nif, struct zbuf **frames, unsigned max)
{
    struct mem *m = mem_of(nif);
    unsigned n = m->count < max ? m->count : max;
    for (unsigned i = 0; i < n; i++) {
        frames[i] = m->queue[m->head];
        m->head = (m->head + 1) % m->queue_len;
        nif->stats.rx_bytes += frames[i]->len;
    }
    m->count -= n;
    nif->stats.rx_frames += n;
    if (m->count == 0 && m->told) {
        eventfd_t value;
        eventfd_read(nif->fd, &value);
        m->told = false;
    }
    return n;
}

static unsigned mem_tx_room(const struct netif *nif)
{
    const struct mem *m = mem_of(nif);
    /* Into a cut cable anything fits. */
    return m->peer ? m->peer->queue_len - m->peer->count : m->queue_len;
}

static void carry(struct mem *to, const struct zest_frame *f, uint32_t len)
{
    struct zbuf *zb = NULL;
    if (len <= to->nif.caps.mtu + ETH_HEADER && to->count < to->queue_len)
        /* Not what len needs: guarantees are in segments of this size only. */
        zb = zbuf_alloc_from(to->budget, to->nif.caps.rx_seg - ZBUF_OVERHEAD);
    if (!zb) {
        to->nif.stats.rx_dropped++;
        to->nif.stats.rx_no_memory += len <= to->nif.caps.mtu + ETH_HEADER;
        return;
    }
    for (unsigned s = 0; s < f->n; s++) {
        memcpy(zb->data + zb->len, f->seg[s].addr, f->seg[s].len);
        zb->len += f->seg[s].len;
    }
    to->queue[(to->head + to->count++) % to->queue_len] = zb;
}

static void mem_tx(struct netif *nif, const struct zest_frame *frames, unsigned n)
{
    struct mem *m = mem_of(nif);
    LINK_ASSERT(n <= mem_tx_room(nif));
    for (unsigned i = 0; i < n; i++) {
        const struct zest_frame *f = &frames[i];
        uint32_t len = 0;
        LINK_ASSERT(f->n >= 1 && f->n <= ZEST_FRAME_SEGS);
        for (unsigned s = 0; s < f->n; s++)
            len += f->seg[s].len;
        if (m->peer)
            carry(m->peer, f, len);
        for (unsigned s = 0; s < f->n; s++)
            zbuf_tx_done(nif->pool, f->seg[s].addr);
        nif->stats.tx_bytes += len;
    }
    nif->stats.tx_frames += n;
}

static int mem_kick(struct netif *nif)
{
    struct mem *m = mem_of(nif);
    if (m->peer)
        tell(m->peer);
    else
        nif->error = -ENODEV;
    return nif->error;
}

static unsigned mem_in_flight(const struct netif *nif)
{
    (void)nif;
    return 0;
}

static void mem_close(struct netif *nif)
{
    struct mem *m = mem_of(nif);
    if (m->peer)
        m->peer->peer = NULL;
    while (m->count > 0) {
        zbuf_free(m->queue[m->head]);
        m->head = (m->head + 1) % m->queue_len;
        m->count--;
    }
    if (nif->fd >= 0)
        close(nif->fd);
    if (m->budget)
        zbuf_budget_destroy(m->budget); /* -EBUSY: frames are still with the stack */
    free(m->queue);
    free(m);
}

static const struct netif_ops mem_ops = {
    .rx = mem_rx,
    .tx_room = mem_tx_room,
    .tx = mem_tx,
    .kick = mem_kick,
    .in_flight = mem_in_flight,
    .close = mem_close,
};

static int make_end(const struct netif_mem_config *cfg, unsigned side, struct mem **out)
{
    struct mem *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    m->nif = (struct netif){.ops = &mem_ops, .pool = cfg->pool[side], .fd = -1};
    m->queue_len = cfg->queue_len ? cfg->queue_len : QUEUE_DEF;
    m->queue = calloc(m->queue_len, sizeof(struct zbuf *));
    struct netif_caps *c = &m->nif.caps;
    c->kind = c->mode = "mem";
    snprintf(c->name, sizeof c->name, "mem%u", side);
    c->mtu = cfg->mtu ? cfg->mtu : 1500;
    c->gather = c->gather_cheap = cfg->gather;
    c->gather_max = cfg->gather ? NETIF_XDP_GATHER_MAX : 0;
    c->frame_descs = 1;
    memcpy(c->mac, (uint8_t[]){0x02, 0, 0, 0, 0, (uint8_t)(1 + side)}, sizeof c->mac);

    size_t seg = ZBUF_SEG_MIN;
    while (seg < ZBUF_OVERHEAD + ETH_HEADER + c->mtu)
        seg *= 2;
    c->rx_seg = (uint32_t)seg;
    m->budget = zbuf_budget_open(
        cfg->pool[side], &(struct zbuf_budget_config){
                             .name = c->name, .min_bytes = AHEAD * seg, .min_seg = (uint32_t)seg});
    m->nif.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int rc = !m->queue ? -ENOMEM : !m->budget ? -ENOBUFS : m->nif.fd < 0 ? -errno : 0;
    if (rc)
        mem_close(&m->nif);
    else
        *out = m;
    return rc;
}

int netif_open_mem_pair(const struct netif_mem_config *cfg, struct netif *out[2],
                        struct netif_error *err)
{
    struct mem *end[2];
    if (!cfg->pool[0] || !cfg->pool[1] || cfg->queue_len > QUEUE_MAX ||
        (cfg->mtu && cfg->mtu < MTU_MIN))
        return link_error(
            err, -EINVAL,
            "memory link: two pools are needed, an MTU of %u to %u, a queue of up to %u", MTU_MIN,
            MTU_MAX, QUEUE_MAX);
    int rc = make_end(cfg, 0, &end[0]);
    if (rc == 0) {
        rc = make_end(cfg, 1, &end[1]);
        if (rc)
            mem_close(&end[0]->nif);
    }
    if (rc)
        return link_error(err, rc, "memory link: %s%s", strerror(-rc),
                          rc == -ENOBUFS ? " (a pool is too small)" : "");
    end[0]->peer = end[1];
    end[1]->peer = end[0];
    out[0] = &end[0]->nif;
    out[1] = &end[1]->nif;
    return 0;
}
