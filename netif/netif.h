/* netif.h - links, and the loop that joins a link and a stack.
 *
 * A link moves Ethernet frames between the pool and the world, in bursts, without blocking:
 *
 *     n = netif_rx(nif, frames, max);    frames that arrived; the caller owns them
 *     n = netif_tx_room(nif);            places in the ring: caps.frame_descs for each frame
 *     netif_tx(nif, frames, n);          hands them over; may only queue them
 *     netif_kick(nif);                   gets the queued ones going, and reaps what was sent
 *
 * Kinds: AF_XDP, TAP, libpcap, and a pair in memory. All of them use the pool's memory in place;
 * what a kind can't do in place (TAP has to read and write) is the kernel's copy, not ours.
 *
 * Functions return 0, a count or -errno. The ones that open a link also fill in a sentence for
 * people: what went wrong, with which name, and what to do. */
#ifndef NETIF_H
#define NETIF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../stack/zest.h"
#include "../zbuf/zbuf.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NETIF_API   __attribute__((visibility("default")))
#define NETIF_ERROR 512

struct netif;
struct netif_error {
    char text[NETIF_ERROR]; /* one or two lines, no newline at the end */
};

/* What a link turned out to be able to do. */
struct netif_caps {
    const char *kind;     /* "xdp", "tap", "pcap", "mem" */
    const char *mode;     /* xdp: "zero-copy", "copy", "generic"; else the kind */
    const char *why_copy; /* xdp: why zero-copy could not be had; NULL = it is, or was not wanted */
    char name[32];        /* of the interface */
    uint32_t queue;       /* of it */
    uint32_t steer_rules; /* xdp: that the card was given, so that frames come in here */
    bool hash_known;      /* xdp: on which queue answers come in can be foretold */
    bool dispatched;      /* xdp: the program is one of several of libxdp's dispatcher */
    uint8_t mac[6];       /* that zest is to use */
    uint16_t mtu;         /* largest IP packet, both ways */
    bool gather;          /* several descriptors a frame are possible */
    uint8_t gather_max;   /* how many that a frame is handed over as; 0 without gather */
    bool gather_cheap;    /* and cost less than copying would */
    /* Places in the ring that a frame may take: netif_tx_room() counts these. 0 = 1 */
    uint8_t frame_descs;
    bool tx_csum, rx_csum;
    uint8_t
        tso_segs;    /* it cuts frames into so many segments (zest_config.tso_segs); 0 = it can't */
    uint32_t rx_seg; /* size of the segments that frames are received in */
    /* What it takes this core to have a frame of that size sent, if it was measured; else 0. */
    uint32_t send_ns;   /* one descriptor: the headers lie right before the payload */
    uint32_t gather_ns; /* two: headers, and payload where it lies */
    uint32_t linear_ns; /* one, and the payload is copied behind its headers first */
    uint32_t tx_budget; /* xdp, copy mode: frames that one send call moves; 0 = unknown */
};

struct netif_stats {
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes;
    uint64_t rx_dropped;   /* by the kernel or the link, for want of room */
    uint64_t rx_no_memory; /* of them, because the pool had no segment to receive into */
    uint64_t tx_invalid;   /* frames that the kernel refused */
    uint64_t tx_kicks;     /* system calls made to send */
    uint64_t rx_missed; /* xdp: frames for us that came in on a queue that no link of ours has; the
                           whole interface's, counted at the first of its links only */
    uint64_t reopened;  /* times that a socket which gave nothing back, or by which nothing came
                           in, was opened anew */
    uint64_t tx_held;   /* times that sending paused, because the device dropped a frame */
};

/* ---- opening
 * -------------------------------------------------------------------------------------- */

#define NETIF_XDP_GATHER_MAX 4u /* descriptors of a frame */

enum netif_xdp_attach {
    NETIF_XDP_AUTO,
    NETIF_XDP_NATIVE,
    NETIF_XDP_GENERIC
}; /* auto: native, else generic */
/* How it stays there. By a bpf_link: alone on the interface, gone with the process, however that
 * ends. By libxdp's dispatcher: beside other programs, other zest processes among them; needs a bpf
 * file system; after kill -9 it stays, takes nothing, and is removed by the next start. Auto:
 * dispatcher where that is possible, else link. */
enum netif_xdp_by { NETIF_XDP_BY_AUTO, NETIF_XDP_BY_LINK, NETIF_XDP_BY_DISPATCHER };
enum netif_xdp_copy { NETIF_XDP_COPY_AUTO, NETIF_XDP_COPY, NETIF_XDP_ZERO_COPY };

/* With several queues: how answers to connections of our own come to find the right one. Each
 * falls back to the next: what the card can be told (ethtool -N), what it tells of its hash
 * (ethtool -x), and trying ports until an answer comes in here. */
