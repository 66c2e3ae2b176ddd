/* link.h - what every kind of link has in common. Private to netif/.
 *
 * A kind embeds struct netif as its first member and fills in the table of functions. Opening is
 * the only part that may fail halfway: each kind's open undoes what it did, in one place, by the
 * same code that closes it. */
#ifndef NETIF_LINK_H
#define NETIF_LINK_H

#include "netif.h"
#include "rss.h"

/* A bug of ours, or a kernel that breaks its word: stop here, in release builds too. */
#define LINK_ASSERT(cond)                                                                          \
    do {                                                                                           \
        if (!(cond))                                                                               \
            link_bug(#cond, __FILE__, __LINE__);                                                   \
    } while (0)

struct netif_ops {
    unsigned (*rx)(struct netif *nif, struct zbuf **frames, unsigned max);
    bool (*rx_waiting)(const struct netif *nif); /* cheap; NULL = only rx tells */
    unsigned (*tx_room)(const struct netif *nif);
    void (*tx)(struct netif *nif, const struct zest_frame *frames, unsigned n);
    int (*kick)(struct netif *nif);
    /* Descriptors that were sent and not yet given back. */
    unsigned (*in_flight)(const struct netif *nif);
    /* Brings nif->stats up to date, for kinds whose kernel side counts too; may be NULL. */
    void (*count)(struct netif *nif);
    /* Takes back what the kernel holds, lets go of it, and begins anew. 0; -EAGAIN: not yet, call
     * it again; -errno: it can't be. In between nothing comes and there is no room. nif->fd
     * changes. NULL: this kind does not. */
    int (*reopen)(struct netif *nif);
    /* Would that be allowed, for all that can be known while it is open? NULL = it would. */
    bool (*may_reopen)(struct netif *nif);
    /* Is what brings frames to us still where it was put? 0; -EUNATCH: somebody took it away;
     * -ENODEV: the interface went with it. May be NULL. */
    int (*attached)(struct netif *nif);
    void (*close)(struct netif *nif);
};

struct netif {
    const struct netif_ops *ops;
    struct zbuf_pool *pool;
    struct netif_caps caps;
    struct netif_stats stats;
    int fd;                        /* -1 = none */
    int error;                     /* -errno of a link that is gone for good */
    struct netif_capture *capture; /* NULL = none */
    struct neigh *neigh;           /* NULL, or who asks the kernel for neighbours */
    struct rss_use rss;            /* on which queue a segment comes in, if that is known */
};

/* capture.c */
void capture_rx(struct netif_capture *c, struct zbuf *const *frames, unsigned n);
void capture_tx(struct netif_capture *c, const struct zest_frame *frames, unsigned n);
void capture_input(struct netif_capture *c, struct zest *z, uint64_t now_ns, struct zbuf **frames,
                   unsigned n);
/* A ring only: has something gone wrong since it was last asked? Says what, or NULL. */
const char *capture_trouble(struct netif_capture *c, const struct zest *z, uint64_t now_ns);

_Noreturn void link_bug(const char *cond, const char *file, int line);

/* Writes the sentence; returns err, so that it can end a function. */
int link_error(struct netif_error *out, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Asks the descriptor whether the interface behind it is gone; remembers and returns nif->error. */
int link_check(struct netif *nif);

static inline unsigned link_in_flight(const struct netif *nif)
{
    return nif->ops->in_flight(nif);
}

/* Of the ring's places. */
static inline unsigned link_frame_descs(const struct netif *nif)
{
    return nif->caps.frame_descs ? nif->caps.frame_descs : 1;
}

/* ---- what the system knows of an interface (ifinfo.c) ---- */

struct ifinfo {
    unsigned index;
    bool up, carrier;
    uint32_t mtu;
    uint8_t mac[6];
    char driver[32];     /* "" = unknown */
    uint32_t queues;     /* receive queues in use; 0 = unknown */
    unsigned peer_index; /* veth: of the other end, in its own namespace; 0 = unknown */
};
/* 0 or -errno (ENODEV: there is none of that name). */
int ifinfo_get(const char *ifname, struct ifinfo *out);

#endif
