/* echo.c - zest echo: sends back what it receives (RFC 862), from the memory it arrived in.
 *
 * zest_read() lends views into the received segments; zest_write() is given those very addresses,
 * so the stack takes its own reference on each segment and the view can be released as soon as all
 * of it was accepted. Releasing opens the receive window, and writing stops when the send buffer is
 * full, or when memory is refused; EV_WRITABLE says when either is over. A client that does not
 * read its echo thus stops being read from, and holds at most the two buffers' worth of memory. How
 * large these are depends on how many clients there are.
 *
 * When the client has closed its direction and everything is on its way back, ours is closed too;
 * the connection is forgotten when the stack says that both are done. */
#include "commands.h"
#include "crew.h"
#include "host.h"
#include "say.h"

#include <errno.h>
#include <ev.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ECHO_VIEWS 32  /* borrowed from a connection at a time */
#define POOL_PART  128 /* what a lone client may have queued, as a part of the pool */
#define BUFFER_MIN 16384u
#define BUFFER_MAX (1u << 20)

struct echo_conn {
    zest_handle handle;
    struct echo_conn *next, **link; /* list of all, to give views back at the end */
    /* views[first .. count) are lent to us; the first has `done` bytes written already. */
    struct zest_view views[ECHO_VIEWS];
    unsigned first, count;
    uint32_t done;
    bool eof, shut;
};

struct echo_server {
    struct host *host;
    struct echo_conn *conns;
    zest_handle listener;
    uint64_t accepted, bytes, resets, copied;
    unsigned open;
    ev_timer report;
    uint64_t reported_bytes, reported_ns;
};

struct echo_options {
    struct host_options host;
    uint16_t port;
    uint64_t interval_ns;
};

/* ---- memory */

/* What a new connection may hold, in each direction. A client that does not read makes us hold
 * both of its buffers full for as long as it likes, so the more clients there are, the less each of
 * them gets: their sum grows with the logarithm of their number only, and stays well within the
 * pool. A segment takes up to three times the room of its payload, hence the small fraction. */
static void share_memory(struct echo_server *s, zest_handle conn)
{
    uint64_t share = zbuf_pool_size(s->host->pool) / POOL_PART / s->host->members / s->open;
    uint32_t bytes = share > BUFFER_MAX   ? BUFFER_MAX
                     : share < BUFFER_MIN ? BUFFER_MIN
                                          : (uint32_t)share;
    if (!s->host->opt->snd_buf)
        zest_set_option(s->host->z, conn, ZEST_OPT_SND_BUF, bytes);
    if (!s->host->opt->rcv_buf)
        zest_set_option(s->host->z, conn, ZEST_OPT_RCV_BUF, bytes);
}

/* ---- one connection */

static void forget(struct echo_server *s, struct echo_conn *c)
{
    if (c->first < c->count)
        zest_release(s->host->z, c->handle, c->views + c->first, c->count - c->first);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    s->open--;
    free(c);
}

/* Writes what is borrowed. 0 when all of it was taken, -EAGAIN when the rest is for after
 * EV_WRITABLE. */
static int write_views(struct echo_server *s, struct echo_conn *c)
{
    unsigned released = c->first;
    int rc = 0;
    while (c->first < c->count) {
        const struct zest_view *v = &c->views[c->first];
        ssize_t n = zest_write(s->host->z, c->handle, v->addr + c->done, v->len - c->done);
        if (n < 0) {
            rc = (int)n;
            break;
        }
        s->bytes += (uint64_t)n;
        c->done += (uint32_t)n;
        if (c->done < v->len) { /* a partial write: the rest when EV_WRITABLE comes */
            rc = -EAGAIN;
            break;
        }
        c->done = 0;
        c->first++;
    }
    if (c->first > released)
        zest_release(s->host->z, c->handle, c->views + released, c->first - released);
    if (c->first == c->count)
        c->first = c->count = 0;
    return rc;
}

/* Moves bytes until there are none to read or no room to write. 0, -EAGAIN, or why it is over. */
static int pump(struct echo_server *s, struct echo_conn *c)
{
    for (;;) {
        int rc = write_views(s, c);
        if (rc < 0)
            return rc;
        if (c->eof)
            break;
        int n = zest_read(s->host->z, c->handle, c->views, ECHO_VIEWS);
        if (n < 0)
            return n;
        if (n == 0)
            c->eof = true;
        c->count = (unsigned)n;
    }
    if (!c->shut) {
        c->shut = true;
        return zest_shutdown(s->host->z, c->handle);
    }
    return 0;
}

