/* stream.c - the bytes that applications send each other: a function of a key and of the place in
 * the stream, so that whoever reads one knows what it must be. */
#include "sim.h"

static uint64_t stream_word(uint64_t key, uint64_t at)
{
    return rng_mix(key + at / 8);
}

void stream_fill(uint64_t key, uint64_t at, uint8_t *p, size_t len)
{
    while (len > 0) {
        uint64_t w = stream_word(key, at);
        unsigned skip = at % 8;
        size_t n = len < 8 - skip ? len : 8 - skip;
        for (size_t i = 0; i < n; i++)
            p[i] = (uint8_t)(w >> 8 * (skip + i));
        p += n;
        at += n;
        len -= n;
    }
}

bool stream_is(uint64_t key, uint64_t at, const uint8_t *p, size_t len)
{
    while (len > 0) {
        uint64_t w = stream_word(key, at);
        unsigned skip = at % 8;
        size_t n = len < 8 - skip ? len : 8 - skip;
        for (size_t i = 0; i < n; i++)
            if (p[i] != (uint8_t)(w >> 8 * (skip + i)))
                return false;
        p += n;
        at += n;
        len -= n;
    }
    return true;
}
