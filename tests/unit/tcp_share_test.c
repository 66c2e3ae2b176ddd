/* tcp_share_test.c - one of several stacks with one address: which frames it claims, and how a
 * connection changes its port. netif_group_test has several of them work together. */
#include <errno.h>

#include "peer.h"
#include "player.h"

#define SHARE_COUNT 3u
#define SHARE_INDEX 1u

static struct peer p;

static void open_share(void)
{
    peer_open(&p, &(struct zest_config){.share_count = SHARE_COUNT, .share_index = SHARE_INDEX});
}

/* As a link would hand the frame over, in segments of cut bytes (0: in one). */
static enum zest_claim claim_frame(const uint8_t *frame, size_t len, uint32_t cut, zest_handle *h)
{
    struct zbuf *zb = wire_receive(zbuf_budget_app(p.pool), frame, len, 0, cut, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    enum zest_claim claim = zest_claim(p.z, zb, h);
    zbuf_chain_free(zb);
    return claim;
}

static enum zest_claim claim_seg(const struct wire *w)
{
    static uint8_t frame[WIRE_MAX];
    zest_handle h;
    return claim_frame(frame, wire_build_tcp(w, frame), 0, &h);
}

static enum zest_claim claim(uint8_t flags, uint32_t seq, uint32_t ack)
{
    struct wire w = peer_seg(&p, flags, seq, ack);
    return claim_seg(&w);
}

static void only_a_listener_claims_a_syn(void)
{
    open_share();
    p.stack_port = 80;
    CU_ASSERT_EQUAL(claim(WIRE_SYN, 0, 0), ZEST_CLAIM_STRAY);
    peer_listen(&p, 80);
    CU_ASSERT_EQUAL(claim(WIRE_SYN, 0, 0), ZEST_CLAIM_OURS);
    CU_ASSERT_EQUAL(claim(WIRE_SYN | WIRE_ECE | WIRE_CWR, 0, 0), ZEST_CLAIM_OURS);
    /* What would be answered with a RST, or needs a connection, may be another's. */
    CU_ASSERT_EQUAL(claim(WIRE_ACK, 1, 1), ZEST_CLAIM_STRAY);
    CU_ASSERT_EQUAL(claim(WIRE_SYN | WIRE_ACK, 0, 1), ZEST_CLAIM_STRAY);
    CU_ASSERT_EQUAL(claim(WIRE_SYN | WIRE_RST, 0, 0), ZEST_CLAIM_STRAY);
    CU_ASSERT_EQUAL(claim(WIRE_RST, 0, 0), ZEST_CLAIM_STRAY);
    CU_ASSERT_EQUAL(peer_stats(&p).rx_frames, 0); /* and nothing was changed by asking */
    peer_close(&p);
}

static void an_established_connection_claims_all(void)
{
    open_share();
    peer_establish(&p);
    CU_ASSERT_EQUAL(claim(WIRE_ACK, 1, 1), ZEST_CLAIM_OURS);
    CU_ASSERT_EQUAL(claim(WIRE_ACK, 1u << 30, 1u << 30), ZEST_CLAIM_OURS);
    CU_ASSERT_EQUAL(claim(WIRE_RST, 77, 0), ZEST_CLAIM_OURS);
    CU_ASSERT_EQUAL(claim(WIRE_SYN | WIRE_ACK, 77, 1), ZEST_CLAIM_OURS);
    p.port++;
    CU_ASSERT_EQUAL(claim(WIRE_ACK, 1, 1), ZEST_CLAIM_STRAY);
    p.port--;
    p.stack_port++;
    CU_ASSERT_EQUAL(claim(WIRE_ACK, 1, 1), ZEST_CLAIM_STRAY);
    peer_close(&p);
}

/* A peer whose second SYN took another queue has a half-open connection in each of two stacks, and
 * goes on with one of them. */
static void a_half_open_connection_claims_what_fits(void)
{
    open_share();
    peer_listen(&p, 80);
    peer_send(&p, WIRE_SYN, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(claim(WIRE_ACK, 1, 1), ZEST_CLAIM_OURS);
    CU_ASSERT_EQUAL(claim(WIRE_ACK, 1, 0), ZEST_CLAIM_STRAY); /* not of our SYN, */
    CU_ASSERT_EQUAL(claim(WIRE_ACK, 1, 2), ZEST_CLAIM_STRAY); /* or of more than it */
    CU_ASSERT_EQUAL(claim(WIRE_SYN, 0, 0), ZEST_CLAIM_OURS);
    CU_ASSERT_EQUAL(claim(WIRE_RST, 1, 0), ZEST_CLAIM_OURS);
    CU_ASSERT_EQUAL(claim(WIRE_RST, 2, 0), ZEST_CLAIM_STRAY);
    CU_ASSERT_EQUAL(claim(WIRE_RST | WIRE_ACK, 1, 2), ZEST_CLAIM_STRAY);
    peer_close(&p);
}

static void the_answer_names_its_connection(void)
{
    static uint8_t frame[WIRE_MAX];
    struct zest_addr to;
    zest_handle h = 0;
    open_share();
    zest_addr_parse(&to, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &to, NULL, &p.conn), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    struct wire w = peer_seg(&p, WIRE_SYN | WIRE_ACK, 0, 1);
    CU_ASSERT_EQUAL(claim_frame(frame, wire_build_tcp(&w, frame), 0, &h), ZEST_CLAIM_ANSWER);
    CU_ASSERT_EQUAL(h, p.conn);
    CU_ASSERT_EQUAL(claim(WIRE_SYN | WIRE_ACK, 0, 2), ZEST_CLAIM_OURS); /* of nothing: refused */
    CU_ASSERT_EQUAL(claim(WIRE_SYN, 0, 0), ZEST_CLAIM_OURS);            /* both open */
    CU_ASSERT_EQUAL(claim(WIRE_RST | WIRE_ACK, 0, 1), ZEST_CLAIM_OURS);
    peer_close(&p);
}

/* A frame that fills several segments is claimed by its headers, in the first of them. */
static void chains_are_claimed_alike(void)
{
    static uint8_t frame[WIRE_MAX], data[3000];
    zest_handle h;
    open_share();
    peer_establish(&p);
    for (int ours = 1; ours >= 0; ours--) {
        struct wire w = peer_seg(&p, WIRE_ACK, 1, 1);
        w.sport = (uint16_t)(w.sport + !ours);
        w.payload = data;
        w.payload_len = sizeof data;
        size_t len = wire_build_tcp(&w, frame);
        enum zest_claim expected = ours ? ZEST_CLAIM_OURS : ZEST_CLAIM_STRAY;
        CU_ASSERT_EQUAL(claim_frame(frame, len, 0, &h), expected);
        CU_ASSERT_EQUAL(claim_frame(frame, len, 1024, &h), expected);
        CU_ASSERT_EQUAL(claim_frame(frame, len, 54, &h), expected);
        CU_ASSERT_EQUAL(claim_frame(frame, len, 53, &h), ZEST_CLAIM_OURS); /* not all headers */
        CU_ASSERT_EQUAL(claim_frame(frame, len - 1, 1024, &h), ZEST_CLAIM_OURS); /* cut short */
    }
    peer_close(&p);
}

/* What is malformed, a fragment, of another protocol or for another host is nobody else's business:
 * whoever has it drops and counts it. */
static void what_is_no_segment_stays(void)
{
    static uint8_t frame[WIRE_MAX];
    zest_handle h;
    open_share();
    p.stack_port = 80;
    struct wire w = peer_seg(&p, WIRE_ACK, 1, 1);
    size_t len = wire_build_tcp(&w, frame);
    CU_ASSERT_EQUAL(claim_frame(frame, len, 0, &h), ZEST_CLAIM_STRAY);
    for (size_t n = 1; n < len; n++)
        CU_ASSERT_EQUAL(claim_frame(frame, n, 0, &h), ZEST_CLAIM_OURS);
    static const struct {
        uint8_t at, value;
    } change[] = {{0, 1},   {13, 6},    {14, 0x65}, {14, 0x44}, {14, 0x4f},
                  {17, 19}, {20, 0x20}, {21, 1},    {23, 17},   {33, 9}};
    for (size_t i = 0; i < sizeof change / sizeof change[0]; i++) {
        uint8_t was = frame[change[i].at];
        frame[change[i].at] = change[i].value;
        CU_ASSERT_EQUAL(claim_frame(frame, len, 0, &h), ZEST_CLAIM_OURS);
        frame[change[i].at] = was;
    }
    CU_ASSERT_EQUAL(claim_frame(frame, len, 0, &h), ZEST_CLAIM_STRAY);
    peer_close(&p);
}

/* An ICMP error comes in where its addresses hash to: it is for who sent what it quotes. */
static void icmp_errors_follow_their_connection(void)
{
    static uint8_t frame[WIRE_MAX], quote[WIRE_MAX];
    zest_handle h;
    open_share();
    peer_establish(&p);
    struct wire w = peer_seg(&p, 0, 0, 0);
    struct wire sent = w;
    sent.src = w.dst, sent.dst = w.src;
    sent.sport = w.dport, sent.dport = w.sport;
    wire_build_tcp(&sent, quote);
    w.payload = quote + 14;
    w.payload_len = 28;
    for (unsigned type = 0; type < 256; type++) {
        bool error = type == 3 || type == 11 || type == 12;
        w.icmp_type = (uint8_t)type;
        size_t len = wire_build_icmp(&w, frame, 0);
        CU_ASSERT_EQUAL(claim_frame(frame, len, 0, &h), ZEST_CLAIM_OURS);
        CU_ASSERT_EQUAL(frame[65], 0xa0); /* port 4000 = 0x0fa0 of the peer's, in the quote */
        frame[65] ^= 1;
        CU_ASSERT_EQUAL(claim_frame(frame, len, 0, &h), error ? ZEST_CLAIM_STRAY : ZEST_CLAIM_OURS);
        for (size_t n = 1; error && n < len; n++)
            CU_ASSERT_EQUAL(claim_frame(frame, n, 0, &h), ZEST_CLAIM_OURS);
    }
    /* A quote that is no segment: IPv6, impossible or long headers, UDP. */
    w.icmp_type = 3;
    size_t len = wire_build_icmp(&w, frame, 0);
    frame[65] ^= 1;
    static const struct {
        uint8_t at, value;
    } change[] = {{42, 0x65}, {42, 0x44}, {42, 0x46}, {51, 17}};
    for (size_t i = 0; i < sizeof change / sizeof change[0]; i++) {
        uint8_t was = frame[change[i].at];
        frame[change[i].at] = change[i].value;
        CU_ASSERT_EQUAL(claim_frame(frame, len, 0, &h), ZEST_CLAIM_OURS);
        frame[change[i].at] = was;
    }
    peer_close(&p);
}

static void a_share_must_be_one_of_the_count(void)
{
    open_share();
    struct zest_config cfg = {.pool = p.pool, .share_count = 3, .share_index = 2};
    zest_addr_parse(&cfg.ip, "10.0.0.1", 0);
    cfg.mac[5] = 1;
    CU_ASSERT(zest_size(&cfg) > 0);
    cfg.share_index = 3;
    CU_ASSERT_EQUAL(zest_size(&cfg), 0);
    peer_close(&p);
}

/* Every share_count-th port is this stack's. When all of them lead to one peer there is none left
 * for it; to another there are. */
static void ports_are_those_of_the_share(void)
{
    struct zest_addr to;
    struct zest_conn_info info;
    zest_handle c, more;
    peer_open(&p, &(struct zest_config){.share_count = 250, .share_index = 7});
    zest_addr_parse(&to, "10.0.0.2", 4000);
    unsigned n = 0;
    while (n < 1000 && zest_connect(p.z, &to, NULL, &c) == 0) {
        CU_ASSERT_EQUAL(zest_conn_info(p.z, c, &info), 0);
        CU_ASSERT_EQUAL(info.local.port % 250, 7);
        CU_ASSERT(info.local.port >= 32768 && info.local.port < 61000);
        n++;
    }
    CU_ASSERT_EQUAL(n, 112);
    CU_ASSERT_EQUAL(zest_connect(p.z, &to, NULL, &more), -EADDRNOTAVAIL);
    CU_ASSERT_EQUAL(zest_change_port(p.z, c, 0), -EADDRNOTAVAIL);
    to.port++;
    CU_ASSERT_EQUAL(zest_connect(p.z, &to, NULL, &more), 0);
    /* A port that someone listens on is not taken. */
    CU_ASSERT_EQUAL(zest_conn_info(p.z, c, &info), 0);
    peer_listen(&p, info.local.port);
    CU_ASSERT_EQUAL(zest_abort(p.z, c), 0);
    to.port--;
    CU_ASSERT_EQUAL(zest_connect(p.z, &to, NULL, &c), -EADDRNOTAVAIL);
    peer_close(&p);
}

/* The peer's half of the old connection is reset; the new one keeps its numbers, and what was
 * written. */
static void a_change_of_port_begins_anew(void)
{
    struct zest_addr to;
    struct zest_conn_info info;
    open_share();
    zest_addr_parse(&to, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &to, NULL, &p.conn), 0);
    CU_ASSERT_EQUAL(zest_write_copy(p.z, p.conn, "early", 5), 5);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    uint16_t old = p.out[0].sport;
    uint32_t iss = p.irs;
    CU_ASSERT_EQUAL(zest_change_port(p.z, p.conn, 0), 0);
    CU_ASSERT_EQUAL(zest_conn_info(p.z, p.conn, &info), 0);
    CU_ASSERT_NOT_EQUAL(info.local.port, old);
    CU_ASSERT_EQUAL(info.local.port % SHARE_COUNT, SHARE_INDEX);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 2);
    CU_ASSERT_EQUAL(p.out[0].flags, WIRE_RST);
    CU_ASSERT_EQUAL(p.out[0].sport, old);
    CU_ASSERT_EQUAL(p.out[0].seq, iss + 1);
    CU_ASSERT_EQUAL(p.out[1].flags, WIRE_SYN);
    CU_ASSERT_EQUAL(p.out[1].sport, info.local.port);
    CU_ASSERT_EQUAL(p.out[1].seq, iss);
    /* Its answer is taken, and an answer to the old one is nobody's. */
    CU_ASSERT_EQUAL(claim(WIRE_SYN | WIRE_ACK, 0, 1), ZEST_CLAIM_STRAY);
    p.stack_port = info.local.port;
    peer_send(&p, WIRE_SYN | WIRE_ACK, 0, 1, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    EXPECT_SEG(&p, 0, WIRE_ACK, 1, 1, 5);
    CU_ASSERT_EQUAL(memcmp(p.out[0].payload, "early", 5), 0);
    CU_ASSERT_EQUAL(zest_change_port(p.z, p.conn, 0), -EISCONN);
    peer_close(&p);
}

/* Before the SYN has left there is nothing to undo. */
static void before_the_syn_nobody_is_told(void)
{
    struct zest_addr to;
    open_share();
    zest_addr_parse(&to, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &to, NULL, &p.conn), 0);
    CU_ASSERT_EQUAL(zest_change_port(p.z, p.conn, 40000), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL_FATAL(p.n, 1);
    CU_ASSERT_EQUAL(p.out[0].flags, WIRE_SYN);
    CU_ASSERT_EQUAL(p.out[0].sport, 40000);
    peer_close(&p);
}

static void a_change_of_port_is_refused(void)
{
    struct zest_addr to, from;
    zest_handle a, b;
    open_share();
    peer_listen(&p, 80);
    zest_addr_parse(&to, "10.0.0.2", p.port);
    zest_addr_parse(&from, "10.0.0.1", 1234);
    CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &to, &from, &a), 0);
    CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &to, NULL, &b), 0);
    CU_ASSERT_EQUAL(zest_change_port(p.z, p.listener, 5), -EBADF);
    CU_ASSERT_EQUAL(zest_change_port(p.z, b, 1234), -EADDRINUSE);
    CU_ASSERT_EQUAL(zest_change_port(p.z, a, 0), -EADDRNOTAVAIL); /* it was asked for */
    CU_ASSERT_EQUAL(zest_change_port(p.z, a, 1235), 0);
    /* Who finds no port whose answers come in here must stop looking. */
    for (unsigned i = 0; i < 8 * SHARE_COUNT; i++)
        CU_ASSERT_EQUAL(zest_change_port(p.z, b, 0), 0);
    CU_ASSERT_EQUAL(zest_change_port(p.z, b, 0), -EADDRNOTAVAIL);
    peer_close(&p);
}

