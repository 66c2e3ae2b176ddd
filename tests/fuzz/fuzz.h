/* fuzz.h - what the fuzz targets share: reading the input as choices, and a host to try them on.
 *
 * Every target ends each input the same way: the stack is closed, every view is given back, and the
 * pool must be empty. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdio.h>
#include <string.h>

#include "tests/lib/host.h"
#include "tests/lib/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VICTIM_IP  0x0a000001u /* 10.0.0.1 */
#define PEER_IP    0x0a000002u
#define GATEWAY_IP 0x0a0000feu

/* The input. When it runs out, zeros come. */
struct input {
    const uint8_t *p;
    size_t left;
};
static inline uint8_t take8(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->p++;
}
static inline uint16_t take16(struct input *in)
{
    uint16_t hi = take8(in);
    return (uint16_t)(hi << 8 | take8(in));
}
static inline uint32_t take32(struct input *in)
{
    uint32_t hi = take16(in);
    return hi << 16 | take16(in);
}

/* Nanoseconds from one byte: nothing, microseconds, ... up to an hour. */
static inline uint64_t take_time(struct input *in)
{
    static const uint64_t unit[8] = {0,         1000,       1000000,     10000000,
                                     100000000, 1000000000, 30000000000, 3600000000000};
    uint8_t b = take8(in);
    return unit[b & 7] * ((b >> 3) + 1u) / (b & 7 ? 4 : 1);
}

/* The pool keeps what its threads have at hand in memory that the leak checker does not look into;
 * that no segment is missing is seen by fuzz_end(). */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:mag_get\n";
}

/* One for all inputs. */
static inline struct zbuf_pool *fuzz_pool(void)
{
    static struct zbuf_pool *pool;
    static const struct zbuf_pool_config cfg = {.size = 16u << 20, .no_huge = true};
    if (!pool)
        pool = zbuf_pool_create(&cfg);
    if (!pool)
        die("no pool");
    return pool;
}

/* A stack as the first bytes of the input want it. */
static inline void fuzz_host(struct host *h, struct input *in, uint32_t ip)
{
    static const uint16_t mtu[4] = {1500, 576, 3400, 9000};
    static const uint32_t buf[4] = {1u << 20, 4096, 65536, 1000};
    uint8_t a = take8(in), b = take8(in);
    struct zest_config cfg = {
        .pool = fuzz_pool(),
        .mac = {2, 0, 0, 0, 0, (uint8_t)ip},
        .gateway = {.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 0xfe}},
        .mtu = mtu[a & 3],
        .gather = a & 4 ? ZEST_GATHER_ALWAYS : ZEST_GATHER_NEVER,
        .gather_max = a & 8 ? 2 : 0,
        .tx_csum_offload = a & 16,
        .tso_segs = (a & (4 | 16 | 128)) == (4 | 16 | 128) ? 44 : 0,
        .max_conns = a & 32 ? 3 : 16,
        .max_listeners = 3,
        .max_pbufs = a & 64 ? 20 : 0,
        .snd_buf = buf[b & 3],
        .rcv_buf = buf[b >> 2 & 3],
        .rx_hold_max = b & 16 ? 128u << 10 : 0,
        .ctrl_reserve = b & 32 ? 64u << 10 : 256u << 10,
        .secret = "fuzz",
    };
    if (host_init(h, "victim", &cfg, ip, 4u << 20, 0) != 0)
        die("zest_init() fails");
    h->burst = b & 64 ? 1 : 0;
}

static inline void fuzz_end(void)
{
    struct zbuf_pool_stat st;
    zbuf_pool_stat(fuzz_pool(), &st);
    if (st.live != 0)
        die("%llu segments are not back in the pool", (unsigned long long)st.live);
}

/* The peer says who it is, so that the victim can answer it. */
static inline void fuzz_introduce(struct host *h, uint64_t now_ns, uint32_t peer_ip)
{
    uint8_t buf[64];
    struct wire w = {.eth_dst = {255, 255, 255, 255, 255, 255},
                     .eth_src = {2, 0, 0, 0, 0, (uint8_t)peer_ip},
                     .arp_op = 1,
                     .arp_sha = {2, 0, 0, 0, 0, (uint8_t)peer_ip},
                     .arp_spa = peer_ip,
                     .arp_tpa = h->ip};
    host_receive(h, now_ns, buf, wire_build_arp(&w, buf), 0);
}

static inline struct zest_addr fuzz_addr(uint32_t ip, uint16_t port)
{
    return (struct zest_addr){.ip = {[10] = 0xff,
                                     [11] = 0xff,
                                     (uint8_t)(ip >> 24),
                                     (uint8_t)(ip >> 16),
                                     (uint8_t)(ip >> 8),
                                     (uint8_t)ip},
                              .port = port};
}

#endif
