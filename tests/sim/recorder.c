/* recorder.c - flight recorders on the machines of some seeds, with so little memory that they
 * begin again and again; what is left at the end must play.
 *
 * So whatever a seed brings together, a checkpoint is taken in the middle of it: the replay begins
 * with one, and compares its own state with each that it comes to.
 *
 * SAVE=DIR keeps those that begin with a checkpoint, cut at 4 KiB: the fuzzer's corpus. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "stack/zest_record.h"

#define CORPUS  4096u /* bytes */
#define EVERY   8u    /* seeds, one is recorded */
#define MEM_MIN (16u << 10)
#define MEM_MAX (96u << 10)

static uint8_t *ring[STACKS], *copy;

void recorder_attach(unsigned i, struct zest_config *cfg)
{
    struct rng r = rng_seed(rng_mix(sim.seed) + i);

    if (!sim.record && sim.seed % EVERY != 0)
        return;
    if (!ring[i] && !(ring[i] = malloc(MEM_MAX)))
        die("out of memory in the test itself");
    cfg->record_mem = ring[i];
    cfg->record_size = rng_log(&r, MEM_MIN, MEM_MAX);
}

static size_t gather(const struct zest_recording *rec)
{
    size_t len = 0;

    if (!copy && !(copy = malloc(MEM_MAX)))
        die("out of memory in the test itself");
    for (unsigned i = 0; i < rec->parts; len += rec->part[i++].len)
        memcpy(copy + len, rec->part[i].p, rec->part[i].len);
    return len;
}

static void save(const char *dir, unsigned i, size_t len)
{
    char path[300];

    snprintf(path, sizeof path, "%s/%llu-%u-%llu", dir, (unsigned long long)sim.seed, i,
             (unsigned long long)sim.steps);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(copy, 1, len < CORPUS ? len : CORPUS, f) == 0 || fclose(f) != 0)
        die("cannot write %s", path);
}

void recorder_check(unsigned i)
{
    struct zest_recording rec;
    struct zest_replay_needs needs;
    struct zest_replay_result res;

    if (zest_recording(sim.node[i].h.z, &rec) < 0)
        return;
    size_t len = gather(&rec);
    if (zest_replay_needs(copy, len, &needs) < 0)
        die("%s's recording is none", sim.node[i].h.name);
    struct zbuf_pool_config pc = {
        .size = needs.pool_size, .no_huge = true, .private_stat = true, .name = "replay"};
    starve_pause(true);
    struct zbuf_pool *pool = zbuf_pool_create(&pc);
    void *mem = aligned_alloc(64, needs.mem_size);
    if (!pool || !mem || zest_replay(copy, len, pool, mem, needs.mem_size, &res) < 0)
        die("%s's recording can't be played", sim.node[i].h.name);
    if (res.end != ZEST_REPLAY_IDENTICAL)
        die("%s's recording (from %llu ns on): input %llu at %llu ns, %s: %s (%lld, recorded %lld)",
            sim.node[i].h.name, (unsigned long long)res.from_ns, (unsigned long long)res.inputs,
            (unsigned long long)res.now_ns, res.call, res.why, (long long)res.result,
            (long long)res.recorded_result);
    free(mem);
    if (zbuf_pool_destroy(pool) < 0)
        die("a replay leaves segments behind");
    starve_pause(false);
    count(SIM_RECORDED);
    if (!res.from_start)
        count(SIM_RECORDED_ON);
    if (!res.from_start && getenv("SAVE"))
        save(getenv("SAVE"), i, len);
    if (res.full)
        count(SIM_RECORDED_SHORT);
}
