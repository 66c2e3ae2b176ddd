/* sockets_netif_test.c - sockets over a link in real time: a TAP interface in a network namespace
 * of its own, with the Linux stack as the peer. Skipped where that can't be made. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"
#include "sockets/sockets.h"
#include "tests/lib/rng.h"

#define BULK (8u << 20)

static struct zbuf_pool *pool;
static struct netif *nif;
static struct sockets_netif *driver;
static struct sockets *s;

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return ok;
}

static bool enter_namespace(void)
{
    char map[64];
    unsigned uid = geteuid();

    if (uid == 0)
        return unshare(CLONE_NEWNET) == 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    snprintf(map, sizeof map, "0 %u 1", uid);
    return write_file("/proc/self/uid_map", map);
}

static void loopback_up(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0)
        perror("lo");
    close(fd);
}

static bool up(void)
{
    struct netif_error err = {""};
    struct sockets_config cfg = {.first_fd = 1000};

    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 64u << 20, .no_huge = true});
    const struct netif_tap_config tap = {.pool = pool, .host_cidr = "10.9.0.1/24"};
    if (!pool || netif_open_tap(&tap, &nif, &err) < 0) {
        printf("%s\n", err.text);
        return false;
    }
    if (sockets_netif_new(nif, &driver) < 0)
        return false;
    cfg.driver = sockets_netif_driver(driver);
    cfg.stack.pool = pool;
    cfg.stack.mtu = netif_caps(nif)->mtu;
    memcpy(cfg.stack.mac, netif_caps(nif)->mac, 6);
    memset(cfg.stack.secret, 's', sizeof cfg.stack.secret);
    zest_addr_parse(&cfg.stack.ip, "10.9.0.2", 0);
    return sockets_open(&cfg, &s) == 0 && sockets_netif_start(driver, s) == 0;
}

static struct sockaddr_in name(const char *ip)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(7)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

/* A program on the Linux stack: says everything again. */
static void *linux_echo(void *arg)
{
    static char buf[65536];
    int c = accept(*(int *)arg, NULL, NULL);

    for (ssize_t n; (n = read(c, buf, sizeof buf)) > 0;)
        for (ssize_t done = 0, k; done < n; done += k)
            if ((k = write(c, buf + done, (size_t)(n - done))) <= 0)
                break;
    close(c);
    return NULL;
}

static void *send_bulk(void *arg)
{
    int fd = *(int *)arg;
    uint32_t *words = malloc(BULK);

    for (uint32_t i = 0; i < BULK / 4; i++)
        words[i] = i * 2654435761u;
    bool ok = sockets_send(s, fd, words, BULK, 0) == BULK && sockets_shutdown(s, fd, SHUT_WR) == 0;
    free(words);
    return ok ? arg : NULL;
}

static void echo_of_bulk(void)
{
    struct sockaddr_in a = name("10.9.0.1");
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t echo, sender;
    uint32_t words[2048], at = 0;
    bool same = true;
    void *sent;

    CU_ASSERT_EQUAL_FATAL(bind(l, (struct sockaddr *)&a, sizeof a), 0);
    CU_ASSERT_EQUAL_FATAL(listen(l, 1), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&echo, NULL, linux_echo, &l), 0);
    int c = sockets_socket(s, AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_EQUAL_FATAL(sockets_connect(s, c, (struct sockaddr *)&a, sizeof a), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&sender, NULL, send_bulk, &c), 0);
    ssize_t n;
    while ((n = sockets_recv(s, c, words, sizeof words, MSG_WAITALL)) > 0)
        for (ssize_t i = 0; i < n / 4; i++)
            same &= words[i] == at++ * 2654435761u;
    CU_ASSERT_EQUAL(n, 0);
    CU_ASSERT_EQUAL(at, BULK / 4);
    CU_ASSERT_TRUE(same);
    pthread_join(sender, &sent);
    CU_ASSERT_PTR_NOT_NULL(sent);
    pthread_join(echo, NULL);
    CU_ASSERT_EQUAL(sockets_close(s, c), 0);
    close(l);
}

