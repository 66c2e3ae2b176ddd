/* xdp_reopen.c - a socket that gives nothing back is closed, and opened anew on the same queue.
 *
 * What it held is known (lent, in_flight), so closing it brings all of that home, each segment
 * once: what was received and not read, and what was to be sent, is lost as on any wire, and TCP
 * repeats it. The kernel may still be at a packet that it made from such a segment; if its bytes
 * change under it, its checksum is wrong, and the peer drops it.
 *
 * The kernel lets go of the queue some time after the socket is closed. A loop cannot wait for
 * that: the caller tries again. Meanwhile the link has rings in which nothing comes and nothing
 * goes.
 *
 * The UMEM that several queues share is bound to the first one's socket, and is that socket as long
 * as the others live. So who is opened anew registers the region once more, for itself. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "xdp.h"

static uint32_t no_index; /* both of a ring, and its flags: read only, as there is nothing to put */

static const struct xsk_ring_prod no_prod = {
    .producer = &no_index, .consumer = &no_index, .flags = &no_index};
static const struct xsk_ring_cons no_cons = {
    .producer = &no_index, .consumer = &no_index, .flags = &no_index};

/* The descriptor of a UMEM that others share can't be closed: its number has to stay taken. But the
 * socket behind it can be let go of. */
static void release_first(struct xdp_share *s)
{
    if (xsk_umem__delete(s->umem) == 0) {
        s->umem = NULL;
        return;
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return; /* then the queue stays busy, and that is said */
    dup3(null, xsk_umem__fd(s->umem), O_CLOEXEC);
    close(null);
}

static void let_go(struct xdp *x)
{
    x->counted = xdp_kernel_counts(x);
    xdp_prog_remove(&x->share->prog, x->queue);
    xsk_socket__delete(x->xsk);
    x->xsk = NULL;
    x->nif.fd = -1;
    if (x->umem) {
        int rc = xsk_umem__delete(x->umem);
        LINK_ASSERT(rc == 0);
        x->umem = NULL;
    } else if (x->first) {
        release_first(x->share);
    }
    xdp_take_back(x);
    x->fill = x->tx = no_prod;
    x->rx = x->comp = no_cons;
    x->tx_queued = 0;
    x->hold_ns = 0;
}

static int open_anew(struct xdp *x)
{
    const char *ifname = x->nif.caps.name;
    struct netif_error err;
    int rc = 0;
    if (!x->umem) {
        rc = xdp_socket_umem(x, &x->umem, ifname, &err);
        if (rc)
            return rc;
    }
    rc = xdp_socket_fill(x, ifname, &err);
    if (rc == 0)
        rc = xdp_socket_bind(x, ifname, x->share->bind_flags);
    if (rc) { /* these two were made, and are gone again */
        x->rx = no_cons;
        x->tx = no_prod;
        return rc;
    }
    xdp_socket_tune(x);
    return xdp_prog_add(&x->share->prog, x->queue, x->nif.fd);
}

/* Rights may have been given up since the link was opened, and a limit may not allow for the region
 * twice. Who only suspects something must not lose a link that works. */
bool xdp_may_reopen(struct netif *nif)
{
    struct xdp *x = xdp_of(nif);
    pthread_mutex_lock(&x->share->lock);
    bool may =
        x->xsk && xdp_socket_try_umem(x) && xdp_prog_add(&x->share->prog, x->queue, nif->fd) == 0;
    pthread_mutex_unlock(&x->share->lock);
    return may;
}

int xdp_reopen(struct netif *nif)
{
    struct xdp *x = xdp_of(nif);
    pthread_mutex_lock(&x->share->lock);
    if (x->xsk)
        let_go(x);
    int rc = open_anew(x);
    pthread_mutex_unlock(&x->share->lock);
    /* Still the old socket's; or the interface is down; or memory is short. All of it passes. */
    return rc == -EBUSY || rc == -ENETDOWN || rc == -ENOBUFS ? -EAGAIN : rc;
}
