/* apps_doctor_test.c - zest doctor's judgement of hosts and interfaces that are made up: healthy
 * ones are found healthy, and each thing that is wrong is found, at its level and with its mend. */
#include "check.h"

#include <errno.h>

#include "apps/doctor.h"

static const struct doctor_wish wish = {.program = "/usr/bin/zest", .pool_size = 64u << 20};
static struct doctor_report r;

static struct netif_probe_host good_host(void)
{
    return (struct netif_probe_host){.release = "6.18.0",
                                     .kernel = NETIF_KERNEL(6, 18),
                                     .caps = UINT64_MAX,
                                     .caps_bound = UINT64_MAX,
                                     .tx_metadata = NETIF_YES,
                                     .tx_budget = NETIF_YES,
                                     .busy_poll = NETIF_YES,
                                     .gather = NETIF_YES,
                                     .memlock = 8u << 20,
                                     .memlock_max = 8u << 20,
                                     .mem_available = 1u << 30,
                                     .cgroup_max = NETIF_NO_LIMIT,
                                     .huge_size = 2u << 20,
                                     .huge_total = 64,
                                     .huge_free = 64,
                                     .bpf_fs = NETIF_YES,
                                     .bpf_jit = 1};
}

static struct netif_probe_if card(void)
{
    return (struct netif_probe_if){.name = "eth1",
                                   .index = 3,
                                   .up = true,
                                   .carrier = true,
                                   .mtu = 1500,
                                   .driver = "mlx5_core",
                                   .rx_queues = 1,
                                   .max_queues = 8,
                                   .combined = true,
                                   .offloads = {.known = 0xff, .on = 1u << NETIF_OFF_GRO},
                                   .xdp_known = NETIF_YES,
                                   .xdp_features = 0x7f,
                                   .zc_max_segs = 8};
}

static struct netif_probe_if veth(void)
{
    struct netif_probe_if i = card();
    strcpy(i.kind, "veth");
    strcpy(i.driver, "veth");
    i.xdp_features = 0x67;
    i.zc_max_segs = 0;
    i.peer = (struct netif_probe_peer){.index = 9,
                                       .elsewhere = true,
                                       .found = true,
                                       .netns = "red",
                                       .name = "p0",
                                       .up = true,
                                       .mtu = 1500,
                                       .offloads = {.known = 0xff}};
    return i;
}

static struct netif_probe_if virtio(bool platform, bool reset)
{
    struct netif_probe_if i = card();
    strcpy(i.driver, "virtio_net");
    i.zc_max_segs = 1;
    i.virtio = NETIF_YES;
    i.virtio_platform = platform;
    i.virtio_reset = reset;
    return i;
}

/* The finding with that topic at that level, or NULL. */
static const struct doctor_finding *found(enum doctor_level level, const char *topic)
{
    for (unsigned k = 0; k < r.n; k++)
        if (r.f[k].level == level && strcmp(r.f[k].topic, topic) == 0)
            return &r.f[k];
    return NULL;
}

static bool says(enum doctor_level level, const char *topic, const char *text, const char *mend)
{
    const struct doctor_finding *f = found(level, topic);
    if (f && strstr(f->text, text) && strstr(f->mend, mend))
        return true;
    printf("%s %s: '%s' # '%s'\n", doctor_levels[level], topic, f ? f->text : "not found",
           f ? f->mend : "");
    return false;
}

static void host(const struct netif_probe_host *h)
{
    doctor_examine_host(&r, h, &wish);
}

static void interface(const struct netif_probe_if *i)
{
    const struct netif_probe_host h = good_host();
    doctor_examine_if(&r, &h, i, &wish);
}

static bool verdict_is(const struct netif_probe_if *i, const char *want)
{
    const struct netif_probe_host h = good_host();
    char v[128];
    doctor_verdict(v, sizeof v, &h, i);
    if (strcmp(v, want) != 0)
        printf("verdict: %s\n", v);
    return strcmp(v, want) == 0;
}

/* ---- hosts */

static void a_healthy_host_is_healthy(void)
{
    struct netif_probe_host h = good_host();
    host(&h);
    CU_ASSERT_EQUAL(doctor_worst(&r), DOCTOR_OK);
    CU_ASSERT(r.afxdp);
    for (unsigned k = 0; k < r.n; k++)
        CU_ASSERT_STRING_EQUAL(r.f[k].mend, "");
}

