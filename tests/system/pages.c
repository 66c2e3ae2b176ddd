/* pages.c - a process with a pool made as it is told, for others to look at its pages.
 *
 *   pages [1g] [nohuge] [node=N] [mib=N]
 *
 * Prints what kind of pages zest says they are, and where the headers and the region are, as /proc
 * has it, or the error; then waits until its standard input ends. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zbuf/zbuf.h"

int main(int argc, char **argv)
{
    struct zbuf_pool_config cfg = {.size = 32u << 20};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "1g") == 0) {
            cfg.try_1g = true;
        } else if (strcmp(argv[i], "nohuge") == 0) {
            cfg.no_huge = true;
        } else if (strncmp(argv[i], "node=", 5) == 0) {
            cfg.bind_node = true;
            cfg.node = (uint32_t)strtoul(argv[i] + 5, NULL, 10);
        } else if (strncmp(argv[i], "mib=", 4) == 0) {
            cfg.size = strtoul(argv[i] + 4, NULL, 10) << 20;
        } else {
            return 2;
        }
    }
    struct zbuf_pool *pool = zbuf_pool_create(&cfg);
    if (!pool) {
        printf("refused: %s\n", strerror(errno));
        return 1;
    }
    struct zbuf *first = zbuf_alloc(pool, 1); /* nobody else has one: its header is the first */
    printf("%s: %zu MiB with headers from %lx at %lx\n", zbuf_pages_name(zbuf_pool_pages(pool)),
           zbuf_pool_size(pool) >> 20, (unsigned long)(uintptr_t)first,
           (unsigned long)(uintptr_t)zbuf_pool_base(pool));
    zbuf_free(first);
    fflush(stdout);
    char c;
    while (read(0, &c, 1) > 0)
        continue;
    return zbuf_pool_destroy(pool) == 0 ? 0 : 1;
}
