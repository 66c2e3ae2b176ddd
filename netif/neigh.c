/* neigh.c - a stack that has some ports of the host's own address.
 *
 * ARP is the kernel's there: it answers for the address, and it hears the answers to what it asks.
 * The stack asks by ARP as ever; its requests do not go out, but to the kernel by rtnetlink: is the
 * neighbour known? If so, the answer is made into the ARP frame that the wire would have brought.
 * If not, the kernel is told to use the neighbour (NTF_USE), which makes it ask, and tells us
 * (group RTNLGRP_NEIGH) how that went. A stale neighbour is used and confirmed by the kernel in the
 * same way. What the kernel cannot find out, the stack gives up by its own timers.
 *
 * The ports are held by sockets that are bound and nothing else: the kernel's own can't have them,
 * neither to listen nor to connect from. */
#include "neigh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define WANTS        32u /* addresses that we wait to hear of */
#define ETH_TYPE_ARP 0x0806u
#define ARP_FRAME    42u
#define ARP_REQUEST  1
#define ARP_REPLY    2
#define READ_BYTES   8192u
#define READS        16u /* of the netlink socket, at a time */
#define KNOWN        (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)

struct answer {
    uint32_t ip_be;
    uint8_t mac[6];
};

struct neigh {
    int fd; /* rtnetlink */
    int ifindex;
    uint32_t ip_be;
    uint8_t mac[6];
    uint32_t seq;
    uint32_t want[WANTS]; /* 0 = none */
    unsigned next_want;
    struct answer answer[WANTS];
    unsigned answers;
    struct netif_ports *ports;
    unsigned n_ranges, n_ports;
    int *held; /* [n_ports]; -1 = none */
};

/* ---- asking the kernel */

struct request {
    struct nlmsghdr nh;
    struct ndmsg nd;
    struct rtattr dst;
    uint32_t ip_be;
};

static void ask(struct neigh *ng, uint16_t type, uint16_t flags, uint8_t ndm_flags, uint32_t ip_be)
{
    struct request r = {
        .nh = {.nlmsg_len = sizeof r,
               .nlmsg_type = type,
               .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
               .nlmsg_seq = ++ng->seq},
        .nd = {.ndm_family = AF_INET, .ndm_ifindex = ng->ifindex, .ndm_flags = ndm_flags},
        .dst = {.rta_len = RTA_LENGTH(sizeof r.ip_be), .rta_type = NDA_DST},
        .ip_be = ip_be,
    };
    /* A lost request is repeated by the stack. */
    (void)!send(ng->fd, &r, sizeof r, MSG_DONTWAIT);
}

/* Makes the kernel find out, or confirm what it knows. */
static void prod(struct neigh *ng, uint32_t ip_be)
{
    ask(ng, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, NTF_USE, ip_be);
}

static uint32_t *find_want(struct neigh *ng, uint32_t ip_be)
{
    for (unsigned i = 0; i < WANTS; i++)
        if (ng->want[i] == ip_be)
            return &ng->want[i];
    return NULL;
}

bool neigh_takes(struct neigh *ng, const uint8_t *frame, uint32_t len)
{
    uint32_t target;
    if (len < 14 || (frame[12] << 8 | frame[13]) != ETH_TYPE_ARP)
        return false;
    if (len < ARP_FRAME || (frame[20] << 8 | frame[21]) != ARP_REQUEST)
        return true;
    memcpy(&target, frame + 38, sizeof target);
    if (target == 0 || target == ng->ip_be) /* nothing to find out about ourselves */
        return true;
    if (!find_want(ng, target))
        ng->want[ng->next_want++ % WANTS] = target;
    ask(ng, RTM_GETNEIGH, 0, 0, target);
    return true;
}

/* ---- what it says */

