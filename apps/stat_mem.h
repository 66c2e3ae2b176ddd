/* stat_mem.h - what one pool of another process holds: read, and printed. */
#ifndef APPS_STAT_MEM_H
#define APPS_STAT_MEM_H

#include <stdbool.h>
#include <stdio.h>

#include "../zbuf/zbuf.h"

struct stat_mem {
    int pid;
    unsigned index; /* of the pool in the process */
    char comm[32];  /* the process's name */
    struct zbuf_pool_stat pool;
    struct zbuf_budget_stat *budget;
    unsigned budgets;
    struct zbuf_holder *holder; /* the oldest */
    unsigned holders;
    bool have_ages; /* holder and the ages could be read: that needs the right to trace the process
                     */
    struct zbuf_age cls_age[ZBUF_CLASSES];
    struct zbuf_age *budget_age; /* by id */
};

/* Reads all of it, and up to `holders` of the segments that are held the longest. 0, or -errno as
 * zbuf_reader_open(); -ESTALE if the process ended meanwhile. */
int stat_mem_read(struct stat_mem *m, int pid, unsigned index, unsigned holders);
void stat_mem_free(struct stat_mem *m);
void stat_mem_text(const struct stat_mem *m, FILE *to);
void stat_mem_json(const struct stat_mem *m, FILE *to); /* one line */

/* "zest+0x1234": the place in process pid that addr is, for addr2line; or the address. */
#define STAT_PLACE 128
char *stat_mem_place(char buf[STAT_PLACE], int pid, uint64_t addr);
/* The same by one line of /proc/PID/maps: false, with nothing written, if addr is not in that
 * range, no file is mapped there, or the line is not one. */
bool stat_mem_map_line(const char *line, uint64_t addr, char buf[STAT_PLACE]);

#endif
