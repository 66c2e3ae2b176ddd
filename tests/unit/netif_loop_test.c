/* netif_loop_test.c - two stacks on one libev loop, joined by the cable in memory. */
#include <errno.h>
#include <ev.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "netif/link.h"

#define POOL  (16u << 20)
#define LIMIT 120. /* seconds after which a test that hangs gives up */

struct side {
    struct netif *nif;
    struct zest *z;
    void *mem;
    struct netif_loop *nl;
    zest_handle listener, conn;
    uint64_t received, written, to_write;
    unsigned calls, link_errors;
    bool stop_in_event, connected;
};

static struct zbuf_pool *pool;
static struct ev_loop *loop;
static struct side a, b; /* b listens */
static uint64_t enough;  /* break when both together have received so much */

static struct zest_addr addr(int side, uint16_t port)
{
    struct zest_addr out;
    CU_ASSERT_EQUAL_FATAL(zest_addr_parse(&out, side ? "10.0.0.2" : "10.0.0.1", port), 0);
    return out;
}

static void write_more(struct side *s)
{
    while (s->written < s->to_write) {
        struct zbuf *zb = zbuf_alloc(pool, 4000);
        if (!zb)
            return;
        uint64_t left = s->to_write - s->written;
        ssize_t n = zest_write(s->z, s->conn, zb->data, left < 4000 ? left : 4000);
        zbuf_free(zb);
        if (n <= 0)
            return;
        s->written += (uint64_t)n;
    }
}

static void read_all(struct side *s)
{
    struct zest_view v[16];
    int n;
    while ((n = zest_read(s->z, s->conn, v, 16)) > 0) {
        for (int i = 0; i < n; i++)
            s->received += v[i].len;
        CU_ASSERT_EQUAL(zest_release(s->z, s->conn, v, (unsigned)n), 0);
    }
}

static void on_event(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n)
{
    struct side *s = ctx;
    s->calls++;
    if (s->stop_in_event) {
        netif_loop_stop(s->nl);
        s->nl = NULL;
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        if (ev[i].events & ZEST_EV_ACCEPT)
            CU_ASSERT_EQUAL(zest_accept(z, s->listener, &s->conn, NULL), 0);
        if (ev[i].events & ZEST_EV_CONNECTED)
            s->connected = true;
        if (ev[i].events & ZEST_EV_READABLE)
            read_all(s);
        if (ev[i].events & (ZEST_EV_CONNECTED | ZEST_EV_WRITABLE))
            write_more(s);
    }
    if (enough && a.received + b.received >= enough)
        ev_break(loop, EVBREAK_ALL);
}

static uint32_t linger_us;
static bool stop_at_yield;
static unsigned yields;

/* Instead of libc's. */
int sched_yield(void)
{
    yields++;
    if (stop_at_yield) {
        netif_loop_stop(a.nl);
        netif_loop_stop(b.nl);
        a.nl = b.nl = NULL;
        ev_break(loop, EVBREAK_ALL);
    }
    return 0;
}

static void on_link(void *ctx, int error)
{
    struct side *s = ctx;
    CU_ASSERT_EQUAL(error, -ENODEV);
    s->link_errors++;
}

static void give_up(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)revents;
    *(bool *)w->data = true;
    ev_break(l, EVBREAK_ALL);
}

/* Runs the loop until something breaks it, or for so long. True if it was broken off in time. */
static bool run(double seconds)
{
    bool late = false;
    ev_timer limit;
    ev_timer_init(&limit, give_up, seconds, 0.);
    limit.data = &late;
    ev_now_update(loop);
    ev_timer_start(loop, &limit);
    ev_run(loop, 0);
    ev_timer_stop(loop, &limit);
    return !late;
}

/* Runs it until what is counted there has come so far: we may not get the processor for a while. */
static void run_until(const unsigned *count, unsigned n)
{
    for (int i = 0; i < 200 && *count < n; i++)
        run(0.05);
}

