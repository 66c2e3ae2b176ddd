/* misuse.c - the last words about a bug in the use of a pool, and the list of what was not given
 * back. */
#include <execinfo.h>
#include <stdio.h>
#include <unistd.h>

#include "internal.h"

#define LEAKS_SHOWN 16u

static const char *owner_name(const struct zbuf_pool *pool, uint16_t owner)
{
    return owner < pool->budgets_used ? pool->budget[owner].name : "?";
}

static void print_site(uint64_t site)
{
    if (!site)
        return;
    void *addr = pointer(site);
    fputs(", allocated by ", stderr);
    fflush(stderr);
    backtrace_symbols_fd(&addr, 1, STDERR_FILENO); /* ends the line */
}

/* Its age is left out where clocks don't tell. */
static void print_age(uint64_t age_ns)
{
    fprintf(stderr, ", age %llu.%03llu s", (unsigned long long)(age_ns / 1000000000u),
            (unsigned long long)(age_ns / 1000000u % 1000u));
}

_Noreturn void zbuf_misuse(const struct zbuf_pool *pool, const void *addr, const char *what)
{
    unsigned cls;
    if (!pool)
        pool = pool_of_addr(addr);
    const struct zbuf *zb = NULL;
    size_t offset = 0; /* in the segment; also of its header */
    if (pool && pool_has(pool, addr)) {
        zb = pool_seg_is(pool, addr, &cls) ? addr : NULL;
    } else if (pool) {
        zb = pool_seg(pool, addr, &cls);
        offset = zb ? (uintptr_t)addr % class_size(cls) : 0;
    }
    fprintf(stderr, "zbuf: %s: address %p", what, addr);
    if (pool && !zb)
        fputs(zbuf_pool_contains(pool, addr) ? ", in a slab that is not in use"
                                             : ", a header that is not in use",
              stderr);
    else if (!zb)
        fputs(", in no pool's region", stderr);
    if (zb) {
        uint64_t now = clock_now(pool);
        const struct debug_side *side = debug_side_of(pool, zb);
        uint16_t owner = side ? side->owner : zb->owner;
        fprintf(stderr,
                ", offset %zu in %s segment %p of class %u bytes, refcount %u, owner %u (%s), "
                "generation %u",
                offset, is_live(pool, zb) ? "live" : "free", (const void *)pool_first(pool, zb),
                class_size(cls), zbuf_refcount(zb), owner, owner_name(pool, owner), zb->generation);
        if (is_live(pool, zb))
            print_age(age_of(pool->birth[pool_unit(pool, zb)], now));
        print_site(side ? side->site : 0);
    }
    fputc('\n', stderr);
    abort();
}

void zbuf_leaks(struct zbuf_pool *pool, const char *when)
{
    struct zbuf_holder oldest[LEAKS_SHOWN];
    struct zbuf_pool_stat st;
    zbuf_pool_stat(pool, &st);
    fprintf(stderr, "zbuf: pool%s%s %s with %llu segments (%zu bytes) still held:\n",
            *pool->name ? " " : "", pool->name, when, (unsigned long long)st.live, st.used);
    pool_lock(pool);
    for (unsigned i = 0; i < pool->budgets_used; i++) {
        const struct zbuf_budget *b = &pool->budget[i];
        if (!b->open)
            continue;
        uint64_t bytes = 0, n = 0;
        for (unsigned c = 0; c < ZBUF_CLASSES; c++) {
            n += b->held[c];
            bytes += (uint64_t)b->held[c] * class_size(c);
        }
        if (n)
            fprintf(stderr, "zbuf:   %s holds %llu segments, %llu bytes\n", b->name,
                    (unsigned long long)n, (unsigned long long)bytes);
    }
    pool_unlock(pool);
    unsigned live = zbuf_holders(pool, oldest, LEAKS_SHOWN);
    for (unsigned i = 0; i < live && i < LEAKS_SHOWN; i++) {
        fprintf(stderr, "zbuf:   %p: %u bytes, refcount %u, owner %s", pointer(oldest[i].addr),
                oldest[i].size, oldest[i].refcount, owner_name(pool, oldest[i].owner));
        print_age(oldest[i].age_ns);
        print_site(oldest[i].site);
        if (!oldest[i].site)
            fputc('\n', stderr);
    }
    if (live > LEAKS_SHOWN)
        fprintf(stderr, "zbuf:   and %u more\n", live - LEAKS_SHOWN);
}
