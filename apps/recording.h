/* recording.h - --record of a host: memory for the stack's flight recorder, and when it
 * is saved: at the end, when an assertion fails (abort), and on a storm of retransmission
 * time-outs. Saving on abort() is done in the signal handler, which only writes what is in memory
 * already. */
#ifndef APPS_RECORDING_H
#define APPS_RECORDING_H

#include <ev.h>
#include <stddef.h>
#include <stdint.h>

struct host;

struct recording {
    const struct host *host; /* NULL: nothing is recorded */
    void *mem;
    size_t size;
    int fd;
    char path[4096];
    ev_timer storm; /* looks for one */
    uint64_t rtos;  /* when it was last looked */
};

/* Memory and an empty file, before there is a stack: what can fail, fails early. number 0, or 1 for
 * the second host of a pair, whose file is FILE.1. 0 or -errno, said. */
int recording_open(struct host *h, const char *path, size_t max, unsigned number);
/* The stack runs. */
void recording_start(struct host *h);
/* Saves and says so; then lets go. Before zest_fini(). */
void recording_close(struct host *h);

/* FILE, FILE.1 ... */
void recording_name(char *out, size_t size, const char *path, unsigned number);

#endif
