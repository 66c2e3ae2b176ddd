/* zest_record.h - the flight recorder: what went into a stack, kept so that it can be played again.
 *
 * Give zest_init() memory for it (zest_config.record_mem); from then on every call is noted there.
 * When the memory is used up, the older half of it makes way, and the newer goes on from the state
 * that the stack was in: so it always holds the newest calls. No system call, no allocation, no
 * lock. TCP payload is not kept, only its 16-bit sums: a recording holds addresses, ports and
 * headers, but not what people said. It does hold the stack's secret.
 *
 *     zest_recording(z, &rec);     write(fd, rec.part[i].p, rec.part[i].len) of each part, any
 * time; in a signal handler too
 *
 * zest_replay() plays it against a stack of its own: the same calls, and after each of them a hash
 * over everything that came out (frames with their checksums, events, results, deadlines), payload
 * aside, must be what it was. See docs/recording.md. */
#ifndef ZEST_RECORD_H
#define ZEST_RECORD_H

#include "zest.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ZEST_RECORD_MIN 4096u /* smallest record_size */

/* The recording as it stands, in so many parts, to be put one after the other. */
#define ZEST_RECORDING_PARTS 3u
struct zest_recording_part {
    const void *p;
    size_t len;
};
struct zest_recording {
    struct zest_recording_part part[ZEST_RECORDING_PARTS];
    unsigned parts;
    size_t len;      /* of all */
    bool from_start; /* it begins with the stack; else, with a state that it was in later */
    bool full; /* it ends before the last call: the stack's state was too large for the memory to go
                  on from, and is waited for to become smaller */
};
/* 0, or -ENOENT: none was asked for. */
ZEST_API int zest_recording(const struct zest *z, struct zest_recording *out);

struct zest_replay_needs {
    size_t pool_size; /* of the pool to play it in: its own, nobody else may use it */
    size_t mem_size;  /* with a pool of just that size; aligned to 64 */
};
/* What playing a recording takes; -EINVAL: that is no recording, or of another version. */
ZEST_API int zest_replay_needs(const void *recording, size_t len, struct zest_replay_needs *out);

enum zest_replay_end {
    ZEST_REPLAY_IDENTICAL,
    ZEST_REPLAY_UNFINISHED, /* identical up to the last call, whose end is not in the recording */
    ZEST_REPLAY_DIFFERS,
    ZEST_REPLAY_DAMAGED /* no stack can have written this */
};
struct zest_replay_result {
    enum zest_replay_end end;
    bool full;           /* the recording ended before the run: its memory was too small */
    bool from_start;     /* it begins with the stack; else ... */
    uint64_t from_ns;    /* ... with the state that it was in at this time ... */
    uint32_t from_conns; /* ... with so many connections */
    uint32_t states;     /* states in the middle of it, each compared with what was there then */
    uint64_t inputs; /* calls played; with DIFFERS and DAMAGED, the number of the one it is about */
    uint64_t frames_in, frames_out;
    uint64_t hash;                   /* over everything that came out, up to there */
    uint64_t now_ns;                 /* the stack's time there */
    size_t offset;                   /* of the call in the recording */
    const char *call;                /* "zest_input" */
    const char *why;                 /* what differs or is wrong; "" if nothing */
    int64_t result, recorded_result; /* of the call that differs */
};
/* Plays all of it. 0, or -EINVAL, -ENOBUFS (pool or memory too small). Every segment is back in the
 * pool afterwards. */
ZEST_API int zest_replay(const void *recording, size_t len, struct zbuf_pool *pool, void *mem,
                         size_t mem_size, struct zest_replay_result *out);

#ifdef __cplusplus
}
#endif
#endif
