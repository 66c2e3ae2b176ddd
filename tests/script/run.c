/* run.c - plays a script: moves the clock from event to event, timer by timer, brings what the
 * remote end sends, and compares what the stack sends with what is expected: flags, numbers,
 * window, options, bytes, and the time.
 *
 * Numbers: the remote end's are the script's own. The stack's begin where the script's first SYN
 * from it says (usually 0), and so do its timestamps. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "play.h"
#include "tests/lib/wire.h"

#define OUT_MAX  1024u
#define START_NS 1000000000ull
#define PATIENCE (4000ull * 1000000000) /* for `*` and for calls that wait */
#define MAC_STACK                                                                                  \
    {                                                                                              \
        2, 0, 0, 0, 0, 1                                                                           \
    }
#define MAC_PEER                                                                                   \
    {                                                                                              \
        2, 0, 0, 0, 0, 2                                                                           \
    }

/* What the stack has sent and the script has not yet spoken of. */
struct out {
    uint64_t at_ns;
    size_t len;
    uint8_t *frame;
};

struct play {
    struct run r;
    struct out out[OUT_MAX];
    unsigned head, tail;
    const struct script_event *waiting; /* a call that has not returned */
    bool returned;
    int64_t result;
    int error;
    uint64_t returned_ns;
    bool know_iss, know_ts, know_irs;
    uint32_t iss_delta; /* live = script + delta, of the stack's numbers */
    uint32_t ts_delta;
    uint32_t irs;
    uint64_t last_ns; /* when the last event was, as the script has it */
};

bool play_fail(struct run *r, const char *fmt, ...)
{
    if (!r->why[0]) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(r->why, sizeof r->why, fmt, ap);
        va_end(ap);
    }
    return false;
}

/* ---- the wire */

static void deliver(struct play *p, const uint8_t *frame, size_t len)
{
    struct zbuf *zb = zbuf_alloc(p->r.pool, len);
    if (!zb) {
        play_fail(&p->r, "no memory for a frame");
        return;
    }
    memcpy(zb->data, frame, len);
    zb->len = (uint32_t)len;
    zest_input(p->r.z, START_NS + p->r.now_ns, &zb, 1);
}

static void answer_arp(struct play *p, const struct wire *w)
{
    uint8_t buf[64];
    struct wire a = {.eth_dst = MAC_STACK,
                     .eth_src = MAC_PEER,
                     .arp_op = 2,
                     .arp_sha = MAC_PEER,
                     .arp_spa = w->arp_tpa,
                     .arp_tpa = w->arp_spa};
    if (w->arp_op == 1 && w->arp_tpa != PLAY_LOCAL_IP)
        deliver(p, buf, wire_build_arp(&a, buf));
}

static void keep(struct play *p, const uint8_t *frame, size_t len)
{
    if (p->tail - p->head == OUT_MAX) {
        play_fail(&p->r, "the stack sends without end");
        return;
    }
    struct out *o = &p->out[p->tail++ % OUT_MAX];
    *o = (struct out){.at_ns = p->r.now_ns, .len = len, .frame = malloc(len)};
    if (o->frame)
        memcpy(o->frame, frame, len);
}

static void events(struct play *p)
{
    struct zest_event ev[8];
    unsigned n;
    while ((n = zest_events(p->r.z, ev, 8)) > 0)
        for (unsigned i = 0; i < n; i++)
            call_event(&p->r, &ev[i]);
}

/* Tries again what waits. */
static void retry(struct play *p)
{
    if (!p->waiting || p->returned)
        return;
    if (call_do(&p->r, &p->waiting->call, &p->result, &p->error)) {
        p->returned = true;
        p->returned_ns = p->r.now_ns;
    }
}

/* Lets the stack send all that it has to send now. */
static void settle(struct play *p)
{
    static uint8_t buf[WIRE_MAX];
    struct zest_frame f[16];
    unsigned n;

    for (unsigned rounds = 0; rounds < 1000; rounds++) {
        events(p);
        retry(p);
        n = zest_output(p->r.z, START_NS + p->r.now_ns, f, 16);
        for (unsigned i = 0; i < n; i++) {
            struct wire w;
            const char *why;
            size_t len = wire_gather(p->r.pool, &f[i], buf, &why);
            if (!why)
                why = wire_parse(&w, buf, len);
            for (unsigned k = 0; k < f[i].n; k++)
                zbuf_tx_done(p->r.pool, f[i].seg[k].addr);
            if (why)
                play_fail(&p->r, "the stack sends a malformed frame: %s", why);
            else if (w.eth_type == 0x0806)
                answer_arp(p, &w);
            else
                keep(p, buf, len);
        }
        if (n == 0 && zest_deadline(p->r.z) > START_NS + p->r.now_ns)
            break;
    }
    events(p);
}

