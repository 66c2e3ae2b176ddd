/* tcp_frame.c - how a segment's payload becomes a frame.
 *
 *   1. In place: the payload is the front of its zbuf, so the headers go into the headroom before
 * it, and the frame is one descriptor. Only one sender at a time may have the headroom, and not
 * while a link still owns a frame there: that is what the claim is for.
 *   2. Gathered: a header segment, then the payload where it lies, one descriptor for each pbuf.
 *   3. Linearised: header and payload in a segment of their own. This is a copy, and counted.
 *
 * 1 goes on every link and is tried first. What 2 costs against 3 is a property of the link
 * (zest_config.gather). */
#include "cksum.h"
#include "tcp_conn.h"

/* The payload begins at the front of pb's zbuf, and all of it lies in pb. */
static bool fits_headroom(const struct tcp_payload *pl, uint32_t hdr_len)
{
    const struct pbuf *pb = pl->pb;
    const uint8_t *lowest = pb->zb->first + ZBUF_GUARD;

    return pl->off == 0 && pb->addr == pb->zb->data && (size_t)(pb->addr - lowest) >= hdr_len;
}

/* pb was made to be one frame: it fits one, and nearly fills it. */
static bool is_one_frame(const struct pbuf *pb, uint32_t limit, uint32_t hdr_len)
{
    struct tcp_payload whole = {(struct pbuf *)(uintptr_t)pb, 0, limit};

    return pb->len <= limit && pb->len >= limit - limit / 8 && fits_headroom(&whole, hdr_len);
}

/* So many bytes of pl as there are descriptors for. */
static uint32_t gatherable(const struct zest *z, const struct tcp_payload *pl)
{
    uint32_t len = pl->pb->len - pl->off;
    const struct pbuf *next = pl->pb->next;

    for (unsigned n = 2; next && n < z->cfg.gather_max && len < pl->len; n++, next = next->next)
        len += next->len;
    return min_u32(len, pl->len);
}

/* How much of pl to put into one frame. A zbuf that was made to be one frame should leave as one,
 * even if a few more bytes would have fitted from the next one. And where frames were cut across
 * zbufs (a write that took a part, a retransmission), one short segment puts an end to it, if a run
 * of such zbufs follows: else each would be copied. A frame that the link cuts up is none of these:
 * it takes whole segments, as many as there are descriptors for. */
uint32_t tcp_frame_cut(const struct zest *z, const struct tcp_payload *pl, uint32_t hdr_len,
                       uint32_t mss)
{
    uint32_t here = pl->pb->len - pl->off;
    const struct pbuf *next = pl->pb->next;

    if (here >= pl->len)
        return pl->len;
    if (pl->len > mss) {
        uint32_t len = gatherable(z, pl);
        return len > mss && len < pl->len ? len - len % mss : len;
    }
    if (fits_headroom(pl, hdr_len) && here >= pl->len - pl->len / 8)
        return here;
    if (next && next->next && is_one_frame(next, pl->len, hdr_len) &&
        is_one_frame(next->next, pl->len, hdr_len))
        return here;
    if (z->cfg.gather != ZEST_GATHER_ALWAYS)
        return pl->len;
    return gatherable(z, pl);
}

static int in_place(struct zest *z, const struct tcp_payload *pl, struct zest_frame *f,
                    uint8_t **payload, uint64_t *sum)
{
    zbuf_ref(pl->pb->zb);
    f->n = 1;
    f->seg[0].addr = pl->pb->addr;
    f->seg[0].len = pl->len;
    *payload = pl->pb->addr;
    if (!z->cfg.tx_csum_offload)
        *sum = cksum_add(*sum, pl->pb->addr, pl->len);
    z->stats.tx_headroom_frames++;
    return 0;
}

static int gathered(struct zest *z, const struct tcp_payload *pl, struct zest_frame *f,
                    uint8_t **payload, uint64_t *sum)
{
    struct zbuf *head = stack_alloc(z, z->ctrl, 0);
    uint32_t off = pl->off, done = 0;

    if (!head)
        return -ENOBUFS;
    f->n = 1;
    f->seg[0].addr = head->data;
    f->seg[0].len = 0;
    *payload = head->data;
    for (struct pbuf *pb = pl->pb; done < pl->len; pb = pb->next, off = 0) {
        assert(f->n < ZEST_FRAME_SEGS);
        uint32_t n = min_u32(pb->len - off, pl->len - done);
        zbuf_ref(pb->zb);
        f->seg[f->n].addr = pb->addr + off;
        f->seg[f->n].len = n;
        f->n++;
        if (!z->cfg.tx_csum_offload)
            *sum = cksum_piece(*sum, cksum_add(0, pb->addr + off, n), done);
        done += n;
    }
    z->stats.tx_gather_frames++;
    return 0;
}

static int linearised(struct zest *z, const struct tcp_payload *pl, struct zest_frame *f,
                      uint8_t **payload, uint64_t *sum)
{
    struct zbuf *zb = stack_alloc(z, z->tx, pl->len);
    uint32_t off = pl->off, done = 0;

    if (!zb)
        return -ENOBUFS;
    for (struct pbuf *pb = pl->pb; done < pl->len; pb = pb->next, off = 0) {
        uint32_t n = min_u32(pb->len - off, pl->len - done);
        if (z->cfg.tx_csum_offload)
            memcpy(zb->data + done, pb->addr + off, n);
        else
            *sum = cksum_piece(*sum, cksum_copy(0, zb->data + done, pb->addr + off, n), done);
        done += n;
    }
    f->n = 1;
    f->seg[0].addr = zb->data;
    f->seg[0].len = pl->len;
    *payload = zb->data;
    z->stats.tx_linear_frames++;
    z->stats.tx_copied_bytes += pl->len;
    return 0;
}

/* Fills in f with descriptors that hold pl; *payload is where the headers must end, hdr_len bytes
 * of room in front, in the first descriptor (which the caller lengthens). Adds the payload to *sum
 * unless the link does that. */
int tcp_frame_data(struct zest *z, const struct tcp_payload *pl, uint32_t hdr_len,
                   struct zest_frame *f, uint8_t **payload, uint64_t *sum)
{
    if (fits_headroom(pl, hdr_len) && pl->pb->len >= pl->len && stack_claim_headroom(z, pl->pb->zb))
        return in_place(z, pl, f, payload, sum);
    if (z->cfg.gather == ZEST_GATHER_ALWAYS)
        return gathered(z, pl, f, payload, sum);
    return linearised(z, pl, f, payload, sum);
}
