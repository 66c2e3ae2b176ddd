/* sockets.h - BSD sockets on a zest stack: descriptors, blocking calls, options, poll and epoll.
 *
 * An instance owns one stack. Any number of threads call the functions that are named after the
 * system calls; one driver moves time and frames:
 *
 *     struct zest *z = sockets_lock(s);       the stack, with nobody else in it
 *     zest_input(z, now, ...); zest_output(z, now, ...);
 *     deadline = sockets_deadline(s);         come back by then, or when a frame arrives
 *     sockets_unlock(s);                      hands out events, wakes who waits for them
 *
 * What the driver is told in return is struct sockets_driver. sockets_run_netif() is a driver for
 * the links of netif/, with a thread of its own.
 *
 * Functions answer as Linux's system calls do inside: a count, a descriptor or 0, or -errno.
 * sockets_errno() makes -1 and errno of that. Descriptors are the instance's own, from
 * sockets_config.first_fd on. Bytes are copied: out of plain memory into segments of the pool
 * (zest_write_copy), and out of received segments. See docs/sockets.md for what differs from Linux.
 */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "../netif/netif.h"
#include "../stack/zest.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SOCKETS_API __attribute__((visibility("default")))

struct sockets;

/* ---- making one */

struct sockets_driver {
    void *ctx;
    /* The time that the stack is given. Called with the instance locked. Required. */
    uint64_t (*now_ns)(void *ctx);
    /* sockets_deadline() is earlier now than when the driver last asked: a call wrote, opened or
     * closed something, or began to wait. Called with the instance locked, z is its stack; it may
     * drive z here and now, or only wake its thread. May be NULL. */
    void (*kick)(void *ctx, struct zest *z);
    /* A call can't go on until something happens. NULL: the thread sleeps until sockets_unlock()
     * wakes it, so some other thread has to drive. Else this drives z itself, in the calling
     * thread, with the instance locked: until something has happened, or until_ns. -errno makes the
     * call fail with it: -EDEADLK, for one, where nothing can ever happen any more. */
    int (*wait)(void *ctx, struct zest *z, uint64_t until_ns);
};

struct sockets_config {
    struct zest_config stack;
    struct sockets_driver driver;
    int first_fd;     /* lowest descriptor */
    uint32_t max_fds; /* 0 = 1024 */
    bool sigpipe;     /* writing to what is closed raises SIGPIPE, unless MSG_NOSIGNAL */
};

/* 0, -EINVAL, -ENOMEM, -ENOBUFS. */
SOCKETS_API int sockets_open(const struct sockets_config *cfg, struct sockets **out);
/* Drops all sockets and the stack; nothing is sent any more. Calls that wait fail with -EINTR
 * before it returns; nobody may begin another. */
SOCKETS_API void sockets_fini(struct sockets *s);

/* ---- driving it */

SOCKETS_API struct zest *sockets_lock(struct sockets *s);
SOCKETS_API void sockets_unlock(struct sockets *s);
/* When the stack, or the time-out of a call that waits, next needs the driver. Locked. */
SOCKETS_API uint64_t sockets_deadline(struct sockets *s);
/* For drivers whose time is not real: returns when every call that waits has looked at the present
 * state, so that time can move on without hurrying anyone. Returns how many waiting calls have
 * ended since it was asked last. Not locked. */
SOCKETS_API unsigned sockets_settle(struct sockets *s);
/* How many calls wait now. Not locked. */
SOCKETS_API unsigned sockets_waiting(struct sockets *s);

/* A thread that joins nif and the stack until sockets_stop_netif(). The instance is opened with
 * sockets_netif_driver() and the link's address and capabilities. */
struct sockets_netif;
SOCKETS_API int sockets_netif_new(struct netif *nif, struct sockets_netif **out);
SOCKETS_API struct sockets_driver sockets_netif_driver(struct sockets_netif *n);
SOCKETS_API int sockets_netif_start(struct sockets_netif *n, struct sockets *s);
/* Ends the thread and frees n; the instance can still be closed afterwards, not used. */
SOCKETS_API void sockets_netif_stop(struct sockets_netif *n);
/* -errno once the link is gone for good, which is also said on standard error; connections then end
 * by their own time-outs. 0 = it is there. */
