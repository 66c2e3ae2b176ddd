/* watch.c - what happens to an interface while it is in use, as rtnetlink tells it: down, up,
 * without a carrier, renamed, another MTU, gone. The interface is known by its index, which a new
 * name does not change. Messages that were lost (ENOBUFS) are made up for by a look at what is so
 * now. */
#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "watch.h"

#define MESSAGES 64u /* of one look */

static void take(struct watch *w, const struct nlmsghdr *h)
{
    const struct ifinfomsg *m = NLMSG_DATA(h);
    if ((h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK) ||
        h->nlmsg_len < NLMSG_LENGTH(sizeof *m) || m->ifi_index != (int)w->index ||
        m->ifi_family != AF_UNSPEC) /* a bridge tells of its ports by the same messages */
        return;
    w->told = true;
    if (h->nlmsg_type == RTM_DELLINK) { /* or moved to another namespace */
        w->now.gone = true;
        return;
    }
    w->now.up = m->ifi_flags & IFF_UP;
    w->now.carrier = m->ifi_flags & IFF_LOWER_UP;
    uint32_t left = h->nlmsg_len - (uint32_t)NLMSG_LENGTH(sizeof *m);
    for (const struct rtattr *a = IFLA_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == IFLA_IFNAME)
            snprintf(w->now.name, sizeof w->now.name, "%.*s", (int)RTA_PAYLOAD(a),
                     (const char *)RTA_DATA(a));
        if (a->rta_type == IFLA_MTU && RTA_PAYLOAD(a) == sizeof w->now.mtu)
            memcpy(&w->now.mtu, RTA_DATA(a), sizeof w->now.mtu);
    }
}

/* Asks for the interface as it is: the answer comes like any other message. */
static void ask(const struct watch *w)
{
    struct {
        struct nlmsghdr h;
        struct ifinfomsg m;
    } req = {
        .h = {.nlmsg_len = sizeof req, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST},
        .m = {.ifi_index = (int)w->index}};
    (void)!send(w->fd, &req, sizeof req, MSG_DONTWAIT);
}

int watch_open(struct watch *w, unsigned index, const char *name, uint32_t mtu)
{
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    *w = (struct watch){.index = index, .now = {.up = true, .carrier = true, .mtu = mtu}};
    snprintf(w->now.name, sizeof w->now.name, "%s", name);
    w->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (w->fd < 0)
        return -errno;
    if (bind(w->fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
        int rc = -errno;
        watch_close(w);
        return rc;
    }
    ask(w); /* what happened between opening the link and now */
    return 0;
}

void watch_close(struct watch *w)
{
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

static bool is_same(const struct watch_state *a, const struct watch_state *b)
{
    return a->gone == b->gone && a->up == b->up && a->carrier == b->carrier && a->mtu == b->mtu &&
           strcmp(a->name, b->name) == 0;
}

bool watch_look(struct watch *w, struct watch_state *before)
{
    _Alignas(struct nlmsghdr) char buf[16384];
    *before = w->now;
    w->told = false;
    for (unsigned i = 0; i < MESSAGES; i++) {
        ssize_t n = recv(w->fd, buf, sizeof buf, MSG_DONTWAIT);
        if (n < 0 && errno == ENOBUFS) {
            ask(w);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)buf;
        for (uint32_t left = (uint32_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            const struct nlmsgerr *e = NLMSG_DATA(h);
            if (h->nlmsg_type == NLMSG_ERROR && h->nlmsg_len >= NLMSG_LENGTH(sizeof *e) &&
                e->error == -ENODEV) /* the answer to ask() */
                w->now.gone = true;
            take(w, h);
        }
    }
    return !is_same(before, &w->now);
}
