/* neigh.h - beside the kernel at one address: its ports, its neighbours. Private to netif/. */
#ifndef NETIF_NEIGH_H
#define NETIF_NEIGH_H

#include "link.h"

struct neigh;

/* Keeps the kernel's sockets away from ports, and gets ready to ask for neighbours. */
int neigh_open(const struct netif_xdp_config *cfg, unsigned ifindex, const uint8_t mac[6],
               bool hold_ports, struct neigh **out, struct netif_error *err);
void neigh_close(struct neigh *ng);
/* Becomes readable when the kernel has something to tell. */
int neigh_fd(const struct neigh *ng);
/* Reads it, so that it is quiet again. */
void neigh_woken(struct neigh *ng);

/* True if the frame is ARP: it does not go out. What it asked is answered by neigh_rx(). */
bool neigh_takes(struct neigh *ng, const uint8_t *frame, uint32_t len);
/* Answers, as ARP frames in segments of pool; at most max. */
unsigned neigh_rx(struct neigh *ng, struct zbuf_pool *pool, struct zbuf **frames, unsigned max);

/* A local port after `last` (0 = begin anywhere) of those that are ours; 0 = there are none. */
uint16_t neigh_port(const struct neigh *ng, uint16_t last);
unsigned neigh_ports(const struct neigh *ng);
/* The address, as on the wire. */
const uint8_t *neigh_ip(const struct neigh *ng);

#endif
