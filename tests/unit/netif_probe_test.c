/* netif_probe_test.c - what the probe makes of files of /proc and /sys, given made-up ones. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netif/probe_priv.h"

static char root[64];

/* Makes root/PATH, and what it lies in. */
static void put(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    CU_ASSERT_FATAL(f != NULL);
    fputs(text, f);
    fclose(f);
}

static void begin(void)
{
    snprintf(root, sizeof root, "/tmp/netif_probe.XXXXXX");
    CU_ASSERT_FATAL(mkdtemp(root) != NULL);
}

static void end(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", root);
    CU_ASSERT_EQUAL(system(cmd), 0);
}

static void an_empty_system_is_no_crash(void)
{
    struct netif_probe_host h;
    begin();
    netif_probe_host(&h, root);
    CU_ASSERT_EQUAL(h.caps, 0);
    CU_ASSERT_EQUAL(h.bpf_jit, -1);
    CU_ASSERT_EQUAL(h.bpf_fs, NETIF_NO);
    CU_ASSERT_EQUAL(h.huge_size, 0);
    CU_ASSERT_STRING_EQUAL(h.thp, "");
    CU_ASSERT_EQUAL(h.cgroup_max, NETIF_NO_LIMIT);
    end();
}

static void a_host_is_read(void)
{
    struct netif_probe_host h;
    begin();
    put("/proc/sys/kernel/osrelease", "6.5.7-generic\n");
    put("/proc/self/status", "Name:\tx\nCapInh:\t0\nCapEff:\t000000c000003000\n"
                             "CapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\n");
    put("/proc/self/uid_map", "         0          0 4294967295\n");
    put("/proc/meminfo", "MemTotal: 100 kB\nMemAvailable:   2048 kB\nHugePages_Total:      8\n"
                         "HugePages_Free:        5\nHugepagesize:       2048 kB\n");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    put("/proc/sys/net/core/bpf_jit_enable", "0\n");
    netif_probe_host(&h, root);
    CU_ASSERT_STRING_EQUAL(h.release, "6.5.7-generic");
    CU_ASSERT_EQUAL(h.kernel, NETIF_KERNEL(6, 5));
    CU_ASSERT_EQUAL(h.gather, NETIF_NO);
    CU_ASSERT_EQUAL(h.caps, 0xc000003000);
    CU_ASSERT(h.caps >> NETIF_CAP_NET_RAW & 1 && h.caps >> NETIF_CAP_BPF & 1);
    CU_ASSERT_EQUAL(h.caps_bound, 0x1ffffffffff);
    CU_ASSERT_FALSE(h.user_namespace);
    CU_ASSERT_EQUAL(h.mem_available, 2048u << 10);
    CU_ASSERT_EQUAL(h.huge_size, 2u << 20);
    CU_ASSERT_EQUAL(h.huge_total, 8);
    CU_ASSERT_EQUAL(h.huge_free, 5);
    CU_ASSERT_STRING_EQUAL(h.thp, "never");
    CU_ASSERT_EQUAL(h.bpf_jit, 0);
    put("/proc/self/uid_map", "         0       1000          1\n");
    put("/proc/sys/kernel/osrelease", "6.6.0\n");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    netif_probe_host(&h, root);
    CU_ASSERT(h.user_namespace);
    CU_ASSERT_EQUAL(h.gather, NETIF_YES);
    CU_ASSERT_STRING_EQUAL(h.thp, "madvise");
    end();
}

/* The tightest of all the groups that we are in counts, wherever it is. */
static void control_groups_are_climbed(void)
{
    struct netif_probe_host h;
    begin();
    put("/proc/self/cgroup", "0::/a/b/c\n");
    put("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/memory.max", "50000000\n");
    put("/sys/fs/cgroup/a/b/memory.current", "40000000\n");
    put("/sys/fs/cgroup/a/memory.max", "90000000\n");
    netif_probe_host(&h, root);
    CU_ASSERT_EQUAL(h.cgroup_max, 50000000);
    CU_ASSERT_EQUAL(h.cgroup_used, 40000000);
    CU_ASSERT_STRING_EQUAL(h.cgroup_file, "/sys/fs/cgroup/a/b/memory.max");
    put("/proc/self/cgroup", "5:cpu:/\n4:memory:/x\n0::/\n");
    put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "7000000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    netif_probe_host(&h, root);
    CU_ASSERT_EQUAL(h.cgroup_max, 7000000);
    CU_ASSERT_EQUAL(h.cgroup_used, 0);
    end();
}

