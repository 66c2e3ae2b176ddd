/* The neighbour table: asking, answering, ageing, refreshing, defending, and whom it believes. */
#include "stack_fixture.h"

#include "stack/arp.c"

#define HOST_IP(n) IP(10, 0, (n) / 200, (n) % 200 + 10)

static const uint8_t any_mac[6] = {0};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2}, other_mac[6] = {2, 0, 0, 0, 0, 3};
#define PEER  IP(10, 0, 0, 2)
#define OTHER IP(10, 0, 0, 3)

static void setup(void)
{
    fx_setup();
    arp_init(&fx);
}

static void teardown(void)
{
    arp_fini(&fx);
    fx_teardown();
}

/* Feeds one ARP packet in. */
static void hear(uint16_t op, const uint8_t sha[6], uint32_t spa, const uint8_t tha[6],
                 uint32_t tpa, bool multicast)
{
    uint8_t b[ARP_LEN] = {0, 1, 8, 0, 6, 4, 0, (uint8_t)op};
    memcpy(b + 8, sha, 6);
    memcpy(b + 14, &spa, 4);
    memcpy(b + 18, tha, 6);
    memcpy(b + 24, &tpa, 4);
    struct zbuf *zb = fx_segment(b, sizeof b);
    struct pkt pk = fx_pkt(zb);
    pk.multicast = multicast;
    arp_input(&fx, &pk);
    zbuf_free(zb);
}
static void answer(const uint8_t mac[6], uint32_t ip)
{
    hear(ARP_REPLY, mac, ip, fx_mac, FX_IP, false);
}
static void request_to_us(const uint8_t mac[6], uint32_t ip)
{
    hear(ARP_REQUEST, mac, ip, any_mac, FX_IP, true);
}
static void gratuitous(const uint8_t mac[6], uint32_t ip)
{
    hear(ARP_REQUEST, mac, ip, any_mac, ip, true);
}

/* Moves the time on and does what is due then. */
static void advance(uint64_t ns)
{
    fx.now_ns += ns;
    arp_poll(&fx);
}

/* The frame at i is an ARP packet of ours, wholly as RFC 826 has it. */
static bool sent_is(unsigned i, uint16_t op, const uint8_t eth_dst[6], const uint8_t tha[6],
                    uint32_t tpa)
{
    uint8_t b[42] = {0};
    if (i >= fx_nsent || fx_sent[i]->len != sizeof b)
        return false;
    memcpy(b, eth_dst, 6);
    memcpy(b + 6, fx_mac, 6);
    memcpy(b + 12, "\x08\x06\x00\x01\x08\x00\x06\x04\x00", 9);
    b[21] = (uint8_t)op;
    memcpy(b + 22, fx_mac, 6);
    uint32_t ip = FX_IP;
    memcpy(b + 28, &ip, 4);
    memcpy(b + 32, tha, 6);
    memcpy(b + 38, &tpa, 4);
    return memcmp(fx_sent[i]->data, b, sizeof b) == 0;
}

static int resolve(uint32_t ip)
{
    uint8_t mac[6];
    return arp_resolve(&fx, ip, mac);
}
static bool resolves_to(uint32_t ip, const uint8_t expect[6])
{
    uint8_t mac[6];
    return arp_resolve(&fx, ip, mac) == 0 && memcmp(mac, expect, 6) == 0;
}

/* A frame for arp_send(); n marks it. */
static struct zbuf *frame(uint8_t n)
{
    uint8_t b[60] = {0};
    b[14] = n;
    return fx_segment(b, sizeof b);
}
static bool sent_frame(unsigned i, uint8_t n, const uint8_t mac[6])
{
    return i < fx_nsent && fx_sent[i]->len == 60 && fx_sent[i]->data[14] == n &&
           memcmp(fx_sent[i]->data, mac, 6) == 0;
}

/* ---- asking */

static void asks_and_is_answered(void)
{
    setup();
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    CU_ASSERT_TRUE(sent_is(0, ARP_REQUEST, broadcast, any_mac, PEER));
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    CU_ASSERT_EQUAL(fx_nsent, 1); /* once, however often it is wanted */
    uint32_t gen = fx.arp.gen;
    answer(peer_mac, PEER);
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac));
    CU_ASSERT_NOT_EQUAL(fx.arp.gen, gen);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    CU_ASSERT_EQUAL(fx_drops(), 0);
    teardown();
}

