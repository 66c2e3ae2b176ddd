/* slab.c - slabs, and the store of free segments in them.
 *
 * A slab belongs to one class or to none. Each has a bitmap of its segments that are in the store.
 * A class keeps its slabs in buckets by how many that is, and takes from the fullest slab that has
 * any: use gathers in few slabs, and the others become idle and can serve another class.
 *
 * A slab moves with hysteresis. A class that has nothing in the store gets a free slab, or an idle
 * one of another class. It gives an idle slab up of its own accord only above a mark (one, and an
 * eighth of its slabs), so that a load that swings around a slab's edge does not move it to and
 * fro: giving one a class means writing a header for each segment. What is set aside for minima is
 * never given up. */
#include "internal.h"
#include "sanitize.h"

static uint8_t bucket_for(const struct slab *s, unsigned cls)
{
    uint32_t segs = class_segs(cls);
    if (s->free == segs)
        return SLAB_BUCKETS - 1;
    return (uint8_t)((s->free * 4 + segs - 1) / segs);
}

static void bucket_unlink(struct zbuf_pool *pool, unsigned cls, uint32_t idx)
{
    struct slab *s = &pool->slab[idx];
    if (s->prev == NO_SLAB)
        pool->cls[cls].bucket[s->bucket] = s->next;
    else
        pool->slab[s->prev].next = s->next;
    if (s->next != NO_SLAB)
        pool->slab[s->next].prev = s->prev;
}

static void bucket_link(struct zbuf_pool *pool, unsigned cls, uint32_t idx)
{
    struct slab *s = &pool->slab[idx];
    uint32_t *head = &pool->cls[cls].bucket[s->bucket];
    s->prev = NO_SLAB;
    s->next = *head;
    if (*head != NO_SLAB)
        pool->slab[*head].prev = idx;
    *head = idx;
}

/* The slab's count has changed: sees that it is in the right bucket. */
static void bucket_update(struct zbuf_pool *pool, unsigned cls, uint32_t idx)
{
    struct slab *s = &pool->slab[idx];
    uint8_t bucket = bucket_for(s, cls);
    if (likely(bucket == s->bucket))
        return;
    pool->cls[cls].idle -= s->bucket == SLAB_BUCKETS - 1;
    pool->cls[cls].idle += bucket == SLAB_BUCKETS - 1;
    bucket_unlink(pool, cls, idx);
    s->bucket = bucket;
    bucket_link(pool, cls, idx);
}

int slabs_init(struct zbuf_pool *pool)
{
    pool->slab = calloc(pool->slabs, sizeof *pool->slab);
    pool->slab_cls = malloc(pool->slabs * sizeof *pool->slab_cls);
    pool->live = calloc(pool->region.size >> SEG_SHIFT, sizeof *pool->live);
    pool->birth = calloc(pool->region.size >> SEG_SHIFT, sizeof *pool->birth);
    if (!pool->slab || !pool->slab_cls || !pool->live || !pool->birth)
        return -ENOMEM;
    memset(pool->slab_cls, 0xff, pool->slabs * sizeof *pool->slab_cls); /* CLASS_NONE */
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        for (unsigned i = 0; i < SLAB_BUCKETS; i++)
            pool->cls[c].bucket[i] = NO_SLAB;
    for (uint32_t i = 0; i < pool->slabs; i++)
        pool->slab[i].next = i + 1 < pool->slabs ? i + 1 : NO_SLAB;
    pool->free_slab = 0;
    pool->slabs_free = pool->slabs;
    ASAN_POISON_MEMORY_REGION(pool->region.base, pool->region.size);
    VALGRIND_MAKE_MEM_NOACCESS(pool->region.base, pool->region.size);
    return 0;
}

unsigned store_take(struct zbuf_pool *pool, unsigned cls, struct zbuf **out, unsigned n)
{
    struct class *c = &pool->cls[cls];
    unsigned got = 0;
    for (unsigned b = 1; b < SLAB_BUCKETS && got < n;) {
        uint32_t idx = c->bucket[b];
        if (idx == NO_SLAB) {
            b++;
            continue;
        }
        struct slab *s = &pool->slab[idx];
        struct zbuf *first = slab_seg(pool, idx, 0);
        for (unsigned w = 0; got < n && s->free; w++) {
            for (; s->bits[w] && got < n; s->free--) {
                unsigned bit = (unsigned)__builtin_ctzll(s->bits[w]);
                s->bits[w] &= s->bits[w] - 1;
                out[got] = &first[w * 64 + bit];
                __builtin_prefetch(out[got++], 1);
            }
        }
        /* Into a lower bucket, which this loop has passed: either it is empty, or n is reached. */
        bucket_update(pool, cls, idx);
    }
    c->store -= got;
    return got;
}

