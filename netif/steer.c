/* steer.c - ethtool's n-tuple rules: which queue a card brings a segment to, said beforehand.
 *
 * Two things are worth a rule, and each set of rules is put into the card as a whole or not at all:
 *
 *   own      a stack takes its local ports from those that are its number modulo their count, and
 *            ephemeral ports are all above 32768: so with a power of two of queues, one rule for
 *            each queue brings all answers home: destination port & (0x8000 | n - 1) == 0x8000 | i.
 *   all      where the interface has more queues than we do, TCP to our address comes in on ours
 *            only, spread by the low bits of the peer's port; and ARP on the first of them.
 *
 * Cards differ in what they take: many want masks that are all ones, or the same in every rule. One
 * that refuses is left as it was, and the hash decides, known or not (rss.c, group.c). The rules
 * are removed at the end; after kill -9 they stay, and the next start replaces them: what is about
 * our address, which is nobody else's, is taken to be ours.
 *
 * Another zest may have other queues of the card, and another address. Its TCP rules are about
 * that. ARP cannot be told apart: there is one rule, which is a living process's if that has a
 * socket on the queue that it names, and then left alone.
 *
 * All of it is ETHTOOL_[GS]RXCLSR..., asked through ethtool.h. */
#include "steer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>

#define EPHEMERAL  0x8000u /* a bit that all ephemeral ports have */
#define TABLE_MAX  65536u  /* rules of a card */
#define ALL_16     0xffffu
#define OTHERS_MAX 4096u /* rules of others that are looked at */

typedef struct ethtool_rx_flow_spec rule;

/* ---- what is wanted */

static rule tcp_to(const struct steer_wants *w, uint32_t queue)
{
    rule r = {.flow_type = TCP_V4_FLOW, .ring_cookie = queue};
    memcpy(&r.h_u.tcp_ip4_spec.ip4dst, w->ip, 4);
    r.m_u.tcp_ip4_spec.ip4dst = UINT32_MAX;
    return r;
}

static unsigned own_rules(const struct steer_wants *w, rule *out)
{
    if (w->n < 2 || (w->n & (w->n - 1)) != 0 || w->ports || w->n > STEER_RULES)
        return 0;
    for (uint32_t i = 0; i < w->n; i++) {
        out[i] = tcp_to(w, w->first + i);
        out[i].h_u.tcp_ip4_spec.pdst = htons((uint16_t)(EPHEMERAL | i));
        out[i].m_u.tcp_ip4_spec.pdst = htons((uint16_t)(EPHEMERAL | (w->n - 1)));
    }
    return w->n;
}

/* To one port of ours, or (0) all, over all our queues: 0 if there is no room. */
static unsigned spread(const struct steer_wants *w, uint16_t port, rule *out, unsigned room)
{
    uint32_t parts = 1;
    while (parts < w->n)
        parts *= 2;
    if (parts > room)
        return 0;
    for (uint32_t i = 0; i < parts; i++) {
        out[i] = tcp_to(w, w->first + i % w->n);
        out[i].h_u.tcp_ip4_spec.psrc = htons((uint16_t)i);
        out[i].m_u.tcp_ip4_spec.psrc = htons((uint16_t)(parts - 1));
        out[i].h_u.tcp_ip4_spec.pdst = htons(port);
        out[i].m_u.tcp_ip4_spec.pdst = port ? ALL_16 : 0;
    }
    return parts;
}

static unsigned all_rules(const struct steer_wants *w, rule *out)
{
    unsigned n = 0, more;
    if (w->n >= w->queues)
        return 0;
    if (!w->ports) {
        n = spread(w, 0, out, STEER_RULES - 1);
        if (n == 0)
            return 0;
        rule *arp = &out[n++];
        *arp = (rule){.flow_type = ETHER_FLOW, .ring_cookie = w->first};
        arp->h_u.ether_spec.h_proto = htons(ETH_P_ARP);
        arp->m_u.ether_spec.h_proto = ALL_16;
        return n;
    }
    for (unsigned i = 0; i < w->n_ports; i++)
        for (uint32_t port = w->ports[i].first; port <= w->ports[i].last; port++, n += more) {
            more = spread(w, (uint16_t)port, out + n, STEER_RULES - n);
            if (more == 0)
                return 0;
        }
    return n;
}

