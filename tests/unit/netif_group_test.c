/* netif_group_test.c - three stacks with one address against one peer, in virtual time. Which of
 * the three gets a frame of the peer's is the test's choice: right, wrong, or anything. */
#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "netif/connect.h"
#include "netif/group.h"
#include "tests/lib/wire.h"

#define N      3u
#define PEER   N /* the stack on the other side */
#define WIRE   4096u
#define BYTES  200000u
#define PORT   7u
#define OTHER  9u /* nobody listens there */
#define SECOND 1000000000ull

static struct zbuf_pool *pool;
static struct netif_group *g;
static struct zest *z[N + 1];
static void *mem[N + 1];
static zest_handle listener[N + 1];
static uint64_t now_ns;
static unsigned (*route)(const struct zbuf *frame); /* to which member */
static unsigned rsts;                               /* that the members sent */
static struct zbuf *wire[WIRE];                     /* to the peer, then to the members */
static unsigned wire_n;
static uint32_t cut; /* frames arrive in segments of so many bytes; 0 = in one */

static struct zest_addr addr(bool peer, uint16_t port)
{
    struct zest_addr a;
    CU_ASSERT_EQUAL_FATAL(zest_addr_parse(&a, peer ? "10.0.0.2" : "10.0.0.1", port), 0);
    return a;
}

static void set_up(void)
{
    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 64u << 20, .no_huge = true});
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    CU_ASSERT_EQUAL_FATAL(netif_group_create(N, &g), 0);
    for (unsigned i = 0; i <= N; i++) {
        struct zest_config cfg = {.pool = pool, .ip = addr(i == PEER, 0), .rx_hold_max = 8u << 20};
        memcpy(cfg.mac, (uint8_t[6]){2, 0, 0, 0, 0, (uint8_t)(1 + (i == PEER))}, 6);
        memset(cfg.secret, 'a' + (int)i, sizeof cfg.secret);
        if (i != PEER) {
            cfg.share_count = N;
            cfg.share_index = (uint8_t)i;
        }
        mem[i] = aligned_alloc(64, (zest_size(&cfg) + 63) & ~(size_t)63);
        CU_ASSERT_EQUAL_FATAL(zest_init(mem[i], &cfg, &z[i]), 0);
        struct zest_addr local = addr(i == PEER, PORT);
        CU_ASSERT_EQUAL_FATAL(zest_listen(z[i], &local, 0, &listener[i]), 0);
    }
    now_ns = SECOND;
    rsts = 0;
    cut = 0;
}

