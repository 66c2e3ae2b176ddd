/* zest.h - the TCP/IP stack: no I/O, no clock, no threads, no heap.
 *
 * A stack is a passive object in memory that the caller provides. Frames and the time go in, frames
 * and events come out; whoever holds the stack decides when:
 *
 *     zest_input(z, now, frames, n);              what a link received
 *     n = zest_output(z, now, out, max);          what there is to send, at most max frames
 *     n = zest_events(z, ev, max);                what happened to connections since last time
 *     wake me at zest_deadline(z), or when a frame arrives
 *
 * netif/ does this for AF_XDP, TAP, pcap and memory links. Nothing is ever called back from inside.
 * One stack belongs to one thread. Several stacks may share one pool.
 *
 * Sending: zest_write() takes the *address* of bytes inside a zbuf and does not copy them. The
 * stack holds a reference on their segment until the peer has acknowledged the last of them and the
 * link has given back every frame that pointed at them. Do not change bytes that you have written
 * until then. zbuf_free() your own reference whenever you like. Reading: zest_read() lends views
 * into the received segments; zest_release() gives them back, which opens the receive window. A
 * view may be written to any connection by its address, too.
 *
 * Errors: functions return 0 (or a count) or -errno; what fails leaves the connection as it was.
 *   -EBADF         the handle is stale, or of another kind
 *   -EINVAL        an argument is out of range
 *   -EFAULT        the address is not inside a live segment
 *   -EAGAIN        nothing to read, or no room: an event will follow
 *   -ENOBUFS       out of connections or memory
 *   -ENOTCONN      not connected (yet, or any more)
 *   -EPIPE         this side has closed its direction
 *   -EADDRINUSE, -EADDRNOTAVAIL    of addresses and ports
 *   -ECONNRESET, -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH    the connection ended so
 *
 * Times are nanoseconds on any clock that does not go backwards. Sizes are bytes.
 * Addresses are 16 bytes; IPv4 is mapped (::ffff:a.b.c.d). Ports are in host order. */
#ifndef ZEST_H
#define ZEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../zbuf/zbuf.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ZEST_VERSION "0.1.0"

#define ZEST_API   __attribute__((visibility("default")))
#define ZEST_NEVER UINT64_MAX /* no deadline */

struct zest;
typedef uint64_t zest_handle; /* a connection or a listener; 0 is never one */

struct zest_addr {
    uint8_t ip[16];
    uint16_t port;
};

/* ---- making one
 * ----------------------------------------------------------------------------------- */

/* How a frame that does not lie ready for one descriptor is sent. See docs/sending.md. */
enum zest_gather {
    ZEST_GATHER_NEVER, /* the link can't, or it is dearer than copying: linearise, and count the
                          bytes */
    ZEST_GATHER_ALWAYS /* descriptors for header and payload: nothing is ever copied */
};

struct zest_config {
    struct zbuf_pool *pool;   /* required */
    uint8_t mac[6];           /* of the link; required */
    struct zest_addr ip;      /* our address; required; port ignored */
    uint8_t prefix_len;       /* of the subnet, counted in IPv4's 32 bits; 0 = 24 */
    struct zest_addr gateway; /* all zero = none */
    uint16_t mtu;             /* IP packet; 0 = 1500; at least 576 */
    enum zest_gather gather;  /* what the link can do */
    uint8_t gather_max;       /* most descriptors a frame; 0 = 4 */
    bool tx_csum_offload;     /* the link fills in TCP checksums (zest_frame.csum_*) */
    bool rx_csum_trusted;     /* the link has verified checksums */
    uint32_t max_conns;       /* 0 = 1024 */
    uint32_t max_listeners;   /* 0 = 16 */
    uint32_t max_pbufs;       /* over all connections; 0 = 16 for each connection, at least 4096 */
    uint32_t snd_buf;         /* most unacknowledged bytes that a connection queues; 0 = 1 MiB */
    uint32_t rcv_buf;         /* largest receive window; 0 = 1 MiB */
    uint64_t rx_hold_max; /* bytes of segments that all receive queues together may hold; 0 = a half
                             of the pool; at least 64 KiB, and raised to rx_seg if that is more. One
                             connection may hold half of what is left, and one segment always. */
    uint32_t conn_mem_min; /* bytes of segments that each connection is guaranteed to receive into:
                              0 = one frame; ZEST_MEM_NONE = nothing. See ZEST_OPT_MEM_MIN. */
    uint32_t rx_seg; /* size of the segments that the link receives frames in; 0 = what a frame
                        of mtu needs */
    uint64_t ctrl_reserve; /* bytes set aside for headers, ACK, ARP, RST; 0 = 2 MiB */
    uint8_t secret[16]; /* for ISNs, ports and hash tables; random, and different for each stack */
    void *record_mem;   /* NULL, or memory for a recording of what goes in; see zest_record.h */
    uint64_t record_size; /* of it; at least ZEST_RECORD_MIN */
    /* Of several stacks with one address, each on a queue of its own, this is number share_index of
     * share_count. Each takes its local ports from those that are its index modulo their number, so
     * that no two have the same connection. 0 = it is the only one. */
    uint8_t share_count, share_index;
    uint8_t tso_segs; /* the link cuts a TCP frame into so many full segments by itself, of an IP
                         packet of up to 64 KiB; 0 = it can't. Needs tx_csum_offload and gather. */
    uint8_t pad[5];
    uint64_t reserved[4];
};
#define ZEST_MEM_NONE UINT32_MAX

