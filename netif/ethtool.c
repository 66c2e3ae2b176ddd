/* ethtool.c - the real side of ethtool.h. */
#include "ethtool.h"

#include <errno.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int ask(void *ctx, void *cmd)
{
    const struct ethtool_nic *nic = ctx;
    struct ifreq ifr = {.ifr_data = cmd};
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", nic->name);
    return ioctl(nic->fd, SIOCETHTOOL, &ifr) < 0 ? -errno : 0;
}

int ethtool_open(struct ethtool_nic *nic, const char *ifname, struct ethtool *out)
{
    snprintf(nic->name, sizeof nic->name, "%.15s", ifname);
    nic->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (nic->fd < 0)
        return -errno;
    *out = (struct ethtool){ask, nic};
    return 0;
}

void ethtool_close(struct ethtool_nic *nic)
{
    if (nic->fd >= 0)
        close(nic->fd);
    nic->fd = -1;
}
