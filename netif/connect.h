/* connect.h - from which port to connect; see connect.c. Private to netif/. */
#ifndef NETIF_CONNECT_H
#define NETIF_CONNECT_H

#include "link.h"

/* netif_connect(), of the stack that is number `member` of so many with one address. */
int connect_from(struct netif *nif, struct zest *z, unsigned members, unsigned member,
                 const struct zest_addr *remote, zest_handle *out);

#endif