/* Bytes that zest_init() needs for cfg; 0 if cfg is invalid. */
ZEST_API size_t zest_size(const struct zest_config *cfg);
/* Builds a stack in mem (zest_size() bytes, aligned to 64). 0, -EINVAL, -ENOBUFS (the pool can't
 * set the control reserve aside). cfg is copied. */
ZEST_API int zest_init(void *mem, const struct zest_config *cfg, struct zest **out);
/* Drops every reference that the stack holds; sends nothing. Frames that zest_output() handed out,
 * and views that are still lent, stay valid. */
ZEST_API void zest_fini(struct zest *z);

/* ---- driving it
 * ----------------------------------------------------------------------------------- */

#define ZEST_FRAME_SEGS 18 /* a header, and 64 KiB in segments of 4K */

/* Why a frame is sent, for captures and traces; the link need not look. X(name, what to say) */
#define ZEST_WHYS(X)                                                                               \
    X(NEW, "")                                                                                     \
    X(RTO, "retransmission: time-out")                                                             \
    X(FAST, "retransmission: third duplicate ACK")                                                 \
    X(PARTIAL_ACK, "retransmission: partial ACK in recovery")                                      \
    X(MTU, "retransmission: the path takes smaller packets only")                                  \
    X(PEER_SYN, "retransmission: SYN, in answer to the peer's")                                    \
    X(PROBED, "retransmission: of what a zero-window probe carried")                               \
    X(PROBE, "zero-window probe")                                                                  \
    X(KEEPALIVE, "keepalive probe")
enum zest_why {
#define ZEST_WHY_ENUM(name, what) ZEST_WHY_##name,
    ZEST_WHYS(ZEST_WHY_ENUM)
#undef ZEST_WHY_ENUM
};

/* A frame to be sent: n descriptors. Each holds one reference on the segment that it lies in; the
 * link gives it back with zbuf_tx_done(pool, seg[i].addr) when it has finished with it. */
struct zest_frame {
    struct {
        uint8_t *addr;
        uint32_t len;
    } seg[ZEST_FRAME_SEGS];
    uint8_t n;
    bool csum;            /* the link is to fill in a checksum */
    uint8_t why;          /* enum zest_why */
    uint16_t csum_start;  /* where the sum begins, from the frame's first byte */
    uint16_t csum_offset; /* where it goes, from csum_start */
    uint16_t gso_size; /* the link is to cut it into TCP segments of so many bytes of payload (the
                          last one may be shorter); 0 = it is one */
};

/* n received Ethernet frames: zb->data, zb->len. Takes over the reference of each. A frame may be a
 * chain by zb->next (which is NULL otherwise) of segments that nobody else holds, none of them
 * borrowed. What of its headers is not in the first one is moved there. */
ZEST_API void zest_input(struct zest *z, uint64_t now_ns, struct zbuf **frames, unsigned n);
/* Up to max frames to send now. Fewer than max: there is nothing more until the deadline or an
 * input. */
ZEST_API unsigned zest_output(struct zest *z, uint64_t now_ns, struct zest_frame *out,
                              unsigned max);
/* Whose is this frame? Changes nothing. For those who hold several stacks with one address: what is
 * not a stack's is for another one of them, and only when it is nobody's is it to be refused, which
 * is what zest_input() does with it. */
