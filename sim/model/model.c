#include "sim/model/model.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/model/safetensors.h"

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

typedef struct reader {
    kvs_model *model;
    kvs_safetensors tensors;
    int layer; /* -1: outside the layers */
} reader;

static kvs_status load(reader *from, const char *name, int rows, int columns, float *floats, kvs_error *error) {
    char full[128];
    if (from->layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "model.layers.%d.%s", from->layer, name);
    from->model->parameters += (size_t)rows * (size_t)columns;
    return kvs_safetensors_read(&from->tensors, full, rows, columns, floats, error);
}

static kvs_status load_layer(reader *from, kvs_error *error) {
    const kvs_model_config *c = &from->model->config;
    kvs_layer *layer = &from->model->layers[from->layer];
    int q_rows = c->query_heads * c->head_dim, kv_rows = c->kv_heads * c->head_dim;
    size_t row = (size_t)c->hidden;
    float *k = layer->qkv + (size_t)q_rows * row, *v = k + (size_t)kv_rows * row;
    float *up = layer->gate_up + (size_t)c->intermediate * row;
    KVS_TRY(load(from, "input_layernorm.weight", 1, c->hidden, layer->input_norm, error));
    KVS_TRY(load(from, "self_attn.q_proj.weight", q_rows, c->hidden, layer->qkv, error));
    KVS_TRY(load(from, "self_attn.k_proj.weight", kv_rows, c->hidden, k, error));
    KVS_TRY(load(from, "self_attn.v_proj.weight", kv_rows, c->hidden, v, error));
    if (c->qk_norm) {
        KVS_TRY(load(from, "self_attn.q_norm.weight", 1, c->head_dim, layer->q_norm, error));
        KVS_TRY(load(from, "self_attn.k_norm.weight", 1, c->head_dim, layer->k_norm, error));
    }
    KVS_TRY(load(from, "self_attn.o_proj.weight", c->hidden, q_rows, layer->output, error));
    KVS_TRY(load(from, "post_attention_layernorm.weight", 1, c->hidden, layer->post_norm, error));
    KVS_TRY(load(from, "mlp.gate_proj.weight", c->intermediate, c->hidden, layer->gate_up, error));
    KVS_TRY(load(from, "mlp.up_proj.weight", c->intermediate, c->hidden, up, error));
    return load(from, "mlp.down_proj.weight", c->hidden, c->intermediate, layer->down, error);
}

static kvs_status load_all(reader *from, kvs_error *error) {
    kvs_model *model = from->model;
    const kvs_model_config *c = &model->config;
    KVS_TRY(kvs_safetensors_open(model->directory, &from->tensors, error));
    KVS_TRY(load(from, "model.embed_tokens.weight", c->vocabulary, c->hidden, model->embedding, error));
    KVS_TRY(load(from, "model.norm.weight", 1, c->hidden, model->final_norm, error));
    if (!c->tied) KVS_TRY(load(from, "lm_head.weight", c->vocabulary, c->hidden, model->logit_head, error));
    for (from->layer = 0; from->layer < c->layers; from->layer++) KVS_TRY(load_layer(from, error));
    return KVS_OK;
}

kvs_status kvs_model_open(const char *directory, kvs_model **model, kvs_error *error) {
    *model = NULL;
    kvs_model *made = calloc(1, sizeof *made);
    if (made == NULL || (made->directory = strdup(directory)) == NULL) {
        free(made);
        return kvs_fail(error, KVS_INPUT, directory, NULL, "out of memory");
    }
    openblas_set_num_threads(1); /* blocks are spread over OpenMP's threads, see model.h */
    reader from = {.model = made, .layer = -1};
    kvs_status status;
    KVS_TRY_OR(kvs_model_config_read(directory, &made->config, error), out);
    KVS_TRY_OR(allocate(made, error), out);
    status = load_all(&from, error);
    kvs_safetensors_close(&from.tensors);
out:
    if (status == KVS_OK)
        *model = made;
    else
        kvs_model_close(made);
    return status;
}

void kvs_model_close(kvs_model *model) {
    if (model == NULL) return;
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
