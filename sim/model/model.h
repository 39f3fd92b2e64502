/* model.h: a decoder-only transformer run on the CPU in binary32.
 *
 * One layer, for the row x of a token (RMSNorm, rotary embedding, grouped-query attention, SwiGLU):
 *     h = norm(x);  q, k, v = h Wq^T, h Wk^T, h Wv^T;  q, k = rope(norm(q)), rope(norm(k))   (inner norm: Qwen3 only)
 *     x = x + attention(q, k, v) Wo^T;  h = norm(x);  x = x + (silu(h Wg^T) * (h Wu^T)) Wd^T
 * and logits = norm(x) We^T. Weights stored as BF16, F16 or F32 are widened to binary32 once.
 *
 * Work is cut into blocks that do not depend on the number of threads, each block's matrix products run on one thread:
 * the same bytes come out for any number of OpenMP threads. */
#ifndef KVS_SIM_MODEL_MODEL_H
#define KVS_SIM_MODEL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "kernels/scheme.h"
#include "sim/model/config.h"

typedef struct kvs_layer {
    float *input_norm;      /* [hidden] */
    float *qkv;             /* [(query_heads + 2 kv_heads) * head_dim][hidden] */
    float *q_norm, *k_norm; /* [head_dim]; NULL without qk_norm */
    float *output;          /* [hidden][query_heads * head_dim] */
    float *post_norm;       /* [hidden] */
    float *gate_up;         /* [2 * intermediate][hidden] */
    float *down;            /* [hidden][intermediate] */
} kvs_layer;

typedef struct kvs_model {
    kvs_model_config config;
    char *directory;
    float *embedding;  /* [vocabulary][hidden] */
    float *final_norm; /* [hidden] */
    float *logit_head; /* [vocabulary][hidden]; the embedding where the two are tied */
    kvs_layer *layers;
    float *memory;
    size_t parameters;
} kvs_model;

/* Reads a Hugging Face directory. *model is the caller's, freed with kvs_model_close. KVS_INPUT names the file and the
 * key or tensor at fault, or says how much memory is wanting. */
KVS_MUST_CHECK kvs_status kvs_model_open(const char *directory, kvs_model **model, kvs_error *error);
void kvs_model_close(kvs_model *model);

/* --- a pass over many tokens ---------------------------------------------------------------------------------------
 */

/* q [query_heads][tokens][head_dim], k and v [kv_heads][tokens][head_dim] of one layer. */
typedef struct kvs_projections {
    float *q, *k, *v;
} kvs_projections;

typedef kvs_status (*kvs_observer)(void *user, int layer, const kvs_projections *projections, kvs_error *error);

typedef struct kvs_pass {
    /* NULL: attention reads K and V in binary32. Otherwise the cache of every layer holds binary16 and what the scheme
     * stored of it, and each query reads it as decoding would have left it. */
    const kvs_scheme *scheme;
    int prompt_tokens; /* the first tokens come at once (a prefill), and their queries read full precision; 0: none */
    uint64_t seed;     /* with `sequence`, for the scheme's random choices */
    int sequence;
    /* Called once a layer with q, k and v as attention takes them in; NULL: not. */
    kvs_observer observe;
    int before_rope; /* 1: observe q and k before the rotary embedding */
    void *user;
} kvs_pass;

/* Runs ids [tokens] from position 0; hidden [tokens][hidden] receives the rows behind the final norm. A token id out of
 * range, more tokens than max_positions, K or V that overflow binary16, or too little memory is KVS_INPUT. */
KVS_MUST_CHECK kvs_status kvs_model_forward(const kvs_model *model, const kvs_pass *pass, const int32_t *ids,
                                            int tokens, float *hidden, kvs_error *error);

/* logits [rows][vocabulary] of hidden [rows][hidden]. One thread; call it for blocks of rows from many. */
void kvs_model_logits(const kvs_model *model, const float *hidden, int rows, float *logits);

/* The factor on q . k: 1 / sqrt(head_dim). */
double kvs_model_softmax_scale(const kvs_model_config *config);

/* Floating-point operations of a pass over `tokens` tokens as the formulas need them: two for each multiply-add of a
 * weight, and attention over the visible keys only. */
double kvs_model_operations(const kvs_model_config *config, int tokens, int with_logits);

#endif
