/* tap.c - Ethernet frames through /dev/net/tun (IFF_TAP | IFF_NO_PI).
 *
 * One readv a frame, straight into segments, and one writev a frame, from where its parts lie: the
 * copies are the kernel's, gathering is free.
 *
 * With IFF_VNET_HDR a virtio-net header goes in front of each frame, and both sides leave work to
 * the other: we hand over TCP frames of up to 64 KiB and say how they are to be cut, without a
 * checksum; the kernel hands over the same (TUNSETOFFLOAD), as its own TCP made them. What never
 * leaves the machine is never cut, and never summed up. A checksum that the kernel left out is none
 * that could be wrong: the stack is told so (zbuf.rx_csum).
 *
 * A frame is received into a chain of segments of a page, as many as it fills; they are handed to
 * readv from the top of a stack of empty ones, and stay there if they were not needed. */
#include "tap.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define DROPS_MAX 64u /* frames thrown away in one poll, when the pool has no memory */

static struct tap *tap_of(const struct netif *nif)
{
    return (struct tap *)nif;
}

/* Without a segment to put it into, a frame is read all the same: left where it is, it would keep
 * the descriptor readable, and the loop turning. */
static void drop_waiting(struct tap *t)
{
    char scrap[64];
    for (unsigned i = 0; i < DROPS_MAX && read(t->nif.fd, scrap, sizeof scrap) > 0; i++) {
        t->nif.stats.rx_dropped++;
        t->nif.stats.rx_no_memory++;
    }
}

/* The header, then the parts. Returns how many bytes of frame they take. */
static uint32_t prepare(const struct tap *t, struct virtio_net_hdr *h, struct iovec *iov, int *n)
{
    unsigned parts = t->n_spare < t->parts ? t->n_spare : t->parts;
    *n = 0;
    if (t->vnet)
        iov[(*n)++] = (struct iovec){h, sizeof *h};
    for (unsigned i = 0; i < parts; i++)
        iov[(*n)++] = (struct iovec){t->spare[t->n_spare - 1 - i]->data, t->room};
    return parts * t->room;
}

/* Takes the parts that a frame of len bytes fills off the stack. */
static struct zbuf *make_chain(struct tap *t, uint32_t len)
{
    struct zbuf *first = NULL, **link = &first;
    while (len > 0) {
        struct zbuf *zb = t->spare[--t->n_spare];
        zb->len = len < t->room ? len : t->room;
        len -= zb->len;
        *link = zb;
        link = &zb->next;
    }
    return first;
}

/* One frame. 0: there is none, or none that can be received. */
static ssize_t read_frame(struct tap *t, struct zbuf **out)
{
    struct virtio_net_hdr h = {0};
    struct iovec iov[1 + TAP_PARTS];
    struct netif *nif = &t->nif;
    int n;
    for (;;) {
        uint32_t room = prepare(t, &h, iov, &n);
        ssize_t got = readv(nif->fd, iov, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EBADFD || errno == ENODEV))
            nif->error = -ENODEV; /* the interface was deleted */
        got -= t->vnet ? (ssize_t)sizeof h : 0;
        if (got <= 0)
            return 0;
        if (got == (ssize_t)room) { /* and its end is cut off: only when memory is scarce */
            nif->stats.rx_dropped++;
            nif->stats.rx_no_memory++;
            continue;
        }
        *out = make_chain(t, (uint32_t)got);
        if (t->vnet)
            (*out)->rx_csum = h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM   ? ZBUF_CSUM_PARTIAL
                              : h.flags & VIRTIO_NET_HDR_F_DATA_VALID ? ZBUF_CSUM_VALID
                                                                      : ZBUF_CSUM_UNKNOWN;
        return got;
    }
}

static unsigned tap_rx(struct netif *nif, struct zbuf **frames, unsigned max)
{
    struct tap *t = tap_of(nif);
    unsigned n = 0;
    while (n < max) {
        if (t->n_spare < t->parts)
            t->n_spare +=
                zbuf_alloc_bulk(t->budget, t->room, t->spare + t->n_spare, TAP_SPARES - t->n_spare);
        if (t->n_spare == 0) {
            drop_waiting(t);
            break;
        }
        ssize_t got = read_frame(t, &frames[n]);
        if (got == 0)
            break;
        nif->stats.rx_frames++;
        nif->stats.rx_bytes += (uint64_t)got;
        n++;
    }
    return n;
}

