/* capturing.c - see capturing.h.
 *
 * SIGUSR1 comes to one loop; each host may have a loop and a thread of its own, so that loop only
 * tells the others. */
#include "capturing.h"

#include "host.h"
#include "say.h"

#include <ev.h>
#include <inttypes.h>
#include <signal.h>

#define HOSTS_MAX NETIF_QUEUES_MAX

static struct captured {
    struct host *host;
    ev_async save; /* on its loop */
} captured[HOSTS_MAX];
static struct ev_loop *usr1_loop; /* NULL: nobody is captured */
static ev_signal usr1;
static void (*before)(int); /* whose SIGABRT was */

static void on_abort(int signum)
{
    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (captured[i].host)
            /* NOLINTNEXTLINE(bugprone-signal-handler): the process is lost anyway */
            (void)netif_capture_save(captured[i].host->nif, "an assertion failed");
    signal(signum, before);
    raise(signum);
}

static void on_save(struct ev_loop *loop, ev_async *w, int revents)
{
    struct netif *nif = ((struct captured *)w->data)->host->nif;
    (void)loop, (void)revents;
    say(netif_capture_save(nif, "SIGUSR1") == 0 ? "%s: the capture is written as it stands"
                                                : "%s: the capture cannot be written",
        netif_caps(nif)->name);
}

static void on_usr1(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)loop, (void)w, (void)revents;
    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (captured[i].host)
            ev_async_send(captured[i].host->loop, &captured[i].save);
}

/* The first one brings the signals. Watchers must not keep a loop going. */
static void enter(struct host *h)
{
    struct captured *c = captured;

    while (c->host)
        if (++c == captured + HOSTS_MAX)
            return;
    ev_async_init(&c->save, on_save);
    c->save.data = c;
    ev_async_start(h->loop, &c->save);
    ev_unref(h->loop);
    c->host = h;
    if (usr1_loop)
        return;
    before = signal(SIGABRT, on_abort);
    usr1_loop = h->loop;
    ev_signal_init(&usr1, on_usr1, SIGUSR1);
    ev_signal_start(usr1_loop, &usr1);
    ev_unref(usr1_loop);
}

/* The one whose loop has them takes them away: all loops have ended by then. */
static void leave(struct host *h)
{
    for (unsigned i = 0; i < HOSTS_MAX; i++) {
        if (captured[i].host != h)
            continue;
        ev_ref(h->loop);
        ev_async_stop(h->loop, &captured[i].save);
        captured[i].host = NULL;
        if (usr1_loop == h->loop) {
            ev_ref(usr1_loop);
            ev_signal_stop(usr1_loop, &usr1);
            usr1_loop = NULL;
            signal(SIGABRT, before);
        }
    }
}

int capture_open(struct host *h, unsigned number)
{
    const struct host_options *o = h->opt;
    char file[4096];
    struct netif_error err = {""};
    struct netif_capture_config cfg = {.path = file,
                                       .max_bytes = o->pcap_max,
                                       .ring_s = o->pcap_ring,
                                       .ring_bytes = o->pcap_ring_max};

    recording_name(file, sizeof file, o->pcap, number);
    int rc = netif_capture_start(h->nif, &cfg, &err);
    if (rc < 0)
        say("--pcap: %s", err.text);
    else
        enter(h);
    return rc;
}

void capture_close(struct host *h)
{
    struct netif_capture_stats st;

    if (!h->opt->pcap)
        return;
    leave(h);
    netif_capture_stop(h->nif, &st);
    if (st.failed)
        say("--pcap: %s could not be written completely", h->opt->pcap);
    else if (st.lost)
        say("%" PRIu64 " frames captured; %" PRIu64 " more came after the file was full "
            "(--pcap-max)",
            st.frames, st.lost);
    else if (h->opt->pcap_ring && st.frames == 0)
        say("nothing went wrong that --pcap-ring looks for: no frame captured");
    else
        say("%" PRIu64 " frames captured", st.frames);
}
