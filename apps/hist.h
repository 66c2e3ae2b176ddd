/* hist.h - a histogram of durations: log-linear buckets, so any percentile is within 1/64 of the
 * truth whatever its size, in a fixed amount of memory and a few instructions a sample. */
#ifndef APPS_HIST_H
#define APPS_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 6  /* 64 buckets for each power of two */
#define HIST_OCTAVES  36 /* up to 2^41 ns, 36 minutes; longer ones count as that */
#define HIST_BUCKETS  ((HIST_OCTAVES + 1) << HIST_SUB_BITS)

struct hist {
    uint64_t count, sum_ns, min_ns, max_ns;
    uint32_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *h, const struct hist *other);
/* The duration that the fraction q (0 to 1) of all samples did not exceed; 0 without samples. */
uint64_t hist_quantile_ns(const struct hist *h, double q);

#endif
