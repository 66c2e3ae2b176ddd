/* net.c - the network: one segment of Ethernet, each pair of nodes a link of its own each way. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 200000u

/* ---- frames by time */

static bool before(const struct frame *a, const struct frame *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void push(struct frame *f)
{
    struct net *n = &sim.net;
    if (n->n == n->cap) {
        n->cap = n->cap ? 2 * n->cap : 256;
        n->heap = realloc(n->heap, n->cap * sizeof *n->heap);
        if (!n->heap)
            abort();
    }
    uint32_t i = n->n++;
    for (; i > 0 && before(f, n->heap[(i - 1) / 2]); i = (i - 1) / 2)
        n->heap[i] = n->heap[(i - 1) / 2];
    n->heap[i] = f;
}

static struct frame *pop(void)
{
    struct net *n = &sim.net;
    struct frame *top = n->heap[0], *last = n->heap[--n->n];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n->n)
            break;
        if (child + 1 < n->n && before(n->heap[child + 1], n->heap[child]))
            child++;
        if (!before(n->heap[child], last))
            break;
        n->heap[i] = n->heap[child];
        i = child;
    }
    n->heap[i] = last;
    return top;
}

void net_init(void)
{
    struct frame **heap = sim.net.heap;
    uint32_t cap = sim.net.cap;
    memset(&sim.net, 0, sizeof sim.net);
    sim.net.heap = heap;
    sim.net.cap = cap;
    sim.net.rng = rng_fork(&sim.rng);
    sim.net.down_change_ns = ZEST_NEVER;
    if (sim.plan.down_every_ns)
        sim.net.down_change_ns = rng_range(&sim.net.rng, 1, sim.plan.down_every_ns);
}

void net_free(void)
{
    while (sim.net.n > 0)
        free(pop());
}

uint64_t net_next(void)
{
    uint64_t at = sim.net.n ? sim.net.heap[0]->at_ns : ZEST_NEVER;
    return at < sim.net.down_change_ns ? at : sim.net.down_change_ns;
}

struct frame *net_take(void)
{
    return sim.net.n && sim.net.heap[0]->at_ns <= sim.now_ns ? pop() : NULL;
}

/* Down and up again. */
void net_tick(void)
{
    struct net *n = &sim.net;
    if (sim.calm) {
        n->down = false;
        n->down_change_ns = ZEST_NEVER;
    } else if (n->down_change_ns <= sim.now_ns) {
        n->down = !n->down;
        uint64_t mean = n->down ? sim.plan.down_for_ns : sim.plan.down_every_ns;
        n->down_change_ns = sim.now_ns + rng_range(&n->rng, mean / 2 + 1, mean * 3 / 2 + 1);
        if (n->down)
            count(F_link_down);
        sim_say("link %s", n->down ? "down" : "up");
    }
}

void net_put(unsigned from, unsigned to, const uint8_t *frame, size_t len, uint64_t delay_ns)
{
    if (sim.net.n >= FRAMES_MAX) {
        count(F_lost_queue);
        return;
    }
    struct frame *f = malloc(sizeof *f + len);
    if (!f)
        abort();
    *f = (struct frame){.at_ns = sim.now_ns + delay_ns,
                        .order = sim.net.order++,
                        .from = from,
                        .to = to,
                        .len = (uint32_t)len};
    memcpy(f->bytes, frame, len);
    push(f);
}

/* ---- trouble */

/* Why this frame does not arrive; SIM_FAULT_COUNT: it does. */
static unsigned why_lost(struct link *l, const struct wire *w)
{
    const struct plan *p = &sim.plan;
    struct rng *r = &sim.net.rng;
    bool tcp = w->eth_type == 0x0800 && w->proto == 6;

    if (sim.net.down)
        return F_lost_down;
    if (sim.calm)
        return SIM_FAULT_COUNT;
    if (l->in_burst ? rng_chance(r, p->burst_end) : rng_chance(r, p->burst_start))
        l->in_burst = !l->in_burst;
    if (l->in_burst)
        return F_lost_burst;
    if (rng_chance(r, p->lose))
        return F_lost_random;
    if (p->lose_every && ++l->count % p->lose_every == 0)
        return F_lost_periodic;
    if (w->eth_type == 0x0806 && rng_chance(r, p->lose_arp))
        return F_lost_arp;
    if (tcp && w->payload_len == 0 && rng_chance(r, p->lose_ack))
        return F_lost_ack;
    if (tcp && w->flags & (WIRE_PSH | WIRE_FIN) && rng_chance(r, p->lose_last))
        return F_lost_last;
    if (tcp && w->flags & WIRE_SYN && rng_chance(r, p->lose_syn))
        return F_lost_syn;
    return SIM_FAULT_COUNT;
}

