/* pcap.c - libpcap as a link: any interface that it can open, or a capture file as input.
 *
 * Live, frames to our address (and ARP about it) are copied out of libpcap's ring, which is mapped
 * from the kernel and lent to us for a moment (libpcap has no way to receive into memory of ours),
 * and what we send is put together for pcap_inject(). The interface stays the kernel's: without
 * promiscuous mode we share its MAC address, and the kernel sees our frames, too, and ignores what
 * is not to an address of its own. With promiscuous mode we have a MAC address of our own, and it
 * does not even look.
 *
 * A file's frames come at the intervals at which they were captured, or as fast as they are asked
 * for; a timer's descriptor says when. Our MAC address is the one that its frames to our address
 * have. What is sent goes nowhere. When the file has ended, the link is gone (-ENODATA). */
#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "link.h"

#define ETH_HEADER  14u
#define FRAME_MAX   (ETH_HEADER + 65535u)
#define RING_BYTES  (8 << 20)    /* libpcap's */
#define TIMEOUT_MS  1            /* immediate mode does not wait for it */
#define SPARE_BYTES (256u << 10) /* of the pool, set aside to receive into */
#define FILTER_MAX  128u
#define NS_PER_S    1000000000ull

struct pcap_link {
    struct netif nif;
    pcap_t *p;
    struct zbuf_budget *budget;
    uint8_t *scratch; /* a frame that is sent, put together */
    uint64_t dropped; /* by libpcap, as it was last asked */
    /* a file */
    bool file, fast, began, ended;
    const uint8_t *next_bytes; /* read ahead, until its time has come */
    struct pcap_pkthdr *next;
    uint64_t start_ns, first_ns; /* when it began, here and there */
};

static struct pcap_link *pcap_of(const struct netif *nif)
{
    return (struct pcap_link *)nif;
}

/* ---- receiving */

/* False: no memory for it; it is lost. */
static bool take(struct pcap_link *l, const struct pcap_pkthdr *h, const uint8_t *bytes,
                 struct zbuf **out)
{
    struct zbuf *zb = NULL;
    /* A part of a frame is none. What is set aside is in segments of one size, which all frames get
     * that fit, however short; what the kernel has put together of several may need a larger one.
     */
    uint32_t room = l->nif.caps.rx_seg - ZBUF_OVERHEAD;
    if (h->caplen == h->len && h->len > 0 && h->len <= FRAME_MAX)
        zb = zbuf_alloc_from(l->budget, h->len < room ? room : h->len);
    if (!zb) {
        l->nif.stats.rx_dropped++;
        l->nif.stats.rx_no_memory += h->caplen == h->len;
        return false;
    }
    memcpy(zb->data, bytes, h->len);
    zb->len = h->len;
    l->nif.stats.rx_frames++;
    l->nif.stats.rx_bytes += h->len;
    *out = zb;
    return true;
}

static unsigned live_rx(struct netif *nif, struct zbuf **frames, unsigned max)
{
    struct pcap_link *l = pcap_of(nif);
    struct pcap_pkthdr *h;
    const uint8_t *bytes;
    unsigned n = 0;
    for (unsigned looked = 0; looked < max; looked++) {
        int rc = pcap_next_ex(l->p, &h, &bytes);
        if (rc < 0) {
            struct ifinfo info;
            nif->error = ifinfo_get(nif->caps.name, &info) == 0 && !info.up ? -ENETDOWN : -ENODEV;
        }
        if (rc <= 0)
            break;
        n += take(l, h, bytes, &frames[n]);
    }
    return n;
}

static uint64_t ns_of(const struct pcap_pkthdr *h)
{
    return (uint64_t)h->ts.tv_sec * NS_PER_S + (uint64_t)h->ts.tv_usec; /* nanoseconds: see open */
}

/* When the frame that was read ahead is due. Time that goes back in the file is none. */
static uint64_t due_ns(struct pcap_link *l)
{
    uint64_t at = ns_of(l->next);
    return l->start_ns + (!l->fast && at > l->first_ns ? at - l->first_ns : 0);
}

