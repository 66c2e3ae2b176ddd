/* calls.c - socket calls, as scripts make them, on the stack's own functions. Results and errors
 * are Linux's. Bytes are a function of their place in the stream, so what is read is checked. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "play.h"

uint8_t play_byte(uint64_t at)
{
    return (uint8_t)(at * 131 + (at >> 8) * 7 + 17);
}

static struct script_fd *fd_of(struct run *r, const struct script_call *c)
{
    int64_t n = c->nargs ? c->arg[0].number : -1;
    return n >= 0 && n < SCRIPT_FDS && r->fd[n].kind != FD_FREE ? &r->fd[n] : NULL;
}

static int64_t arg(const struct script_call *c, unsigned i)
{
    return i < c->nargs ? c->arg[i].number : 0;
}

/* [1] or 1 */
static int64_t first_of(const struct script_value *v, unsigned i)
{
    return v->kind == VALUE_LIST ? (i < v->n ? v->field[i].number : 0) : v->number;
}

static int new_fd(struct run *r)
{
    for (int i = 3; i < (int)SCRIPT_FDS; i++) {
        if (r->fd[i].kind == FD_FREE) {
            r->fd[i] = (struct script_fd){.kind = FD_NEW};
            return i;
        }
    }
    return -EMFILE;
}

/* ---- opening */

static struct zest_addr address(uint32_t ip, uint16_t port)
{
    struct zest_addr a = {.port = port};
    a.ip[10] = a.ip[11] = 0xff;
    for (unsigned i = 0; i < 4; i++)
        a.ip[12 + i] = (uint8_t)(ip >> (24 - 8 * i));
    return a;
}

static int64_t do_listen(struct run *r, struct script_fd *f, const struct script_call *c)
{
    struct zest_addr here = {.port = f->port ? f->port : PLAY_PORT};
    unsigned backlog = arg(c, 1) > 0 ? (unsigned)arg(c, 1) : 1;
    int err = zest_listen(r->z, &here, backlog, &f->handle);
    if (err == 0) {
        f->kind = FD_LISTENER;
        r->local_port = here.port;
    }
    return err;
}

static int64_t do_accept(struct run *r, struct script_fd *f)
{
    zest_handle h;
    if (f->kind != FD_LISTENER)
        return -EINVAL;
    int err = zest_accept(r->z, f->handle, &h, NULL);
    if (err < 0)
        return err;
    int n = new_fd(r);
    if (n < 0)
        return n;
    r->fd[n].kind = FD_CONN;
    r->fd[n].handle = h;
    r->fd[n].connected = true;
    r->current = n;
    return n;
}

static int64_t do_connect(struct run *r, struct script_fd *f)
{
    struct zest_addr there = address(PLAY_REMOTE_IP, PLAY_PORT), here = {.port = f->port};
    if (f->kind == FD_CONN) {
        if (f->connecting)
            return f->nonblocking ? -EALREADY : -EAGAIN;
        return f->error ? -f->error : f->nonblocking && f->connected ? -EISCONN : 0;
    }
    int err = zest_connect(r->z, &there, f->port ? &here : NULL, &f->handle);
    if (err < 0)
        return err;
    f->kind = FD_CONN;
    f->connecting = true;
    r->current = (int)(f - r->fd);
    return f->nonblocking ? -EINPROGRESS : -EAGAIN; /* the latter: it waits */
}

/* ---- bytes */

static int64_t do_read(struct run *r, struct script_fd *f, int64_t want)
{
    int64_t done = 0;
    if (f->kind != FD_CONN)
        return -ENOTCONN;
    while (done < want) {
        if (!f->view.addr) {
            int n = zest_read(r->z, f->handle, &f->view, 1);
            if (n == 0)
                return done;
            if (n < 0) {
                f->view.addr = NULL;
                if (done)
                    return done;
                if (n == -ECONNRESET || n == -ETIMEDOUT || n == -EPIPE)
                    f->error = 0; /* told now */
                return n;
            }
            f->view_at = 0;
        }
        for (; done < want && f->view_at < f->view.len; done++, f->read++)
            if (f->view.addr[f->view_at++] != play_byte(f->read))
                play_fail(r, "byte %llu of what was read is wrong", (unsigned long long)f->read);
        if (f->view_at == f->view.len) {
            zest_release(r->z, f->handle, &f->view, 1);
            f->view.addr = NULL;
        }
    }
    return done;
}

