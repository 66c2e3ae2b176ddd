/* stack_fixture.h - a struct zest with only the layer under test in it.
 *
 * The test includes this first, and then the layer's .c file: what that layer calls up, down or
 * sideways is renamed here, and the test plays those parts. What it sends ends up in fx_sent[]. */
#ifndef STACK_FIXTURE_H
#define STACK_FIXTURE_H

#define ctrlq_push          fx_ctrlq_push
#define ctrl_alloc          fx_ctrl_alloc
#define stack_assert_failed fx_assert_failed
#define tcp_input           fx_tcp_input
#define tcp_icmp_error      fx_tcp_icmp_error

#include <stdlib.h>

#include "check.h"
#include "stack/cksum.h"
#include "stack/stack.h"

#define FX_SENT 2048u

static struct zest fx; /* the stack: 10.0.0.1/24, gateway 10.0.0.254, MTU 1500 */
static struct zbuf *fx_sent[FX_SENT];
static unsigned fx_nsent;
static bool fx_no_memory; /* ctrl_alloc() fails */

static const uint8_t fx_mac[6] = {2, 0, 0, 0, 0, 1};

#define IP(a, b, c, d)                                                                             \
    __builtin_bswap32((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 |             \
                      (uint32_t)(d))
#define FX_IP   IP(10, 0, 0, 1)
#define FX_GW   IP(10, 0, 0, 254)
#define FX_MASK IP(255, 255, 255, 0)

_Noreturn void stack_assert_failed(const char *cond, const char *file, int line)
{
    printf("%s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}

void ctrlq_push(struct zest *z, struct zbuf *zb)
{
    (void)z;
    assert(fx_nsent < FX_SENT);
    fx_sent[fx_nsent++] = zb;
}

struct zbuf *ctrl_alloc(struct zest *z, uint32_t bytes)
{
    if (fx_no_memory) {
        z->stats.drop_ctrl_queue++;
        return NULL;
    }
    return zbuf_alloc_from(z->ctrl, bytes);
}

/* Frees what was sent, and starts the list anew. */
static inline void fx_forget_sent(void)
{
    zbuf_free_bulk(fx_sent, fx_nsent);
    fx_nsent = 0;
}

static inline void fx_setup(void)
{
    static const struct zbuf_pool_config pc = {.size = 8u << 20, .no_huge = true};
    static const uint8_t secret[16] = "not very secret";
    memset(&fx, 0, sizeof fx);
    fx.pool = zbuf_pool_create(&pc);
    assert(fx.pool);
    fx.cfg.pool = fx.pool;
    fx.cfg.mtu = 1500;
    memcpy(fx.cfg.mac, fx_mac, 6);
    memcpy(fx.cfg.secret, secret, 16);
    fx.ctrl = zbuf_budget_create(fx.pool, "control", 2u << 20, 0);
    assert(fx.ctrl);
    fx.ip4_be = FX_IP;
    fx.mask_be = FX_MASK;
    fx.gateway_be = FX_GW;
    fx.ip = ipaddr_from_v4(FX_IP);
    fx.now_ns = 1000 * NS_PER_S;
    fx_no_memory = false;
}

/* Every segment must be home. */
static inline void fx_teardown(void)
{
    fx_forget_sent();
    CU_ASSERT_EQUAL(zbuf_budget_destroy(fx.ctrl), 0);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(fx.pool), 0);
}

/* The sum of all drop_ counters: a bad packet must count exactly once. */
static inline uint64_t fx_drops(void)
{
    uint64_t sum = 0;
#define FX_COUNTER(name, what)                                                                     \
    if (strncmp(#name, "drop_", 5) == 0)                                                           \
        sum += fx.stats.name;
    ZEST_COUNTERS(FX_COUNTER)
#undef FX_COUNTER
    return sum;
}

/* A segment that holds these bytes, as if received. */
static inline struct zbuf *fx_segment(const void *data, uint32_t len)
{
    struct zbuf *zb = zbuf_alloc(fx.pool, len);
    assert(zb);
    memcpy(zb->data, data, len);
    zb->len = len;
    return zb;
}

static inline struct pkt fx_pkt(struct zbuf *zb)
{
    return (struct pkt){.zb = zb, .p = zb->data, .len = zb->len};
}

#endif
