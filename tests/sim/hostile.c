/* hostile.c - a node that is no stack of ours, and means harm.
 *
 * As a peer it opens real connections, acknowledges like an honest one most of the time, and now
 * and then does one of the things that this world has drawn for it: divides ACKs, acknowledges what
 * it has not got, takes windows back, sends overlapping, old and odd segments. As a stranger on the
 * link it forges packets between the others, who must not care: it does not see their sequence
 * numbers. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define PEERS   8u
#define MEMORY  8u
#define MSS     1460u
#define PING_ID 0x7a650000u

struct peer {
    enum { PEER_IDLE, PEER_SYN_SENT, PEER_OPEN, PEER_DEAD } phase;
    unsigned victim;
    uint16_t port, victim_port, wnd;
    uint32_t seq, iss; /* of our next byte */
    uint32_t acked;    /* what the victim has acknowledged */
    uint32_t ack;      /* what we have got in order */
    uint32_t heard;    /* highest that it has sent */
    bool ts;
    uint32_t ts_ecr;
    uint64_t start_ns;
    uint8_t memory[MEMORY][1600];
    size_t memory_len[MEMORY];
};

static struct {
    struct rng rng;
    struct peer peer[PEERS];
    unsigned peers;
    uint64_t next_ns;
    bool vanished;
} hostile;

static bool does(enum sim_fault f)
{
    return sim.plan.mischief >> f & 1;
}

static void put(unsigned to, const uint8_t *frame, size_t len)
{
    char text[300];
    if (sim.verbose)
        sim_say("hostile sends %s", wire_text(frame, len, text, sizeof text));
    if (sim.pcap)
        pcap_write(sim.pcap, sim.now_ns, frame, len);
    if (!sim.net.down)
        net_put(HOSTILE, to, frame, len, sim.plan.delay_ns);
}

static struct wire blank(const struct peer *p)
{
    struct wire w = {.src = sim.node[HOSTILE].ip,
                     .dst = sim.node[p->victim].ip,
                     .sport = p->port,
                     .dport = p->victim_port,
                     .flags = WIRE_ACK,
                     .seq = p->seq,
                     .ack = p->ack,
                     .wnd = p->wnd};
    memcpy(w.eth_dst, sim.node[p->victim].mac, 6);
    memcpy(w.eth_src, sim.node[HOSTILE].mac, 6);
    if (p->ts) {
        w.opt.has_ts = true;
        w.opt.ts_val = (uint32_t)(sim.now_ns / MS);
        w.opt.ts_ecr = p->ts_ecr;
    }
    return w;
}

static void say(struct peer *p, const struct wire *w)
{
    static uint8_t buf[WIRE_MAX];
    size_t len = wire_build_tcp(w, buf);
    unsigned i = (unsigned)rng_below(&hostile.rng, MEMORY);
    if (len <= sizeof p->memory[0]) {
        memcpy(p->memory[i], buf, len);
        p->memory_len[i] = len;
    }
    put(p->victim, buf, len);
}

static void honest_ack(struct peer *p)
{
    struct wire w = blank(p);
    say(p, &w);
}

/* ---- mischief on a connection */

static uint32_t random_below(uint32_t n)
{
    return (uint32_t)rng_below(&hostile.rng, n);
}

static void send_bytes(struct peer *p, uint32_t seq, uint32_t len, uint8_t flags)
{
    uint8_t body[1460];
    for (uint32_t i = 0; i < len; i++)
        body[i] = (uint8_t)rng_next(&hostile.rng);
    struct wire w = blank(p);
    w.seq = seq;
    w.flags = flags;
    w.payload = body;
    w.payload_len = len;
    w.urg = flags & WIRE_URG ? (uint16_t)rng_next(&hostile.rng) : 0;
    say(p, &w);
}

static void odd_options(struct peer *p)
{
    uint8_t body[40], buf[256];
    uint32_t n = 4 * random_below(11);
    for (uint32_t i = 0; i < n; i++)
        body[i] = random_below(3) ? (uint8_t)random_below(10) : (uint8_t)rng_next(&hostile.rng);
    struct wire w = blank(p);
    w.opt.has_ts = false;
    w.payload = body;
    w.payload_len = n;
    size_t len = wire_build_tcp(&w, buf);
    buf[14 + 20 + 12] = (uint8_t)((20 + n) / 4 << 4);
    wire_fix_checksums(buf, len);
    put(p->victim, buf, len);
}