/* All memory is home. */
static void tear_down(void)
{
    struct zbuf_pool_stat st;
    for (unsigned i = 0; i <= N; i++) {
        zest_fini(z[i]);
        free(mem[i]);
    }
    netif_group_destroy(g);
    zbuf_pool_stat(pool, &st);
    CU_ASSERT_EQUAL(st.live, 0);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static struct netif_group_stats stats(unsigned member)
{
    struct netif_group_stats s;
    netif_group_get_stats(g, member, &s);
    return s;
}
static struct netif_group_stats sums(void)
{
    struct netif_group_stats s = {0};
    for (unsigned i = 0; i < N; i++) {
        struct netif_group_stats m = stats(i);
        s.strays += m.strays;
        s.handed += m.handed;
        s.refused += m.refused;
        s.dropped += m.dropped;
        s.port_changes += m.port_changes;
    }
    return s;
}

/* ---- the wire */

static bool is_tcp(const struct zbuf *f)
{
    return f->len >= 54 && f->data[12] == 8 && f->data[13] == 0 && f->data[23] == 6;
}
static uint8_t tcp_flags(const struct zbuf *f)
{
    return f->data[47];
}
static uint16_t dst_port(const struct zbuf *f)
{
    return (uint16_t)(f->data[36] << 8 | f->data[37]);
}

static void collect(struct zest *from)
{
    static uint8_t buf[WIRE_MAX];
    struct zest_frame f[16];
    unsigned n;
    while ((n = zest_output(from, now_ns, f, 16)) > 0)
        for (unsigned i = 0; i < n; i++) {
            const char *why = "";
            size_t len = wire_gather(pool, &f[i], buf, &why);
            CU_ASSERT_FATAL(len > 0 && wire_n < WIRE);
            for (unsigned s = 0; s < f[i].n; s++)
                zbuf_tx_done(pool, f[i].seg[s].addr);
            wire[wire_n] = wire_receive(zbuf_budget_app(pool), buf, len, 0, cut, 4096);
            CU_ASSERT_PTR_NOT_NULL_FATAL(wire[wire_n]);
            wire_n++;
        }
}

/* What a loop does. */
static void receive(unsigned member, struct zbuf *zb)
{
    if (group_sort(g, member, z[member], &zb, 1) == 1)
        zest_input(z[member], now_ns, &zb, 1);
}
static bool hear(unsigned member)
{
    struct zbuf *in[16];
    bool looked;
    unsigned n = group_take(g, member, z[member], in, 16, &looked);
    if (n > 0)
        zest_input(z[member], now_ns, in, n);
    return looked;
}

static bool exchange(void)
{
    bool any = false, heard;
    for (unsigned i = 0; i < N; i++)
        collect(z[i]);
    for (unsigned i = 0; i < wire_n; i++)
        rsts += is_tcp(wire[i]) && (tcp_flags(wire[i]) & 4);
    any |= wire_n > 0;
    if (wire_n > 0)
        zest_input(z[PEER], now_ns, wire, wire_n);
    wire_n = 0;
    collect(z[PEER]);
    any |= wire_n > 0;
    for (unsigned i = 0; i < wire_n; i++)
        receive(route(wire[i]), wire[i]);
    wire_n = 0;
    do {
        heard = false;
        for (unsigned i = 0; i < N; i++)
            heard |= hear(i);
        any |= heard;
    } while (heard);
    return any;
}

static void run(uint64_t for_ns)
{
    uint64_t until = now_ns + for_ns;
    for (;;) {
        while (exchange())
            now_ns += 10000;
        uint64_t next = ZEST_NEVER;
        for (unsigned i = 0; i <= N; i++) {
            uint64_t d = zest_deadline(z[i]);
            next = d < next ? d : next;
        }
        if (next > until)
            break;
        now_ns = next > now_ns ? next : now_ns;
    }
    now_ns = until > now_ns ? until : now_ns;
}

/* ---- ways to route */

static unsigned all_to[1];
static unsigned to_one(const struct zbuf *f)
{
    (void)f;
    return all_to[0];
}
static unsigned anywhere(const struct zbuf *f)
{
    (void)f;
    return (unsigned)rand() % N;
}
/* As a card with a hash would: by the port, and not in the way that the stacks pick theirs. */
static unsigned by_port(const struct zbuf *f)
{
    return is_tcp(f) ? (unsigned)(dst_port(f) / N) % N : 0;
}

/* ---- both ends of a transfer */

static void pump(struct zest *from, zest_handle c, struct zest *to, zest_handle d)
{
    static uint8_t bytes[BYTES], got[BYTES];
    size_t sent = 0, received = 0;
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    for (unsigned turn = 0; turn < 1000 && received < BYTES; turn++) {
        struct zest_view v[16];
        ssize_t w = sent < BYTES ? zest_write_copy(from, c, bytes + sent, BYTES - sent) : 0;
        sent += w > 0 ? (size_t)w : 0;
        run(1000000);
        int n = zest_read(to, d, v, 16);
        for (int i = 0; i < n; i++) {
            CU_ASSERT_FATAL(received + v[i].len <= BYTES);
            memcpy(got + received, v[i].addr, v[i].len);
            received += v[i].len;
        }
        if (n > 0)
            zest_release(to, d, v, (unsigned)n);
    }
    CU_ASSERT_EQUAL(received, BYTES);
    CU_ASSERT_EQUAL(memcmp(bytes, got, BYTES), 0);
}

/* The peer connects; who accepted, and the two handles. */
static unsigned peer_connects(zest_handle *theirs, zest_handle *ours)
{
    struct zest_addr to = addr(false, PORT);
    CU_ASSERT_EQUAL_FATAL(zest_connect(z[PEER], &to, NULL, theirs), 0);
    run(SECOND / 10);
    for (unsigned i = 0; i < N; i++)
        if (zest_accept(z[i], listener[i], ours, NULL) == 0)
            return i;
    CU_FAIL_FATAL("nobody has it");
    return N;
}

static enum zest_tcp_state state(struct zest *s, zest_handle c)
{
    struct zest_conn_info info = {.state = ZEST_CLOSED};
    zest_conn_info(s, c, &info);
    return info.state;
}

/* ---- the tests */

static void right_queue_costs_nothing(void)
{
    zest_handle theirs, ours;
    set_up();
    route = to_one;
    all_to[0] = 1;
    CU_ASSERT_EQUAL(peer_connects(&theirs, &ours), 1);
    pump(z[PEER], theirs, z[1], ours);
    CU_ASSERT_EQUAL(sums().strays, 0);
    CU_ASSERT_EQUAL(sums().handed, 0);
    tear_down();
}

static void handed_on(uint32_t segment)
{
    zest_handle theirs, ours;
    set_up();
    cut = segment;
    route = to_one;
    all_to[0] = 1;
    CU_ASSERT_EQUAL(peer_connects(&theirs, &ours), 1);
    all_to[0] = 2; /* two steps of the ring away */
    pump(z[PEER], theirs, z[1], ours);
    CU_ASSERT(stats(2).strays > 100);
    CU_ASSERT_EQUAL(stats(1).handed, stats(2).strays);
    CU_ASSERT_EQUAL(sums().refused, 0);
    CU_ASSERT_EQUAL(rsts, 0);
    tear_down();
}

static void wrong_queue_is_handed_on(void)
{
    handed_on(0);
}

/* ... as it lies, if it lies in several segments, too. */
static void chains_are_handed_on(void)
{
    handed_on(600);
}

static void any_queue_will_do(void)
{
    zest_handle theirs, ours;
    srand(1);
    set_up();
    route = anywhere;
    unsigned at = peer_connects(&theirs, &ours);
    pump(z[PEER], theirs, z[at], ours);
    pump(z[at], ours, z[PEER], theirs);
    CU_ASSERT(stats(at).handed > 100);
    CU_ASSERT_EQUAL(rsts, 0);
    tear_down();
}

/* A second SYN, on another queue, makes a second half of it; the first goes on. */
static void second_syn_elsewhere(void)
{
    struct zest_addr to = addr(false, PORT);
    zest_handle theirs, ours;
    struct zbuf *syn = NULL;
    set_up();
    route = to_one;
    all_to[0] = 0;
    run(SECOND / 10);
    CU_ASSERT_EQUAL_FATAL(zest_connect(z[PEER], &to, NULL, &theirs), 0);
    for (unsigned i = 0; i < 4 && !syn; i++) { /* ARP first */
        collect(z[PEER]);
        for (unsigned k = 0; k < wire_n; k++) {
            if (is_tcp(wire[k])) {
                syn = zbuf_alloc(pool, 3800);
                memcpy(syn->data, wire[k]->data, wire[k]->len);
                syn->len = wire[k]->len;
            }
            receive(0, wire[k]);
        }
        wire_n = 0;
        collect(z[0]);
        if (!syn && wire_n > 0) {
            zest_input(z[PEER], now_ns, wire, wire_n);
            wire_n = 0;
        }
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(syn);
    all_to[0] = 1; /* the peer goes on from another queue */
    receive(1, syn);
    run(SECOND / 10);
    CU_ASSERT_EQUAL(zest_accept(z[0], listener[0], &ours, NULL), 0);
    CU_ASSERT_EQUAL(state(z[PEER], theirs), ZEST_ESTABLISHED);
    pump(z[PEER], theirs, z[0], ours);
    run(300 * SECOND); /* the other half gives up */
    CU_ASSERT_EQUAL(state(z[PEER], theirs), ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL(state(z[0], ours), ZEST_ESTABLISHED);
    pump(z[0], ours, z[PEER], theirs);
    tear_down();
}

static void nobodys_comes_back_and_is_refused(void)
{
    struct zest_addr to = addr(false, OTHER);
    struct zest_event ev;
    zest_handle c;
    set_up();
    route = to_one;
    all_to[0] = 2;
    CU_ASSERT_EQUAL_FATAL(zest_connect(z[PEER], &to, NULL, &c), 0);
    run(SECOND / 10);
    CU_ASSERT_EQUAL(zest_events(z[PEER], &ev, 1), 1);
    CU_ASSERT(ev.events & ZEST_EV_ERROR);
    CU_ASSERT_EQUAL(ev.error, ECONNREFUSED);
    CU_ASSERT_EQUAL(rsts, 1);
    CU_ASSERT_EQUAL(stats(2).refused, 1);
    CU_ASSERT_EQUAL(sums().strays, 1);
    tear_down();
}

/* One listens, and gets what comes in anywhere. */
static void a_listener_elsewhere_is_found(void)
{
    zest_handle theirs, ours;
    set_up();
    route = to_one;
    all_to[0] = 2;
    CU_ASSERT_EQUAL(zest_close(z[1], listener[1]), 0);
    CU_ASSERT_EQUAL(zest_close(z[2], listener[2]), 0);
    CU_ASSERT_EQUAL(peer_connects(&theirs, &ours), 0);
    pump(z[PEER], theirs, z[0], ours);
    tear_down();
}

/* Each connects; each gets a port whose answers come in at its own queue, and is handed nothing. */
static void ports_are_learned(void)
{
    struct zest_addr to = addr(true, PORT);
    zest_handle c[N];
    set_up();
    route = by_port;
    for (unsigned i = 0; i < N; i++)
        CU_ASSERT_EQUAL_FATAL(zest_connect(z[i], &to, NULL, &c[i]), 0);
    run(SECOND);
    for (unsigned i = 0; i < N; i++) {
        struct zest_conn_info info;
        CU_ASSERT_EQUAL_FATAL(zest_conn_info(z[i], c[i], &info), 0);
        CU_ASSERT_EQUAL(info.state, ZEST_ESTABLISHED);
        CU_ASSERT_EQUAL(info.local.port % N, i);
        CU_ASSERT_EQUAL(info.local.port / N % N, i);
    }
    CU_ASSERT(sums().port_changes > 0);
    CU_ASSERT_EQUAL(sums().strays, sums().port_changes);
    CU_ASSERT_EQUAL(sums().handed, 0);
    /* The halves that were begun on other ports are gone at the peer. */
    zest_handle accepted;
    unsigned n = 0;
    while (zest_accept(z[PEER], listener[PEER], &accepted, NULL) == 0)
        n++;
    CU_ASSERT_EQUAL(n, N);
    struct zest_stats st;
    zest_stats(z[PEER], &st);
    CU_ASSERT_EQUAL(st.conns, N);
    tear_down();
}

/* ---- a card whose hash is known: its queue is chosen before the SYN */

static struct rss *card; /* what it does */

static unsigned by_hash(const struct zbuf *f)
{
    struct rss_end from = {.port = (uint16_t)(f->data[34] << 8 | f->data[35])};
    struct rss_end to = {.port = dst_port(f)};
    if (!is_tcp(f))
        return 0;
    memcpy(from.ip, f->data + 26, 4);
    memcpy(to.ip, f->data + 30, 4);
    return rss_queue(card, &from, &to);
}
/* A table of so many queues in turn. */
static struct rss *new_card(uint32_t queues, uint8_t salt)
{
    struct rss *r = calloc(1, sizeof *r + 128 * sizeof r->queues[0]);
    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    r->n = 128;
    for (uint32_t i = 0; i < RSS_KEY; i++)
        r->key[i] = (uint8_t)(0x6d + 37 * i * salt);
    for (uint32_t i = 0; i < r->n; i++)
        r->queues[i] = i % queues;
    return r;
}
/* Each opens so many connections, by what the driver says. */
static void open_by_hash(const struct rss *said, unsigned each, struct netif links[N])
{
    for (unsigned i = 0; i < N; i++) {
        links[i] = (struct netif){.caps = {.queue = i}, .rss = {.rss = said}};
        for (unsigned k = 0; k < each; k++) {
            struct zest_addr to = addr(true, PORT);
            zest_handle c;
            CU_ASSERT_EQUAL_FATAL(connect_from(&links[i], z[i], N, i, &to, &c), 0);
            run(SECOND / 10);
            struct zest_conn_info info;
            CU_ASSERT_EQUAL_FATAL(zest_conn_info(z[i], c, &info), 0);
            CU_ASSERT_EQUAL(info.state, ZEST_ESTABLISHED);
            CU_ASSERT_EQUAL(info.local.port % N, i);
            CU_ASSERT(info.local.port >= 32768 && info.local.port < 61000);
            rss_was_wrong(&links[i].rss, stats(i).port_changes);
        }
    }
}

static void ports_follow_the_cards_hash(void)
{
    struct netif links[N];
    set_up();
    card = new_card(N, 1);
    route = by_hash;
    open_by_hash(card, 40, links);
    CU_ASSERT_EQUAL(sums().port_changes, 0);
    CU_ASSERT_EQUAL(sums().strays, 0);
    for (unsigned i = 0; i < N; i++)
        CU_ASSERT_PTR_EQUAL(links[i].rss.rss, card);
    free(card);
    tear_down();
}

/* The driver says one thing and the card does another: that is found out, and ports are learned. */
static void a_wrong_hash_is_found_out(void)
{
    struct netif links[N];
    struct rss *said = new_card(N, 3);
    set_up();
    card = new_card(N, 1);
    route = by_hash;
    open_by_hash(said, 40, links);
    for (unsigned i = 0; i < N; i++)
        CU_ASSERT_PTR_NULL(links[i].rss.rss);
    CU_ASSERT(sums().port_changes > 0);
    CU_ASSERT_EQUAL(sums().handed, 0);
    free(card);
    free(said);
    tear_down();
}

/* Queues that no segment ever comes in on: the search ends, and what is handed on is taken. */
static void no_port_hashes_to_us(void)
{
    struct netif links[N];
    set_up();
    card = new_card(1, 1);
    route = by_hash;
    open_by_hash(card, 1, links);
    CU_ASSERT_EQUAL(stats(0).port_changes, 0);
    CU_ASSERT_EQUAL(stats(1).port_changes, 8 * N);
    CU_ASSERT(stats(1).handed > 0);
    free(card);
    tear_down();
}

/* No port is ever right: it goes on with what it is handed. So it does with a port of one's own. */
static void no_port_is_right(void)
{
    struct zest_addr to = addr(true, PORT), from = addr(false, 1234);
    zest_handle c[2], d;
    set_up();
    route = to_one;
    all_to[0] = 0;
    CU_ASSERT_EQUAL_FATAL(zest_connect(z[1], &to, NULL, &c[0]), 0);
    run(SECOND);
    CU_ASSERT_EQUAL(state(z[1], c[0]), ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL(stats(1).port_changes, 8 * N);
    CU_ASSERT_EQUAL_FATAL(zest_accept(z[PEER], listener[PEER], &d, NULL), 0);
    pump(z[1], c[0], z[PEER], d);
    pump(z[PEER], d, z[1], c[0]);
    CU_ASSERT_EQUAL_FATAL(zest_connect(z[1], &to, &from, &c[1]), 0);
    run(SECOND);
    CU_ASSERT_EQUAL(state(z[1], c[1]), ZEST_ESTABLISHED);
    CU_ASSERT_EQUAL(stats(1).port_changes, 8 * N);
    tear_down();
}

/* What was written before the answer came goes from the port that it ends up with. */
static void writes_survive_a_change_of_port(void)
{
    struct zest_addr to = addr(true, PORT);
    zest_handle c, d;
    struct zest_view v;
    set_up();
    route = by_port;
    for (unsigned i = 0; i < 8; i++) { /* some of them will have to change */
        CU_ASSERT_EQUAL_FATAL(zest_connect(z[2], &to, NULL, &c), 0);
        CU_ASSERT_EQUAL(zest_write_copy(z[2], c, "early", 5), 5);
        run(SECOND);
        CU_ASSERT_EQUAL_FATAL(zest_accept(z[PEER], listener[PEER], &d, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(zest_read(z[PEER], d, &v, 1), 1);
        CU_ASSERT_EQUAL(v.len, 5);
        CU_ASSERT_EQUAL(memcmp(v.addr, "early", 5), 0);
        zest_release(z[PEER], d, &v, 1);
    }
    CU_ASSERT(stats(2).port_changes > 0);
    tear_down();
}

/* An answer to ARP comes in once, and all know it. */
static void neighbours_are_everybodys(void)
{
    struct zest_addr to = addr(true, PORT);
    zest_handle c;
    set_up();
    route = to_one;
    all_to[0] = 1;
    for (unsigned i = 0; i < N; i++)
        CU_ASSERT_EQUAL_FATAL(zest_connect(z[i], &to, NULL, &c), 0);
    run(SECOND / 2); /* sooner than anybody asks again */
    for (unsigned i = 0; i < N; i++) {
        struct zest_stats st;
        zest_stats(z[i], &st);
        CU_ASSERT(st.tcp_tx_segs > 0);
    }
    tear_down();
}

/* Nobody reads the next mailbox: what does not fit is lost and counted, nothing else. */
static void a_full_mailbox_loses(void)
{
    struct zest_addr to = addr(false, OTHER);
    zest_handle c;
    set_up();
    cut = 60; /* so that a SYN, with its options, is a chain */
    route = to_one;
    all_to[0] = 0;
    run(SECOND / 10);
    CU_ASSERT_EQUAL_FATAL(zest_connect(z[PEER], &to, NULL, &c), 0);
    struct zbuf *syn = NULL;
    for (unsigned i = 0; i < 4 && !syn; i++) {
        collect(z[PEER]);
        for (unsigned k = 0; k < wire_n; k++)
            if (is_tcp(wire[k]))
                syn = wire[k];
            else
                receive(0, wire[k]);
        wire_n = 0;
        if (!syn) {
            collect(z[0]);
            zest_input(z[PEER], now_ns, wire, wire_n);
            wire_n = 0;
        }
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(syn);
    for (unsigned i = 0; i < 10000; i++) {
        for (struct zbuf *zb = syn; zb; zb = zb->next)
            zbuf_ref(zb);
        receive(0, syn);
    }
    CU_ASSERT_PTR_NOT_NULL(syn->next);
    zbuf_chain_free(syn);
    CU_ASSERT_EQUAL(stats(0).strays, 10000);
    CU_ASSERT(stats(0).dropped > 0 && stats(0).dropped < 10000);
    tear_down(); /* what is still in it is freed */
}

CHECK_MAIN("netif group", CHECK(right_queue_costs_nothing), CHECK(wrong_queue_is_handed_on),
           CHECK(chains_are_handed_on), CHECK(any_queue_will_do), CHECK(second_syn_elsewhere),
           CHECK(nobodys_comes_back_and_is_refused), CHECK(a_listener_elsewhere_is_found),
           CHECK(ports_are_learned), CHECK(ports_follow_the_cards_hash),
           CHECK(a_wrong_hash_is_found_out), CHECK(no_port_hashes_to_us), CHECK(no_port_is_right),
           CHECK(writes_survive_a_change_of_port), CHECK(neighbours_are_everybodys),
           CHECK(a_full_mailbox_loses))
