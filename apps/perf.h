/* perf.h - zest perf: one end of a test (a client or a server), whatever it runs over.
 *
 *   perf.c         options, and what is started for them
 *   perf_end.c     an end: its streams, its timers, when it is over
 *   perf_zest.c    transport: zest's own connections
 *   perf_kernel.c  transport: ordinary sockets
 *   perf_stream.c  one stream: who sends what when       perf_proto.c  what goes over the wire
 *   perf_report.c  lines and JSON                        hist.c        latencies */
#ifndef APPS_PERF_H
#define APPS_PERF_H

#include <ev.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "crew.h"
#include "hist.h"
#include "host.h"
#include "perf_stream.h"

struct perf_options {
    struct host_options host;
    bool server, client, kernel, mem;
    bool one_off, json, verify, nodelay, frames, no_copy;
    const char *peer; /* the client's server, as typed */
    struct zest_addr peer_addr;
    uint16_t port;
    enum perf_mode mode;
    uint64_t duration_ns, amount;
    uint32_t length;
    uint16_t streams; /* 0 = one for each queue */
    uint64_t interval_ns;
    uint64_t session; /* client: the test's number */
};

struct perf_end;
struct perf_conn;

/* What carries an end's streams. */
struct perf_transport {
    int (*listen)(struct perf_end *e);
    int (*connect)(struct perf_end *e); /* adds one stream */
    /* Sends what is due by time, on one connection. May remove it. */
    void (*poll)(struct perf_conn *c, uint64_t now_ns);
    void (*close)(struct perf_end *e); /* everything that is still open, at once */
};
extern const struct perf_transport perf_over_zest, perf_over_kernel;

/* A connection of this end. The transport embeds it first in its own structure. */
struct perf_conn {
    struct perf_stream s;
    struct perf_end *end;
    struct perf_conn *next, **link;
    struct perf_session *session; /* server: the test that it belongs to */
};

/* Server: what the streams of one test add up to. */
struct perf_session {
    uint64_t id;
    struct perf_plan plan;
    unsigned open, ended, broken;
    uint64_t rx_bytes, tx_bytes, bad_bytes, longest_ns, copied_bytes;
    struct perf_session *next;
};

/* A client's streams come in on any queue, so the ends of a server share this. */
struct perf_sessions {
    pthread_mutex_t lock;
    struct perf_session *first;
};

struct perf_end {
    const struct perf_options *opt;
    const struct perf_transport *transport;
    struct ev_loop *loop;
    struct host *host; /* over zest */
    void *impl;        /* the transport's own */
    bool server;
    bool stop_loop; /* when it is over */

    /* Of several ends, one for each queue, this is number `index`. */
    struct crew *crew; /* NULL: the only one */
    unsigned index, ends;

    struct perf_conn *conns;
    struct perf_sessions *sessions; /* server */

    /* client */
    struct perf_plan plan;
    unsigned started, ended; /* streams of this end */
    uint64_t start_ns, end_ns;
    struct hist *hist;
    struct perf_result total; /* what this end counted */
    struct perf_result peer;  /* what the server said, added up; rx_ns the longest */
    uint64_t rr_count;
    uint64_t rx_ns;        /* the longest */
    int error;             /* first -errno that ended a stream */
    double cpu_s;          /* used by this thread from start to end */
    uint64_t memory_waits; /* times that a stream had to wait for memory for its next bytes */

    ev_timer tick, report;
    bool ticking;
    uint64_t progress; /* bytes, for noticing that nothing moves */
    unsigned still;    /* ticks since something did */
    uint64_t reported_ns, reported_tx, reported_rx, reported_rr;
};

/* ---- perf_end.c: for perf.c */

int perf_end_serve(struct perf_end *e);
int perf_end_run_client(struct perf_end *e);
/* A client's test is over, or has failed; or the process is to end. */
void perf_end_close(struct perf_end *e);
/* What another queue's end did, added to e's. */
void perf_end_merge(struct perf_end *e, const struct perf_end *other);
/* What clients left behind. */
void perf_sessions_free(struct perf_sessions *s);

/* ---- perf_end.c: for the transports */

void perf_end_add(struct perf_end *e, struct perf_conn *c);
/* After anything that the stream's functions returned: 0 or -errno. True if the connection is over
 * (finished or broken): the transport then closes or aborts it and calls perf_end_remove(). */
bool perf_conn_over(struct perf_conn *c, int rc);
void perf_end_remove(struct perf_conn *c, int rc);

/* ---- perf_report.c */

void perf_report_interval(struct perf_end *e, uint64_t now_ns);
/* Of a client's ends the first holds the sums, the others what they did themselves. */
void perf_report_client(const struct perf_end *e);
/* What each queue did, before it is summed up. */
void perf_report_queues(const struct perf_end *e, unsigned n);
void perf_report_session(const struct perf_end *e, const struct perf_session *s);
const char *perf_error_text(const struct perf_end *e, int err);

#endif