SOCKETS_API int sockets_netif_error(const struct sockets_netif *n);

/* ---- the system calls */

static inline ssize_t sockets_errno(ssize_t ret)
{
    if (ret >= 0)
        return ret;
    errno = (int)-ret;
    return -1;
}

SOCKETS_API int sockets_socket(struct sockets *s, int domain, int type, int protocol);
SOCKETS_API int sockets_bind(struct sockets *s, int fd, const struct sockaddr *addr, socklen_t len);
SOCKETS_API int sockets_listen(struct sockets *s, int fd, int backlog);
/* flags: SOCK_NONBLOCK, SOCK_CLOEXEC. addr, len may be NULL. */
SOCKETS_API int sockets_accept(struct sockets *s, int fd, struct sockaddr *addr, socklen_t *len,
                               int flags);
SOCKETS_API int sockets_connect(struct sockets *s, int fd, const struct sockaddr *addr,
                                socklen_t len);
SOCKETS_API int sockets_shutdown(struct sockets *s, int fd, int how);
SOCKETS_API int sockets_close(struct sockets *s, int fd);
SOCKETS_API int sockets_getsockname(struct sockets *s, int fd, struct sockaddr *addr,
                                    socklen_t *len);
SOCKETS_API int sockets_getpeername(struct sockets *s, int fd, struct sockaddr *addr,
                                    socklen_t *len);

/* read, readv, recv and recvfrom are recvmsg with fewer words; likewise write and its kin. flags:
 * MSG_DONTWAIT MSG_PEEK MSG_WAITALL; MSG_DONTWAIT MSG_NOSIGNAL MSG_MORE. */
SOCKETS_API ssize_t sockets_recvmsg(struct sockets *s, int fd, struct msghdr *msg, int flags);
SOCKETS_API ssize_t sockets_recv(struct sockets *s, int fd, void *buf, size_t len, int flags);
SOCKETS_API ssize_t sockets_readv(struct sockets *s, int fd, const struct iovec *iov, int n);
SOCKETS_API ssize_t sockets_recvfrom(struct sockets *s, int fd, void *buf, size_t len, int flags,
                                     struct sockaddr *addr, socklen_t *addr_len);
SOCKETS_API ssize_t sockets_sendmsg(struct sockets *s, int fd, const struct msghdr *msg, int flags);
SOCKETS_API ssize_t sockets_send(struct sockets *s, int fd, const void *buf, size_t len, int flags);
SOCKETS_API ssize_t sockets_writev(struct sockets *s, int fd, const struct iovec *iov, int n);
SOCKETS_API ssize_t sockets_sendto(struct sockets *s, int fd, const void *buf, size_t len,
                                   int flags, const struct sockaddr *addr, socklen_t addr_len);

SOCKETS_API int sockets_setsockopt(struct sockets *s, int fd, int level, int name,
                                   const void *value, socklen_t len);
SOCKETS_API int sockets_getsockopt(struct sockets *s, int fd, int level, int name, void *value,
                                   socklen_t *len);
/* F_GETFL F_SETFL (O_NONBLOCK) F_GETFD F_SETFD F_DUPFD F_DUPFD_CLOEXEC */
SOCKETS_API int sockets_fcntl(struct sockets *s, int fd, int cmd, long arg);
/* FIONREAD FIONBIO SIOCOUTQ SIOCOUTQNSD */
SOCKETS_API int sockets_ioctl(struct sockets *s, int fd, unsigned long request, void *arg);

SOCKETS_API int sockets_poll(struct sockets *s, struct pollfd *fds, nfds_t n, int timeout_ms);
SOCKETS_API int sockets_epoll_create(struct sockets *s, int flags);
SOCKETS_API int sockets_epoll_ctl(struct sockets *s, int epfd, int op, int fd,
                                  const struct epoll_event *event);
SOCKETS_API int sockets_epoll_wait(struct sockets *s, int epfd, struct epoll_event *events, int max,
                                   int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
