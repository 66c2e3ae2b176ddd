/* budget.c - who may have how much.
 *
 * Ceilings are bytes, minima are segments of one class. For each class the pool keeps one sum,
 * `unmet`: the segments that minima promise and that are not taken yet. The invariant is
 *
 *     unmet <= segments of the class in the store
 *
 * so that a promise can be kept at any moment, in whatever order the others come. Somebody without
 * an unmet promise may take what is in the store above that.
 *
 * A segment held counts first against the holder's own minimum, then against what is left of its
 * parent's, and is surplus after that; it goes back in the opposite order. So what is unmet follows
 * from counts alone:
 *
 *     child:   unmet = max(0, min_segs - held)
 *     parent:  unmet = max(0, min_segs - given - overflow), where overflow is what it holds itself,
 *              and what its children hold above their own minima
 *
 * A budget without a parent is a parent, with or without children. What a child's minimum promises
 * is kept free under its parent's ceiling, too: others of the family go up to what that leaves. */
#include <stdio.h>

#include "internal.h"

static uint32_t above(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}

static struct zbuf_budget *top(struct zbuf_budget *b)
{
    return b->parent ? b->parent : b;
}

static uint32_t own_min(const struct zbuf_budget *b, unsigned cls)
{
    return b->min_cls == cls ? b->min_segs : 0;
}

/* What is promised to b itself and not taken. */
static uint32_t unmet(const struct zbuf_budget *b, unsigned cls)
{
    if (b->min_cls != cls)
        return 0;
    if (b->parent)
        return above(b->min_segs, b->held[cls]);
    return above(b->min_segs - b->given, b->overflow);
}

/* What b takes of its parent's (as a parent: of its own) set-aside in the parent's class. */
static uint32_t overflow(const struct zbuf_budget *b, const struct zbuf_budget *t)
{
    unsigned cls = t->min_cls;
    return b == t ? b->held[cls] : above(b->held[cls], own_min(b, cls));
}

void budget_adjust(struct zbuf_budget *b, unsigned cls, int n)
{
    struct zbuf_pool *pool = b->pool;
    struct zbuf_budget *t = top(b);
    uint32_t own = unmet(b, cls), before = own + (t != b ? unmet(t, cls) : 0);
    uint32_t over = overflow(b, t);
    b->held[cls] += (uint32_t)n;
    t->overflow += overflow(b, t) - over;
    uint32_t after = unmet(b, cls) + (t != b ? unmet(t, cls) : 0);
    pool->cls[cls].unmet += after - before;
    if (t != b) /* modulo 2^64, like all that follows */
        t->reserved += ((uint64_t)unmet(b, cls) - own) * class_size(cls);

    uint64_t bytes = (uint64_t)((int64_t)n * class_size(cls));
    /* Read without the lock by zbuf_budget_used(). */
    __atomic_store_n(&b->charged, b->charged + bytes, __ATOMIC_RELAXED);
    if (t != b)
        __atomic_store_n(&t->charged, t->charged + bytes, __ATOMIC_RELAXED);
}

uint32_t budget_may_take(const struct zbuf_budget *b, unsigned cls)
{
    const struct class *c = &b->pool->cls[cls];
    uint32_t mine = unmet(b, cls) + (b->parent ? unmet(b->parent, cls) : 0);
    return c->store - c->unmet + mine;
}

/* n segments that b is promised take nothing of what its parent's ceiling leaves. */
static uint64_t room_under(const struct zbuf_budget *limit, const struct zbuf_budget *b,
                           unsigned cls)
{
    uint64_t taken = limit->charged + limit->reserved;
    if (!limit->max)
        return UINT32_MAX;
    if (taken > limit->max)
        return 0;
    return (limit->max - taken) / class_size(cls) + (limit != b ? unmet(b, cls) : 0);
}

uint32_t budget_room(struct zbuf_budget *b, unsigned cls, struct zbuf_budget **limit)
{
    uint64_t room = UINT32_MAX;
    *limit = NULL;
    for (struct zbuf_budget *l = b; l; l = l->parent) {
        uint64_t left = room_under(l, b, cls);
        if (left < room) {
            room = left;
            *limit = l;
        }
    }
    return (uint32_t)room;
}

bool budget_over(const struct zbuf_budget *b)
{
    for (; b; b = b->parent)
        if (b->max && b->charged + b->reserved > b->max)
            return true;
    return false;
}

