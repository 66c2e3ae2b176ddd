/* ethtool.h - ethtool's ioctl, behind one function, so that a test can be the kernel. Private to
 * netif/. */
#ifndef NETIF_ETHTOOL_H
#define NETIF_ETHTOOL_H

#include <stdint.h>

/* Carries out one command (a struct of linux/ethtool.h, which begins with its number): 0 or
 * -errno. */
typedef int ethtool_fn(void *ctx, void *cmd);

struct ethtool {
    ethtool_fn *ask;
    void *ctx;
};

/* The real one, of an interface of this namespace. */
struct ethtool_nic {
    int fd;
    char name[16];
};
int ethtool_open(struct ethtool_nic *nic, const char *ifname, struct ethtool *out);
void ethtool_close(struct ethtool_nic *nic);

static inline int ethtool_ask(const struct ethtool *e, void *cmd)
{
    return e->ask(e->ctx, cmd);
}

#endif
