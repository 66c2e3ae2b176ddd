/* group.c - several links with one address, each with a stack and a thread of its own.
 *
 * Which queue a frame comes in on is decided elsewhere: by a hash in the card, by the sender's own
 * queue (veth), by the peer's mood (a Linux peer may send a connection from another queue after a
 * time-out). A connection belongs to the stack on whose queue it began, and nearly always all its
 * frames come in there. This is for those that don't, and for what concerns every stack:
 *
 *     0 --> 1 --> 2 --> ... --> n-1 --> 0         each member has one mailbox, filled by the one
 * before
 *
 * A frame for no connection of a member's stack goes on to the next member, as it lies (the pool is
 * shared). Whoever knows its connection keeps it. When it comes back to where it arrived, nobody
 * did, and that stack refuses it as if it were alone. So no table is shared, nothing is locked, and
 * frames of one connection stay in order. ARP answers arrive on one queue and are read by all.
 *
 * An answer to a SYN that came in elsewhere says that the local port was a bad choice: the
 * connection tries another, some times, before it lives with being handed its frames. */
#include "group.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BOX          2048u /* letters in a mailbox; a power of two */
#define LINE         64u
#define ETH_HEADER   14u
#define ARP_LEN      28u
#define ARP_REQUEST  1u
#define ETH_TYPE_ARP 0x0806u

struct letter {
    struct zbuf *zb;
    uint32_t origin; /* the member on whose queue it arrived */
};

struct member {
    _Alignas(LINE) _Atomic uint32_t tail; /* written by the member before */
    _Alignas(LINE) _Atomic uint32_t head; /* by the owner, as all below */
    atomic_bool told;                     /* the descriptor is, or will be, readable */
    int fd;
    _Atomic uint64_t strays, handed, refused, dropped, port_changes; /* read by anyone */
    _Alignas(LINE) struct letter box[BOX];
};

struct netif_group {
    unsigned n;
    struct member m[];
};

/* Only the owner counts. */
static void count(_Atomic uint64_t *c)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* ---- the mailboxes */

static unsigned next_of(const struct netif_group *g, unsigned member)
{
    return member + 1 < g->n ? member + 1 : 0;
}

/* Takes zb over. A full mailbox loses it, as any queue does. */
static void send_on(struct netif_group *g, unsigned from, struct zbuf *zb, uint32_t origin)
{
    struct member *to = &g->m[next_of(g, from)];
    uint32_t tail = atomic_load_explicit(&to->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&to->head, memory_order_acquire) == BOX) {
        count(&g->m[from].dropped);
        zbuf_chain_free(zb);
        return;
    }
    to->box[tail % BOX] = (struct letter){zb, origin};
    atomic_store_explicit(&to->tail, tail + 1, memory_order_release);
    if (!atomic_exchange(&to->told, true))
        eventfd_write(to->fd, 1);
}

unsigned group_size(const struct netif_group *g)
{
    return g->n;
}

/* ---- what goes where */

/* All stacks of a group ask for their neighbours themselves, and only one of them hears the answer.
 * A request is for whoever received it: one answer is enough. */
static bool concerns_all(const struct zbuf *zb)
{
    const uint8_t *p = zb->data;
    return zb->len >= ETH_HEADER + ARP_LEN && (p[12] << 8 | p[13]) == ETH_TYPE_ARP &&
           (p[ETH_HEADER + 6] << 8 | p[ETH_HEADER + 7]) != ARP_REQUEST;
}

/* A copy: a stack may write to the header of a segment that it is given. Without memory the next
 * one asks again. */
static void share(struct netif_group *g, unsigned member, const struct zbuf *zb, uint32_t origin)
{
    if (next_of(g, member) == origin)
        return;
    struct zbuf *copy = zbuf_alloc(zbuf_pool_of(zb), zb->len);
    if (!copy) {
        count(&g->m[member].dropped);
        return;
    }
    memcpy(copy->data, zb->data, zb->len);
    copy->len = zb->len;
    send_on(g, member, copy, origin);
}

