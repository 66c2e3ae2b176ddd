/* internal.h - what the files of zbuf/ share. Not installed, not for other rooms.
 *
 * Where a free segment can be, and what is charged for it:
 *
 *   store (slab.c)      bitmaps, one a slab; free for everybody; under the pool's lock
 *   magazine (cache.c)  one for each thread, budget and class; charged to the budget already, so
 *                       that taking from it and giving to it touches nothing that is shared
 *   depot (depot.c)     batches between threads, charged like magazines
 *   free slab           2 MiB without a class
 *
 * Allocation (alloc.c) and free (free.c) work on the thread's own magazine and go to the store only
 * when it is empty or full. When the store can't satisfy somebody, all magazines are drained into
 * it first (cache.c): what lies in them is at hand for their threads, but kept from nobody.
 *
 * Lock order: registry (cache.c), then pool->lock. A thread never waits for either between
 * cache_enter() and cache_leave(). */
#ifndef ZBUF_INTERNAL_H
#define ZBUF_INTERNAL_H

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "zbuf.h"

#define HIDDEN      __attribute__((visibility("hidden")))
#define COLD        __attribute__((noinline, cold))
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#if defined(__SANITIZE_THREAD__)
#define ZBUF_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ZBUF_TSAN 1
#endif
#endif
#ifndef ZBUF_TSAN
#define ZBUF_TSAN 0
#endif

#define HEADER_SHIFT 6
static_assert(sizeof(struct zbuf) == 1u << HEADER_SHIFT && sizeof(struct zbuf) == ZBUF_HEADER,
              "the header is one cache line");
static_assert(ZBUF_SEG_MIN << (ZBUF_CLASSES - 1) == ZBUF_SEG_MAX, "classes are powers of two");
static_assert(ZBUF_SLAB % ZBUF_SEG_MAX == 0, "segments tile a slab");

#define SLAB_SHIFT     21
#define SEG_SHIFT      10
#define SLAB_SEGS_MAX  (ZBUF_SLAB / ZBUF_SEG_MIN)
#define CLASS_NONE     UINT32_MAX
#define TABLE_BYTES    (sizeof(void *) * ZBUF_BUDGETS * ZBUF_CLASSES)
#define MIN_CLASS      1u /* that minima are set aside in, where nothing else is asked for: 2K */
#define POOL_SLABS_MAX (1u << 20)
#define NO_SLAB        UINT32_MAX

/* zb->flags */
#define FLAG_OWNED    1u /* references are counted without atomics */
#define FLAG_BORROWED ZBUF_FLAG_BORROWED

static inline uint32_t class_size(unsigned cls)
{
    return ZBUF_SEG_MIN << cls;
}
static inline uint32_t class_segs(unsigned cls)
{
    return SLAB_SEGS_MAX >> cls;
}

/* The class of a segment that holds `bytes` of payload; bytes must be in range. */
static inline unsigned class_for(size_t bytes)
{
    uint32_t units = (uint32_t)(bytes + ZBUF_OVERHEAD - 1) >> SEG_SHIFT;
    return 31u - (unsigned)__builtin_clz(units << 1 | 1);
}

/* An address that was kept as a number. */
static inline void *pointer(uint64_t addr)
{
    void *p;
    static_assert(sizeof p == sizeof addr, "a machine of 64 bits");
    memcpy(&p, &addr, sizeof p);
    return p;
}

/* Which header zb is, from the first on: each slab has as many as it could have segments, and uses
 * the first of them. Where that is not a whole number it is a huge one: so one comparison says
 * whether a header may be there. */
static inline size_t unit_from(const struct zbuf *header, const void *zb)
{
    size_t off = (size_t)((uintptr_t)zb - (uintptr_t)header);
    return off >> HEADER_SHIFT | off << (64 - HEADER_SHIFT);
}

/* ---- the region */

struct region {
    uint8_t *base;
    size_t size;
    enum zbuf_pages pages;
};
/* 0 or -errno. r->size may be more, with try_1g. */
int region_map(struct region *r, const struct zbuf_pool_config *cfg, size_t size);
/* The same without pages of the system's reserve. */
int region_map_unreserved(struct region *r, const struct zbuf_pool_config *cfg, size_t size);
void region_unmap(struct region *r);

/* ---- slabs and the store */

#define SLAB_BUCKETS 6 /* by how many are free: none, four quarters, all */

