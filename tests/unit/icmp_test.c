/* ICMP: pings answered, errors sent and understood, and how often. */
#define arp_input   fx_arp_input
#define arp_resolve fx_arp_resolve
#define arp_send    fx_arp_send
#include "stack_fixture.h"

#include "stack/eth.c"
#include "stack/icmp.c"
#include "stack/ipv4.c"

#define PEER IP(10, 0, 0, 2)

static struct icmp_error told; /* what TCP was told */
static struct ipaddr told_local, told_remote;
static unsigned told_n;

void tcp_icmp_error(struct zest *z, const struct icmp_error *e)
{
    (void)z;
    told = *e;
    told_local = *e->local;
    told_remote = *e->remote;
    told_n++;
}

static void setup(void)
{
    fx_setup();
    icmp_init(&fx);
    told_n = 0;
}

/* An IP packet in pkt_bytes; what IPv4 would hand on is in pk. */
static uint8_t bytes[2048];
static struct pkt pk;

static void ip_packet(uint8_t proto, const void *payload, uint32_t len)
{
    uint32_t src = PEER, dst = FX_IP;
    memset(bytes, 0, 20);
    bytes[0] = 0x45;
    bytes[1] = 0x13; /* TOS and ECN bits */
    be16_put(bytes + 2, (uint16_t)(20 + len));
    bytes[8] = 64;
    bytes[9] = proto;
    memcpy(bytes + 12, &src, 4);
    memcpy(bytes + 16, &dst, 4);
    memcpy(bytes + 20, payload, len);
    pk = (struct pkt){.ip = bytes,
                      .ip_len = 20 + len,
                      .p = bytes + 20,
                      .len = len,
                      .src = ipaddr_from_v4(PEER),
                      .dst = ipaddr_from_v4(FX_IP)};
}

static void checksum(void)
{
    memset(pk.p + 2, 0, 2);
    uint16_t csum = cksum_fold(cksum_add(0, pk.p, pk.len));
    memcpy(pk.p + 2, &csum, 2);
}

static void icmp_packet(uint8_t type, uint8_t code, uint32_t len)
{
    uint8_t m[2048];
    for (uint32_t i = 0; i < len; i++)
        m[i] = (uint8_t)(i * 7);
    m[0] = type;
    m[1] = code;
    ip_packet(IP_ICMP, m, len);
    checksum();
}

static const uint8_t *sent_icmp(unsigned i, uint32_t *len)
{
    CU_ASSERT_TRUE_FATAL(i < fx_nsent);
    *len = fx_sent[i]->len - 34;
    const uint8_t *f = fx_sent[i]->data;
    uint32_t dst;
    memcpy(&dst, f + 30, 4);
    CU_ASSERT_EQUAL(dst, PEER);
    CU_ASSERT_EQUAL(f[23], IP_ICMP);
    CU_ASSERT_EQUAL(cksum_fold(cksum_add(0, f + 34, *len)), 0);
    return f + 34;
}

void arp_send(struct zest *z, uint32_t ip_be, struct zbuf *zb)
{
    CU_ASSERT_EQUAL(ip_be, PEER);
    ctrlq_push(z, zb);
}
int arp_resolve(struct zest *z, uint32_t ip_be, uint8_t mac[6])
{
    (void)z, (void)ip_be, (void)mac;
    return -EAGAIN;
}
void arp_input(struct zest *z, struct pkt *p)
{
    (void)z, (void)p;
}
void tcp_input(struct zest *z, struct pkt *p)
{
    (void)z, (void)p;
}

/* ---- echo */

