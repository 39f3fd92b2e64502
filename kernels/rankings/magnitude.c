/* magnitude.c: the mean absolute key, the metric that Kitty ships (arXiv 2511.18643). */
#include <math.h>
#include <stddef.h>

#include "core/simd.h"
#include "kernels/ranking.h"

KVS_SIMD static void absolute(size_t count, const float *restrict k, float *restrict magnitudes) {
    for (size_t i = 0; i < count; i++) magnitudes[i] = fabsf(k[i]);
}

static void score(const kvs_page_place *place, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    (void)place;
    absolute((size_t)tokens * (size_t)head_dim, k, scratch);
    kvs_tree_sum(tokens, head_dim, scratch, scores);
    for (int d = 0; d < head_dim; d++) scores[d] /= (float)tokens;
}

const kvs_ranking kvs_ranking_magnitude = {
    .name = "magnitude",
    .summary = "mean absolute key (Kitty, arXiv 2511.18643)",
    .formula = "mean_t |k[t,d]|",
    .score = score,
};