enum netif_xdp_steer { NETIF_XDP_STEER_AUTO, NETIF_XDP_STEER_HASH, NETIF_XDP_STEER_LEARN };

struct netif_ports {
    uint16_t first, last;
};
#define NETIF_PORTS_MAX 4096u /* of all ranges together */

struct netif_xdp_config {
    struct zbuf_pool *pool; /* becomes the UMEM */
    const char *ifname;
    uint32_t queue;
    /* Frames to it (and ARP for it) come to us, everything else goes on to the kernel. */
    struct zest_addr ip;
    /* n_ports > 0: ip is this host's own on that interface, and only TCP to these ports (and ICMP
     * errors about it) comes to us. The kernel answers ARP, and the link answers what the stack
     * asks by ARP out of the kernel's neighbour table. The ports are held: no socket of the
     * kernel's can have them, and opening fails with -EADDRINUSE if one has. */
    const struct netif_ports *ports;
    unsigned n_ports;
    enum netif_xdp_attach attach;
    enum netif_xdp_by by;
    enum netif_xdp_copy copy;
    enum netif_xdp_steer steer; /* auto: all three; hash: not by rules; learn: only that */
    uint32_t rx_ring, tx_ring;  /* descriptors, powers of two; 0 = 2048 */
    bool gather;                /* ask for several descriptors a frame (XDP_USE_SG) */
    bool measure;               /* find out whether that is cheap: sends up to 384 frames to itself,
                                   in at most 10 ms (docs/links.md), and asks for gather if it is */
    bool quiet;                 /* do not say on standard error what was fallen back to */
};
NETIF_API int netif_open_xdp(const struct netif_xdp_config *cfg, struct netif **out,
                             struct netif_error *err);

/* The same for n queues, from cfg->queue on: a link for each, to be run by a thread of its own.
 * They share the pool and the XDP program; nothing else, so no lock is taken while they run. What
 * one that was closed held comes home with the last of them. All or none are opened. */
#define NETIF_QUEUES_MAX 255u
NETIF_API int netif_open_xdp_queues(const struct netif_xdp_config *cfg, unsigned n,
                                    struct netif **out, struct netif_error *err);
/* How many queues an interface receives on: a count, or -errno. */
NETIF_API int netif_queues(const char *ifname);

struct netif_tap_config {
    struct zbuf_pool *pool;
    const char *ifname;    /* NULL = the kernel picks one; an existing one is attached to */
    uint16_t mtu;          /* 0 = 1500 */
    bool no_offload;       /* neither side leaves checksums and segmentation to the other */
    const char *host_cidr; /* "10.0.0.1/24" gives the kernel's side an address and brings it up;
                              NULL: leave it */
};
NETIF_API int netif_open_tap(const struct netif_tap_config *cfg, struct netif **out,
                             struct netif_error *err);
/* n queues of one interface, as with AF_XDP: a link and a thread for each. */
NETIF_API int netif_open_tap_queues(const struct netif_tap_config *cfg, unsigned n,
                                    struct netif **out, struct netif_error *err);

struct netif_pcap_config {
    struct zbuf_pool *pool;
    struct zest_addr ip; /* frames to it, and ARP for it, come to us */
    const char *ifname;  /* live, */
    bool promisc;        /* with a MAC address of our own, not the interface's; */
    const char *file;    /* or a capture file as input: what is sent goes nowhere, and when the file
                            has ended the link is gone (-ENODATA) */
    bool fast;           /* as fast as it goes, not at the pace at which it was captured */
    uint16_t mtu;        /* of a file; 0 = 1500 */
};
NETIF_API int netif_open_pcap(const struct netif_pcap_config *cfg, struct netif **out,
                              struct netif_error *err);

struct netif_mem_config {
    /* May be the same; frames between two pools are copied, in one they are not. */
    struct zbuf_pool *pool[2];
    uint16_t mtu;       /* 0 = 1500 */
    uint32_t queue_len; /* frames each way; 0 = 1024 */
    bool gather;
};
/* Two ends of a cable. Single-threaded. */
NETIF_API int netif_open_mem_pair(const struct netif_mem_config *cfg, struct netif *out[2],
                                  struct netif_error *err);

/* Why a link is gone, for people: error is what on_link() or netif_watch_turn() said. */
NETIF_API void netif_explain(const struct netif *nif, int error, struct netif_error *out);

/* Gives every segment back and undoes everything that opening did (program detached, ...). */
NETIF_API void netif_close(struct netif *nif);

/* ---- moving frames
 * -------------------------------------------------------------------------------- */

