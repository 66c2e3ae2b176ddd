/* raw_xdp.c - the yardstick: what AF_XDP does here when nothing is in its way.
 *
 * A minimal program on libxdp alone; it shares no code with zest. One socket on one queue, a UMEM
 * in unaligned mode with chunks of one page, one descriptor a frame, one system call a batch. The
 * XDP program is three decisions long and is assembled below, so there is no object file to look
 * for; it is attached by a bpf_link, which ends with the process however that ends.
 *
 *   send      the same frame over and over, as fast as the ring takes it: frames completed
 *   receive   takes what comes and gives the buffer back: frames counted; --len beyond a page: of
 * several descriptors, as many as there are pages (send, too) reflect   swaps the MAC addresses of
 * what comes and sends it back from where it lies ping      one frame to a reflector and back,
 * again and again: median and 99th percentile
 *
 * Received buffers go straight back to the fill ring and frames to send are taken from the top of a
 * stack, so the memory in use is as little, and as warm, as it can be. That is deliberate: this is
 * the number that others are divided by. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <xdp/xsk.h>

/* Newer than the headers of Debian 12. */
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9 /* kernel 6.17: frames a send call moves in copy mode, else 32 */
#endif
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4) /* kernel 6.6 */
#endif
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0)
#endif
#ifndef BPF_F_XDP_HAS_FRAGS
#define BPF_F_XDP_HAS_FRAGS (1U << 5)
#endif
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

enum {
    CHUNK = 4096,
    RING = 2048,
    FRAMES = 2 * RING,
    PAYLOAD = RING * CHUNK,
    RX_ROOM = CHUNK - 256,
    LEN_MAX = 16 * CHUNK, /* of 18 descriptors that the kernel takes a frame in copy mode */
    PINGS_MAX = 1 << 20
};

enum mode { SEND, RECEIVE, REFLECT, PING };
enum waiting { SPIN, POLL, BUSY };

static struct options {
    enum mode mode;
    const char *ifname;
    uint32_t queue;
    uint32_t len;    /* of a frame, Ethernet header included */
    uint32_t batch;  /* frames a turn */
    uint32_t budget; /* XDP_MAX_TX_SKB_BUDGET; 0 = leave it */
    uint32_t segs;   /* descriptors a frame */
    double seconds;
    int cpu; /* -1 = any */
    enum waiting wait;
    bool generic, zero_copy, aligned, json;
    uint8_t dst[6];
    const char *name;
} opt = {.len = 64,
         .batch = 64,
         .budget = RING,
         .segs = 1,
         .seconds = 3,
         .cpu = -1,
         .dst = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

static struct xsk {
    uint8_t *area;
    struct xsk_umem *umem;
    struct xsk_socket *xsk;
    struct xsk_ring_prod fill, tx;
    struct xsk_ring_cons comp, rx;
    int fd, prog_fd, map_fd, link_fd;
    uint64_t free[FRAMES]; /* chunks to send from, a stack */
    uint32_t n_free;
    uint64_t sent, calls;
} x;

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("raw_xdp: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- opening ---- */

/* return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS); */
static void attach_program(unsigned ifindex)
{
    x.map_fd = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "raw_xsks", 4, 4, 64, NULL);
    if (x.map_fd < 0)
        die("no XSKMAP: %s (are you root?)", strerror(errno));
    const struct bpf_insn prog[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1, .off = 16},
        {.code = BPF_LD | BPF_DW | BPF_IMM,
         .dst_reg = BPF_REG_1,
         .src_reg = BPF_PSEUDO_MAP_FD,
         .imm = x.map_fd},
        {0},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
        {.code = BPF_JMP | BPF_EXIT},
    };
    LIBBPF_OPTS(bpf_prog_load_opts, lopt, .prog_flags = BPF_F_XDP_HAS_FRAGS);
    x.prog_fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "raw_xdp", "Dual BSD/GPL", prog,
                              sizeof prog / sizeof prog[0], &lopt);
    if (x.prog_fd < 0)
        die("cannot load the XDP program: %s", strerror(errno));
    LIBBPF_OPTS(bpf_link_create_opts, kopt,
                .flags = opt.generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
    x.link_fd = bpf_link_create(x.prog_fd, (int)ifindex, BPF_XDP, &kopt);
    if (x.link_fd < 0)
        die("cannot attach to %s: %s", opt.ifname, strerror(errno));
}

