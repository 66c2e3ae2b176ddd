/* pool.c - the pool, its segments and its budgets. */
#include <stdio.h>

#include "internal.h"

#define POOL_DEFAULT (64u * 1024 * 1024)

static struct zbuf *seg_of(const struct zbuf_pool *pool, const void *addr)
{
    size_t off = (size_t)((uintptr_t)addr - (uintptr_t)pool->region.base);
    if (off >= pool->region.size)
        return NULL;
    uint8_t cls = __atomic_load_n(&pool->slab_class[off >> SLAB_SHIFT], __ATOMIC_RELAXED);
    if (cls == CLASS_NONE)
        return NULL;
    return (struct zbuf *)(void *)(pool->region.base + (off & ~(size_t)(class_size(cls) - 1)));
}

_Noreturn void zbuf_misuse(const struct zbuf_pool *pool, const void *addr, const char *what)
{
    const struct zbuf *zb = pool ? seg_of(pool, addr) : NULL;
    fprintf(stderr, "zbuf: %s: address %p", what, addr);
    if (zb)
        fprintf(stderr, ", segment %p of class %u bytes, refcount %u, owner %u (%s), generation %u",
                (const void *)zb, zb->size, zbuf_refcount(zb), zb->owner,
                zb->owner < ZBUF_BUDGETS ? pool->budget[zb->owner].stat.name : "?", zb->generation);
    fputc('\n', stderr);
    abort();
}

struct zbuf_pool *zbuf_pool_create(const struct zbuf_pool_config *cfg)
{
    size_t size = cfg && cfg->size ? cfg->size : POOL_DEFAULT;
    if (size > SIZE_MAX / 4) {
        errno = EINVAL;
        return NULL;
    }
    size = (size + ZBUF_SLAB - 1) & ~(size_t)(ZBUF_SLAB - 1);
    struct zbuf_pool *pool = calloc(1, sizeof *pool);
    uint8_t *slab_class = malloc(size / ZBUF_SLAB);
    if (!pool || !slab_class || region_map(&pool->region, size, !(cfg && cfg->no_huge)) != 0) {
        free(pool);
        free(slab_class);
        errno = ENOMEM;
        return NULL;
    }
    pool->slab_class = slab_class;
    pool->slabs = (uint32_t)(size / ZBUF_SLAB);
    memset(slab_class, CLASS_NONE, pool->slabs);
    pthread_mutex_init(&pool->lock, NULL);
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        pool->cls[c].stat.seg_size = class_size(c);
    if (!zbuf_budget_create(pool, "app", 0, 0))
        abort();
    return pool;
}

int zbuf_pool_destroy(struct zbuf_pool *pool)
{
    if (pool->live) {
        fprintf(stderr, "zbuf: pool destroyed with %llu segments (%zu bytes) still held:\n",
                (unsigned long long)pool->live, pool->used);
        for (unsigned i = 0; i < ZBUF_BUDGETS; i++)
            if (pool->budget[i].open && pool->budget[i].stat.used)
                fprintf(stderr, "zbuf:   %s holds %zu bytes\n", pool->budget[i].stat.name,
                        pool->budget[i].stat.used);
        return -EBUSY;
    }
    region_unmap(&pool->region);
    pthread_mutex_destroy(&pool->lock);
    free(pool->slab_class);
    free(pool);
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

/* ---- budgets */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Changes what budget uses, if its ceiling and the others' minima allow. */
static bool charge(struct zbuf_budget *b, size_t bytes)
{
    struct zbuf_pool *pool = b->pool;
    size_t used = b->stat.used + bytes;
    size_t extra = larger(used, b->stat.min) - larger(b->stat.used, b->stat.min);
    if ((b->stat.max && used > b->stat.max) || pool->committed + extra > pool->region.size)
        return false;
    pool->committed += extra;
    b->stat.used = used;
    b->stat.high_water = larger(used, b->stat.high_water);
    return true;
}

static void uncharge(struct zbuf_budget *b, size_t bytes)
{
    size_t used = b->stat.used - bytes;
    b->pool->committed -= larger(b->stat.used, b->stat.min) - larger(used, b->stat.min);
    b->stat.used = used;
}

struct zbuf_budget *zbuf_budget_app(struct zbuf_pool *pool)
{
    return &pool->budget[0];
}

struct zbuf_budget *zbuf_budget_create(struct zbuf_pool *pool, const char *name, size_t min_bytes,
                                       size_t max_bytes)
{
    struct zbuf_budget *b = NULL;
    pthread_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < ZBUF_BUDGETS && !b; i++)
        if (!pool->budget[i].open)
            b = &pool->budget[i];
    if (b && min_bytes <= pool->region.size - pool->committed) {
        pool->committed += min_bytes;
        *b = (struct zbuf_budget){.pool = pool, .open = true};
        b->stat.id = (uint16_t)(b - pool->budget);
        b->stat.min = min_bytes;
        b->stat.max = max_bytes;
        snprintf(b->stat.name, sizeof b->stat.name, "%s", name ? name : "");
    } else {
        b = NULL;
        errno = ENOBUFS;
    }
    pthread_mutex_unlock(&pool->lock);
    return b;
}

