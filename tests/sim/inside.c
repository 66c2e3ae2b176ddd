/* inside.c - a stack's own structures, seen from inside: what must hold between any two calls.
 *
 * inside_owners() counts, for every segment that is allocated, who holds a reference (send queues,
 * receive queues, frames that wait, the link, the applications), and compares that with the
 * segment's own count, and the number of segments with the pool's. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "stack/tcp_conn.h"

#undef assert
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            die("%s port %u: inside: %s", name, c ? c->local_port : 0, #cond);                     \
    } while (0)

static void check_send(const struct tcp_conn *c, const char *name)
{
    uint32_t seq =
        c->state == ZEST_SYN_SENT || c->state == ZEST_SYN_RECEIVED ? c->iss + 1 : c->snd_una;
    uint32_t n = 0;
    bool found = c->sq_send == NULL;

    MUST(seq_leq(c->snd_una, c->snd_nxt));
    MUST(seq_leq(c->snd_nxt, c->snd_max));
    MUST(seq_leq(c->snd_max, tcp_snd_limit(c)));
    for (const struct pbuf *pb = c->sq_head; pb; pb = pb->next, n++) {
        MUST(pb->len > 0);
        MUST(pb == c->sq_head ? seq_leq(pb->seq, seq) : pb->seq == seq);
        MUST(pb->addr >= pb->zb->data - ZBUF_HEADROOM);
        MUST(pb->addr + pb->len <= zbuf_end(pb->zb));
        MUST(pb->next || pb == c->sq_tail);
        if (pb == c->sq_send) {
            found = true;
            MUST(seq_leq(pb->seq, c->snd_nxt) || (pb == c->sq_head && seq_lt(c->snd_nxt, pb->seq)));
            MUST(seq_lt(c->snd_nxt, pb->seq + pb->len));
        }
        seq = pb->seq + pb->len;
    }
    MUST(n == c->sq_pbufs);
    MUST(found);
    if (c->sq_head)
        MUST(seq == c->snd_end);
}

static void check_receive(const struct tcp_conn *c, const char *name)
{
    uint32_t queued = 0, segs = 0, held = 0, after = c->rcv_nxt;

    if (c->state > ZEST_SYN_SENT)
        MUST(seq_leq(c->rcv_nxt, c->rcv_adv));
    for (const struct zbuf *zb = c->rq_head; zb; zb = zb->next) {
        MUST(zb->len > 0);
        queued += zb->len;
        held += zb->size;
        MUST(zb->next || zb == c->rq_tail);
    }
    MUST(queued == c->rcv_queued);
    for (const struct zbuf *zb = c->reass; zb; zb = zb->next, segs++) {
        MUST(zb->len > 0);
        MUST(seq_gt((uint32_t)zb->user, c->rcv_nxt));
        MUST(seq_leq(after, (uint32_t)zb->user));
        after = (uint32_t)zb->user + zb->len;
        MUST(seq_leq(after, c->rcv_adv));
        held += zb->size;
    }
    MUST(segs == c->reass_segs);
    MUST(held <= c->held); /* what is lent comes on top */
    MUST(c->rcv_lent > 0 || held == c->held);
}

/* What connections hold, and what they are promised, adds up. */
static void check_memory(const struct zest *z, const char *name)
{
    const struct tcp_conn *c = NULL;
    const struct tcp_mem *m = &z->tcp.mem;
    uint64_t held = 0, segs = 0, by_group = 0, waiting = 0;

    for (uint32_t i = 0; i < z->cfg.max_conns; i++) {
        c = &z->tcp.conns[i];
        if (c->state == ZEST_CLOSED && !c->attached)
            continue;
        held += c->held;
        segs += (c->mem_min + m->seg - 1) / m->seg;
        waiting += c->waits;
        MUST(c->group->members > 0 && c->group->budget);
        MUST(c->group->held >= c->held);
        MUST(c->mem_min == 0 || (c->state != ZEST_CLOSED && c->state != ZEST_TIME_WAIT));
    }
    c = NULL;
    MUST(m->held == held);
    MUST(m->kept_segs == segs);
    MUST(m->kept_aside >= segs);
    MUST((m->waiting != NULL) == (waiting > 0));
    for (uint32_t i = 0; i < 1 + 2 * z->cfg.max_listeners; i++)
        by_group += m->group[i].held;
    MUST(by_group == held);
}

