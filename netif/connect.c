/* connect.c - opening a connection, from a port whose answers come in on our own queue.
 *
 * The port is the stack's choice (RFC 6056). Where the card's hash is known (rss.c), that choice is
 * only where the search begins: the next port of this stack's own that has its answers come in here
 * is taken instead, before the SYN is sent. Where it is not known, or wrong, the first answer that
 * comes in elsewhere has the connection try another port (group.c).
 *
 * Beside the kernel the ports are those of the link's list. */
#include "connect.h"

#include <errno.h>
#include <string.h>

#include "neigh.h"

#define EPHEMERAL_FIRST 32768u /* as the stack has them */
#define EPHEMERAL_LAST  60999u
#define TRIES           64u /* for each stack: one in 10^27 finds none, if ports are spread evenly */
#define IP4_AT          12u /* in an address of 16 bytes */

static bool comes_in_here(const struct netif *nif, const struct zest_addr *remote,
                          const uint8_t local_ip[4], uint16_t port)
{
    struct rss_end from = {.port = remote->port}, to = {.port = port};
    memcpy(from.ip, remote->ip + IP4_AT, sizeof from.ip);
    memcpy(to.ip, local_ip, sizeof to.ip);
    return rss_queue(nif->rss.rss, &from, &to) == nif->caps.queue;
}

/* Nothing has been sent yet. If no port is found, the old one is as good as any. */
static void choose_port(struct netif *nif, struct zest *z, unsigned members,
                        const struct zest_addr *remote, zest_handle conn)
{
    struct zest_conn_info info;
    if (zest_conn_info(z, conn, &info) != 0)
        return;
    uint32_t port = info.local.port;
    for (unsigned i = 0; i < TRIES * members; i++) {
        if (comes_in_here(nif, remote, info.local.ip + IP4_AT, (uint16_t)port) &&
            (port == info.local.port || zest_change_port(z, conn, (uint16_t)port) == 0)) {
            rss_foretold(&nif->rss);
            return;
        }
        port += members; /* those that are its number modulo their count */
        if (port > EPHEMERAL_LAST)
            port = EPHEMERAL_FIRST + (port - EPHEMERAL_FIRST) % members;
    }
}

/* Each stack has those of the list that are its number modulo their count, so that no two ever hold
 * the same connection; or, of a list too short for that, any. */
static bool has_own(const struct neigh *ng, unsigned members, unsigned member)
{
    uint16_t port = 0;
    for (unsigned i = neigh_ports(ng); i > 0; i--) {
        port = neigh_port(ng, port);
        if (port % members == member)
            return true;
    }
    return false;
}

static int from_list(struct netif *nif, struct zest *z, unsigned members, unsigned member,
                     const struct zest_addr *remote, zest_handle *out)
{
    const struct neigh *ng = nif->neigh;
    bool own = has_own(ng, members, member);
    struct zest_addr local = {.port = 0};
    int rc = -EADDRINUSE;
    /* Those whose answers come in here first, then the others. */
    for (unsigned turn = nif->rss.rss ? 0 : 1; turn < 2 && rc == -EADDRINUSE; turn++)
        for (unsigned i = neigh_ports(ng); i > 0 && rc == -EADDRINUSE; i--) {
            local.port = neigh_port(ng, local.port);
            if ((own && local.port % members != member) ||
                (turn == 0 && !comes_in_here(nif, remote, neigh_ip(ng), local.port)))
                continue;
            rc = zest_connect(z, remote, &local, out);
        }
    return rc == -EADDRINUSE ? -EADDRNOTAVAIL : rc;
}

int connect_from(struct netif *nif, struct zest *z, unsigned members, unsigned member,
                 const struct zest_addr *remote, zest_handle *out)
{
    LINK_ASSERT(member < members);
    if (nif->neigh)
        return from_list(nif, z, members, member, remote, out);
    int rc = zest_connect(z, remote, NULL, out);
    if (rc == 0 && nif->rss.rss && members > 1)
        choose_port(nif, z, members, remote, *out);
    return rc;
}