static void acks(struct peer *p, enum sim_fault f)
{
    struct wire w = blank(p);
    uint32_t n = 1 + random_below(20);
    switch (f) {
    case F_ack_division:
        for (uint32_t i = 0; i < n; i++) {
            w.ack = p->ack - n + 1 + i;
            say(p, &w);
        }
        break;
    case F_optimistic_ack:
        w.ack = p->heard + (random_below(4) ? 0 : random_below(100000));
        say(p, &w);
        break;
    case F_dup_acks:
        for (uint32_t i = 0; i < n; i++)
            say(p, &w);
        break;
    case F_window_shrunk:
        p->wnd = (uint16_t)random_below(p->wnd + 1u);
        w.wnd = p->wnd;
        say(p, &w);
        break;
    case F_window_zero:
        p->wnd = p->wnd ? 0 : (uint16_t)random_below(65536);
        w.wnd = p->wnd;
        say(p, &w);
        break;
    default: /* F_sack_lie */
        w.opt.sacks = (uint8_t)(1 + random_below(3));
        for (uint32_t i = 0; i < w.opt.sacks; i++) {
            w.opt.sack[i][0] = p->ack + random_below(100000) - 20000;
            w.opt.sack[i][1] = w.opt.sack[i][0] + random_below(5000) - 500;
        }
        say(p, &w);
    }
}

static void segments(struct peer *p, enum sim_fault f)
{
    uint32_t len = random_below(MSS + 1);
    uint8_t flags;
    switch (f) {
    case F_old_segment: {
        unsigned i = random_below(MEMORY);
        if (p->memory_len[i])
            put(p->victim, p->memory[i], p->memory_len[i]);
        break;
    }
    case F_overlap:
        send_bytes(p, p->acked + random_below(6000) - 2000, len, WIRE_ACK);
        break;
    case F_silly_data:
        for (uint32_t i = 0; i < 10; i++)
            send_bytes(p, p->seq++, 1, WIRE_ACK | WIRE_PSH);
        break;
    case F_odd_flags:
        flags = (uint8_t)random_below(64);
        len = random_below(3) ? 0 : len;
        send_bytes(p, p->seq + random_below(5) - 2, len, flags);
        break;
    case F_urgent:
        send_bytes(p, p->seq, len, WIRE_ACK | WIRE_URG);
        p->seq += len;
        break;
    case F_hostile_fin:
        send_bytes(p, p->seq + random_below(3000), 0, WIRE_ACK | WIRE_FIN);
        break;
    default: /* F_hostile_rst */
        flags = WIRE_RST | (random_below(2) ? WIRE_ACK : 0);
        send_bytes(p, random_below(3) ? p->acked + random_below(2000) : p->acked, 0, flags);
    }
}

/* ---- forging */

static uint16_t server_port(const struct conn *c)
{
    return sim.plan.simultaneous && c->index == 0 ? PORT + 1 : PORT;
}

static void forge_between(enum sim_fault f)
{
    const struct conn *c = &sim.conn[random_below(sim.plan.conns)];
    unsigned k = random_below(2);
    const struct side *from = &c->side[k], *to = &c->side[!k];
    uint8_t buf[600], body[500];
    struct wire w = {.src = sim.node[from->node].ip,
                     .dst = sim.node[to->node].ip,
                     .sport = k == 0 ? c->port : server_port(c),
                     .dport = k == 0 ? server_port(c) : c->port,
                     .flags = WIRE_ACK};
    w.seq = (uint32_t)rng_next(&hostile.rng);
    w.ack = (uint32_t)rng_next(&hostile.rng);
    w.wnd = (uint16_t)rng_next(&hostile.rng);
    memcpy(w.eth_dst, sim.node[to->node].mac, 6);
    memcpy(w.eth_src, sim.node[HOSTILE].mac, 6);
    if (f == F_blind_rst)
        w.flags = WIRE_RST;
    if (f == F_blind_syn)
        w.flags = WIRE_SYN;
    if (f == F_blind_data) {
        memset(body, 0x66, sizeof body);
        w.payload = body;
        w.payload_len = random_below(sizeof body);
    }
    /* A SYN for a connection that is not there yet would be believed, as it should be. */
    if (f == F_blind_syn && !(from->open && to->open))
        return;
    put(to->node, buf, wire_build_tcp(&w, buf));
}

