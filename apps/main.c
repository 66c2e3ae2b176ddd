/* main.c - zest(1): picks the subcommand. */
#include "commands.h"
#include "say.h"

#include <stdio.h>
#include <string.h>

#include "../stack/zest.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"echo", cmd_echo, "an echo server: what it receives goes back from the memory it arrived in"},
    {"perf", cmd_perf,
     "throughput and latency, between zest and Linux, zest and zest, or Linux "
     "and Linux"},
    {"doctor", cmd_doctor, "what this host and its interfaces can do, what not, and what to do"},
    {"replay", cmd_replay, "plays what --record wrote, and says whether the same comes out"},
    {"stat", cmd_stat, "what the memory of a running process is used for, and by whom"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *to)
{
    fprintf(to, "zest: a zero-copy TCP/IP stack in user space, over AF_XDP\n\n"
                "Usage: zest COMMAND [OPTION]...\n\n");
    for (unsigned i = 0; i < COMMANDS; i++)
        fprintf(to, "  zest %-8s %s\n", commands[i].name, commands[i].about);
    fprintf(to, "\n'zest COMMAND --help' lists what a command takes. 'zest --version' says which "
                "zest this is.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return EXIT_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("zest %s\n", ZEST_VERSION);
        return EXIT_OK;
    }
    for (unsigned i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    say("there is no command '%s'", name);
    print_help(stderr);
    return EXIT_USAGE;
}
