/* pkt.c - see pkt.h. */
#include "pkt.h"

#include "cksum.h"
#include "stack.h"

bool pkt_pull_up(struct zbuf *head, uint32_t *len)
{
    uint32_t total = head->len;

    /* Links without a byte in them count as one, so that the walk has an end. */
    for (const struct zbuf *zb = head->next; zb; zb = zb->next) {
        total += zb->len ? zb->len : 1;
        if (total > PKT_MAX || zb->flags & ZBUF_FLAG_BORROWED)
            return false;
    }
    while (head->len < PKT_HEAD && head->next) {
        struct zbuf *next = head->next;
        uint32_t n = min_u32(PKT_HEAD - head->len, next->len);
        if (zbuf_room(head) < head->len + n)
            return false;
        memcpy(head->data + head->len, next->data, n);
        head->len += n;
        next->data += n;
        next->len -= n;
        if (next->len == 0) {
            head->next = next->next;
            next->next = NULL;
            zbuf_free(next);
        }
    }
    *len = (uint32_t)zbuf_chain_len(head);
    return true;
}

/* dst NULL: only the sum. */
static uint64_t walk(const struct pkt *pk, uint64_t sum, uint8_t *dst, const uint8_t *p,
                     uint32_t len)
{
    uint32_t done = 0;
    uint32_t here = (uint32_t)(pk->zb->data + pk->zb->len - p);

    for (const struct zbuf *zb = pk->zb;; here = zb->len, p = zb->data) {
        uint32_t n = min_u32(here, len - done);
        uint64_t piece = dst ? cksum_copy(0, dst + done, p, n) : cksum_add(0, p, n);
        sum = cksum_piece(sum, piece, done);
        done += n;
        if (done == len)
            return sum;
        zb = zb->next;
        assert(zb);
    }
}

uint64_t pkt_sum(const struct pkt *pk, uint64_t sum, const uint8_t *p, uint32_t len)
{
    return pk->parted ? walk(pk, sum, NULL, p, len) : cksum_add(sum, p, len);
}

uint64_t pkt_copy(const struct pkt *pk, uint64_t sum, uint8_t *dst, const uint8_t *p, uint32_t len)
{
    return pk->parted ? walk(pk, sum, dst, p, len) : cksum_copy(sum, dst, p, len);
}