/* RFC 1122 2.3.2.1: a second apart; three of them; then the host is unreachable for a second. */
static void gives_up_and_asks_anew(void)
{
    setup();
    resolve(PEER);
    CU_ASSERT_EQUAL(arp_deadline(&fx), fx.now_ns + ARP_RETRY_NS);
    advance(ARP_RETRY_NS - 1);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    advance(1);
    CU_ASSERT_EQUAL(fx_nsent, 2);
    advance(ARP_RETRY_NS);
    CU_ASSERT_EQUAL(fx_nsent, 3);
    CU_ASSERT_TRUE(sent_is(2, ARP_REQUEST, broadcast, any_mac, PEER));
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    uint32_t gen = fx.arp.gen;
    advance(ARP_RETRY_NS);
    CU_ASSERT_EQUAL(fx_nsent, 3);
    CU_ASSERT_EQUAL(resolve(PEER), -EHOSTUNREACH);
    CU_ASSERT_NOT_EQUAL(fx.arp.gen, gen);
    CU_ASSERT_EQUAL(fx_nsent, 3);
    fx.now_ns += ARP_FAILED_NS; /* even before a poll has cleared it away */
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    CU_ASSERT_EQUAL(fx_nsent, 4);
    teardown();
}

static void failure_is_forgotten(void)
{
    setup();
    resolve(PEER);
    for (unsigned i = 0; i < ARP_TRIES + 1; i++)
        advance(ARP_RETRY_NS);
    CU_ASSERT_EQUAL(arp_deadline(&fx), ZEST_NEVER);
    CU_ASSERT_PTR_NULL(find(&fx, PEER));
    uint32_t gen = fx.arp.gen;
    resolve(PEER); /* asking again changes no answer that anybody has */
    CU_ASSERT_EQUAL(fx.arp.gen, gen);
    teardown();
}

/* An answer that comes after we gave up is still an answer. */
static void late_answer(void)
{
    setup();
    resolve(PEER);
    for (unsigned i = 0; i < ARP_TRIES; i++)
        advance(ARP_RETRY_NS);
    CU_ASSERT_EQUAL(resolve(PEER), -EHOSTUNREACH);
    uint32_t gen = fx.arp.gen;
    answer(peer_mac, PEER);
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac));
    CU_ASSERT_NOT_EQUAL(fx.arp.gen, gen);
    teardown();
}

static void no_memory_for_a_request(void)
{
    setup();
    fx_no_memory = true;
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    fx_no_memory = false;
    advance(ARP_RETRY_NS); /* the next try makes up for it */
    CU_ASSERT_TRUE(sent_is(0, ARP_REQUEST, broadcast, any_mac, PEER));
    teardown();
}

/* ---- packets that wait */

static void queue_is_sent_in_order(void)
{
    setup();
    for (uint8_t n = 0; n < ARP_QUEUE_MAX; n++)
        arp_send(&fx, PEER, frame(n));
    CU_ASSERT_EQUAL(fx_nsent, 1);
    answer(peer_mac, PEER);
    CU_ASSERT_EQUAL(fx_nsent, 1 + ARP_QUEUE_MAX);
    for (uint8_t n = 0; n < ARP_QUEUE_MAX; n++)
        CU_ASSERT_TRUE(sent_frame(1u + n, n, peer_mac));
    arp_send(&fx, PEER, frame(9));
    CU_ASSERT_TRUE(sent_frame(1 + ARP_QUEUE_MAX, 9, peer_mac));
    CU_ASSERT_EQUAL(fx_drops(), 0);
    teardown();
}

/* RFC 1122 2.3.2.2: the latest packet is kept; here the latest four. */
static void queue_is_bounded(void)
{
    setup();
    for (uint8_t n = 0; n < ARP_QUEUE_MAX + 2; n++)
        arp_send(&fx, PEER, frame(n));
    CU_ASSERT_EQUAL(fx.stats.drop_arp_queue, 2);
    answer(peer_mac, PEER);
    CU_ASSERT_TRUE(sent_frame(1, 2, peer_mac));
    CU_ASSERT_TRUE(sent_frame(ARP_QUEUE_MAX, ARP_QUEUE_MAX + 1, peer_mac));
    CU_ASSERT_EQUAL(fx_drops(), 2);
    teardown();
}