enum zest_claim {
    ZEST_CLAIM_OURS,   /* of a connection or listener here; or not of any connection (ARP, ping) */
    ZEST_CLAIM_ANSWER, /* the answer to a SYN of ours: *conn is set */
    ZEST_CLAIM_STRAY   /* of a connection that is not here */
};
ZEST_API enum zest_claim zest_claim(const struct zest *z, const struct zbuf *frame,
                                    zest_handle *conn);
/* The link is up again after it was down, or its MTU has become smaller (mtu: of IP packets; 0, or
 * a larger one than before: no change). Connections that wait for a retransmission timer which has
 * backed off meanwhile send at the next zest_output(); segments that no longer fit are cut anew. */
ZEST_API void zest_link_up(struct zest *z, uint64_t now_ns, uint32_t mtu);
/* When zest_output() next has work if nothing comes in: 0 = now, ZEST_NEVER = not until then. Ask
 * it after any other call. */
ZEST_API uint64_t zest_deadline(const struct zest *z);

/* ---- events
 * --------------------------------------------------------------------------------------- */

enum {
    ZEST_EV_ACCEPT = 1 << 0,     /* a listener has a connection for zest_accept() */
    ZEST_EV_CONNECTED = 1 << 1,  /* zest_connect() succeeded */
    ZEST_EV_READABLE = 1 << 2,   /* new bytes */
    ZEST_EV_WRITABLE = 1 << 3,   /* room (or memory) again, after a write that took less than all */
    ZEST_EV_EOF = 1 << 4,        /* the peer has closed its direction; all its bytes can be read */
    ZEST_EV_ERROR = 1 << 5,      /* the connection ended; error says why */
    ZEST_EV_CLOSED = 1 << 6,     /* closed both ways, all acknowledged; zest_close() it when read */
    ZEST_EV_SOFT_ERROR = 1 << 7, /* the network reports trouble, or nothing was acknowledged for
                                    three time-outs: error says what. The connection goes on */
    ZEST_EV_URGENT = 1 << 8      /* urgent data is under way, or goes on further than was known:
                                    zest_conn_info.urgent_end */
};
struct zest_event {
    zest_handle handle;
    void *user;      /* what zest_set_user() set */
    uint32_t events; /* ZEST_EV_ bits; at most one pending struct for each handle */
    int error;       /* with ZEST_EV_ERROR, ZEST_EV_SOFT_ERROR: a positive errno */
};
/* Takes up to max pending events. Each is given once; what happened meanwhile is merged. A handle
 * stays valid, after ZEST_EV_ERROR and ZEST_EV_CLOSED too, until zest_close() or zest_abort(). */
ZEST_API unsigned zest_events(struct zest *z, struct zest_event *ev, unsigned max);

/* ---- connections
 * ---------------------------------------------------------------------------------- */

/* local->port required; local->ip zero = the stack's address. backlog: connections (half-open or
 * not yet accepted) that wait at most; 0 = 128. */
ZEST_API int zest_listen(struct zest *z, const struct zest_addr *local, unsigned backlog,
                         zest_handle *out);
/* 0, or -EAGAIN when none is waiting. peer may be NULL. */
ZEST_API int zest_accept(struct zest *z, zest_handle listener, zest_handle *out,
                         struct zest_addr *peer);
/* Starts to connect; ZEST_EV_CONNECTED or ZEST_EV_ERROR follows. local NULL, or port 0: a free
 * port. */
ZEST_API int zest_connect(struct zest *z, const struct zest_addr *remote,
                          const struct zest_addr *local, zest_handle *out);

/* A connection whose SYN is not answered yet, or whose answer came in on another stack's queue,
 * tries again from another local port (0: a free one); the peer's half of the old one is reset.
 * What was written so far stays queued. 0, -EBADF, -EADDRINUSE, -EISCONN (it is not opening any
 * more), -EADDRNOTAVAIL (no port is free; or, with port 0, the application had chosen the old one,
 * or it was changed eight times for each stack that shares the address). */
ZEST_API int zest_change_port(struct zest *z, zest_handle conn, uint16_t port);

/* Queues len bytes at addr, which must lie within one live segment of the stack's pool. Returns how
 * many were taken: fewer than len if the send buffer filled up; write the rest, from where it
 * stopped, after ZEST_EV_WRITABLE. What continues the last unsent bytes in the same segment costs
 * no new reference. -EAGAIN when none were taken. */
ZEST_API ssize_t zest_write(struct zest *z, zest_handle conn, const void *addr, size_t len);
/* The same for bytes that lie anywhere: copies them into segments of the pool. Counted in
 * app_copied_bytes. -ENOBUFS when the pool has none: ZEST_EV_WRITABLE follows when it has. */
