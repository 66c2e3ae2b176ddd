/* app.c - applications. Each end of a connection has intentions (how much to write, in what sizes,
 * how fast to read, how to end) and follows them by the public API alone: here it begins, hears of
 * events, changes its mind and ends; app_io.c reads and writes. Whoever ends in another way than it
 * meant to needs an excuse. */
#include "app.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXCUSED_END_NS                                                                             \
    (420 * S) /* after the trouble: then whoever still waits in vain gives up                      \
               */

/* ---- small things */

static struct zest_addr address(unsigned node, uint16_t port)
{
    struct zest_addr a = {.port = port};
    a.ip[10] = a.ip[11] = 0xff;
    for (unsigned i = 0; i < 4; i++)
        a.ip[12 + i] = (uint8_t)(sim.node[node].ip >> (24 - 8 * i));
    return a;
}

struct side *app_side(unsigned node, uint16_t port, unsigned remote, uint16_t remote_port)
{
    for (unsigned i = 0; i < sim.nconns; i++) {
        struct conn *c = &sim.conn[i];
        for (unsigned k = 0; k < 2; k++) {
            struct side *s = &c->side[k];
            uint16_t client = k == 0 ? port : remote_port;
            if (s->node == node && c->side[!k].node == remote && c->port == client &&
                (!c->hostile || c->accepted))
                return s;
        }
    }
    return NULL;
}

/* ---- intentions */

static void intend(struct side *s)
{
    const struct plan *p = &sim.plan;
    struct rng *r = &s->rng;

    s->to_write = rng_chance(r, 100000) ? 0 : rng_log(r, 1, p->bytes_max);
    s->chunk_max = (uint32_t)(p->odd_sizes ? rng_log(r, 1, 100000) : 16384);
    s->chunk_min = rng_chance(r, 500000) ? s->chunk_max : 1;
    if (s->to_write / s->chunk_max > 2000)
        s->chunk_max = s->chunk_min = (uint32_t)(s->to_write / 2000 + 1);
    s->style = (unsigned)rng_below(r, 5);
    s->after_eof = !s->client && rng_chance(r, 150000);
    s->early = s->client && rng_chance(r, 200000);
    if (p->slow_readers && rng_chance(r, 500000)) {
        s->read_gap_ns = rng_log(r, 100 * US, 200 * MS);
        s->hold_views_ns = rng_chance(r, 500000) ? rng_log(r, US, S) : 0;
    }
    if (p->slow_readers && rng_chance(r, 300000))
        s->write_gap_ns = rng_log(r, 100 * US, 100 * MS);
    if (p->long_pauses && rng_chance(r, 500000)) {
        s->pause_at = 1 + rng_below(r, p->bytes_max);
        s->pause_ns = rng_log(r, S, 3600 * S);
    }
    s->end = END_ORDERLY;
    if (p->mind_changes && rng_chance(r, 400000)) {
        s->end = rng_chance(r, 500000) ? END_ABORT : END_CLOSE;
        s->end_after = rng_below(r, 2 * p->bytes_max);
        s->conn->excused = true;
    }
}

static void begin_side(struct conn *c, unsigned k, unsigned node)
{
    struct side *s = &c->side[k];
    *s = (struct side){.conn = c,
                       .node = node,
                       .rng = rng_fork(&sim.rng),
                       .client = k == 0,
                       .read_ns = 0,
                       .wake_ns = ZEST_NEVER};
    s->key = rng_next(&s->rng);
    if (node < STACKS)
        intend(s);
    s->done = node == HOSTILE;
}

static uint16_t port_of(const struct conn *c)
{
    return (uint16_t)(20000 + c->index * 100 + c->attempt % 100);
}

/* A connection, or a new attempt at it. */
static void begin_conn(struct conn *c, unsigned from, unsigned to)
{
    const struct plan *p = &sim.plan;
    c->port = port_of(c);
    c->accepted = c->finished = false;
    begin_side(c, 0, from);
    begin_side(c, 1, to);
    if (p->jump_by_ns || c->hostile || p->crash_node == from || p->crash_node == to)
        c->excused = true;
}

