/* loop_mem.c - who was refused memory is called when there is some.
 *
 * The pool counts how often it has made somebody's wait worth another try. When that has changed,
 * each who waits here asks again, in the order of their coming; so several loops can wait on one
 * budget without knowing of each other. A sleeping loop is woken by the pool's eventfd. That is
 * watched by its edges and never read: to read it would take it from other loops. */
#include "loop_mem.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

int loop_mem_open(struct loop_mem *m, struct zbuf_pool *pool)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
    int fd = zbuf_pool_wakeup_fd(pool);
    *m = (struct loop_mem){.pool = pool, .epoll_fd = -1, .seen = zbuf_pool_wakeups(pool)};
    if (fd < 0)
        return fd;
    m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (m->epoll_fd < 0)
        return -errno;
    if (epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0)
        return 0;
    int err = -errno;
    loop_mem_close(m);
    return err;
}

/* What the pool still notes of our waiting costs it one wake-up in vain: another loop may wait on
 * the same budget, so it is not ours to cancel. */
void loop_mem_close(struct loop_mem *m)
{
    while (m->head)
        loop_mem_remove(m, m->head);
    if (m->epoll_fd >= 0)
        close(m->epoll_fd);
    m->epoll_fd = -1;
}

void loop_mem_heard(struct loop_mem *m)
{
    struct epoll_event ev;
    (void)epoll_wait(m->epoll_fd, &ev, 1, 0); /* the edge is taken note of */
}

static void append(struct loop_mem *m, struct netif_loop_wait *w)
{
    w->next = NULL;
    w->prev = m->tail;
    *(m->tail ? &m->tail->next : &m->head) = w;
    m->tail = w;
    w->active = true;
    w->round = m->round;
}

void loop_mem_add(struct loop_mem *m, struct netif_loop_wait *w)
{
    append(m, w);
    m->again = true;
}

void loop_mem_remove(struct loop_mem *m, struct netif_loop_wait *w)
{
    if (!w->active)
        return;
    *(w->prev ? &w->prev->next : &m->head) = w->next;
    *(w->next ? &w->next->prev : &m->tail) = w->prev;
    w->active = false;
}

bool loop_mem_run(struct loop_mem *m, const bool *stopped)
{
    bool called = false;
    if (!m->head || (!m->again && zbuf_pool_wakeups(m->pool) == m->seen))
        return false;
    m->again = false;
    m->seen = zbuf_pool_wakeups(m->pool);
    m->round++; /* those who come meanwhile, or go on waiting, are of this round, at the end */
    for (struct netif_loop_wait *w; (w = m->head) && w->round != m->round && !*stopped;) {
        loop_mem_remove(m, w);
        if (zbuf_budget_wait(w->budget, w->bytes) == 0) {
            append(m, w);
            continue;
        }
        called = true;
        w->ready(w);
    }
    return called;
}