static void queue_is_dropped_on_failure(void)
{
    setup();
    arp_send(&fx, PEER, frame(0));
    arp_send(&fx, PEER, frame(1));
    for (unsigned i = 0; i < ARP_TRIES; i++)
        advance(ARP_RETRY_NS);
    CU_ASSERT_EQUAL(fx.stats.drop_arp_queue, 2);
    arp_send(&fx, PEER, frame(2)); /* known to be unreachable: at once */
    CU_ASSERT_EQUAL(fx.stats.drop_arp_queue, 3);
    CU_ASSERT_EQUAL(fx_nsent, ARP_TRIES);
    answer(peer_mac, PEER);
    CU_ASSERT_EQUAL(fx_nsent, ARP_TRIES);
    teardown();
}

static void queue_goes_home_at_the_end(void)
{
    setup();
    arp_send(&fx, PEER, frame(0));
    teardown(); /* fails if a segment is missing */
}

/* ---- ageing */

static void refreshed_by_unicast_while_in_use(void)
{
    setup();
    resolve(PEER);
    answer(peer_mac, PEER);
    fx_forget_sent();
    uint32_t gen = fx.arp.gen;
    advance(ARP_REACHABLE_NS - 1);
    CU_ASSERT_EQUAL(fx.arp.gen, gen);
    advance(1);
    CU_ASSERT_NOT_EQUAL(fx.arp.gen, gen); /* who uses it comes back, */
    CU_ASSERT_EQUAL(fx_nsent, 0);
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac)); /* goes on with the old address, */
    CU_ASSERT_TRUE(sent_is(0, ARP_REQUEST, peer_mac, any_mac, PEER)); /* and that is probed */
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac));
    CU_ASSERT_EQUAL(fx_nsent, 1);
    answer(peer_mac, PEER);
    advance(ARP_REACHABLE_NS - 1);
    CU_ASSERT_EQUAL(fx_nsent, 1); /* good for another while, no second probe */
    teardown();
}

/* Someone above says that nobody answers there: probed at once, and as little as any. */
static void doubt_is_looked_into(void)
{
    setup();
    arp_doubt(&fx, PEER); /* nobody that we know */
    resolve(PEER);
    fx_forget_sent();
    arp_doubt(&fx, PEER); /* being asked for already */
    CU_ASSERT_EQUAL(fx_nsent, 0);
    answer(peer_mac, PEER);
    arp_doubt(&fx, PEER);
    CU_ASSERT_TRUE(sent_is(0, ARP_REQUEST, peer_mac, any_mac, PEER));
    arp_doubt(&fx, PEER);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac));
    answer(peer_mac, PEER);
    advance(10 * ARP_RETRY_NS);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    arp_doubt(&fx, PEER);
    for (unsigned i = 0; i < ARP_TRIES; i++)
        advance(ARP_RETRY_NS);
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN); /* gone: all are asked */
    teardown();
}

/* The host went away: after three unicast probes all are asked, as at first. */
static void refresh_without_answer(void)
{
    setup();
    resolve(PEER);
    answer(peer_mac, PEER);
    advance(ARP_REACHABLE_NS);
    fx_forget_sent();
    resolve(PEER);
    advance(ARP_RETRY_NS);
    advance(ARP_RETRY_NS);
    CU_ASSERT_TRUE(sent_is(2, ARP_REQUEST, peer_mac, any_mac, PEER));
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac));
    uint32_t gen = fx.arp.gen;
    advance(ARP_RETRY_NS);
    CU_ASSERT_NOT_EQUAL(fx.arp.gen, gen);
    CU_ASSERT_TRUE(sent_is(3, ARP_REQUEST, broadcast, any_mac, PEER));
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    for (unsigned i = 0; i < ARP_TRIES; i++)
        advance(ARP_RETRY_NS);
    CU_ASSERT_EQUAL(resolve(PEER), -EHOSTUNREACH);
    CU_ASSERT_EQUAL(fx_nsent, 6);
    teardown();
}

