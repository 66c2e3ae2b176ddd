/* perf.c - zest perf: the command line, and what is started for it. */
#include "perf.h"

#include "commands.h"
#include "say.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { O_BIDIR = OPT_LONG, O_RR, O_KERNEL, O_MEM, O_VERIFY, O_FRAMES, O_NO_COPY };

static const struct opt perf_opts[] = {
    OPT_HEAD("Test (letters as in iperf3; -I, not -i, is the interface):"),
    {'s', "server", NULL, "wait for clients, which say what is to be measured"},
    {'c', "client", "HOST", "measure, with the server at HOST"},
    {O_MEM, "mem", NULL, "measure between two stacks in this process, over a link in memory"},
    {O_KERNEL, "kernel", NULL, "use the kernel's TCP instead of zest: no link options then"},
    {'p', "port", "N", "TCP port (default: 5201)"},
    {'t', "time", "SECONDS", "how long (default: 10)"},
    {'n', "bytes", "SIZE", "how much, instead of how long (with --rr: round trips)"},
    {'P', "parallel", "N", "connections at a time (default: 1, or one for each queue)"},
    {'R', "reverse", NULL, "the server sends"},
    {O_BIDIR, "bidir", NULL, "both send, on the same connections"},
    {O_RR, "rr", NULL, "request and response in turn: round-trip times"},
    {'l', "length", "SIZE",
     "bytes a write (default: zest writes full segments, the kernel 128K); with --rr, of a request "
     "and of a response (default: 64)"},
    {O_FRAMES, "frames", NULL,
     "zest writes chains made as frames, one a link: -l bytes (default: 64K), rounded up to "
     "frames"},
    {O_NO_COPY, "no-copy", NULL, "a test in which zest copied payload in order to send has failed"},
    {'N', "no-delay", NULL, "no Nagle algorithm (always so with --rr)"},
    {O_VERIFY, "verify", NULL, "send a pattern and check every byte of it (slower)"},
    {'i', "interval", "SECONDS", "report every so often (default: 1; 0 = at the end only)"},
    {'J', "json", NULL, "the result as one JSON object"},
    {'1', "one-off", NULL, "server: serve one test, then end"},
    OPT_END,
};

static void take(void *ctx, int key, const char *name, const char *arg)
{
    struct perf_options *o = ctx;
    if (host_option(&o->host, key, name, arg))
        return;
    switch (key) {
    case 's':
        o->server = true;
        break;
    case 'c':
        o->client = true;
        o->peer = arg;
        break;
    case O_MEM:
        o->mem = o->host.mem = true;
        break;
    case O_KERNEL:
        o->kernel = true;
        break;
    case 'p':
        o->port = (uint16_t)opt_number(name, arg, 1, 65535);
        break;
    case 't':
        o->duration_ns = opt_seconds_ns(name, arg, 0.01, 86400);
        break;
    case 'n':
        o->amount = opt_size(name, arg, 1, UINT64_C(1) << 60);
        break;
    case 'P':
        o->streams = (uint16_t)opt_number(name, arg, 1, PERF_STREAMS);
        break;
    case 'R':
        o->mode = PERF_RECEIVE;
        break;
    case O_BIDIR:
        o->mode = PERF_BIDIR;
        break;
    case O_RR:
        o->mode = PERF_RR;
        break;
    case 'l':
        o->length = (uint32_t)opt_size(name, arg, 1, PERF_LENGTH_MAX);
        break;
    case 'N':
        o->nodelay = true;
        break;
    case O_VERIFY:
        o->verify = true;
        break;
    case O_FRAMES:
        o->frames = true;
        break;
    case O_NO_COPY:
        o->no_copy = true;
        break;
    case 'i':
        if (arg[0] < '0' || arg[0] > '9')
            say_usage("--interval: '%s' is not a number of seconds (the interface is given with "
                      "-I)",
                      arg);
        o->interval_ns = opt_seconds_ns(name, arg, 0, 86400);
        break;
    case 'J':
        o->json = true;
        break;
    case '1':
        o->one_off = true;
        break;
    default:
        break;
    }
}

