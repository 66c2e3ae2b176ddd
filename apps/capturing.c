/* capturing.c - see capturing.h. */
#include "capturing.h"

#include "host.h"
#include "say.h"

#include <ev.h>
#include <inttypes.h>
#include <signal.h>

#define HOSTS_MAX 2

static const struct host *captured[HOSTS_MAX];
static void (*before)(int); /* whose SIGABRT was */
static ev_signal usr1;

static void on_abort(int signum)
{
    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (captured[i])
            (void)netif_capture_save(captured[i]->nif, "an assertion failed");
    signal(signum, before);
    raise(signum);
}

static void on_usr1(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)loop, (void)w, (void)revents;
    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (captured[i])
            say(netif_capture_save(captured[i]->nif, "SIGUSR1") == 0
                    ? "%s: the capture is written as it stands"
                    : "%s: the capture cannot be written",
                netif_caps(captured[i]->nif)->name);
}

/* The first one brings the signals. */
static void enter(struct host *h)
{
    unsigned free_slot = HOSTS_MAX, others = 0;

    for (unsigned i = 0; i < HOSTS_MAX; i++) {
        if (captured[i])
            others++;
        else if (free_slot == HOSTS_MAX)
            free_slot = i;
    }
    if (free_slot == HOSTS_MAX)
        return;
    captured[free_slot] = h;
    if (others > 0)
        return;
    before = signal(SIGABRT, on_abort);
    ev_signal_init(&usr1, on_usr1, SIGUSR1);
    ev_signal_start(h->loop, &usr1);
    ev_unref(h->loop); /* it must not keep the loop going */
}

/* The last one takes them away. */
static void leave(struct host *h)
{
    unsigned others = 0;

    for (unsigned i = 0; i < HOSTS_MAX; i++) {
        if (captured[i] == h)
            captured[i] = NULL;
        others += captured[i] != NULL;
    }
    if (others > 0 || !ev_is_active(&usr1))
        return;
    signal(SIGABRT, before);
    ev_ref(h->loop);
    ev_signal_stop(h->loop, &usr1);
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
