/* xdp_blob.h - the compiled XDP program, an ELF object for the BPF machine. */
#ifndef NETIF_XDP_BLOB_H
#define NETIF_XDP_BLOB_H

#include <stdint.h>

extern const uint8_t xdp_kern_object[] __attribute__((visibility("hidden")));
extern const uint64_t xdp_kern_object_size __attribute__((visibility("hidden")));

#endif
