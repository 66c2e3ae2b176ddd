/* perf_stream.h - one stream of a test: who sends what when, and what is counted. It knows neither
 * zest nor sockets: a transport (perf_zest.c, perf_kernel.c) feeds it what arrives and gives it
 * three ways to send. */
#ifndef APPS_PERF_STREAM_H
#define APPS_PERF_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hist.h"
#include "perf_proto.h"

struct perf_stream;

/* What a transport provides. Sends return bytes taken, or -EAGAIN (the transport will call
 * perf_stream_push() when there is room), or -errno. */
struct perf_wire {
    ssize_t (*send_copy)(struct perf_stream *s, const void *from, size_t len);
    /* Up to max bytes of payload; s->tx_bytes is the offset of the first. */
    ssize_t (*send_payload)(struct perf_stream *s, uint64_t max);
    int (*shutdown)(struct perf_stream *s);
    /* Fills in copied_bytes, retransmits and zest, as they stand. */
    void (*counters)(struct perf_stream *s, struct perf_result *r);
};

enum perf_state {
    PERF_HELLO,  /* the hello is being sent, or waited for */
    PERF_DATA,   /* payload */
    PERF_RESULT, /* server: our result is being sent; client: waited for */
    PERF_DONE
};

struct perf_stream {
    const struct perf_wire *wire;
    struct perf_plan plan;
    enum perf_state state;
    bool server;
    struct hist *hist; /* of transactions; may be NULL */

    uint64_t start_ns;
    uint64_t tx_bytes, tx_grant; /* sent, and what may be sent beyond that now */
    bool tx_ended;               /* no more will be granted */
    bool fin_sent;
    uint64_t rx_bytes, rx_last_ns;
    bool rx_eof;
    uint64_t bad_bytes;

    uint8_t out[PERF_RECORD]; /* record being sent */
    uint32_t out_len, out_done;
    uint8_t in[PERF_RECORD]; /* server: the hello; client: the last bytes that came */
    uint32_t in_len;

    uint32_t rr_got; /* bytes of the current request or response */
    uint64_t rr_start_ns, rr_count;

    struct perf_result before; /* counters at the start */
    struct perf_result peer;   /* client: what the server said */
};

/* A client's stream has a plan and starts when it is connected. */
void perf_stream_init_client(struct perf_stream *s, const struct perf_wire *wire,
                             const struct perf_plan *plan, struct hist *hist);
void perf_stream_init_server(struct perf_stream *s, const struct perf_wire *wire);

/* These return 0, or -errno: the stream is broken and must be aborted. After each, see whether
 * s->state is PERF_DONE: then it can be closed. */
int perf_stream_start(struct perf_stream *s, uint64_t now_ns);
int perf_stream_input(struct perf_stream *s, uint64_t now_ns, const uint8_t *bytes, size_t len);
int perf_stream_eof(struct perf_stream *s, uint64_t now_ns);
/* Sends what can be sent. Also to be called now and then, for the end by time. */
int perf_stream_push(struct perf_stream *s, uint64_t now_ns);
/* No more payload from here on; finish in order. */
void perf_stream_stop(struct perf_stream *s);

#endif