/* Moves the clock, at most to until_ns; stops early where the stack sends something. */
static void advance(struct play *p, uint64_t until_ns, bool stop_at_output)
{
    settle(p);
    while (p->r.now_ns < until_ns && !p->r.why[0] && !(stop_at_output && p->head != p->tail)) {
        uint64_t at = zest_deadline(p->r.z);
        at = at > START_NS ? at - START_NS : 0;
        if (at > until_ns)
            at = until_ns;
        if (at > p->r.now_ns)
            p->r.now_ns = at;
        settle(p);
    }
}

/* ---- numbers */

static uint32_t get32(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}
static void put32(uint8_t *b, uint32_t v)
{
    b[0] = (uint8_t)(v >> 24);
    b[1] = (uint8_t)(v >> 16);
    b[2] = (uint8_t)(v >> 8);
    b[3] = (uint8_t)v;
}

static uint64_t event_time(const struct play *p, const struct script_time *t, int64_t ns)
{
    return (t->relative ? p->last_ns : 0) + (uint64_t)ns;
}

/* ---- what comes in */

static void in_icmp(struct play *p, const struct script_packet *k)
{
    uint8_t buf[128], q[28] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6};
    q[2] = (uint8_t)((40 + k->len) >> 8);
    q[3] = (uint8_t)(40 + k->len);
    put32(q + 12, PLAY_LOCAL_IP);
    put32(q + 16, PLAY_REMOTE_IP);
    put32(q + 20, (uint32_t)p->r.local_port << 16 | p->r.remote_port);
    put32(q + 24, k->seq + p->iss_delta);
    struct wire w = {.eth_dst = MAC_STACK,
                     .eth_src = MAC_PEER,
                     .src = PLAY_GATEWAY_IP,
                     .dst = PLAY_LOCAL_IP,
                     .icmp_type = k->icmp_type,
                     .icmp_code = k->icmp_code,
                     .payload = q,
                     .payload_len = 28};
    deliver(p, buf, wire_build_icmp(&w, buf, k->mtu));
}

static void in(struct play *p, const struct script_packet *k)
{
    static uint8_t buf[WIRE_MAX], body[65536];
    if (k->icmp) {
        in_icmp(p, k);
        return;
    }
    if (k->flags & WIRE_SYN && !p->know_irs) {
        p->know_irs = true;
        p->irs = k->seq;
    }
    /* Options go in as raw bytes, and the data offset is put right afterwards. */
    uint32_t opt_len = (k->options_len + 3) / 4 * 4;
    memset(body, 1, 40);
    memcpy(body, k->options, k->options_len);
    if (k->ts_at >= 0 && get32(k->options + k->ts_at + 4) != 0)
        put32(body + k->ts_at + 4, get32(k->options + k->ts_at + 4) + p->ts_delta);
    uint32_t first = k->seq - p->irs - 1 + (k->flags & WIRE_SYN ? 1 : 0);
    for (uint32_t i = 0; i < k->len; i++)
        body[opt_len + i] = play_byte(first + i);
    struct wire w = {.eth_dst = MAC_STACK,
                     .eth_src = MAC_PEER,
                     .src = PLAY_REMOTE_IP,
                     .dst = PLAY_LOCAL_IP,
                     .sport = p->r.remote_port,
                     .dport = p->r.local_port,
                     .flags = k->flags,
                     .seq = k->seq,
                     .ack = k->has_ack ? k->ack + p->iss_delta : 0,
                     .wnd = k->has_win ? k->win : 0,
                     .urg = k->urg,
                     .payload = body,
                     .payload_len = opt_len + k->len};
    size_t len = wire_build_tcp(&w, buf);
    buf[14 + 20 + 12] = (uint8_t)((20 + opt_len) / 4 << 4);
    wire_fix_checksums(buf, len);
    deliver(p, buf, len);
}

/* ---- what is expected */

static bool same_options(struct play *p, const struct script_packet *k, const uint8_t *tcp)
{
    uint32_t len = (tcp[12] >> 4) * 4u - 20;
    uint8_t live[40];
    if (k->any_options)
        return true;
    memcpy(live, tcp + 20, len);
    if (len != k->options_len)
        return play_fail(&p->r, "%u bytes of options, %u expected", len, k->options_len);
    if (k->ts_at >= 0 && live[k->ts_at - 2] == 8) {
        uint32_t val = get32(live + k->ts_at), want = get32(k->options + k->ts_at);
        if (!p->know_ts)
            p->ts_delta = val - want;
        p->know_ts = true;
        uint32_t off = val - p->ts_delta - want,
                 may = (uint32_t)(p->r.script->tolerance_ns / 1000000);
        if (off + may > 2 * may)
            return play_fail(&p->r, "TS val is %u", val - p->ts_delta);
        put32(live + k->ts_at, want);
    }
    if (memcmp(live, k->options, len) != 0) {
        char text[200] = "";
        size_t n = 0;
        for (uint32_t i = 0; i < len; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, " %02x", live[i]);
        return play_fail(&p->r, "the options are%s", text);
    }
    return true;
}

