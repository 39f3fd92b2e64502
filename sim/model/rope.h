/* rope.h: rotary position embeddings (Su et al., arXiv 2104.09864) with the scalings that models publish. */
#ifndef KVS_SIM_MODEL_ROPE_H
#define KVS_SIM_MODEL_ROPE_H

#include <cjson/cJSON.h>

#include "core/status.h"
#include "sim/model/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills rope from theta, rotary_dim (even) and the configuration's rope_scaling object (NULL: none). `trained` is
 * max_position_embeddings, 0 where it is not known. Scalings, by "rope_type" (or "type"):
 *   default  no scaling
 *   linear   frequencies divided by `factor` (kaiokendev 2023)
 *   dynamic  up to `trained` tokens no scaling, and no pass goes further (Transformers' dynamic NTK)
 *   llama3   low frequencies divided by `factor`, a smooth blend between low_freq_factor and high_freq_factor
 *            (Llama 3.1's published code)
 *   yarn     NTK-by-parts blend, cosine and sine times 0.1 ln(factor) + 1 (arXiv 2309.00071; as Qwen documents it), or
 *            `attention_factor`, or what `mscale` and `mscale_all_dim` give; `truncate` as Transformers has it
 * Others (longrope changes with the length of the sequence, so a cached key would have to change too) are refused by
 * name, and so is an object of one scaling for each kind of layer. */
KVS_MUST_CHECK kvs_status kvs_rope_read(const char *file, const cJSON *scaling, double theta, int rotary_dim,
                                        int trained, kvs_rope *rope, kvs_error *error);

/* cosines and sines [tokens][rotary_dim/2] of positions first, first + 1, ... Angles are binary64. */
void kvs_rope_table(const kvs_rope *rope, int first, int tokens, float *cosines, float *sines);

/* Rotates one head's vector in place: x [head_dim], the cosines and sines of its position [rotary_dim/2]. */
void kvs_rope_rotate(const kvs_rope *rope, const float *cosines, const float *sines, float *x);

#ifdef __cplusplus
}
#endif
#endif
