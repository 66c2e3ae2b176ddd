/* doctor_host.c - what follows from what a host can do. */
#include "doctor.h"

#include "say.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const doctor_levels[] = {"ok", "note", "warning", "problem"};

struct doctor_finding *doctor_find(struct doctor_report *r, enum doctor_level level,
                                   const char *topic, const char *fmt, ...)
{
    /* More than there are rules: a bug, but not one to end a diagnosis with. */
    struct doctor_finding *f = &r->f[r->n < DOCTOR_FINDINGS ? r->n++ : DOCTOR_FINDINGS - 1];
    va_list ap;
    f->level = level;
    f->topic = topic;
    f->mend[0] = '\0';
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    if (level == DOCTOR_PROBLEM)
        r->afxdp = false;
    return f;
}

void doctor_mend(struct doctor_finding *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->mend, sizeof f->mend, fmt, ap);
    va_end(ap);
}

void doctor_without_sudo(struct doctor_report *r)
{
    static const char sudo[] = "sudo ";
    for (unsigned i = 0; i < r->n; i++) {
        char *at;
        while ((at = strstr(r->f[i].mend, sudo)) != NULL)
            memmove(at, at + sizeof sudo - 1, strlen(at + sizeof sudo - 1) + 1);
    }
}

enum doctor_level doctor_worst(const struct doctor_report *r)
{
    enum doctor_level worst = DOCTOR_OK;
    for (unsigned i = 0; i < r->n; i++)
        if (r->f[i].level > worst)
            worst = r->f[i].level;
    return worst;
}

/* ---- the kernel */

static void kernel(struct doctor_report *r, const struct netif_probe_host *h)
{
    if (h->xsk == -EAFNOSUPPORT) {
        doctor_find(r, DOCTOR_PROBLEM, "kernel",
                    "Linux %s has no AF_XDP: it was built without CONFIG_XDP_SOCKETS. --tap works",
                    h->release);
        return;
    }
    if (h->kernel && h->kernel < NETIF_KERNEL(5u, 18u)) {
        doctor_find(r, DOCTOR_PROBLEM, "kernel",
                    "Linux %s is too old for AF_XDP as zest uses it (5.18). --tap works",
                    h->release);
        return;
    }
    const struct {
        enum netif_answer had;
        const char *what, *since;
    } newer[] = {
        {h->busy_poll, "busy polling", "5.11"},
        {h->gather, "several descriptors a frame", "6.6"},
        {h->tx_metadata, "checksums by metadata", "6.8"},
        {h->tx_budget, "a send budget above 32", "6.17"},
    };
    char has[160] = "", lacks[200] = "";
    for (unsigned i = 0; i < sizeof newer / sizeof newer[0]; i++) {
        char *to = newer[i].had == NETIF_YES ? has : lacks;
        size_t size = newer[i].had == NETIF_YES ? sizeof has : sizeof lacks, len = strlen(to);
        if (newer[i].had == NETIF_YES)
            snprintf(to + len, size - len, "%s%s", *to ? ", " : "", newer[i].what);
        else if (newer[i].had == NETIF_NO)
            snprintf(to + len, size - len, "%s%s (Linux %s)", *to ? ", " : "", newer[i].what,
                     newer[i].since);
    }
    doctor_find(r, *lacks ? DOCTOR_NOTE : DOCTOR_OK, "kernel", "Linux %s%s%s%s%s", h->release,
                *has ? ": " : "", has, *lacks ? "; a newer one also has " : "", lacks);
}

/* ---- rights */

static bool has_cap(uint64_t set, enum netif_cap cap)
{
    return set >> cap & 1;
}

/* BPF was part of cap_sys_admin, and still is. */
static bool may_bpf(uint64_t set)
{
    return has_cap(set, NETIF_CAP_BPF) || has_cap(set, NETIF_CAP_SYS_ADMIN);
}

