/* xdp_prog.c - the XDP program: loaded from the image in xdp_blob.c, and attached.
 *
 * Through libxdp's dispatcher where that is possible (xdp_dispatch.c), so that other programs have
 * room beside it. Else by a bpf_link: it belongs to a file descriptor and nothing pins it, so the
 * kernel detaches the program when the process ends, however it ends. */
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

struct parts {
    struct bpf_map *xsks, *missed, *ports;
    struct bpf_program *prog;
};

/* Not loaded yet, and told what it is to take. */
static struct bpf_object *open_object(const struct xdp_prog *p, const struct netif_xdp_config *cfg,
                                      const struct xdp_wants *wants, struct parts *out)
{
    LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "zest");
    struct xdp_wants w = *wants;
    struct bpf_map *map, *rodata = NULL;
    struct bpf_object *obj =
        bpf_object__open_mem(xdp_kern_object, (size_t)xdp_kern_object_size, &opts);
    if (!obj)
        return NULL;
    *out = (struct parts){.prog = bpf_object__find_program_by_name(obj, "zest_xdp")};
    bpf_object__for_each_map(map, obj)
    {
        if (strcmp(bpf_map__name(map), "zest_xsks") == 0)
            out->xsks = map;
        else if (strcmp(bpf_map__name(map), "zest_missed") == 0)
            out->missed = map;
        else if (strcmp(bpf_map__name(map), "zest_ports") == 0)
            out->ports = map;
        else if (strstr(bpf_map__name(map), ".rodata"))
            rodata = map;
    }
    LINK_ASSERT(out->xsks && out->missed && out->ports && rodata && out->prog);
    w.by_port = cfg->n_ports > 0;
    memcpy(&w.ip_be, cfg->ip.ip + 12, sizeof w.ip_be);
    int err = bpf_map__set_initial_value(rodata, &w, sizeof w);
    LINK_ASSERT(err == 0);
    if (p->queues > QUEUES_MIN) {
        err = bpf_map__set_max_entries(out->xsks, p->queues);
        if (err == 0)
            err = bpf_map__set_max_entries(out->missed, p->queues);
        LINK_ASSERT(err == 0);
    }
    return obj;
}

