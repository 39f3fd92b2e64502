/* query_step.c: the mean absolute query times the range of the keys: MixKVQ (arXiv 2512.19206) multiplies it with the
 * step, range / (2^B - 1), whose divisor is the same for all channels and orders nothing. */
#include "kernels/query_moments.h"
#include "kernels/ranking.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    kvs_channel_ranges(tokens, head_dim, k, scratch, scores);
    kvs_query_magnitude(&context->queries, scratch);
    for (int d = 0; d < head_dim; d++) scores[d] *= scratch[d];
}

const kvs_ranking kvs_ranking_query_step = {
    .name = "query_step",
    .summary = "mean absolute past query times range (MixKVQ, arXiv 2512.19206)",
    .formula = "mean_q |q[d]| (max_t k[t,d] - min_t k[t,d])",
    .queries = KVS_QUERIES_PAST,
    .score = score,
};
