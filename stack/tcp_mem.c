/* tcp_mem.c - how much received memory each listener and each connection may hold, and how one that
 * was refused memory hears of it.
 *
 *     received          ceiling rx_hold_max; connections that we opened
 *       listener :80    minimum and ceiling of its own; the connections that it made
 *     kept              minimum: the sum of what connections were promised
 *     copied writes     under the application's: zest_write_copy()
 *
 * Listeners have budgets of the pool. Connections may be ten thousand, and have numbers only: what
 * each holds is counted here. All they receive is charged to their group, as long as that works and
 * they keep to the limit of the day (half of what is left, so that one that stalls can never take
 * all). When it does not, a connection that holds less than its minimum draws on `kept`, which
 * nobody else can get at. So the guarantee costs the common case nothing: no account more is
 * touched for a segment than without it.
 *
 * A window counts on no more than the pool had for `received` when last looked at (mem_look()):
 * under a ceiling that nobody can reach, because others hold the memory, what comes in would be
 * refused. What is offered is not set aside, so it may be refused all the same.
 *
 * `kept` stays whole because only within one's own minimum may one draw on it. What was drawn and
 * is written to another connection first changes to that one's group, or is refused. */
#include "tcp_conn.h"

#include <stdio.h>

#define KEEP_BATCH 16u             /* segments set aside at a time: connections come and go */
#define LOOK_NS    (1 * NS_PER_MS) /* at most this old is what is known of the pool after input */

static uint32_t segs_for(const struct zest *z, uint64_t bytes)
{
    return (uint32_t)((bytes + z->tcp.mem.seg - 1) / z->tcp.mem.seg);
}

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static bool is_ours(const struct tcp_mem *m, unsigned id)
{
    return m->budgets[id / 64] >> id % 64 & 1;
}
static void mark_ours(struct tcp_mem *m, const struct zbuf_budget *b, bool ours)
{
    unsigned id = zbuf_budget_id(b);
    uint64_t bit = 1ull << id % 64;

    m->budgets[id / 64] = ours ? m->budgets[id / 64] | bit : m->budgets[id / 64] & ~bit;
}
static bool is_kept(const struct zest *z, const struct zbuf *zb)
{
    return zb->owner == zbuf_budget_id(z->tcp.mem.kept);
}

unsigned mem_kind(const struct zest *z, const struct zbuf *zb)
{
    return is_kept(z, zb) ? 2 : is_ours(&z->tcp.mem, zb->owner);
}

/* ---- beginning and end */

static uint32_t group_count(const struct zest_config *cfg)
{
    return 1 + 2 * cfg->max_listeners;
}

uint32_t mem_groups(const struct zest *z)
{
    return group_count(&z->cfg);
}

size_t mem_size(const struct zest_config *cfg)
{
    return group_count(cfg) * sizeof(struct tcp_group);
}

int mem_init(struct zest *z, void *groups)
{
    struct tcp_mem *m = &z->tcp.mem;
    const struct zest_config *cfg = &z->cfg;

    m->seg = cfg->rx_seg;
    m->group = groups;
    memset(groups, 0, mem_size(cfg));
    /* Applications on both sides may fill their pools with what they send, and still read: a few
     * segments are always there to receive into, or neither would ever get a byte. As many as there
     * may be: no more than the ceiling lets through. */
    uint64_t segs = min_u64(TCP_RX_MIN, cfg->rx_hold_max / m->seg);
    struct zbuf_budget_config all = {.name = "received",
                                     .min_bytes = segs * m->seg,
                                     .min_seg = m->seg,
                                     .max_bytes = cfg->rx_hold_max};
    struct zbuf_budget_config kept = {.name = "kept for connections", .min_seg = m->seg};
    struct zbuf_budget_config copied = {.name = "copied writes",
                                        .parent = zbuf_budget_app(z->pool)};
    m->group[0].budget = z->tcp.rcv = zbuf_budget_open(z->pool, &all);
    m->kept = zbuf_budget_open(z->pool, &kept);
    z->tcp.copied = zbuf_budget_open(z->pool, &copied);
    if (!z->tcp.rcv || !m->kept || !z->tcp.copied) {
        mem_fini(z);
        return -ENOBUFS;
    }
    m->group[0].max = cfg->rx_hold_max;
    m->group[0].members = 1;
    mark_ours(m, z->tcp.rcv, true);
    mark_ours(m, m->kept, true);
    mem_look(z);
    return 0;
}

