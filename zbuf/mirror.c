/* mirror.c - keeps the copy of the accounts that other processes can read. See mirror.h. */
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "mirror.h"

void mirror_open(struct zbuf_pool *pool, bool wanted)
{
    if (!wanted)
        return;
    int fd = memfd_create(MIRROR_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return; /* a pool without it is still a pool */
    struct mirror *m = MAP_FAILED;
    if (ftruncate(fd, sizeof *m) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED) {
        close(fd);
        return;
    }
    m->magic = MIRROR_MAGIC;
    m->version = MIRROR_VERSION;
    m->stat_size = sizeof m->pool;
    m->budget_size = sizeof m->budget[0];
    m->side_size = sizeof(struct debug_side);
    m->base = (uintptr_t)pool->region.base;
    m->header = (uintptr_t)pool->header;
    m->slab_cls = (uintptr_t)pool->slab_cls;
    m->live = (uintptr_t)pool->live;
    m->birth = (uintptr_t)pool->birth;
    m->depots = (uintptr_t)&pool->depots;
    m->caches = (uintptr_t)&pool->caches;
    m->slabs = pool->slabs;
    m->side = pool->debug ? (uintptr_t)debug_side_of(pool, pool->header) : 0;
    pool->mirror = m;
    pool->mirror_fd = fd;
    pool_lock(pool);
    mirror_publish(pool, &pool->budget[0]);
    pool_unlock(pool);
}

void mirror_close(struct zbuf_pool *pool)
{
    if (pool->mirror)
        __atomic_store_n(&pool->mirror->closed, 1, __ATOMIC_RELEASE);
    mirror_forget(pool);
}

void mirror_forget(struct zbuf_pool *pool)
{
    if (pool->mirror)
        munmap(pool->mirror, sizeof *pool->mirror);
    if (pool->mirror_fd >= 0)
        close(pool->mirror_fd);
    pool->mirror = NULL;
    pool->mirror_fd = -1;
}

static void write_begin(struct mirror *m)
{
    /* An exchange, so that what is written next is not seen before it. */
    __atomic_exchange_n(&m->seq, m->seq + 1, __ATOMIC_ACQ_REL);
}
static void write_end(struct mirror *m)
{
    __atomic_store_n(&m->seq, m->seq + 1, __ATOMIC_RELEASE);
}

static void write_budget(struct mirror *m, const struct zbuf_budget *b)
{
    for (; b; b = b->parent) {
        stat_budget(b, &m->budget[b->id], b->cached);
        m->open[b->id] = b->open;
    }
}

void mirror_budget(struct zbuf_pool *pool, const struct zbuf_budget *b)
{
    struct mirror *m = pool->mirror;
    if (!m)
        return;
    write_begin(m);
    write_budget(m, b);
    write_end(m);
}

void mirror_publish(struct zbuf_pool *pool, const struct zbuf_budget *b)
{
    struct mirror *m = pool->mirror;
    uint32_t cached[ZBUF_CLASSES];
    struct timespec ts;
    if (!m)
        return;
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        cached[c] = pool->cls[c].cached + pool->cls[c].in_depots;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    write_begin(m);
    m->clock_ns = clock_now(pool);
    m->written_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    m->budgets_used = pool->budgets_used;
    write_budget(m, b);
    stat_pool(pool, &m->pool, cached);
    write_end(m);
}