ZEST_API ssize_t zest_write_copy(struct zest *z, zest_handle conn, const void *addr, size_t len);

/* Says that what has been written so far is urgent: the peer hears at once where it ends, ahead of
 * the bytes and even while its window is closed; Nagle's algorithm and ZEST_OPT_CORK hold nothing
 * of it back. Call it right after the write, or after each of several: urgent data may have any
 * length (RFC 9293 3.8.5). It is read in line with the rest (RFC 6093). -EINVAL: nothing that was
 * written is still unsent, so no byte could carry the news. New protocols should not use it. */
ZEST_API int zest_urgent(struct zest *z, zest_handle conn);

/* Received bytes, in place. The segment under a view stays alive until zest_release(). */
struct zest_view {
    uint8_t *addr;
    uint32_t len;
};
/* Lends the next bytes, at most max views; returns how many, 0 at the end of the stream (after
 * EV_EOF), -EAGAIN when there is nothing yet. */
ZEST_API int zest_read(struct zest *z, zest_handle conn, struct zest_view *views, unsigned max);
/* Gives n views back (whole ones, any order). Works for a handle that went stale since: then it
 * only drops the references, and returns 0 all the same. */
ZEST_API int zest_release(struct zest *z, zest_handle conn, const struct zest_view *views,
                          unsigned n);

/* Closes our direction after all that was written (FIN). Reading goes on. */
ZEST_API int zest_shutdown(struct zest *z, zest_handle conn);
/* Closes the connection or listener and lets go of the handle: it is stale at once, no event
 * follows. Bytes already written are still sent, orderly, in the background. Bytes never read: the
 * peer gets a RST (RFC 1122 4.2.2.13). A listener's connections that nobody accepted are reset. */
ZEST_API int zest_close(struct zest *z, zest_handle handle);
/* Sends a RST and forgets the connection. The handle is stale at once. */
ZEST_API int zest_abort(struct zest *z, zest_handle conn);

ZEST_API int zest_set_user(struct zest *z, zest_handle handle, void *user);

enum zest_option {
    ZEST_OPT_NODELAY,      /* 1 = Nagle off; default 0 */
    ZEST_OPT_KEEPALIVE,    /* seconds of idleness before the first probe, 0 = off (default) */
    ZEST_OPT_KEEPINTVL,    /* seconds between probes, default 75 */
    ZEST_OPT_KEEPCNT,      /* probes without an answer that end the connection, default 9 */
    ZEST_OPT_USER_TIMEOUT, /* milliseconds without progress that end the connection, 0 = RFC 9293's
                              R2 */
    ZEST_OPT_SND_BUF,      /* bytes */
    ZEST_OPT_RCV_BUF,      /* bytes; less than 2048 is taken for 2048 */
    ZEST_OPT_CORK,         /* 1 = hold partial segments back until 0 */
    ZEST_OPT_TTL,          /* of the packets of the connection, 1 to 255; default 64 */
    ZEST_OPT_DSCP,         /* RFC 2474's code point, 0 (default) to 63 */
    /* Received memory: whole segments, queued, lent, or written on. Whatever other connections,
     * floods or the application do, a connection can hold MEM_MIN of it: set aside now, or
     * -ENOBUFS. It never holds more than MEM_MAX (0 = half of what is left, as others need). */
    ZEST_OPT_MEM_MIN, /* default: zest_config.conn_mem_min, as far as there is memory */
    ZEST_OPT_MEM_MAX,
    /* The same for all connections that came from a listener together; default 0. */
    ZEST_OPT_LISTENER_MEM_MIN,
    ZEST_OPT_LISTENER_MEM_MAX,
    /* Explicit congestion notification, enum zest_ecn; to be set before there is a connection. */
    ZEST_OPT_ECN,
    ZEST_OPT_SOFT_ERRORS /* 0 = no ZEST_EV_SOFT_ERROR; default 1 */
};
enum zest_ecn {
    ZEST_ECN_OFF,
    ZEST_ECN_AGREE, /* if the peer asks (default) */
    ZEST_ECN_ASK
};
/* 0, -EBADF, -EINVAL (no such option or value), -ENOBUFS. On a listener: what its connections begin
 * with. */
ZEST_API int zest_set_option(struct zest *z, zest_handle handle, enum zest_option opt,
                             uint32_t value);

