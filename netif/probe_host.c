/* probe_host.c - the kernel, our rights, and memory.
 *
 * What can be tried without touching an interface is tried: an AF_XDP socket is opened, asked for
 * its newer options, and closed again; an XDP program that passes everything is loaded and dropped.
 * A kernel's version says less than that: distributions carry features back, and containers forbid
 * what the kernel has. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "probe_priv.h"
#include "xdp.h"

_Static_assert(NETIF_XDP_PAGE_MTU == XDP_RX_ROOM - ETH_HEADER, "as the link has it");

/* ---- who we are ---- */

static void probe_rights(struct netif_probe_host *h, const char *root)
{
    static const char status[] = "/proc/self/status";
    char map[256];
    h->root = geteuid() == 0;
    probe_read_field(root, status, "CapEff", 16, &h->caps);
    probe_read_field(root, status, "CapBnd", 16, &h->caps_bound);
    /* The first user namespace maps everything onto itself. */
    if (probe_read(root, "/proc/self/uid_map", map, sizeof map) > 0) {
        char *at = map;
        unsigned long inside = strtoul(at, &at, 10), outside = strtoul(at, &at, 10),
                      count = strtoul(at, &at, 10);
        h->user_namespace = inside != 0 || outside != 0 || count != UINT32_MAX;
    }
}

static void probe_kernel(struct netif_probe_host *h, const char *root)
{
    struct utsname u;
    char *at = h->release;
    if (probe_read(root, "/proc/sys/kernel/osrelease", h->release, sizeof h->release) <= 0 &&
        uname(&u) == 0)
        snprintf(h->release, sizeof h->release, "%.64s", u.release);
    uint32_t major = (uint32_t)strtoul(at, &at, 10);
    if (*at == '.')
        h->kernel = NETIF_KERNEL(major, (uint32_t)strtoul(at + 1, NULL, 10));
    h->gather = h->kernel == 0                      ? NETIF_UNKNOWN
                : h->kernel >= NETIF_KERNEL(6u, 6u) ? NETIF_YES
                                                    : NETIF_NO;
}

/* ---- what the kernel can do ---- */

/* struct xdp_umem_reg as it is since 6.8. */
struct umem_reg {
    uint64_t addr, len;
    uint32_t chunk_size, headroom, flags, tx_metadata_len;
};
#define UMEM_TX_METADATA_LEN (1u << 2) /* XDP_UMEM_TX_METADATA_LEN */

/* An older kernel refuses the flag. */
static enum netif_answer try_tx_metadata(int fd)
{
    size_t size = 2 * (size_t)XDP_CHUNK;
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED)
        return NETIF_UNKNOWN;
    struct umem_reg reg = {.addr = (uintptr_t)mem,
                           .len = size,
                           .chunk_size = XDP_CHUNK,
                           .flags = UMEM_TX_METADATA_LEN,
                           .tx_metadata_len = 32};
    int rc = setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg) < 0 ? errno : 0;
    enum netif_answer answer = rc == 0 ? NETIF_YES : rc == EINVAL ? NETIF_NO : NETIF_UNKNOWN;
    munmap(mem, size);
    return answer;
}

static enum netif_answer answered(int rc)
{
    if (rc == 0)
        return NETIF_YES;
    /* EACCES: it is known, and wants a ring first. */
    return errno == EACCES ? NETIF_YES : errno == ENOPROTOOPT ? NETIF_NO : NETIF_UNKNOWN;
}

static void try_socket(struct netif_probe_host *h)
{
    int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    h->xsk = fd < 0 ? -errno : 0;
    if (fd < 0)
        return;
    int on = 1, budget = XDP_RING_DEF;
    h->tx_budget = answered(setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof budget));
    h->busy_poll = answered(setsockopt(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &on, sizeof on));
    h->tx_metadata = try_tx_metadata(fd);
    close(fd);
}

static int say_nothing(enum libbpf_print_level level, const char *fmt, va_list ap)
{
    (void)level, (void)fmt, (void)ap;
    return 0;
}

static int try_program(void)
{
    static const struct bpf_insn pass[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    libbpf_print_fn_t old = libbpf_set_print(say_nothing);
    int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "zest_probe", "GPL", pass, 2, NULL);
    int rc = fd < 0 ? fd : 0;
    libbpf_set_print(old);
    if (fd >= 0)
        close(fd);
    return rc;
}