static void check_conn(const struct zest *z, const struct tcp_conn *c, const char *name)
{
    check_send(c, name);
    check_receive(c, name);
    MUST(c->cwnd >= c->mss || c->cwnd == 0 || c->state <= ZEST_SYN_RECEIVED);
    MUST(c->in_table);
    if (c->heap_pos) {
        MUST(c->heap_pos <= z->tcp.heap_len);
        MUST(z->tcp.heap[c->heap_pos] == c);
        MUST(c->heap_pos == 1 || z->tcp.heap[c->heap_pos / 2]->heap_key <= c->heap_key);
    }
    /* What is in flight is guarded by a timer, or about to be looked at. */
    if (c->snd_una != c->snd_max && c->on == TCP_ON_NONE && c->state != ZEST_TIME_WAIT)
        MUST(c->rtx_ns != ZEST_NEVER);
    if (c->on == TCP_ON_NONE && c->rtx_ns != ZEST_NEVER)
        MUST(c->heap_pos && c->heap_key <= c->rtx_ns);
}

void inside_check(const struct zest *z, const char *name)
{
    const struct tcp_conn *c = NULL;
    uint32_t alive = 0, pbufs = 0, waiting = 0;

    for (uint32_t i = 0; i < z->cfg.max_conns; i++) {
        c = &z->tcp.conns[i];
        alive += c->state != ZEST_CLOSED || c->attached;
        pbufs += c->sq_pbufs;
        if (c->state != ZEST_CLOSED)
            check_conn(z, c, name);
        else
            MUST(c->sq_pbufs == 0 && !c->in_table && c->on == TCP_ON_NONE && !c->heap_pos);
    }
    c = NULL;
    MUST(z->stats.conns == alive);
    MUST(z->cfg.max_pbufs - z->tcp.pbufs_free == pbufs);
    check_memory(z, name);
    for (uint32_t i = 0; i < z->cfg.max_listeners; i++)
        waiting += z->tcp.listeners[i].waiting;
    for (uint32_t i = 0; i < z->cfg.max_conns; i++)
        waiting -= z->tcp.conns[i].state != ZEST_CLOSED && z->tcp.conns[i].listener != NULL;
    MUST(waiting == 0);
}

/* ---- owners */

#define SEGS 65536u

static struct {
    const struct zbuf *zb;
    uint32_t refs;
} owned[SEGS];
static uint32_t owned_list[SEGS], owned_n;

static void hold(const struct zbuf *zb)
{
    uint64_t h = rng_mix((uintptr_t)zb >> 6);
    for (uint32_t i = 0; i < SEGS; i++) {
        uint32_t k = (uint32_t)(h + i) % SEGS;
        if (!owned[k].zb) {
            owned[k].zb = zb;
            owned_list[owned_n++] = k;
        }
        if (owned[k].zb == zb) {
            owned[k].refs++;
            return;
        }
    }
    die("the test itself: too many segments");
}

static void hold_stack(const struct zest *z)
{
    for (uint32_t i = z->ctrlq.head; i != z->ctrlq.tail; i++)
        hold(z->ctrlq.frame[i % CTRLQ_LEN]);
    for (uint32_t i = 0; i < ARP_ENTRIES; i++)
        for (uint32_t k = 0; k < z->arp.entry[i].queued; k++)
            hold(z->arp.entry[i].queue[k]);
    for (uint32_t i = 0; i < z->cfg.max_conns; i++) {
        const struct tcp_conn *c = &z->tcp.conns[i];
        for (const struct pbuf *pb = c->sq_head; pb; pb = pb->next)
            hold(pb->zb);
        for (const struct zbuf *zb = c->rq_head; zb; zb = zb->next)
            hold(zb);
        for (const struct zbuf *zb = c->reass; zb; zb = zb->next)
            hold(zb);
    }
}

static void hold_node(const struct node *n)
{
    for (uint32_t i = n->h.tx_head; i != n->h.tx_tail; i++) {
        const struct zest_frame *f = &n->h.tx[i % HOST_TX_MAX].f;
        for (unsigned k = 0; k < f->n; k++)
            hold(zbuf_of(n->h.pool, f->seg[k].addr));
    }
    for (unsigned i = 0; i < n->nrx; i++)
        for (const struct zbuf *zb = n->rx[i]; zb; zb = zb->next)
            hold(zb);
    hold_stack(n->h.z);
}

static void hold_apps(const struct zbuf_pool *pool)
{
    for (unsigned i = 0; i < 2 * sim.nconns; i++) {
        const struct side *s = &sim.conn[i / 2].side[i % 2];
        if (s->node == HOSTILE || !sim.node[s->node].alive || sim.node[s->node].h.pool != pool)
            continue;
        if (s->buf)
            hold(s->buf);
        for (unsigned k = 0; k < sizeof s->held / sizeof s->held[0]; k++)
            if (s->held[k])
                hold(s->held[k]);
        for (unsigned k = 0; k < s->nlent; k++)
            hold(zbuf_of(pool, s->lent[k].v.addr));
    }
    for (unsigned i = 0; i < sim.plan.stacks; i++) {
        struct zbuf *const *zb;
        unsigned n = hoard_segments(i, &zb);
        for (unsigned k = 0; sim.node[i].h.pool == pool && k < n; k++)
            hold(zb[k]);
    }
}

