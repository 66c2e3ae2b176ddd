/* eth.h - Ethernet II framing. */
#ifndef ETH_H
#define ETH_H

#include <stdint.h>

#define ETH_HLEN      14u
#define ETH_TYPE_IPV4 0x0800u
#define ETH_TYPE_ARP  0x0806u

struct zest;
struct pkt;

/* A frame from the link: checks that it is for us, and hands it to ARP or IPv4. */
void eth_input(struct zest *z, struct pkt *pk);
/* Writes the 14 bytes of a header at p. */
void eth_header(uint8_t *p, const uint8_t dst[6], const uint8_t src[6], uint16_t type);

#endif
