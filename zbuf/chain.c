/* chain.c - payloads of more than one segment.
 *
 * A segment has one header and so can be in one chain, with one piece of its payload. Where a
 * second view of it is needed (a chain cut inside a segment, a clone), a small segment takes the
 * place in the chain: its data point into the other one, on which it holds a reference. It is freed
 * as any other, and gives that reference back (free.c). */
#include "internal.h"

#define PIECE_MAX (ZBUF_SEG_MAX - ZBUF_OVERHEAD)

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Links of `piece` bytes; false if there is not the memory for all. */
static bool add_frames(struct zbuf_budget *budget, size_t bytes, size_t piece, struct zbuf ***end)
{
    while (bytes > 0) {
        struct zbuf *zb[32];
        unsigned want = (unsigned)min_size((bytes + piece - 1) / piece, 32);
        unsigned got = zbuf_alloc_bulk(budget, piece, zb, want);
        for (unsigned i = 0; i < got; i++) {
            zb[i]->len = (uint32_t)min_size(bytes, piece);
            bytes -= zb[i]->len;
            **end = zb[i];
            *end = &zb[i]->next;
        }
        if (got < want)
            return false;
    }
    return true;
}

/* The largest segments there are: a size that can't be had is not tried again. */
static bool add_large(struct zbuf_budget *budget, size_t bytes, struct zbuf ***end)
{
    size_t piece = PIECE_MAX;
    for (unsigned links = 0; bytes > 0 && links < ZBUF_CHAIN_MAX;) {
        struct zbuf *zb = zbuf_alloc_from(budget, min_size(bytes, piece));
        if (!zb) {
            uint32_t seg = class_size(class_for(min_size(bytes, piece)));
            if (seg == ZBUF_SEG_MIN)
                return false;
            piece = seg / 2 - ZBUF_OVERHEAD;
            continue;
        }
        zb->len = (uint32_t)min_size(bytes, zbuf_room(zb));
        bytes -= zb->len;
        **end = zb;
        *end = &zb->next;
        links++;
    }
    return bytes == 0;
}

struct zbuf *zbuf_chain_alloc(struct zbuf_budget *budget, size_t bytes, uint32_t frame)
{
    size_t piece = frame ? frame : PIECE_MAX;
    if (frame > PIECE_MAX || bytes / piece >= ZBUF_CHAIN_MAX) {
        errno = EMSGSIZE;
        return NULL;
    }
    if (bytes == 0)
        return zbuf_alloc_from(budget, 0);
    struct zbuf *chain = NULL, **end = &chain;
    if (frame ? add_frames(budget, bytes, piece, &end) : add_large(budget, bytes, &end))
        return chain;
    zbuf_chain_free(chain);
    errno = ENOBUFS;
    return NULL;
}

void zbuf_chain_free(struct zbuf *chain)
{
    while (chain) {
        struct zbuf *next = chain->next;
        zbuf_free(chain);
        chain = next;
    }
}

size_t zbuf_chain_len(const struct zbuf *chain)
{
    size_t len = 0;
    for (; chain; chain = chain->next)
        len += chain->len;
    return len;
}

unsigned zbuf_chain_count(const struct zbuf *chain)
{
    unsigned n = 0;
    for (; chain; chain = chain->next)
        n++;
    return n;
}

struct zbuf *zbuf_chain_last(struct zbuf *chain)
{
    while (chain->next)
        chain = chain->next;
    return chain;
}

void zbuf_chain_append(struct zbuf *chain, struct zbuf *tail)
{
    zbuf_chain_last(chain)->next = tail;
}

struct zbuf *zbuf_chain_at(struct zbuf *chain, size_t off, uint32_t *at)
{
    for (; chain; chain = chain->next) {
        if (off < chain->len) {
            *at = (uint32_t)off;
            return chain;
        }
        off -= chain->len;
    }
    return NULL;
}

/* A link that lends len bytes at data, which are those of `of`. */
static struct zbuf *borrow(struct zbuf_budget *budget, struct zbuf *of, uint8_t *data, uint32_t len)
{
    struct zbuf *link = zbuf_alloc_from(budget, 0);
    if (!link)
        return NULL;
    struct zbuf *from = of->flags & FLAG_BORROWED ? lender(of) : of;
    link->priv = (uintptr_t)zbuf_ref(from);
    link->flags |= FLAG_BORROWED;
    link->data = data;
    link->len = len;
    return link;
}

int zbuf_chain_split(struct zbuf *chain, size_t off, struct zbuf_budget *budget, struct zbuf **tail)
{
    struct zbuf *zb = chain;
    if (off == 0)
        return -EINVAL;
    while (zb && off > zb->len) {
        off -= zb->len;
        zb = zb->next;
    }
    if (!zb || (off == zb->len && !zb->next))
        return -EINVAL;
    struct zbuf *rest = zb->next;
    if (off < zb->len) {
        struct zbuf *link = borrow(budget, zb, zb->data + off, zb->len - (uint32_t)off);
        if (!link)
            return -ENOBUFS;
        link->next = rest;
        rest = link;
        zb->len = (uint32_t)off;
    }
    zb->next = NULL;
    *tail = rest;
    return 0;
}

struct zbuf *zbuf_chain_trim_front(struct zbuf *chain, size_t bytes)
{
    while (bytes >= chain->len && chain->next) {
        struct zbuf *next = chain->next;
        bytes -= chain->len;
        zbuf_free(chain);
        chain = next;
    }
    uint32_t cut = (uint32_t)min_size(bytes, chain->len);
    chain->data += cut;
    chain->len -= cut;
    return chain;
}

struct zbuf *zbuf_chain_trim_back(struct zbuf *chain, size_t bytes)
{
    size_t len = zbuf_chain_len(chain);
    size_t keep = bytes < len ? len - bytes : 0;
    struct zbuf *zb = chain;
    while (keep > zb->len) {
        keep -= zb->len;
        zb = zb->next;
    }
    zb->len = (uint32_t)keep;
    zbuf_chain_free(zb->next);
    zb->next = NULL;
    return chain;
}

size_t zbuf_chain_copy_out(const struct zbuf *chain, size_t off, void *dst, size_t len)
{
    size_t done = 0;
    for (; chain && done < len; chain = chain->next) {
        if (off >= chain->len) {
            off -= chain->len;
            continue;
        }
        size_t n = min_size(chain->len - off, len - done);
        memcpy((uint8_t *)dst + done, chain->data + off, n);
        done += n;
        off = 0;
    }
    return done;
}

size_t zbuf_chain_copy_in(struct zbuf *chain, size_t off, const void *src, size_t len)
{
    size_t done = 0;
    for (; chain && done < len; chain = chain->next) {
        if (off >= chain->len) {
            off -= chain->len;
            continue;
        }
        if (chain->flags & FLAG_BORROWED)
            break;
        size_t n = min_size(chain->len - off, len - done);
        memcpy(chain->data + off, (const uint8_t *)src + done, n);
        done += n;
        off = 0;
    }
    return done;
}

struct zbuf *zbuf_chain_clone(const struct zbuf *chain, struct zbuf_budget *budget)
{
    struct zbuf *clone = NULL, **end = &clone;
    for (const struct zbuf *zb = chain; zb; zb = zb->next) {
        struct zbuf *link = borrow(budget, (struct zbuf *)zb, zb->data, zb->len);
        if (!link) {
            zbuf_chain_free(clone);
            errno = ENOBUFS;
            return NULL;
        }
        *end = link;
        end = &link->next;
    }
    return clone;
}
