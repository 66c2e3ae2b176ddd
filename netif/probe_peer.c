/* probe_peer.c - the other end of a veth pair, wherever it is.
 *
 * The kernel tells its index, and a number that stands for its namespace. Which namespace that is
 * can be found out by asking for the number of each that there is a handle for: those that ip netns
 * named, and those of processes that we may see. It is then entered by a thread of its own, so that
 * the caller's never is anywhere else, not even when coming back fails. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe_priv.h"

#define NAMED_DIR    "/run/netns"
#define CANDIDATES   8192u
#define NAMESPACES   256u /* different ones that are asked about */
#define NSID_UNKNOWN (-1)

struct search {
    int netnsid;
    ino_t asked[NAMESPACES];
    unsigned n_asked;
};

static int nsid(const struct nlmsghdr *nlh, void *ctx)
{
    const struct nlattr *a;
    PROBE_EACH(a, nlh, sizeof(struct rtgenmsg))
    {
        if (mnl_attr_get_type(a) == NETNSA_NSID && mnl_attr_validate(a, MNL_TYPE_U32) == 0)
            *(int *)ctx = (int)mnl_attr_get_u32(a);
    }
    return MNL_CB_OK;
}

/* By which number our namespace knows the one that fd is a handle of. */
static int nsid_of(int fd)
{
    char buf[256];
    int id = NSID_UNKNOWN;
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    nlh->nlmsg_type = RTM_GETNSID;
    nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    struct rtgenmsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof *msg);
    msg->rtgen_family = AF_UNSPEC;
    mnl_attr_put_u32(nlh, NETNSA_FD, (uint32_t)fd);
    return probe_netlink(NETLINK_ROUTE, nlh, nsid, &id) == 0 ? id : NSID_UNKNOWN;
}

/* A descriptor, if this is the namespace looked for; else -1. */
static int is_it(struct search *s, int dir, const char *path)
{
    struct stat st;
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    bool it = false;
    if (fstat(fd, &st) == 0 && s->n_asked < NAMESPACES) {
        bool before = false;
        for (unsigned i = 0; i < s->n_asked; i++)
            before = before || s->asked[i] == st.st_ino;
        if (!before) {
            s->asked[s->n_asked++] = st.st_ino;
            it = nsid_of(fd) == s->netnsid;
        }
    }
    if (it)
        return fd;
    close(fd);
    return -1;
}

/* Looks through a directory whose entries are namespaces, or processes. */
static int look_in(struct search *s, const char *dir_name, bool processes,
                   struct netif_probe_peer *peer)
{
    DIR *dir = opendir(dir_name);
    if (!dir)
        return -1;
    int fd = -1;
    const struct dirent *e;
    for (unsigned i = 0; fd < 0 && i < CANDIDATES && (e = readdir(dir)) != NULL; i++) {
        char path[300];
        if (e->d_name[0] == '.' || (processes && !isdigit((unsigned char)e->d_name[0])))
            continue;
        snprintf(path, sizeof path, "%.200s%s", e->d_name, processes ? "/ns/net" : "");
        fd = is_it(s, dirfd(dir), path);
        if (fd >= 0 && processes)
            peer->netns_pid = (int)strtol(e->d_name, NULL, 10);
        else if (fd >= 0)
            snprintf(peer->netns, sizeof peer->netns, "%.63s", e->d_name);
    }
    closedir(dir);
    return fd;
}

/* In the namespace that we are in. */
static void look_at(struct netif_probe_peer *peer)
{
    struct netif_probe_if other = {.index = peer->index};
    probe_link(&other, NULL);
    if (!other.name[0])
        return;
    memcpy(peer->name, other.name, sizeof peer->name);
    peer->up = other.up;
    peer->mtu = other.mtu;
    peer->has_xdp = other.n_xdp > 0;
    probe_offloads(peer->name, &peer->offloads);
    peer->found = true;
}

struct visit {
    int fd;
    struct netif_probe_peer *peer;
};

static void *visit(void *arg)
{
    struct visit *v = arg;
    if (setns(v->fd, CLONE_NEWNET) == 0)
        look_at(v->peer);
    return NULL;
}

void probe_peer(struct netif_probe_if *out, int netnsid)
{
    struct netif_probe_peer *peer = &out->peer;
    if (!peer->elsewhere) {
        look_at(peer);
        return;
    }
    struct search s = {.netnsid = netnsid};
    int fd = look_in(&s, NAMED_DIR, false, peer);
    if (fd < 0)
        fd = look_in(&s, "/proc", true, peer);
    if (fd < 0)
        return;
    pthread_t thread;
    struct visit v = {.fd = fd, .peer = peer};
    if (pthread_create(&thread, NULL, visit, &v) == 0)
        pthread_join(thread, NULL);
    close(fd);
}
