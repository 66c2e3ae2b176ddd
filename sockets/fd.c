/* fd.c - descriptors, and the sockets that they refer to. As in the kernel, a socket lives as long
 * as any descriptor, or any call that is under way, refers to it. */
#include <stdlib.h>

#include "sock.h"

struct sock *sock_new(struct sockets *s, enum sock_kind kind, int domain)
{
    struct sock *k = calloc(1, sizeof *k);

    if (!k)
        return NULL;
    k->kind = kind;
    k->domain = domain;
    k->refs = 1;
    k->next = s->socks;
    if (k->next)
        k->next->prev = k;
    s->socks = k;
    return k;
}

void sock_put(struct sockets *s, struct sock *k)
{
    if (--k->refs > 0)
        return;
    epoll_forget(k);
    let_go(s, k, k->opt.linger && k->opt.linger_s == 0);
    *(k->prev ? &k->prev->next : &s->socks) = k->next;
    if (k->next)
        k->next->prev = k->prev;
    free(k->view);
    free(k);
}

struct fd_slot *fd_slot(struct sockets *s, int fd)
{
    int64_t i = (int64_t)fd - s->cfg.first_fd;

    return i < 0 || i >= s->cfg.max_fds || !s->fds[i].sock ? NULL : &s->fds[i];
}

struct sock *sock_get(struct sockets *s, int fd, int *err)
{
    struct fd_slot *slot = fd_slot(s, fd);

    if (!slot || slot->sock->kind == SOCK_EPOLL) {
        *err = slot ? -ENOTSOCK : -EBADF;
        return NULL;
    }
    slot->sock->refs++;
    return slot->sock;
}

int fd_install(struct sockets *s, struct sock *k, int from, int fd_flags)
{
    uint32_t i = from > s->cfg.first_fd ? (uint32_t)(from - s->cfg.first_fd) : 0;

    for (; i < s->cfg.max_fds; i++)
        if (!s->fds[i].sock) {
            s->fds[i] = (struct fd_slot){k, fd_flags};
            return s->cfg.first_fd + (int)i;
        }
    return -EMFILE;
}

int sockets_socket(struct sockets *s, int domain, int type, int protocol)
{
    if (domain != AF_INET && domain != AF_INET6)
        return -EAFNOSUPPORT;
    if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM)
        return -ESOCKTNOSUPPORT;
    if (protocol != 0 && protocol != IPPROTO_TCP)
        return -EPROTONOSUPPORT;
    call_begin(s);
    struct sock *k = sock_new(s, SOCK_FRESH, domain);
    if (!k)
        return (int)call_end(s, -ENOMEM);
    k->nonblock = type & SOCK_NONBLOCK;
    int fd = fd_install(s, k, 0, type & SOCK_CLOEXEC ? FD_CLOEXEC : 0);
    if (fd < 0)
        sock_put(s, k);
    return (int)call_end(s, fd);
}

/* SO_LINGER with a time: until all is sent and acknowledged, our FIN too. */
static void linger(struct sockets *s, struct sock *k)
{
    struct waiter w;

    if (k->kind != SOCK_CONNECTED || !k->opt.linger || k->opt.linger_s == 0 || k->refs > 1 ||
        zest_shutdown(s->z, k->handle) < 0)
        return;
    s->lingering++;
    wait_begin(s, &w, until_after(s, k->opt.linger_s * NS_PER_S));
    for (struct zest_conn_info i; zest_conn_info(s->z, k->handle, &i) == 0;) {
        if (k->dead || i.state == ZEST_FIN_WAIT_2 || i.state == ZEST_TIME_WAIT ||
            i.state == ZEST_CLOSED || wait_more(s, &w) < 0)
            break;
    }
    wait_end(s, &w);
    s->lingering--;
}

int sockets_close(struct sockets *s, int fd)
{
    call_begin(s);
    struct fd_slot *slot = fd_slot(s, fd);
    if (!slot)
        return (int)call_end(s, -EBADF);
    struct sock *k = slot->sock;
    *slot = (struct fd_slot){0};
    epoll_forget_fd(k, fd);
    linger(s, k);
    sock_put(s, k);
    return (int)call_end(s, 0);
}

int sockets_fcntl(struct sockets *s, int fd, int cmd, long arg)
{
    int ret = 0;

    call_begin(s);
    struct fd_slot *slot = fd_slot(s, fd);
    if (!slot)
        return (int)call_end(s, -EBADF);
    switch (cmd) {
    case F_GETFL:
        ret = O_RDWR | (slot->sock->nonblock ? O_NONBLOCK : 0);
        break;
    case F_SETFL:
        slot->sock->nonblock = arg & O_NONBLOCK;
        break;
    case F_GETOWN:
        ret = slot->sock->owner;
        break;
    case F_SETOWN: /* -1 would be everybody */
        if (arg < INT32_MIN || arg > INT32_MAX || arg == -1)
            ret = -EINVAL;
        else
            slot->sock->owner = (pid_t)arg;
        break;
    case F_GETFD:
        ret = slot->flags;
        break;
    case F_SETFD:
        slot->flags = (int)(arg & FD_CLOEXEC);
        break;
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        if (arg < 0 || arg >= (int64_t)s->cfg.first_fd + s->cfg.max_fds) {
            ret = -EINVAL;
            break;
        }
        ret = fd_install(s, slot->sock, (int)arg, cmd == F_DUPFD ? 0 : FD_CLOEXEC);
        if (ret >= 0)
            slot->sock->refs++;
        break;
    default:
        ret = -EINVAL;
    }
    return (int)call_end(s, ret);
}
