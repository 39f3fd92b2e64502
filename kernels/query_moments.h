/* query_moments.h: what rankings compute from the queries of a page's context. Sums run over query heads, then
 * positions, in binary64, and are rounded once. */
#ifndef KVS_KERNELS_QUERY_MOMENTS_H
#define KVS_KERNELS_QUERY_MOMENTS_H

#include "kernels/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* means[d] = mean of |q_d|, and of q_d^2, over all queries; 0 where there are none. means: [head_dim]. */
void kvs_query_magnitude(const kvs_query_set *queries, float *means);
void kvs_query_square(const kvs_query_set *queries, float *means);

#ifdef __cplusplus
}
#endif
#endif
