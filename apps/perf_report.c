/* perf_report.c - what zest perf says: lines for people, or one JSON object.
 *
 * A rate is what arrived: bytes that the receiving end counted, over the time from the hello to
 * the last of them. */
#include "perf.h"

#include "say.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct rate {
    uint64_t bytes;
    double seconds, gbit_s;
};

static struct rate rate_of(uint64_t bytes, uint64_t ns)
{
    struct rate r = {.bytes = bytes, .seconds = (double)ns / 1e9};
    if (ns)
        r.gbit_s = 8.0 * (double)bytes / (double)ns;
    return r;
}

/* What we sent, as the server counted it; as we did if it never said (interrupted). */
static struct rate sent_rate(const struct perf_end *e)
{
    return e->peer.rx_ns ? rate_of(e->peer.rx_bytes, e->peer.rx_ns)
                         : rate_of(e->total.tx_bytes, e->end_ns - e->start_ns);
}
static struct rate received_rate(const struct perf_end *e)
{
    return rate_of(e->total.rx_bytes, e->rx_ns);
}

static bool sends(const struct perf_end *e)
{
    return e->plan.mode == PERF_SEND || e->plan.mode == PERF_BIDIR;
}
static bool receives(const struct perf_end *e)
{
    return e->plan.mode == PERF_RECEIVE || e->plan.mode == PERF_BIDIR;
}

static unsigned queue_of(const struct perf_end *e)
{
    return netif_caps(e->host->nif)->queue;
}

/* ---- while it runs */

void perf_report_interval(struct perf_end *e, uint64_t now_ns)
{
    uint64_t tx = 0, rx = 0, rr = 0;
    for (const struct perf_conn *c = e->conns; c; c = c->next) {
        tx += c->s.tx_bytes;
        rx += c->s.rx_bytes;
        rr += c->s.rr_count;
    }
    uint64_t took_ns = now_ns - e->reported_ns;
    /* Streams that ended took their counts with them: nothing to compare with. */
    bool shrunk = tx < e->reported_tx || rx < e->reported_rx || rr < e->reported_rr;
    if (!shrunk && e->conns && !e->opt->json) {
        struct rate t = rate_of(tx - e->reported_tx, took_ns);
        struct rate r = rate_of(rx - e->reported_rx, took_ns);
        char tb[SAY_BYTES], rb[SAY_BYTES];
        double at = (double)(now_ns - (e->server ? e->conns->s.start_ns : e->start_ns)) / 1e9;
        if (e->crew)
            printf("queue %-3u", queue_of(e));
        printf("%8.2f s", at);
        if (e->conns->s.plan.mode == PERF_RR)
            printf("  %10.0f round trips/s", (double)(rr - e->reported_rr) / r.seconds);
        else
            printf("  sent %10s %7.2f Gbit/s   received %10s %7.2f Gbit/s", say_bytes(tb, t.bytes),
                   t.gbit_s, say_bytes(rb, r.bytes), r.gbit_s);
        printf("\n");
        fflush(stdout);
    }
    e->reported_tx = tx;
    e->reported_rx = rx;
    e->reported_rr = rr;
    e->reported_ns = now_ns;
}

/* ---- the client's result */

static double us(const struct perf_end *e, double q)
{
    return (double)hist_quantile_ns(e->hist, q) / 1e3;
}

static void print_rate(const char *what, struct rate r, const struct perf_result *sender)
{
    char bytes[SAY_BYTES];
    printf("%-9s %10s in %6.2f s  %8.2f Gbit/s  %" PRIu64 " retransmitted", what,
           say_bytes(bytes, r.bytes), r.seconds, r.gbit_s, sender->retransmits);
    if (sender->zest)
        printf(", %" PRIu64 " bytes copied", sender->copied_bytes);
    printf("\n");
}

static void print_text(const struct perf_end *e)
{
    if (sends(e))
        print_rate("sent", sent_rate(e), &e->total);
    if (receives(e))
        print_rate("received", received_rate(e), &e->peer);
    if (e->plan.mode == PERF_RR) {
        double s = (double)(e->end_ns - e->start_ns) / 1e9;
        printf("round trips of %u bytes: %" PRIu64 " in %.2f s, %.0f a second\n", e->plan.length,
               e->rr_count, s, (double)e->rr_count / s);
        printf("latency   p50 %.1f us  p90 %.1f us  p99 %.1f us  p99.9 %.1f us  max %.1f us\n",
               us(e, 0.5), us(e, 0.9), us(e, 0.99), us(e, 0.999), us(e, 1));
    }
    if (e->plan.verify)
        printf("verified  %" PRIu64 " wrong bytes\n", e->total.bad_bytes + e->peer.bad_bytes);
}

static void json_string(const char *name, const char *value)
{
    printf("\"%s\":\"", name);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            putchar('\\');
        if ((unsigned char)*value >= ' ')
            putchar(*value);
    }
    printf("\",");
}
static void json_u64(const char *name, uint64_t value)
{
    printf("\"%s\":%" PRIu64 ",", name, value);
}
static void json_real(const char *name, double value)
{
    printf("\"%s\":%.4f,", name, value);
}