/* An error about a segment of theirs, with the right ports and a guessed sequence number. */
static void forge_icmp(void)
{
    const struct conn *c = &sim.conn[random_below(sim.plan.conns)];
    unsigned k = random_below(2);
    const struct side *to = &c->side[k], *o = &c->side[!k];
    uint8_t buf[128], quote[28] = {0x45, 0, 5, 220, 0, 0, 0x40, 0, 64, 6};
    uint32_t seq = (uint32_t)rng_next(&hostile.rng);
    uint16_t port[2] = {k == 0 ? c->port : server_port(c), k == 0 ? server_port(c) : c->port};
    for (unsigned i = 0; i < 4; i++) {
        quote[12 + i] = (uint8_t)(sim.node[to->node].ip >> (24 - 8 * i));
        quote[16 + i] = (uint8_t)(sim.node[o->node].ip >> (24 - 8 * i));
        quote[24 + i] = (uint8_t)(seq >> (24 - 8 * i));
        quote[20 + i] = (uint8_t)(port[i / 2] >> (8 - 8 * (i % 2)));
    }
    struct wire w = {.src = sim.node[HOSTILE].ip,
                     .dst = sim.node[to->node].ip,
                     .payload = quote,
                     .payload_len = 28};
    w.icmp_type = random_below(2) ? 3 : 11;
    w.icmp_code = (uint8_t)random_below(6);
    memcpy(w.eth_dst, sim.node[to->node].mac, 6);
    memcpy(w.eth_src, sim.node[HOSTILE].mac, 6);
    put(to->node, buf, wire_build_icmp(&w, buf, random_below(2000)));
}

static void syn_flood(void)
{
    uint8_t buf[128];
    for (unsigned i = 0; i < 10; i++) {
        unsigned to = random_below(sim.plan.stacks);
        struct wire w = {.dst = sim.node[to].ip, .dport = PORT, .wnd = 1000, .flags = WIRE_SYN};
        w.src = 0x0a000064u + random_below(50);
        w.sport = (uint16_t)(1 + random_below(65535));
        w.seq = (uint32_t)rng_next(&hostile.rng);
        if (random_below(2)) /* from our own address, so that the answer arrives */
            w.src = sim.node[HOSTILE].ip, w.sport |= 0x8000u;
        memcpy(w.eth_dst, sim.node[to].mac, 6);
        memcpy(w.eth_src, sim.node[HOSTILE].mac, 6);
        put(to, buf, wire_build_tcp(&w, buf));
    }
}

/* "The address of that one is mine", asked by nobody. */
static void arp_lie(void)
{
    uint8_t buf[64];
    unsigned to = random_below(sim.plan.stacks), about = random_below(sim.plan.stacks);
    struct wire w = {.arp_op = (uint16_t)(1 + random_below(2)),
                     .arp_spa = sim.node[about].ip,
                     .arp_tpa = sim.node[to].ip};
    memcpy(w.eth_dst, sim.node[to].mac, 6);
    memcpy(w.eth_src, sim.node[HOSTILE].mac, 6);
    memcpy(w.arp_sha, sim.node[HOSTILE].mac, 6);
    put(to, buf, wire_build_arp(&w, buf));
}

static void ping(void)
{
    uint8_t buf[1600], body[1400];
    unsigned to = random_below(sim.plan.stacks);
    uint32_t len = random_below(500);
    stream_fill(PING_ID, 0, body, len);
    struct wire w = {.src = sim.node[HOSTILE].ip,
                     .dst = sim.node[to].ip,
                     .icmp_type = 8,
                     .payload = body,
                     .payload_len = len};
    memcpy(w.eth_dst, sim.node[to].mac, 6);
    memcpy(w.eth_src, sim.node[HOSTILE].mac, 6);
    put(to, buf, wire_build_icmp(&w, buf, PING_ID));
}

