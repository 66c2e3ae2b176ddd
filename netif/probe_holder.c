/* probe_holder.c - which process has something open: /proc/PID/fd, looked through once for each
 * question. Other users' processes can only be seen with the right to (cap_sys_ptrace). */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe_priv.h"

#define PROCESSES_MAX 65536u
#define FDS_MAX       65536u

/* Is this what is looked for? */
typedef bool match_fn(int proc_fd, const char *fd, const char *target, uint32_t id);

static bool is_socket(int proc_fd, const char *fd, const char *target, uint32_t id)
{
    (void)proc_fd, (void)fd;
    static const char start[] = "socket:[";
    return strncmp(target, start, sizeof start - 1) == 0 &&
           strtoul(target + sizeof start - 1, NULL, 10) == id;
}

static bool is_link(int proc_fd, const char *fd, const char *target, uint32_t id)
{
    if (!strstr(target, "bpf_link") && !strstr(target, "bpf-link"))
        return false;
    char path[300], text[1024];
    snprintf(path, sizeof path, "fdinfo/%.200s", fd);
    int f = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (f < 0)
        return false;
    ssize_t n = read(f, text, sizeof text - 1);
    close(f);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, "link_id:");
    return at && strtoul(at + strlen("link_id:"), NULL, 10) == id;
}

static bool process_has(int proc_fd, match_fn *match, uint32_t id)
{
    int fd = openat(proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool found = false;
    const struct dirent *e;
    for (unsigned i = 0; !found && i < FDS_MAX && (e = readdir(dir)) != NULL; i++) {
        char target[64];
        ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);
        if (n <= 0)
            continue;
        target[n] = '\0';
        found = match(proc_fd, e->d_name, target, id);
    }
    closedir(dir);
    return found;
}

static int find(match_fn *match, uint32_t id, char name[NETIF_PROBE_NAME])
{
    name[0] = '\0';
    DIR *proc = opendir("/proc");
    if (!proc)
        return 0;
    int pid = 0;
    const struct dirent *e;
    for (unsigned i = 0; !pid && i < PROCESSES_MAX && (e = readdir(proc)) != NULL; i++) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        int fd = openat(dirfd(proc), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (process_has(fd, match, id)) {
            pid = (int)strtol(e->d_name, NULL, 10);
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/comm", pid);
            probe_read("", path, name, NETIF_PROBE_NAME);
        }
        close(fd);
    }
    closedir(proc);
    return pid;
}

int probe_link_holder(uint32_t link_id, char name[NETIF_PROBE_NAME])
{
    return find(is_link, link_id, name);
}

int probe_socket_holder(uint32_t inode, char name[NETIF_PROBE_NAME])
{
    return find(is_socket, inode, name);
}