/* The connection cannot go on for a reason of ours; the peer is told with a RST. */
static void give_up(struct echo_server *s, struct echo_conn *c, int rc)
{
    if (rc != -EBADF)
        zest_abort(s->host->z, c->handle);
    s->resets++;
    forget(s, c);
}

static void serve(struct echo_server *s, struct echo_conn *c)
{
    int rc = pump(s, c);
    /* ECONNRESET and the like: EV_ERROR and EV_CLOSED are on their way and say the same. */
    if (rc == -EBADF || rc == -EFAULT || rc == -EINVAL)
        give_up(s, c, rc);
}

static void accept_all(struct echo_server *s)
{
    zest_handle h;
    while (zest_accept(s->host->z, s->listener, &h, NULL) == 0) {
        struct echo_conn *c = calloc(1, sizeof *c);
        if (!c) {
            zest_abort(s->host->z, h);
            continue;
        }
        c->handle = h;
        c->next = s->conns;
        c->link = &s->conns;
        if (c->next)
            c->next->link = &c->next;
        s->conns = c;
        s->accepted++;
        s->open++;
        share_memory(s, h);
        zest_set_user(s->host->z, h, c);
        /* What arrived before zest_set_user() was announced without a name: look now. */
        serve(s, c);
    }
}

static void on_event(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n)
{
    struct echo_server *s = ctx;
    (void)z;
    for (unsigned i = 0; i < n; i++) {
        if (ev[i].handle == s->listener) {
            accept_all(s);
            continue;
        }
        struct echo_conn *c = ev[i].user;
        if (!c)
            continue; /* not accepted yet: accept_all() will look */
        if (ev[i].events & ZEST_EV_ERROR)
            s->resets++;
        if (ev[i].events & (ZEST_EV_CLOSED | ZEST_EV_ERROR)) {
            zest_handle h = c->handle;
            forget(s, c);
            zest_close(s->host->z, h);
        } else {
            serve(s, c);
        }
    }
}

/* ---- the server */

static void on_report(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct echo_server *s = w->data;
    (void)loop;
    (void)revents;
    uint64_t now = netif_now();
    double gbit_s = 8.0 * (double)(s->bytes - s->reported_bytes) / (double)(now - s->reported_ns);
    char bytes[SAY_BYTES], used[SAY_BYTES], size[SAY_BYTES], queue[24] = "";
    if (s->host->group)
        snprintf(queue, sizeof queue, "queue %u: ", netif_caps(s->host->nif)->queue);
    say("%s%u open, %" PRIu64 " accepted, %s echoed, %.2f Gbit/s; pool %s of %s", queue, s->open,
        s->accepted, say_bytes(bytes, s->bytes), gbit_s, say_bytes(used, host_pool_used(s->host)),
        say_bytes(size, zbuf_pool_size(s->host->pool)));
    s->reported_bytes = s->bytes;
    s->reported_ns = now;
}

static int start_server(struct echo_server *s, struct host *h, const struct echo_options *o)
{
    struct zest_addr local = {.port = o->port};
    *s = (struct echo_server){.host = h};
    int rc = zest_listen(h->z, &local, 1024, &s->listener);
    if (rc < 0) {
        say(rc == -EADDRINUSE ? "port %u is taken; give another with -p" : "cannot listen on %u",
            o->port);
        return rc;
    }
    rc = host_start(h, on_event, s);
    if (rc < 0)
        return rc;
    ev_timer_init(&s->report, on_report, (double)o->interval_ns / 1e9,
                  (double)o->interval_ns / 1e9);
    s->report.data = s;
    s->reported_ns = netif_now();
    if (o->interval_ns)
        ev_timer_start(s->host->loop, &s->report);
    return 0;
}

/* Clients still there get a RST, not silence. */
static void end_server(struct echo_server *s)
{
    while (s->conns)
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list's head is a link, too */
        give_up(s, s->conns, 0);
    zest_close(s->host->z, s->listener);
    host_flush(s->host);
    struct zest_stats st;
    zest_stats(s->host->z, &st);
    s->copied = st.tx_copied_bytes;
    ev_timer_stop(s->host->loop, &s->report);
}

/* ---- the command */

static const struct opt echo_opts[] = {
    OPT_HEAD("Echo:"),
    {'p', "port", "N", "TCP port to listen on (default: 7)"},
    {'i', "interval", "SECONDS", "say every so often what was done (default: never)"},
    OPT_END,
};