/* ---- turns */

static void mischief(enum sim_fault f)
{
    struct peer *p = hostile.peers ? &hostile.peer[random_below(hostile.peers)] : NULL;

    if (f < F_blind_rst || f == F_hostile_fin || f == F_hostile_rst) {
        if (!p || p->phase != PEER_OPEN)
            return;
        count(f);
        if (f <= F_sack_lie)
            acks(p, f);
        else if (f == F_odd_options)
            odd_options(p);
        else
            segments(p, f);
        return;
    }
    count(f);
    switch (f) {
    case F_forged_icmp:
        forge_icmp();
        break;
    case F_syn_flood:
        syn_flood();
        break;
    case F_hostile_vanished:
        hostile.vanished = random_below(20) == 0;
        break;
    case F_ping:
        ping();
        break;
    case F_arp_lie:
        arp_lie();
        break;
    default:
        forge_between(f);
    }
}

static void heard_segment(struct peer *p, const struct wire *w)
{
    uint32_t end = w->seq + w->payload_len + (w->flags & WIRE_FIN ? 1 : 0);

    if (w->flags & WIRE_RST) {
        p->phase = PEER_DEAD;
        return;
    }
    if (w->opt.has_ts)
        p->ts_ecr = w->opt.ts_val;
    if (p->phase == PEER_SYN_SENT && w->flags & WIRE_SYN && w->flags & WIRE_ACK) {
        p->phase = PEER_OPEN;
        p->ts = w->opt.has_ts;
        p->seq = p->acked = w->ack;
        p->ack = p->heard = w->seq + 1;
        honest_ack(p);
        return;
    }
    if (p->phase != PEER_OPEN)
        return;
    if (w->flags & WIRE_ACK)
        p->acked = w->ack;
    if (end != w->seq && (int32_t)(w->seq - p->ack) <= 0 && (int32_t)(end - p->ack) > 0)
        p->ack = end;
    if ((int32_t)(end - p->heard) > 0)
        p->heard = end;
    if (end != w->seq)
        honest_ack(p);
    if (random_below(10) == 0 && (p->wnd || !does(F_window_zero)))
        send_bytes(p, p->seq, 100, WIRE_ACK), p->seq += 100;
}

/* One of them connects to us: we answer, with options as we like. */
static void heard_syn(const struct wire *w)
{
    unsigned victim = node_of_ip(w->src);
    if (victim >= STACKS || hostile.peers == PEERS)
        return;
    for (unsigned i = 0; i < hostile.peers; i++)
        if (hostile.peer[i].victim_port == w->sport && hostile.peer[i].port == w->dport)
            return;
    struct peer *p = &hostile.peer[hostile.peers++];
    *p = (struct peer){.phase = PEER_OPEN,
                       .victim = victim,
                       .port = w->dport,
                       .victim_port = w->sport,
                       .ack = w->seq + 1,
                       .heard = w->seq + 1,
                       .ts_ecr = w->opt.ts_val};
    p->wnd = (uint16_t)rng_next(&hostile.rng);
    p->iss = (uint32_t)rng_next(&hostile.rng);
    p->seq = p->acked = p->iss + 1;
    struct wire a = blank(p);
    a.seq = p->iss;
    a.flags = WIRE_SYN | (random_below(5) ? WIRE_ACK : 0);
    a.opt.has_mss = random_below(4);
    a.opt.mss = (uint16_t)(random_below(4) ? MSS : random_below(200));
    a.opt.has_wscale = random_below(2);
    a.opt.wscale = (uint8_t)random_below(20);
    a.opt.has_ts = p->ts = w->opt.has_ts && random_below(2);
    a.opt.ts_val = (uint32_t)(sim.now_ns / MS);
    a.opt.ts_ecr = p->ts_ecr;
    count(F_hostile_server);
    say(p, &a);
}

