/* world.c - the clock, and the machines.
 *
 * At each instant: what the network brings goes into the stacks, applications look at their events
 * and act, the stacks send. Then the clock moves to whatever is next: a frame, a stack's deadline,
 * an application's or a villain's plan. Nothing else moves it, so a stack that forgets a deadline
 * stops its connections for ever, and is found out. */
#include "sim.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define END_NS    (700 * S)  /* after the trouble, everything has come to its end */
#define QUIET_NS  (1000 * S) /* ... and what TCP does in the background, too */
#define STEPS_MAX 4000000u

struct sim sim;

void sim_hash(const void *p, size_t len)
{
    const uint8_t *b = p;
    uint64_t h = sim.hash, w;
    for (; len >= 8; b += 8, len -= 8) {
        memcpy(&w, b, 8);
        h = (h ^ w) * 0x9fb21c651e98df25ull;
        h ^= h >> 29;
    }
    for (; len > 0; b++, len--)
        h = (h ^ *b) * 0x9fb21c651e98df25ull;
    sim.hash = rng_mix(h);
}

void sim_say(const char *fmt, ...)
{
    va_list ap;
    if (!sim.verbose)
        return;
    printf("%14.9f ", (double)sim.now_ns / 1e9);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

unsigned node_of_ip(uint32_t ip)
{
    for (unsigned i = 0; i < NODES; i++)
        if (sim.node[i].ip == ip)
            return i;
    return NODES;
}

/* ---- machines */

/* -ENOBUFS: what other machines hold of a pool that they share leaves too little. */
static int node_up(unsigned i)
{
    static const char *const name[STACKS] = {"A", "B", "C"};
    struct node *n = &sim.node[i];
    struct zest_config cfg = sim.plan.cfg[i];
    struct zest_addr here = {.port = PORT};

    cfg.pool = sim.pool[sim.plan.one_pool ? 0 : i];
    memcpy(cfg.mac, n->mac, 6);
    for (unsigned k = 0; k < 8; k++) /* a machine that starts again has another secret */
        cfg.secret[k] ^= (uint8_t)(n->secret >> 8 * k);
    n->secret = rng_mix(n->secret + 1);
    for (unsigned k = 0; k < STACKS; k++) { /* a machine can't start without any memory */
        struct zbuf *const *zb;
        if (hoard_segments(k, &zb) > 0)
            hoard_give_back(k);
    }
    starve_pause(true);
    recorder_attach(i, &cfg);
    int err = host_init(&n->h, name[i], &cfg, n->ip, sim.plan.rx_budget[i], sim.plan.cut[i]);
    if (err == 0) {
        err = zest_listen(n->h.z, &here, 0, &n->listener);
        if (err != 0)
            host_fini(&n->h);
    }
    starve_pause(false);
    if (err != 0)
        return err;
    n->h.burst = sim.plan.burst[i];
    n->alive = true;
    n->stalled_ns = 0;
    n->app_ns = ZEST_NEVER;
    return 0;
}

static void node_down(unsigned i)
{
    struct node *n = &sim.node[i];
    while (n->nrx > 0)
        zbuf_chain_free(n->rx[--n->nrx]);
    hoard_give_back(i);
    apps_lost(i);
    recorder_check(i);
    host_fini(&n->h);
    n->alive = false;
    track_forget(i);
}

static void node_receive(unsigned i, const struct frame *f)
{
    struct node *n = &sim.node[i];
    if (!n->alive)
        return;
    if (n->nrx == RX_MAX) {
        count(F_lost_rx_ring);
        return;
    }
    uint32_t front = sim.plan.front[i];
    struct zbuf *zb =
        wire_receive(n->h.rx, f->bytes, f->len, front, sim.plan.cut[i], n->h.cfg.rx_seg);
    if (!zb) {
        count(F_lost_rx_memory);
        return;
    }
    n->rx[n->nrx++] = zb;
    if (f->from != HOSTILE || memcmp(f->bytes + 6, sim.node[HOSTILE].mac, 6) == 0)
        track_arrived(i, f->bytes, f->len);
}

static void sent(void *ctx, struct host *h, const uint8_t *frame, size_t len, const struct wire *w)
{
    unsigned from = (unsigned)((struct node *)ctx - sim.node);
    char text[300];
    (void)h;
    sim_hash(&sim.now_ns, 8);
    sim_hash(frame, len);
    if (sim.verbose)
        sim_say("%s sends %s", h->name, wire_text(frame, len, text, sizeof text));
    if (sim.pcap)
        pcap_write(sim.pcap, sim.now_ns, frame, len);
    track_sent(from, w);
    net_send(from, frame, len);
}

static bool runs(const struct node *n)
{
    return n->alive && n->stalled_ns <= sim.now_ns;
}

/* The stack has worked: there may be events, which the application sees when it gets round to it.
 */
static void may_have_events(unsigned i)
{
    struct node *n = &sim.node[i];
    if (n->app_ns == ZEST_NEVER)
        n->app_ns = sim.now_ns + (sim.calm ? 0 : sim.plan.app_lag_ns[i]);
}

static void node_input(unsigned i)
{
    struct node *n = &sim.node[i];
    host_complete(&n->h, sim.now_ns);
    if (n->nrx == 0)
        return;
    unsigned got = n->nrx;
    n->nrx = 0;
    n->h.dirty = true;
    zest_input(n->h.z, sim.now_ns, n->rx, got);
    may_have_events(i);
}

static void node_apps(unsigned i)
{
    /* As a loop would be woken by the pool. */
    if (zbuf_pool_wakeups(sim.node[i].h.pool) != sim.node[i].wakeups) {
        sim.node[i].wakeups = zbuf_pool_wakeups(sim.node[i].h.pool);
        may_have_events(i);
    }
    if (apps_next(i) > sim.now_ns)
        return;
    for (unsigned k = 0; k < sim.plan.stacks; k++)
        sim.node[k].h.dirty = true; /* an application may start both ends of a connection */
    apps_run(i);
}

static void node_output(unsigned i)
{
    struct node *n = &sim.node[i];
    if (zest_deadline(n->h.z) <= sim.now_ns)
        may_have_events(i);
    host_drain(&n->h, sim.now_ns, UINT32_MAX, sim.plan.tx_hold_ns[i], sent, n);
}

/* ---- what befalls them */

static void befall(void)
{
    for (unsigned i = 0; i < sim.plan.stacks; i++)
        hoard_run(i);
    const struct plan *p = &sim.plan;
    if (sim.stall_next_ns <= sim.now_ns) {
        struct node *n = &sim.node[rng_below(&sim.rng, p->stacks)];
        n->stalled_ns = sim.now_ns + rng_below(&sim.rng, 2 * p->stall_for_ns);
        sim.stall_next_ns = sim.now_ns + 1 + rng_below(&sim.rng, 2 * p->stall_every_ns);
        count(F_stalled);
        sim_say("%s stalls for %.3f s", n->h.name, (double)(n->stalled_ns - sim.now_ns) / 1e9);
    }
    if (sim.crash_next_ns <= sim.now_ns) {
        unsigned i = p->crash_node;
        if (sim.node[i].alive) {
            sim_say("%s crashes", sim.node[i].h.name);
            count(F_crashed);
            node_down(i);
            sim.crash_next_ns = p->restart_after_ns ? sim.now_ns + p->restart_after_ns : ZEST_NEVER;
        } else if (node_up(i) == -ENOBUFS) {
            sim_say("there is no memory to start with, yet");
            sim.crash_next_ns = sim.now_ns + p->restart_after_ns;
        } else {
            if (!sim.node[i].alive)
                die("machine %u can't start again", i);
            sim_say("%s starts again", sim.node[i].h.name);
            count(F_restarted);
            sim.crash_next_ns = ZEST_NEVER;
        }
    }
}

static void become_calm(void)
{
    sim_say("calm");
    sim.calm = true;
    sim.stall_next_ns = ZEST_NEVER;
    for (unsigned i = 0; i < STACKS; i++)
        sim.node[i].stalled_ns = 0;
    starve_set(0, 0, 0);
    for (unsigned i = 0; i < sim.plan.stacks; i++)
        hoard_give_back(i);
    net_tick();
    apps_calm();
    hostile_stop();
}

/* ---- the clock */

static uint64_t min2(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What the clock moves to next, and for whose sake: for people who look for an endless loop. */
static const char *cause;

static void earlier(uint64_t *at, uint64_t candidate, const char *why)
{
    if (candidate < *at) {
        *at = candidate;
        cause = why;
    }
}

static uint64_t next_instant(void)
{
    uint64_t at = ZEST_NEVER;
    cause = "nothing";
    earlier(&at, net_next(), "the network");
    earlier(&at, hostile_next(), "a villain");
    if (!sim.calm)
        earlier(&at, sim.plan.calm_ns, "the end of trouble");
    earlier(&at, min2(sim.stall_next_ns, sim.crash_next_ns), "bad luck");
    for (unsigned i = 0; i < sim.plan.stacks; i++)
        if (sim.node[i].alive)
            earlier(&at, hoard_next(i), "a hoard");
    for (unsigned i = 0; i < sim.plan.stacks; i++) {
        struct node *n = &sim.node[i];
        if (!n->alive)
            continue;
        uint64_t mine = ZEST_NEVER;
        const char *before = cause;
        earlier(&mine, zest_deadline(n->h.z), "a stack's deadline");
        earlier(&mine, host_complete_due(&n->h), "a frame that is sent");
        earlier(&mine, apps_next(i), "an application");
        if (n->stalled_ns > sim.now_ns && mine < n->stalled_ns)
            mine = n->stalled_ns;
        if (mine < at)
            at = mine;
        else
            cause = before;
    }
    if (at != ZEST_NEVER && at < sim.now_ns)
        at = sim.now_ns;
    if (sim.plan.jump_at_ns && at >= sim.plan.jump_at_ns) {
        sim_say("the clock jumps by %.3f s", (double)sim.plan.jump_by_ns / 1e9);
        count(F_clock_jumped);
        sim.plan.jump_at_ns = 0;
        at += sim.plan.jump_by_ns;
        sim.plan.calm_ns += sim.plan.jump_by_ns;
    }
    return at;
}

static bool quiet(void)
{
    if (!sim.calm || !apps_finished() || sim.net.n > 0 || sim.crash_next_ns != ZEST_NEVER)
        return false;
    for (unsigned i = 0; i < sim.plan.stacks; i++) {
        struct zest_stats st;
        if (!sim.node[i].alive)
            continue;
        zest_stats(sim.node[i].h.z, &st);
        if (st.conns > 0)
            return false;
    }
    return true;
}

static void instant(void)
{
    struct frame *f;

    net_tick();
    befall();
    if (!sim.calm && sim.now_ns >= sim.plan.calm_ns)
        become_calm();
    while ((f = net_take())) {
        if (f->to == HOSTILE)
            hostile_heard(f->bytes, f->len);
        else
            node_receive(f->to, f);
        free(f);
    }
    hostile_run();
    for (unsigned i = 0; i < sim.plan.stacks; i++) {
        if (!runs(&sim.node[i]))
            continue;
        node_input(i);
        node_apps(i);
    }
    for (unsigned i = 0; i < sim.plan.stacks; i++) {
        if (!runs(&sim.node[i]))
            continue;
        node_output(i);
        inside_check(sim.node[i].h.z, sim.node[i].h.name);
    }
    if (sim.steps % 64 == 0)
        inside_owners();
    /* At 64, 256, 1024 ... steps. */
    if (sim.steps >= 64 && (sim.steps & (sim.steps - 1)) == 0 &&
        __builtin_ctzll(sim.steps) % 2 == 0)
        for (unsigned i = 0; i < sim.plan.stacks; i++)
            if (sim.node[i].alive)
                recorder_check(i);
}

static void build(uint64_t seed)
{
    memset(sim.node, 0, sizeof sim.node);
    sim.seed = seed;
    sim.now_ns = sim.steps = 0;
    sim.hash = seed;
    sim.calm = false;
    sim.rng = rng_seed(seed);
    plan_draw(&sim.plan, rng_fork(&sim.rng));
    if (sim.verbose)
        plan_print(&sim.plan, stdout);
    starve_set(0, 0, 0);
    for (unsigned i = 0; i < (sim.plan.one_pool ? 1 : sim.plan.stacks); i++) {
        /* In huge pages, if there are any: most of a small world's time goes into clearing them. */
        sim.pool[i] = zbuf_pool_create(&(struct zbuf_pool_config){.size = sim.plan.pool_size});
        if (!sim.pool[i])
            die("no memory for a pool");
    }
    for (unsigned i = 0; i < NODES; i++) {
        struct node *n = &sim.node[i];
        n->ip = i == HOSTILE ? 0x0a000042u : 0x0a000001u + i;
        memcpy(n->mac, (uint8_t[6]){2, 0, 0, 0, 0, (uint8_t)n->ip}, 6);
        n->secret = rng_next(&sim.rng);
        int err = i < sim.plan.stacks ? node_up(i) : 0;
        if (err != 0)
            die("machine %u can't start: %d", i, err);
    }
    sim.stall_next_ns = sim.plan.stall_every_ns ? sim.plan.stall_every_ns : ZEST_NEVER;
    sim.crash_next_ns = sim.plan.crash_node < STACKS ? sim.plan.crash_at_ns : ZEST_NEVER;
    net_init();
    track_init();
    apps_init();
    hoards_init();
    hostile_init();
    starve_set(sim.plan.starve, sim.plan.starve_nth, rng_next(&sim.rng));
}

static void tear_down(void)
{
    inside_owners();
    for (unsigned i = 0; i < sim.plan.stacks; i++)
        if (sim.node[i].alive)
            node_down(i);
    net_free();
    for (unsigned i = 0; i < (sim.plan.one_pool ? 1 : sim.plan.stacks); i++) {
        struct zbuf_pool_stat st;
        zbuf_pool_stat(sim.pool[i], &st);
        if (st.live != 0)
            die("%llu segments are not back in the pool", (unsigned long long)st.live);
        if (zbuf_pool_destroy(sim.pool[i]) != 0)
            die("the pool can't be destroyed");
        sim.pool[i] = NULL;
    }
}

void world_run(uint64_t seed)
{
    build(seed);
    while (!quiet()) {
        uint64_t at = next_instant();
        if (at == ZEST_NEVER)
            die("nothing will happen any more, and not everything is done");
        sim.now_ns = at;
        if (sim.calm && sim.now_ns > sim.plan.calm_ns + END_NS && !apps_finished())
            die("not everything came to its end");
        if (sim.calm && sim.now_ns > sim.plan.calm_ns + END_NS + QUIET_NS)
            die("TCP is still busy in the background");
        if (++sim.steps > STEPS_MAX)
            die("no end of work; the last step was for %s", cause);
        instant();
    }
    tear_down();
}
