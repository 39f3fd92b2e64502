/* proxy.h: the open-loop errors of a replay judged by the closed loop: do they rank schemes as the model's loss does?
 */
#ifndef KVS_SIM_MODEL_PROXY_H
#define KVS_SIM_MODEL_PROXY_H

#include <stdint.h>

#include "core/status.h"
#include "kernels/scheme.h"
#include "sim/model/evaluate.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_PROXIES = 8 };

/* Names of the measures, as in result files; the larger the worse (of an agreement, what it lacks to 1). */
extern const char *const kvs_proxy_names[KVS_PROXIES];

typedef struct kvs_proxies {
    double (*values)[KVS_PROXIES];   /* [count] schemes; NaN where a measure is not available */
    double correlation[KVS_PROXIES]; /* Spearman's, with the loss difference; NaN with fewer than 3 schemes */
} kvs_proxies;

/* Replays a trace (of the model's shape) through the schemes of an evaluation. The caller frees proxies->values. */
KVS_MUST_CHECK kvs_status kvs_proxies_judge(const char *trace_path, kvs_scheme *const *schemes, int count,
                                            uint64_t seed, int quiet, const kvs_evaluation *evaluation,
                                            kvs_proxies *proxies, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