/* The descriptor becomes readable then. */
static void arm(struct pcap_link *l, uint64_t at_ns)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)}};
    timerfd_settime(l->nif.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static bool read_ahead(struct pcap_link *l)
{
    if (l->next)
        return true;
    if (l->ended || pcap_next_ex(l->p, &l->next, &l->next_bytes) != 1) {
        l->next = NULL;
        l->ended = true;
        return false;
    }
    if (!l->began) {
        l->began = true;
        l->start_ns = netif_now();
        l->first_ns = ns_of(l->next);
    }
    return true;
}

static unsigned file_rx(struct netif *nif, struct zbuf **frames, unsigned max)
{
    struct pcap_link *l = pcap_of(nif);
    unsigned n = 0;
    for (unsigned looked = 0; looked < max && read_ahead(l); looked++) {
        uint64_t due = due_ns(l);
        if (due > netif_now()) {
            arm(l, due);
            break;
        }
        n += take(l, l->next, l->next_bytes, &frames[n]);
        l->next = NULL;
    }
    if (l->ended && n == 0)
        nif->error = -ENODATA; /* and not before its last frames have been answered */
    return n;
}

/* ---- sending */

static unsigned tx_room(const struct netif *nif)
{
    (void)nif;
    return 256; /* each is sent, or lost, at once */
}

static void tx(struct netif *nif, const struct zest_frame *frames, unsigned n)
{
    struct pcap_link *l = pcap_of(nif);
    for (unsigned i = 0; i < n; i++) {
        const struct zest_frame *f = &frames[i];
        const uint8_t *bytes = f->seg[0].addr;
        size_t len = 0;
        LINK_ASSERT(f->n >= 1 && f->n <= ZEST_FRAME_SEGS && !f->csum && !f->gso_size);
        for (unsigned s = 0; s < f->n; s++) {
            LINK_ASSERT(len + f->seg[s].len <= FRAME_MAX);
            if (f->n > 1 && !l->file)
                memcpy(l->scratch + len, f->seg[s].addr, f->seg[s].len);
            len += f->seg[s].len;
        }
        nif->stats.tx_kicks++;
        if (l->file || pcap_inject(l->p, f->n > 1 ? l->scratch : bytes, len) == (int)len) {
            nif->stats.tx_frames++;
            nif->stats.tx_bytes += len;
        } else {
            nif->stats.tx_invalid++; /* like a cable: it is lost */
        }
        for (unsigned s = 0; s < f->n; s++)
            zbuf_tx_done(nif->pool, f->seg[s].addr);
    }
}

static int kick(struct netif *nif)
{
    return nif->error;
}

static unsigned in_flight(const struct netif *nif)
{
    (void)nif;
    return 0;
}

static void count(struct netif *nif)
{
    struct pcap_link *l = pcap_of(nif);
    struct pcap_stat st;
    if (l->file || pcap_stats(l->p, &st) != 0)
        return;
    nif->stats.rx_dropped += st.ps_drop - l->dropped;
    l->dropped = st.ps_drop;
}

static void pcap_link_close(struct netif *nif)
{
    struct pcap_link *l = pcap_of(nif);
    if (l->file && nif->fd >= 0)
        close(nif->fd);
    if (l->p)
        pcap_close(l->p);
    if (l->budget)
        zbuf_budget_destroy(l->budget); /* -EBUSY: frames are still with the stack */
    free(l->scratch);
    free(l);
}

static const struct netif_ops live_ops = {
    .rx = live_rx,
    .tx_room = tx_room,
    .tx = tx,
    .kick = kick,
    .in_flight = in_flight,
    .count = count,
    .close = pcap_link_close,
};
static const struct netif_ops file_ops = {
    .rx = file_rx,
    .tx_room = tx_room,
    .tx = tx,
    .kick = kick,
    .in_flight = in_flight,
    .count = count,
    .close = pcap_link_close,
};

/* ---- opening */

static int check_type(struct pcap_link *l, const char *name, struct netif_error *err)
{
    int type = pcap_datalink(l->p);
    if (type == DLT_EN10MB)
        return 0;
    const char *text = pcap_datalink_val_to_description(type);
    return link_error(err, -EPROTONOSUPPORT, "%s: has frames of another kind (%s), not Ethernet",
                      name, text ? text : "unknown");
}

static int set_filter(struct pcap_link *l, const struct zest_addr *ip, struct netif_error *err)
{
    char text[FILTER_MAX];
    struct bpf_program prog;
    const uint8_t *b = ip->ip + 12;
    snprintf(text, sizeof text, "ip dst host %u.%u.%u.%u or arp dst host %u.%u.%u.%u", b[0], b[1],
             b[2], b[3], b[0], b[1], b[2], b[3]);
    int rc = pcap_compile(l->p, &prog, text, 1, PCAP_NETMASK_UNKNOWN);
    if (rc == 0) {
        rc = pcap_setfilter(l->p, &prog);
        pcap_freecode(&prog);
    }
    return rc ? link_error(err, -EINVAL, "pcap: the filter is refused: %s", pcap_geterr(l->p)) : 0;
}

static int activate(struct pcap_link *l, const struct netif_pcap_config *cfg,
                    struct netif_error *err)
{
    char why[PCAP_ERRBUF_SIZE] = "";
    l->p = pcap_create(cfg->ifname, why);
    if (!l->p)
        return link_error(err, -ENODEV, "pcap: %s: %s", cfg->ifname, why);
    pcap_set_snaplen(l->p, (int)FRAME_MAX);
    pcap_set_promisc(l->p, cfg->promisc);
    pcap_set_timeout(l->p, TIMEOUT_MS);
    pcap_set_immediate_mode(l->p, 1);
    pcap_set_buffer_size(l->p, RING_BYTES);
    int rc = pcap_activate(l->p);
    if (rc == PCAP_ERROR_PERM_DENIED)
        return link_error(err, -EPERM, "pcap: %s: needs root, or cap_net_raw", cfg->ifname);
    if (rc == PCAP_ERROR_NO_SUCH_DEVICE)
        return link_error(err, -ENODEV, "pcap: there is no interface %s (ip link)", cfg->ifname);
    if (rc == PCAP_ERROR_IFACE_NOT_UP)
        return link_error(err, -ENETDOWN, "%s is down: ip link set dev %s up", cfg->ifname,
                          cfg->ifname);
    if (rc < 0)
        return link_error(err, -EIO, "pcap: %s: %s", cfg->ifname, pcap_geterr(l->p));
    /* What we inject, and what the kernel sends, does not come back to us. */
    if (pcap_setdirection(l->p, PCAP_D_IN) != 0 || pcap_setnonblock(l->p, 1, why) != 0)
        return link_error(err, -EIO, "pcap: %s: %s", cfg->ifname, pcap_geterr(l->p));
    return 0;
}

static int own_mac(uint8_t mac[6], struct netif_error *err)
{
    if (getrandom(mac, 6, GRND_NONBLOCK) != 6)
        return link_error(err, -EAGAIN, "pcap: no random numbers yet");
    mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02); /* locally administered, one station */
    return 0;
}

