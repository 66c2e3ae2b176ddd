/* rss.c - receive-side scaling, computed as the card does.
 *
 * A card with several queues hashes a segment's addresses and ports by Toeplitz' function and a
 * secret key, and looks the queue up in a table by the hash. The driver tells key and table
 * (ETHTOOL_GRSSH) and what is hashed (ETHTOOL_GRXFH), so we can tell beforehand on which queue the
 * answer to a SYN will come in, and choose the port that it is sent from accordingly.
 *
 * Nothing depends on that being right. A connection whose answer comes in elsewhere finds another
 * port as it would if nothing were known (group.c), and a card that turns out to do something else
 * than its driver says is not believed any more. */
#include "rss.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX    1024u /* bytes of key and entries of table that a driver may have */
#define TABLE_MAX  65536u
#define TUPLE      12u /* two IPv4 addresses, two ports */
#define LATELY     16u /* connections of which */
#define WRONG_MAX  4u  /* so many may have been foretold wrongly */
#define HASH_PORTS (RXH_L4_B_0_1 | RXH_L4_B_2_3)
#define HASH_ALL   (RXH_IP_SRC | RXH_IP_DST | HASH_PORTS)

uint32_t rss_toeplitz(const uint8_t *key, const uint8_t *in, unsigned len)
{
    uint32_t window =
        (uint32_t)key[0] << 24 | (uint32_t)key[1] << 16 | (uint32_t)key[2] << 8 | key[3];
    uint32_t hash = 0;
    for (unsigned i = 0; i < len; i++)
        for (unsigned bit = 8; bit-- > 0;) {
            if (in[i] >> bit & 1)
                hash ^= window;
            window = window << 1 | (key[i + 4] >> bit & 1u);
        }
    return hash;
}

uint32_t rss_queue(const struct rss *r, const struct rss_end *from, const struct rss_end *to)
{
    uint8_t in[TUPLE] = {[8] = (uint8_t)(from->port >> 8),
                         (uint8_t)from->port,
                         (uint8_t)(to->port >> 8),
                         (uint8_t)to->port};
    memcpy(in, from->ip, 4);
    memcpy(in + 4, to->ip, 4);
    /* Each field of a pair in place of one of the two, symmetric in both. */
    static const uint8_t pair[2][2] = {{0, 4}, {8, 2}}; /* where it begins, its fields' length */
    for (unsigned p = 0; p < 2 && r->xfrm; p++)
        for (unsigned i = pair[p][0]; i < pair[p][0] + (unsigned)pair[p][1]; i++) {
            uint8_t a = in[i], b = in[i + pair[p][1]], x = a ^ b;
            in[i] = r->xfrm == RSS_XFRM_SYM_XOR ? x : a | b;
            in[i + pair[p][1]] = x;
        }
    return r->queues[rss_toeplitz(r->key, in, sizeof in) % r->n];
}

bool rss_has_queue(const struct rss *r, uint32_t queue)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->queues[i] == queue)
            return true;
    return false;
}

/* Of what a TCP segment is hashed. A driver that does not say does as nearly all do; it would be
 * found out. */
static bool hashes_ports(const struct ethtool *e)
{
    struct ethtool_rxnfc what = {.cmd = ETHTOOL_GRXFH, .flow_type = TCP_V4_FLOW};
    return ethtool_ask(e, &what) != 0 || (what.data & HASH_ALL) == HASH_ALL;
}

static struct rss *take(const struct ethtool_rxfh *a)
{
    /* In newer kernels the first reserved byte is input_xfrm. */
    uint8_t xfrm = a->rsvd8[0];
    if (a->hfunc != RSS_TOEPLITZ || xfrm > RSS_XFRM_SYM_OR_XOR || a->key_size < TUPLE + 4)
        return NULL;
    struct rss *r = calloc(1, sizeof *r + a->indir_size * sizeof r->queues[0]);
    if (!r)
        return NULL;
    r->xfrm = xfrm;
    r->n = a->indir_size;
    memcpy(r->queues, a->rss_config, r->n * sizeof r->queues[0]);
    memcpy(r->key, a->rss_config + r->n, a->key_size < RSS_KEY ? a->key_size : RSS_KEY);
    return r;
}

int rss_read(const struct ethtool *e, struct rss **out)
{
    struct ethtool_rxfh size = {.cmd = ETHTOOL_GRSSH};
    int rc = ethtool_ask(e, &size);
    if (rc)
        return rc;
    if (size.indir_size == 0 || size.indir_size > TABLE_MAX || size.key_size == 0 ||
        size.key_size > KEY_MAX || !hashes_ports(e))
        return -EOPNOTSUPP;
    struct ethtool_rxfh *all =
        calloc(1, sizeof *all + size.indir_size * sizeof all->rss_config[0] + size.key_size);
    if (!all)
        return -ENOMEM;
    all->cmd = ETHTOOL_GRSSH;
    all->indir_size = size.indir_size;
    all->key_size = size.key_size;
    rc = ethtool_ask(e, all);
    /* It may have changed in between. */
    if (rc == 0 && (all->indir_size != size.indir_size || all->key_size != size.key_size))
        rc = -EOPNOTSUPP;
    if (rc == 0) {
        *out = take(all);
        rc = *out ? 0 : -EOPNOTSUPP;
    }
    free(all);
    return rc;
}

void rss_foretold(struct rss_use *u)
{
    if (++u->foretold > LATELY)
        u->foretold = u->wrong = 0;
}

void rss_was_wrong(struct rss_use *u, uint64_t changes)
{
    u->wrong += (uint32_t)(changes - u->changes);
    u->changes = changes;
    if (u->wrong >= WRONG_MAX)
        u->rss = NULL;
}
