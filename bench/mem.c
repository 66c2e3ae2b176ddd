/* mem.c - what the pool costs, beside glibc's malloc and, where bench/mem_dpdk has linked it in,
 * DPDK's rte_mempool. Same loops, same core, same run.
 *
 *   pair        allocate and free one 2K segment
 *   window      64 outstanding: allocate one, free the oldest
 *   bulk        32 at once, then all back
 *   two threads one allocates, the other frees; a ring of our own between them, which is also
 *               measured alone. With each goes how long a cache line takes there and back: hundreds
 *               of nanoseconds between two cores, less than 50 where a host runs both processors on
 *               one, which makes other things dear
 *
 * Times are nanoseconds for one allocation and its free. Medians of RUNS. What kinds of pages cost
 * is in pages.c.
 *
 *   mem [dpdk]    dpdk: only what is compared with DPDK; two seconds, short enough for chrt -f 20
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/dpdk/peer.h"
#include "zbuf/zbuf.h"

#define RUNS   7
#define OPS    2000000u
#define WINDOW 64u
#define BULK   32u
#define SEG    (2048u - ZBUF_OVERHEAD)

static struct zbuf_pool *pool;

static double now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v)
{
    qsort(v, RUNS, sizeof *v, by_value);
    return v[RUNS / 2];
}

/* ---- who is measured */

/* Loops are stamped out for each subject, so that none pays for a call through a pointer. */
#define LOOPS(who, ALLOC, FREE, ALLOC_BULK, FREE_BULK)                                             \
    static double who##_pair(void)                                                                 \
    {                                                                                              \
        double t = now_ns();                                                                       \
        for (unsigned i = 0; i < OPS; i++) {                                                       \
            void *p = ALLOC;                                                                       \
            __asm__ volatile("" : "+r"(p)::"memory");                                              \
            FREE(p);                                                                               \
        }                                                                                          \
        return (now_ns() - t) / OPS;                                                               \
    }                                                                                              \
    static double who##_window(void)                                                               \
    {                                                                                              \
        void *ring[WINDOW];                                                                        \
        for (unsigned i = 0; i < WINDOW; i++)                                                      \
            ring[i] = ALLOC;                                                                       \
        double t = now_ns();                                                                       \
        for (unsigned i = 0; i < OPS; i++) {                                                       \
            FREE(ring[i % WINDOW]);                                                                \
            ring[i % WINDOW] = ALLOC;                                                              \
        }                                                                                          \
        t = now_ns() - t;                                                                          \
        for (unsigned i = 0; i < WINDOW; i++)                                                      \
            FREE(ring[i]);                                                                         \
        return t / OPS;                                                                            \
    }                                                                                              \
    static double who##_bulk(void)                                                                 \
    {                                                                                              \
        void *v[BULK];                                                                             \
        double t = now_ns();                                                                       \
        for (unsigned i = 0; i < OPS / BULK; i++) {                                                \
            ALLOC_BULK;                                                                            \
            __asm__ volatile("" : : "r"(v) : "memory");                                            \
            FREE_BULK;                                                                             \
        }                                                                                          \
        return (now_ns() - t) / (OPS / BULK * BULK);                                               \
    }

LOOPS(zbuf, zbuf_alloc(pool, SEG), zbuf_free,
      zbuf_alloc_bulk(zbuf_budget_app(pool), SEG, (struct zbuf **)v, BULK),
      zbuf_free_bulk((struct zbuf **)v, BULK))
LOOPS(libc, malloc(2048), free, for (unsigned j = 0; j < BULK; j++) v[j] = malloc(2048),
      for (unsigned j = 0; j < BULK; j++) free(v[j]))

/* A reference more and back: what a queued write costs. */
static double ref_pair(void)
{
    struct zbuf *zb = zbuf_alloc(pool, SEG);
    double t = now_ns();
    for (unsigned i = 0; i < OPS; i++) {
        zbuf_ref(zb);
        zbuf_free(zb);
    }
    t = now_ns() - t;
    zbuf_free(zb);
    return t / OPS;
}

static double of_addr(void)
{
    struct zbuf *zb = zbuf_alloc(pool, SEG);
    const uint8_t *p = zb->data;
    double t = now_ns();
    for (unsigned i = 0; i < OPS; i++) {
        const void *q = p + (i & 1023);
        __asm__ volatile("" : "+r"(q));
        const struct zbuf *r = zbuf_of(pool, q);
        __asm__ volatile("" : : "r"(r));
    }
    t = now_ns() - t;
    zbuf_free(zb);
    return t / OPS;
}

