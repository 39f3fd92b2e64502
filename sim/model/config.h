/* config.h: the shape of a decoder-only transformer, read from a Hugging Face config.json.
 *
 * Families: Qwen3ForCausalLM and LlamaForCausalLM; an architecture must be in the table of config.c. Anything that the
 * forward pass does not compute (biases, a sliding window, another activation, an unknown RoPE scaling) is refused by
 * name. */
#ifndef KVS_SIM_MODEL_CONFIG_H
#define KVS_SIM_MODEL_CONFIG_H

#include <stdint.h>

#include "core/status.h"
#include "kernels/model_kernels.h"

#define KVS_MODEL_MAX_ROTARY 1024

#ifdef __cplusplus
extern "C" {
#endif

/* The rotary embedding: channel pair (i, i + rotary_dim/2) at position p turns by p * inverse_frequency[i], and cosine
 * and sine are multiplied by `factor` (1 but for yarn). */
typedef struct kvs_rope {
    double theta;
    int rotary_dim;
    double inverse_frequency[KVS_MODEL_MAX_ROTARY / 2];
    double factor;
    char scaling[1024]; /* the configuration's object as JSON; "" if there is none */
} kvs_rope;

typedef struct kvs_model_config {
    char name[256];  /* the last part of the directory's path */
    char family[64]; /* model_type: "qwen3", "llama" */
    int layers, hidden, intermediate, query_heads, kv_heads, head_dim, vocabulary, max_positions;
    int qk_norm; /* 1: q and k of each head pass an RMSNorm before RoPE (Qwen3) */
    int tied;    /* 1: the output projection is the embedding */
    double norm_epsilon;
    kvs_number number; /* torch_dtype; where it is not said, bfloat16 */
    kvs_rope rope;
    int end_tokens[8], end_count; /* eos_token_id */
} kvs_model_config;

/* Reads directory/config.json. KVS_INPUT names the key and the rule. */
KVS_MUST_CHECK kvs_status kvs_model_config_read(const char *directory, kvs_model_config *config, kvs_error *error);
/* The same from a text in memory; `file` names it in errors. */
KVS_MUST_CHECK kvs_status kvs_model_config_parse(const char *file, const char *text, unsigned long bytes,
                                                 kvs_model_config *config, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
