/* pkt.h - packets that arrived in several segments.
 *
 * A link whose buffers are smaller than its frames (AF_XDP's are a page) hands a frame on as a
 * chain of segments. Layers that look at headers need not know: stack_input() sees to it that the
 * first PKT_HEAD bytes lie in the first segment, which is more than all headers that are ever
 * looked at (Ethernet 14, IPv4 60, and then TCP 60, or ICMP's 8 with the quoted packet's 60 and 8).
 * Only who reads payload does: checksums, echo replies, ICMP's quotes, and the receive queue. */
#ifndef PKT_H
#define PKT_H

#include <stdbool.h>
#include <stdint.h>

struct pkt;
struct zbuf;

#define PKT_HEAD 160u
/* 64 KiB of IP and its link's header and padding: no frame is longer. */
#define PKT_MAX (65535u + 14u + 64u)

/* Moves bytes to the front of a chain until PKT_HEAD of them, or all that there are, lie in the
 * first segment. False: it has no room for them, or the chain is no frame (too long, or made of
 * borrowed links); what was moved stays so. *len: the bytes of the chain. */
bool pkt_pull_up(struct zbuf *head, uint32_t *len);
/* The Internet checksum over the len bytes that begin at p in the packet's first segment. */
uint64_t pkt_sum(const struct pkt *pk, uint64_t sum, const uint8_t *p, uint32_t len);
/* The same, and copies them to dst. */
uint64_t pkt_copy(const struct pkt *pk, uint64_t sum, uint8_t *dst, const uint8_t *p, uint32_t len);

#endif
