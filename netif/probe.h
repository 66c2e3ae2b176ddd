/* probe.h - what a host and an interface can do for zest, asked without changing anything: no
 * program is loaded onto an interface, no frame is sent, no setting touched.
 *
 *     netif_probe_host(&host, "");           the kernel, our rights, memory
 *     netif_probe_if(&nic, "eth0", "");      driver, queues, who has it, what hurts
 *
 * These are answers, not judgements: what follows from them is the asker's (zest doctor's).
 * Whatever could not be found out says so (NETIF_UNKNOWN, "", 0, a negative errno): a probe fails
 * only where there is nothing to ask.
 *
 * root: a directory that stands for "/", for files of /proc and /sys; "" = the real one. Tests pass
 * another. */
#ifndef NETIF_PROBE_H
#define NETIF_PROBE_H

#include "netif.h"

#ifdef __cplusplus
extern "C" {
#endif

enum netif_answer { NETIF_UNKNOWN, NETIF_NO, NETIF_YES };

#define NETIF_KERNEL(a, b)  ((a) << 16 | (b))
#define NETIF_NO_LIMIT      UINT64_MAX
#define NETIF_PROBE_PATH    192
#define NETIF_PROBE_NAME    16
#define NETIF_PROBE_XDP     4  /* programs of one interface: native, generic, offloaded */
#define NETIF_PROBE_SOCKETS 16 /* AF_XDP sockets of one interface */
#define NETIF_PROBE_IFS     64

/* The largest IP packet that an AF_XDP link receives into one segment. */
#define NETIF_XDP_PAGE_MTU 3762u

/* ---- the host */

/* capabilities(7), by number. */
enum netif_cap {
    NETIF_CAP_NET_ADMIN = 12,
    NETIF_CAP_NET_RAW = 13,
    NETIF_CAP_IPC_LOCK = 14,
    NETIF_CAP_SYS_ADMIN = 21,
    NETIF_CAP_SYS_RESOURCE = 24,
    NETIF_CAP_BPF = 39,
};

struct netif_probe_host {
    char release[65];    /* "6.1.0-18-amd64" */
    uint32_t kernel;     /* NETIF_KERNEL(6, 1); 0 = unknown */
    bool root;           /* effective user 0 */
    uint64_t caps;       /* effective, a bit each */
    uint64_t caps_bound; /* the most that this process can ever have */
    bool user_namespace; /* not the first: no rights over BPF, whatever caps says */

    /* Tried out, with a socket and a program that nothing is attached to: 0 or -errno. */
    int xsk;                       /* an AF_XDP socket */
    int bpf_load;                  /* an XDP program that passes everything */
    enum netif_answer tx_metadata; /* checksums and time stamps asked for frame by frame (6.8) */
    enum netif_answer tx_budget;   /* more than 32 frames a send call in copy mode (6.17) */
    enum netif_answer busy_poll;   /* SO_PREFER_BUSY_POLL (5.11) */
    enum netif_answer gather;      /* several descriptors a frame (6.6; by the kernel's version) */
    int tun;                       /* /dev/net/tun: 0 or -errno */

    uint64_t memlock, memlock_max; /* RLIMIT_MEMLOCK in bytes, soft and hard; NETIF_NO_LIMIT */
    uint64_t mem_available;        /* bytes; 0 = unknown */
    uint64_t cgroup_max;           /* the tightest limit above us, in bytes; NETIF_NO_LIMIT */
    uint64_t cgroup_used;
    char cgroup_file[NETIF_PROBE_PATH];        /* where that limit is written */
    uint64_t huge_size, huge_total, huge_free; /* bytes; pages; pages */
    char thp[16];                              /* "always", "madvise", "never"; "" = unknown */
    enum netif_answer bpf_fs;                  /* mounted on /sys/fs/bpf */
    int bpf_jit;                               /* net.core.bpf_jit_enable; -1 = unknown */
};
NETIF_API void netif_probe_host(struct netif_probe_host *out, const char *root);

/* ---- an interface */

/* Offloads, as ethtool(8) has them. */
enum netif_offload {
    NETIF_OFF_TX_CSUM, /* ethtool -K IF tx */
    NETIF_OFF_RX_CSUM,
    NETIF_OFF_GSO,
    NETIF_OFF_TSO,
    NETIF_OFF_GRO,
    NETIF_OFF_GRO_HW,
    NETIF_OFF_LRO,
    NETIF_OFF_RX_VLAN, /* tags are taken off before anyone sees the frame */
    NETIF_OFF_NTUPLE,  /* the card takes rules: which queue a segment comes in on */
    NETIF_OFFLOADS
};
struct netif_probe_offloads {
    uint32_t known, on, fixed; /* a bit each */
};

enum netif_xdp_place { NETIF_AT_NATIVE, NETIF_AT_GENERIC, NETIF_AT_HARDWARE };
struct netif_probe_xdp {
    enum netif_xdp_place place;
    uint32_t prog_id;
    uint32_t link_id;              /* attached by a bpf_link; 0 = by netlink, or we may not know */
    bool links_unknown;            /* we may not look at links */
    char name[64];                 /* of the program; "" = unknown */
    char pinned[NETIF_PROBE_PATH]; /* the link, in the bpf file system; "" = not found there */
    int holder;                    /* a process that holds the link; 0 = none found */
    char holder_name[NETIF_PROBE_NAME];
};

struct netif_probe_socket {
    uint32_t queue;
    bool zero_copy;
    int holder;
    char holder_name[NETIF_PROBE_NAME];
};

/* What the driver's XDP can do (the netdev family, 6.3); NETDEV_XDP_ACT_... of the kernel. */
enum netif_xdp_feature {
    NETIF_XDP_BASIC = 1u << 0,
    NETIF_XDP_REDIRECT = 1u << 1,
    NETIF_XDP_ZEROCOPY = 1u << 3,
    NETIF_XDP_RX_SG = 1u << 5,
};

/* The other end of a veth pair. */
struct netif_probe_peer {
    unsigned index; /* in its own namespace; 0 = there is none, or it is unknown */
    bool elsewhere; /* in another namespace */
    bool found;     /* the rest is known */
    char netns[64]; /* name of that namespace (ip netns); "" = it has none */
    int netns_pid;  /* then: a process in it */
    char name[NETIF_PROBE_NAME];
    bool up;
    uint32_t mtu;
    struct netif_probe_offloads offloads;
    bool has_xdp; /* a program is attached there, too */
};

struct netif_probe_if {
    char name[NETIF_PROBE_NAME];
    unsigned index;
    bool up, carrier;
    uint32_t mtu;
    uint8_t mac[6];
    char driver[32];             /* "" = unknown */
    char kind[NETIF_PROBE_NAME]; /* "veth", "tun", "bridge", ...; "" = a device of its own */
    bool loopback;
    char master[NETIF_PROBE_NAME]; /* the bridge or bond that it belongs to; "" = none */
    uint32_t rx_queues, tx_queues, max_queues; /* in use, and at most; 0 = unknown */
    bool combined;                             /* they are pairs of both: ethtool -L combined */
    struct netif_probe_offloads offloads;

    enum netif_answer xdp_known;        /* the kernel says what the driver's XDP can do: then */
    uint64_t xdp_features;              /* enum netif_xdp_feature */
    uint32_t zc_max_segs;               /* descriptors a frame, zero-copy; 0 = unknown */
    enum netif_answer zc_tx_csum;       /* transmit checksums by metadata, zero-copy */
    enum netif_answer virtio;           /* a virtio device; then what it was made with: */
    bool virtio_platform, virtio_reset; /* VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_RESET */
    bool virtio_offloads_fixed; /* receive offloads that cannot be switched off, as XDP asks for */
    bool tun_tap;               /* kind "tun": it is a TAP, not a TUN */
    bool tun_persist, tun_vnet_hdr, tun_mq; /* of a TAP */

    unsigned n_xdp;
    struct netif_probe_xdp xdp[NETIF_PROBE_XDP];
    unsigned n_sockets; /* AF_XDP sockets bound to it */
    struct netif_probe_socket sockets[NETIF_PROBE_SOCKETS];
    enum netif_answer sockets_known;
    struct netif_probe_peer peer;
};
/* 0 or -errno (ENODEV: there is none of that name). */
NETIF_API int netif_probe_if(struct netif_probe_if *out, const char *ifname, const char *root);

/* The names of this namespace's interfaces. How many there are, which may be more than max. */
NETIF_API unsigned netif_probe_list(char (*names)[NETIF_PROBE_NAME], unsigned max);

#ifdef __cplusplus
}
#endif
#endif
