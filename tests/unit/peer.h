/* peer.h - one stack (10.0.0.1) and a peer (10.0.0.2) that a test plays by hand, segment by
 * segment, in virtual time.
 *
 *     peer_open(&p, NULL);
 *     peer_listen(&p, 80);
 *     peer_syn(&p);  expect(&p, WIRE_SYN | WIRE_ACK, ...)
 *
 * Sequence numbers of the peer begin at p.iss; those of the stack are taken from its SYN.
 * peer_send() delivers a segment and lets the stack answer; peer_wait() lets time pass, timer by
 * timer. What the stack sent meanwhile is in p.out[0 .. p.n-1], taken apart. ARP is answered on the
 * peer's behalf. */
#ifndef PEER_H
#define PEER_H

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "stack/zest.h"
#include "tests/lib/wire.h"

#define PEER_OUT 256u

/* Short names, for tests that are mostly segments. */
#define S   WIRE_SYN
#define A   WIRE_ACK
#define F   WIRE_FIN
#define R   WIRE_RST
#define MSS 1460u /* that the peer says in its SYN */
#define MS  1000000ull

static const uint8_t zeros[4096];

struct peer {
    struct zbuf_pool *pool;
    void *mem;
    struct zest *z;
    uint64_t now_ns;
    /* the peer's side of one connection */
    uint32_t iss, irs; /* ours; the stack's */
    uint16_t port, stack_port;
    uint16_t wnd;
    bool ts; /* send timestamps: ts_val grows with time, ts_ecr is the last seen */
    uint32_t ts_last, ts_base;
    bool no_arp;
    uint32_t cut;    /* frames arrive in segments of so many bytes; 0 = in one */
    uint32_t rx_seg; /* size of these; 0 = as is needed */
    /* what the stack sent */
    struct wire out[PEER_OUT];
    uint8_t bytes[PEER_OUT][2048];
    uint64_t at_ns[PEER_OUT];
    unsigned n;
    struct zbuf_budget *rx; /* what the link receives into; NULL = the application's */
    zest_handle listener, conn;
    uint32_t events; /* of conn, since peer_events() last */
    int error;
};

static void peer_collect(struct peer *p);

static inline void peer_frame(struct peer *p, const uint8_t *frame, size_t len)
{
    struct zbuf *zb =
        wire_receive(p->rx ? p->rx : zbuf_budget_app(p->pool), frame, len, 0, p->cut, p->rx_seg);
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    zest_input(p->z, p->now_ns, &zb, 1);
    peer_collect(p);
}

static void peer_collect(struct peer *p)
{
    static uint8_t buf[WIRE_MAX], reply[WIRE_MAX];
    struct zest_frame f[8];
    unsigned n;

    while ((n = zest_output(p->z, p->now_ns, f, 8)) > 0) {
        for (unsigned i = 0; i < n; i++) {
            const char *why = "";
            struct wire w;
            size_t len = wire_gather(p->pool, &f[i], buf, &why);
            if (len)
                why = wire_parse(&w, buf, len);
            if (why) {
                CU_FAIL("a malformed frame");
                printf("%s\n", why);
            }
            for (unsigned s = 0; s < f[i].n; s++)
                zbuf_tx_done(p->pool, f[i].seg[s].addr);
            if (w.eth_type == 0x0806) {
                if (w.arp_op == 1 && w.arp_tpa == 0x0a000002 && !p->no_arp) {
                    struct wire a = {.eth_type = 0x0806,
                                     .arp_op = 2,
                                     .arp_spa = w.arp_tpa,
                                     .arp_tpa = w.arp_spa};
                    memcpy(a.eth_dst, w.eth_src, 6);
                    memcpy(a.eth_src, (uint8_t[6]){2, 0, 0, 0, 0, 2}, 6);
                    memcpy(a.arp_sha, a.eth_src, 6);
                    peer_frame(p, reply, wire_build_arp(&a, reply));
                }
                continue;
            }
            if (p->n == PEER_OUT)
                continue;
            memcpy(p->bytes[p->n], buf, len < 2048 ? len : 2048);
            (void)wire_parse(&w, p->bytes[p->n], len);
            if (w.flags & WIRE_SYN)
                p->irs = w.seq;
            if (w.proto == 6 && !p->stack_port)
                p->stack_port = w.sport;
            if (w.opt.has_ts)
                p->ts_last = w.opt.ts_val;
            p->at_ns[p->n] = p->now_ns;
            p->out[p->n++] = w;
        }
    }
}

