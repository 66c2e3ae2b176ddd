/* ipv4.c - IPv4 for a host with one address on one link (RFC 791, RFC 1122 section 3).
 *
 * In: every check of RFC 1122 3.2.1 in its order, each with a counter of its own, before any field
 * is used. Only datagrams to our own unicast address go on, so nothing above has to think of
 * broadcast. Options are skipped. Fragments are dropped: everything that we send carries DF, and a
 * peer that keeps to our MSS need not fragment.
 *
 * Out: all that we send is an atomic datagram (RFC 6864: DF, never fragmented), so its
 * identification means nothing and is 0. TCP asks for a path once and copies its headers in front
 * of each segment; the rare control packets go through ipv4_output(). */
#include "ipv4.h"
#include "cksum.h"
#include "eth.h"
#include "stack.h"

#define IP_DF          0x4000u
#define IP_MF          0x2000u
#define IP_OFFSET_MASK 0x1fffu
#define HOST(be)       __builtin_bswap32(be)

/* 0.0.0.0 to 0.255.255.255: "this host on this network" */
static bool is_this_net(uint32_t ip_be)
{
    return HOST(ip_be) >> 24 == 0;
}
static bool is_loopback(uint32_t ip_be)
{
    return HOST(ip_be) >> 24 == 127;
}
static bool is_multicast(uint32_t ip_be)
{
    return HOST(ip_be) >> 28 == 0xe;
}

static bool on_subnet(const struct zest *z, uint32_t ip_be)
{
    return ((ip_be ^ z->ip4_be) & z->mask_be) == 0;
}

/* All ones, the subnet's all ones, and its all zeros (RFC 1122 3.3.6: a form that old hosts use).
 * A /31 or /32 has no broadcast address (RFC 3021). */
static bool is_broadcast(const struct zest *z, uint32_t ip_be)
{
    if (ip_be == UINT32_MAX)
        return true;
    uint32_t host_mask = ~HOST(z->mask_be);
    if (host_mask <= 1 || !on_subnet(z, ip_be))
        return false;
    uint32_t host = HOST(ip_be) & host_mask;
    return host == host_mask || host == 0;
}

bool ipv4_bad_peer(const struct zest *z, uint32_t ip_be)
{
    return is_this_net(ip_be) || is_loopback(ip_be) || is_multicast(ip_be) ||
           is_broadcast(z, ip_be);
}

/* The first check that fails names the counter; NULL: the packet is good, and pk->ip, ip_len,
 * src, dst are set and the link's padding cut off. */
static uint64_t *validate(struct zest *z, struct pkt *pk)
{
    struct zest_stats *st = &z->stats;

    if (pk->len < IPV4_HLEN)
        return &st->drop_ip_short;
    uint8_t *ip = pk->p;
    uint32_t hlen = (ip[0] & 15u) * 4;
    if (ip[0] >> 4 != 4 || hlen < IPV4_HLEN)
        return &st->drop_ip_version;
    if (pk->len < hlen)
        return &st->drop_ip_short;
    if (cksum_fold(cksum_add(0, ip, hlen)) != 0 && !z->cfg.rx_csum_trusted)
        return &st->drop_ip_csum;
    uint32_t total = be16_get(ip + 2);
    if (total < hlen || total > pk->len)
        return &st->drop_ip_short;

    uint32_t src, dst;
    memcpy(&src, ip + 12, 4);
    memcpy(&dst, ip + 16, 4);
    /* RFC 1122 3.2.1.3: a source must be some host's own address. Ours would be a packet that we
     * never sent; answering it would be talking to ourselves. */
    if (ipv4_bad_peer(z, src) || src == z->ip4_be)
        return &st->drop_ip_source;
    /* RFC 1122 3.3.6: nor is a unicast datagram taken out of a broadcast frame. */
    if (dst != z->ip4_be || pk->multicast)
        return &st->drop_ip_not_ours;
    if (be16_get(ip + 6) & (IP_MF | IP_OFFSET_MASK))
        return &st->drop_ip_fragment;

    pk->ip = ip;
    pk->ip_len = total;
    pk->src = ipaddr_from_v4(src);
    pk->dst = ipaddr_from_v4(dst);
    pk->p = ip + hlen;
    pk->len = total - hlen;
    return NULL;
}

void ipv4_input(struct zest *z, struct pkt *pk)
{
    uint64_t *drop = validate(z, pk);
    if (drop) {
        ++*drop;
        return;
    }
    switch (pk->ip[9]) {
    case IP_TCP:
        tcp_input(z, pk);
        break;
    case IP_ICMP:
        icmp_input(z, pk);
        break;
    default:
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a counter's address is not NULL */
        z->stats.drop_ip_proto++;
        icmp_send_unreach(z, pk, pk->ip[9] == IP_UDP ? ICMP_UNREACH_PORT : ICMP_UNREACH_PROTOCOL);
    }
}

