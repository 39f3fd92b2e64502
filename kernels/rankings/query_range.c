/* query_range.c: the logit error that uniform rounding makes: E[q^2] E[e^2], and E[e^2] grows with the squared range.
 */
#include "kernels/query_moments.h"
#include "kernels/ranking.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    kvs_channel_ranges(tokens, head_dim, k, scratch, scores);
    kvs_query_square(&context->queries, scratch);
    for (int d = 0; d < head_dim; d++) scores[d] *= scores[d] * scratch[d];
}

const kvs_ranking kvs_ranking_query_range = {
    .name = "query_range",
    .summary = "second moment of the past queries times squared range",
    .formula = "mean_q q[d]^2 (max_t k[t,d] - min_t k[t,d])^2",
    .queries = KVS_QUERIES_PAST,
    .score = score,
};
