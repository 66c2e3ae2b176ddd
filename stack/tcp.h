/* tcp.h - what the rest of the stack knows of TCP. */
#ifndef TCP_H
#define TCP_H

#include <stdbool.h>
#include <stdint.h>

struct zest;
struct pkt;
struct ipaddr;
struct zest_frame;
struct tcp_conn;
struct tcp_listener;
struct pbuf;

struct tcp {
    struct tcp_conn *conns;         /* cfg.max_conns of them */
    struct tcp_listener *listeners; /* cfg.max_listeners */
    struct pbuf *pbufs;             /* cfg.max_pbufs */
    uint32_t *buckets;              /* of the connection table */
    uint32_t bucket_mask;
    uint32_t *heap; /* of connections, by deadline */
    uint32_t heap_len;
    uint32_t free_conns, free_pbufs; /* heads of free lists */
    uint32_t ready_head, ready_tail; /* connections that have something to send */
    uint32_t event_head, event_tail; /* connections and listeners with events to be drained */
    uint32_t time_wait_head, time_wait_tail;
    uint32_t blocked_head; /* connections that wait for ARP */
    uint32_t arp_gen;      /* of the ARP table when they were last let go */
    uint32_t used_conns;
    uint64_t rx_held; /* bytes of segments in receive queues */
    uint64_t challenge_window_ns;
    uint32_t challenge_count;
    uint16_t port_hint;
};

/* What an ICMP error says of a connection of ours (RFC 1122 4.2.3.9, RFC 5927). */
struct icmp_error {
    uint8_t type, code;
    uint16_t mtu;                  /* of the next hop, with fragmentation needed */
    struct ipaddr *local, *remote; /* the quoted packet's source and destination */
    uint16_t local_port, remote_port;
    uint32_t seq; /* of the quoted segment */
};

void tcp_input(struct zest *z, struct pkt *pk);
void tcp_icmp_error(struct zest *z, const struct icmp_error *e);

#endif
