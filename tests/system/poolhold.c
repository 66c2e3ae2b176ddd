/* poolhold.c - a process with a pool and nothing else, for zest stat to look at.
 *
 *   poolhold [exhaust] [private] [debug]
 *
 * It holds ten segments of a budget "listener", one of them for the connection with 10.1.2.3:4567;
 * with `exhaust`, all that is left, too, and has been refused more. Prints "ready" and waits until
 * its standard input ends. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "zbuf/zbuf.h"

static bool asked(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    static struct zbuf *zb[8192];
    struct zbuf_pool_config cfg = {.size = 8u << 20,
                                   .no_huge = true,
                                   .name = "a \"pool\"",
                                   .private_stat = asked(argc, argv, "private"),
                                   .debug = asked(argc, argv, "debug")};
    struct zbuf_pool *pool = zbuf_pool_create(&cfg);
    struct zbuf_budget *b = pool ? zbuf_budget_create(pool, "listener", 64 * 2048, 1u << 20) : NULL;
    if (!b || zbuf_alloc_bulk(b, 2048 - ZBUF_OVERHEAD, zb, 10) != 10)
        return 1;
    zbuf_set_holder(zb[0], 0x0a010203ull << 16 | 4567);
    if (asked(argc, argv, "exhaust")) {
        unsigned n = 10;
        n += zbuf_alloc_bulk(zbuf_budget_app(pool), 2048 - ZBUF_OVERHEAD, zb + n, 8192 - n);
        if (n == 8192 || zbuf_alloc(pool, 1000))
            return 1;
    }
    puts("ready");
    fflush(stdout);
    char c;
    while (read(0, &c, 1) > 0)
        continue;
    return 0;
}