static bool same_segment(struct play *p, const struct script_packet *k, const struct wire *w,
                         const uint8_t *frame)
{
    if (w->proto != 6)
        return play_fail(&p->r, "not a TCP segment");
    if (w->flags & WIRE_SYN) {
        p->iss_delta = w->seq - k->seq;
        p->know_iss = true;
    }
    if (!p->r.local_port)
        p->r.local_port = w->sport;
    uint32_t seq = w->seq - p->iss_delta;
    if (w->flags != k->flags)
        return play_fail(&p->r, "the flags are wrong");
    if (seq != k->seq)
        return play_fail(&p->r, "the sequence number is %u", seq);
    if (w->payload_len != k->len)
        return play_fail(&p->r, "the length is %u", w->payload_len);
    if (k->has_ack && w->ack != k->ack)
        return play_fail(&p->r, "the acknowledgment is %u", w->ack);
    if (k->has_win && w->wnd != k->win)
        return play_fail(&p->r, "the window is %u", w->wnd);
    if (w->urg != k->urg)
        return play_fail(&p->r, "the urgent pointer is %u", w->urg);
    uint32_t first = seq - 1 + (w->flags & WIRE_SYN ? 1 : 0);
    for (uint32_t i = 0; i < w->payload_len; i++)
        if (w->payload[i] != play_byte(first + i))
            return play_fail(&p->r, "byte %u of the stream is wrong", first + i);
    return same_options(p, k, frame + 34);
}

static bool in_time(struct play *p, const struct script_time *t, uint64_t actual_ns)
{
    uint64_t tol = p->r.script->tolerance_ns;
    uint64_t from = event_time(p, t, t->from_ns);
    uint64_t to = t->range ? event_time(p, t, t->to_ns) : from;
    if (t->any || (actual_ns + tol >= from && actual_ns <= to + tol))
        return true;
    return play_fail(&p->r, "at %.6f s, and not at %.6f s", (double)actual_ns / 1e9,
                     (double)from / 1e9);
}

static void describe(struct play *p, const struct out *o)
{
    char text[300];
    size_t n = strlen(p->r.why);
    snprintf(p->r.why + n, sizeof p->r.why - n, "\n    sent at %.6f s: %s", (double)o->at_ns / 1e9,
             wire_text(o->frame, o->len, text, sizeof text));
}

static bool out(struct play *p, const struct script_event *e)
{
    uint64_t tol = p->r.script->tolerance_ns;
    uint64_t latest = e->at.any
                          ? p->r.now_ns + PATIENCE
                          : event_time(p, &e->at, e->at.range ? e->at.to_ns : e->at.from_ns) + tol;
    advance(p, latest, true);
    if (p->r.why[0])
        return false;
    if (p->head == p->tail)
        return play_fail(&p->r, "nothing was sent by %.6f s", (double)p->r.now_ns / 1e9);
    struct out *o = &p->out[p->head++ % OUT_MAX];
    struct wire w;
    (void)wire_parse(&w, o->frame, o->len);
    bool ok = same_segment(p, &e->packet, &w, o->frame) && in_time(p, &e->at, o->at_ns);
    if (!ok)
        describe(p, o);
    p->last_ns = e->at.any || e->at.range ? o->at_ns : event_time(p, &e->at, e->at.from_ns);
    free(o->frame);
    return ok;
}

/* ---- calls */

static bool check_result(struct play *p, const struct script_event *e)
{
    const struct script_call *c = &e->call;
    if (c->has_result && (p->result != c->result || (c->error && c->error != p->error)))
        return play_fail(&p->r, "%s() returned %lld %s", c->name, (long long)p->result,
                         script_errno_name(p->error));
    return call_outputs_match(&p->r, c);
}

/* A call that waited has to have returned by the time that its line says. */
static bool finish_waiting(struct play *p, bool at_the_end)
{
    const struct script_event *e = p->waiting;
    if (!e)
        return true;
    uint64_t tol = p->r.script->tolerance_ns;
    uint64_t want = (uint64_t)e->until.from_ns; /* made absolute when it began */
    if (!p->returned && at_the_end)
        advance(p, e->until.any ? p->r.now_ns + PATIENCE : want + tol, false);
    if (!p->returned)
        return play_fail(&p->r, "line %u: %s() has not returned", e->line, e->call.name);
    p->waiting = NULL;
    if (!e->until.any && (p->returned_ns + tol < want || p->returned_ns > want + tol))
        return play_fail(&p->r, "line %u: %s() returned at %.6f s", e->line, e->call.name,
                         (double)p->returned_ns / 1e9);
    return check_result(p, e);
}

