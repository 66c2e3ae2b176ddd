/* tcp_conn.h - a TCP connection, private to stack/tcp_*.c, timer.c and cc_*.c.
 *
 * Names of sequence variables are RFC 9293's (3.3.1). Sequence numbers are 32 bits and wrap:
 * compare them only with seq_lt() and its kind.
 *
 *   send queue (pbufs)   |-- acknowledged, gone --|-- in flight --|-- unsent --|FIN
 *                                              snd_una         snd_nxt      snd_end
 *
 * snd_max is the highest snd_nxt ever; snd_nxt falls back to snd_una on a retransmission time-out.
 *
 * One function, tcp_next() in tcp_output.c, says what a connection does next and when. Whoever
 * changes a connection calls tcp_touch() and it is asked again. */
#ifndef TCP_CONN_H
#define TCP_CONN_H

#include "stack.h"

#define TCP_HLEN        20u
#define TCP_OPT_MAX     40u
#define TCP_TS_LEN      12u  /* timestamps, padded */
#define TCP_MSS_DEFAULT 536u /* RFC 9293 3.7.1, MUST-15 */
#define TCP_MSS_MIN     64u  /* a peer's smaller one is not believed */
#define TCP_WSCALE_MAX  14u  /* RFC 7323 2.3 */

#define TCP_RTO_INIT_NS    (1 * NS_PER_S)    /* RFC 6298 2.1 */
#define TCP_RTO_MIN_NS     (200 * NS_PER_MS) /* RFC 6298 2.4 says 1 s; what others do today */
#define TCP_RTO_MAX_NS     (60 * NS_PER_S)   /* RFC 6298 2.5 */
#define TCP_RTO_GRANULE_NS (1 * NS_PER_MS)   /* G of RFC 6298 2.3 */
#define TCP_DELACK_NS      (40 * NS_PER_MS)  /* below the 500 ms of MUST-40 */
#define TCP_ACK_BATCH      16u /* segments of a bulk transfer that one ACK may answer ... */
#define TCP_ACK_HOLD_NS    (20 * NS_PER_US) /* ... if they come this close together */
#define TCP_BULK           (256u << 10)     /* bytes received that make a transfer one */
#define TCP_MSL_NS         (30 * NS_PER_S)
#define TCP_R1             3u /* retransmissions before the path is doubted, RFC 9293 3.8.3 */
#define TCP_R2_NS          (300 * NS_PER_S) /* at least 100 s (SHLD-11) */
#define TCP_R2_SYN_NS      (180 * NS_PER_S) /* at least 3 minutes (MUST-23) */
#define TCP_FIN_WAIT_2_NS  (60 * NS_PER_S)  /* for a connection that nobody reads any more */
#define TCP_PAWS_IDLE_NS   (24ull * 24 * 3600 * NS_PER_S) /* RFC 7323 5.5 */
#define TCP_CHALLENGE_NS                                                                           \
    (100 * NS_PER_MS) /* challenge ACKs at least so far apart, for each connection */
#define TCP_RETRY_NS    (1 * NS_PER_MS) /* after running out of memory */
#define TCP_QUANTUM     32u   /* frames that one connection sends before it is another's turn */
#define TCP_REASS_MAX   1024u /* segments in one reassembly queue */
#define TCP_COPYBREAK   512u  /* smaller segments are joined in the receive queue */
#define TCP_HELD_MIN    (64u << 10) /* bytes that a connection may hold even when memory is scarce */
#define TCP_RX_MIN      16u         /* segments that can always be received, over all connections */
#define TCP_WND_MAX     65535u      /* what the window field holds */
#define TCP_GSO_MAX     65535u      /* IP packet that a link cuts up */
#define TCP_RCV_BUF_MIN 2048u       /* that zest_set_option() takes */
#define TCP_BACKLOG     128u

enum {
    TH_FIN = 1,
    TH_SYN = 2,
    TH_RST = 4,
    TH_PSH = 8,
    TH_ACK = 16,
    TH_URG = 32,
    TH_ECE = 64,
    TH_CWR = 128
};

