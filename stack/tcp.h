/* tcp.h - what the rest of the stack knows of TCP. */
#ifndef TCP_H
#define TCP_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp_mem.h"

struct zest;
struct pkt;
struct ipaddr;
struct zest_frame;
struct tcp_conn;
struct tcp_listener;
struct pbuf;

struct tcp_list {
    struct tcp_conn *head, *tail;
};

struct tcp {
    struct tcp_conn *conns;         /* cfg.max_conns of them */
    struct tcp_listener *listeners; /* cfg.max_listeners */
    struct pbuf *pbufs;             /* cfg.max_pbufs */
    struct tcp_conn **buckets;      /* of the connection table */
    uint32_t bucket_mask;
    struct tcp_conn **heap; /* by deadline, see timer.c */
    uint32_t heap_len;

    struct tcp_conn *free_conns;
    struct tcp_conn *last;     /* the connection that the last segment was for */
    struct tcp_list ready;     /* may have something to send */
    struct tcp_list blocked;   /* wait for ARP */
    struct tcp_list time_wait; /* oldest first */
    struct tcp_list events;    /* connections with events to be drained */
    struct tcp_listener *listener_events;
    uint32_t arp_gen;  /* of the ARP table when the blocked ones were last let go */
    uint64_t retry_ns; /* memory ran out: do not try to send before */

    struct pbuf *free_pbufs;
    uint32_t pbufs_free;
    uint32_t conns_without_pbuf; /* slots that hold none, free ones too: one is kept for each */

    struct zbuf_budget *rcv;    /* received segments: what listeners' groups are under */
    struct zbuf_budget *copied; /* what zest_write_copy() allocates */
    struct tcp_mem mem;
    uint32_t port_hint;
};

/* What an ICMP error says of a connection of ours (RFC 1122 4.2.3.9, RFC 5927). */
struct icmp_error {
    uint8_t type, code;
    uint16_t mtu;                        /* of the next hop, with fragmentation needed */
    const struct ipaddr *local, *remote; /* the quoted packet's source and destination */
    uint16_t local_port, remote_port;
    uint32_t seq; /* of the quoted segment */
};

/* Bytes of the caller's memory that TCP's tables take. */
size_t tcp_size(const struct zest_config *cfg);
int tcp_init(struct zest *z, void *mem);
void tcp_fini(struct zest *z);

void tcp_input(struct zest *z, struct pkt *pk);
void tcp_icmp_error(struct zest *z, const struct icmp_error *e);
/* The link carries frames again, or no longer such large ones. mtu 0: as before. */
void tcp_link_up(struct zest *z, uint32_t mtu);
/* Sends what may be sent now. Returns the number of frames. */
unsigned tcp_run(struct zest *z, struct zest_frame *out, unsigned max);
/* When tcp_run() next has work; 0 = now. */
uint64_t tcp_deadline(const struct zest *z);
/* Brings the timer queue's head up to date, so that tcp_deadline() is exact. */
void tcp_settle(struct zest *z);
unsigned tcp_events(struct zest *z, struct zest_event *ev, unsigned max);

#endif
