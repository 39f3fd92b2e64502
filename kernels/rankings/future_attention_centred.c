/* future_attention_centred.c: attention_centred with the queries that will read the page: an upper bound that no engine
 * can reach. */
#include "kernels/ranking_error.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    kvs_score_attended_errors(context, KVS_ERROR_VARIANCE, tokens, head_dim, k, scratch, scores);
}

const kvs_ranking kvs_ranking_future_attention_centred = {
    .name = "future_attention_centred",
    .summary = "attention_centred with future queries: an upper bound, no engine can compute it",
    .formula = "sum_q q[d]^2 w_q (var_t[p_q] e_2[t,d] - var_t[p_q] e_4[t,d]), q in the future",
    .queries = KVS_QUERIES_FUTURE,
    .attention = 1,
    .score = score,
};
