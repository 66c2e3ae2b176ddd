/* player.h - recordings as files would have them, and a pool and memory to play them in. */
#ifndef PLAYER_H
#define PLAYER_H

#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "stack/zest_record.h"

/* Made when first needed. */
static struct zbuf_pool *player_pool;
static void *player_mem;
static size_t player_mem_size;

static inline void player_end(void)
{
    CU_ASSERT_TRUE(!player_pool || zbuf_pool_destroy(player_pool) == 0);
    player_pool = NULL;
    free(player_mem);
    player_mem = NULL;
    player_mem_size = 0;
}

/* Puts the parts one after the other; returns their length. */
static inline size_t player_gather(const struct zest *z, uint8_t *to, struct zest_recording *rec)
{
    size_t len = 0;
    CU_ASSERT_EQUAL_FATAL(zest_recording(z, rec), 0);
    for (unsigned k = 0; k < rec->parts; len += rec->part[k++].len)
        memcpy(to + len, rec->part[k].p, rec->part[k].len);
    CU_ASSERT_EQUAL(len, rec->len);
    return len;
}

/* Plays it; the pool must be complete again afterwards. */
static inline int replay(const void *rec, size_t len, struct zest_replay_result *res)
{
    struct zest_replay_needs needs;
    struct zbuf_pool_stat st;
    *res = (struct zest_replay_result){.call = "", .why = ""};
    int rc = zest_replay_needs(rec, len, &needs);
    if (rc < 0)
        return rc;
    if (player_pool && zbuf_pool_size(player_pool) != needs.pool_size) {
        CU_ASSERT_EQUAL(zbuf_pool_destroy(player_pool), 0);
        player_pool = NULL;
    }
    if (!player_pool)
        player_pool =
            zbuf_pool_create(&(struct zbuf_pool_config){.size = needs.pool_size, .no_huge = true});
    if (needs.mem_size > player_mem_size) {
        free(player_mem);
        player_mem_size = needs.mem_size;
        player_mem = aligned_alloc(64, player_mem_size);
    }
    if (!player_pool || !player_mem)
        return -ENOMEM; /* a file that asks for a lot */
    rc = zest_replay(rec, len, player_pool, player_mem, player_mem_size, res);
    zbuf_pool_stat(player_pool, &st);
    CU_ASSERT_EQUAL_FATAL(st.live, 0);
    return rc;
}

#endif