/* A received frame is kept by a connection against a replacement, and freed later. */
static double charge_frame(void)
{
    struct zbuf_budget *rx = zbuf_budget_create(pool, "rx", 0, 0);
    struct zbuf_budget *conn = zbuf_budget_create(pool, "conn", 0, 0);
    struct zbuf *held[WINDOW] = {0};
    double t = now_ns();
    for (unsigned i = 0; i < OPS; i++) {
        struct zbuf *zb = zbuf_alloc_from(rx, SEG);
        zbuf_free(held[i % WINDOW]);
        if (zbuf_charge(zb, conn) != 0)
            abort();
        held[i % WINDOW] = zb;
    }
    t = now_ns() - t;
    for (unsigned i = 0; i < WINDOW; i++)
        zbuf_free(held[i]);
    zbuf_budget_destroy(rx);
    zbuf_budget_destroy(conn);
    return t / OPS;
}

/* ---- two threads */

#define RING 1024u

static struct {
    _Alignas(64) uint32_t head;
    _Alignas(64) uint32_t tail;
    _Alignas(64) void *slot[RING];
} ring;

/* On core 1 from its first instruction on: one that had to begin on core 0 would wait for who spins
 * there, and for ever under a real-time priority (chrt). */
static pthread_t start_on_1(void *(*fn)(void *))
{
    pthread_attr_t attr;
    pthread_t thread;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(1, &set);
    pthread_attr_init(&attr);
    if (pthread_attr_setaffinity_np(&attr, sizeof set, &set) != 0 ||
        pthread_create(&thread, &attr, fn, NULL) != 0)
        abort();
    pthread_attr_destroy(&attr);
    return thread;
}

/* How long a cache line takes to the other core and back. */
#define TRIPS 20000u

static struct {
    _Alignas(64) uint32_t there;
    _Alignas(64) uint32_t back;
} trip;

static void *answers(void *arg)
{
    (void)arg;
    for (uint32_t i = 1; i <= TRIPS; i++) {
        while (__atomic_load_n(&trip.there, __ATOMIC_ACQUIRE) != i)
            __builtin_ia32_pause();
        __atomic_store_n(&trip.back, i, __ATOMIC_RELEASE);
    }
    return NULL;
}
static double round_trip(void)
{
    double t = 0;
    trip.there = trip.back = 0;
    pthread_t thread = start_on_1(answers);
    for (uint32_t i = 1; i <= TRIPS; i++) {
        __atomic_store_n(&trip.there, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&trip.back, __ATOMIC_ACQUIRE) != i)
            __builtin_ia32_pause();
        if (i == 1) /* the other has begun */
            t = now_ns();
    }
    t = (now_ns() - t) / (TRIPS - 1);
    pthread_join(thread, NULL);
    return t;
}

/* GET(p) and PUT(p) move `batch` of them, as the ring's users do. It is not the ring that is
 * compared: so the one who fills it looks at `head`, which the other writes, only when by what it
 * last saw there is no space. If it looked each time, both would wait for that line more than for
 * memory, whoever's it is. */
