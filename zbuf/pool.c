/* pool.c - a pool comes and goes. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "sanitize.h"

#define POOL_DEFAULT ((size_t)64 << 20)

static void pool_release(struct zbuf_pool *pool)
{
    if (pool->headers.base)
        region_unmap(&pool->headers);
    if (pool->region.base)
        region_unmap(&pool->region);
    depots_free(pool);
    if (pool->depot)
        munmap((void *)pool->depot, TABLE_BYTES);
    free(pool->slab);
    free(pool->slab_cls);
    free(pool->live);
    free(pool->birth);
    free(pool->budget);
    free(pool);
}

static int pool_build(struct zbuf_pool *pool, const struct zbuf_pool_config *cfg, size_t size)
{
    int err = region_map(&pool->region, cfg, size);
    if (err)
        return err;
    err = region_map_unreserved(&pool->headers, cfg, pool_units(pool) * sizeof *pool->header);
    if (err)
        return err;
    pool->header = (struct zbuf *)(void *)pool->headers.base;
    pool->slabs = (uint32_t)(pool->region.size / ZBUF_SLAB);
    pool->budget = calloc(ZBUF_BUDGETS, sizeof *pool->budget);
    if (!pool->budget || slabs_init(pool) != 0)
        return -ENOMEM;
    void *table = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED)
        return -ENOMEM;
    pool->depot = table;
    const char *env = getenv("ZBUF_DEBUG");
    if (cfg->debug || (env && *env && *env != '0'))
        return debug_open(pool);
    return 0;
}

/* In debug mode: what a program that ends without destroying its pools has left in them. */
static void tell_leaks(struct zbuf_pool *pool)
{
    struct zbuf_pool_stat st;
    if (!pool->debug || pool->leaks_told || pool->maker != getpid())
        return;
    zbuf_pool_stat(pool, &st);
    if (st.live)
        zbuf_leaks(pool, "not destroyed at exit,");
}
static __attribute__((destructor)) void at_exit(void)
{
    pools_visit(tell_leaks);
}

/* It is held for less than it takes to go to sleep. */
static void lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

struct zbuf_pool *zbuf_pool_create(const struct zbuf_pool_config *cfg)
{
    static const struct zbuf_pool_config defaults;
    if (!cfg)
        cfg = &defaults;
    size_t size = cfg->size ? cfg->size : POOL_DEFAULT;
    if (size > (size_t)POOL_SLABS_MAX * ZBUF_SLAB) {
        errno = EINVAL;
        return NULL;
    }
    size = (size + ZBUF_SLAB - 1) & ~(size_t)(ZBUF_SLAB - 1);
    struct zbuf_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->wake_fd = pool->mirror_fd = -1;
    pool->waiters_end = &pool->waiters;
    pool->flags = cfg->owned_refs ? FLAG_OWNED : 0;
    snprintf(pool->name, sizeof pool->name, "%s", cfg->name ? cfg->name : "");
    int err = pool_build(pool, cfg, size);
    if (err) {
        pool_release(pool);
        errno = -err;
        return NULL;
    }
    lock_init(&pool->lock);
    if (pool->debug || RUNNING_ON_VALGRIND)
        pool->slow |= SLOW_DEBUG;
    pool->maker = getpid();
    VALGRIND_CREATE_MEMPOOL(pool, 0, 0);
    budget_init_app(pool);
    mirror_open(pool, !cfg->private_stat);
    pool_register(pool);
    return pool;
}

int zbuf_pool_destroy(struct zbuf_pool *pool)
{
    struct cache *own = cache_get(pool);
    pool_lock(pool);
    pool_drain(pool, own, NULL);
    bool live = false;
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        live |= pool->cls[c].store != pool->cls[c].slabs * class_segs(c);
    pool_unlock(pool);
    if (live) {
        pool->leaks_told = true;
        zbuf_leaks(pool, "destroyed");
        return -EBUSY;
    }
    pool_unregister(pool);
    if (pool->debug)
        debug_close(pool);
    mirror_close(pool);
    if (pool->wake_fd >= 0)
        close(pool->wake_fd);
    ASAN_UNPOISON_MEMORY_REGION(pool->region.base, pool->region.size);
    VALGRIND_DESTROY_MEMPOOL(pool);
    pthread_mutex_destroy(&pool->lock);
    pool_release(pool);
    return 0;
}

uint8_t *zbuf_pool_base(const struct zbuf_pool *pool)
{
    return pool->region.base;
}

size_t zbuf_pool_size(const struct zbuf_pool *pool)
{
    return pool->region.size;
}

enum zbuf_pages zbuf_pool_pages(const struct zbuf_pool *pool)
{
    return pool->region.pages;
}

bool zbuf_pool_contains(const struct zbuf_pool *pool, const void *addr)
{
    return (uintptr_t)addr - (uintptr_t)pool->region.base < pool->region.size;
}