void apps_init(void)
{
    struct rng r = rng_fork(&sim.rng);
    const struct plan *p = &sim.plan;
    sim.nconns = p->conns + p->hostile_conns;
    for (unsigned i = 0; i < sim.nconns; i++) {
        struct conn *c = &sim.conn[i];
        memset(c, 0, sizeof *c);
        c->index = i;
        unsigned a = (unsigned)rng_below(&r, p->stacks);
        unsigned b = (a + 1 + (unsigned)rng_below(&r, p->stacks - 1)) % p->stacks;
        c->hostile = i >= p->conns;
        bool serves = c->hostile && i % 2; /* it is connected to, and does not connect */
        c->start_ns =
            c->hostile && !serves ? ZEST_NEVER : 1 + rng_below(&r, rng_log(&r, 2, p->calm_ns));
        begin_conn(c, c->hostile && !serves ? HOSTILE : a, serves ? HOSTILE : b);
    }
}

/* ---- ending */

static void finish_conn(struct conn *c)
{
    if (c->finished || !c->side[0].done || !c->side[1].done)
        return;
    c->finished = true;
    c->last_ns = sim.now_ns;
    sim_say("conn %u is finished%s", c->index, c->excused ? " (excused)" : "");
    if (c->excused)
        return;
    for (unsigned k = 0; k < 2; k++) {
        struct side *s = &c->side[k], *o = &c->side[!k];
        if (s->written != s->to_write || s->read != o->written || !s->eof || s->error)
            die("conn %u side %u ended with %llu of %llu written, %llu of %llu read, EOF %d, "
                "error %d",
                c->index, k, (unsigned long long)s->written, (unsigned long long)s->to_write,
                (unsigned long long)s->read, (unsigned long long)o->written, s->eof, s->error);
    }
}

static void end_side(struct side *s, bool abort_it)
{
    bool views_later = rng_chance(&s->rng, 300000);
    zest_handle h = s->handle;

    if (!views_later)
        app_release(s, true);
    if (s->open || s->connecting) {
        int err = abort_it ? zest_abort(stack_of(s), h) : zest_close(stack_of(s), h);
        if (err != 0)
            die("closing a good handle: %d", err);
        if (zest_shutdown(stack_of(s), h) != -EBADF)
            die("a closed handle is still good");
    }
    app_release(s, true);
    app_drop_buffers(s);
    s->open = s->connecting = false;
    s->done = true;
    finish_conn(s->conn);
}

/* The connection came to nothing before the other side had accepted it: once more. */
static void retry(struct conn *c)
{
    unsigned a = c->side[0].node, b = c->side[1].node;
    for (unsigned k = 0; k < 2; k++)
        if (c->side[k].open || c->side[k].connecting)
            end_side(&c->side[k], true);
    c->finished = false;
    if ((c->excused && sim.calm) || c->attempt > 90 || !sim.node[a].alive) {
        if (!c->excused)
            die("conn %u can't be made", c->index);
        c->side[0].done = c->side[1].done = true;
        finish_conn(c);
        return;
    }
    count(F_connect_retried);
    bool excused = c->excused;
    c->attempt++;
    begin_conn(c, a, b);
    c->excused |= excused;
    /* More and more patiently: the line may be down for long. */
    c->start_ns = sim.now_ns + rng_range(&c->side[0].rng, MS, S) * (1 + c->attempt / 8);
}

static void failed(struct side *s, int error)
{
    struct conn *c = s->conn;
    s->error = error;
    sim_say("conn %u side %d: error %d", c->index, !s->client, error);
    if (!may_fail_with(error))
        die("conn %u ends with error %d", c->index, error);
    if (s->client && !c->accepted) {
        retry(c);
        return;
    }
    if (!c->excused)
        die("conn %u side %d ends with error %d (%s) and has no excuse", c->index, !s->client,
            error, strerror(error));
    end_side(s, false);
}

/* ---- a turn */

