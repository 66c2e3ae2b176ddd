/* commands.h - the subcommands of zest(1). Each parses its own argv (argv[0] is its name) and
 * returns an exit code. */
#ifndef APPS_COMMANDS_H
#define APPS_COMMANDS_H

int cmd_doctor(int argc, char **argv);
int cmd_echo(int argc, char **argv);
int cmd_perf(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_stat(int argc, char **argv);

#endif
