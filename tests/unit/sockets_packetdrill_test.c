/* sockets_packetdrill_test.c - libzest-packetdrill.so as packetdrill uses it: loaded with dlopen(),
 * driven by its structure of functions only. The peer's packets are made and taken apart with
 * tests/lib/wire.h; the library's are IP without Ethernet, so that is put in front. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"
#include "sockets/packetdrill/interface.h"
#include "tests/lib/wire.h"

#define LOCAL  0xc0a80001u /* 192.168.0.1 */
#define REMOTE 0xc0000201u /* 192.0.2.1 */
#define ISS    1000u

static struct packetdrill_interface p;
static void *lib, *u;
static uint32_t irs; /* of the stack's SYN */
static uint16_t lport, rport;
static long long stamp; /* of the last packet out */
static uint8_t bytes[WIRE_MAX];

static void load(const char *flags)
{
    void (*init)(const char *, struct packetdrill_interface *);
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 64);

    CU_ASSERT_TRUE_FATAL(len > 0);
    path[len] = 0;
    strcpy(strrchr(path, '/'), "/../libzest-packetdrill.so");
    lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        printf("%s\n", dlerror());
    CU_ASSERT_PTR_NOT_NULL_FATAL(lib);
    *(void **)&init = dlsym(lib, "packetdrill_interface_init");
    CU_ASSERT_PTR_NOT_NULL_FATAL(init);
    memset(&p, 0, sizeof p);
    init(flags, &p);
    u = p.userdata;
}

static void unload(void)
{
    p.free(u);
    dlclose(lib);
}

static long long now(void)
{
    struct timeval tv;

    CU_ASSERT_EQUAL(p.gettimeofday(u, &tv, NULL), 0);
    return tv.tv_sec * 1000000ll + tv.tv_usec;
}

/* ---- packets; numbers are relative, as in scripts */

static void in(uint8_t flags, uint32_t seq, uint32_t ack, const char *data)
{
    static uint8_t buf[WIRE_MAX];
    struct wire w = {.eth_type = 0x0800,
                     .proto = 6,
                     .src = REMOTE,
                     .dst = LOCAL,
                     .sport = rport,
                     .dport = lport,
                     .flags = flags,
                     .seq = ISS + seq,
                     .ack = flags & WIRE_ACK ? irs + ack : 0,
                     .wnd = 65000,
                     .payload = (const uint8_t *)data,
                     .payload_len = data ? (uint32_t)strlen(data) : 0};

    if (flags & WIRE_SYN) {
        w.opt.has_mss = true;
        w.opt.mss = 1460;
    }
    size_t len = wire_build_tcp(&w, buf);
    CU_ASSERT_EQUAL(p.netdev_send(u, buf + 14, len - 14), 0);
}

/* The next packet out; flags 0 if none came. */
static struct wire out(void)
{
    struct wire w = {0};
    size_t len = sizeof bytes - 14;

    CU_ASSERT_EQUAL(p.netdev_receive(u, bytes + 14, &len, &stamp), 0);
    if (len == 0)
        return w;
    memset(bytes, 0, 14);
    bytes[12] = 8;
    const char *why = wire_parse(&w, bytes, len + 14);
    if (why)
        printf("%s\n", why);
    CU_ASSERT_PTR_NULL(why);
    CU_ASSERT_EQUAL(w.src, LOCAL);
    CU_ASSERT_EQUAL(w.dst, REMOTE);
    if (w.flags & WIRE_SYN) {
        irs = w.seq;
        lport = w.sport;
    }
    return w;
}

static void expect(uint8_t flags, uint32_t seq, uint32_t ack, uint32_t len)
{
    struct wire w = out();

    CU_ASSERT_EQUAL(w.flags & ~WIRE_PSH, flags);
    CU_ASSERT_EQUAL(w.seq - irs, seq);
    if (flags & WIRE_ACK)
        CU_ASSERT_EQUAL(w.ack - ISS, ack);
    CU_ASSERT_EQUAL(w.payload_len, len);
}

