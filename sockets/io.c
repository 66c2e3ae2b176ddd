/* io.c - bytes in and out: the read and write families, and ioctl().
 *
 * Reading lends segments from the stack one at a time, copies out of them, and gives each back when
 * it is read to its end: the window opens as the program reads. A blocking write returns when all
 * is queued, as on Linux; what the send buffer has no room for waits here. */
#include <limits.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "sock.h"

/* A place in a list of buffers. */
struct cursor {
    const struct iovec *iov;
    size_t n;   /* that are left, the present one included */
    size_t off; /* in the present one */
};

static ssize_t iov_total(const struct iovec *iov, size_t n)
{
    size_t total = 0;

    if (n > IOV_MAX)
        return -EMSGSIZE;
    if (!iov && n)
        return -EFAULT;
    for (size_t i = 0; i < n; i++) {
        if (iov[i].iov_len > (size_t)SSIZE_MAX - total)
            return -EINVAL;
        if (!iov[i].iov_base && iov[i].iov_len)
            return -EFAULT;
        total += iov[i].iov_len;
    }
    return (ssize_t)total;
}

/* The contiguous bytes at the cursor; 0 at its end. */
static size_t cursor_here(struct cursor *c, uint8_t **at)
{
    while (c->n && c->off == c->iov->iov_len) {
        c->iov++;
        c->n--;
        c->off = 0;
    }
    if (!c->n)
        return 0;
    *at = (uint8_t *)c->iov->iov_base + c->off;
    return c->iov->iov_len - c->off;
}

static size_t copy_to(struct cursor *c, const uint8_t *src, size_t len)
{
    size_t done = 0, room;
    uint8_t *at;

    while (done < len && (room = cursor_here(c, &at)) > 0) {
        size_t n = len - done < room ? len - done : room;
        memcpy(at, src + done, n);
        c->off += n;
        done += n;
    }
    return done;
}

/* ---- in */

static struct zest_view *view_at(const struct sock *k, unsigned i)
{
    return &k->view[k->view_first + i];
}

static bool view_room(struct sock *k)
{
    if (k->view_first + k->views < k->view_room)
        return true;
    if (k->view_first > 0) {
        memmove(k->view, view_at(k, 0), k->views * sizeof *k->view);
        k->view_first = 0;
        return true;
    }
    unsigned room = k->view_room ? 2 * k->view_room : SOCK_VIEWS;
    struct zest_view *view = realloc(k->view, room * sizeof *view);
    if (!view)
        return false;
    k->view = view;
    k->view_room = room;
    return true;
}

/* Lends one more segment. False: there is none, or no place for it. */
static bool lend(struct sockets *s, struct sock *k)
{
    if (!k->handle || k->kind == SOCK_LISTENER || !view_room(k))
        return false;
    if (zest_read(s->z, k->handle, view_at(k, k->views), 1) == 1) {
        k->views++;
        return true;
    }
    k->readable = false;
    return false;
}

static void view_done(struct sockets *s, struct sock *k)
{
    (void)zest_release(s->z, k->handle, view_at(k, 0), 1);
    k->view_first = --k->views ? k->view_first + 1 : 0;
    k->view_off = 0;
}

