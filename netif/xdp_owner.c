/* xdp_owner.c - whose a program of ours is, and whether he still lives.
 *
 * A program that was attached through the dispatcher outlives its process. To be removed by another
 * one, it must be known to be a dead one's, beyond doubt: it may be a zest of another container on
 * the same interface, whose process cannot be seen from here. So each program carries a random
 * number, and its process holds an abstract unix socket of that name: the kernel gives it to one
 * process at a time, and takes it back when that ends, however it does. Such names belong to a
 * network namespace, so that is written down, too. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "xdp.h"

#define MAPS_MAX 8u

static uint64_t this_netns(void)
{
    struct stat st;
    return stat("/proc/self/ns/net", &st) == 0 ? st.st_ino : 0;
}

/* A descriptor; -EADDRINUSE: somebody has it. */
static int bind_name(const uint8_t owner[16])
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int len = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "zest-xdp-");
    for (unsigned i = 0; i < 16; i++)
        len +=
            snprintf(at.sun_path + 1 + len, sizeof at.sun_path - 1 - (size_t)len, "%02x", owner[i]);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    if (bind(fd, (struct sockaddr *)&at, size) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int xdp_owner_take(struct xdp_wants *w)
{
    w->netns = this_netns();
    if (getrandom(w->owner, sizeof w->owner, 0) != (ssize_t)sizeof w->owner)
        return -EIO;
    return bind_name(w->owner);
}

/* What a loaded program of ours was told. */
static bool read_wants(uint32_t map_id, struct xdp_wants *out)
{
    struct bpf_map_info info = {0};
    uint32_t len = sizeof info, zero = 0;
    int fd = bpf_map_get_fd_by_id(map_id);
    if (fd < 0)
        return false;
    bool ok = bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strstr(info.name, ".rodata") &&
              info.value_size == sizeof *out && bpf_map_lookup_elem(fd, &zero, out) == 0;
    close(fd);
    return ok;
}

bool xdp_owner_is_dead(uint32_t prog_id)
{
    uint32_t maps[MAPS_MAX] = {0}, len;
    struct bpf_prog_info info = {.nr_map_ids = MAPS_MAX, .map_ids = (uintptr_t)maps};
    struct xdp_wants w;
    static const uint8_t none[16];
    int fd = bpf_prog_get_fd_by_id(prog_id);
    if (fd < 0)
        return false;
    len = sizeof info;
    bool ours = bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strcmp(info.name, "zest_xdp") == 0;
    close(fd);
    bool known = false;
    for (uint32_t i = 0; ours && !known && i < info.nr_map_ids && i < MAPS_MAX; i++)
        known = read_wants(maps[i], &w);
    if (!known || memcmp(w.owner, none, sizeof none) == 0 || w.netns == 0 ||
        w.netns != this_netns())
        return false;
    int rc = bind_name(w.owner);
    if (rc >= 0)
        close(rc);
    return rc >= 0;
}