static void random_option(struct side *s)
{
    static const enum zest_option harmless[] = {ZEST_OPT_NODELAY, ZEST_OPT_CORK, ZEST_OPT_SND_BUF,
                                                ZEST_OPT_RCV_BUF};
    struct rng *r = &s->rng;
    enum zest_option opt = harmless[rng_below(r, 4)];
    /* With a send buffer of a few bytes it would take for ever, and be no fault. */
    uint32_t least = opt == ZEST_OPT_SND_BUF ? 1000 : 1;
    uint32_t v =
        (uint32_t)(opt == ZEST_OPT_NODELAY || opt == ZEST_OPT_CORK ? rng_below(r, 2)
                                                                   : rng_log(r, least, 1 << 20));
    if (rng_chance(r, 200000)) { /* these may end the connection */
        static const enum zest_option lethal[] = {ZEST_OPT_KEEPALIVE, ZEST_OPT_KEEPINTVL,
                                                  ZEST_OPT_KEEPCNT, ZEST_OPT_USER_TIMEOUT};
        opt = lethal[rng_below(r, 4)];
        v = (uint32_t)(opt == ZEST_OPT_USER_TIMEOUT ? rng_log(r, 10, 600000) : rng_range(r, 1, 60));
        s->conn->excused = true;
    }
    count(F_option_set);
    if (zest_set_option(stack_of(s), s->handle, opt, v) != 0)
        die("zest_set_option(%d, %u) is refused", opt, v);
    if (opt == ZEST_OPT_CORK)
        s->corked = v;
}

/* The client has changed its mind before this side was there. */
static bool waits_in_vain(const struct side *s)
{
    return !s->client && !s->open && !s->connecting && !s->done && !s->conn->accepted &&
           s->conn->excused && s->conn->side[0].done && s->conn->start_ns == ZEST_NEVER;
}

static void work(struct side *s)
{
    struct conn *c = s->conn;

    if (waits_in_vain(s) && sim.calm && sim.now_ns >= sim.plan.calm_ns + EXCUSED_END_NS) {
        s->done = true;
        finish_conn(c);
    }
    if (s->connecting && s->early) {
        app_write(s);
        count(F_early_write);
    }
    if (!s->open)
        return;
    app_release(s, sim.calm);
    if (sim.plan.options && !sim.calm && rng_chance(&s->rng, 50000))
        random_option(s);
    app_read(s);
    app_check_urgent(s, false);
    app_write(s);
    if (s->written == s->to_write && s->corked) {
        zest_set_option(stack_of(s), s->handle, ZEST_OPT_CORK, 0);
        s->corked = false;
    }
    bool changes_its_mind = s->end != END_ORDERLY && s->read + s->written >= s->end_after;
    if (changes_its_mind || (c->hostile && sim.calm) ||
        (c->excused && sim.calm && sim.now_ns >= sim.plan.calm_ns + EXCUSED_END_NS)) {
        bool abort_it = s->end == END_ABORT;
        count(abort_it ? F_app_abort : F_app_close);
        end_side(s, abort_it);
        return;
    }
    if (s->written == s->to_write && !s->shut && (!s->after_eof || s->eof)) {
        int err = zest_shutdown(stack_of(s), s->handle);
        if (err != 0 && !may_fail_with(-err) && err != -ENOTCONN)
            die("zest_shutdown(): %d", err);
        if (err == 0) {
            s->shut = true;
            if (!s->eof)
                count(F_half_close);
        }
    }
    if (s->shut && s->eof && s->nlent == 0)
        end_side(s, false);
}

/* When s wants to be asked again without an event. */
static uint64_t wants(const struct side *s)
{
    uint64_t at = ZEST_NEVER;
    if (!s->open && !waits_in_vain(s) && !(s->connecting && s->early))
        return ZEST_NEVER;
    if (s->read_ns > sim.now_ns)
        at = min2(at, s->read_ns);
    if (!s->blocked && !s->shut && s->written < s->to_write && s->write_ns > sim.now_ns)
        at = min2(at, s->write_ns);
    for (unsigned i = 0; i < s->nlent; i++)
        at = min2(at, s->lent[i].due_ns > sim.now_ns ? s->lent[i].due_ns : sim.now_ns + 1);
    if (s->conn->excused)
        at = min2(at, sim.now_ns < sim.plan.calm_ns + EXCUSED_END_NS
                          ? sim.plan.calm_ns + EXCUSED_END_NS
                          : sim.now_ns + 1);
    return at;
}

