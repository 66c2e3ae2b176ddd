/* Ethernet and IPv4: what is let in, what is refused and why, and the headers that go out. */
#define arp_input         fx_arp_input
#define arp_resolve       fx_arp_resolve
#define arp_send          fx_arp_send
#define arp_doubt         fx_arp_doubt
#define icmp_input        fx_icmp_input
#define icmp_send_unreach fx_icmp_send_unreach

#include "stack_fixture.h"

#include "stack/eth.c"
#include "stack/ipv4.c"

#define PEER IP(10, 0, 0, 2)

/* ---- the layers around */

static unsigned arp_seen, tcp_seen, icmp_seen, unreach_seen;
static int unreach_code;
static struct pkt seen; /* the last one handed on */
static uint8_t seen_ip[64];

static uint32_t asked_be, sent_to_be, doubted_be; /* of ARP */
static int arp_result;
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};

static void note(struct pkt *pk)
{
    seen = *pk;
    memcpy(seen_ip, pk->ip, min_u32(pk->ip_len, sizeof seen_ip));
}
void tcp_input(struct zest *z, struct pkt *pk)
{
    (void)z;
    tcp_seen++;
    note(pk);
}
void icmp_input(struct zest *z, struct pkt *pk)
{
    (void)z;
    icmp_seen++;
    note(pk);
}
void icmp_send_unreach(struct zest *z, const struct pkt *pk, uint8_t code)
{
    (void)z, (void)pk;
    unreach_seen++;
    unreach_code = code;
}
void arp_input(struct zest *z, struct pkt *pk)
{
    (void)z;
    arp_seen++;
    seen = *pk;
}
int arp_resolve(struct zest *z, uint32_t ip_be, uint8_t mac[6])
{
    (void)z;
    asked_be = ip_be;
    if (arp_result == 0)
        memcpy(mac, peer_mac, 6);
    return arp_result;
}
void arp_send(struct zest *z, uint32_t ip_be, struct zbuf *zb)
{
    sent_to_be = ip_be;
    ctrlq_push(z, zb);
}
void arp_doubt(struct zest *z, uint32_t ip_be)
{
    (void)z;
    doubted_be = ip_be;
}

static void setup(void)
{
    fx_setup();
    fx.arp.gen = 77;
    arp_seen = tcp_seen = icmp_seen = unreach_seen = 0;
    unreach_code = -1;
    asked_be = sent_to_be = 0;
    arp_result = 0;
}

/* ---- packets */

static uint8_t packet[2048];
static uint32_t packet_len;

static void checksum(void)
{
    uint32_t hlen = (packet[ETH_HLEN] & 15u) * 4;
    memset(packet + 24, 0, 2);
    uint16_t csum = cksum_fold(cksum_add(0, packet + ETH_HLEN, hlen));
    memcpy(packet + 24, &csum, 2);
}

/* A good TCP packet of 40 bytes from PEER, in a frame to us, padded by the link to 60 bytes. */
static void good(void)
{
    uint32_t src = PEER, dst = FX_IP;
    memset(packet, 0, sizeof packet);
    eth_header(packet, fx_mac, peer_mac, ETH_TYPE_IPV4);
    uint8_t *ip = packet + ETH_HLEN;
    ip[0] = 0x45;
    be16_put(ip + 2, 40);
    be16_put(ip + 4, 4711);
    ip[8] = 64;
    ip[9] = IP_TCP;
    memcpy(ip + 12, &src, 4);
    memcpy(ip + 16, &dst, 4);
    packet_len = 60;
    checksum();
}

static void input(void)
{
    struct zbuf *zb = fx_segment(packet, packet_len);
    struct pkt pk = fx_pkt(zb);
    eth_input(&fx, &pk);
    zbuf_free(zb);
}
#define IN (packet + ETH_HLEN)

