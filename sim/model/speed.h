/* speed.h: how close a forward pass comes to what the BLAS library does at the same sizes in the same run. */
#ifndef KVS_SIM_MODEL_SPEED_H
#define KVS_SIM_MODEL_SPEED_H

#include <stddef.h>

#include "core/status.h"
#include "sim/model/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Times matrix products of the pass's sizes on all threads at once, each for about a twentieth of a second, and sets
 * *rate to the floating-point operations a second that a pass over `tokens` tokens (without logits) would reach if it
 * were nothing but these products. */
KVS_MUST_CHECK kvs_status kvs_blas_rate(const kvs_model_config *config, int tokens, double *rate, kvs_error *error);

/* Sets *rate to the bytes a second at which all threads together read `bytes` bytes, each its own part again and again
 * as decoding reads weights and cache: the best of many passes. What fits the processor's caches is read from there, as
 * it is in decoding. */
KVS_MUST_CHECK kvs_status kvs_read_rate(size_t bytes, double *rate, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
