/* zbuf.h - the memory that zest sends from and receives into.
 *
 * One contiguous region, aligned to a slab (2 MiB), is cut into slabs, and each slab into segments
 * of one size class: 1K, 2K, 4K ... 128K. A segment is aligned to its size, so any address inside
 * one leads to its header by a table look-up and a shift. The region is also the AF_XDP UMEM: what
 * lies in it can be sent, and received into, without a copy.
 *
 *   segment:  | guard (64 bytes) | headroom (128 bytes) | payload ...                        |
 *             ^ zb->first, aligned to its size          ^ zb->data after zbuf_alloc()
 *
 * The headroom takes the link, IP and TCP headers right in front of the payload. The guard is
 * nobody's. A segment's header, struct zbuf, lies with all others in a place of their own.
 *
 * Ownership: zbuf_alloc() gives one reference; zbuf_ref() another; zbuf_free() gives one back, and
 * the last one returns the segment to its class. Whoever holds a reference may read; only the
 * holder who knows it is alone may write.
 *
 * Threads: everything here may be called from any thread, and a segment may be freed on another
 * thread than it was allocated on. What a thread frees it keeps at hand for its own next
 * allocations, out of reach of nobody: when memory is short, whoever is short takes it back.
 *
 * Errors: functions that return int give 0 or -errno; those that return a pointer give NULL and set
 * errno. Running out is ENOBUFS, at once, with nothing changed. Misuse (a second free, a foreign
 * pointer) is a bug: it prints what it knows of the segment and aborts. A second free of what is on
 * its way to another thread is found late, or by debug mode (docs/memory.md).
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

#define ZBUF_SEG_MIN  1024u   /* smallest segment */
#define ZBUF_SEG_MAX  131072u /* largest segment */
#define ZBUF_CLASSES  8u      /* 1K 2K 4K 8K 16K 32K 64K 128K */
#define ZBUF_SLAB     2097152u
#define ZBUF_HEADER   64u /* struct zbuf: as many bytes for each KiB of the region, outside of it */
#define ZBUF_GUARD    64u /* at the front of each segment: debug mode sees who writes there */
#define ZBUF_HEADROOM 128u /* for protocol headers, right after it */
#define ZBUF_OVERHEAD (ZBUF_GUARD + ZBUF_HEADROOM)
#define ZBUF_BUDGETS  16384u /* budgets a pool can have */
#define ZBUF_NAME_MAX 24u

struct zbuf_pool;

/* What a link says of the checksum of the TCP segment in a received frame. */
enum {
    ZBUF_CSUM_UNKNOWN, /* look yourself */
    ZBUF_CSUM_VALID,   /* it is right */
    ZBUF_CSUM_PARTIAL  /* it is not there: the sender is this machine, and left it out */
};

/* The header of a segment. Read it freely; write only `len`. As it is outside of the segment,
 * neither a write past the end of another one nor a network card gets at it. */
struct zbuf {
    uint32_t size;       /* of the whole segment, a class size */
    uint32_t generation; /* another with each life in which the header was written to */
    uint32_t refcount;   /* use zbuf_refcount(): threads may change it */
    uint32_t len;        /* payload bytes, where the holder keeps count (received frames, chains) */
    uint8_t *data;       /* first address of the payload */
    uint16_t owner;      /* budget it is charged to, see zbuf_budget_id() */
    uint8_t cls;         /* size class, 0 = 1K */
    uint8_t flags;       /* private to zbuf/ */
    uint8_t headroom_busy; /* a link owns a frame whose headers lie in this headroom */
    uint8_t rx_csum;       /* ZBUF_CSUM_: set by a link that received it, for the stack */
    uint8_t pad[2];
    struct zbuf *next; /* next of a chain, or of whatever list the holder keeps */
    uint64_t priv;     /* private to zbuf/: zbuf_set_holder(), or what a borrowed link holds */
    uint8_t *first;    /* first address of the segment; a multiple of its size */
    uint64_t user;     /* for the holder's own use */
};

/* ---- the pool
 * ------------------------------------------------------------------------------------- */