static void open_side(struct side *s, int side)
{
    struct zest_config cfg = {
        .pool = pool, .ip = addr(side, 0), .mtu = 1500, .max_conns = 8, .secret = {(uint8_t)side}};
    memcpy(cfg.mac, netif_caps(s->nif)->mac, 6);
    s->mem = aligned_alloc(64, (zest_size(&cfg) + 63) & ~(size_t)63);
    CU_ASSERT_EQUAL_FATAL(zest_init(s->mem, &cfg, &s->z), 0);
}

static void start_loop(struct side *s, bool spin)
{
    const struct netif_loop_config lc = {.loop = loop,
                                         .nif = s->nif,
                                         .z = s->z,
                                         .spin = spin,
                                         .linger_us = linger_us,
                                         .on_event = on_event,
                                         .on_link = on_link,
                                         .ctx = s};
    CU_ASSERT_EQUAL_FATAL(netif_loop_start(&lc, &s->nl), 0);
}

static void open_both(unsigned queue_len, bool spin)
{
    struct netif *ends[2];
    a = b = (struct side){0};
    enough = 0;
    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = POOL, .no_huge = true});
    loop = ev_loop_new(EVFLAG_AUTO);
    const struct netif_mem_config mc = {.pool = {pool, pool}, .queue_len = queue_len};
    CU_ASSERT_EQUAL_FATAL(netif_open_mem_pair(&mc, ends, NULL), 0);
    a.nif = ends[0];
    b.nif = ends[1];
    open_side(&a, 0);
    open_side(&b, 1);
    start_loop(&a, spin);
    start_loop(&b, spin);
    const struct zest_addr at = addr(1, 7);
    CU_ASSERT_EQUAL_FATAL(zest_listen(b.z, &at, 0, &b.listener), 0);
}

static void connect_a(void)
{
    const struct zest_addr at = addr(1, 7);
    CU_ASSERT_EQUAL_FATAL(zest_connect(a.z, &at, NULL, &a.conn), 0);
}

static void close_side(struct side *s)
{
    netif_loop_stop(s->nl);
    zest_fini(s->z);
    if (s->nif)
        netif_close(s->nif);
    free(s->mem);
}

static void close_both(void)
{
    close_side(&a);
    close_side(&b);
    ev_loop_destroy(loop);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static void carries_a_stream(void)
{
    open_both(0, false);
    a.to_write = enough = 20 << 20;
    connect_a();
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(b.received, a.to_write);
    close_both();
}

static void carries_a_stream_spinning(void)
{
    open_both(0, true);
    a.to_write = enough = 20 << 20;
    connect_a();
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(b.received, a.to_write);
    close_both();
}

/* The link is full again and again: nothing is lost, nothing is stuck. */
static void waits_for_room(void)
{
    open_both(3, false);
    a.to_write = enough = 4 << 20;
    connect_a();
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(b.received, a.to_write);
    struct zest_stats st;
    zest_stats(a.z, &st);
    /* A time-out is nothing but that we did not get the processor if what it repeated was there. */
    bool timed_out = st.tcp_rtos > 0;
    zest_stats(b.z, &st);
    CU_ASSERT_EQUAL(st.tcp_rx_ooo, 0);
    CU_ASSERT_TRUE(!timed_out || st.tcp_rx_dup > 0);
    close_both();
}

static void write_outside(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)l, (void)revents;
    struct side *s = w->data;
    s->to_write += 4000;
    write_more(s);
}

/* What another watcher's callback wrote goes out without any event that would call us. */
static void sends_what_others_write(void)
{
    open_both(0, false);
    connect_a();
    ev_timer t;
    ev_timer_init(&t, write_outside, 0.05, 0.);
    t.data = &a;
    ev_timer_start(loop, &t);
    enough = 4000;
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(b.received, 4000);
    close_both();
}

static void write_late(struct ev_loop *l, ev_prepare *w, int revents)
{
    (void)revents;
    struct side *s = w->data;
    if (!s->connected || s->written)
        return;
    s->to_write += 4000;
    write_more(s);
    netif_loop_wake(s->nl);
    ev_prepare_stop(l, w);
}

