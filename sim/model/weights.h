/* weights.h: the tensors of a model: their names and shapes, and where their values come from. */
#ifndef KVS_SIM_MODEL_WEIGHTS_H
#define KVS_SIM_MODEL_WEIGHTS_H

#include "kernels/model_kernels.h"
#include "sim/model/config.h"
#include "sim/model/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvs_layer_weight {
    KVS_INPUT_NORM,
    KVS_Q_ROWS,
    KVS_K_ROWS,
    KVS_V_ROWS,
    KVS_Q_NORM,
    KVS_K_NORM,
    KVS_OUTPUT,
    KVS_POST_NORM,
    KVS_GATE,
    KVS_UP,
    KVS_DOWN,
    KVS_LAYER_WEIGHTS,
} kvs_layer_weight;

typedef enum kvs_outer_weight { KVS_EMBEDDING, KVS_FINAL_NORM, KVS_LOGIT_HEAD, KVS_OUTER_WEIGHTS } kvs_outer_weight;

/* A tensor [rows][columns]; name NULL: this model has none. Those of a layer stand behind "model.layers.N.". */
typedef struct kvs_weight {
    const char *name;
    int rows, columns;
} kvs_weight;

void kvs_layer_weights(const kvs_model_config *config, kvs_weight weights[KVS_LAYER_WEIGHTS]);
void kvs_outer_weights(const kvs_model_config *config, kvs_weight weights[KVS_OUTER_WEIGHTS]);

/* The files of a directory; or random values (norms 1, the rest with standard deviation 0.02), rounded to the type that
 * the configuration names. */
typedef struct kvs_weight_source {
    const char *directory;
    const kvs_model_config *config;
    int random;
    uint64_t seed;
    kvs_safetensors tensors;
} kvs_weight_source;

/* source->directory, config, random and seed are set. Close it also after a failure. */
KVS_MUST_CHECK kvs_status kvs_weights_open(kvs_weight_source *source, kvs_error *error);
void kvs_weights_close(kvs_weight_source *source);

/* How the values of a random tensor are drawn; layer -1: outside the layers. */
uint64_t kvs_weight_key(const kvs_weight_source *source, int layer, int index);
float kvs_weight_spread(const kvs_weight *weight);

kvs_number kvs_dtype_number(kvs_dtype dtype); /* binary32 of what cannot be read */

/* The type in which a weight is stored; binary32 of one that is missing. */
kvs_number kvs_weight_number(const kvs_weight_source *source, int layer, const kvs_weight *weight);

/* Weight `index` of a layer (layer -1: of the outer ones) in `number`, values [rows][columns]: binary32, or BF16 where
 * it is stored so. */
KVS_MUST_CHECK kvs_status kvs_weight_read(const kvs_weight_source *source, int layer, int index,
                                          const kvs_weight *weight, kvs_number number, void *values, kvs_error *error);
/* The same as it is stored, from files only: *tensor has that shape and a float type, and every value is finite. */
KVS_MUST_CHECK kvs_status kvs_weight_find(const kvs_weight_source *source, int layer, const kvs_weight *weight,
                                          const kvs_stored_tensor **tensor, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
