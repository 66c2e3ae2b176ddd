/* perf_kernel.c - zest perf over ordinary sockets: the same test on the kernel's TCP, to talk to
 * zest with, and to compare it with. It copies in and out as every program does there. */
#include "perf.h"

#include "say.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER (256u << 10)
#define WRITE  (128u * 1024u) /* when the plan says nothing, as iperf3 */
#define BURST  16u            /* calls for one connection before it is another's turn */

struct kconn {
    struct perf_conn c; /* first */
    int fd;
    ev_io readable, writable;
    bool connecting;
};

struct kside {
    int listener; /* -1 = none */
    ev_io acceptable;
    unsigned burst;
    uint8_t rx[BUFFER], tx[BUFFER];
};

static struct kconn *kconn_of(struct perf_stream *s)
{
    return (struct kconn *)(void *)s; /* c.s is its first member */
}
static struct kside *side_of(const struct kconn *k)
{
    return k->c.end->impl;
}

/* ---- the wire */

static ssize_t k_send(struct kconn *k, const void *from, size_t len)
{
    struct kside *side = side_of(k);
    /* Others, and the clock, must have their turn: the socket stays writable. */
    if (side->burst == 0) {
        ev_io_start(k->c.end->loop, &k->writable);
        return -EAGAIN;
    }
    side->burst--;
    ssize_t n = send(k->fd, from, len, MSG_NOSIGNAL);
    if (n >= 0)
        return n;
    if (errno == EAGAIN)
        ev_io_start(k->c.end->loop, &k->writable);
    return errno == EINTR ? -EAGAIN : -errno;
}

static ssize_t k_send_copy(struct perf_stream *s, const void *from, size_t len)
{
    return k_send(kconn_of(s), from, len);
}

static ssize_t k_send_payload(struct perf_stream *s, uint64_t max)
{
    struct kconn *k = kconn_of(s);
    size_t len = s->plan.length ? s->plan.length : WRITE;
    len = len < max ? len : (size_t)max;
    uint8_t *from = side_of(k)->tx;
    if (s->plan.verify)
        perf_pattern_fill(from, len, s->tx_bytes);
    return k_send(k, from, len);
}

static int k_shutdown(struct perf_stream *s)
{
    return shutdown(kconn_of(s)->fd, SHUT_WR) < 0 ? -errno : 0;
}

static void k_counters(struct perf_stream *s, struct perf_result *r)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(kconn_of(s)->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
        r->retransmits = info.tcpi_total_retrans;
}

static const struct perf_wire wire = {
    .send_copy = k_send_copy,
    .send_payload = k_send_payload,
    .shutdown = k_shutdown,
    .counters = k_counters,
};

/* ---- a connection's life */

static void set_nodelay(const struct kconn *k, bool rr)
{
    if (rr || k->c.end->opt->nodelay)
        setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static void free_conn(struct kconn *k)
{
    ev_io_stop(k->c.end->loop, &k->readable);
    ev_io_stop(k->c.end->loop, &k->writable);
    close(k->fd);
    free(k);
}

static void end_conn(struct kconn *k, int rc)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (rc < 0)
        setsockopt(k->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    perf_end_remove(&k->c, rc);
    free_conn(k);
}

static int read_some(struct kconn *k, uint64_t now_ns)
{
    struct kside *side = side_of(k);
    for (unsigned i = 0; i < BURST && !k->c.s.rx_eof; i++) {
        ssize_t n = recv(k->fd, side->rx, BUFFER, 0);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0) {
            ev_io_stop(k->c.end->loop, &k->readable);
            return perf_stream_eof(&k->c.s, now_ns);
        }
        bool was_hello = k->c.s.state == PERF_HELLO;
        int rc = perf_stream_input(&k->c.s, now_ns, side->rx, (size_t)n);
        if (rc < 0)
            return rc;
        if (was_hello && k->c.s.state != PERF_HELLO)
            set_nodelay(k, k->c.s.plan.mode == PERF_RR);
        if (k->c.s.plan.mode == PERF_RR)
            return 0; /* there is only ever one request on its way */
    }
    return 0;
}

