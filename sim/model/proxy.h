/* proxy.h: the open-loop errors of a replay judged by the closed loop: do they rank schemes as the model's loss does?
 */
#ifndef KVS_SIM_MODEL_PROXY_H
#define KVS_SIM_MODEL_PROXY_H

#include "analysis/result.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_PROXIES = 8 };

/* Names of the measures, as in result files; the larger the worse (of an agreement, what it lacks to 1). */
extern const char *const kvs_proxy_names[KVS_PROXIES];

/* The measures of one result; NaN where one is not available. */
void kvs_proxy_values(const kvs_errors *errors, double values[KVS_PROXIES]);

/* Spearman's correlation of each measure with the loss difference, over the first KVS_CORRELATION_MOST results that
 * have both; NaN with fewer than 3. */
void kvs_proxies_judge(const kvs_result *results, int count, double correlation[KVS_PROXIES]);

#ifdef __cplusplus
}
#endif
#endif
