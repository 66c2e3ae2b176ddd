/* icmp.h - ICMP for IPv4 (RFC 792, RFC 1122 3.2.2): echo, and errors both ways. */
#ifndef ICMP_H
#define ICMP_H

#include <stdint.h>

struct zest;
struct pkt;

#define ICMP_HLEN 8u

#define ICMP_UNREACH          3u
#define ICMP_UNREACH_PROTOCOL 2u
#define ICMP_UNREACH_PORT     3u
#define ICMP_UNREACH_NEEDFRAG 4u
#define ICMP_TIME_EXCEEDED    11u
#define ICMP_PARAM_PROBLEM    12u

/* A token bucket for what we send: replies and errors have one each. Counted in ticks. */
#define ICMP_TICK_NS     100000ull
#define ICMP_ECHO_TICKS  1u    /* 10,000 echo replies a second */
#define ICMP_ECHO_BURST  1000u /* replies */
#define ICMP_ERROR_TICKS 10u   /* 1,000 errors a second */
#define ICMP_ERROR_BURST 50u   /* errors */

struct icmp {
    uint32_t echo_tokens, error_tokens; /* ticks */
    uint64_t refilled_ns;
};

void icmp_init(struct zest *z);
void icmp_input(struct zest *z, struct pkt *pk);
/* Answers pk with a destination-unreachable, unless RFC 1122 3.2.2 forbids it or the rate limit is
 * reached. */
void icmp_send_unreach(struct zest *z, const struct pkt *pk, uint8_t code);

#endif
