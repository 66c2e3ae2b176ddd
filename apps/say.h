/* say.h - what the program tells people: on standard error, one line each, named after the command
 * ("zest echo: ..."). Results go to standard output and are printed where they are made. */
#ifndef APPS_SAY_H
#define APPS_SAY_H

#include <stdint.h>

/* Exit codes: what scripts can rely on. */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1, /* it was tried and did not work, or memory leaked */
    EXIT_USAGE = 2   /* the command line makes no sense */
};

/* "zest echo": what say() puts in front. Points at memory that stays. */
void say_as(const char *command);
const char *say_name(void);

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* say(), a hint at --help, exit(EXIT_USAGE). */
_Noreturn void say_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define SAY_BYTES 24
/* "64 MiB", "1.5 GiB", "17 bytes". */
const char *say_bytes(char buf[SAY_BYTES], uint64_t bytes);

#endif
