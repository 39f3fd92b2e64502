/* shared_budget.h: boosts of several heads' pages that are stored in the same step, out of one budget. */
#ifndef KVS_ANALYSIS_SHARED_BUDGET_H
#define KVS_ANALYSIS_SHARED_BUDGET_H

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* counts[h] = how many of head h's channels are among the `total` highest of all heads' scores [heads][head_dim]; ties
 * go to the lower head, then to the lower channel, so they are the first of the head's own ranking
 * (kvs_rank_channels). total <= heads * head_dim. KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_shared_counts(const float *const *scores, int heads, int head_dim, int total, int *counts,
                                            kvs_error *error);

/* The same by errors[h] [most + 1], those of head h with 0, 1, ... boosts: one by one to the head whose next boost
 * takes off most; ties to the lower head. No head gets more than `most`; total <= heads * most. */
void kvs_shared_steps(const double *const *errors, int heads, int most, int total, int *counts);

#ifdef __cplusplus
}
#endif
#endif
