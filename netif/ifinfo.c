/* ifinfo.c - what the system knows of an interface, by ioctl: it asks the namespace that we are in,
 * whatever /sys may show. */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"

static int ask(int s, const char *ifname, unsigned long request, struct ifreq *ifr)
{
    snprintf(ifr->ifr_name, sizeof ifr->ifr_name, "%s", ifname);
    return ioctl(s, request, ifr) < 0 ? -errno : 0;
}

static int ask_ethtool(int s, const char *ifname, void *cmd)
{
    struct ifreq ifr = {.ifr_data = cmd};
    return ask(s, ifname, SIOCETHTOOL, &ifr);
}

/* veth tells the other end's index as its first statistic. */
static unsigned veth_peer(int s, const char *ifname, uint32_t n_stats)
{
    if (n_stats == 0 || n_stats > 4096)
        return 0;
    unsigned peer = 0;
    struct ethtool_gstrings *names = calloc(1, sizeof *names + (size_t)n_stats * ETH_GSTRING_LEN);
    struct ethtool_stats *values = calloc(1, sizeof *values + (size_t)n_stats * sizeof(uint64_t));
    if (names && values) {
        names->cmd = ETHTOOL_GSTRINGS;
        names->string_set = ETH_SS_STATS;
        names->len = n_stats;
        values->cmd = ETHTOOL_GSTATS;
        values->n_stats = n_stats;
        if (ask_ethtool(s, ifname, names) == 0 && ask_ethtool(s, ifname, values) == 0 &&
            strncmp((const char *)names->data, "peer_ifindex", ETH_GSTRING_LEN) == 0)
            peer = (unsigned)values->data[0];
    }
    free(names);
    free(values);
    return peer;
}

int ifinfo_get(const char *ifname, struct ifinfo *out)
{
    *out = (struct ifinfo){0};
    if (!ifname || !*ifname || strlen(ifname) >= IFNAMSIZ)
        return -ENODEV;
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return -errno;
    struct ifreq ifr = {0};
    int err = ask(s, ifname, SIOCGIFINDEX, &ifr);
    if (err == 0) {
        out->index = (unsigned)ifr.ifr_ifindex;
        err = ask(s, ifname, SIOCGIFFLAGS, &ifr);
        out->up = ifr.ifr_flags & IFF_UP;
    }
    if (err == 0) {
        err = ask(s, ifname, SIOCGIFMTU, &ifr);
        out->mtu = (uint32_t)ifr.ifr_mtu;
    }
    if (err == 0) {
        err = ask(s, ifname, SIOCGIFHWADDR, &ifr);
        memcpy(out->mac, ifr.ifr_hwaddr.sa_data, sizeof out->mac);
    }
    if (err == 0) { /* the rest is good to know, not necessary */
        struct ethtool_drvinfo drv = {.cmd = ETHTOOL_GDRVINFO};
        if (ask_ethtool(s, ifname, &drv) == 0) {
            snprintf(out->driver, sizeof out->driver, "%.31s", drv.driver);
            if (strcmp(out->driver, "veth") == 0)
                out->peer_index = veth_peer(s, ifname, drv.n_stats);
        }
        /* IFF_RUNNING would say so up to a second later. */
        struct ethtool_value up = {.cmd = ETHTOOL_GLINK};
        out->carrier = ask_ethtool(s, ifname, &up) != 0 || up.data;
        struct ethtool_channels ch = {.cmd = ETHTOOL_GCHANNELS};
        if (ask_ethtool(s, ifname, &ch) == 0)
            out->queues = ch.rx_count + ch.combined_count;
    }
    close(s);
    return err;
}

int netif_queues(const char *ifname)
{
    struct ifinfo info;
    int rc = ifinfo_get(ifname, &info);
    return rc ? rc : info.queues ? (int)info.queues : 1;
}
