/* xdp_prog.c - the XDP program: loaded from the image in xdp_blob.c, attached by a bpf_link.
 *
 * The link belongs to a file descriptor and nothing pins it, so the kernel detaches the program
 * when the process ends, however it ends: there is nothing stale to be found after a kill -9. It
 * needs no bpf file system. (libxdp's dispatcher, which lets several programs share an interface,
 * attaches by netlink and stays behind if the process is killed.) */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "xdp.h"
#include "xdp_blob.h"

#define BUSY_TRIES    50
#define BUSY_SLEEP_US 20000

/* The libraries print many lines about what we try first and can do without. */
static int say_nothing(enum libbpf_print_level level, const char *fmt, va_list ap)
{
    (void)level, (void)fmt, (void)ap;
    return 0;
}

#define QUEUES_MIN 256u /* that the maps have room for, as compiled */

/* As the program has it. */
struct wants {
    uint32_t ip_be, by_port;
};

static int set_ports(struct bpf_map *map, const struct netif_xdp_config *cfg)
{
    static const uint32_t words = 1024;
    uint64_t bits[1024] = {0};
    int err = 0;
    for (unsigned i = 0; i < cfg->n_ports; i++)
        for (uint32_t port = cfg->ports[i].first; port <= cfg->ports[i].last; port++)
            bits[port / 64] |= UINT64_C(1) << port % 64;
    for (uint32_t w = 0; w < words && err == 0; w++)
        if (bits[w] && bpf_map_update_elem(bpf_map__fd(map), &w, &bits[w], BPF_ANY) < 0)
            err = -errno;
    return err;
}

static int load(struct xdp_prog *p, const struct netif_xdp_config *cfg, int *prog_fd,
                struct bpf_object **out)
{
    LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "zest");
    struct bpf_object *obj =
        bpf_object__open_mem(xdp_kern_object, (size_t)xdp_kern_object_size, &opts);
    if (!obj)
        return -errno;
    struct bpf_map *map, *xsks = NULL, *rodata = NULL, *missed = NULL, *ports = NULL;
    struct wants wants = {.by_port = cfg->n_ports > 0};
    memcpy(&wants.ip_be, cfg->ip.ip + 12, sizeof wants.ip_be);
    bpf_object__for_each_map(map, obj)
    {
        if (strcmp(bpf_map__name(map), "zest_xsks") == 0)
            xsks = map;
        else if (strcmp(bpf_map__name(map), "zest_missed") == 0)
            missed = map;
        else if (strcmp(bpf_map__name(map), "zest_ports") == 0)
            ports = map;
        else if (strstr(bpf_map__name(map), ".rodata"))
            rodata = map;
    }
    struct bpf_program *prog = bpf_object__find_program_by_name(obj, "zest_xdp");
    LINK_ASSERT(xsks && missed && ports && rodata && prog);
    int err = bpf_map__set_initial_value(rodata, &wants, sizeof wants);
    LINK_ASSERT(err == 0);
    if (p->queues > QUEUES_MIN) {
        err = bpf_map__set_max_entries(xsks, p->queues);
        if (err == 0)
            err = bpf_map__set_max_entries(missed, p->queues);
        LINK_ASSERT(err == 0);
    }

    err = bpf_object__load(obj);
    if (err == 0) {
        p->map_fd = fcntl(bpf_map__fd(xsks), F_DUPFD_CLOEXEC, 0);
        p->missed_fd = fcntl(bpf_map__fd(missed), F_DUPFD_CLOEXEC, 0);
        *prog_fd = bpf_program__fd(prog);
        err = p->map_fd < 0 || p->missed_fd < 0 ? -errno : set_ports(ports, cfg);
    }
    if (err)
        bpf_object__close(obj);
    else
        *out = obj;
    return err;
}

