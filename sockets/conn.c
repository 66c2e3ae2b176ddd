/* conn.c - opening, accepting, ending: bind listen accept connect shutdown, and names.
 *
 * A connection that ended keeps its handle until close() or another connect(), for the bytes that
 * are still to be read. Its error is told once, as SO_ERROR is; after that reads find the end of
 * the stream, and writes EPIPE. */
#include "sock.h"

int take_error(struct sock *k)
{
    int e = k->error;

    k->error = 0;
    return -e;
}

void drop_views(struct sockets *s, struct sock *k)
{
    if (k->views)
        (void)zest_release(s->z, k->handle, k->view + k->view_first, k->views);
    k->views = k->view_first = 0;
    k->view_off = 0;
}

void let_go(struct sockets *s, struct sock *k, bool abort)
{
    /* What lies half read here is not read: the peer is told, as if it still lay in the stack. */
    bool unread = k->views > 0;

    drop_views(s, k);
    if (k->handle && k->kind != SOCK_LISTENER && (abort || unread))
        (void)zest_abort(s->z, k->handle);
    else if (k->handle)
        (void)zest_close(s->z, k->handle);
    k->handle = 0;
}

/* As new, but for its name and options. */
static void disconnect(struct sockets *s, struct sock *k)
{
    let_go(s, k, true);
    k->kind = SOCK_FRESH;
    k->remote = (struct zest_addr){0};
    k->error = 0;
    k->in_progress = k->dead = k->acceptable = k->readable = k->eof = k->full = k->starved = false;
    k->shut_rd = k->shut_wr = k->more = false;
    k->at = 0;
    k->oob = OOB_NONE;
    k->edges++;
    changed(s);
}

/* ---- names */

static bool is_any(const struct zest_addr *a)
{
    static const uint8_t zero[16], mapped[16] = {[10] = 0xff, [11] = 0xff};

    return memcmp(a->ip, zero, 16) == 0 || memcmp(a->ip, mapped, 16) == 0;
}

/* Linux's rule: a port is shared by sockets that all say SO_REUSEADDR and don't listen. */
static bool port_taken(const struct sockets *s, const struct sock *for_k, uint16_t port)
{
    for (const struct sock *k = s->socks; k; k = k->next)
        if (k != for_k && k->local.port == port &&
            (k->kind == SOCK_LISTENER || !k->opt.reuse_addr || !for_k->opt.reuse_addr))
            return true;
    return false;
}

static int name_it(struct sockets *s, struct sock *k, struct zest_addr local)
{
    if (local.port && port_taken(s, k, local.port))
        return -EADDRINUSE;
    for (uint32_t i = 0; !local.port && i < SOCK_PORT_COUNT; i++) {
        uint16_t port = (uint16_t)(SOCK_PORT_FIRST + s->next_port++ % SOCK_PORT_COUNT);
        if (!port_taken(s, k, port))
            local.port = port;
    }
    if (!local.port)
        return -EADDRINUSE;
    k->local = local;
    return 0;
}

static int do_bind(struct sockets *s, struct sock *k, const struct sockaddr *addr, socklen_t len)
{
    struct zest_addr local;
    int err = addr_from_sockaddr(&local, k->domain, addr, len);

    if (err < 0)
        return err;
    if (k->kind != SOCK_FRESH || k->local.port)
        return -EINVAL;
    if (!is_any(&local) && memcmp(local.ip, s->cfg.stack.ip.ip, 16) != 0)
        return -EADDRNOTAVAIL;
    return name_it(s, k, local);
}

int sockets_bind(struct sockets *s, int fd, const struct sockaddr *addr, socklen_t len)
{
    int ret = 0;

    call_begin(s);
    struct sock *k = sock_get(s, fd, &ret);
    if (k) {
        ret = do_bind(s, k, addr, len);
        sock_put(s, k);
    }
    return (int)call_end(s, ret);
}

