/* session.h: the inside of a session on the CPU, for the files that run it: forward.c (set-up), layer.c (many tokens at
 * once) and step.c (one token). */
#ifndef KVS_SIM_MODEL_SESSION_H
#define KVS_SIM_MODEL_SESSION_H

#include <omp.h>

#include "sim/model/attention.h"
#include "sim/model/device_model.h"
#include "sim/model/forward.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_PASS_ROWS = 128 /* tokens of one block of the matrix products with weights */ };

/* What one token needs between the parts of a layer; all threads see it. */
typedef struct kvs_step_rows {
    float *qkv;         /* [query_heads + 2 kv_heads][head_dim] */
    float *gate;        /* [intermediate] */
    float *values;      /* [parts][query_heads][head_dim]: of sums */
    kvs_part_sum *sums; /* [parts][query_heads]: a part is KVS_ATTENTION_PART tokens */
} kvs_step_rows;

struct kvs_session {
    const kvs_model *model;
    kvs_device_session *device; /* of a model on a device, which does everything */
    kvs_model_pass pass;
    int capacity, seen;         /* tokens */
    int layers_kept;            /* caches: 1 if each layer may overwrite the one before it */
    float *cosines, *sines;     /* [capacity][head_dim / 2] */
    float *k, *v;               /* [layers_kept][kv_heads][capacity][head_dim] */
    float *k_stored, *v_stored; /* the same; NULL without a scheme */
    int *k_end, *v_end;         /* [capacity]: what a query reads as stored */
    float *scratch;             /* [threads][scratch_floats] */
    size_t scratch_floats;
    /* Of the tokens under way, with room for `room`: */
    int tokens, room;
    float *x;        /* [tokens][hidden] */
    float *q;        /* [query_heads][tokens][head_dim] */
    float *attended; /* [tokens][query_heads * head_dim] */
    kvs_step_rows step;
};

/* Of the calling thread. */
static inline float *kvs_session_scratch(const kvs_session *s) {
    return s->scratch + (size_t)omp_get_thread_num() * s->scratch_floats;
}

static inline size_t kvs_session_head_floats(const kvs_session *s) {
    return (size_t)s->capacity * (size_t)s->model->config.head_dim;
}

/* Where the cache of a layer begins in k, v, k_stored and v_stored. */
static inline size_t kvs_session_cache(const kvs_session *s, int layer) {
    return (size_t)(layer % s->layers_kept) * (size_t)s->model->config.kv_heads * kvs_session_head_floats(s);
}

/* Takes in the new rows of K (side 0) or V (1) of one head and stores the pages that have become due. Returns 0 where a
 * value overflows binary16, else 1. */
int kvs_session_store(const kvs_session *s, int layer, int side, int head);
KVS_MUST_CHECK kvs_status kvs_session_overflow(const kvs_session *s, int layer, int side, int head, kvs_error *error);

/* K and V of one head as queries read them. */
void kvs_session_sides(const kvs_session *s, int layer, int head, kvs_cache_side *k, kvs_cache_side *v);

/* Passes the rows x of the tokens under way through a layer. */
KVS_MUST_CHECK kvs_status kvs_session_layer(const kvs_session *s, int layer, kvs_error *error);

/* Calls the observer of the pass. */
KVS_MUST_CHECK kvs_status kvs_session_observe(const kvs_session *s, int layer, kvs_error *error);

/* Passes the row x of one token through all layers. */
KVS_MUST_CHECK kvs_status kvs_session_step(const kvs_session *s, kvs_error *error);

/* logits [vocabulary] of one row. */
void kvs_step_logits(const kvs_model *model, const float *hidden, float *logits);

#ifdef __cplusplus
}
#endif
#endif