static int open_live(struct pcap_link *l, const struct netif_pcap_config *cfg,
                     struct netif_error *err)
{
    struct netif_caps *c = &l->nif.caps;
    struct ifinfo info;
    int rc = ifinfo_get(cfg->ifname, &info);
    if (rc)
        return link_error(err, rc, "pcap: there is no interface %s (ip link)", cfg->ifname);
    rc = activate(l, cfg, err);
    if (rc == 0)
        rc = check_type(l, cfg->ifname, err);
    if (rc == 0)
        rc = set_filter(l, &cfg->ip, err);
    if (rc)
        return rc;
    l->nif.fd = pcap_get_selectable_fd(l->p);
    snprintf(c->name, sizeof c->name, "%.15s", cfg->ifname);
    c->mode = cfg->promisc ? "promiscuous" : "live";
    c->mtu = (uint16_t)(info.mtu < 65535 ? info.mtu : 65535);
    memcpy(c->mac, info.mac, sizeof c->mac);
    return cfg->promisc ? own_mac(c->mac, err) : 0;
}

static pcap_t *open_again(const char *path, char *why)
{
    return pcap_open_offline_with_tstamp_precision(path, PCAP_TSTAMP_PRECISION_NANO, why);
}

/* The address that the file's frames to ip are sent to; false: there is none. */
static bool find_mac(pcap_t *p, const struct zest_addr *ip, uint8_t mac[6])
{
    struct pcap_pkthdr *h;
    const uint8_t *b;
    while (pcap_next_ex(p, &h, &b) == 1) {
        if (h->caplen < ETH_HEADER + 20 || b[12] != 0x08 || b[13] != 0x00 || b[0] & 1 ||
            memcmp(b + ETH_HEADER + 16, ip->ip + 12, 4) != 0)
            continue;
        memcpy(mac, b, 6);
        return true;
    }
    return false;
}