static void set_option(int level, int name, int value, const char *what)
{
    if (setsockopt(x.fd, level, name, &value, sizeof value) < 0)
        fprintf(stderr, "raw_xdp: %s: %s\n", what, strerror(errno));
}

static void open_socket(void)
{
    size_t size = (size_t)FRAMES * CHUNK;
    x.area =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (x.area == MAP_FAILED)
        die("no memory");
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MEMLOCK, &unlimited);
    const struct xsk_umem_config ucfg = {
        .fill_size = RING,
        .comp_size = RING,
        .frame_size = CHUNK,
        .flags = opt.aligned ? 0 : XDP_UMEM_UNALIGNED_CHUNK_FLAG,
    };
    int rc = xsk_umem__create(&x.umem, x.area, size, &x.fill, &x.comp, &ucfg);
    if (rc < 0)
        die("cannot register the UMEM: %s", strerror(-rc));

    const struct xsk_socket_config scfg = {
        .rx_size = RING,
        .tx_size = RING,
        .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
        .bind_flags = (uint16_t)(XDP_USE_NEED_WAKEUP | (opt.zero_copy ? XDP_ZEROCOPY : XDP_COPY) |
                                 (opt.segs > 1 ? XDP_USE_SG : 0)),
    };
    /* The kernel lets go of a queue some time after the socket before us was closed. */
    for (int i = 0; i < 40; i++) {
        rc = xsk_socket__create(&x.xsk, opt.ifname, opt.queue, x.umem, &x.rx, &x.tx, &scfg);
        if (rc != -EBUSY)
            break;
        usleep(50000);
    }
    if (rc < 0)
        die("cannot bind to %s queue %u: %s", opt.ifname, opt.queue, strerror(-rc));
    x.fd = xsk_socket__fd(x.xsk);

    set_option(SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20, "SO_SNDBUFFORCE");
    if (opt.budget)
        set_option(SOL_XDP, XDP_MAX_TX_SKB_BUDGET, (int)opt.budget, "XDP_MAX_TX_SKB_BUDGET");
    if (opt.wait == BUSY) {
        set_option(SOL_SOCKET, SO_PREFER_BUSY_POLL, 1, "SO_PREFER_BUSY_POLL");
        set_option(SOL_SOCKET, SO_BUSY_POLL, 20, "SO_BUSY_POLL");
        set_option(SOL_SOCKET, SO_BUSY_POLL_BUDGET, (int)opt.batch, "SO_BUSY_POLL_BUDGET");
    }

    /* The first half is received into, the second is sent from. */
    uint32_t idx;
    if (xsk_ring_prod__reserve(&x.fill, RING, &idx) != RING)
        die("fill ring too small");
    for (uint32_t i = 0; i < RING; i++)
        *xsk_ring_prod__fill_addr(&x.fill, idx + i) = (uint64_t)i * CHUNK;
    xsk_ring_prod__submit(&x.fill, RING);
    for (uint32_t i = RING + 1; i < FRAMES; i++)
        x.free[x.n_free++] = (uint64_t)i * CHUNK;
}

static void mac_of(const char *ifname, uint8_t mac[6])
{
    struct ifreq ifr = {0};
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", ifname);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (s < 0 || ioctl(s, SIOCGIFHWADDR, &ifr) < 0)
        die("%s: %s", ifname, strerror(errno));
    memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
    close(s);
}

/* ---- moving ---- */

