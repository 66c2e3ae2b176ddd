/* script.h - packet scripts: scenarios segment by segment, in the language of packetdrill.
 *
 * Whoever has written a packetdrill test can read and write these. One connection, at addresses
 * 192.168.0.1 (the stack) and 192.0.2.1 (the remote end, played by the script), in virtual time:
 *
 *     0    socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
 *     +0   bind(3, ..., ...) = 0
 *     +0   listen(3, 1) = 0
 *     +0   < S 0:0(0) win 32792 <mss 1000>
 *     +0   > S. 0:0(0) ack 1 <...>
 *     +.1  < . 1:1(0) ack 1 win 257
 *     +0   accept(3, ..., ...) = 4
 *     +0   %{ assert tcpi_state == TCP_ESTABLISHED }%
 *
 * What is there: times (absolute, relative, `*`, ranges with ~, blocking calls with ...), TCP
 * segments with options, ICMP errors in, socket calls with their results, assertions. What isn't:
 * shell commands, IPv6, UDP, several connections. docs/testing.md has the details.
 *
 *   parse.c   text to events        expr.c   the assertions
 *   calls.c   socket calls          run.c    the clock, the wire, and what was expected */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stack/zest.h"

#define SCRIPT_ARGS    8u
#define SCRIPT_FIELDS  4u
#define SCRIPT_FDS     32u
#define SCRIPT_PENDING 8u

/* ---- what a script says */

struct script_time {
    bool relative, any, range;
    int64_t from_ns, to_ns; /* to_ns: with range only */
};

/* A segment; numbers as the script has them. */
struct script_packet {
    bool icmp;
    uint8_t flags; /* WIRE_ bits */
    uint32_t seq, len, ack;
    bool has_ack, has_win, any_options;
    uint16_t win, urg;
    uint8_t options[40]; /* as on the wire, timestamps with the script's values */
    uint32_t options_len;
    int ts_at; /* offset of the timestamps' values in options; -1 if there are none */
    uint8_t icmp_type, icmp_code;
    uint16_t mtu;
};

/* An argument of a call: a number, `...`, a list [a, b] or a structure {name=a, ...}. */
struct script_value {
    enum { VALUE_NUMBER, VALUE_ANY, VALUE_LIST } kind;
    int64_t number;
    unsigned n; /* of a list */
    struct {
        char name[12];
        int64_t number;
    } field[2 * SCRIPT_FIELDS];
};

struct script_call {
    char name[24];
    unsigned nargs;
    struct script_value arg[SCRIPT_ARGS];
    bool has_result;
    int64_t result;
    int error; /* errno that goes with -1; 0 = none given */
};

struct script_event {
    unsigned line;
    struct script_time at;
    bool blocking;
    struct script_time until;
    enum { EVENT_IN, EVENT_OUT, EVENT_CALL, EVENT_CODE } kind;
    struct script_packet packet;
    struct script_call call;
    char *code;
    struct script_event *next;
};

struct script {
    const char *path;
    struct script_event *first;
    struct zest_config cfg;
    uint64_t tolerance_ns;
    bool write_copy;
};

/* NULL, and a line in why, if it can't be read. */
struct script *script_parse(const char *path, const char *text, char *why, size_t size);
void script_free(struct script *s);
/* 0, or -1 if the name is none of errno's. */
int script_errno(const char *name);
const char *script_errno_name(int error);

/* ---- playing it */

/* Descriptors, as the script numbers them. */
struct script_fd {
    enum { FD_FREE, FD_NEW, FD_LISTENER, FD_CONN } kind;
    zest_handle handle;
    uint16_t port; /* bound */
    bool nonblocking, connecting, connected, eof, linger0;
    int error; /* SO_ERROR */
    uint32_t events;
    struct zest_view view; /* lent, not all read yet */
    uint32_t view_at;
    uint64_t written, read;
    int64_t taken; /* by a write that is still under way */
    bool keep_on;
    uint32_t keep_idle;
    struct {
        enum zest_option opt;
        uint32_t value;
    } pending[SCRIPT_PENDING]; /* options set before there is a handle */
    unsigned npending;
};

struct run {
    const struct script *script;
    struct zest *z;
    struct zbuf_pool *pool;
    uint64_t now_ns; /* since the script began */
    struct script_fd fd[SCRIPT_FDS];
    int current; /* descriptor of the connection that assertions are about; -1 */
    uint16_t local_port, remote_port;
    uint64_t blocked_since_ns; /* when the call that waits began */
    int64_t option;            /* what getsockopt() said */
    int64_t revents[SCRIPT_FIELDS];
    unsigned nrevents;
    char why[1024]; /* what went wrong */
};

/* True if the script went as written; else r->why says what did not. */
bool script_play(struct run *r, const struct script *s);

/* Does a call. False: it would block. True: *result and *error are what it returned. */
bool call_do(struct run *r, const struct script_call *c, int64_t *result, int *error);
/* Notes an event of the stack. */
void call_event(struct run *r, const struct zest_event *e);
/* Checks what poll() and getsockopt() said besides their result. */
bool call_outputs_match(struct run *r, const struct script_call *c);

/* Evaluates "assert A == B" and the like; false: r->why says which did not hold. */
bool code_run(struct run *r, const char *code);

#endif
