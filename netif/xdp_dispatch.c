/* xdp_dispatch.c - our program as one of several, by libxdp's dispatcher.
 *
 * The dispatcher is a program that calls up to ten others in turn; libxdp makes it anew for each
 * that comes or goes, replaces the old one at once, and pins them all in the bpf file system. Ours
 * passes what it does not take, and so leaves it to the next. All of that stays behind when a
 * process is killed. What is left takes nothing (the sockets in its map are gone), and the next
 * start on that interface removes it: from the dispatcher, or, if the process was killed before
 * that was attached, its pins. Only what is ours, and a dead process's (xdp_owner.c). */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "xdp.h"

#define BPF_FS        "/sys/fs/bpf"
#define PINS          BPF_FS "/xdp"
#define PRIORITY      50 /* libxdp's default: neither before nor behind others on purpose */
#define STALE_MAX     16u
#define PIN_PATH      600u
#define BUSY_TRIES    20 /* another process changes the dispatcher at the same time */
#define BUSY_SLEEP_US 10000

static bool has_bpf_fs(void)
{
    struct statfs fs;
    return statfs(BPF_FS, &fs) == 0 && (uint32_t)fs.f_type == BPF_FS_MAGIC;
}

/* The programs are extensions (freplace) of the dispatcher; where the kernel, or a security module,
 * does not have those, libxdp would attach ours alone, and not by a link. */
static int may_extend(void)
{
    static const struct bpf_insn pass[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    int fd = bpf_prog_load(BPF_PROG_TYPE_EXT, "zest_probe", "GPL", pass, 2, NULL);
    int rc = fd < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return rc == -EPERM || rc == -EACCES ? rc : 0; /* that it extends nothing is another matter */
}

bool xdp_dispatch_possible(struct netif_error *err)
{
    if (!has_bpf_fs()) {
        link_error(err, 0, "libxdp's dispatcher needs a bpf file system: mount -t bpf bpf %s",
                   BPF_FS);
        return false;
    }
    int rc = may_extend();
    if (rc)
        link_error(err, 0,
                   "libxdp's dispatcher needs programs that extend others (BPF_PROG_TYPE_EXT), and "
                   "the kernel or a security module does not allow them: %s",
                   strerror(-rc));
    return rc == 0;
}

/* ---- coming and going */

/* libxdp puts a program on alone if its dispatcher does not load. */
static bool is_alone(unsigned ifindex)
{
    struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex((int)ifindex);
    bool alone = libxdp_get_error(mp) || xdp_multiprog__is_legacy(mp);
    if (!libxdp_get_error(mp))
        xdp_multiprog__close(mp);
    return alone;
}

int xdp_dispatch_attach(struct xdp_prog *p, struct bpf_object *obj, unsigned ifindex, bool generic)
{
    enum xdp_attach_mode mode = generic ? XDP_MODE_SKB : XDP_MODE_NATIVE;
    struct xdp_program *prog = xdp_program__from_bpf_obj(obj, "xdp.frags");
    if (libxdp_get_error(prog))
        return (int)libxdp_get_error(prog);
    int rc = xdp_program__set_run_prio(prog, PRIORITY);
    if (rc == 0)
        rc = xdp_program__set_chain_call_enabled(prog, XDP_PASS, true);
    if (rc == 0)
        rc = xdp_program__set_xdp_frags_support(prog, true);
    for (int i = 0; rc == 0 && i < BUSY_TRIES; i++) {
        rc = xdp_program__attach(prog, (int)ifindex, mode, 0);
        if (rc != -EAGAIN)
            break;
        rc = 0;
        usleep(BUSY_SLEEP_US);
    }
    if (rc == 0 && is_alone(ifindex)) {
        xdp_program__detach(prog, (int)ifindex, mode, 0);
        rc = -EOPNOTSUPP;
    }
    if (rc) {
        xdp_program__close(prog);
        return rc;
    }
    p->dispatched = prog;
    p->id = xdp_program__id(prog);
    p->generic = generic;
    return 0;
}

static int say_nothing(enum libxdp_print_level level, const char *fmt, va_list ap)
{
    (void)level, (void)fmt, (void)ap;
    return 0;
}

void xdp_dispatch_detach(struct xdp_prog *p)
{
    libxdp_print_fn_t old = libxdp_set_print(say_nothing);
    if (p->dispatched) {
        enum xdp_attach_mode mode = p->generic ? XDP_MODE_SKB : XDP_MODE_NATIVE;
        for (int i = 0; i < BUSY_TRIES; i++) {
            if (xdp_program__detach(p->dispatched, (int)p->ifindex, mode, 0) != -EAGAIN)
                break;
            usleep(BUSY_SLEEP_US);
        }
        xdp_program__close(p->dispatched);
    }
    if (p->obj)
        bpf_object__close(p->obj);
    p->dispatched = NULL;
    p->obj = NULL;
    libxdp_set_print(old);
}

/* ---- still there? */

static bool is_program_pin(const char *name)
{
    size_t len = strlen(name);
    return len > 5 && strcmp(name + len - 5, "-prog") == 0;
}

static uint32_t id_of_pin(const char *path)
{
    struct bpf_prog_info info = {0};
    uint32_t len = sizeof info;
    int fd = bpf_obj_get(path);
    if (fd < 0)
        return 0;
    int rc = bpf_obj_get_info_by_fd(fd, &info, &len);
    close(fd);
    return rc == 0 ? info.id : 0;
}

/* Is the program one of that dispatcher's? They are pinned before the dispatcher is attached. */
static bool has_program(unsigned ifindex, uint32_t dispatcher, uint32_t id)
{
    char dir[PIN_PATH / 2], path[PIN_PATH];
    bool found = false;
    const struct dirent *e;
    snprintf(dir, sizeof dir, PINS "/dispatch-%u-%u", ifindex, dispatcher);
    DIR *d = opendir(dir);
    if (!d)
        return false;
    while (!found && (e = readdir(d)) != NULL)
        if (is_program_pin(e->d_name) &&
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path)
            found = id_of_pin(path) == id;
    closedir(d);
    return found;
}

/* With each program that comes or goes libxdp puts another dispatcher there, in which ours is
 * again; nothing, or somebody's program or dispatcher without ours, is another matter. This asks
 * the kernel and looks at pins, without libxdp's lock: a loop must not wait for that. */
bool xdp_dispatch_attached(struct xdp_prog *p)
{
    struct bpf_xdp_query_opts q = {.sz = sizeof q};
    for (uint32_t before = 0, tries = 0; tries < BUSY_TRIES; tries++) {
        if (bpf_xdp_query((int)p->ifindex, 0, &q) < 0)
            return true; /* the interface is gone, which is told elsewhere */
        uint32_t now = p->generic ? q.skb_prog_id : q.drv_prog_id;
        if (now != 0 && now == p->seen)
            return true;
        if (now == before) /* looked at twice: it was not being replaced */
            return now != 0 && !has_bpf_fs();
        if (now != 0 && has_program(p->ifindex, now, p->id)) {
            p->seen = now;
            return true;
        }
        before = now;
    }
    return true; /* it changes all the time: later */
}

/* ---- what is left of others */

/* One program of a dead process's, off the interface. False: there is none. */
static bool remove_one(unsigned ifindex)
{
    bool removed = false;
    struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex((int)ifindex);
    if (libxdp_get_error(mp))
        return false;
    enum xdp_attach_mode mode = xdp_multiprog__attach_mode(mp);
    if (xdp_multiprog__is_legacy(mp)) {
        struct xdp_program *prog = xdp_multiprog__main_prog(mp);
        removed = prog && xdp_owner_is_dead(xdp_program__id(prog)) &&
                  xdp_program__detach(prog, (int)ifindex, mode, 0) == 0;
    } else {
        struct xdp_program *prog = NULL;
        while (!removed && (prog = xdp_multiprog__next_prog(prog, mp)) != NULL)
            removed = xdp_owner_is_dead(xdp_program__id(prog)) &&
                      xdp_program__detach(prog, (int)ifindex, mode, 0) == 0;
    }
    xdp_multiprog__close(mp);
    return removed;
}

/* Is this pin a program of ours, of a dead process? */
static bool is_dead_pin(const char *path)
{
    uint32_t id = id_of_pin(path);
    return id != 0 && xdp_owner_is_dead(id);
}

/* The pins of a dispatcher that never was attached, or no more: gone if all its programs are dead
 * processes' of ours. */
static bool remove_pins(const char *dir)
{
    char path[PIN_PATH];
    unsigned programs = 0, dead = 0;
    const struct dirent *e;
    DIR *d = opendir(dir);
    if (!d)
        return false;
    while ((e = readdir(d)) != NULL) {
        if (!is_program_pin(e->d_name))
            continue;
        programs++;
        if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path)
            dead += is_dead_pin(path);
    }
    bool ours = programs > 0 && dead == programs;
    rewinddir(d);
    while (ours && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.' &&
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path)
            unlink(path);
    closedir(d);
    return ours && rmdir(dir) == 0;
}

