/* talk_fuzz.c - fuzz target: whole conversations with a peer that knows what it is doing.
 *
 * The input is a program: segments whose sequence and acknowledgment numbers lie a little beside
 * those that the victim expects, time steps, ICMP errors, and API calls, in any order. Checksums
 * are always right. Every byte that the peer sends is a function of its sequence number, and every
 * byte that the victim's application writes one of its place in the stream, so what is read, and
 * what is sent, can be checked to the byte whatever overlaps, is cut or comes twice. */
#include "fuzz.h"

#include <errno.h>

#define CONNS 6u
#define SEGS  16u

static uint8_t peer_byte(uint32_t seq)
{
    return (uint8_t)(seq * 2654435761u >> 24);
}
static uint8_t our_byte(uint32_t at)
{
    return (uint8_t)((at + 77) * 2246822519u >> 24);
}

/* A connection as its two ports know it: even ones the peer opens, odd ones the victim. */
struct flow {
    uint16_t peer_port, port;
    zest_handle handle;
    bool used;         /* the handle is, or was, good */
    bool known;        /* the victim has sent a SYN: iss holds */
    uint32_t iss;      /* the victim's */
    uint32_t seq_max;  /* highest that the victim has sent */
    uint32_t rcv_nxt;  /* what it has acknowledged of ours */
    uint32_t start;    /* sequence number of our first byte, from its SYN and ACK */
    bool started;      /* start holds */
    bool unchecked;    /* something was read before that */
    uint32_t read_seq; /* of the next byte that the application reads */
    uint32_t written;
    uint32_t marked;     /* of what is written, up to there is urgent */
    uint64_t urgent_end; /* of the peer's, as last seen */
    struct zest_view lent[4];
    unsigned nlent;
};

static struct {
    struct host h;
    struct input in;
    uint64_t now_ns;
    zest_handle listener;
    struct flow flow[CONNS];
    struct zbuf *seg[SEGS]; /* that the application holds */
} t;

static struct flow *flow_of(uint16_t port, uint16_t peer_port)
{
    for (unsigned i = 0; i < CONNS; i++)
        if (t.flow[i].port == port && t.flow[i].peer_port == peer_port)
            return &t.flow[i];
    return NULL;
}

/* A connection that the victim opened sends its first ACK: where our stream begins follows from it
 * and from how much of it has arrived. */
static void find_start(struct flow *f, uint32_t ack)
{
    struct zest_conn_info info;
    if (f->started || f->port == 80 || zest_conn_info(t.h.z, f->handle, &info) != 0)
        return;
    bool fin = info.state == ZEST_CLOSE_WAIT || info.state == ZEST_LAST_ACK ||
               info.state == ZEST_CLOSING || info.state == ZEST_TIME_WAIT;
    f->start = f->read_seq = ack - (uint32_t)info.bytes_received - (fin ? 1 : 0);
    f->started = true;
}

/* A frame that the victim sends. */
static void heard(void *ctx, struct host *h, const uint8_t *frame, size_t len, const struct wire *w)
{
    (void)ctx, (void)h, (void)frame, (void)len;
    if (w->eth_type != 0x0800 || w->proto != 6)
        return;
    struct flow *f = flow_of(w->sport, w->dport);
    if (!f || w->flags & WIRE_RST)
        return;
    if (w->flags & WIRE_SYN) {
        if (!f->known || f->iss != w->seq)
            f->seq_max = w->seq + 1;
        f->known = true;
        f->iss = w->seq;
        if (w->flags & WIRE_ACK) {
            f->start = w->ack;
            if (f->port != 80) { /* simultaneous open */
                f->read_seq = f->start;
                f->started = true;
            }
        }
    }
    if (w->flags & WIRE_ACK) {
        f->rcv_nxt = w->ack;
        if (!(w->flags & WIRE_SYN))
            find_start(f, w->ack);
    }
    uint32_t at = w->seq - f->iss - 1;
    for (uint32_t i = 0; i < w->payload_len; i++)
        if (w->payload[i] != our_byte(at + i))
            die("byte %u of the victim's stream is wrong on the wire", at + i);
    uint32_t end = w->seq + w->payload_len + (w->flags & WIRE_FIN ? 1 : 0);
    if ((int32_t)(end - f->seq_max) > 0)
        f->seq_max = end;
    if (!(w->flags & WIRE_URG) && w->urg)
        die("the victim fills in an urgent pointer that does not count");
    if (f->used && w->flags & WIRE_URG && (w->urg == 0 || at + w->urg > f->marked))
        die("the victim points at %u, and the mark is at %u", at + w->urg, f->marked);
    if (f->used && w->payload_len && at + w->payload_len > f->written)
        die("the victim sends bytes that nobody wrote");
}

