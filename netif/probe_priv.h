/* probe_priv.h - shared by the files of the probe. Private to netif/. */
#ifndef NETIF_PROBE_PRIV_H
#define NETIF_PROBE_PRIV_H

#include "probe.h"

/* ---- reading small files (probe_file.c) ---- */

/* The file's beginning, as a string, without a newline at the end. -errno, or its length. */
int probe_read(const char *root, const char *path, char *buf, size_t size);
/* The first number in it. */
int probe_read_number(const char *root, const char *path, uint64_t *out);
/* The number after "NAME:" in a file of such lines, in the base given. */
int probe_read_field(const char *root, const char *path, const char *name, int base, uint64_t *out);

/* ---- who holds what (probe_holder.c) ---- */

/* The process with a descriptor of that bpf_link, or of the socket with that inode; 0 = none that
 * we may see. */
int probe_link_holder(uint32_t link_id, char name[NETIF_PROBE_NAME]);
int probe_socket_holder(uint32_t inode, char name[NETIF_PROBE_NAME]);

/* ---- by ioctl (probe_ethtool.c) ---- */

void probe_ethtool(const char *ifname, struct netif_probe_if *out);
void probe_offloads(const char *ifname, struct netif_probe_offloads *out);

/* ---- in /sys (probe_link.c): name, index and driver are known ---- */

void probe_virtio(struct netif_probe_if *out, const char *root);

/* ---- by netlink (probe_netlink.c, probe_link.c) ---- */

/* As libmnl's own, which do not compile with -Wconversion. */
#define PROBE_EACH(a, nlh, header)                                                                 \
    for ((a) = mnl_nlmsg_get_payload_offset(nlh, header); mnl_attr_ok(                             \
             (a), (int)((const char *)mnl_nlmsg_get_payload_tail(nlh) - (const char *)(a)));       \
         (a) = mnl_attr_next(a))
#define PROBE_EACH_NESTED(a, nest)                                                                 \
    for ((a) = mnl_attr_get_payload(nest);                                                         \
         mnl_attr_ok((a), (int)((const char *)mnl_attr_next(nest) - (const char *)(a)));           \
         (a) = mnl_attr_next(a))

struct nlmsghdr;
/* One request, and fn for each message of its answer. 0 or -errno. */
int probe_netlink(int bus, struct nlmsghdr *request, int (*fn)(const struct nlmsghdr *, void *),
                  void *ctx);
/* The kernel's netdev family: what XDP can do there. */
void probe_netdev(struct netif_probe_if *out);
/* AF_XDP sockets. */
void probe_sockets(struct netif_probe_if *out);
/* Kind, master, programs, and where the other end is: netnsid < 0: in our own namespace. */
void probe_link(struct netif_probe_if *out, int *netnsid);

/* ---- XDP programs (probe_xdp.c), the other end (probe_peer.c) ---- */

/* Completes the entries of out->xdp, of which place and prog_id are known. */
void probe_xdp(struct netif_probe_if *out);
void probe_peer(struct netif_probe_if *out, int netnsid);

#endif
