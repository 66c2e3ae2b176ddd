/* api.c - the public calls that change a stack: each is noted, if a recorder is on, and handed on.
 *
 * The arguments are noted before the call is made, so that a recording ends with what the stack was
 * doing when an assertion failed; its results after it. Only what these functions are given and
 * what they return can be seen outside, so nothing else has to know of recordings. */
#include "record.h"
#include "stack.h"
#include "tcp_conn.h"

static int64_t end(struct zest *z, int64_t result)
{
    record_end(z->rec, result);
    if (record_turn_due(z->rec))
        record_turn(z);
    return result;
}

static void begin_conn(struct record *r, enum record_op op, zest_handle h)
{
    record_begin(r, op);
    record_u64(r, h);
}

/* ---- driving it */

void zest_input(struct zest *z, uint64_t now_ns, struct zbuf **frames, unsigned n)
{
    struct record *r = z->rec;

    if (!r) {
        stack_input(z, now_ns, frames, n);
        return;
    }
    record_begin(r, REC_INPUT);
    record_u64(r, now_ns);
    record_u32(r, n);
    for (unsigned i = 0; i < n; i++)
        record_frame_in(r, frames[i]);
    stack_input(z, now_ns, frames, n);
    end(z, 0);
}

unsigned zest_output(struct zest *z, uint64_t now_ns, struct zest_frame *out, unsigned max)
{
    struct record *r = z->rec;

    if (!r)
        return stack_output(z, now_ns, out, max);
    record_begin(r, REC_OUTPUT);
    record_u64(r, now_ns);
    record_u32(r, max);
    unsigned n = stack_output(z, now_ns, out, max);
    record_hash_frames(r, out, n);
    record_hash_u64(r, zest_deadline(z));
    end(z, n);
    return n;
}

unsigned zest_events(struct zest *z, struct zest_event *ev, unsigned max)
{
    struct record *r = z->rec;

    if (!r)
        return tcp_events(z, ev, max);
    record_begin(r, REC_EVENTS);
    record_u32(r, max);
    unsigned n = tcp_events(z, ev, max);
    record_hash_events(r, ev, n);
    end(z, n);
    return n;
}

void zest_link_up(struct zest *z, uint64_t now_ns, uint32_t mtu)
{
    struct record *r = z->rec;

    if (!r) {
        stack_link_up(z, now_ns, mtu);
        return;
    }
    record_begin(r, REC_LINK_UP);
    record_u64(r, now_ns);
    record_u32(r, mtu);
    stack_link_up(z, now_ns, mtu);
    record_hash_u64(r, zest_deadline(z));
    end(z, 0);
}

/* ---- opening */

/* The handle that a call has made, or 0. */
static zest_handle made(int rc, const zest_handle *out)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): without an out it has failed */
    return rc == 0 ? *out : 0;
}

int zest_listen(struct zest *z, const struct zest_addr *local, unsigned backlog, zest_handle *out)
{
    struct record *r = z->rec;

    if (!r)
        return tcp_listen(z, local, backlog, out);
    record_begin(r, REC_LISTEN);
    record_addr(r, local);
    record_u32(r, backlog);
    record_u32(r, out != NULL);
    int rc = tcp_listen(z, local, backlog, out);
    record_hash_u64(r, made(rc, out));
    return (int)end(z, rc);
}

int zest_accept(struct zest *z, zest_handle listener, zest_handle *out, struct zest_addr *peer)
{
    struct record *r = z->rec;
    struct zest_addr at = {.port = 0};

    if (!r)
        return tcp_accept(z, listener, out, peer);
    begin_conn(r, REC_ACCEPT, listener);
    record_u32(r, out != NULL);
    int rc = tcp_accept(z, listener, out, &at);
    if (rc == 0 && peer)
        *peer = at;
    record_hash_u64(r, made(rc, out));
    return (int)end(z, rc);
}