static inline bool seq_lt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}
static inline bool seq_leq(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) <= 0;
}
static inline bool seq_gt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}
static inline bool seq_geq(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) >= 0;
}
static inline uint32_t seq_max(uint32_t a, uint32_t b)
{
    return seq_lt(a, b) ? b : a;
}

/* Bytes of one segment that wait to be sent or acknowledged. Holds one reference on it. */
struct pbuf {
    uint8_t *addr;
    uint32_t len;
    uint32_t seq; /* of the byte at addr */
    struct zbuf *zb;
    struct pbuf *next;
    bool received; /* zb counts against what its connection holds */
};

/* What a segment's options said. */
struct tcp_opts {
    bool has_mss, has_wscale, has_ts, sack_permitted;
    uint8_t wscale;
    uint16_t mss;
    uint32_t ts_val, ts_ecr;
};

/* A received segment, in host order. */
struct tcp_seg {
    uint32_t seq, ack, wnd; /* wnd scaled, if the segment belongs to a connection */
    uint32_t len;           /* payload; data lies at pk->p */
    uint16_t src_port, dst_port;
    uint16_t urp; /* urgent pointer, counted from the first sequence number on the wire */
    uint8_t flags;
    struct tcp_opts opt;
};

/* Congestion control: what happened, told to a module that owns cwnd and ssthresh. Bytes. */
struct tcp_cc {
    const char *name;
    void (*init)(struct tcp_conn *c);
    /* acked: newly acknowledged; not called in recovery */
    void (*acked)(struct tcp_conn *c, uint32_t acked, uint64_t now_ns);
    /* A loss was inferred (third duplicate ACK) or a time-out happened: set ssthresh, and cwnd for
     * after it. */
    void (*lost)(struct tcp_conn *c, uint32_t flight, uint64_t now_ns);
    void (*timed_out)(struct tcp_conn *c, uint32_t flight, uint64_t now_ns);
    /* Nothing was sent for longer than the RTO (RFC 5681 4.1). */
    void (*idle)(struct tcp_conn *c);
};
extern const struct tcp_cc tcp_cc_newreno;

enum tcp_list_id { TCP_ON_NONE, TCP_ON_READY, TCP_ON_BLOCKED };

struct tcp_conn {
    /* identity */
    struct ipaddr remote, local;
    uint16_t remote_port, local_port;
    uint16_t port_changes; /* of local_port, while it opened */
    uint8_t state;         /* enum zest_tcp_state; written by tcp_set_state() only */
    uint8_t on;            /* enum tcp_list_id: the list that `prev` and `next` are for */
    bool in_table, has_event, in_time_wait;
    uint32_t generation;
    struct tcp_conn *hash_next;
    struct tcp_conn *prev, *next;       /* ready or blocked */
    struct tcp_conn *ev_prev, *ev_next; /* events */
    struct tcp_conn *tw_prev, *tw_next; /* TIME-WAIT */
    struct tcp_conn *acc_next;          /* a listener's accept queue */
    struct tcp_listener *listener;      /* until accepted */

    /* flags */
    bool attached;     /* the application holds the handle */
    bool passive;      /* came from LISTEN */
    bool port_given;   /* the application chose local_port */
    bool fin_queued;   /* our FIN follows the last byte of the send queue */
    uint8_t acks_owed; /* ACKs to be sent now; more than one after segments out of order */
    bool rtx_now;      /* the segment at snd_una is to be sent again */
    uint8_t rtx_why;   /* enum zest_why: of rtx_now */
    uint8_t again_why; /* ... of what lies between snd_nxt and snd_max */
    bool probing;      /* the retransmission timer is the persist timer */
    bool probe_now;
    bool nodelay, cork;
    bool ecn;         /* agreed in the SYNs; see tcp_ecn.c */
    bool ecn_echo;    /* a mark has come, and no CWR since: every ACK says so */
    bool ecn_cwr;     /* the next new data says that we have slowed down */
    uint8_t ecn_mode; /* enum zest_ecn */
    bool soft_quiet;  /* no events of soft errors */
    bool want_write;  /* a write took less than all */
    bool urgent;      /* snd_up holds: not all up to it was acknowledged when last looked at */
    bool start_keep, start_wait; /* these timers begin at the next output */
    bool ts_on, wscale_on;
    bool in_recovery;
    bool partial_acked;   /* in this recovery: RFC 6582 3.2 step 3 */
    bool fin_received;    /* rcv_nxt is past the peer's FIN */
    bool fin_seen;        /* a FIN waits in the reassembly queue, at fin_seq */
    bool refused;         /* text in order had no memory: ACKs say window 0 until there is some */
    uint8_t unacked_segs; /* full segments received since the last ACK */
    uint8_t snd_wscale, rcv_wscale;
    uint8_t dupacks;
    uint8_t backoff; /* time-outs in a row */
    uint8_t keep_sent;

