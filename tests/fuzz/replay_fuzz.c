/* replay_fuzz.c - fuzz target: a recording. Whatever is in the file, playing it ends, with one of
 * the answers that there are; the same one twice; and every segment is home afterwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stack/zest_record.h"
#include "tests/lib/host.h"

#define POOL_MAX (48u << 20) /* more is refused here, for speed */
#define MEM_MAX  (32u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The pool keeps what its threads have at hand in memory that the leak checker does not look into;
 * segments are counted below. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:mag_get\n";
}

static struct zbuf_pool *pool_of(size_t size)
{
    static struct zbuf_pool *pool;
    if (pool && zbuf_pool_size(pool) != size) {
        if (zbuf_pool_destroy(pool) < 0)
            die("segments are not home");
        pool = NULL;
    }
    if (!pool)
        pool = zbuf_pool_create(&(struct zbuf_pool_config){
            .size = size, .no_huge = true, .private_stat = true, .name = "replay"});
    return pool;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t mem[MEM_MAX] __attribute__((aligned(64)));
    struct zest_replay_needs needs;
    struct zest_replay_result res[2];
    struct zbuf_pool_stat st;

    if (zest_replay_needs(data, size, &needs) < 0 || needs.pool_size > POOL_MAX ||
        needs.mem_size > MEM_MAX)
        return 0;
    struct zbuf_pool *pool = pool_of(needs.pool_size);
    if (!pool)
        return 0;
    for (int i = 0; i < 2; i++) {
        int rc = zest_replay(data, size, pool, mem, sizeof mem, &res[i]);
        zbuf_pool_stat(pool, &st);
        if (st.live != 0)
            die("%llu segments are not home", (unsigned long long)st.live);
        if (rc < 0)
            return 0;
    }
    if (res[0].end != res[1].end || res[0].inputs != res[1].inputs || res[0].hash != res[1].hash)
        die("the second time it was another: input %llu and %llu",
            (unsigned long long)res[0].inputs, (unsigned long long)res[1].inputs);
    return 0;
}
