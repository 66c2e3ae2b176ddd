/* arp.c - the neighbour table.
 *
 *                 resolve               answer                60 s
 *     FREE ---------------> INCOMPLETE --------> REACHABLE -----------> STALE ---(600 s unused)-->
 * FREE |      ^                ^                  |   ^ 3 requests |      | 3 unicast      | answer
 * |   | a request to us, or v      | without answer |                  |   | a claim unasked for
 *                          FAILED   +----------------+---- probing <----+ resolve
 *
 * An entry that is in use is refreshed without a pause: the old address serves while it is probed
 * by unicast (RFC 1122 2.3.2.1), and only when nobody answers there is it asked for anew. Users
 * keep a copy of the answer and compare `gen`; it grows whenever a copy may have gone bad, and each
 * time an entry turns stale, so that who still uses it comes back and thereby starts the probe.
 *
 * What is believed: an answer to our own request; a claim, asked or not, about an address that we
 * already hold (RFC 826), as unconfirmed; and the sender of a request for our address, who is about
 * to talk to us. Nothing else makes an entry, and what nobody here asked for never displaces what
 * somebody did, so the table can't be flooded out. An address lives in one of ARP_WAYS slots from
 * its keyed hash on; when they are full, the least recently used goes. */
#include "arp.h"
#include "eth.h"
#include "ipv4.h"
#include "siphash.h"
#include "stack.h"

#define ARP_LEN     28u
#define ARP_REQUEST 1u
#define ARP_REPLY   2u

static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* ---- what we send */

static void send_arp(struct zest *z, uint16_t op, const uint8_t eth_dst[6], const uint8_t tha[6],
                     uint32_t tpa_be)
{
    struct zbuf *zb = ctrl_alloc(z, ETH_HLEN + ARP_LEN);
    if (!zb)
        return;
    uint8_t *p = zb->data;
    eth_header(p, eth_dst, z->cfg.mac, ETH_TYPE_ARP);
    p += ETH_HLEN;
    be16_put(p, 1); /* Ethernet */
    be16_put(p + 2, ETH_TYPE_IPV4);
    p[4] = 6;
    p[5] = 4;
    be16_put(p + 6, op);
    memcpy(p + 8, z->cfg.mac, 6);
    memcpy(p + 14, &z->ip4_be, 4);
    memcpy(p + 18, tha, 6);
    memcpy(p + 24, &tpa_be, 4);
    zb->len = ETH_HLEN + ARP_LEN;
    ctrlq_push(z, zb);
}

static void send_request(struct zest *z, const struct arp_entry *e, const uint8_t eth_dst[6])
{
    static const uint8_t unknown[6] = {0};
    send_arp(z, ARP_REQUEST, eth_dst, unknown, e->ip_be);
}

void arp_announce(struct zest *z)
{
    static const uint8_t unknown[6] = {0};
    send_arp(z, ARP_REQUEST, broadcast, unknown, z->ip4_be);
}

static void send_frame(struct zest *z, const struct arp_entry *e, struct zbuf *zb)
{
    memcpy(zb->data, e->mac, 6);
    ctrlq_push(z, zb);
}

/* ---- the table */

static uint32_t first_slot(const struct zest *z, uint32_t ip_be)
{
    return (uint32_t)siphash(z->cfg.secret, &ip_be, sizeof ip_be);
}

static struct arp_entry *find(struct zest *z, uint32_t ip_be)
{
    uint32_t slot = first_slot(z, ip_be);
    for (uint32_t i = 0; i < ARP_WAYS; i++) {
        struct arp_entry *e = &z->arp.entry[(slot + i) & (ARP_ENTRIES - 1)];
        if (e->state != ARP_FREE && e->ip_be == ip_be)
            return e;
    }
    return NULL;
}

static void drop_queue(struct zest *z, struct arp_entry *e)
{
    for (uint32_t i = 0; i < e->queued; i++)
        zbuf_free(e->queue[i]);
    z->stats.drop_arp_queue += e->queued;
    e->queued = 0;
}

/* May e make way? What waits for an answer never does: whoever waits for it must hear of the end.
 * For an address that nobody here asked for (`wanted` false) only what nobody asked for does. */
static bool evictable(const struct arp_entry *e, bool wanted)
{
    return e->state == ARP_FREE || (e->state != ARP_INCOMPLETE && (wanted || e->used_ns == 0));
}

/* A blank entry for ip_be, or NULL. */
static struct arp_entry *make(struct zest *z, uint32_t ip_be, bool wanted)
{
    uint32_t slot = first_slot(z, ip_be);
    struct arp_entry *victim = NULL;

