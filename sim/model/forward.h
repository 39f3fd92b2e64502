/* forward.h: runs a model over a sequence, all at once or a few tokens at a time, with a cache that a scheme stores.
 *
 * Work is cut into blocks that do not depend on the number of threads, each block's matrix products run on one thread:
 * the same bytes come out for any number of OpenMP threads. */
#ifndef KVS_SIM_MODEL_FORWARD_H
#define KVS_SIM_MODEL_FORWARD_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "kernels/scheme.h"
#include "sim/model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* q, k and v of one layer for the tokens at positions first to first + tokens - 1, which have just been computed:
 * q [query_heads][tokens][head_dim]; k and v [kv_heads][stride][head_dim], of which rows first... are meant. */
typedef struct kvs_projections {
    int first, tokens, stride;
    const float *q, *k, *v;
} kvs_projections;

typedef kvs_status (*kvs_observer)(void *user, int layer, const kvs_projections *projections, kvs_error *error);

typedef struct kvs_model_pass {
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
} kvs_model_pass;

/* A sequence under way: what the cache of every layer holds. */
typedef struct kvs_session kvs_session;

/* Room for `capacity` tokens, at most max_positions. *pass is copied, what it points to must outlive the session.
 * *session is the caller's, freed with kvs_session_close. */
KVS_MUST_CHECK kvs_status kvs_session_open(const kvs_model *model, const kvs_model_pass *pass, int capacity,
                                           kvs_session **session, kvs_error *error);
void kvs_session_close(kvs_session *session);

/* Appends ids [tokens] to the sequence; hidden [tokens][hidden] receives their rows behind the final norm. A prompt
 * (pass.prompt_tokens) must come in one call. KVS_INPUT: a token id out of range, more tokens than the capacity, K or V
 * that overflow binary16, too little memory. */
KVS_MUST_CHECK kvs_status kvs_session_run(kvs_session *session, const int32_t *ids, int tokens, float *hidden,
                                          kvs_error *error);

/* Open, run and close in one, for a whole sequence ids [tokens]; keeps the cache of one layer only. */
KVS_MUST_CHECK kvs_status kvs_model_forward(const kvs_model *model, const kvs_model_pass *pass, const int32_t *ids,
                                            int tokens, float *hidden, kvs_error *error);

/* logits [rows][vocabulary] of hidden [rows][hidden]. On the CPU more than one row run on one thread: call it for
 * blocks of rows from many. Fails with KVS_DEVICE, on a device alone. */
KVS_MUST_CHECK kvs_status kvs_model_logits(const kvs_model *model, const float *hidden, int rows, float *logits,
                                           kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
