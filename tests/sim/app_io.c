/* app_io.c - an application reads and writes: in odd sizes, at its own pace, keeping views and its
 * own references for a while, by the public API alone. Every byte that is read is checked, and so
 * is what the stack says of urgent data. */
#include "app.h"

#include <errno.h>

#define HELD (sizeof((struct side *)0)->held / sizeof(struct zbuf *))
#define LENT (sizeof((struct side *)0)->lent / sizeof((struct side *)0)->lent[0])

bool may_fail_with(int error)
{
    return error == ECONNRESET || error == ETIMEDOUT || error == EPIPE || error == ECONNREFUSED ||
           error == EHOSTUNREACH || error == ENETUNREACH;
}

/* ---- reading */

static void release_view(struct side *s, unsigned i)
{
    struct zest_view v = s->lent[i].v;
    s->lent[i] = s->lent[--s->nlent];
    if (zest_release(stack_of(s), s->handle, &v, 1) != 0)
        die("zest_release() refuses a view");
}

void app_release(struct side *s, bool all)
{
    for (unsigned i = 0; i < s->nlent;) {
        if (all || s->lent[i].due_ns <= sim.now_ns)
            release_view(s, i);
        else
            i++;
    }
}

static void read_one(struct side *s, const struct zest_view *v)
{
    struct side *o = other(s);
    if (v->len == 0)
        die("an empty view");
    if (!s->conn->hostile) {
        if (!stream_is(o->key, s->read, v->addr, v->len))
            die("conn %u side %d reads wrong bytes at %llu or in the %u after it", s->conn->index,
                !s->client, (unsigned long long)s->read, v->len);
        if (s->read + v->len > o->written)
            die("conn %u side %d reads more than was written", s->conn->index, !s->client);
    }
    s->read += v->len;
    s->lent[s->nlent].v = *v;
    s->lent[s->nlent++].due_ns = sim.now_ns + (sim.calm ? 0 : s->hold_views_ns);
}

static void read_eof(struct side *s)
{
    struct side *o = other(s);
    if (!s->eof && !s->conn->hostile && (!(o->shut || o->done) || s->read != o->written))
        die("conn %u side %d: end of stream after %llu of %llu bytes", s->conn->index, !s->client,
            (unsigned long long)s->read, (unsigned long long)o->written);
    s->eof = true;
}

void app_check_urgent(struct side *s, bool told)
{
    struct side *o = other(s);
    struct zest_conn_info i;
    if (s->conn->hostile || zest_conn_info(stack_of(s), s->handle, &i) != 0 ||
        i.state == ZEST_CLOSED)
        return;
    if (i.bytes_read != s->read)
        die("conn %u side %d has read %llu bytes, and the stack says %llu", s->conn->index,
            !s->client, (unsigned long long)s->read, (unsigned long long)i.bytes_read);
    if (i.urgent_end > o->marked || (s->read >= o->marked && i.urgent_end != o->marked))
        die("conn %u side %d: urgent data ends at %llu, and the mark is at %llu", s->conn->index,
            !s->client, (unsigned long long)i.urgent_end, (unsigned long long)o->marked);
    if (told && i.urgent_end > i.bytes_read && i.urgent_end > s->heard)
        die("conn %u side %d: urgent data that no event told of", s->conn->index, !s->client);
}

void app_read(struct side *s)
{
    while (s->open && s->nlent < LENT && s->read_ns <= sim.now_ns) {
        struct zest_view v[4];
        unsigned max = 1 + (unsigned)rng_below(&s->rng, 4);
        if (max > LENT - s->nlent)
            max = (unsigned)(LENT - s->nlent);
        int n = zest_read(stack_of(s), s->handle, v, max);
        if (n == -EAGAIN)
            return;
        if (n < 0) { /* the event follows; what it says must be the same */
            if (!may_fail_with(-n) && n != -ENOTCONN)
                die("zest_read(): %d", n);
            return;
        }
        if (n == 0) {
            read_eof(s);
            return;
        }
        for (int i = 0; i < n; i++)
            read_one(s, &v[i]);
        app_release(s, false);
        if (sim.calm)
            continue;
        if (s->pause_ns && s->read >= s->pause_at) {
            count(F_read_pause);
            s->read_ns = sim.now_ns + s->pause_ns;
            s->pause_ns = 0;
        } else if (s->read_gap_ns) {
            s->read_ns = sim.now_ns + rng_below(&s->rng, 2 * s->read_gap_ns);
        }
    }
}

/* ---- writing */

void app_drop_buffers(struct side *s)
{
    zbuf_free(s->buf);
    s->buf = NULL;
    s->buf_left = 0;
    for (unsigned i = 0; i < HELD; i++) {
        zbuf_free(s->held[i]);
        s->held[i] = NULL;
    }
}

