/* region.c - one contiguous piece of memory, aligned to a slab: for segments, and for their
 * headers.
 *
 * Tried in this order: 1 GiB pages where asked for, 2 MiB pages from the system's reserve (there if
 * the administrator has set some aside; nothing is changed to get them), transparent huge pages,
 * ordinary pages. All of it is touched at once, on the node that was asked for: a page fault on the
 * data path would cost more than a thousand segments' worth of bookkeeping, and a shortage is
 * better known now. */
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

/* Linux's values, for headers that are older. */
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif
#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB (30 << 26)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define MPOL_BIND_ 2

#define GIB ((size_t)1 << 30)

const char *zbuf_pages_name(enum zbuf_pages pages)
{
    static const char *const name[] = {"ordinary", "transparent huge", "huge 2M", "huge 1G"};
    return pages < sizeof name / sizeof name[0] ? name[pages] : "?";
}

/* Binds the range to a node before it is touched. The system call itself, as libnuma would be a
 * dependency for this one line. */
static int bind_node(uint8_t *base, size_t size, uint32_t node)
{
    unsigned long mask[16] = {0}; /* 1024 nodes, as many as Linux can be built for */
    const unsigned bits = 8 * sizeof mask[0];
    if (node >= bits * 16)
        return -EINVAL;
    mask[node / bits] = 1ul << node % bits;
    return syscall(SYS_mbind, base, size, MPOL_BIND_, mask, bits * 16ul, 0) == 0 ? 0 : -errno;
}

static int prefault(uint8_t *base, size_t size)
{
    if (madvise(base, size, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL) /* EINVAL: a kernel before 5.14 */
        return -errno;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t off = 0; off < size; off += page)
        *(volatile uint8_t *)(base + off) = 0;
    return 0;
}

static int settle(uint8_t *base, size_t size, const struct zbuf_pool_config *cfg)
{
    int err = cfg->bind_node ? bind_node(base, size, cfg->node) : 0;
    return err ? err : prefault(base, size);
}

/* Maps one slab too much and cuts off what does not lie between two slab boundaries. */
static uint8_t *map_aligned(size_t size)
{
    uint8_t *raw =
        mmap(NULL, size + ZBUF_SLAB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    size_t front = (size_t)(-(uintptr_t)raw & (ZBUF_SLAB - 1));
    if (front)
        munmap(raw, front);
    munmap(raw + front + size, ZBUF_SLAB - front);
    return raw + front;
}

/* The kernel aligns such a mapping by itself, and reserves the pages now. */
static bool map_huge(struct region *r, const struct zbuf_pool_config *cfg, size_t size,
                     enum zbuf_pages pages)
{
    int which = pages == ZBUF_PAGES_HUGE_1G ? MAP_HUGE_1GB : MAP_HUGE_2MB;
    uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | which, -1, 0);
    if (base == MAP_FAILED)
        return false;
    if (settle(base, size, cfg) != 0) {
        munmap(base, size);
        return false;
    }
    *r = (struct region){base, size, pages};
    return true;
}

int region_map_unreserved(struct region *r, const struct zbuf_pool_config *cfg, size_t size)
{
    uint8_t *base = map_aligned(size);
    if (!base)
        return -ENOMEM;
    enum zbuf_pages pages = ZBUF_PAGES_ORDINARY;
    if (!cfg->no_huge && madvise(base, size, MADV_HUGEPAGE) == 0)
        pages = ZBUF_PAGES_TRANSPARENT;
    int err = settle(base, size, cfg);
    if (err) {
        munmap(base, size);
        return err;
    }
    *r = (struct region){base, size, pages};
    return 0;
}

int region_map(struct region *r, const struct zbuf_pool_config *cfg, size_t size)
{
    if (cfg->try_1g && map_huge(r, cfg, (size + GIB - 1) & ~(GIB - 1), ZBUF_PAGES_HUGE_1G))
        return 0;
    if (!cfg->no_huge && map_huge(r, cfg, size, ZBUF_PAGES_HUGE_2M))
        return 0;
    return region_map_unreserved(r, cfg, size);
}

void region_unmap(struct region *r)
{
    munmap(r->base, r->size);
    r->base = NULL;
}