static void slab_release(struct zbuf_pool *pool, unsigned cls, uint32_t idx)
{
    struct class *c = &pool->cls[cls];
    struct slab *s = &pool->slab[idx];
    bucket_unlink(pool, cls, idx);
    c->idle--;
    c->slabs--;
    c->shrunk++;
    c->store -= class_segs(cls);
    memset(s->bits, 0, sizeof s->bits);
    s->free = 0;
    __atomic_store_n(&pool->slab_cls[idx], CLASS_NONE, __ATOMIC_RELAXED);
    ASAN_POISON_MEMORY_REGION(pool->region.base + (size_t)idx * ZBUF_SLAB, ZBUF_SLAB);
    VALGRIND_MAKE_MEM_NOACCESS(pool->region.base + (size_t)idx * ZBUF_SLAB, ZBUF_SLAB);
    s->next = pool->free_slab;
    pool->free_slab = idx;
    pool->slabs_free++;
}

/* Could the class do without one of its idle slabs? */
static bool can_spare(const struct zbuf_pool *pool, unsigned cls)
{
    const struct class *c = &pool->cls[cls];
    return c->idle > 0 && c->store >= c->unmet + class_segs(cls);
}

void store_give(struct zbuf_pool *pool, struct zbuf *zb, unsigned cls)
{
    uint32_t unit = pool_unit(pool, zb), idx = unit / SLAB_SEGS_MAX;
    uint32_t seg = unit % SLAB_SEGS_MAX;
    struct slab *s = &pool->slab[idx];
    struct class *c = &pool->cls[cls];
    uint64_t bit = 1ull << (seg & 63);
    if (s->bits[seg >> 6] & bit)
        zbuf_misuse(pool, zb, "free of a segment that is free");
    s->bits[seg >> 6] |= bit;
    s->free++;
    c->store++;
    bucket_update(pool, cls, idx);
    if (s->bucket == SLAB_BUCKETS - 1 && c->idle > 1 + c->slabs / 8 && can_spare(pool, cls))
        slab_release(pool, cls, idx);
}

/* The class that can best do without a slab; ZBUF_CLASSES if none can. */
static unsigned donor(const struct zbuf_pool *pool, unsigned not_this)
{
    unsigned best = ZBUF_CLASSES;
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        if (c != not_this && can_spare(pool, c) &&
            (best == ZBUF_CLASSES || pool->cls[c].idle > pool->cls[best].idle))
            best = c;
    return best;
}

bool class_can_grow(const struct zbuf_pool *pool, unsigned cls)
{
    return pool->slabs_free || donor(pool, cls) < ZBUF_CLASSES;
}

bool class_grow(struct zbuf_pool *pool, unsigned cls)
{
    if (!pool->slabs_free) {
        unsigned from = donor(pool, cls);
        if (from == ZBUF_CLASSES)
            return false;
        slab_release(pool, from, pool->cls[from].bucket[SLAB_BUCKETS - 1]);
    }
    uint32_t idx = pool->free_slab, segs = class_segs(cls);
    struct slab *s = &pool->slab[idx];
    pool->free_slab = s->next;
    pool->slabs_free--;

    uint8_t *base = pool->region.base + (size_t)idx * ZBUF_SLAB;
    s->lives++;
    for (uint32_t i = 0; i < segs; i++) {
        uint8_t *at = base + (size_t)i * class_size(cls);
        /* Generations of a slab's lives don't meet for 65536 allocations of one segment. */
        *slab_seg(pool, idx, i) = (struct zbuf){.size = class_size(cls),
                                                .refcount = 1,
                                                .data = at + ZBUF_OVERHEAD,
                                                .cls = (uint8_t)cls,
                                                .first = at,
                                                .generation = s->lives << 16};
    }
    for (uint32_t w = 0; w * 64 < segs; w++)
        s->bits[w] = segs - w * 64 >= 64 ? UINT64_MAX : (1ull << (segs - w * 64)) - 1;
    s->free = segs;
    s->bucket = SLAB_BUCKETS - 1;
    struct class *c = &pool->cls[cls];
    bucket_link(pool, cls, idx);
    c->idle++;
    c->slabs++;
    c->grown++;
    c->store += segs;
    __atomic_store_n(&pool->slab_cls[idx], cls, __ATOMIC_RELEASE);
    if (pool->debug)
        debug_grown(pool, idx, cls);
    return true;
}