static void heard(struct neigh *ng, const struct nlmsghdr *nh)
{
    const struct ndmsg *nd = NLMSG_DATA(nh);
    if (nh->nlmsg_len < NLMSG_LENGTH(sizeof *nd) || nd->ndm_family != AF_INET ||
        nd->ndm_ifindex != ng->ifindex)
        return;
    uint32_t ip_be = 0;
    const uint8_t *mac = NULL;
    size_t len = nh->nlmsg_len - NLMSG_LENGTH(sizeof *nd);
    const struct rtattr *a = (const void *)((const uint8_t *)nd + NLMSG_ALIGN(sizeof *nd));
    for (; RTA_OK(a, len); a = RTA_NEXT(a, len)) {
        if (a->rta_type == NDA_DST && RTA_PAYLOAD(a) == sizeof ip_be)
            memcpy(&ip_be, RTA_DATA(a), sizeof ip_be);
        else if (a->rta_type == NDA_LLADDR && RTA_PAYLOAD(a) == 6)
            mac = RTA_DATA(a);
    }
    uint32_t *want = ip_be ? find_want(ng, ip_be) : NULL;
    if (!want)
        return;
    bool known = (nd->ndm_state & KNOWN) && mac;
    if (known && ng->answers < WANTS) {
        ng->answer[ng->answers].ip_be = ip_be;
        memcpy(ng->answer[ng->answers++].mac, mac, 6);
        *want = 0;
    }
    if (nd->ndm_state & NUD_STALE || (!known && !(nd->ndm_state & (NUD_INCOMPLETE | NUD_FAILED))))
        prod(ng, ip_be);
}

/* The kernel has no entry (ENOENT, in answer to what we asked last or before): all that we still
 * want is to be found out. */
static void unknown(struct neigh *ng)
{
    for (unsigned i = 0; i < WANTS; i++)
        if (ng->want[i])
            prod(ng, ng->want[i]);
}

void neigh_woken(struct neigh *ng)
{
    _Alignas(struct nlmsghdr) uint8_t buf[READ_BYTES];
    for (unsigned i = 0; i < READS; i++) {
        ssize_t n = recv(ng->fd, buf, sizeof buf, MSG_DONTWAIT);
        if (n <= 0) /* ENOBUFS: some was lost; the stack asks again */
            return;
        const struct nlmsghdr *nh = (const void *)buf;
        size_t left = (size_t)n;
        for (; NLMSG_OK(nh, left); nh = NLMSG_NEXT(nh, left)) {
            const struct nlmsgerr *e = NLMSG_DATA(nh);
            if (nh->nlmsg_type == RTM_NEWNEIGH)
                heard(ng, nh);
            else if (nh->nlmsg_type == NLMSG_ERROR && nh->nlmsg_len >= NLMSG_LENGTH(sizeof *e) &&
                     e->error == -ENOENT && e->msg.nlmsg_type == RTM_GETNEIGH)
                unknown(ng);
        }
    }
}

static void make_reply(const struct neigh *ng, const struct answer *a, uint8_t *p)
{
    static const uint8_t fixed[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, ARP_REPLY};
    memcpy(p, ng->mac, 6);
    memcpy(p + 6, a->mac, 6);
    memcpy(p + 12, fixed, sizeof fixed);
    memcpy(p + 22, a->mac, 6);
    memcpy(p + 28, &a->ip_be, 4);
    memcpy(p + 32, ng->mac, 6);
    memcpy(p + 38, &ng->ip_be, 4);
}

unsigned neigh_rx(struct neigh *ng, struct zbuf_pool *pool, struct zbuf **frames, unsigned max)
{
    unsigned n = 0;
    bool wanted = ng->answers > 0;
    for (unsigned i = 0; i < WANTS && !wanted; i++)
        wanted = ng->want[i] != 0;
    if (wanted)
        neigh_woken(ng);
    while (ng->answers > 0 && n < max) {
        struct zbuf *zb = zbuf_alloc(pool, ARP_FRAME);
        if (!zb) /* another time */
            break;
        make_reply(ng, &ng->answer[--ng->answers], zb->data);
        zb->len = ARP_FRAME;
        frames[n++] = zb;
    }
    return n;
}

int neigh_fd(const struct neigh *ng)
{
    return ng->fd;
}

/* ---- ports */

unsigned neigh_ports(const struct neigh *ng)
{
    return ng->n_ports;
}

const uint8_t *neigh_ip(const struct neigh *ng)
{
    return (const uint8_t *)&ng->ip_be;
}

static uint16_t nth_port(const struct neigh *ng, unsigned n)
{
    const struct netif_ports *r = ng->ports;
    LINK_ASSERT(r && n < ng->n_ports);
    for (; n > (unsigned)(r->last - r->first); r++)
        n -= r->last - r->first + 1u;
    return (uint16_t)(r->first + n);
}

uint16_t neigh_port(const struct neigh *ng, uint16_t last)
{
    uint32_t at = 0;
    LINK_ASSERT(ng->n_ports > 0);
    if (last == 0) {
        if (getrandom(&at, sizeof at, 0) != (ssize_t)sizeof at)
            at = 0;
        return nth_port(ng, at % ng->n_ports);
    }
    for (; at < ng->n_ports && nth_port(ng, at) != last; at++)
        ;
    return nth_port(ng, (at + 1) % ng->n_ports);
}

