/* sim.h - a world in virtual time: stacks, the applications on them, a network that misbehaves, and
 * peers that mean harm. One seed makes one world, the same every time and everywhere.
 *
 *   plan.c      what this seed's world is like: each seed draws its own mix (swarm testing: a world
 *               with few kinds of trouble gets deeper into them than one with all)
 *   world.c     the clock: who does what next, and whether it all came to an end
 *   net.c       frames on their way: delay, loss, reordering, ...
 *   app.c       applications: what they mean to do, and when they change their minds
 *   app_io.c    ... how they read and write
 *   stream.c    ... the bytes of it
 *   hostile.c   a peer that speaks TCP its own way, and a stranger that forges packets
 *   track.c     each frame on the wire against what its sender may send
 *   inside.c    each stack's own structures, and every segment's owners
 *   starve.c    allocations that fail, and those that must not
 *   hoard.c     an application that takes all the memory there is
 *   sim_test.c  seeds, one after another; what to do when one fails
 *
 * After a while all trouble stops. From then on everything must come to its end in bounded time:
 * connections without an excuse deliver every byte, the others end as their excuse has it, and the
 * pool must be full again. */
#ifndef SIM_H
#define SIM_H

#include <stdio.h>

#include "tests/lib/host.h"
#include "tests/lib/pcap.h"
#include "tests/lib/rng.h"

#define US 1000ull
#define MS 1000000ull
#define S  1000000000ull

#define STACKS    3u
#define HOSTILE   STACKS /* the node that is no stack */
#define NODES     (STACKS + 1)
#define CONNS_MAX 16u
#define PORT      80u /* that every stack listens on */
#define RX_MAX    512u

/* What can go wrong, and is counted. */
/* clang-format off */
#define SIM_FAULTS(X)                                                                              \
    X(lost_random) X(lost_burst) X(lost_periodic) X(lost_ack) X(lost_last) X(lost_syn)             \
    X(lost_arp) X(lost_down) X(lost_queue) X(lost_mtu) X(lost_rx_ring) X(lost_rx_memory)           \
    X(reordered) X(duplicated) X(old_duplicate) X(corrupted) X(icmp_needfrag) X(link_down)         \
    X(stalled) X(clock_jumped) X(crashed) X(restarted) X(alloc_failed) X(hoarded)                  \
    X(mem_told) X(read_pause) X(app_abort) X(app_close) X(half_close) X(option_set)                \
    X(connect_retried) X(simultaneous_open) X(early_write) X(urgent_sent) X(urgent_told)           \
    X(ecn_asked) X(ecn_marked) X(hostile_conn) X(hostile_server) X(ack_division)                   \
    X(optimistic_ack) X(dup_acks) X(window_shrunk) X(window_zero) X(sack_lie) X(old_segment)       \
    X(overlap) X(silly_data) X(odd_flags) X(odd_options) X(urgent) X(blind_rst) X(blind_syn)       \
    X(blind_data) X(blind_ack) X(forged_icmp) X(syn_flood) X(hostile_fin) X(hostile_rst)           \
    X(hostile_vanished) X(ping) X(arp_lie)
