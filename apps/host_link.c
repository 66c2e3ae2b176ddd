/* host_link.c - opens the link that the options name: AF_XDP, TAP or libpcap, with so many queues.
 * What went wrong is said here, and for AF_XDP by the doctor, who knows what to do about it. */
#include "doctor.h"
#include "host.h"
#include "say.h"

#include <errno.h>
#include <string.h>

/* Of AF_XDP, as it comes out of netif/xdp_open.c. */
#define RING_DEF 2048u
#define RX_SEG   4096u
#define RX_SPARE (2u << 20) /* what is handed on while it is replaced */

static int open_xdp(struct zbuf_pool *pool, const struct host_options *o, unsigned n,
                    struct netif **out, struct netif_error *err)
{
    struct netif_xdp_config cfg = {
        .pool = pool,
        .ifname = o->ifname,
        .queue = o->queue,
        .ip = o->ip,
        .ports = o->ports,
        .n_ports = o->n_ports,
        .by = o->attach,
        .steer = o->steer,
        .rx_ring = o->ring,
        .tx_ring = o->ring,
        .gather = o->gather == HOST_GATHER_ALWAYS,
        .measure = o->gather == HOST_GATHER_AUTO,
    };
    switch (o->mode) {
    case HOST_MODE_AUTO:
        break;
    case HOST_MODE_NATIVE:
        cfg.attach = NETIF_XDP_NATIVE;
        break;
    case HOST_MODE_GENERIC:
        cfg.attach = NETIF_XDP_GENERIC;
        break;
    case HOST_MODE_ZC:
        cfg.attach = NETIF_XDP_NATIVE; /* generic XDP is never zero-copy */
        cfg.copy = NETIF_XDP_ZERO_COPY;
        break;
    case HOST_MODE_COPY:
        cfg.copy = NETIF_XDP_COPY;
        break;
    }
    return netif_open_xdp_queues(&cfg, n, out, err);
}

/* The doctor's word for what --mode insists on. */
static const char *asked_for(const struct host_options *o)
{
    return o->mode == HOST_MODE_ZC       ? "zero-copy"
           : o->mode == HOST_MODE_NATIVE ? "native-xdp"
                                         : NULL;
}

static int open_tap(struct zbuf_pool *pool, const struct host_options *o, unsigned n,
                    struct netif **out, struct netif_error *err)
{
    struct netif_tap_config cfg = {.pool = pool,
                                   .ifname = o->tap,
                                   .mtu = o->mtu,
                                   .no_offload = o->no_offload,
                                   .host_cidr = o->host_cidr};
    return netif_open_tap_queues(&cfg, n, out, err);
}

static int open_pcap(struct zbuf_pool *pool, const struct host_options *o, struct netif **out,
                     struct netif_error *err)
{
    struct netif_pcap_config cfg = {.pool = pool,
                                    .ip = o->ip,
                                    .ifname = o->pcap_live,
                                    .promisc = o->promisc,
                                    .file = o->pcap_read,
                                    .fast = o->pcap_fast,
                                    .mtu = o->mtu};
    return netif_open_pcap(&cfg, out, err);
}

int host_open_links(struct zbuf_pool *pool, const struct host_options *o, unsigned n,
                    struct netif **out)
{
    struct netif_error err = {""};
    int rc;
    if (o->ifname)
        rc = open_xdp(pool, o, n, out, &err);
    else if (o->tap)
        rc = open_tap(pool, o, n, out, &err);
    else
        rc = open_pcap(pool, o, out, &err);
    if (rc < 0)
        say("%s", err.text[0] ? err.text : strerror(-rc));
    if (rc == -ENOBUFS && o->ifname)
        host_say_pool_least(pool, RX_SEG, n,
                            n * ((o->ring ? o->ring : RING_DEF) * (size_t)RX_SEG + RX_SPARE +
                                 HOST_CTRL_RESERVE + HOST_RX_SEGS * (size_t)RX_SEG));
    if (rc < 0 && o->ifname)
        doctor_start_failed(o->ifname, o->queue + n - 1, zbuf_pool_size(pool), asked_for(o));
    return rc;
}
