/* starve.c - allocations that fail. The linker sends every call of the stack to the pool through
 * here (--wrap). */
#include "sim.h"

#include <errno.h>

static struct {
    uint32_t ppm, nth, calls;
    struct rng rng;
    bool paused;
} starve;

void starve_set(uint32_t ppm, uint32_t nth, uint64_t seed)
{
    starve.ppm = ppm;
    starve.nth = nth;
    starve.calls = 0;
    starve.paused = false;
    starve.rng = rng_seed(seed);
}

void starve_pause(bool pause)
{
    starve.paused = pause;
}

static bool fails(void)
{
    if (starve.paused || (!starve.ppm && !starve.nth))
        return false;
    if (++starve.calls != starve.nth && !rng_chance(&starve.rng, starve.ppm))
        return false;
    count(F_alloc_failed);
    errno = ENOBUFS;
    return true;
}

struct zbuf *__real_zbuf_alloc(struct zbuf_pool *pool, size_t bytes);
struct zbuf *__wrap_zbuf_alloc(struct zbuf_pool *pool, size_t bytes);
struct zbuf *__wrap_zbuf_alloc(struct zbuf_pool *pool, size_t bytes)
{
    return fails() ? NULL : __real_zbuf_alloc(pool, bytes);
}

struct zbuf *__real_zbuf_alloc_from(struct zbuf_budget *budget, size_t bytes);
struct zbuf *__wrap_zbuf_alloc_from(struct zbuf_budget *budget, size_t bytes);
struct zbuf *__wrap_zbuf_alloc_from(struct zbuf_budget *budget, size_t bytes)
{
    return fails() ? NULL : __real_zbuf_alloc_from(budget, bytes);
}

int __real_zbuf_charge(struct zbuf *zb, struct zbuf_budget *to);
int __wrap_zbuf_charge(struct zbuf *zb, struct zbuf_budget *to);
int __wrap_zbuf_charge(struct zbuf *zb, struct zbuf_budget *to)
{
    return fails() ? -ENOBUFS : __real_zbuf_charge(zb, to);
}