/* Written after our own turn, right before the sleep: netif_loop_wake() keeps libev from sleeping
 * on it. (Our watchers have the lowest priority, so this one must have it too and be started
 * later.) */
static void wake_sends_at_once(void)
{
    open_both(0, false);
    connect_a();
    ev_prepare p;
    ev_prepare_init(&p, write_late);
    ev_set_priority(&p, EV_MINPRI);
    p.data = &a;
    ev_prepare_start(loop, &p);
    netif_loop_stop(a.nl);
    netif_loop_stop(b.nl);
    start_loop(&b, false);
    start_loop(&a, false);
    enough = 4000;
    CU_ASSERT_TRUE(run(.7)); /* before the first of the stack's timers wakes it */
    CU_ASSERT_EQUAL(b.received, 4000);
    close_both();
}

static void may_be_stopped_in_an_event(void)
{
    open_both(0, false);
    b.stop_in_event = true;
    connect_a();
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(b.calls, 1);
    CU_ASSERT_PTR_NULL(b.nl);
    run_until(&b.calls, 1);
    run(0.05);
    CU_ASSERT_EQUAL(b.calls, 1);
    close_both();
}

/* What it waits for may have to be done on this very core. Spinning, the core is its own. */
static void lends_its_core_while_it_waits_awake(void)
{
    yields = 0;
    open_both(0, true);
    connect_a();
    run(0.05);
    CU_ASSERT_EQUAL(yields, 0);
    close_both();
    linger_us = 20000000;
    stop_at_yield = true;
    open_both(0, false);
    connect_a();
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(yields, 1);
    stop_at_yield = false;
    linger_us = 0;
    close_both();
}

/* Two connected stacks with nothing to say: the process sleeps, once, until the limit wakes it. */
static void an_idle_loop_sleeps(void)
{
    open_both(0, false);
    a.to_write = enough = 4 << 20;
    connect_a();
    CU_ASSERT_TRUE(run(LIMIT));
    enough = 0;
    run(0.5); /* the last delayed ACK, and timers that were set too early */
    bool slept = false;
    for (int i = 0; i < 20 && !slept; i++) { /* if those did not get the processor: later */
        unsigned calls = a.calls + b.calls, turns = ev_iteration(loop);
        run(1.);
        slept = ev_iteration(loop) - turns <= 3 && a.calls + b.calls == calls;
    }
    CU_ASSERT_TRUE(slept);
    close_both();
}

/* The other end goes: told once, no frame of the stack's is leaked, the loop does not turn in vain.
 */
static void the_link_goes(void)
{
    open_both(0, false);
    a.to_write = 64 << 20;
    enough = 1 << 20;
    connect_a();
    CU_ASSERT_TRUE(run(LIMIT));
    netif_loop_stop(b.nl);
    b.nl = NULL;
    netif_close(b.nif);
    b.nif = NULL;
    enough = 0;
    run_until(&a.link_errors, 1);
    run(0.3);
    CU_ASSERT_EQUAL(a.link_errors, 1);
    CU_ASSERT_PTR_NOT_NULL(a.nl);
    unsigned turns = ev_iteration(loop);
    run(0.5); /* only the retransmission timer */
    CU_ASSERT_TRUE(ev_iteration(loop) - turns <= 10);
    CU_ASSERT_EQUAL(a.link_errors, 1);
    close_both();
}

/* A link whose descriptor never says anything, as a driver's completions don't: room comes, and
 * frames come back, only to those who ask again. */
struct mute {
    struct netif nif;
    unsigned room_after, done_after; /* of libev's turns */
    struct zest_frame held;
    unsigned sent;
};

static struct mute mute;

static unsigned mute_rx(struct netif *nif, struct zbuf **frames, unsigned max)
{
    (void)nif, (void)frames, (void)max;
    return 0;
}

static unsigned mute_room(const struct netif *nif)
{
    (void)nif;
    return ev_iteration(loop) >= mute.room_after && mute.held.n == 0;
}

