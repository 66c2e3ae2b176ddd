/* probe_link.c - what rtnetlink tells of an interface, and netif_probe_if(), which asks everybody.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "link.h"
#include "probe_priv.h"

struct link_answer {
    struct netif_probe_if *out;
    int netnsid;
    unsigned peer, master;
};

static uint32_t number(const struct nlattr *a)
{
    return mnl_attr_validate(a, MNL_TYPE_U32) == 0  ? mnl_attr_get_u32(a)
           : mnl_attr_validate(a, MNL_TYPE_U8) == 0 ? mnl_attr_get_u8(a)
                                                    : 0;
}

static void text(const struct nlattr *a, char out[NETIF_PROBE_NAME])
{
    if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) == 0)
        snprintf(out, NETIF_PROBE_NAME, "%s", mnl_attr_get_str(a));
}

static void tun(const struct nlattr *nest, struct netif_probe_if *out)
{
    const struct nlattr *a;
    PROBE_EACH_NESTED(a, nest)
    {
        uint32_t v = number(a);
        switch (mnl_attr_get_type(a)) {
        case IFLA_TUN_TYPE:
            out->tun_tap = v == IFF_TAP;
            break;
        case IFLA_TUN_VNET_HDR:
            out->tun_vnet_hdr = v;
            break;
        case IFLA_TUN_PERSIST:
            out->tun_persist = v;
            break;
        case IFLA_TUN_MULTI_QUEUE:
            out->tun_mq = v;
            break;
        default:
            break;
        }
    }
}

static void kind(const struct nlattr *nest, struct netif_probe_if *out)
{
    const struct nlattr *a, *data = NULL;
    PROBE_EACH_NESTED(a, nest)
    {
        if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
            text(a, out->kind);
        else if (mnl_attr_get_type(a) == IFLA_INFO_DATA)
            data = a;
    }
    if (data && strcmp(out->kind, "tun") == 0)
        tun(data, out);
}

static void programs(const struct nlattr *nest, struct netif_probe_if *out)
{
    const struct nlattr *a;
    PROBE_EACH_NESTED(a, nest)
    {
        enum netif_xdp_place place;
        switch (mnl_attr_get_type(a)) {
        case IFLA_XDP_DRV_PROG_ID:
            place = NETIF_AT_NATIVE;
            break;
        case IFLA_XDP_SKB_PROG_ID:
            place = NETIF_AT_GENERIC;
            break;
        case IFLA_XDP_HW_PROG_ID:
            place = NETIF_AT_HARDWARE;
            break;
        default:
            continue;
        }
        if (number(a) != 0 && out->n_xdp < NETIF_PROBE_XDP)
            out->xdp[out->n_xdp++] = (struct netif_probe_xdp){.place = place, .prog_id = number(a)};
    }
}

static int parse(const struct nlmsghdr *nlh, void *ctx)
{
    struct link_answer *l = ctx;
    struct netif_probe_if *out = l->out;
    const struct ifinfomsg *msg = mnl_nlmsg_get_payload(nlh);
    const struct nlattr *a;
    if (nlh->nlmsg_type != RTM_NEWLINK || msg->ifi_index != (int)out->index)
        return MNL_CB_OK;
    out->up = msg->ifi_flags & IFF_UP;
    out->loopback = msg->ifi_flags & IFF_LOOPBACK;
    PROBE_EACH(a, nlh, sizeof *msg)
    {
        switch (mnl_attr_get_type(a)) {
        case IFLA_IFNAME:
            text(a, out->name);
            break;
        case IFLA_MTU:
            out->mtu = number(a);
            break;
        case IFLA_ADDRESS:
            if (mnl_attr_get_payload_len(a) == sizeof out->mac)
                memcpy(out->mac, mnl_attr_get_payload(a), sizeof out->mac);
            break;
        case IFLA_MASTER:
            l->master = number(a);
            break;
        case IFLA_LINK:
            l->peer = number(a);
            break;
        case IFLA_LINK_NETNSID:
            l->netnsid = (int)number(a);
            break;
        case IFLA_LINKINFO:
            kind(a, out);
            break;
        case IFLA_XDP:
            programs(a, out);
            break;
        default:
            break;
        }
    }
    return MNL_CB_OK;
}

void probe_link(struct netif_probe_if *out, int *netnsid)
{
    char buf[256];
    struct link_answer l = {.out = out, .netnsid = -1};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    nlh->nlmsg_type = RTM_GETLINK;
    nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    struct ifinfomsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof *msg);
    msg->ifi_family = AF_UNSPEC;
    msg->ifi_index = (int)out->index;
    probe_netlink(NETLINK_ROUTE, nlh, parse, &l);
    if (l.master)
        if_indextoname(l.master, out->master);
    if (strcmp(out->kind, "veth") == 0)
        out->peer.index = l.peer;
    out->peer.elsewhere = out->peer.index && l.netnsid >= 0;
    if (netnsid)
        *netnsid = l.netnsid;
}

/* Virtio 1.2, 5.1.3 and 6: feature bits. */
enum {
    VIRTIO_GUEST_CSUM = 1,
    VIRTIO_CTRL_GUEST_OFFLOADS = 2,
    VIRTIO_GUEST_TSO4 = 7,
    VIRTIO_GUEST_UFO = 10,
    VIRTIO_ACCESS_PLATFORM = 33,
    VIRTIO_RING_RESET = 40,
    VIRTIO_BITS = 64
};