/* clang-format on */
enum sim_fault {
#define SIM_FAULT_ENUM(name) F_##name,
    SIM_FAULTS(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
        SIM_FAULT_COUNT
};
/* Not faults: recordings that were played; from a checkpoint on; that ended early. */
enum { SIM_RECORDED = SIM_FAULT_COUNT, SIM_RECORDED_ON, SIM_RECORDED_SHORT, SIM_COUNTERS };

/* What this world is like. Times are in nanoseconds, chances in a million. */
struct plan {
    unsigned stacks, conns;
    uint64_t calm_ns; /* when trouble stops */
    size_t pool_size;
    bool one_pool; /* for all stacks */
    struct zest_config cfg[STACKS];
    uint32_t burst[STACKS], front[STACKS], cut[STACKS]; /* cut: of received frames; 0 = not */
    uint64_t tx_hold_ns[STACKS], app_lag_ns[STACKS];
    size_t rx_budget[STACKS];
    /* the network */
    uint64_t delay_ns, jitter_ns, bits_per_s /* 0 = no limit */, queue_bytes;
    uint32_t lose, lose_ack, lose_last, lose_syn, lose_arp, reorder, duplicate, old, corrupt;
    uint32_t burst_start, burst_end; /* of a loss burst, for each frame */
    uint32_t lose_every;             /* 0 = never */
    uint64_t reorder_ns;
    uint16_t mtu_low; /* the path's, between mtu_from_ns and the end of trouble; 0 = never */
    uint64_t mtu_from_ns;
    uint64_t down_every_ns, down_for_ns; /* 0 = never */
    /* the machines */
    uint64_t stall_every_ns, stall_for_ns;
    uint64_t jump_at_ns, jump_by_ns;        /* 0 = never */
    unsigned crash_node;                    /* STACKS = none */
    uint64_t crash_at_ns, restart_after_ns; /* 0 = never again */
    uint64_t hoard_every_ns, hoard_for_ns;  /* 0 = never */
    uint32_t starve;                        /* chance that an allocation fails */
    uint32_t starve_nth;                    /* and this one does; 0 = none */
    /* the applications */
    uint64_t bytes_max;
    bool slow_readers, long_pauses, odd_sizes, mind_changes, options, simultaneous, pings, urgent;
    uint32_t ecn, ecn_mark; /* chances: a connection asks for ECN; the network marks what may be */
    /* peers that mean harm: SIM_FAULTS bits */
    uint64_t mischief;
    unsigned hostile_conns;
    uint64_t hostile_every_ns;
    bool clean; /* no trouble at all: utilisation is measured */
};

struct frame {
    uint64_t at_ns, order;
    unsigned from, to;
    uint32_t len;
    uint8_t bytes[];
};

struct link {
    uint64_t busy_ns, last_ns;
    bool in_burst;
    uint32_t count;
};

struct net {
    struct rng rng;
    struct frame **heap; /* by time, then by order */
    uint32_t n, cap;
    uint64_t order;
    struct link link[NODES][NODES];
    bool down;
    uint64_t down_change_ns;
};

/* One end of a connection, and the application there. */
struct side {
    struct conn *conn;
    unsigned node;
    struct rng rng;
    bool client, open, connecting, done;
    bool tracked; /* the wire's tracker knows its key */
    zest_handle handle;
    uint64_t key; /* of the bytes that it writes */
    /* intentions */
    uint64_t to_write;
    uint32_t chunk_min, chunk_max;
    uint32_t most; /* that one buffer may hold, once memory was short; else 0 */
    unsigned style;
    bool early;     /* writes before the connection is there */
    bool after_eof; /* writes only when the other side has ended */
    uint64_t write_gap_ns, read_gap_ns, hold_views_ns;
    uint64_t pause_at, pause_ns; /* stops reading for a time after so many bytes */
    enum { END_ORDERLY, END_CLOSE, END_ABORT } end;
    uint64_t end_after; /* bytes written or read: then END_CLOSE, END_ABORT */
    /* what happened */
    uint64_t written, read;
    uint64_t marked; /* of what is written, up to there is urgent */
    uint64_t heard;  /* where the other's urgent data ends, as the last event had it */
    struct zbuf *buf;
    uint8_t *buf_at;
    uint32_t buf_left;
    struct zbuf *held[4];
    bool blocked, shut, eof, corked;
    int error;
    struct {
        struct zest_view v;
        uint64_t due_ns;
    } lent[8];
    unsigned nlent;
    uint64_t wake_ns, read_ns, write_ns;
};

struct conn {
    unsigned index, attempt;
    struct side side[2]; /* 0 connects, 1 accepts (or connects, too) */
    bool hostile;        /* one side is the hostile node */
    bool excused;        /* may end in an error, or early */
    bool accepted, finished;
    uint16_t port; /* the client's */
    uint64_t start_ns, first_ns, last_ns;
};

struct node {
    struct host h;
    bool alive;
    uint32_t ip;
    uint8_t mac[6];
    zest_handle listener;
    struct zbuf *rx[RX_MAX];
    unsigned nrx;
    uint64_t stalled_ns; /* until then */
    uint64_t app_ns;     /* when the application looks at its events */
    uint64_t secret;
    uint64_t idle_wakes;
    uint32_t wakeups; /* the pool's, that its applications know of */
};

struct sim {
    uint64_t seed, now_ns, hash, steps;
    struct plan plan;
    struct rng rng;
    struct net net;
    struct node node[NODES];
    struct zbuf_pool *pool[STACKS];
    struct conn conn[CONNS_MAX];
    unsigned nconns;
    bool calm;
    uint64_t stall_next_ns, crash_next_ns, ping_ns;
    FILE *pcap;
    bool verbose, record;
};

extern struct sim sim;
extern uint64_t *sim_count; /* [SIM_COUNTERS], over all seeds */

static inline void count(unsigned f)
{
    sim_count[f]++;
}

/* Byte `at` of the stream that key stands for, and so on. */
void stream_fill(uint64_t key, uint64_t at, uint8_t *p, size_t len);
bool stream_is(uint64_t key, uint64_t at, const uint8_t *p, size_t len);

/* plan.c */
void plan_draw(struct plan *p, struct rng r);
void plan_print(const struct plan *p, FILE *f);

/* world.c */
void world_run(uint64_t seed);
void sim_hash(const void *p, size_t len);
void sim_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
unsigned node_of_ip(uint32_t ip);

/* net.c */
void net_init(void);
void net_free(void);
void net_send(unsigned from, const uint8_t *frame, size_t len);
/* Puts a frame on its way without any trouble but `delay_ns`. */
void net_put(unsigned from, unsigned to, const uint8_t *frame, size_t len, uint64_t delay_ns);
uint64_t net_next(void);
struct frame *net_take(void); /* what has arrived by now; the caller frees it */
void net_tick(void);

/* track.c */
void track_init(void);
void track_sent(unsigned from, const struct wire *w);
void track_arrived(unsigned to, const uint8_t *frame, size_t len);
/* The stack at node begins anew: nothing that it said before binds it. */
void track_forget(unsigned node);

/* app.c */
void apps_init(void);
void apps_run(unsigned node); /* takes the node's events, and does what its applications want */
uint64_t apps_next(unsigned node);
bool apps_finished(void);
void apps_calm(void);          /* trouble is over: no more pauses, hostile ones are closed */
void apps_lost(unsigned node); /* its stack is gone: so are its applications */
void apps_summary(FILE *f);
struct side *app_side(unsigned node, uint16_t port, unsigned remote, uint16_t remote_port);

/* hostile.c */
void hostile_init(void);
void hostile_heard(const uint8_t *frame, size_t len);
uint64_t hostile_next(void);
void hostile_run(void);
void hostile_stop(void);

/* inside.c */
void inside_check(const struct zest *z, const char *name); /* one stack's structures */
void inside_owners(void);                                  /* every segment of every pool */
void inside_dump(FILE *f);

/* recorder.c: a flight recorder for machine i, in some seeds; what it has so far must play. */
void recorder_attach(unsigned i, struct zest_config *cfg);
void recorder_check(unsigned i);

/* starve.c */
void starve_set(uint32_t ppm, uint32_t nth, uint64_t seed);
void starve_pause(bool pause); /* while the test itself allocates */

/* hoard.c */
void hoards_init(void);
void hoard_run(unsigned node);
uint64_t hoard_next(unsigned node);
void hoard_give_back(unsigned node);
unsigned hoard_segments(unsigned node, struct zbuf *const **zb);

#endif
