/* steer.h - rules that have a card bring our frames to our queues: see steer.c. Private to netif/.
 */
#ifndef NETIF_STEER_H
#define NETIF_STEER_H

#include <stdbool.h>
#include <stdint.h>

#include "ethtool.h"
#include "netif.h"

#define STEER_RULES 256u

struct steer_wants {
    uint8_t ip[4];
    uint32_t first, n, queues;       /* ours: n from `first` on, of so many */
    const struct netif_ports *ports; /* of a host's own address; else NULL */
    unsigned n_ports;                /* ranges */
    /* Has another process a socket on that queue, or may it? NULL: none has. */
    bool (*taken)(const void *ctx, uint32_t queue);
    const void *ctx;
};

struct steer {
    struct ethtool e;
    uint32_t n; /* rules that are in the card, because of us */
    uint32_t location[STEER_RULES];
    uint8_t ip[4];
    uint32_t first, queues; /* ours */
    uint32_t arp_queue;     /* where ARP comes in, if */
    bool arp_elsewhere;     /* that is another process's */
    bool own; /* answers to our own connections are steered by their port: docs/links.md */
};

/* Gives the card what rules it takes, and removes older ones about this address. How many. */
uint32_t steer_open(struct steer *s, const struct ethtool *e, const struct steer_wants *w);
/* Takes them out again. */
void steer_close(struct steer *s);

#endif
