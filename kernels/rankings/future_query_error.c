/* future_query_error.c: query_error with the queries that will read the page: an upper bound that no engine can reach.
 */
#include "kernels/ranking_error.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    kvs_score_errors(context, KVS_ERROR_SQUARE, tokens, head_dim, k, scratch, scores);
}

const kvs_ranking kvs_ranking_future_query_error = {
    .name = "future_query_error",
    .summary = "query_error with future queries: an upper bound, no engine can compute it",
    .formula = "mean_q q[d]^2 mean_t (e_2[t,d]^2 - e_4[t,d]^2), q in the future",
    .queries = KVS_QUERIES_FUTURE,
    .score = score,
};
