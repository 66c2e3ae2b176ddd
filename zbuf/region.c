/* region.c - one contiguous piece of memory, aligned to a slab.
 *
 * Tried in this order: 2 MiB pages from the system's reserve (there if the administrator has set
 * some aside; nothing is changed to get them), transparent huge pages, ordinary pages. All of it is
 * touched at once: a page fault on the data path would cost more than a thousand packets' worth of
 * bookkeeping, and a shortage is better known now. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

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

/* Maps one slab too much and cuts off what does not lie between two slab boundaries. */
static uint8_t *map_aligned(size_t size)
{
    uint8_t *raw = mmap(NULL, size + ZBUF_SLAB, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    size_t front = (size_t)(-(uintptr_t)raw & (ZBUF_SLAB - 1));
    if (front)
        munmap(raw, front);
    munmap(raw + front + size, ZBUF_SLAB - front);
    return raw + front;
}

int region_map(struct region *r, size_t size, bool try_huge)
{
    if (try_huge) {
        /* The kernel aligns a mapping of 2 MiB pages by itself. Pages are reserved by mmap, so
         * touching them can't fail. */
        uint8_t *huge = mmap(NULL, size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
        if (huge != MAP_FAILED) {
            if (prefault(huge, size) == 0) {
                *r = (struct region){huge, size, ZBUF_PAGES_HUGE_2M};
                return 0;
            }
            munmap(huge, size);
        }
    }
    uint8_t *base = map_aligned(size);
    if (!base)
        return -ENOMEM;
    enum zbuf_pages pages = ZBUF_PAGES_ORDINARY;
    if (try_huge && madvise(base, size, MADV_HUGEPAGE) == 0)
        pages = ZBUF_PAGES_TRANSPARENT;
    if (prefault(base, size) != 0) {
        munmap(base, size);
        return -ENOMEM;
    }
    *r = (struct region){base, size, pages};
    return 0;
}

void region_unmap(struct region *r)
{
    munmap(r->base, r->size);
    r->base = NULL;
}