    /* send */
    uint32_t iss, snd_una, snd_nxt, snd_max, snd_end;
    uint32_t snd_up; /* the byte after the last urgent one */
    uint32_t let_go; /* up to there Nagle's rule has said yes, even if frames were cut shorter */
    uint32_t snd_wnd, snd_wl1, snd_wl2, max_snd_wnd;
    uint32_t mss;      /* payload of a full segment, options allowed for */
    uint32_t send_max; /* so many whole segments the link takes as one frame */
    uint32_t peer_mss; /* as its SYN said */
    uint32_t path_mtu;
    uint32_t snd_buf;
    struct pbuf *sq_head, *sq_tail;
    struct pbuf *sq_send; /* holds the byte snd_nxt; NULL if there is none */
    uint32_t sq_pbufs;

    /* congestion control and RTT */
    const struct tcp_cc *cc;
    uint32_t cwnd, ssthresh, cc_acked;
    uint32_t ecn_end; /* slowed down for the marks up to there */
    uint32_t recover; /* RFC 6582: highest sequence sent when recovery or the last time-out began */
    uint32_t rtx_high; /* bytes below it have been sent more than once (Karn) */
    bool rtt_timing;
    uint32_t rtt_seq;
    uint64_t rtt_start_ns;
    uint64_t srtt_ns, rttvar_ns, rto_ns;
    uint64_t last_sent_ns;

    /* receive */
    uint32_t irs, rcv_nxt, rcv_adv; /* rcv_adv: right edge of the window last advertised */
    uint32_t fin_seq;
    uint32_t rcv_buf;
    uint32_t rcv_queued, rcv_lent; /* bytes */
    uint32_t held;                 /* bytes of received segments that this connection keeps alive */
    uint32_t mem_min, mem_max;     /* of it; mem_max 0 = what the day allows */
    struct tcp_group *group;
    uint64_t who; /* for zbuf_set_holder() */
    struct tcp_conn *wait_prev, *wait_next;
    bool waits;                     /* for memory, see tcp_mem.c */
    struct zbuf *rq_head, *rq_tail; /* in order, ready to be read */
    struct zbuf *reass;             /* out of order, by sequence number (zb->user) */
    uint32_t reass_segs;
    uint64_t packed_at; /* bytes_received when the receive queue was last packed */
    uint32_t ts_recent, last_ack_sent;
    uint64_t ts_recent_ns;
    uint32_t ts_offset;
    uint64_t urgent_end; /* RCV.UP, as a place in the stream like bytes_received: it never wraps */

    /* timers; ZEST_NEVER = off */
    uint64_t rtx_ns; /* retransmission or persist */
    uint64_t delack_ns;
    uint64_t keep_ns;
    uint64_t wait_ns;      /* TIME-WAIT, FIN-WAIT-2 without a reader */
    uint64_t progress_ns;  /* when the peer last acknowledged something, or had nothing to
                              acknowledge: R2 counts from it */
    uint64_t challenge_ns; /* the last challenge ACK */
    uint64_t heap_key;
    uint32_t heap_pos; /* 0 = not in the heap */

    /* options */
    uint32_t keep_idle_s, keep_intvl_s, keep_cnt, user_timeout_ms;
    uint8_t ttl, dscp;