static void kernels_that_are_too_old(void)
{
    struct netif_probe_host h = good_host();
    h.kernel = NETIF_KERNEL(5, 15);
    host(&h);
    CU_ASSERT(says(DOCTOR_PROBLEM, "kernel", "too old", "") && !r.afxdp);
    h.kernel = NETIF_KERNEL(6, 1);
    h.gather = h.tx_metadata = h.tx_budget = NETIF_NO;
    host(&h);
    CU_ASSERT(says(DOCTOR_NOTE, "kernel", "several descriptors a frame (Linux 6.6)", "") &&
              r.afxdp);
    h.xsk = -EAFNOSUPPORT;
    host(&h);
    CU_ASSERT(says(DOCTOR_PROBLEM, "kernel", "CONFIG_XDP_SOCKETS", ""));
}

static void each_missing_capability_is_named(void)
{
    static const struct {
        unsigned bit;
        const char *name;
    } caps[] = {{NETIF_CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {NETIF_CAP_NET_RAW, "CAP_NET_RAW"}};
    struct netif_probe_host h = good_host();
    for (unsigned k = 0; k < 2; k++) {
        h.caps = ~(1ull << caps[k].bit);
        host(&h);
        CU_ASSERT(says(DOCTOR_PROBLEM, "capabilities", caps[k].name, "setcap"));
        CU_ASSERT(says(DOCTOR_PROBLEM, "capabilities", "", "/usr/bin/zest") && !r.afxdp);
        CU_ASSERT_PTR_NULL(strstr(found(DOCTOR_PROBLEM, "capabilities")->text, caps[!k].name));
    }
    /* Either of two will do for BPF. */
    h.caps = ~(1ull << NETIF_CAP_BPF);
    host(&h);
    CU_ASSERT(r.afxdp);
    h.caps &= ~(1ull << NETIF_CAP_SYS_ADMIN);
    host(&h);
    CU_ASSERT(says(DOCTOR_PROBLEM, "capabilities", "CAP_BPF", "setcap"));
    /* Where no file may give it either. */
    h.caps_bound = h.caps;
    host(&h);
    CU_ASSERT(says(DOCTOR_PROBLEM, "capabilities", "CAP_BPF", "--cap-add BPF"));
}

static void rights_that_do_not_reach(void)
{
    struct netif_probe_host h = good_host();
    h.user_namespace = true;
    host(&h);
    CU_ASSERT(says(DOCTOR_PROBLEM, "capabilities", "user namespace", "sudo"));
    h.user_namespace = false;
    h.bpf_load = -EPERM;
    host(&h);
    CU_ASSERT(says(DOCTOR_PROBLEM, "capabilities", "lockdown", ""));
}

static void memory_that_is_short(void)
{
    struct netif_probe_host h = good_host();
    h.caps = ~(1ull << NETIF_CAP_IPC_LOCK | 1ull << NETIF_CAP_SYS_RESOURCE);
    host(&h);
    CU_ASSERT(says(DOCTOR_PROBLEM, "memlock", "at most 8 MiB", "prlimit") && !r.afxdp);
    h.memlock_max = 64u << 20;
    host(&h);
    CU_ASSERT(says(DOCTOR_OK, "memlock", "64 MiB", "") && r.afxdp);

    h = good_host();
    h.cgroup_max = 100u << 20;
    h.cgroup_used = 50u << 20;
    strcpy(h.cgroup_file, "/sys/fs/cgroup/x/memory.max");
    host(&h);
    CU_ASSERT(says(DOCTOR_WARNING, "memory", "50 MiB left", "/sys/fs/cgroup/x/memory.max"));
    h.cgroup_used = 36u << 20;
    host(&h);
    CU_ASSERT(says(DOCTOR_OK, "memory", "", ""));
    h.mem_available = 32u << 20;
    host(&h);
    CU_ASSERT(says(DOCTOR_WARNING, "memory", "32 MiB available", "--pool"));
}

static void pages_and_bpf(void)
{
    struct netif_probe_host h = good_host();
    h.huge_free = 31;
    strcpy(h.thp, "never");
    host(&h);
    CU_ASSERT(says(DOCTOR_NOTE, "huge-pages", "31 of 32", "vm.nr_hugepages=96"));
    strcpy(h.thp, "madvise");
    host(&h);
    CU_ASSERT(says(DOCTOR_OK, "huge-pages", "madvise", ""));
    h.bpf_jit = 0;
    h.bpf_fs = NETIF_NO;
    h.tun = -ENOENT;
    host(&h);
    CU_ASSERT(says(DOCTOR_WARNING, "bpf-jit", "", "bpf_jit_enable=1"));
    CU_ASSERT(says(DOCTOR_NOTE, "bpf-fs", "", "mount -t bpf bpf /sys/fs/bpf"));
    CU_ASSERT(says(DOCTOR_NOTE, "tap", "", "modprobe tun"));
    CU_ASSERT(r.afxdp);
}

/* It may not even be installed. */
static void root_needs_no_sudo(void)
{
    struct netif_probe_host h = good_host();
    h.bpf_jit = 0;
    h.cgroup_max = 1;
    host(&h);
    CU_ASSERT(says(DOCTOR_WARNING, "bpf-jit", "", "sudo sysctl -w"));
    CU_ASSERT(says(DOCTOR_WARNING, "memory", "", "| sudo tee"));
    h.root = true;
    host(&h);
    CU_ASSERT_STRING_EQUAL(found(DOCTOR_WARNING, "bpf-jit")->mend,
                           "sysctl -w net.core.bpf_jit_enable=1");
    CU_ASSERT(says(DOCTOR_WARNING, "memory", "", "| tee"));
}

/* ---- interfaces */

static void a_good_card_is_good(void)
{
    struct netif_probe_if i = card();
    interface(&i);
    CU_ASSERT_EQUAL(doctor_worst(&r), DOCTOR_OK);
    CU_ASSERT(verdict_is(&i, "AF_XDP, native, zero-copy, up to 4 descriptors a frame"));
}

static void virtio_with_and_without_its_flags(void)
{
    struct netif_probe_if i = virtio(true, true);
    interface(&i);
    CU_ASSERT(says(DOCTOR_OK, "zero-copy", "", ""));
    CU_ASSERT(verdict_is(&i, "AF_XDP, native, zero-copy, one descriptor a frame"));
    i = virtio(false, false);
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "zero-copy", "VIRTIO_F_ACCESS_PLATFORM and VIRTIO_F_RING_RESET",
                   "iommu_platform=on,queue_reset=on"));
    CU_ASSERT(verdict_is(&i, "AF_XDP, native, copy, up to 4 descriptors a frame"));
    i = virtio(true, false);
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "zero-copy", "without VIRTIO_F_RING_RESET", "queue_reset=on"));
    /* A kernel whose driver has none. */
    i = virtio(true, true);
    i.xdp_features &= ~(uint64_t)NETIF_XDP_ZEROCOPY;
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "zero-copy", "6.14", ""));
    i.virtio_offloads_fixed = true;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "native-xdp", "refuses XDP", "ctrl_guest_offloads=on"));
    CU_ASSERT(verdict_is(&i, "AF_XDP, generic, copy, up to 4 descriptors a frame"));
}