struct zbuf_pool_config {
    size_t size;     /* of the region; rounded up to slabs; 0 = 64 MiB */
    bool no_huge;    /* do not try huge pages */
    bool try_1g;     /* try 1 GiB pages first; if there are any, size is rounded up to them */
    bool bind_node;  /* put the memory on NUMA node `node`, or fail with the kernel's errno */
    bool owned_refs; /* the references of a segment belong to one thread at a time, and are counted
                        without atomic operations. See zbuf_share(). */
    bool debug;      /* find misuse early, at the cost of speed; also with ZBUF_DEBUG=1 in the
                        environment. See docs/memory.md. */
    bool private_stat; /* do not show statistics to other processes */
    uint8_t pad[2];
    uint32_t node;
    const char *name; /* for statistics; copied, cut at ZBUF_NAME_MAX - 1 */
    uint64_t reserved[4];
};

/* What the region was made of. */
enum zbuf_pages {
    ZBUF_PAGES_ORDINARY,
    ZBUF_PAGES_TRANSPARENT,
    ZBUF_PAGES_HUGE_2M,
    ZBUF_PAGES_HUGE_1G
};

/* Makes a pool. NULL config = defaults. NULL and errno (ENOMEM, EINVAL; with bind_node what
 * mbind(2) says) on failure. */
ZBUF_API struct zbuf_pool *zbuf_pool_create(const struct zbuf_pool_config *cfg);
/* Frees the region. Every segment must be home: if not, prints who still holds what, and returns
 * -EBUSY (the region is kept, so that nobody writes into unmapped memory). */
ZBUF_API int zbuf_pool_destroy(struct zbuf_pool *pool);

ZBUF_API uint8_t *zbuf_pool_base(const struct zbuf_pool *pool);
ZBUF_API size_t zbuf_pool_size(const struct zbuf_pool *pool);
ZBUF_API enum zbuf_pages zbuf_pool_pages(const struct zbuf_pool *pool);
/* The pool that a segment is of. */
ZBUF_API struct zbuf_pool *zbuf_pool_of(const struct zbuf *zb);
/* True if addr lies in the region (not necessarily in a live segment). */
ZBUF_API bool zbuf_pool_contains(const struct zbuf_pool *pool, const void *addr);
ZBUF_API const char *zbuf_pages_name(enum zbuf_pages pages);
/* Tells the pool the time, so that segments know when they were allocated: a loop calls it once a
 * turn, with any clock that does not go backwards. Cheap. Without it ages are told to within the
 * time that a thread went without a trip to the shared store. */
ZBUF_API void zbuf_tick(struct zbuf_pool *pool, uint64_t now_ns);

/* ---- budgets
 * -------------------------------------------------------------------------------------- */

/* A consumer of memory. Each segment is charged (its whole size) to one budget from allocation to
 * its return. max is a ceiling. min is set aside: it is there whatever the others do.
 *
 * A promise in bytes could not be kept once others had cut the slabs into other sizes, so a minimum
 * is set aside as segments of one class: 2K unless zbuf_budget_open() is told otherwise. min bytes
 * are min / 2K segments, each for a request of up to 2K. A smaller request is given a smaller
 * segment while there are any, and one of the set-aside after that.
 *
 * Budgets have two levels. What a child uses counts against its parent's ceiling too, and a child's
 * minimum is carved out of its parent's as far as that reaches. It is kept free under the parent's
 * ceiling, too, as long as the minima of all children fit under that. */
struct zbuf_budget;

struct zbuf_budget_config {
    const char *name;           /* copied, cut at ZBUF_NAME_MAX - 1 */
    struct zbuf_budget *parent; /* one that has no parent itself, or NULL */
    size_t min_bytes;           /* set aside; rounded up to segments of min_seg */
    uint32_t min_seg;           /* a class size; 0 = 2048 */
    size_t max_bytes;           /* 0 = no ceiling */
    uint64_t reserved[4];
};
/* NULL and errno: ENOBUFS (min can't be set aside, or too many budgets), EINVAL (also: a minimum
 * that, rounded up, is above the ceiling). */
ZBUF_API struct zbuf_budget *zbuf_budget_open(struct zbuf_pool *pool,
                                              const struct zbuf_budget_config *cfg);
/* Changes minimum and ceiling. 0, or with nothing changed -ENOBUFS when a larger minimum can't be
 * set aside, -EINVAL when it would be, rounded up, above the ceiling. A ceiling below what is in
 * use stops new allocations until enough has come home. */
ZBUF_API int zbuf_budget_resize(struct zbuf_budget *budget, size_t min_bytes, size_t max_bytes);

/* The application's own budget, made with the pool: zbuf_alloc() draws on it. No minimum, no
 * ceiling. */
