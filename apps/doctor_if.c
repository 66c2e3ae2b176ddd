/* doctor_if.c - what follows from what an interface can do. */
#include "doctor.h"

#include "../stack/zest.h"

#include <stdio.h>
#include <string.h>

/* ---- what a start would get */

static bool on(const struct netif_probe_offloads *o, enum netif_offload which)
{
    return o->on >> which & 1;
}

static bool fixed(const struct netif_probe_offloads *o, enum netif_offload which)
{
    return o->fixed >> which & 1;
}

/* Drivers of which it is known, where the kernel does not say: they had XDP before zest's oldest
 * kernel, and zero-copy later than kernels that say. */
static bool well_known(const struct netif_probe_if *i)
{
    return strcmp(i->kind, "veth") == 0 || strcmp(i->kind, "tun") == 0 ||
           strcmp(i->driver, "virtio_net") == 0;
}

/* The driver runs XDP programs itself, and can hand frames to sockets. */
static enum netif_answer has_native(const struct netif_probe_if *i)
{
    const uint64_t needed = NETIF_XDP_BASIC | NETIF_XDP_REDIRECT;
    if (i->virtio_offloads_fixed || i->loopback)
        return NETIF_NO;
    if (i->xdp_known != NETIF_YES)
        return well_known(i) ? NETIF_YES : NETIF_UNKNOWN;
    return (i->xdp_features & needed) == needed ? NETIF_YES : NETIF_NO;
}

/* More than one buffer a frame is needed, and the driver's XDP has one. */
static bool mtu_refused(const struct netif_probe_if *i)
{
    return i->mtu > NETIF_XDP_PAGE_MTU && has_native(i) == NETIF_YES && i->xdp_known == NETIF_YES &&
           !(i->xdp_features & NETIF_XDP_RX_SG);
}

static enum netif_answer has_zero_copy(const struct netif_probe_if *i)
{
    if (has_native(i) == NETIF_NO || mtu_refused(i))
        return NETIF_NO;
    if (i->xdp_known != NETIF_YES)
        return well_known(i) ? NETIF_NO : NETIF_UNKNOWN;
    if (!(i->xdp_features & NETIF_XDP_ZEROCOPY))
        return NETIF_NO;
    if (i->virtio == NETIF_YES)
        return i->virtio_platform && i->virtio_reset ? NETIF_YES : NETIF_NO;
    return NETIF_YES;
}

static unsigned gather_max(const struct netif_probe_host *h, const struct netif_probe_if *i)
{
    if (h->gather != NETIF_YES)
        return 1;
    if (has_zero_copy(i) != NETIF_YES)
        return NETIF_XDP_GATHER_MAX;
    return i->zc_max_segs == 0                     ? 1
           : i->zc_max_segs < NETIF_XDP_GATHER_MAX ? i->zc_max_segs
                                                   : NETIF_XDP_GATHER_MAX;
}

void doctor_verdict(char *out, size_t size, const struct netif_probe_host *h,
                    const struct netif_probe_if *i)
{
    static const char *const native[] = {"native if the driver has it", "generic", "native"};
    static const char *const copies[] = {"zero-copy or copy", "copy", "zero-copy"};
    unsigned n = gather_max(h, i);
    char gather[48] = "one descriptor a frame";
    if (n > 1)
        snprintf(gather, sizeof gather, "up to %u descriptors a frame", n);
    snprintf(out, size, "AF_XDP, %s, %s, %s",
             mtu_refused(i) ? native[NETIF_NO] : native[has_native(i)], copies[has_zero_copy(i)],
             gather);
}

/* ---- names */

static void plain(char *s)
{
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                               "_.:@/+-";
    for (s += strspn(s, safe); *s; s += strspn(s, safe))
        *s = '_';
}

void doctor_plain_names(struct netif_probe_if *i)
{
    plain(i->name);
    plain(i->driver);
    plain(i->kind);
    plain(i->master);
    plain(i->peer.name);
    plain(i->peer.netns);
    for (unsigned k = 0; k < i->n_xdp; k++) {
        plain(i->xdp[k].name);
        plain(i->xdp[k].pinned);
        plain(i->xdp[k].holder_name);
    }
    for (unsigned k = 0; k < i->n_sockets; k++)
        plain(i->sockets[k].holder_name);
}