static int open_file(struct pcap_link *l, const struct netif_pcap_config *cfg,
                     struct netif_error *err)
{
    struct netif_caps *c = &l->nif.caps;
    char why[PCAP_ERRBUF_SIZE] = "", text[ZEST_ADDR_TEXT];
    const char *name = strrchr(cfg->file, '/');
    l->file = true;
    l->fast = cfg->fast;
    l->p = open_again(cfg->file, why);
    if (!l->p)
        return link_error(err, -EIO, "pcap: %s", why);
    int rc = check_type(l, cfg->file, err);
    if (rc)
        return rc;
    if (!find_mac(l->p, &cfg->ip, c->mac))
        return link_error(err, -ENODATA, "pcap: %s: no frame in it is to %s", cfg->file,
                          zest_addr_text(&cfg->ip, text));
    pcap_close(l->p); /* and from the beginning */
    l->p = open_again(cfg->file, why);
    if (!l->p)
        return link_error(err, -EIO, "pcap: %s", why);
    l->nif.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (l->nif.fd < 0)
        return link_error(err, -errno, "pcap: %s", strerror(errno));
    arm(l, 1); /* at once */
    snprintf(c->name, sizeof c->name, "%.31s", name ? name + 1 : cfg->file);
    c->mode = "file";
    c->mtu = cfg->mtu ? cfg->mtu : 1500;
    return 0;
}

int netif_open_pcap(const struct netif_pcap_config *cfg, struct netif **out,
                    struct netif_error *err)
{
    if (!cfg->pool || !cfg->ifname == !cfg->file)
        return link_error(err, -EINVAL, "pcap: a pool is needed, and an interface or a file");
    struct pcap_link *l = calloc(1, sizeof *l);
    if (!l)
        return link_error(err, -ENOMEM, "pcap: out of memory");
    l->nif = (struct netif){.ops = cfg->file ? &file_ops : &live_ops, .pool = cfg->pool, .fd = -1};
    l->scratch = malloc(FRAME_MAX);
    int rc = !l->scratch ? link_error(err, -ENOMEM, "pcap: out of memory")
             : cfg->file ? open_file(l, cfg, err)
                         : open_live(l, cfg, err);
    l->nif.caps.kind = "pcap";
    if (rc == 0) {
        uint32_t seg = ZBUF_SEG_MIN;
        while (seg < ZBUF_OVERHEAD + ETH_HEADER + l->nif.caps.mtu)
            seg *= 2;
        l->nif.caps.rx_seg = seg;
        l->budget = zbuf_budget_open(
            cfg->pool, &(struct zbuf_budget_config){
                           .name = "rx pcap", .min_bytes = SPARE_BYTES, .min_seg = seg});
        if (!l->budget)
            rc = link_error(err, -ENOBUFS, "pcap: the pool cannot set %u KiB aside to receive into",
                            SPARE_BYTES >> 10);
    }
    if (rc) {
        pcap_link_close(&l->nif);
        return rc;
    }
    *out = &l->nif;
    return 0;
}