void budget_note_peak(struct zbuf_budget *b)
{
    for (; b; b = b->parent) {
        int64_t used = (int64_t)(b->charged - b->cached);
        if (used > (int64_t)b->high_water)
            b->high_water = (uint64_t)used;
    }
}

/* Sees that what is promised of cls is in the store; false if that can't be. */
static bool make_good(struct zbuf_pool *pool, struct cache *own, unsigned cls)
{
    struct class *c = &pool->cls[cls];
    bool drained = false;
    while (c->store < c->unmet) {
        if (class_grow(pool, cls))
            continue;
        if (drained || !pool_drain(pool, own, NULL))
            return false;
        drained = true;
    }
    return true;
}

/* b is promised n segments of its class; a child's as far as possible out of its parent's, but no
 * more than `carve` of them. */
static void promise(struct zbuf_budget *b, uint32_t n, uint32_t carve)
{
    struct zbuf_budget *t = top(b);
    struct class *c = &b->pool->cls[b->min_cls], *tc = &b->pool->cls[t->min_cls];
    c->unmet -= unmet(b, b->min_cls);
    if (t != b) {
        t->reserved -= (uint64_t)unmet(b, b->min_cls) * class_size(b->min_cls);
        tc->unmet -= unmet(t, t->min_cls);
        t->overflow -= overflow(b, t);
        t->given -= b->carved;
    }
    b->min_segs = n;
    if (t != b) {
        uint32_t left = own_min(t, b->min_cls) ? t->min_segs - t->given : 0;
        left = left < carve ? left : carve;
        b->carved = n < left ? n : left;
        t->given += b->carved;
        t->overflow += overflow(b, t);
        t->reserved += (uint64_t)unmet(b, b->min_cls) * class_size(b->min_cls);
        tc->unmet += unmet(t, t->min_cls);
    }
    c->unmet += unmet(b, b->min_cls);
}

static uint64_t min_segs_for(const struct zbuf_budget *b, uint64_t bytes)
{
    return bytes / class_size(b->min_cls) + (bytes % class_size(b->min_cls) != 0);
}

/* What is set aside above the ceiling would be lost: to all others, and to b, too. */
static bool contradict(const struct zbuf_budget *b, uint64_t min_bytes, uint64_t max_bytes)
{
    return max_bytes && min_segs_for(b, min_bytes) > max_bytes / class_size(b->min_cls);
}

static int set_minimum(struct zbuf_budget *b, struct cache *own, uint64_t bytes)
{
    uint64_t n = min_segs_for(b, bytes);
    uint32_t old = b->min_segs, old_carved = b->carved;
    if (n > (uint64_t)b->pool->slabs * class_segs(b->min_cls))
        return -ENOBUFS;
    if (n < b->given)
        return -EBUSY;
    promise(b, (uint32_t)n, UINT32_MAX);
    if (make_good(b->pool, own, b->min_cls) && make_good(b->pool, own, top(b)->min_cls)) {
        /* What is at hand in magazines was charged when less was reserved. */
        if (budget_over(b))
            pool_drain(b->pool, own, top(b));
        return 0;
    }
    promise(b, old, old_carved);
    return -ENOBUFS;
}

/* ---- opening and closing */

static void budget_name(struct zbuf_budget *b, const char *name)
{
    snprintf(b->name, sizeof b->name, "%s", name ? name : "");
}

void budget_init_app(struct zbuf_pool *pool)
{
    struct zbuf_budget *b = &pool->budget[0];
    *b = (struct zbuf_budget){.pool = pool, .open = true, .min_cls = MIN_CLASS};
    budget_name(b, "app");
    pool->budgets_used = 1;
}

static struct zbuf_budget *take_id(struct zbuf_pool *pool)
{
    uint16_t id = pool->free_id;
    if (id)
        pool->free_id = pool->budget[id].next_id;
    else if (pool->budgets_used < ZBUF_BUDGETS)
        id = (uint16_t)pool->budgets_used++;
    else
        return NULL;
    struct zbuf_budget *b = &pool->budget[id];
    *b = (struct zbuf_budget){.pool = pool, .id = id};
    return b;
}

static void give_id(struct zbuf_budget *b)
{
    b->open = false;
    b->next_id = b->pool->free_id;
    b->pool->free_id = b->id;
}