struct slab {
    uint64_t bits[SLAB_SEGS_MAX / 64]; /* 1 = in the store */
    uint32_t free;                     /* bits set */
    uint32_t prev, next;               /* in its bucket */
    uint32_t lives;                    /* times it was given to a class */
    uint8_t bucket;
};
struct class
{
    uint32_t bucket[SLAB_BUCKETS]; /* heads of lists of slabs; the emptiest are filled last */
    uint32_t slabs, idle;          /* idle: slabs with every segment in the store */
    uint32_t store;                /* segments in the store */
    uint32_t unmet;                /* of them, kept for minima not used up: unmet <= store */
    uint32_t cached;               /* in magazines, as of their last synchronisation */
    uint32_t in_depots;            /* likewise */
    uint32_t high_water;
    uint64_t allocs, failures, fall_ups, fall_up_waste, grown, shrunk;
};

/* ---- budgets */

struct zbuf_budget {
    struct zbuf_pool *pool;
    uint16_t id;
    bool open;
    uint8_t min_cls;
    struct zbuf_budget *parent;
    uint64_t charged;        /* bytes; what lies in its magazines included, and its children's */
    uint64_t cached;         /* of them in magazines, as of their last synchronisation */
    uint32_t cached_classes; /* bit: a magazine of this class has been in use, in any thread */
    uint64_t at_hand;        /* of them in magazines, counted when somebody asks (stat.c) */
    uint64_t max;            /* 0 = none */
    uint64_t reserved; /* parent: bytes that minima promise its children and they have not taken */
    uint64_t high_water, failures, fall_ups;
    uint32_t held[ZBUF_CLASSES];  /* segments; without its children's */
    uint32_t min_segs;            /* guaranteed, of min_cls */
    uint32_t carved;              /* child: of them, carved out of the parent's */
    uint32_t given;               /* parent: carved out of its own by children */
    uint32_t overflow;            /* parent: min_cls segments that use up its own part */
    uint32_t children, magazines; /* magazines in use; parent: its children's too */
    struct zbuf_budget *wait_next;
    uint8_t wait_cls;
    bool waiting, ready;
    uint16_t next_id; /* closed: next of the list of free ids */
    char name[ZBUF_NAME_MAX];
};

/* ---- magazines and the caches they are in */

/* What a header has from `owner` on, up to `next`. */
struct stamp {
    uint16_t owner;
    uint8_t cls, flags;
    uint8_t headroom_busy, pad[3];
};
static_assert(offsetof(struct zbuf, next) - offsetof(struct zbuf, owner) == sizeof(struct stamp) &&
                  offsetof(struct zbuf, headroom_busy) - offsetof(struct zbuf, owner) ==
                      offsetof(struct stamp, headroom_busy),
              "a stamp is a part of a header");

#define MAG_SLOTS 128u           /* most segments in one, */
#define MAG_BYTES (1024u * 1024) /* of at most so much together */
struct mag {
    uint32_t n;         /* segments at hand */
    uint32_t busy;      /* its thread is between mag_begin() and mag_end() */
    uint32_t low;       /* fewest since the last synchronisation: never more than n */
    uint32_t space;     /* as cap, but 0 while marked: so a free looks at one number */
    struct stamp stamp; /* that every segment in it has, so that allocation need not write it */
    uint64_t allocs;    /* since the last synchronisation; of the marked ones, in advance */
    uint32_t cap;       /* 0 = out of use */
    uint32_t batch;     /* how many to fetch or bring at once */
    uint32_t synced;    /* n as the accounts know it */
    uint16_t budget;
    uint8_t cls;
    uint8_t live;     /* LIVE(cls) */
    uint8_t marked;   /* not 0: all are marked as live already: see depot.c */
    struct mag *next; /* in use (or the pool has gone: all), of the same cache */
    /* Which each is (pool_unit()), from the next line on; the warmest last. */
    _Alignas(64) uint32_t unit[];
};
static_assert(offsetof(struct mag, unit) == 64, "a magazine's counters are one cache line");
static_assert(offsetof(struct mag, n) == 0 && offsetof(struct mag, busy) == sizeof(uint32_t),
              "both are written in one step");
static inline uint32_t mag_slots(unsigned cls)
{
    uint32_t slots = MAG_BYTES / class_size(cls);
    return slots < MAG_SLOTS ? slots : MAG_SLOTS;
}

