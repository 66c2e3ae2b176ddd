/* hist.c - see hist.h.
 *
 * Values below 64 have a bucket each. Above, a value with its highest bit at position 6 + k - 1
 * falls into octave k, in the bucket that its next six bits name: bucket width 2^(k-1). */
#include "hist.h"

static unsigned bucket_of(uint64_t ns)
{
    if (ns < 1u << HIST_SUB_BITS)
        return (unsigned)ns;
    unsigned msb = 63u - (unsigned)__builtin_clzll(ns);
    unsigned octave = msb - HIST_SUB_BITS + 1;
    if (octave > HIST_OCTAVES)
        return HIST_BUCKETS - 1;
    unsigned sub = (unsigned)(ns >> (octave - 1)) & ((1u << HIST_SUB_BITS) - 1);
    return (octave << HIST_SUB_BITS) + sub;
}

/* The largest value that falls into bucket b. */
static uint64_t bucket_top(unsigned b)
{
    unsigned octave = b >> HIST_SUB_BITS;
    uint64_t sub = b & ((1u << HIST_SUB_BITS) - 1);
    if (octave == 0)
        return sub;
    return (((sub | 1u << HIST_SUB_BITS) + 1) << (octave - 1)) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
    if (h->count == 0 || ns < h->min_ns)
        h->min_ns = ns;
    if (ns > h->max_ns)
        h->max_ns = ns;
    h->count++;
    h->sum_ns += ns;
    h->bucket[bucket_of(ns)]++;
}

uint64_t hist_quantile_ns(const struct hist *h, double q)
{
    if (h->count == 0)
        return 0;
    uint64_t rank = (uint64_t)(q * (double)h->count + 0.5), seen = 0;
    if (rank == 0)
        return h->min_ns;
    if (rank >= h->count)
        return h->max_ns;
    for (unsigned b = 0; b < HIST_BUCKETS; b++) {
        seen += h->bucket[b];
        if (seen >= rank)
            return bucket_top(b) < h->max_ns ? bucket_top(b) : h->max_ns;
    }
    return h->max_ns;
}

void hist_merge(struct hist *h, const struct hist *other)
{
    if (other->count == 0)
        return;
    if (h->count == 0 || other->min_ns < h->min_ns)
        h->min_ns = other->min_ns;
    if (other->max_ns > h->max_ns)
        h->max_ns = other->max_ns;
    h->count += other->count;
    h->sum_ns += other->sum_ns;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        h->bucket[i] += other->bucket[i];
}