static void echo(void)
{
    setup();
    unsigned n = 0;
    for (uint32_t len = 8; len <= 1480; len += len < 80 ? 1 : 50, n++) {
        uint32_t got;
        icmp_packet(ICMP_ECHO, 0, len);
        icmp_input(&fx, &pk);
        const uint8_t *m = sent_icmp(0, &got);
        CU_ASSERT_EQUAL(got, len);
        CU_ASSERT_EQUAL(m[0], ICMP_ECHO_REPLY);
        CU_ASSERT_EQUAL(m[1], 0);
        CU_ASSERT_EQUAL(memcmp(m + 4, pk.p + 4, len - 4), 0); /* id, sequence, data */
        CU_ASSERT_EQUAL(fx_sent[0]->data[15], 0x10);          /* TOS without ECN */
        fx_forget_sent();
    }
    CU_ASSERT_EQUAL(fx.stats.icmp_echo_replies, n);
    CU_ASSERT_EQUAL(fx_drops(), 0);
    fx_teardown();
}

/* A request larger than we may send goes unanswered, for we do not fragment. */
static void echo_larger_than_the_mtu(void)
{
    setup();
    icmp_packet(ICMP_ECHO, 0, 1481);
    icmp_input(&fx, &pk);
    CU_ASSERT_EQUAL(fx_nsent, 0);
    CU_ASSERT_EQUAL(fx.stats.drop_icmp_type, 1);
    CU_ASSERT_EQUAL(fx_drops(), 1);
    fx_teardown();
}

static void echo_without_memory(void)
{
    setup();
    fx_no_memory = true;
    icmp_packet(ICMP_ECHO, 0, 64);
    icmp_input(&fx, &pk);
    CU_ASSERT_EQUAL(fx.stats.icmp_echo_replies, 0);
    CU_ASSERT_EQUAL(fx_drops(), 1); /* ctrl_alloc()'s own */
    fx_teardown();
}

static void echo_rate(void)
{
    setup();
    for (unsigned i = 0; i < ICMP_ECHO_BURST + 10; i++) {
        icmp_packet(ICMP_ECHO, 0, 8);
        icmp_input(&fx, &pk);
    }
    CU_ASSERT_EQUAL(fx_nsent, ICMP_ECHO_BURST);
    CU_ASSERT_EQUAL(fx.stats.icmp_rate_limited, 10);
    fx.now_ns += 7 * ICMP_TICK_NS - 1;
    for (unsigned i = 0; i < 10; i++)
        icmp_input(&fx, &pk);
    CU_ASSERT_EQUAL(fx_nsent, ICMP_ECHO_BURST + 6);
    fx.now_ns += 1; /* the rest of a tick is not lost */
    icmp_input(&fx, &pk);
    CU_ASSERT_EQUAL(fx_nsent, ICMP_ECHO_BURST + 7);
    fx_forget_sent();
    fx.now_ns += 3600 * NS_PER_S; /* but no more than a burst is saved up */
    for (unsigned i = 0; i < ICMP_ECHO_BURST + 10; i++)
        icmp_input(&fx, &pk);
    CU_ASSERT_EQUAL(fx_nsent, ICMP_ECHO_BURST);
    fx_teardown();
}

/* ---- errors that we send */

static void udp_packet(uint32_t len)
{
    uint8_t m[2048];
    memset(m, 0x55, sizeof m);
    ip_packet(IP_UDP, m, len);
}

static void unreachable(void)
{
    setup();
    for (uint32_t len = 0; len <= 1480; len += 5) {
        uint32_t got, quoted = min_u32(20 + len, 548);
        udp_packet(len);
        icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PORT);
        const uint8_t *m = sent_icmp(0, &got);
        CU_ASSERT_EQUAL(got, 8 + quoted); /* RFC 1812 4.3.2.3: 576 in all */
        CU_ASSERT_EQUAL(m[0], ICMP_UNREACH);
        CU_ASSERT_EQUAL(m[1], ICMP_UNREACH_PORT);
        CU_ASSERT_EQUAL(memcmp(m + 4, "\0\0\0", 4), 0);
        CU_ASSERT_EQUAL(memcmp(m + 8, bytes, quoted), 0);
        CU_ASSERT_EQUAL(fx_sent[0]->data[15], 0);
        fx_forget_sent();
        fx.now_ns += NS_PER_S;
    }
    CU_ASSERT_EQUAL(fx.stats.icmp_errors_sent, 297);
    fx_teardown();
}

