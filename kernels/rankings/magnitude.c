/* magnitude.c: the mean absolute key, the metric that Kitty ships (arXiv 2511.18643). */
#include <stddef.h>

#include "kernels/ranking.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    (void)context;
    kvs_tree_mean(KVS_TERM_MAGNITUDE, tokens, head_dim, k, NULL, scratch, scores);
}

const kvs_ranking kvs_ranking_magnitude = {
    .name = "magnitude",
    .summary = "mean absolute key (Kitty, arXiv 2511.18643)",
    .formula = "mean_t |k[t,d]|",
    .score = score,
};
