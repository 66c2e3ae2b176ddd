/* packetdrill.c - packetdrill's structure of functions, on sockets/. No pointer in it is NULL: what
 * there is not, answers ENOTSUP; with flags that made no sense, everything answers EINVAL. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "adapter.h"
#include "interface.h"

static int fail(int err)
{
    errno = err;
    return -1;
}

/* userdata is NULL if the flags were wrong. */
#define CALL(type, expression)                                                                     \
    do {                                                                                           \
        if (!userdata)                                                                             \
            return fail(EINVAL);                                                                   \
        struct sockets *s = adapter_sockets(userdata);                                             \
        return (type)sockets_errno(expression);                                                    \
    } while (0)

static void pd_free(void *userdata)
{
    if (userdata)
        adapter_close(userdata);
}
static int pd_socket(void *userdata, int domain, int type, int protocol)
{
    CALL(int, sockets_socket(s, domain, type, protocol));
}
static int pd_bind(void *userdata, int fd, const struct sockaddr *addr, socklen_t len)
{
    CALL(int, sockets_bind(s, fd, addr, len));
}
static int pd_listen(void *userdata, int fd, int backlog)
{
    CALL(int, sockets_listen(s, fd, backlog));
}
static int pd_accept(void *userdata, int fd, struct sockaddr *addr, socklen_t *len)
{
    CALL(int, sockets_accept(s, fd, addr, len, 0));
}
static int pd_connect(void *userdata, int fd, const struct sockaddr *addr, socklen_t len)
{
    CALL(int, sockets_connect(s, fd, addr, len));
}
static ssize_t pd_read(void *userdata, int fd, void *buf, size_t count)
{
    CALL(ssize_t, sockets_recv(s, fd, buf, count, 0));
}
static ssize_t pd_readv(void *userdata, int fd, const struct iovec *iov, int n)
{
    CALL(ssize_t, sockets_readv(s, fd, iov, n));
}
static ssize_t pd_recv(void *userdata, int fd, void *buf, size_t len, int flags)
{
    CALL(ssize_t, sockets_recv(s, fd, buf, len, flags));
}
static ssize_t pd_recvfrom(void *userdata, int fd, void *buf, size_t len, int flags,
                           struct sockaddr *addr, socklen_t *addr_len)
{
    CALL(ssize_t, sockets_recvfrom(s, fd, buf, len, flags, addr, addr_len));
}
static ssize_t pd_recvmsg(void *userdata, int fd, struct msghdr *msg, int flags)
{
    CALL(ssize_t, sockets_recvmsg(s, fd, msg, flags));
}
static ssize_t pd_write(void *userdata, int fd, const void *buf, size_t count)
{
    CALL(ssize_t, sockets_send(s, fd, buf, count, 0));
}
static ssize_t pd_writev(void *userdata, int fd, const struct iovec *iov, int n)
{
    CALL(ssize_t, sockets_writev(s, fd, iov, n));
}
static ssize_t pd_send(void *userdata, int fd, const void *buf, size_t len, int flags)
{
    CALL(ssize_t, sockets_send(s, fd, buf, len, flags));
}
static ssize_t pd_sendto(void *userdata, int fd, const void *buf, size_t len, int flags,
                         const struct sockaddr *addr, socklen_t addr_len)
{
    CALL(ssize_t, sockets_sendto(s, fd, buf, len, flags, addr, addr_len));
}
static ssize_t pd_sendmsg(void *userdata, int fd, const struct msghdr *msg, int flags)
{
    CALL(ssize_t, sockets_sendmsg(s, fd, msg, flags));
}
static int pd_fcntl(void *userdata, int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    long arg = va_arg(ap, long); /* unread by the commands that have none */
    va_end(ap);
    CALL(int, sockets_fcntl(s, fd, cmd, (int)arg));
}
static int pd_ioctl(void *userdata, int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    CALL(int, sockets_ioctl(s, fd, request, arg));
}
static int pd_close(void *userdata, int fd)
{
    CALL(int, sockets_close(s, fd));
}
static int pd_shutdown(void *userdata, int fd, int how)
{
    CALL(int, sockets_shutdown(s, fd, how));
}
static int pd_getsockopt(void *userdata, int fd, int level, int name, void *value, socklen_t *len)
{
    CALL(int, sockets_getsockopt(s, fd, level, name, value, len));
}
static int pd_setsockopt(void *userdata, int fd, int level, int name, const void *value,
                         socklen_t len)
{
    CALL(int, sockets_setsockopt(s, fd, level, name, value, len));
}
static int pd_poll(void *userdata, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    CALL(int, sockets_poll(s, fds, n, timeout_ms));
}
static int pd_epoll_create(void *userdata, int size)
{
    CALL(int, size > 0 ? sockets_epoll_create(s, 0) : -EINVAL);
}
static int pd_epoll_ctl(void *userdata, int epfd, int op, int fd, struct epoll_event *event)
{
    CALL(int, sockets_epoll_ctl(s, epfd, op, fd, event));
}
static int pd_epoll_wait(void *userdata, int epfd, struct epoll_event *events, int max,
                         int timeout_ms)
{
    CALL(int, sockets_epoll_wait(s, epfd, events, max, timeout_ms));
}

