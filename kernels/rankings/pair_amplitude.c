/* pair_amplitude.c: the length of the pair that the rotary embedding turns, a metric of Kitty's history. */
#include <math.h>

#include "kernels/ranking.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) {
            const float *key = k + (size_t)t * head_dim;
            int e = kvs_rope_partner(context->rope, d);
            float square = key[d] * key[d], other = e != d ? key[e] * key[e] : 0.0f;
            scratch[(size_t)t * head_dim + d] = sqrtf(square + other);
        }
    kvs_tree_sum(tokens, head_dim, scratch, scores);
    for (int d = 0; d < head_dim; d++) scores[d] /= (float)tokens;
}

const kvs_ranking kvs_ranking_pair_amplitude = {
    .name = "pair_amplitude",
    .summary = "mean length of the channel pair that the rotary embedding turns (Kitty's history)",
    .formula = "mean_t sqrt(k[t,d]^2 + k[t,d']^2), d' the rotary partner of d",
    .score = score,
};
