/* zbuf.h - the memory that zest sends from and receives into.
 *
 * One contiguous region, aligned to a slab (2 MiB), is cut into slabs, and each slab into segments
 * of one size class: 1K, 2K, 4K ... 128K. A segment is aligned to its size, so any address inside
 * one leads to its header by a table look-up and a mask. The region is also the AF_XDP UMEM: what
 * lies in it can be sent, and received into, without a copy.
 *
 *   segment:  | struct zbuf (64 bytes) | headroom (128 bytes) | payload ...                  |
 *             ^ aligned to its size                           ^ zb->data after zbuf_alloc()
 *
 * The headroom takes the link, IP and TCP headers right in front of the payload.
 *
 * Ownership: zbuf_alloc() gives one reference; zbuf_ref() another; zbuf_free() gives one back, and
 * the last one returns the segment to its class. Whoever holds a reference may read; only the
 * holder who knows it is alone may write.
 *
 * Errors: functions that return int give 0 or -errno; those that return a pointer give NULL and set
 * errno. Running out is ENOBUFS, at once, with nothing changed. Misuse (a second free, a foreign
 * pointer) is a bug: it prints what it knows of the segment and aborts.
 *
 * Sizes are in bytes unless a name says otherwise. */
#ifndef ZBUF_H
#define ZBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZBUF_API __attribute__((visibility("default")))

#define ZBUF_SEG_MIN  1024u          /* smallest segment */
#define ZBUF_SEG_MAX  (128u * 1024u) /* largest segment */
#define ZBUF_CLASSES  8u             /* 1K 2K 4K 8K 16K 32K 64K 128K */
#define ZBUF_SLAB     (2u * 1024u * 1024u)
#define ZBUF_HEADER   64u  /* struct zbuf at the front of each segment */
#define ZBUF_HEADROOM 128u /* for protocol headers, right after it */
#define ZBUF_OVERHEAD (ZBUF_HEADER + ZBUF_HEADROOM)
#define ZBUF_BUDGETS  1024u /* budgets a pool can have */
#define ZBUF_NAME_MAX 24u

struct zbuf_pool;

/* The header of a segment. Read it freely; write only `len`. */
struct zbuf {
    uint32_t size;       /* of the whole segment, a class size */
    uint32_t refcount;   /* use zbuf_refcount(): threads may change it */
    uint8_t *data;       /* first address of the payload */
    uint32_t len;        /* payload bytes, where the holder keeps count (received frames, chains) */
    uint32_t generation; /* changes every time the segment is allocated */
    uint16_t owner;      /* budget it is charged to, see zbuf_budget_id() */
    uint8_t cls;         /* size class, 0 = 1K */
    uint8_t flags;       /* private to zbuf/ */
    uint8_t headroom_busy; /* a link owns a frame whose headers lie in this headroom */
    uint8_t pad[3];
    struct zbuf *next; /* next of a chain, or of whatever list the holder keeps */
    struct zbuf_pool *pool;
    uint64_t user; /* for the holder's own use */
    uint64_t priv; /* private to zbuf/ */
};

/* ---- the pool
 * ------------------------------------------------------------------------------------- */

struct zbuf_pool_config {
    size_t size;  /* of the region; rounded up to slabs; 0 = 64 MiB */
    bool no_huge; /* do not try huge pages */
    uint64_t reserved[6];
};

/* What the region was made of. */
enum zbuf_pages {
    ZBUF_PAGES_ORDINARY,
    ZBUF_PAGES_TRANSPARENT,
    ZBUF_PAGES_HUGE_2M,
    ZBUF_PAGES_HUGE_1G
};

/* Makes a pool. NULL config = defaults. NULL and errno (ENOMEM, EINVAL) on failure. */
ZBUF_API struct zbuf_pool *zbuf_pool_create(const struct zbuf_pool_config *cfg);
/* Frees the region. Every segment must be home: if not, prints who still holds what, and returns
 * -EBUSY (the region is kept, so that nobody writes into unmapped memory). */
ZBUF_API int zbuf_pool_destroy(struct zbuf_pool *pool);

ZBUF_API uint8_t *zbuf_pool_base(const struct zbuf_pool *pool);
ZBUF_API size_t zbuf_pool_size(const struct zbuf_pool *pool);
ZBUF_API enum zbuf_pages zbuf_pool_pages(const struct zbuf_pool *pool);
/* True if addr lies in the region (not necessarily in a live segment). */
ZBUF_API bool zbuf_pool_contains(const struct zbuf_pool *pool, const void *addr);

/* ---- budgets
 * -------------------------------------------------------------------------------------- */

/* A consumer of memory. Each segment is charged (its whole size) to one budget from allocation to
 * its return. min is set aside: it is there whatever the others do. max is a ceiling. */
struct zbuf_budget;

/* The application's own budget, made with the pool: zbuf_alloc() draws on it. No minimum, no
 * ceiling. */
