/* siphash.h - SipHash-2-4, a keyed hash that a peer without the key can neither predict nor make
 * collide: for ISNs (RFC 6528), ephemeral ports (RFC 6056) and the connection table. */
#ifndef SIPHASH_H
#define SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const uint8_t key[16], const void *data, size_t len);

#endif