static void expect_nothing_for(unsigned ms)
{
    long long before = now();
    struct wire w = out();

    CU_ASSERT_EQUAL(w.flags, 0);
    CU_ASSERT_EQUAL(stamp, 0);
    long long took = now() - before;
    CU_ASSERT_TRUE(took >= ms * 1000ll && took < ms * 1000ll + 100);
}

static struct sockaddr_in name(uint32_t ip, uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};
}

static int listener(void)
{
    struct sockaddr_in a = name(0, 8080);
    int fd = p.socket(u, AF_INET, SOCK_STREAM, IPPROTO_TCP), one = 1;

    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(p.setsockopt(u, fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    CU_ASSERT_EQUAL(p.bind(u, fd, (struct sockaddr *)&a, sizeof a), 0);
    CU_ASSERT_EQUAL(p.listen(u, fd, 1), 0);
    lport = 8080;
    rport = 4000;
    return fd;
}

static void handshake(void)
{
    in(WIRE_SYN, 0, 0, NULL);
    expect(WIRE_SYN | WIRE_ACK, 0, 1, 0);
    in(WIRE_ACK, 1, 1, NULL);
}

static int established(void)
{
    int l = listener();

    handshake();
    int c = p.accept(u, l, NULL, NULL);
    CU_ASSERT_TRUE_FATAL(c >= 0);
    return c;
}

/* ---- scripts */

static void both_ways_and_close(void)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    char buf[16];
    int count;

    load(NULL);
    int c = established();
    in(WIRE_ACK | WIRE_PSH, 1, 1, "hello");
    CU_ASSERT_EQUAL(p.ioctl(u, c, FIONREAD, &count), 0);
    CU_ASSERT_EQUAL(count, 5);
    CU_ASSERT_EQUAL(p.read(u, c, buf, sizeof buf), 5);
    CU_ASSERT_NSTRING_EQUAL(buf, "hello", 5);
    CU_ASSERT_EQUAL(p.write(u, c, "good day", 8), 8);
    expect(WIRE_ACK, 1, 6, 8);
    CU_ASSERT_NSTRING_EQUAL(bytes + 14 + 40, "good day", 8);
    in(WIRE_ACK, 6, 9, NULL);
    CU_ASSERT_EQUAL(p.getsockopt(u, c, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    CU_ASSERT_EQUAL(info.tcpi_state, TCP_ESTABLISHED);
    CU_ASSERT_EQUAL(info.tcpi_unacked, 0);
    CU_ASSERT_EQUAL(p.fcntl(u, c, F_SETFL, O_RDWR | O_NONBLOCK), 0);
    CU_ASSERT_EQUAL(p.read(u, c, buf, sizeof buf), -1);
    CU_ASSERT_EQUAL(errno, EAGAIN);
    CU_ASSERT_EQUAL(p.close(u, c), 0);
    expect(WIRE_FIN | WIRE_ACK, 9, 6, 0);
    in(WIRE_FIN | WIRE_ACK, 6, 10, NULL);
    expect(WIRE_ACK, 10, 7, 0);
    CU_ASSERT_EQUAL(p.close(u, c), -1);
    CU_ASSERT_EQUAL(errno, EBADF);
    unload();
}

static void connect_and_reset(void)
{
    struct sockaddr_in a = name(REMOTE, 8081);
    struct pollfd f = {.events = POLLOUT};
    char buf[4];
    int error;
    socklen_t len = sizeof error;

    load("");
    rport = 8081;
    int c = p.socket(u, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CU_ASSERT_EQUAL(p.connect(u, c, (struct sockaddr *)&a, sizeof a), -1);
    CU_ASSERT_EQUAL(errno, EINPROGRESS);
    expect(WIRE_SYN, 0, 0, 0);
    in(WIRE_SYN | WIRE_ACK, 0, 1, NULL);
    expect(WIRE_ACK, 1, 1, 0);
    f.fd = c;
    CU_ASSERT_EQUAL(p.poll(u, &f, 1, 0), 1);
    CU_ASSERT_EQUAL(f.revents, POLLOUT);
    CU_ASSERT_EQUAL(p.getsockopt(u, c, SOL_SOCKET, SO_ERROR, &error, &len), 0);
    CU_ASSERT_EQUAL(error, 0);
    in(WIRE_RST | WIRE_ACK, 1, 1, NULL);
    CU_ASSERT_EQUAL(p.read(u, c, buf, 4), -1);
    CU_ASSERT_EQUAL(errno, ECONNRESET);
    CU_ASSERT_EQUAL(p.write(u, c, buf, 4), -1);
    CU_ASSERT_EQUAL(errno, EPIPE);
    unload();
}

/* The stack's timers run in the script's time: 1, 2, 4 s for a SYN (RFC 6298). */
static void timers_under_receive_and_sleep(void)
{
    struct sockaddr_in a = name(REMOTE, 8081);

    load("timeout_ms=500");
    rport = 8081;
    int c = p.socket(u, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    long long t0 = now();
    CU_ASSERT_EQUAL(p.connect(u, c, (struct sockaddr *)&a, sizeof a), -1);
    expect(WIRE_SYN, 0, 0, 0);
    CU_ASSERT_EQUAL(stamp, t0);
    expect_nothing_for(500);
    expect(WIRE_SYN, 0, 0, 0); /* within the next half a second */
    CU_ASSERT_TRUE(stamp - t0 >= 1000000 && stamp - t0 <= 1000100);
    CU_ASSERT_EQUAL(p.usleep(u, 2100000), 0); /* it goes out meanwhile, stamped with its time */
    expect(WIRE_SYN, 0, 0, 0);
    CU_ASSERT_TRUE(stamp - t0 >= 3000000 && stamp - t0 <= 3000100);
    CU_ASSERT_TRUE(now() - t0 >= 3100000);
    unload();
}

static void time_advances(void)
{
    load(NULL);
    long long a = now(), b = now();
    CU_ASSERT_TRUE(b > a && b < a + 100);
    CU_ASSERT_EQUAL(p.usleep(u, 1000000), 0);
    CU_ASSERT_TRUE(now() - b >= 1000000);
    expect_nothing_for(20000);
    unload();
}

/* ---- blocking calls come on a second thread */

struct job {
    pthread_t thread;
    int fd;
    ssize_t ret;
    long long end; /* by the script's clock */
    char buf[16];
    int tid;
};

static void *accept_job(void *arg)
{
    struct job *j = arg;
    __atomic_store_n(&j->tid, gettid(), __ATOMIC_RELEASE);
    j->ret = p.accept(u, j->fd, NULL, NULL);
    if (j->ret >= 0)
        j->end = now();
    return NULL;
}

static void *read_job(void *arg)
{
    struct job *j = arg;
    __atomic_store_n(&j->tid, gettid(), __ATOMIC_RELEASE);
    j->ret = p.read(u, j->fd, j->buf, sizeof j->buf);
    if (j->ret >= 0)
        j->end = now();
    return NULL;
}

/* Until it sleeps in its call: packetdrill, too, looks at the thread's state in /proc. */
static void start(struct job *j, void *(*fn)(void *), int fd)
{
    char path[64], stat[256], state = 0;
    int tid;

    *j = (struct job){.fd = fd};
    CU_ASSERT_EQUAL_FATAL(pthread_create(&j->thread, NULL, fn, j), 0);
    while (!(tid = __atomic_load_n(&j->tid, __ATOMIC_ACQUIRE)))
        usleep(100);
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    while (state != 'S') {
        usleep(1000);
        FILE *f = fopen(path, "r");
        size_t n = f ? fread(stat, 1, sizeof stat - 1, f) : 0;
        if (f)
            fclose(f);
        stat[n] = 0;
        char *end = strrchr(stat, ')');
        state = end ? end[2] : 'S';
    }
}

static void blocking_on_a_second_thread(void)
{
    struct job a, r;

    load(NULL);
    int l = listener();
    start(&a, accept_job, l);
    CU_ASSERT_EQUAL(p.usleep(u, 50000), 0);
    long long t0 = now();
    handshake();
    pthread_join(a.thread, NULL);
    CU_ASSERT_TRUE_FATAL(a.ret >= 0);
    CU_ASSERT_TRUE(a.end >= t0 && a.end < t0 + 100);
    start(&r, read_job, (int)a.ret);
    CU_ASSERT_EQUAL(p.usleep(u, 100000), 0);
    long long t1 = now(); /* before: the reader may be done when in() returns */
    in(WIRE_ACK | WIRE_PSH, 1, 1, "hello");
    pthread_join(r.thread, NULL);
    CU_ASSERT_EQUAL(r.ret, 5);
    CU_ASSERT_NSTRING_EQUAL(r.buf, "hello", 5);
    CU_ASSERT_TRUE(r.end >= t1 && r.end < t1 + 100);
    /* One that still waits when packetdrill has had enough */
    start(&r, read_job, (int)a.ret);
    void *mine = lib;
    p.free(u);
    pthread_join(r.thread, NULL);
    CU_ASSERT_EQUAL(r.ret, -1);
    dlclose(mine);
}

/* ---- the rest of the contract */

static void no_pointer_is_null(void)
{
    load(NULL);
    void **table = (void **)&p;
    CU_ASSERT_EQUAL(sizeof p, 33 * sizeof(void *));
    for (size_t i = 0; i < sizeof p / sizeof(void *); i++)
        CU_ASSERT_PTR_NOT_NULL(table[i]);
    int fds[2];
    CU_ASSERT_EQUAL(p.pipe(u, fds), -1);
    CU_ASSERT_EQUAL(errno, ENOTSUP);
    CU_ASSERT_EQUAL(p.splice(u, 0, NULL, 1, NULL, 1, 0), -1);
    CU_ASSERT_EQUAL(errno, ENOTSUP);
    int ep = p.epoll_create(u, 1), l = listener();
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = l};
    CU_ASSERT_EQUAL(p.epoll_ctl(u, ep, EPOLL_CTL_ADD, l, &ev), 0);
    CU_ASSERT_EQUAL(p.epoll_wait(u, ep, &ev, 1, 0), 0);
    handshake();
    CU_ASSERT_EQUAL(p.epoll_wait(u, ep, &ev, 1, 0), 1);
    CU_ASSERT_EQUAL(ev.data.fd, l);
    CU_ASSERT_EQUAL(p.netdev_send(u, "\x60", 1), -1); /* IPv6 */
    CU_ASSERT_EQUAL(errno, ENOTSUP);
    unload();
}

static void flags(void)
{
    static const char *const bad[] = {
        "local", "local=",       "local=1.2.3", "gateway=10.0.0.1/33", "remote=10.0.0.0/x",
        "mtu=1", "timeout_ms=0", "colour=red"};
    struct sockaddr_in a = name(0x0a010101, 80);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        load(bad[i]);
        CU_ASSERT_PTR_NULL(u);
        CU_ASSERT_EQUAL(p.socket(u, AF_INET, SOCK_STREAM, 0), -1);
        CU_ASSERT_EQUAL(errno, EINVAL);
        unload();
    }
    load("--local_ip=10.1.1.1, gateway=10.1.0.1/16 remote_ip=198.51.100.0/24,mtu=600");
    CU_ASSERT_PTR_NOT_NULL_FATAL(u);
    int c = p.socket(u, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CU_ASSERT_EQUAL(p.bind(u, c, (struct sockaddr *)&a, sizeof a), 0);
    a = name(0xc6336401, 80);
    CU_ASSERT_EQUAL(p.connect(u, c, (struct sockaddr *)&a, sizeof a), -1);
    size_t len = 30; /* less than a packet: it is cut */
    CU_ASSERT_EQUAL(p.netdev_receive(u, bytes, &len, &stamp), 0);
    CU_ASSERT_EQUAL(len, 30);
    CU_ASSERT_EQUAL(memcmp(bytes + 12, "\x0a\x01\x01\x01\xc6\x33\x64\x01", 8), 0);
    unload();
}

CHECK_MAIN("sockets_packetdrill", CHECK(both_ways_and_close), CHECK(connect_and_reset),
           CHECK(timers_under_receive_and_sleep), CHECK(time_advances),
           CHECK(blocking_on_a_second_thread), CHECK(no_pointer_is_null), CHECK(flags))
