/* wait.c - how somebody who was refused learns that it is worth another try.
 *
 * While anybody waits, frees go to the store and each looks through those who wait (wake-ups are
 * flags and a counter: nobody is called). All for whom it is enough are told, not only the first:
 * one who is told may have lost interest, and the others must not hang on it. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

/* Would pool_take() find something now, without draining? Nothing to drain while somebody waits. */
static bool could_take(struct zbuf_budget *b, unsigned want)
{
    struct zbuf_budget *limit;
    for (unsigned cls = want; cls < ZBUF_CLASSES; cls++) {
        bool room = budget_room(b, cls, &limit) > 0;
        if (room && (budget_may_take(b, cls) || class_can_grow(b->pool, cls)))
            return true;
        if (!room && cls >= b->min_cls)
            break;
    }
    return false;
}

static void waiters_done(struct zbuf_pool *pool)
{
    if (!pool->waiters && pool->slow & SLOW_WAITERS)
        pool_set_slow(pool, SLOW_WAITERS, false);
}

void waiters_drop(struct zbuf_budget *b)
{
    struct zbuf_pool *pool = b->pool;
    b->ready = false;
    if (!b->waiting)
        return;
    struct zbuf_budget **p = &pool->waiters;
    while (*p != b)
        p = &(*p)->wait_next;
    *p = b->wait_next;
    if (!b->wait_next)
        pool->waiters_end = p;
    b->waiting = false;
    waiters_done(pool);
}

void waiters_check(struct zbuf_pool *pool)
{
    uint32_t woken = 0;
    for (struct zbuf_budget **p = &pool->waiters; *p;) {
        struct zbuf_budget *b = *p;
        if (!could_take(b, b->wait_cls)) {
            p = &b->wait_next;
            continue;
        }
        *p = b->wait_next;
        if (!b->wait_next)
            pool->waiters_end = p;
        b->waiting = false;
        __atomic_store_n(&b->ready, true, __ATOMIC_RELEASE);
        mirror_publish(pool, b);
        woken++;
    }
    if (!woken)
        return;
    waiters_done(pool);
    __atomic_fetch_add(&pool->wakeups, woken, __ATOMIC_RELEASE);
    if (pool->wake_fd >= 0) {
        uint64_t one = 1;
        ssize_t sent = write(pool->wake_fd, &one, sizeof one);
        (void)sent; /* it fails only if the counter is full, and then it is readable */
    }
}

int zbuf_budget_wait(struct zbuf_budget *b, size_t bytes)
{
    struct zbuf_pool *pool = b->pool;
    if (bytes > ZBUF_SEG_MAX - ZBUF_OVERHEAD)
        return -EMSGSIZE;
    struct cache *own = cache_get(pool);
    pool_lock(pool);
    unsigned cls = class_for(bytes);
    __atomic_store_n(&b->ready, false, __ATOMIC_RELAXED);
    /* From here on no free is kept in a magazine, where it would not be seen. */
    pool_set_slow(pool, SLOW_WAITERS, true);
    pool_drain(pool, own, NULL);
    int now = could_take(b, cls);
    if (!now) {
        if (!b->waiting || cls < b->wait_cls) /* there may be several, see zbuf.h */
            b->wait_cls = (uint8_t)cls;
        if (!b->waiting) {
            b->waiting = true;
            b->wait_next = NULL;
            *pool->waiters_end = b;
            pool->waiters_end = &b->wait_next;
        }
    }
    waiters_done(pool);
    mirror_publish(pool, b);
    pool_unlock(pool);
    return now;
}

bool zbuf_budget_ready(struct zbuf_budget *b)
{
    if (likely(!__atomic_load_n(&b->ready, __ATOMIC_ACQUIRE)))
        return false;
    return __atomic_exchange_n(&b->ready, false, __ATOMIC_ACQUIRE);
}

void zbuf_budget_wait_cancel(struct zbuf_budget *b)
{
    pool_lock(b->pool);
    waiters_drop(b);
    mirror_publish(b->pool, b);
    pool_unlock(b->pool);
}

uint32_t zbuf_pool_wakeups(const struct zbuf_pool *pool)
{
    return __atomic_load_n(&pool->wakeups, __ATOMIC_ACQUIRE);
}

int zbuf_pool_wakeup_fd(struct zbuf_pool *pool)
{
    pool_lock(pool);
    if (pool->wake_fd < 0) {
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        pool->wake_fd = fd;
        if (fd < 0)
            fd = -errno;
        else if (pool->wakeups) {
            uint64_t one = 1;
            ssize_t sent = write(fd, &one, sizeof one);
            (void)sent;
        }
        pool_unlock(pool);
        return fd;
    }
    pool_unlock(pool);
    return pool->wake_fd;
}