/* A virtio device's features are a string of 0 and 1, bit 0 first. /sys may show another
 * namespace's interface of the same name. */
void probe_virtio(struct netif_probe_if *out, const char *root)
{
    char path[NETIF_PROBE_PATH], bits[128];
    uint64_t index;
    snprintf(path, sizeof path, "/sys/class/net/%s/ifindex", out->name);
    if (probe_read_number(root, path, &index) != 0 || index != out->index)
        return;
    snprintf(path, sizeof path, "/sys/class/net/%s/device/features", out->name);
    if (strcmp(out->driver, "virtio_net") != 0 ||
        probe_read(root, path, bits, sizeof bits) < VIRTIO_BITS)
        return;
    out->virtio = NETIF_YES;
    out->virtio_platform = bits[VIRTIO_ACCESS_PLATFORM] == '1';
    out->virtio_reset = bits[VIRTIO_RING_RESET] == '1';
    bool offloads = bits[VIRTIO_GUEST_CSUM] == '1';
    for (unsigned b = VIRTIO_GUEST_TSO4; b <= VIRTIO_GUEST_UFO; b++)
        offloads = offloads || bits[b] == '1';
    out->virtio_offloads_fixed = offloads && bits[VIRTIO_CTRL_GUEST_OFFLOADS] != '1';
}

int netif_probe_if(struct netif_probe_if *out, const char *ifname, const char *root)
{
    struct ifinfo info;
    int netnsid, rc = ifinfo_get(ifname, &info);
    *out = (struct netif_probe_if){0};
    if (rc)
        return rc;
    snprintf(out->name, sizeof out->name, "%.15s", ifname);
    out->index = info.index;
    probe_ethtool(ifname, out);
    probe_link(out, &netnsid);
    probe_netdev(out);
    probe_virtio(out, root);
    probe_xdp(out);
    probe_sockets(out);
    if (out->peer.index)
        probe_peer(out, netnsid);
    return 0;
}

unsigned netif_probe_list(char (*names)[NETIF_PROBE_NAME], unsigned max)
{
    struct if_nameindex *list = if_nameindex();
    unsigned n = 0;
    for (const struct if_nameindex *i = list; i && i->if_index != 0; i++, n++)
        if (n < max)
            snprintf(names[n], NETIF_PROBE_NAME, "%.15s", i->if_name);
    if_freenameindex(list);
    return n;
}
