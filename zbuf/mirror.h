/* mirror.h - what a pool shows to other processes, and how it lies in the shared file.
 *
 * The file is a memfd, found by its name among the open files of the process: nothing is left
 * behind by a process that is killed. The pool writes its accounts there whenever it has changed
 * them; it never reads it, so whatever happens to the file can't hurt it. `seq` is odd while it is
 * being written. */
#ifndef ZBUF_MIRROR_H
#define ZBUF_MIRROR_H

#include "internal.h"

#define MIRROR_NAME    "zbuf-pool"
#define MIRROR_MAGIC   0x6c6f6f7066756262ull
#define MIRROR_VERSION 6u /* of all that others read: transit.c looks at caches, too */

struct mirror {
    uint64_t magic;
    uint32_t version, stat_size, budget_size, side_size;
    uint32_t seq;
    uint32_t closed;
    uint64_t clock_ns, written_ns; /* the pool's time, and CLOCK_MONOTONIC, when last written */
    /* Where things are in the other process. */
    uint64_t base, header, slab_cls, live, birth, side, depots, caches;
    uint32_t slabs, budgets_used;
    struct zbuf_pool_stat pool;
    struct zbuf_budget_stat budget[ZBUF_BUDGETS]; /* by id; name[0] and id 0 if not in use */
    uint8_t open[ZBUF_BUDGETS];
};

#endif
