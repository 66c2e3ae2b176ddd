/* probe_netlink.c - what only netlink tells: the driver's XDP features (the kernel's "netdev"
 * family), and which AF_XDP sockets are bound where (sock_diag). */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/xdp_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "probe_priv.h"

/* Newer than the headers of Debian 12: linux/netdev.h. */
enum {
    NETDEV_DEV_GET = 1,
    NETDEV_DEV_IFINDEX = 1,
    NETDEV_DEV_XDP_FEATURES = 3,
    NETDEV_DEV_XDP_ZC_MAX_SEGS = 4,
    NETDEV_DEV_XSK_FEATURES = 6,
    NETDEV_XSK_TX_CHECKSUM = 1u << 1
};

#define ANSWERS_MAX 4096u
#define TIMEOUT_S   2

int probe_netlink(int bus, struct nlmsghdr *request, int (*fn)(const struct nlmsghdr *, void *),
                  void *ctx)
{
    static const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    char buf[32768];
    struct mnl_socket *s = mnl_socket_open2(bus, SOCK_CLOEXEC);
    if (!s)
        return -errno;
    request->nlmsg_seq = 1;
    setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    int rc = MNL_CB_ERROR;
    if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) == 0 &&
        mnl_socket_sendto(s, request, request->nlmsg_len) >= 0) {
        rc = MNL_CB_OK;
        for (unsigned i = 0; rc == MNL_CB_OK && i < ANSWERS_MAX; i++) {
            ssize_t n = mnl_socket_recvfrom(s, buf, sizeof buf);
            rc = n < 0 ? MNL_CB_ERROR
                       : mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(s), fn, ctx);
        }
    }
    int err = rc == MNL_CB_ERROR ? -errno : 0;
    mnl_socket_close(s);
    return err;
}

/* ---- generic netlink ---- */

static int family_id(const struct nlmsghdr *nlh, void *ctx)
{
    const struct nlattr *a;
    PROBE_EACH(a, nlh, sizeof(struct genlmsghdr))
    {
        if (mnl_attr_get_type(a) == CTRL_ATTR_FAMILY_ID && mnl_attr_validate(a, MNL_TYPE_U16) == 0)
            *(uint16_t *)ctx = mnl_attr_get_u16(a);
    }
    return MNL_CB_OK;
}

static struct nlmsghdr *generic(void *buf, uint16_t family, uint8_t cmd)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    nlh->nlmsg_type = family;
    nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    struct genlmsghdr *g = mnl_nlmsg_put_extra_header(nlh, sizeof *g);
    g->cmd = cmd;
    g->version = 1;
    return nlh;
}

static uint16_t resolve(const char *family)
{
    char buf[256];
    uint16_t id = 0;
    struct nlmsghdr *nlh = generic(buf, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
    mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, family);
    return probe_netlink(NETLINK_GENERIC, nlh, family_id, &id) == 0 ? id : 0;
}

static int device(const struct nlmsghdr *nlh, void *ctx)
{
    struct netif_probe_if *out = ctx;
    const struct nlattr *a;
    PROBE_EACH(a, nlh, sizeof(struct genlmsghdr))
    {
        bool u64 = mnl_attr_validate(a, MNL_TYPE_U64) == 0;
        switch (mnl_attr_get_type(a)) {
        case NETDEV_DEV_XDP_FEATURES:
            if (u64) {
                out->xdp_known = NETIF_YES;
                out->xdp_features = mnl_attr_get_u64(a);
            }
            break;
        case NETDEV_DEV_XDP_ZC_MAX_SEGS:
            if (mnl_attr_validate(a, MNL_TYPE_U32) == 0)
                out->zc_max_segs = mnl_attr_get_u32(a);
            break;
        case NETDEV_DEV_XSK_FEATURES:
            if (u64)
                out->zc_tx_csum =
                    mnl_attr_get_u64(a) & NETDEV_XSK_TX_CHECKSUM ? NETIF_YES : NETIF_NO;
            break;
        default:
            break;
        }
    }
    return MNL_CB_OK;
}

void probe_netdev(struct netif_probe_if *out)
{
    char buf[256];
    uint16_t family = resolve("netdev");
    if (family == 0)
        return; /* before 6.3 */
    struct nlmsghdr *nlh = generic(buf, family, NETDEV_DEV_GET);
    mnl_attr_put_u32(nlh, NETDEV_DEV_IFINDEX, out->index);
    probe_netlink(NETLINK_GENERIC, nlh, device, out);
}

/* ---- AF_XDP sockets ---- */

static int xsk(const struct nlmsghdr *nlh, void *ctx)
{
    struct netif_probe_if *out = ctx;
    const struct xdp_diag_msg *msg = mnl_nlmsg_get_payload(nlh);
    const struct nlattr *a;
    struct xdp_diag_info info = {0};
    struct xdp_diag_umem umem = {0};
    PROBE_EACH(a, nlh, sizeof *msg)
    {
        if (mnl_attr_get_type(a) == XDP_DIAG_INFO && mnl_attr_get_payload_len(a) >= sizeof info)
            memcpy(&info, mnl_attr_get_payload(a), sizeof info);
        if (mnl_attr_get_type(a) == XDP_DIAG_UMEM && mnl_attr_get_payload_len(a) >= sizeof umem)
            memcpy(&umem, mnl_attr_get_payload(a), sizeof umem);
    }
    if (info.ifindex == out->index && out->n_sockets < NETIF_PROBE_SOCKETS) {
        struct netif_probe_socket *s = &out->sockets[out->n_sockets++];
        *s = (struct netif_probe_socket){.queue = info.queue_id,
                                         .zero_copy = umem.flags & XDP_DU_F_ZEROCOPY};
        s->holder = probe_socket_holder(msg->xdiag_ino, s->holder_name);
    }
    return MNL_CB_OK;
}

void probe_sockets(struct netif_probe_if *out)
{
    char buf[256];
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
    nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct xdp_diag_req *req = mnl_nlmsg_put_extra_header(nlh, sizeof *req);
    req->sdiag_family = AF_XDP;
    req->xdiag_show = XDP_SHOW_INFO | XDP_SHOW_UMEM;
    int rc = probe_netlink(NETLINK_SOCK_DIAG, nlh, xsk, out);
    out->sockets_known = rc == 0 ? NETIF_YES : NETIF_UNKNOWN;
}