NETIF_API const struct netif_caps *netif_caps(const struct netif *nif);
/* Fills in what the link decides about a stack on it: mac, mtu, rx_seg, who does checksums and who
 * cuts, whether to gather (if that is cheap), and a random secret. 0, or -EIO without random
 * bytes. Everything else is the application's. */
NETIF_API int netif_configure(const struct netif *nif, struct zest_config *cfg);
NETIF_API unsigned netif_rx(struct netif *nif, struct zbuf **frames, unsigned max);
NETIF_API unsigned netif_tx_room(const struct netif *nif);
/* n must be at most netif_tx_room(), counted in places of the ring (netif_caps.frame_descs). */
NETIF_API void netif_tx(struct netif *nif, const struct zest_frame *frames, unsigned n);
/* 0, or -errno of a link that is down or gone. */
NETIF_API int netif_kick(struct netif *nif);
/* To wait for frames, or (with want_tx) for room: a descriptor for poll(), and its events. -1:
 * none. */
NETIF_API int netif_fd(const struct netif *nif);
NETIF_API void netif_get_stats(struct netif *nif, struct netif_stats *out);

/* ---- opening connections
 * ------------------------------------------------------------------------------- */

struct netif_loop;
/* As zest_connect(), from a port of those that the link has (netif_xdp_config.ports), if it has not
 * all. -EADDRNOTAVAIL: all of them are in use. */
NETIF_API int netif_connect(struct netif_loop *nl, const struct zest_addr *remote,
                            zest_handle *out);

/* ---- several queues with one address
 * ------------------------------------------------------------------------------- */

/* A link, a stack (zest_config.share_*), a loop and a thread for each queue. A connection belongs
 * to the stack on whose queue it began. A frame that comes in on another queue is passed from loop
 * to loop, as it lies, until the stack that knows its connection takes it; what none knows is
 * refused where it came in. Listen on each stack: a connection is accepted where its SYN arrives.
 */
struct netif_group;
struct netif_group_stats {
    uint64_t strays;       /* frames that came in on this queue, and were not for its stack */
    uint64_t handed;       /* frames for this stack, that had come in on another queue */
    uint64_t refused;      /* strays that no stack knew, and that came back */
    uint64_t dropped;      /* strays that were lost, because the next loop did not keep up */
    uint64_t port_changes; /* connections that tried another port, as the answer had come in on
                              another queue */
};
NETIF_API int netif_group_create(unsigned n, struct netif_group **out);
/* When all its loops have been stopped, and before the pool goes. */
NETIF_API void netif_group_destroy(struct netif_group *g);
/* From any thread. */
NETIF_API void netif_group_get_stats(const struct netif_group *g, unsigned member,
                                     struct netif_group_stats *out);

/* ---- capture
 * -------------------------------------------------------------------------------------- */

struct netif_capture_config {
    const char *path;    /* of the pcapng file; what was there is overwritten */
    uint64_t max_bytes;  /* the file ends before it would get larger; 0 = no bound */
    uint32_t ring_s;     /* keep the last so many seconds in memory, and write them only when asked
                            to, or when the loop sees that something has gone wrong; 0 = write all */
    uint64_t ring_bytes; /* memory for that; 0 = 64 MiB */
};
struct netif_capture_stats {
    uint64_t frames; /* in the file */
    uint64_t lost;   /* after it was full */
    bool failed;     /* not all could be written */
};
/* From now on every frame that netif_rx() returns or netif_tx() takes is kept, and written to a
 * file, with a comment where there is something to say: why it was dropped, why it is sent again.
 * The time that takes is the loop's: this is for finding out, not for every day. */
NETIF_API int netif_capture_start(struct netif *nif, const struct netif_capture_config *cfg,
                                  struct netif_error *err);
/* Writes what is kept and not yet written; the last frame's comment says why. 0, -EINVAL (there is
 * no capture), -EIO. A signal handler may do it. */
NETIF_API int netif_capture_save(struct netif *nif, const char *why);
/* zest_input() for frames that netif_rx() has just returned. While a capture runs, they go in one
 * by one, so that it learns what became of each. */
NETIF_API void netif_input(struct netif *nif, struct zest *z, uint64_t now_ns, struct zbuf **frames,
                           unsigned n);
/* netif_close() does it too. A ring's frames that nobody saved are forgotten. out may be NULL. */
NETIF_API void netif_capture_stop(struct netif *nif, struct netif_capture_stats *out);

/* ---- the loop
 * ------------------------------------------------------------------------------------- */

struct ev_loop;
struct netif_loop;

