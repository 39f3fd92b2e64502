/* agreement.h: how far greedy generation with a quantized cache follows greedy generation in full precision. */
#ifndef KVS_SIM_MODEL_AGREEMENT_H
#define KVS_SIM_MODEL_AGREEMENT_H

#include <stdint.h>

#include "core/status.h"
#include "kernels/scheme.h"
#include "sim/model/model.h"
#include "traces/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_agreement_options {
    int prompts;       /* taken at even steps from the text */
    int prompt_tokens; /* of each */
    int generate;      /* tokens behind it */
    int prompt_exact;  /* 1: queries inside the prompt read full precision */
    uint64_t seed;
    int quiet;
} kvs_agreement_options;

/* Means over prompts. */
typedef struct kvs_agreement {
    double common_prefix; /* tokens before the first that differs */
    double equal_share;   /* tokens at the same place that are equal, over all */
    double steps_per_s;
} kvs_agreement;

/* Whether the text has the prompts and the model admits their length: before anything has run. */
KVS_MUST_CHECK kvs_status kvs_agreement_check(const kvs_model *model, const kvs_tokens *tokens,
                                              const kvs_agreement_options *options, kvs_error *error);

/* agreements [count + 1]: full precision first (which agrees with itself), then the schemes. */
KVS_MUST_CHECK kvs_status kvs_agreement_run(const kvs_model *model, const kvs_tokens *tokens,
                                            kvs_scheme *const *schemes, int count, const kvs_agreement_options *options,
                                            kvs_agreement *agreements, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