/* ---- what is there already */

static bool is_port_of(const struct steer_wants *w, uint16_t port)
{
    for (unsigned i = 0; i < w->n_ports; i++)
        if (port >= w->ports[i].first && port <= w->ports[i].last)
            return true;
    return w->ports == NULL;
}

/* About our address, or ports of it: a start that was killed has left it. */
static bool about_us(const struct steer_wants *w, const rule *r)
{
    const struct ethtool_tcpip4_spec *h = &r->h_u.tcp_ip4_spec, *m = &r->m_u.tcp_ip4_spec;
    return r->flow_type == TCP_V4_FLOW && m->ip4dst == UINT32_MAX &&
           memcmp(&h->ip4dst, w->ip, 4) == 0 &&
           (!w->ports || (m->pdst == ALL_16 && is_port_of(w, ntohs(h->pdst))));
}

static bool is_arp(const rule *r)
{
    return r->flow_type == ETHER_FLOW && r->h_u.ether_spec.h_proto == htons(ETH_P_ARP) &&
           r->m_u.ether_spec.h_proto == ALL_16;
}

static bool is_among(uint64_t queue, uint32_t first, uint32_t n)
{
    return queue >= first && queue - first < n;
}

/* A rule for all, of somebody who lives. */
static bool is_anothers(const struct steer_wants *w, const rule *r)
{
    return is_arp(r) && !is_among(r->ring_cookie, w->first, w->n) && w->taken &&
           w->taken(w->ctx, (uint32_t)r->ring_cookie);
}

/* NOLINTBEGIN(bugprone-suspicious-memory-comparison): one of the union's members is all of its
 * bytes */
static bool same_match(const rule *a, const rule *b)
{
    return a->flow_type == b->flow_type && memcmp(&a->h_u, &b->h_u, sizeof a->h_u) == 0 &&
           memcmp(&a->m_u, &b->m_u, sizeof a->m_u) == 0;
}
/* NOLINTEND(bugprone-suspicious-memory-comparison) */

static void drop(const struct ethtool *e, uint32_t location)
{
    struct ethtool_rxnfc del = {.cmd = ETHTOOL_SRXCLSRLDEL, .fs.location = location};
    ethtool_ask(e, &del); /* what is gone already is none of ours any more */
}

/* The card's table: whether it chooses places itself, how large it is, and what is in it. */
struct table {
    bool chooses;
    uint32_t size;
    uint32_t n; /* rules */
    struct ethtool_rxnfc *all;
};

static int look(const struct ethtool *e, struct table *t)
{
    struct ethtool_rxnfc count = {.cmd = ETHTOOL_GRXCLSRLCNT};
    *t = (struct table){0};
    int rc = ethtool_ask(e, &count);
    if (rc)
        return rc;
    if (count.rule_cnt > OTHERS_MAX)
        return -E2BIG;
    t->chooses = count.data & RX_CLS_LOC_SPECIAL;
    t->all = calloc(1, sizeof *t->all + count.rule_cnt * sizeof t->all->rule_locs[0]);
    if (!t->all)
        return -ENOMEM;
    t->all->cmd = ETHTOOL_GRXCLSRLALL;
    t->all->rule_cnt = count.rule_cnt;
    rc = ethtool_ask(e, t->all);
    if (rc) {
        free(t->all);
        return rc;
    }
    t->n = t->all->rule_cnt < count.rule_cnt ? t->all->rule_cnt : count.rule_cnt;
    t->size = (uint32_t)(t->all->data < TABLE_MAX ? t->all->data : TABLE_MAX);
    return 0;
}

static void remove_old(struct steer *s, const struct steer_wants *w, struct table *t,
                       const rule *wanted, unsigned n)
{
    const struct ethtool *e = &s->e;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        struct ethtool_rxnfc get = {.cmd = ETHTOOL_GRXCLSRULE, .fs.location = t->all->rule_locs[i]};
        bool ours = false;
        if (ethtool_ask(e, &get) == 0) {
            ours = about_us(w, &get.fs);
            for (unsigned k = 0; k < n && !ours; k++)
                ours = same_match(&get.fs, &wanted[k]);
        }
        if (ours && is_anothers(w, &get.fs)) {
            s->arp_elsewhere = true;
            s->arp_queue = (uint32_t)get.fs.ring_cookie;
            ours = false;
        }
        if (ours)
            drop(e, t->all->rule_locs[i]);
        else
            t->all->rule_locs[kept++] = t->all->rule_locs[i];
    }
    t->n = kept;
}

