/* step_time.h: how long an engine step takes, from bytes and operations over the device's rates.
 *
 *   linear layers   max(weight bytes / (bandwidth * e_w),  2 * parameters * tokens / (rate * e_c))
 *   attention       max(KV bytes / (bandwidth * e_kv),     4 * layers * query heads * head_dim * pairs / (rate * e_c))
 *   step            linear + attention + overhead
 *
 * KV bytes are counted as the scheme lays them out (geometry.h); pairs are (new token, token it sees). e_w, e_kv, e_c
 * are shares of the stated rates that kernels reach; e_kv is the scheme's own, stated or measured. Left out: the output
 * head's share of a prompt (it is needed for the last token only), writing K and V, communication. */
#ifndef KVS_SIM_STEP_TIME_H
#define KVS_SIM_STEP_TIME_H

#include "sim/engine.h"
#include "sim/machine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_step_model {
    kvs_model_shape shape;
    kvs_device device;
    double weight_efficiency, kv_efficiency, compute_efficiency; /* 0 .. 1 */
    double overhead_s;                                           /* of every step: launches, scheduler, sampling */
    double fixed_s;                                              /* above 0: every step takes just this long */
} kvs_step_model;

double kvs_step_seconds(const void *model, const kvs_step *step);

#ifdef __cplusplus
}
#endif
#endif