static void unused_entry_expires(void)
{
    setup();
    resolve(PEER);
    answer(peer_mac, PEER);
    fx_forget_sent();
    advance(ARP_REACHABLE_NS);
    advance(ARP_STALE_NS - 1);
    CU_ASSERT_PTR_NOT_NULL(find(&fx, PEER));
    advance(1);
    CU_ASSERT_PTR_NULL(find(&fx, PEER));
    CU_ASSERT_EQUAL(arp_deadline(&fx), ZEST_NEVER);
    CU_ASSERT_EQUAL(fx_nsent, 0); /* nobody used it: nothing was sent for it */
    teardown();
}

static void deadline_is_the_earliest(void)
{
    setup();
    CU_ASSERT_EQUAL(arp_deadline(&fx), ZEST_NEVER);
    uint64_t start = fx.now_ns;
    resolve(PEER);
    answer(peer_mac, PEER);
    advance(NS_PER_S + NS_PER_S / 2);
    CU_ASSERT_EQUAL(arp_deadline(&fx), start + ARP_REACHABLE_NS);
    resolve(OTHER);
    CU_ASSERT_EQUAL(arp_deadline(&fx), start + NS_PER_S * 5 / 2);
    advance(NS_PER_S);
    CU_ASSERT_EQUAL(arp_deadline(&fx), start + NS_PER_S * 7 / 2);
    answer(other_mac, OTHER);
    advance(NS_PER_S);
    CU_ASSERT_EQUAL(arp_deadline(&fx), start + ARP_REACHABLE_NS);
    teardown();
}

/* ---- answering and believing */

static void answers_requests_for_us_only(void)
{
    setup();
    request_to_us(peer_mac, PEER);
    CU_ASSERT_TRUE(sent_is(0, ARP_REPLY, peer_mac, peer_mac, PEER));
    hear(ARP_REQUEST, peer_mac, PEER, any_mac, OTHER, true);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    CU_ASSERT_EQUAL(fx_drops(), 0); /* PEER is known by now: that updated it */
    hear(ARP_REQUEST, other_mac, OTHER, any_mac, PEER, true);
    CU_ASSERT_EQUAL(fx.stats.drop_arp_not_ours, 1);
    CU_ASSERT_EQUAL(fx_drops(), 1);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    teardown();
}

/* Who asks for us will talk to us: its address is there at once, and checked when used. */
static void learns_from_a_request_to_us(void)
{
    setup();
    request_to_us(peer_mac, PEER);
    fx_forget_sent();
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac));
    CU_ASSERT_TRUE(sent_is(0, ARP_REQUEST, peer_mac, any_mac, PEER));
    teardown();
}

static void unsolicited_replies_teach_nothing(void)
{
    setup();
    answer(peer_mac, PEER);
    gratuitous(other_mac, OTHER);
    CU_ASSERT_EQUAL(fx.stats.drop_arp_not_ours, 2);
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    CU_ASSERT_EQUAL(resolve(OTHER), -EAGAIN);
    teardown();
}

/* Not from our subnet: we would never ask ARP for it, so there is nothing to learn; but an answer
 * it gets. The gateway may be outside. */
static void strangers_are_not_learned(void)
{
    setup();
    request_to_us(peer_mac, IP(10, 9, 9, 9));
    CU_ASSERT_TRUE(sent_is(0, ARP_REPLY, peer_mac, peer_mac, IP(10, 9, 9, 9)));
    CU_ASSERT_PTR_NULL(find(&fx, IP(10, 9, 9, 9)));
    fx.gateway_be = IP(10, 9, 9, 9);
    request_to_us(peer_mac, IP(10, 9, 9, 9));
    CU_ASSERT_PTR_NOT_NULL(find(&fx, IP(10, 9, 9, 9)));
    teardown();
}

/* The host got another card: it says so, we follow, and check. */
static void gratuitous_update_moves_an_entry(void)
{
    setup();
    resolve(PEER);
    answer(peer_mac, PEER);
    advance(ARP_LOCK_NS);
    fx_forget_sent();
    uint32_t gen = fx.arp.gen;
    gratuitous(other_mac, PEER);
    CU_ASSERT_NOT_EQUAL(fx.arp.gen, gen);
    CU_ASSERT_TRUE(resolves_to(PEER, other_mac));
    CU_ASSERT_TRUE(sent_is(0, ARP_REQUEST, other_mac, any_mac, PEER));
    CU_ASSERT_EQUAL(fx_drops(), 0);
    teardown();
}

