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

/* Bytes a second at which all threads together read `count` floats, as decoding reads weights. */
double kvs_read_rate(const float *values, size_t count);

#ifdef __cplusplus
}
#endif
#endif
