/* debug.c - debug mode: finds misuse near where it happens, at the cost of speed.
 *
 * Headers are checked against a second record of each segment whenever one is allocated or freed.
 * With them goes the guard at the front of the segment, filled with a pattern: it is what a write
 * past the end of the segment before hits first. Freed payload is filled with another pattern, and
 * checked when it is allocated again. For the bytes that were handed to a stack there is a copy,
 * and a count of how many sendings each byte is part of (zbuf_watch_begin). */
#include <stdio.h>
#include <sys/mman.h>

#include "internal.h"
#include "sanitize.h"

#define FREED 0xdb
#define GUARD 0xfd

struct debug {
    struct debug_side *side; /* [pool_unit()] */
    uint8_t *copy, *watched; /* [offset]: the byte as it was, and how often it is watched */
    pthread_mutex_t watch_lock;
    bool fill; /* not under valgrind, which does it better */
};

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static size_t side_bytes(const struct zbuf_pool *pool)
{
    return (pool->region.size >> SEG_SHIFT) * sizeof(struct debug_side);
}

int debug_open(struct zbuf_pool *pool)
{
    struct debug *d = calloc(1, sizeof *d);
    pool->debug = d;
    if (!d)
        return -ENOMEM;
    d->side = map(side_bytes(pool));
    d->copy = map(pool->region.size);
    d->watched = map(pool->region.size);
    d->fill = !RUNNING_ON_VALGRIND;
    pthread_mutex_init(&d->watch_lock, NULL);
    if (d->side && d->copy && d->watched)
        return 0;
    debug_close(pool);
    return -ENOMEM;
}

void debug_close(struct zbuf_pool *pool)
{
    struct debug *d = pool->debug;
    if (d->side)
        munmap(d->side, side_bytes(pool));
    if (d->copy)
        munmap(d->copy, pool->region.size);
    if (d->watched)
        munmap(d->watched, pool->region.size);
    pthread_mutex_destroy(&d->watch_lock);
    free(d);
    pool->debug = NULL;
}

static size_t offset(const struct zbuf_pool *pool, const void *addr)
{
    return (size_t)((uintptr_t)addr - (uintptr_t)pool->region.base);
}

static struct debug_side *side_of(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    return &pool->debug->side[pool_unit(pool, zb)];
}

const struct debug_side *debug_side_of(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    return pool->debug ? side_of(pool, zb) : NULL;
}

/* ---- headers and freed payload */

static uint8_t *payload_of(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    return pool_first(pool, zb) + ZBUF_GUARD;
}

static bool all_are(const uint8_t *p, size_t n, uint8_t byte)
{
    return p[0] == byte && memcmp(p, p + 1, n - 1) == 0;
}

static bool guard_is_whole(const struct zbuf_pool *pool, const struct zbuf *zb)
{
#ifdef ZBUF_ASAN /* finds this itself, and would take us for the one who did it */
    (void)pool, (void)zb;
    return true;
#else
    return !pool->debug->fill || all_are(pool_first(pool, zb), ZBUF_GUARD, GUARD);
#endif
}

/* Prints who may have written to what lies at the front of zb's segment. */
static void suspect(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    const struct zbuf *before = zb - 1;
    if (pool_unit(pool, zb) % SLAB_SEGS_MAX == 0 || !side_of(pool, before)->live)
        return;
    fprintf(stderr, "zbuf: perhaps from segment %p (owner %u, %s) before it\n",
            (const void *)pool_first(pool, before), side_of(pool, before)->owner,
            pool->budget[side_of(pool, before)->owner].name);
}

static void check_header(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    const struct debug_side *side = side_of(pool, zb);
    if (zb->size != side->size || zb->cls != side->cls || zb->first != pool_first(pool, zb) ||
        zb->generation != side->generation || zb->owner != side->owner ||
        is_live(pool, zb) != side->live || zbuf_refcount(zb) == 0)
        zbuf_misuse(pool, zb, "header overwritten");
    if (guard_is_whole(pool, zb))
        return;
    suspect(pool, zb);
    zbuf_misuse(pool, zb, "written to before its headroom");
}

/* The payload of a free segment, as far as it was filled. */
static void check_freed(const struct zbuf_pool *pool, const struct zbuf *zb, uint32_t size)
{
    const uint8_t *p = payload_of(pool, zb);
    if (!pool->debug->fill || all_are(p, size - ZBUF_GUARD, FREED))
        return;
    while (*p == FREED)
        p++;
    zbuf_misuse(pool, p, "freed memory was written to");
}

static void fill_freed(const struct zbuf_pool *pool, struct zbuf *zb, uint32_t size)
{
    if (pool->debug->fill)
        memset(payload_of(pool, zb), FREED, size - ZBUF_GUARD);
}

