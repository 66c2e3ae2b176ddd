/* reader.c - statistics of another process's pool. See mirror.h.
 *
 * Counters come from the shared file. Who holds which segment is in the segments' headers: those
 * are read with process_vm_readv(2), which asks for the same right as a debugger.
 *
 * The other process may be damaged or mean harm, and change the file meanwhile: nothing in it is an
 * index or a length here before it was looked at, once, and a file that could shrink under the
 * mapping is not mapped. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "holders.h"
#include "transit.h"

#define TRIES 1000u /* to read while nobody writes */

struct zbuf_reader {
    int pid, pidfd;
    const struct mirror *m;
};

/* The index-th file of that name, by descriptor. */
static int find(int pid, unsigned index, int *out)
{
    char path[64], link[64];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? -ESRCH : -errno;
    int last = -1; /* each round finds the next larger one: /proc is not sorted */
    for (unsigned i = 0; i <= index; i++) {
        int next = -1;
        rewinddir(dir);
        for (const struct dirent *e; (e = readdir(dir));) {
            int fd = (int)strtol(e->d_name, NULL, 10);
            ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof link - 1);
            if (n < 0 || fd <= last || (next >= 0 && fd > next))
                continue;
            link[n] = 0;
            if (strncmp(link, "/memfd:" MIRROR_NAME " ", sizeof "/memfd:" MIRROR_NAME " " - 1) == 0)
                next = fd;
        }
        last = next;
        if (last < 0)
            break;
    }
    closedir(dir);
    if (last < 0)
        return -ENOENT;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, last);
    *out = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* it may be something else by now */
    return *out < 0 ? -errno : 0;
}

