/* cksum.h - the Internet checksum (RFC 1071).
 *
 * Sums are kept as 64-bit one's-complement accumulators in the machine's byte order, so that any
 * two can be added; cksum_fold() makes the 16 bits that go on the wire (store them with memcpy,
 * they are in wire order). A sum over an odd number of bytes may only be the last of those that are
 * added. */
#ifndef CKSUM_H
#define CKSUM_H

#include <stddef.h>
#include <stdint.h>

struct ipaddr;

uint64_t cksum_add(uint64_t sum, const void *data, size_t len);
/* The same, and copies data to dst on the way. */
uint64_t cksum_copy(uint64_t sum, void *dst, const void *data, size_t len);
/* The pseudo-header of TCP (RFC 9293 3.1), for IPv4 or IPv6 addresses. */
uint64_t cksum_pseudo(const struct ipaddr *src, const struct ipaddr *dst, uint8_t proto,
                      uint32_t len);
/* Folded, not complemented. */
uint16_t cksum_fold_raw(uint64_t sum);
static inline uint16_t cksum_fold(uint64_t sum)
{
    return (uint16_t)~cksum_fold_raw(sum);
}
/* sum + sum with the carry brought round */
static inline uint64_t cksum_plus(uint64_t a, uint64_t b)
{
    a += b;
    return a + (a < b);
}
/* The sum over bytes that come in pieces, and one that begins at offset `at`: at an odd offset it
 * counts with its bytes swapped (RFC 1071 2 (B)). */
static inline uint64_t cksum_piece(uint64_t sum, uint64_t piece, uint32_t at)
{
    if (at % 2)
        piece = __builtin_bswap16(cksum_fold_raw(piece));
    return cksum_plus(sum, piece);
}

#endif