/* n are left, or are about to be. */
static inline void mag_note_low(struct mag *mag, uint32_t n)
{
    if (n < mag->low)
        mag->low = n;
}
static inline void mag_set_cap(struct mag *mag, uint32_t cap)
{
    mag->cap = cap;
    mag->space = mag->marked ? 0 : cap;
}

/* See depot.c. */
#define BAY_SEGS 64u
struct bay {
    uint32_t turn;
    uint32_t unit[BAY_SEGS];
} __attribute__((aligned(64)));
struct depot {
    struct depot *next; /* of the pool */
    uint16_t budget;
    uint8_t cls;
    uint32_t batch, bays; /* segments in a full bay; how many bays there are, a power of two */
    uint32_t synced;      /* segments in it, as the class's account knows it */
    _Alignas(64) uint32_t in;
    _Alignas(64) uint32_t out;
    struct bay bay[];
};

/* pool->slow: why operations must not take the fast path */
#define SLOW_REVOKED  1u /* another thread is draining the cache */
#define SLOW_WAITERS  2u /* somebody waits for memory */
#define SLOW_DEBUG    4u
#define SLOW_NO_FENCE 8u /* membarrier(2) is not to be had */

struct cache {
    /* One line, read on each operation. */
    uint32_t busy; /* its thread is between cache_begin() and cache_leave() */
    uint32_t now;  /* the birth of a segment that is allocated now */
    /* The pool, and how many headers it has; but NULL and 0 while there is a reason (SLOW_) not to
     * take the fast path: so one comparison says whether to, and whether it is the right pool. */
    struct zbuf_pool *open;
    size_t open_units;
    struct mag **mag; /* [budget * ZBUF_CLASSES + class]; NULL until first used */
    struct mag *last; /* that a segment was freed to */
    struct marks {
        struct zbuf *header; /* as in the pool */
        uint8_t *live;
        uint32_t *birth;
    } marks;
    /* The rest of them. */
    struct zbuf_pool *pool; /* NULL once the pool has gone */
    size_t units;           /* as open_units; 0 then */
    /* Under the pool's lock. */
    struct mag *in_use; /* or, when the pool has gone, all that there were */
    struct cache *next_in_pool;
    /* The thread's own. */
    struct cache *next_in_thread;
};
extern struct mag zbuf_no_mag HIDDEN; /* what `last` points to at first */
extern __thread struct cache *zbuf_tls HIDDEN __attribute__((tls_model("initial-exec")));

static inline size_t marks_unit(const struct marks *marks, const struct zbuf *zb)
{
    return unit_from(marks->header, zb);
}
static inline struct mag *cache_mag(const struct cache *c, uint32_t budget, uint32_t cls)
{
    return c->mag[budget * ZBUF_CLASSES + cls];
}

/* The owner's side of an asymmetric lock (the other side is in cache.c): no fence and no locked
 * instruction here, because whoever wants in makes all threads fence with membarrier(2). Either the
 * owner, who looks after cache_begin(), sees that it is shut, or the other sees `busy` and waits.
 * ThreadSanitizer does not know membarrier, and gets an ordinary lock. */