/* A time-out wakes the driver's thread, too: nothing else would. */
static void time_outs_and_refusal(void)
{
    struct sockaddr_in a = name("10.9.0.1");
    int c = sockets_socket(s, AF_INET, SOCK_STREAM, 0);
    struct pollfd p = {.events = POLLIN};

    CU_ASSERT_EQUAL(sockets_connect(s, c, (struct sockaddr *)&a, sizeof a), -ECONNREFUSED);
    p.fd = sockets_socket(s, AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_EQUAL(sockets_listen(s, p.fd, 1), 0);
    CU_ASSERT_EQUAL(sockets_poll(s, &p, 1, 20), 0);
}

/* ---- urgent data: three connections do the same, and must answer the same */

struct end {
    bool is_zest;
    int fd;
};
struct line {
    const char *name;
    struct end from, to;
    uint64_t sent;
};

static ssize_t result(const struct end *e, ssize_t ret)
{
    return !e->is_zest && ret < 0 ? -errno : ret;
}
static ssize_t end_send(const struct end *e, const void *p, size_t n, int flags)
{
    return result(e, e->is_zest ? sockets_send(s, e->fd, p, n, flags) : send(e->fd, p, n, flags));
}
static ssize_t end_recv(const struct end *e, void *p, size_t n, int flags)
{
    return result(e, e->is_zest ? sockets_recv(s, e->fd, p, n, flags) : recv(e->fd, p, n, flags));
}
static int end_ioctl(const struct end *e, unsigned long request)
{
    int v = 0;
    ssize_t err =
        result(e, e->is_zest ? sockets_ioctl(s, e->fd, request, &v) : ioctl(e->fd, request, &v));
    return err < 0 ? (int)err : v;
}
static int end_poll(const struct end *e, short events)
{
    struct pollfd p = {.fd = e->fd, .events = events};
    ssize_t n = result(e, e->is_zest ? sockets_poll(s, &p, 1, 0) : poll(&p, 1, 0));
    return n < 0 ? (int)n : p.revents;
}
static void end_set(const struct end *e, int level, int name, int v)
{
    ssize_t err = e->is_zest ? sockets_setsockopt(s, e->fd, level, name, &v, sizeof v)
                             : setsockopt(e->fd, level, name, &v, sizeof v);
    CU_ASSERT_EQUAL(err, 0);
}
static void end_close(const struct end *e)
{
    CU_ASSERT_EQUAL(e->is_zest ? sockets_close(s, e->fd) : close(e->fd), 0);
}
static uint64_t end_received(const struct end *e)
{
    struct tcp_info i = {0};
    socklen_t len = sizeof i;
    ssize_t err = e->is_zest ? sockets_getsockopt(s, e->fd, IPPROTO_TCP, TCP_INFO, &i, &len)
                             : getsockopt(e->fd, IPPROTO_TCP, TCP_INFO, &i, &len);
    CU_ASSERT_EQUAL(err, 0);
    return i.tcpi_bytes_received;
}

static void join_ends(struct line *l)
{
    struct sockaddr_in a = name(l->to.is_zest ? "10.9.0.2" : "10.9.0.1");
    struct sockaddr *at = (struct sockaddr *)&a;
    int one = 1, listener;

    a.sin_port = htons(9);
    l->from.fd = l->from.is_zest ? sockets_socket(s, AF_INET, SOCK_STREAM, 0)
                                 : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l->to.is_zest) {
        listener = sockets_socket(s, AF_INET, SOCK_STREAM, 0);
        CU_ASSERT_EQUAL_FATAL(sockets_bind(s, listener, at, sizeof a), 0);
        CU_ASSERT_EQUAL_FATAL(sockets_listen(s, listener, 1), 0);
    } else {
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        CU_ASSERT_EQUAL_FATAL(bind(listener, at, sizeof a), 0);
        CU_ASSERT_EQUAL_FATAL(listen(listener, 1), 0);
    }
    CU_ASSERT_EQUAL_FATAL(l->from.is_zest ? sockets_connect(s, l->from.fd, at, sizeof a)
                                          : connect(l->from.fd, at, sizeof a),
                          0);
    l->to.fd =
        l->to.is_zest ? sockets_accept(s, listener, NULL, NULL, 0) : accept(listener, NULL, NULL);
    CU_ASSERT_FATAL(l->to.fd >= 0);
    end_close(&(struct end){l->to.is_zest, listener});
    end_set(&l->from, IPPROTO_TCP, TCP_NODELAY, 1);
}

/* All that was sent is there; with it came the pointer. */
static bool arrive(const struct line *l)
{
    for (int i = 0; i < 10000 && end_received(&l->to) < l->sent; i++)
        usleep(1000);
    return end_received(&l->to) == l->sent;
}

