/* select.h: which results get a panel of their own, where there are more than fit a page. */
#ifndef KVS_PLOTS_SELECT_H
#define KVS_PLOTS_SELECT_H

#include "plots/plot.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef int (*kvs_usable)(const kvs_result *result);

/* Indices of at most `most` usable results into chosen[results_count]; returns how many, -1 when memory is short.
 * Results that store nothing quantized are left out unless there are no others. If the rest does not fit, each trace
 * gets an equal share, spread over the families on its Pareto frontier and evenly within each (effective bits against
 * the mean error of the attention output; where that is not known, over all). *candidates: how many were usable. */
int kvs_select_panels(const kvs_results *results, kvs_usable usable, int most, int *chosen, int *candidates);

#ifdef __cplusplus
}
#endif
#endif