ZBUF_API struct zbuf_budget *zbuf_budget_app(struct zbuf_pool *pool);
/* name is copied (cut at ZBUF_NAME_MAX - 1). NULL and errno as zbuf_budget_open().
 * max_bytes 0 = no ceiling. */
ZBUF_API struct zbuf_budget *zbuf_budget_create(struct zbuf_pool *pool, const char *name,
                                                size_t min_bytes, size_t max_bytes);
/* 0, or -EBUSY while segments are charged to it or it has children. */
ZBUF_API int zbuf_budget_destroy(struct zbuf_budget *budget);
ZBUF_API uint16_t zbuf_budget_id(const struct zbuf_budget *budget);
/* Its children's use included. Cheap: what other threads did in the last few operations may be
 * missing. */
ZBUF_API size_t zbuf_budget_used(const struct zbuf_budget *budget);
/* How many bytes of segments for `bytes` of payload it could have now, one after the other. An
 * estimate that holds for nobody: others may be quicker. Takes the pool's lock, so not for each
 * segment. */
ZBUF_API size_t zbuf_budget_room(struct zbuf_budget *budget, size_t bytes);
/* Moves the charge for a live segment to another budget: 0, or -ENOBUFS with nothing changed. */
ZBUF_API int zbuf_charge(struct zbuf *zb, struct zbuf_budget *to);
/* Hands a segment on only against a replacement: charges zb to `to` and returns a fresh segment of
 * the same class charged to zb's old budget, or NULL (ENOBUFS) with nothing changed. */
ZBUF_API struct zbuf *zbuf_exchange(struct zbuf *zb, struct zbuf_budget *to);

/* When a request has failed, one of two policies: carry on without, or be told when it is worth
 * another try. zbuf_budget_wait() asks for the latter: 0, and zbuf_budget_ready() will once return
 * true when a request of that size could succeed; or 1: it could right now. Nothing is called back.
 * An owner of many budgets polls zbuf_pool_wakeups() first: it changes whenever any becomes ready.
 * Where several wait on one budget, it is told of the smallest request; each then asks again.
 * Being ready promises nothing: another may be quicker. While somebody waits, every free goes
 * straight to the shared store, which is slower. */
ZBUF_API int zbuf_budget_wait(struct zbuf_budget *budget, size_t bytes);
ZBUF_API bool zbuf_budget_ready(struct zbuf_budget *budget);
ZBUF_API void zbuf_budget_wait_cancel(struct zbuf_budget *budget);
ZBUF_API uint32_t zbuf_pool_wakeups(const struct zbuf_pool *pool);
/* For those who sleep in poll(): an eventfd, made at the first call and closed with the pool, that
 * becomes readable when a budget becomes ready. Read it to reset it. -errno. */
ZBUF_API int zbuf_pool_wakeup_fd(struct zbuf_pool *pool);

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
 * or in the guard before the headroom). O(1). */
ZBUF_API struct zbuf *zbuf_of(const struct zbuf_pool *pool, const void *addr);

ZBUF_API struct zbuf *zbuf_ref(struct zbuf *zb); /* takes one more reference; returns zb */

/* In a pool made with owned_refs: from now on references to zb are counted atomically, until its
 * last one is given back. Call it before a second thread gets a reference of its own. Handing the
 * only reference over to another thread needs no call. Without owned_refs: does nothing. */
ZBUF_API void zbuf_share(struct zbuf *zb);

static inline uint32_t zbuf_refcount(const struct zbuf *zb)
{
    return __atomic_load_n(&zb->refcount, __ATOMIC_RELAXED);
}
/* First byte after the segment: payload may reach up to here. */
static inline uint8_t *zbuf_end(const struct zbuf *zb)
{
    return zb->first + zb->size;
}
#define ZBUF_FLAG_BORROWED 2u /* a chain's link whose payload lies in another segment */
/* Payload bytes that fit from data on. Into a borrowed link nothing may be written. */
static inline uint32_t zbuf_room(const struct zbuf *zb)
{
    return zb->flags & ZBUF_FLAG_BORROWED ? 0 : (uint32_t)(zbuf_end(zb) - zb->data);
}

/* Notes who holds the segment, for zbuf_holders(): 48 bits that the holder makes something of (a
 * stack's connection: see zest_holder_addr()). It is forgotten when the segment is freed. */
