/* rng.h - random numbers that are the same everywhere: xoshiro256** seeded by splitmix64 (Blackman
 * and Vigna). A generator is a value; what must not disturb each other takes one each. Two numbers
 * of one generator are drawn in two statements: in which order arguments and initialisers are
 * evaluated is the compiler's choice. */
#ifndef RNG_H
#define RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

/* A hash of one word: splitmix64's output function. */
static inline uint64_t rng_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static inline struct rng rng_seed(uint64_t seed)
{
    struct rng r;
    for (unsigned i = 0; i < 4; i++)
        r.s[i] = rng_mix(seed + i * 0x9e3779b97f4a7c15ull);
    return r;
}

static inline uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s, x = s[1] * 5, t = s[1] << 17;
    x = (x << 7 | x >> 57) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return x;
}

/* A generator that depends on r, and on nothing that r is used for later. */
static inline struct rng rng_fork(struct rng *r)
{
    return rng_seed(rng_next(r));
}

/* 0 to n - 1; n > 0. The bias is n / 2^64. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (uint64_t)((unsigned __int128)rng_next(r) * n >> 64);
}

/* lo to hi, both included. */
static inline uint64_t rng_range(struct rng *r, uint64_t lo, uint64_t hi)
{
    return lo + rng_below(r, hi - lo + 1);
}

/* lo to hi, each power of two as likely as the next: sizes, times. lo > 0. */
static inline uint64_t rng_log(struct rng *r, uint64_t lo, uint64_t hi)
{
    unsigned from = 63u - (unsigned)__builtin_clzll(lo), to = 63u - (unsigned)__builtin_clzll(hi);
    unsigned bits = (unsigned)rng_range(r, from, to);
    uint64_t v = (1ull << bits) + rng_below(r, 1ull << bits);
    return v < lo ? lo : v > hi ? hi : v;
}

/* True ppm times in a million. */
static inline bool rng_chance(struct rng *r, uint32_t ppm)
{
    return ppm && rng_below(r, 1000000) < ppm;
}

#endif