static const struct opt_command perf_command = {
    .name = "zest perf",
    .about = "Usage: zest perf -s LINK --ip A.B.C.D/N [OPTION]...           server\n"
             "       zest perf -c HOST LINK --ip A.B.C.D/N [OPTION]...      client\n"
             "       zest perf --kernel -s | -c HOST [OPTION]...            over the kernel's TCP\n"
             "       zest perf --mem [OPTION]...                            both, in memory\n"
             "Throughput and latency over TCP. Rates are of payload, as the receiver counts it.\n",
    .tables = {perf_opts, host_opts},
    .epilogue = "Examples:\n"
                "  zest perf --kernel -s                                    on host 10.0.0.1\n"
                "  zest perf -c 10.0.0.1 -I eth1 --ip 10.0.0.2/24           zest sends to it\n"
                "  zest perf -c 10.0.0.1 -I eth1 --ip 10.0.0.2/24 --rr --spin\n"
                "  zest perf --mem --bidir --verify\n",
    .take = take,
};

static void resolve(struct perf_options *o)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    int rc = getaddrinfo(o->peer, NULL, &hints, &found);
    if (rc != 0)
        say_usage("--client: no address for '%s': %s", o->peer, gai_strerror(rc));
    struct sockaddr_in in;
    memcpy(&in, found->ai_addr, sizeof in);
    freeaddrinfo(found);
    o->peer_addr = (struct zest_addr){.port = o->port};
    o->peer_addr.ip[10] = o->peer_addr.ip[11] = 0xff;
    memcpy(&o->peer_addr.ip[12], &in.sin_addr, 4);
}

static void check(struct perf_options *o)
{
    if (o->server + o->client + o->mem != 1)
        say_usage("one of -s (server), -c HOST (client) and --mem (both) is needed");
    if (o->kernel && (o->host.ifname || o->host.tap || o->mem))
        say_usage("--kernel uses the kernel's own interfaces: leave -I, --tap and --mem out");
    if (!o->kernel)
        host_options_check(&o->host);
    if (o->server && !host_has_port(&o->host, o->port))
        say_usage("--port: %u is none of --ports", o->port);
    if (o->duration_ns == 0 && o->amount == 0)
        o->duration_ns = 10000000000ull;
    else if (o->amount && o->duration_ns)
        say_usage("-t and -n: one of them");
    if (o->frames && o->mode == PERF_RR)
        say_usage("--frames is for a stream of payload, not for --rr");
    if (o->mode == PERF_RR && o->length == 0)
        o->length = 64;
    if (o->client)
        resolve(o);
    if (getrandom(&o->session, sizeof o->session, 0) < 0)
        say_usage("no random bytes from the kernel: %s", strerror(errno));
}

/* ---- running */

static int failed(const struct perf_end *e, const char *what, int rc)
{
    if (rc < 0)
        say("%s: %s", what, perf_error_text(e, rc));
    return EXIT_FAILED;
}

static int run_server(struct perf_end *e)
{
    int rc = perf_end_serve(e);
    if (rc < 0) {
        char what[64];
        snprintf(what, sizeof what, "cannot listen on port %u", e->opt->port);
        return failed(e, what, rc);
    }
    if (e->host)
        host_describe(e->host);
    say("ready on port %u", e->opt->port);
    host_run(e->loop);
    return e->host && e->host->failed ? EXIT_FAILED : EXIT_OK;
}

/* Its result is printed even if it was cut short; the exit code says how it ended. */
static int finish_client(struct perf_end *e, bool interrupted)
{
    uint64_t bad = e->total.bad_bytes + e->peer.bad_bytes;
    perf_report_client(e);
    if (e->error)
        return failed(e, e->opt->peer ? e->opt->peer : "the test", e->error);
    if (bad) {
        say("%llu bytes arrived wrong", (unsigned long long)bad);
        return EXIT_FAILED;
    }
    uint64_t copied = e->total.copied_bytes + e->peer.copied_bytes;
    if (e->opt->no_copy && copied) {
        say("--no-copy: %llu bytes were copied in order to be sent", (unsigned long long)copied);
        return EXIT_FAILED;
    }
    if (interrupted)
        say("interrupted");
    return interrupted ? EXIT_FAILED : EXIT_OK;
}

static int run_client(struct perf_end *e)
{
    int rc = perf_end_run_client(e);
    if (rc < 0)
        return failed(e, e->opt->peer ? e->opt->peer : "the test", rc);
    if (e->host && !e->opt->json && !e->opt->mem)
        host_describe(e->host);
    /* Something may have ended it already, before there was a loop to break. */
    bool interrupted = !e->stop_loop && (host_run(e->loop) || (e->host && e->host->failed));
    perf_end_close(e);
    return finish_client(e, interrupted);
}