static void a_change_of_port_plays_again(void)
{
    static uint8_t memory[ZEST_RECORD_MIN], file[ZEST_RECORD_MIN];
    struct zest_replay_result res;
    struct zest_recording rec;

    peer_open(&p, &(struct zest_config){.share_count = SHARE_COUNT,
                                        .share_index = SHARE_INDEX,
                                        .record_mem = memory,
                                        .record_size = sizeof memory});
    CU_ASSERT_EQUAL_FATAL(peer_connect(&p, "10.0.0.2", NULL), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL(zest_change_port(p.z, p.conn, 0), 0);
    CU_ASSERT_EQUAL(zest_change_port(p.z, p.conn, 40000), 0);
    peer_flush(&p);
    p.stack_port = 40000;
    peer_send(&p, S | A, 0, 1, NULL, 0);
    CU_ASSERT_EQUAL(zest_change_port(p.z, p.conn, 0), -EISCONN);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_ESTABLISHED);
    size_t len = player_gather(p.z, file, &rec);
    CU_ASSERT_EQUAL(replay(file, len, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_IDENTICAL);
    player_end();
    peer_close(&p);
}

CHECK_MAIN("tcp share", CHECK(only_a_listener_claims_a_syn),
           CHECK(an_established_connection_claims_all),
           CHECK(a_half_open_connection_claims_what_fits), CHECK(the_answer_names_its_connection),
           CHECK(chains_are_claimed_alike), CHECK(what_is_no_segment_stays),
           CHECK(icmp_errors_follow_their_connection), CHECK(a_share_must_be_one_of_the_count),
           CHECK(ports_are_those_of_the_share), CHECK(a_change_of_port_begins_anew),
           CHECK(before_the_syn_nobody_is_told), CHECK(a_change_of_port_is_refused),
           CHECK(a_change_of_port_plays_again))