static void drain(unsigned max)
{
    host_drain(&t.h, t.now_ns, max, 1000000, heard, NULL);
}

/* ---- what the peer sends */

static uint32_t near(uint32_t base, uint8_t how)
{
    switch (how & 7) {
    case 0:
    case 1:
    case 2:
        return base;
    case 3:
        return base + 1;
    case 4:
        return base - 1;
    case 5:
        return base + take8(&t.in);
    case 6:
        return base + (uint32_t)(int16_t)take16(&t.in);
    default:
        return base + take32(&t.in);
    }
}

static void send_segment(void)
{
    static uint8_t body[9000], buf[WIRE_MAX];
    struct flow *f = &t.flow[take8(&t.in) % CONNS];
    uint8_t flags = take8(&t.in), how = take8(&t.in), opts = take8(&t.in);
    struct wire w = {.eth_src = {2, 0, 0, 0, 0, 2},
                     .src = PEER_IP,
                     .dst = VICTIM_IP,
                     .sport = f->peer_port,
                     .dport = f->port,
                     .flags = flags & 0x3f,
                     .wnd = how & 64 ? take16(&t.in) : 60000,
                     .seq = near(f->rcv_nxt, how),
                     .ack = near(f->seq_max, how >> 3)};
    memcpy(w.eth_dst, t.h.cfg.mac, 6);
    if (flags & WIRE_URG)
        w.urg = take16(&t.in);
    if (flags & 0x40)
        w.payload_len = take8(&t.in);
    else if (flags & 0x80)
        w.payload_len = take16(&t.in) % 4000;
    for (uint32_t i = 0; i < w.payload_len; i++)
        body[i] = peer_byte(w.seq + (w.flags & WIRE_SYN ? 1 : 0) + i);
    w.payload = body;
    if (opts & 1) {
        w.opt.has_ts = true;
        w.opt.ts_val = (uint32_t)(t.now_ns / 1000000) - (opts & 64 ? take8(&t.in) : 0);
        w.opt.ts_ecr = opts & 2 ? take32(&t.in) : 0;
    }
    if (opts & 4) {
        w.opt.has_mss = true;
        w.opt.mss = opts & 8 ? take16(&t.in) : 1460;
    }
    if (opts & 16) {
        w.opt.has_wscale = true;
        w.opt.wscale = take8(&t.in) % 20;
    }
    w.opt.sack_ok = opts & 32;
    if (opts & 128 && !(opts & 0x7c)) {
        w.opt.sacks = 1;
        w.opt.sack[0][0] = near(f->seq_max, take8(&t.in));
        w.opt.sack[0][1] = near(f->seq_max, take8(&t.in));
    }
    t.h.rx_cut = how >> 7 && how & 0x40 ? 1 + (how & 0x3f) * 16u : 0;
    host_receive(&t.h, t.now_ns, buf, wire_build_tcp(&w, buf), how >> 7 ? 32 : 0);
}

