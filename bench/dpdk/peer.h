/* peer.h - DPDK's side of bench/mem.c. bench/mem_dpdk links dpdk/peer.c in; without it these are
 * null, and mem measures without that peer. */
#ifndef BENCH_DPDK_PEER_H
#define BENCH_DPDK_PEER_H

#include <stdint.h>

#define PEER_OPS    2000000u
#define PEER_WINDOW 64u
#define PEER_BULK   32u

#pragma weak dpdk_start
#pragma weak dpdk_pair
#pragma weak dpdk_window
#pragma weak dpdk_bulk
#pragma weak dpdk_get
#pragma weak dpdk_put
#pragma weak dpdk_mbuf_get
#pragma weak dpdk_mbuf_put
#pragma weak dpdk_get_bulk
#pragma weak dpdk_put_bulk
#pragma weak dpdk_mbuf_get_bulk
#pragma weak dpdk_mbuf_put_bulk
#pragma weak dpdk_get_used
#pragma weak dpdk_put_used
#pragma weak dpdk_mbuf_get_used
#pragma weak dpdk_mbuf_put_used
#pragma weak dpdk_get_bulk_used
#pragma weak dpdk_put_bulk_used
#pragma weak dpdk_mbuf_get_bulk_used
#pragma weak dpdk_mbuf_put_bulk_used
#pragma weak dpdk_thread
int dpdk_start(int argc, char **argv);
double dpdk_pair(void);   /* rte_pktmbuf_alloc and _free, ns */
double dpdk_window(void); /* 64 outstanding */
double dpdk_bulk(void);   /* rte_pktmbuf_alloc_bulk and _free_bulk of 32, ns each */
void *dpdk_get(void);     /* an rte_mempool's, for two threads */
void dpdk_put(void *obj);
void *dpdk_mbuf_get(void); /* an rte_pktmbuf */
void dpdk_mbuf_put(void *mbuf);
/* PEER_BULK of them; true if there were. */
int dpdk_get_bulk(void **objs);
void dpdk_put_bulk(void **objs);
int dpdk_mbuf_get_bulk(void **mbufs);
void dpdk_mbuf_put_bulk(void **mbufs);
/* The same, and one side writes v to each, which the other reads. */
void *dpdk_get_used(uint64_t v);
uint64_t dpdk_put_used(void *obj);
void *dpdk_mbuf_get_used(uint64_t v);
uint64_t dpdk_mbuf_put_used(void *mbuf);
int dpdk_get_bulk_used(void **objs, uint64_t v);
uint64_t dpdk_put_bulk_used(void **objs);
int dpdk_mbuf_get_bulk_used(void **mbufs, uint64_t v);
uint64_t dpdk_mbuf_put_bulk_used(void **mbufs);
void dpdk_thread(void); /* registers the calling thread, so that it has a cache */

#endif
