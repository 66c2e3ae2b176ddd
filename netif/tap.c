/* tap.c - Ethernet frames through /dev/net/tun (IFF_TAP | IFF_NO_PI).
 *
 * One read a frame, straight into a segment, and one writev a frame, from where its parts lie: the
 * copies are the kernel's, gathering is free. No offloads are announced, so the kernel hands over
 * complete checksums and single packets. The interface has two sides: the host's is the kernel's,
 * with a MAC address of its own; ours has another, drawn at random. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "link.h"

#define ETH_HEADER 14u
#define SPARES     32u  /* empty segments kept ready, so that a poll without frames costs nothing */
#define QUEUE      256u /* frames that wait while the kernel takes no more; a power of two */
#define DROPS_MAX  64u  /* frames thrown away in one poll, when the pool has no memory */
#define MTU_MIN    576u
#define MTU_MAX    9000u

struct tap {
    struct netif nif;
    struct zbuf_budget *budget;
    struct zbuf *spare[SPARES];
    unsigned n_spare;
    struct zest_frame queue[QUEUE];
    unsigned head, tail; /* count up for ever; in_queue = tail - head */
    unsigned descs;      /* in the queue */
};

static struct tap *tap_of(const struct netif *nif)
{
    return (struct tap *)nif;
}

/* ---- moving ---- */

/* Without a segment to put it into, a frame is read all the same: left where it is, it would keep
 * the descriptor readable, and the loop turning. */
static void drop_waiting(struct tap *t)
{
    char scrap[64];
    for (unsigned i = 0; i < DROPS_MAX && read(t->nif.fd, scrap, sizeof scrap) > 0; i++) {
        t->nif.stats.rx_dropped++;
        t->nif.stats.rx_no_memory++;
    }
}

static unsigned tap_rx(struct netif *nif, struct zbuf **frames, unsigned max)
{
    struct tap *t = tap_of(nif);
    size_t bytes = ETH_HEADER + 4u + nif->caps.mtu;
    unsigned n = 0;
    while (n < max) {
        if (t->n_spare == 0)
            t->n_spare = zbuf_alloc_bulk(t->budget, bytes, t->spare, SPARES);
        if (t->n_spare == 0) {
            drop_waiting(t);
            break;
        }
        struct zbuf *zb = t->spare[t->n_spare - 1];
        ssize_t got = read(nif->fd, zb->data, bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EBADFD || errno == ENODEV))
            nif->error = -ENODEV; /* the interface was deleted */
        if (got <= 0)
            break;
        t->n_spare--;
        zb->len = (uint32_t)got;
        nif->stats.rx_frames++;
        nif->stats.rx_bytes += (uint64_t)got;
        frames[n++] = zb;
    }
    return n;
}

static unsigned tap_tx_room(const struct netif *nif)
{
    const struct tap *t = tap_of(nif);
    unsigned room = QUEUE - (t->tail - t->head);
    return room;
}

static void tap_tx(struct netif *nif, const struct zest_frame *frames, unsigned n)
{
    struct tap *t = tap_of(nif);
    LINK_ASSERT(n <= tap_tx_room(nif));
    for (unsigned i = 0; i < n; i++) {
        LINK_ASSERT(frames[i].n >= 1 && frames[i].n <= ZEST_FRAME_SEGS);
        t->queue[t->tail++ % QUEUE] = frames[i];
        t->descs += frames[i].n;
    }
}

static void done(struct tap *t)
{
    struct zest_frame *f = &t->queue[t->head++ % QUEUE];
    for (unsigned s = 0; s < f->n; s++)
        zbuf_tx_done(t->nif.pool, f->seg[s].addr);
    t->descs -= f->n;
}

static int tap_kick(struct netif *nif)
{
    struct tap *t = tap_of(nif);
    while (t->head != t->tail) {
        const struct zest_frame *f = &t->queue[t->head % QUEUE];
        struct iovec iov[ZEST_FRAME_SEGS];
        for (unsigned s = 0; s < f->n; s++)
            iov[s] = (struct iovec){f->seg[s].addr, f->seg[s].len};
        nif->stats.tx_kicks++;
        ssize_t sent = writev(nif->fd, iov, f->n);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM))
            break; /* later */
        if (sent >= 0) {
            nif->stats.tx_frames++;
            nif->stats.tx_bytes += (uint64_t)sent;
        } else {
            nif->stats
                .tx_invalid++; /* EIO: the interface is down. Like a cable: the frame is lost */
            if (errno == EBADFD || errno == ENODEV)
                nif->error = -ENODEV;
        }
        done(t);
    }
    return nif->error;
}

