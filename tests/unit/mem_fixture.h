/* mem_fixture.h - for tests of who may hold how much received memory: a peer whose frames come out
 * of a ring's budget, several connections of it, and an application that takes all there is. */
#ifndef MEM_FIXTURE_H
#define MEM_FIXTURE_H

#include "peer.h"
#include "zbuf_fixture.h"

#define SEG  2048u
#define TEXT 1400u
#define MANY 40000u
#define MS   1000000ull

static uint8_t text[TEXT];
static struct zbuf *flood[MANY];
static unsigned nflood;

/* The application takes all that is not set aside, down to the smallest segments. */
static inline void flood_pool(struct peer *p)
{
    for (unsigned cls = ZBUF_CLASSES; cls-- > 0;)
        nflood += zbuf_alloc_bulk(zbuf_budget_app(p->pool), FITS(ZBUF_SEG_MIN << cls),
                                  flood + nflood, MANY - nflood);
    CU_ASSERT_FATAL(nflood < MANY);
}
static inline void flood_ends(void)
{
    zbuf_free_bulk(flood, nflood);
    nflood = 0;
}

static inline struct zest_conn_info info_of(const struct peer *p, zest_handle conn)
{
    struct zest_conn_info i = {0};
    CU_ASSERT_EQUAL(zest_conn_info(p->z, conn, &i), 0);
    return i;
}

static inline bool budget_of(struct peer *p, const char *name, struct zbuf_budget_stat *out)
{
    struct zbuf_budget_stat b[32];
    unsigned n = zbuf_budget_stats(p->pool, b, 32);
    for (unsigned i = 0; i < n && i < 32; i++)
        if (strcmp(b[i].name, name) == 0) {
            *out = b[i];
            return true;
        }
    return false;
}

/* A peer whose frames come out of a ring's budget of its own, as those of a link do. */
static inline void open_mem(struct peer *p, const struct zest_config *cfg)
{
    peer_open(p, cfg);
    p->rx = zbuf_budget_open(
        p->pool, &(struct zbuf_budget_config){
                     .name = "ring", .min_bytes = 16 * SEG, .min_seg = SEG, .max_bytes = 16 * SEG});
    CU_ASSERT_PTR_NOT_NULL_FATAL(p->rx);
}

/* The peer speaks for another of its connections from now on. */
struct end {
    uint16_t port;
    uint32_t irs;
};
static inline struct end end_of(const struct peer *p)
{
    return (struct end){p->port, p->irs};
}
static inline void speak_for(struct peer *p, struct end e)
{
    p->port = e.port;
    p->irs = e.irs;
}

/* Another connection to the listener. */
static inline zest_handle another(struct peer *p)
{
    zest_handle conn = 0;
    p->port++;
    peer_send(p, S, 0, 0, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(p->n, 1);
    peer_send(p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p->z, p->listener, &conn, NULL), 0);
    return conn;
}

/* How many frames the connection takes until one is dropped. */
static inline unsigned fill(struct peer *p, uint32_t *seq)
{
    uint64_t before = peer_stats(p).drop_tcp_no_memory;
    unsigned n = 0;
    for (; n < 4000; n++, *seq += TEXT) {
        peer_send(p, A, *seq, 1, text, TEXT);
        if (peer_stats(p).drop_tcp_no_memory > before)
            break;
    }
    return n;
}

static inline void release_all(struct peer *p, zest_handle conn)
{
    struct zest_view v;
    while (zest_read(p->z, conn, &v, 1) == 1)
        CU_ASSERT_EQUAL(zest_release(p->z, conn, &v, 1), 0);
}

#endif