int zest_connect(struct zest *z, const struct zest_addr *remote, const struct zest_addr *local,
                 zest_handle *out)
{
    struct record *r = z->rec;

    if (!r)
        return tcp_connect(z, remote, local, out);
    record_begin(r, REC_CONNECT);
    record_addr(r, remote);
    record_addr(r, local);
    record_u32(r, out != NULL);
    int rc = tcp_connect(z, remote, local, out);
    record_hash_u64(r, made(rc, out));
    return (int)end(z, rc);
}

int zest_change_port(struct zest *z, zest_handle conn, uint16_t port)
{
    struct record *r = z->rec;

    if (!r)
        return tcp_change_port(z, conn, port);
    begin_conn(r, REC_CHANGE_PORT, conn);
    record_u32(r, port);
    return (int)end(z, tcp_change_port(z, conn, port));
}

/* ---- moving bytes */

ssize_t zest_write(struct zest *z, zest_handle conn, const void *addr, size_t len)
{
    struct record *r = z->rec;

    if (!r)
        return tcp_write(z, conn, addr, len);
    record_begin_write(r, z, conn, addr, len);
    return (ssize_t)end(z, tcp_write(z, conn, addr, len));
}

ssize_t zest_write_copy(struct zest *z, zest_handle conn, const void *addr, size_t len)
{
    struct record *r = z->rec;

    if (!r)
        return tcp_write_copy(z, conn, addr, len);
    begin_conn(r, REC_WRITE_COPY, conn);
    record_u32(r, addr != NULL);
    record_u64(r, len);
    return (ssize_t)end(z, tcp_write_copy(z, conn, addr, len));
}

int zest_urgent(struct zest *z, zest_handle conn)
{
    if (!z->rec)
        return tcp_urgent(z, conn);
    begin_conn(z->rec, REC_URGENT, conn);
    return (int)end(z, tcp_urgent(z, conn));
}

int zest_read(struct zest *z, zest_handle conn, struct zest_view *views, unsigned max)
{
    struct record *r = z->rec;

    if (!r)
        return tcp_read(z, conn, views, max);
    begin_conn(r, REC_READ, conn);
    record_u32(r, views ? max : 0);
    int n = tcp_read(z, conn, views, max);
    record_hash_views(r, z, views, n > 0 ? (unsigned)n : 0);
    return (int)end(z, n);
}

int zest_release(struct zest *z, zest_handle conn, const struct zest_view *views, unsigned n)
{
    struct record *r = z->rec;

    if (!r)
        return tcp_release(z, conn, views, n);
    begin_conn(r, REC_RELEASE, conn);
    record_u32(r, n);
    for (unsigned i = 0; i < n; i++)
        record_view(r, z, &views[i]);
    return (int)end(z, tcp_release(z, conn, views, n));
}

/* ---- closing and settings */

int zest_shutdown(struct zest *z, zest_handle conn)
{
    if (!z->rec)
        return tcp_shutdown(z, conn);
    begin_conn(z->rec, REC_SHUTDOWN, conn);
    return (int)end(z, tcp_shutdown(z, conn));
}

int zest_close(struct zest *z, zest_handle handle)
{
    if (!z->rec)
        return tcp_close(z, handle);
    begin_conn(z->rec, REC_CLOSE, handle);
    return (int)end(z, tcp_close(z, handle));
}

int zest_abort(struct zest *z, zest_handle conn)
{
    if (!z->rec)
        return tcp_abort(z, conn);
    begin_conn(z->rec, REC_ABORT, conn);
    return (int)end(z, tcp_abort(z, conn));
}

/* What it is set to comes back with events, and matters to the caller only. */
int zest_set_user(struct zest *z, zest_handle handle, void *user)
{
    if (!z->rec)
        return tcp_set_user(z, handle, user);
    begin_conn(z->rec, REC_SET_USER, handle);
    return (int)end(z, tcp_set_user(z, handle, user));
}

int zest_set_option(struct zest *z, zest_handle handle, enum zest_option opt, uint32_t value)
{
    if (!z->rec)
        return tcp_set_option(z, handle, opt, value);
    begin_conn(z->rec, REC_SET_OPTION, handle);
    record_u32(z->rec, (uint32_t)opt);
    record_u32(z->rec, value);
    return (int)end(z, tcp_set_option(z, handle, opt, value));
}