#define NO_FEATURES "0000000000000000000000000000000000000000000000000000000000000000"

static void set_bits(char *bits, const unsigned *which, unsigned n)
{
    strcpy(bits, NO_FEATURES);
    for (unsigned i = 0; i < n; i++)
        bits[which[i]] = '1';
}

static void virtio_flags_are_read(void)
{
    struct netif_probe_if i = {.name = "vio0", .index = 7, .driver = "virtio_net"};
    char bits[80];
    begin();
    put("/sys/class/net/vio0/ifindex", "7\n");
    set_bits(bits, (const unsigned[]){1, 2, 7, 32, 33, 40}, 6);
    put("/sys/class/net/vio0/device/features", bits);
    probe_virtio(&i, root);
    CU_ASSERT_EQUAL(i.virtio, NETIF_YES);
    CU_ASSERT(i.virtio_platform && i.virtio_reset && !i.virtio_offloads_fixed);

    set_bits(bits, (const unsigned[]){1, 7, 32, 40}, 4);
    put("/sys/class/net/vio0/device/features", bits);
    probe_virtio(&i, root);
    CU_ASSERT(!i.virtio_platform && i.virtio_reset && i.virtio_offloads_fixed);

    /* /sys of another namespace; a file that is cut short. */
    i = (struct netif_probe_if){.name = "vio0", .index = 8, .driver = "virtio_net"};
    probe_virtio(&i, root);
    CU_ASSERT_EQUAL(i.virtio, NETIF_UNKNOWN);
    i.index = 7;
    put("/sys/class/net/vio0/device/features", "0110\n");
    probe_virtio(&i, root);
    CU_ASSERT_EQUAL(i.virtio, NETIF_UNKNOWN);
    end();
}

static void files_are_read_with_care(void)
{
    char small[4];
    uint64_t v = 99;
    begin();
    put("/a", "12345\n");
    put("/b", "x\n");
    put("/empty", "");
    CU_ASSERT_EQUAL(probe_read(root, "/a", small, sizeof small), 3);
    CU_ASSERT_STRING_EQUAL(small, "123");
    CU_ASSERT_EQUAL(probe_read(root, "/none", small, sizeof small), -ENOENT);
    CU_ASSERT_STRING_EQUAL(small, "");
    CU_ASSERT_EQUAL(probe_read_number(root, "/b", &v), -EINVAL);
    CU_ASSERT_EQUAL(probe_read_number(root, "/empty", &v), -EINVAL);
    CU_ASSERT_EQUAL(v, 99);
    CU_ASSERT_EQUAL(probe_read_number(root, "/a", &v), 0);
    CU_ASSERT_EQUAL(v, 12345);
    put("/f", "AB: 1\nB: 2\nC:3\n");
    CU_ASSERT_EQUAL(probe_read_field(root, "/f", "B", 10, &v), 0);
    CU_ASSERT_EQUAL(v, 2);
    CU_ASSERT_EQUAL(probe_read_field(root, "/f", "D", 10, &v), -ENOENT);
    end();
}

static void a_real_interface_is_probed(void)
{
    struct netif_probe_if i;
    CU_ASSERT_EQUAL(netif_probe_if(&i, "no-such-if", ""), -ENODEV);
    CU_ASSERT_EQUAL(netif_probe_if(&i, "", ""), -ENODEV);
    CU_ASSERT_EQUAL(netif_probe_if(&i, "a-name-that-is-too-long", ""), -ENODEV);
    CU_ASSERT_EQUAL(netif_probe_if(&i, "lo", ""), 0);
    CU_ASSERT(i.loopback && i.index > 0 && i.mtu > 0);
    CU_ASSERT(netif_probe_list(NULL, 0) >= 1);
}

CHECK_MAIN("netif_probe", CHECK(an_empty_system_is_no_crash), CHECK(a_host_is_read),
           CHECK(control_groups_are_climbed), CHECK(virtio_flags_are_read),
           CHECK(files_are_read_with_care), CHECK(a_real_interface_is_probed))