/* ---- the link itself */

static void state(struct doctor_report *r, const struct netif_probe_if *i)
{
    if (!i->up)
        doctor_mend(doctor_find(r, DOCTOR_PROBLEM, "link", "it is down"),
                    "sudo ip link set dev %s up", i->name);
    else if (!i->carrier && strcmp(i->kind, "tun") == 0)
        doctor_find(r, DOCTOR_WARNING, "link",
                    "no carrier: no process has this %s open, and what is sent to it is lost",
                    i->tun_tap ? "TAP" : "TUN");
    else if (!i->carrier && i->peer.found && !i->peer.up)
        ; /* said of the other end */
    else if (!i->carrier)
        doctor_find(r, DOCTOR_WARNING, "link", "no carrier: the other end of the cable is %s",
                    i->peer.index ? "down" : "off, or not there");
    else
        doctor_find(r, DOCTOR_OK, "link", "up, MTU %u", i->mtu);
}

static void native(struct doctor_report *r, const struct netif_probe_if *i)
{
    const char *driver = *i->driver ? i->driver : *i->kind ? i->kind : "none";
    if (i->virtio_offloads_fixed) {
        doctor_mend(
            doctor_find(r, DOCTOR_WARNING, "native-xdp",
                        "virtio: its receive offloads cannot be switched off, so the driver "
                        "refuses XDP; generic mode copies each frame once more"),
            "qemu ... -device virtio-net-pci,ctrl_guest_offloads=on,...   (on the host)");
        return;
    }
    switch (has_native(i)) {
    case NETIF_YES:
        doctor_find(r, DOCTOR_OK, "native-xdp", "driver %s runs XDP programs itself", driver);
        break;
    case NETIF_NO:
        doctor_find(r, DOCTOR_NOTE, "native-xdp",
                    "none%s%s (or none that can redirect): generic mode, where the kernel makes a "
                    "packet of each frame first",
                    *i->driver ? " in driver " : "", i->driver);
        break;
    case NETIF_UNKNOWN:
        doctor_find(r, DOCTOR_NOTE, "native-xdp",
                    "driver %s: this kernel does not say (6.3 does); a start tries it", driver);
        break;
    }
}

static void zero_copy(struct doctor_report *r, const struct netif_probe_if *i)
{
    static const char made[] =
        "qemu ... -device virtio-net-pci,iommu_platform=on,queue_reset=on,disable-legacy=on,...   "
        "(on the host)";
    enum netif_answer had = has_zero_copy(i);
    if (had == NETIF_YES)
        doctor_find(r, DOCTOR_OK, "zero-copy", "the card reads and writes the pool itself");
    else if (had == NETIF_UNKNOWN)
        doctor_find(r, DOCTOR_NOTE, "zero-copy",
                    "this kernel does not say (6.3 does); a start tries it");
    else if (strcmp(i->kind, "veth") == 0)
        doctor_find(r, DOCTOR_NOTE, "zero-copy", "veth has none, on any kernel: copy mode");
    else if (i->virtio == NETIF_YES && i->xdp_features & NETIF_XDP_ZEROCOPY &&
             !(i->virtio_platform && i->virtio_reset))
        doctor_mend(doctor_find(r, DOCTOR_NOTE, "zero-copy",
                                "the driver has it, but this virtio device was made without %s%s%s",
                                i->virtio_platform ? "" : "VIRTIO_F_ACCESS_PLATFORM",
                                i->virtio_platform || i->virtio_reset ? "" : " and ",
                                i->virtio_reset ? "" : "VIRTIO_F_RING_RESET"),
                    "%s", made);
    else if (i->virtio == NETIF_YES && !(i->xdp_features & NETIF_XDP_ZEROCOPY))
        doctor_find(r, DOCTOR_NOTE, "zero-copy",
                    "virtio has it since Linux 6.14; here each frame is copied once each way");
    else
        doctor_find(r, DOCTOR_NOTE, "zero-copy",
                    "its driver has none: the kernel copies each frame once each way");
}