static int hold(struct neigh *ng, struct netif_error *err)
{
    char ip[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &ng->ip_be, ip, sizeof ip);
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
    ng->held = calloc(ng->n_ports + 1u, sizeof *ng->held);
    for (unsigned i = 0; ng->held && i < ng->n_ports; i++)
        ng->held[i] = -1;
    for (unsigned i = 0; ng->held && i < ng->n_ports; i++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(nth_port(ng, i))};
        at.sin_addr.s_addr = ng->ip_be;
        ng->held[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int rc = ng->held[i] < 0 || bind(ng->held[i], (struct sockaddr *)&at, sizeof at) < 0
                     ? -errno
                     : 0;
        if (rc == -EADDRINUSE)
            return link_error(
                err, rc,
                "port %u of %s is in use by this host: ss -tanp 'sport = :%u' says by "
                "whom",
                nth_port(ng, i), ip, nth_port(ng, i));
        if (rc == -EADDRNOTAVAIL)
            return link_error(err, rc,
                              "%s is not this host's: single ports (--ports) are had of the host's "
                              "own address only",
                              ip);
        if (rc)
            return link_error(err, rc, "port %u of %s cannot be held: %s", nth_port(ng, i), ip,
                              strerror(-rc));
    }
    return ng->held ? 0 : link_error(err, -ENOMEM, "out of memory");
}

/* ---- opening */

static int copy_ports(struct neigh *ng, const struct netif_xdp_config *cfg, struct netif_error *err)
{
    for (unsigned i = 0; i < cfg->n_ports; i++) {
        const struct netif_ports *r = &cfg->ports[i];
        if (r->first == 0 || r->last < r->first)
            return link_error(err, -EINVAL, "ports %u to %u: 1 to 65535, the lower one first",
                              r->first, r->last);
        for (unsigned k = 0; k < i; k++)
            if (r->first <= cfg->ports[k].last && cfg->ports[k].first <= r->last)
                return link_error(err, -EINVAL, "port %u is given twice",
                                  r->first > cfg->ports[k].first ? r->first : cfg->ports[k].first);
        ng->n_ports += r->last - r->first + 1u;
    }
    if (ng->n_ports > NETIF_PORTS_MAX)
        return link_error(err, -EINVAL, "%u ports: at most %u can be had of the host's address",
                          ng->n_ports, NETIF_PORTS_MAX);
    ng->n_ranges = cfg->n_ports;
    ng->ports = malloc(cfg->n_ports * sizeof *ng->ports);
    if (!ng->ports)
        return link_error(err, -ENOMEM, "out of memory");
    memcpy(ng->ports, cfg->ports, cfg->n_ports * sizeof *ng->ports);
    return 0;
}

int neigh_open(const struct netif_xdp_config *cfg, unsigned ifindex, const uint8_t mac[6],
               bool hold_ports, struct neigh **out, struct netif_error *err)
{
    struct neigh *ng = calloc(1, sizeof *ng);
    if (!ng)
        return link_error(err, -ENOMEM, "out of memory");
    LINK_ASSERT(cfg->n_ports > 0);
    ng->fd = -1;
    ng->ifindex = (int)ifindex;
    memcpy(ng->mac, mac, 6);
    memcpy(&ng->ip_be, cfg->ip.ip + 12, 4);
    int rc = copy_ports(ng, cfg, err);
    if (rc == 0 && hold_ports)
        rc = hold(ng, err);
    if (rc == 0) {
        struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_NEIGH};
        ng->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
        if (ng->fd < 0 || bind(ng->fd, (struct sockaddr *)&at, sizeof at) < 0)
            rc = link_error(err, -errno, "the kernel's neighbour table cannot be asked: %s",
                            strerror(errno));
    }
    if (rc)
        neigh_close(ng);
    else
        *out = ng;
    return rc;
}

void neigh_close(struct neigh *ng)
{
    if (!ng)
        return;
    for (unsigned i = 0; ng->held && i < ng->n_ports; i++)
        if (ng->held[i] >= 0)
            close(ng->held[i]);
    if (ng->fd >= 0)
        close(ng->fd);
    free(ng->held);
    free(ng->ports);
    free(ng);
}