static void probe_bpf(struct netif_probe_host *h, const char *root)
{
    char path[NETIF_PROBE_PATH];
    struct statfs fs;
    uint64_t jit;
    snprintf(path, sizeof path, "%s/sys/fs/bpf", root);
    if (statfs(path, &fs) == 0)
        h->bpf_fs = (uint32_t)fs.f_type == BPF_FS_MAGIC ? NETIF_YES : NETIF_NO;
    else
        h->bpf_fs = errno == ENOENT ? NETIF_NO : NETIF_UNKNOWN;
    h->bpf_jit = probe_read_number(root, "/proc/sys/net/core/bpf_jit_enable", &jit) ? -1 : (int)jit;
    h->bpf_load = try_program();
}

/* ---- memory ---- */

static uint64_t limit_of(rlim_t v)
{
    return v == RLIM_INFINITY ? NETIF_NO_LIMIT : v;
}

static void probe_huge(struct netif_probe_host *h, const char *root)
{
    static const char meminfo[] = "/proc/meminfo";
    static const char *const words[] = {"always", "madvise", "never"};
    uint64_t kib;
    char text[128];
    if (probe_read_field(root, meminfo, "MemAvailable", 10, &kib) == 0)
        h->mem_available = kib << 10;
    if (probe_read_field(root, meminfo, "Hugepagesize", 10, &kib) == 0)
        h->huge_size = kib << 10;
    probe_read_field(root, meminfo, "HugePages_Total", 10, &h->huge_total);
    probe_read_field(root, meminfo, "HugePages_Free", 10, &h->huge_free);
    if (probe_read(root, "/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text) > 0)
        for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
            char chosen[24];
            snprintf(chosen, sizeof chosen, "[%s]", words[i]);
            if (strstr(text, chosen))
                snprintf(h->thp, sizeof h->thp, "%s", words[i]);
        }
}

/* From our group up to the top: any of them may be the one that is full. A limit of 2^60 and more
 * is how version 1 says that there is none. */
static void probe_cgroup_at(struct netif_probe_host *h, const char *root, const char *mount,
                            char *group, const char *limit_file, const char *used_file)
{
    for (;;) {
        char path[2 * NETIF_PROBE_PATH];
        uint64_t max;
        snprintf(path, sizeof path, "%s%.150s/%s", mount, group, limit_file);
        if (probe_read_number(root, path, &max) == 0 && max < 1ull << 60 && max < h->cgroup_max) {
            h->cgroup_max = max;
            snprintf(h->cgroup_file, sizeof h->cgroup_file, "%.*s", NETIF_PROBE_PATH - 1, path);
            snprintf(path, sizeof path, "%s%.150s/%s", mount, group, used_file);
            if (probe_read_number(root, path, &h->cgroup_used) != 0)
                h->cgroup_used = 0;
        }
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

static void probe_cgroup(struct netif_probe_host *h, const char *root)
{
    char text[4096], group[512];
    h->cgroup_max = NETIF_NO_LIMIT;
    if (probe_read(root, "/proc/self/cgroup", text, sizeof text) <= 0)
        return;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *path = strchr(line, '/');
        if (!path)
            continue;
        snprintf(group, sizeof group, "%s", strcmp(path, "/") == 0 ? "" : path);
        if (strncmp(line, "0::", 3) == 0)
            probe_cgroup_at(h, root, "/sys/fs/cgroup", group, "memory.max", "memory.current");
        else if (strstr(line, ":memory:"))
            probe_cgroup_at(h, root, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes",
                            "memory.usage_in_bytes");
    }
}

void netif_probe_host(struct netif_probe_host *out, const char *root)
{
    struct rlimit lim;
    *out = (struct netif_probe_host){0};
    probe_kernel(out, root);
    probe_rights(out, root);
    try_socket(out);
    probe_bpf(out, root);
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    out->tun = tun < 0 ? -errno : 0;
    if (tun >= 0)
        close(tun);
    if (getrlimit(RLIMIT_MEMLOCK, &lim) == 0) {
        out->memlock = limit_of(lim.rlim_cur);
        out->memlock_max = limit_of(lim.rlim_max);
    }
    probe_huge(out, root);
    probe_cgroup(out, root);
}
