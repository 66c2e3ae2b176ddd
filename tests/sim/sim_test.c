/* sim_test.c - one seed after another.
 *
 *   SEED=n     the first seed; without it a fixed set, and then a fresh one that is printed
 *   SEEDS=n    how many (1 with SEED)
 *   TIME=s     goes on with fresh seeds for that long
 *   FRESH=n    where those begin, and then they are 300; without it the clock says
 *   VERBOSE=1  what happens, line by line
 *   PCAP=file  the frames, for tcpdump and Wireshark
 *
 * Seeds run in a child process, so that one that aborts is no more than a failed test. It is run
 * again, the same to the last bit, to write down what happened: build/sim-SEED.pcap. */
#include "sim.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIXED    400u
#define FRESH    300u
#define FAILURES 5u  /* then we stop */
#define STUCK_S  300 /* real seconds for one seed */

uint64_t *sim_count;

/* Shared with the children. */
struct progress {
    uint64_t count[SIM_COUNTERS];
    uint64_t seed, done, hash, bytes, excused, conns, clean, frames;
    double ideal; /* sum over clean runs of what was used of the line */
    char why[1024];
};
static struct progress *shared;

static void remember(const char *what)
{
    snprintf(shared->why, sizeof shared->why, "%s", what);
    if (sim.verbose || getenv("PLAN")) {
        plan_print(&sim.plan, stderr);
        fprintf(stderr, "at %.9f s, calm %d\n", (double)sim.now_ns / 1e9, sim.calm);
        apps_summary(stderr);
        inside_dump(stderr);
    }
    if (sim.pcap)
        fflush(sim.pcap);
}

/* What the connections made of a line that was the only limit. */
static void measure(void)
{
    uint64_t most = 0, first = UINT64_MAX, last = 0;
    for (unsigned i = 0; i < sim.nconns; i++) {
        const struct conn *c = &sim.conn[i];
        shared->conns++;
        shared->excused += c->excused;
        for (unsigned k = 0; k < 2; k++)
            shared->bytes += c->side[k].read;
        for (unsigned k = 0; k < 2; k++)
            most = c->side[k].read > most ? c->side[k].read : most;
        first = c->first_ns < first ? c->first_ns : first;
        last = c->last_ns > last ? c->last_ns : last;
    }
    if (!sim.plan.clean || !sim.plan.bits_per_s || sim.nconns != 1)
        return; /* Of a long transfer, slow start and what applications dawdle are a small part. */
    double ideal_ns = (double)most * 8e9 / (double)sim.plan.bits_per_s;
    bool roomy = true;
    for (unsigned k = 0; k < 2; k++) {
        const struct zest_config *cfg = &sim.plan.cfg[sim.conn[0].side[k].node];
        uint64_t bdp = sim.plan.bits_per_s / 8000 * sim.plan.delay_ns / MS;
        roomy &= cfg->snd_buf >= 65536 + 4 * bdp && cfg->rcv_buf >= 65536 + 4 * bdp;
    }
    if (roomy && ideal_ns > 40 * (double)sim.plan.delay_ns && ideal_ns > 1e8 && most >= 30000) {
        shared->clean++;
        if (getenv("IDEAL"))
            printf("seed %llu: %.0f %% of %llu bit/s, delay %.3f ms, %llu bytes\n",
                   (unsigned long long)sim.seed, 100 * ideal_ns / (double)(last - first),
                   (unsigned long long)sim.plan.bits_per_s, (double)sim.plan.delay_ns / 1e6,
                   (unsigned long long)most);
        shared->ideal += ideal_ns / (double)(last - first);
    }
}

static void one(uint64_t seed)
{
    shared->seed = seed;
    alarm(STUCK_S);
    world_run(seed);
    alarm(0);
    shared->hash = rng_mix(shared->hash ^ sim.hash);
    measure();
    shared->done++;
}