/* Once it is loaded. */
static int take_maps(struct xdp_prog *p, const struct parts *parts,
                     const struct netif_xdp_config *cfg)
{
    p->map_fd = fcntl(bpf_map__fd(parts->xsks), F_DUPFD_CLOEXEC, 0);
    p->missed_fd = fcntl(bpf_map__fd(parts->missed), F_DUPFD_CLOEXEC, 0);
    return p->map_fd < 0 || p->missed_fd < 0 ? -errno : set_ports(parts->ports, cfg);
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

/* Native first, unless told otherwise. Somebody else's program, or no right to attach, is the same
 * in any mode. */
static int attach_best(struct xdp_prog *p, const struct netif_xdp_config *cfg,
                       const struct ifinfo *info,
                       int (*try)(struct xdp_prog *, void *, unsigned, bool), void *what)
{
    bool generic = cfg->attach == NETIF_XDP_GENERIC;
    int rc = try(p, what, info->index, generic);
    if (rc && cfg->attach == NETIF_XDP_AUTO && rc != -EBUSY && rc != -EEXIST && rc != -EPERM) {
        int native_rc = rc;
        rc = try(p, what, info->index, true);
        if (rc == 0 && !cfg->quiet)
            fprintf(stderr, "zest: %s: no native XDP (%s%s%s: %s), using generic mode\n",
                    cfg->ifname, *info->driver ? "driver " : "", info->driver,
                    *info->driver ? "" : "driver", strerror(-native_rc));
    }
    return rc;
}

static int by_link(struct xdp_prog *p, void *prog, unsigned ifindex, bool generic)
{
    return attach(p, bpf_program__fd(prog), ifindex, generic);
}

static int by_dispatcher(struct xdp_prog *p, void *obj, unsigned ifindex, bool generic)
{
    return xdp_dispatch_attach(p, obj, ifindex, generic);
}

static uint32_t id_of(int prog_fd)
{
    struct bpf_prog_info info = {0};
    uint32_t len = sizeof info;
    return bpf_obj_get_info_by_fd(prog_fd, &info, &len) == 0 ? info.id : 0;
}

static int attach_alone(struct xdp_prog *p, const struct netif_xdp_config *cfg,
                        const struct ifinfo *info, struct netif_error *err)
{
    static const struct xdp_wants nobodys;
    struct parts parts = {.missed = NULL};
    struct bpf_object *obj = open_object(p, cfg, &nobodys, &parts);
    int rc = obj ? bpf_object__load(obj) : -errno;
    if (rc == 0)
        rc = take_maps(p, &parts, cfg);
    if (rc) {
        bpf_object__close(obj);
        return explain_load(err, rc, cfg->ifname);
    }
    p->id = id_of(bpf_program__fd(parts.prog));
    rc = attach_best(p, cfg, info, by_link, parts.prog);
    bpf_object__close(obj); /* the link holds the program, we hold the maps */
    return rc ? explain_attach(err, rc, cfg->ifname, info) : 0;
}

/* The object is loaded by libxdp, which makes the program a part of its dispatcher. */
static int attach_among_others(struct xdp_prog *p, const struct netif_xdp_config *cfg,
                               const struct ifinfo *info)
{
    struct xdp_wants wants = {0};
    struct parts parts = {.missed = NULL};
    p->owner_fd = xdp_owner_take(&wants);
    if (p->owner_fd < 0)
        return p->owner_fd;
    p->obj = open_object(p, cfg, &wants, &parts);
    if (!p->obj)
        return -errno;
    int rc = attach_best(p, cfg, info, by_dispatcher, p->obj);
    return rc ? rc : take_maps(p, &parts, cfg);
}

static int attach_somehow(struct xdp_prog *p, const struct netif_xdp_config *cfg,
                          const struct ifinfo *info, struct netif_error *err)
{
    bool must = cfg->by == NETIF_XDP_BY_DISPATCHER;
    struct netif_error why;
    xdp_dispatch_clean(info->index);
    if (cfg->by != NETIF_XDP_BY_LINK && xdp_dispatch_possible(&why)) {
        int rc = attach_among_others(p, cfg, info);
        if (rc == 0)
            return 0;
        xdp_prog_detach(p);
        p->queues = info->queues > QUEUES_MIN ? info->queues : QUEUES_MIN;
        if (must)
            return explain_attach(err, rc, cfg->ifname, info);
    } else if (must) {
        return link_error(err, -EOPNOTSUPP, "%s: %s", cfg->ifname, why.text);
    }
    return attach_alone(p, cfg, info, err);
}

int xdp_prog_attach(struct xdp_prog *p, const struct netif_xdp_config *cfg,
                    const struct ifinfo *info, struct netif_error *err)
{
    p->queues = info->queues > QUEUES_MIN ? info->queues : QUEUES_MIN;
    p->ifindex = info->index;
    libbpf_print_fn_t old_bpf = libbpf_set_print(say_nothing);
    int rc = attach_somehow(p, cfg, info, err);
    libbpf_set_print(old_bpf);
    if (rc)
        xdp_prog_detach(p);
    return rc;
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

/* A bpf_link that was detached by force (bpftool link detach) is still there, and of no interface;
 * one that was updated has another program. What can't be asked is taken to be well. */
bool xdp_prog_attached(struct xdp_prog *p)
{
    struct bpf_link_info info = {0};
    uint32_t len = sizeof info;
    if (p->dispatched)
        return xdp_dispatch_attached(p);
    if (p->link_fd < 0 || bpf_obj_get_info_by_fd(p->link_fd, &info, &len) < 0)
        return true;
    return info.xdp.ifindex != 0 && (p->id == 0 || info.prog_id == p->id);
}

void xdp_prog_init(struct xdp_prog *p)
{
    *p = (struct xdp_prog){.map_fd = -1, .link_fd = -1, .missed_fd = -1, .owner_fd = -1};
}

void xdp_prog_detach(struct xdp_prog *p)
{
    libbpf_print_fn_t old = libbpf_set_print(say_nothing);
    bool dispatched = p->dispatched != NULL;
    xdp_dispatch_detach(p);
    if (p->owner_fd >= 0)
        close(p->owner_fd); /* last: until then nobody else may remove it */
    if (dispatched)         /* if it was not there any more, its pins may be */
        xdp_dispatch_clean(p->ifindex);
    libbpf_set_print(old);
    if (p->link_fd >= 0)
        close(p->link_fd);
    if (p->map_fd >= 0)
        close(p->map_fd);
    if (p->missed_fd >= 0)
        close(p->missed_fd);
    xdp_prog_init(p);
}
