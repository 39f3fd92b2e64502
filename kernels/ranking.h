/* ranking.h: which Key channels of a page are sensitive. A ranking metric is one file in kernels/rankings/. */
#ifndef KVS_KERNELS_RANKING_H
#define KVS_KERNELS_RANKING_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "kernels/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_ranking {
    const char *name, *summary, *formula; /* name: as in the list of kernels/rankings/rankings.c */
    kvs_query_use queries;                /* which queries the context holds for it */
    int attention;                        /* it needs their log_sums */
    /* Scores one page: k is [tokens][head_dim], scores [head_dim]; a higher score is more sensitive. context is that of
     * kvs_page_context_of; a metric that uses queries scores 0 everywhere where there are none. Sums over tokens are
     * binary32 in the fixed tree of kvs_tree_sum, those over queries and weighted ones in binary64 in their order, so
     * every back end gets the same bits. scratch: kvs_ranking_scratch(tokens, head_dim) floats. */
    void (*score)(const kvs_page_context *context, int tokens, int head_dim, const float *k, float *scratch,
                  float *scores);
} kvs_ranking;

static inline size_t kvs_ranking_scratch(int tokens, int head_dim) {
    return ((size_t)tokens + 6) * (size_t)head_dim + 2 * (size_t)tokens;
}

/* All registered rankings, ended by NULL, and their names in the same order: the choices of a parameter. */
extern const kvs_ranking *const kvs_rankings[];
extern const char *const kvs_ranking_names[];
/* One by its name, or NULL. */
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

/* ranges[d] = max_t k[t,d] - min_t k[t,d]. scratch: [head_dim], gets the minima. */
void kvs_channel_ranges(int tokens, int head_dim, const float *k, float *scratch, float *ranges);

/* ranks[d] = number of channels that come before d: a higher score first, ties to the lower channel. A channel is
 * boosted when its rank is below the boost count. */
void kvs_rank_channels(int head_dim, const float *scores, int *ranks);

#ifdef __cplusplus
}
#endif
#endif