static void take(void *ctx, int key, const char *name, const char *arg)
{
    struct echo_options *o = ctx;
    if (host_option(&o->host, key, name, arg))
        return;
    switch (key) {
    case 'p':
        o->port = (uint16_t)opt_number(name, arg, 1, 65535);
        break;
    case 'i':
        o->interval_ns = opt_seconds_ns(name, arg, 0.01, 86400);
        break;
    default:
        break;
    }
}

static const struct opt_command echo_command = {
    .name = "zest echo",
    .about =
        "Usage: zest echo LINK --ip A.B.C.D/N [OPTION]...\n"
        "An echo server that copies nothing: it writes back the very addresses that it read.\n",
    .tables = {echo_opts, host_opts},
    .epilogue = "Examples:\n"
                "  zest echo -I eth1 --ip 192.168.1.50/24\n"
                "  zest echo --tap zest0 --ip 10.0.0.2/24 --host-ip 10.0.0.1/24\n"
                "  then, from a neighbour (or, with --tap, this host):  socat - TCP:10.0.0.2:7\n",
    .take = take,
};

static void say_sum(const struct echo_server *s, unsigned n)
{
    uint64_t accepted = 0, resets = 0, bytes = 0, copied = 0;
    for (unsigned i = 0; i < n; i++) {
        accepted += s[i].accepted;
        resets += s[i].resets;
        bytes += s[i].bytes;
        copied += s[i].copied;
    }
    say("%" PRIu64 " connections, %" PRIu64 " ended in an error, %" PRIu64 " bytes echoed, %" PRIu64
        " bytes copied",
        accepted, resets, bytes, copied);
}

static void say_missed(const struct host *h)
{
    struct netif_stats ls;
    netif_get_stats(h->nif, &ls);
    if (ls.rx_missed)
        say("%" PRIu64 " frames for us came in on queues that we do not serve; see --queues",
            ls.rx_missed);
}

static int run_single(const struct echo_options *o)
{
    struct echo_server s;
    struct host h;
    struct ev_loop *loop = ev_default_loop(0);
    if (host_open(&h, &o->host, loop) < 0)
        return EXIT_FAILED;
    int code = EXIT_FAILED;
    if (start_server(&s, &h, o) == 0) {
        host_describe(&h);
        say("ready on port %u", o->port);
        host_run(loop);
        end_server(&s);
        say_missed(&h);
        say_sum(&s, 1);
        code = h.failed ? EXIT_FAILED : EXIT_OK;
    }
    int leak = host_close(&h);
    return code == EXIT_OK ? leak : code;
}

/* ---- several queues: a server for each, in its own thread */

static void end_one(void *ctx, unsigned i)
{
    end_server((struct echo_server *)ctx + i);
}

static void say_queues(const struct crew *c, const struct echo_server *s)
{
    for (unsigned i = 0; i < c->n; i++) {
        struct netif_group_stats gs;
        struct netif_stats ls;
        netif_group_get_stats(c->h[i].group, i, &gs);
        netif_get_stats(c->h[i].nif, &ls);
        say("queue %u: %" PRIu64 " connections, %" PRIu64 " bytes echoed; %" PRIu64
            " frames received, %" PRIu64 " of them another queue's",
            netif_caps(c->h[i].nif)->queue, s[i].accepted, s[i].bytes, ls.rx_frames, gs.strays);
    }
    say_missed(&c->h[0]);
}

static int run_queues(const struct echo_options *o, unsigned n)
{
    struct crew c;
    struct echo_server *s = calloc(n, sizeof *s);
    if (!s || crew_open(&c, &o->host, n) < 0) {
        free(s);
        return EXIT_FAILED;
    }
    int rc = 0;
    for (unsigned i = 0; i < n && rc == 0; i++)
        rc = start_server(&s[i], &c.h[i], o);
    if (rc == 0) {
        host_describe(&c.h[0]);
        say("ready on port %u", o->port);
        crew_run(&c, end_one, s);
        say_queues(&c, s);
        say_sum(s, n);
    }
    bool failed = rc < 0 || crew_failed(&c);
    int leak = crew_close(&c);
    free(s);
    return failed ? EXIT_FAILED : leak;
}

int cmd_echo(int argc, char **argv)
{
    struct echo_options o = {.port = 7};
    host_options_init(&o.host);
    opt_parse(&echo_command, argc, argv, &o);
    host_options_check(&o.host);
    if (!host_has_port(&o.host, o.port))
        say_usage("--port: %u is none of --ports", o.port);
    unsigned n = crew_size(&o.host);
    return n == 1 ? run_single(&o) : run_queues(&o, n);
}
