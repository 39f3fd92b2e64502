#include "analysis/distribution.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"

enum { FRACTION_BITS = 9, DROPPED_BITS = 23 - FRACTION_BITS, BINS = 1 << FRACTION_BITS, EXPONENTS = 255 };

struct kvs_distribution {
    int64_t count, room;
    double sum;
    float max;
    float *samples;              /* exact: [room] */
    uint64_t *counts[EXPONENTS]; /* histogram: [BINS] for each exponent that occurred */
};

kvs_status kvs_distribution_open(int64_t most, int exact, kvs_distribution **distribution, kvs_error *error) {
    kvs_distribution *d = calloc(1, sizeof *d);
    *distribution = d;
    if (d != NULL && exact) {
        d->room = most;
        d->samples = malloc(sizeof *d->samples * (size_t)(most > 0 ? most : 1));
    }
    if (d != NULL && (!exact || d->samples != NULL)) return KVS_OK;
    free(d);
    *distribution = NULL;
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for %lld samples", (long long)most);
}

void kvs_distribution_close(kvs_distribution *d) {
    if (d == NULL) return;
    for (int i = 0; i < EXPONENTS; i++) free(d->counts[i]);
    free(d->samples);
    free(d);
}

int64_t kvs_distribution_bytes(int64_t most, int exact) {
    enum { TYPICAL_EXPONENTS = 24 };
    return exact ? most * (int64_t)sizeof(float) : TYPICAL_EXPONENTS * BINS * (int64_t)sizeof(uint64_t);
}

kvs_status kvs_distribution_add(kvs_distribution *d, const float *samples, size_t count, kvs_error *error) {
    if (count == 0) return KVS_OK;
    for (size_t i = 0; i < count; i++) {
        d->sum += (double)samples[i];
        if (samples[i] > d->max) d->max = samples[i];
    }
    if (d->samples != NULL) {
        if ((int64_t)count > d->room - d->count)
            return kvs_fail(error, KVS_INPUT, NULL, NULL, "more samples than the %lld that were announced",
                            (long long)d->room);
        memcpy(d->samples + d->count, samples, count * sizeof *samples);
    }
    for (size_t i = 0; d->samples == NULL && i < count; i++) {
        uint32_t bits = kvs_float_bits(samples[i] + 0.0f);
        uint64_t **bins = &d->counts[bits >> 23];
        if (*bins == NULL && (*bins = calloc(BINS, sizeof **bins)) == NULL)
            return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
        (*bins)[bits >> DROPPED_BITS & (BINS - 1)]++;
    }
    d->count += (int64_t)count;
    return KVS_OK;
}

/* Moves the rank-th smallest of values[low, high) to its place, smaller ones before and larger ones behind it (Hoare's
 * selection; the middle of three as pivot). */
static float select_rank(float *values, int64_t low, int64_t high, int64_t rank) {
    while (high - low > 1) {
        float a = values[low], b = values[low + (high - low) / 2], c = values[high - 1];
        float pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        int64_t i = low, j = high - 1;
        while (i <= j) {
            while (values[i] < pivot) i++;
            while (values[j] > pivot) j--;
            if (i > j) break;
            float swapped = values[i];
            values[i++] = values[j];
            values[j--] = swapped;
        }
        if (rank <= j)
            high = j + 1;
        else if (rank >= i)
            low = i;
        else
            break;
    }
    return values[rank];
}

/* The rank-th smallest by the histogram: the middle of its bin, exact for 0. */
static double bin_of_rank(const kvs_distribution *d, int64_t rank) {
    int64_t before = 0;
    for (uint32_t exponent = 0; exponent < EXPONENTS; exponent++)
        for (uint32_t bin = 0; d->counts[exponent] != NULL && bin < BINS; bin++) {
            before += (int64_t)d->counts[exponent][bin];
            if (before <= rank) continue;
            uint32_t low = exponent << 23 | bin << DROPPED_BITS;
            float middle = low == 0 ? 0.0f : kvs_bits_float(low | 1u << (DROPPED_BITS - 1));
            return (double)(middle < d->max ? middle : d->max);
        }
    return (double)d->max;
}

static double percentile(kvs_distribution *d, double q) {
    double place = q * (double)(d->count - 1);
    int64_t rank = (int64_t)place, next = rank + 1 < d->count ? rank + 1 : rank;
    double low, high;
    if (d->samples != NULL) {
        low = (double)select_rank(d->samples, 0, d->count, rank);
        high = (double)select_rank(d->samples, rank, d->count, next);
    } else {
        low = bin_of_rank(d, rank);
        high = bin_of_rank(d, next);
    }
    return low + (high - low) * (place - (double)rank);
}

kvs_statistic kvs_distribution_statistic(kvs_distribution *d) {
    if (d->count == 0) return (kvs_statistic){NAN, NAN, NAN, NAN};
    kvs_statistic statistic = {.mean = d->sum / (double)d->count, .max = (double)d->max};
    statistic.median = percentile(d, 0.5);
    statistic.p99 = percentile(d, 0.99);
    return statistic;
}

void kvs_distribution_clear(kvs_distribution *d) {
    d->count = 0;
    d->sum = 0;
    d->max = 0;
    for (int i = 0; i < EXPONENTS; i++)
        if (d->counts[i] != NULL) memset(d->counts[i], 0, BINS * sizeof *d->counts[i]);
}
