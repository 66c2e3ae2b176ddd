/* ipv4.h - IPv4 (RFC 791, RFC 1122 3.2.1): one address, one subnet, one gateway, no fragments. */
#ifndef IPV4_H
#define IPV4_H

#include <stdbool.h>
#include <stdint.h>

struct zest;
struct pkt;
struct zbuf;
struct ipaddr;
struct ip_path;

#define IPV4_HLEN 20u
#define IP_ICMP   1u
#define IP_TCP    6u
#define IP_UDP    17u
#define IP_TTL    64u

void ipv4_input(struct zest *z, struct pkt *pk);
/* Sends zb->data, zb->len as the payload of one packet, header into the headroom. Takes zb over.
 * For the packets of the control queue; TCP's data goes by ipv4_path(). */
void ipv4_output(struct zest *z, struct zbuf *zb, uint32_t dst_be, uint8_t proto, uint8_t tos);
/* Makes path ready to be copied in front of TCP segments to dst. 0, -EAGAIN (address being
 * resolved), -EHOSTUNREACH (no answer), -ENETUNREACH (no route). On any error path stays as it was.
 */
int ipv4_path(struct zest *z, struct ip_path *path, const struct ipaddr *dst, uint8_t proto);
/* From now on path's packets carry these; a path just made has IP_TTL and 0. */
void ipv4_path_mark(struct ip_path *path, uint8_t ttl, uint8_t tos);
/* A frame just made, with its path's headers: ECN-capable, ECT(0) of RFC 3168 5. */
void ipv4_mark_ect(uint8_t *frame);
/* Nothing comes back from dst_be: is its link address, or the gateway's, still good? (RFC 1122
 * 3.3.1.4, RFC 9293 3.8.3) */
void ipv4_doubt(struct zest *z, uint32_t dst_be);
/* Copies path's headers so that they end right before payload (payload_len bytes of IP payload
 * follow), with length and checksum filled in. Returns the frame's first byte. */
uint8_t *ipv4_path_header(const struct ip_path *path, uint8_t *payload, uint32_t payload_len);
/* True for addresses that can't be a peer's: 0/8, 127/8, multicast, broadcast (RFC 1122 3.2.1.3).
 */
bool ipv4_bad_peer(const struct zest *z, uint32_t ip_be);

#endif
