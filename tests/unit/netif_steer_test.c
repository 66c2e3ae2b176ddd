/* netif_steer_test.c - n-tuple rules, against a card that the test plays: its table, what it takes
 * and what not, and where its rules bring a segment. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>

#include "check.h"
#include "netif/steer.h"

#define TABLE 64u
#define HASH  99u /* the queue of what no rule is about */

static struct {
    bool off;         /* ethtool -K IF ntuple off */
    bool chooses;     /* places */
    bool any_only;    /* then: RX_CLS_LOC_ANY, not first and last */
    bool whole_masks; /* a mask is all or nothing */
    uint32_t size;
    bool used[TABLE];
    struct ethtool_rx_flow_spec rule[TABLE];
    unsigned inserted, deleted;
} card;

static bool mask_ok(uint16_t m)
{
    return !card.whole_masks || m == 0 || m == 0xffff;
}

static int card_insert(struct ethtool_rx_flow_spec *r)
{
    const struct ethtool_tcpip4_spec *m = &r->m_u.tcp_ip4_spec;
    if (r->flow_type == TCP_V4_FLOW && (!mask_ok(m->psrc) || !mask_ok(m->pdst)))
        return -EINVAL;
    if (r->location >= RX_CLS_LOC_LAST) {
        if (!card.chooses || (card.any_only && r->location != RX_CLS_LOC_ANY))
            return -EINVAL;
        bool last = r->location == RX_CLS_LOC_LAST;
        uint32_t i = 0;
        while (i < card.size && card.used[last ? card.size - 1 - i : i])
            i++;
        if (i == card.size)
            return -ENOSPC;
        r->location = last ? card.size - 1 - i : i;
    } else if (card.chooses || r->location >= card.size || card.used[r->location]) {
        return -EINVAL;
    }
    card.used[r->location] = true;
    card.rule[r->location] = *r;
    card.inserted++;
    return 0;
}

static uint32_t rules(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < card.size; i++)
        n += card.used[i];
    return n;
}

static int kernel(void *ctx, void *cmd)
{
    struct ethtool_rxnfc *c = cmd;
    struct ethtool_value *v = cmd;
    uint32_t n = 0;
    CU_ASSERT_PTR_EQUAL(ctx, &card);
    switch (c->cmd) {
    case ETHTOOL_GFLAGS:
        v->data = card.off ? 0 : ETH_FLAG_NTUPLE;
        return 0;
    case ETHTOOL_GRXCLSRLCNT:
        c->rule_cnt = rules();
        c->data = card.size | (card.chooses ? RX_CLS_LOC_SPECIAL : 0);
        return 0;
    case ETHTOOL_GRXCLSRLALL:
        for (uint32_t i = 0; i < card.size; i++)
            if (card.used[i]) {
                CU_ASSERT_FATAL(n < c->rule_cnt);
                c->rule_locs[n++] = i;
            }
        c->rule_cnt = n;
        c->data = card.size;
        return 0;
    case ETHTOOL_GRXCLSRULE:
        if (c->fs.location >= card.size || !card.used[c->fs.location])
            return -ENOENT;
        c->fs = card.rule[c->fs.location];
        return 0;
    case ETHTOOL_SRXCLSRLINS:
        return card_insert(&c->fs);
    case ETHTOOL_SRXCLSRLDEL:
        CU_ASSERT_FATAL(c->fs.location < card.size && card.used[c->fs.location]);
        card.used[c->fs.location] = false;
        card.deleted++;
        return 0;
    default:
        CU_FAIL("a command that nobody should need");
        return -EOPNOTSUPP;
    }
}
static const struct ethtool asks = {kernel, &card};

static void new_card(bool chooses)
{
    memset(&card, 0, sizeof card);
    card.size = TABLE;
    card.chooses = chooses;
}