static int run_mem(struct perf_options *o, struct ev_loop *loop)
{
    struct host h[2];
    struct perf_sessions sessions = {.lock = PTHREAD_MUTEX_INITIALIZER};
    if (host_open_pair(h, &o->host, loop) < 0)
        return EXIT_FAILED;
    struct perf_end server = {.opt = o, .transport = &perf_over_zest, .loop = loop, .ends = 1};
    struct perf_end client = server;
    server.host = &h[0];
    server.sessions = &sessions;
    client.host = &h[1];
    int rc = perf_end_serve(&server);
    int code = rc < 0 ? failed(&server, "the server", rc) : run_client(&client);
    perf_end_close(&client);
    perf_end_close(&server);
    perf_sessions_free(&sessions);
    free(client.hist);
    int leak = host_close_pair(h);
    return code == EXIT_OK ? leak : code;
}

static int run_one(const struct perf_options *o, struct ev_loop *loop)
{
    struct host h;
    struct perf_sessions sessions = {.lock = PTHREAD_MUTEX_INITIALIZER};
    if (!o->kernel && host_open(&h, &o->host, loop) < 0)
        return EXIT_FAILED;
    struct perf_end e = {
        .opt = o,
        .transport = o->kernel ? &perf_over_kernel : &perf_over_zest,
        .loop = loop,
        .host = o->kernel ? NULL : &h,
        .ends = 1,
        .sessions = &sessions,
    };
    int code = o->server ? run_server(&e) : run_client(&e);
    perf_end_close(&e);
    perf_sessions_free(&sessions);
    free(e.hist);
    int leak = o->kernel ? EXIT_OK : host_close(&h);
    return code == EXIT_OK ? leak : code;
}

/* ---- several queues: an end for each, in its own thread */

static void end_one(void *ctx, unsigned i)
{
    perf_end_close((struct perf_end *)ctx + i);
}

static int start_ends(struct perf_end *e, unsigned n)
{
    int rc = 0;
    for (unsigned i = 0; i < n && rc == 0; i++)
        rc = e->opt->server ? perf_end_serve(&e[i]) : perf_end_run_client(&e[i]);
    if (rc < 0)
        failed(e, e->opt->peer ? e->opt->peer : "cannot listen", rc);
    return rc;
}

static int run_ends(struct crew *c, struct perf_end *e)
{
    const struct perf_options *o = e->opt;
    if (start_ends(e, c->n) < 0) {
        for (unsigned i = 0; i < c->n; i++)
            perf_end_close(&e[i]);
        return EXIT_FAILED;
    }
    if (o->server || !o->json)
        host_describe(&c->h[0]);
    if (o->server)
        say("ready on port %u", o->port);
    bool interrupted = crew_run(c, end_one, e), failed = crew_failed(c);
    if (o->server) {
        perf_report_queues(e, c->n);
        return failed ? EXIT_FAILED : EXIT_OK;
    }
    perf_report_queues(e, c->n);
    for (unsigned i = 1; i < c->n; i++)
        perf_end_merge(&e[0], &e[i]);
    return finish_client(&e[0], interrupted || failed);
}

static int run_queues(const struct perf_options *o, unsigned n)
{
    struct crew c;
    struct perf_sessions sessions = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct perf_end *e = calloc(n, sizeof *e);
    if (!e || crew_open(&c, &o->host, n) < 0) {
        free(e);
        return EXIT_FAILED;
    }
    for (unsigned i = 0; i < n; i++)
        e[i] = (struct perf_end){
            .opt = o,
            .transport = &perf_over_zest,
            .loop = c.h[i].loop,
            .host = &c.h[i],
            .crew = &c,
            .index = i,
            .ends = n,
            .sessions = &sessions,
        };
    int code = run_ends(&c, e);
    perf_sessions_free(&sessions);
    for (unsigned i = 0; i < n; i++)
        free(e[i].hist);
    free(e);
    int leak = crew_close(&c);
    return code == EXIT_OK ? leak : code;
}

int cmd_perf(int argc, char **argv)
{
    struct perf_options o = {.port = 5201, .mode = PERF_SEND, .interval_ns = 1000000000};
    host_options_init(&o.host);
    opt_parse(&perf_command, argc, argv, &o);
    check(&o);
    unsigned n = o.kernel || o.mem ? 1 : crew_size(&o.host);
    if (o.streams == 0)
        o.streams = (uint16_t)n;
    if (o.client && n > o.streams)
        say_usage("--queues %u: that many connections are needed, or more (-P)", n);
    if (n > 1)
        return run_queues(&o, n);
    struct ev_loop *loop = ev_default_loop(0);
    if (o.mem) {
        zest_addr_parse(&o.peer_addr, "10.0.0.1", o.port);
        return run_mem(&o, loop);
    }
    return run_one(&o, loop);
}