struct zbuf_budget *zbuf_budget_open(struct zbuf_pool *pool, const struct zbuf_budget_config *cfg)
{
    uint32_t min_seg = cfg->min_seg ? cfg->min_seg : class_size(MIN_CLASS);
    if (min_seg < ZBUF_SEG_MIN || min_seg > ZBUF_SEG_MAX || min_seg & (min_seg - 1) ||
        (cfg->parent && (cfg->parent->pool != pool || cfg->parent->parent))) {
        errno = EINVAL;
        return NULL;
    }
    struct cache *own = cache_get(pool);
    pool_lock(pool);
    struct zbuf_budget *b = take_id(pool);
    int err = -ENOBUFS;
    if (b) {
        b->parent = cfg->parent;
        b->min_cls = (uint8_t)class_for(min_seg - ZBUF_OVERHEAD);
        b->max = cfg->max_bytes;
        budget_name(b, cfg->name);
        err = contradict(b, cfg->min_bytes, b->max) ? -EINVAL : set_minimum(b, own, cfg->min_bytes);
        if (err == 0) {
            b->open = true;
            if (b->parent)
                b->parent->children++;
            mirror_publish(pool, b);
        } else {
            give_id(b);
            b = NULL;
        }
    }
    pool_unlock(pool);
    if (!b)
        errno = -err;
    return b;
}

struct zbuf_budget *zbuf_budget_create(struct zbuf_pool *pool, const char *name, size_t min_bytes,
                                       size_t max_bytes)
{
    struct zbuf_budget_config cfg = {.name = name, .min_bytes = min_bytes, .max_bytes = max_bytes};
    return zbuf_budget_open(pool, &cfg);
}

struct zbuf_budget *zbuf_budget_app(struct zbuf_pool *pool)
{
    return &pool->budget[0];
}

int zbuf_budget_resize(struct zbuf_budget *b, size_t min_bytes, size_t max_bytes)
{
    struct zbuf_pool *pool = b->pool;
    struct cache *own = cache_get(pool);
    pool_lock(pool);
    int err = contradict(b, min_bytes, max_bytes) ? -EINVAL : set_minimum(b, own, min_bytes);
    if (!err) {
        b->max = max_bytes;
        /* What is at hand in magazines was charged under the old ceiling. */
        if (budget_over(b))
            pool_drain(pool, own, b);
        waiters_check(pool);
    }
    mirror_publish(pool, b);
    pool_unlock(pool);
    return err;
}

int zbuf_budget_destroy(struct zbuf_budget *b)
{
    struct zbuf_pool *pool = b->pool;
    struct cache *own = cache_get(pool);
    int err = b->id == 0 ? -EBUSY : 0; /* the application's stays */
    pool_lock(pool);
    if (!err && !b->children)
        pool_drain(pool, own, b);
    if (!err && (b->children || b->charged))
        err = -EBUSY;
    if (!err) {
        set_minimum(b, own, 0);
        if (b->parent)
            b->parent->children--;
        waiters_drop(b);
        waiters_check(pool);
        give_id(b);
        mirror_publish(pool, b);
    }
    pool_unlock(pool);
    return err;
}

uint16_t zbuf_budget_id(const struct zbuf_budget *b)
{
    return b->id;
}

/* Charges less what is at hand: as the accounts know it, corrected by what this thread did since. A
 * parent's children may be many, and are not corrected for. What another thread did may be missing
 * from one side only, which must not make it less than nothing. */
size_t zbuf_budget_used(const struct zbuf_budget *b)
{
    int64_t used = (int64_t)(__atomic_load_n(&b->charged, __ATOMIC_RELAXED) -
                             __atomic_load_n(&b->cached, __ATOMIC_RELAXED));
    const struct cache *c = zbuf_tls;
    uint32_t classes = __atomic_load_n(&b->cached_classes, __ATOMIC_RELAXED);
    for (unsigned cls; c->pool == b->pool && classes; classes &= classes - 1) {
        cls = (unsigned)__builtin_ctz(classes);
        const struct mag *m = c->mag[b->id * ZBUF_CLASSES + cls];
        if (m)
            used += ((int64_t)__atomic_load_n(&m->synced, __ATOMIC_RELAXED) -
                     __atomic_load_n(&m->n, __ATOMIC_RELAXED)) *
                    class_size(cls);
        used -= (int64_t)depot_segs(b->pool, b->id, cls) * class_size(cls);
    }
    return used > 0 ? (size_t)used : 0;
}