void debug_grown(struct zbuf_pool *pool, uint32_t slab, unsigned cls)
{
    for (uint32_t i = 0; i < class_segs(cls); i++) {
        struct zbuf *zb = slab_seg(pool, slab, i);
        *side_of(pool, zb) = (struct debug_side){
            .size = zb->size, .generation = zb->generation, .cls = zb->cls, .owner = zb->owner};
        ASAN_UNPOISON_MEMORY_REGION(zb->first, zb->size);
        if (pool->debug->fill)
            memset(zb->first, GUARD, ZBUF_GUARD);
        fill_freed(pool, zb, zb->size);
        ASAN_POISON_MEMORY_REGION(zb->first, zb->size);
    }
}

void debug_alloc(struct zbuf_pool *pool, struct zbuf *zb, const void *site)
{
    struct debug_side *side = side_of(pool, zb);
    side->owner = zb->owner;
    side->live = true;
    side->site = (uintptr_t)site;
    check_header(pool, zb);
    if (zbuf_refcount(zb) != 1 || zb->data != zb->first + ZBUF_OVERHEAD || zb->len || zb->next)
        zbuf_misuse(pool, zb, "the header of a free segment was written to");
    check_freed(pool, zb, side->size);
}

void debug_free(struct zbuf_pool *pool, struct zbuf *zb, unsigned cls)
{
    struct debug *d = pool->debug;
    check_header(pool, zb);
    side_of(pool, zb)->live = false;
    side_of(pool, zb)->generation++; /* as its header is about to */
    fill_freed(pool, zb, class_size(cls));
    pthread_mutex_lock(&d->watch_lock);
    memset(d->watched + offset(pool, zb->first), 0, class_size(cls));
    pthread_mutex_unlock(&d->watch_lock);
}

void debug_own(struct zbuf_pool *pool, struct zbuf *zb)
{
    side_of(pool, zb)->owner = zb->owner;
    check_header(pool, zb);
}

void zbuf_debug_check(struct zbuf_pool *pool)
{
    if (!pool->debug)
        return;
    pool_lock(pool);
    for (uint32_t i = 0; i < pool->slabs; i++) {
        unsigned cls = slab_class(pool, i);
        if (cls == CLASS_NONE)
            continue;
        for (uint32_t s = 0; s < class_segs(cls); s++) {
            const struct zbuf *zb = slab_seg(pool, i, s);
            uint8_t *payload = payload_of(pool, zb);
            check_header(pool, zb);
            if (side_of(pool, zb)->live)
                continue;
            ASAN_UNPOISON_MEMORY_REGION(payload, class_size(cls) - ZBUF_GUARD);
            check_freed(pool, zb, class_size(cls));
            ASAN_POISON_MEMORY_REGION(payload, class_size(cls) - ZBUF_GUARD);
        }
    }
    pool_unlock(pool);
}

/* ---- bytes that change between write and acknowledgement */

bool zbuf_debugging(const struct zbuf_pool *pool)
{
    return pool->debug != NULL;
}

static _Noreturn void changed(struct zbuf_pool *pool, const uint8_t *at, uint8_t was,
                              const char *who)
{
    char what[256];
    snprintf(what, sizeof what,
             "a byte changed between write and acknowledgement (%s): was 0x%02x, is 0x%02x",
             who ? who : "?", was, *at);
    zbuf_misuse(pool, at, what);
}

/* The part of a range that lies in the region; 0 if none does. */
static size_t clip(const struct zbuf_pool *pool, const void *addr, size_t len)
{
    size_t off = offset(pool, addr);
    if (off >= pool->region.size)
        return 0;
    return len < pool->region.size - off ? len : pool->region.size - off;
}

void zbuf_watch_begin(struct zbuf_pool *pool, const void *addr, size_t len, const char *who)
{
    struct debug *d = pool->debug;
    if (likely(!d))
        return;
    const uint8_t *p = addr;
    size_t off = offset(pool, addr);
    len = clip(pool, addr, len);
    pthread_mutex_lock(&d->watch_lock);
    for (size_t i = 0; i < len; i++) {
        if (d->watched[off + i] && d->copy[off + i] != p[i])
            changed(pool, p + i, d->copy[off + i], who);
        d->copy[off + i] = p[i];
        if (d->watched[off + i] < UINT8_MAX) /* so often, it is watched until it is freed */
            d->watched[off + i]++;
    }
    pthread_mutex_unlock(&d->watch_lock);
}

void zbuf_watch_end(struct zbuf_pool *pool, const void *addr, size_t len, const char *who)
{
    struct debug *d = pool->debug;
    if (likely(!d))
        return;
    const uint8_t *p = addr;
    size_t off = offset(pool, addr);
    len = clip(pool, addr, len);
    pthread_mutex_lock(&d->watch_lock);
    for (size_t i = 0; i < len; i++) {
        if (d->watched[off + i] && d->copy[off + i] != p[i])
            changed(pool, p + i, d->copy[off + i], who);
        if (d->watched[off + i] && d->watched[off + i] < UINT8_MAX)
            d->watched[off + i]--;
    }
    pthread_mutex_unlock(&d->watch_lock);
}