/* Lent views and frames on their way keep a budget alive: it goes with the pool then. */
static void give_up(struct zbuf_budget *b)
{
    if (b && zbuf_budget_destroy(b) < 0) {
        zbuf_budget_wait_cancel(b);
        (void)zbuf_budget_resize(b, 0, 0);
    }
}

void mem_fini(struct zest *z)
{
    struct tcp_mem *m = &z->tcp.mem;

    for (uint32_t i = group_count(&z->cfg); i-- > 0;) /* children first */
        give_up(m->group[i].budget);
    give_up(m->kept);
    give_up(z->tcp.copied);
}

/* ---- listeners */

/* A group that nobody belongs to, and whose last segment has come home, can be used again. */
static bool group_is_free(struct zest *z, struct tcp_group *g)
{
    if (!g->budget)
        return true;
    if (g->members > 0)
        return false;
    unsigned id = zbuf_budget_id(g->budget);
    if (zbuf_budget_destroy(g->budget) < 0)
        return false;
    z->tcp.mem.budgets[id / 64] &= ~(1ull << id % 64);
    *g = (struct tcp_group){0};
    return true;
}

static struct zbuf_budget *open_budget(struct zest *z, const char *name, uint64_t min, uint64_t max)
{
    return zbuf_budget_open(z->pool, &(struct zbuf_budget_config){.name = name,
                                                                  .parent = z->tcp.rcv,
                                                                  .min_bytes = min,
                                                                  .min_seg = z->tcp.mem.seg,
                                                                  .max_bytes = max});
}

struct tcp_group *mem_group_open(struct zest *z, uint16_t port)
{
    struct tcp_mem *m = &z->tcp.mem;
    struct tcp_group *g = NULL;
    char name[ZBUF_NAME_MAX];
    bool replaying = z->rec && z->rec->replaying;
    bool refused = replaying && record_ask(z->rec, false, NULL);

    for (uint32_t i = 1; i < group_count(&z->cfg) && !g && !refused; i++)
        if (group_is_free(z, &m->group[i]))
            g = &m->group[i];
    if (g) {
        snprintf(name, sizeof name, "listener :%u", port);
        g->budget = open_budget(z, name, 0, 0);
    }
    if (z->rec && !replaying)
        (void)record_ask(z->rec, !g || !g->budget, NULL);
    if (!g || !g->budget) { /* without limits of its own, then */
        m->group[0].members++;
        return &m->group[0];
    }
    mark_ours(m, g->budget, true);
    g->members = 1;
    return g;
}

void mem_group_leave(struct zest *z, struct tcp_group *g)
{
    assert(g->members > 0);
    if (--g->members == 0)
        (void)group_is_free(z, g);
}

bool mem_restore_group(struct zest *z, struct tcp_group *g, uint64_t min, uint64_t max)
{
    g->budget = open_budget(z, "restored", min, max);
    if (!g->budget)
        return false;
    g->min = min;
    g->max = max;
    mark_ours(&z->tcp.mem, g->budget, true);
    return true;
}

bool mem_restore_kept(struct zest *z, uint32_t aside)
{
    struct tcp_mem *m = &z->tcp.mem;

    m->kept_aside = aside;
    m->wakeups = zbuf_pool_wakeups(z->pool);
    return zbuf_budget_resize(m->kept, (uint64_t)aside * m->seg, 0) == 0;
}

/* What the pool says to it is an input, like all its answers. */
static int resize(struct zest *z, struct zbuf_budget *b, uint64_t min, uint64_t max)
{
    bool refused;

    if (z->rec && z->rec->replaying)
        refused = record_ask(z->rec, false, NULL);
    else
        refused = false;
    if (!refused)
        refused = zbuf_budget_resize(b, min, max) < 0;
    if (z->rec && !z->rec->replaying)
        (void)record_ask(z->rec, refused, NULL);
    return refused ? -ENOBUFS : 0;
}

