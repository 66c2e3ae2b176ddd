/* echoload.c - clients for an echo server, on ordinary sockets: many at a time, one after another,
 * slow readers, clients that break off. Every byte that comes back is checked against its place in
 * its connection's stream.
 *
 * Usage: echoload HOST PORT [--conns N] [--bytes N] [--turns N] [--slow N --rate BYTES/S]
 *                           [--reset N] [--limit SECONDS]
 *
 *   --conns N   N connections, all open before any sends; each sends --bytes, closes its direction,
 *               and must get the same back, then the end of the stream
 *   --turns N   do that N times, one after another
 *   --slow N    besides, N connections that send without end and read --rate bytes a second until
 * all others are done; then they stop sending and read to the end
 *   --reset N   besides, N connections that send, read a little and then reset the connection
 *
 * Prints one line with what was done. Anything else than a perfect echo is an error. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK    65536u
#define CONN_MAX 16384u

enum kind { PLAIN, SLOW, RESET };

struct conn {
    int fd; /* -1 = closed */
    enum kind kind;
    uint64_t id, to_send, sent, got;
    bool connected, shut;
};

static struct {
    struct sockaddr_in to;
    unsigned conns, turns, slow, reset;
    uint64_t bytes, rate;
    double limit_s;
} opt = {.conns = 1, .turns = 1, .bytes = 65536, .rate = 10240, .limit_s = 120};

static struct conn conn[CONN_MAX];
static unsigned n_conns, n_connected, n_open, n_plain_open;
static int epoll_fd;
static uint64_t total_bytes, slow_bytes, start_ns, slow_credit_ns;
static uint64_t quick_ns; /* how long the others took, beside the slow ones */
static bool draining;     /* the slow ones now read as fast as they can */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "echoload: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

/* ---- the bytes: a function of connection and offset */

static uint64_t word_of(uint64_t id, uint64_t n)
{
    uint64_t x = (n + 1) * 0x9e3779b97f4a7c15u + id * 0xd1342543de82ef95u;
    x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9u;
    return x ^ x >> 29;
}

static void fill(uint8_t *to, size_t len, uint64_t id, uint64_t offset)
{
    while (len) {
        uint64_t w = word_of(id, offset / 8);
        size_t skip = offset % 8, n = 8 - skip < len ? 8 - skip : len;
        memcpy(to, (const uint8_t *)&w + skip, n);
        to += n;
        offset += n;
        len -= n;
    }
}

/* ---- one connection */

static void want(struct conn *c, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void open_conn(struct conn *c, enum kind kind, uint64_t id)
{
    *c = (struct conn){.kind = kind, .id = id, .to_send = opt.bytes};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    if (kind == SLOW) {
        /* A small window, so that what the server cannot get rid of stays at the server. */
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &(int){8192}, sizeof(int));
        c->to_send = UINT64_MAX;
    }
    if (connect(c->fd, (struct sockaddr *)&opt.to, sizeof opt.to) < 0 && errno != EINPROGRESS)
        die("connection %" PRIu64 ": connect: %s", id, strerror(errno));
    struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        die("epoll_ctl: %s", strerror(errno));
    n_open++;
    n_plain_open += kind == PLAIN;
}

static void close_conn(struct conn *c)
{
    close(c->fd);
    c->fd = -1;
    n_open--;
    n_plain_open -= c->kind == PLAIN;
}

static void connected(struct conn *c)
{
    int err = 0;
    socklen_t len = sizeof err;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err)
        die("connection %" PRIu64 ": connect: %s", c->id, strerror(err));
    c->connected = true;
    n_connected++;
    want(c, 0); /* until all are there */
}

static void send_more(struct conn *c)
{
    static uint8_t buf[CHUNK];
    while (c->sent < c->to_send) {
        uint64_t left = c->to_send - c->sent;
        size_t n = left < CHUNK ? (size_t)left : CHUNK;
        fill(buf, n, c->id, c->sent);
        ssize_t done = send(c->fd, buf, n, MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done < 0)
            die("connection %" PRIu64 ": after sending %" PRIu64 " bytes: %s", c->id, c->sent,
                strerror(errno));
        c->sent += (uint64_t)done;
    }
    if (!c->shut) {
        shutdown(c->fd, SHUT_WR);
        c->shut = true;
        want(c, EPOLLIN);
    }
}