/* The packet is refused: counter, and nothing else, grows by one; nobody above sees it. */
#define REFUSED(counter)                                                                           \
    do {                                                                                           \
        uint64_t one = fx.stats.counter, all = fx_drops();                                         \
        unsigned above = tcp_seen + icmp_seen + arp_seen + unreach_seen;                           \
        input();                                                                                   \
        CU_ASSERT_EQUAL(fx.stats.counter, one + 1);                                                \
        CU_ASSERT_EQUAL(fx_drops(), all + 1);                                                      \
        CU_ASSERT_EQUAL(tcp_seen + icmp_seen + arp_seen + unreach_seen, above);                    \
    } while (0)
#define TAKEN()                                                                                    \
    do {                                                                                           \
        uint64_t all = fx_drops();                                                                 \
        unsigned above = tcp_seen;                                                                 \
        input();                                                                                   \
        CU_ASSERT_EQUAL(fx_drops(), all);                                                          \
        CU_ASSERT_EQUAL(tcp_seen, above + 1);                                                      \
    } while (0)

/* ---- Ethernet */

static void eth_short(void)
{
    setup();
    good();
    for (packet_len = 0; packet_len < ETH_HLEN; packet_len++)
        REFUSED(drop_eth_short);
    REFUSED(drop_ip_short); /* just a header: that is IPv4's to judge */
    fx_teardown();
}

static void eth_not_ours(void)
{
    setup();
    for (unsigned i = 0; i < 6; i++) {
        good();
        packet[i] ^= 4;
        REFUSED(drop_eth_not_ours);
    }
    good();
    packet[0] |= 1; /* a multicast group that looks like us */
    REFUSED(drop_eth_not_ours);
    good();
    memset(packet, 0xff, 5);
    REFUSED(drop_eth_not_ours);
    fx_teardown();
}

static void eth_types(void)
{
    setup();
    good();
    be16_put(packet + 12, 0x86dd);
    REFUSED(drop_eth_type);
    be16_put(packet + 12, 0x8100);
    REFUSED(drop_eth_type);
    be16_put(packet + 12, 46); /* IEEE 802.3 length */
    REFUSED(drop_eth_type);
    be16_put(packet + 12, ETH_TYPE_ARP);
    input();
    CU_ASSERT_EQUAL(arp_seen, 1);
    CU_ASSERT_EQUAL(seen.len, 46);
    CU_ASSERT_FALSE(seen.multicast);
    memset(packet, 0xff, 6);
    input();
    CU_ASSERT_EQUAL(arp_seen, 2);
    CU_ASSERT_TRUE(seen.multicast);
    fx_teardown();
}

/* ---- what IPv4 takes */

static void good_packet(void)
{
    setup();
    good();
    struct ipaddr src = ipaddr_from_v4(PEER), dst = ipaddr_from_v4(FX_IP);
    TAKEN();
    CU_ASSERT_EQUAL(seen.len, 20); /* the link's padding is gone */
    CU_ASSERT_EQUAL(seen.ip_len, 40);
    CU_ASSERT_EQUAL(seen.p - seen.ip, 20);
    CU_ASSERT_TRUE(ipaddr_equal(&seen.src, &src));
    CU_ASSERT_TRUE(ipaddr_equal(&seen.dst, &dst));
    CU_ASSERT_EQUAL(seen_ip[9], IP_TCP);
    IN[9] = IP_ICMP;
    checksum();
    input();
    CU_ASSERT_EQUAL(icmp_seen, 1);
    CU_ASSERT_EQUAL(fx_drops(), 0);
    fx_teardown();
}

static void options_are_skipped(void)
{
    setup();
    for (uint32_t words = 6; words <= 10; words++) {
        good();
        IN[0] = (uint8_t)(0x40 | words);
        memset(IN + 20, 1, 40); /* no-operation, which the checksum covers, too */
        checksum();
        TAKEN();
        CU_ASSERT_EQUAL(seen.p - seen.ip, words * 4);
        CU_ASSERT_EQUAL(seen.len, 40 - words * 4);
    }
    fx_teardown();
}

static void dont_fragment_is_fine(void)
{
    setup();
    good();
    be16_put(IN + 6, IP_DF);
    checksum();
    TAKEN();
    fx_teardown();
}

