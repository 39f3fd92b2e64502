/* ranking.h: which Key channels of a page are sensitive. A ranking metric is one file in kernels/rankings/. */
#ifndef KVS_KERNELS_RANKING_H
#define KVS_KERNELS_RANKING_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a page stands: random choices are keyed by it, and nothing else may depend on it. */
typedef struct kvs_page_place {
    uint64_t seed;
    int sequence, layer, kv_head, page;
} kvs_page_place;

typedef struct kvs_ranking {
    const char *name, *summary, *formula;
    /* Scores one page: k is [tokens][head_dim], scores [head_dim]; a higher score is more sensitive. Sums are binary32
     * in the fixed tree of kvs_tree_sum, so every back end gets the same bits. scratch: [tokens][head_dim]. */
    void (*score)(const kvs_page_place *place, int tokens, int head_dim, const float *k, float *scratch, float *scores);
} kvs_ranking;

/* All registered rankings, ended by NULL; and one by its name, or NULL. */
extern const kvs_ranking *const kvs_rankings[];
const kvs_ranking *kvs_ranking_find(const char *name);

/* Sums scratch [tokens][head_dim] over tokens into sums [head_dim], destroying scratch. The order is fixed: with n the
 * power of two at or above tokens, s[t] += s[t + n/2] (missing tokens count as 0), n halves until 1. */
void kvs_tree_sum(int tokens, int head_dim, float *scratch, float *sums);

/* What is summed over tokens t for channel d. */
typedef enum kvs_term {
    KVS_TERM_KEY,       /* k[t,d] */
    KVS_TERM_MAGNITUDE, /* |k[t,d]| */
    KVS_TERM_DEVIATION, /* (k[t,d] - mean[d])^2, two roundings */
} kvs_term;

/* means[d] = (sum of terms in that order) / tokens. mean [head_dim] is used by KVS_TERM_DEVIATION alone and may be
 * means; scratch: [tokens][head_dim]. */
void kvs_tree_mean(kvs_term term, int tokens, int head_dim, const float *k, const float *mean, float *scratch,
                   float *means);

/* ranks[d] = number of channels that come before d: a higher score first, ties to the lower channel. A channel is
 * boosted when its rank is below the boost count. */
void kvs_rank_channels(int head_dim, const float *scores, int *ranks);

#ifdef __cplusplus
}
#endif
#endif
