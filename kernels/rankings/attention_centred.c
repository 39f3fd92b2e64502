/* attention_centred.c: as attention_error, around the mean that the attention of each query sees. */
#include "kernels/ranking_error.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    kvs_score_attended_errors(context, KVS_ERROR_VARIANCE, tokens, head_dim, k, scratch, scores);
}

const kvs_ranking kvs_ranking_attention_centred = {
    .name = "attention_centred",
    .summary = "variance under attention of the error that boosting saves, weighted by past queries",
    .formula = "sum_q q[d]^2 w_q (var_t[p_q] e_2[t,d] - var_t[p_q] e_4[t,d]), w_q = sum_t p[q,t]",
    .queries = KVS_QUERIES_PAST,
    .attention = 1,
    .score = score,
};
