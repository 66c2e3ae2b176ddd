/* bridge.c - a bad cable: joins two interfaces by packet sockets and, on the way, loses,
 * duplicates, holds back and delays frames. For systems whose kernel has no netem.
 *
 * Each direction has its own generator, seeded, so the same frames in the same order meet the same
 * fate. A frame that is to be reordered is held back for a while and those behind it overtake it; a
 * frame that is to be delayed waits for its time. What waits is kept in a queue of bounded length,
 * ordered by time and, within it, by arrival: what does not fit is dropped and counted.
 *
 * Usage: bridge IF-A IF-B [--seed N] [--loss P[,P]] [--dup P[,P]] [--reorder P[,P]] [--corrupt
 * P[,P]]
 *                         [--hold US] [--delay US[,US]] [--queue N]
 *
 * P are per cent, one number for both directions or A to B, B to A. Ends with SIGTERM or SIGINT, or
 * when an interface goes away, and prints what it did. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX 9216u
#define BATCH     64u /* frames taken from one side before it is the other's turn */
#define QUEUE_MAX 65536u

struct held {
    uint64_t due_ns, order;
    uint32_t len;
    uint8_t *bytes;
};

struct way { /* one direction */
    const char *name;
    int from, to;
    uint64_t rng;
    double loss, dup, reorder, corrupt; /* 0 to 1 */
    uint64_t delay_ns, hold_ns;
    struct held *heap; /* the earliest first */
    uint32_t queued, queue_max;
    uint64_t next_order;
    uint64_t in, out, lost, doubled, held_back, corrupted, overflow, refused;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bridge: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* splitmix64: a full-period generator of 64-bit state. */
static uint64_t draw(struct way *w)
{
    uint64_t x = w->rng += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
static bool chance(struct way *w, double p)
{
    return p > 0 && (double)(draw(w) >> 11) * 0x1p-53 < p;
}

/* ---- what waits: a binary heap */

static bool earlier(const struct held *a, const struct held *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void swap(struct held *a, struct held *b)
{
    struct held t = *a;
    *a = *b;
    *b = t;
}

static void hold(struct way *w, uint64_t due_ns, const uint8_t *bytes, uint32_t len)
{
    uint8_t *copy = w->queued < w->queue_max ? malloc(len) : NULL;
    if (!copy) {
        w->overflow++;
        return;
    }
    memcpy(copy, bytes, len);
    uint32_t i = w->queued++;
    w->heap[i] = (struct held){due_ns, w->next_order++, len, copy};
    for (; i > 0 && earlier(&w->heap[i], &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&w->heap[i], &w->heap[(i - 1) / 2]);
}

static void drop_first(struct way *w)
{
    free(w->heap[0].bytes);
    w->heap[0] = w->heap[--w->queued];
    for (uint32_t i = 0;;) {
        uint32_t least = i, l = 2 * i + 1, r = l + 1;
        if (l < w->queued && earlier(&w->heap[l], &w->heap[least]))
            least = l;
        if (r < w->queued && earlier(&w->heap[r], &w->heap[least]))
            least = r;
        if (least == i)
            return;
        swap(&w->heap[i], &w->heap[least]);
        i = least;
    }
}

/* ---- moving frames */

static void emit(struct way *w, const uint8_t *bytes, uint32_t len)
{
    if (send(w->to, bytes, len, MSG_DONTWAIT) == (ssize_t)len)
        w->out++;
    else
        w->refused++; /* the far side's queue is full: a lost frame like any other */
}

static void pass(struct way *w, uint64_t now, const uint8_t *bytes, uint32_t len)
{
    uint64_t due = now + w->delay_ns;
    if (chance(w, w->reorder)) {
        w->held_back++;
        due += w->hold_ns;
    }
    if (due == now)
        emit(w, bytes, len);
    else
        hold(w, due, bytes, len);
}

/* Decides on one frame. */
static void meet_fate(struct way *w, uint64_t now, uint8_t *bytes, uint32_t len)
{
    w->in++;
    if (chance(w, w->loss)) {
        w->lost++;
        return;
    }
    if (chance(w, w->corrupt)) {
        w->corrupted++;
        bytes[draw(w) % len] ^= (uint8_t)(1u << draw(w) % 8);
    }
    if (chance(w, w->dup)) {
        w->doubled++;
        pass(w, now, bytes, len);
    }
    pass(w, now, bytes, len);
}

static void take_in(struct way *w)
{
    static uint8_t bytes[FRAME_MAX];
    for (unsigned i = 0; i < BATCH; i++) {
        struct sockaddr_ll from;
        socklen_t from_len = sizeof from;
        ssize_t n = recvfrom(w->from, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&from,
                             &from_len);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                stop = 1;
            return;
        }
        if (n > 0 && from.sll_pkttype != PACKET_OUTGOING) /* not what we sent ourselves */
            meet_fate(w, now_ns(), bytes, (uint32_t)n);
    }
}

static void let_out(struct way *w)
{
    uint64_t now = now_ns();
    while (w->queued && w->heap[0].due_ns <= now) {
        emit(w, w->heap[0].bytes, w->heap[0].len);
        drop_first(w);
    }
}

/* `open` is the signal mask to wait with: elsewhere SIGTERM is blocked, so it can't come between
 * the look at `stop` and the wait. */
static void run(struct way way[2], const sigset_t *open)
{
    struct pollfd fds[2] = {{.fd = way[0].from, .events = POLLIN},
                            {.fd = way[1].from, .events = POLLIN}};
    while (!stop) {
        uint64_t due = UINT64_MAX;
        for (unsigned i = 0; i < 2; i++) {
            take_in(&way[i]);
            let_out(&way[i]);
            if (way[i].queued && way[i].heap[0].due_ns < due)
                due = way[i].heap[0].due_ns;
        }
        uint64_t now = now_ns(), wait = due <= now ? 0 : due - now;
        struct timespec t = {.tv_sec = (time_t)(wait / 1000000000u),
                             .tv_nsec = (long)(wait % 1000000000u)};
        if (ppoll(fds, 2, due == UINT64_MAX ? NULL : &t, open) < 0 && errno != EINTR)
            die("poll");
    }
}

/* ---- start and end */

static int open_port(const char *ifname)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("packet socket");
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex(ifname)};
    int size = 8 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    if (at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
        die(ifname);
    struct packet_mreq all = {.mr_ifindex = at.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) < 0)
        die("promiscuous mode");
    return fd;
}

static void number_pair(const char *name, const char *text, double max, double out[2])
{
    char *end;
    out[0] = out[1] = strtod(text, &end);
    if (end != text && *end == ',') {
        text = end + 1;
        out[1] = strtod(text, &end);
    }
    if (end == text || *end || out[0] < 0 || out[1] < 0 || out[0] > max || out[1] > max) {
        fprintf(stderr, "bridge: --%s: '%s' is not one or two numbers from 0 to %g\n", name, text,
                max);
        exit(2);
    }
}

static void parse(int argc, char **argv, struct way way[2])
{
    static const struct option opts[] = {
        {"seed", 1, NULL, 's'},    {"loss", 1, NULL, 'l'},  {"dup", 1, NULL, 'd'},
        {"reorder", 1, NULL, 'r'}, {"hold", 1, NULL, 'h'},  {"delay", 1, NULL, 'y'},
        {"corrupt", 1, NULL, 'c'}, {"queue", 1, NULL, 'q'}, {NULL, 0, NULL, 0}};
    double v[2];
    int key, index = 0;
    while ((key = getopt_long(argc, argv, "", opts, &index)) != -1) {
        if (key == '?')
            exit(2);
        bool percent = strchr("ldrc", key);
        number_pair(opts[index].name, optarg, percent ? 100 : 1e9, v);
        for (unsigned i = 0; i < 2; i++) {
            if (key == 's')
                way[i].rng = (uint64_t)v[0] * 2 + i;
            else if (key == 'l')
                way[i].loss = v[i] / 100;
            else if (key == 'd')
                way[i].dup = v[i] / 100;
            else if (key == 'r')
                way[i].reorder = v[i] / 100;
            else if (key == 'c')
                way[i].corrupt = v[i] / 100;
            else if (key == 'h')
                way[i].hold_ns = (uint64_t)(v[i] * 1e3);
            else if (key == 'y')
                way[i].delay_ns = (uint64_t)(v[i] * 1e3);
            else
                way[i].queue_max = v[i] < QUEUE_MAX ? (uint32_t)v[i] : QUEUE_MAX;
        }
    }
    if (optind + 2 != argc) {
        fprintf(stderr, "usage: bridge IF-A IF-B [option]...\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct way way[2] = {
        {.name = "a to b", .rng = 2, .hold_ns = 300000, .queue_max = 4096},
        {.name = "b to a", .rng = 3, .hold_ns = 300000, .queue_max = 4096},
    };
    parse(argc, argv, way);
    int a = open_port(argv[optind]), b = open_port(argv[optind + 1]);
    way[0].from = way[1].to = a;
    way[0].to = way[1].from = b;
    for (unsigned i = 0; i < 2; i++) {
        way[i].heap = calloc(way[i].queue_max + 1, sizeof *way[i].heap);
        if (!way[i].heap)
            die("queue");
    }
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    sigset_t ending, open;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, &open);
    printf("bridge: ready\n");
    fflush(stdout);
    run(way, &open);
    for (unsigned i = 0; i < 2; i++) {
        const struct way *w = &way[i];
        printf("%s: in %" PRIu64 " out %" PRIu64 " lost %" PRIu64 " doubled %" PRIu64
               " held back %" PRIu64 " corrupted %" PRIu64 " overflow %" PRIu64 " refused %" PRIu64
               "\n",
               w->name, w->in, w->out, w->lost, w->doubled, w->held_back, w->corrupted, w->overflow,
               w->refused);
        while (way[i].queued)
            drop_first(&way[i]);
        free(way[i].heap);
    }
    return 0;
}