static int64_t write_piece(struct run *r, struct script_fd *f, uint32_t n)
{
    static uint8_t plain[65536];
    if (r->script->write_copy) {
        n = n < sizeof plain ? n : (uint32_t)sizeof plain;
        for (uint32_t i = 0; i < n; i++)
            plain[i] = play_byte(f->written + i);
        return zest_write_copy(r->z, f->handle, plain, n);
    }
    uint32_t most = ZBUF_SEG_MAX - ZBUF_OVERHEAD;
    struct zbuf *zb = zbuf_alloc(r->pool, n < most ? n : most);
    if (!zb)
        return -ENOBUFS;
    n = n < most ? n : most;
    for (uint32_t i = 0; i < n; i++)
        zb->data[i] = play_byte(f->written + i);
    int64_t got = zest_write(r->z, f->handle, zb->data, n);
    zbuf_free(zb);
    return got;
}

/* A blocking write returns when all is taken; what was taken so far is in f->taken. */
static int64_t do_write(struct run *r, struct script_fd *f, int64_t want, bool urgent)
{
    if (f->kind != FD_CONN)
        return -ENOTCONN;
    while (f->taken < want) {
        int64_t n = write_piece(r, f, (uint32_t)(want - f->taken));
        if (n < 0) {
            if (n == -EAGAIN && !f->nonblocking)
                return -EAGAIN;
            int64_t taken = f->taken;
            f->taken = 0;
            return taken ? taken : n;
        }
        if (urgent && zest_urgent(r->z, f->handle) != 0)
            play_fail(r, "what was just written can't be marked as urgent");
        f->taken += n;
        f->written += (uint64_t)n;
    }
    f->taken = 0;
    return want;
}

/* ---- options */

static int64_t set_option(struct run *r, struct script_fd *f, const struct script_call *c)
{
    int64_t level = arg(c, 1), opt = arg(c, 2), v = c->nargs > 3 ? first_of(&c->arg[3], 0) : 0;
    enum zest_option o = ZEST_OPT_NODELAY;
    uint32_t n = (uint32_t)v;

    if (level == SOL_SOCKET && opt == SO_REUSEADDR)
        return 0;
    if (level == SOL_SOCKET && opt == SO_LINGER) {
        f->linger0 = v && first_of(&c->arg[3], 1) == 0;
        return 0;
    }
    if (level == SOL_SOCKET && opt == SO_KEEPALIVE) {
        f->keep_on = v;
        o = ZEST_OPT_KEEPALIVE;
        n = v ? (f->keep_idle ? f->keep_idle : 7200) : 0;
    } else if (level == SOL_SOCKET && opt == SO_SNDBUF) {
        o = ZEST_OPT_SND_BUF;
    } else if (level == SOL_SOCKET && opt == SO_RCVBUF) {
        o = ZEST_OPT_RCV_BUF;
    } else if (level == IPPROTO_TCP && opt == TCP_NODELAY) {
        o = ZEST_OPT_NODELAY;
    } else if (level == IPPROTO_TCP && opt == TCP_CORK) {
        o = ZEST_OPT_CORK;
    } else if (level == IPPROTO_TCP && opt == TCP_KEEPIDLE) {
        f->keep_idle = n;
        if (!f->keep_on)
            return 0;
        o = ZEST_OPT_KEEPALIVE;
    } else if (level == IPPROTO_TCP && opt == TCP_KEEPINTVL) {
        o = ZEST_OPT_KEEPINTVL;
    } else if (level == IPPROTO_TCP && opt == TCP_KEEPCNT) {
        o = ZEST_OPT_KEEPCNT;
    } else if (level == IPPROTO_TCP && opt == TCP_USER_TIMEOUT) {
        o = ZEST_OPT_USER_TIMEOUT;
    } else {
        return -ENOTSUP;
    }
    if (f->kind == FD_NEW) { /* applied as soon as there is a handle */
        if (f->npending == SCRIPT_PENDING)
            return -ENOBUFS;
        f->pending[f->npending].opt = o;
        f->pending[f->npending++].value = n;
        return 0;
    }
    return zest_set_option(r->z, f->handle, o, n);
}

