/* instance.c - one stack, one lock, and how calls wait.
 *
 * Everything happens under one mutex. A call that can't go on registers a waiter, and sleeps on one
 * condition until `seq` grows: that is whenever the stack had events, or a time-out has come. Then
 * it tries again; nothing is handed to it, so no wake-up can be lost or stolen. Time-outs are the
 * driver's business too (sockets_deadline() counts them in), so that they run in whatever time the
 * driver keeps, real or not. */
#include <stdlib.h>

#include "sock.h"

uint64_t now_ns(const struct sockets *s)
{
    return s->cfg.driver.now_ns(s->cfg.driver.ctx);
}

uint64_t until_after(const struct sockets *s, uint64_t timeout_ns)
{
    uint64_t now = now_ns(s);
    return timeout_ns == 0 || timeout_ns > ZEST_NEVER - 1 - now ? ZEST_NEVER : now + timeout_ns;
}

uint64_t until_ms(const struct sockets *s, int timeout_ms)
{
    return until_after(s, timeout_ms > 0 ? (uint32_t)timeout_ms * NS_PER_MS : 0);
}

/* ---- events */

void changed(struct sockets *s)
{
    s->seq++;
    pthread_cond_broadcast(&s->changed);
}

static void on_event(struct sockets *s, struct sock *k, const struct zest_event *ev)
{
    k->edges++;
    if (ev->events & ZEST_EV_ACCEPT)
        k->acceptable = true;
    if (ev->events & ZEST_EV_CONNECTED && k->kind == SOCK_CONNECTING)
        k->kind = SOCK_CONNECTED;
    if (ev->events & ZEST_EV_READABLE)
        k->readable = true;
    if (ev->events & ZEST_EV_URGENT)
        urgent_heard(s, k);
    if (ev->events & ZEST_EV_WRITABLE)
        k->full = k->starved = false;
    if (ev->events & ZEST_EV_EOF)
        k->eof = true;
    if (ev->events & ZEST_EV_ERROR) {
        k->error = ev->error;
        k->dead = true;
        if (k->kind == SOCK_CONNECTING)
            k->kind = SOCK_FRESH;
    }
    if (ev->events & ZEST_EV_CLOSED)
        k->dead = true;
}

void take_events(struct sockets *s)
{
    struct zest_event ev[32];
    bool any = false;

    for (unsigned n; (n = zest_events(s->z, ev, 32)) > 0; any = true)
        for (unsigned i = 0; i < n; i++)
            if (ev[i].user)
                on_event(s, ev[i].user, &ev[i]);
    if (any)
        changed(s);
}

void starve(struct sockets *s, struct sock *k)
{
    uint64_t at = now_ns(s) + SOCK_RETRY_NS;

    k->full = k->starved = true;
    if (at < s->starved_ns)
        s->starved_ns = at;
}

/* Time-outs that have come, of calls and of sockets that found no memory. */
static void take_timeouts(struct sockets *s)
{
    uint64_t now = now_ns(s);
    bool any = false;

    for (struct waiter *w = s->waiters; w; w = w->next)
        any |= w->until_ns <= now;
    if (s->starved_ns <= now) {
        s->starved_ns = ZEST_NEVER;
        any = true;
        for (struct sock *k = s->socks; k; k = k->next)
            if (k->starved) {
                k->full = k->starved = false;
                k->edges++;
            }
    }
    if (any)
        changed(s);
}

/* ---- the driver's side */

static uint64_t deadline(const struct sockets *s)
{
    uint64_t d = zest_deadline(s->z);

    for (struct waiter *w = s->waiters; w; w = w->next)
        if (w->until_ns < d)
            d = w->until_ns;
    return s->starved_ns < d ? s->starved_ns : d;
}

uint64_t sockets_deadline(struct sockets *s)
{
    return s->told_ns = deadline(s);
}

struct zest *sockets_lock(struct sockets *s)
{
    pthread_mutex_lock(&s->lock);
    return s->z;
}

void sockets_unlock(struct sockets *s)
{
    take_events(s);
    take_timeouts(s);
    if (s->lingering)
        changed(s);
    pthread_mutex_unlock(&s->lock);
}

static bool all_looked(const struct sockets *s)
{
    for (const struct waiter *w = s->waiters; w; w = w->next)
        if (w->seen != s->seq)
            return false;
    return true;
}