    struct ip_path path;
    uint32_t events;
    int error;      /* a positive errno, once it ended so */
    int soft_error; /* the last trouble; becomes the reason if the connection times out */
    void *user;

    uint64_t last_ack_ns; /* the last acceptable segment */
    uint64_t bytes_sent, bytes_acked, bytes_received;
    uint64_t segs_sent, segs_received, segs_retransmitted, rtos, fast_retransmits;
};

struct tcp_listener {
    bool used, has_event;
    uint32_t generation;
    struct ipaddr local; /* all zero = any */
    uint16_t port;
    uint32_t backlog, waiting; /* half-open and not yet accepted */
    struct tcp_conn *acc_head, *acc_tail;
    struct tcp_listener *ev_next;
    uint32_t events;
    void *user;
    bool nodelay, soft_quiet;
    uint32_t snd_buf, rcv_buf, keep_idle_s, keep_intvl_s, keep_cnt, user_timeout_ms;
    uint8_t ttl, dscp, ecn_mode;
    struct tcp_group *group;
    uint32_t mem_min, mem_max; /* of its connections; mem_min UINT32_MAX: as by default */
};

/* tcp_api.c: the public calls of the same names */
int tcp_listen(struct zest *z, const struct zest_addr *local, unsigned backlog, zest_handle *out);
int tcp_accept(struct zest *z, zest_handle listener, zest_handle *out, struct zest_addr *peer);
int tcp_change_port(struct zest *z, zest_handle conn, uint16_t port);
int tcp_connect(struct zest *z, const struct zest_addr *remote, const struct zest_addr *local,
                zest_handle *out);
ssize_t tcp_write(struct zest *z, zest_handle conn, const void *addr, size_t len);
ssize_t tcp_write_copy(struct zest *z, zest_handle conn, const void *addr, size_t len);
int tcp_urgent(struct zest *z, zest_handle conn);
int tcp_read(struct zest *z, zest_handle conn, struct zest_view *views, unsigned max);
int tcp_release(struct zest *z, zest_handle conn, const struct zest_view *views, unsigned n);
int tcp_shutdown(struct zest *z, zest_handle conn);
int tcp_close(struct zest *z, zest_handle handle);
int tcp_abort(struct zest *z, zest_handle conn);
int tcp_set_user(struct zest *z, zest_handle handle, void *user);
int tcp_set_option(struct zest *z, zest_handle handle, enum zest_option opt, uint32_t value);

/* tcp_state.c: life and death */
struct tcp_conn *tcp_conn_of(const struct zest *z,
                             zest_handle h); /* NULL if h is stale or not a connection's */
struct tcp_listener *tcp_listener_of(const struct zest *z, zest_handle h);
struct tcp_conn *tcp_conn_new(struct zest *z);
void tcp_set_state(struct zest *z, struct tcp_conn *c, enum zest_tcp_state state);
/* Ends the connection with error (0 = orderly): frees what it queued, tells the application. */
void tcp_conn_end(struct zest *z, struct tcp_conn *c, int error);
/* The application let go of it. Frees the slot as soon as it is CLOSED. */
void tcp_conn_detach(struct zest *z, struct tcp_conn *c);
void tcp_event(struct zest *z, struct tcp_conn *c, uint32_t events);
/* Trouble that need not be the end (RFC 9293 3.9.1.8). */
void tcp_soft_error(struct zest *z, struct tcp_conn *c, int error);
void tcp_listener_event(struct zest *z, struct tcp_listener *l);
void tcp_start_time_wait(struct zest *z, struct tcp_conn *c);
/* It may have something to do. tcp_touch() asks tcp_next(), at the time of the input or output that
 * it is called from. tcp_kick() is for the application's calls, which do not bring the time: the
 * next output asks. So does tcp_received(), so that a burst of segments is decided on once. */
