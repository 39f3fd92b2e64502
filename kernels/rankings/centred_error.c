/* centred_error.c: as query_error, without the mean error of a channel over the page: softmax ignores a change that all
 * keys share. */
#include "kernels/ranking_error.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    kvs_score_errors(context, KVS_ERROR_VARIANCE, tokens, head_dim, k, scratch, scores);
}

const kvs_ranking kvs_ranking_centred_error = {
    .name = "centred_error",
    .summary = "variance of the error that boosting saves, times second moment of the past queries",
    .formula = "mean_q q[d]^2 (var_t e_2[t,d] - var_t e_4[t,d])",
    .queries = KVS_QUERIES_PAST,
    .score = score,
};
