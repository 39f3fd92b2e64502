/* error_feedback.h: LDLQ (QuIP, arXiv 2307.13304, section 3.1), with the queries' second moments in the place of the
 * Hessian. An error e [head_dim] of a key costs a query q (q . e)^2, on average e' M e with M = mean of q q'. With
 * M = L D L', L unit lower triangular, that is sum_d D_d (e_d + sum_{j > d} L_jd e_j)^2: coding channels from the last
 * to the first, each may take back what the later ones did. */
#ifndef KVS_KERNELS_ERROR_FEEDBACK_H
#define KVS_KERNELS_ERROR_FEEDBACK_H

#include "kernels/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Factors M + ridge * diag(M) of all queries; sums in binary64 over heads, then positions. A ridge above 0 keeps the
 * factors bounded where queries are fewer than channels. factor: [head_dim][head_dim], D on the diagonal and L below;
 * above it is work. A channel that no query has stays uncoupled, its D is 0. */
void kvs_feedback_factor(const kvs_query_set *queries, int head_dim, double ridge, double *factor);

/* Takes sum_{j > d} L_jd e_j from row d. rows: [head_dim][tokens], of which rows above d hold errors e already. */
void kvs_feedback_apply(const double *factor, int head_dim, int tokens, int d, float *rows);

#ifdef __cplusplus
}
#endif
#endif