/* Sends what can be sent, and sees whether that was all. May free k. */
static void settle(struct kconn *k, int rc, uint64_t now_ns)
{
    side_of(k)->burst = BURST;
    if (rc == 0 && !k->connecting)
        rc = perf_stream_push(&k->c.s, now_ns);
    if (perf_conn_over(&k->c, rc))
        end_conn(k, rc);
}

static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct kconn *k = w->data;
    (void)loop;
    (void)revents;
    uint64_t now_ns = netif_now();
    settle(k, read_some(k, now_ns), now_ns);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct kconn *k = w->data;
    (void)revents;
    uint64_t now_ns = netif_now();
    int rc = 0;
    ev_io_stop(loop, w);
    if (k->connecting) {
        int err = 0;
        socklen_t len = sizeof err;
        getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &err, &len);
        k->connecting = false;
        side_of(k)->burst = BURST;
        rc = err ? -err : perf_stream_start(&k->c.s, now_ns);
        ev_io_start(loop, &k->readable);
    }
    settle(k, rc, now_ns);
}

static void k_poll(struct perf_conn *c, uint64_t now_ns)
{
    settle((struct kconn *)(void *)c, 0, now_ns);
}

static struct kconn *new_conn(struct perf_end *e, int fd)
{
    struct kconn *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->fd = fd;
    ev_io_init(&k->readable, on_readable, fd, EV_READ);
    ev_io_init(&k->writable, on_writable, fd, EV_WRITE);
    k->readable.data = k->writable.data = k;
    perf_end_add(e, &k->c);
    return k;
}

static void on_acceptable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct perf_end *e = w->data;
    (void)revents;
    for (unsigned i = 0; i < BURST; i++) {
        int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct kconn *k = new_conn(e, fd);
        if (!k) {
            close(fd);
            continue;
        }
        perf_stream_init_server(&k->c.s, &wire);
        ev_io_start(loop, &k->readable);
    }
}

/* ---- the transport */

static int start(struct perf_end *e)
{
    if (e->impl)
        return 0;
    struct kside *side = calloc(1, sizeof *side);
    if (!side)
        return -ENOMEM;
    side->listener = -1;
    side->burst = BURST;
    e->impl = side;
    return 0;
}

static int k_listen(struct perf_end *e)
{
    int rc = start(e);
    if (rc < 0)
        return rc;
    struct kside *side = e->impl;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(e->opt->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (const struct sockaddr *)&in, sizeof in) < 0 || listen(fd, 1024) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    side->listener = fd;
    ev_io_init(&side->acceptable, on_acceptable, fd, EV_READ);
    side->acceptable.data = e;
    ev_io_start(e->loop, &side->acceptable);
    return 0;
}

static int k_connect(struct perf_end *e)
{
    int rc = start(e);
    if (rc < 0)
        return rc;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(e->opt->peer_addr.port)};
    memcpy(&in.sin_addr, &e->opt->peer_addr.ip[12], 4);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&in, sizeof in) < 0 && errno != EINPROGRESS) {
        rc = -errno;
        close(fd);
        return rc;
    }
    struct kconn *k = new_conn(e, fd);
    if (!k) {
        close(fd);
        return -ENOMEM;
    }
    k->connecting = true;
    perf_stream_init_client(&k->c.s, &wire, &e->plan, e->hist);
    set_nodelay(k, e->plan.mode == PERF_RR);
    ev_io_start(e->loop, &k->writable);
    return 0;
}

static void k_close(struct perf_end *e)
{
    struct kside *side = e->impl;
    if (!side)
        return;
    while (e->conns) {
        struct kconn *k = (struct kconn *)(void *)e->conns;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list's head is a link, too */
        *k->c.link = k->c.next;
        if (k->c.next)
            k->c.next->link = k->c.link;
        free_conn(k);
    }
    if (side->listener >= 0) {
        ev_io_stop(e->loop, &side->acceptable);
        close(side->listener);
    }
    free(side);
    e->impl = NULL;
}

const struct perf_transport perf_over_kernel = {
    .listen = k_listen,
    .connect = k_connect,
    .poll = k_poll,
    .close = k_close,
};
