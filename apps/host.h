/* host.h - what every subcommand needs before it can do its own work: a pool, a link, a stack and a
 * loop, made from the same options, and taken down again so that nothing is left behind.
 *
 *     struct host_options o;
 *     host_options_init(&o);            then host_option() for each option, host_options_check()
 *     host_open(&h, &o, loop)           says what went wrong, if something did
 *     host_start(&h, on_event, ctx)
 *     host_run(loop)                    until SIGINT, SIGTERM or ev_break()
 *     host_close(&h)                    EXIT_FAILED if a segment did not come home
 *
 * One thread, one loop; several hosts may share it (a pair over a link in memory does). Several
 * queues are several hosts, each with a loop and a thread of its own: crew.h. */
#ifndef APPS_HOST_H
#define APPS_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "../netif/netif.h"
#include "capturing.h"
#include "opts.h"
#include "recording.h"

struct ev_loop;

enum host_mode {
    HOST_MODE_AUTO,
    HOST_MODE_NATIVE,
    HOST_MODE_GENERIC,
    HOST_MODE_ZC,
    HOST_MODE_COPY
};
#define HOST_QUEUES_ALL UINT32_MAX
enum host_gather { HOST_GATHER_AUTO, HOST_GATHER_ALWAYS, HOST_GATHER_NEVER };

#define HOST_PORTS 64 /* ranges */
struct host_options {
    const char *ifname;                /* AF_XDP, or */
    const char *tap;                   /* TAP, or */
    const char *pcap_live, *pcap_read; /* libpcap on an interface, or a file, or */
    uint32_t queue;
    uint32_t queues; /* 0 = one; HOST_QUEUES_ALL */
    struct zest_addr ip;
    uint8_t prefix_len;
    bool mem; /* a pair in memory, instead of a link */
    bool have_ip;
    bool host_ip;     /* --ip host: what the interface has */
    unsigned n_ports; /* ranges in ports[]; 0 = the address is the stack's alone */
    struct netif_ports ports[HOST_PORTS];
    struct zest_addr gateway;
    const char *host_cidr; /* for the kernel's side of a TAP interface */
    uint16_t mtu;
    enum host_mode mode;
    enum netif_xdp_by attach;
    enum netif_xdp_steer steer;
    enum host_gather gather;
    uint32_t ring;
    uint64_t pool_size;
    uint32_t snd_buf, rcv_buf;
    uint32_t max_conns;
    int core; /* -1 = any */
    bool no_huge, huge_1g, have_node, spin, counters;
    uint32_t node;             /* NUMA */
    const char *record, *pcap; /* files; NULL = none */
    uint64_t record_max, pcap_max;
    bool no_offload;
    bool pcap_fast, promisc;
    uint32_t pcap_ring; /* seconds; 0 = all of it is written */
    uint64_t pcap_ring_max;
};

/* The options' table for opt_parse(), and who takes them. mem says whether the command offers it.
 */
extern const struct opt host_opts[];
void host_options_init(struct host_options *o);
bool host_option(struct host_options *o, int key, const char *name, const char *arg);
/* Ends the program with a sentence if they make no sense together. Completes what the system knows
 * (--ip host). */
void host_options_check(struct host_options *o);

/* host_beside.c: single ports of the host's address. */
void host_ports_parse(struct host_options *o, const char *name, const char *arg);
void host_beside_kernel(struct host_options *o);
/* May the stack listen there? */
bool host_has_port(const struct host_options *o, uint16_t port);

struct host {
    const struct host_options *opt;
    struct ev_loop *loop;
    struct zbuf_pool *pool;
    struct netif *nif;
    bool gather; /* payload that lies anywhere goes as descriptors of its own */
    void *mem;
    struct zest *z;
    struct netif_loop *nl;
    void (*on_event)(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n);
    void *ctx;
    bool failed; /* its link is gone, which was said, and ended the loop */
    struct recording rec;
    struct netif_group *group; /* of several with one address (crew.h), NULL else */
    unsigned member, members;
    int core; /* that its thread runs on; -1 = any */
};

typedef void host_event_fn(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n);

/* 0, or -errno after saying why. */
int host_open(struct host *h, const struct host_options *o, struct ev_loop *loop);
/* n hosts with one address, one pool and a loop each, for n queues of one interface. */
int host_open_queues(struct host *h, unsigned n, const struct host_options *o);
/* Takes them down, when nothing of them runs any more. */
int host_close_queues(struct host *h, unsigned n);
/* Makes the calling thread run on core; -1 = leave it. */
void host_pin(int core);
/* Two hosts, a.b.c.1 and a.b.c.2 of o->ip's subnet, over a cable in memory and one pool. */
int host_open_pair(struct host h[2], const struct host_options *o, struct ev_loop *loop);
int host_start(struct host *h, host_event_fn *on_event, void *ctx);
/* SIGINT and SIGTERM end it; a second one, at once. True if a signal ended it. */
bool host_run(struct ev_loop *loop);
/* Gives the link a last chance to send what the stack still has. */
void host_flush(struct host *h);
/* Takes everything down. EXIT_OK, or EXIT_FAILED if memory was not given back (which is said). */
int host_close(struct host *h);
int host_close_pair(struct host h[2]);
/* What the application held is given back before host_close(); what the pool holds, in bytes. */
size_t host_pool_used(const struct host *h);

/* ---- host_pool.c */

#define HOST_CTRL_RESERVE (2u << 20) /* that each stack has set aside, ... */
#define HOST_RX_SEGS      16u        /* ... and so many frames to receive into */
/* Makes the pool, for n queues; 0 or -errno, having said why. */
int host_open_pool(struct host *h, const struct host_options *o, unsigned n);
/* Links and stacks have set aside what they need: of the rest, half may be used to send, so that
 * there is room for what is received. -ENOBUFS, having said why: the rest is too little. */
int host_share_pool(const struct host *h, unsigned stacks);
/* Says how large the pool must be, if so much more is to be set aside. seg: what is received in. */
void host_say_pool_least(struct zbuf_pool *pool, uint32_t seg, unsigned stacks, size_t needed);

/* ---- host_link.c */

/* n links, for n queues of what the options name. 0, or -errno after saying why. */
int host_open_links(struct zbuf_pool *pool, const struct host_options *o, unsigned n,
                    struct netif **out);

/* ---- host_say.c */

/* "z0: AF_XDP, native, copy; MTU 1500; ..." on standard error. */
void host_describe(const struct host *h);
/* Of an AF_XDP link: how payload without headroom is sent, and why (as was asked, or measured). */
void host_describe_sending(const struct netif_caps *c, bool gather, bool asked, char *out,
                           size_t size);
/* What the stack and its link counted; who holds what of the pool, and which class ran out. */
void host_print_counters(const struct host *h);
void host_print_pool(const struct zbuf_pool *pool);

#endif