/* RFC 1122 3.2.2: never about these. */
static void no_error_about(void)
{
    setup();
    udp_packet(20);
    pk.multicast = true;
    icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PORT);
    udp_packet(20);
    pk.dst = ipaddr_from_v4(IP(10, 0, 0, 255));
    icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PORT);
    udp_packet(20);
    pk.src = ipaddr_from_v4(IP(224, 0, 0, 9));
    icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PORT);
    udp_packet(20);
    be16_put(bytes + 6, 1); /* not the first fragment */
    icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PORT);
    static const uint8_t errors[] = {3, 4, 5, 11, 12};
    for (unsigned i = 0; i < sizeof errors; i++) {
        icmp_packet(errors[i], 0, 40);
        icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PROTOCOL);
    }
    ip_packet(IP_ICMP, "", 0);
    icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PROTOCOL);
    CU_ASSERT_EQUAL(fx_nsent, 0);
    CU_ASSERT_EQUAL(fx.stats.icmp_rate_limited, 0);
    udp_packet(20);
    be16_put(bytes + 6, 0x2000); /* the first fragment may be */
    icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PORT);
    CU_ASSERT_EQUAL(fx_nsent, 1);
    fx_teardown();
}

static void error_rate(void)
{
    setup();
    udp_packet(20);
    for (unsigned i = 0; i < ICMP_ERROR_BURST + 10; i++)
        icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PORT);
    CU_ASSERT_EQUAL(fx_nsent, ICMP_ERROR_BURST);
    CU_ASSERT_EQUAL(fx.stats.icmp_rate_limited, 10);
    CU_ASSERT_EQUAL(fx.stats.icmp_errors_sent, ICMP_ERROR_BURST);
    fx.now_ns += 3 * NS_PER_MS;
    for (unsigned i = 0; i < 10; i++)
        icmp_send_unreach(&fx, &pk, ICMP_UNREACH_PORT);
    CU_ASSERT_EQUAL(fx_nsent, ICMP_ERROR_BURST + 3);
    icmp_packet(ICMP_ECHO, 0, 8); /* pings have a bucket of their own */
    icmp_input(&fx, &pk);
    CU_ASSERT_EQUAL(fx_nsent, ICMP_ERROR_BURST + 4);
    fx_teardown();
}

/* ---- errors that we get */

/* An error about a segment of ours to PEER:80 from port 4000; ip_words long header; quoting quote
 * bytes of TCP. */
static void error_packet(uint8_t type, uint8_t code, uint32_t ip_words, uint32_t quote)
{
    uint8_t m[200] = {type, code, 0, 0, 0, 0, 1280 >> 8, 1280 & 255};
    uint32_t src = FX_IP, dst = PEER;
    uint8_t *ip = m + 8, *tcp = ip + ip_words * 4;
    ip[0] = (uint8_t)(0x40 | ip_words);
    be16_put(ip + 2, 1500);
    be16_put(ip + 6, 0x4000);
    ip[9] = IP_TCP;
    memcpy(ip + 12, &src, 4);
    memcpy(ip + 16, &dst, 4);
    be16_put(tcp, 4000);
    be16_put(tcp + 2, 80);
    be32_put(tcp + 4, 0xdeadbeef);
    ip_packet(IP_ICMP, m, 8 + ip_words * 4 + quote);
    checksum();
}

static void errors_reach_tcp(void)
{
    static const uint8_t types[] = {3, 11, 12};
    setup();
    for (unsigned t = 0; t < 3; t++) {
        for (uint32_t words = 5; words <= 15; words++) {
            struct ipaddr local = ipaddr_from_v4(FX_IP), remote = ipaddr_from_v4(PEER);
            memset(&told, 0, sizeof told);
            error_packet(types[t], 4, words, 8);
            icmp_input(&fx, &pk);
            CU_ASSERT_EQUAL(told.type, types[t]);
            CU_ASSERT_EQUAL(told.code, 4);
            CU_ASSERT_EQUAL(told.mtu, 1280);
            CU_ASSERT_EQUAL(told.local_port, 4000);
            CU_ASSERT_EQUAL(told.remote_port, 80);
            CU_ASSERT_EQUAL(told.seq, 0xdeadbeef);
            CU_ASSERT_TRUE(ipaddr_equal(&told_local, &local));
            CU_ASSERT_TRUE(ipaddr_equal(&told_remote, &remote));
        }
    }
    CU_ASSERT_EQUAL(told_n, 33);
    CU_ASSERT_EQUAL(fx_drops(), 0);
    CU_ASSERT_EQUAL(fx_nsent, 0);
    fx_teardown();
}