static unsigned tap_in_flight(const struct netif *nif)
{
    return tap_of(nif)->descs;
}

static void tap_close(struct netif *nif)
{
    struct tap *t = tap_of(nif);
    if (nif->fd >= 0) {
        tap_kick(nif);
        close(nif->fd);
    }
    while (t->head != t->tail)
        done(t);
    zbuf_free_bulk(t->spare, t->n_spare);
    if (t->budget)
        zbuf_budget_destroy(t->budget); /* -EBUSY: frames are still with the stack */
    free(t);
}

static const struct netif_ops tap_ops = {
    .rx = tap_rx,
    .tx_room = tap_tx_room,
    .tx = tap_tx,
    .kick = tap_kick,
    .in_flight = tap_in_flight,
    .close = tap_close,
};

/* ---- opening ---- */

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

static int open_device(struct tap *t, const struct netif_tap_config *cfg, struct netif_error *err)
{
    const char *ifname = cfg->ifname ? cfg->ifname : "";
    if (strlen(ifname) >= IFNAMSIZ)
        return link_error(err, -EINVAL, "%s: an interface's name has at most 15 characters",
                          ifname);
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
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%.15s", ifname);
    if (ioctl(t->nif.fd, TUNSETIFF, &ifr) < 0) {
        int rc = -errno;
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
            return link_error(err, rc, "TAP %s: that interface is something else than a TAP",
                              ifname);
        default:
            return link_error(err, rc, "TAP %s: %s", ifname, strerror(-rc));
        }
    }
    snprintf(t->nif.caps.name, sizeof t->nif.caps.name, "%s", ifr.ifr_name);
    return 0;
}

static int build(struct tap *t, const struct netif_tap_config *cfg, struct netif_error *err)
{
    struct netif_caps *c = &t->nif.caps;
    uint16_t mtu = cfg->mtu ? cfg->mtu : 1500;
    if (!cfg->pool || mtu < MTU_MIN || mtu > MTU_MAX)
        return link_error(err, -EINVAL, "TAP: a pool is needed, and an MTU of %u to %u", MTU_MIN,
                          MTU_MAX);
    int rc = open_device(t, cfg, err);
    if (rc == 0)
        rc = set_host_side(cfg, c->name, mtu, err);
    if (rc)
        return rc;
    c->kind = c->mode = "tap";
    c->mtu = mtu;
    c->gather = c->gather_cheap = true;
    c->gather_max = ZEST_FRAME_SEGS;
    c->frame_descs = 1;
    if (getrandom(c->mac, sizeof c->mac, GRND_NONBLOCK) != sizeof c->mac)
        return link_error(err, -EAGAIN, "TAP: no random numbers yet");
    c->mac[0] = (uint8_t)((c->mac[0] & 0xfc) | 0x02); /* locally administered, one station */

    char name[ZBUF_NAME_MAX];
    snprintf(name, sizeof name, "rx %.15s", c->name);
    size_t seg = ZBUF_SEG_MIN;
    while (seg < ZBUF_OVERHEAD + ETH_HEADER + 4u + mtu)
        seg *= 2;
    c->rx_seg = (uint32_t)seg;
    t->budget = zbuf_budget_open(
        cfg->pool, &(struct zbuf_budget_config){
                       .name = name, .min_bytes = 2 * seg * SPARES, .min_seg = (uint32_t)seg});
    if (!t->budget)
        return link_error(err, -ENOBUFS,
                          "TAP %s: the pool cannot set %zu KiB aside to receive into", c->name,
                          2 * seg * SPARES >> 10);
    return 0;
}

int netif_open_tap(const struct netif_tap_config *cfg, struct netif **out, struct netif_error *err)
{
    struct tap *t = calloc(1, sizeof *t);
    if (!t)
        return link_error(err, -ENOMEM, "TAP: out of memory");
    t->nif = (struct netif){.ops = &tap_ops, .pool = cfg->pool, .fd = -1};
    int rc = build(t, cfg, err);
    if (rc) {
        tap_close(&t->nif);
        return rc;
    }
    *out = &t->nif;
    return 0;
}
