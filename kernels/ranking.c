#include "kernels/ranking.h"

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

KVS_SIMD void kvs_rank_channels(int head_dim, const float *restrict scores, int *restrict ranks) {
    for (int d = 0; d < head_dim; d++) ranks[d] = 0;
    for (int e = 0; e < head_dim; e++) {
        float score = scores[e];
        for (int d = 0; d <= e; d++) ranks[d] += score > scores[d];
        for (int d = e + 1; d < head_dim; d++) ranks[d] += score >= scores[d];
    }
}