/* Where TCP to 10.0.0.`host` comes in: of the rules that fit, the first. */
static uint32_t queue_of(uint8_t host, uint16_t from, uint16_t to)
{
    uint8_t ip[4] = {10, 0, 0, host};
    uint32_t ip_be;
    memcpy(&ip_be, ip, 4);
    for (uint32_t i = 0; i < card.size; i++) {
        const struct ethtool_tcpip4_spec *h = &card.rule[i].h_u.tcp_ip4_spec;
        const struct ethtool_tcpip4_spec *m = &card.rule[i].m_u.tcp_ip4_spec;
        if (card.used[i] && card.rule[i].flow_type == TCP_V4_FLOW &&
            ((h->ip4dst ^ ip_be) & m->ip4dst) == 0 && ((h->psrc ^ htons(from)) & m->psrc) == 0 &&
            ((h->pdst ^ htons(to)) & m->pdst) == 0)
            return (uint32_t)card.rule[i].ring_cookie;
    }
    return HASH;
}
static uint32_t queue_of_arp(void)
{
    for (uint32_t i = 0; i < card.size; i++)
        if (card.used[i] && card.rule[i].flow_type == ETHER_FLOW &&
            card.rule[i].h_u.ether_spec.h_proto == htons(ETH_P_ARP))
            return (uint32_t)card.rule[i].ring_cookie;
    return HASH;
}

static struct steer_wants wants(uint32_t first, uint32_t n, uint32_t queues)
{
    return (struct steer_wants){.ip = {10, 0, 0, 2}, .first = first, .n = n, .queues = queues};
}

/* All of a card's queues are ours: answers come home by their port, clients are left to the hash.
 */
static void answers_come_home(void)
{
    for (unsigned chooses = 0; chooses < 2; chooses++)
        for (uint32_t n = 2; n <= 16; n *= 2) {
            struct steer s;
            struct steer_wants w = wants(0, n, n);
            new_card(chooses);
            CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), n);
            CU_ASSERT_TRUE(s.own);
            for (uint32_t port = 32768; port < 61000; port += 7)
                CU_ASSERT_EQUAL(queue_of(2, 80, (uint16_t)port), port % n);
            CU_ASSERT_EQUAL(queue_of(2, 40000, 80), HASH);
            CU_ASSERT_EQUAL(queue_of(3, 80, 40000), HASH); /* another's */
            CU_ASSERT_EQUAL(queue_of_arp(), HASH);
            steer_close(&s);
            CU_ASSERT_EQUAL(rules(), 0);
        }
}

/* Some are: nothing comes in on the others. */
static void all_comes_in_on_ours(void)
{
    for (unsigned chooses = 0; chooses < 2; chooses++)
        for (uint32_t n = 1; n <= 5; n++) {
            struct steer s;
            struct steer_wants w = wants(3, n, 8);
            uint32_t hits[8] = {0};
            new_card(chooses);
            steer_open(&s, &asks, &w);
            CU_ASSERT_EQUAL(s.own, n == 2 || n == 4);
            for (uint32_t from = 1024; from < 1024 + 64; from++) {
                uint32_t q = queue_of(2, (uint16_t)from, 80);
                CU_ASSERT_FATAL(q >= 3 && q < 3 + n);
                hits[q]++;
            }
            for (uint32_t q = 3; q < 3 + n; q++)
                CU_ASSERT(hits[q] > 0);
            for (uint32_t port = 32768; s.own && port < 32768 + 64; port++)
                CU_ASSERT_EQUAL(queue_of(2, 80, (uint16_t)port), 3 + port % n);
            CU_ASSERT_EQUAL(queue_of(3, 40000, 80), HASH);
            CU_ASSERT_EQUAL(queue_of_arp(), 3);
            steer_close(&s);
            CU_ASSERT_EQUAL(rules(), 0);
        }
}

/* Of the host's own address only our ports are ours to steer, and ARP is the kernel's. */
static void ports_of_the_hosts_address(void)
{
    static const struct netif_ports ports[] = {{7, 7}, {5000, 5003}};
    struct steer s;
    struct steer_wants w = wants(1, 2, 4);
    w.ports = ports;
    w.n_ports = 2;
    new_card(false);
    CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 10);
    CU_ASSERT_FALSE(s.own);
    CU_ASSERT_EQUAL(queue_of(2, 40000, 7), 1);
    CU_ASSERT_EQUAL(queue_of(2, 40001, 5003), 2);
    CU_ASSERT_EQUAL(queue_of(2, 40000, 22), HASH);
    CU_ASSERT_EQUAL(queue_of_arp(), HASH);
    steer_close(&s);
    CU_ASSERT_EQUAL(rules(), 0);
    struct netif_ports many = {1000, 4000}; /* too many rules: none */
    w.ports = &many;
    w.n_ports = 1;
    CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 0);
    CU_ASSERT_EQUAL(rules(), 0);
}