/* Saying again what we know changes nothing: a claim does not replace the probe. */
static void gratuitous_repeat_confirms_nothing(void)
{
    setup();
    resolve(PEER);
    answer(peer_mac, PEER);
    advance(ARP_REACHABLE_NS / 2);
    uint32_t gen = fx.arp.gen;
    gratuitous(peer_mac, PEER);
    CU_ASSERT_EQUAL(fx.arp.gen, gen);
    advance(ARP_REACHABLE_NS / 2);
    CU_ASSERT_EQUAL(find(&fx, PEER)->state, ARP_STALE);
    resolve(PEER); /* being probed */
    gratuitous(peer_mac, PEER);
    CU_ASSERT_EQUAL(find(&fx, PEER)->state, ARP_STALE);
    hear(ARP_REPLY, peer_mac, PEER, fx_mac, OTHER, false); /* an answer, but not to us */
    CU_ASSERT_EQUAL(find(&fx, PEER)->state, ARP_STALE);
    hear(ARP_REPLY, peer_mac, PEER, fx_mac, FX_IP, true); /* broadcast: nobody answers so */
    CU_ASSERT_EQUAL(find(&fx, PEER)->state, ARP_STALE);
    answer(peer_mac, PEER);
    CU_ASSERT_EQUAL(find(&fx, PEER)->state, ARP_REACHABLE);
    teardown();
}

static void first_of_two_answers_counts(void)
{
    setup();
    resolve(PEER);
    answer(peer_mac, PEER);
    uint32_t gen = fx.arp.gen;
    answer(other_mac, PEER);
    advance(ARP_LOCK_NS - 1);
    answer(other_mac, PEER);
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac));
    CU_ASSERT_EQUAL(fx.arp.gen, gen);
    teardown();
}

/* What waits is sent on hearing the address in any way. */
static void claim_ends_the_wait(void)
{
    setup();
    arp_send(&fx, PEER, frame(7));
    request_to_us(peer_mac, PEER);
    CU_ASSERT_TRUE(sent_frame(1, 7, peer_mac));
    CU_ASSERT_TRUE(sent_is(2, ARP_REPLY, peer_mac, peer_mac, PEER));
    teardown();
}

/* ---- our own address */

static void defends_its_address(void)
{
    setup();
    gratuitous(other_mac, FX_IP);
    CU_ASSERT_EQUAL(fx.stats.arp_conflicts, 1);
    CU_ASSERT_TRUE(sent_is(0, ARP_REQUEST, broadcast, any_mac, FX_IP));
    advance(ARP_DEFEND_NS - 1);
    answer(other_mac, FX_IP);
    CU_ASSERT_EQUAL(fx.stats.arp_conflicts, 2);
    CU_ASSERT_EQUAL(fx_nsent, 1); /* RFC 5227 2.4(b): not more often than that */
    advance(1);
    gratuitous(other_mac, FX_IP);
    CU_ASSERT_EQUAL(fx_nsent, 2);
    CU_ASSERT_PTR_NULL(find(&fx, FX_IP));
    hear(ARP_REQUEST, fx_mac, FX_IP, any_mac, FX_IP, true); /* our own, looped back */
    CU_ASSERT_EQUAL(fx.stats.arp_conflicts, 3);
    CU_ASSERT_EQUAL(fx_nsent, 2);
    teardown();
}

/* RFC 5227 2.1.1: sender address zero asks whether ours is taken. */
static void answers_probes(void)
{
    setup();
    hear(ARP_REQUEST, other_mac, 0, any_mac, FX_IP, true);
    CU_ASSERT_TRUE(sent_is(0, ARP_REPLY, other_mac, other_mac, 0));
    hear(ARP_REQUEST, other_mac, 0, any_mac, PEER, true);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    CU_ASSERT_EQUAL(fx.stats.drop_arp_not_ours, 1);
    for (uint32_t i = 0; i < ARP_ENTRIES; i++)
        CU_ASSERT_EQUAL(fx.arp.entry[i].state, ARP_FREE);
    teardown();
}