static void errors_cut_short(void)
{
    setup();
    unsigned n = 0;
    for (uint32_t len = 0; len < 8 + 20 + 8; len++, n++) {
        error_packet(3, 1, 5, 8);
        pk.len = len;
        if (len >= 4)
            checksum();
        icmp_input(&fx, &pk);
    }
    error_packet(3, 1, 6, 7); /* options push the ports out */
    icmp_input(&fx, &pk);
    error_packet(3, 1, 5, 8);
    pk.p[8] = 0x44; /* header too short, */
    checksum();
    icmp_input(&fx, &pk);
    error_packet(3, 1, 5, 8);
    pk.p[8] = 0x65; /* not IPv4 */
    checksum();
    icmp_input(&fx, &pk);
    CU_ASSERT_EQUAL(fx.stats.drop_icmp_short, n + 3);
    CU_ASSERT_EQUAL(fx_drops(), n + 3);
    CU_ASSERT_EQUAL(told_n, 0);
    fx_teardown();
}

static void errors_about_others(void)
{
    setup();
    error_packet(3, 1, 5, 8);
    pk.p[8 + 12] ^= 1; /* not from us */
    checksum();
    icmp_input(&fx, &pk);
    error_packet(3, 1, 5, 8);
    pk.p[8 + 9] = IP_UDP;
    checksum();
    icmp_input(&fx, &pk);
    error_packet(3, 1, 5, 8);
    pk.p[8 + 7] = 1; /* a later fragment holds no ports */
    checksum();
    icmp_input(&fx, &pk);
    CU_ASSERT_EQUAL(fx.stats.drop_icmp_type, 3);
    CU_ASSERT_EQUAL(fx_drops(), 3);
    CU_ASSERT_EQUAL(told_n, 0);
    fx_teardown();
}

static void bad_checksum(void)
{
    setup();
    fx.cfg.rx_csum_trusted = true; /* links do not look at ICMP's */
    icmp_packet(ICMP_ECHO, 0, 64);
    for (unsigned i = 0; i < 64; i++) {
        pk.p[i] ^= 0x40;
        icmp_input(&fx, &pk);
        pk.p[i] ^= 0x40;
    }
    CU_ASSERT_EQUAL(fx.stats.drop_icmp_csum, 64);
    CU_ASSERT_EQUAL(fx_drops(), 64);
    CU_ASSERT_EQUAL(fx_nsent, 0);
    fx_teardown();
}

/* Replies that we did not ask for, redirects, source quench (RFC 6633), time stamps, ... */
static void other_types(void)
{
    setup();
    unsigned n = 0;
    for (unsigned type = 0; type < 256; type++) {
        if (type == 3 || type == 8 || type == 11 || type == 12)
            continue;
        icmp_packet((uint8_t)type, 0, 64);
        icmp_input(&fx, &pk);
        n++;
    }
    CU_ASSERT_EQUAL(fx.stats.drop_icmp_type, n);
    CU_ASSERT_EQUAL(fx_drops(), n);
    CU_ASSERT_EQUAL(fx_nsent + told_n, 0);
    fx_teardown();
}

CHECK_MAIN("icmp", CHECK(echo), CHECK(echo_larger_than_the_mtu), CHECK(echo_without_memory),
           CHECK(echo_rate), CHECK(unreachable), CHECK(no_error_about), CHECK(error_rate),
           CHECK(errors_reach_tcp), CHECK(errors_cut_short), CHECK(errors_about_others),
           CHECK(bad_checksum), CHECK(other_types))