/* EtherType 0x88b5 is for local experiments (IEEE 802): no kernel does anything with it. */
static void write_frame(uint8_t *p, const uint8_t src[6])
{
    memset(p, 0x5a, opt.len < CHUNK ? opt.len : CHUNK);
    memcpy(p, opt.dst, 6);
    memcpy(p + 6, src, 6);
    p[12] = 0x88;
    p[13] = 0xb5;
}

static void kick(void)
{
    if (xsk_ring_prod__needs_wakeup(&x.tx)) {
        x.calls++;
        if (sendto(x.fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN && errno != EBUSY &&
            errno != ENOBUFS && errno != EINTR)
            die("send: %s", strerror(errno));
    }
}

/* There is room for every buffer that exists, but the kernel publishes what it received before it
 * publishes that it took the buffer: for an instant the ring can look too full. */
static void reserve_fill(uint32_t n, uint32_t *idx)
{
    while (xsk_ring_prod__reserve(&x.fill, n, idx) != n)
        ;
}

/* Chunks that were sent: back to whom they came from. Returns how many descriptors. */
static uint32_t reap(bool to_fill)
{
    uint32_t ci, fi, n = xsk_ring_cons__peek(&x.comp, 2 * opt.batch, &ci);
    if (n == 0)
        return 0;
    if (to_fill)
        reserve_fill(n, &fi);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t a = xsk_umem__add_offset_to_addr(*xsk_ring_cons__comp_addr(&x.comp, ci + i));
        a &= ~(uint64_t)(CHUNK - 1);
        if (to_fill)
            *xsk_ring_prod__fill_addr(&x.fill, fi + i) = a;
        else if (a != PAYLOAD)
            x.free[x.n_free++] = a;
    }
    if (to_fill)
        xsk_ring_prod__submit(&x.fill, n);
    xsk_ring_cons__release(&x.comp, n);
    x.sent += n;
    return n;
}

/* A frame that no page holds. */
static bool large(void)
{
    return opt.len > RX_ROOM;
}

/* Up to `frames` frames onto the TX ring. Returns how many. */
static uint32_t put(uint32_t frames)
{
    uint32_t idx, descs;
    if (frames > x.n_free)
        frames = x.n_free;
    descs = frames * opt.segs;
    if (frames == 0 || xsk_ring_prod__reserve(&x.tx, descs, &idx) != descs)
        return 0;
    for (uint32_t f = 0; f < frames; f++) {
        /* With several descriptors a frame: a header's worth each, and the rest in the last. All
         * but the first point at one chunk that is not on the stack. Of a large frame, a page each.
         */
        uint32_t at = 0;
        for (uint32_t s = 0; s < opt.segs; s++) {
            uint32_t n = s + 1 == opt.segs ? opt.len - at : large() ? (uint32_t)CHUNK : 54;
            struct xdp_desc *d = xsk_ring_prod__tx_desc(&x.tx, idx + f * opt.segs + s);
            d->addr = (s == 0 ? x.free[x.n_free - 1 - f] : PAYLOAD) + (large() ? 0 : at);
            d->len = n;
            d->options = s + 1 == opt.segs ? 0 : XDP_PKT_CONTD;
            at += n;
        }
    }
    x.n_free -= frames;
    xsk_ring_prod__submit(&x.tx, descs);
    return frames;
}