static void start(struct conn *c)
{
    for (unsigned k = 0; k < 2; k++) {
        struct side *s = &c->side[k];
        bool both = sim.plan.simultaneous && c->index == 0;
        if (k == 1 && !both)
            break;
        struct zest_addr to = address(other(s)->node, k == 0 ? (both ? PORT + 1 : PORT) : c->port);
        struct zest_addr from = {.port = k == 0 ? c->port : PORT + 1};
        int err = sim.node[s->node].alive ? zest_connect(stack_of(s), &to, &from, &s->handle)
                                          : -ENETUNREACH;
        if (err == -ENOBUFS || err == -ENETUNREACH) {
            if (k == 1) {
                end_side(&c->side[0], true);
                c->side[0].done = false;
            }
            if (err == -ENETUNREACH && c->excused && sim.calm) { /* the machine is gone for good */
                c->side[0].done = c->side[1].done = true;
                finish_conn(c);
                return;
            }
            c->start_ns = sim.now_ns + rng_range(&s->rng, 10 * MS, S);
            return;
        }
        if (err != 0)
            die("zest_connect(): %d", err);
        s->connecting = true;
        if (rng_chance(&s->rng, sim.plan.ecn)) {
            zest_set_option(stack_of(s), s->handle, ZEST_OPT_ECN, ZEST_ECN_ASK);
            count(F_ecn_asked);
        }
        c->accepted |= both || c->hostile;
        c->excused |= both; /* if only one of the SYNs arrives in time, the other is refused */
        zest_set_user(stack_of(s), s->handle, s);
    }
    c->start_ns = ZEST_NEVER;
    c->first_ns = sim.now_ns;
}

static struct side *accepted_side(unsigned node, const struct zest_addr *peer)
{
    uint32_t ip = (uint32_t)peer->ip[12] << 24 | (uint32_t)peer->ip[13] << 16 |
                  (uint32_t)peer->ip[14] << 8 | peer->ip[15];
    for (unsigned i = 0; i < sim.nconns; i++) {
        struct conn *c = &sim.conn[i];
        struct side *s = &c->side[1];
        if (c->hostile && ip == sim.node[HOSTILE].ip && !c->accepted && s->node == node &&
            !sim.calm) {
            c->port = peer->port;
            return s;
        }
        if (!c->hostile && s->node == node && ip == sim.node[c->side[0].node].ip &&
            peer->port == c->port && !s->open && !s->done && !c->accepted)
            return s;
    }
    return NULL;
}

static void accept_all(unsigned n)
{
    struct node *node = &sim.node[n];
    struct zest_addr peer;
    zest_handle h;
    while (zest_accept(node->h.z, node->listener, &h, &peer) == 0) {
        struct side *s = accepted_side(n, &peer);
        if (!s) { /* of an attempt that was given up, or too many hostile ones */
            zest_abort(node->h.z, h);
            continue;
        }
        s->handle = h;
        s->open = true;
        s->conn->accepted = true;
        if (s->conn->hostile)
            count(F_hostile_conn);
        zest_set_user(node->h.z, h, s);
        sim_say("conn %u is accepted, port %u", s->conn->index, s->conn->port);
    }
}

static void hear_urgent(struct side *s)
{
    struct zest_conn_info i;
    if (zest_conn_info(stack_of(s), s->handle, &i) != 0)
        die("an event of a stale handle");
    if (i.urgent_end <= s->heard && !s->conn->hostile)
        die("conn %u side %d hears of urgent data twice", s->conn->index, !s->client);
    s->heard = i.urgent_end;
    count(F_urgent_told);
}

static void happened(struct side *s, const struct zest_event *e)
{
    if (e->events & ZEST_EV_CONNECTED) {
        if (!s->connecting)
            die("EV_CONNECTED twice");
        s->connecting = false;
        s->open = true;
        if (sim.plan.simultaneous && s->conn->index == 0 && other(s)->open)
            count(F_simultaneous_open);
    }
    if (e->events & ZEST_EV_WRITABLE)
        s->blocked = false;
    if (e->events & ZEST_EV_URGENT)
        hear_urgent(s);
    if (e->events & ZEST_EV_ERROR) {
        app_read(s);
        s->open = s->open || s->connecting;
        s->connecting = false;
        failed(s, e->error);
        return;
    }
}

