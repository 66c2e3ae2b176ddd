/* peer.c - rte_pktmbuf and rte_mempool in the loops of bench/mem.c. No huge pages, no devices: as
 * the pool beside it. Caches of 512 objects, the most that DPDK allows. */
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <stdio.h>
#include <time.h>

#include "bench/dpdk/peer.h"

#define OBJECTS 8191u
#define CACHE   512u

static struct rte_mempool *mbufs, *objects;

static double now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

int dpdk_start(int argc, char **argv)
{
    char *args[] = {argc ? argv[0] : (char *)"mem",
                    (char *)"--no-huge",
                    (char *)"--no-pci",
                    (char *)"--no-shconf",
                    (char *)"--no-telemetry",
                    (char *)"--log-level=error",
                    (char *)"-l",
                    (char *)"0",
                    (char *)"-m",
                    (char *)"256"};
    if (rte_eal_init(sizeof args / sizeof args[0], args) < 0)
        return -1;
    mbufs = rte_pktmbuf_pool_create("mbufs", OBJECTS, CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                    SOCKET_ID_ANY);
    objects = rte_mempool_create("objects", OBJECTS, 2048, CACHE, 0, NULL, NULL, NULL, NULL,
                                 SOCKET_ID_ANY, 0);
    if (mbufs && objects)
        return 0;
    fprintf(stderr, "mem_dpdk: no mempool: %s\n", rte_strerror(rte_errno));
    return -1;
}

double dpdk_pair(void)
{
    double t = now_ns();
    for (unsigned i = 0; i < PEER_OPS; i++) {
        struct rte_mbuf *m = rte_pktmbuf_alloc(mbufs);
        __asm__ volatile("" : "+r"(m)::"memory");
        rte_pktmbuf_free(m);
    }
    return (now_ns() - t) / PEER_OPS;
}

double dpdk_window(void)
{
    struct rte_mbuf *ring[PEER_WINDOW];
    for (unsigned i = 0; i < PEER_WINDOW; i++)
        ring[i] = rte_pktmbuf_alloc(mbufs);
    double t = now_ns();
    for (unsigned i = 0; i < PEER_OPS; i++) {
        rte_pktmbuf_free(ring[i % PEER_WINDOW]);
        ring[i % PEER_WINDOW] = rte_pktmbuf_alloc(mbufs);
    }
    t = now_ns() - t;
    for (unsigned i = 0; i < PEER_WINDOW; i++)
        rte_pktmbuf_free(ring[i]);
    return t / PEER_OPS;
}

double dpdk_bulk(void)
{
    struct rte_mbuf *v[PEER_BULK];
    double t = now_ns();
    for (unsigned i = 0; i < PEER_OPS / PEER_BULK; i++) {
        if (rte_pktmbuf_alloc_bulk(mbufs, v, PEER_BULK) != 0)
            return -1;
        __asm__ volatile("" : : "r"(v) : "memory");
        rte_pktmbuf_free_bulk(v, PEER_BULK);
    }
    return (now_ns() - t) / (PEER_OPS / PEER_BULK * PEER_BULK);
}

void *dpdk_get(void)
{
    void *obj;
    return rte_mempool_get(objects, &obj) == 0 ? obj : NULL;
}

void dpdk_put(void *obj)
{
    rte_mempool_put(objects, obj);
}

void *dpdk_mbuf_get(void)
{
    return rte_pktmbuf_alloc(mbufs);
}

void dpdk_mbuf_put(void *mbuf)
{
    rte_pktmbuf_free(mbuf);
}

int dpdk_get_bulk(void **objs)
{
    return rte_mempool_get_bulk(objects, objs, PEER_BULK) == 0;
}

void dpdk_put_bulk(void **objs)
{
    rte_mempool_put_bulk(objects, objs, PEER_BULK);
}

int dpdk_mbuf_get_bulk(void **v)
{
    return rte_pktmbuf_alloc_bulk(mbufs, (struct rte_mbuf **)v, PEER_BULK) == 0;
}

void dpdk_mbuf_put_bulk(void **v)
{
    rte_pktmbuf_free_bulk((struct rte_mbuf **)v, PEER_BULK);
}

/* ---- used */

static uint64_t last_of(void *const *at, uint64_t (*read)(void *))
{
    uint64_t v = 0;
    for (unsigned i = 0; i < PEER_BULK; i++)
        v = read(at[i]);
    return v;
}
static inline uint64_t read_obj(void *obj)
{
    return *(volatile uint64_t *)obj;
}
static inline uint64_t read_mbuf(void *mbuf)
{
    return *rte_pktmbuf_mtod((struct rte_mbuf *)mbuf, volatile uint64_t *);
}

void *dpdk_get_used(uint64_t v)
{
    uint64_t *obj = dpdk_get();
    if (obj)
        *obj = v;
    return obj;
}

uint64_t dpdk_put_used(void *obj)
{
    uint64_t v = read_obj(obj);
    dpdk_put(obj);
    return v;
}

void *dpdk_mbuf_get_used(uint64_t v)
{
    struct rte_mbuf *m = dpdk_mbuf_get();
    if (m)
        *rte_pktmbuf_mtod(m, uint64_t *) = v;
    return m;
}

uint64_t dpdk_mbuf_put_used(void *mbuf)
{
    uint64_t v = read_mbuf(mbuf);
    dpdk_mbuf_put(mbuf);
    return v;
}

int dpdk_get_bulk_used(void **objs, uint64_t v)
{
    if (!dpdk_get_bulk(objs))
        return 0;
    for (unsigned i = 0; i < PEER_BULK; i++)
        *(uint64_t *)objs[i] = v;
    return 1;
}

uint64_t dpdk_put_bulk_used(void **objs)
{
    uint64_t v = last_of(objs, read_obj);
    dpdk_put_bulk(objs);
    return v;
}

int dpdk_mbuf_get_bulk_used(void **mbufs, uint64_t v)
{
    if (!dpdk_mbuf_get_bulk(mbufs))
        return 0;
    for (unsigned i = 0; i < PEER_BULK; i++)
        *rte_pktmbuf_mtod((struct rte_mbuf *)mbufs[i], uint64_t *) = v;
    return 1;
}

uint64_t dpdk_mbuf_put_bulk_used(void **mbufs)
{
    uint64_t v = last_of(mbufs, read_mbuf);
    dpdk_mbuf_put_bulk(mbufs);
    return v;
}

void dpdk_thread(void)
{
    if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() != 0)
        rte_exit(1, "rte_thread_register\n");
}