static void owners_of(const struct zbuf_pool *pool)
{
    struct zbuf_pool_stat st;

    owned_n = 0;
    for (unsigned i = 0; i < sim.plan.stacks; i++)
        if (sim.node[i].alive && sim.node[i].h.pool == pool)
            hold_node(&sim.node[i]);
    hold_apps(pool);
    for (uint32_t i = 0; i < owned_n; i++) {
        const struct zbuf *zb = owned[owned_list[i]].zb;
        uint32_t refs = owned[owned_list[i]].refs;
        if (zbuf_of(pool, zb->data) != zb)
            die("somebody holds a segment that is not allocated");
        if (zbuf_refcount(zb) != refs)
            die("a segment of %u bytes has %u references, and %u holders", zb->size,
                zbuf_refcount(zb), refs);
    }
    zbuf_pool_stat(pool, &st);
    if (st.live != owned_n)
        die("the pool says that %llu segments are allocated; %u have a holder",
            (unsigned long long)st.live, owned_n);
    for (uint32_t i = 0; i < owned_n; i++)
        memset(&owned[owned_list[i]], 0, sizeof owned[0]);
}

void inside_owners(void)
{
    for (unsigned i = 0; i < (sim.plan.one_pool ? 1 : sim.plan.stacks); i++)
        owners_of(sim.pool[i]);
}

static void dump_counters(const struct node *n, FILE *f)
{
    struct zest_stats st;
    struct zbuf_pool_stat ps;
    struct zbuf_budget_stat bs[32];

    zest_stats(n->h.z, &st);
    fprintf(f, "%s:", n->h.name);
#define DUMP(field, what)                                                                          \
    if (st.field)                                                                                  \
        fprintf(f, " " #field " %llu", (unsigned long long)st.field);
    ZEST_COUNTERS(DUMP)
#undef DUMP
    zbuf_pool_stat(n->h.pool, &ps);
    fprintf(f, "\n  pool: %zu of %zu used, %u slabs free;", ps.used, ps.size, ps.slabs_free);
    for (unsigned i = 0; i < ZBUF_CLASSES; i++)
        if (ps.cls[i].segs)
            fprintf(f, " %u: %u free of %u,", ps.cls[i].seg_size, ps.cls[i].free, ps.cls[i].segs);
    unsigned nb = zbuf_budget_stats(n->h.pool, bs, 32);
    for (unsigned i = 0; i < nb && i < 32; i++)
        fprintf(f, "%s %s %zu min %zu failures %llu", i ? "," : "\n  budgets:", bs[i].name,
                bs[i].used, bs[i].min, (unsigned long long)bs[i].failures);
    fputc('\n', f);
}

void inside_dump(FILE *f)
{
    for (unsigned n = 0; n < sim.plan.stacks; n++) {
        const struct zest *z = sim.node[n].h.z;
        if (sim.node[n].alive)
            dump_counters(&sim.node[n], f);
        for (uint32_t i = 0; sim.node[n].alive && i < z->cfg.max_conns; i++) {
            const struct tcp_conn *c = &z->tcp.conns[i];
            if (c->state == ZEST_CLOSED && !c->attached)
                continue;
            fprintf(f,
                    "%s %u > .%u:%u %s%s on %u una %u nxt +%u max +%u end +%u wnd %u cwnd %u "
                    "backoff %u%s%s rcv_nxt +%u adv +%u reass %u held %u; rtx %.3f delack %.3f "
                    "keep %.3f wait %.3f heap %.3f progress %.3f\n",
                    sim.node[n].h.name, c->local_port, c->remote.b[15], c->remote_port,
                    zest_tcp_state_name(c->state), c->attached ? "" : " detached", c->on,
                    c->snd_una - c->iss, c->snd_nxt - c->snd_una, c->snd_max - c->snd_una,
                    c->snd_end - c->snd_una, c->snd_wnd, c->cwnd, c->backoff,
                    c->probing ? " probing" : "", c->in_recovery ? " recovering" : "",
                    c->rcv_nxt - c->irs, c->rcv_adv - c->rcv_nxt, c->reass_segs, c->held,
                    (double)c->rtx_ns / 1e9, (double)c->delack_ns / 1e9, (double)c->keep_ns / 1e9,
                    (double)c->wait_ns / 1e9, c->heap_pos ? (double)c->heap_key / 1e9 : -1.0,
                    (double)c->progress_ns / 1e9);
        }
    }
}
