#include "sim/model/weights.h"

#include <stdio.h>
#include <string.h>

#include "core/half.h"
#include "kernels/random_weight.h"

void kvs_layer_weights(const kvs_model_config *c, kvs_weight weights[KVS_LAYER_WEIGHTS]) {
    int q_rows = c->query_heads * c->head_dim, kv_rows = c->kv_heads * c->head_dim;
    weights[KVS_INPUT_NORM] = (kvs_weight){"input_layernorm.weight", 1, c->hidden};
    weights[KVS_Q_ROWS] = (kvs_weight){"self_attn.q_proj.weight", q_rows, c->hidden};
    weights[KVS_K_ROWS] = (kvs_weight){"self_attn.k_proj.weight", kv_rows, c->hidden};
    weights[KVS_V_ROWS] = (kvs_weight){"self_attn.v_proj.weight", kv_rows, c->hidden};
    weights[KVS_Q_NORM] = (kvs_weight){c->qk_norm ? "self_attn.q_norm.weight" : NULL, 1, c->head_dim};
    weights[KVS_K_NORM] = (kvs_weight){c->qk_norm ? "self_attn.k_norm.weight" : NULL, 1, c->head_dim};
    weights[KVS_OUTPUT] = (kvs_weight){"self_attn.o_proj.weight", c->hidden, q_rows};
    weights[KVS_POST_NORM] = (kvs_weight){"post_attention_layernorm.weight", 1, c->hidden};
    weights[KVS_GATE] = (kvs_weight){"mlp.gate_proj.weight", c->intermediate, c->hidden};
    weights[KVS_UP] = (kvs_weight){"mlp.up_proj.weight", c->intermediate, c->hidden};
    weights[KVS_DOWN] = (kvs_weight){"mlp.down_proj.weight", c->hidden, c->intermediate};
}

void kvs_outer_weights(const kvs_model_config *c, kvs_weight weights[KVS_OUTER_WEIGHTS]) {
    weights[KVS_EMBEDDING] = (kvs_weight){"model.embed_tokens.weight", c->vocabulary, c->hidden};
    weights[KVS_FINAL_NORM] = (kvs_weight){"model.norm.weight", 1, c->hidden};
    weights[KVS_LOGIT_HEAD] = (kvs_weight){c->tied ? NULL : "lm_head.weight", c->vocabulary, c->hidden};
}

kvs_status kvs_weights_open(kvs_weight_source *source, kvs_error *error) {
    return source->random ? KVS_OK : kvs_safetensors_open(source->directory, &source->tensors, error);
}

void kvs_weights_close(kvs_weight_source *source) {
    kvs_safetensors_close(&source->tensors);
}

uint64_t kvs_weight_key(const kvs_weight_source *source, int layer, int index) {
    return kvs_random_key(kvs_random_key(source->seed, (uint64_t)(layer + 1)), (uint64_t)index);
}

float kvs_weight_spread(const kvs_weight *weight) {
    return weight->rows == 1 ? 0.0f : 0.02f;
}

static void randomize(const kvs_weight_source *source, int layer, int index, const kvs_weight *weight,
                      kvs_number number, void *values) {
    uint64_t key = kvs_weight_key(source, layer, index);
    float spread = kvs_weight_spread(weight), *floats = values;
    uint16_t *bfloats = values;
    int64_t count = (int64_t)weight->rows * weight->columns;
    kvs_number stored = source->config->number;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) {
        float value = spread > 0 ? kvs_random_weight(key, (uint64_t)i, spread) : 1.0f;
        if (number == KVS_NUMBER_BF16)
            bfloats[i] = kvs_float_to_bfloat(value);
        else
            floats[i] = stored == KVS_NUMBER_F32   ? value
                        : stored == KVS_NUMBER_F16 ? kvs_round_to_half(value)
                                                   : kvs_bfloat_to_float(kvs_float_to_bfloat(value));
    }
}

static void full_name(int layer, const kvs_weight *weight, char name[128]) {
    if (layer < 0)
        snprintf(name, 128, "%s", weight->name);
    else
        snprintf(name, 128, "model.layers.%d.%s", layer, weight->name);
}

kvs_number kvs_dtype_number(kvs_dtype dtype) {
    return dtype == KVS_DTYPE_BF16 ? KVS_NUMBER_BF16 : dtype == KVS_DTYPE_F16 ? KVS_NUMBER_F16 : KVS_NUMBER_F32;
}

kvs_number kvs_weight_number(const kvs_weight_source *source, int layer, const kvs_weight *weight) {
    if (source->random) return source->config->number;
    char name[128];
    full_name(layer, weight, name);
    const kvs_stored_tensor *tensor = kvs_safetensors_find(&source->tensors, name);
    return tensor != NULL ? kvs_dtype_number(tensor->dtype) : KVS_NUMBER_F32;
}

kvs_status kvs_weight_read(const kvs_weight_source *source, int layer, int index, const kvs_weight *weight,
                           kvs_number number, void *values, kvs_error *error) {
    char name[128];
    if (source->random) {
        randomize(source, layer, index, weight, number, values);
        return KVS_OK;
    }
    full_name(layer, weight, name);
    if (number == KVS_NUMBER_F32)
        return kvs_safetensors_read(&source->tensors, name, weight->rows, weight->columns, values, error);
    const kvs_stored_tensor *tensor;
    KVS_TRY(kvs_safetensors_check(&source->tensors, name, weight->rows, weight->columns, &tensor, error));
    memcpy(values, tensor->data, tensor->elements * sizeof(uint16_t));
    return KVS_OK;
}

kvs_status kvs_weight_find(const kvs_weight_source *source, int layer, const kvs_weight *weight,
                           const kvs_stored_tensor **tensor, kvs_error *error) {
    char name[128];
    full_name(layer, weight, name);
    return kvs_safetensors_check(&source->tensors, name, weight->rows, weight->columns, tensor, error);
}