static void capabilities(struct doctor_report *r, const struct netif_probe_host *h,
                         const struct doctor_wish *w)
{
    const struct {
        const char *name, *what;
        bool had, could;
    } needed[] = {
        {"CAP_NET_ADMIN", "attach to an interface", has_cap(h->caps, NETIF_CAP_NET_ADMIN),
         has_cap(h->caps_bound, NETIF_CAP_NET_ADMIN)},
        {"CAP_NET_RAW", "AF_XDP sockets", has_cap(h->caps, NETIF_CAP_NET_RAW),
         has_cap(h->caps_bound, NETIF_CAP_NET_RAW)},
        {"CAP_BPF", "load the XDP program", may_bpf(h->caps), may_bpf(h->caps_bound)},
    };
    char lacks[160] = "", add[128] = "";
    bool could = true;
    for (unsigned i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (needed[i].had)
            continue;
        size_t len = strlen(lacks), len2 = strlen(add);
        snprintf(lacks + len, sizeof lacks - len, "%s%s (%s)", len ? ", " : "", needed[i].name,
                 needed[i].what);
        snprintf(add + len2, sizeof add - len2, " --cap-add %s", needed[i].name + 4);
        could = could && needed[i].could;
    }
    if (*lacks) {
        struct doctor_finding *f =
            doctor_find(r, DOCTOR_PROBLEM, "capabilities", "missing: %s", lacks);
        /* What the bounding set lacks, no file can give. */
        if (!could)
            doctor_mend(f,
                        "docker run%s ...   (the bounding set lacks it: whoever started this "
                        "container or service must grant it)",
                        add);
        else
            doctor_mend(f, "sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep %s",
                        w->program);
        return;
    }
    if (h->user_namespace) {
        doctor_mend(doctor_find(r, DOCTOR_PROBLEM, "capabilities",
                                "this is a user namespace: its capabilities do not reach as far "
                                "as XDP. --tap works here"),
                    "sudo %s ...   (outside of it)", w->program);
        return;
    }
    if (h->bpf_load == -EPERM || h->bpf_load == -EACCES)
        doctor_find(r, DOCTOR_PROBLEM, "capabilities",
                    "all are there, and yet the kernel lets no XDP program be loaded: lockdown "
                    "(/sys/kernel/security/lockdown), seccomp or a security module forbids it");
    else if (h->bpf_load)
        doctor_find(r, DOCTOR_PROBLEM, "capabilities", "an XDP program cannot be loaded: %s",
                    strerror(-h->bpf_load));
    else if (h->xsk)
        doctor_find(r, DOCTOR_PROBLEM, "capabilities", "no AF_XDP socket: %s", strerror(-h->xsk));
    else
        doctor_find(r, DOCTOR_OK, "capabilities",
                    "CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF; a program loads, a socket opens");
}

/* ---- memory */

static void locked_memory(struct doctor_report *r, const struct netif_probe_host *h,
                          const struct doctor_wish *w)
{
    char pool[SAY_BYTES], limit[SAY_BYTES];
    say_bytes(pool, w->pool_size);
    if (has_cap(h->caps, NETIF_CAP_IPC_LOCK)) {
        doctor_find(r, DOCTOR_OK, "memlock", "no limit (CAP_IPC_LOCK)");
    } else if (h->memlock_max == NETIF_NO_LIMIT || has_cap(h->caps, NETIF_CAP_SYS_RESOURCE)) {
        doctor_find(r, DOCTOR_OK, "memlock", "may be raised as far as is needed");
    } else if (h->memlock_max < w->pool_size) {
        doctor_mend(doctor_find(r, DOCTOR_PROBLEM, "memlock",
                                "at most %s may be locked (RLIMIT_MEMLOCK), and a pool of %s is "
                                "to be; for a service: LimitMEMLOCK=infinity",
                                say_bytes(limit, h->memlock_max), pool),
                    "sudo prlimit --pid $$ --memlock=unlimited:unlimited");
    } else {
        doctor_find(r, DOCTOR_OK, "memlock", "up to %s may be locked, enough for a pool of %s",
                    say_bytes(limit, h->memlock_max), pool);
    }
}

static void memory(struct doctor_report *r, const struct netif_probe_host *h,
                   const struct doctor_wish *w)
{
    char pool[SAY_BYTES], left[SAY_BYTES];
    uint64_t room = h->cgroup_max == NETIF_NO_LIMIT || h->cgroup_max < h->cgroup_used
                        ? h->cgroup_max
                        : h->cgroup_max - h->cgroup_used;
    say_bytes(pool, w->pool_size);
    if (h->cgroup_max != NETIF_NO_LIMIT && room < w->pool_size)
        doctor_mend(doctor_find(r, DOCTOR_WARNING, "memory",
                                "this control group has %s left, and a pool of %s is to come out "
                                "of that: the kernel will kill it",
                                say_bytes(left, room), pool),
                    "echo %" PRIu64 " | sudo tee %s", h->cgroup_used + 2 * w->pool_size,
                    h->cgroup_file);
    else if (h->mem_available && h->mem_available < w->pool_size)
        doctor_mend(doctor_find(r, DOCTOR_WARNING, "memory", "%s available, for a pool of %s",
                                say_bytes(left, h->mem_available), pool),
                    "%s ... --pool 16M", w->program);
    else
        doctor_find(r, DOCTOR_OK, "memory", "room for a pool of %s", pool);
}

