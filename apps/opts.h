/* opts.h - command lines: tables of options that are parsed and that --help prints, so that the two
 * can't disagree; and readers for values that say what is wrong with one.
 *
 * Whatever is wrong with a command line ends the program with EXIT_USAGE and a sentence. */
#ifndef APPS_OPTS_H
#define APPS_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "../stack/zest.h"

/* One option. key: its letter, or a number from OPT_LONG up for one that has none. A table ends
 * with an entry whose name is NULL; an entry with key 0 is a heading (name) in --help. */
struct opt {
    int key;
    const char *name;
    const char *arg; /* what to call its value; NULL: takes none */
    const char *help;
};
#define OPT_LONG   256 /* first key without a letter */
#define OPT_TABLES 3
#define OPT_MAX    64
#define OPT_END                                                                                    \
    {                                                                                              \
        0, NULL, NULL, NULL                                                                        \
    }
#define OPT_HEAD(t)                                                                                \
    {                                                                                              \
        0, t, NULL, NULL                                                                           \
    }

struct opt_command {
    const char *name;                     /* "zest echo" */
    const char *about;                    /* paragraphs for the top of --help */
    const struct opt *tables[OPT_TABLES]; /* NULL = no more */
    const char *epilogue;                 /* examples, for the end of --help; may be NULL */
    /* Takes one option; name is how it was declared, arg its value or NULL. */
    void (*take)(void *ctx, int key, const char *name, const char *arg);
    /* Takes one argument that is no option; NULL: there are to be none. */
    void (*operand)(void *ctx, const char *text);
};

/* Parses argv[1..]; -h and --help print help and exit(0). */
void opt_parse(const struct opt_command *cmd, int argc, char **argv, void *ctx);

/* Values. `name` is the option's name, for the message. */
uint64_t opt_number(const char *name, const char *text, uint64_t min, uint64_t max);
/* A number with an optional K, M or G (powers of 1024). */
uint64_t opt_size(const char *name, const char *text, uint64_t min, uint64_t max);
/* Seconds with a fraction; result in nanoseconds. */
uint64_t opt_seconds_ns(const char *name, const char *text, double min, double max);
/* Index of text in words[] (which ends with NULL). */
int opt_word(const char *name, const char *text, const char *const *words);
struct zest_addr opt_addr(const char *name, const char *text);
/* "10.0.0.2/24"; without a prefix, 24. */
struct zest_addr opt_cidr(const char *name, const char *text, uint8_t *prefix_len);

#endif