static inline void peer_open(struct peer *p, const struct zest_config *proto)
{
    struct zest_config cfg = proto ? *proto : (struct zest_config){0};

    memset(p, 0, sizeof *p);
    p->now_ns = 5000000000;
    p->iss = 0xfffffff0; /* sequence numbers wrap soon */
    p->port = 4000;
    p->wnd = 65535;
    p->ts_base = 100;
    p->pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 32u << 20, .no_huge = true});
    cfg.pool = p->pool;
    zest_addr_parse(&cfg.ip, "10.0.0.1", 0);
    memcpy(cfg.mac, (uint8_t[6]){2, 0, 0, 0, 0, 1}, 6);
    memset(cfg.secret, 'x', sizeof cfg.secret);
    size_t n = zest_size(&cfg);
    if (n == 0 || !(p->mem = aligned_alloc(64, (n + 63) & ~63ull)) ||
        zest_init(p->mem, &cfg, &p->z) < 0)
        abort();
}

/* A segment of the peer's, seq and ack relative to the two initial sequence numbers. Fields can be
 * changed before it is delivered. */
static inline struct wire peer_seg(struct peer *p, uint8_t flags, uint32_t seq, uint32_t ack)
{
    struct wire w = {.eth_type = 0x0800,
                     .proto = 6,
                     .src = 0x0a000002,
                     .dst = 0x0a000001,
                     .sport = p->port,
                     .dport = p->stack_port,
                     .flags = flags,
                     .seq = p->iss + seq,
                     .wnd = p->wnd};
    memcpy(w.eth_dst, (uint8_t[6]){2, 0, 0, 0, 0, 1}, 6);
    memcpy(w.eth_src, (uint8_t[6]){2, 0, 0, 0, 0, 2}, 6);
    if (flags & WIRE_ACK)
        w.ack = p->irs + ack;
    if (p->ts) {
        w.opt.has_ts = true;
        w.opt.ts_val = p->ts_base + (uint32_t)(p->now_ns / 1000000);
        w.opt.ts_ecr = p->ts_last;
    }
    return w;
}

static inline void peer_deliver(struct peer *p, const struct wire *w)
{
    static uint8_t buf[WIRE_MAX];

    p->n = 0;
    peer_frame(p, buf, wire_build_tcp(w, buf));
}

static inline void peer_send(struct peer *p, uint8_t flags, uint32_t seq, uint32_t ack,
                             const void *data, uint32_t len)
{
    struct wire w = peer_seg(p, flags, seq, ack);
    w.payload = data;
    w.payload_len = len;
    peer_deliver(p, &w);
}

/* Lets ns pass; the stack wakes at each of its deadlines. */
static inline void peer_wait(struct peer *p, uint64_t ns)
{
    uint64_t until_ns = p->now_ns + ns;

    p->n = 0;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t d = zest_deadline(p->z);
        if (d > until_ns)
            break;
        p->now_ns = d > p->now_ns ? d : p->now_ns;
        peer_collect(p);
    }
    p->now_ns = until_ns;
}

/* What an API call led to. */
static inline void peer_flush(struct peer *p)
{
    p->n = 0;
    peer_collect(p);
}

static inline uint32_t peer_events(struct peer *p)
{
    struct zest_event ev[16];
    uint32_t seen = 0;

    for (unsigned n; (n = zest_events(p->z, ev, 16)) > 0;)
        for (unsigned i = 0; i < n; i++) {
            seen |= ev[i].events;
            if (ev[i].events & ZEST_EV_ERROR)
                p->error = ev[i].error;
        }
    return seen;
}

/* The next event's bits; *error is what comes with them. */
static inline uint32_t peer_event(struct peer *p, int *error)
{
    struct zest_event ev = {0};
    unsigned n = zest_events(p->z, &ev, 1);
    *error = ev.error;
    return n ? ev.events : 0;
}

static inline void peer_listen(struct peer *p, uint16_t port)
{
    struct zest_addr a = {.port = port};
    CU_ASSERT_EQUAL_FATAL(zest_listen(p->z, &a, 0, &p->listener), 0);
    p->stack_port = port;
}