static struct zbuf *app_alloc(struct side *s, size_t bytes)
{
    starve_pause(false);
    struct zbuf *zb = zbuf_alloc(sim.node[s->node].h.pool, bytes);
    if (!zb) { /* less will do, and what is not needed any more is given back */
        s->write_ns = sim.now_ns + rng_range(&s->rng, MS, 50 * MS);
        s->most = bytes / 2 > 1000 ? (uint32_t)bytes / 2 : 1000;
        for (unsigned i = 0; i < HELD; i++) {
            zbuf_free(s->held[i]);
            s->held[i] = NULL;
        }
    }
    return zb;
}

/* Gets the next bytes ready in a zbuf: at its front, inside it, or as the first of several pieces.
 */
static bool next_buffer(struct side *s)
{
    uint64_t left = s->to_write - s->written;
    uint32_t n = (uint32_t)min2(left, rng_range(&s->rng, s->chunk_min, s->chunk_max));
    uint32_t off = 0, most = s->most ? s->most : ZBUF_SEG_MAX - ZBUF_OVERHEAD;

    if (s->style == 1)
        n = (uint32_t)min2(left, (uint64_t)n * 8);
    if (s->style == 2)
        off = (uint32_t)rng_range(&s->rng, 1, 100);
    if (n > most - off)
        n = most - off;
    s->buf = app_alloc(s, n + off);
    if (!s->buf)
        return false;
    s->buf_at = s->buf->data + off;
    s->buf_left = n;
    stream_fill(s->key, s->written, s->buf_at, n);
    return true;
}

/* Our own reference may go at once, or later. */
static void done_with_buffer(struct side *s)
{
    unsigned i = (unsigned)rng_below(&s->rng, 2 * HELD);
    if (i < HELD) {
        zbuf_free(s->held[i]);
        s->held[i] = s->buf;
    } else {
        zbuf_free(s->buf);
    }
    s->buf = NULL;
}

static ssize_t write_piece(struct side *s)
{
    if (s->style == 4) {
        static uint8_t plain[20000];
        size_t n = (size_t)min2(min2(s->to_write - s->written, sizeof plain),
                                rng_range(&s->rng, s->chunk_min, s->chunk_max));
        stream_fill(s->key, s->written, plain, n);
        ssize_t r = zest_write_copy(stack_of(s), s->handle, plain, n);
        if (r == -ENOBUFS) { /* the event is to come, and nothing else makes us try again */
            s->blocked = true;
            count(F_mem_told);
            if (sim.node[s->node].app_ns > sim.now_ns + 1)
                sim.node[s->node].app_ns = sim.now_ns + 1;
        }
        if (r > (ssize_t)n)
            die("zest_write_copy() took more than it was given");
        return r == (ssize_t)n || r < 0 ? r : (s->blocked = true, r);
    }
    if (!s->buf && !next_buffer(s))
        return -ENOBUFS;
    size_t n = s->buf_left;
    if (s->style == 1 && n > 1)
        n = rng_range(&s->rng, 1, n);
    ssize_t r = zest_write(stack_of(s), s->handle, s->buf_at, n);
    if (r > (ssize_t)n)
        die("zest_write() took more than it was given");
    if (r > 0) {
        s->buf_at += r;
        s->buf_left -= (uint32_t)r;
        if (r < (ssize_t)n)
            s->blocked = true;
        if (s->buf_left == 0)
            done_with_buffer(s);
    }
    return r;
}

void app_write(struct side *s)
{
    if (s->shut || s->blocked || (s->after_eof && !s->eof))
        return;
    for (unsigned turns = 0; s->written < s->to_write && s->write_ns <= sim.now_ns; turns++) {
        if (turns == 64) { /* others want their turn */
            s->write_ns = sim.now_ns + 1;
            return;
        }
        ssize_t r = write_piece(s);
        if (r == -EAGAIN) {
            s->blocked = true;
            return;
        }
        if (r == -ENOBUFS)
            return;
        if (r < 0) { /* the event says it, too */
            if (!may_fail_with((int)-r) && r != -ENOTCONN)
                die("a write returns %zd", r);
            s->blocked = true;
            return;
        }
        s->written += (uint64_t)r;
        if (sim.plan.urgent && rng_chance(&s->rng, 100000)) {
            if (zest_urgent(stack_of(s), s->handle) != 0)
                die("zest_urgent() refuses what has just been written");
            s->marked = s->written;
            count(F_urgent_sent);
        }
        if (s->blocked)
            return;
        if (s->write_gap_ns && !sim.calm)
            s->write_ns = sim.now_ns + rng_below(&s->rng, 2 * s->write_gap_ns);
    }
}
