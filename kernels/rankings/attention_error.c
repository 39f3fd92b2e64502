/* attention_error.c: as query_error, each token by the attention that each past query pays it. */
#include "kernels/ranking_error.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    kvs_score_attended_errors(context, KVS_ERROR_SQUARE, tokens, head_dim, k, scratch, scores);
}

const kvs_ranking kvs_ranking_attention_error = {
    .name = "attention_error",
    .summary = "squared error that boosting saves, weighted by past queries and their attention",
    .formula = "sum_q q[d]^2 sum_t p[q,t] (e_2[t,d]^2 - e_4[t,d]^2)",
    .queries = KVS_QUERIES_PAST,
    .attention = 1,
    .score = score,
};