/* What a card does not take it has none of; the other set may still be of use. */
static void half_a_set_is_none(void)
{
    struct steer s;
    struct steer_wants w = wants(0, 4, 4);
    new_card(true);
    card.whole_masks = true;
    CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 0);
    CU_ASSERT_FALSE(s.own);
    CU_ASSERT_EQUAL(rules(), 0);
    w = wants(2, 1, 4); /* one queue needs no mask in between */
    CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 2);
    CU_ASSERT_EQUAL(queue_of(2, 1, 80), 2);
    steer_close(&s);
    for (unsigned chooses = 0; chooses < 2; chooses++) {
        new_card(chooses);
        card.size = 3; /* no room for all four */
        w = wants(0, 4, 4);
        CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 0);
        CU_ASSERT_EQUAL(card.inserted, 3);
        CU_ASSERT_EQUAL(card.deleted, 3);
    }
    new_card(true);
    card.any_only = true;
    CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 4);
    steer_close(&s);
    new_card(true);
    card.off = true;
    CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 0);
    w = wants(0, 1, 1); /* nothing to steer */
    card.off = false;
    CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 0);
    CU_ASSERT_EQUAL(card.inserted, 0);
}

/* Rules of a start that was killed are replaced; other people's stay, and are there at the end. */
static void what_was_left_is_replaced(void)
{
    for (unsigned chooses = 0; chooses < 2; chooses++) {
        struct steer killed, s;
        struct steer_wants w = wants(0, 2, 8);
        new_card(chooses);
        struct ethtool_rxnfc foreign = {.cmd = ETHTOOL_SRXCLSRLINS,
                                        .fs = {.flow_type = TCP_V4_FLOW, .ring_cookie = 6}};
        memcpy(&foreign.fs.h_u.tcp_ip4_spec.ip4dst, (uint8_t[4]){10, 0, 0, 3}, 4);
        foreign.fs.m_u.tcp_ip4_spec.ip4dst = UINT32_MAX;
        foreign.fs.location = chooses ? RX_CLS_LOC_ANY : 1;
        CU_ASSERT_EQUAL_FATAL(kernel(&card, &foreign), 0);
        steer_open(&killed, &asks, &w);
        uint32_t had = rules();
        CU_ASSERT(had > 3);
        w = wants(4, 1, 8);
        CU_ASSERT_EQUAL(steer_open(&s, &asks, &w), 2);
        CU_ASSERT_EQUAL(rules(), 3);
        CU_ASSERT_EQUAL(queue_of(2, 1, 80), 4);
        CU_ASSERT_EQUAL(queue_of(2, 1, 40000), 4);
        CU_ASSERT_EQUAL(queue_of(3, 1, 80), 6);
        steer_close(&s);
        CU_ASSERT_EQUAL(rules(), 1);
        CU_ASSERT_TRUE(card.used[foreign.fs.location]);
    }
}

/* ---- two of us on one card */

static uint32_t bound; /* a bit for each queue with a socket */
static bool taken(const void *ctx, uint32_t queue)
{
    CU_ASSERT_PTR_EQUAL(ctx, &bound);
    return bound >> queue & 1;
}

static struct steer_wants at(uint8_t host, uint32_t first, uint32_t n)
{
    struct steer_wants w = wants(first, n, 8);
    w.ip[3] = host;
    w.taken = taken;
    w.ctx = &bound;
    return w;
}