/* Reads up to max bytes. */
static void read_more(struct conn *c, size_t max)
{
    static uint8_t buf[CHUNK], expected[CHUNK];
    for (unsigned turn = 0; turn < 16 && max; turn++) {
        ssize_t n = recv(c->fd, buf, max < CHUNK ? max : CHUNK, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            die("connection %" PRIu64 ": after %" PRIu64 " bytes of echo: %s", c->id, c->got,
                strerror(errno));
        if (n == 0) {
            if (!c->shut || c->got != c->sent)
                die("connection %" PRIu64 ": it ended after %" PRIu64 " bytes of echo, %" PRIu64
                    " were sent",
                    c->id, c->got, c->sent);
            close_conn(c);
            return;
        }
        fill(expected, (size_t)n, c->id, c->got);
        if (memcmp(buf, expected, (size_t)n) != 0)
            die("connection %" PRIu64 ": wrong bytes between %" PRIu64 " and %" PRIu64, c->id,
                c->got, c->got + (uint64_t)n);
        c->got += (uint64_t)n;
        max -= (size_t)n;
        *(c->kind == SLOW ? &slow_bytes : &total_bytes) += (uint64_t)n;
        if (c->kind == RESET && c->got > opt.bytes / 2) {
            struct linger reset = {.l_onoff = 1, .l_linger = 0};
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close_conn(c);
            return;
        }
    }
}

static void handle(struct conn *c, uint32_t events)
{
    if (c->fd < 0)
        return;
    if (!c->connected) {
        connected(c);
        return;
    }
    if (events & EPOLLOUT)
        send_more(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && (c->kind != SLOW || draining))
        read_more(c, SIZE_MAX);
}

/* ---- all of them */

static uint32_t interest(const struct conn *c)
{
    return c->kind == SLOW ? EPOLLOUT : EPOLLIN | EPOLLOUT;
}

/* Lets the slow ones read what they have earned since last time. */
static void read_slowly(void)
{
    uint64_t now = now_ns();
    uint64_t earned = (now - slow_credit_ns) * opt.rate / 1000000000u;
    if (earned < 512)
        return;
    slow_credit_ns = now;
    for (unsigned i = 0; i < n_conns; i++)
        if (conn[i].kind == SLOW && conn[i].fd >= 0)
            read_more(&conn[i], (size_t)earned);
}

static void drain_slow_ones(void)
{
    draining = true;
    for (unsigned i = 0; i < n_conns; i++) {
        struct conn *c = &conn[i];
        if (c->kind != SLOW || c->fd < 0)
            continue;
        c->to_send = c->sent;
        c->shut = true;
        shutdown(c->fd, SHUT_WR);
        want(c, EPOLLIN);
    }
}

static void run_until_done(void)
{
    struct epoll_event ev[256];
    bool let_go = false;
    slow_credit_ns = now_ns();
    while (n_open) {
        int n = epoll_wait(epoll_fd, ev, 256, opt.slow && !draining ? 20 : 1000);
        if (n < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < n; i++)
            handle(ev[i].data.ptr, ev[i].events);
        if (!let_go && n_connected == n_conns) {
            let_go = true;
            for (unsigned i = 0; i < n_conns; i++)
                want(&conn[i], interest(&conn[i]));
        }
        if (opt.slow && let_go && !draining)
            read_slowly();
        if (opt.slow && n_open == opt.slow && !draining) {
            quick_ns = now_ns() - start_ns;
            drain_slow_ones();
        }
        if ((double)(now_ns() - start_ns) / 1e9 > opt.limit_s)
            die("not done after %g s: %u of %u connections were opened, %u are still open",
                opt.limit_s, n_connected, n_conns, n_open);
    }
}

static void one_turn(uint64_t turn)
{
    n_conns = n_connected = 0;
    draining = false;
    for (unsigned i = 0; i < opt.slow; i++, n_conns++)
        open_conn(&conn[n_conns], SLOW, turn * CONN_MAX + n_conns);
    for (unsigned i = 0; i < opt.reset; i++, n_conns++)
        open_conn(&conn[n_conns], RESET, turn * CONN_MAX + n_conns);
    for (unsigned i = 0; i < opt.conns; i++, n_conns++)
        open_conn(&conn[n_conns], PLAIN, turn * CONN_MAX + n_conns);
    run_until_done();
}

static uint64_t number(const char *name, const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    uint64_t v = strtoull(text, &end, 10);
    if (end == text || *end || errno || v > max)
        die("--%s: '%s' is not a number up to %" PRIu64, name, text, max);
    return v;
}

static void parse(int argc, char **argv)
{
    static const struct option opts[] = {{"conns", 1, NULL, 'c'}, {"bytes", 1, NULL, 'b'},
                                         {"turns", 1, NULL, 't'}, {"slow", 1, NULL, 's'},
                                         {"rate", 1, NULL, 'r'},  {"reset", 1, NULL, 'x'},
                                         {"limit", 1, NULL, 'l'}, {NULL, 0, NULL, 0}};
    int key, i = 0;
    while ((key = getopt_long(argc, argv, "", opts, &i)) != -1) {
        if (key == '?')
            exit(2);
        uint64_t v = number(opts[i].name, optarg, key == 'b' ? UINT64_C(1) << 40 : 100000000);
        switch (key) {
        case 'c':
            opt.conns = (unsigned)v;
            break;
        case 'b':
            opt.bytes = v;
            break;
        case 't':
            opt.turns = (unsigned)v;
            break;
        case 's':
            opt.slow = (unsigned)v;
            break;
        case 'r':
            opt.rate = v;
            break;
        case 'x':
            opt.reset = (unsigned)v;
            break;
        default:
            opt.limit_s = (double)v;
        }
    }
    if (optind + 2 != argc)
        die("usage: echoload HOST PORT [option]...");
    opt.to.sin_family = AF_INET;
    opt.to.sin_port = htons((uint16_t)number("port", argv[optind + 1], 65535));
    if (inet_pton(AF_INET, argv[optind], &opt.to.sin_addr) != 1)
        die("'%s' is not an IPv4 address", argv[optind]);
    if (opt.conns + opt.slow + opt.reset > CONN_MAX)
        die("more than %u connections", CONN_MAX);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die("epoll: %s", strerror(errno));
    start_ns = now_ns();
    for (unsigned turn = 0; turn < opt.turns; turn++)
        one_turn(turn);
    double s = (double)(quick_ns ? quick_ns : now_ns() - start_ns) / 1e9;
    printf("%u connections (%u slow, %u reset), %u times: %" PRIu64 " bytes echoed, %" PRIu64
           " slowly; the quick ones in %.2f s: %.0f connections/s, %.2f Gbit/s\n",
           opt.conns + opt.slow + opt.reset, opt.slow, opt.reset, opt.turns, total_bytes,
           slow_bytes, s, (double)(opt.conns + opt.slow + opt.reset) * opt.turns / s,
           8 * (double)total_bytes / s / 1e9);
    return 0;
}
