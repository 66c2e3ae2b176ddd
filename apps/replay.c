/* replay.c - zest replay: plays a recording made with --record, and says whether the stack still
 * does the same. */
#include "commands.h"
#include "opts.h"
#include "say.h"

#include "../stack/zest_record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void print_help(void)
{
    printf(
        "Usage: zest replay FILE\n"
        "Plays a recording (zest echo --record FILE, zest perf --record FILE) against a stack of\n"
        "its own and compares, call by call, what comes out with what came out then. Needs no\n"
        "network and no privileges.\n\n"
        "Prints 'replay: identical, N inputs, hash H', or where it first differs. The exit\n"
        "status is 0 only for the former.\n\n"
        "  -h, --help                this text\n");
}

/* The whole file; NULL if it can't be had. */
static const void *map_file(const char *path, size_t *len)
{
    struct stat st;
    void *p = MAP_FAILED;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0 && fstat(fd, &st) == 0) {
        *len = (size_t)st.st_size;
        if (!S_ISREG(st.st_mode) || st.st_size == 0)
            errno = EINVAL;
        else /* a copy: the file may be written to while we read */
            p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    int err = errno;
    if (fd >= 0)
        close(fd);
    if (p == MAP_FAILED)
        say(err == EINVAL ? "%s is not a recording (%s)" : "cannot read %s: %s", path,
            err == EINVAL ? "empty, or not a file" : strerror(err));
    return p == MAP_FAILED ? NULL : p;
}

static int report(const struct zest_replay_result *r)
{
    switch (r->end) {
    case ZEST_REPLAY_IDENTICAL:
        printf("replay: identical, %" PRIu64 " inputs, hash %016" PRIx64 "\n", r->inputs, r->hash);
        printf("%" PRIu64 " frames in, %" PRIu64 " frames out%s\n", r->frames_in, r->frames_out,
               r->full
                   ? "; the recording ends there, as the state to go on from took too much memory"
                   : "");
        if (!r->from_start)
            printf("it begins at %" PRIu64 ".%09" PRIu64 " s, with %" PRIu32 " connection%s\n",
                   r->from_ns / 1000000000, r->from_ns % 1000000000, r->from_conns,
                   r->from_conns == 1 ? "" : "s");
        if (r->states)
            printf("%" PRIu32 " recorded state%s on the way: identical\n", r->states,
                   r->states > 1 ? "s" : "");
        return EXIT_OK;
    case ZEST_REPLAY_UNFINISHED:
        printf("replay: identical up to input %" PRIu64 ", %s, in the middle of which the "
               "recording ends; hash %016" PRIx64 "\n",
               r->inputs, r->call, r->hash);
        break;
    case ZEST_REPLAY_DIFFERS: /* of a state, call is the part of it */
        printf("replay: differs at input %" PRIu64 ", %s, at %" PRIu64 ".%09" PRIu64 " s: %s",
               r->inputs, r->call, r->now_ns / 1000000000, r->now_ns % 1000000000, r->why);
        if (r->result != r->recorded_result)
            printf(" (%" PRId64 ", recorded %" PRId64 ")", r->result, r->recorded_result);
        printf("\n");
        break;
    case ZEST_REPLAY_DAMAGED:
        printf("replay: damaged at byte %zu, input %" PRIu64 ", %s: %s\n", r->offset, r->inputs,
               r->call, r->why);
        break;
    }
    return EXIT_FAILED;
}

static int play(const char *path, const void *recording, size_t len)
{
    struct zest_replay_needs needs;
    struct zest_replay_result res;

    if (zest_replay_needs(recording, len, &needs) < 0) {
        say("%s is not a recording, or of another version of zest", path);
        return EXIT_FAILED;
    }
    struct zbuf_pool_config cfg = {
        .size = needs.pool_size, .no_huge = true, .private_stat = true, .name = "replay"};
    struct zbuf_pool *pool = zbuf_pool_create(&cfg);
    void *mem = pool ? aligned_alloc(64, needs.mem_size) : NULL;
    int rc = mem ? zest_replay(recording, len, pool, mem, needs.mem_size, &res) : -ENOMEM;
    free(mem);
    if (pool)
        zbuf_pool_destroy(pool);
    if (rc < 0) {
        say("%s cannot be played: %s", path, strerror(-rc));
        return EXIT_FAILED;
    }
    return report(&res);
}

int cmd_replay(int argc, char **argv)
{
    say_as("zest replay");
    if (argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        print_help();
        return EXIT_OK;
    }
    if (argc != 2 || argv[1][0] == '-')
        say_usage("which recording? Give one file");
    size_t len = 0;
    const void *recording = map_file(argv[1], &len);
    if (!recording)
        return EXIT_FAILED;
    int code = play(argv[1], recording, len);
    munmap((void *)(uintptr_t)recording, len);
    return code;
}