/* ---- what it knows
 * -------------------------------------------------------------------------------- */

enum zest_tcp_state {
    ZEST_CLOSED,
    ZEST_LISTEN,
    ZEST_SYN_SENT,
    ZEST_SYN_RECEIVED,
    ZEST_ESTABLISHED,
    ZEST_FIN_WAIT_1,
    ZEST_FIN_WAIT_2,
    ZEST_CLOSE_WAIT,
    ZEST_CLOSING,
    ZEST_LAST_ACK,
    ZEST_TIME_WAIT
};
struct zest_conn_info {
    enum zest_tcp_state state;
    struct zest_addr local, remote;
    uint32_t mss;              /* payload of a full segment, options allowed for */
    uint32_t snd_queued;       /* bytes not yet acknowledged, sent or not */
    uint32_t snd_unsent;       /* of them, not yet sent */
    uint32_t snd_wnd, rcv_wnd; /* bytes */
    uint32_t cwnd, ssthresh;   /* bytes */
    uint64_t srtt_ns, rttvar_ns, rto_ns;
    uint32_t rcv_queued; /* bytes waiting for zest_read() */
    uint32_t rcv_lent;   /* bytes lent and not given back */
    uint64_t bytes_sent, bytes_acked, bytes_received;
    uint64_t segs_sent, segs_received, segs_retransmitted, rtos, fast_retransmits;
    bool ecn;       /* both ends do explicit congestion notification */
    int soft_error; /* the trouble that ZEST_EV_SOFT_ERROR told of, until something is acknowledged
                     */
    /* Places in the stream that arrives, counted from its first byte. Urgent data remains to be
     * read while urgent_end > bytes_read; its last byte is the one before urgent_end. */
    uint64_t bytes_read;       /* what zest_read() has lent */
    uint64_t urgent_end;       /* where the peer's last urgent data ends; 0: there was none */
    uint32_t mem_held;         /* bytes of received segments that it holds */
    uint32_t mem_min, mem_max; /* ... is guaranteed, and may hold at most just now */
};
ZEST_API int zest_conn_info(const struct zest *z, zest_handle conn, struct zest_conn_info *out);

