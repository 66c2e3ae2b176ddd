/* adapter.h - one stack under packetdrill's control: its network, and its time. */
#ifndef ADAPTER_H
#define ADAPTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sockets/sockets.h"

struct adapter_flags {
    struct zest_addr local, gateway;
    uint8_t prefix_len; /* of the local network */
    uint16_t mtu;
    uint64_t timeout_ns; /* of adapter_receive() */
};
/* "local=192.168.0.1,gateway=192.168.0.2/16,remote=192.0.2.0/24,mtu=1500,timeout_ms=20000", each
 * optional, NULL for none. False: *why says which. */
bool adapter_parse(struct adapter_flags *out, const char *text, const char **why);

struct adapter;
/* 0 or -errno. */
int adapter_open(const struct adapter_flags *flags, struct adapter **out);
void adapter_close(struct adapter *a);
struct sockets *adapter_sockets(struct adapter *a);

/* An IP packet arrives. 0 or -errno. */
int adapter_send(struct adapter *a, const void *packet, size_t len);
/* The next IP packet that left, and when. Time passes until there is one: 0, with *len 0 after the
 * time-out. A packet longer than *len is cut. */
int adapter_receive(struct adapter *a, void *packet, size_t *len, int64_t *usecs);
void adapter_sleep(struct adapter *a, uint64_t ns);
/* Microseconds since 1970. Each look takes one. */
int64_t adapter_usecs(struct adapter *a);

#endif
