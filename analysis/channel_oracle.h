/* channel_oracle.h: which channels of one K page truly matter: by the attention output of the queries that read it.
 *
 * Everything but the page is in full precision, V too. With p the attention weights, o the output, x_t the change of
 * token t's logit, G = sum_t p_t (e^x_t - 1) over the page's tokens,
 *     o' - o = sum_t p_t (e^x_t - 1) (v_t - o) / (1 + G)
 * exactly; x_t = softmax_scale sum_d q_d c_td, with c_td what storing channel d changes of the key. The error is the
 * mean over the queries of |o' - o| / max(|o|, 1e-30). */
#ifndef KVS_ANALYSIS_CHANNEL_ORACLE_H
#define KVS_ANALYSIS_CHANNEL_ORACLE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_oracle_page {
    int tokens, head_dim, queries;
    double softmax_scale;
    const float *v;             /* [tokens][head_dim] */
    const float *base, *boost;  /* [tokens][head_dim]: changes of the keys at either width */
    const float *q;             /* [queries][head_dim] */
    const float *probabilities; /* [queries][tokens]: attention weights in full precision, over all keys */
    const float *outputs;       /* [queries][head_dim] in full precision, over all keys */
} kvs_oracle_page;

/* Floats that the functions below work in. */
size_t kvs_oracle_scratch(int tokens, int head_dim, int queries);

/* The error with channels of ranks below `count` at the boosted width and the others at the base width. */
double kvs_oracle_error(const kvs_oracle_page *page, const int *ranks, int count, float *scratch);

/* errors [head_dim]: of one channel alone at the base width, the others exact. */
void kvs_oracle_single(const kvs_oracle_page *page, float *scratch, double *errors);

/* Boosts `count` channels out of `candidates` [candidates_count], one by one, each the one that leaves the least error
 * (ties to the first); other channels are left exact where rest_exact, otherwise at the base width. chosen [count] in
 * order; errors [count + 1] with 0, 1, ... of them boosted. */
void kvs_oracle_greedy(const kvs_oracle_page *page, const int *candidates, int candidates_count, int rest_exact,
                       int count, float *scratch, int *chosen, double *errors);

/* The least error of any 4 of 16 candidates, other channels exact: by trying all 1820. */
double kvs_oracle_best_4_of_16(const kvs_oracle_page *page, const int candidates[16], float *scratch);

#ifdef __cplusplus
}
#endif
#endif
