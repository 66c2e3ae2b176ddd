/* cksum.c - the Internet checksum, as fast as memory is read.
 *
 * One's-complement addition does not care where a carry goes back in (RFC 1071 section 2), so words
 * of any width may be summed and folded at the end. Two kernels do the bulk:
 *
 *   words   64-bit words in four accumulators, each with its carries counted apart, so that the
 *           additions do not wait for each other
 *   avx2    32-bit halves in 64-bit lanes, 64 bytes a round: lanes can't overflow below 2^32 rounds
 *
 * Both read (and, for cksum_copy, write) with unaligned moves: the cost of a line crossing is less
 * than that of a prologue. Which one runs is asked of the CPU at each call: that is one load. */
#include "cksum.h"
#include "stack.h"

#if defined(__x86_64__)
#define HAVE_AVX2_KERNEL 1
#endif

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* The sum and the copy are one loop, so that they can't come to differ: dst NULL means no copy, and
 * is a constant in each caller. */
static inline __attribute__((always_inline)) uint64_t tail(uint64_t sum, uint8_t *dst,
                                                           const uint8_t *p, size_t len)
{
    /* In fixed sizes: a memcpy of variable length would be a call, and cost more than all this. */
#define STEP(type)                                                                                 \
    do {                                                                                           \
        type v;                                                                                    \
        memcpy(&v, p, sizeof v);                                                                   \
        if (dst) {                                                                                 \
            memcpy(dst, &v, sizeof v);                                                             \
            dst += sizeof v;                                                                       \
        }                                                                                          \
        sum = cksum_plus(sum, v);                                                                  \
        p += sizeof v;                                                                             \
    } while (0)
    for (; len >= 8; len -= 8)
        STEP(uint64_t);
    if (len & 4)
        STEP(uint32_t);
    if (len & 2)
        STEP(uint16_t);
#undef STEP
    if (len & 1) { /* zero padding, in wire order on either endianness */
        uint16_t last = 0;
        memcpy(&last, p, 1);
        if (dst)
            *dst = *p;
        sum = cksum_plus(sum, last);
    }
    return sum;
}

static inline __attribute__((always_inline)) uint64_t words(uint64_t sum, uint8_t *dst,
                                                            const uint8_t *p, size_t len)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    uint64_t carries = 0;
    for (; len >= 32; p += 32, len -= 32) {
        uint64_t w0 = load64(p), w1 = load64(p + 8), w2 = load64(p + 16), w3 = load64(p + 24);
        if (dst) {
            memcpy(dst, &w0, 8);
            memcpy(dst + 8, &w1, 8);
            memcpy(dst + 16, &w2, 8);
            memcpy(dst + 24, &w3, 8);
            dst += 32;
        }
        carries += __builtin_add_overflow(a, w0, &a);
        carries += __builtin_add_overflow(b, w1, &b);
        carries += __builtin_add_overflow(c, w2, &c);
        carries += __builtin_add_overflow(d, w3, &d);
    }
    sum = cksum_plus(cksum_plus(sum, cksum_plus(a, b)), cksum_plus(cksum_plus(c, d), carries));
    return tail(sum, dst, p, len);
}

#ifdef HAVE_AVX2_KERNEL
typedef uint64_t lanes __attribute__((vector_size(32)));

static inline __attribute__((always_inline, target("avx2"))) uint64_t wide(uint64_t sum,
                                                                           uint8_t *dst,
                                                                           const uint8_t *p,
                                                                           size_t len)
{
    const lanes low = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    for (; len >= 64; p += 64, len -= 64) {
        lanes v, w;
        memcpy(&v, p, 32);
        memcpy(&w, p + 32, 32);
        if (dst) {
            memcpy(dst, &v, 32);
            memcpy(dst + 32, &w, 32);
            dst += 64;
        }
        a += v & low;
        b += v >> 32;
        c += w & low;
        d += w >> 32;
    }
    a += b;
    c += d;
    a += c;
    for (int i = 0; i < 4; i++)
        sum = cksum_plus(sum, a[i]);
    return tail(sum, dst, p, len);
}
static __attribute__((target("avx2"))) uint64_t add_wide(uint64_t sum, const uint8_t *p, size_t len)
{
    return wide(sum, NULL, p, len);
}
static __attribute__((target("avx2"))) uint64_t copy_wide(uint64_t sum, uint8_t *dst,
                                                          const uint8_t *p, size_t len)
{
    return wide(sum, dst, p, len);
}
/* Below this the wide kernel's reduction costs more than it saves. */
#define WIDE_MIN 128u
#endif

uint64_t cksum_add(uint64_t sum, const void *data, size_t len)
{
#ifdef HAVE_AVX2_KERNEL
    if (len >= WIDE_MIN && __builtin_cpu_supports("avx2"))
        return add_wide(sum, data, len);
#endif
    return words(sum, NULL, data, len);
}

uint64_t cksum_copy(uint64_t sum, void *dst, const void *data, size_t len)
{
#ifdef HAVE_AVX2_KERNEL
    if (len >= WIDE_MIN && __builtin_cpu_supports("avx2"))
        return copy_wide(sum, dst, data, len);
#endif
    return words(sum, dst, data, len);
}

static bool is_v4_mapped(const struct ipaddr *a)
{
    return a->q[0] == 0 && a->b[8] == 0 && a->b[9] == 0 && a->b[10] == 0xff && a->b[11] == 0xff;
}

uint64_t cksum_pseudo(const struct ipaddr *src, const struct ipaddr *dst, uint8_t proto,
                      uint32_t len)
{
    /* RFC 9293 3.1: addresses, zero, protocol, length; RFC 8200 8.1: the length has 32 bits. Their
     * sums are the same for a length below 64 KiB. */
    uint8_t rest[8] = {0};
    be32_put(rest, len);
    rest[7] = proto;
    uint64_t sum = load64(rest);
    if (is_v4_mapped(src))
        return cksum_plus(sum, (uint64_t)src->w[3] + dst->w[3]);
    for (int i = 0; i < 2; i++)
        sum = cksum_plus(cksum_plus(sum, src->q[i]), dst->q[i]);
    return sum;
}

uint16_t cksum_fold_raw(uint64_t sum)
{
    sum = (sum >> 32) + (sum & UINT32_MAX); /* 33 bits */
    sum = (sum >> 32) + (sum & UINT32_MAX);
    sum = (sum >> 16) + (sum & UINT16_MAX); /* 17 bits */
    sum = (sum >> 16) + (sum & UINT16_MAX);
    return (uint16_t)sum;
}
