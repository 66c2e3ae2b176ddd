// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* xdp_kern.bpf.c - which frames are zest's: IPv4 to our address, and ARP that asks for it or
 * answers us. They go to the socket of the queue that they came in on; everything else goes on to
 * the kernel, as if we were not there. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Set before the program is loaded; the verifier then sees a constant. Network order. */
const volatile __be32 zest_ip = 0;

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

/* Frags: without it an MTU above about one page is refused, and on veth it is no slower. */
SEC("xdp.frags")
int zest_xdp(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    __be32 to;

    if ((void *)(eth + 1) > end)
        return XDP_PASS;
    if (eth->h_proto == bpf_htons(ETH_P_IP)) {
        struct iphdr *ip = (void *)(eth + 1);
        if ((void *)(ip + 1) > end)
            return XDP_PASS;
        to = ip->daddr;
    } else if (eth->h_proto == bpf_htons(ETH_P_ARP)) {
        struct arp_ipv4 *arp = (void *)(eth + 1);
        if ((void *)(arp + 1) > end)
            return XDP_PASS;
        /* The target of a request is the address asked for, that of a reply is who had asked. */
        __builtin_memcpy(&to, arp->tpa, sizeof to);
    } else {
        return XDP_PASS;
    }
    if (to != zest_ip)
        return XDP_PASS;
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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
