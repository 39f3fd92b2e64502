#include "kernels/ranking.h"

#include <math.h>
#include <string.h>

#include "core/simd.h"

const kvs_ranking *kvs_ranking_find(const char *name) {
    for (int i = 0; kvs_rankings[i] != NULL; i++)
        if (strcmp(kvs_rankings[i]->name, name) == 0) return kvs_rankings[i];
    return NULL;
}

KVS_SIMD void kvs_tree_sum(int tokens, int head_dim, float *restrict scratch, float *restrict sums) {
    int half = 1;
    while (half < tokens) half *= 2;
    for (half /= 2; half > 0; half /= 2) {
        /* Missing tokens count as +0, which changes no sum but that of -0. */
        for (int t = 0; t < half; t++) {
            float *restrict low = scratch + (size_t)t * head_dim;
            if (t + half < tokens) {
                const float *restrict high = scratch + (size_t)(t + half) * head_dim;
                for (int d = 0; d < head_dim; d++) low[d] += high[d];
            } else if (t < tokens)
                for (int d = 0; d < head_dim; d++) low[d] += 0.0f;
        }
        if (tokens > half) tokens = half;
    }
    memcpy(sums, scratch, sizeof *sums * (size_t)head_dim);
}

static inline __attribute__((always_inline)) float term_of(kvs_term term, float key, float mean) {
    if (term == KVS_TERM_MAGNITUDE) return fabsf(key);
    if (term == KVS_TERM_KEY) return key;
    float deviation = key - mean;
    return deviation * deviation;
}

static inline __attribute__((always_inline)) void terms(kvs_term term, int tokens, int head_dim,
                                                        const float *restrict k, const float *restrict mean,
                                                        float *restrict scratch) {
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < head_dim; d++)
            scratch[(size_t)t * head_dim + d] = term_of(term, k[(size_t)t * head_dim + d], mean[d]);
}

/* The first three levels of the tree at once: row r of scratch is what rows r, r + rows, ... r + 7 rows add up to. */
static inline __attribute__((always_inline)) void fold_terms(kvs_term term, int rows, int head_dim,
                                                             const float *restrict k, const float *restrict mean,
                                                             float *restrict scratch) {
    size_t eighth = (size_t)rows * (size_t)head_dim;
    for (int r = 0; r < rows; r++, k += head_dim, scratch += head_dim)
        for (int d = 0; d < head_dim; d++) {
            float x[8];
            for (int i = 0; i < 8; i++) x[i] = term_of(term, k[(size_t)i * eighth + d], mean[d]);
            scratch[d] = ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
        }
}

KVS_SIMD static void all_terms(kvs_term term, int tokens, int head_dim, const float *k, const float *mean,
                               float *scratch) {
    if (term == KVS_TERM_KEY) terms(KVS_TERM_KEY, tokens, head_dim, k, mean, scratch);
    if (term == KVS_TERM_MAGNITUDE) terms(KVS_TERM_MAGNITUDE, tokens, head_dim, k, mean, scratch);
    if (term == KVS_TERM_DEVIATION) terms(KVS_TERM_DEVIATION, tokens, head_dim, k, mean, scratch);
}

KVS_SIMD static void folded_terms(kvs_term term, int rows, int head_dim, const float *k, const float *mean,
                                  float *scratch) {
    if (term == KVS_TERM_KEY) fold_terms(KVS_TERM_KEY, rows, head_dim, k, mean, scratch);
    if (term == KVS_TERM_MAGNITUDE) fold_terms(KVS_TERM_MAGNITUDE, rows, head_dim, k, mean, scratch);
    if (term == KVS_TERM_DEVIATION) fold_terms(KVS_TERM_DEVIATION, rows, head_dim, k, mean, scratch);
}

void kvs_tree_mean(kvs_term term, int tokens, int head_dim, const float *k, const float *mean, float *scratch,
                   float *means) {
    int rows = tokens;
    if (mean == NULL) mean = k; /* any floats: the term does not use them */
    if (tokens >= 8 && (tokens & (tokens - 1)) == 0)
        folded_terms(term, rows = tokens / 8, head_dim, k, mean, scratch);
    else
        all_terms(term, tokens, head_dim, k, mean, scratch);
    kvs_tree_sum(rows, head_dim, scratch, means);
    for (int d = 0; d < head_dim; d++) means[d] /= (float)tokens;
}

KVS_SIMD static void widen(int tokens, int head_dim, const float *restrict k, float *restrict low,
                           float *restrict high) {
    for (int t = 1; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) {
            float x = k[(size_t)t * head_dim + d];
            low[d] = x < low[d] ? x : low[d];
            high[d] = x > high[d] ? x : high[d];
        }
    for (int d = 0; d < head_dim; d++) high[d] -= low[d];
}

void kvs_channel_ranges(int tokens, int head_dim, const float *k, float *scratch, float *ranges) {
    memcpy(scratch, k, sizeof *k * (size_t)head_dim);
    memcpy(ranges, k, sizeof *k * (size_t)head_dim);
    widen(tokens, head_dim, k, scratch, ranges);
}

/* Ranks this many channels at a time against all, so that their counts stay in registers. */
enum { BLOCK = 16 };

KVS_SIMD void kvs_rank_channels(int head_dim, const float *restrict scores, int *restrict ranks) {
    for (int first = 0; first < head_dim; first += BLOCK) {
        int count = head_dim - first < BLOCK ? head_dim - first : BLOCK, before[BLOCK] = {0};
        float mine[BLOCK] = {0};
        for (int i = 0; i < count; i++) mine[i] = scores[first + i];
        for (int e = 0; e < first; e++)
            for (int i = 0; i < BLOCK; i++) before[i] += scores[e] >= mine[i];
        for (int e = first; e < first + count; e++)
            for (int i = 0; i < BLOCK; i++)
                before[i] += (scores[e] > mine[i]) | ((scores[e] == mine[i]) & (e < first + i));
        for (int e = first + count; e < head_dim; e++)
            for (int i = 0; i < BLOCK; i++) before[i] += scores[e] > mine[i];
        memcpy(ranks + first, before, sizeof *before * (size_t)count);
    }
}
