/* recording.c - see recording.h. */
#include "recording.h"

#include "host.h"
#include "say.h"

#include "../stack/zest_record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOSTS_MAX    NETIF_QUEUES_MAX
#define STORM_LOOK_S 1.0
#define STORM_RTOS   32u /* time-outs between two looks that make a storm */

static struct recording *active[HOSTS_MAX]; /* for the signal handler */
static void (*before)(int);                 /* whose signal it was */

void recording_name(char *out, size_t size, const char *path, unsigned number)
{
    if (number)
        snprintf(out, size, "%s.%u", path, number);
    else
        snprintf(out, size, "%s", path);
}

/* ---- saving; only what a signal handler may do */

/* NOLINTBEGIN(bugprone-signal-handler): its list has not got pwrite(), a bare system call, in it */
static int put(int fd, const uint8_t *p, size_t len, off_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, p + done, len - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

/* It may be shorter than what was saved before. */
static int save(const struct recording *r)
{
    struct zest_recording rec;
    off_t at = 0;
    int rc = zest_recording(r->host->z, &rec);

    for (unsigned i = 0; i < rec.parts && rc == 0; at += (off_t)rec.part[i++].len)
        rc = put(r->fd, rec.part[i].p, rec.part[i].len, at);
    return rc == 0 && ftruncate(r->fd, at) < 0 ? -errno : rc;
}
/* NOLINTEND(bugprone-signal-handler) */

static void on_abort(int signum)
{
    static const char what[] = "zest: what led to this is in the file given with --record\n";

    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (active[i] && active[i]->host->z && save(active[i]) == 0)
            (void)!write(STDERR_FILENO, what, sizeof what - 1);
    signal(signum, before); /* it goes on as it would have without us */
    raise(signum);
}

/* ---- a storm */

static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct recording *r = w->data;
    struct zest_stats st;
    (void)loop, (void)revents;

    zest_stats(r->host->z, &st);
    if (st.tcp_rtos - r->rtos >= STORM_RTOS)
        say("%" PRIu64 " retransmission time-outs within a second; %s", st.tcp_rtos - r->rtos,
            save(r) == 0 ? "the recording is saved as it stands" : "saving the recording failed");
    r->rtos = st.tcp_rtos;
}

/* ---- from beginning to end */

int recording_open(struct host *h, const char *path, size_t max, unsigned number)
{
    struct recording *r = &h->rec;
    int rc = 0;

    recording_name(r->path, sizeof r->path, path, number);
    /* It holds the stack's secret. */
    r->fd = open(r->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (r->fd < 0) {
        rc = -errno;
        say("--record: cannot write %s: %s", r->path, strerror(errno));
        return rc;
    }
    r->size = max;
    r->mem = mmap(NULL, max, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->mem == MAP_FAILED) {
        rc = -errno;
        say("--record: no memory: %s; try a smaller --record-max", strerror(errno));
        close(r->fd);
        return rc;
    }
    r->host = h;
    return 0;
}

void recording_start(struct host *h)
{
    struct recording *r = &h->rec;

    if (!r->host)
        return;
    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (!active[i]) {
            active[i] = r;
            break;
        }
    void (*other)(int) = signal(SIGABRT, on_abort);
    if (other != on_abort)
        before = other;
    ev_timer_init(&r->storm, on_look, STORM_LOOK_S, STORM_LOOK_S);
    r->storm.data = r;
    ev_timer_start(h->loop, &r->storm);
    ev_unref(h->loop); /* it must not keep the loop going */
}

void recording_close(struct host *h)
{
    struct recording *r = &h->rec;
    struct zest_recording rec;

    if (!r->host)
        return;
    if (ev_is_active(&r->storm)) {
        ev_ref(h->loop);
        ev_timer_stop(h->loop, &r->storm);
    }
    if (h->z) {
        char bytes[SAY_BYTES];
        int rc = save(r);
        (void)zest_recording(h->z, &rec);
        if (rc < 0)
            say("--record: cannot write %s: %s", r->path, strerror(-rc));
        else
            say("%s recorded in %s%s", say_bytes(bytes, rec.len), r->path,
                rec.full         ? ", which ends early: the state of all connections takes more "
                                   "than a quarter of --record-max"
                : rec.from_start ? ""
                                 : ", which covers the end of the run (--record-max)");
    }
    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (active[i] == r)
            active[i] = NULL;
    close(r->fd);
    munmap(r->mem, r->size);
    r->host = NULL;
}