static unsigned tap_tx_room(const struct netif *nif)
{
    const struct tap *t = tap_of(nif);
    return TAP_QUEUE - (t->tail - t->head);
}

static void tap_tx(struct netif *nif, const struct zest_frame *frames, unsigned n)
{
    struct tap *t = tap_of(nif);
    LINK_ASSERT(n <= tap_tx_room(nif));
    for (unsigned i = 0; i < n; i++) {
        LINK_ASSERT(frames[i].n >= 1 && frames[i].n <= ZEST_FRAME_SEGS);
        LINK_ASSERT(t->vnet || (!frames[i].csum && !frames[i].gso_size));
        t->queue[t->tail++ % TAP_QUEUE] = frames[i];
        t->descs += frames[i].n;
    }
}

static void done(struct tap *t)
{
    struct zest_frame *f = &t->queue[t->head++ % TAP_QUEUE];
    for (unsigned s = 0; s < f->n; s++)
        zbuf_tx_done(t->nif.pool, f->seg[s].addr);
    t->descs -= f->n;
}

/* What is left to the kernel. Headers lie in the first descriptor. */
static struct virtio_net_hdr vnet_header(const struct zest_frame *f)
{
    struct virtio_net_hdr h = {.gso_type = VIRTIO_NET_HDR_GSO_NONE};
    if (f->csum) {
        h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        h.csum_start = f->csum_start;
        h.csum_offset = f->csum_offset;
    }
    if (f->gso_size) {
        h.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        h.gso_size = f->gso_size;
        h.hdr_len = (uint16_t)(f->csum_start + (f->seg[0].addr[f->csum_start + 12] >> 4) * 4);
    }
    return h;
}

static ssize_t write_frame(const struct tap *t, const struct zest_frame *f)
{
    struct iovec iov[1 + ZEST_FRAME_SEGS];
    struct virtio_net_hdr h = vnet_header(f);
    int n = 0;
    if (t->vnet)
        iov[n++] = (struct iovec){&h, sizeof h};
    for (unsigned s = 0; s < f->n; s++)
        iov[n++] = (struct iovec){f->seg[s].addr, f->seg[s].len};
    ssize_t sent = writev(t->nif.fd, iov, n);
    return sent < 0 ? sent : sent - (t->vnet ? (ssize_t)sizeof h : 0);
}

static int tap_kick(struct netif *nif)
{
    struct tap *t = tap_of(nif);
    while (t->head != t->tail) {
        nif->stats.tx_kicks++;
        ssize_t sent = write_frame(t, &t->queue[t->head % TAP_QUEUE]);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM))
            break; /* later */
        if (sent >= 0) {
            nif->stats.tx_frames++;
            nif->stats.tx_bytes += (uint64_t)sent;
        } else {
            nif->stats
                .tx_invalid++; /* EIO: the interface is down. Like a cable: the frame is lost */
            if (errno == EBADFD || errno == ENODEV)
                nif->error = -ENODEV;
        }
        done(t);
    }
    return nif->error;
}

static unsigned tap_in_flight(const struct netif *nif)
{
    return tap_of(nif)->descs;
}

static void tap_close(struct netif *nif)
{
    struct tap *t = tap_of(nif);
    if (nif->fd >= 0) {
        tap_kick(nif);
        close(nif->fd);
    }
    while (t->head != t->tail)
        done(t);
    zbuf_free_bulk(t->spare, t->n_spare);
    if (t->budget)
        zbuf_budget_destroy(t->budget); /* -EBUSY: frames are still with the stack */
    free(t);
}

const struct netif_ops tap_ops = {
    .rx = tap_rx,
    .tx_room = tap_tx_room,
    .tx = tap_tx,
    .kick = tap_kick,
    .in_flight = tap_in_flight,
    .close = tap_close,
};
