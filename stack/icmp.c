/* icmp.c - echo replies, destination-unreachable, and errors about our own segments.
 *
 * Everything that we send on behalf of a stranger is bounded by a token bucket in the stack's own
 * time: an unlimited answerer is an amplifier for whoever forges sources. Errors and replies have
 * separate buckets, so that a ping flood does not silence errors.
 *
 * An error that arrives is only a hint (RFC 5927): here its form is checked, TCP judges whether the
 * quoted segment is one that we may have sent. Redirects are ignored, as are source quenches
 * (RFC 6633), and every request but echo. */
#include "icmp.h"
#include "cksum.h"
#include "ipv4.h"
#include "stack.h"

#define ICMP_ECHO_REPLY    0u
#define ICMP_SOURCE_QUENCH 4u
#define ICMP_REDIRECT      5u
#define ICMP_ECHO          8u

/* RFC 1812 4.3.2.3: quote as much as fits without the datagram passing 576 bytes. */
#define ICMP_QUOTE_MAX (576u - IPV4_HLEN - ICMP_HLEN)

/* At most, in ticks. */
enum {
    ECHO_TOKENS = ICMP_ECHO_BURST * ICMP_ECHO_TICKS,
    ERROR_TOKENS = ICMP_ERROR_BURST * ICMP_ERROR_TICKS
};

#define ECN_BITS 3u

void icmp_init(struct zest *z)
{
    z->icmp = (struct icmp){
        .echo_tokens = ECHO_TOKENS, .error_tokens = ERROR_TOKENS, .refilled_ns = z->now_ns};
}

static void refill(struct zest *z)
{
    struct icmp *ic = &z->icmp;
    uint64_t ticks = (z->now_ns - ic->refilled_ns) / ICMP_TICK_NS;
    ic->refilled_ns += ticks * ICMP_TICK_NS;
    ic->echo_tokens = (uint32_t)min_u64(ic->echo_tokens + ticks, ECHO_TOKENS);
    ic->error_tokens = (uint32_t)min_u64(ic->error_tokens + ticks, ERROR_TOKENS);
}

static bool take(struct zest *z, uint32_t *tokens, uint32_t n)
{
    refill(z);
    if (*tokens < n) {
        z->stats.icmp_rate_limited++;
        return false;
    }
    *tokens -= n;
    return true;
}

/* ---- out */

/* Type 0 with the request's identifier, sequence number and data (RFC 1122 3.2.2.6), copied and
 * summed in one pass into a control segment: the receive ring gets its own back at once. */
static void echo_reply(struct zest *z, const struct pkt *pk)
{
    if (pk->len + IPV4_HLEN > z->cfg.mtu) { /* we do not fragment */
        z->stats.drop_icmp_type++;
        return;
    }
    if (!take(z, &z->icmp.echo_tokens, ICMP_ECHO_TICKS))
        return;
    struct zbuf *zb = ctrl_alloc(z, pk->len);
    if (!zb)
        return;
    uint8_t *p = zb->data;
    zb->len = pk->len;
    memset(p, 0, 4); /* type, code and, for now, checksum */
    uint16_t csum = cksum_fold(pkt_copy(pk, 0, p + 4, pk->p + 4, pk->len - 4));
    memcpy(p + 2, &csum, 2);
    z->stats.icmp_echo_replies++;
    /* The request's TOS, but not its ECN field: that is the path's word, not the sender's. */
    ipv4_output(z, zb, pk->src.w[3], IP_ICMP, (uint8_t)(pk->ip[1] & ~ECN_BITS));
}

static bool is_icmp_error(uint8_t type)
{
    return type == ICMP_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
           type == ICMP_TIME_EXCEEDED || type == ICMP_PARAM_PROBLEM;
}

/* RFC 1122 3.2.2: no error about an error, a broadcast, or a fragment other than the first; about
 * ICMP that is too short to tell, none either. (IPv4 has already refused impossible sources.) */
static bool may_answer(const struct zest *z, const struct pkt *pk)
{
    if (pk->multicast || pk->dst.w[3] != z->ip4_be || ipv4_bad_peer(z, pk->src.w[3]))
        return false;
    if (be16_get(pk->ip + 6) & 0x1fff)
        return false;
    return pk->ip[9] != IP_ICMP || (pk->len > 0 && !is_icmp_error(pk->p[0]));
}

void icmp_send_unreach(struct zest *z, const struct pkt *pk, uint8_t code)
{
    if (!may_answer(z, pk) || !take(z, &z->icmp.error_tokens, ICMP_ERROR_TICKS))
        return;
    uint32_t quoted = min_u32(pk->ip_len, ICMP_QUOTE_MAX);
    struct zbuf *zb = ctrl_alloc(z, ICMP_HLEN + quoted);
    if (!zb)
        return;
    uint8_t *p = zb->data;
    zb->len = ICMP_HLEN + quoted;
    memset(p, 0, ICMP_HLEN);
    p[0] = ICMP_UNREACH;
    p[1] = code;
    uint16_t csum =
        cksum_fold(pkt_copy(pk, cksum_add(0, p, ICMP_HLEN), p + ICMP_HLEN, pk->ip, quoted));
    memcpy(p + 2, &csum, 2);
    z->stats.icmp_errors_sent++;
    ipv4_output(z, zb, pk->src.w[3], IP_ICMP, 0);
}

/* ---- in */

/* Behind the ICMP header: the IP header of a datagram that we are said to have sent, with options
 * perhaps, and at least the first 8 bytes of what it carried: ports and sequence number. */
static void error_input(struct zest *z, struct pkt *pk)
{
    const uint8_t *ip = pk->p + ICMP_HLEN;
    uint32_t len = pk->len - ICMP_HLEN;
    uint32_t hlen = len < IPV4_HLEN ? 0 : (ip[0] & 15u) * 4;
    if (hlen < IPV4_HLEN || ip[0] >> 4 != 4 || len < hlen + 8) {
        z->stats.drop_icmp_short++;
        return;
    }
    uint32_t src, dst;
    memcpy(&src, ip + 12, 4);
    memcpy(&dst, ip + 16, 4);
    if (src != z->ip4_be || ip[9] != IP_TCP || (be16_get(ip + 6) & 0x1fff) != 0) {
        z->stats.drop_icmp_type++;
        return;
    }
    struct ipaddr local = ipaddr_from_v4(src), remote = ipaddr_from_v4(dst);
    struct icmp_error e = {
        .type = pk->p[0],
        .code = pk->p[1],
        .mtu = be16_get(pk->p + 6), /* RFC 1191 */
        .local = &local,
        .remote = &remote,
        .local_port = be16_get(ip + hlen),
        .remote_port = be16_get(ip + hlen + 2),
        .seq = be32_get(ip + hlen + 4),
    };
    tcp_icmp_error(z, &e);
}

void icmp_input(struct zest *z, struct pkt *pk)
{
    if (pk->len < ICMP_HLEN) {
        z->stats.drop_icmp_short++;
        return;
    }
    /* Always: what a link vouches for is IP, TCP and UDP sums, not this one. */
    if (cksum_fold(pkt_sum(pk, 0, pk->p, pk->len)) != 0) {
        z->stats.drop_icmp_csum++;
        return;
    }
    switch (pk->p[0]) {
    case ICMP_ECHO:
        echo_reply(z, pk);
        break;
    case ICMP_UNREACH:
    case ICMP_TIME_EXCEEDED:
    case ICMP_PARAM_PROBLEM:
        error_input(z, pk);
        break;
    default:
        z->stats.drop_icmp_type++;
    }
}