/* One call, drawn from r; what it says goes to *says (and bytes, if it reads). */
static const char *step(struct line *l, struct rng r, int64_t *says, uint8_t bytes[64])
{
    static const int read_flags[] = {0, 0, 0, MSG_PEEK, MSG_WAITALL};
    uint8_t out[32];
    size_t len = 1 + rng_below(&r, 24);

    memset(bytes, 0, 64);
    switch (rng_below(&r, 9)) {
    case 0:
    case 1: {
        int flags = rng_below(&r, 2) ? MSG_OOB : 0;
        for (size_t i = 0; i < len; i++)
            out[i] = (uint8_t)(l->sent + i);
        *says = end_send(&l->from, out, len, flags | MSG_NOSIGNAL);
        l->sent += len;
        if (!arrive(l))
            *says = -EIO;
        return flags ? "send urgent" : "send";
    }
    case 2:
        *says =
            end_recv(&l->to, bytes, rng_below(&r, 3), MSG_OOB | (rng_below(&r, 3) ? 0 : MSG_PEEK));
        return "recv urgent";
    case 3:
        *says = end_ioctl(&l->to, SIOCATMARK);
        return "SIOCATMARK";
    case 4:
        *says = end_ioctl(&l->to, FIONREAD);
        return "FIONREAD";
    case 6:
        *says = (int64_t)rng_below(&r, 2);
        end_set(&l->to, SOL_SOCKET, SO_OOBINLINE, (int)*says);
        return "SO_OOBINLINE";
    case 5:
        *says = end_poll(&l->to, POLLIN | POLLPRI);
        return "poll";
    default:
        *says = end_recv(&l->to, bytes, len, MSG_DONTWAIT | read_flags[rng_below(&r, 5)]);
        return "recv";
    }
}

/* Linux to Linux is what is right. */
static void urgent_data_as_on_linux(void)
{
    for (unsigned turn = 0; turn < 200; turn++) {
        struct line line[] = {{"Linux to Linux", {false, -1}, {false, -1}, 0},
                              {"Linux to zest", {false, -1}, {true, -1}, 0},
                              {"zest to Linux", {true, -1}, {false, -1}, 0}};
        struct rng r = rng_seed(turn);
        bool same = true;
        char past[4096] = "";
        for (unsigned i = 0; i < 3; i++) {
            join_ends(&line[i]);
            end_set(&line[i].to, SOL_SOCKET, SO_OOBINLINE, turn % 2);
        }
        for (unsigned k = 0; k < 60 && same; k++) {
            uint8_t bytes[3][64];
            int64_t says[3];
            const char *what = "";
            struct rng now = rng_fork(&r);
            for (unsigned i = 0; i < 3; i++)
                what = step(&line[i], now, &says[i], bytes[i]);
            size_t n = strlen(past);
            snprintf(past + n, sizeof past - n, " %s %lld;", what, (long long)says[0]);
            for (unsigned i = 1; i < 3; i++)
                if (says[i] != says[0] || memcmp(bytes[i], bytes[0], 64) != 0) {
                    printf("turn %u, %s:%s and here %lld\n", turn, line[i].name, past,
                           (long long)says[i]);
                    same = false;
                }
        }
        CU_ASSERT_TRUE(same);
        for (unsigned i = 0; i < 3; i++) {
            end_close(&line[i].from);
            end_close(&line[i].to);
        }
    }
}

/* Urgent data of a length that no pointer can name, into a window that is closed for long. */
static void long_urgent_data(void)
{
    static uint8_t buf[300000];
    struct line line[] = {{"Linux to zest", {false, -1}, {true, -1}, 0},
                          {"zest to Linux", {true, -1}, {false, -1}, 0}};

    for (unsigned i = 0; i < 2; i++) {
        struct line *l = &line[i];
        struct end *to = &l->to;
        size_t at = 0;
        join_ends(l);
        end_set(to, SOL_SOCKET, SO_OOBINLINE, 1);
        for (size_t k = 0; k < sizeof buf; k++)
            buf[k] = (uint8_t)(k * 7 + k / 256);
        struct pollfd p = {.fd = to->fd, .events = POLLIN};
        CU_ASSERT_EQUAL(end_send(&l->from, buf, sizeof buf, MSG_OOB), (ssize_t)sizeof buf);
        CU_ASSERT_EQUAL(end_send(&l->from, "after", 5, 0), 5);
        for (bool marked = false; at < sizeof buf + 5;) {
            uint8_t got[5000];
            if (to->is_zest)
                sockets_poll(s, &p, 1, 10000);
            else
                poll(&p, 1, 10000);
            ssize_t n = end_recv(to, got, sizeof got, MSG_DONTWAIT);
            if (n == -EAGAIN)
                continue;
            CU_ASSERT_FATAL(n > 0);
            for (ssize_t k = 0; k < n; k++, at++)
                if (got[k] != (at < sizeof buf ? buf[at] : (uint8_t) "after"[at - sizeof buf]))
                    CU_FAIL_FATAL("other bytes");
            marked |= at == sizeof buf - 1;
            CU_ASSERT_EQUAL(marked, at >= sizeof buf - 1); /* a read ends at the mark */
            if (at == sizeof buf - 1)
                CU_ASSERT_EQUAL(end_ioctl(to, SIOCATMARK), 1);
        }
        end_close(&l->from);
        end_close(to);
    }
}

