/* tap_open.c - making a TAP interface, or attaching to one that is there.
 *
 * The interface has two sides: the host's is the kernel's, with a MAC address of its own; ours has
 * another, drawn at random. Several queues are as many descriptors on one interface
 * (IFF_MULTI_QUEUE), and for us as many links with one address: the kernel sends a connection to
 * the queue that its frames last came from. */
#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define MTU_MIN 576u
#define MTU_MAX (65535u - TAP_ETH_HEADER) /* the kernel's for a TAP */

/* "10.0.0.1/24" */
static int parse_cidr(const char *text, struct in_addr *addr, struct in_addr *mask)
{
    char ip[INET_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    char *end = NULL;
    if (!slash || (size_t)(slash - text) >= sizeof ip || slash[1] < '0' || slash[1] > '9')
        return -EINVAL;
    memcpy(ip, text, (size_t)(slash - text));
    ip[slash - text] = 0;
    unsigned long bits = strtoul(slash + 1, &end, 10);
    if (*end || bits > 32 || inet_pton(AF_INET, ip, addr) != 1)
        return -EINVAL;
    mask->s_addr = htonl(bits ? UINT32_MAX << (32 - bits) : 0);
    return 0;
}

static int set_address(int s, unsigned long request, struct ifreq *ifr, struct in_addr a)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = a};
    memcpy(&ifr->ifr_addr, &sin, sizeof sin);
    return ioctl(s, request, ifr) < 0 ? -errno : 0;
}

/* The host's side: its MTU, and if asked for its address and that it is up. */
static int set_host_side(const struct netif_tap_config *cfg, const char *ifname, uint16_t mtu,
                         struct netif_error *err)
{
    struct in_addr addr = {0}, mask = {0};
    struct ifreq ifr = {0};
    struct ifinfo info;
    if (cfg->host_cidr && parse_cidr(cfg->host_cidr, &addr, &mask) != 0)
        return link_error(err, -EINVAL, "%s is not an IPv4 address with a prefix, like 10.0.0.1/24",
                          cfg->host_cidr);
    int rc = ifinfo_get(ifname, &info);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0 && rc == 0)
        rc = -errno;
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%.15s", ifname);
    if (rc == 0 && info.mtu != mtu) {
        ifr.ifr_mtu = mtu;
        rc = ioctl(s, SIOCSIFMTU, &ifr) < 0 ? -errno : 0;
    }
    if (rc == 0 && cfg->host_cidr) {
        rc = set_address(s, SIOCSIFADDR, &ifr, addr);
        if (rc == 0)
            rc = set_address(s, SIOCSIFNETMASK, &ifr, mask);
        if (rc == 0) {
            ifr.ifr_flags = 0;
            rc = ioctl(s, SIOCGIFFLAGS, &ifr) < 0 ? -errno : 0;
            ifr.ifr_flags |= IFF_UP | IFF_RUNNING;
            if (rc == 0)
                rc = ioctl(s, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
        }
    }
    if (s >= 0)
        close(s);
    if (rc)
        return link_error(err, rc, "%s: cannot set the host's side up: %s%s", ifname, strerror(-rc),
                          rc == -EPERM ? " (needs root, or cap_net_admin)" : "");
    return 0;
}

static int say_refused(struct netif_error *err, int rc, const char *ifname)
{
    switch (rc) {
    case -EPERM:
        return link_error(
            err, rc,
            "TAP %s: making one needs root or cap_net_admin (unshare -Urn gives it in "
            "a namespace of your own); attaching to one needs: ip tuntap add dev %s "
            "mode tap user $USER",
            ifname, *ifname ? ifname : "zest0");
    case -EBUSY:
        return link_error(err, rc, "TAP %s: another process has it open", ifname);
    case -EINVAL:
        return link_error(err, rc,
                          "TAP %s: that interface is something else than a TAP, or was made with "
                          "other options: several queues need one that was made with multi_queue, "
                          "one queue one without",
                          ifname);
    default:
        return link_error(err, rc, "TAP %s: %s", ifname, strerror(-rc));
    }
}

/* One queue of the interface; its name comes back in ifname. */
static int open_queue(struct tap *t, char ifname[IFNAMSIZ], bool several, struct netif_error *err)
{
    t->nif.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (t->nif.fd < 0) {
        int rc = -errno;
        if (rc == -EACCES || rc == -EPERM)
            return link_error(err, rc,
                              "/dev/net/tun: may not be opened by you: chmod 666 /dev/net/tun, "
                              "or run as root");
        return link_error(
            err, rc, "/dev/net/tun: %s: modprobe tun, or give the container --device /dev/net/tun",
            strerror(-rc));
    }
    int flags =
        IFF_TAP | IFF_NO_PI | (t->vnet ? IFF_VNET_HDR : 0) | (several ? IFF_MULTI_QUEUE : 0);
    struct ifreq ifr = {.ifr_flags = (short)flags};
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%.15s", ifname);
    if (ioctl(t->nif.fd, TUNSETIFF, &ifr) < 0)
        return say_refused(err, -errno, ifname);
    /* What the kernel may leave to us. It is the interface's, so one that was made beforehand must
     * be told, too, when nothing may be left. */
    unsigned long offload = t->vnet ? TUN_F_CSUM | TUN_F_TSO4 : 0;
    if (ioctl(t->nif.fd, TUNSETOFFLOAD, offload) < 0)
        return link_error(err, -errno, "TAP %s: offloads: %s", ifr.ifr_name, strerror(errno));
    snprintf(ifname, IFNAMSIZ, "%.15s", ifr.ifr_name);
    snprintf(t->nif.caps.name, sizeof t->nif.caps.name, "%s", ifname);
    return 0;
}

