/* xdp_ring.c - moving frames over the four rings.
 *
 * A segment is either the pool's, the application's and the stack's, or the kernel's. Receiving
 * exchanges: what arrives is handed on, and fresh segments take its place. When the pool has none,
 * the kernel keeps receiving into what it still has, and every later poll tries again; the budget's
 * minimum makes sure that this succeeds as soon as the stack lets go of frames.
 *
 * Sending in copy mode is one system call a batch: the kernel copies each frame, carries it to the
 * other side and completes it before the call returns, mostly. Completions arrive in any order. */
#include "xdp.h"

#include <errno.h>
#include <sched.h>
#include <sys/socket.h>

#define REFILL_BATCH 64u
#define REFILL_LACK  16u   /* of the fill ring, one in so many may be missing before frames wait */
#define FILL_AGE     1024u /* polls that found frames, before the fill ring is shortened */
#define KICKS_MAX    64u   /* send calls in one kick */
#define HOLD_MIN_NS  20000u
#define HOLD_MAX_NS  1000000u

static inline uint64_t offset_of(const struct xdp *x, const void *addr)
{
    return (uint64_t)((const uint8_t *)addr - x->base);
}

/* ---- receiving ---- */

struct xdp_statistics xdp_kernel_counts(const struct xdp *x)
{
    struct xdp_statistics st = {0};
    const struct xdp_statistics *before = &x->counted;
    socklen_t len = sizeof st;
    getsockopt(x->nif.fd, SOL_XDP, XDP_STATISTICS, &st, &len);
    st.rx_dropped += before->rx_dropped;
    st.rx_ring_full += before->rx_ring_full;
    st.tx_invalid_descs += before->tx_invalid_descs;
    st.rx_fill_ring_empty_descs += before->rx_fill_ring_empty_descs;
    return st;
}

/* Frames that find no buffer while the pool has none are its doing; at other times we were slow. */
static void note_shortage(struct xdp *x, bool now_short)
{
    if (now_short == x->short_of_memory)
        return;
    uint64_t empty = xdp_kernel_counts(x).rx_fill_ring_empty_descs;
    if (now_short)
        x->empty_at = empty;
    else
        x->nif.stats.rx_no_memory += empty - x->empty_at;
    x->short_of_memory = now_short;
}

void xdp_refill(struct xdp *x)
{
    struct zbuf *fresh[REFILL_BATCH];
    for (;;) {
        uint32_t idx, lent = x->rx_ring - x->n_lent_free;
        if (lent >= x->fill_target)
            return;
        uint32_t want = x->fill_target - lent;
        if (want > REFILL_BATCH)
            want = REFILL_BATCH;
        /* The kernel publishes a received frame before it publishes that it took the buffer from
         * the fill ring, so for an instant that can look fuller than it is. */
        uint32_t room = xsk_prod_nb_free(&x->fill, want);
        if (want > room)
            want = room;
        if (want == 0)
            return;
        uint32_t got = zbuf_alloc_bulk(x->budget, XDP_CHUNK - ZBUF_OVERHEAD, fresh, want);
        if (got > 0) {
            uint32_t ok = xsk_ring_prod__reserve(&x->fill, got, &idx);
            LINK_ASSERT(ok == got);
            for (uint32_t i = 0; i < got; i++) {
                uint32_t slot = x->lent_free[--x->n_lent_free];
                x->lent[slot] = fresh[i];
                fresh[i]->user = slot;
                *xsk_ring_prod__fill_addr(&x->fill, idx + i) = offset_of(x, fresh[i]->first);
            }
            xsk_ring_prod__submit(&x->fill, got);
        }
        note_shortage(x, got < want);
        if (got < want)
            return;
    }
}

/* How many segments the kernel has to receive into. Each is written by the kernel and read by us,
 * often on another core, and the ring goes through all of them in turn: with few, they stay in the
 * cache; a long ring of them never is there (on veth that halves the rate). So it begins short,
 * doubles when most of it has filled up before we came, or the kernel ran out, and shortens when a
 * thousand looks have shown that less would do. */
static void adapt_fill(struct xdp *x, uint32_t waiting)
{
    if (waiting > x->fill_peak)
        x->fill_peak = waiting;
    if (x->fill_peak >= x->fill_target - x->fill_target / 4 && x->fill_target < x->rx_ring) {
        x->fill_target *= 2;
        x->fill_peak = x->fill_age = 0;
    } else if (++x->fill_age >= FILL_AGE) {
        if (x->fill_peak < x->fill_target / 4 && x->fill_target > x->fill_min)
            x->fill_target /= 2;
        x->fill_peak = x->fill_age = 0;
    }
}