static void a_veth_pair_and_its_other_end(void)
{
    struct netif_probe_if i = veth();
    interface(&i);
    CU_ASSERT_EQUAL(doctor_worst(&r), DOCTOR_NOTE); /* no zero-copy */
    CU_ASSERT(says(DOCTOR_OK, "peer-checksums", "p0", ""));
    i.peer.offloads.on = 1u << NETIF_OFF_TX_CSUM;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "peer-checksums", "p0",
                   "sudo ip netns exec red ethtool -K p0 tx off gso off tso off"));
    CU_ASSERT(r.afxdp); /* it starts; that is what makes it hard to find */
    i.peer.netns[0] = '\0';
    i.peer.netns_pid = 1234;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "peer-checksums", "", "nsenter -t 1234 -n ethtool -K p0 tx"));
    i.peer.netns_pid = 0;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "peer-checksums", "", "sudo ethtool -K p0 tx"));
    i.peer.has_xdp = true;
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "peer-checksums", "XDP", ""));
    i.peer.mtu = 9000;
    i.peer.up = false;
    i.carrier = false;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "peer-mtu", "1500 here and 9000", "dev p0 mtu 1500"));
    CU_ASSERT(says(DOCTOR_WARNING, "peer", "down", "dev p0 up"));
    i.peer = (struct netif_probe_peer){.index = 9, .elsewhere = true};
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "peer", "cannot be seen", "tx off"));
}