static void huge_pages(struct doctor_report *r, const struct netif_probe_host *h,
                       const struct doctor_wish *w)
{
    uint64_t need = h->huge_size ? (w->pool_size + h->huge_size - 1) / h->huge_size : 0;
    bool thp = strcmp(h->thp, "always") == 0 || strcmp(h->thp, "madvise") == 0;
    if (h->huge_size == 0 && !thp) {
        doctor_find(r, DOCTOR_NOTE, "huge-pages", "this kernel has none: ordinary pages do, too");
    } else if (need && h->huge_free >= need) {
        doctor_find(r, DOCTOR_OK, "huge-pages", "%" PRIu64 " free, the pool takes %" PRIu64,
                    h->huge_free, need);
    } else if (thp) {
        doctor_find(r, DOCTOR_OK, "huge-pages",
                    "transparent ones (%s); %" PRIu64
                    " are set aside and free (vm.nr_hugepages), of %" PRIu64
                    " that the pool would take",
                    h->thp, h->huge_free, need);
    } else {
        doctor_mend(doctor_find(r, DOCTOR_NOTE, "huge-pages",
                                "too few are free (%" PRIu64 " of %" PRIu64
                                ") and transparent ones are off: ordinary pages, "
                                "which cost more TLB misses",
                                h->huge_free, need),
                    "sudo sysctl -w vm.nr_hugepages=%" PRIu64, h->huge_total + need);
    }
}

/* ---- the rest */

static void bpf_system(struct doctor_report *r, const struct netif_probe_host *h)
{
    if (h->bpf_jit == 0)
        doctor_mend(doctor_find(r, DOCTOR_WARNING, "bpf-jit",
                                "BPF programs are interpreted: each frame costs more"),
                    "sudo sysctl -w net.core.bpf_jit_enable=1");
    if (h->bpf_fs == NETIF_NO)
        doctor_mend(doctor_find(r, DOCTOR_NOTE, "bpf-fs",
                                "no bpf file system on /sys/fs/bpf: zest needs none; sharing an "
                                "interface with other XDP programs does"),
                    "sudo mount -t bpf bpf /sys/fs/bpf");
    else if (h->bpf_fs == NETIF_YES)
        doctor_find(r, DOCTOR_OK, "bpf-fs", "mounted on /sys/fs/bpf");
}

static void tap(struct doctor_report *r, const struct netif_probe_host *h)
{
    switch (h->tun) {
    case 0:
        doctor_find(r, DOCTOR_OK, "tap", "/dev/net/tun opens: --tap works%s",
                    has_cap(h->caps, NETIF_CAP_NET_ADMIN)
                        ? ""
                        : " with an interface that was made for you, or under unshare -Urn");
        break;
    case -EACCES:
    case -EPERM:
        doctor_mend(doctor_find(r, DOCTOR_NOTE, "tap", "/dev/net/tun may not be opened by you"),
                    "sudo chmod 666 /dev/net/tun");
        break;
    default:
        doctor_mend(
            doctor_find(r, DOCTOR_NOTE, "tap", "no /dev/net/tun (%s): no --tap", strerror(-h->tun)),
            "sudo modprobe tun   (in a container: docker run --device /dev/net/tun ...)");
        break;
    }
}

void doctor_examine_host(struct doctor_report *r, const struct netif_probe_host *h,
                         const struct doctor_wish *w)
{
    r->n = 0;
    r->afxdp = true;
    kernel(r, h);
    capabilities(r, h, w);
    locked_memory(r, h, w);
    memory(r, h, w);
    huge_pages(r, h, w);
    bpf_system(r, h);
    tap(r, h);
    if (h->root && !h->user_namespace)
        doctor_without_sudo(r);
}
