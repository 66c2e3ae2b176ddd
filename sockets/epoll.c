/* epoll.c - epoll over the instance's sockets: level-triggered, EPOLLET, EPOLLONESHOT.
 *
 * A wait looks at each watched socket, so it costs what poll() costs; it saves the program its own
 * list. An epoll descriptor can be polled, but not watched by another one. */
#include <stdlib.h>

#include "sock.h"

#define EPOLL_FLAGS ((uint32_t)(EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE))

static uint32_t item_ready(struct sockets *s, const struct epoll_item *it)
{
    if (!it->armed || (it->event.events & EPOLLET && it->seen_edges == it->sock->edges))
        return 0;
    return sock_mask(s, it->sock) & ((it->event.events & ~EPOLL_FLAGS) | EPOLLERR | EPOLLHUP);
}

bool epoll_ready(struct sockets *s, struct sock *ep)
{
    for (const struct epoll_item *it = ep->items; it; it = it->ep_next)
        if (item_ready(s, it))
            return true;
    return false;
}

/* ---- the set */

static void item_free(struct epoll_item *it)
{
    struct epoll_item **p;

    for (p = &it->ep->items; *p != it; p = &(*p)->ep_next)
        ;
    *p = it->ep_next;
    for (p = &it->sock->items; *p != it; p = &(*p)->sock_next)
        ;
    *p = it->sock_next;
    free(it);
}

void epoll_forget(struct sock *k)
{
    while (k->items)
        item_free(k->items);
}

/* Linux forgets a watch with its last descriptor; a dup() keeps it. Here it goes with the
 * descriptor that it was made with, which no program can mean otherwise. */
void epoll_forget_fd(struct sock *k, int fd)
{
    if (k->kind == SOCK_EPOLL)
        return;
    for (struct epoll_item *it = k->items, *next; it; it = next) {
        next = it->sock_next;
        if (it->fd == fd)
            item_free(it);
    }
}

int sockets_epoll_create(struct sockets *s, int flags)
{
    if (flags & ~EPOLL_CLOEXEC)
        return -EINVAL;
    call_begin(s);
    struct sock *k = sock_new(s, SOCK_EPOLL, AF_UNSPEC);
    if (!k)
        return (int)call_end(s, -ENOMEM);
    int fd = fd_install(s, k, 0, flags ? FD_CLOEXEC : 0);
    if (fd < 0)
        sock_put(s, k);
    return (int)call_end(s, fd);
}

static int add(struct sock *ep, struct sock *k, int fd, const struct epoll_event *event)
{
    struct epoll_item *it = calloc(1, sizeof *it);

    if (!it)
        return -ENOMEM;
    *it = (struct epoll_item){.ep = ep,
                              .sock = k,
                              .fd = fd,
                              .event = *event,
                              .seen_edges = k->edges - 1, /* what is so already counts as new */
                              .armed = true,
                              .ep_next = ep->items,
                              .sock_next = k->items};
    ep->items = k->items = it;
    return 0;
}

static int control(struct sockets *s, int epfd, int op, int fd, const struct epoll_event *event)
{
    struct fd_slot *ep = fd_slot(s, epfd), *k = fd_slot(s, fd);
    struct epoll_item *it;

    if (!ep || !k)
        return -EBADF;
    if (ep->sock->kind != SOCK_EPOLL || k->sock->kind == SOCK_EPOLL)
        return -EINVAL;
    if (op != EPOLL_CTL_DEL && !event)
        return -EFAULT;
    for (it = ep->sock->items; it; it = it->ep_next)
        if (it->sock == k->sock && it->fd == fd)
            break;
    if (op == EPOLL_CTL_ADD)
        return it ? -EEXIST : add(ep->sock, k->sock, fd, event);
    if (!it)
        return op == EPOLL_CTL_DEL || op == EPOLL_CTL_MOD ? -ENOENT : -EINVAL;
    if (op == EPOLL_CTL_DEL) {
        item_free(it);
    } else if (op == EPOLL_CTL_MOD) {
        it->event = *event;
        it->armed = true;
        it->seen_edges = k->sock->edges - 1;
    } else {
        return -EINVAL;
    }
    return 0;
}

int sockets_epoll_ctl(struct sockets *s, int epfd, int op, int fd, const struct epoll_event *event)
{
    call_begin(s);
    int ret = control(s, epfd, op, fd, event);
    if (ret == 0)
        changed(s); /* who waits in epoll_wait() may have one ready now */
    return (int)call_end(s, ret);
}

/* ---- the wait */

/* What was told goes to the back of the list, so that nothing starves when max is small. */
static int collect(struct sockets *s, struct sock *ep, struct epoll_event *events, int max)
{
    struct epoll_item **p = &ep->items, *told = NULL, **told_end = &told;
    int n = 0;

    while (*p && n < max) {
        struct epoll_item *it = *p;
        uint32_t mask = item_ready(s, it);
        if (!mask) {
            p = &it->ep_next;
            continue;
        }
        events[n++] = (struct epoll_event){.events = mask, .data = it->event.data};
        it->seen_edges = it->sock->edges;
        it->armed = !(it->event.events & EPOLLONESHOT);
        *p = it->ep_next;
        it->ep_next = NULL;
        *told_end = it;
        told_end = &it->ep_next;
    }
    while (*p)
        p = &(*p)->ep_next;
    *p = told;
    return n;
}

int sockets_epoll_wait(struct sockets *s, int epfd, struct epoll_event *events, int max,
                       int timeout_ms)
{
    struct waiter w;
    int ret, err = 0;

    if (max <= 0)
        return -EINVAL;
    if (!events)
        return -EFAULT;
    call_begin(s);
    struct fd_slot *slot = fd_slot(s, epfd);
    if (!slot || slot->sock->kind != SOCK_EPOLL)
        return (int)call_end(s, slot ? -EINVAL : -EBADF);
    struct sock *ep = slot->sock;
    ep->refs++;
    take_events(s);
    wait_begin(s, &w, until_ms(s, timeout_ms));
    while ((ret = collect(s, ep, events, max)) == 0 && timeout_ms != 0 &&
           (err = wait_more(s, &w)) == 0)
        ;
    wait_end(s, &w);
    sock_put(s, ep);
    if (ret == 0 && err < 0 && err != -EAGAIN)
        ret = err;
    return (int)call_end(s, ret);
}
