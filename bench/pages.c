/* pages.c - what a pool costs on each kind of pages: ordinary, transparent huge, 2 MiB from the
 * system's reserve, 1 GiB.
 *
 *   pages      on one core; a visit is one line of one of 16384 segments of 4K, in random order
 *
 * Nothing of the system is changed to get pages. What is not to be had is said, with what to type
 * to get it. A pool takes reserved pages before transparent ones: so that these can be measured
 * beside them, the reserve is held (not touched) while such a pool is made. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "zbuf/zbuf.h"

#define RUNS   7
#define VISITS 16384u
#define ROUNDS 10u
#define SIZE   ((size_t)64 << 20)
#define KINDS  4u /* enum zbuf_pages */

static const struct {
    unsigned long kb, needed; /* reserved pages: their size, and how many the pool takes */
    int map;
} reserve[KINDS] = {[ZBUF_PAGES_HUGE_2M] = {2048, SIZE >> 21, 21 << 26 /* MAP_HUGE_2MB */},
                    [ZBUF_PAGES_HUGE_1G] = {1048576, 1, 30 << 26 /* MAP_HUGE_1GB */}};

static double now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(const double *v)
{
    double sorted[RUNS];
    memcpy(sorted, v, sizeof sorted);
    qsort(sorted, RUNS, sizeof *sorted, by_value);
    return sorted[RUNS / 2];
}

/* How many reserved pages are free (total: there are); -1 if this machine has none of the size. */
static long reserved(unsigned kind, const char *what)
{
    char path[128];
    long n = -1;
    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%lukB/%s_hugepages",
             reserve[kind].kb, what);
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    if (fscanf(f, "%ld", &n) != 1)
        n = -1;
    fclose(f);
    return n;
}

/* Each segment holds the address of the next: so each is known only when the one before has been
 * read. */
static double visit(struct zbuf_pool *pool)
{
    static struct zbuf *zb[VISITS];
    unsigned n = zbuf_alloc_bulk(zbuf_budget_app(pool), 4096 - ZBUF_OVERHEAD, zb, VISITS);
    uint64_t x = 88172645463325252u;
    for (unsigned i = n; i > 1; i--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        unsigned k = (unsigned)(x % (i - 1));
        struct zbuf *t = zb[k];
        zb[k] = zb[i - 1];
        zb[i - 1] = t;
    }
    for (unsigned i = 0; i < n; i++) { /* not all at one place in their page */
        unsigned k = i + 1 < n ? i + 1 : 0;
        void *next = zb[k]->data + (k % 56) * 64;
        memcpy(zb[i]->data + (i % 56) * 64, &next, sizeof next);
    }
    void *volatile start = zb[0]->data;
    void **at = start;
    double t = now_ns();
    for (unsigned r = 0; r < ROUNDS * n; r++)
        at = *at;
    t = now_ns() - t;
    start = at;
    zbuf_free_bulk(zb, n);
    return t / (ROUNDS * n);
}

/* What one pool cost; false if it is not on pages of that kind. */
static bool measure(enum zbuf_pages kind, double *create_ms, double *visit_ns)
{
    void *held = MAP_FAILED;
    long unused = kind == ZBUF_PAGES_TRANSPARENT ? reserved(ZBUF_PAGES_HUGE_2M, "free") : 0;
    size_t hold = unused > 0 ? (size_t)unused << 21 : 0;
    if (hold)
        held = mmap(NULL, hold, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | reserve[ZBUF_PAGES_HUGE_2M].map, -1,
                    0);
    double t = now_ns();
    struct zbuf_pool *pool =
        zbuf_pool_create(&(struct zbuf_pool_config){.size = SIZE,
                                                    .no_huge = kind == ZBUF_PAGES_ORDINARY,
                                                    .try_1g = kind == ZBUF_PAGES_HUGE_1G,
                                                    .private_stat = true});
    *create_ms = (now_ns() - t) / 1e6;
    if (held != MAP_FAILED)
        munmap(held, hold);
    if (!pool)
        return false;
    bool got = zbuf_pool_pages(pool) == kind;
    if (got)
        *visit_ns = visit(pool);
    return zbuf_pool_destroy(pool) == 0 && got;
}

static void none(enum zbuf_pages kind)
{
    printf("{\"name\":\"mem_visit\",\"unit\":\"ns\",\"value\":null,\"mode\":\"%s pages\",",
           zbuf_pages_name(kind));
    if (!reserve[kind].kb)
        printf("\"why\":\"the kernel gives none: see "
               "/sys/kernel/mm/transparent_hugepage/enabled\"}\n");
    else if (reserved(kind, "nr") < 0)
        printf("\"why\":\"this kernel or processor has none\"}\n");
    else
        printf("\"why\":\"%ld of %ld free, %lu needed; as root: echo %ld "
               ">/sys/kernel/mm/hugepages/hugepages-%lukB/nr_hugepages\"}\n",
               reserved(kind, "free"), reserved(kind, "nr"), reserve[kind].needed,
               reserved(kind, "nr") + (long)reserve[kind].needed, reserve[kind].kb);
}

static void line(const char *name, const char *unit, enum zbuf_pages kind, double value,
                 const double *transparent)
{
    printf("{\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.2f", name, unit, value);
    if (transparent)
        printf(",\"peer\":\"transparent huge pages\",\"peer_value\":%.2f,\"ratio\":%.2f",
               *transparent, value / *transparent);
    printf(",\"mode\":\"%s pages, region of %u MiB, all touched; core 0, median of %d\"}\n",
           zbuf_pages_name(kind), kind == ZBUF_PAGES_HUGE_1G ? 1024 : (unsigned)(SIZE >> 20), RUNS);
}

int main(void)
{
    double create[KINDS][RUNS], visits[KINDS][RUNS], create_t, visit_t;
    bool got[KINDS];
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
    memset(got, true, sizeof got);
    /* They take turns, so that what disturbs the machine disturbs all of them. */
    for (int i = 0; i < RUNS; i++)
        for (unsigned k = 0; k < KINDS; k++)
            got[k] = got[k] && measure((enum zbuf_pages)k, &create[k][i], &visits[k][i]);
    bool peer = got[ZBUF_PAGES_TRANSPARENT];
    create_t = peer ? median(create[ZBUF_PAGES_TRANSPARENT]) : 0;
    visit_t = peer ? median(visits[ZBUF_PAGES_TRANSPARENT]) : 0;
    for (unsigned k = 0; k < KINDS; k++) {
        enum zbuf_pages kind = (enum zbuf_pages)k;
        bool beside = peer && kind != ZBUF_PAGES_TRANSPARENT;
        if (!got[k]) {
            none(kind);
            continue;
        }
        line("mem_visit", "ns", kind, median(visits[k]), beside ? &visit_t : NULL);
        line("mem_create", "ms", kind, median(create[k]),
             beside && kind != ZBUF_PAGES_HUGE_1G ? &create_t : NULL);
    }
    return 0;
}