static void gather(struct doctor_report *r, const struct netif_probe_host *h,
                   const struct netif_probe_if *i)
{
    unsigned n = gather_max(h, i);
    if (h->gather == NETIF_NO)
        doctor_find(r, DOCTOR_NOTE, "gather",
                    "one descriptor a frame (several: Linux 6.6): payload without headroom is "
                    "copied");
    else if (n == 1)
        doctor_find(r, DOCTOR_NOTE, "gather",
                    "one descriptor a frame in zero-copy mode: payload without headroom is copied");
    else
        doctor_find(r, DOCTOR_OK, "gather", "up to %u descriptors a frame", n);
}

static void checksums(struct doctor_report *r, const struct netif_probe_host *h,
                      const struct netif_probe_if *i)
{
    bool link =
        has_zero_copy(i) == NETIF_YES ? i->zc_tx_csum == NETIF_YES : h->tx_metadata == NETIF_YES;
    doctor_find(r, DOCTOR_OK, "tx-checksums",
                "zest computes them while it reads or copies the payload%s",
                link ? "; the link could (by metadata), and is not asked to" : "");
}

static void queues(struct doctor_report *r, const struct netif_probe_if *i,
                   const struct doctor_wish *w)
{
    if (i->rx_queues == 0)
        return;
    if (w->queue >= i->rx_queues)
        doctor_mend(
            doctor_find(r, DOCTOR_PROBLEM, "queues",
                        "there is no queue %u: %u in use, counted from 0", w->queue, i->rx_queues),
            "sudo ethtool -L %s %s %u", i->name, i->combined ? "combined" : "rx", w->queue + 1);
    else if (i->rx_queues > 1)
        doctor_mend(doctor_find(r, DOCTOR_WARNING, "queues",
                                "%u receive queues, and a start takes one: frames that come in on "
                                "another are not received. Take all (--queues all), or have one",
                                i->rx_queues),
                    "sudo ethtool -L %s %s 1", i->name, i->combined ? "combined" : "rx");
    else
        doctor_find(r, DOCTOR_OK, "queues", "1 in use, of at most %u", i->max_queues);
}

/* What netif/steer.c makes use of; a single queue gets all there is. */
static void steering(struct doctor_report *r, const struct netif_probe_if *i)
{
    const struct netif_probe_offloads *o = &i->offloads;
    if (i->rx_queues < 2 || !(o->known >> NETIF_OFF_NTUPLE & 1))
        return;
    if (on(o, NETIF_OFF_NTUPLE))
        doctor_find(r, DOCTOR_OK, "steering",
                    "the card takes n-tuple rules: a start has it bring zest's frames to zest's "
                    "queues, as far as it can");
    else if (!fixed(o, NETIF_OFF_NTUPLE))
        doctor_mend(doctor_find(r, DOCTOR_NOTE, "steering",
                                "the card could be told which queue zest's frames are to come in "
                                "on (n-tuple rules), and that is switched off; a start would make "
                                "use of it"),
                    "sudo ethtool -K %s ntuple on", i->name);
}

static void mtu(struct doctor_report *r, const struct netif_probe_host *h,
                const struct netif_probe_if *i)
{
    if (mtu_refused(i))
        doctor_mend(doctor_find(r, DOCTOR_WARNING, "mtu",
                                "%u is more than driver %s takes with an XDP program (one buffer "
                                "a frame): generic mode, unless it is made smaller",
                                i->mtu, i->driver),
                    "sudo ip link set dev %s mtu 1500", i->name);
    else if (i->mtu > NETIF_XDP_PAGE_MTU && gather_max(h, i) > 1)
        doctor_find(r, DOCTOR_OK, "mtu",
                    "%u: frames of more than a page take several descriptors, both ways", i->mtu);
    else if (i->mtu > NETIF_XDP_PAGE_MTU)
        doctor_mend(doctor_find(r, DOCTOR_NOTE, "mtu",
                                "%u, of which zest uses %u: larger packets do not fit a page, and "
                                "a frame has one descriptor here. TCP peers keep to that; others' "
                                "larger packets are dropped",
                                i->mtu, NETIF_XDP_PAGE_MTU),
                    "sudo ip link set dev %s mtu 3498", i->name);
}

/* ---- others */

