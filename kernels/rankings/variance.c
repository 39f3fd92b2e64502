/* variance.c: the variance of a channel's keys over the page, in two passes. */
#include <stddef.h>

#include "kernels/ranking.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    (void)context;
    kvs_tree_mean(KVS_TERM_KEY, tokens, head_dim, k, NULL, scratch, scores);
    kvs_tree_mean(KVS_TERM_DEVIATION, tokens, head_dim, k, scores, scratch, scores);
}

const kvs_ranking kvs_ranking_variance = {
    .name = "variance",
    .summary = "variance of the keys over the page",
    .formula = "mean_t (k[t,d] - mean_t k[t,d])^2",
    .score = score,
};
