/* xdp.h - the AF_XDP link, shared by xdp_open.c, xdp_socket.c, xdp_reopen.c, xdp_prog.c, xdp_ring.c
 * and xdp_parts.c.
 *
 * The pool's region is the UMEM, in unaligned-chunk mode with chunks of one page. Addresses on the
 * rings are offsets into the region:
 *
 *   fill ring        the front of a 4K segment. The kernel leaves UMEM headroom (where the
 * segment's header survives) and XDP_PACKET_HEADROOM, and writes the frame after them. RX ring the
 * same address, and in its upper 16 bits how far the frame is from it TX ring          any address
 * in the region completion ring  that address again, when the kernel has finished with it
 *
 * What the kernel holds is also written down here (lent, in_flight), because a closed socket gives
 * nothing back: the segments are freed from these lists then. */
#ifndef NETIF_XDP_H
#define NETIF_XDP_H

#include <pthread.h>
#include <xdp/xsk.h>

#include "link.h"
#include "steer.h"

/* Newer than the headers of Debian 12. */
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4) /* kernel 6.6 */
#endif
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0) /* the frame goes on in the next descriptor */
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9 /* kernel 6.17: frames that a send call moves in copy mode */
#endif

#define XDP_TX_BUDGET_DEF 32 /* without it */

#define XDP_CHUNK    4096u
#define XDP_HEADROOM 256u                                    /* the kernel's XDP_PACKET_HEADROOM */
#define XDP_RX_ROOM  (XDP_CHUNK - ZBUF_GUARD - XDP_HEADROOM) /* largest frame in one segment */
#define ETH_HEADER   14u
/* Descriptors that one frame may be sent as: in copy mode the kernel makes the first the packet's
 * linear part, and a page fragment of each of the others, of which a packet has 17 (MAX_SKB_FRAGS).
 * A zero-copy driver's limit is its hardware's, and told by the kernel (6.6); no driver of
 * Linux 6.18 that takes several takes fewer than 5. */
#define XDP_FRAME_DESCS    18u
#define XDP_FRAME_DESCS_ZC 5u
#define XDP_RING_DEF       2048u
#define XDP_RING_MIN       64u
/* Segments lent to the kernel to begin with, and at least: as many frames as a connection's default
 * window is, so that what one sender may send at once is not lost while we do not run. No more:
 * what the ring goes through should stay in a core's cache. */
#define XDP_FILL_BYTES (1024u * 1024u)
#define XDP_RING_MAX   32768u

struct xdp_program;

/* What the program is told before it is loaded; as in xdp_kern.bpf.c. */
struct xdp_wants {
    uint32_t ip_be, by_port;
    uint64_t netns;
    uint8_t owner[16];
};

struct xdp_prog {
    int map_fd, link_fd;            /* the program stays attached as long as link_fd is open, or */
    struct xdp_program *dispatched; /* until it is detached from libxdp's dispatcher; NULL = not */
    struct bpf_object *obj;         /* of that */
    int owner_fd;                   /* says that we live; -1 = nobody needs to know */
    unsigned ifindex;
    uint32_t id;   /* the program's */
    uint32_t seen; /* that dispatcher is known to have it */
    int missed_fd;
    uint32_t queues; /* that the maps have room for */
    bool generic;
};

/* What the queues of one interface have in common. The first socket is also the UMEM's, and lives
 * as long as that; so the segments of a queue that was closed are kept until the last one is. */
struct xdp_share {
    pthread_mutex_t lock;
    unsigned refs;
    struct xdp_prog prog;
    struct xsk_umem *umem;
    unsigned bind_flags;    /* with which a queue could be had */
    int zero_copy_rc;       /* why not so */
    struct steer steer;     /* rules that are in the card because of us */
    struct ethtool_nic nic; /* by which they are taken out; fd -1 = there are none */
    uint32_t zc_segs; /* descriptors a frame that the driver takes in zero-copy mode; 0 = unknown */
    struct rss *rss;  /* NULL = not known, or there is one queue only */
    struct xdp *closed;
};

struct xdp {
    struct netif nif;
    struct xdp_share *share;
    struct xdp *next_closed;
    uint32_t queue;
    bool first;                    /* its socket is the UMEM's */
    struct xsk_socket *xsk;        /* NULL = closed, to be opened anew (xdp_reopen.c) */
    struct xsk_umem *umem;         /* its own, if it was opened anew; NULL = the share's */
    struct xdp_statistics counted; /* by the kernel, for sockets before this one */
    struct xsk_ring_prod fill, tx;
    struct xsk_ring_cons comp, rx;
    uint8_t *base; /* of the region */
    size_t region_size;