/* Of a directory "dispatch-IFINDEX-ID"; 0 = another interface's, or something else. */
static uint32_t dispatcher_id(const char *name, unsigned ifindex)
{
    char prefix[32];
    int len = snprintf(prefix, sizeof prefix, "dispatch-%u-", ifindex);
    return strncmp(name, prefix, (size_t)len) == 0 ? (uint32_t)strtoul(name + len, NULL, 10) : 0;
}

static unsigned remove_all_pins(unsigned ifindex)
{
    struct bpf_xdp_query_opts q = {.sz = sizeof q};
    unsigned removed = 0;
    DIR *d = opendir(PINS);
    if (!d)
        return 0;
    if (bpf_xdp_query((int)ifindex, 0, &q) < 0)
        q.prog_id = 0;
    const struct dirent *e;
    while (removed < STALE_MAX && (e = readdir(d)) != NULL) {
        char dir[PIN_PATH];
        uint32_t id = dispatcher_id(e->d_name, ifindex);
        if (id == 0 || id == q.prog_id || id == q.drv_prog_id || id == q.skb_prog_id)
            continue;
        if (snprintf(dir, sizeof dir, PINS "/%s", e->d_name) < (int)sizeof dir)
            removed += remove_pins(dir);
    }
    closedir(d);
    return removed;
}

unsigned xdp_dispatch_clean(unsigned ifindex)
{
    struct bpf_xdp_query_opts q = {.sz = sizeof q};
    unsigned removed = 0;
    libxdp_print_fn_t old = libxdp_set_print(say_nothing);
    /* Nothing attached, and no pins, is how it nearly always is. */
    if (bpf_xdp_query((int)ifindex, 0, &q) == 0 && q.prog_id)
        while (removed < STALE_MAX && remove_one(ifindex))
            removed++;
    if (has_bpf_fs())
        removed += remove_all_pins(ifindex);
    libxdp_set_print(old);
    return removed;
}