unsigned group_sort(struct netif_group *g, unsigned member, struct zest *z, struct zbuf **frames,
                    unsigned n)
{
    unsigned kept = 0;
    zest_handle conn;
    if (g->n == 1)
        return n;
    for (unsigned i = 0; i < n; i++) {
        struct zbuf *zb = frames[i];
        if (i + 1 < n)
            __builtin_prefetch(frames[i + 1]->data);
        if (zest_claim(z, zb, &conn) == ZEST_CLAIM_STRAY) {
            count(&g->m[member].strays);
            send_on(g, member, zb, member);
            continue;
        }
        if (concerns_all(zb))
            share(g, member, zb, member);
        frames[kept++] = zb;
    }
    return kept;
}

/* True if zb is to go into this member's stack. */
static bool take_letter(struct netif_group *g, unsigned member, struct zest *z, struct letter l)
{
    struct member *me = &g->m[member];
    zest_handle conn;
    if (l.origin == member) {
        count(&me->refused);
        return true;
    }
    if (concerns_all(l.zb)) {
        share(g, member, l.zb, l.origin);
        return true;
    }
    switch (zest_claim(z, l.zb, &conn)) {
    case ZEST_CLAIM_STRAY:
        send_on(g, member, l.zb, l.origin);
        return false;
    case ZEST_CLAIM_ANSWER:
        if (zest_change_port(z, conn, 0) == 0) {
            count(&me->port_changes);
            zbuf_chain_free(l.zb);
            return false;
        }
        break;
    case ZEST_CLAIM_OURS:
        break;
    }
    count(&me->handed);
    return true;
}

unsigned group_take(struct netif_group *g, unsigned member, struct zest *z, struct zbuf **frames,
                    unsigned max, bool *looked)
{
    struct member *me = &g->m[member];
    unsigned kept = 0;
    uint32_t head = atomic_load_explicit(&me->head, memory_order_relaxed);
    /* Before the look at the box: what is put there later tells us again. */
    if (atomic_load_explicit(&me->told, memory_order_relaxed))
        atomic_exchange(&me->told, false);
    uint32_t tail = atomic_load_explicit(&me->tail, memory_order_acquire);
    *looked = head != tail;
    for (; head != tail && kept < max; head++) {
        struct letter l = me->box[head % BOX];
        if (take_letter(g, member, z, l))
            frames[kept++] = l.zb;
    }
    atomic_store_explicit(&me->head, head, memory_order_release);
    return kept;
}

int group_fd(const struct netif_group *g, unsigned member)
{
    return g->m[member].fd;
}

void group_woken(struct netif_group *g, unsigned member)
{
    eventfd_t value;
    eventfd_read(g->m[member].fd, &value);
}

/* ---- making one */

int netif_group_create(unsigned n, struct netif_group **out)
{
    if (n == 0 || n > NETIF_QUEUES_MAX)
        return -EINVAL;
    size_t size = sizeof(struct netif_group) + n * sizeof(struct member);
    size = (size + LINE - 1) / LINE * LINE;
    struct netif_group *g = aligned_alloc(LINE, size);
    if (!g)
        return -ENOMEM;
    memset(g, 0, size);
    g->n = n;
    int rc = 0;
    for (unsigned i = 0; i < n; i++) {
        g->m[i].fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (g->m[i].fd < 0)
            rc = -errno;
    }
    if (rc)
        netif_group_destroy(g);
    else
        *out = g;
    return rc;
}

void netif_group_destroy(struct netif_group *g)
{
    if (!g)
        return;
    for (unsigned i = 0; i < g->n; i++) {
        struct member *m = &g->m[i];
        for (; m->head != m->tail; m->head++)
            zbuf_chain_free(m->box[m->head % BOX].zb);
        if (m->fd >= 0)
            close(m->fd);
    }
    free(g);
}

void netif_group_get_stats(const struct netif_group *g, unsigned member,
                           struct netif_group_stats *out)
{
    const struct member *m = &g->m[member];
    *out = (struct netif_group_stats){
        .strays = atomic_load_explicit(&m->strays, memory_order_relaxed),
        .handed = atomic_load_explicit(&m->handed, memory_order_relaxed),
        .refused = atomic_load_explicit(&m->refused, memory_order_relaxed),
        .dropped = atomic_load_explicit(&m->dropped, memory_order_relaxed),
        .port_changes = atomic_load_explicit(&m->port_changes, memory_order_relaxed),
    };
}
