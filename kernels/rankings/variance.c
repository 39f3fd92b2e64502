/* variance.c: the variance of a channel's keys over the page, in two passes. */
#include <stddef.h>
#include <string.h>

#include "core/simd.h"
#include "kernels/ranking.h"

KVS_SIMD static void squared_deviations(int tokens, int head_dim, const float *restrict k, const float *restrict mean,
                                        float *restrict squares) {
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) {
            float deviation = k[(size_t)t * head_dim + d] - mean[d];
            squares[(size_t)t * head_dim + d] = deviation * deviation;
        }
}

static void score(const kvs_page_place *place, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    (void)place;
    memcpy(scratch, k, sizeof *k * (size_t)tokens * (size_t)head_dim);
    kvs_tree_sum(tokens, head_dim, scratch, scores);
    for (int d = 0; d < head_dim; d++) scores[d] /= (float)tokens;
    squared_deviations(tokens, head_dim, k, scores, scratch);
    kvs_tree_sum(tokens, head_dim, scratch, scores);
    for (int d = 0; d < head_dim; d++) scores[d] /= (float)tokens;
}

const kvs_ranking kvs_ranking_variance = {
    .name = "variance",
    .summary = "variance of the keys over the page",
    .formula = "mean_t (k[t,d] - mean_t k[t,d])^2",
    .score = score,
};
