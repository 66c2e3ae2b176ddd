/* probe_xdp.c - whose the attached XDP programs are: name, bpf_link, pin, process.
 *
 * Ids lead to objects with cap_sys_admin only; without it, an id is all that there is to say. */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probe_priv.h"

#define LINKS_MAX 65536u
#define PINS_MAX  4096u
#define DEPTH_MAX 4u

/* Long names are cut to 15 by the kernel, unless the program's type information has them. */
static void name_of(uint32_t prog_id, char *name, size_t size)
{
    struct bpf_prog_info info = {0};
    uint32_t len = sizeof info;
    int fd = bpf_prog_get_fd_by_id(prog_id);
    if (fd < 0)
        return;
    if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
        snprintf(name, size, "%s", info.name);
    close(fd);
}

static uint32_t link_of(uint32_t prog_id, unsigned ifindex, bool *unknown)
{
    uint32_t id = 0;
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        if (bpf_link_get_next_id(id, &id) < 0) {
            *unknown = errno != ENOENT;
            return 0;
        }
        struct bpf_link_info info = {0};
        uint32_t len = sizeof info;
        int fd = bpf_link_get_fd_by_id(id);
        if (fd < 0)
            continue; /* gone meanwhile */
        int rc = bpf_obj_get_info_by_fd(fd, &info, &len);
        close(fd);
        if (rc == 0 && info.type == BPF_LINK_TYPE_XDP && info.prog_id == prog_id &&
            info.xdp.ifindex == ifindex)
            return id;
    }
    return 0;
}

static bool pin_is(const char *path, uint32_t link_id)
{
    struct bpf_link_info info = {0};
    uint32_t len = sizeof info;
    int fd = bpf_obj_get(path);
    if (fd < 0)
        return false;
    /* For a program or a map this fills in something else; only links have that type and id. */
    char target[64], self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(self, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    bool is = strstr(target, "link") && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
              info.id == link_id;
    close(fd);
    return is;
}

static bool find_pin(const char *dir, unsigned depth, unsigned *left, uint32_t link_id, char *out)
{
    DIR *d = opendir(dir);
    if (!d)
        return false;
    bool found = false;
    const struct dirent *e;
    while (!found && *left > 0 && (e = readdir(d)) != NULL) {
        char path[NETIF_PROBE_PATH];
        if (e->d_name[0] == '.' ||
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name) >= (int)sizeof path)
            continue;
        (*left)--;
        if (e->d_type == DT_DIR) {
            found = depth < DEPTH_MAX && find_pin(path, depth + 1, left, link_id, out);
        } else if (pin_is(path, link_id)) {
            snprintf(out, NETIF_PROBE_PATH, "%s", path);
            found = true;
        }
    }
    closedir(d);
    return found;
}

void probe_xdp(struct netif_probe_if *out)
{
    for (unsigned i = 0; i < out->n_xdp; i++) {
        struct netif_probe_xdp *x = &out->xdp[i];
        unsigned pins = PINS_MAX;
        name_of(x->prog_id, x->name, sizeof x->name);
        x->link_id = link_of(x->prog_id, out->index, &x->links_unknown);
        if (x->link_id == 0)
            continue;
        find_pin("/sys/fs/bpf", 0, &pins, x->link_id, x->pinned);
        x->holder = probe_link_holder(x->link_id, x->holder_name);
    }
}
