/* rss.h - which receive queue a card will choose: see rss.c. Private to netif/. */
#ifndef NETIF_RSS_H
#define NETIF_RSS_H

#include <stdbool.h>
#include <stdint.h>

#include "ethtool.h"

#define RSS_KEY 40u /* bytes: enough for IPv6 and ports, 36, and the 32 bits that follow */

/* How a card picks the queue of a TCP segment. Read once; never changed. */
struct rss {
    uint8_t key[RSS_KEY];
    uint8_t xfrm;      /* RSS_XFRM_... */
    uint32_t n;        /* entries of the indirection table */
    uint32_t queues[]; /* [n] */
};
/* What is done to addresses and ports before they are hashed, so that both directions of a
 * connection come out alike (ethtool -X xfrm; Linux 6.8 and 6.17). */
#define RSS_TOEPLITZ        1u /* ethtool_rxfh.hfunc: a bit for each function, this is the first */
#define RSS_XFRM_SYM_XOR    1u
#define RSS_XFRM_SYM_OR_XOR 2u

/* An IPv4 address as on the wire, and a port as a number. */
struct rss_end {
    uint8_t ip[4];
    uint16_t port;
};

/* Asks the card. 0 and a malloc()ed answer; -EOPNOTSUPP: it does not tell, or its queue does not
 * depend on ports, or is computed by a function that we don't know; or another -errno. */
int rss_read(const struct ethtool *e, struct rss **out);
/* The queue that a segment from `from` to `to` comes in on. */
uint32_t rss_queue(const struct rss *r, const struct rss_end *from, const struct rss_end *to);
/* True if there are segments that come in there. */
bool rss_has_queue(const struct rss *r, uint32_t queue);

/* The Toeplitz hash of len bytes; key has len + 4 at least. */
uint32_t rss_toeplitz(const uint8_t *key, const uint8_t *in, unsigned len);

/* ---- whether that is true: each link's own account */

struct rss_use {
    const struct rss *rss;    /* NULL = not known */
    uint32_t foretold, wrong; /* connections lately, and answers that came in elsewhere */
    uint64_t changes;         /* of ports, that are counted in wrong */
};
/* A connection was given a port because of it. */
void rss_foretold(struct rss_use *u);
/* So many connections have changed their ports by now, as an answer came in on another queue. What
 * is wrong too often is not believed any more. */
void rss_was_wrong(struct rss_use *u, uint64_t changes);

#endif
