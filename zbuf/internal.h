/* internal.h - what the files of zbuf/ share. Not installed, not for other rooms. */
#ifndef ZBUF_INTERNAL_H
#define ZBUF_INTERNAL_H

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "zbuf.h"

static_assert(sizeof(struct zbuf) == ZBUF_HEADER, "the header is one cache line");
static_assert(ZBUF_SEG_MIN << (ZBUF_CLASSES - 1) == ZBUF_SEG_MAX, "classes are powers of two");
static_assert(ZBUF_SLAB % ZBUF_SEG_MAX == 0, "segments tile a slab");

#define SLAB_SHIFT    21
#define SEG_MIN_SHIFT 10
#define CLASS_NONE    0xff

static inline uint32_t class_size(unsigned cls)
{
    return ZBUF_SEG_MIN << cls;
}

struct region {
    uint8_t *base;
    size_t size;
    enum zbuf_pages pages;
};

struct class
{
    struct zbuf *free_list;
    struct zbuf_class_stat stat;
};

struct zbuf_budget {
    struct zbuf_pool *pool;
    struct zbuf_budget_stat stat;
    bool open;
};

struct zbuf_pool {
    struct region region;
    uint8_t *slab_class; /* of each slab; CLASS_NONE = free */
    uint32_t slabs, slabs_used;
    pthread_mutex_t lock;
    size_t used, committed; /* committed: sum over budgets of max(used, min) */
    uint64_t live;
    struct class cls[ZBUF_CLASSES];
    struct zbuf_budget budget[ZBUF_BUDGETS];
};

int region_map(struct region *r, size_t size, bool try_huge);
void region_unmap(struct region *r);

/* Prints what is known of the segment that addr lies in, and aborts. */
_Noreturn void zbuf_misuse(const struct zbuf_pool *pool, const void *addr, const char *what);

#endif
