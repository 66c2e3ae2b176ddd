/* starve.c - allocations that fail, and those that must not. The linker sends every call of the
 * stack and of its links to the pool through here (--wrap).
 *
 * Whatever else goes on, a budget that has used less than its minimum is never refused: that is
 * what every guarantee of the stack's rests on (control packets, the receive ring, listeners,
 * connections), and is looked at here for each refusal. */
#include "sim.h"

#include "zbuf/internal.h"

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

static const struct zbuf_budget_stat *stat_of(struct zbuf_budget *b)
{
    static struct zbuf_budget_stat st[256];
    unsigned n = zbuf_budget_stats(b->pool, st, 256);
    for (unsigned i = 0; i < n && i < 256; i++)
        if (st[i].id == zbuf_budget_id(b))
            return &st[i];
    die("a budget that is not there");
}

/* What was just refused must not be within a minimum. The guarantee is in segments of one size:
 * others that are held count against ceilings only. */
static void must_not_be_promised(struct zbuf_budget *b, size_t seg, bool exact)
{
    const struct zbuf_budget_stat *st = stat_of(b);
    if (exact ? seg != st->min_seg : seg > st->min_seg)
        return;
    if (st->used + st->min_seg <= st->min)
        die("budget '%s' holds %zu of %zu that it is guaranteed, and is refused %zu more", st->name,
            st->used, st->min, seg);
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
    if (fails())
        return NULL;
    struct zbuf *zb = __real_zbuf_alloc_from(budget, bytes);
    if (!zb)
        must_not_be_promised(budget, bytes + ZBUF_OVERHEAD, false);
    return zb;
}

int __real_zbuf_charge(struct zbuf *zb, struct zbuf_budget *to);
int __wrap_zbuf_charge(struct zbuf *zb, struct zbuf_budget *to);
int __wrap_zbuf_charge(struct zbuf *zb, struct zbuf_budget *to)
{
    if (fails())
        return -ENOBUFS;
    int err = __real_zbuf_charge(zb, to);
    if (err < 0)
        must_not_be_promised(to, zb->size, true);
    return err;
}
