/* netif_driver.c - a thread that joins a link and an instance's stack, in real time.
 *
 * Each turn, locked: frames in, frames out, what happened to the link, the next deadline. Then it
 * sleeps, unlocked, until the link has something, the deadline comes, or a call rings the eventfd
 * because it changed what there is to do. */
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
    struct netif_watch *watch; /* of the interface */
    bool heard;                /* it has something to tell */
    _Atomic int error;         /* -errno of a link that is gone */
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

/* The cable is cut: frames fall out of its end, and the stack's timers go on. */
static uint64_t lose(struct sockets_netif *n, struct zest *z)
{
    struct zest_frame out[BURST];
    unsigned sent = zest_output(z, netif_now(), out, BURST);

    for (unsigned i = 0; i < sent; i++)
        for (unsigned k = 0; k < out[i].n; k++)
            zbuf_tx_done(n->s->cfg.stack.pool, out[i].seg[k].addr);
    return sent ? 0 : ZEST_NEVER;
}

/* What happened to the link; *again_ns: when it wants to be looked at, if that is sooner. */
static void look_after(struct sockets_netif *n, uint64_t now, uint64_t *again_ns)
{
    uint64_t at_ns;
    int error = netif_watch_turn(n->watch, n->heard, now, &at_ns);

    n->heard = false;
    if (at_ns < *again_ns)
        *again_ns = at_ns;
    if (!error)
        return;
    n->error = error;
    struct netif_error why;
    netif_explain(n->nif, error, &why);
    fprintf(stderr, "zest: %s\n", why.text);
    *again_ns = 0;
}

/* One turn, locked. Returns when to come back. */
static uint64_t turn(struct sockets_netif *n, struct zest *z)
{
    const struct netif_caps *caps = netif_caps(n->nif);
    struct zbuf *in[BURST];

    if (n->error)
        return lose(n, z);
    struct zest_frame out[BURST];
    unsigned got = netif_rx(n->nif, in, BURST);
    uint64_t now = netif_now();

    if (got)
        netif_input(n->nif, z, now, in, got);
    unsigned room = netif_tx_room(n->nif) / (caps->frame_descs ? caps->frame_descs : 1u);
    unsigned sent = room ? zest_output(z, now, out, room < BURST ? room : BURST) : 0;
    if (sent)
        netif_tx(n->nif, out, sent);
    uint64_t again = netif_kick(n->nif) < 0 || !room ? now + NO_ROOM_NS
                     : got || sent                   ? now
                                                     : ZEST_NEVER;
    look_after(n, now, &again);
    return again;
}

static void nap(struct sockets_netif *n, uint64_t until_ns)
{
    struct pollfd fds[3] = {{.fd = n->bell, .events = POLLIN},
                            {.fd = n->error ? -1 : netif_fd(n->nif), .events = POLLIN},
                            {.fd = n->error ? -1 : netif_watch_fd(n->watch), .events = POLLIN}};
    uint64_t now = netif_now();
    uint64_t for_ns = until_ns > now ? until_ns - now : 0;
    uint64_t rung;

    if (for_ns > LONGEST_NAP_NS)
        for_ns = LONGEST_NAP_NS;
    struct timespec ts = {(time_t)(for_ns / NS_PER_S), (long)(for_ns % NS_PER_S)};
    if (ppoll(fds, 3, &ts, NULL) <= 0)
        return;
    if (fds[0].revents) {
        ssize_t ignored = read(n->bell, &rung, sizeof rung);
        (void)ignored;
    }
    n->heard = fds[2].revents != 0;
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
    const struct netif_loop_config cfg = {.nif = n->nif, .z = sockets_lock(s)};
    int rc = netif_watch_open(&cfg, &n->watch);
    sockets_unlock(s);
    if (rc)
        return rc;
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
    netif_watch_close(n->watch);
    close(n->bell);
    free(n);
}

int sockets_netif_error(const struct sockets_netif *n)
{
    return n->error;
}