static void json_queues(const struct perf_end *e)
{
    struct netif_group_stats gs = crew_strays(e->crew);
    struct netif_stats ls;
    netif_get_stats(e->crew->h[0].nif, &ls);
    json_u64("queues", e->ends);
    for (unsigned i = 0; i < e->ends; i++) {
        struct netif_stats q;
        char name[32];
        netif_get_stats(e->crew->h[i].nif, &q);
        snprintf(name, sizeof name, "queue%u_tx_bytes", i);
        json_u64(name, q.tx_bytes);
        snprintf(name, sizeof name, "queue%u_rx_bytes", i);
        json_u64(name, q.rx_bytes);
    }
    json_string("ports_by", netif_caps(e->crew->h[0].nif)->hash_known    ? "hash"
                            : netif_caps(e->crew->h[0].nif)->steer_rules ? "rules"
                                                                         : "learning");
    json_u64("strays", gs.strays);
    json_u64("handed", gs.handed);
    json_u64("refused", gs.refused);
    json_u64("mailbox_dropped", gs.dropped);
    json_u64("port_changes", gs.port_changes);
    json_u64("missed", ls.rx_missed);
}

static void print_json(const struct perf_end *e)
{
    double seconds = (double)(e->end_ns - e->start_ns) / 1e9;
    printf("{");
    json_string("mode", perf_mode_name(e->plan.mode));
    json_string("stack", e->host ? "zest" : "kernel");
    if (e->host) {
        const struct netif_caps *c = netif_caps(e->host->nif);
        json_string("link", c->kind);
        json_string("link_mode", c->mode);
        json_string("interface", c->name);
        json_u64("mtu", c->mtu);
        json_string("without_headroom", e->host->gather ? "gathered" : "copied");
        json_u64("send_ns", c->send_ns);
        json_u64("gather_ns", c->gather_ns);
        json_u64("linear_ns", c->linear_ns);
    }
    json_string("peer_stack", e->peer.zest ? "zest" : "kernel");
    json_u64("streams", e->plan.streams);
    json_real("seconds", seconds);
    json_u64("sent_bytes", sent_rate(e).bytes);
    json_real("sent_gbit_s", sent_rate(e).gbit_s);
    json_u64("received_bytes", received_rate(e).bytes);
    json_real("received_gbit_s", received_rate(e).gbit_s);
    if (e->plan.mode == PERF_RR) {
        json_u64("length", e->plan.length);
        json_u64("transactions", e->rr_count);
        json_real("transactions_s", seconds > 0 ? (double)e->rr_count / seconds : 0);
        json_real("p50_us", us(e, 0.5));
        json_real("p90_us", us(e, 0.9));
        json_real("p99_us", us(e, 0.99));
        json_real("p99_9_us", us(e, 0.999));
        json_real("max_us", us(e, 1));
    }
    json_u64("retransmits", e->total.retransmits);
    json_u64("copied_bytes", e->total.copied_bytes);
    json_u64("memory_waits", e->memory_waits);
    json_u64("peer_retransmits", e->peer.retransmits);
    json_u64("peer_copied_bytes", e->peer.copied_bytes);
    if (e->plan.verify)
        json_u64("bad_bytes", e->total.bad_bytes + e->peer.bad_bytes);
    json_real("cpu_s", e->cpu_s);
    if (e->crew)
        json_queues(e);
    json_string("error", e->error ? strerror(-e->error) : "");
    printf("\"version\":1}\n");
}

void perf_report_client(const struct perf_end *e)
{
    if (e->opt->json)
        print_json(e);
    else
        print_text(e);
    fflush(stdout);
}

void perf_report_queues(const struct perf_end *e, unsigned n)
{
    for (unsigned i = 0; i < n && !e->opt->json; i++) {
        struct netif_group_stats gs;
        struct netif_stats ls;
        char tx[SAY_BYTES], rx[SAY_BYTES];
        netif_group_get_stats(e->crew->h[i].group, i, &gs);
        netif_get_stats(e->crew->h[i].nif, &ls);
        printf("queue %-3u %10s in, %10s out, %" PRIu64 " frames received, %" PRIu64
               " of them another queue's",
               queue_of(&e[i]), say_bytes(rx, ls.rx_bytes), say_bytes(tx, ls.tx_bytes),
               ls.rx_frames, gs.strays);
        if (gs.port_changes)
            printf("; %" PRIu64 " changes of port", gs.port_changes);
        printf("\n");
    }
}

/* ---- the server's line */

void perf_report_session(const struct perf_end *e, const struct perf_session *s)
{
    struct rate r = rate_of(s->rx_bytes, s->longest_ns);
    char rx[SAY_BYTES], tx[SAY_BYTES];
    if (e->opt->json || e->opt->mem)
        return; /* the client's object, and the only one */
    printf("%s, %u stream%s: received %s, %.2f Gbit/s; sent %s%s\n", perf_mode_name(s->plan.mode),
           s->ended, s->ended == 1 ? "" : "s", say_bytes(rx, s->rx_bytes), r.gbit_s,
           say_bytes(tx, s->tx_bytes), s->broken ? "; broken off" : "");
    if (s->bad_bytes)
        printf("wrong bytes received: %" PRIu64 "\n", s->bad_bytes);
    fflush(stdout);
}

const char *perf_error_text(const struct perf_end *e, int err)
{
    switch (err) {
    case -ECONNREFUSED:
        return "connection refused: is 'zest perf -s' running there, on that port (-p)?";
    case -EHOSTUNREACH:
        return "no such neighbour answers: is the address right, in the subnet of --ip (or behind "
               "--gateway), and its link up?";
    case -ETIMEDOUT:
        return "nothing moved for 10 seconds; if 'ping' works, see whether the peer leaves "
               "checksums to hardware that is not there (ethtool -K IF tx off gso off tso off)";
    case -EPROTO:
        return "the other end is no 'zest perf', or it went away in the middle";
    case -EADDRINUSE:
        return "that port is taken; give another with -p";
    case -EACCES:
        return e->opt->kernel ? "that port needs root; give one above 1023 with -p" : "no access";
    case -ECONNRESET:
        return "the other end reset the connection";
    default:
        return strerror(-err);
    }
}