/* Flips bits that lie close together: every such error shows in a 16-bit sum. ARP has none, and on
 * a real link the FCS would have caught it. */
static void corrupt(uint8_t *frame, size_t len)
{
    struct rng *r = &sim.net.rng;
    size_t bit = rng_range(r, 14 * 8, len * 8 - 1);
    frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
    if (bit + 1 < len * 8 && rng_chance(r, 500000))
        frame[(bit + 1) / 8] ^= (uint8_t)(1u << (bit + 1) % 8);
    count(F_corrupted);
}

/* The router in the middle says how much fits (RFC 1191). It is the gateway's address. */
static void too_big(unsigned from, const uint8_t *frame, uint16_t mtu)
{
    uint8_t buf[128];
    struct wire w = {.eth_src = {2, 0, 0, 0, 0, 0xfe},
                     .src = 0x0a0000fe,
                     .dst = sim.node[from].ip,
                     .icmp_type = 3,
                     .icmp_code = 4,
                     .payload = frame + 14,
                     .payload_len = 28};
    memcpy(w.eth_dst, sim.node[from].mac, 6);
    size_t len = wire_build_icmp(&w, buf, mtu);
    count(F_icmp_needfrag);
    net_put(HOSTILE, from, buf, len, sim.plan.delay_ns);
}

static uint64_t travel(struct link *l, size_t len, bool *full)
{
    const struct plan *p = &sim.plan;
    uint64_t wait = 0;

    *full = false;
    if (p->bits_per_s) {
        uint64_t start = l->busy_ns > sim.now_ns ? l->busy_ns : sim.now_ns;
        uint64_t waiting = (start - sim.now_ns) / 1000 * p->bits_per_s / 8000000;
        if (waiting > p->queue_bytes) {
            *full = true;
            return 0;
        }
        l->busy_ns = start + (len + 24) * 8 * S / p->bits_per_s; /* preamble, FCS and gap, too */
        wait = l->busy_ns - sim.now_ns;
    }
    return wait + p->delay_ns;
}

static void send_to(unsigned from, unsigned to, const uint8_t *frame, size_t len,
                    const struct wire *w)
{
    const struct plan *p = &sim.plan;
    struct rng *r = &sim.net.rng;
    struct link *l = &sim.net.link[from][to];
    uint8_t buf[WIRE_MAX];
    bool full;

    if (!sim.calm && p->mtu_low && sim.now_ns >= p->mtu_from_ns && w->eth_type == 0x0800 &&
        w->ip_len > p->mtu_low) {
        count(F_lost_mtu);
        if (from != HOSTILE)
            too_big(from, frame, p->mtu_low);
        return;
    }
    unsigned lost = why_lost(l, w);
    if (lost != SIM_FAULT_COUNT) {
        count((enum sim_fault)lost);
        return;
    }
    uint64_t delay = travel(l, len, &full);
    if (full) {
        count(F_lost_queue);
        return;
    }
    memcpy(buf, frame, len);
    if (!sim.calm) {
        if (w->eth_type == 0x0800 && w->tos & 3 && rng_chance(r, p->ecn_mark)) {
            buf[14 + 1] |= 3; /* congestion (RFC 3168 5) */
            wire_fix_checksums(buf, len);
            count(F_ecn_marked);
        }
        if (w->eth_type == 0x0800 && rng_chance(r, p->corrupt))
            corrupt(buf, len);
        if (p->jitter_ns)
            delay += rng_below(r, p->jitter_ns);
        if (rng_chance(r, p->duplicate)) {
            count(F_duplicated);
            net_put(from, to, buf, len, delay + rng_below(r, p->delay_ns + 1));
        }
        if (w->eth_type == 0x0800 && rng_chance(r, p->old)) {
            count(F_old_duplicate); /* younger than the MSL that TCP counts on */
            net_put(from, to, buf, len, rng_log(r, MS, 25 * S));
        }
        if (rng_chance(r, p->reorder)) {
            count(F_reordered);
            delay += rng_range(r, 1, p->reorder_ns);
            net_put(from, to, buf, len, delay);
            return;
        }
    }
    /* Frames do not overtake each other unless they are reordered on purpose. */
    uint64_t at = sim.now_ns + delay;
    if (at < l->last_ns)
        at = l->last_ns;
    l->last_ns = at;
    net_put(from, to, buf, len, at - sim.now_ns);
}

void net_send(unsigned from, const uint8_t *frame, size_t len)
{
    struct wire w;
    (void)wire_parse(&w, frame, len);
    for (unsigned to = 0; to < NODES; to++) {
        if (to == from || (to < STACKS && to >= sim.plan.stacks))
            continue;
        if (frame[0] & 1 || memcmp(frame, sim.node[to].mac, 6) == 0)
            send_to(from, to, frame, len, &w);
    }
}