    /* Receiving. */
    struct zbuf_budget *budget;
    struct zbuf **lent;   /* [rx_ring]: segments that the kernel receives into */
    uint32_t *lent_free;  /* [rx_ring]: a stack of unused indices of lent[] */
    uint32_t n_lent_free; /* = how many segments the fill ring is short of */
    uint32_t rx_ring;
    uint32_t fill_target, fill_min; /* segments that the kernel is given now, and at least */
    uint32_t fill_peak, fill_age;   /* most frames found waiting, over so many polls */
    uint32_t rx_descs;              /* that a frame may come in */
    struct zbuf *rx_head, *rx_tail; /* a frame of which the rest is still to come */
    uint32_t rx_head_len;
    bool rx_skip;         /* in the middle of a frame that is thrown away */
    bool short_of_memory; /* the last refill ended early: the pool had none */
    uint64_t empty_at;    /* the kernel's count of frames without a buffer when that began */
    uint64_t rx_split;    /* frames thrown away in the middle */

    /* Sending. */
    uint64_t *in_flight; /* [2 * tx_ring]: offset + 1 of each descriptor that the kernel holds */
    uint32_t n_in_flight, next_put, next_find;
    uint32_t tx_ring;
    uint32_t tx_queued;              /* descriptors put since the last submit */
    uint64_t hold_ns, held_until_ns; /* nothing is sent until then; 0 = the device keeps up */
};

static inline struct xdp *xdp_of(const struct netif *nif)
{
    return (struct xdp *)nif;
}

/* xdp_prog.c: 0 or -errno. A sentence in err, on failure. */
void xdp_prog_init(struct xdp_prog *p);
int xdp_prog_attach(struct xdp_prog *p, const struct netif_xdp_config *cfg,
                    const struct ifinfo *info, struct netif_error *err);
int xdp_prog_add(const struct xdp_prog *p, uint32_t queue, int xsk_fd);
void xdp_prog_remove(const struct xdp_prog *p, uint32_t queue);
/* Frames that were ours, and came in on a queue without a socket. */
uint64_t xdp_prog_missed(const struct xdp_prog *p);
void xdp_prog_detach(struct xdp_prog *p);
/* Is it still on the interface? */
bool xdp_prog_attached(struct xdp_prog *p);

/* xdp_owner.c: whose a program of ours is, and whether he still lives. */
int xdp_owner_take(struct xdp_wants *w); /* a descriptor, or -errno */
bool xdp_owner_is_dead(uint32_t prog_id);

/* xdp_dispatch.c */
bool xdp_dispatch_possible(struct netif_error *err); /* err: why not */
int xdp_dispatch_attach(struct xdp_prog *p, struct bpf_object *obj, unsigned ifindex, bool generic);
void xdp_dispatch_detach(struct xdp_prog *p);
bool xdp_dispatch_attached(struct xdp_prog *p);
/* Removes what zest processes that were killed have left on the interface. How many. */
unsigned xdp_dispatch_clean(unsigned ifindex);

/* xdp_measure.c: what sending costs, into nif.caps. Before the program sends us frames. */
void xdp_measure(struct xdp *x);

/* xdp_parts.c: zb (data, len set) belongs to a frame over several descriptors, and is not its last
 * if more. The frame as a chain once it is whole, else NULL. */
struct zbuf *xdp_rx_part(struct xdp *x, struct zbuf *zb, bool more);
/* How many descriptors f takes, and what they are (at most XDP_FRAME_DESCS). */
unsigned xdp_pieces(const struct zest_frame *f);
unsigned xdp_cut(const struct xdp *x, const struct zest_frame *f, struct xdp_desc *out);

/* xdp_socket.c: 0 or -errno, and where err is given a sentence. */
int xdp_socket_umem(struct xdp *x, struct xsk_umem **umem, const char *ifname,
                    struct netif_error *err);
/* May the region be registered once more? */
bool xdp_socket_try_umem(const struct xdp *x);
/* The kernel's segments to receive into. */
int xdp_socket_fill(struct xdp *x, const char *ifname, struct netif_error *err);
/* With the best of what was asked for; keeps trying while the queue is busy. */
int xdp_socket_open(struct xdp *x, const struct netif_xdp_config *cfg, bool large,
                    struct netif_error *err);
/* Just once, with these flags. */
int xdp_socket_bind(struct xdp *x, const char *ifname, unsigned flags);
void xdp_socket_tune(struct xdp *x);

/* xdp_reopen.c: netif_ops.reopen, .may_reopen */
int xdp_reopen(struct netif *nif);
bool xdp_may_reopen(struct netif *nif);

/* xdp_ring.c */
struct xdp_statistics xdp_kernel_counts(const struct xdp *x); /* of all sockets that x had */
void xdp_refill(struct xdp *x);
bool xdp_rx_waiting(const struct netif *nif);
unsigned xdp_rx(struct netif *nif, struct zbuf **frames, unsigned max);
unsigned xdp_tx_room(const struct netif *nif);
void xdp_tx(struct netif *nif, const struct zest_frame *frames, unsigned n);
int xdp_kick(struct netif *nif);
unsigned xdp_in_flight(const struct netif *nif);
void xdp_count(struct netif *nif);
/* Frees what the kernel held; nothing is with it then. Only after the socket is closed. */
void xdp_take_back(struct xdp *x);

#endif