void tcp_received(struct zest *z, struct tcp_conn *c);
void tcp_touch(struct zest *z, struct tcp_conn *c);
void tcp_kick(struct zest *z, struct tcp_conn *c);
void tcp_list_remove(struct zest *z, struct tcp_conn *c);
void tcp_make_ready(struct zest *z, struct tcp_conn *c); /* ... without asking */
void tcp_block(struct zest *z, struct tcp_conn *c);
zest_handle tcp_conn_handle(const struct zest *z, const struct tcp_conn *c);
zest_handle tcp_listener_handle(const struct zest *z, const struct tcp_listener *l);

/* tcp_table.c: which connection */
void tcp_table_insert(struct zest *z, struct tcp_conn *c);
void tcp_table_remove(struct zest *z, struct tcp_conn *c);
struct tcp_conn *tcp_table_find(struct zest *z, const struct ipaddr *local, uint16_t local_port,
                                const struct ipaddr *remote, uint16_t remote_port);
/* The same, leaving the stack as it is. */
const struct tcp_conn *tcp_table_peek(const struct zest *z, const struct ipaddr *local,
                                      uint16_t local_port, const struct ipaddr *remote,
                                      uint16_t remote_port);
struct tcp_listener *tcp_listener_find(const struct zest *z, const struct ipaddr *local,
                                       uint16_t port);
uint32_t tcp_new_iss(struct zest *z, const struct tcp_conn *c);
/* A free local port to remote; 0 if there is none. */
uint16_t tcp_free_port(struct zest *z, const struct ipaddr *remote, uint16_t remote_port);

/* tcp_opt.c: options on the wire */
bool tcp_opt_parse(struct tcp_opts *o, const uint8_t *p, uint32_t len);
uint32_t tcp_opt_syn(const struct zest *z, const struct tcp_conn *c, uint8_t *p);
uint32_t tcp_opt_ts(const struct zest *z, const struct tcp_conn *c, uint8_t *p);
void tcp_set_mss(struct zest *z, struct tcp_conn *c);

/* tcp_ecn.c: RFC 3168 */
uint8_t tcp_ecn_syn_flags(const struct tcp_conn *c);
void tcp_ecn_take_syn(struct tcp_conn *c, const struct tcp_seg *seg);
void tcp_ecn_input(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg, uint8_t tos);
uint8_t tcp_ecn_flags(const struct tcp_conn *c, uint32_t seq, uint32_t len);
void tcp_ecn_sent(struct zest *z, struct tcp_conn *c, uint8_t *frame, uint32_t seq, uint32_t len,
                  uint8_t flags);

/* tcp_rtt.c: RFC 6298 */
void tcp_rtt_init(struct tcp_conn *c);
void tcp_rtt_sample(struct tcp_conn *c, uint64_t rtt_ns);
uint64_t tcp_rto_backed_off(const struct tcp_conn *c);

/* tcp_sendq.c: pbufs */
uint32_t sendq_room(const struct zest *z,
                    const struct tcp_conn *c); /* bytes that a write may add now */
void sendq_append(struct zest *z, struct tcp_conn *c, uint8_t *addr, uint32_t len, struct zbuf *zb);
void sendq_acked(struct zest *z, struct tcp_conn *c); /* lets go of what is below snd_una */
void sendq_free(struct zest *z, struct tcp_conn *c);
struct pbuf *sendq_find(struct tcp_conn *c, uint32_t seq);

/* tcp_recvq.c: what is ready to be read, and what came out of order */
void recvq_data(struct zest *z, struct tcp_conn *c, struct pkt *pk, struct tcp_seg *seg);
void recvq_free(struct zest *z, struct tcp_conn *c);
void recvq_free_reass(struct zest *z, struct tcp_conn *c); /* only what came out of order */
uint32_t recvq_window(const struct zest *z, const struct tcp_conn *c);
/* Text is refused for want of memory, and more of it would be. */
bool recvq_is_refused(const struct zest *z, const struct tcp_conn *c);
bool recvq_update_due(const struct zest *z, const struct tcp_conn *c);
bool recvq_is_over(const struct zest *z, bool limit_reached);

/* tcp_frame.c: a segment becomes a frame, where possible without a copy */
struct tcp_payload {
    struct pbuf *pb; /* holds the first byte */
    uint32_t off;    /* of it in pb */
    uint32_t len;    /* bytes, over as many pbufs as it takes */
};
uint32_t tcp_frame_cut(const struct zest *z, const struct tcp_payload *pl, uint32_t hdr_len,
                       uint32_t mss);
