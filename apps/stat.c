/* stat.c - zest stat --mem: looks at the memory of running processes, from outside. It finds them
 * by the file that each pool keeps open for this, so it works for any program with a pool, needs
 * no cooperation, and works when that program has stopped or has no memory left. */
#include "commands.h"
#include "opts.h"
#include "say.h"
#include "stat_mem.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TARGETS_MAX 1024
#define POOLS_MAX   64

struct stat_options {
    bool mem, json;
    uint64_t interval_ns; /* 0 = once */
    uint64_t count;       /* 0 = no end */
    unsigned holders;
    const char *target; /* a pid, a program, or NULL */
};

static const struct opt stat_opts[] = {
    {'m', "mem", NULL,
     "the memory: for each class and budget what is held, left, ... (the default)"},
    {'i', "interval", "S", "again every S seconds, until interrupted or the process ends"},
    {'c', "count", "N", "with -i: N times"},
    {'w', "who", "N", "list the N segments that are held the longest (default 8)"},
    {'j', "json", NULL, "one JSON object a line, for each pool and each time"},
    OPT_END};

static void take(void *ctx, int key, const char *name, const char *arg)
{
    struct stat_options *o = ctx;
    switch (key) {
    case 'm':
        o->mem = true;
        break;
    case 'i':
        o->interval_ns = opt_seconds_ns(name, arg, 0.01, 86400);
        break;
    case 'c':
        o->count = opt_number(name, arg, 1, UINT32_MAX);
        break;
    case 'w':
        o->holders = (unsigned)opt_number(name, arg, 0, 1000000);
        break;
    case 'j':
        o->json = true;
        break;
    }
}

static void take_target(void *ctx, const char *text)
{
    struct stat_options *o = ctx;
    if (o->target)
        say_usage("one process at a time: '%s' or '%s'?", o->target, text);
    o->target = text;
}

static const struct opt_command command = {
    .name = "zest stat",
    .about = "Usage: zest stat [--mem] [PID | PROGRAM] [OPTION]...\n"
             "Shows what the packet memory of a running process is used for: a PID, every process\n"
             "of a PROGRAM (its path), or every process with a pool that there is. The process is\n"
             "not disturbed. Counters can be read by whoever may read its /proc/PID/fd; who holds\n"
             "segments and for how long, by whoever may trace it.\n",
    .tables = {stat_opts},
    .epilogue = "Examples:\n"
                "  zest stat                       all processes with a pool, once\n"
                "  zest stat -i 1 4711             process 4711, every second\n"
                "  zest stat --json 4711 | jq .    for programs\n",
    .take = take,
    .operand = take_target,
};

/* ---- whom to look at */

static bool is_number(const char *s)
{
    for (; isdigit((unsigned char)*s); s++)
        continue;
    return *s == 0;
}

static bool runs(int pid, const struct stat *program)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return stat(path, &st) == 0 && st.st_dev == program->st_dev && st.st_ino == program->st_ino;
}

/* Processes with a pool; of a program, if it is not NULL. *denied: there were some that we may not
 * look into. */
static unsigned find_processes(const struct stat *program, int *pids, unsigned max,
                               unsigned *denied)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc");
    *denied = 0;
    for (const struct dirent *e; dir && n < max && (e = readdir(dir));) {
        struct zbuf_reader *rd;
        if (!is_number(e->d_name))
            continue;
        int pid = (int)strtol(e->d_name, NULL, 10);
        if (program && !runs(pid, program))
            continue;
        int err = zbuf_reader_open(pid, 0, &rd);
        if (err == 0)
            zbuf_reader_close(rd);
        *denied += err == -EACCES || err == -EPERM;
        if (err == 0 || err == -EPROTO)
            pids[n++] = pid;
    }
    if (dir)
        closedir(dir);
    return n;
}

/* ---- looking */

static const char *why_not(int err)
{
    switch (err) {
    case -ESRCH:
        return "there is no such process";
    case -ENOENT:
        return "it has no pool, or keeps it private";
    case -EACCES:
    case -EPERM:
        return "it belongs to somebody else: ask its owner, or root";
    case -EPROTO:
        return "its pool is of another version of zest";
    case -ESTALE:
        return "it has ended";
    default:
        return strerror(-err);
    }
}

/* All pools of a process. 0, or why there was none. */
static int show(const struct stat_options *o, int pid)
{
    unsigned shown = 0;
    int err = 0;
    for (unsigned i = 0; i < POOLS_MAX; i++) {
        struct stat_mem m;
        err = stat_mem_read(&m, pid, i, o->holders);
        if (err)
            break;
        if (o->json)
            stat_mem_json(&m, stdout);
        else
            stat_mem_text(&m, stdout);
        stat_mem_free(&m);
        shown++;
    }
    if (shown && (err == -ENOENT || err == 0))
        return 0;
    return err;
}

static int show_each(const struct stat_options *o, const int *pids, unsigned n, unsigned *shown)
{
    int last = 0;
    for (unsigned i = 0; i < n; i++) {
        int err = show(o, pids[i]);
        *shown += err == 0;
        if (err && (o->target || err != -ESTALE)) {
            say("process %d: %s", pids[i], why_not(err));
            last = o->target ? err : last;
        }
    }
    fflush(stdout);
    return last;
}

/* Once. EXIT_OK if there was something to show, and nothing went wrong. */
static int look(const struct stat_options *o)
{
    static int pids[TARGETS_MAX];
    unsigned n = 1, denied = 0, shown = 0;
    struct stat program;
    if (o->target && is_number(o->target)) {
        pids[0] = (int)opt_number("PID", o->target, 1, INT32_MAX);
    } else {
        if (o->target && stat(o->target, &program) != 0) {
            say("%s: %s", o->target, strerror(errno));
            return EXIT_FAILED;
        }
        n = find_processes(o->target ? &program : NULL, pids, TARGETS_MAX, &denied);
    }
    int err = show_each(o, pids, n, &shown);
    if (n == 0 && denied)
        say("no process with a pool that we may look into; %u belong to others: try as root",
            denied);
    else if (n == 0 && o->target)
        say("%s: no process of this program is running with a pool", o->target);
    else if (n == 0)
        say("no process with a pool is running");
    return shown > 0 && !err ? EXIT_OK : EXIT_FAILED;
}

int cmd_stat(int argc, char **argv)
{
    struct stat_options o = {.holders = 8};
    opt_parse(&command, argc, argv, &o);
    if (o.count && !o.interval_ns)
        say_usage("--count goes with --interval");
    for (uint64_t i = 0;; i++) {
        int code = look(&o);
        if (code != EXIT_OK || !o.interval_ns || i + 1 == o.count)
            return i > 0 && code != EXIT_OK && !o.count ? EXIT_OK : code;
        if (!o.json)
            putchar('\n');
        struct timespec ts = {.tv_sec = (time_t)(o.interval_ns / 1000000000u),
                              .tv_nsec = (long)(o.interval_ns % 1000000000u)};
        nanosleep(&ts, NULL);
    }
}