static void programs(struct doctor_report *r, const struct netif_probe_host *h,
                     const struct netif_probe_if *i, const struct doctor_wish *w)
{
    static const char *const places[] = {"native", "generic", "offloaded"};
    static const char *const flags[] = {"xdpdrv", "xdpgeneric", "xdpoffload"};
    for (unsigned k = 0; k < i->n_xdp; k++) {
        const struct netif_probe_xdp *x = &i->xdp[k];
        char by[96] = ", attached by netlink", name[80] = "";
        if (strcmp(x->name, "xdp_dispatcher") == 0 && h->bpf_fs == NETIF_YES) {
            doctor_find(r, DOCTOR_NOTE, "xdp-attached",
                        "libxdp's dispatcher is here (program %u, %s): a start joins it, and what "
                        "is in it stays",
                        x->prog_id, places[x->place]);
            continue;
        }
        if (x->link_id && x->holder)
            snprintf(by, sizeof by, ", by link %u of process %d (%s)", x->link_id, x->holder,
                     x->holder_name);
        else if (x->link_id)
            snprintf(by, sizeof by, ", by link %u", x->link_id);
        else if (x->links_unknown)
            snprintf(by, sizeof by, "; by whom only root may know");
        if (*x->name)
            snprintf(name, sizeof name, " (%s)", x->name);
        struct doctor_finding *f = doctor_find(
            r, DOCTOR_PROBLEM, "xdp-attached", "XDP program %u%s is here already: %s%s%s%s",
            x->prog_id, name, places[x->place], by, *x->pinned ? ", pinned at " : "", x->pinned);
        if (x->links_unknown)
            doctor_mend(f, "sudo %s doctor %s", w->program, i->name);
        else if (*x->pinned)
            doctor_mend(f, "sudo rm %s", x->pinned);
        else if (x->holder)
            doctor_mend(f, "sudo kill %d", x->holder);
        else if (x->link_id)
            doctor_mend(f, "sudo bpftool link detach id %u", x->link_id);
        else
            doctor_mend(f, "sudo ip link set dev %s %s off", i->name, flags[x->place]);
    }
    if (i->n_xdp == 0)
        doctor_find(r, DOCTOR_OK, "xdp-attached", "no XDP program is here");
}

static void sockets(struct doctor_report *r, const struct netif_probe_if *i,
                    const struct doctor_wish *w)
{
    for (unsigned k = 0; k < i->n_sockets; k++) {
        const struct netif_probe_socket *s = &i->sockets[k];
        if (s->queue != w->queue)
            continue;
        struct doctor_finding *f = doctor_find(
            r, DOCTOR_PROBLEM, "socket-bound", "queue %u has an AF_XDP socket already%s%s",
            s->queue, s->holder ? ", of process " : "", s->holder_name);
        if (s->holder)
            doctor_mend(f, "sudo kill %d", s->holder);
    }
}

static void in_namespace(char *out, size_t size, const struct netif_probe_peer *p)
{
    out[0] = '\0';
    if (*p->netns)
        snprintf(out, size, "sudo ip netns exec %s ", p->netns);
    else if (p->netns_pid)
        snprintf(out, size, "sudo nsenter -t %d -n ", p->netns_pid);
    else
        snprintf(out, size, "sudo ");
}

