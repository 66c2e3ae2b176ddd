/* track.c - the wire as an honest witness sees it.
 *
 * For each direction of each connection: what its sender has said, and what has reached it. A
 * sender must send the bytes that its application wrote and no others, keep to the window and the
 * MSS that it was told, never take an acknowledgment or a window back, acknowledge nothing that did
 * not arrive, and repeat nothing that was acknowledged. */
#include "sim.h"

#include <string.h>

#define FLOWS 1024u

struct flow {
    bool used;
    unsigned node, peer;
    uint16_t port, peer_port;
    /* what it has sent */
    bool syn, fin, acked, sent;
    uint32_t sent_end; /* of data */
    uint32_t iss, fin_seq, ack, edge;
    bool offers_ws, offers_ts;
    uint8_t wscale;
    uint32_t ts_val;
    /* what has reached it */
    bool peer_syn, forged; /* forged: it has answered a SYN that its peer did not send */
    uint32_t peer_iss;
    uint16_t peer_mss;
    bool peer_ws, peer_ts;
    uint8_t peer_wscale;
    uint32_t rcv_end; /* highest sequence number that has arrived, and one */
    bool heard, told; /* una, may_to hold */
    uint32_t una, may_to;
    /* whose bytes they are */
    struct side *side;
    unsigned attempt;
    uint64_t key;
};

static struct flow flows[FLOWS];

void track_init(void)
{
    memset(flows, 0, sizeof flows);
}

void track_forget(unsigned node)
{
    for (unsigned i = 0; i < FLOWS; i++)
        if (flows[i].used && flows[i].node == node) {
            struct flow *f = &flows[i];
            *f = (struct flow){.used = true,
                               .node = f->node,
                               .peer = f->peer,
                               .port = f->port,
                               .peer_port = f->peer_port};
        }
}

static bool lt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static struct flow *flow_of(unsigned node, uint16_t port, unsigned peer, uint16_t peer_port)
{
    uint64_t h =
        rng_mix((uint64_t)node << 40 | (uint64_t)peer << 32 | (uint32_t)port << 16 | peer_port);
    for (unsigned i = 0; i < FLOWS; i++) {
        struct flow *f = &flows[(h + i) % FLOWS];
        if (!f->used)
            *f = (struct flow){
                .used = true, .node = node, .peer = peer, .port = port, .peer_port = peer_port};
        if (f->node == node && f->port == port && f->peer == peer && f->peer_port == peer_port)
            return f;
    }
    die("the test itself: too many connections to keep track of");
}

/* Floods of half-open connections are not followed. */
static bool is_followed(unsigned peer, uint16_t peer_port)
{
    return peer < NODES && (peer != HOSTILE || peer_port / 100 == 400 || peer_port == PORT);
}

static void find_side(struct flow *f)
{
    if (f->side && f->side->conn->attempt == f->attempt)
        return;
    struct side *s = app_side(f->node, f->port, f->peer, f->peer_port);
    if (s) {
        f->side = s;
        f->attempt = s->conn->attempt;
        f->key = s->key;
    }
}

/* The pointer is the application's mark, or as far towards it as the field goes; and it is in every
 * segment with data before the mark, if it can be (see mark_urgent() in tcp_segment.c). */
static void check_urgent(struct flow *f, const struct wire *w)
{
    const char *name = sim.node[f->node].h.name;
    uint64_t at = w->seq - f->iss - 1;

    if (!(w->flags & WIRE_URG) && w->urg)
        die("%s fills in an urgent pointer that does not count", name);
    if (f->side)
        find_side(f);
    if (!f->side || f->side->conn->attempt != f->attempt)
        return;
    uint64_t ahead = f->side->marked > at ? f->side->marked - at : 0;
    if (w->flags & WIRE_URG) {
        if (ahead == 0 || w->urg != (ahead < UINT16_MAX ? ahead : UINT16_MAX))
            die("%s at %llu points %u ahead, and the mark is %llu ahead", name,
                (unsigned long long)at, w->urg, (unsigned long long)ahead);
    } else if (w->payload_len && ahead && ahead <= UINT16_MAX) {
        die("%s keeps urgent data quiet", name);
    }
}