static void announces(void)
{
    setup();
    arp_announce(&fx);
    CU_ASSERT_TRUE(sent_is(0, ARP_REQUEST, broadcast, any_mac, FX_IP));
    teardown();
}

/* ---- what is malformed */

static void malformed(void)
{
    static const uint8_t group_mac[6] = {3, 0, 0, 0, 0, 2};
    setup();
    uint8_t good[ARP_LEN] = {0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2};
    uint32_t ip = FX_IP;
    memcpy(good + 24, &ip, 4);
    unsigned bad = 0;
    for (uint32_t len = 0; len < ARP_LEN; len++, bad++) {
        struct zbuf *zb = fx_segment(good, len);
        struct pkt pk = fx_pkt(zb);
        arp_input(&fx, &pk);
        zbuf_free(zb);
    }
    for (unsigned i = 0; i < 8; i++, bad++) { /* each fixed field, and the operation */
        struct zbuf *zb = fx_segment(good, ARP_LEN);
        struct pkt pk = fx_pkt(zb);
        zb->data[i] ^= 0x10;
        arp_input(&fx, &pk);
        zbuf_free(zb);
    }
    hear(3, peer_mac, PEER, any_mac, FX_IP, true);
    hear(0, peer_mac, PEER, any_mac, FX_IP, true);
    hear(ARP_REQUEST, group_mac, PEER, any_mac, FX_IP, true);
    hear(ARP_REQUEST, peer_mac, IP(224, 0, 0, 1), any_mac, FX_IP, true);
    hear(ARP_REQUEST, peer_mac, IP(10, 0, 0, 255), any_mac, FX_IP, true);
    hear(ARP_REQUEST, peer_mac, IP(127, 0, 0, 1), any_mac, FX_IP, true);
    hear(ARP_REPLY, peer_mac, 0, any_mac, FX_IP, true); /* zero only in a request */
    bad += 7;
    CU_ASSERT_EQUAL(fx.stats.drop_arp_bad, bad);
    CU_ASSERT_EQUAL(fx_drops(), bad);
    CU_ASSERT_EQUAL(fx_nsent, 0);

    struct zbuf *zb = fx_segment(good, ARP_LEN); /* and the unspoilt one is good */
    struct pkt pk = fx_pkt(zb);
    arp_input(&fx, &pk);
    zbuf_free(zb);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    CU_ASSERT_EQUAL(fx_drops(), bad);
    teardown();
}

/* ---- a full table */

static void many_hosts(void)
{
    setup();
    fx.mask_be = IP(255, 255, 0, 0);
    for (uint32_t i = 0; i < 100; i++) {
        uint8_t mac[6] = {2, 0, 0, 0, 1, (uint8_t)i};
        CU_ASSERT_EQUAL(resolve(HOST_IP(i)), -EAGAIN);
        answer(mac, HOST_IP(i));
    }
    for (uint32_t i = 0; i < 100; i++) {
        uint8_t mac[6] = {2, 0, 0, 0, 1, (uint8_t)i};
        CU_ASSERT_TRUE(resolves_to(HOST_IP(i), mac));
    }
    teardown();
}

/* Fills the slots of one address with others; returns how many there are in ip[]. */
static unsigned same_slots(uint32_t target, uint32_t *ip, unsigned max)
{
    uint32_t slot = first_slot(&fx, target) & (ARP_ENTRIES - 1);
    unsigned n = 0;
    for (uint32_t i = 1; n < max && i < 40000; i++) {
        uint32_t candidate = IP(10, 1, i / 200, i % 200 + 10);
        if ((first_slot(&fx, candidate) & (ARP_ENTRIES - 1)) == slot)
            ip[n++] = candidate;
    }
    return n;
}