    for (uint32_t i = 0; i < ARP_WAYS; i++) {
        struct arp_entry *e = &z->arp.entry[(slot + i) & (ARP_ENTRIES - 1)];
        if (!evictable(e, wanted))
            continue;
        if (e->state == ARP_FREE) {
            victim = e;
            break;
        }
        if (!victim || e->used_ns < victim->used_ns)
            victim = e;
    }
    if (!victim)
        return NULL;
    if (victim->used_ns != 0 && (victim->state == ARP_REACHABLE || victim->state == ARP_STALE))
        z->arp.gen++; /* copies of it would never be refreshed again */
    assert(victim->queued == 0);
    *victim = (struct arp_entry){.ip_be = ip_be};
    return victim;
}

static void arm(struct zest *z, struct arp_entry *e, uint64_t after_ns)
{
    e->due_ns = z->now_ns + after_ns;
    z->arp.due_ns = min_u64(z->arp.due_ns, e->due_ns);
}

static void ask(struct zest *z, struct arp_entry *e)
{
    send_request(z, e, e->state == ARP_STALE ? e->mac : broadcast);
    e->tries++;
    arm(z, e, ARP_RETRY_NS);
}

static void start_asking(struct zest *z, struct arp_entry *e)
{
    e->state = ARP_INCOMPLETE;
    e->tries = 0;
    ask(z, e);
}

static void become(struct zest *z, struct arp_entry *e, enum arp_state state, uint64_t for_ns)
{
    e->state = (uint8_t)state;
    e->tries = 0;
    arm(z, e, for_ns);
}

/* ---- what we hear */

/* The host at e->ip_be says that its address is mac. confirmed: in answer to us. */
static void learn(struct zest *z, struct arp_entry *e, const uint8_t mac[6], bool confirmed)
{
    bool had_mac = e->state == ARP_REACHABLE || e->state == ARP_STALE;
    bool moved = !had_mac || memcmp(e->mac, mac, 6) != 0;
    /* Of several hosts that answer, the first is taken: else two of them would have every
     * connection of ours swing between them. */
    if (moved && e->state == ARP_REACHABLE &&
        z->now_ns + ARP_REACHABLE_NS < e->due_ns + ARP_LOCK_NS)
        return;
    if (!moved && !confirmed)
        return;

    memcpy(e->mac, mac, 6);
    if (confirmed)
        become(z, e, ARP_REACHABLE, ARP_REACHABLE_NS);
    else
        become(z, e, ARP_STALE, ARP_STALE_NS);
    if (moved && e->used_ns != 0)
        z->arp.gen++;
    for (uint32_t i = 0; i < e->queued; i++)
        send_frame(z, e, e->queue[i]);
    e->queued = 0;
}

/* RFC 5227 2.4(b): another host uses our address. Say once that it is ours; if both went on saying
 * so, the link would be flooded. */
static void conflict(struct zest *z)
{
    struct arp *arp = &z->arp;
    z->stats.arp_conflicts++;
    if (arp->defended_ns != 0 && z->now_ns < arp->defended_ns + ARP_DEFEND_NS)
        return;
    arp->defended_ns = max_u64(z->now_ns, 1);
    arp_announce(z);
}

static bool is_neighbour(const struct zest *z, uint32_t ip_be)
{
    return ((ip_be ^ z->ip4_be) & z->mask_be) == 0 || ip_be == z->gateway_be;
}

void arp_input(struct zest *z, struct pkt *pk)
{
    static const uint8_t ethernet_ipv4[6] = {0, 1, ETH_TYPE_IPV4 >> 8, ETH_TYPE_IPV4 & 255, 6, 4};
    const uint8_t *p = pk->p;
    if (pk->len < ARP_LEN || memcmp(p, ethernet_ipv4, 6) != 0) {
        z->stats.drop_arp_bad++;
        return;
    }
    uint16_t op = be16_get(p + 6);
    const uint8_t *sha = p + 8;
    uint32_t spa, tpa;
    memcpy(&spa, p + 14, 4);
    memcpy(&tpa, p + 24, 4);
    bool to_us = tpa == z->ip4_be;
    bool probe = op == ARP_REQUEST && spa == 0; /* RFC 5227 2.1.1: is that address taken? */

    if ((op != ARP_REQUEST && op != ARP_REPLY) || (sha[0] & 1) ||
        (!probe && ipv4_bad_peer(z, spa))) {
        z->stats.drop_arp_bad++;
        return;
    }
    if (spa == z->ip4_be) {
        if (memcmp(sha, z->cfg.mac, 6) != 0)
            conflict(z);
        else
            z->stats.drop_arp_not_ours++; /* our own, come back by a loop in the link */
        return;
    }

    struct arp_entry *e = find(z, spa);
    bool asks_us = op == ARP_REQUEST && to_us;
    if (!e && !asks_us) {
        z->stats.drop_arp_not_ours++;
        return;
    }
    bool asked = e && (e->state == ARP_INCOMPLETE || e->state == ARP_FAILED || e->tries > 0);
    if (!e && !probe && is_neighbour(z, spa))
        e = make(z, spa, false);
    if (e)
        learn(z, e, sha, asked && op == ARP_REPLY && to_us && !pk->multicast);
    if (asks_us)
        send_arp(z, ARP_REPLY, sha, sha, spa);
}