/* ---- the network, and time */

static int pd_netdev_send(void *userdata, const void *buf, size_t count)
{
    if (!userdata)
        return fail(EINVAL);
    return (int)sockets_errno(adapter_send(userdata, buf, count));
}
static int pd_netdev_receive(void *userdata, void *buf, size_t *count, long long *time_usecs)
{
    int64_t usecs;

    if (!userdata)
        return fail(EINVAL);
    int err = adapter_receive(userdata, buf, count, &usecs);
    *time_usecs = usecs;
    return (int)sockets_errno(err);
}
static int pd_usleep(void *userdata, useconds_t usecs)
{
    if (!userdata)
        return fail(EINVAL);
    adapter_sleep(userdata, usecs * 1000ull);
    return 0;
}
static int pd_gettimeofday(void *userdata, struct timeval *tv, struct timezone *tz)
{
    if (!userdata)
        return fail(EINVAL);
    int64_t usecs = adapter_usecs(userdata);
    if (tv)
        *tv = (struct timeval){.tv_sec = usecs / 1000000, .tv_usec = usecs % 1000000};
    if (tz)
        memset(tz, 0, sizeof *tz);
    return 0;
}

/* ---- what there is not */

static int pd_pipe(void *userdata, int fds[2])
{
    (void)userdata;
    (void)fds;
    return fail(ENOTSUP);
}
static int pd_splice(void *userdata, int fd_in, loff_t *off_in, int fd_out, loff_t *off_out,
                     size_t len, unsigned flags)
{
    (void)userdata, (void)fd_in, (void)off_in, (void)fd_out, (void)off_out, (void)len, (void)flags;
    return fail(ENOTSUP);
}

void packetdrill_interface_init(const char *flags, struct packetdrill_interface *interface)
{
    struct adapter_flags f;
    struct adapter *a = NULL;
    const char *why = "";

    *interface = (struct packetdrill_interface){
        .free = pd_free,
        .socket = pd_socket,
        .bind = pd_bind,
        .listen = pd_listen,
        .accept = pd_accept,
        .connect = pd_connect,
        .read = pd_read,
        .readv = pd_readv,
        .recv = pd_recv,
        .recvfrom = pd_recvfrom,
        .recvmsg = pd_recvmsg,
        .write = pd_write,
        .writev = pd_writev,
        .send = pd_send,
        .sendto = pd_sendto,
        .sendmsg = pd_sendmsg,
        .fcntl = pd_fcntl,
        .ioctl = pd_ioctl,
        .close = pd_close,
        .shutdown = pd_shutdown,
        .getsockopt = pd_getsockopt,
        .setsockopt = pd_setsockopt,
        .poll = pd_poll,
        .netdev_send = pd_netdev_send,
        .netdev_receive = pd_netdev_receive,
        .usleep = pd_usleep,
        .gettimeofday = pd_gettimeofday,
        .epoll_create = pd_epoll_create,
        .epoll_ctl = pd_epoll_ctl,
        .epoll_wait = pd_epoll_wait,
        .pipe = pd_pipe,
        .splice = pd_splice,
    };
    if (!adapter_parse(&f, flags, &why)) {
        fprintf(stderr, "libzest-packetdrill: %s: %s\n", flags, why);
        return;
    }
    int err = adapter_open(&f, &a);
    if (err < 0)
        fprintf(stderr, "libzest-packetdrill: no stack with \"%s\": %s\n", flags ? flags : "",
                strerror(-err));
    else
        interface->userdata = a;
}