static void heard_arp(const struct wire *w)
{
    uint8_t buf[64];
    unsigned from = node_of_ip(w->arp_spa);
    if (w->arp_op != 1 || w->arp_tpa != sim.node[HOSTILE].ip || from >= STACKS)
        return;
    struct wire r = {.arp_op = 2, .arp_spa = sim.node[HOSTILE].ip, .arp_tpa = sim.node[from].ip};
    memcpy(r.eth_dst, sim.node[from].mac, 6);
    memcpy(r.eth_src, sim.node[HOSTILE].mac, 6);
    memcpy(r.arp_sha, sim.node[HOSTILE].mac, 6);
    put(from, buf, wire_build_arp(&r, buf));
}

void hostile_heard(const uint8_t *frame, size_t len)
{
    struct wire w;
    if (hostile.vanished || wire_parse(&w, frame, len))
        return;
    if (w.eth_type == 0x0806) {
        heard_arp(&w);
        return;
    }
    if (w.dst != sim.node[HOSTILE].ip)
        return;
    if (w.proto == 1 && w.icmp_type == 0 &&
        !stream_is(PING_ID, 0, w.payload + 8, w.payload_len - 8))
        die("a ping comes back changed");
    if (w.proto != 6)
        return;
    if (w.flags == WIRE_SYN)
        heard_syn(&w);
    for (unsigned i = 0; i < hostile.peers; i++)
        if (hostile.peer[i].port == w.dport && hostile.peer[i].victim_port == w.sport &&
            sim.node[hostile.peer[i].victim].ip == w.src)
            heard_segment(&hostile.peer[i], &w);
}

void hostile_init(void)
{
    memset(&hostile, 0, sizeof hostile);
    hostile.rng = rng_fork(&sim.rng);
    hostile.next_ns = sim.plan.mischief ? rng_below(&hostile.rng, sim.plan.calm_ns) : ZEST_NEVER;
    for (unsigned i = 0; i < sim.plan.hostile_conns; i++) {
        const struct conn *c = &sim.conn[sim.plan.conns + i];
        if (c->side[0].node != HOSTILE)
            continue;
        struct peer *p = &hostile.peer[hostile.peers++];
        p->victim = c->side[1].node;
        p->victim_port = PORT;
        p->port = (uint16_t)(40000 + i);
        p->iss = (uint32_t)rng_next(&hostile.rng);
        p->wnd = (uint16_t)rng_next(&hostile.rng);
        p->start_ns = rng_below(&hostile.rng, sim.plan.calm_ns);
    }
}

void hostile_stop(void)
{
    hostile.vanished = true;
    hostile.next_ns = ZEST_NEVER;
    hostile.peers = 0;
}

uint64_t hostile_next(void)
{
    uint64_t at = hostile.next_ns;
    for (unsigned i = 0; i < hostile.peers; i++)
        if (hostile.peer[i].phase == PEER_IDLE && hostile.peer[i].start_ns < at)
            at = hostile.peer[i].start_ns;
    return at;
}

void hostile_run(void)
{
    for (unsigned i = 0; i < hostile.peers; i++) {
        struct peer *p = &hostile.peer[i];
        if (p->phase != PEER_IDLE || p->start_ns > sim.now_ns)
            continue;
        p->phase = PEER_SYN_SENT;
        p->seq = p->iss;
        struct wire w = blank(p);
        w.flags = WIRE_SYN;
        w.ack = 0;
        w.opt.has_mss = random_below(4);
        w.opt.mss = (uint16_t)(random_below(4) ? MSS : random_below(200));
        w.opt.has_wscale = random_below(2);
        w.opt.wscale = (uint8_t)random_below(20);
        w.opt.has_ts = random_below(2);
        w.opt.ts_val = (uint32_t)(sim.now_ns / MS);
        say(p, &w);
    }
    if (hostile.next_ns > sim.now_ns)
        return;
    hostile.next_ns = sim.now_ns + 1 + rng_below(&hostile.rng, 2 * sim.plan.hostile_every_ns);
    if (hostile.vanished)
        return;
    for (unsigned tries = 0; tries < 100; tries++) {
        enum sim_fault f =
            (enum sim_fault)rng_range(&hostile.rng, F_ack_division, SIM_FAULT_COUNT - 1);
        if (does(f)) {
            mischief(f);
            return;
        }
    }
}