static bool child_ok(pid_t pid)
{
    int status;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The failed seed once more, with a witness. */
static void write_down(uint64_t seed)
{
    char path[64];
    snprintf(path, sizeof path, "build/sim-%llu.pcap", (unsigned long long)seed);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        sim.pcap = pcap_open(path);
        alarm(STUCK_S);
        world_run(seed);
        _exit(0);
    }
    char why[sizeof shared->why];
    memcpy(why, shared->why, sizeof why);
    bool again = !child_ok(pid);
    printf("seed %llu failed: %s\n  repeat it: make sim SEED=%llu VERBOSE=1\n  its frames: %s%s\n",
           (unsigned long long)seed, why[0] ? why : "(a signal)", (unsigned long long)seed, path,
           again ? "" : "\n  but the second time it passed: the simulator is not deterministic");
}

/* Seeds first, first + 1, ...: n of them, or until the time is up. Returns how many failed. */
static unsigned run(uint64_t first, uint64_t n, time_t until)
{
    uint64_t seed = first;
    unsigned failed = 0;
    while (seed < first + n && failed < FAILURES && (!until || time(NULL) < until)) {
        fflush(NULL);
        shared->why[0] = 0;
        pid_t pid = fork();
        if (pid == 0) {
            for (; seed < first + n && (!until || time(NULL) < until); seed++)
                one(seed);
            fflush(NULL);
            _exit(0);
        }
        if (child_ok(pid))
            return failed;
        failed++;
        write_down(shared->seed);
        seed = shared->seed + 1;
    }
    return failed;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void report(double seconds)
{
    static const char *const name[] = {
#define SIM_FAULT_NAME(n) #n,
        SIM_FAULTS(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
    };
    printf("sim: %llu seeds, %llu connections (%llu with an excuse), %llu bytes, %.1f seeds/s\n",
           (unsigned long long)shared->done, (unsigned long long)shared->conns,
           (unsigned long long)shared->excused, (unsigned long long)shared->bytes,
           (double)shared->done / (seconds > 0 ? seconds : 1));
    if (shared->clean)
        printf("sim: on a line without trouble: %.0f %% of the ideal (%llu runs)\n",
               100 * shared->ideal / (double)shared->clean, (unsigned long long)shared->clean);
    printf("sim: what happened:");
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
        printf("%s %s %llu", i % 8 ? "," : "\n    ", name[i], (unsigned long long)sim_count[i]);
    printf("\nsim: %llu recordings played, %llu of them from a checkpoint on; %llu ended early",
           (unsigned long long)sim_count[SIM_RECORDED],
           (unsigned long long)sim_count[SIM_RECORDED_ON],
           (unsigned long long)sim_count[SIM_RECORDED_SHORT]);
    printf("\nsim: hash %016llx\n", (unsigned long long)shared->hash);
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    sim_count = shared->count;
    sim.verbose = number("VERBOSE", 0);
    sim.record = number("RECORD", 0); /* all seeds, not some */
    die_hook = remember;

    struct timespec t0, t1;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    uint64_t seeds = number("SEEDS", 0), time_s = number("TIME", 0);
    unsigned failed;
    if (getenv("PCAP") && getenv("SEED")) {
        sim.pcap = pcap_open(getenv("PCAP"));
        one(number("SEED", 0));
        failed = 0;
    } else if (getenv("SEED") && *getenv("SEED")) {
        uint64_t n = seeds ? seeds : time_s ? UINT32_MAX : 1;
        failed = run(number("SEED", 0), n, time_s ? time(NULL) + (time_t)time_s : 0);
    } else {
        failed = run(1, seeds ? seeds : FIXED, 0);
        uint64_t given = number("FRESH", 0);
        uint64_t now = (uint64_t)time(NULL);
        uint64_t fresh = given ? given : rng_mix(now ^ (uint64_t)getpid()) >> 32;
        printf("sim: fresh seeds from %llu\n", (unsigned long long)fresh);
        if (given && !time_s)
            failed += run(fresh, FRESH, 0);
        else
            failed += run(fresh, UINT32_MAX, (time_t)(now + (time_s ? time_s : 5)));
    }
    clock_gettime(CLOCK_MONOTONIC, &t1);
    report((double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
    printf("sim: %llu passed, %u failed\n", (unsigned long long)shared->done, failed);
    return failed != 0;
}