static bool do_call(struct play *p, struct script_event *e)
{
    if (!finish_waiting(p, false))
        return false;
    p->r.blocked_since_ns = p->r.now_ns;
    if (call_do(&p->r, &e->call, &p->result, &p->error)) {
        bool ok = !e->blocking || play_fail(&p->r, "%s() returned at once", e->call.name);
        settle(p);
        return ok && check_result(p, e);
    }
    if (!e->blocking)
        return play_fail(&p->r, "%s() waits", e->call.name);
    if (!e->until.any && e->until.relative) {
        e->until.from_ns += (int64_t)p->last_ns;
        e->until.relative = false;
    }
    p->waiting = e;
    p->returned = false;
    settle(p);
    return true;
}

/* ---- the whole */

static bool step(struct play *p, struct script_event *e)
{
    if (e->kind == EVENT_OUT)
        return out(p, e);
    uint64_t at = e->at.any ? p->r.now_ns : event_time(p, &e->at, e->at.from_ns);
    if (at < p->r.now_ns && p->r.now_ns - at > p->r.script->tolerance_ns)
        return play_fail(&p->r, "the clock is at %.6f s already", (double)p->r.now_ns / 1e9);
    advance(p, at, false);
    p->last_ns = at;
    if (p->r.why[0])
        return false;
    switch (e->kind) {
    case EVENT_IN:
        in(p, &e->packet);
        settle(p);
        break;
    case EVENT_CALL:
        return do_call(p, e);
    default:
        return code_run(&p->r, e->code);
    }
    return !p->r.why[0];
}

static bool start(struct play *p, const struct script *s)
{
    static const uint8_t mac[6] = MAC_STACK;
    struct zest_config cfg = s->cfg;
    p->r = (struct run){.script = s, .current = -1, .remote_port = PLAY_PORT};
    p->r.pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 32u << 20, .no_huge = true});
    if (!p->r.pool)
        return false;
    cfg.pool = p->r.pool;
    memcpy(cfg.mac, mac, 6);
    zest_addr_parse(&cfg.ip, "192.168.0.1", 0);
    zest_addr_parse(&cfg.gateway, "192.168.0.2", 0);
    cfg.prefix_len = 16;
    memcpy(cfg.secret, "packet scripts ", 15);
    size_t size = zest_size(&cfg);
    void *mem = size ? aligned_alloc(64, (size + 63) & ~(size_t)63) : NULL;
    return mem && zest_init(mem, &cfg, &p->r.z) == 0;
}

static bool finish(struct play *p, bool ok)
{
    if (ok && !finish_waiting(p, true))
        ok = false;
    settle(p);
    if (ok && p->head != p->tail) {
        ok = play_fail(&p->r, "something was sent that the script does not expect");
        describe(p, &p->out[p->head % OUT_MAX]);
    }
    while (p->head != p->tail)
        free(p->out[p->head++ % OUT_MAX].frame);
    for (unsigned i = 0; i < SCRIPT_FDS; i++)
        if (p->r.fd[i].view.addr)
            zest_release(p->r.z, p->r.fd[i].handle, &p->r.fd[i].view, 1);
    zest_fini(p->r.z);
    free(p->r.z);
    struct zbuf_pool_stat st;
    zbuf_pool_stat(p->r.pool, &st);
    if (st.live != 0)
        ok =
            play_fail(&p->r, "%llu segments are not back in the pool", (unsigned long long)st.live);
    if (zbuf_pool_destroy(p->r.pool) != 0)
        ok = play_fail(&p->r, "the pool can't be destroyed");
    return ok;
}

bool script_play(struct run *r, const struct script *s)
{
    struct play *p = calloc(1, sizeof *p);
    bool ok = true;
    char why[sizeof r->why];
    if (!p || !start(p, s))
        abort();
    for (struct script_event *e = s->first; e && ok; e = e->next) {
        ok = step(p, e) && !p->r.why[0];
        if (!ok) {
            memcpy(why, p->r.why, sizeof why);
            snprintf(p->r.why, sizeof p->r.why, "%s:%u: %.900s", s->path, e->line, why);
        }
    }
    ok = finish(p, ok);
    memcpy(r->why, p->r.why, sizeof r->why);
    free(p);
    return ok;
}