int zbuf_budget_destroy(struct zbuf_budget *b)
{
    struct zbuf_pool *pool = b->pool;
    pthread_mutex_lock(&pool->lock);
    int err = b->stat.used ? -EBUSY : 0;
    if (!err) {
        pool->committed -= b->stat.min;
        b->open = false;
    }
    pthread_mutex_unlock(&pool->lock);
    return err;
}

uint16_t zbuf_budget_id(const struct zbuf_budget *b)
{
    return b->stat.id;
}

size_t zbuf_budget_used(const struct zbuf_budget *b)
{
    pthread_mutex_lock(&b->pool->lock);
    size_t used = b->stat.used;
    pthread_mutex_unlock(&b->pool->lock);
    return used;
}

int zbuf_charge(struct zbuf *zb, struct zbuf_budget *to)
{
    struct zbuf_pool *pool = zb->pool;
    int err = 0;
    pthread_mutex_lock(&pool->lock);
    struct zbuf_budget *from = &pool->budget[zb->owner];
    if (from != to) {
        uncharge(from, zb->size);
        if (charge(to, zb->size)) {
            zb->owner = to->stat.id;
        } else {
            to->stat.failures++;
            if (!charge(from, zb->size))
                abort();
            err = -ENOBUFS;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return err;
}

/* ---- segments */

/* Gives a free slab to a class. */
static bool grow(struct zbuf_pool *pool, unsigned cls)
{
    if (pool->slabs_used == pool->slabs)
        return false;
    uint32_t slab = pool->slabs_used++, seg_size = class_size(cls);
    uint8_t *base = pool->region.base + (size_t)slab * ZBUF_SLAB;
    struct class *c = &pool->cls[cls];
    for (size_t off = ZBUF_SLAB; off > 0;) {
        off -= seg_size;
        struct zbuf *zb = (struct zbuf *)(void *)(base + off);
        *zb = (struct zbuf){
            .size = seg_size, .cls = (uint8_t)cls, .pool = pool, .next = c->free_list};
        c->free_list = zb;
    }
    c->stat.segs += ZBUF_SLAB / seg_size;
    c->stat.free += ZBUF_SLAB / seg_size;
    __atomic_store_n(&pool->slab_class[slab], (uint8_t)cls, __ATOMIC_RELAXED);
    return true;
}

static struct zbuf *take(struct zbuf_budget *b, unsigned want)
{
    struct zbuf_pool *pool = b->pool;
    for (unsigned cls = want; cls < ZBUF_CLASSES; cls++) {
        struct class *c = &pool->cls[cls];
        if ((!c->free_list && !grow(pool, cls)) || !charge(b, class_size(cls)))
            continue;
        struct zbuf *zb = c->free_list;
        c->free_list = zb->next;
        c->stat.free--;
        c->stat.allocs++;
        if (c->stat.segs - c->stat.free > c->stat.high_water)
            c->stat.high_water = c->stat.segs - c->stat.free;
        pool->cls[want].stat.fall_ups += cls != want;
        pool->used += zb->size;
        pool->live++;
        zb->data = (uint8_t *)zb + ZBUF_OVERHEAD;
        zb->len = 0;
        zb->generation++;
        zb->owner = b->stat.id;
        zb->headroom_busy = 0;
        zb->next = NULL;
        __atomic_store_n(&zb->refcount, 1, __ATOMIC_RELAXED);
        return zb;
    }
    pool->cls[want].stat.failures++;
    b->stat.failures++;
    errno = ENOBUFS;
    return NULL;
}

struct zbuf *zbuf_alloc_from(struct zbuf_budget *b, size_t bytes)
{
    struct zbuf *zb = NULL;
    zbuf_alloc_bulk(b, bytes, &zb, 1);
    return zb;
}

struct zbuf *zbuf_alloc(struct zbuf_pool *pool, size_t bytes)
{
    return zbuf_alloc_from(zbuf_budget_app(pool), bytes);
}

unsigned zbuf_alloc_bulk(struct zbuf_budget *b, size_t bytes, struct zbuf **out, unsigned n)
{
    if (bytes > ZBUF_SEG_MAX - ZBUF_OVERHEAD) {
        errno = EMSGSIZE;
        return 0;
    }
    unsigned cls = 0, got = 0;
    while (class_size(cls) < bytes + ZBUF_OVERHEAD)
        cls++;
    pthread_mutex_lock(&b->pool->lock);
    while (got < n) {
        struct zbuf *zb = take(b, cls);
        if (!zb)
            break;
        out[got++] = zb;
    }
    pthread_mutex_unlock(&b->pool->lock);
    return got;
}

static void give_back(struct zbuf *zb)
{
    struct zbuf_pool *pool = zb->pool;
    pthread_mutex_lock(&pool->lock);
    struct class *c = &pool->cls[zb->cls];
    uncharge(&pool->budget[zb->owner], zb->size);
    pool->used -= zb->size;
    pool->live--;
    zb->next = c->free_list;
    c->free_list = zb;
    c->stat.free++;
    pthread_mutex_unlock(&pool->lock);
}

void zbuf_free(struct zbuf *zb)
{
    if (!zb)
        return;
    if (!zb->pool || seg_of(zb->pool, zb) != zb)
        zbuf_misuse(NULL, zb, "free of something that is not a zbuf");
    uint32_t before = __atomic_fetch_sub(&zb->refcount, 1, __ATOMIC_ACQ_REL);
    if (before == 0)
        zbuf_misuse(zb->pool, zb, "double free");
    if (before == 1)
        give_back(zb);
}

void zbuf_free_bulk(struct zbuf **zbs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        zbuf_free(zbs[i]);
}

struct zbuf *zbuf_of(const struct zbuf_pool *pool, const void *addr)
{
    struct zbuf *zb = seg_of(pool, addr);
    if (!zb || (uintptr_t)addr - (uintptr_t)zb < ZBUF_HEADER || zbuf_refcount(zb) == 0)
        return NULL;
    return zb;
}

struct zbuf *zbuf_ref(struct zbuf *zb)
{
    uint32_t before = __atomic_fetch_add(&zb->refcount, 1, __ATOMIC_RELAXED);
    if (before == 0)
        zbuf_misuse(zb->pool, zb, "reference to a freed segment");
    if (before == UINT32_MAX)
        zbuf_misuse(zb->pool, zb, "refcount overflow");
    return zb;
}

void zbuf_tx_done(struct zbuf_pool *pool, const void *addr)
{
    struct zbuf *zb = zbuf_of(pool, addr);
    if (!zb)
        zbuf_misuse(pool, addr, "completion of a frame that is in no live segment");
    if ((const uint8_t *)addr < zb->data)
        zbuf_headroom_release(zb);
    zbuf_free(zb);
}

/* ---- statistics */

void zbuf_pool_stat(const struct zbuf_pool *cpool, struct zbuf_pool_stat *out)
{
    struct zbuf_pool *pool = (struct zbuf_pool *)(uintptr_t)cpool;
    pthread_mutex_lock(&pool->lock);
    *out = (struct zbuf_pool_stat){.size = pool->region.size,
                                   .used = pool->used,
                                   .pages = pool->region.pages,
                                   .live = pool->live};
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        out->cls[c] = pool->cls[c].stat;
    pthread_mutex_unlock(&pool->lock);
}

unsigned zbuf_budget_stats(const struct zbuf_pool *cpool, struct zbuf_budget_stat *out,
                           unsigned max)
{
    struct zbuf_pool *pool = (struct zbuf_pool *)(uintptr_t)cpool;
    unsigned n = 0;
    pthread_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < ZBUF_BUDGETS; i++) {
        if (!pool->budget[i].open)
            continue;
        if (n < max)
            out[n] = pool->budget[i].stat;
        n++;
    }
    pthread_mutex_unlock(&pool->lock);
    return n;
}