static int do_name(struct sockets *s, int fd, struct sockaddr *addr, socklen_t *len, bool peer)
{
    int ret = 0;

    if (!addr || !len)
        return -EFAULT;
    call_begin(s);
    struct sock *k = sock_get(s, fd, &ret);
    if (k) {
        if (peer && (k->kind != SOCK_CONNECTED || k->dead))
            ret = -ENOTCONN;
        else
            addr_to_sockaddr(peer ? &k->remote : &k->local, k->domain, addr, len);
        sock_put(s, k);
    }
    return (int)call_end(s, ret);
}

int sockets_getsockname(struct sockets *s, int fd, struct sockaddr *addr, socklen_t *len)
{
    return do_name(s, fd, addr, len, false);
}

int sockets_getpeername(struct sockets *s, int fd, struct sockaddr *addr, socklen_t *len)
{
    return do_name(s, fd, addr, len, true);
}

static void learn_names(struct sockets *s, struct sock *k)
{
    struct zest_conn_info info;

    if (zest_conn_info(s->z, k->handle, &info) < 0)
        return;
    k->local = info.local;
    k->remote = info.remote;
}

/* ---- passive */

static int do_listen(struct sockets *s, struct sock *k, int backlog)
{
    if (k->kind == SOCK_LISTENER)
        return 0; /* another backlog: the stack's stays */
    if (k->kind != SOCK_FRESH)
        return -EINVAL;
    if (k->dead) /* of a connection that failed */
        disconnect(s, k);
    if (!k->local.port) {
        int err = name_it(s, k, (struct zest_addr){0});
        if (err < 0)
            return err;
    }
    unsigned most =
        backlog < 0 || backlog > SOCK_BACKLOG_MAX ? SOCK_BACKLOG_MAX : (unsigned)backlog;
    int err = zest_listen(s->z, &k->local, most + 1, &k->handle); /* Linux takes one more, too */
    if (err < 0)
        return err;
    k->kind = SOCK_LISTENER;
    (void)zest_set_user(s->z, k->handle, k);
    options_apply(s, k);
    return 0;
}

int sockets_listen(struct sockets *s, int fd, int backlog)
{
    int ret = 0;

    call_begin(s);
    struct sock *k = sock_get(s, fd, &ret);
    if (k) {
        ret = do_listen(s, k, backlog);
        sock_put(s, k);
    }
    return (int)call_end(s, ret);
}

/* A descriptor first, so that with none left the connection goes on waiting. */
static int take_connection(struct sockets *s, struct sock *l, int flags, struct sock **out)
{
    if (!l->acceptable)
        return -EAGAIN;
    struct sock *k = sock_new(s, SOCK_CONNECTED, l->domain);
    if (!k)
        return -ENOMEM;
    int fd = fd_install(s, k, 0, flags & SOCK_CLOEXEC ? FD_CLOEXEC : 0);
    int err = fd < 0 ? fd : zest_accept(s->z, l->handle, &k->handle, NULL);
    l->acceptable = err == -EMFILE; /* the stack says it again if there are more */
    if (err < 0) {
        if (fd >= 0)
            *fd_slot(s, fd) = (struct fd_slot){0};
        sock_put(s, k);
        return err;
    }
    (void)zest_set_user(s->z, k->handle, k);
    k->nonblock = flags & SOCK_NONBLOCK;
    k->opt = l->opt;
    options_apply(s, k);
    learn_names(s, k);
    take_events(s);
    *out = k;
    return fd;
}

int sockets_accept(struct sockets *s, int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    struct waiter w;
    struct sock *k = NULL;
    int ret = 0;

    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
        return -EINVAL;
    if (addr && !len)
        return -EFAULT;
    call_begin(s);
    struct sock *l = sock_get(s, fd, &ret);
    if (!l)
        return (int)call_end(s, ret);
    wait_begin(s, &w, until_after(s, l->opt.rcv_timeout_ns));
    for (;;) {
        ret = l->kind == SOCK_LISTENER ? take_connection(s, l, flags, &k) : -EINVAL;
        if (ret != -EAGAIN || l->nonblock)
            break;
        int err = wait_more(s, &w);
        if (err < 0) {
            ret = err;
            break;
        }
    }
    wait_end(s, &w);
    if (ret >= 0)
        addr_to_sockaddr(&k->remote, k->domain, addr, len);
    sock_put(s, l);
    return (int)call_end(s, ret);
}