static void check_data(struct flow *f, const struct wire *w)
{
    const char *name = sim.node[f->node].h.name;
    uint32_t at = w->seq - f->iss - 1, end = w->seq + w->payload_len;

    if (w->payload_len == 0)
        return;
    find_side(f);
    if (!f->side)
        die("%s sends data on a connection that nobody holds", name);
    if (!stream_is(f->key, at, w->payload, w->payload_len))
        die("%s: the stream is wrong on the wire, at byte %u or in the %u after it", name, at,
            w->payload_len);
    if (f->attempt == f->side->conn->attempt && at + w->payload_len > f->side->written)
        die("%s sends byte %u, and only %llu were written", name, at + w->payload_len - 1,
            (unsigned long long)f->side->written);
    if (f->fin && lt(f->fin_seq, end))
        die("%s sends data behind its FIN", name);

    uint32_t mss = f->peer_mss < 64 ? 64 : f->peer_mss;
    if (f->peer != HOSTILE && w->payload_len + (w->opt.has_ts ? 12u : 0) > mss)
        die("%s sends %u bytes to a peer whose MSS is %u", name, w->payload_len, f->peer_mss);
    if (f->heard && !lt(f->una, end))
        die("%s repeats %u bytes at %u that were acknowledged up to %u", name, w->payload_len, at,
            f->una - f->iss - 1);
    if (f->told && w->payload_len > 1 && lt(f->may_to, end))
        die("%s sends up to %u, and the window ends at %u", name, end - f->iss - 1,
            f->may_to - f->iss - 1);
}

static uint64_t refusals(unsigned node)
{
    struct zest_stats st;
    zest_stats(sim.node[node].h.z, &st);
    return st.drop_tcp_no_memory;
}

static void check_ack(struct flow *f, const struct wire *w)
{
    const char *name = sim.node[f->node].h.name;
    uint32_t shift = w->flags & WIRE_SYN || !f->offers_ws || !f->peer_ws ? 0 : f->wscale;
    uint32_t edge = w->ack + ((uint32_t)w->wnd << shift);

    if (!(w->flags & WIRE_ACK)) {
        if (!(w->flags & WIRE_SYN))
            die("%s sends a segment without ACK", name);
        return;
    }
    if (f->peer != HOSTILE && lt(f->rcv_end, w->ack))
        die("%s acknowledges %u bytes that it never got", name, w->ack - f->rcv_end);
    if (f->acked && lt(w->ack, f->ack))
        die("%s takes an acknowledgment back, by %u", name, f->ack - w->ack);
    /* RFC 7323 2.4: rounding down may take back less than one unit. */
    bool short_field = w->flags & WIRE_SYN; /* can't say it all, if a SYN is sent again */
    bool refused = w->wnd == 0 && refusals(f->node) > 0; /* there was no memory after all */
    if (f->acked && !short_field && !refused && lt(edge + (1u << shift) - 1, f->edge))
        die("%s takes %u bytes of its window back", name, f->edge - edge);
    if (!f->acked || lt(f->edge, edge))
        f->edge = edge;
    f->ack = w->ack;
    f->acked = true;
}

static void check_options(struct flow *f, const struct wire *w)
{
    const char *name = sim.node[f->node].h.name;
    bool ts_on = f->offers_ts && f->peer_ts;

    if (f->peer != HOSTILE && !(w->flags & WIRE_SYN) && ts_on != w->opt.has_ts)
        die("%s sends a segment with%s timestamps", name, ts_on ? "out" : "");
    if (w->opt.has_ts) {
        if (f->ts_val && lt(w->opt.ts_val, f->ts_val))
            die("%s: its timestamp clock goes back", name);
        f->ts_val = w->opt.ts_val;
    }
    if (!(w->flags & WIRE_SYN) && (w->opt.has_mss || w->opt.has_wscale || w->opt.sack_ok))
        die("%s sends options that belong in a SYN", name);
}