static void apply_options(struct run *r, struct script_fd *f)
{
    for (unsigned i = 0; i < f->npending; i++)
        if (zest_set_option(r->z, f->handle, f->pending[i].opt, f->pending[i].value) != 0)
            play_fail(r, "an option set before the socket was opened is refused now");
    f->npending = 0;
}

static int64_t get_option(struct script_fd *f, const struct script_call *c, int64_t *out)
{
    if (arg(c, 1) != SOL_SOCKET || arg(c, 2) != SO_ERROR)
        return -ENOTSUP;
    *out = f->error;
    f->error = 0;
    return 0;
}

/* ---- readiness */

static int64_t ready(struct run *r, const struct script_fd *f)
{
    struct zest_conn_info i;
    int64_t e = 0;
    if (f->kind == FD_LISTENER)
        return f->events & ZEST_EV_ACCEPT ? POLLIN : 0;
    if (f->kind != FD_CONN || zest_conn_info(r->z, f->handle, &i) != 0)
        return POLLHUP | POLLOUT;
    if (i.rcv_queued || f->view.addr || f->eof)
        e |= POLLIN;
    if (i.urgent_end > f->read && i.urgent_end <= i.bytes_received)
        e |= POLLPRI; /* the last urgent byte is here, and not read yet */
    if (f->eof)
        e |= POLLRDHUP;
    if (f->error)
        e |= POLLERR | POLLIN | POLLOUT;
    if (i.state == ZEST_CLOSED)
        e |= POLLHUP | POLLIN | POLLOUT;
    if (f->connected && !(f->events & PLAY_BLOCKED))
        e |= POLLOUT;
    return e;
}

static int64_t do_poll(struct run *r, const struct script_call *c)
{
    int64_t timeout_ms = arg(c, 2), hits = 0;
    const struct script_value *v = &c->arg[0];
    r->nrevents = 0;
    for (unsigned i = 0; i + 1 < v->n; i += 3) {
        int64_t n = v->field[i].number, want = v->field[i + 1].number;
        int64_t got = POLLNVAL;
        if (n >= 0 && n < SCRIPT_FDS && r->fd[n].kind != FD_FREE)
            got = ready(r, &r->fd[n]) & (want | POLLERR | POLLHUP);
        r->revents[r->nrevents++] = got;
        hits += got != 0;
    }
    if (hits || timeout_ms == 0)
        return hits;
    if (timeout_ms > 0 && r->now_ns >= r->blocked_since_ns + (uint64_t)timeout_ms * 1000000)
        return 0;
    return -EAGAIN; /* waits */
}

/* ---- closing */

static int64_t do_close(struct run *r, struct script_fd *f)
{
    int err = 0;
    if (f->view.addr)
        zest_release(r->z, f->handle, &f->view, 1);
    if (f->kind == FD_CONN && f->linger0)
        err = zest_abort(r->z, f->handle);
    else if (f->kind != FD_NEW)
        err = zest_close(r->z, f->handle);
    memset(f, 0, sizeof *f);
    return err;
}

static int64_t do_shutdown(struct run *r, struct script_fd *f, int64_t how)
{
    if (f->kind != FD_CONN)
        return -ENOTCONN;
    return how == SHUT_WR ? zest_shutdown(r->z, f->handle) : -ENOTSUP;
}