static inline void zbuf_set_holder(struct zbuf *zb, uint64_t who)
{
    if (!(zb->flags & ZBUF_FLAG_BORROWED))
        __atomic_store_n(&zb->priv, who << 16 | (uint16_t)zb->generation, __ATOMIC_RELAXED);
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

/* ---- chains
 * ------------------------------------------------------------------------------------- */

/* A chain is a list of segments by `next`; the payload of each is data, len. A single zbuf is a
 * chain of one. To send one, write each link: zest_write(z, conn, zb->data, zb->len).
 *
 * A link may borrow: its data lie in another segment, on which it holds a reference. Splitting
 * inside a segment and cloning make such links; each is a 1K segment of its own, and nothing is
 * copied. zbuf_of(link->data) is the segment lent from, which is what a stack wants to hold. */

/* A chain with room for `bytes`, every len set as if it were filled. frame 0: as few segments as
 * possible. frame n: links of n bytes each (an MSS: each goes out as one frame, with its headers in
 * its own headroom). NULL: errno ENOBUFS, nothing taken, or EMSGSIZE (frame too large, or more than
 * ZBUF_CHAIN_MAX links). bytes 0 is one empty link. */
#define ZBUF_CHAIN_MAX 65536u
ZBUF_API struct zbuf *zbuf_chain_alloc(struct zbuf_budget *budget, size_t bytes, uint32_t frame);
ZBUF_API void zbuf_chain_free(struct zbuf *chain); /* one reference of each link; NULL is allowed */
ZBUF_API size_t zbuf_chain_len(const struct zbuf *chain);     /* bytes */
ZBUF_API unsigned zbuf_chain_count(const struct zbuf *chain); /* links */
ZBUF_API struct zbuf *zbuf_chain_last(struct zbuf *chain);
ZBUF_API void zbuf_chain_append(struct zbuf *chain, struct zbuf *tail); /* takes tail over */
/* Where byte `off` is: its link, and in *at the offset there. NULL if the chain is shorter. */
ZBUF_API struct zbuf *zbuf_chain_at(struct zbuf *chain, size_t off, uint32_t *at);
/* Cuts at byte `off`, 0 < off < length, and stores the second part in *tail. If that is inside a
 * link, the tail begins with a borrowed one charged to budget. 0, -EINVAL, -ENOBUFS. */
ZBUF_API int zbuf_chain_split(struct zbuf *chain, size_t off, struct zbuf_budget *budget,
                              struct zbuf **tail);
/* Drops bytes at the front (back); links that become empty are freed, except the last one left.
 * Returns the chain's new first link. bytes is cut to the length. */
ZBUF_API struct zbuf *zbuf_chain_trim_front(struct zbuf *chain, size_t bytes);
ZBUF_API struct zbuf *zbuf_chain_trim_back(struct zbuf *chain, size_t bytes);
/* Copies out of (into) the chain from byte `off`; returns how many bytes there were. Borrowed links
 * are not written to: copy_in stops there. */
ZBUF_API size_t zbuf_chain_copy_out(const struct zbuf *chain, size_t off, void *dst, size_t len);
ZBUF_API size_t zbuf_chain_copy_in(struct zbuf *chain, size_t off, const void *src, size_t len);
/* A second chain over the same bytes, by reference. NULL (ENOBUFS), nothing taken. */
ZBUF_API struct zbuf *zbuf_chain_clone(const struct zbuf *chain, struct zbuf_budget *budget);

/* ---- bytes that change too early
 * --------------------------------------------------------------- */

/* The classic zero-copy bug is to change bytes between write and acknowledgement. In debug mode
 * (otherwise they do nothing) whoever sends from memory calls begin when it is given the bytes and
 * end when it lets go of them, for the same or any smaller pieces. If a byte changed in between,
 * the pool prints the segment, the offset and `who`, and aborts. */
ZBUF_API bool zbuf_debugging(const struct zbuf_pool *pool);
ZBUF_API void zbuf_watch_begin(struct zbuf_pool *pool, const void *addr, size_t len,
                               const char *who);
ZBUF_API void zbuf_watch_end(struct zbuf_pool *pool, const void *addr, size_t len, const char *who);
/* Debug mode looks for damage (overwritten headers, writes to freed memory) in the whole pool; if
 * there is any, prints it and aborts. */
ZBUF_API void zbuf_debug_check(struct zbuf_pool *pool);

/* ---- what the pool holds
 * -------------------------------------------------------------------------- */

struct zbuf_class_stat {
    uint32_t seg_size;
    uint32_t segs;       /* segments that exist in this class */
    uint32_t free;       /* of them, not allocated */
    uint32_t high_water; /* most ever allocated at once */
    uint64_t allocs;
    uint64_t failures;      /* requests of this class that ended in ENOBUFS */
    uint64_t fall_ups;      /* requests of this class that took a larger segment */
    uint64_t fall_up_waste; /* bytes by which those were larger */
    uint32_t slabs;         /* that the class has now */
    uint32_t set_aside;     /* of free, kept for minima that are not used up */
    uint64_t grown, shrunk; /* slabs it was given, and gave up */
};
struct zbuf_budget_stat {
    char name[ZBUF_NAME_MAX];
    uint16_t id;
    size_t used, min, max, high_water; /* used: children included */
    uint64_t failures;
    uint16_t parent;  /* id; its own if it has none */
    uint16_t waiting; /* 1: asked to be woken */
    uint32_t min_seg;
    uint64_t fall_ups; /* requests that took a segment larger than the best-fitting */
};
struct zbuf_pool_stat {
    size_t size, used; /* bytes; used counts whole segments */
    enum zbuf_pages pages;
    uint64_t live; /* segments allocated now */
    struct zbuf_class_stat cls[ZBUF_CLASSES];
    char name[ZBUF_NAME_MAX];
    uint32_t slabs, slabs_free;
    uint64_t drains; /* times that memory at hand in threads had to be called back */
    bool debug;
};
ZBUF_API void zbuf_pool_stat(const struct zbuf_pool *pool, struct zbuf_pool_stat *out);
/* Fills out[] with up to max budgets; returns how many there are. */
ZBUF_API unsigned zbuf_budget_stats(const struct zbuf_pool *pool, struct zbuf_budget_stat *out,
                                    unsigned max);

/* Who holds what. */
struct zbuf_holder {
    uint64_t addr; /* of the segment */
    uint32_t size, refcount, generation, len;
    uint16_t owner; /* budget id */
    uint16_t pad[3];
    uint64_t user;   /* what the holder keeps in its header */
    uint64_t age_ns; /* since allocation, see zbuf_tick() */
    uint64_t site;   /* debug mode: address of the call that allocated it; else 0 */
    uint64_t who;    /* zbuf_set_holder(); 0 = nobody did */
};
/* Fills out[] with up to max live segments, the oldest ones, oldest first; returns how many are
 * live. Walks the whole pool: not for the data path. */
ZBUF_API unsigned zbuf_holders(const struct zbuf_pool *pool, struct zbuf_holder *out, unsigned max);
/* The live segments of a class or a budget: how many, and how old the oldest is. */
struct zbuf_age {
    uint64_t segs, bytes;
    uint64_t oldest_ns; /* 0 if there are none */
};
/* Adds up all live segments: cls[ZBUF_CLASSES], and budget[] by id, for ids below n. Either may be
 * NULL. Returns how many are live. Walks the whole pool. */
ZBUF_API unsigned zbuf_ages(const struct zbuf_pool *pool, struct zbuf_age *cls,
                            struct zbuf_age *budget, unsigned n);

/* The same for another process, by its pid, while it runs, whatever state its pool is in. It costs
 * that process nothing. index counts its pools from 0. open: 0, -ESRCH (no such process), -ENOENT
 * (no such pool, or private_stat), -EPROTO (another version of zest), -EACCES. */
struct zbuf_reader;
ZBUF_API int zbuf_reader_open(int pid, unsigned index, struct zbuf_reader **out);
ZBUF_API void zbuf_reader_close(struct zbuf_reader *rd);
/* 0, or -ESTALE if the pool has gone. What threads have at hand counts as of their last trip to the
 * shared store. */
ZBUF_API int zbuf_reader_pool_stat(const struct zbuf_reader *rd, struct zbuf_pool_stat *out);
ZBUF_API int zbuf_reader_budget_stats(const struct zbuf_reader *rd, struct zbuf_budget_stat *out,
                                      unsigned max); /* how many there are, or -ESTALE */
/* Reads the segments' headers in the other process: exact, but needs the right to trace it. How
 * many are live, or -EPERM, -ESTALE. */
ZBUF_API int zbuf_reader_holders(const struct zbuf_reader *rd, struct zbuf_holder *out,
                                 unsigned max);
ZBUF_API int zbuf_reader_ages(const struct zbuf_reader *rd, struct zbuf_age *cls,
                              struct zbuf_age *budget, unsigned n);

#ifdef __cplusplus
}
#endif
#endif