static void programs_of_others(void)
{
    struct netif_probe_if i = card();
    i.n_xdp = 1;
    i.xdp[0] = (struct netif_probe_xdp){.prog_id = 12, .name = "firewall"};
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "xdp-attached", "12 (firewall) is here already: native",
                   "ip link set dev eth1 xdpdrv off") &&
              !r.afxdp);
    i.xdp[0].links_unknown = true;
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "xdp-attached", "only root", "sudo /usr/bin/zest doctor eth1"));
    i.xdp[0].links_unknown = false;
    i.xdp[0].place = NETIF_AT_GENERIC;
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "xdp-attached", "generic", "xdpgeneric off"));
    i.xdp[0].link_id = 7;
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "xdp-attached", "link 7", "bpftool link detach id 7"));
    i.xdp[0].holder = 99;
    strcpy(i.xdp[0].holder_name, "xdp-filter");
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "xdp-attached", "process 99 (xdp-filter)", "kill 99"));
    strcpy(i.xdp[0].pinned, "/sys/fs/bpf/fw");
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "xdp-attached", "/sys/fs/bpf/fw", "rm /sys/fs/bpf/fw"));
    /* The one that shares. */
    strcpy(i.xdp[0].name, "xdp_dispatcher");
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "xdp-attached", "a start joins it", "") && r.afxdp);
    struct netif_probe_host h = good_host();
    h.bpf_fs = NETIF_NO;
    doctor_examine_if(&r, &h, &i, &wish);
    CU_ASSERT_FALSE(r.afxdp);
    i.n_xdp = 0;
    i.n_sockets = 1;
    i.sockets[0] = (struct netif_probe_socket){.queue = 1, .holder = 5};
    interface(&i);
    CU_ASSERT(r.afxdp); /* another queue */
    i.sockets[0].queue = 0;
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "socket-bound", "queue 0", "kill 5"));
}

/* Whoever is root in a container names its end of the pair; root on the host copies the command. */
static void names_cannot_do_harm(void)
{
    struct netif_probe_if i = veth();
    strcpy(i.peer.name, "a;reboot;$(x)");
    strcpy(i.peer.netns, "r`d\n");
    i.peer.offloads.on = 1u << NETIF_OFF_TX_CSUM;
    i.n_xdp = 1;
    i.xdp[0] = (struct netif_probe_xdp){.prog_id = 1, .link_id = 2, .holder = 3};
    strcpy(i.xdp[0].holder_name, "\033[2Jx");
    doctor_plain_names(&i);
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "peer-checksums", "end, a_reboot___x_,",
                   "ip netns exec r_d_ ethtool -K a_reboot___x_ tx"));
    CU_ASSERT(says(DOCTOR_PROBLEM, "xdp-attached", "(__2Jx)", "kill 3"));
    i = veth();
    doctor_plain_names(&i);
    CU_ASSERT_STRING_EQUAL(i.peer.name, "p0");
}

static void large_mtus(void)
{
    struct netif_probe_if i = card();
    i.mtu = 3762;
    interface(&i);
    CU_ASSERT_EQUAL(doctor_worst(&r), DOCTOR_OK);
    i.mtu = 9000;
    interface(&i);
    CU_ASSERT(says(DOCTOR_OK, "mtu", "9000", "") && r.afxdp);
    i.zc_max_segs = 1;
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "mtu", "9000, of which zest uses 3762", "mtu 3498") && r.afxdp);
    /* A driver whose XDP has one buffer a frame. */
    i.xdp_features &= ~(uint64_t)NETIF_XDP_RX_SG;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "mtu", "one buffer", "ip link set dev eth1 mtu 1500"));
    CU_ASSERT(verdict_is(&i, "AF_XDP, generic, copy, up to 4 descriptors a frame"));
}

static void offloads_that_hurt(void)
{
    struct netif_probe_if i = card();
    i.offloads.on = 1u << NETIF_OFF_LRO | 1u << NETIF_OFF_GRO_HW | 1u << NETIF_OFF_RX_VLAN;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "offloads", "LRO", "ethtool -K eth1 lro off"));
    CU_ASSERT(says(DOCTOR_NOTE, "offloads", "VLAN", "ethtool -K eth1 rxvlan off"));
    i.offloads.on = 1u << NETIF_OFF_GRO_HW;
    i.offloads.fixed = 1u << NETIF_OFF_GRO_HW;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "offloads", "cannot be switched off", ""));
    CU_ASSERT_STRING_EQUAL(found(DOCTOR_WARNING, "offloads")->mend, "");
    /* GRO comes before XDP in generic mode only. */
    i.offloads = (struct netif_probe_offloads){.known = 0xff, .on = 1u << NETIF_OFF_GRO};
    interface(&i);
    CU_ASSERT(says(DOCTOR_OK, "offloads", "", ""));
    i.xdp_features = 0;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "offloads", "generic", "gro off"));
}