/* Whoever comes first has ARP; each has its TCP, whichever of them goes first. */
static void two_processes_have_their_own(void)
{
    for (unsigned way = 0; way < 4; way++) {
        bool chooses = way & 1;
        struct steer a, b;
        struct steer_wants wa = at(2, 0, 2), wb = at(3, 2, 2);
        new_card(chooses);
        bound = 0x0f;
        uint32_t has = steer_open(&a, &asks, &wa);
        CU_ASSERT_FALSE(a.arp_elsewhere);
        CU_ASSERT_EQUAL(steer_open(&b, &asks, &wb), has - 1);
        CU_ASSERT_TRUE(b.arp_elsewhere);
        CU_ASSERT_EQUAL(b.arp_queue, 0);
        CU_ASSERT_EQUAL(card.deleted, 0);
        CU_ASSERT_EQUAL(queue_of_arp(), 0);
        for (uint32_t from = 1024; from < 1024 + 64; from++) {
            CU_ASSERT(queue_of(2, (uint16_t)from, 80) < 2);
            CU_ASSERT(queue_of(3, (uint16_t)from, 80) - 2 < 2);
            CU_ASSERT_EQUAL(queue_of(2, 80, (uint16_t)(0x8000 | from)), from % 2);
            CU_ASSERT_EQUAL(queue_of(3, 80, (uint16_t)(0x8000 | from)), 2 + from % 2);
        }
        steer_close(way < 2 ? &a : &b);
        CU_ASSERT_EQUAL(queue_of(2, 1, 80), way < 2 ? HASH : 1);
        CU_ASSERT_EQUAL(queue_of(3, 1, 80), way < 2 ? 3 : HASH);
        CU_ASSERT_EQUAL(queue_of_arp(), way < 2 ? HASH : 0);
        steer_close(way < 2 ? &b : &a);
        CU_ASSERT_EQUAL(rules(), 0);
    }
}

/* A rule for ARP whose queue nobody has is a dead one's, whatever its address was. */
static void a_dead_ones_arp_is_taken_over(void)
{
    struct steer a, b;
    struct steer_wants wa = at(2, 0, 2), wb = at(3, 2, 2);
    new_card(false);
    bound = 0x0f;
    steer_open(&a, &asks, &wa);
    bound = 0x0c; /* killed */
    steer_open(&b, &asks, &wb);
    CU_ASSERT_FALSE(b.arp_elsewhere);
    CU_ASSERT_EQUAL(queue_of_arp(), 2);
    CU_ASSERT_EQUAL(card.deleted, 1);
    CU_ASSERT_EQUAL(queue_of(3, 1, 80), 3);
    /* Not killed after all (it is in another namespace): what is not its own any more it leaves. */
    steer_close(&a);
    CU_ASSERT_EQUAL(rules(), b.n);
    CU_ASSERT_EQUAL(queue_of_arp(), 2);
    CU_ASSERT_EQUAL(queue_of(3, 1, 80), 3);
    CU_ASSERT_EQUAL(queue_of(2, 1, 80), HASH);
    steer_close(&b);
    CU_ASSERT_EQUAL(rules(), 0);
}

/* Ports of one address, in two processes. */
static void ports_are_told_apart(void)
{
    static const struct netif_ports seven = {7, 7}, eight = {8, 8};
    struct steer a, b;
    struct steer_wants wa = at(2, 0, 1), wb = at(2, 1, 1);
    wa.ports = &seven;
    wb.ports = &eight;
    wa.n_ports = wb.n_ports = 1;
    new_card(false);
    bound = 0x03;
    CU_ASSERT_EQUAL(steer_open(&a, &asks, &wa), 1);
    CU_ASSERT_EQUAL(steer_open(&b, &asks, &wb), 1);
    CU_ASSERT_FALSE(b.arp_elsewhere);
    CU_ASSERT_EQUAL(queue_of(2, 1, 7), 0);
    CU_ASSERT_EQUAL(queue_of(2, 1, 8), 1);
    steer_close(&a);
    CU_ASSERT_EQUAL(queue_of(2, 1, 7), HASH);
    CU_ASSERT_EQUAL(queue_of(2, 1, 8), 1);
    steer_close(&b);
    CU_ASSERT_EQUAL(rules(), 0);
}

CHECK_MAIN("netif steer", CHECK(answers_come_home), CHECK(all_comes_in_on_ours),
           CHECK(ports_of_the_hosts_address), CHECK(half_a_set_is_none),
           CHECK(what_was_left_is_replaced), CHECK(two_processes_have_their_own),
           CHECK(a_dead_ones_arp_is_taken_over), CHECK(ports_are_told_apart))