int zbuf_reader_open(int pid, unsigned index, struct zbuf_reader **out)
{
    int fd = -1, err = find(pid, index, &fd);
    if (err)
        return err;
    struct stat st;
    struct mirror *m = MAP_FAILED;
    if (fstat(fd, &st) != 0 || st.st_size != (off_t)sizeof *m ||
        !(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK))
        err = -EPROTO;
    else if ((m = mmap(NULL, sizeof *m, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
        err = -errno;
    close(fd);
    if (!err && (m->magic != MIRROR_MAGIC || m->version != MIRROR_VERSION ||
                 m->stat_size != sizeof m->pool || m->budget_size != sizeof m->budget[0] ||
                 m->side_size != sizeof(struct debug_side)))
        err = -EPROTO;
    struct zbuf_reader *rd = err ? NULL : malloc(sizeof *rd);
    if (!rd) {
        if (m != MAP_FAILED)
            munmap(m, sizeof *m);
        return err ? err : -ENOMEM;
    }
    /* Where there is no such call (before 5.3), a pid that is used again is not noticed. */
    *rd = (struct zbuf_reader){pid, (int)syscall(SYS_pidfd_open, pid, 0), m};
    *out = rd;
    return 0;
}

void zbuf_reader_close(struct zbuf_reader *rd)
{
    if (!rd)
        return;
    munmap((void *)rd->m, sizeof *rd->m);
    if (rd->pidfd >= 0)
        close(rd->pidfd);
    free(rd);
}

static bool gone(const struct zbuf_reader *rd)
{
    if (__atomic_load_n(&rd->m->closed, __ATOMIC_ACQUIRE))
        return true;
    if (rd->pidfd < 0)
        return kill(rd->pid, 0) != 0 && errno == ESRCH;
    struct pollfd p = {.fd = rd->pidfd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* A reader's critical section: true if what was read since begin is of one piece. */
static uint32_t read_begin(const struct mirror *m)
{
    return __atomic_load_n(&m->seq, __ATOMIC_ACQUIRE);
}
static bool read_ok(const struct mirror *m, uint32_t seq, unsigned tries)
{
#if !ZBUF_TSAN /* does not know fences, nor other processes */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
    bool ok = !(seq & 1) && __atomic_load_n(&m->seq, __ATOMIC_RELAXED) == seq;
    return ok ||
           tries == 0; /* one that was stopped in the middle of writing is still worth seeing */
}

int zbuf_reader_pool_stat(const struct zbuf_reader *rd, struct zbuf_pool_stat *out)
{
    uint32_t seq;
    unsigned tries = TRIES;
    if (gone(rd))
        return -ESTALE;
    do {
        seq = read_begin(rd->m);
        memcpy(out, &rd->m->pool, sizeof *out);
    } while (!read_ok(rd->m, seq, tries--));
    out->name[sizeof out->name - 1] = 0;
    uint8_t debug;
    memcpy(&debug, &out->debug, sizeof debug);
    out->debug = debug != 0;
    return 0;
}

int zbuf_reader_budget_stats(const struct zbuf_reader *rd, struct zbuf_budget_stat *out,
                             unsigned max)
{
    const struct mirror *m = rd->m;
    uint32_t seq, n;
    unsigned tries = TRIES;
    if (gone(rd))
        return -ESTALE;
    do {
        seq = read_begin(m);
        n = 0;
        for (uint32_t i = 0; i < ZBUF_BUDGETS && i < m->budgets_used; i++) {
            if (!m->open[i])
                continue;
            if (n < max) {
                memcpy(&out[n], &m->budget[i], sizeof out[n]);
                out[n].name[sizeof out[n].name - 1] = 0;
                out[n].id = (uint16_t)i;
                if (out[n].parent >= ZBUF_BUDGETS)
                    out[n].parent = out[n].id;
            }
            n++;
        }
    } while (!read_ok(m, seq, tries--));
    return (int)n;
}

/* ---- into the other process's memory */

#define BATCH 256u /* pieces that one call fetches; below IOV_MAX */

static int fetched(ssize_t n, size_t wanted)
{
    if (n == (ssize_t)wanted)
        return 0;
    return n < 0 && errno == EPERM ? -EPERM : -ESTALE;
}

static int fetch(const struct zbuf_reader *rd, uint64_t addr, void *dst, size_t len)
{
    struct iovec to = {dst, len}, from = {pointer(addr), len};
    return fetched(process_vm_readv(rd->pid, &to, 1, &from, 1, 0), len);
}

/* n headers, from n places. */
static int fetch_headers(const struct zbuf_reader *rd, const uint64_t *addr, struct zbuf *dst,
                         unsigned n)
{
    struct iovec to = {dst, n * sizeof *dst}, from[BATCH];
    for (unsigned i = 0; i < n; i++)
        from[i] = (struct iovec){pointer(addr[i]), sizeof *dst};
    return fetched(process_vm_readv(rd->pid, &to, 1, from, n, 0), to.iov_len);
}

/* Now, in the pool's time: that goes on by itself only if it was the machine's. */
static uint64_t pool_now(const struct mirror *m)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    uint64_t now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    uint64_t ahead = m->clock_ns - m->written_ns + 1000000000u; /* within a second of each other */
    return ahead < 2000000000u ? now : m->clock_ns;
}

static int fetch_for(const void *rd, uint64_t addr, void *dst, size_t len)
{
    return fetch(rd, addr, dst, len);
}

/* The live segments of one slab: first which they are, then their headers, many at a time. */
static int add_slab(const struct zbuf_reader *rd, uint32_t slab, unsigned cls,
                    const struct transit *transit, struct oldest *oldest)
{
    const uint32_t first = slab * SLAB_SEGS_MAX;
    const uint64_t base = rd->m->base + (uint64_t)slab * ZBUF_SLAB;
    uint8_t live[SLAB_SEGS_MAX];
    uint32_t birth[SLAB_SEGS_MAX], seg[BATCH];
    struct zbuf header[BATCH];
    uint64_t header_at[BATCH];
    int err = fetch(rd, rd->m->live + (uint64_t)slab * sizeof live, live, sizeof live);
    if (!err)
        err = fetch(rd, rd->m->birth + (uint64_t)slab * sizeof birth, birth, sizeof birth);
    for (uint32_t i = 0; !err && i < class_segs(cls);) {
        unsigned n = 0;
        for (; i < class_segs(cls) && n < BATCH; i++) {
            if (!live[i] || transit_has(transit, first + i))
                continue;
            header_at[n] = rd->m->header + (uint64_t)(first + i) * sizeof header[0];
            seg[n++] = i;
        }
        err = n > 0 ? fetch_headers(rd, header_at, header, n) : 0;
        for (unsigned k = 0; !err && k < n; k++)
            oldest_add(oldest, base + (uint64_t)seg[k] * class_size(cls), &header[k],
                       birth[seg[k]]);
    }
    return err;
}

static int walk(const struct zbuf_reader *rd, struct oldest *oldest)
{
    const struct mirror *m = rd->m;
    const uint32_t slabs = __atomic_load_n(&m->slabs, __ATOMIC_RELAXED);
    uint32_t cls[BATCH];
    if (gone(rd))
        return -ESTALE;
    if (slabs > POOL_SLABS_MAX)
        return -EPROTO;
    oldest->now_ns = pool_now(m);
    oldest_begin(oldest);
    struct transit transit;
    int err = transit_open(&transit, m, fetch_for, rd);
    for (uint32_t i = 0; !err && i < slabs; i++) {
        uint32_t left = slabs - i, n = left < BATCH ? left : BATCH;
        if (i % BATCH == 0)
            err = fetch(rd, m->slab_cls + i * sizeof cls[0], cls, n * sizeof cls[0]);
        if (!err && cls[i % BATCH] < ZBUF_CLASSES)
            err = add_slab(rd, i, cls[i % BATCH], &transit, oldest);
    }
    transit_close(&transit);
    if (err)
        return err;
    oldest_finish(oldest);
    return oldest->live < INT_MAX ? (int)oldest->live : INT_MAX;
}

int zbuf_reader_holders(const struct zbuf_reader *rd, struct zbuf_holder *out, unsigned max)
{
    const struct mirror *m = rd->m;
    struct oldest oldest = {.out = out, .max = max};
    int live = walk(rd, &oldest);
    for (unsigned i = 0; m->side && i < max && (int)i < live; i++) {
        struct debug_side side;
        if (out[i].size == 0) /* what is not ours to trust */
            continue;
        uint64_t off = out[i].addr - m->base, seg = off % ZBUF_SLAB / out[i].size;
        uint64_t at = off / ZBUF_SLAB * SLAB_SEGS_MAX + seg;
        if (fetch(rd, m->side + at * sizeof side, &side, sizeof side) == 0)
            out[i].site = side.site;
    }
    return live;
}

int zbuf_reader_ages(const struct zbuf_reader *rd, struct zbuf_age *cls, struct zbuf_age *budget,
                     unsigned n)
{
    struct oldest oldest = {.cls = cls, .budget = budget, .budgets = n};
    return walk(rd, &oldest);
}