int mem_group_limits(struct zest *z, struct tcp_group *g, uint64_t min, uint64_t max)
{
    if (g == &z->tcp.mem.group[0])
        return -ENOBUFS;
    if (max && max < (uint64_t)segs_for(z, min) * z->tcp.mem.seg)
        return -EINVAL;
    int err = resize(z, g->budget, min, max);
    if (err < 0)
        return err;
    g->min = min;
    g->max = max;
    return 0;
}

/* ---- connections */

static int set_aside(struct zest *z, uint32_t segs)
{
    struct tcp_mem *m = &z->tcp.mem;
    uint32_t round = (segs + KEEP_BATCH - 1) / KEEP_BATCH * KEEP_BATCH;

    if (segs <= m->kept_aside && m->kept_aside <= round + KEEP_BATCH)
        return 0;
    if (resize(z, m->kept, (uint64_t)round * m->seg, 0) == 0) {
        m->kept_aside = round;
        return 0;
    }
    if (segs <= m->kept_aside) /* it could not be made less: so be it */
        return 0;
    if (resize(z, m->kept, (uint64_t)segs * m->seg, 0) < 0)
        return -ENOBUFS;
    m->kept_aside = segs;
    return 0;
}

int mem_promise(struct zest *z, struct tcp_conn *c, uint32_t bytes)
{
    struct tcp_mem *m = &z->tcp.mem;
    uint32_t segs = m->kept_segs - segs_for(z, c->mem_min) + segs_for(z, bytes);

    if (segs != m->kept_segs && set_aside(z, segs) < 0)
        return -ENOBUFS;
    m->kept_segs = segs;
    c->mem_min = bytes;
    return 0;
}

/* Each connection can always receive one frame at least; as many as there can be such promises
 * without taking more than half of what may be held at all. */
void mem_promise_default(struct zest *z, struct tcp_conn *c)
{
    uint32_t want = z->cfg.conn_mem_min;
    uint64_t all = z->tcp.mem.kept_segs + (uint64_t)segs_for(z, want);

    if (want && all * z->tcp.mem.seg <= z->cfg.rx_hold_max / 2)
        (void)mem_promise(z, c, want);
}

/* limit, or less by what was set for c and its group. One segment can always be held, whatever the
 * ceilings are: a window is offered as long as nothing is, and what it lets the peer send must be
 * taken in the end. */
static uint32_t limit_of(const struct zest *z, const struct tcp_conn *c, uint64_t limit)
{
    const struct tcp_mem *m = &z->tcp.mem;
    const struct tcp_group *g = c->group;

    if (g->max && g != m->group)
        limit = min_u64(limit, above(g->max, g->held) / 2);
    if (c->mem_max)
        limit = min_u64(limit, c->mem_max);
    return (uint32_t)min_u64(max_u64(limit, max_u64(c->mem_min, m->seg)), 1u << 30);
}

static uint64_t half_of_the_rest(const struct zest *z)
{
    return max_u64(above(z->cfg.rx_hold_max, z->tcp.mem.held) / 2, TCP_HELD_MIN);
}

uint32_t mem_limit(const struct zest *z, const struct tcp_conn *c)
{
    return limit_of(z, c, half_of_the_rest(z));
}

/* What the pool has left for c. */
static uint64_t there(const struct zest *z, const struct tcp_conn *c)
{
    const struct tcp_mem *m = &z->tcp.mem;
    const struct tcp_group *g = c->group;

    return max_u64(above(m->reach, m->held), above(g->min, g->held));
}

uint32_t mem_prospect(const struct zest *z, const struct tcp_conn *c)
{
    return limit_of(z, c, min_u64(half_of_the_rest(z), there(z, c) / 2));
}

bool mem_is_there(const struct zest *z, const struct tcp_conn *c)
{
    uint32_t seg = z->tcp.mem.seg;
    return c->held + seg <= c->mem_min || there(z, c) >= seg;
}

