/* opts.c - see opts.h. getopt_long() does the parsing; its tables are made from ours. */
#include "opts.h"

#include "say.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- help */

#define HELP_COLUMN 28
#define HELP_WIDTH  100

/* Prints text from HELP_COLUMN on, broken at spaces. */
static void print_wrapped(const char *text)
{
    int column = HELP_COLUMN;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + (int)word > HELP_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        if (column > HELP_COLUMN)
            column += printf(" ");
        column += printf("%.*s", (int)word, text);
        text += word;
        text += strspn(text, " ");
    }
    printf("\n");
}

static void print_option(const struct opt *o)
{
    char left[HELP_COLUMN + 40];
    int n = o->key < OPT_LONG ? snprintf(left, sizeof left, "  -%c, --%s", o->key, o->name)
                              : snprintf(left, sizeof left, "      --%s", o->name);
    if (o->arg)
        n += snprintf(left + n, sizeof left - (size_t)n, " %s", o->arg);
    printf("%-*s", HELP_COLUMN, left);
    if (n >= HELP_COLUMN)
        printf("\n%*s", HELP_COLUMN, "");
    print_wrapped(o->help);
}

static void print_help(const struct opt_command *cmd)
{
    printf("%s", cmd->about);
    for (unsigned t = 0; t < OPT_TABLES && cmd->tables[t]; t++)
        for (const struct opt *o = cmd->tables[t]; o->name; o++) {
            if (o->key == 0)
                printf("\n%s\n", o->name);
            else
                print_option(o);
        }
    printf("  -h, --help                this text\n");
    if (cmd->epilogue)
        printf("\n%s", cmd->epilogue);
}

/* ---- parsing */

static const struct opt *find(const struct opt_command *cmd, int key)
{
    for (unsigned t = 0; t < OPT_TABLES && cmd->tables[t]; t++)
        for (const struct opt *o = cmd->tables[t]; o->name; o++)
            if (o->key == key && key != 0)
                return o;
    return NULL;
}

/* getopt's two tables, from ours. */
static void make_tables(const struct opt_command *cmd, struct option *longs, char *letters)
{
    unsigned n = 0;
    *letters++ = ':'; /* tells a missing value from an unknown option */
    *letters++ = 'h';
    longs[n++] = (struct option){"help", no_argument, NULL, 'h'};
    for (unsigned t = 0; t < OPT_TABLES && cmd->tables[t]; t++)
        for (const struct opt *o = cmd->tables[t]; o->name && n + 1 < OPT_MAX; o++) {
            if (o->key == 0)
                continue;
            longs[n++] =
                (struct option){o->name, o->arg ? required_argument : no_argument, NULL, o->key};
            if (o->key >= OPT_LONG)
                continue;
            *letters++ = (char)o->key;
            if (o->arg)
                *letters++ = ':';
        }
    longs[n] = (struct option){NULL, 0, NULL, 0};
    *letters = '\0';
}

void opt_parse(const struct opt_command *cmd, int argc, char **argv, void *ctx)
{
    struct option longs[OPT_MAX];
    char letters[2 * OPT_MAX + 4];
    make_tables(cmd, longs, letters);
    say_as(cmd->name);
    opterr = 0;
    for (;;) {
        int key = getopt_long(argc, argv, letters, longs, NULL);
        if (key == -1)
            break;
        if (key == 'h') {
            print_help(cmd);
            exit(EXIT_OK);
        }
        const struct opt *o = find(cmd, key == ':' ? optopt : key);
        if (key == ':')
            say_usage("--%s needs a value (%s)", o ? o->name : "?", o ? o->arg : "?");
        if (key == '?' && optopt && optopt < OPT_LONG && !find(cmd, optopt))
            say_usage("there is no option '-%c'", optopt);
        if (key == '?')
            say_usage("'%s' is not one of its options, or is ambiguous, or takes no value",
                      argv[optind - 1]);
        cmd->take(ctx, key, o ? o->name : "?", optarg);
    }
    while (cmd->operand && optind < argc)
        cmd->operand(ctx, argv[optind++]);
    if (optind < argc)
        say_usage("'%s' makes no sense here", argv[optind]);
}

/* ---- values */

/* Digits only: strtoull() alone would take " -1" for a large number. */
static bool to_number(const char *text, uint64_t *out, const char **end)
{
    if (*text < '0' || *text > '9')
        return false;
    char *stop;
    errno = 0;
    *out = strtoull(text, &stop, 10);
    *end = stop;
    return errno == 0;
}

uint64_t opt_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
    uint64_t v = 0;
    const char *end = text;
    if (!to_number(text, &v, &end) || *end)
        say_usage("--%s: '%s' is not a number", name, text);
    if (v < min || v > max)
        say_usage("--%s: %s is not between %" PRIu64 " and %" PRIu64, name, text, min, max);
    return v;
}

uint64_t opt_size(const char *name, const char *text, uint64_t min, uint64_t max)
{
    uint64_t v = 0;
    const char *end = text;
    bool ok = to_number(text, &v, &end);
    unsigned shift = 0;
    if (ok && *end) {
        switch (*end++) {
        case 'k':
        case 'K':
            shift = 10;
            break;
        case 'm':
        case 'M':
            shift = 20;
            break;
        case 'g':
        case 'G':
            shift = 30;
            break;
        default:
            ok = false;
        }
    }
    if (!ok || *end || v > UINT64_MAX >> shift)
        say_usage("--%s: '%s' is not a size (bytes, or a number with K, M or G)", name, text);
    v <<= shift;
    char lo[SAY_BYTES], hi[SAY_BYTES];
    if (v < min || v > max)
        say_usage("--%s: %s is not between %s and %s", name, text, say_bytes(lo, min),
                  say_bytes(hi, max));
    return v;
}

uint64_t opt_seconds_ns(const char *name, const char *text, double min, double max)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || errno)
        say_usage("--%s: '%s' is not a number of seconds", name, text);
    if (!(v >= min && v <= max))
        say_usage("--%s: %s is not between %g and %g seconds", name, text, min, max);
    return (uint64_t)(v * 1e9);
}

int opt_word(const char *name, const char *text, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0)
            return i;
    char list[256] = "";
    for (int i = 0; words[i]; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", words[i]);
    }
    say_usage("--%s: '%s' is none of: %s", name, text, list);
}

struct zest_addr opt_addr(const char *name, const char *text)
{
    struct zest_addr a;
    if (zest_addr_parse(&a, text, 0) < 0 || a.port != 0)
        say_usage("--%s: '%s' is not an IPv4 address (like 10.0.0.2)", name, text);
    return a;
}

struct zest_addr opt_cidr(const char *name, const char *text, uint8_t *prefix_len)
{
    char ip[64];
    size_t n = strcspn(text, "/");
    if (n >= sizeof ip)
        say_usage("--%s: '%s' is not an address (like 10.0.0.2/24)", name, text);
    memcpy(ip, text, n);
    ip[n] = '\0';
    *prefix_len = 24;
    if (text[n] == '/') {
        uint64_t v = 0;
        const char *end = NULL;
        if (!to_number(text + n + 1, &v, &end) || *end || v < 1 || v > 32)
            say_usage("--%s: '%s' has no prefix length from 1 to 32 after the / "
                      "(like 10.0.0.2/24)",
                      name, text);
        *prefix_len = (uint8_t)v;
    }
    return opt_addr(name, ip);
}