/* The segment of a received descriptor, no longer the kernel's. */
static struct zbuf *take(struct xdp *x, uint64_t addr)
{
    struct zbuf *zb = zbuf_of(x->nif.pool, x->base + xsk_umem__extract_addr(addr) +
                                               xsk_umem__extract_offset(addr));
    LINK_ASSERT(zb);
    uint64_t slot = zb->user;
    LINK_ASSERT(slot < x->rx_ring && x->lent[slot] == zb);
    x->lent[slot] = NULL;
    x->lent_free[x->n_lent_free++] = (uint32_t)slot;
    zb->user = 0;
    zb->data = zb->first + xsk_umem__extract_offset(addr);
    return zb;
}

bool xdp_rx_waiting(const struct netif *nif)
{
    struct xdp *x = xdp_of(nif);
    return xsk_cons_nb_avail(&x->rx, 1) > 0;
}

unsigned xdp_rx(struct netif *nif, struct zbuf **frames, unsigned max)
{
    struct xdp *x = xdp_of(nif);
    uint32_t idx, got = 0, waiting = xsk_cons_nb_avail(&x->rx, x->rx_ring);
    if (waiting > 0)
        adapt_fill(x, waiting);
    uint32_t n = xsk_ring_cons__peek(&x->rx, max * x->rx_descs, &idx), i = 0;
    for (; i < n && got < max; i++) {
        const struct xdp_desc *d = xsk_ring_cons__rx_desc(&x->rx, idx + i);
        struct zbuf *zb = take(x, d->addr);
        bool more = d->options & XDP_PKT_CONTD;
        LINK_ASSERT(zb->data + d->len <= zb->first + XDP_CHUNK);
        zb->len = d->len;
        if (__builtin_expect(more || x->rx_head || x->rx_skip, 0)) {
            zb = xdp_rx_part(x, zb, more);
            if (!zb)
                continue;
        } else {
            nif->stats.rx_bytes += d->len;
        }
        __builtin_prefetch(zb->data);
        __builtin_prefetch(zb->data + 64);
        __builtin_prefetch(zb->data + 128);
        frames[got++] = zb;
    }
    nif->stats.rx_frames += got;
    if (i < n) /* enough frames: the other descriptors are for next time */
        xsk_ring_cons__cancel(&x->rx, n - i);
    if (i > 0)
        xsk_ring_cons__release(&x->rx, i);
    /* A few frames are handed on first; their places are filled by the next look. */
    uint32_t lent = x->rx_ring - x->n_lent_free;
    if (i == 0 || lent + x->fill_target / REFILL_LACK <= x->fill_target)
        xdp_refill(x);
    if (xsk_ring_prod__needs_wakeup(&x->fill))
        recvfrom(nif->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
    return got;
}

/* ---- sending ---- */

/* Twice as many places as descriptors, searched from where the last search ended: in order, which
 * is how they mostly come, each search looks at one place, and one that never comes costs one look
 * a lap. */
static void remember(struct xdp *x, uint64_t offset)
{
    uint32_t mask = 2 * x->tx_ring - 1;
    while (x->in_flight[x->next_put & mask] != 0)
        x->next_put++;
    x->in_flight[x->next_put++ & mask] = offset + 1;
    x->n_in_flight++;
}

static void forget(struct xdp *x, uint64_t offset)
{
    uint32_t mask = 2 * x->tx_ring - 1, looked = 0;
    while (x->in_flight[x->next_find & mask] != offset + 1) {
        x->next_find++;
        LINK_ASSERT(looked++ <= mask); /* completed, but never sent */
    }
    x->in_flight[x->next_find++ & mask] = 0;
    x->n_in_flight--;
}

unsigned xdp_in_flight(const struct netif *nif)
{
    return xdp_of(nif)->n_in_flight;
}

static uint32_t reap(struct xdp *x)
{
    uint32_t idx, n = xsk_ring_cons__peek(&x->comp, x->tx_ring, &idx);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t addr = *xsk_ring_cons__comp_addr(&x->comp, idx + i);
        uint64_t offset = xsk_umem__add_offset_to_addr(addr);
        forget(x, offset);
        zbuf_tx_done(x->nif.pool, x->base + offset);
    }
    if (n > 0)
        xsk_ring_cons__release(&x->comp, n);
    return n;
}

unsigned xdp_tx_room(const struct netif *nif)
{
    struct xdp *x = xdp_of(nif);
    uint32_t held = x->tx_ring - x->n_in_flight;
    uint32_t room = xsk_prod_nb_free(&x->tx, held);
    return room < held ? room : held;
}

/* A frame with a stretch of more than a page. */
static void tx_large(struct xdp *x, const struct zest_frame *f)
{
    struct xdp_desc d[XDP_FRAME_DESCS];
    uint32_t idx, n = xdp_cut(x, f, d), ok = xsk_ring_prod__reserve(&x->tx, n, &idx);
    LINK_ASSERT(n <= x->nif.caps.frame_descs && ok == n);
    for (uint32_t i = 0; i < n; i++) {
        *xsk_ring_prod__tx_desc(&x->tx, idx + i) = d[i];
        x->nif.stats.tx_bytes += d[i].len;
        remember(x, d[i].addr);
    }
    x->tx_queued += n;
}

