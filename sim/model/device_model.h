/* device_model.h: the same transformer on a device: weights as they are stored, matrix products by the device's
 * library, everything else by our kernels; the cache in binary16, or in the packed pages that decode_attention reads.
 *
 * Rows (tokens) of activations are binary32; the left factor of a product is rounded to the type of the weights, sums
 * are binary32. Queries, keys and values are rounded to binary16, also without a scheme: what the CPU keeps in binary32
 * there is the one difference in meaning. */
#ifndef KVS_SIM_MODEL_DEVICE_MODEL_H
#define KVS_SIM_MODEL_DEVICE_MODEL_H

#include "kernels/gemm.h"
#include "sim/model/forward.h"
#include "sim/model/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory of the device: weights of one layer, shapes as in kvs_layer. */
typedef struct kvs_device_layer {
    void *input_norm, *qkv, *q_norm, *k_norm, *output, *post_norm, *gate_up, *down;
} kvs_device_layer;

enum { KVS_DEVICE_LOGIT_ROWS = 64 };

struct kvs_device_model {
    const kvs_executor *executor;
    kvs_executor_facts facts;
    kvs_gemm *gemm;
    void *stream;
    kvs_number number; /* of all weights */
    void *embedding, *logit_head;
    float *final_norm; /* on the host: [hidden] */
    kvs_device_layer *layers;
    size_t bytes;         /* of the weights */
    size_t largest_cache; /* bytes of the cache of any session so far */
    void **memory;
    int memory_count, memory_room;
    float *logit_rows, *logits; /* [KVS_DEVICE_LOGIT_ROWS][hidden], [KVS_DEVICE_LOGIT_ROWS][vocabulary] */
    void *logit_left;           /* logit_rows in number */
};

/* Reads the weights to the device: model->config is set; fills model->device and model->parameters. KVS_DEVICE: the
 * device is missing or too small. KVS_INPUT: as kvs_model_open; also weights of more than one type. */
KVS_MUST_CHECK kvs_status kvs_device_model_open(kvs_model *model, const kvs_weight_source *source,
                                                const kvs_executor *executor, kvs_error *error);
void kvs_device_model_close(kvs_device_model *device); /* NULL: nothing */

/* As kvs_model_logits. */
KVS_MUST_CHECK kvs_status kvs_device_model_logits(const kvs_model *model, const float *hidden, int rows, float *logits,
                                                  kvs_error *error);

/* What the device does in the same run: operations a second of the matrix products of a pass over `tokens` tokens
 * (without logits), and bytes a second that copying reads and writes. */
KVS_MUST_CHECK kvs_status kvs_device_model_rates(const kvs_model *model, int tokens, double *product_rate,
                                                 double *copy_rate, kvs_error *error);

/* --- sequences: the functions of forward.h for a model on a device -------------------------------------------------
 */

typedef struct kvs_device_session kvs_device_session;

/* KVS_USAGE, naming the scheme, where decode_attention cannot read what it stores, and where the pass observes more
 * than queries, keys and values in full precision after the rotary embedding. */
KVS_MUST_CHECK kvs_status kvs_device_session_open(const kvs_model *model, const kvs_model_pass *pass, int capacity,
                                                  int layers_kept, kvs_device_session **session, kvs_error *error);
void kvs_device_session_close(kvs_device_session *session);
KVS_MUST_CHECK kvs_status kvs_device_session_run(kvs_device_session *session, const int32_t *ids, int tokens,
                                                 float *hidden, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