static void peer(struct doctor_report *r, const struct netif_probe_if *i)
{
    const struct netif_probe_peer *p = &i->peer;
    char in[96];
    if (p->index == 0)
        return;
    if (!p->found) {
        doctor_mend(doctor_find(r, DOCTOR_NOTE, "peer",
                                "the other end of this veth pair (interface %u) is in a namespace "
                                "that cannot be seen from here; if that is Linux's, it leaves "
                                "checksums out unless told otherwise, over there",
                                p->index),
                    "ethtool -K PEER tx off gso off tso off");
        return;
    }
    in_namespace(in, sizeof in, p);
    if (!p->up)
        doctor_mend(doctor_find(r, DOCTOR_WARNING, "peer", "the other end, %s, is down", p->name),
                    "%sip link set dev %s up", in, p->name);
    if (on(&p->offloads, NETIF_OFF_TX_CSUM) && p->has_xdp)
        doctor_find(r, DOCTOR_NOTE, "peer-checksums",
                    "the other end, %s, has an XDP program (zest?): what its kernel sends comes "
                    "without checksums, but that may not matter",
                    p->name);
    else if (on(&p->offloads, NETIF_OFF_TX_CSUM))
        doctor_mend(doctor_find(r, DOCTOR_WARNING, "peer-checksums",
                                "the other end, %s, leaves checksums to hardware that is not "
                                "there: every segment of its kernel's TCP would be dropped",
                                p->name),
                    "%sethtool -K %s tx off gso off tso off", in, p->name);
    else
        doctor_find(r, DOCTOR_OK, "peer-checksums", "the other end, %s, computes them", p->name);
    if (p->mtu != i->mtu)
        doctor_mend(doctor_find(r, DOCTOR_WARNING, "peer-mtu",
                                "%u here and %u at the other end, %s: larger frames are lost",
                                i->mtu, p->mtu, p->name),
                    "%sip link set dev %s mtu %u", in, p->name, i->mtu);
}

static void offloads(struct doctor_report *r, const struct netif_probe_if *i)
{
    const struct netif_probe_offloads *o = &i->offloads;
    unsigned before = r->n;
    bool generic = has_native(i) == NETIF_NO || mtu_refused(i);
    const struct {
        enum netif_offload which;
        bool hurts;
        enum doctor_level level;
        const char *name, *why;
    } rules[] = {
        {NETIF_OFF_LRO, true, DOCTOR_WARNING, "lro",
         "LRO joins frames before XDP sees them: drivers refuse a program, or frames are lost"},
        {NETIF_OFF_GRO_HW, true, DOCTOR_WARNING, "rx-gro-hw",
         "the card joins frames before XDP sees them: they do not fit a segment and are lost"},
        {NETIF_OFF_GRO, generic, DOCTOR_WARNING, "gro",
         "GRO joins frames before generic XDP sees them: they do not fit a segment and are lost"},
        {NETIF_OFF_RX_VLAN, !*i->kind && !i->loopback, DOCTOR_NOTE, "rxvlan",
         "the card strips VLAN tags before XDP sees them: frames of a VLAN look like untagged "
         "ones"},
    };
    for (unsigned k = 0; k < sizeof rules / sizeof rules[0]; k++) {
        if (!rules[k].hurts || !on(o, rules[k].which) || i->loopback)
            continue;
        struct doctor_finding *f =
            doctor_find(r, rules[k].level, "offloads", "%s%s", rules[k].why,
                        fixed(o, rules[k].which) ? "; it cannot be switched off here" : "");
        if (!fixed(o, rules[k].which))
            doctor_mend(f, "sudo ethtool -K %s %s off", i->name, rules[k].name);
    }
    if (r->n == before && o->known)
        doctor_find(r, DOCTOR_OK, "offloads", "none that hurts is on");
}

static void tap(struct doctor_report *r, const struct netif_probe_if *i)
{
    if (strcmp(i->kind, "tun") != 0)
        return;
    if (i->tun_tap)
        doctor_mend(doctor_find(r, DOCTOR_NOTE, "tap",
                                "a TAP%s%s: -I takes the kernel's side of it; zest is usually the "
                                "other side",
                                i->tun_mq ? ", several queues" : "",
                                i->tun_vnet_hdr ? ", virtio-net headers" : ""),
                    "zest echo --tap %s --ip A.B.C.D/N", i->name);
    else
        doctor_find(r, DOCTOR_PROBLEM, "tap",
                    "a TUN: it carries no Ethernet frames, and zest needs them");
}

void doctor_examine_if(struct doctor_report *r, const struct netif_probe_host *h,
                       const struct netif_probe_if *i, const struct doctor_wish *w)
{
    r->n = 0;
    r->afxdp = true;
    state(r, i);
    tap(r, i);
    native(r, i);
    zero_copy(r, i);
    gather(r, h, i);
    checksums(r, h, i);
    queues(r, i, w);
    steering(r, i);
    mtu(r, h, i);
    programs(r, h, i, w);
    sockets(r, i, w);
    peer(r, i);
    offloads(r, i);
    if (h->root && !h->user_namespace)
        doctor_without_sudo(r);
}
