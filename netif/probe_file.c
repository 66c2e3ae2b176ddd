/* probe_file.c - small files of /proc and /sys. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe_priv.h"

int probe_read(const char *root, const char *path, char *buf, size_t size)
{
    char full[2 * NETIF_PROBE_PATH];
    buf[0] = '\0';
    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
        return -ENAMETOOLONG;
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t n = 0;
    ssize_t got = 0;
    while (n + 1 < size && (got = read(fd, buf + n, size - 1 - n)) > 0)
        n += (size_t)got;
    int err = got < 0 ? -errno : 0;
    close(fd);
    while (n > 0 && buf[n - 1] == '\n')
        n--;
    buf[n] = '\0';
    return err ? err : (int)n;
}

int probe_read_number(const char *root, const char *path, uint64_t *out)
{
    char text[64], *end;
    int rc = probe_read(root, path, text, sizeof text);
    if (rc < 0)
        return rc;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (end == text || errno)
        return -EINVAL;
    *out = v;
    return 0;
}

int probe_read_field(const char *root, const char *path, const char *name, int base, uint64_t *out)
{
    char text[8192];
    int rc = probe_read(root, path, text, sizeof text);
    if (rc < 0)
        return rc;
    size_t len = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            *out = strtoull(line + len + 1, NULL, base);
            return 0;
        }
    }
    return -ENOENT;
}
