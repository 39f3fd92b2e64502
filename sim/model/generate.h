/* generate.h: greedy generation with a cache that a scheme stores. */
#ifndef KVS_SIM_MODEL_GENERATE_H
#define KVS_SIM_MODEL_GENERATE_H

#include <stdint.h>

#include "core/status.h"
#include "sim/model/forward.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Continues prompt [prompt_tokens] by the most likely token (the lowest id of equals) `count` times, or until one of
 * the model's end tokens if stop_at_end. ids [count] receives them, *made how many. *step_seconds (may be NULL) is the
 * time of the steps without that of the prompt. pass.observe is not called for. */
KVS_MUST_CHECK kvs_status kvs_generate_greedy(const kvs_model *model, const kvs_model_pass *pass, const int32_t *prompt,
                                              int prompt_tokens, int count, int stop_at_end, int32_t *ids, int *made,
                                              double *step_seconds, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
