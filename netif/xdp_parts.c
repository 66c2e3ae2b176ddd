/* xdp_parts.c - frames over several descriptors: what is larger than a page (see docs/links.md).
 *
 * A descriptor is at most a chunk, and a chunk at most a page, so a larger frame is several of
 * them, all but the last marked XDP_PKT_CONTD. Received, they become a chain of segments; the last
 * ones may come with a later look at the ring than the first. To be sent, what the stack hands over
 * as one stretch of memory is cut here: each piece holds a reference of its own, as the kernel
 * gives them back one by one. */
#include "xdp.h"

#define FRAME_MAX (65535u + ETH_HEADER + 64u) /* IP's largest, and what may follow it */

/* Forgets the frame that is being put together, and what is still to come of it. */
static void skip_frame(struct xdp *x, bool more)
{
    zbuf_chain_free(x->rx_head);
    x->rx_head = x->rx_tail = NULL;
    x->rx_skip = more;
    x->rx_split++;
}

struct zbuf *xdp_rx_part(struct xdp *x, struct zbuf *zb, bool more)
{
    if (x->rx_skip) {
        zbuf_free(zb);
        x->rx_skip = more;
        return NULL;
    }
    if (!x->rx_head)
        x->rx_head = zb;
    else
        x->rx_tail->next = zb;
    x->rx_tail = zb;
    x->rx_head_len += zb->len;
    if (x->rx_head_len > FRAME_MAX || (x->rx_head != zb && zb->len == 0)) {
        x->rx_head_len = 0;
        skip_frame(x, more);
        return NULL;
    }
    if (more)
        return NULL;
    struct zbuf *head = x->rx_head;
    x->nif.stats.rx_bytes += x->rx_head_len;
    x->rx_head = x->rx_tail = NULL;
    x->rx_head_len = 0;
    return head;
}

unsigned xdp_pieces(const struct zest_frame *f)
{
    unsigned n = 0;
    for (unsigned s = 0; s < f->n; s++)
        n += (f->seg[s].len + XDP_CHUNK - 1) / XDP_CHUNK;
    return n;
}

unsigned xdp_cut(const struct xdp *x, const struct zest_frame *f, struct xdp_desc *out)
{
    unsigned n = 0;
    for (unsigned s = 0; s < f->n; s++) {
        uint8_t *p = f->seg[s].addr;
        struct zbuf *zb = NULL;
        for (uint32_t left = f->seg[s].len, len; left > 0; left -= len, p += len) {
            len = left < XDP_CHUNK ? left : XDP_CHUNK;
            if (left != f->seg[s].len) { /* the first has the stack's reference */
                if (!zb)
                    zb = zbuf_of(x->nif.pool, p);
                LINK_ASSERT(zb && p + len <= zbuf_end(zb));
                zbuf_ref(zb);
            }
            LINK_ASSERT(n < XDP_FRAME_DESCS);
            out[n++] = (struct xdp_desc){
                .addr = (uint64_t)(p - x->base), .len = len, .options = XDP_PKT_CONTD};
        }
    }
    out[n - 1].options = 0;
    return n;
}