void xdp_tx(struct netif *nif, const struct zest_frame *frames, unsigned n)
{
    struct xdp *x = xdp_of(nif);
    for (unsigned f = 0; f < n; f++) {
        const struct zest_frame *fr = &frames[f];
        if (x->rx_descs > 1 && xdp_pieces(fr) > fr->n) {
            tx_large(x, fr);
            continue;
        }
        uint32_t idx;
        uint32_t ok = xsk_ring_prod__reserve(&x->tx, fr->n, &idx);
        LINK_ASSERT(fr->n >= 1 && ok == fr->n);
        for (unsigned s = 0; s < fr->n; s++) {
            uint64_t offset = offset_of(x, fr->seg[s].addr);
            /* The kernel would skip it, and never complete it. */
            LINK_ASSERT(fr->seg[s].len > 0 && fr->seg[s].len <= XDP_CHUNK &&
                        offset + fr->seg[s].len <= x->region_size);
            struct xdp_desc *d = xsk_ring_prod__tx_desc(&x->tx, idx + s);
            d->addr = offset;
            d->len = fr->seg[s].len;
            d->options = s + 1u < fr->n ? XDP_PKT_CONTD : 0;
            nif->stats.tx_bytes += d->len;
            remember(x, offset);
        }
        x->tx_queued += fr->n;
    }
    nif->stats.tx_frames += n;
}

/* The kernel says EBUSY when the device dropped a frame for want of room: the other side's softirq
 * does not keep up, on veth mostly because its thread waits for this very core. To go on would lose
 * the rest of the ring, too. So the core is offered to others, and the ring left alone for a while.
 */
static void hold_back(struct xdp *x)
{
    x->hold_ns = x->hold_ns ? 2 * x->hold_ns : HOLD_MIN_NS;
    if (x->hold_ns > HOLD_MAX_NS)
        x->hold_ns = HOLD_MAX_NS;
    sched_yield();
    x->held_until_ns = netif_now() + x->hold_ns;
    x->nif.stats.tx_held++;
}

/* One send call moves as much as the kernel's budget, its buffers and the completion ring allow, so
 * it is repeated as long as that gets on. */
int xdp_kick(struct netif *nif)
{
    struct xdp *x = xdp_of(nif);
    if (x->tx_queued > 0) {
        xsk_ring_prod__submit(&x->tx, x->tx_queued);
        x->tx_queued = 0;
    }
    bool held = x->hold_ns > 0 && netif_now() < x->held_until_ns;
    for (unsigned i = 0; i < KICKS_MAX && !held; i++) {
        uint32_t before = __atomic_load_n(x->tx.consumer, __ATOMIC_ACQUIRE);
        if (before == *x->tx.producer || !xsk_ring_prod__needs_wakeup(&x->tx))
            break;
        nif->stats.tx_kicks++;
        int err = sendto(nif->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
        uint32_t reaped = reap(x);
        if (err == EBUSY) {
            hold_back(x);
            break;
        }
        x->hold_ns = 0;
        if (err == ENXIO || err == ENODEV) /* the socket was unbound: the interface is gone */
            nif->error = -ENODEV;
        if (err != 0 && err != EAGAIN && err != ENOBUFS && err != EINTR)
            return nif->error ? nif->error : -err;
        if (__atomic_load_n(x->tx.consumer, __ATOMIC_ACQUIRE) == before && reaped == 0)
            break;
    }
    reap(x);
    return nif->error;
}

/* ---- accounts ---- */

void xdp_count(struct netif *nif)
{
    struct xdp *x = xdp_of(nif);
    struct xdp_statistics st = xdp_kernel_counts(x);
    nif->stats.rx_dropped = st.rx_dropped + st.rx_ring_full + x->rx_split;
    nif->stats.tx_invalid = st.tx_invalid_descs;
    if (x->first)
        nif->stats.rx_missed = xdp_prog_missed(&x->share->prog);
    if (x->short_of_memory) {
        nif->stats.rx_no_memory += st.rx_fill_ring_empty_descs - x->empty_at;
        x->empty_at = st.rx_fill_ring_empty_descs;
    }
}

void xdp_take_back(struct xdp *x)
{
    zbuf_chain_free(x->rx_head);
    x->rx_head = x->rx_tail = NULL;
    x->rx_head_len = 0;
    x->rx_skip = false;
    for (uint32_t i = 0; x->lent && x->lent_free && i < x->rx_ring; i++) {
        if (!x->lent[i])
            continue;
        zbuf_free(x->lent[i]);
        x->lent[i] = NULL;
        x->lent_free[x->n_lent_free++] = i;
    }
    for (uint32_t i = 0; x->in_flight && i < 2 * x->tx_ring; i++) {
        if (x->in_flight[i] == 0)
            continue;
        zbuf_tx_done(x->nif.pool, x->base + x->in_flight[i] - 1);
        x->in_flight[i] = 0;
    }
    x->n_in_flight = x->next_put = x->next_find = 0;
}