/* The address to ask ARP for: 0, or -ENETUNREACH. */
static int next_hop(const struct zest *z, uint32_t dst_be, uint32_t *hop_be)
{
    if (ipv4_bad_peer(z, dst_be) || dst_be == z->ip4_be)
        return -ENETUNREACH;
    *hop_be = on_subnet(z, dst_be) ? dst_be : z->gateway_be;
    return *hop_be == 0 ? -ENETUNREACH : 0;
}

/* The 20 bytes with checksum zero. */
static void header(uint8_t *ip, uint8_t tos, uint16_t total, uint8_t proto, uint32_t src_be,
                   uint32_t dst_be)
{
    ip[0] = 0x45;
    ip[1] = tos;
    be16_put(ip + 2, total);
    be16_put(ip + 4, 0);
    be16_put(ip + 6, IP_DF);
    ip[8] = IP_TTL;
    ip[9] = proto;
    be16_put(ip + 10, 0);
    memcpy(ip + 12, &src_be, 4);
    memcpy(ip + 16, &dst_be, 4);
}

void ipv4_output(struct zest *z, struct zbuf *zb, uint32_t dst_be, uint8_t proto, uint8_t tos)
{
    static const uint8_t unknown[6] = {0};
    uint32_t hop;

    assert(zb->data - zb->first >= (ptrdiff_t)(ZBUF_GUARD + ETH_HLEN + IPV4_HLEN));
    assert(zb->len + IPV4_HLEN <= z->cfg.mtu);
    if (next_hop(z, dst_be, &hop) != 0) {
        z->stats.drop_no_route++;
        zbuf_free(zb);
        return;
    }
    zb->data -= IPV4_HLEN;
    zb->len += IPV4_HLEN;
    header(zb->data, tos, (uint16_t)zb->len, proto, z->ip4_be, dst_be);
    uint16_t csum = cksum_fold(cksum_add(0, zb->data, IPV4_HLEN));
    memcpy(zb->data + 10, &csum, 2);
    zb->data -= ETH_HLEN;
    zb->len += ETH_HLEN;
    eth_header(zb->data, unknown, z->cfg.mac, ETH_TYPE_IPV4);
    arp_send(z, hop, zb);
}

int ipv4_path(struct zest *z, struct ip_path *path, const struct ipaddr *dst, uint8_t proto)
{
    uint8_t mac[6];
    uint32_t hop;
    struct ipaddr v4 = ipaddr_from_v4(dst->w[3]);

    if (!ipaddr_equal(dst, &v4)) /* IPv6 */
        return -ENETUNREACH;
    int err = next_hop(z, dst->w[3], &hop);
    if (err == 0)
        err = arp_resolve(z, hop, mac);
    if (err != 0)
        return err;

    path->gen = z->arp.gen;
    path->hdr_len = ETH_HLEN + IPV4_HLEN;
    eth_header(path->hdr, mac, z->cfg.mac, ETH_TYPE_IPV4);
    header(path->hdr + ETH_HLEN, 0, 0, proto, z->ip4_be, dst->w[3]);
    path->hdr_sum = cksum_fold_raw(cksum_add(0, path->hdr + ETH_HLEN, IPV4_HLEN));
    return 0;
}

void ipv4_path_mark(struct ip_path *path, uint8_t ttl, uint8_t tos)
{
    uint8_t *ip = path->hdr + ETH_HLEN;

    ip[1] = tos;
    ip[8] = ttl;
    path->hdr_sum = cksum_fold_raw(cksum_add(0, ip, IPV4_HLEN));
}

void ipv4_doubt(struct zest *z, uint32_t dst_be)
{
    uint32_t hop;

    if (next_hop(z, dst_be, &hop) == 0)
        arp_doubt(z, hop);
}

uint8_t *ipv4_path_header(const struct ip_path *path, uint8_t *payload, uint32_t payload_len)
{
    uint8_t *frame = payload - (ETH_HLEN + IPV4_HLEN);
    uint8_t *ip = frame + ETH_HLEN;
    uint16_t total;

    assert(payload_len <= UINT16_MAX - IPV4_HLEN);
    memcpy(frame, path->hdr, ETH_HLEN + IPV4_HLEN);
    be16_put(ip + 2, (uint16_t)(IPV4_HLEN + payload_len));
    memcpy(&total, ip + 2, 2);
    uint16_t csum = cksum_fold((uint64_t)path->hdr_sum + total);
    memcpy(ip + 10, &csum, 2);
    return frame;
}

void ipv4_mark_ect(uint8_t *frame)
{
    uint8_t *ip = frame + ETH_HLEN;

    ip[1] |= 2;
    be16_put(ip + 10, 0);
    uint16_t csum = cksum_fold(cksum_add(0, ip, IPV4_HLEN));
    memcpy(ip + 10, &csum, 2);
}