/* ---- putting them in */

static bool is_free(const struct steer *s, const struct table *t, uint32_t location)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->all->rule_locs[i] == location)
            return false;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->location[i] == location)
            return false;
    return true;
}

/* Of two rules that fit, the one with the lower place wins. */
static int insert(struct steer *s, const struct table *t, const rule *r, bool early)
{
    struct ethtool_rxnfc in = {.cmd = ETHTOOL_SRXCLSRLINS, .fs = *r};
    if (s->n == STEER_RULES)
        return -ENOSPC;
    if (t->chooses) {
        in.fs.location = early ? RX_CLS_LOC_FIRST : RX_CLS_LOC_LAST;
        int rc = ethtool_ask(&s->e, &in);
        if (rc == 0)
            s->location[s->n++] = in.fs.location;
        if (rc != -EINVAL && rc != -EOPNOTSUPP)
            return rc;
        in = (struct ethtool_rxnfc){.cmd = ETHTOOL_SRXCLSRLINS, .fs = *r};
        in.fs.location = RX_CLS_LOC_ANY;
    } else {
        uint32_t i = 0, at = 0;
        for (; i < t->size; i++) {
            at = early ? i : t->size - 1 - i;
            if (is_free(s, t, at))
                break;
        }
        if (i == t->size)
            return -ENOSPC;
        in.fs.location = at;
    }
    int rc = ethtool_ask(&s->e, &in);
    if (rc == 0)
        s->location[s->n++] = in.fs.location;
    return rc;
}

static bool insert_set(struct steer *s, const struct table *t, const rule *set, unsigned n,
                       bool early)
{
    uint32_t before = s->n;
    for (unsigned i = 0; i < n; i++) {
        if (insert(s, t, &set[i], early) == 0)
            continue;
        while (s->n > before)
            drop(&s->e, s->location[--s->n]);
        return false;
    }
    return n > 0;
}

static bool switched_on(const struct ethtool *e)
{
    struct ethtool_value flags = {.cmd = ETHTOOL_GFLAGS};
    return ethtool_ask(e, &flags) == 0 && (flags.data & ETH_FLAG_NTUPLE);
}

uint32_t steer_open(struct steer *s, const struct ethtool *e, const struct steer_wants *w)
{
    *s = (struct steer){.e = *e, .first = w->first, .queues = w->n};
    memcpy(s->ip, w->ip, sizeof s->ip);
    rule *rules = calloc(2ul * STEER_RULES, sizeof *rules);
    struct table t;
    if (rules && switched_on(e) && look(e, &t) == 0) {
        unsigned own = own_rules(w, rules), all = all_rules(w, rules + own);
        remove_old(s, w, &t, rules, own + all);
        all -= s->arp_elsewhere; /* it is the last one */
        s->own = insert_set(s, &t, rules, own, true);
        insert_set(s, &t, rules + own, all, false);
        free(t.all);
    }
    free(rules);
    return s->n;
}

/* By now somebody may have removed it, and another have his in its place. */
static bool is_ours_still(const struct steer *s, uint32_t location)
{
    struct ethtool_rxnfc get = {.cmd = ETHTOOL_GRXCLSRULE, .fs.location = location};
    return ethtool_ask(&s->e, &get) == 0 && is_among(get.fs.ring_cookie, s->first, s->queues) &&
           (is_arp(&get.fs) || (get.fs.flow_type == TCP_V4_FLOW &&
                                memcmp(&get.fs.h_u.tcp_ip4_spec.ip4dst, s->ip, 4) == 0));
}

void steer_close(struct steer *s)
{
    while (s->n > 0)
        if (is_ours_still(s, s->location[--s->n]))
            drop(&s->e, s->location[s->n]);
}
