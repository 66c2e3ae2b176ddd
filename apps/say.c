/* say.c - messages for people. */
#include "say.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *command_name = "zest";

void say_as(const char *command)
{
    command_name = command;
}

const char *say_name(void)
{
    return command_name;
}

/* One write for each line, so that lines of several processes on one terminal do not mix. */
static void say_line(const char *fmt, va_list ap)
{
    char line[1024];
    vsnprintf(line, sizeof line, fmt, ap);
    fprintf(stderr, "%s: %s\n", command_name, line);
}

void say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_line(fmt, ap);
    va_end(ap);
}

void say_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_line(fmt, ap);
    va_end(ap);
    fprintf(stderr, "'%s --help' lists what it takes.\n", command_name);
    exit(EXIT_USAGE);
}

const char *say_bytes(char buf[SAY_BYTES], uint64_t bytes)
{
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB"};
    if (bytes < 1024) {
        snprintf(buf, SAY_BYTES, "%" PRIu64 " byte%s", bytes, bytes == 1 ? "" : "s");
        return buf;
    }
    double v = (double)bytes / 1024;
    unsigned u = 0;
    while (v >= 1024 && u + 1 < sizeof unit / sizeof unit[0]) {
        v /= 1024;
        u++;
    }
    /* Whole numbers without a fraction: "64 MiB". */
    snprintf(buf, SAY_BYTES, v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v, unit[u]);
    return buf;
}