static void off_subnet_source_is_fine(void)
{
    static const uint32_t sources[] = {IP(192, 0, 2, 255), IP(11, 0, 0, 0),  IP(126, 255, 255, 255),
                                       IP(128, 0, 0, 1),   IP(223, 1, 2, 3), IP(1, 0, 0, 0)};
    setup();
    for (unsigned i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        good();
        memcpy(IN + 12, &sources[i], 4);
        checksum();
        TAKEN();
    }
    fx_teardown();
}

/* ---- what it refuses */

static void cut_short(void)
{
    setup();
    good();
    for (packet_len = ETH_HLEN; packet_len < ETH_HLEN + 40; packet_len++)
        REFUSED(drop_ip_short);
    packet_len = ETH_HLEN + 40;
    TAKEN();
    for (uint16_t total = 0; total < 20; total++) {
        be16_put(IN + 2, total);
        checksum();
        REFUSED(drop_ip_short);
    }
    be16_put(IN + 2, 41); /* says more than there is */
    checksum();
    REFUSED(drop_ip_short);
    good();
    IN[0] = 0x4f; /* options beyond the end, of the frame */
    packet_len = ETH_HLEN + 59;
    checksum();
    REFUSED(drop_ip_short);
    packet_len = ETH_HLEN + 60; /* and of the packet only */
    REFUSED(drop_ip_short);
    fx_teardown();
}

static void wrong_version(void)
{
    setup();
    for (unsigned first = 0; first < 256; first++) {
        if (first >> 4 == 4 && (first & 15) >= 5)
            continue;
        good();
        IN[0] = (uint8_t)first;
        REFUSED(drop_ip_version);
    }
    fx_teardown();
}

static void bad_checksum(void)
{
    setup();
    for (unsigned i = 10; i < 20; i++) {
        good();
        IN[i] ^= 1;
        REFUSED(drop_ip_csum);
    }
    good();
    IN[10] ^= 1;
    fx.cfg.rx_csum_trusted = true; /* the link has seen to it */
    TAKEN();
    fx_teardown();
}

static void impossible_source(void)
{
    static const uint32_t sources[] = {IP(0, 0, 0, 0),    IP(0, 1, 2, 3),
                                       IP(127, 0, 0, 1),  IP(127, 255, 0, 1),
                                       IP(224, 0, 0, 1),  IP(239, 255, 255, 255),
                                       IP(10, 0, 0, 255), IP(255, 255, 255, 255),
                                       IP(10, 0, 0, 0),   FX_IP};
    setup();
    for (unsigned i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        good();
        memcpy(IN + 12, &sources[i], 4);
        checksum();
        REFUSED(drop_ip_source);
    }
    fx_teardown();
}

static void other_destination(void)
{
    static const uint32_t dsts[] = {PEER, IP(10, 0, 0, 255), UINT32_MAX, IP(224, 0, 0, 1),
                                    IP(127, 0, 0, 1)};
    setup();
    for (unsigned i = 0; i < sizeof dsts / sizeof dsts[0]; i++) {
        good();
        memcpy(IN + 16, &dsts[i], 4);
        checksum();
        REFUSED(drop_ip_not_ours);
        memset(packet, 0xff, 6);
        REFUSED(drop_ip_not_ours);
    }
    good();
    memset(packet, 0xff, 6); /* to us, but in a broadcast frame */
    REFUSED(drop_ip_not_ours);
    fx_teardown();
}

static void fragments(void)
{
    setup();
    good();
    be16_put(IN + 6, IP_MF); /* the first, */
    checksum();
    REFUSED(drop_ip_fragment);
    be16_put(IN + 6, IP_MF | 1);
    checksum();
    REFUSED(drop_ip_fragment);
    be16_put(IN + 6, 0x1000); /* the last */
    checksum();
    REFUSED(drop_ip_fragment);
    fx_teardown();
}

static void unknown_protocol(void)
{
    setup();
    good();
    IN[9] = IP_UDP;
    checksum();
    input();
    CU_ASSERT_EQUAL(unreach_code, ICMP_UNREACH_PORT);
    IN[9] = 132;
    checksum();
    input();
    CU_ASSERT_EQUAL(unreach_code, ICMP_UNREACH_PROTOCOL);
    CU_ASSERT_EQUAL(unreach_seen, 2);
    CU_ASSERT_EQUAL(fx.stats.drop_ip_proto, 2);
    CU_ASSERT_EQUAL(fx_drops(), 2);
    CU_ASSERT_EQUAL(tcp_seen + icmp_seen, 0);
    fx_teardown();
}