static int64_t do_fcntl(struct script_fd *f, const struct script_call *c)
{
    if (arg(c, 1) == F_GETFL)
        return O_RDWR | (f->nonblocking ? O_NONBLOCK : 0);
    if (arg(c, 1) != F_SETFL)
        return -ENOTSUP;
    f->nonblocking = arg(c, 2) & O_NONBLOCK;
    return 0;
}

/* ---- one call */

/* -EAGAIN of a blocking descriptor means that the call waits. */
static int64_t dispatch(struct run *r, const struct script_call *c, struct script_fd *f)
{
    const char *n = c->name;
    if (strcmp(n, "bind") == 0)
        return f->port = PLAY_PORT, 0;
    if (strcmp(n, "listen") == 0)
        return do_listen(r, f, c);
    if (strcmp(n, "accept") == 0)
        return do_accept(r, f);
    if (strcmp(n, "connect") == 0)
        return do_connect(r, f);
    if (strcmp(n, "read") == 0 || strcmp(n, "recv") == 0 || strcmp(n, "recvfrom") == 0)
        return do_read(r, f, arg(c, 2));
    if (strcmp(n, "write") == 0 || strcmp(n, "send") == 0 || strcmp(n, "sendto") == 0)
        return do_write(r, f, arg(c, 2), c->nargs > 3 && arg(c, 3) & MSG_OOB);
    if (strcmp(n, "shutdown") == 0)
        return do_shutdown(r, f, arg(c, 1));
    if (strcmp(n, "close") == 0)
        return do_close(r, f);
    if (strcmp(n, "fcntl") == 0)
        return do_fcntl(f, c);
    if (strcmp(n, "setsockopt") == 0)
        return set_option(r, f, c);
    if (strcmp(n, "getsockopt") == 0)
        return get_option(f, c, &r->option);
    play_fail(r, "%s() is not known", n);
    return -ENOTSUP;
}

bool call_do(struct run *r, const struct script_call *c, int64_t *result, int *error)
{
    int64_t v;
    bool waits = false;

    if (strcmp(c->name, "socket") == 0) {
        v = new_fd(r);
    } else if (strcmp(c->name, "poll") == 0) {
        v = do_poll(r, c);
        waits = v == -EAGAIN;
    } else {
        struct script_fd *f = fd_of(r, c);
        bool nonblocking = f && (f->nonblocking || (arg(c, 3) & MSG_DONTWAIT && c->nargs == 4));
        v = f ? dispatch(r, c, f) : -EBADF;
        waits = v == -EAGAIN && !nonblocking;
        if (f && f->handle)
            apply_options(r, f);
    }
    if (waits)
        return false;
    *error = v < 0 ? (int)-v : 0;
    *result = v < 0 ? -1 : v;
    return true;
}

bool call_outputs_match(struct run *r, const struct script_call *c)
{
    if (strcmp(c->name, "getsockopt") == 0 && c->nargs > 3 && c->arg[3].kind != VALUE_ANY &&
        first_of(&c->arg[3], 0) != r->option)
        return play_fail(r, "the option is %lld (%s)", (long long)r->option,
                         script_errno_name((int)r->option));
    if (strcmp(c->name, "poll") == 0) {
        const struct script_value *v = &c->arg[0];
        for (unsigned i = 0; i + 2 < v->n; i += 3)
            if (v->field[i + 2].number != r->revents[i / 3])
                return play_fail(r, "revents of %lld is 0x%llx", (long long)v->field[i].number,
                                 (unsigned long long)r->revents[i / 3]);
    }
    return true;
}

void call_event(struct run *r, const struct zest_event *e)
{
    for (unsigned i = 0; i < SCRIPT_FDS; i++) {
        struct script_fd *f = &r->fd[i];
        if (f->kind == FD_FREE || f->handle != e->handle)
            continue;
        f->events |= e->events & ZEST_EV_ACCEPT;
        if (e->events & ZEST_EV_CONNECTED) {
            f->connecting = false;
            f->connected = true;
        }
        if (e->events & ZEST_EV_ERROR) {
            f->connecting = false;
            f->error = e->error;
        }
        f->eof |= (e->events & ZEST_EV_EOF) != 0;
    }
}
