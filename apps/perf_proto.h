/* perf_proto.h - what zest perf says on a connection besides payload.
 *
 * Each stream of a test is a TCP connection of its own. The client begins it with a hello record
 * that holds the whole plan, so the server keeps no state between connections. The last 64 bytes
 * that the server sends are a result record: what it received and sent. Payload lies between, in
 * the directions that the mode has:
 *
 *   send      client: hello payload FIN            server: result FIN (after the client's FIN)
 *   receive   client: hello                 FIN    server: payload result FIN
 *   bidir     client: hello payload FIN            server: payload result FIN (after both)
 *   rr        client: hello {request}* FIN         server: {response}* result FIN
 *
 * A record is 64 bytes, numbers in network order. */
#ifndef APPS_PERF_PROTO_H
#define APPS_PERF_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PERF_RECORD     64u
#define PERF_LENGTH_MAX (128u * 1024u - 192u) /* a write; what the largest zbuf holds */
#define PERF_STREAMS    1024u

enum perf_mode { PERF_SEND, PERF_RECEIVE, PERF_BIDIR, PERF_RR };

struct perf_plan {
    enum perf_mode mode;
    bool verify;          /* payload is a known pattern, and is checked */
    bool frames;          /* zest sends chains of frames, each of `length` bytes in all */
    uint64_t session;     /* the same for all streams of a test */
    uint64_t duration_ns; /* 0 = until `amount` */
    uint64_t amount; /* bytes each way, or transactions, of this stream; 0 = until `duration` */
    uint32_t length; /* of a write, request or response; 0 = the sender's choice */
    uint16_t stream, streams;
};

struct perf_result {
    uint64_t rx_bytes, rx_ns; /* payload received, and from the hello to its last byte */
    uint64_t tx_bytes;
    uint64_t bad_bytes;    /* payload that did not match the pattern */
    uint64_t copied_bytes; /* by the sender's stack during the test; 0 for the kernel's, unknown */
    uint64_t retransmits;  /* likewise */
    bool zest;             /* the sender runs on zest */
};

void perf_plan_encode(uint8_t rec[PERF_RECORD], const struct perf_plan *p);
/* False if it is no hello, or one that asks for something out of range. */
bool perf_plan_decode(struct perf_plan *p, const uint8_t rec[PERF_RECORD]);
void perf_result_encode(uint8_t rec[PERF_RECORD], const struct perf_result *r);
bool perf_result_decode(struct perf_result *r, const uint8_t rec[PERF_RECORD]);

/* The pattern: each byte is a function of its offset in the stream. */
void perf_pattern_fill(uint8_t *to, size_t len, uint64_t offset);
/* How many of len bytes do not match. */
size_t perf_pattern_check(const uint8_t *from, size_t len, uint64_t offset);

const char *perf_mode_name(enum perf_mode mode);

#endif
