/* A histogram of durations: fixed memory however long the run, values within 0.03 percent. */
#ifndef TOLLHOUSE_HIST_H
#define TOLLHOUSE_HIST_H

#include "common.h"

#define HIST_BITS 12
#define HIST_ROW (1u << HIST_BITS)

struct hist {
    uint64_t count;
    int64_t max;
    uint32_t cells[(64 - HIST_BITS) * HIST_ROW];
};

/* Below 2^HIST_BITS each value has its own cell; above, each power of two is cut into HIST_ROW cells. */
static inline void hist_add(struct hist *h, int64_t ns)
{
    uint64_t v = ns > 0 ? (uint64_t)ns : 0;
    unsigned shift = v < HIST_ROW ? 0 : (unsigned)(64 - HIST_BITS - __builtin_clzll(v));
    h->cells[shift * HIST_ROW + (v >> shift)]++;
    h->count++;
    if ((int64_t)v > h->max)
        h->max = (int64_t)v;
}

/* The smallest value that the given share of all values does not exceed, in milliseconds. */
static inline double hist_ms(const struct hist *h, double share)
{
    double wanted = share * (double)h->count;
    uint64_t seen = 0;
    size_t i = 0;
    for (; i + 1 < sizeof h->cells / sizeof *h->cells; i++) {
        seen += h->cells[i];
        if (seen && (double)seen >= wanted)
            break;
    }
    unsigned shift = (unsigned)(i / HIST_ROW);
    double low = (double)((uint64_t)(i % HIST_ROW) << shift);
    double middle = low + (shift ? (double)(1ULL << (shift - 1)) : 0);
    return (middle < (double)h->max ? middle : (double)h->max) / MILLI_NS;
}

static inline void hist_print(const struct hist *h, const char *name)
{
    printf(", \"%s\": {\"n\": %llu", name, (unsigned long long)h->count);
    if (h->count)
        printf(", \"p50\": %.4f, \"p90\": %.4f, \"p95\": %.4f, \"p99\": %.4f, \"max\": %.4f", hist_ms(h, 0.5),
               hist_ms(h, 0.9), hist_ms(h, 0.95), hist_ms(h, 0.99), (double)h->max / MILLI_NS);
    printf("}");
}

#endif