static void send_icmp(void)
{
    uint8_t quote[28] = {0x45, 0, 5, 220, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
    uint8_t buf[128], how = take8(&t.in);
    struct flow *f = &t.flow[take8(&t.in) % CONNS];
    uint32_t seq = near(f->seq_max - 1, how >> 4);
    for (unsigned i = 0; i < 2; i++) {
        quote[20 + i] = (uint8_t)(f->port >> (8 - 8 * i));
        quote[22 + i] = (uint8_t)(f->peer_port >> (8 - 8 * i));
    }
    for (unsigned i = 0; i < 4; i++)
        quote[24 + i] = (uint8_t)(seq >> (24 - 8 * i));
    struct wire w = {.eth_src = {2, 0, 0, 0, 0, 2},
                     .src = PEER_IP,
                     .dst = VICTIM_IP,
                     .icmp_type = how & 8 ? 11 : 3,
                     .icmp_code = how & 7,
                     .payload = quote,
                     .payload_len = 28};
    memcpy(w.eth_dst, t.h.cfg.mac, 6);
    t.h.rx_cut = how;
    host_receive(&t.h, t.now_ns, buf, wire_build_icmp(&w, buf, take16(&t.in)), 0);
}

/* ---- what the application does */

static void forget(struct flow *f)
{
    f->used = false;
    f->handle = 0;
}

static void do_accept(void)
{
    struct zest_addr peer;
    zest_handle h;
    if (zest_accept(t.h.z, t.listener, &h, &peer) != 0)
        return;
    struct flow *f = flow_of(80, peer.port);
    if (!f || f->used) { /* an older connection of these ports is still held: no model for this */
        zest_abort(t.h.z, h);
        return;
    }
    f->used = true;
    f->handle = h;
    f->read_seq = f->start;
    f->started = true;
    f->unchecked = false;
    f->written = f->marked = 0;
    f->urgent_end = 0;
}

static void do_connect(struct flow *f)
{
    struct zest_addr to = fuzz_addr(PEER_IP, f->peer_port), from = {.port = f->port};
    zest_handle h;
    if (f->used || zest_connect(t.h.z, &to, &from, &h) != 0)
        return;
    f->used = true;
    f->known = false;
    f->handle = h;
    f->started = f->unchecked = false;
    f->written = f->marked = 0;
    f->urgent_end = 0;
}

static void do_read(struct flow *f)
{
    unsigned max = 1 + take8(&t.in) % 4;
    struct zest_view v[4];
    int n = zest_read(t.h.z, f->handle, v, max);
    if (n <= 0 && n != -EAGAIN)
        return;
    for (int k = 0; k < n; k++) {
        if (!f->started) { /* read before anything was acknowledged: not to be checked */
            zest_release(t.h.z, f->handle, &v[k], 1);
            f->unchecked = true;
            continue;
        }
        for (uint32_t i = 0; i < v[k].len; i++, f->read_seq++)
            if (!f->unchecked && v[k].addr[i] != peer_byte(f->read_seq))
                die("the byte at sequence number %u is wrong", f->read_seq);
    }
    for (int k = 0; k < n && f->started; k++) {
        if (f->nlent < 4)
            f->lent[f->nlent++] = v[k];
        else
            zest_release(t.h.z, f->handle, &v[k], 1);
    }
}

static void do_release(struct flow *f)
{
    if (f->nlent == 0)
        return;
    unsigned i = take8(&t.in) % f->nlent;
    if (zest_release(t.h.z, f->handle, &f->lent[i], 1) != 0)
        die("zest_release() refuses a view");
    f->lent[i] = f->lent[--f->nlent];
}

static void do_write(struct flow *f)
{
    static uint8_t plain[20000];
    uint8_t how = take8(&t.in);
    uint32_t want = how & 1 ? take16(&t.in) % 20000 : take8(&t.in);
    uint32_t off = how & 2 ? take8(&t.in) : 0;
    ssize_t n;

    if (how & 4) {
        for (uint32_t i = 0; i < want; i++)
            plain[i] = our_byte(f->written + i);
        n = zest_write_copy(t.h.z, f->handle, plain, want);
    } else {
        struct zbuf **slot = &t.seg[how >> 3 & (SEGS - 1)];
        zbuf_free(*slot);
        *slot = zbuf_alloc(t.h.pool, want + off);
        if (!*slot)
            return;
        for (uint32_t i = 0; i < want; i++)
            (*slot)->data[off + i] = our_byte(f->written + i);
        uint32_t first = how & 128 ? want / 3 : want;
        n = zest_write(t.h.z, f->handle, (*slot)->data + off, first);
        if (n > 0 && (uint32_t)n == first && first < want) {
            ssize_t more = zest_write(t.h.z, f->handle, (*slot)->data + off + first, want - first);
            n += more > 0 ? more : 0;
        }
    }
    if (n > (ssize_t)want)
        die("a write took more than it was given");
    if (n > 0)
        f->written += (uint32_t)n;
    if (n > 0 && (how & 0x60) == 0x60) {
        if (zest_urgent(t.h.z, f->handle) != 0)
            die("zest_urgent() refuses what has just been written");
        f->marked = f->written;
    }
}

static void do_close(struct flow *f, bool abort_it)
{
    if (!f->used)
        return;
    int err = abort_it ? zest_abort(t.h.z, f->handle) : zest_close(t.h.z, f->handle);
    if (err != 0)
        die("closing a good handle: %d", err);
    if (zest_close(t.h.z, f->handle) != -EBADF)
        die("a closed handle is still good");
    while (f->nlent > 0)
        if (zest_release(t.h.z, f->handle, &f->lent[--f->nlent], 1) != 0)
            die("zest_release() refuses a view of a stale handle");
    forget(f);
}

static void api(uint8_t what)
{
    struct flow *f = &t.flow[take8(&t.in) % CONNS];
    switch (what) {
    case 0:
        do_accept();
        break;
    case 1:
        if (f->port != 80)
            do_connect(f);
        break;
    case 2:
    case 3:
        do_read(f);
        break;
    case 4:
        do_release(f);
        break;
    case 5:
    case 6:
        if (f->used)
            do_write(f);
        break;
    case 7:
        zest_shutdown(t.h.z, f->handle);
        break;
    case 8:
        do_close(f, false);
        break;
    case 9:
        do_close(f, true);
        break;
    case 10:
        zest_set_option(t.h.z, f->handle, take8(&t.in) % 9, take16(&t.in) >> take8(&t.in) % 16);
        break;
    default: {
        struct zest_event ev[4];
        unsigned n = zest_events(t.h.z, ev, 1 + take8(&t.in) % 4);
        for (unsigned i = 0; i < n; i++)
            if (ev[i].events == 0)
                die("an event that says nothing");
    }
    }
}

/* The mark never goes back, and never beyond what a segment in the window can name. */
static void check_urgent(struct flow *f)
{
    struct zest_conn_info i;
    if (!f->used || zest_conn_info(t.h.z, f->handle, &i) != 0)
        return;
    bool at_fin = i.urgent_end == i.bytes_received; /* it is cut there */
    if (i.bytes_read > i.bytes_received || (i.urgent_end < f->urgent_end && !at_fin) ||
        i.urgent_end > i.bytes_received + i.rcv_wnd + UINT16_MAX)
        die("urgent data ends at %llu; %llu bytes have come, %llu are read",
            (unsigned long long)i.urgent_end, (unsigned long long)i.bytes_received,
            (unsigned long long)i.bytes_read);
    f->urgent_end = i.urgent_end;
}

static void step(void)
{
    uint8_t op = take8(&t.in);
    if (op < 110) {
        send_segment();
    } else if (op < 120) {
        send_icmp();
    } else if (op < 140) {
        t.now_ns += take_time(&t.in);
        host_complete(&t.h, t.now_ns);
    } else if (op < 150) {
        uint64_t at = zest_deadline(t.h.z);
        if (at != ZEST_NEVER && at > t.now_ns)
            t.now_ns = at;
    } else if (op < 240) {
        t.h.dirty = true;
        api(op % 12);
    }
    drain(op & 1 ? UINT32_MAX : op >> 4 & 3);
    for (unsigned i = 0; i < CONNS; i++)
        check_urgent(&t.flow[i]);
    t.h.dirty |= !(op & 1); /* not all that there was has been asked for */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct zest_addr here = {.port = 80};

    memset(&t, 0, sizeof t);
    t.in = (struct input){data, size};
    t.now_ns = 1000000;
    fuzz_host(&t.h, &t.in, VICTIM_IP);
    zest_listen(t.h.z, &here, 3, &t.listener);
    for (uint16_t i = 0; i < CONNS; i++) {
        t.flow[i].port = i % 2 ? (uint16_t)(5000 + i) : 80;
        t.flow[i].peer_port = (uint16_t)(4000 + i);
        t.flow[i].rcv_nxt = 0xfffffff0u + i;
    }
    fuzz_introduce(&t.h, t.now_ns, PEER_IP);
    for (unsigned steps = 0; t.in.left > 0 && steps < 2000; steps++)
        step();

    for (unsigned i = 0; i < SEGS; i++)
        zbuf_free(t.seg[i]);
    for (unsigned i = 0; i < CONNS; i++)
        while (t.flow[i].nlent > 0)
            zest_release(t.h.z, t.flow[i].handle, &t.flow[i].lent[--t.flow[i].nlent], 1);
    host_fini(&t.h);
    fuzz_end();
    return 0;
}