/* Segments to receive into: of a page, or less if all frames are shorter. */
static int open_budget(struct tap *t, struct netif_error *err)
{
    const struct netif_caps *c = &t->nif.caps;
    uint32_t longest = t->vnet ? TAP_FRAME_MAX : TAP_ETH_HEADER + 4u + c->mtu, seg = ZBUF_SEG_MIN;
    char name[ZBUF_NAME_MAX];
    while (seg < TAP_SEG_MAX && seg < ZBUF_OVERHEAD + longest)
        seg *= 2;
    t->room = seg - ZBUF_OVERHEAD;
    t->nif.caps.rx_seg = seg;
    t->parts = longest / t->room + 1; /* never full to the last byte: that would look cut off */
    LINK_ASSERT(t->parts <= TAP_PARTS);
    size_t least = 2 * (size_t)seg * TAP_SPARES;
    snprintf(name, sizeof name, "rx %.15s", c->name);
    t->budget = zbuf_budget_open(
        t->nif.pool,
        &(struct zbuf_budget_config){.name = name, .min_bytes = least, .min_seg = seg});
    if (!t->budget)
        return link_error(err, -ENOBUFS,
                          "TAP %s: the pool cannot set %zu KiB aside to receive into", c->name,
                          least >> 10);
    return 0;
}

static void tell_caps(struct tap *t, uint16_t mtu, uint32_t queue, const uint8_t mac[6])
{
    struct netif_caps *c = &t->nif.caps;
    c->kind = "tap";
    c->mode = t->vnet ? "offload" : "tap";
    c->queue = queue;
    c->mtu = mtu;
    c->gather = c->gather_cheap = true;
    c->gather_max = ZEST_FRAME_SEGS;
    c->frame_descs = 1;
    c->tx_csum = t->vnet;
    c->tso_segs = t->vnet ? UINT8_MAX : 0;
    memcpy(c->mac, mac, sizeof c->mac);
}

static int check(const struct netif_tap_config *cfg, uint16_t mtu, unsigned n,
                 struct netif_error *err)
{
    if (!cfg->pool || mtu < MTU_MIN || mtu > MTU_MAX)
        return link_error(err, -EINVAL, "TAP: a pool is needed, and an MTU of %u to %u", MTU_MIN,
                          MTU_MAX);
    if (cfg->ifname && strlen(cfg->ifname) >= IFNAMSIZ)
        return link_error(err, -EINVAL, "%s: an interface's name has at most 15 characters",
                          cfg->ifname);
    if (n == 0 || n > NETIF_QUEUES_MAX)
        return link_error(err, -EINVAL, "TAP: 1 to %u queues", NETIF_QUEUES_MAX);
    return 0;
}

int netif_open_tap_queues(const struct netif_tap_config *cfg, unsigned n, struct netif **out,
                          struct netif_error *err)
{
    char ifname[IFNAMSIZ] = "";
    uint16_t mtu = cfg->mtu ? cfg->mtu : 1500;
    uint8_t mac[6];
    unsigned made = 0;
    int rc = check(cfg, mtu, n, err);
    if (rc)
        return rc;
    if (getrandom(mac, sizeof mac, GRND_NONBLOCK) != sizeof mac)
        return link_error(err, -EAGAIN, "TAP: no random numbers yet");
    mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02); /* locally administered, one station */
    snprintf(ifname, sizeof ifname, "%s", cfg->ifname ? cfg->ifname : "");
    for (; made < n && rc == 0; made++) {
        struct tap *t = calloc(1, sizeof *t);
        if (!t) {
            rc = link_error(err, -ENOMEM, "TAP: out of memory");
            break;
        }
        t->nif = (struct netif){.ops = &tap_ops, .pool = cfg->pool, .fd = -1};
        t->vnet = !cfg->no_offload;
        out[made] = &t->nif;
        rc = open_queue(t, ifname, n > 1, err);
        if (rc == 0) {
            tell_caps(t, mtu, made, mac);
            rc = open_budget(t, err);
        }
    }
    if (rc == 0)
        rc = set_host_side(cfg, ifname, mtu, err);
    for (unsigned i = 0; i < made && rc; i++) {
        tap_ops.close(out[i]);
        out[i] = NULL; /* as it was: the caller closes what it was given */
    }
    return rc;
}

int netif_open_tap(const struct netif_tap_config *cfg, struct netif **out, struct netif_error *err)
{
    return netif_open_tap_queues(cfg, 1, out, err);
}
