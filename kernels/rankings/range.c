/* range.c: maximum minus minimum: what the step of a min-max quantizer is proportional to (MixKVQ, arXiv 2512.19206).
 */
#include "kernels/ranking.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    (void)context;
    kvs_channel_ranges(tokens, head_dim, k, scratch, scores);
}

const kvs_ranking kvs_ranking_range = {
    .name = "range",
    .summary = "maximum minus minimum over the page (the key's part of MixKVQ, arXiv 2512.19206)",
    .formula = "max_t k[t,d] - min_t k[t,d]",
    .score = score,
};
