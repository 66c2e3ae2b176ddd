/* probe_ethtool.c - driver, queues and offloads, by ethtool's ioctl: it asks the namespace that the
 * calling thread is in. */
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

#include "probe_priv.h"

#define FEATURES_MAX 1024u

/* The kernel's names of what ethtool -K switches; several make up one of ours. */
static const struct {
    const char *name;
    enum netif_offload is;
} names[] = {
    {"tx-checksum-ipv4", NETIF_OFF_TX_CSUM},
    {"tx-checksum-ip-generic", NETIF_OFF_TX_CSUM},
    {"tx-checksum-ipv6", NETIF_OFF_TX_CSUM},
    {"rx-checksum", NETIF_OFF_RX_CSUM},
    {"tx-generic-segmentation", NETIF_OFF_GSO},
    {"tx-tcp-segmentation", NETIF_OFF_TSO},
    {"tx-tcp6-segmentation", NETIF_OFF_TSO},
    {"rx-gro", NETIF_OFF_GRO},
    {"rx-gro-hw", NETIF_OFF_GRO_HW},
    {"rx-lro", NETIF_OFF_LRO},
    {"rx-vlan-hw-parse", NETIF_OFF_RX_VLAN},
    {"rx-ntuple-filter", NETIF_OFF_NTUPLE},
};
#define NAMES (sizeof names / sizeof names[0])

static int ask(int s, const char *ifname, void *cmd)
{
    struct ifreq ifr = {.ifr_data = cmd};
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%.15s", ifname);
    return ioctl(s, SIOCETHTOOL, &ifr) < 0 ? -errno : 0;
}

static uint32_t count_features(int s, const char *ifname)
{
    union {
        struct ethtool_sset_info info;
        uint32_t room[(sizeof(struct ethtool_sset_info) + sizeof(uint32_t)) / sizeof(uint32_t)];
    } sset = {.info = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ull << ETH_SS_FEATURES}};
    uint32_t n;
    if (ask(s, ifname, &sset) != 0 || sset.info.sset_mask == 0)
        return 0;
    memcpy(&n, sset.info.data, sizeof n);
    return n <= FEATURES_MAX ? n : FEATURES_MAX;
}

/* Bits in words of 32, as strings are numbered. fixed: none of those behind a name can be changed.
 */
static void sort_out(const struct ethtool_gstrings *strings, const struct ethtool_gfeatures *got,
                     uint32_t n, struct netif_probe_offloads *out)
{
    uint32_t changeable = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct ethtool_get_features_block *b = &got->features[i / 32];
        uint32_t bit = 1u << i % 32;
        for (unsigned k = 0; k < NAMES; k++) {
            if (strncmp((const char *)strings->data + (size_t)i * ETH_GSTRING_LEN, names[k].name,
                        ETH_GSTRING_LEN) != 0)
                continue;
            uint32_t is = 1u << names[k].is;
            out->known |= is;
            if (b->active & bit)
                out->on |= is;
            if (b->available & bit && !(b->never_changed & bit))
                changeable |= is;
        }
    }
    out->fixed = out->known & ~changeable;
}

static void ask_offloads(int s, const char *ifname, struct netif_probe_offloads *out)
{
    uint32_t n = count_features(s, ifname), blocks = (n + 31) / 32;
    *out = (struct netif_probe_offloads){0};
    if (n == 0)
        return;
    struct ethtool_gstrings *strings = calloc(1, sizeof *strings + (size_t)n * ETH_GSTRING_LEN);
    struct ethtool_gfeatures *got = calloc(1, sizeof *got + blocks * sizeof got->features[0]);
    if (strings && got) {
        strings->cmd = ETHTOOL_GSTRINGS;
        strings->string_set = ETH_SS_FEATURES;
        strings->len = n;
        got->cmd = ETHTOOL_GFEATURES;
        got->size = blocks;
        if (ask(s, ifname, strings) == 0 && ask(s, ifname, got) == 0)
            sort_out(strings, got, n, out);
    }
    free(strings);
    free(got);
}

void probe_offloads(const char *ifname, struct netif_probe_offloads *out)
{
    *out = (struct netif_probe_offloads){0};
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return;
    ask_offloads(s, ifname, out);
    close(s);
}

void probe_ethtool(const char *ifname, struct netif_probe_if *out)
{
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return;
    struct ethtool_drvinfo drv = {.cmd = ETHTOOL_GDRVINFO};
    if (ask(s, ifname, &drv) == 0)
        snprintf(out->driver, sizeof out->driver, "%.31s", drv.driver);
    struct ethtool_channels ch = {.cmd = ETHTOOL_GCHANNELS};
    if (ask(s, ifname, &ch) == 0) {
        out->rx_queues = ch.rx_count + ch.combined_count;
        out->tx_queues = ch.tx_count + ch.combined_count;
        out->combined = ch.combined_count > 0;
        out->max_queues = ch.max_combined ? ch.max_combined : ch.max_rx;
    }
    struct ethtool_value up = {.cmd = ETHTOOL_GLINK};
    out->carrier = ask(s, ifname, &up) != 0 || up.data;
    ask_offloads(s, ifname, &out->offloads);
    close(s);
}
