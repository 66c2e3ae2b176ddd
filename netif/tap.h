/* tap.h - what the two halves of the TAP link share: tap.c moves frames, tap_open.c sets it up. */
#ifndef NETIF_TAP_H
#define NETIF_TAP_H

#include "link.h"

#define TAP_ETH_HEADER 14u
#define TAP_FRAME_MAX  (TAP_ETH_HEADER + 65535u)
#define TAP_SEG_MAX    4096u /* what a frame is received into, as many of them as it takes */
#define TAP_PARTS      18u   /* of them, for the largest frame */
#define TAP_SPARES     64u
#define TAP_QUEUE      256u /* frames that wait while the kernel takes no more; a power of two */

struct tap {
    struct netif nif;
    struct zbuf_budget *budget;
    bool vnet; /* each frame has a virtio-net header in front */
    /* Empty segments kept ready, so that a poll without frames costs nothing; all of the same room,
     * `parts` of which take the largest frame. */
    struct zbuf *spare[TAP_SPARES];
    unsigned n_spare, parts;
    uint32_t room;
    struct zest_frame queue[TAP_QUEUE];
    unsigned head, tail; /* count up for ever; in_queue = tail - head */
    unsigned descs;      /* in the queue */
};

extern const struct netif_ops tap_ops;

#endif