/* ---- active */

int connect_wait(struct sockets *s, struct sock *k, bool nonblock, uint64_t timeout_ns)
{
    struct waiter w;
    int err = 0;

    wait_begin(s, &w, until_after(s, timeout_ns));
    while (k->kind == SOCK_CONNECTING && err == 0)
        err = nonblock ? -EAGAIN : wait_more(s, &w);
    wait_end(s, &w);
    if (k->kind == SOCK_CONNECTING)
        return err;
    if (k->kind == SOCK_CONNECTED)
        return 0;
    return k->error ? take_error(k) : -ECONNABORTED;
}

static int start_connect(struct sockets *s, struct sock *k, const struct zest_addr *remote)
{
    if (k->handle)
        disconnect(s, k);
    int err = zest_connect(s->z, remote, k->local.port ? &k->local : NULL, &k->handle);
    if (err == -EINVAL)
        return -ENETUNREACH; /* an address that nobody can be at */
    if (err < 0)
        return err;
    k->kind = SOCK_CONNECTING;
    k->in_progress = true;
    (void)zest_set_user(s->z, k->handle, k);
    options_apply(s, k);
    learn_names(s, k);
    return 0;
}

static int do_connect(struct sockets *s, struct sock *k, const struct sockaddr *addr, socklen_t len)
{
    struct zest_addr remote;
    bool again = false;

    if (addr && len >= sizeof addr->sa_family && addr->sa_family == AF_UNSPEC) {
        disconnect(s, k);
        return 0;
    }
    int err = addr_from_sockaddr(&remote, k->domain, addr, len);
    if (err < 0)
        return err;
    switch (k->kind) {
    case SOCK_FRESH:
        if (k->in_progress) { /* what became of the one before */
            k->in_progress = false;
            return k->error ? take_error(k) : -ECONNABORTED;
        }
        err = start_connect(s, k, &remote);
        if (err < 0)
            return err;
        break;
    case SOCK_CONNECTING:
        again = true;
        break;
    case SOCK_CONNECTED:
        if (!k->in_progress)
            return -EISCONN;
        break;
    default:
        return -EISCONN;
    }
    err = connect_wait(s, k, k->nonblock, k->opt.snd_timeout_ns);
    if (err == -EAGAIN)
        return again ? -EALREADY : -EINPROGRESS;
    if (k->kind != SOCK_CONNECTING)
        k->in_progress = false;
    return err;
}

int sockets_connect(struct sockets *s, int fd, const struct sockaddr *addr, socklen_t len)
{
    int ret = 0;

    call_begin(s);
    struct sock *k = sock_get(s, fd, &ret);
    if (k) {
        ret = do_connect(s, k, addr, len);
        sock_put(s, k);
    }
    return (int)call_end(s, ret);
}

/* ---- ending */

static int do_shutdown(struct sockets *s, struct sock *k, int how)
{
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    switch (k->kind) {
    case SOCK_LISTENER:
        if (how != SHUT_WR)
            disconnect(s, k); /* it keeps its port */
        return 0;
    case SOCK_CONNECTING:
        disconnect(s, k);
        return 0;
    case SOCK_CONNECTED:
        break;
    default:
        return -ENOTCONN;
    }
    if (k->dead)
        return -ENOTCONN;
    if (how != SHUT_RD && !k->shut_wr) {
        (void)zest_shutdown(s->z, k->handle);
        k->shut_wr = true;
    }
    if (how != SHUT_WR)
        k->shut_rd = true;
    k->edges++;
    changed(s);
    return 0;
}

int sockets_shutdown(struct sockets *s, int fd, int how)
{
    int ret = 0;

    call_begin(s);
    struct sock *k = sock_get(s, fd, &ret);
    if (k) {
        ret = do_shutdown(s, k, how);
        sock_put(s, k);
    }
    return (int)call_end(s, ret);
}
