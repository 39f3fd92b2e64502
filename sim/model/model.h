/* model.h: a decoder-only transformer, on the CPU in binary32 or on a device (device_model.h).
 *
 * One layer, for the row x of a token (RMSNorm, rotary embedding, grouped-query attention, SwiGLU):
 *     h = norm(x);  q, k, v = h Wq^T, h Wk^T, h Wv^T;  q, k = rope(norm(q)), rope(norm(k))   (inner norm: Qwen3 only)
 *     x = x + attention(q, k, v) Wo^T;  h = norm(x);  x = x + (silu(h Wg^T) * (h Wu^T)) Wd^T
 * and logits = norm(x) We^T. On the CPU, matrices stored as BF16 stay so (matrix.h), others are binary32.
 */
#ifndef KVS_SIM_MODEL_MODEL_H
#define KVS_SIM_MODEL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "kernels/executor.h"
#include "sim/model/config.h"
#include "sim/model/matrix.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_HUGE_PAGE = 1 << 21 }; /* bytes: weights begin on one */

typedef struct kvs_layer {
    float *input_norm;      /* [hidden] */
    kvs_matrix qkv;         /* [(query_heads + 2 kv_heads) * head_dim][hidden] */
    float *q_norm, *k_norm; /* [head_dim]; NULL without qk_norm */
    kvs_matrix output;      /* [hidden][query_heads * head_dim] */
    float *post_norm;       /* [hidden] */
    kvs_matrix gate_up;     /* [2 * intermediate][hidden] */
    kvs_matrix down;        /* [hidden][intermediate] */
} kvs_layer;

typedef struct kvs_device_model kvs_device_model;

typedef struct kvs_model {
    kvs_model_config config;
    char *directory;
    kvs_device_model *device; /* NULL: on the CPU; otherwise the pointers below are NULL */
    kvs_matrix embedding;     /* [vocabulary][hidden] */
    float *final_norm;        /* [hidden] */
    kvs_matrix logit_head;    /* [vocabulary][hidden]; the embedding where the two are tied */
    kvs_layer *layers;
    void *memory; /* of all weights */
    size_t memory_bytes;
    size_t parameters;
} kvs_model;

/* Reads a Hugging Face directory. *model is the caller's, freed with kvs_model_close. KVS_INPUT names the file and the
 * key or tensor at fault, or says how much memory is wanting. */
KVS_MUST_CHECK kvs_status kvs_model_open(const char *directory, kvs_model **model, kvs_error *error);
void kvs_model_close(kvs_model *model);

typedef struct kvs_model_options {
    const kvs_executor *executor; /* NULL: the CPU */
    int random_weights;           /* 1: only config.json is read; the weights are drawn (weights.h), keyed by seed */
    uint64_t seed;
} kvs_model_options;

/* The same as the options say. KVS_DEVICE: the device is missing, or too small for the weights. */
KVS_MUST_CHECK kvs_status kvs_model_open_with(const char *directory, const kvs_model_options *options,
                                              kvs_model **model, kvs_error *error);

/* The factor on q . k: 1 / sqrt(head_dim). */
double kvs_model_softmax_scale(const kvs_model_config *config);

/* KVS_INPUT unless sequences of so many tokens are within max_position_embeddings. */
KVS_MUST_CHECK kvs_status kvs_model_admits(const kvs_model *model, int64_t tokens, kvs_error *error);

/* Bytes that decoding a token behind `tokens` others reads in full precision: the cache, and all weights but the other
 * rows of an untied embedding. */
double kvs_model_step_bytes(const kvs_model *model, double tokens);

/* Floating-point operations of a pass over `tokens` tokens as the formulas need them: two for each multiply-add of a
 * weight, and attention over the visible keys only. */
double kvs_model_operations(const kvs_model_config *config, int tokens, int with_logits);

#ifdef __cplusplus
}
#endif
#endif