/* n bytes of the first view have been read. */
static void view_read(struct sockets *s, struct sock *k, size_t n)
{
    k->view_off += (uint32_t)n;
    k->at += n;
    urgent_passed(k);
    if (k->view_off == view_at(k, 0)->len)
        view_done(s, k);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t read_drop(struct sockets *s, struct sock *k, size_t n)
{
    size_t done = 0;

    while (done < n && (k->views || lend(s, k))) {
        size_t here = min_size(n - done, view_at(k, 0)->len - k->view_off);
        view_read(s, k, here);
        done += here;
    }
    return done;
}

static size_t read_some(struct sockets *s, struct sock *k, struct cursor *dst)
{
    size_t done = 0;
    uint8_t *at;

    (void)read_drop(s, k, urgent_skip(k));
    size_t most = urgent_limit(k);
    while (done < most && cursor_here(dst, &at) > 0 && (k->views || lend(s, k))) {
        const struct zest_view *v = view_at(k, 0);
        size_t n = copy_to(dst, v->addr + k->view_off, min_size(v->len - k->view_off, most - done));
        view_read(s, k, n);
        done += n;
    }
    return done;
}

static size_t peek_some(struct sockets *s, struct sock *k, struct cursor dst)
{
    size_t done = 0, skip = urgent_skip(k), most = urgent_limit(k);
    uint8_t *at;

    for (unsigned i = 0; done < most && cursor_here(&dst, &at) > 0 && (i < k->views || lend(s, k));
         i++) {
        size_t off = i == 0 ? k->view_off : 0, len = view_at(k, i)->len - off;
        size_t over = min_size(skip, len);
        skip -= over;
        done += copy_to(&dst, view_at(k, i)->addr + off + over, min_size(len - over, most - done));
    }
    return done;
}

uint64_t unread_bytes(struct sockets *s, const struct sock *k)
{
    struct zest_conn_info i;
    uint64_t n = zest_conn_info(s->z, k->handle, &i) == 0 ? i.rcv_queued : 0;

    for (unsigned v = 0; v < k->views; v++)
        n += view_at(k, v)->len;
    return n - k->view_off;
}

bool peek_byte(struct sockets *s, struct sock *k, uint64_t off, uint8_t *byte)
{
    off += k->view_off;
    for (unsigned i = 0; i < k->views || lend(s, k); i++) {
        if (off < view_at(k, i)->len) {
            *byte = view_at(k, i)->addr[off];
            return true;
        }
        off -= view_at(k, i)->len;
    }
    return false;
}

static ssize_t do_recv(struct sockets *s, struct sock *k, const struct iovec *iov, size_t n,
                       size_t want, int flags)
{
    struct cursor dst = {iov, n, 0};
    struct waiter w;
    size_t done = 0;
    int err = 0;

    if (k->kind == SOCK_LISTENER || (k->kind == SOCK_FRESH && !k->dead && !k->error))
        return -ENOTCONN;
    if (want == 0)
        return 0;
    wait_begin(s, &w, until_after(s, k->opt.rcv_timeout_ns));
    for (;;) {
        done = flags & MSG_PEEK ? peek_some(s, k, dst) : done + read_some(s, k, &dst);
        if (done == want || (done && (!(flags & MSG_WAITALL) || urgent_at_mark(k))))
            break;
        if (k->error) {
            err = done ? 0 : take_error(k);
            break;
        }
        if (k->eof || k->dead || k->shut_rd)
            break;
        err = k->nonblock || flags & MSG_DONTWAIT ? -EAGAIN : wait_more(s, &w);
        if (err < 0)
            break;
    }
    wait_end(s, &w);
    return done ? (ssize_t)done : err;
}

/* The urgent byte; never waits. */
static ssize_t do_recv_oob(struct sockets *s, struct sock *k, const struct iovec *iov, size_t n,
                           int flags, int *said)
{
    struct cursor dst = {iov, n, 0};
    uint8_t byte, *at;
    ssize_t ret = urgent_recv(s, k, flags, &byte);

    if (ret <= 0)
        return ret;
    *said = MSG_OOB;
    if (cursor_here(&dst, &at) == 0) {
        *said |= MSG_TRUNC;
        return 0;
    }
    *at = byte;
    return 1;
}

ssize_t sockets_recvmsg(struct sockets *s, int fd, struct msghdr *msg, int flags)
{
    if (!msg)
        return -EFAULT;
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    ssize_t want = iov_total(msg->msg_iov, msg->msg_iovlen);
    if (want < 0)
        return want;
    int err = 0;
    ssize_t ret;
    call_begin(s);
    struct sock *k = sock_get(s, fd, &err);
    if (!k)
        return call_end(s, err);
    int said = 0;
    if (flags & MSG_OOB)
        ret = do_recv_oob(s, k, msg->msg_iov, msg->msg_iovlen, flags, &said);
    else
        ret = do_recv(s, k, msg->msg_iov, msg->msg_iovlen, (size_t)want, flags);
    sock_put(s, k);
    if (ret >= 0) {
        msg->msg_namelen = 0;
        msg->msg_controllen = 0;
        msg->msg_flags = said;
    }
    return call_end(s, ret);
}

ssize_t sockets_recv(struct sockets *s, int fd, void *buf, size_t len, int flags)
{
    struct iovec iov = {buf, len > SSIZE_MAX ? SSIZE_MAX : len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    return sockets_recvmsg(s, fd, &msg, flags);
}

ssize_t sockets_readv(struct sockets *s, int fd, const struct iovec *iov, int n)
{
    if (n < 0 || n > IOV_MAX)
        return -EINVAL;
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};

    return sockets_recvmsg(s, fd, &msg, 0);
}

ssize_t sockets_recvfrom(struct sockets *s, int fd, void *buf, size_t len, int flags,
                         struct sockaddr *addr, socklen_t *addr_len)
{
    ssize_t ret = sockets_recv(s, fd, buf, len, flags);

    if (ret >= 0 && addr && addr_len)
        *addr_len = 0; /* TCP names nobody */
    return ret;
}

/* ---- out */

static ssize_t broken_pipe(struct sockets *s, int flags)
{
    if (s->cfg.sigpipe && !(flags & MSG_NOSIGNAL))
        (void)raise(SIGPIPE);
    return -EPIPE;
}

/* What the stack takes now. 0: nothing (any more), and an event or a retry will follow. */
static ssize_t write_some(struct sockets *s, struct sock *k, struct cursor *src)
{
    size_t done = 0, len;
    uint8_t *at;

    while ((len = cursor_here(src, &at)) > 0) {
        ssize_t n = zest_write_copy(s->z, k->handle, at, len);
        if (n == -ENOBUFS)
            starve(s, k);
        else if (n == -EAGAIN || (n >= 0 && (size_t)n < len))
            k->full = true;
        else if (n < 0)
            return done ? (ssize_t)done : n;
        if (n > 0) {
            src->off += (size_t)n;
            done += (size_t)n;
        }
        if (n < 0 || (size_t)n < len)
            break;
    }
    return (ssize_t)done;
}

/* 0 if k can be written to. */
static int writable(struct sockets *s, struct sock *k, bool nonblock, int flags)
{
    if (k->kind == SOCK_CONNECTING) {
        int err = connect_wait(s, k, nonblock, k->opt.snd_timeout_ns);
        if (err < 0)
            return err;
    }
    if (k->error)
        return take_error(k);
    if (k->kind != SOCK_CONNECTED || k->dead || k->shut_wr)
        return (int)broken_pipe(s, flags);
    return 0;
}

/* MSG_MORE is a cork for as long as writes carry it. */
static void cork_for(struct sockets *s, struct sock *k, bool more)
{
    if (more == k->more || k->opt.cork)
        return;
    k->more = more;
    (void)zest_set_option(s->z, k->handle, ZEST_OPT_CORK, more);
}

static ssize_t do_send(struct sockets *s, struct sock *k, const struct iovec *iov, size_t n,
                       size_t want, int flags)
{
    bool nonblock = k->nonblock || flags & MSG_DONTWAIT;
    struct cursor src = {iov, n, 0};
    struct waiter w;
    size_t done = 0;
    ssize_t err = 0;

    wait_begin(s, &w, until_after(s, k->opt.snd_timeout_ns));
    for (;;) {
        if (done && (k->error || k->dead || k->shut_wr))
            break; /* the next call says why */
        err = writable(s, k, nonblock, flags);
        if (err < 0)
            break;
        if (flags & MSG_MORE)
            cork_for(s, k, true);
        err = write_some(s, k, &src);
        if (err < 0)
            break;
        if (err > 0 && flags & MSG_OOB)
            (void)zest_urgent(s->z, k->handle);
        done += (size_t)err;
        if (done == want)
            break;
        err = nonblock ? -EAGAIN : wait_more(s, &w);
        if (err < 0)
            break;
    }
    wait_end(s, &w);
    if (k->handle && !(flags & MSG_MORE))
        cork_for(s, k, false);
    return done ? (ssize_t)done : err;
}

ssize_t sockets_sendmsg(struct sockets *s, int fd, const struct msghdr *msg, int flags)
{
    if (!msg)
        return -EFAULT;
    ssize_t want = iov_total(msg->msg_iov, msg->msg_iovlen);
    if (want < 0)
        return want;
    int err = 0;
    call_begin(s);
    struct sock *k = sock_get(s, fd, &err);
    if (!k)
        return call_end(s, err);
    ssize_t ret = do_send(s, k, msg->msg_iov, msg->msg_iovlen, (size_t)want, flags);
    sock_put(s, k);
    return call_end(s, ret);
}

ssize_t sockets_send(struct sockets *s, int fd, const void *buf, size_t len, int flags)
{
    struct iovec iov = {(void *)buf, len > SSIZE_MAX ? SSIZE_MAX : len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    return sockets_sendmsg(s, fd, &msg, flags);
}

ssize_t sockets_writev(struct sockets *s, int fd, const struct iovec *iov, int n)
{
    if (n < 0 || n > IOV_MAX)
        return -EINVAL;
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};

    return sockets_sendmsg(s, fd, &msg, 0);
}

ssize_t sockets_sendto(struct sockets *s, int fd, const void *buf, size_t len, int flags,
                       const struct sockaddr *addr, socklen_t addr_len)
{
    (void)addr; /* a connection has but one peer: Linux looks at no other, either */
    (void)addr_len;
    return sockets_send(s, fd, buf, len, flags);
}

/* ---- counts */

static int queued(struct sockets *s, struct sock *k, unsigned long request)
{
    struct zest_conn_info i;
    uint64_t n;

    if (k->kind == SOCK_LISTENER)
        return -EINVAL;
    if (!k->handle || zest_conn_info(s->z, k->handle, &i) < 0)
        return 0;
    n = request == SIOCOUTQ ? i.snd_queued : i.snd_unsent;
    if (request == FIONREAD) {
        n = unread_bytes(s, k);
        if (k->oob != OOB_NONE && !k->opt.oob_inline && n > k->mark - k->at)
            n = k->mark - k->at; /* as on Linux */
    }
    return n > INT_MAX ? INT_MAX : (int)n;
}

int sockets_ioctl(struct sockets *s, int fd, unsigned long request, void *arg)
{
    int ret = 0;

    call_begin(s);
    struct sock *k = sock_get(s, fd, &ret);
    if (!k)
        return (int)call_end(s, ret);
    switch (request) {
    case FIONREAD:
    case SIOCOUTQ:
    case SIOCOUTQNSD:
        ret = arg ? queued(s, k, request) : -EFAULT;
        if (ret >= 0) {
            memcpy(arg, &ret, sizeof ret);
            ret = 0;
        }
        break;
    case SIOCATMARK:
        ret = !arg ? -EFAULT : k->kind == SOCK_LISTENER ? -EINVAL : urgent_at_mark(k);
        if (ret >= 0) {
            memcpy(arg, &ret, sizeof ret);
            ret = 0;
        }
        break;
    case FIONBIO:
        ret = arg ? 0 : -EFAULT;
        if (arg) {
            int on;
            memcpy(&on, arg, sizeof on);
            k->nonblock = on != 0;
        }
        break;
    default:
        ret = -ENOTTY;
    }
    sock_put(s, k);
    return (int)call_end(s, ret);
}