/* Linux asks for explicit congestion notification; zest agrees, and its data says so. */
static void ecn_with_linux(void)
{
    struct line l = {"Linux to zest", {false, -1}, {true, -1}, 0};
    struct tcp_info i = {0};
    socklen_t len = sizeof i;
    uint8_t byte;

    CU_ASSERT(write_file("/proc/sys/net/ipv4/tcp_ecn", "1"));
    join_ends(&l);
    CU_ASSERT_EQUAL(end_send(&l.from, "x", 1, 0), 1);
    CU_ASSERT_EQUAL(end_recv(&l.to, &byte, 1, 0), 1);
    CU_ASSERT_EQUAL(end_send(&l.to, "y", 1, 0), 1);
    CU_ASSERT_EQUAL(end_recv(&l.from, &byte, 1, 0), 1);
    CU_ASSERT_EQUAL(getsockopt(l.from.fd, IPPROTO_TCP, TCP_INFO, &i, &len), 0);
    CU_ASSERT_EQUAL(i.tcpi_options & (TCPI_OPT_ECN | TCPI_OPT_ECN_SEEN),
                    TCPI_OPT_ECN | TCPI_OPT_ECN_SEEN);
    len = sizeof i;
    CU_ASSERT_EQUAL(sockets_getsockopt(s, l.to.fd, IPPROTO_TCP, TCP_INFO, &i, &len), 0);
    CU_ASSERT(i.tcpi_options & TCPI_OPT_ECN);
    end_close(&l.from);
    end_close(&l.to);
    CU_ASSERT(write_file("/proc/sys/net/ipv4/tcp_ecn", "2"));
}

static uint32_t mss_of(int fd)
{
    struct tcp_info i = {0};
    socklen_t len = sizeof i;
    CU_ASSERT_EQUAL(sockets_getsockopt(s, fd, IPPROTO_TCP, TCP_INFO, &i, &len), 0);
    return i.tcpi_snd_mss;
}

/* The interface's MTU becomes smaller, and then the interface is gone: an open connection hears of
 * the one, and is lost with the other, with what it still had to send. */
static void the_link_is_watched(void)
{
    struct line l = {"zest to Linux", {true, -1}, {false, -1}, 0};
    struct ifreq r = {.ifr_mtu = 1000};
    char command[64];
    static const char bytes[50000];

    snprintf(r.ifr_name, sizeof r.ifr_name, "%.15s", netif_caps(nif)->name);
    join_ends(&l);
    CU_ASSERT(mss_of(l.from.fd) > 1400);
    CU_ASSERT_EQUAL(sockets_netif_error(driver), 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL(ioctl(fd, SIOCSIFMTU, &r), 0);
    close(fd);
    for (unsigned i = 0; i < 1000 && mss_of(l.from.fd) > 960; i++)
        usleep(20000);
    CU_ASSERT(mss_of(l.from.fd) <= 960);

    snprintf(command, sizeof command, "ip link del %s", netif_caps(nif)->name);
    CU_ASSERT_EQUAL(system(command), 0);
    for (unsigned i = 0; i < 1000 && sockets_netif_error(driver) == 0; i++)
        usleep(20000);
    CU_ASSERT_EQUAL(sockets_netif_error(driver), -ENODEV);
    CU_ASSERT_EQUAL(end_send(&l.from, bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
    end_close(&l.from);
    end_close(&l.to);
}

int main(int argc, char **argv)
{
    static const struct check tests[] = {CHECK(echo_of_bulk), CHECK(time_outs_and_refusal),
                                         CHECK(urgent_data_as_on_linux), CHECK(long_urgent_data),
                                         CHECK(ecn_with_linux),
                                         /* the last: nothing comes after it */
                                         CHECK(the_link_is_watched)};

    bool inside = enter_namespace();
    if (inside)
        loopback_up();
    if (!inside || !up()) {
        printf("needs network namespaces and /dev/net/tun\n");
        return 77;
    }
    int ret = check_run("sockets_netif", tests, sizeof tests / sizeof tests[0],
                        argc > 1 ? argv[1] : NULL);
    sockets_netif_stop(driver);
    sockets_fini(s);
    netif_close(nif);
    if (zbuf_pool_destroy(pool) < 0)
        ret = 1; /* a segment did not come home */
    return ret;
}
