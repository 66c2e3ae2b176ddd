/* urgent.c - urgent data as socket programs know it from Linux.
 *
 * TCP has a mark in the stream (RFC 9293 3.8.5); the stack reads everything in line and says where
 * the mark is. Programs expect one byte of it, the one before the pointer, apart from the rest:
 * `mark` is its place in the stream, counted as `at` is, the place where the program reads.
 *
 *   - A read that begins before the mark ends there, however much there is behind it.
 *   - A read that begins at the mark leaves the byte out; recv(MSG_OOB) fetches it, once. With
 *     SO_OOBINLINE it is read like any other, and MSG_OOB has nothing.
 *   - When the mark moves on, the byte that it leaves behind is an ordinary one again, unless the
 *     program was just there: then it is dropped.
 *   - POLLPRI is there from the byte's arrival until it is fetched or passed. */
#include <signal.h>

#include "sock.h"

/* True if the byte at the mark is the next, and not for reading. */
static bool before_hidden(const struct sock *k)
{
    return k->oob != OOB_NONE && k->at == k->mark && !k->opt.oob_inline;
}

size_t urgent_skip(const struct sock *k)
{
    return before_hidden(k) ? 1 : 0;
}

size_t urgent_limit(const struct sock *k)
{
    return k->oob != OOB_NONE && k->at < k->mark ? k->mark - k->at : SIZE_MAX;
}

void urgent_passed(struct sock *k)
{
    if (k->oob != OOB_NONE && k->at > k->mark)
        k->oob = OOB_NONE;
}

static void tell_owner(const struct sock *k)
{
    if (k->owner)
        (void)kill(k->owner, SIGURG);
}

void urgent_heard(struct sockets *s, struct sock *k)
{
    struct zest_conn_info i;

    if (zest_conn_info(s->z, k->handle, &i) < 0 || i.urgent_end <= k->at ||
        (k->oob != OOB_NONE && i.urgent_end - 1 <= k->mark))
        return;
    if (before_hidden(k))
        (void)read_drop(s, k, 1);
    k->mark = i.urgent_end - 1;
    k->oob = OOB_PENDING;
    tell_owner(k);
}

bool urgent_pending(struct sockets *s, const struct sock *k)
{
    return k->oob == OOB_PENDING && unread_bytes(s, k) > k->mark - k->at;
}

bool urgent_at_mark(const struct sock *k)
{
    return k->oob != OOB_NONE && k->at == k->mark;
}

ssize_t urgent_recv(struct sockets *s, struct sock *k, int flags, uint8_t *byte)
{
    if (k->opt.oob_inline || k->oob != OOB_PENDING)
        return -EINVAL;
    if (!peek_byte(s, k, k->mark - k->at, byte))
        return k->eof || k->dead || k->shut_rd ? 0 : -EAGAIN; /* it is still under way */
    if (!(flags & MSG_PEEK))
        k->oob = OOB_READ;
    return 1;
}