unsigned sockets_settle(struct sockets *s)
{
    pthread_mutex_lock(&s->lock);
    while (!all_looked(s))
        pthread_cond_wait(&s->settled, &s->lock);
    unsigned n = s->ended;
    s->ended = 0;
    pthread_mutex_unlock(&s->lock);
    return n;
}

unsigned sockets_waiting(struct sockets *s)
{
    unsigned n = 0;

    pthread_mutex_lock(&s->lock);
    for (const struct waiter *w = s->waiters; w; w = w->next)
        n += w->slept;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* ---- calls */

void call_begin(struct sockets *s)
{
    pthread_mutex_lock(&s->lock);
    s->calls++;
}

static void tell_driver(struct sockets *s)
{
    const struct sockets_driver *d = &s->cfg.driver;

    if (d->kick && deadline(s) < s->told_ns) {
        d->kick(d->ctx, s->z);
        take_events(s);
    }
}

ssize_t call_end(struct sockets *s, ssize_t ret)
{
    take_events(s);
    tell_driver(s);
    if (--s->calls == 0 && s->stopping)
        pthread_cond_broadcast(&s->settled);
    pthread_mutex_unlock(&s->lock);
    return ret;
}

void wait_begin(struct sockets *s, struct waiter *w, uint64_t until_ns)
{
    *w = (struct waiter){.until_ns = until_ns, .next = s->waiters, .seen = s->seq};
    if (w->next)
        w->next->prev = w;
    s->waiters = w;
}

int wait_more(struct sockets *s, struct waiter *w)
{
    const struct sockets_driver *d = &s->cfg.driver;

    if (s->stopping)
        return -EINTR;
    take_events(s);
    if (w->seen != s->seq) { /* it happened while the call looked */
        w->seen = s->seq;
        return 0;
    }
    tell_driver(s);
    if (w->until_ns <= now_ns(s))
        return -EAGAIN;
    if (d->wait) {
        int err = d->wait(d->ctx, s->z, w->until_ns);
        take_events(s);
        take_timeouts(s);
        w->seen = s->seq;
        return err;
    }
    w->slept = true;
    while (w->seen == s->seq) {
        pthread_cond_broadcast(&s->settled);
        pthread_cond_wait(&s->changed, &s->lock);
    }
    w->seen = s->seq;
    return 0; /* and looks, before it lets go of the lock */
}

void wait_end(struct sockets *s, struct waiter *w)
{
    *(w->prev ? &w->prev->next : &s->waiters) = w->next;
    if (w->next)
        w->next->prev = w->prev;
    if (w->slept)
        s->ended++;
    pthread_cond_broadcast(&s->settled);
}

/* ---- birth and death */

int sockets_open(const struct sockets_config *cfg, struct sockets **out)
{
    if (!cfg || !out || !cfg->driver.now_ns || cfg->first_fd < 0 ||
        cfg->max_fds > INT32_MAX - (uint32_t)cfg->first_fd)
        return -EINVAL;
    size_t size = zest_size(&cfg->stack);
    if (size == 0)
        return -EINVAL;
    struct sockets *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->cfg = *cfg;
    if (s->cfg.max_fds == 0)
        s->cfg.max_fds = 1024;
    s->told_ns = s->starved_ns = ZEST_NEVER;
    s->mem = aligned_alloc(64, (size + 63) & ~(size_t)63);
    s->fds = calloc(s->cfg.max_fds, sizeof *s->fds);
    int err = s->mem && s->fds ? zest_init(s->mem, &cfg->stack, &s->z) : -ENOMEM;
    if (err < 0) {
        free(s->fds);
        free(s->mem);
        free(s);
        return err;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    pthread_cond_init(&s->settled, NULL);
    *out = s;
    return 0;
}

void sockets_fini(struct sockets *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    changed(s);
    while (s->calls > 0)
        pthread_cond_wait(&s->settled, &s->lock);
    pthread_mutex_unlock(&s->lock);
    while (s->socks) {
        s->socks->refs = 1;
        sock_put(s, s->socks);
    }
    zest_fini(s->z);
    pthread_cond_destroy(&s->settled);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s->fds);
    free(s->mem);
    free(s);
}
