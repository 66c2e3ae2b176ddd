/* api_fuzz.c - fuzz target: API calls in any order, with any handle and any address, on two stacks
 * that talk to each other over a link that may lose frames.
 *
 * What must hold: a stale handle is always -EBADF; a call returns one of the errors that zest.h
 * names; and at the end every segment is home, whatever was left open. */
#include "fuzz.h"

#include <errno.h>

#define HANDLES 12u
#define VIEWS   16u
#define FRAMES  256u

struct frame {
    uint16_t len;
    uint8_t bytes[9100];
};

static struct {
    struct host h[2];
    struct input in;
    uint64_t now_ns;
    zest_handle handle[2][HANDLES]; /* whatever the calls gave, good or stale */
    bool closed[2][HANDLES];
    struct {
        unsigned side;
        zest_handle handle;
        struct zest_view view;
    } view[VIEWS];
    unsigned nviews;
    struct zbuf *seg[8];
    struct frame queue[2][FRAMES]; /* on their way to side i */
    unsigned head[2], tail[2];
} t;

static void fly(void *ctx, struct host *h, const uint8_t *frame, size_t len, const struct wire *w)
{
    (void)ctx, (void)w;
    unsigned to = h == &t.h[0] ? 1 : 0;
    if (t.tail[to] - t.head[to] == FRAMES || len > sizeof t.queue[0][0].bytes)
        return;
    struct frame *f = &t.queue[to][t.tail[to]++ % FRAMES];
    f->len = (uint16_t)len;
    memcpy(f->bytes, frame, len);
}

static void arrive(unsigned to, unsigned n)
{
    for (; n > 0 && t.head[to] != t.tail[to]; n--) {
        struct frame *f = &t.queue[to][t.head[to]++ % FRAMES];
        host_receive(&t.h[to], t.now_ns, f->bytes, f->len, 0);
    }
}

static bool is_known_error(long err)
{
    static const int known[] = {EBADF,      EINVAL,       EFAULT,        ENOTCONN,   EAGAIN,
                                ENOBUFS,    EPIPE,        ECONNRESET,    ETIMEDOUT,  ECONNREFUSED,
                                EADDRINUSE, EHOSTUNREACH, EADDRNOTAVAIL, ENETUNREACH};
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        if (err == -known[i])
            return true;
    return false;
}

/* The result of a call on handle slot i; on a stale one it must be -EBADF. */
static void result(unsigned s, unsigned i, long r)
{
    if (r < 0 && !is_known_error(r))
        die("a call returns %ld, which zest.h does not name", r);
    if ((t.closed[s][i] || t.handle[s][i] == 0) && r != -EBADF)
        die("a call on a stale handle returns %ld", r);
}

static void keep(unsigned s, zest_handle h)
{
    unsigned i = take8(&t.in) % HANDLES;
    if (t.handle[s][i] && !t.closed[s][i])
        zest_close(t.h[s].z, t.handle[s][i]);
    t.handle[s][i] = h;
    t.closed[s][i] = false;
}

static const void *any_address(uint32_t *len)
{
    static uint8_t elsewhere[64];
    uint8_t how = take8(&t.in);
    struct zbuf *zb = t.seg[how & 7];
    *len = how & 8 ? take16(&t.in) : take32(&t.in) % 200000;
    switch (how >> 5) {
    case 0:
        return elsewhere;
    case 1:
        return NULL;
    case 2: /* anywhere in the region, live or not, headers too */
        return zbuf_pool_base(fuzz_pool()) + take32(&t.in) % (zbuf_pool_size(fuzz_pool()) + 100);
    case 3:
        return zb ? zb->first + take16(&t.in) : NULL;
    default:
        if (zb && *len > zbuf_room(zb))
            *len = zbuf_room(zb);
        return zb ? zb->data : NULL;
    }
}