/* Counters. X(name, what it counts). They only grow. */
#define ZEST_COUNTERS(X)                                                                           \
    X(rx_frames, "frames received")                                                                \
    X(rx_bytes, "bytes of frames received")                                                        \
    X(tx_frames, "frames sent")                                                                    \
    X(tx_bytes, "bytes of frames sent")                                                            \
    X(tx_headroom_frames, "data frames sent as one descriptor, headers in the headroom")           \
    X(tx_gather_frames, "data frames sent as several descriptors")                                 \
    X(tx_linear_frames, "data frames copied into a frame of their own")                            \
    X(tx_copied_bytes, "payload bytes that those copies cost")                                     \
    X(app_copied_bytes, "bytes copied by zest_write_copy")                                         \
    X(rx_copied_bytes, "bytes of small segments joined in the receive queue")                      \
    X(tx_no_memory, "frames not built now for want of memory")                                     \
    X(drop_eth_short, "frames shorter than an Ethernet header")                                    \
    X(drop_eth_chain,                                                                              \
      "frames in several segments that are too long, or whose headers do not fit one")             \
    X(drop_eth_not_ours, "frames to another MAC address")                                          \
    X(drop_eth_type, "frames of a type that is not IPv4 or ARP")                                   \
    X(drop_arp_bad, "malformed ARP packets")                                                       \
    X(drop_arp_not_ours, "ARP packets that do not concern us")                                     \
    X(arp_conflicts, "ARP packets of another host that uses our address")                          \
    X(drop_arp_queue, "packets dropped while their address was being resolved")                    \
    X(drop_ip_short, "IPv4 packets cut short")                                                     \
    X(drop_ip_version, "IPv4 packets with a wrong version or header length")                       \
    X(drop_ip_csum, "IPv4 packets with a bad header checksum")                                     \
    X(drop_ip_fragment, "IPv4 fragments")                                                          \
    X(drop_ip_not_ours, "IPv4 packets to another address")                                         \
    X(drop_ip_source, "IPv4 packets from an impossible source address")                            \
    X(drop_ip_proto, "IPv4 packets of a protocol that we do not speak")                            \
    X(drop_no_route, "control packets to an address that no route leads to")                       \
    X(drop_icmp_short, "ICMP messages cut short")                                                  \
    X(drop_icmp_csum, "ICMP messages with a bad checksum")                                         \
    X(drop_icmp_type, "ICMP messages that we have no use for")                                     \
    X(icmp_echo_replies, "pings answered")                                                         \
    X(icmp_errors_sent, "ICMP errors sent")                                                        \
    X(icmp_rate_limited, "ICMP replies and errors not sent, rate limit")                           \
    X(drop_ctrl_queue, "control packets dropped, queue full or no memory")                         \
    X(drop_tcp_short, "TCP segments cut short, or with a bad data offset")                         \
    X(drop_tcp_csum, "TCP segments with a bad checksum")                                           \
    X(drop_tcp_csum_partial,                                                                       \
      "TCP segments whose checksum the sender left to hardware that is not there")                 \
    X(drop_tcp_option, "TCP segments with malformed options")                                      \
    X(drop_tcp_no_conn, "TCP segments for no connection (answered with RST)")                      \
    X(drop_tcp_seq, "TCP segments outside the receive window")                                     \
    X(drop_tcp_ack, "TCP segments with an unacceptable ACK")                                       \
    X(drop_tcp_paws, "TCP segments with an old timestamp (RFC 7323 PAWS)")                         \
    X(drop_tcp_state, "TCP segments that make no sense in the connection's state")                 \
    X(drop_tcp_backlog, "SYNs dropped, listener's backlog full")                                   \
    X(drop_tcp_no_memory, "TCP segments dropped, receive memory held to its limit")                \
    X(drop_tcp_promise, "SYNs dropped, what their connection is to be guaranteed is not there")    \
    X(drop_tcp_reass, "TCP segments dropped, reassembly queue full")                               \
    X(tcp_rx_segs, "TCP segments received")                                                        \
    X(tcp_tx_segs, "TCP segments sent")                                                            \
    X(tcp_rx_ooo, "TCP segments received out of order")                                            \
    X(tcp_rx_dup, "TCP segments that brought nothing new")                                         \
    X(tcp_retransmits, "TCP segments sent again")                                                  \
    X(tcp_fast_retransmits, "fast retransmits (RFC 6582)")                                         \
    X(tcp_rtos, "retransmission time-outs")                                                        \
    X(tcp_rsts_sent, "RSTs sent")                                                                  \
    X(tcp_rsts_received, "RSTs accepted")                                                          \
    X(tcp_challenge_acks, "challenge ACKs sent (RFC 5961)")                                        \
    X(tcp_ecn_marked, "TCP segments that a router marked: congestion (RFC 3168)")                  \
    X(tcp_ecn_slowed, "times that a peer reported such marks, and its connection slowed down")     \
    X(tcp_zero_window_probes, "zero-window probes sent")                                           \
    X(tcp_keepalive_probes, "keepalive probes sent")                                               \
    X(tcp_active_opens, "connections opened by us")                                                \
    X(tcp_passive_opens, "connections opened by peers")                                            \
    X(tcp_conns_aborted, "connections that ended in an error")                                     \
    X(tcp_time_waits_recycled, "TIME-WAIT connections ended early, for their memory")

struct zest_stats {
#define ZEST_COUNTER_FIELD(name, what) uint64_t name;
    ZEST_COUNTERS(ZEST_COUNTER_FIELD)
#undef ZEST_COUNTER_FIELD
    uint32_t conns;     /* connections alive now, TIME-WAIT included */
    uint32_t time_wait; /* of them, in TIME-WAIT */
    uint32_t pbufs;     /* in use now */
};
ZEST_API void zest_stats(const struct zest *z, struct zest_stats *out);

/* ---- addresses
 * ------------------------------------------------------------------------------------ */

/* "10.0.0.1", "10.0.0.1:80", "[::ffff:10.0.0.1]:80": 0, -EINVAL. A port in the text wins over
 * `port`. */
ZEST_API int zest_addr_parse(struct zest_addr *out, const char *text, uint16_t port);
#define ZEST_ADDR_TEXT 56
/* Writes "10.0.0.1:80" (or without ":80" if port is 0) into buf; returns buf. */
ZEST_API char *zest_addr_text(const struct zest_addr *addr, char buf[ZEST_ADDR_TEXT]);
ZEST_API const char *zest_tcp_state_name(enum zest_tcp_state state);
/* The peer of the connection that a segment's zbuf_holder.who is; false if it is none. */
ZEST_API bool zest_holder_addr(struct zest_addr *out, uint64_t who);

#ifdef __cplusplus
}
#endif
#endif
