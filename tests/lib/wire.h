/* wire.h - frames as a stranger sees them: taken apart and put together without any code of
 * stack/, so that a mistake there is not made here, too. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stack/zest.h"

enum {
    WIRE_FIN = 1,
    WIRE_SYN = 2,
    WIRE_RST = 4,
    WIRE_PSH = 8,
    WIRE_ACK = 16,
    WIRE_URG = 32,
    WIRE_ECE = 64,
    WIRE_CWR = 128
};

#define WIRE_MAX 65600u /* largest frame */

/* What the options of a segment say. */
struct wire_opts {
    bool has_mss, has_wscale, has_ts, sack_ok;
    uint16_t mss;
    uint8_t wscale;
    uint32_t ts_val, ts_ecr;
    uint8_t sacks;
    uint32_t sack[4][2];
};

struct wire {
    uint8_t eth_dst[6], eth_src[6];
    uint16_t eth_type;
    /* ARP */
    uint16_t arp_op;
    uint32_t arp_spa, arp_tpa; /* host order */
    uint8_t arp_sha[6];
    /* IPv4; addresses in host order */
    uint32_t src, dst, ip_len;
    uint8_t proto, tos;
    /* ICMP */
    uint8_t icmp_type, icmp_code;
    /* TCP */
    uint16_t sport, dport, wnd, urg;
    uint8_t flags;
    uint32_t seq, ack;
    struct wire_opts opt;
    /* what follows the last header */
    const uint8_t *payload;
    uint32_t payload_len;
};

/* Takes a frame apart, strictly: every length, every checksum, every option. NULL if it is well
 * formed, else what is wrong with it. */
const char *wire_parse(struct wire *w, const uint8_t *frame, size_t len);

/* Puts a frame together from w's fields (and payload) in buf[WIRE_MAX]; returns its length. Only
 * what w->opt says has options. */
size_t wire_build_tcp(const struct wire *w, uint8_t *buf);
size_t wire_build_arp(const struct wire *w, uint8_t *buf);
size_t wire_build_icmp(const struct wire *w, uint8_t *buf, uint32_t rest);
/* Corrects the checksums of a frame that was changed, as far as its lengths make sense: IP's, and
 * TCP's, UDP's or ICMP's. */
void wire_fix_checksums(uint8_t *frame, size_t len);

/* A line for people: "10.0.0.1:80 > 10.0.0.2:4000 SA seq 1 ack 2 win 3 len 4 <mss 1460>". */
char *wire_text(const uint8_t *frame, size_t len, char *buf, size_t size);

/* Copies what a stack wants to send to buf[WIRE_MAX], as a link reads it, and fills in the checksum
 * that was left to the link. Each descriptor must lie in one live segment of pool: else, or with a
 * nonsensical frame, NULL, and *why says so. Returns the length. */
size_t wire_gather(const struct zbuf_pool *pool, const struct zest_frame *f, uint8_t *buf,
                   const char **why);

/* Cuts a TCP frame as a link does that was told f->gso_size: segment i in out[WIRE_MAX]; returns
 * its length, 0 behind the last one. The whole frame must be well formed. */
size_t wire_segment(const uint8_t *frame, size_t len, uint32_t gso_size, unsigned i, uint8_t *out);

/* RFC 1071, two bytes at a time; the sum of words in host order, not complemented. */
uint16_t wire_sum(uint32_t sum, const uint8_t *p, size_t len);

/* A received frame in memory of b, as a link hands it over: `front` bytes free before it, and in a
 * chain of segments with cut bytes each, if cut is not 0. Each segment has room for seg bytes with
 * its header, or for what is in it, if that is more: a ring's are all alike, whatever comes. NULL:
 * there is no memory for it. */
struct zbuf *wire_receive(struct zbuf_budget *b, const uint8_t *frame, size_t len, uint32_t front,
                          uint32_t cut, uint32_t seg);

#endif