/* RFC 3021, and a host route: no broadcast address there. */
static void small_subnets(void)
{
    setup();
    fx.mask_be = IP(255, 255, 255, 254);
    CU_ASSERT_FALSE(ipv4_bad_peer(&fx, IP(10, 0, 0, 0)));
    fx.mask_be = UINT32_MAX;
    CU_ASSERT_FALSE(ipv4_bad_peer(&fx, FX_IP));
    fx.mask_be = IP(255, 255, 255, 252);
    CU_ASSERT_TRUE(ipv4_bad_peer(&fx, IP(10, 0, 0, 3)));
    CU_ASSERT_TRUE(ipv4_bad_peer(&fx, IP(10, 0, 0, 0)));
    CU_ASSERT_FALSE(ipv4_bad_peer(&fx, IP(10, 0, 0, 2)));
    CU_ASSERT_FALSE(ipv4_bad_peer(&fx, IP(10, 0, 0, 7)));
    fx_teardown();
}

/* ---- what goes out */

/* The header in front of payload_len bytes, wholly. */
static bool header_is(const uint8_t *frame, const uint8_t dst_mac[6], uint32_t dst_be,
                      uint8_t proto, uint8_t tos, uint32_t payload_len)
{
    uint8_t b[34] = {0};
    memcpy(b, dst_mac, 6);
    memcpy(b + 6, fx_mac, 6);
    b[12] = 8;
    b[14] = 0x45;
    b[15] = tos;
    be16_put(b + 16, (uint16_t)(payload_len + 20));
    b[20] = 0x40; /* DF; identification 0 (RFC 6864 4.1) */
    b[22] = 64;
    b[23] = proto;
    memcpy(b + 24, frame + 24, 2); /* the checksum: verified as a receiver does */
    uint32_t src = FX_IP;
    memcpy(b + 26, &src, 4);
    memcpy(b + 30, &dst_be, 4);
    return memcmp(frame, b, sizeof b) == 0 && cksum_fold(cksum_add(0, frame + 14, 20)) == 0;
}

static void output(void)
{
    static const uint8_t blank[6] = {0};
    uint8_t payload[1480];
    memset(payload, 0x5a, sizeof payload);
    setup();
    for (uint32_t len = 0; len <= 1480; len += 37) {
        struct zbuf *zb = fx_segment(payload, len);
        ipv4_output(&fx, zb, PEER, IP_ICMP, 0x10);
        CU_ASSERT_EQUAL_FATAL(fx_nsent, 1);
        CU_ASSERT_EQUAL(sent_to_be, PEER);
        CU_ASSERT_EQUAL(zb->len, len + 34);
        CU_ASSERT_TRUE(header_is(zb->data, blank, PEER, IP_ICMP, 0x10, len));
        CU_ASSERT_EQUAL(memcmp(zb->data + 34, payload, len), 0);
        fx_forget_sent();
    }
    fx_teardown();
}

static void output_goes_by_the_gateway(void)
{
    setup();
    ipv4_output(&fx, fx_segment("x", 1), IP(192, 0, 2, 1), IP_ICMP, 0);
    CU_ASSERT_EQUAL(sent_to_be, FX_GW);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    fx.gateway_be = 0;
    ipv4_output(&fx, fx_segment("x", 1), IP(192, 0, 2, 1), IP_ICMP, 0);
    ipv4_output(&fx, fx_segment("x", 1), IP(10, 0, 0, 255), IP_ICMP, 0);
    ipv4_output(&fx, fx_segment("x", 1), FX_IP, IP_ICMP, 0);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    CU_ASSERT_EQUAL(fx.stats.drop_no_route, 3);
    fx_teardown();
}

