/* range.c: maximum minus minimum: what the step of a min-max quantizer is proportional to (MixKVQ, arXiv 2512.19206).
 */
#include <stddef.h>
#include <string.h>

#include "core/simd.h"
#include "kernels/ranking.h"

KVS_SIMD static void ranges(int tokens, int head_dim, const float *restrict k, float *restrict low,
                            float *restrict high) {
    for (int t = 1; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) {
            float x = k[(size_t)t * head_dim + d];
            low[d] = x < low[d] ? x : low[d];
            high[d] = x > high[d] ? x : high[d];
        }
    for (int d = 0; d < head_dim; d++) high[d] -= low[d];
}

static void score(const kvs_page_place *place, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    (void)place;
    memcpy(scratch, k, sizeof *k * (size_t)head_dim);
    memcpy(scores, k, sizeof *k * (size_t)head_dim);
    ranges(tokens, head_dim, k, scratch, scores);
}

const kvs_ranking kvs_ranking_range = {
    .name = "range",
    .summary = "maximum minus minimum over the page (the key's part of MixKVQ, arXiv 2512.19206)",
    .formula = "max_t k[t,d] - min_t k[t,d]",
    .score = score,
};