void apps_run(unsigned n)
{
    struct node *node = &sim.node[n];
    struct zest_event ev[8];
    unsigned got;

    if (node->app_ns <= sim.now_ns) {
        node->app_ns = ZEST_NEVER;
        do {
            got = zest_events(node->h.z, ev, 8);
            for (unsigned i = 0; i < got; i++) {
                uint64_t what[3] = {ev[i].events, (uint64_t)ev[i].error, sim.now_ns};
                sim_hash(what, sizeof what);
                if (ev[i].handle == node->listener)
                    accept_all(n);
                else if (ev[i].user)
                    happened(ev[i].user, &ev[i]);
                else
                    die("an event of a connection that nobody knows");
            }
        } while (got > 0);
        for (unsigned i = 0; i < 2 * sim.nconns; i++) {
            struct side *s = &sim.conn[i / 2].side[i % 2];
            if (s->node == n && s->open)
                app_check_urgent(s, true);
        }
    }
    for (unsigned i = 0; i < sim.nconns; i++) {
        struct conn *c = &sim.conn[i];
        if (c->start_ns <= sim.now_ns && c->side[0].node == n && !c->finished)
            start(c);
        for (unsigned k = 0; k < 2; k++) {
            if (c->side[k].node != n)
                continue;
            work(&c->side[k]);
            c->side[k].wake_ns = wants(&c->side[k]);
        }
    }
}

uint64_t apps_next(unsigned n)
{
    uint64_t at = sim.node[n].app_ns;
    for (unsigned i = 0; i < sim.nconns; i++) {
        struct conn *c = &sim.conn[i];
        if (c->side[0].node == n && !c->finished)
            at = min2(at, c->start_ns);
        for (unsigned k = 0; k < 2; k++)
            if (c->side[k].node == n)
                at = min2(at, c->side[k].wake_ns);
    }
    return at;
}

bool apps_finished(void)
{
    for (unsigned i = 0; i < sim.nconns; i++)
        if (!sim.conn[i].finished)
            return false;
    return true;
}

void apps_calm(void)
{
    for (unsigned i = 0; i < sim.nconns; i++) {
        struct conn *c = &sim.conn[i];
        for (unsigned k = 0; k < 2; k++) {
            struct side *s = &c->side[k];
            s->read_gap_ns = s->write_gap_ns = s->pause_ns = s->hold_views_ns = 0;
            s->read_ns = s->write_ns = 0;
            if (s->open)
                s->wake_ns = sim.now_ns;
        }
        if (c->hostile && !c->accepted) {
            c->side[1].done = true;
            finish_conn(c);
        }
    }
}

void apps_lost(unsigned n)
{
    for (unsigned i = 0; i < sim.nconns; i++) {
        struct conn *c = &sim.conn[i];
        for (unsigned k = 0; k < 2; k++) {
            struct side *s = &c->side[k];
            if (s->node != n)
                continue;
            if (c->start_ns != ZEST_NEVER && !c->finished) {
                if (s->client && !sim.plan.restart_after_ns) /* it will never be made */
                    c->side[0].done = c->side[1].done = true;
                continue;
            }
            app_release(s, true);
            app_drop_buffers(s);
            s->open = s->connecting = false;
            s->done = true;
            s->wake_ns = ZEST_NEVER;
            if (!c->accepted) /* nobody will come any more */
                other(s)->done = other(s)->done || !(other(s)->open || other(s)->connecting);
        }
        if (c->side[0].node == n || c->side[1].node == n)
            finish_conn(c);
    }
}

void apps_summary(FILE *f)
{
    for (unsigned i = 0; i < sim.nconns; i++) {
        const struct conn *c = &sim.conn[i];
        fprintf(f, "conn %u attempt %u port %u%s%s%s%s\n", i, c->attempt, c->port,
                c->hostile ? " hostile" : "", c->excused ? " excused" : "",
                c->accepted ? " accepted" : "", c->finished ? " finished" : "");
        for (unsigned k = 0; k < 2; k++) {
            const struct side *s = &c->side[k];
            struct zest_conn_info info = {0};
            if (s->node == HOSTILE)
                continue;
            if (s->open && sim.node[s->node].alive)
                zest_conn_info(stack_of(s), s->handle, &info);
            fprintf(f,
                    "  side %u node %u: %s%s%swritten %llu/%llu read %llu%s%s lent %u error %d; %s "
                    "queued %u unsent %u cwnd %u wnd %u rcv %u rto %.3f s\n",
                    k, s->node, s->open ? "open " : "", s->connecting ? "connecting " : "",
                    s->done ? "done " : "", (unsigned long long)s->written,
                    (unsigned long long)s->to_write, (unsigned long long)s->read,
                    s->shut ? " shut" : "", s->eof ? " eof" : "", s->nlent, s->error,
                    zest_tcp_state_name(info.state), info.snd_queued, info.snd_unsent, info.cwnd,
                    info.snd_wnd, info.rcv_wnd, (double)info.rto_ns / 1e9);
        }
    }
}