/* ---- what the stack asks */

/* The entry of ip_be, being asked for if it was unknown. NULL: no room. */
static struct arp_entry *lookup(struct zest *z, uint32_t ip_be)
{
    struct arp_entry *e = find(z, ip_be);
    if (!e || (e->state == ARP_FAILED && z->now_ns >= e->due_ns)) {
        if (!e)
            e = make(z, ip_be, true);
        if (!e)
            return NULL;
        start_asking(z, e);
    } else if (e->state == ARP_STALE && e->tries == 0) {
        ask(z, e);
    }
    e->used_ns = max_u64(z->now_ns, 1);
    return e;
}

int arp_resolve(struct zest *z, uint32_t ip_be, uint8_t mac[6])
{
    struct arp_entry *e = lookup(z, ip_be);
    /* No room means that all its slots wait for answers: gen will grow when one of them ends. */
    if (!e || e->state == ARP_INCOMPLETE)
        return -EAGAIN;
    if (e->state == ARP_FAILED)
        return -EHOSTUNREACH;
    memcpy(mac, e->mac, 6);
    return 0;
}

void arp_send(struct zest *z, uint32_t ip_be, struct zbuf *zb)
{
    struct arp_entry *e = lookup(z, ip_be);
    if (!e || e->state == ARP_FAILED) {
        z->stats.drop_arp_queue++;
        zbuf_free(zb);
        return;
    }
    if (e->state != ARP_INCOMPLETE) {
        send_frame(z, e, zb);
        return;
    }
    if (e->queued == ARP_QUEUE_MAX) { /* RFC 1122 2.3.2.2: keep the latest */
        zbuf_free(e->queue[0]);
        z->stats.drop_arp_queue++;
        /* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what is moved */
        memmove(e->queue, e->queue + 1, sizeof e->queue - sizeof e->queue[0]);
        e->queued--;
    }
    e->queue[e->queued++] = zb;
}

void arp_doubt(struct zest *z, uint32_t ip_be)
{
    struct arp_entry *e = find(z, ip_be);

    if (!e || (e->state != ARP_REACHABLE && e->state != ARP_STALE) || e->tries > 0)
        return;
    e->state = ARP_STALE;
    ask(z, e);
}

/* ---- time */

static void entry_due(struct zest *z, struct arp_entry *e)
{
    switch (e->state) {
    case ARP_INCOMPLETE:
        if (e->tries < ARP_TRIES) {
            ask(z, e);
            break;
        }
        drop_queue(z, e);
        become(z, e, ARP_FAILED, ARP_FAILED_NS);
        z->arp.gen++;
        break;
    case ARP_REACHABLE:
        become(z, e, ARP_STALE, ARP_STALE_NS);
        z->arp.gen++;
        break;
    case ARP_STALE:
        if (e->tries == 0) {
            e->state = ARP_FREE;
        } else if (e->tries < ARP_TRIES) {
            ask(z, e);
        } else {
            start_asking(z, e);
            z->arp.gen++;
        }
        break;
    default: /* failed: whoever comes next may ask again */
        e->state = ARP_FREE;
    }
}

void arp_poll(struct zest *z)
{
    if (z->now_ns < z->arp.due_ns)
        return;
    uint64_t next = ZEST_NEVER;
    for (uint32_t i = 0; i < ARP_ENTRIES; i++) {
        struct arp_entry *e = &z->arp.entry[i];
        if (e->state != ARP_FREE && e->due_ns <= z->now_ns)
            entry_due(z, e);
        if (e->state != ARP_FREE)
            next = min_u64(next, e->due_ns);
    }
    z->arp.due_ns = next;
}

uint64_t arp_deadline(const struct zest *z)
{
    return z->arp.due_ns;
}

void arp_init(struct zest *z)
{
    z->arp = (struct arp){.gen = 1, .due_ns = ZEST_NEVER};
}

void arp_fini(struct zest *z)
{
    for (uint32_t i = 0; i < ARP_ENTRIES; i++) {
        struct arp_entry *e = &z->arp.entry[i];
        for (uint32_t j = 0; j < e->queued; j++)
            zbuf_free(e->queue[j]);
        e->queued = 0;
    }
}