void track_sent(unsigned from, const struct wire *w)
{
    if (w->eth_type != 0x0800 || w->proto != 6 || w->flags & WIRE_RST)
        return;
    if (!is_followed(node_of_ip(w->dst), w->dport))
        return;
    const char *name = sim.node[from].h.name;
    struct flow *f = flow_of(from, w->sport, node_of_ip(w->dst), w->dport);
    if (w->flags & WIRE_SYN) {
        f->forged = w->flags & WIRE_ACK && sim.plan.mischief >> F_blind_syn & 1 &&
                    (!f->peer_syn || w->ack != f->peer_iss + 1);
        if (f->forged)
            return;
        if (f->syn && f->iss != w->seq) {
            /* A passive end can't tell an old SYN from a new one once its connection is gone. */
            if (f->peer != HOSTILE && !(w->flags & WIRE_ACK))
                die("%s begins a connection anew that is still there", name);
            *f = (struct flow){.used = true,
                               .node = f->node,
                               .peer = f->peer,
                               .port = f->port,
                               .peer_port = f->peer_port,
                               .peer_syn = f->peer_syn,
                               .peer_iss = f->peer_iss,
                               .peer_mss = f->peer_mss,
                               .peer_ws = f->peer_ws,
                               .peer_ts = f->peer_ts,
                               .peer_wscale = f->peer_wscale,
                               .rcv_end = f->rcv_end};
        }
        f->syn = true;
        f->iss = w->seq;
        f->offers_ws = w->opt.has_wscale;
        f->offers_ts = w->opt.has_ts;
        f->wscale = w->opt.wscale;
        if (!w->opt.has_mss || w->opt.mss != sim.plan.cfg[from].mtu - 40)
            die("%s announces the wrong MSS", name);
        if (w->opt.wscale > 14)
            die("%s announces a window scale of %u", name, w->opt.wscale);
        if (w->flags & WIRE_ACK && f->peer != HOSTILE &&
            ((w->opt.has_wscale && !f->peer_ws) || (w->opt.has_ts && !f->peer_ts)))
            die("%s answers a SYN with options that it did not have", name);
    }
    if (f->forged)
        return;
    if (!f->syn)
        die("%s sends on a connection without a SYN", name);
    check_options(f, w);
    check_ack(f, w);
    check_data(f, w);
    if (!(w->flags & WIRE_SYN))
        check_urgent(f, w);
    /* RFC 3168 6.1.4, 6.1.5: only what carries new data says that it is ECN-capable. */
    uint32_t upto = w->seq + w->payload_len;
    if (w->tos & 3 && (w->payload_len == 0 || (f->sent && !lt(f->sent_end, upto))))
        die("%s: what is not new data is marked as ECN-capable", name);
    if (!f->sent || lt(f->sent_end, upto))
        f->sent_end = upto;
    f->sent = true;
    if (w->flags & WIRE_FIN) {
        uint32_t at = w->seq + w->payload_len;
        if (f->fin && f->fin_seq != at)
            die("%s moves its FIN", name);
        f->fin = true;
        f->fin_seq = at;
    }
}

/* The highest sequence number that an ACK of what it has sent can have. */
static uint32_t sent_up_to(const struct flow *f)
{
    uint32_t end = f->iss + 1;
    if (f->sent && lt(end, f->sent_end))
        end = f->sent_end;
    if (f->fin && lt(end, f->fin_seq + 1))
        end = f->fin_seq + 1;
    return end;
}

void track_arrived(unsigned to, const uint8_t *frame, size_t len)
{
    struct wire w;
    if (wire_parse(&w, frame, len) || w.eth_type != 0x0800 || w.proto != 6 ||
        w.dst != sim.node[to].ip || memcmp(w.eth_dst, sim.node[to].mac, 6) != 0 ||
        w.flags & WIRE_RST)
        return;
    unsigned from = node_of_ip(w.src);
    if (!is_followed(from, w.sport) || memcmp(w.eth_src, sim.node[from].mac, 6) != 0)
        return; /* forged */
    struct flow *f = flow_of(to, w.dport, from, w.sport);
    uint32_t end =
        w.seq + w.payload_len + (w.flags & WIRE_SYN ? 1u : 0) + (w.flags & WIRE_FIN ? 1u : 0);
    if (w.flags & WIRE_SYN && !f->acked) {
        f->peer_syn = true;
        f->peer_iss = w.seq;
        f->peer_mss = w.opt.has_mss ? w.opt.mss : 536;
        f->peer_ws = w.opt.has_wscale;
        f->peer_wscale = w.opt.wscale > 14 ? 14 : w.opt.wscale;
        f->peer_ts = w.opt.has_ts;
        f->rcv_end = end;
    }
    /* What is older than something that came before may be refused, and its ACK with it. */
    bool newest = f->peer_syn && (lt(f->rcv_end, end) || (end == w.seq && end == f->rcv_end));
    if (newest)
        f->rcv_end = end;
    if (!(w.flags & WIRE_ACK) || !f->syn || lt(w.ack, f->iss + 1))
        return;
    uint32_t shift = w.flags & WIRE_SYN || !f->offers_ws || !f->peer_ws ? 0 : f->peer_wscale;
    uint32_t edge = w.ack + ((uint32_t)w.wnd << shift);
    if (from == HOSTILE) { /* whatever it says may be refused: only the widest window binds */
        if (!f->told || lt(f->may_to, edge))
            f->may_to = edge;
        f->told = true;
        return;
    }
    if (!f->told || lt(f->may_to, edge))
        f->may_to = edge;
    f->told = true;
    /* What was never sent nobody takes for acknowledged: it is the answer to a SYN that a stranger
     * sent in our name, when the peer had forgotten us already. */
    if (!newest || lt(sent_up_to(f), w.ack))
        return;
    if (!f->heard || lt(f->una, w.ack))
        f->una = w.ack;
    f->heard = true;
}
