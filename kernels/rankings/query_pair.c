/* query_pair.c: key pair times query pair, both as root mean squares, a metric of Kitty's history. */
#include <math.h>

#include "kernels/query_moments.h"
#include "kernels/ranking.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    float *squares = scratch + (size_t)tokens * head_dim, *asked = squares + head_dim;
    for (int i = 0; i < tokens * head_dim; i++) scratch[i] = k[i] * k[i];
    kvs_tree_sum(tokens, head_dim, scratch, squares);
    kvs_query_square(&context->queries, asked);
    for (int d = 0; d < head_dim; d++) {
        int e = kvs_rope_partner(context->rope, d);
        float keys = squares[d] + (e != d ? squares[e] : 0.0f), queries = asked[d] + (e != d ? asked[e] : 0.0f);
        scores[d] = sqrtf(keys / (float)tokens) * sqrtf(queries);
    }
}

const kvs_ranking kvs_ranking_query_pair = {
    .name = "query_pair",
    .summary = "root mean square of the rotary key pair times that of the past query pair (Kitty's history)",
    .formula = "sqrt(mean_t (k[t,d]^2 + k[t,d']^2)) sqrt(mean_q (q[d]^2 + q[d']^2))",
    .queries = KVS_QUERIES_PAST,
    .score = score,
};
