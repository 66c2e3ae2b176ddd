/* stall.c - preloaded, makes one AF_XDP socket stall. The first to send after the file $STALL is
 * there is it: from then on nobody looks at its transmit ring, until it is closed. In copy mode the
 * kernel looks there when it is told to (a send call without anything to send), which is said to
 * have worked and is not done; and when somebody polls, so it is taken out of epoll's sets.
 *
 * Or has one go deaf: after the file $DEAF is there, the kernel sees no more of a socket's fill
 * ring. What is written there goes to memory of the process's own that took its place. So it
 * receives until the buffers that it has seen are used up, and then nothing; sending goes on. */
#include <dlfcn.h>
#include <linux/if_xdp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))
#define FDS   1024
#define NONE  (-1)
#define OVER  (-2) /* there was one, and it was closed */

static _Atomic int victim = NONE;
static _Atomic int set_of[FDS]; /* the epoll set that a descriptor is in, plus one */

/* The fill rings: of a socket that is its UMEM's first, its own; of others, as well. */
static struct {
    void *addr;
    size_t size;
} fill_of[FDS];
static _Atomic bool deaf;

static bool is_there(const char *file)
{
    return file && access(file, F_OK) == 0;
}

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

SHOWN int epoll_ctl(int set, int op, int fd, struct epoll_event *ev)
{
    int (*real)(int, int, int, struct epoll_event *);
    *(void **)&real = next("epoll_ctl");
    if (fd >= 0 && fd == victim)
        return 0;
    if (fd >= 0 && fd < FDS)
        set_of[fd] = op == EPOLL_CTL_DEL ? 0 : set + 1;
    return real(set, op, fd, ev);
}

/* libxdp's name for it. */
SHOWN void *mmap64(void *addr, size_t size, int prot, int flags, int fd, off64_t at)
{
    void *(*real)(void *, size_t, int, int, int, off64_t);
    *(void **)&real = next("mmap64");
    void *got = real(addr, size, prot, flags, fd, at);
    if (got != MAP_FAILED && fd >= 0 && fd < FDS && at == XDP_UMEM_PGOFF_FILL_RING) {
        fill_of[fd].addr = got;
        fill_of[fd].size = size;
    }
    return got;
}

static void cover(int fd)
{
    size_t size = fill_of[fd].size;
    void *was = malloc(size);
    if (!was)
        abort();
    memcpy(was, fill_of[fd].addr, size);
    if (mmap(fill_of[fd].addr, size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        abort();
    memcpy(fill_of[fd].addr, was, size);
    free(was);
}

SHOWN ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
                     socklen_t to_len)
{
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    *(void **)&real = next("sendto");
    if (!buf && len == 0 && fd < FDS && fill_of[fd].addr && is_there(getenv("DEAF")) &&
        !atomic_exchange(&deaf, true))
        cover(fd);
    if (!buf && len == 0 && fd < FDS && victim == NONE && is_there(getenv("STALL"))) {
        int set = set_of[fd] - 1, nobody = NONE;
        if (set >= 0)
            epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL);
        atomic_compare_exchange_strong(&victim, &nobody, fd);
    }
    return fd == victim ? 0 : real(fd, buf, len, flags, to, to_len);
}

/* Its number may be the next socket's. */
SHOWN int close(int fd)
{
    int (*real)(int);
    *(void **)&real = next("close");
    if (fd >= 0 && fd == victim)
        victim = OVER;
    return real(fd);
}

SHOWN int dup3(int from, int fd, int flags)
{
    int (*real)(int, int, int);
    *(void **)&real = next("dup3");
    if (fd >= 0 && fd == victim)
        victim = OVER;
    return real(from, fd, flags);
}