static void call(unsigned s, uint8_t what)
{
    struct zest *z = t.h[s].z;
    unsigned i = take8(&t.in) % HANDLES;
    zest_handle h = t.handle[s][i], out;
    struct zest_addr a = {.port = (uint16_t)(take8(&t.in) & 3)}, peer = fuzz_addr(t.h[!s].ip, 0);
    struct zest_event ev[4];
    struct zest_view v[5];
    struct zest_conn_info info;
    uint32_t len;
    const void *p;
    long r;

    switch (what) {
    case 0:
        if (zest_listen(z, &a, take8(&t.in) & 3, &out) == 0)
            keep(s, out);
        break;
    case 1:
    case 2:
        peer.port = a.port;
        if (zest_connect(z, &peer, take8(&t.in) & 1 ? &a : NULL, &out) == 0)
            keep(s, out);
        break;
    case 3:
        r = zest_accept(z, h, &out, &peer);
        result(s, i, r);
        if (r == 0)
            keep(s, out);
        break;
    case 4:
    case 5:
    case 6:
        p = any_address(&len);
        result(s, i, zest_write(z, h, p, len));
        break;
    case 7:
        if (t.seg[i & 7])
            result(s, i, zest_write_copy(z, h, t.seg[i & 7]->data, zbuf_room(t.seg[i & 7])));
        break;
    case 8:
    case 9:
        r = zest_read(z, h, v, 1 + take8(&t.in) % 5);
        result(s, i, r);
        for (int k = 0; k < r; k++) {
            if (t.nviews == VIEWS) {
                zest_release(z, h, &v[k], 1);
                continue;
            }
            t.view[t.nviews].side = s;
            t.view[t.nviews].handle = h;
            t.view[t.nviews++].view = v[k];
        }
        break;
    case 10:
        if (t.nviews) {
            unsigned k = take8(&t.in) % t.nviews;
            if (zest_release(t.h[t.view[k].side].z, t.view[k].handle, &t.view[k].view, 1) != 0)
                die("zest_release() refuses a view");
            t.view[k] = t.view[--t.nviews];
        }
        break;
    case 11:
        result(s, i, zest_shutdown(z, h));
        break;
    case 17:
        result(s, i, zest_urgent(z, h));
        break;
    case 12:
        r = take8(&t.in) & 1 ? zest_close(z, h) : zest_abort(z, h);
        if (r == 0)
            t.closed[s][i] = true;
        else
            result(s, i, r);
        break;
    case 13:
        result(s, i,
               zest_set_option(z, h, take8(&t.in) % (ZEST_OPT_SOFT_ERRORS + 1),
                               take32(&t.in) >> take8(&t.in) % 32));
        break;
    case 14:
        result(s, i, zest_conn_info(z, h, &info));
        result(s, i, zest_set_user(z, h, &t));
        break;
    case 15:
        zest_events(z, ev, take8(&t.in) % 5);
        break;
    default: {
        struct zbuf **slot = &t.seg[take8(&t.in) & 7];
        zbuf_free(*slot);
        *slot = take8(&t.in) & 1 ? zbuf_alloc(fuzz_pool(), take16(&t.in) * 2u) : NULL;
        if (*slot)
            memset((*slot)->data, 0x3c, zbuf_room(*slot));
    }
    }
    t.h[s].dirty = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t.in = (struct input){data, size};
    t.now_ns = 1;
    t.nviews = 0;
    memset(t.handle, 0, sizeof t.handle);
    memset(t.closed, 0, sizeof t.closed);
    memset(t.seg, 0, sizeof t.seg);
    memset(t.head, 0, sizeof t.head);
    memset(t.tail, 0, sizeof t.tail);
    fuzz_host(&t.h[0], &t.in, VICTIM_IP);
    fuzz_host(&t.h[1], &t.in, PEER_IP);
    for (unsigned steps = 0; t.in.left > 0 && steps < 3000; steps++) {
        uint8_t op = take8(&t.in);
        unsigned s = op & 1;
        if (op < 170) {
            call(s, op / 2 % 18);
        } else if (op < 180) {
            t.now_ns += take_time(&t.in);
        } else if (op < 190) { /* lost */
            t.head[s] = t.tail[s];
        }
        host_complete(&t.h[s], t.now_ns);
        host_drain(&t.h[s], t.now_ns, UINT32_MAX, 1000, fly, NULL);
        if (op >= 100)
            arrive(s, op & 6 ? FRAMES : 1);
        host_drain(&t.h[s], t.now_ns, UINT32_MAX, 1000, fly, NULL);
    }
    while (t.nviews--)
        zest_release(t.h[t.view[t.nviews].side].z, t.view[t.nviews].handle, &t.view[t.nviews].view,
                     1);
    for (unsigned i = 0; i < 8; i++)
        zbuf_free(t.seg[i]);
    host_fini(&t.h[0]);
    host_fini(&t.h[1]);
    fuzz_end();
    return 0;
}
