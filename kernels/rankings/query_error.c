/* query_error.c: the logit error that boosting saves: actual errors at both widths, weighted by the past queries. */
#include "kernels/ranking_error.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    kvs_score_errors(context, KVS_ERROR_SQUARE, tokens, head_dim, k, scratch, scores);
}

const kvs_ranking kvs_ranking_query_error = {
    .name = "query_error",
    .summary = "squared error that boosting saves, times second moment of the past queries",
    .formula = "mean_q q[d]^2 mean_t (e_2[t,d]^2 - e_4[t,d]^2)",
    .queries = KVS_QUERIES_PAST,
    .score = score,
};
