/* perf_end.c - one end of a test: keeps its streams, ends them by time, adds them up.
 *
 * The timer runs while there are streams only: a server that waits uses no CPU. */
#include "perf.h"

#include "say.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define TICK_S 0.01 /* how exactly a test by time ends */
/* A client whose test does not move for so many ticks gives up. They are counted, as a clock would
 * go on while we are stopped. */
#define STALL_TICKS ((unsigned)(10 / TICK_S))

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void stop_loop(struct perf_end *e)
{
    bool again = e->stop_loop;
    e->stop_loop = true;
    if (!e->crew)
        ev_break(e->loop, EVBREAK_ALL);
    else if (e->server)
        crew_stop(e->crew);
    else if (!again)
        crew_done(e->crew);
}

/* ---- sessions (server) */

static void session_join(struct perf_end *e, struct perf_conn *c)
{
    pthread_mutex_lock(&e->sessions->lock);
    struct perf_session *s = e->sessions->first;
    while (s && s->id != c->s.plan.session)
        s = s->next;
    if (!s && (s = calloc(1, sizeof *s)) != NULL) {
        s->id = c->s.plan.session;
        s->plan = c->s.plan;
        s->next = e->sessions->first;
        e->sessions->first = s;
    }
    if (s) /* else served all the same, only not reported */
        s->open++;
    c->session = s;
    pthread_mutex_unlock(&e->sessions->lock);
}

static void session_leave(struct perf_end *e, struct perf_conn *c, int rc)
{
    struct perf_session *s = c->session, **at = &e->sessions->first;
    if (!s)
        return;
    uint64_t took_ns = c->s.rx_last_ns - c->s.start_ns;
    pthread_mutex_lock(&e->sessions->lock);
    s->open--;
    s->ended++;
    s->broken += rc < 0;
    s->rx_bytes += c->s.rx_bytes;
    s->tx_bytes += c->s.tx_bytes;
    s->bad_bytes += c->s.bad_bytes;
    s->longest_ns = took_ns > s->longest_ns ? took_ns : s->longest_ns;
    /* A client that went away leaves streams that will never be opened. */
    bool over = !s->open && (s->ended >= s->plan.streams || rc != 0);
    if (over) {
        while (*at != s)
            at = &(*at)->next;
        *at = s->next;
    }
    pthread_mutex_unlock(&e->sessions->lock);
    if (!over)
        return;
    perf_report_session(e, s);
    free(s);
    if (e->opt->one_off)
        stop_loop(e);
}

void perf_sessions_free(struct perf_sessions *s)
{
    for (struct perf_session *next; s->first; s->first = next) {
        next = s->first->next;
        free(s->first);
    }
    pthread_mutex_destroy(&s->lock);
}

/* ---- the client's sums */

static void client_sum(struct perf_end *e, struct perf_conn *c)
{
    struct perf_stream *s = &c->s;
    struct perf_result now = {0};
    s->wire->counters(s, &now);
    uint64_t took_ns = s->rx_last_ns - s->start_ns;
    e->rx_ns = took_ns > e->rx_ns ? took_ns : e->rx_ns;
    e->total.rx_bytes += s->rx_bytes;
    e->total.tx_bytes += s->tx_bytes;
    e->total.bad_bytes += s->bad_bytes;
    e->total.retransmits += now.retransmits - s->before.retransmits;
    e->total.copied_bytes = now.copied_bytes; /* the whole stack's */
    e->total.zest = now.zest;
    e->rr_count += s->rr_count;
    e->peer.rx_bytes += s->peer.rx_bytes;
    e->peer.tx_bytes += s->peer.tx_bytes;
    e->peer.bad_bytes += s->peer.bad_bytes;
    e->peer.retransmits += s->peer.retransmits;
    e->peer.rx_ns = s->peer.rx_ns > e->peer.rx_ns ? s->peer.rx_ns : e->peer.rx_ns;
    if (s->peer.copied_bytes > e->peer.copied_bytes)
        e->peer.copied_bytes = s->peer.copied_bytes;
    e->peer.zest = s->peer.zest;
}

static void client_finish(struct perf_end *e)
{
    if (e->end_ns)
        return;
    e->end_ns = netif_now();
    e->cpu_s = cpu_seconds() - e->cpu_s;
    stop_loop(e);
}

static void client_stream_over(struct perf_end *e, struct perf_conn *c, int rc)
{
    client_sum(e, c);
    if (rc < 0 && e->error == 0)
        e->error = rc;
    e->ended++;
    if (e->ended == e->started || rc < 0)
        client_finish(e);
}

/* ---- timers */