ZBUF_API struct zbuf_budget *zbuf_budget_app(struct zbuf_pool *pool);
/* name is copied (cut at ZBUF_NAME_MAX - 1). min_bytes that can't be set aside: NULL, errno
 * ENOBUFS. max_bytes 0 = no ceiling. */
ZBUF_API struct zbuf_budget *zbuf_budget_create(struct zbuf_pool *pool, const char *name,
                                                size_t min_bytes, size_t max_bytes);
/* 0, or -EBUSY while segments are charged to it. */
ZBUF_API int zbuf_budget_destroy(struct zbuf_budget *budget);
ZBUF_API uint16_t zbuf_budget_id(const struct zbuf_budget *budget);
ZBUF_API size_t zbuf_budget_used(const struct zbuf_budget *budget);
/* Moves the charge for a live segment to another budget: 0, or -ENOBUFS with nothing changed. */
ZBUF_API int zbuf_charge(struct zbuf *zb, struct zbuf_budget *to);

/* ---- segments
 * ------------------------------------------------------------------------------------- */

/* A segment with room for at least `bytes` of payload after the headroom: the best-fitting class
 * or, if that is used up, the next larger. One reference; data at the payload, len 0, next NULL.
 * NULL: errno ENOBUFS (none to be had now) or EMSGSIZE (more than one segment can hold). */
ZBUF_API struct zbuf *zbuf_alloc(struct zbuf_pool *pool, size_t bytes);
ZBUF_API struct zbuf *zbuf_alloc_from(struct zbuf_budget *budget, size_t bytes);
/* Up to n segments like zbuf_alloc_from(); returns how many it got. */
ZBUF_API unsigned zbuf_alloc_bulk(struct zbuf_budget *budget, size_t bytes, struct zbuf **out,
                                  unsigned n);

ZBUF_API void zbuf_free(struct zbuf *zb); /* drops one reference; NULL is allowed */
ZBUF_API void zbuf_free_bulk(struct zbuf **zbs, unsigned n);

/* The live segment that addr lies in, or NULL if there is none (not in the region, not allocated,
 * or inside the segment's own header). O(1). */
ZBUF_API struct zbuf *zbuf_of(const struct zbuf_pool *pool, const void *addr);

ZBUF_API struct zbuf *zbuf_ref(struct zbuf *zb); /* takes one more reference; returns zb */

static inline uint32_t zbuf_refcount(const struct zbuf *zb)
{
    return __atomic_load_n(&zb->refcount, __ATOMIC_RELAXED);
}
/* First byte after the segment: payload may reach up to here. */
static inline uint8_t *zbuf_end(const struct zbuf *zb)
{
    return (uint8_t *)(uintptr_t)zb + zb->size;
}
/* Payload bytes that fit from data on. */
static inline uint32_t zbuf_room(const struct zbuf *zb)
{
    return (uint32_t)(zbuf_end(zb) - zb->data);
}

/* ---- headroom
 * ------------------------------------------------------------------------------------- */

/* Headers may be written right before zb->data only by one sender at a time, and not while a link
 * still owns a frame that begins there. claim: true if the headroom is now yours; the claim ends
 * when the link gives the frame back (zbuf_tx_done) or with zbuf_headroom_release() if it never got
 * there. */
static inline bool zbuf_headroom_claim(struct zbuf *zb)
{
    return __atomic_exchange_n(&zb->headroom_busy, 1, __ATOMIC_ACQUIRE) == 0;
}
static inline void zbuf_headroom_release(struct zbuf *zb)
{
    __atomic_store_n(&zb->headroom_busy, 0, __ATOMIC_RELEASE);
}

/* A link has finished with a descriptor that began at addr: drops the reference that the descriptor
 * held and, if the descriptor began in the headroom, ends the claim on it. */
ZBUF_API void zbuf_tx_done(struct zbuf_pool *pool, const void *addr);

/* ---- what the pool holds
 * -------------------------------------------------------------------------- */

struct zbuf_class_stat {
    uint32_t seg_size;
    uint32_t segs;       /* segments that exist in this class */
    uint32_t free;       /* of them, not allocated */
    uint32_t high_water; /* most ever allocated at once */
    uint64_t allocs;
    uint64_t failures; /* requests of this class that ended in ENOBUFS */
    uint64_t fall_ups; /* requests of this class that took a larger segment */
};
struct zbuf_budget_stat {
    char name[ZBUF_NAME_MAX];
    uint16_t id;
    size_t used, min, max, high_water;
    uint64_t failures;
};
struct zbuf_pool_stat {
    size_t size, used; /* bytes; used counts whole segments */
    enum zbuf_pages pages;
    uint64_t live; /* segments allocated now */
    struct zbuf_class_stat cls[ZBUF_CLASSES];
};
ZBUF_API void zbuf_pool_stat(const struct zbuf_pool *pool, struct zbuf_pool_stat *out);
/* Fills out[] with up to max budgets; returns how many there are. */
ZBUF_API unsigned zbuf_budget_stats(const struct zbuf_pool *pool, struct zbuf_budget_stat *out,
                                    unsigned max);

#ifdef __cplusplus
}
#endif
#endif