/* A process that was just killed may not have quite ended: a busy interface is tried again. */
static int attach(struct xdp_prog *p, int prog_fd, unsigned ifindex, bool generic)
{
    LIBBPF_OPTS(bpf_link_create_opts, opts,
                .flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
    int fd = -1;
    for (int i = 0; i < BUSY_TRIES; i++) {
        fd = bpf_link_create(prog_fd, (int)ifindex, BPF_XDP, &opts);
        if (fd >= 0 || (errno != EBUSY && errno != EEXIST))
            break;
        usleep(BUSY_SLEEP_US);
    }
    if (fd < 0)
        return -errno;
    p->link_fd = fd;
    p->generic = generic;
    return 0;
}

static int explain_load(struct netif_error *err, int rc, const char *ifname)
{
    if (rc == -EPERM || rc == -EACCES)
        return link_error(
            err, -EPERM,
            "%s: AF_XDP needs root, or the capabilities cap_net_admin, cap_net_raw and "
            "cap_bpf (setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep PROGRAM)",
            ifname);
    return link_error(err, rc,
                      "%s: the kernel does not load the XDP program: %s (needs Linux 5.18)", ifname,
                      strerror(-rc));
}

static int explain_attach(struct netif_error *err, int rc, const char *ifname,
                          const struct ifinfo *info)
{
    struct bpf_xdp_query_opts q = {.sz = sizeof q};
    struct bpf_prog_info other = {0};
    uint32_t len = sizeof other;
    switch (rc) {
    case -EBUSY:
    case -EEXIST:
        if (bpf_xdp_query((int)info->index, 0, &q) == 0 && q.prog_id) {
            int fd = bpf_prog_get_fd_by_id(q.prog_id);
            if (fd >= 0) {
                bpf_obj_get_info_by_fd(fd, &other, &len);
                close(fd);
            }
        }
        return link_error(err, -EBUSY,
                          "%s: XDP program %u%s%s%s is attached already: 'zest doctor %s' says by "
                          "whom, and how to be rid of it",
                          ifname, q.prog_id, *other.name ? " (" : "", other.name,
                          *other.name ? ")" : "", ifname);
    case -ERANGE:
        return link_error(
            err, rc,
            "%s: its MTU of %u, or its peer's, is too large for XDP there. Try: ip link "
            "set dev %s mtu 3498",
            ifname, info->mtu, ifname);
    case -EOPNOTSUPP:
        return link_error(err, rc,
                          "%s: its driver %s has no native XDP; generic mode works anywhere",
                          ifname, info->driver);
    case -EPERM:
        return explain_load(err, rc, ifname);
    default:
        return link_error(err, rc, "%s: the kernel does not attach the XDP program: %s", ifname,
                          strerror(-rc));
    }
}

int xdp_prog_attach(struct xdp_prog *p, const struct netif_xdp_config *cfg,
                    const struct ifinfo *info, struct netif_error *err)
{
    struct bpf_object *obj = NULL;
    int prog_fd = -1;
    p->queues = info->queues > QUEUES_MIN ? info->queues : QUEUES_MIN;

    libbpf_print_fn_t old_bpf = libbpf_set_print(say_nothing);
    int rc = load(p, cfg, &prog_fd, &obj);
    libbpf_set_print(old_bpf);
    if (rc)
        return explain_load(err, rc, cfg->ifname);

    bool generic = cfg->attach == NETIF_XDP_GENERIC;
    rc = attach(p, prog_fd, info->index, generic);
    /* Somebody else's program, or no right to attach, is the same in any mode. */
    if (rc && cfg->attach == NETIF_XDP_AUTO && rc != -EBUSY && rc != -EEXIST && rc != -EPERM) {
        int native_rc = rc;
        rc = attach(p, prog_fd, info->index, true);
        if (rc == 0 && !cfg->quiet)
            fprintf(stderr, "zest: %s: no native XDP (%s%s%s: %s), using generic mode\n",
                    cfg->ifname, *info->driver ? "driver " : "", info->driver,
                    *info->driver ? "" : "driver", strerror(-native_rc));
    }
    bpf_object__close(obj); /* the link holds the program, we hold the map */
    if (rc) {
        xdp_prog_detach(p);
        return explain_attach(err, rc, cfg->ifname, info);
    }
    return 0;
}

int xdp_prog_add(const struct xdp_prog *p, uint32_t queue, int xsk_fd)
{
    return bpf_map_update_elem(p->map_fd, &queue, &xsk_fd, BPF_ANY) < 0 ? -errno : 0;
}

void xdp_prog_remove(const struct xdp_prog *p, uint32_t queue)
{
    bpf_map_delete_elem(p->map_fd, &queue);
}

uint64_t xdp_prog_missed(const struct xdp_prog *p)
{
    uint64_t sum = 0, value;
    for (uint32_t q = 0; p->missed_fd >= 0 && q < p->queues; q++)
        if (bpf_map_lookup_elem(p->missed_fd, &q, &value) == 0)
            sum += value;
    return sum;
}

void xdp_prog_init(struct xdp_prog *p)
{
    *p = (struct xdp_prog){.map_fd = -1, .link_fd = -1, .missed_fd = -1};
}

void xdp_prog_detach(struct xdp_prog *p)
{
    if (p->link_fd >= 0)
        close(p->link_fd);
    if (p->map_fd >= 0)
        close(p->map_fd);
    if (p->missed_fd >= 0)
        close(p->missed_fd);
    xdp_prog_init(p);
}