int tcp_frame_data(struct zest *z, const struct tcp_payload *pl, uint32_t hdr_len,
                   struct zest_frame *f, uint8_t **payload, uint64_t *sum);

/* tcp_segment.c: headers */
/* Builds the segment [seq, seq + pl->len) with flags. pl->len may be cut: the caller looks at it
 * again, and only then knows whether the segment is the last (TH_FIN and TH_PSH are taken off if it
 * was cut). 0, -EAGAIN (blocked on ARP), -EHOSTUNREACH, -ENOBUFS. */
int tcp_segment(struct zest *z, struct tcp_conn *c, uint32_t seq, uint8_t *flags,
                struct tcp_payload *pl, struct zest_frame *f);

/* tcp_ack.c: what an acceptable ACK does; tcp_rtx_timeout is the RTO's side of it */
void tcp_ack(struct zest *z, struct tcp_conn *c, const struct tcp_seg *seg);
void tcp_rtx_timeout(struct zest *z, struct tcp_conn *c);
void tcp_rtx_arm(struct zest *z, struct tcp_conn *c);
uint64_t tcp_give_up_ns(const struct tcp_conn *c); /* R2 */

/* tcp_input.c */
/* Chooses the ISS (above *above, if given) and what the SYN will say. */
void tcp_open(struct zest *z, struct tcp_conn *c, const uint32_t *above);

/* tcp_output.c */
enum tcp_action {
    TCP_DO_NOTHING,
    TCP_DO_EXPIRE,  /* TIME-WAIT or FIN-WAIT-2 is over */
    TCP_DO_TIMEOUT, /* the retransmission or persist timer went off */
    TCP_DO_KEEPALIVE,
    TCP_DO_RETRANSMIT, /* the segment at snd_una */
    TCP_DO_PROBE,      /* past a closed window */
    TCP_DO_SEND,       /* what is next: SYN, data, FIN */
    TCP_DO_ACK
};
/* What c does next, and when: *when_ns is 0 for now; ZEST_NEVER with TCP_DO_NOTHING = only if
 * something comes in. */
enum tcp_action tcp_next(const struct zest *z, const struct tcp_conn *c, uint64_t *when_ns);
/* True if tcp_next() would send data or FIN now but for a closed or silly window. */
bool tcp_window_stalled(const struct tcp_conn *c);
uint32_t tcp_usable_window(const struct tcp_conn *c);

/* tcp_rst.c */
void tcp_rst_reply(struct zest *z, const struct pkt *pk,
                   const struct tcp_seg *seg);               /* to a segment of no connection */
void tcp_rst_conn(struct zest *z, const struct tcp_conn *c); /* from a connection */
/* Undoes at the peer what a SYN of ours began. */
void tcp_rst_opening(struct zest *z, const struct tcp_conn *c);

/* timer.c: a binary heap of connections */
void timer_set(struct zest *z, struct tcp_conn *c, uint64_t when_ns);
void timer_off(struct zest *z, struct tcp_conn *c);
struct tcp_conn *timer_first(const struct zest *z);

static inline uint32_t tcp_flight(const struct tcp_conn *c)
{
    return c->snd_nxt - c->snd_una;
}
/* Our SYN and FIN take a sequence number each: the end of what there is to send. */
static inline uint32_t tcp_snd_limit(const struct tcp_conn *c)
{
    return c->snd_end + (c->fin_queued ? 1 : 0);
}
static inline bool tcp_karn(const struct tcp_conn *c)
{
    return seq_lt(c->snd_una, c->rtx_high);
}
static inline bool tcp_synchronized(const struct tcp_conn *c)
{
    return c->state >= ZEST_ESTABLISHED;
}
static inline uint32_t tcp_ts_now(const struct zest *z, const struct tcp_conn *c)
{
    return (uint32_t)(z->now_ns / NS_PER_MS) + c->ts_offset;
}

#endif
