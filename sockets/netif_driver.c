/* netif_driver.c - a thread that joins a link and an instance's stack, in real time.
 *
 * Each turn, locked: frames in, frames out, the next deadline. Then it sleeps, unlocked, until the
 * link has something, the deadline comes, or a call rings the eventfd because it changed what there
 * is to do. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sock.h"

#define BURST          64u
#define NO_ROOM_NS     NS_PER_MS /* a link that is full is looked at again after that */
#define LONGEST_NAP_NS (60 * NS_PER_S)

struct sockets_netif {
    struct netif *nif;
    struct sockets *s;
    pthread_t thread;
    int bell; /* eventfd */
    atomic_bool stop;
    bool running;
};

int sockets_netif_new(struct netif *nif, struct sockets_netif **out)
{
    struct sockets_netif *n = calloc(1, sizeof *n);

    if (!n)
        return -ENOMEM;
    n->nif = nif;
    n->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (n->bell < 0) {
        int err = -errno;
        free(n);
        return err;
    }
    *out = n;
    return 0;
}

static void ring(struct sockets_netif *n)
{
    const uint64_t one = 1;
    ssize_t ignored = write(n->bell, &one, sizeof one); /* full is as good as rung */
    (void)ignored;
}

static uint64_t driver_now_ns(void *ctx)
{
    (void)ctx;
    return netif_now();
}

static void driver_kick(void *ctx, struct zest *z)
{
    (void)z;
    ring(ctx);
}

struct sockets_driver sockets_netif_driver(struct sockets_netif *n)
{
    return (struct sockets_driver){.ctx = n, .now_ns = driver_now_ns, .kick = driver_kick};
}

/* One turn, locked. Returns when to come back. */
static uint64_t turn(struct sockets_netif *n, struct zest *z)
{
    const struct netif_caps *caps = netif_caps(n->nif);
    struct zbuf *in[BURST];
    struct zest_frame out[BURST];
    unsigned got = netif_rx(n->nif, in, BURST);
    uint64_t now = netif_now();

    if (got)
        netif_input(n->nif, z, now, in, got);
    unsigned room = netif_tx_room(n->nif) / (caps->frame_descs ? caps->frame_descs : 1u);
    unsigned sent = room ? zest_output(z, now, out, room < BURST ? room : BURST) : 0;
    if (sent)
        netif_tx(n->nif, out, sent);
    if (netif_kick(n->nif) < 0 || !room)
        return now + NO_ROOM_NS;
    return got || sent ? now : ZEST_NEVER;
}

static void nap(struct sockets_netif *n, uint64_t until_ns)
{
    struct pollfd fds[2] = {{.fd = n->bell, .events = POLLIN},
                            {.fd = netif_fd(n->nif), .events = POLLIN}};
    uint64_t now = netif_now();
    uint64_t for_ns = until_ns > now ? until_ns - now : 0;
    uint64_t rung;

    if (for_ns > LONGEST_NAP_NS)
        for_ns = LONGEST_NAP_NS;
    struct timespec ts = {(time_t)(for_ns / NS_PER_S), (long)(for_ns % NS_PER_S)};
    if (ppoll(fds, 2, &ts, NULL) > 0 && fds[0].revents) {
        ssize_t ignored = read(n->bell, &rung, sizeof rung);
        (void)ignored;
    }
}

static void *run(void *arg)
{
    struct sockets_netif *n = arg;

    while (!atomic_load(&n->stop)) {
        struct zest *z = sockets_lock(n->s);
        uint64_t again = turn(n, z), deadline = sockets_deadline(n->s);
        sockets_unlock(n->s);
        nap(n, again < deadline || deadline == 0 ? again : deadline);
    }
    return NULL;
}

int sockets_netif_start(struct sockets_netif *n, struct sockets *s)
{
    n->s = s;
    int err = pthread_create(&n->thread, NULL, run, n);
    n->running = err == 0;
    return -err;
}

void sockets_netif_stop(struct sockets_netif *n)
{
    if (n->running) {
        atomic_store(&n->stop, true);
        ring(n);
        pthread_join(n->thread, NULL);
    }
    close(n->bell);
    free(n);
}