static void links_and_queues(void)
{
    struct netif_probe_if i = card();
    i.up = false;
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "link", "down", "ip link set dev eth1 up") && !r.afxdp);
    i = card();
    i.carrier = false;
    interface(&i);
    CU_ASSERT(says(DOCTOR_WARNING, "link", "no carrier", ""));
    i = card();
    const struct netif_probe_host h = good_host();
    const struct doctor_wish third = {.program = "zest", .pool_size = 1, .queue = 3};
    doctor_examine_if(&r, &h, &i, &third);
    CU_ASSERT(says(DOCTOR_PROBLEM, "queues", "no queue 3", "ethtool -L eth1 combined 4"));
    i.rx_queues = 4;
    doctor_examine_if(&r, &h, &i, &third);
    CU_ASSERT(r.afxdp);
}

static void rules_of_a_card(void)
{
    const uint32_t rules = 1u << NETIF_OFF_NTUPLE;
    struct netif_probe_if i = card();
    i.rx_queues = 4;
    interface(&i); /* unknown */
    CU_ASSERT_PTR_NULL(found(DOCTOR_OK, "steering"));
    CU_ASSERT_PTR_NULL(found(DOCTOR_NOTE, "steering"));
    i.offloads.known |= rules;
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "steering", "switched off", "ethtool -K eth1 ntuple on") &&
              r.afxdp);
    i.offloads.on |= rules;
    interface(&i);
    CU_ASSERT(says(DOCTOR_OK, "steering", "n-tuple rules", ""));
    CU_ASSERT_PTR_NULL(found(DOCTOR_NOTE, "steering"));
    i.offloads.on &= ~rules; /* as veth has it: a name for what it can't do */
    i.offloads.fixed |= rules;
    interface(&i);
    CU_ASSERT_PTR_NULL(found(DOCTOR_NOTE, "steering"));
    i.offloads.fixed = 0;
    i.rx_queues = 1; /* nothing to steer */
    interface(&i);
    CU_ASSERT_PTR_NULL(found(DOCTOR_NOTE, "steering"));
}

static void taps(void)
{
    struct netif_probe_if i = card();
    strcpy(i.kind, "tun");
    strcpy(i.driver, "tun");
    i.tun_tap = true;
    i.carrier = false;
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "tap", "a TAP", "--tap eth1") && r.afxdp);
    CU_ASSERT(says(DOCTOR_WARNING, "link", "no process has this TAP open", ""));
    i.tun_tap = false;
    interface(&i);
    CU_ASSERT(says(DOCTOR_PROBLEM, "tap", "no Ethernet", "") && !r.afxdp);
}

/* An older kernel says nothing of XDP; then nothing is claimed. */
static void what_is_not_known_is_not_claimed(void)
{
    struct netif_probe_if i = card();
    i.xdp_known = NETIF_UNKNOWN;
    i.xdp_features = 0;
    i.mtu = 9000;
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "native-xdp", "does not say", ""));
    CU_ASSERT(says(DOCTOR_NOTE, "zero-copy", "does not say", ""));
    CU_ASSERT(r.afxdp);
    /* Unless it is known of the driver. */
    i = virtio(true, true);
    i.xdp_known = NETIF_UNKNOWN;
    i.xdp_features = 0;
    CU_ASSERT(verdict_is(&i, "AF_XDP, native, copy, up to 4 descriptors a frame"));
    interface(&i);
    CU_ASSERT(says(DOCTOR_NOTE, "zero-copy", "6.14", ""));
    i = (struct netif_probe_if){.name = "x", .up = true};
    interface(&i);
    CU_ASSERT(r.afxdp);
    CU_ASSERT_PTR_NULL(found(DOCTOR_OK, "offloads"));
}

CHECK_MAIN("apps_doctor", CHECK(a_healthy_host_is_healthy), CHECK(kernels_that_are_too_old),
           CHECK(each_missing_capability_is_named), CHECK(rights_that_do_not_reach),
           CHECK(memory_that_is_short), CHECK(pages_and_bpf), CHECK(root_needs_no_sudo),
           CHECK(a_good_card_is_good), CHECK(virtio_with_and_without_its_flags),
           CHECK(a_veth_pair_and_its_other_end), CHECK(programs_of_others),
           CHECK(names_cannot_do_harm), CHECK(large_mtus), CHECK(offloads_that_hurt),
           CHECK(links_and_queues), CHECK(rules_of_a_card), CHECK(taps),
           CHECK(what_is_not_known_is_not_claimed))