static void wait_rx(void)
{
    if (opt.wait == POLL) {
        struct pollfd p = {.fd = x.fd, .events = POLLIN};
        poll(&p, 1, 100);
    } else if (opt.wait == BUSY || xsk_ring_prod__needs_wakeup(&x.fill)) {
        recvfrom(x.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
    }
}

static uint64_t run_send(const uint8_t src[6], uint64_t end_ns)
{
    for (uint32_t i = RING; i < FRAMES; i++)
        write_frame(x.area + (size_t)i * CHUNK, src);
    /* As many pages, or a burst of large frames would fill the receiver's ring. */
    uint32_t n = large() ? (opt.batch + opt.segs - 1) / opt.segs : opt.batch;
    while (!stop && now_ns() < end_ns) {
        for (int i = 0; i < 16; i++) {
            reap(false);
            put(n);
            kick();
        }
    }
    return x.sent / opt.segs;
}

static uint64_t run_receive(uint64_t end_ns, uint64_t *bytes, uint64_t *first_ns, uint64_t *last_ns)
{
    uint64_t frames = 0, spins = 0;
    while (!stop) {
        uint32_t ri, fi, n = xsk_ring_cons__peek(&x.rx, opt.batch, &ri);
        if (n == 0) {
            if ((opt.wait != SPIN || (++spins & 1023) == 0) && now_ns() > end_ns)
                break;
            wait_rx();
            continue;
        }
        reserve_fill(n, &fi);
        for (uint32_t i = 0; i < n; i++) {
            const struct xdp_desc *d = xsk_ring_cons__rx_desc(&x.rx, ri + i);
            *bytes += d->len;
            frames += !(d->options & XDP_PKT_CONTD);
            *xsk_ring_prod__fill_addr(&x.fill, fi + i) = xsk_umem__extract_addr(d->addr);
        }
        xsk_ring_prod__submit(&x.fill, n);
        xsk_ring_cons__release(&x.rx, n);
        *last_ns = now_ns();
        if (*first_ns == 0)
            *first_ns = *last_ns;
        if (*last_ns > end_ns)
            break;
    }
    return frames;
}

static uint64_t run_reflect(uint64_t end_ns)
{
    uint64_t frames = 0, spins = 0;
    while (!stop) {
        uint32_t ri, ti, n;
        reap(true);
        n = xsk_ring_cons__peek(&x.rx, opt.batch, &ri);
        if (n == 0) {
            if ((opt.wait != SPIN || (++spins & 1023) == 0) && now_ns() > end_ns)
                break;
            wait_rx();
            continue;
        }
        while (xsk_ring_prod__reserve(&x.tx, n, &ti) != n) {
            kick();
            reap(true);
        }
        for (uint32_t i = 0; i < n; i++) {
            const struct xdp_desc *d = xsk_ring_cons__rx_desc(&x.rx, ri + i);
            uint64_t a = xsk_umem__add_offset_to_addr(d->addr);
            uint8_t *p = x.area + a, mac[6];
            memcpy(mac, p, 6);
            memcpy(p, p + 6, 6);
            memcpy(p + 6, mac, 6);
            *xsk_ring_prod__tx_desc(&x.tx, ti + i) = (struct xdp_desc){.addr = a, .len = d->len};
        }
        xsk_ring_prod__submit(&x.tx, n);
        xsk_ring_cons__release(&x.rx, n);
        kick();
        frames += n;
    }
    return frames;
}

/* Round trips into ns[]; a frame that does not come back within 100 ms is given up. */
static uint64_t run_ping(const uint8_t src[6], uint64_t end_ns, uint64_t *ns, uint64_t *lost)
{
    uint64_t n = 0;
    for (uint32_t i = RING; i < FRAMES; i++)
        write_frame(x.area + (size_t)i * CHUNK, src);
    while (!stop && n < PINGS_MAX) {
        uint64_t t0 = now_ns(), t1;
        uint32_t ri, fi, got = 0;
        if (t0 > end_ns)
            break;
        reap(false);
        if (put(1) != 1)
            die("no room to send");
        kick();
        for (;;) {
            got = xsk_ring_cons__peek(&x.rx, opt.batch, &ri);
            t1 = now_ns();
            if (got || t1 - t0 > 100000000u)
                break;
            wait_rx();
        }
        if (got == 0) {
            ++*lost;
            continue;
        }
        reserve_fill(got, &fi);
        for (uint32_t i = 0; i < got; i++)
            *xsk_ring_prod__fill_addr(&x.fill, fi + i) =
                xsk_umem__extract_addr(xsk_ring_cons__rx_desc(&x.rx, ri + i)->addr);
        xsk_ring_prod__submit(&x.fill, got);
        xsk_ring_cons__release(&x.rx, got);
        ns[n++] = t1 - t0;
    }
    return n;
}

/* ---- saying ---- */

static const char *const mode_names[] = {"send", "receive", "reflect", "ping"};
static const char *const wait_names[] = {"spin", "poll", "busy-poll"};

static void say(const char *what, const char *unit, double value)
{
    if (opt.json)
        printf("{\"name\":\"%s_%s\",\"unit\":\"%s\",\"value\":%.4g,\"frame\":%u,\"batch\":%u,"
               "\"descs\":%u,\"mode\":\"%s%s\",\"wait\":\"%s\",\"cpu\":%d}\n",
               opt.name, what, unit, value, opt.len, opt.batch, opt.segs,
               opt.generic ? "generic" : "native", opt.zero_copy ? " zero-copy" : " copy",
               wait_names[opt.wait], opt.cpu);
    else
        printf("%-24s %10.4g %s\n", what, value, unit);
}

static void say_rate(uint64_t frames, uint64_t bytes, uint64_t ns)
{
    double s = (double)ns / 1e9;
    say("rate", "Mframe/s", s > 0 ? (double)frames / s / 1e6 : 0);
    say("bits", "Gbit/s", s > 0 ? (double)bytes * 8 / s / 1e9 : 0);
}

static int by_size(const void *a, const void *b)
{
    uint64_t l = *(const uint64_t *)a, r = *(const uint64_t *)b;
    return l < r ? -1 : l > r;
}

static void say_drops(void)
{
    struct xdp_statistics st = {0};
    socklen_t len = sizeof st;
    if (getsockopt(x.fd, SOL_XDP, XDP_STATISTICS, &st, &len) == 0 && !opt.json)
        printf(
            "dropped: ring full %llu, no buffer %llu, other %llu; invalid %llu; %llu send calls\n",
            st.rx_ring_full, st.rx_fill_ring_empty_descs, st.rx_dropped, st.tx_invalid_descs,
            (unsigned long long)x.calls);
}

static void run(void)
{
    static uint64_t ns[PINGS_MAX];
    uint8_t src[6];
    mac_of(opt.ifname, src);
    uint64_t start = now_ns(), end = start + (uint64_t)(opt.seconds * 1e9);
    uint64_t bytes = 0, first = 0, last = 0, lost = 0, n;
    switch (opt.mode) {
    case SEND:
        n = run_send(src, end);
        say_rate(n, n * opt.len, now_ns() - start);
        break;
    case RECEIVE:
        n = run_receive(end, &bytes, &first, &last);
        opt.len = n ? (uint32_t)(bytes / n) : 0;
        say_rate(n, bytes, last - first); /* from the first frame to the last */
        break;
    case REFLECT:
        n = run_reflect(end);
        say("frames", "frames", (double)n);
        break;
    case PING:
        n = run_ping(src, end, ns, &lost);
        if (n == 0)
            die("no answer: is a reflector on the other side?");
        qsort(ns, n, sizeof ns[0], by_size);
        say("rtt_median", "us", (double)ns[n / 2] / 1e3);
        say("rtt_p99", "us", (double)ns[n * 99 / 100] / 1e3);
        say("lost", "frames", (double)lost);
        break;
    }
    say_drops();
}

static void usage(void)
{
    fputs("raw_xdp send|receive|reflect|ping -i INTERFACE [options]\n"
          "  --queue N (0)\n"
          "  --len BYTES        frame, Ethernet header included (64)\n"
          "  --dst MAC          send, ping: to whom (broadcast)\n"
          "  --seconds S        (3)\n"
          "  --batch N          frames a turn (64)\n"
          "  --cpu N            pin to this core\n"
          "  --wait HOW         spin, poll, busy-poll (spin)\n"
          "  --budget N         frames a send call moves; 0 = the kernel's default (2048)\n"
          "  --descs N          descriptors a frame, 1 to 4 (1)\n"
          "  --generic  --zero-copy  --aligned  --json  --name TEXT\n",
          stderr);
}

static bool number(const char *text, uint32_t *out)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    *out = (uint32_t)v;
    return *text != '-' && end != text && *end == 0 && errno == 0 && v <= INT32_MAX;
}