static void least_recently_used_makes_way(void)
{
    uint32_t ip[ARP_WAYS];
    setup();
    fx.mask_be = IP(255, 0, 0, 0);
    CU_ASSERT_EQUAL_FATAL(same_slots(PEER, ip, ARP_WAYS), ARP_WAYS);
    for (unsigned i = 0; i < ARP_WAYS; i++) {
        fx.now_ns += NS_PER_MS;
        resolve(ip[i]);
        answer(other_mac, ip[i]);
    }
    fx.now_ns += NS_PER_MS;
    resolve(ip[0]); /* now ip[1] is the least recently used */
    uint32_t gen = fx.arp.gen;
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    CU_ASSERT_NOT_EQUAL(fx.arp.gen, gen);
    answer(peer_mac, PEER);
    CU_ASSERT_TRUE(resolves_to(PEER, peer_mac));
    CU_ASSERT_PTR_NULL(find(&fx, ip[1]));
    for (unsigned i = 0; i < ARP_WAYS; i++)
        if (i != 1)
            CU_ASSERT_PTR_NOT_NULL(find(&fx, ip[i]));
    teardown();
}

/* All slots wait for answers: none is thrown out, nothing is sent, and the end of one is seen. */
static void full_of_questions(void)
{
    uint32_t ip[ARP_WAYS];
    setup();
    fx.mask_be = IP(255, 0, 0, 0);
    CU_ASSERT_EQUAL_FATAL(same_slots(PEER, ip, ARP_WAYS), ARP_WAYS);
    for (unsigned i = 0; i < ARP_WAYS; i++)
        arp_send(&fx, ip[i], frame((uint8_t)i));
    fx_forget_sent();
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    arp_send(&fx, PEER, frame(99));
    CU_ASSERT_EQUAL(fx.stats.drop_arp_queue, 1);
    request_to_us(peer_mac, PEER);
    CU_ASSERT_EQUAL(fx_nsent, 1); /* the reply needs no entry */
    uint32_t gen = fx.arp.gen;
    answer(other_mac, ip[3]);
    CU_ASSERT_NOT_EQUAL(fx.arp.gen, gen);
    CU_ASSERT_EQUAL(resolve(PEER), -EAGAIN);
    CU_ASSERT_PTR_NOT_NULL(find(&fx, PEER));
    teardown();
}

/* A flood of requests to us from made-up hosts does not displace anybody that we talk to. */
static void flood_displaces_nobody_in_use(void)
{
    setup();
    fx.mask_be = IP(255, 0, 0, 0);
    for (uint32_t i = 0; i < 30; i++) {
        resolve(HOST_IP(i));
        answer(peer_mac, HOST_IP(i));
    }
    uint32_t gen = fx.arp.gen;
    for (uint32_t i = 1; i < 4000; i++) {
        request_to_us(other_mac, IP(10, 77, i / 200, i % 200 + 10));
        fx_forget_sent();
    }
    for (uint32_t i = 0; i < 30; i++)
        CU_ASSERT_TRUE(resolves_to(HOST_IP(i), peer_mac));
    CU_ASSERT_EQUAL(fx_nsent, 0);
    CU_ASSERT_EQUAL(fx.arp.gen, gen); /* nor does it make everybody ask again */
    resolve(IP(10, 99, 0, 1));        /* and a new peer still finds a place in it */
    CU_ASSERT_PTR_NOT_NULL(find(&fx, IP(10, 99, 0, 1)));
    teardown();
}

CHECK_MAIN("arp", CHECK(asks_and_is_answered), CHECK(gives_up_and_asks_anew),
           CHECK(failure_is_forgotten), CHECK(late_answer), CHECK(no_memory_for_a_request),
           CHECK(queue_is_sent_in_order), CHECK(queue_is_bounded),
           CHECK(queue_is_dropped_on_failure), CHECK(queue_goes_home_at_the_end),
           CHECK(refreshed_by_unicast_while_in_use), CHECK(refresh_without_answer),
           CHECK(doubt_is_looked_into), CHECK(unused_entry_expires),
           CHECK(deadline_is_the_earliest), CHECK(answers_requests_for_us_only),
           CHECK(learns_from_a_request_to_us), CHECK(unsolicited_replies_teach_nothing),
           CHECK(strangers_are_not_learned), CHECK(gratuitous_update_moves_an_entry),
           CHECK(gratuitous_repeat_confirms_nothing), CHECK(first_of_two_answers_counts),
           CHECK(claim_ends_the_wait), CHECK(defends_its_address), CHECK(answers_probes),
           CHECK(announces), CHECK(malformed), CHECK(many_hosts),
           CHECK(least_recently_used_makes_way), CHECK(full_of_questions),
           CHECK(flood_displaces_nobody_in_use))