/* Has anything moved lately? */
static void watch_progress(struct perf_end *e)
{
    uint64_t moved = e->ended;
    for (const struct perf_conn *c = e->conns; c; c = c->next)
        moved += c->s.tx_bytes + c->s.rx_bytes + (c->s.state != PERF_HELLO);
    if (moved != e->progress) {
        e->progress = moved;
        e->still = 0;
    } else if (++e->still > STALL_TICKS && e->error == 0) {
        e->error = -ETIMEDOUT;
        client_finish(e);
    }
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct perf_end *e = w->data;
    (void)revents;
    uint64_t now_ns = netif_now();
    for (struct perf_conn *c = e->conns, *next; c; c = next) {
        next = c->next;
        e->transport->poll(c, now_ns);
    }
    if (!e->server)
        watch_progress(e);
    if (!e->conns) {
        ev_timer_stop(loop, w);
        e->ticking = false;
    }
}

static void on_report(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    perf_report_interval(w->data, netif_now());
}

/* ---- for the transports */

void perf_end_add(struct perf_end *e, struct perf_conn *c)
{
    c->end = e;
    c->next = e->conns;
    c->link = &e->conns;
    if (c->next)
        c->next->link = &c->next;
    e->conns = c;
    if (!e->ticking) {
        e->ticking = true;
        e->still = 0;
        ev_timer_init(&e->tick, on_tick, TICK_S, TICK_S);
        e->tick.data = e;
        ev_timer_start(e->loop, &e->tick);
    }
}

bool perf_conn_over(struct perf_conn *c, int rc)
{
    if (c->end->server && !c->session && c->s.state != PERF_HELLO)
        session_join(c->end, c);
    return rc < 0 || c->s.state == PERF_DONE;
}

void perf_end_remove(struct perf_conn *c, int rc)
{
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    if (c->end->server)
        session_leave(c->end, c, rc);
    else
        client_stream_over(c->end, c, rc);
}

/* ---- for perf.c */

static void start_reports(struct perf_end *e)
{
    double every = (double)e->opt->interval_ns / 1e9;
    ev_now_update(e->loop);
    ev_timer_init(&e->report, on_report, every, every);
    e->report.data = e;
    e->reported_ns = netif_now();
    if (e->opt->interval_ns && !(e->server && e->opt->mem)) /* one report of the same is enough */
        ev_timer_start(e->loop, &e->report);
}

int perf_end_serve(struct perf_end *e)
{
    e->server = true;
    int rc = e->transport->listen(e);
    if (rc == 0)
        start_reports(e);
    return rc;
}

static void make_plan(struct perf_end *e)
{
    const struct perf_options *o = e->opt;
    e->plan = (struct perf_plan){
        .mode = o->mode,
        .verify = o->verify,
        .duration_ns = o->duration_ns,
        .length = o->length,
        .frames = o->frames,
        .session = o->session,
        .streams = o->streams,
    };
}

int perf_end_run_client(struct perf_end *e)
{
    make_plan(e);
    e->hist = calloc(1, sizeof *e->hist);
    if (!e->hist)
        return -ENOMEM;
    e->start_ns = netif_now();
    e->cpu_s = e->crew ? 0 : cpu_seconds(); /* its thread begins with nothing */
    unsigned n = e->plan.streams;
    for (unsigned i = e->index; i < n; i += e->ends) {
        e->plan.stream = (uint16_t)i;
        /* The first ones take what is left over. */
        e->plan.amount = e->opt->amount / n + (i < e->opt->amount % n);
        if (e->opt->amount && e->plan.amount == 0)
            e->plan.amount = 1;
        int rc = e->transport->connect(e);
        if (rc < 0)
            return rc;
        e->started++;
    }
    start_reports(e);
    return 0;
}

void perf_end_close(struct perf_end *e)
{
    if (!e->server && e->end_ns == 0) { /* interrupted: count what there is */
        for (struct perf_conn *c = e->conns; c; c = c->next)
            client_sum(e, c);
        e->end_ns = netif_now();
        e->cpu_s = cpu_seconds() - e->cpu_s;
    }
    ev_timer_stop(e->loop, &e->tick);
    ev_timer_stop(e->loop, &e->report);
    e->transport->close(e);
}

static void add_result(struct perf_result *to, const struct perf_result *from)
{
    to->rx_bytes += from->rx_bytes;
    to->tx_bytes += from->tx_bytes;
    to->bad_bytes += from->bad_bytes;
    to->retransmits += from->retransmits;
    to->copied_bytes += from->copied_bytes;
    to->rx_ns = from->rx_ns > to->rx_ns ? from->rx_ns : to->rx_ns;
    to->zest |= from->zest;
}

void perf_end_merge(struct perf_end *e, const struct perf_end *other)
{
    add_result(&e->total, &other->total);
    add_result(&e->peer, &other->peer);
    hist_merge(e->hist, other->hist);
    e->rr_count += other->rr_count;
    e->memory_waits += other->memory_waits;
    e->rx_ns = other->rx_ns > e->rx_ns ? other->rx_ns : e->rx_ns;
    e->end_ns = other->end_ns > e->end_ns ? other->end_ns : e->end_ns;
    e->error = e->error ? e->error : other->error;
    e->cpu_s += other->cpu_s;
}