#define PIPE(who, BATCH, GET, PUT, INIT)                                                           \
    static void *who##_consumer(void *arg)                                                         \
    {                                                                                              \
        (void)arg;                                                                                 \
        INIT;                                                                                      \
        for (uint32_t done = 0; done < OPS;) {                                                     \
            uint32_t tail = __atomic_load_n(&ring.tail, __ATOMIC_ACQUIRE);                         \
            if (tail == done) {                                                                    \
                __builtin_ia32_pause();                                                            \
                continue;                                                                          \
            }                                                                                      \
            for (; done != tail; done += (BATCH)) {                                                \
                void **p = &ring.slot[done % RING];                                                \
                PUT;                                                                               \
            }                                                                                      \
            __atomic_store_n(&ring.head, done, __ATOMIC_RELEASE);                                  \
        }                                                                                          \
        return NULL;                                                                               \
    }                                                                                              \
    static double who##_pipe(void)                                                                 \
    {                                                                                              \
        uint32_t head = 0;                                                                         \
        ring.head = ring.tail = 0;                                                                 \
        pthread_t thread = start_on_1(who##_consumer);                                             \
        double t = now_ns();                                                                       \
        for (uint32_t i = 0; i < OPS; i += (BATCH)) {                                              \
            void **p = &ring.slot[i % RING];                                                       \
            while (i + (BATCH)-head > RING &&                                                      \
                   i + (BATCH) - (head = __atomic_load_n(&ring.head, __ATOMIC_ACQUIRE)) > RING)    \
                __builtin_ia32_pause();                                                            \
            while (!(GET))                                                                         \
                __builtin_ia32_pause();                                                            \
            if ((i + (BATCH)) % BULK == 0)                                                         \
                __atomic_store_n(&ring.tail, i + (BATCH), __ATOMIC_RELEASE);                       \
        }                                                                                          \
        pthread_join(thread, NULL);                                                                \
        return (now_ns() - t) / OPS;                                                               \
    }
static_assert(OPS % BULK == 0 && RING % BULK == 0, "no batch wraps");

/* What it costs to pass on what nobody allocates: a part of each of the others. */
static void *volatile passed;
PIPE(ring, 1, (*p = &ring), passed = *p, (void)0)

PIPE(zbuf, 1, (*p = zbuf_alloc(pool, SEG)), zbuf_free(*p), (void)0)
PIPE(libc, 1, (*p = malloc(2048)), free(*p), (void)0)
PIPE(mempool, 1, (*p = dpdk_get()), dpdk_put(*p), dpdk_thread())
PIPE(mbuf, 1, (*p = dpdk_mbuf_get()), dpdk_mbuf_put(*p), dpdk_thread())
PIPE(zbuf_bulk, BULK,
     zbuf_alloc_bulk(zbuf_budget_app(pool), SEG, (struct zbuf **)p, BULK) == BULK || (abort(), 0),
     zbuf_free_bulk((struct zbuf **)p, BULK), (void)0)

/* The same, and the memory is used: one side writes to it, the other reads it. */
static volatile uint64_t seen;

static struct zbuf *get_used(uint64_t v)
{
    struct zbuf *zb = zbuf_alloc(pool, SEG);
    if (zb)
        memcpy(zb->data, &v, sizeof v);
    return zb;
}
static void put_used(struct zbuf *zb)
{
    uint64_t v;
    memcpy(&v, zb->data, sizeof v);
    seen = v;
    zbuf_free(zb);
}
static bool get_bulk_used(struct zbuf **zb, uint64_t v)
{
    if (zbuf_alloc_bulk(zbuf_budget_app(pool), SEG, zb, BULK) != BULK)
        abort();
    for (unsigned i = 0; i < BULK; i++)
        memcpy(zb[i]->data, &v, sizeof v);
    return true;
}
static void put_bulk_used(struct zbuf **zb)
{
    for (unsigned i = 0; i < BULK; i++) {
        uint64_t v;
        memcpy(&v, zb[i]->data, sizeof v);
        seen = v;
    }
    zbuf_free_bulk(zb, BULK);
}
PIPE(zbuf_used, 1, (*p = get_used(i)), put_used(*p), (void)0)
PIPE(mempool_used, 1, (*p = dpdk_get_used(i)), seen = dpdk_put_used(*p), dpdk_thread())
PIPE(mbuf_used, 1, (*p = dpdk_mbuf_get_used(i)), seen = dpdk_mbuf_put_used(*p), dpdk_thread())
PIPE(zbuf_bulk_used, BULK, get_bulk_used((struct zbuf **)p, i), put_bulk_used((struct zbuf **)p),
     (void)0)
PIPE(mempool_bulk_used, BULK, dpdk_get_bulk_used(p, i), seen = dpdk_put_bulk_used(p), dpdk_thread())
PIPE(mbuf_bulk_used, BULK, dpdk_mbuf_get_bulk_used(p, i), seen = dpdk_mbuf_put_bulk_used(p),
     dpdk_thread())
PIPE(mempool_bulk, BULK, dpdk_get_bulk(p), dpdk_put_bulk(p), dpdk_thread())
PIPE(mbuf_bulk, BULK, dpdk_mbuf_get_bulk(p), dpdk_mbuf_put_bulk(p), dpdk_thread())

/* ---- report */

static void line(const char *name, const char *unit, double value, const char *peer, double other,
                 double trip_ns)
{
    printf("{\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.2f", name, unit, value);
    if (peer)
        printf(",\"peer\":\"%s\",\"peer_value\":%.2f,\"ratio\":%.2f", peer, other, value / other);
    if (trip_ns > 0)
        printf(",\"line_round_trip_ns\":%.0f", trip_ns);
    printf(",\"mode\":\"%s pages, cores 0-1, median of %d\"}\n",
           zbuf_pages_name(zbuf_pool_pages(pool)), RUNS);
    fflush(stdout);
}

/* Subjects take turns, so that what disturbs the machine disturbs all of them. */
static void compare_with(double (*line_trip)(void), const char *name, double (*zb)(void),
                         double (*libc)(void), double (*dpdk)(void), const char *dpdk_name)
{
    double a[RUNS], b[RUNS], c[RUNS], trips[RUNS];
    for (int i = 0; i < RUNS; i++) {
        trips[i] = line_trip ? line_trip() : 0;
        a[i] = zb();
        b[i] = libc ? libc() : 0;
        c[i] = dpdk ? dpdk() : 0;
    }
    double value = median(a), trip_ns = median(trips);
    if (dpdk)
        line(name, "ns", value, dpdk_name, median(c), trip_ns);
    if (libc)
        line(name, "ns", value, "glibc malloc", median(b), trip_ns);
    if (!libc && !dpdk)
        line(name, "ns", value, NULL, 0, trip_ns);
}

static void compare(const char *name, double (*zb)(void), double (*libc)(void),
                    double (*dpdk)(void), const char *dpdk_name)
{
    compare_with(NULL, name, zb, libc, dpdk, dpdk_name);
}
static void compare_two(const char *name, double (*zb)(void), double (*libc)(void),
                        double (*dpdk)(void), const char *dpdk_name)
{
    compare_with(round_trip, name, zb, libc, dpdk, dpdk_name);
}

static void layout(void)
{
    for (uint32_t size = ZBUF_SEG_MIN; size <= ZBUF_SEG_MAX; size *= 2) {
        char name[64];
        snprintf(name, sizeof name, "mem_payload_%uk", size / 1024);
        /* There is space for a header for each KiB, whatever the class needs of it. */
        uint32_t headers = size / ZBUF_SEG_MIN * ZBUF_HEADER;
        printf("{\"name\":\"%s\",\"unit\":\"bytes\",\"value\":%u,\"guard\":%u,\"headroom\":%u,"
               "\"header\":%u,\"headers_reserved\":%u,\"overhead_percent\":%.2f}\n",
               name, size - ZBUF_OVERHEAD, ZBUF_GUARD, ZBUF_HEADROOM, ZBUF_HEADER, headers,
               100.0 * (headers + ZBUF_OVERHEAD) / (headers + size));
    }
    struct zbuf *zb = zbuf_alloc(pool, 1460);
    printf("{\"name\":\"mem_segment_for_1460\",\"unit\":\"bytes\",\"value\":%u}\n", zb->size);
    zbuf_free(zb);
}

int main(int argc, char **argv)
{
    bool dpdk = dpdk_start && dpdk_start(argc, argv) == 0;
    const bool all = argc < 2 || strcmp(argv[1], "dpdk") != 0;
    pin(0);
    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 64u << 20});
    if (!pool)
        return 1;
    if (all)
        layout();
    compare("mem_pair_2k", zbuf_pair, all ? libc_pair : NULL, dpdk ? dpdk_pair : NULL,
            "rte_pktmbuf");
    compare("mem_window64_2k", zbuf_window, all ? libc_window : NULL, dpdk ? dpdk_window : NULL,
            "rte_pktmbuf");
    compare("mem_bulk32_2k", zbuf_bulk, all ? libc_bulk : NULL, dpdk ? dpdk_bulk : NULL,
            "rte_pktmbuf");
    compare_two("mem_two_threads_ring", ring_pipe, NULL, NULL, NULL);
    compare_two("mem_two_threads_2k", zbuf_pipe, all ? libc_pipe : NULL, dpdk ? mbuf_pipe : NULL,
                "rte_pktmbuf");
    compare_two("mem_two_threads_bulk32_2k", zbuf_bulk_pipe, NULL, dpdk ? mbuf_bulk_pipe : NULL,
                "rte_pktmbuf");
    compare_two("mem_two_threads_used_2k", zbuf_used_pipe, NULL, dpdk ? mbuf_used_pipe : NULL,
                "rte_pktmbuf");
    compare_two("mem_two_threads_used_bulk32_2k", zbuf_bulk_used_pipe, NULL,
                dpdk ? mbuf_bulk_used_pipe : NULL, "rte_pktmbuf");
    if (dpdk) {
        compare_two("mem_two_threads_used_2k", zbuf_used_pipe, NULL, mempool_used_pipe,
                    "bare rte_mempool");
        compare_two("mem_two_threads_used_bulk32_2k", zbuf_bulk_used_pipe, NULL,
                    mempool_bulk_used_pipe, "bare rte_mempool");
        /* Objects that are only pointers to it: neither side touches them. */
        compare_two("mem_two_threads_2k", zbuf_pipe, NULL, mempool_pipe, "bare rte_mempool");
        compare_two("mem_two_threads_bulk32_2k", zbuf_bulk_pipe, NULL, mempool_bulk_pipe,
                    "bare rte_mempool");
    }
    if (!all)
        return zbuf_pool_destroy(pool) != 0;
    compare("mem_ref_shared", ref_pair, NULL, NULL, NULL);
    compare("mem_of", of_addr, NULL, NULL, NULL);
    compare("mem_charge_frame", charge_frame, NULL, NULL, NULL);
    if (zbuf_pool_destroy(pool) != 0)
        return 1;
    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 64u << 20, .owned_refs = true});
    compare("mem_ref_owned", ref_pair, NULL, NULL, NULL);
    if (zbuf_pool_destroy(pool) != 0)
        return 1;
    return 0;
}
