/* arp.h - IPv4 addresses to Ethernet addresses (RFC 826, RFC 1122 2.3.2, conflict rules of RFC
 * 5227). */
#ifndef ARP_H
#define ARP_H

#include <stdbool.h>
#include <stdint.h>

struct zest;
struct pkt;
struct zbuf;

#define ARP_ENTRIES   256u /* a power of two */
#define ARP_WAYS      8u   /* slots, next to each other, that one address may live in */
#define ARP_QUEUE_MAX 4u   /* packets that wait for one address */

#define ARP_TRIES        3u       /* requests without an answer, then we give up */
#define ARP_RETRY_NS     NS_PER_S /* RFC 1122 2.3.2.1: at most one a second to a host */
#define ARP_REACHABLE_NS (60 * NS_PER_S)
#define ARP_STALE_NS     (600 * NS_PER_S)
#define ARP_FAILED_NS    NS_PER_S
#define ARP_LOCK_NS      NS_PER_S /* the first answer stands that long against other claims */
#define ARP_DEFEND_NS    (10 * NS_PER_S) /* RFC 5227 2.4(b) DEFEND_INTERVAL */

enum arp_state { ARP_FREE, ARP_INCOMPLETE, ARP_REACHABLE, ARP_STALE, ARP_FAILED };

struct arp_entry {
    uint32_t ip_be;
    uint8_t mac[6];
    uint8_t state; /* enum arp_state */
    uint8_t tries; /* requests sent since the last answer */
    uint8_t queued;
    uint64_t due_ns;  /* next request, or expiry */
    uint64_t used_ns; /* when it was last asked for; 0 = never: learned from a request to us */
    struct zbuf *queue[ARP_QUEUE_MAX];
};

struct arp {
    struct arp_entry entry[ARP_ENTRIES];
    uint32_t gen;         /* grows whenever an answer that arp_resolve() gave may have changed:
                             resolved, moved, stale, failed */
    uint64_t due_ns;      /* the earliest due_ns of all entries, or earlier */
    uint64_t defended_ns; /* when our address was last defended; 0 = never */
};

void arp_init(struct zest *z);
void arp_fini(struct zest *z);
void arp_input(struct zest *z, struct pkt *pk);
/* 0: mac is filled in. -EAGAIN: being asked for; gen grows when that ends. -EHOSTUNREACH: asked, no
 * answer. */
int arp_resolve(struct zest *z, uint32_t ip_be, uint8_t mac[6]);
/* Sends a complete frame (Ethernet destination still blank) to ip_be now, or when its address is
 * known. Takes zb. */
void arp_send(struct zest *z, uint32_t ip_be, struct zbuf *zb);
/* Whoever is at ip_be does not seem to answer: its address is probed, and serves meanwhile. */
void arp_doubt(struct zest *z, uint32_t ip_be);
/* Tells the link that our address is at our MAC (RFC 5227 2.3). */
void arp_announce(struct zest *z);
/* Does what is due: repeats requests, ages entries. */
void arp_poll(struct zest *z);
/* When arp_poll() next has work. */
uint64_t arp_deadline(const struct zest *z);

#endif
