/* poll.c - what a socket is ready for, and poll(). */
#include "sock.h"

uint32_t sock_mask(struct sockets *s, struct sock *k)
{
    uint32_t mask = 0;

    if (k->kind == SOCK_EPOLL)
        return epoll_ready(s, k) ? POLLIN | POLLRDNORM : 0;
    if (k->kind == SOCK_LISTENER)
        return k->acceptable ? POLLIN | POLLRDNORM : 0;
    bool rd_over = k->eof || k->shut_rd || k->dead;
    bool wr_over = k->shut_wr || k->dead;
    if (k->error)
        mask |= POLLERR;
    if ((rd_over && wr_over) || k->kind == SOCK_FRESH)
        mask |= POLLHUP;
    if (rd_over)
        mask |= POLLIN | POLLRDNORM | POLLRDHUP;
    if (k->kind == SOCK_CONNECTING)
        return mask;
    if (urgent_pending(s, k))
        mask |= POLLPRI;
    if (k->readable && !k->views && unread_bytes(s, k) == 0)
        k->readable = false; /* the last read took all, and could not know */
    if ((k->views || k->readable) && unread_bytes(s, k) > urgent_skip(k))
        mask |= POLLIN | POLLRDNORM;
    if (!k->full || wr_over) /* writing would not block: it would fail, maybe */
        mask |= POLLOUT | POLLWRNORM;
    return mask;
}

static int look(struct sockets *s, struct pollfd *fds, nfds_t n)
{
    int ready = 0;

    for (nfds_t i = 0; i < n; i++) {
        fds[i].revents = 0;
        if (fds[i].fd < 0)
            continue;
        struct fd_slot *slot = fd_slot(s, fds[i].fd);
        uint32_t wanted = (uint16_t)fds[i].events | POLLERR | POLLHUP;
        fds[i].revents = (short)(slot ? sock_mask(s, slot->sock) & wanted : POLLNVAL);
        ready += fds[i].revents != 0;
    }
    return ready;
}

int sockets_poll(struct sockets *s, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    struct waiter w;
    int ret, err = 0;

    if (n > s->cfg.max_fds)
        return -EINVAL;
    if (!fds && n)
        return -EFAULT;
    call_begin(s);
    take_events(s);
    wait_begin(s, &w, until_ms(s, timeout_ms));
    while ((ret = look(s, fds, n)) == 0 && timeout_ms != 0 && (err = wait_more(s, &w)) == 0)
        ;
    wait_end(s, &w);
    if (ret == 0 && err < 0 && err != -EAGAIN)
        ret = err;
    return (int)call_end(s, ret);
}
