/* random.c: chance, the baseline of every ranking. */
#include <stddef.h>

#include "core/random.h"
#include "kernels/ranking.h"

static void score(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores) {
    const kvs_page_place *place = &context->place;
    (void)tokens, (void)k, (void)scratch;
    uint64_t key = place->seed;
    key = kvs_random_key(key, (uint64_t)place->sequence);
    key = kvs_random_key(key, (uint64_t)place->layer);
    key = kvs_random_key(key, (uint64_t)place->kv_head);
    key = kvs_random_key(key, (uint64_t)place->page);
    for (int d = 0; d < head_dim; d++) scores[d] = kvs_random_unit(key, (uint64_t)d);
}

const kvs_ranking kvs_ranking_random = {
    .name = "random",
    .summary = "chance, keyed by seed, sequence, layer, KV head and page",
    .formula = "uniform [0, 1)",
    .score = score,
};
