/* eth.c - Ethernet II: one address, no VLANs.
 *
 * Frames that the link's own filter let through by mistake (promiscuous mode, a hub, a switch that
 * floods) are not for us and are dropped here; broadcast is for ARP, and IPv4 decides about it
 * itself. No multicast group is ever joined. */
#include "eth.h"
#include "ipv4.h"
#include "stack.h"

static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

void eth_header(uint8_t *p, const uint8_t dst[6], const uint8_t src[6], uint16_t type)
{
    memcpy(p, dst, 6);
    memcpy(p + 6, src, 6);
    be16_put(p + 12, type);
}

void eth_input(struct zest *z, struct pkt *pk)
{
    if (pk->len < ETH_HLEN) {
        z->stats.drop_eth_short++;
        return;
    }
    pk->eth = pk->p;
    pk->multicast = pk->eth[0] & 1;
    if (memcmp(pk->eth, pk->multicast ? broadcast : z->cfg.mac, 6) != 0) {
        z->stats.drop_eth_not_ours++;
        return;
    }

    uint16_t type = be16_get(pk->eth + 12);
    pk->p += ETH_HLEN;
    pk->len -= ETH_HLEN;
    switch (type) {
    case ETH_TYPE_IPV4:
        ipv4_input(z, pk);
        break;
    case ETH_TYPE_ARP:
        arp_input(z, pk);
        break;
    default:
        z->stats.drop_eth_type++;
    }
}
