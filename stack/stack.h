/* stack.h - the inside of a struct zest, and what travels through it.
 *
 * Layers are passive modules: each keeps its state in a member of struct zest, knows the layer
 * below by its header, and calls up only by handing a packet on (eth_input -> ipv4_input ->
 * tcp_input). There is no other state: no globals, no heap. Byte order: what is named ..._be is as
 * on the wire. */
#ifndef STACK_H
#define STACK_H

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "zest.h"

/* Bugs stop the program in release builds, too. */
#undef assert
#define assert(cond) ((cond) ? (void)0 : stack_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void stack_assert_failed(const char *cond, const char *file, int line);

#define TCP_RX_FRONT 256u /* what a link leaves free in front of a frame, XDP_PACKET_HEADROOM */

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

static inline uint16_t be16_get(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}
static inline uint32_t be32_get(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline void be16_put(void *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(p, &v, 2);
}
static inline void be32_put(void *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}
static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}
static inline uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* An address as the layers above IP see it: IPv6, or IPv4 mapped (::ffff:a.b.c.d). */
struct ipaddr {
    union {
        uint8_t b[16];
        uint32_t w[4];
        uint64_t q[2];
    };
};
static inline bool ipaddr_equal(const struct ipaddr *a, const struct ipaddr *b)
{
    return a->q[0] == b->q[0] && a->q[1] == b->q[1];
}
/* What zbuf_set_holder() is told of a connection: its peer's last 32 bits of address, and port. */
uint64_t addr_holder(const struct ipaddr *ip, uint16_t port);
static inline struct ipaddr ipaddr_from_v4(uint32_t v4_be)
{
    struct ipaddr a = {.q = {0, 0}};
    a.b[10] = a.b[11] = 0xff;
    a.w[3] = v4_be;
    return a;
}

/* A received frame on its way up. zb is owned by the pkt: a layer that keeps the segment takes it
 * by setting zb to NULL; zest_input() frees what is left. */
struct pkt {
    struct zbuf *zb;
    bool parted;     /* zb is the first of a chain: see pkt.h */
    uint8_t *p;      /* first byte not yet parsed */
    uint32_t len;    /* bytes from p on that belong to the packet (link padding cut off by IP) */
    uint8_t *eth;    /* the Ethernet header */
    uint8_t *ip;     /* the IP header, once there is one */
    uint32_t ip_len; /* bytes from ip on */
    uint32_t skip;   /* parted: bytes from p on that are old, wherever that ends */
    struct ipaddr src, dst;
    bool csum_ok;   /* the link vouches for the TCP checksum */
    bool multicast; /* link-layer broadcast or multicast: never answered with an error or a RST */
};

/* The way to a peer: Ethernet and IP header ready to be copied in front of a segment. It is good as
 * long as gen is the ARP table's; then ask ipv4_path() again. */
struct ip_path {
    uint32_t gen;
    uint16_t hdr_len; /* 34 for IPv4 */
    uint8_t hdr[54];  /* total length and checksum zero */
    uint32_t hdr_sum; /* of the IP header as it stands in hdr, not folded */
};

/* Control packets that are ready to go: ARP, ICMP, RST. Bounded; what does not fit is dropped and
 * counted. */
#define CTRLQ_LEN 256u
struct ctrlq {
    struct zbuf *frame[CTRLQ_LEN];
    uint32_t head, tail;
};

#include "arp.h"
#include "icmp.h"
#include "pkt.h"
#include "record.h"
#include "tcp.h"

struct zest {
    struct zest_config cfg;
    struct zbuf_pool *pool;
    struct zbuf_budget *ctrl; /* headers, ACKs, ARP, RST */
    struct zbuf_budget *tx;   /* frames that data had to be copied into */
    bool watch;               /* the pool is in debug mode */
    uint64_t now_ns;          /* the time of the last input or output */
    uint32_t ip4_be, mask_be, gateway_be;
    struct ipaddr ip;
    struct zest_stats stats;
    struct ctrlq ctrlq;
    struct arp arp;
    struct icmp icmp;
    struct tcp tcp;
    struct record *rec; /* NULL: nothing is recorded (any more) */
    struct record record;
};

/* All but the descriptors, which are many. */
static inline void zest_frame_clear(struct zest_frame *f)
{
    f->n = 0;
    f->csum = false;
    f->why = ZEST_WHY_NEW;
    f->csum_start = f->csum_offset = f->gso_size = 0;
}

/* zest_input() and zest_output(), for api.c. */
void stack_input(struct zest *z, uint64_t now_ns, struct zbuf **frames, unsigned n);
unsigned stack_output(struct zest *z, uint64_t now_ns, struct zest_frame *out, unsigned max);

void stack_link_up(struct zest *z, uint64_t now_ns, uint32_t mtu);

/* What the pool answers is an input, too. All that the stack asks of it goes through these three,
 * or through record_ask(). */
static inline struct zbuf *stack_alloc(struct zest *z, struct zbuf_budget *budget, size_t bytes)
{
    return z->rec ? record_alloc(z->rec, budget, bytes) : zbuf_alloc_from(budget, bytes);
}
static inline bool stack_charge(struct zest *z, struct zbuf *zb, struct zbuf_budget *to)
{
    return z->rec ? record_charge(z->rec, zb, to) : zbuf_charge(zb, to) == 0;
}
static inline bool stack_claim_headroom(struct zest *z, struct zbuf *zb)
{
    return z->rec ? record_claim(z->rec, zb) : zbuf_headroom_claim(zb);
}

/* Queues a complete frame (zb->data, zb->len, from the Ethernet header on). Takes it over. */
void ctrlq_push(struct zest *z, struct zbuf *zb);
/* A segment for a control packet of payload bytes, from the control reserve; NULL (counted) if
 * there is none. */
struct zbuf *ctrl_alloc(struct zest *z, uint32_t bytes);

#endif