static void mute_tx(struct netif *nif, const struct zest_frame *frames, unsigned n)
{
    (void)nif;
    CU_ASSERT_EQUAL(n, 1);
    mute.held = frames[0];
    mute.sent += n;
    mute.done_after = ev_iteration(loop) + 4;
}

static int mute_kick(struct netif *nif)
{
    if (mute.held.n > 0 && ev_iteration(loop) >= mute.done_after) {
        zbuf_tx_done(nif->pool, mute.held.seg[0].addr);
        mute.held.n = 0;
        ev_break(loop, EVBREAK_ALL);
    }
    return 0;
}

static unsigned mute_in_flight(const struct netif *nif)
{
    (void)nif;
    return mute.held.n;
}

static void asks_a_mute_link_again(void)
{
    static const struct netif_ops ops = {.rx = mute_rx,
                                         .tx_room = mute_room,
                                         .tx = mute_tx,
                                         .kick = mute_kick,
                                         .in_flight = mute_in_flight};
    int fds[2];
    CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
    a = (struct side){0};
    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = POOL, .no_huge = true});
    loop = ev_loop_new(EVFLAG_AUTO);
    mute = (struct mute){.nif = {.ops = &ops, .pool = pool, .fd = fds[0]}, .room_after = 4};
    mute.nif.caps.mac[0] = 2;
    a.nif = &mute.nif;
    open_side(&a, 0);
    start_loop(&a, false);
    connect_a();
    CU_ASSERT_TRUE(run(2.)); /* the stack's own timers come every second */
    CU_ASSERT_TRUE(mute.sent >= 1);
    CU_ASSERT_EQUAL(mute.held.n, 0);
    netif_loop_stop(a.nl);
    zest_fini(a.z);
    free(a.mem);
    ev_loop_destroy(loop);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
    close(fds[0]);
    close(fds[1]);
}

static void bad_settings(void)
{
    struct netif_loop *nl = NULL;
    const struct netif_loop_config none = {.loop = NULL};
    CU_ASSERT_EQUAL(netif_loop_start(&none, &nl), -EINVAL);
    CU_ASSERT_PTR_NULL(nl);
    netif_loop_stop(NULL);
}

/* ---- waiting for memory */

static struct zbuf *hoard[16384];
static unsigned nhoard;

static void hoard_all(void)
{
    for (size_t size = ZBUF_SEG_MAX; size >= ZBUF_SEG_MIN; size /= 2)
        nhoard += zbuf_alloc_bulk(zbuf_budget_app(pool), size - ZBUF_OVERHEAD, hoard + nhoard,
                                  16384 - nhoard);
    CU_ASSERT_FATAL(nhoard > 0 && nhoard < 16384);
}
static void free_hoard(void)
{
    zbuf_free_bulk(hoard, nhoard);
    nhoard = 0;
}
static void free_later(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)l, (void)w, (void)revents;
    free_hoard();
}

struct waiter {
    struct netif_loop_wait w;
    unsigned calls;
    bool stop_other, again, last;
    struct waiter *other;
};
static void memory_there(struct netif_loop_wait *w)
{
    struct waiter *me = w->ctx;
    me->calls++;
    CU_ASSERT_EQUAL(nhoard, 0);
    if (me->stop_other)
        netif_loop_wait_stop(a.nl, &me->other->w);
    if (me->again && me->calls < 3)
        CU_ASSERT_EQUAL(netif_loop_wait(a.nl, w), 0);
    if (me->last)
        ev_break(loop, EVBREAK_ALL);
}
static void wait_for(struct waiter *me, size_t bytes)
{
    me->w = (struct netif_loop_wait){
        .budget = zbuf_budget_app(pool), .bytes = bytes, .ready = memory_there, .ctx = me};
    CU_ASSERT_EQUAL(netif_loop_wait(a.nl, &me->w), 0);
}