static inline void cache_begin(struct cache *c)
{
#if ZBUF_TSAN
    while (__atomic_exchange_n(&c->busy, 1, __ATOMIC_ACQUIRE))
        ;
#else
    __atomic_store_n(&c->busy, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}
static inline void cache_leave(struct cache *c)
{
    __atomic_store_n(&c->busy, 0, __ATOMIC_RELEASE);
}
static inline struct zbuf_pool *cache_open(const struct cache *c)
{
    return __atomic_load_n(&c->open, __ATOMIC_ACQUIRE);
}
static inline size_t cache_open_units(const struct cache *c)
{
    return __atomic_load_n(&c->open_units, __ATOMIC_ACQUIRE);
}
/* False: it is shut, and was left again. */
static inline bool cache_enter(struct cache *c)
{
    cache_begin(c);
    if (likely(cache_open(c) != NULL))
        return true;
    cache_leave(c);
    return false;
}

/* The same for who needs one magazine only: its `busy` and its `n` are then written in one step at
 * the end. Where two threads pass segments to each other, stores wait for lines of the other, and
 * each one less is felt. */
static inline void mag_begin(struct cache *c, struct mag *mag)
{
#if ZBUF_TSAN
    (void)mag;
    cache_begin(c);
#else
    (void)c;
    __atomic_store_n(&mag->busy, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}
static inline void mag_leave(struct cache *c, struct mag *mag) /* as it was */
{
#if ZBUF_TSAN
    (void)mag;
    cache_leave(c);
#else
    (void)c;
    __atomic_store_n(&mag->busy, 0, __ATOMIC_RELEASE);
#endif
}
static inline void mag_end(struct cache *c, struct mag *mag, uint64_t n)
{
#if !ZBUF_TSAN && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    typedef uint64_t __attribute__((may_alias)) both;
    (void)c;
    __atomic_store_n((both *)(void *)mag, n, __ATOMIC_RELEASE);
#else
    __atomic_store_n(&mag->n, (uint32_t)n, __ATOMIC_RELAXED);
    mag_leave(c, mag);
#endif
}

/* ---- the pool */

struct debug;
struct mirror;

struct zbuf_pool {
    struct region region;
    struct region headers;
    struct zbuf *header; /* SLAB_SEGS_MAX for each slab: see pool_unit() */
    uint32_t *slab_cls;  /* of each slab; CLASS_NONE = free. Read without the lock. */
    uint8_t *live;       /* of each segment, as birth: see birth_of() */
    uint32_t *birth;
    struct depot **depot; /* [budget * ZBUF_CLASSES + class], NULL where there is none */
    uint8_t flags;        /* of fresh segments */
    struct debug *debug;  /* NULL = off */
    uint64_t clock_ns;    /* latest zbuf_tick() */
    uint32_t wakeups;
    int wake_fd; /* -1 = none */

    pthread_mutex_t lock;                  /* for all that follows */
    uint32_t slabs, slabs_free, free_slab; /* free_slab: head of the list */
    uint32_t slow;                         /* of every cache */
    struct slab *slab;
    struct class cls[ZBUF_CLASSES];
    struct cache *caches;
    struct depot *depots;
    struct zbuf_budget *budget; /* ZBUF_BUDGETS of them */
    uint32_t budgets_used;      /* ids below it have been used */
    uint16_t free_id;           /* 0 = none: the application's is never free */
    struct zbuf_budget *waiters, **waiters_end;
    uint64_t drains;
    struct mirror *mirror; /* NULL = none */
    size_t mirror_size;
    int mirror_fd;
    char name[ZBUF_NAME_MAX];
    pid_t maker; /* a forked child has no business with it at exit */
    bool leaks_told;
    struct zbuf_pool *next; /* in the registry */
};

static inline void pool_lock(struct zbuf_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
}
static inline void pool_unlock(struct zbuf_pool *pool)
{
    pthread_mutex_unlock(&pool->lock);
}
static inline struct zbuf_pool *pool_mutable(const struct zbuf_pool *pool)
{
    return (struct zbuf_pool *)pool;
}

/* Which header it is. */
static inline uint32_t pool_unit(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    return (uint32_t)(zb - pool->header);
}
static inline uint32_t pool_units(const struct zbuf_pool *pool)
{
    return (uint32_t)(pool->region.size >> SEG_SHIFT);
}
/* Is zb one of the pool's headers, in use or not? */
static inline bool pool_has(const struct zbuf_pool *pool, const void *zb)
{
    return unit_from(pool->header, zb) < pool_units(pool);
}

/* A slab's i-th header. */
static inline struct zbuf *slab_seg(const struct zbuf_pool *pool, uint32_t slab, uint32_t i)
{
    return &pool->header[(size_t)slab * SLAB_SEGS_MAX + i];
}
static inline unsigned slab_class(const struct zbuf_pool *pool, uint32_t slab)
{
    return __atomic_load_n(&pool->slab_cls[slab], __ATOMIC_RELAXED);
}

/* The segment that addr lies in, live or not; NULL if it is in no slab that has a class. */
static inline struct zbuf *pool_seg(const struct zbuf_pool *pool, const void *addr, unsigned *cls)
{
    size_t off = (size_t)((uintptr_t)addr - (uintptr_t)pool->region.base);
    if (unlikely(off >= pool->region.size))
        return NULL;
    uint32_t slab = (uint32_t)(off >> SLAB_SHIFT);
    *cls = slab_class(pool, slab);
    if (unlikely(*cls == CLASS_NONE))
        return NULL;
    return slab_seg(pool, slab, (uint32_t)(off & (ZBUF_SLAB - 1)) >> (SEG_SHIFT + *cls));
}

/* Is zb the header of a segment, live or not? */
static inline bool pool_seg_is(const struct zbuf_pool *pool, const struct zbuf *zb, unsigned *cls)
{
    if (!pool_has(pool, zb))
        return false;
    *cls = slab_class(pool, pool_unit(pool, zb) / SLAB_SEGS_MAX);
    return *cls != CLASS_NONE && pool_unit(pool, zb) % SLAB_SEGS_MAX < class_segs(*cls);
}

/* The first address of a segment, even if its header is damaged. */
static inline uint8_t *pool_first(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    uint32_t unit = pool_unit(pool, zb), slab = unit / SLAB_SEGS_MAX;
    size_t seg = unit % SLAB_SEGS_MAX;
    return pool->region.base + (size_t)slab * ZBUF_SLAB +
           (seg << (SEG_SHIFT + slab_class(pool, slab)));
}

/* A borrowed link keeps in its header which segment it was lent from. */
static inline struct zbuf *lender(const struct zbuf *link)
{
    return pointer(link->priv);
}

/* Beside the headers, two arrays have an entry for each: whether its segment is live, and of which
 * class, and since when. They are not in the headers so that allocation need not touch one that
 * another thread has in its cache. And they are two because a thread that frees writes only to the
 * first, which is as small as it can be.
 *
 * A segment that is live is marked so. One that is free is not, but for those on their way through
 * a depot: see there. */
#define LIVE(cls)      ((uint8_t)((cls) + 1))
#define LIVE_CLS(live) ((live)-1u)
#define BIRTH_SHIFT    24 /* units of 2^24 ns last for 834 days */
static inline uint32_t birth_of(uint64_t clock_ns)
{
    return (uint32_t)(clock_ns >> BIRTH_SHIFT);
}
static inline uint64_t age_of(uint32_t birth, uint64_t now_ns)
{
    return (uint64_t)(birth_of(now_ns) - birth) << BIRTH_SHIFT;
}
static inline bool is_live(const struct zbuf_pool *pool, const struct zbuf *zb)
{
    return __atomic_load_n(&pool->live[pool_unit(pool, zb)], __ATOMIC_RELAXED) != 0;
}

static inline void unmark(const struct zbuf_pool *pool, uint32_t unit)
{
    __atomic_store_n(&pool->live[unit], 0, __ATOMIC_RELAXED);
}

/* slab.c: all under the lock */
int slabs_init(struct zbuf_pool *pool);
unsigned store_take(struct zbuf_pool *pool, unsigned cls, struct zbuf **out, unsigned n);
/* Its budget has been credited before: or a slab might be given up that is promised by then. */
void store_give(struct zbuf_pool *pool, struct zbuf *zb, unsigned cls);
bool class_grow(struct zbuf_pool *pool, unsigned cls);
bool class_can_grow(const struct zbuf_pool *pool, unsigned cls);

/* budget.c: under the lock */
void budget_init_app(struct zbuf_pool *pool);
/* n more (fewer, if negative) segments of cls are charged to b. */
void budget_adjust(struct zbuf_budget *b, unsigned cls, int n);
/* How many segments of cls in the store b may have, its ceilings apart. */
uint32_t budget_may_take(const struct zbuf_budget *b, unsigned cls);
/* How many more segments of cls its ceilings allow; *limit is the budget whose ceiling it is. */
uint32_t budget_room(struct zbuf_budget *b, unsigned cls, struct zbuf_budget **limit);
bool budget_over(const struct zbuf_budget *b);
void budget_note_peak(struct zbuf_budget *b);

/* wait.c: under the lock */
void waiters_check(struct zbuf_pool *pool); /* something came back: for whom is it enough? */
void waiters_drop(struct zbuf_budget *b);

/* cache.c */
/* The calling thread's cache of pool; NULL if there is no memory for one. Not under the lock. */
struct cache *cache_get(struct zbuf_pool *pool);
/* The calling thread's cache of the pool that zb is a header of; NULL if it is of none. */
struct cache *cache_of(const struct zbuf *zb);
/* Among all pools; not under a lock. Of an address in its region, or among its headers. */
struct zbuf_pool *pool_of_addr(const void *addr);
void pool_register(struct zbuf_pool *pool);
void pool_unregister(struct zbuf_pool *pool); /* also takes the caches from their threads */
/* At the end of a program, which waits for nobody: a child of fork() may have inherited a lock that
 * no thread of its own will ever release. Then nothing is visited. */
void pools_visit(void (*fn)(struct zbuf_pool *pool));
/* Under the lock: */
struct mag *mag_get(struct cache *c, struct zbuf_budget *b, unsigned cls); /* or NULL */
void mag_sync(struct zbuf_pool *pool, struct mag *m);   /* brings the accounts up to date */
void mag_settle(struct zbuf_pool *pool, struct mag *m); /* after n was changed under the lock */
/* Takes up to n segments from the store, as far as b's ceilings let it. */
void mag_fetch(struct zbuf_pool *pool, struct mag *m, struct zbuf_budget *b, uint32_t n);
void mag_bring(struct zbuf_pool *pool, struct mag *m, unsigned n); /* its n coldest to the store */
/* Empties every magazine (scope NULL), or those of one budget and its children, into the store.
 * Returns how many segments that brought. own: the caller's cache, may be NULL. */
unsigned pool_drain(struct zbuf_pool *pool, struct cache *own, const struct zbuf_budget *scope);
void pool_set_slow(struct zbuf_pool *pool, uint32_t why, bool on);
uint64_t clock_now(const struct zbuf_pool *pool);

/* depot.c. The first two between cache_enter() and cache_leave(), on the thread's own magazine. */
bool depot_put(struct zbuf_pool *pool, struct mag *m); /* leaves its coldest batch */
bool depot_get(struct zbuf_pool *pool, struct mag *m); /* fills it, if it is empty */
/* Marks what depot_get() brought as free, before anything else is put into the magazine. */
void mag_unmark(const struct zbuf_pool *pool, struct mag *m);
/* What is there for one budget and class. */
uint32_t depot_segs(const struct zbuf_pool *pool, uint16_t budget, unsigned cls);
/* Under the lock: */
uint32_t depot_sync(struct zbuf_pool *pool, const struct mag *m); /* same, and notes it */
void depot_make(struct zbuf_pool *pool, const struct mag *m);
unsigned depot_drain(struct zbuf_pool *pool, const struct zbuf_budget *scope);
void depots_free(struct zbuf_pool *pool);

/* alloc.c: under the lock. Takes up to n segments of class want or, if there is none to be had,
 * one class above; at least one, or 0. *cls says which. */
unsigned pool_take(struct zbuf_pool *pool, struct cache *own, struct zbuf_budget *b, unsigned want,
                   struct zbuf **out, unsigned n, unsigned *cls);

/* mirror.c */
void mirror_open(struct zbuf_pool *pool, bool wanted);
void mirror_close(struct zbuf_pool *pool);
void mirror_forget(struct zbuf_pool *pool); /* after fork */
/* Under the lock: b and its parent, or those and everything that is not a budget. */
void mirror_budget(struct zbuf_pool *pool, const struct zbuf_budget *b);
void mirror_publish(struct zbuf_pool *pool, const struct zbuf_budget *b);

/* stat.c: under the lock */
void stat_pool(const struct zbuf_pool *pool, struct zbuf_pool_stat *out, const uint32_t *cached);
void stat_budget(const struct zbuf_budget *b, struct zbuf_budget_stat *out, uint64_t cached);

/* misuse.c */
/* Prints what is known of the segment that addr lies in, and aborts. */
_Noreturn void zbuf_misuse(const struct zbuf_pool *pool, const void *addr, const char *what);
void zbuf_leaks(struct zbuf_pool *pool, const char *when); /* prints who holds what */

/* debug.c: under the lock */
struct debug_side { /* of each segment, as its header */
    uint64_t site;  /* address of the call that allocated it */
    uint32_t size, generation;
    uint16_t owner;
    uint8_t cls;
    bool live;
};
int debug_open(struct zbuf_pool *pool);
void debug_close(struct zbuf_pool *pool);
void debug_alloc(struct zbuf_pool *pool, struct zbuf *zb, const void *site); /* now live */
void debug_free(struct zbuf_pool *pool, struct zbuf *zb, unsigned cls);      /* about to be free */
void debug_own(struct zbuf_pool *pool, struct zbuf *zb);                     /* owner changed */
void debug_grown(struct zbuf_pool *pool, uint32_t slab, unsigned cls);
const struct debug_side *debug_side_of(const struct zbuf_pool *pool, const struct zbuf *zb);

#endif