/* The peer opens a connection to the port that the stack listens on. */
static inline void peer_handshake(struct peer *p)
{
    struct wire syn = peer_seg(p, WIRE_SYN, 0, 0);
    syn.opt.has_mss = true;
    syn.opt.mss = 1460;
    peer_deliver(p, &syn);
    CU_ASSERT_EQUAL_FATAL(p->n, 1);
    CU_ASSERT_EQUAL(p->out[0].flags, WIRE_SYN | WIRE_ACK);
    peer_send(p, WIRE_ACK, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p->z, p->listener, &p->conn, NULL), 0);
    peer_events(p);
}

static inline void peer_establish(struct peer *p)
{
    peer_listen(p, 80);
    peer_handshake(p);
}

/* Begins a connection to port 4000 there. */
static inline int peer_connect(struct peer *p, const char *ip, const struct zest_addr *local)
{
    struct zest_addr a;
    zest_addr_parse(&a, ip, p->port);
    return zest_connect(p->z, &a, local, &p->conn);
}

/* The stack is connected to port 4000 of the peer. */
static inline void peer_connected(struct peer *p)
{
    CU_ASSERT_EQUAL_FATAL(peer_connect(p, "10.0.0.2", NULL), 0);
    peer_flush(p);
    CU_ASSERT_EQUAL_FATAL(p->n, 1);
    CU_ASSERT_EQUAL(p->out[0].flags, WIRE_SYN);
    struct wire w = peer_seg(p, WIRE_SYN | WIRE_ACK, 0, 1);
    w.opt.has_mss = true;
    w.opt.mss = 1460;
    peer_deliver(p, &w);
    peer_events(p);
}

static inline enum zest_tcp_state peer_state(struct peer *p)
{
    struct zest_conn_info i = {0};
    CU_ASSERT_EQUAL(zest_conn_info(p->z, p->conn, &i), 0);
    return i.state;
}

/* Writes len bytes of a pattern from zbufs that hold one segment each. Returns what was taken. */
static inline uint32_t peer_write(struct peer *p, uint32_t len)
{
    uint32_t done = 0;

    while (done < len) {
        struct zbuf *zb = zbuf_alloc(p->pool, 1460);
        uint32_t n = len - done < 1460 ? len - done : 1460;
        if (!zb)
            break;
        for (uint32_t i = 0; i < n; i++)
            zb->data[i] = (uint8_t)(done + i);
        ssize_t w = zest_write(p->z, p->conn, zb->data, n);
        zbuf_free(zb);
        if (w <= 0)
            break;
        done += (uint32_t)w;
    }
    peer_flush(p);
    return done;
}

/* Everything that can be read, as bytes. */
static inline uint32_t peer_read(struct peer *p, uint8_t *buf, uint32_t size)
{
    struct zest_view v;
    uint32_t n = 0;

    while (zest_read(p->z, p->conn, &v, 1) == 1) {
        if (n + v.len <= size)
            memcpy(buf + n, v.addr, v.len);
        n += v.len;
        zest_release(p->z, p->conn, &v, 1);
    }
    return n;
}

static inline struct zest_stats peer_stats(struct peer *p)
{
    struct zest_stats st;
    zest_stats(p->z, &st);
    return st;
}

static inline struct zest_conn_info peer_info(struct peer *p)
{
    struct zest_conn_info i = {0};
    zest_conn_info(p->z, p->conn, &i);
    return i;
}

static inline void peer_close(struct peer *p)
{
    struct zbuf_pool_stat st;

    zest_fini(p->z);
    free(p->mem);
    zbuf_pool_stat(p->pool, &st);
    CU_ASSERT_EQUAL(st.live, 0); /* every segment is home */
    CU_ASSERT_EQUAL(zbuf_pool_destroy(p->pool), 0);
}

/* The i-th segment out, with relative numbers. */
#define EXPECT_SEG(p, i, f, s, a, l)                                                               \
    do {                                                                                           \
        CU_ASSERT_FATAL((i) < (p)->n);                                                             \
        CU_ASSERT_EQUAL((p)->out[i].flags & ~WIRE_PSH, (f));                                       \
        CU_ASSERT_EQUAL((p)->out[i].seq - (p)->irs, (uint32_t)(s));                                \
        if ((f)&WIRE_ACK)                                                                          \
            CU_ASSERT_EQUAL((p)->out[i].ack - (p)->iss, (uint32_t)(a));                            \
        CU_ASSERT_EQUAL((p)->out[i].payload_len, (uint32_t)(l));                                   \
    } while (0)

#endif