/* The nearer the end, the sooner again; and others take memory while nothing comes in. */
void mem_look(struct zest *z)
{
    struct tcp_mem *m = &z->tcp.mem;
    uint64_t room = zbuf_budget_room(z->tcp.rcv, m->seg - ZBUF_OVERHEAD);

    m->reach = m->held + room;
    m->next_look = z->stats.rx_bytes + room / 16;
    m->next_look_ns = z->now_ns + LOOK_NS;
}

static void count(struct zest *z, struct tcp_conn *c, uint32_t size)
{
    c->held += size;
    c->group->held += size;
    z->tcp.mem.held += size;
}

bool mem_take(struct zest *z, struct tcp_conn *c, struct zbuf *zb, uint32_t limit)
{
    uint32_t with = c->held + zb->size;

    if ((recvq_is_over(z, with > limit) || !stack_charge(z, zb, c->group->budget)) &&
        (recvq_is_over(z, with > c->mem_min) || !stack_charge(z, zb, z->tcp.mem.kept)))
        return false;
    zbuf_set_holder(zb, c->who);
    count(z, c, zb->size);
    return true;
}

void mem_hold(struct zest *z, struct tcp_conn *c, const struct zbuf *zb)
{
    count(z, c, zb->size);
}

void mem_unhold(struct zest *z, struct tcp_conn *c, uint32_t size)
{
    assert(c->held >= size && c->group->held >= size && z->tcp.mem.held >= size);
    c->held -= size;
    c->group->held -= size;
    z->tcp.mem.held -= size;
}

/* If somebody else goes on holding it, it should not be at the cost of what is kept. */
void mem_drop(struct zest *z, struct tcp_conn *c, struct zbuf *zb)
{
    mem_unhold(z, c, zb->size);
    if (is_kept(z, zb) && zbuf_refcount(zb) > 1)
        (void)zbuf_charge(zb, c->group->budget);
    zbuf_free(zb);
}

void mem_forget(struct zest *z, struct tcp_conn *c)
{
    mem_unhold(z, c, c->held);
}

bool mem_may_send(struct zest *z, struct tcp_conn *c, struct zbuf *zb)
{
    return !is_kept(z, zb) || zb->priv >> 16 == c->who || stack_charge(z, zb, c->group->budget);
}

/* ---- waiting for memory */

void mem_wait(struct zest *z, struct tcp_conn *c, struct zbuf_budget *b, uint32_t bytes)
{
    struct tcp_mem *m = &z->tcp.mem;

    m->wakeups = m->waiting ? m->wakeups : zbuf_pool_wakeups(z->pool);
    if (!c->waits) {
        c->waits = true;
        c->wait_next = m->waiting;
        c->wait_prev = NULL;
        if (m->waiting)
            m->waiting->wait_prev = c;
        m->waiting = c;
    }
    bool now = zbuf_budget_wait(b, bytes) == 1;
    if (z->rec ? record_ask(z->rec, now, NULL) : now)
        tcp_event(z, c, ZEST_EV_WRITABLE);
}

void mem_wait_end(struct zest *z, struct tcp_conn *c)
{
    struct tcp_mem *m = &z->tcp.mem;

    if (!c->waits)
        return;
    c->waits = false;
    *(c->wait_prev ? &c->wait_prev->wait_next : &m->waiting) = c->wait_next;
    if (c->wait_next)
        c->wait_next->wait_prev = c->wait_prev;
    if (m->waiting)
        return;
    zbuf_budget_wait_cancel(z->tcp.copied); /* or every free would go the slow way */
    for (uint32_t i = 0; i < group_count(&z->cfg); i++)
        if (m->group[i].budget)
            zbuf_budget_wait_cancel(m->group[i].budget);
}

/* All are told, not only the first: it may have lost interest, and the others must not hang on it.
 * Those who are refused again wait again. */
void mem_wake(struct zest *z)
{
    struct tcp_mem *m = &z->tcp.mem;
    uint32_t wakeups = zbuf_pool_wakeups(z->pool);
    bool woken = wakeups != m->wakeups;

    if (!(z->rec ? record_ask(z->rec, woken, NULL) : woken))
        return;
    m->wakeups = wakeups;
    while (m->waiting) {
        tcp_event(z, m->waiting, ZEST_EV_WRITABLE);
        mem_wait_end(z, m->waiting);
    }
}