static void path(void)
{
    struct ip_path p;
    struct ipaddr dst = ipaddr_from_v4(IP(192, 0, 2, 1));
    uint8_t buf[64 + 1500];
    setup();
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), 0);
    CU_ASSERT_EQUAL(asked_be, FX_GW);
    CU_ASSERT_EQUAL(p.gen, 77);
    CU_ASSERT_EQUAL(p.hdr_len, 34);
    for (uint32_t len = 0; len <= 1480; len++) {
        uint8_t *frame = ipv4_path_header(&p, buf + 64, len);
        CU_ASSERT_PTR_EQUAL(frame, buf + 30);
        CU_ASSERT_TRUE(header_is(frame, peer_mac, IP(192, 0, 2, 1), IP_TCP, 0, len));
    }
    uint8_t *frame = ipv4_path_header(&p, buf + 61, 65515); /* any alignment, the longest */
    CU_ASSERT_TRUE(header_is(frame, peer_mac, IP(192, 0, 2, 1), IP_TCP, 0, 65515));
    dst = ipaddr_from_v4(PEER);
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), 0);
    CU_ASSERT_EQUAL(asked_be, PEER);
    fx_teardown();
}

static void path_is_marked(void)
{
    struct ip_path p;
    struct ipaddr dst = ipaddr_from_v4(PEER);
    uint8_t buf[64 + 1500];
    setup();
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), 0);
    ipv4_path_mark(&p, 255, 46 << 2);
    const uint8_t *ip = ipv4_path_header(&p, buf + 64, 100) + ETH_HLEN;
    CU_ASSERT_EQUAL(ip[1], 46 << 2);
    CU_ASSERT_EQUAL(ip[8], 255);
    CU_ASSERT_EQUAL(cksum_fold(cksum_add(0, ip, IPV4_HLEN)), 0);
    fx_teardown();
}

static void doubt_goes_to_the_next_hop(void)
{
    setup();
    ipv4_doubt(&fx, PEER);
    CU_ASSERT_EQUAL(doubted_be, PEER);
    ipv4_doubt(&fx, IP(192, 0, 2, 1));
    CU_ASSERT_EQUAL(doubted_be, FX_GW);
    fx.gateway_be = doubted_be = 0;
    ipv4_doubt(&fx, IP(192, 0, 2, 1));
    CU_ASSERT_EQUAL(doubted_be, 0);
    fx_teardown();
}

/* Each way to fail leaves the path as it was. */
static void path_errors(void)
{
    struct ip_path p, before;
    struct ipaddr dst = ipaddr_from_v4(PEER);
    setup();
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), 0);
    before = p;
    arp_result = -EAGAIN;
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), -EAGAIN);
    arp_result = -EHOSTUNREACH;
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), -EHOSTUNREACH);
    arp_result = 0;
    asked_be = 0;
    dst = ipaddr_from_v4(IP(224, 0, 0, 1));
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), -ENETUNREACH);
    dst = ipaddr_from_v4(FX_IP);
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), -ENETUNREACH);
    dst = ipaddr_from_v4(PEER);
    dst.b[0] = 0xfe; /* IPv6 */
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), -ENETUNREACH);
    fx.gateway_be = 0;
    dst = ipaddr_from_v4(IP(192, 0, 2, 1));
    CU_ASSERT_EQUAL(ipv4_path(&fx, &p, &dst, IP_TCP), -ENETUNREACH);
    CU_ASSERT_EQUAL(asked_be, 0);
    CU_ASSERT_EQUAL(memcmp(&p, &before, sizeof p), 0);
    fx_teardown();
}

CHECK_MAIN("ipv4", CHECK(eth_short), CHECK(eth_not_ours), CHECK(eth_types), CHECK(good_packet),
           CHECK(options_are_skipped), CHECK(dont_fragment_is_fine),
           CHECK(off_subnet_source_is_fine), CHECK(cut_short), CHECK(wrong_version),
           CHECK(bad_checksum), CHECK(impossible_source), CHECK(other_destination),
           CHECK(fragments), CHECK(unknown_protocol), CHECK(small_subnets), CHECK(output),
           CHECK(output_goes_by_the_gateway), CHECK(path), CHECK(path_is_marked),
           CHECK(doubt_goes_to_the_next_hop), CHECK(path_errors))
