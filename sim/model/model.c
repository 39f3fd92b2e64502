#include "sim/model/model.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/model/device_model.h"
#include "sim/model/weights.h"

/* --- sizes and memory ----------------------------------------------------------------------------------------------
 */

/* Hands out parts of one block, each on a 64-byte boundary. With base NULL it only adds up. */
typedef struct arena {
    float *base;
    size_t floats;
} arena;

static float *take(arena *from, size_t rows, size_t columns) {
    float *part = from->base != NULL ? from->base + from->floats : NULL;
    from->floats += (rows * columns + 15) / 16 * 16;
    return part;
}

/* Dimensions are below 2^24 and layers below 2^12, so no product of two overflows, nor does their sum. */
static void lay_out(kvs_model *model, arena *from) {
    const kvs_model_config *c = &model->config;
    size_t hidden = (size_t)c->hidden, inner = (size_t)c->intermediate, dim = (size_t)c->head_dim;
    size_t q_rows = (size_t)c->query_heads * dim, kv_rows = (size_t)c->kv_heads * dim;
    model->embedding = take(from, (size_t)c->vocabulary, hidden);
    model->final_norm = take(from, 1, hidden);
    model->logit_head = c->tied ? model->embedding : take(from, (size_t)c->vocabulary, hidden);
    for (int i = 0; i < c->layers; i++) {
        kvs_layer *layer = &model->layers[i];
        layer->input_norm = take(from, 1, hidden);
        layer->qkv = take(from, q_rows + 2 * kv_rows, hidden);
        layer->q_norm = c->qk_norm ? take(from, 1, dim) : NULL;
        layer->k_norm = c->qk_norm ? take(from, 1, dim) : NULL;
        layer->output = take(from, hidden, q_rows);
        layer->post_norm = take(from, 1, hidden);
        layer->gate_up = take(from, 2 * inner, hidden);
        layer->down = take(from, hidden, inner);
    }
}

static kvs_status allocate(kvs_model *model, kvs_error *error) {
    arena sizes = {NULL, 0};
    model->layers = calloc((size_t)model->config.layers, sizeof *model->layers);
    if (model->layers == NULL) return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    lay_out(model, &sizes);
    double need = 4.0 * (double)sizes.floats, have = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    void *memory = NULL;
    if (need > have || posix_memalign(&memory, 64, sizes.floats * sizeof(float)) != 0)
        return kvs_fail(error, KVS_INPUT, model->directory, NULL,
                        "the weights need %.1f GiB of memory in binary32, the machine has %.1f GiB", need / 0x1p30,
                        have / 0x1p30);
    model->memory = memory;
    lay_out(model, &(arena){model->memory, 0});
    return KVS_OK;
}

/* --- reading the weights -------------------------------------------------------------------------------------------
 */

static kvs_status load(kvs_model *model, const kvs_weight_source *source, int layer, const kvs_weight *weights,
                       float *const *places, int count, kvs_error *error) {
    for (int i = 0; i < count; i++) {
        if (weights[i].name == NULL) continue;
        model->parameters += (size_t)weights[i].rows * (size_t)weights[i].columns;
        KVS_TRY(kvs_weight_read(source, layer, i, &weights[i], places[i], error));
    }
    return KVS_OK;
}

static kvs_status load_layer(kvs_model *model, const kvs_weight_source *source, int index, kvs_error *error) {
    const kvs_model_config *c = &model->config;
    const kvs_layer *layer = &model->layers[index];
    kvs_weight weights[KVS_LAYER_WEIGHTS];
    kvs_layer_weights(c, weights);
    float *k = layer->qkv + (size_t)c->query_heads * (size_t)c->head_dim * (size_t)c->hidden;
    float *const places[KVS_LAYER_WEIGHTS] = {
        [KVS_INPUT_NORM] = layer->input_norm,
        [KVS_Q_ROWS] = layer->qkv,
        [KVS_K_ROWS] = k,
        [KVS_V_ROWS] = k + (size_t)c->kv_heads * (size_t)c->head_dim * (size_t)c->hidden,
        [KVS_Q_NORM] = layer->q_norm,
        [KVS_K_NORM] = layer->k_norm,
        [KVS_OUTPUT] = layer->output,
        [KVS_POST_NORM] = layer->post_norm,
        [KVS_GATE] = layer->gate_up,
        [KVS_UP] = layer->gate_up + (size_t)c->intermediate * (size_t)c->hidden,
        [KVS_DOWN] = layer->down,
    };
    return load(model, source, index, weights, places, KVS_LAYER_WEIGHTS, error);
}

static kvs_status load_all(kvs_model *model, const kvs_weight_source *source, kvs_error *error) {
    kvs_weight weights[KVS_OUTER_WEIGHTS];
    kvs_outer_weights(&model->config, weights);
    float *const places[KVS_OUTER_WEIGHTS] = {
        [KVS_EMBEDDING] = model->embedding,
        [KVS_FINAL_NORM] = model->final_norm,
        [KVS_LOGIT_HEAD] = model->logit_head,
    };
    KVS_TRY(load(model, source, -1, weights, places, KVS_OUTER_WEIGHTS, error));
    for (int i = 0; i < model->config.layers; i++) KVS_TRY(load_layer(model, source, i, error));
    return KVS_OK;
}

static kvs_status open_cpu(kvs_model *model, kvs_weight_source *source, kvs_error *error) {
    openblas_set_num_threads(1); /* blocks are spread over OpenMP's threads, see model.h */
    KVS_TRY(allocate(model, error));
    return load_all(model, source, error);
}

kvs_status kvs_model_open_with(const char *directory, const kvs_model_options *options, kvs_model **model,
                               kvs_error *error) {
    *model = NULL;
    kvs_model *made = calloc(1, sizeof *made);
    if (made == NULL || (made->directory = strdup(directory)) == NULL) {
        free(made);
        return kvs_fail(error, KVS_INPUT, directory, NULL, "out of memory");
    }
    kvs_weight_source source = {
        .directory = directory, .config = &made->config, .random = options->random_weights, .seed = options->seed};
    kvs_status status = kvs_model_config_read(directory, &made->config, error);
    if (status == KVS_OK) status = kvs_weights_open(&source, error);
    if (status == KVS_OK && options->executor == NULL) status = open_cpu(made, &source, error);
    if (status == KVS_OK && options->executor != NULL)
        status = kvs_device_model_open(made, &source, options->executor, error);
    kvs_weights_close(&source);
    if (status == KVS_OK)
        *model = made;
    else
        kvs_model_close(made);
    return status;
}

kvs_status kvs_model_open(const char *directory, kvs_model **model, kvs_error *error) {
    return kvs_model_open_with(directory, &(kvs_model_options){0}, model, error);
}

void kvs_model_close(kvs_model *model) {
    if (model == NULL) return;
    kvs_device_model_close(model->device);
    free(model->memory);
    free(model->layers);
    free(model->directory);
    free(model);
}

double kvs_model_operations(const kvs_model_config *c, int tokens, int with_logits) {
    double hidden = c->hidden, t = tokens, q_rows = (double)c->query_heads * c->head_dim;
    double weights = hidden * (2 * q_rows + 2.0 * c->kv_heads * c->head_dim + 3.0 * c->intermediate);
    double attention = 2 * q_rows * (t + 1) / 2; /* a token's multiply-adds with K and with V, on average */
    return 2 * t * (c->layers * (weights + attention) + (with_logits ? hidden * c->vocabulary : 0));
}

double kvs_model_softmax_scale(const kvs_model_config *c) {
    return 1.0 / sqrt((double)c->head_dim);
}