static void who_was_refused_is_called_when_there_is_memory(void)
{
    struct waiter w[4] = {
        {.stop_other = true, .other = &w[1]}, {.calls = 0}, {.again = true}, {.last = true}};
    ev_timer t;
    open_both(0, false);
    hoard_all();
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 4000));
    for (unsigned i = 0; i < 4; i++)
        wait_for(&w[i], 4000);
    CU_ASSERT_EQUAL(netif_loop_wait(a.nl, &w[3].w), -EALREADY);
    struct waiter huge = {.calls = 0};
    huge.w = (struct netif_loop_wait){.budget = zbuf_budget_app(pool), .bytes = SIZE_MAX};
    CU_ASSERT_EQUAL(netif_loop_wait(a.nl, &huge.w), -EMSGSIZE);
    CU_ASSERT_FALSE(run(0.1));
    CU_ASSERT_EQUAL(w[0].calls + w[3].calls, 0);
    unsigned turns = ev_iteration(loop);
    CU_ASSERT_FALSE(run(0.3)); /* and meanwhile it sleeps */
    CU_ASSERT(ev_iteration(loop) - turns <= 5);
    ev_timer_init(&t, free_later, 0.05, 0.);
    ev_timer_start(loop, &t);
    CU_ASSERT_TRUE(run(LIMIT));
    run_until(&w[2].calls, 3);
    run(0.05);
    CU_ASSERT_EQUAL(w[0].calls, 1);
    CU_ASSERT_EQUAL(w[1].calls, 0); /* stopped by the first */
    CU_ASSERT_EQUAL(w[2].calls, 3); /* waits again, though there is memory: the next turns */
    CU_ASSERT_EQUAL(w[3].calls, 1);
    wait_for(&w[3], 100); /* there is some already */
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(w[3].calls, 2);
    wait_for(&w[1], 100); /* the loop's end is the end of it */
    close_both();
    CU_ASSERT_EQUAL(w[1].calls, 0);
    CU_ASSERT_FALSE(w[1].w.active);
}

static void *free_from_elsewhere(void *unused)
{
    (void)unused;
    usleep(50000);
    unsigned n = nhoard;
    nhoard = 0;
    zbuf_free_bulk(hoard, n);
    return NULL;
}

/* The loop sleeps, and another thread frees: the descriptor wakes it. */
static void another_thread_frees_it(void)
{
    struct waiter w = {.last = true};
    pthread_t thread;
    open_both(0, false);
    run(0.05);
    hoard_all();
    wait_for(&w, 4000);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, free_from_elsewhere, NULL), 0);
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(w.calls, 1);
    pthread_join(thread, NULL);
    close_both();
}

/* A copying write that found no memory is followed by an event, not by polling. */
static void a_refused_copy_is_called_back(void)
{
    static char text[4000];
    ev_timer t;
    open_both(0, false);
    connect_a();
    for (int i = 0; i < 100 && !a.connected; i++)
        run(0.05);
    run(0.2);
    CU_ASSERT_TRUE_FATAL(a.connected);
    hoard_all();
    CU_ASSERT_EQUAL(zest_write_copy(a.z, a.conn, text, sizeof text), -ENOBUFS);
    unsigned calls = a.calls;
    CU_ASSERT_FALSE(run(0.1));
    CU_ASSERT_EQUAL(a.calls, calls);
    ev_timer_init(&t, free_later, 0.05, 0.);
    ev_timer_start(loop, &t);
    a.to_write = enough = 4000; /* what on_event() does when it is told */
    CU_ASSERT_TRUE(run(LIMIT));
    CU_ASSERT_EQUAL(b.received, 4000);
    close_both();
}

CHECK_MAIN("netif_loop", CHECK(carries_a_stream), CHECK(carries_a_stream_spinning),
           CHECK(waits_for_room), CHECK(sends_what_others_write), CHECK(wake_sends_at_once),
           CHECK(may_be_stopped_in_an_event), CHECK(lends_its_core_while_it_waits_awake),
           CHECK(an_idle_loop_sleeps), CHECK(the_link_goes), CHECK(asks_a_mute_link_again),
           CHECK(bad_settings), CHECK(who_was_refused_is_called_when_there_is_memory),
           CHECK(another_thread_frees_it), CHECK(a_refused_copy_is_called_back))