/* What can happen to a link and need not be its end. */
enum netif_link_what {
    NETIF_LINK_DOWN,    /* value 1: it is up, but has no carrier */
    NETIF_LINK_UP,      /* again; connections retransmit at once */
    NETIF_LINK_RENAMED, /* name is the new one */
    NETIF_LINK_MTU, /* value; segments are cut to a smaller one, a larger one is not made use of */
    NETIF_LINK_STALLED,  /* nothing that was sent came back for 5 s; value: descriptors */
    NETIF_LINK_RESUMED,  /* some did after all */
    NETIF_LINK_REOPENED, /* so its socket was closed and opened anew; what it held is home, and TCP
                            sends again what was lost. value: the how-manieth time since something
                            came back; after five it is left alone */
    NETIF_LINK_DEAF      /* nothing had come in for value seconds though frames were sent; the
                            socket was opened anew, and now something does. Where that does not help
                            nothing is told: a peer that died looks the same */
};
struct netif_link_event {
    enum netif_link_what what;
    const char *name; /* of the interface */
    uint32_t value;
    bool grown; /* NETIF_LINK_MTU: it is larger than what is used */
};

struct netif_loop_config {
    struct ev_loop *loop; /* libev's */
    struct netif *nif;
    struct zest *z;
    bool spin; /* poll without sleeping: lowest latency, one whole core */
    /* Called from the loop, never from inside the stack, with events just drained. May call any
     * zest_ function. */
    void (*on_event)(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n);
    void *ctx;
    /* The link is gone for good, once; what the stack still sends is lost. -ENODEV: its interface
     * is; -EUNATCH: somebody took our XDP program off it, so that nothing would come in any more;
     * other -errno: its queue. netif_explain() has a sentence for it. Opening a new link is all
     * that helps. NULL: it is said on standard error. */
    void (*on_link)(void *ctx, int error);
    /* After work, how long to look for more before going to sleep, in microseconds. To wake a
     * sleeper costs its peer more than a frame does. 0 = 40; 1 = as good as none. */
    uint32_t linger_us;
    /* From the loop, like on_event. NULL: it is said on standard error. */
    void (*on_link_change)(void *ctx, const struct netif_link_event *ev);
    /* NULL, or what this stack and link are a part of, and which. */
    struct netif_group *group;
    unsigned member;
};
/* Attaches a stack and a link to a libev loop. Use ev_run() and ev_break() as ever. */
NETIF_API int netif_loop_start(const struct netif_loop_config *cfg, struct netif_loop **out);
NETIF_API void netif_loop_stop(struct netif_loop *nl);
/* Something was written, opened or closed outside on_event(): send it on the loop's next turn. */
NETIF_API void netif_loop_wake(struct netif_loop *nl);
/* Somebody who was refused memory and wants to be called when it is worth another try. Belongs to
 * the caller, who fills in the first four and leaves the others zero; nothing is allocated. */
struct netif_loop_wait {
    struct zbuf_budget *budget; /* that refused: zbuf_budget_app(pool) after zbuf_alloc() */
    size_t bytes;               /* as asked for */
    void (*ready)(struct netif_loop_wait *w);
    void *ctx;
    struct netif_loop_wait *prev, *next; /* private */
    uint32_t round;                      /* private */
    bool active;                         /* private */
};
/* Calls w->ready once, from the loop, when a request of that size could succeed: on the next turn
 * if that is so already. It promises nothing: another may be quicker; then wait again, which is
 * allowed inside ready(). 0, -EMSGSIZE (no segment is so large), -EALREADY. */
NETIF_API int netif_loop_wait(struct netif_loop *nl, struct netif_loop_wait *w);
/* Not any more; allowed at any time. netif_loop_stop() does it for all. */
NETIF_API void netif_loop_wait_stop(struct netif_loop *nl, struct netif_loop_wait *w);
/* For a loop of one's own: what netif_loop does about its link. Of cfg it takes nif, z,
 * on_link_change and ctx. */
struct netif_watch;
NETIF_API int netif_watch_open(const struct netif_loop_config *cfg, struct netif_watch **out);
/* For poll(); -1: this link has nothing to tell. */
NETIF_API int netif_watch_fd(const struct netif_watch *w);
/* After each turn. readable: the descriptor is. 0, or -errno of a link that is gone for good: then
 * what the stack sends is to be given back to the pool (zbuf_tx_done()). *again_ns: when to call it
 * next, if nothing happens before. netif_fd() may have changed. */
NETIF_API int netif_watch_turn(struct netif_watch *w, bool readable, uint64_t now_ns,
                               uint64_t *again_ns);
NETIF_API void netif_watch_close(struct netif_watch *w);
/* CLOCK_MONOTONIC in nanoseconds: the time that the loop gives the stack. */
NETIF_API uint64_t netif_now(void);

#ifdef __cplusplus
}
#endif
#endif