static void parse(int argc, char **argv)
{
    static const char *const flags[] = {"generic", "zero-copy", "aligned", "json"};
    bool *const flag_to[] = {&opt.generic, &opt.zero_copy, &opt.aligned, &opt.json};
    static const char *const numbers[] = {"queue", "len", "batch", "budget", "descs", "cpu"};
    uint32_t cpu = UINT32_MAX, *const number_to[] = {&opt.queue,  &opt.len,  &opt.batch,
                                                     &opt.budget, &opt.segs, &cpu};
    uint8_t *d = opt.dst;
    bool ok = argc > 1;
    for (int i = 2; i < argc && ok; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        ok = false;
        for (size_t f = 0; f < sizeof flags / sizeof flags[0] && !ok; f++)
            if (strncmp(arg, "--", 2) == 0 && strcmp(arg + 2, flags[f]) == 0)
                *flag_to[f] = ok = true;
        if (ok || !value)
            continue;
        i++;
        for (size_t n = 0; n < sizeof numbers / sizeof numbers[0] && !ok; n++)
            if (strncmp(arg, "--", 2) == 0 && strcmp(arg + 2, numbers[n]) == 0)
                ok = number(value, number_to[n]);
        if (strcmp(arg, "-i") == 0)
            ok = (opt.ifname = value);
        else if (strcmp(arg, "--name") == 0)
            ok = (opt.name = value);
        else if (strcmp(arg, "--seconds") == 0)
            ok = (opt.seconds = atof(value)) > 0;
        else if (strcmp(arg, "--dst") == 0)
            ok = sscanf(value, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", d, d + 1, d + 2, d + 3, d + 4,
                        d + 5) == 6;
        for (int w = SPIN; w <= BUSY && strcmp(arg, "--wait") == 0; w++)
            if (strcmp(value, wait_names[w]) == 0) {
                opt.wait = (enum waiting)w;
                ok = true;
            }
        if (!ok)
            fprintf(stderr, "raw_xdp: %s %s?\n", arg, value);
    }
    bool found = false;
    for (int m = SEND; argc > 1 && m <= PING; m++)
        if (strcmp(argv[1], mode_names[m]) == 0) {
            opt.mode = (enum mode)m;
            found = true;
        }
    if (!found || !ok || !opt.ifname) {
        usage();
        exit(2);
    }
    if (large() && opt.segs == 1)
        opt.segs = (opt.len + CHUNK - 1) / CHUNK;
    if (large() && (opt.mode == REFLECT || opt.mode == PING))
        die("frames of more than a page are sent and received only");
    if (opt.len < 60 || opt.len > LEN_MAX || opt.batch == 0 || opt.batch > RING / 4 ||
        opt.segs == 0 || (!large() && (opt.segs > 4 || opt.len <= 54 * opt.segs)) ||
        (large() && opt.segs != (opt.len + CHUNK - 1) / CHUNK))
        die("an option is out of range (frames are 60 to %d bytes)", LEN_MAX);
    opt.cpu = (int)cpu;
    if (!opt.name)
        opt.name = mode_names[opt.mode];
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (opt.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)opt.cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0)
            die("cannot run on core %d: %s", opt.cpu, strerror(errno));
    }
    unsigned ifindex = if_nametoindex(opt.ifname);
    if (ifindex == 0)
        die("no interface %s", opt.ifname);
    attach_program(ifindex);
    open_socket();
    /* Only now that the socket is bound does the map take it. */
    uint32_t key = opt.queue;
    if (bpf_map_update_elem(x.map_fd, &key, &x.fd, BPF_ANY) < 0)
        die("XSKMAP: %s", strerror(errno));
    if (opt.mode == RECEIVE || opt.mode == REFLECT) /* for who waits to begin at the other end */
        fprintf(stderr, "raw_xdp: ready\n");
    run();
    xsk_socket__delete(x.xsk);
    xsk_umem__delete(x.umem);
    return 0;
}
