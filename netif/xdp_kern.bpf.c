// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* xdp_kern.bpf.c - which frames are zest's. With an address of its own: IPv4 to it, and ARP that
 * asks for it or answers us. With single ports of the host's address: TCP to them, and ICMP errors
 * about what was sent from them; ARP is the kernel's then. They go to the socket of the queue that
 * they came in on; everything else goes on to the kernel (or, behind libxdp's dispatcher, to the
 * next program), as if we were not there. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Set before the program is loaded; the verifier then sees constants. ip in network order. */
struct zest_wants {
    __be32 ip;
    __u32 by_port; /* only what zest_ports says */
    __u64 netns;   /* whose program this is: see xdp_owner.c */
    __u8 owner[16];
};
const volatile struct zest_wants zest_wants = {0};

/* A bit for each port. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1024);
    __type(key, __u32);
    __type(value, __u64);
} zest_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 256);
    __type(key, __u32);
    __type(value, __u32);
} zest_xsks SEC(".maps");

/* By queue: frames of ours that no socket took. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 256);
    __type(key, __u32);
    __type(value, __u64);
} zest_missed SEC(".maps");

/* RFC 792. */
#define ICMP_UNREACHABLE   3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_BAD_PARAMETER 12
struct icmp_header {
    __u8 type, code;
    __be16 checksum;
    __be32 rest;
};

/* RFC 826, for Ethernet and IPv4. */
struct arp_ipv4 {
    __be16 hrd, pro;
    __u8 hln, pln;
    __be16 op;
    __u8 sha[ETH_ALEN];
    __u8 spa[4];
    __u8 tha[ETH_ALEN];
    __u8 tpa[4];
} __attribute__((packed));

static __always_inline int to_us(struct xdp_md *ctx)
{
    /* A queue without a socket: the kernel gets the frame, and drops it where one can see it. */
    int verdict = (int)bpf_redirect_map(&zest_xsks, ctx->rx_queue_index, XDP_PASS);
    if (verdict == XDP_PASS) {
        __u32 queue = ctx->rx_queue_index;
        __u64 *missed = bpf_map_lookup_elem(&zest_missed, &queue);
        if (missed)
            __sync_fetch_and_add(missed, 1);
    }
    return verdict;
}

static __always_inline int is_our_port(__be16 port_be)
{
    __u32 port = bpf_ntohs(port_be), word = port / 64;
    __u64 *bits = bpf_map_lookup_elem(&zest_ports, &word);
    return bits && (*bits >> (port % 64) & 1);
}

/* Headers with options are up to 60 bytes. The verifier wants to see that. */
static __always_inline void *after_ip(struct iphdr *ip)
{
    return (void *)ip + ((ip->ihl & 15) * 4);
}

/* An error about a segment that we sent: it quotes IP and the first 8 bytes after. */
static __always_inline int is_our_error(struct icmp_header *icmp, void *end)
{
    struct iphdr *ip = (void *)(icmp + 1);
    if ((void *)(icmp + 1) > end || (void *)(ip + 1) > end)
        return 0;
    if (icmp->type != ICMP_UNREACHABLE && icmp->type != ICMP_TIME_EXCEEDED &&
        icmp->type != ICMP_BAD_PARAMETER)
        return 0;
    __be16 *port = after_ip(ip);
    if (ip->protocol != IPPROTO_TCP || ip->saddr != zest_wants.ip || (void *)(port + 1) > end)
        return 0;
    return is_our_port(*port);
}

static __always_inline int is_our_segment(struct iphdr *ip, void *end)
{
    if (ip->frag_off & bpf_htons(0x1fff)) /* not a first fragment: no ports in there */
        return 0;
    if (ip->protocol == IPPROTO_ICMP)
        return is_our_error(after_ip(ip), end);
    __be16 *ports = after_ip(ip);
    if (ip->protocol != IPPROTO_TCP || (void *)(ports + 2) > end)
        return 0;
    return is_our_port(ports[1]);
}

/* Frags: without it an MTU above about one page is refused, and on veth it is no slower. */
SEC("xdp.frags")
int zest_xdp(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;

    if ((void *)(eth + 1) > end)
        return XDP_PASS;
    if (eth->h_proto == bpf_htons(ETH_P_IP)) {
        struct iphdr *ip = (void *)(eth + 1);
        if ((void *)(ip + 1) > end || ip->daddr != zest_wants.ip)
            return XDP_PASS;
        return zest_wants.by_port && !is_our_segment(ip, end) ? XDP_PASS : to_us(ctx);
    }
    if (eth->h_proto == bpf_htons(ETH_P_ARP) && !zest_wants.by_port) {
        struct arp_ipv4 *arp = (void *)(eth + 1);
        __be32 target;
        if ((void *)(arp + 1) > end)
            return XDP_PASS;
        /* The target of a request is the address asked for, that of a reply is who had asked. */
        __builtin_memcpy(&target, arp->tpa, sizeof target);
        return target == zest_wants.ip ? to_us(ctx) : XDP_PASS;
    }
    return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
