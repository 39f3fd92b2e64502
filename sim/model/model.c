#include "sim/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/progress.h"
#include "kernels/blas.h"
#include "sim/model/device_model.h"
#include "sim/model/weights.h"

/* --- sizes and memory ----------------------------------------------------------------------------------------------
 */

/* Hands out parts of one block, each on a 64-byte boundary. With base NULL it only adds up. */
typedef struct arena {
    char *base;
    size_t bytes;
} arena;

static void *take(arena *from, size_t bytes) {
    void *part = from->base != NULL ? from->base + from->bytes : NULL;
    from->bytes += (bytes + 63) / 64 * 64;
    return part;
}

static float *take_norm(arena *from, const kvs_weight *weight) {
    return weight->name != NULL ? take(from, sizeof(float) * (size_t)weight->columns) : NULL;
}

/* Weights [first, last] of a layer below each other. */
static kvs_matrix take_matrix(arena *from, const kvs_weight_source *source, int layer, const kvs_weight *weights,
                              int first, int last) {
    kvs_matrix m = {.columns = weights[first].columns, .number = KVS_NUMBER_BF16};
    for (int i = first; i <= last; i++) {
        m.rows += weights[i].rows;
        if (kvs_weight_number(source, layer, &weights[i]) != KVS_NUMBER_BF16) m.number = KVS_NUMBER_F32;
    }
    m.values = take(from, (size_t)m.rows * (size_t)m.columns * kvs_number_bytes(m.number));
    return m;
}

/* Dimensions are below 2^24 and layers below 2^12, so no product of two overflows, nor does their sum. */
static void lay_out(kvs_model *model, const kvs_weight_source *source, arena *from) {
    const kvs_model_config *c = &model->config;
    kvs_weight outer[KVS_OUTER_WEIGHTS], inner[KVS_LAYER_WEIGHTS];
    kvs_outer_weights(c, outer);
    kvs_layer_weights(c, inner);
    model->embedding = take_matrix(from, source, -1, outer, KVS_EMBEDDING, KVS_EMBEDDING);
    model->final_norm = take_norm(from, &outer[KVS_FINAL_NORM]);
    model->logit_head =
        c->tied ? model->embedding : take_matrix(from, source, -1, outer, KVS_LOGIT_HEAD, KVS_LOGIT_HEAD);
    for (int i = 0; i < c->layers; i++)
        model->layers[i] = (kvs_layer){
            .input_norm = take_norm(from, &inner[KVS_INPUT_NORM]),
            .qkv = take_matrix(from, source, i, inner, KVS_Q_ROWS, KVS_V_ROWS),
            .q_norm = take_norm(from, &inner[KVS_Q_NORM]),
            .k_norm = take_norm(from, &inner[KVS_K_NORM]),
            .output = take_matrix(from, source, i, inner, KVS_OUTPUT, KVS_OUTPUT),
            .post_norm = take_norm(from, &inner[KVS_POST_NORM]),
            .gate_up = take_matrix(from, source, i, inner, KVS_GATE, KVS_UP),
            .down = take_matrix(from, source, i, inner, KVS_DOWN, KVS_DOWN),
        };
}

static kvs_status allocate(kvs_model *model, const kvs_weight_source *source, kvs_error *error) {
    arena sizes = {NULL, 0};
    model->layers = calloc((size_t)model->config.layers, sizeof *model->layers);
    if (model->layers == NULL) return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    lay_out(model, source, &sizes);
    double need = (double)sizes.bytes, have = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    void *memory = NULL;
    if (need > have)
        return kvs_fail(error, KVS_INPUT, model->directory, NULL,
                        "the weights need %.1f GiB of memory, the machine has %.1f GiB", need / 0x1p30, have / 0x1p30);
    if (posix_memalign(&memory, KVS_HUGE_PAGE, sizes.bytes) != 0)
        return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory for %.3g GiB of weights",
                        need / 0x1p30);
    madvise(memory, sizes.bytes, MADV_HUGEPAGE); /* a wish: without it, more of the time goes into page tables */
    model->memory = memory;
    model->memory_bytes = sizes.bytes;
    lay_out(model, source, &(arena){model->memory, 0});
    return KVS_OK;
}

/* --- reading the weights -------------------------------------------------------------------------------------------
 */

static kvs_status load_norm(kvs_model *model, const kvs_weight_source *source, int layer, const kvs_weight *weights,
                            int index, float *norm, kvs_error *error) {
    if (weights[index].name == NULL) return KVS_OK;
    model->parameters += (size_t)weights[index].columns;
    return kvs_weight_read(source, layer, index, &weights[index], KVS_NUMBER_F32, norm, error);
}

static kvs_status load_matrix(kvs_model *model, const kvs_weight_source *source, int layer, const kvs_weight *weights,
                              int first, int last, const kvs_matrix *matrix, kvs_error *error) {
    int row = 0;
    for (int i = first; i <= last; i++) {
        if (weights[i].name == NULL) continue;
        kvs_matrix part = kvs_matrix_part(matrix, row, weights[i].rows);
        KVS_TRY(kvs_weight_read(source, layer, i, &weights[i], part.number, part.values, error));
        model->parameters += (size_t)part.rows * (size_t)part.columns;
        row += part.rows;
    }
    return KVS_OK;
}

static kvs_status load_layer(kvs_model *model, const kvs_weight_source *source, int index, kvs_error *error) {
    const kvs_layer *layer = &model->layers[index];
    kvs_weight weights[KVS_LAYER_WEIGHTS];
    kvs_layer_weights(&model->config, weights);
    KVS_TRY(load_norm(model, source, index, weights, KVS_INPUT_NORM, layer->input_norm, error));
    KVS_TRY(load_matrix(model, source, index, weights, KVS_Q_ROWS, KVS_V_ROWS, &layer->qkv, error));
    KVS_TRY(load_norm(model, source, index, weights, KVS_Q_NORM, layer->q_norm, error));
    KVS_TRY(load_norm(model, source, index, weights, KVS_K_NORM, layer->k_norm, error));
    KVS_TRY(load_matrix(model, source, index, weights, KVS_OUTPUT, KVS_OUTPUT, &layer->output, error));
    KVS_TRY(load_norm(model, source, index, weights, KVS_POST_NORM, layer->post_norm, error));
    KVS_TRY(load_matrix(model, source, index, weights, KVS_GATE, KVS_UP, &layer->gate_up, error));
    return load_matrix(model, source, index, weights, KVS_DOWN, KVS_DOWN, &layer->down, error);
}

static kvs_status load_all(kvs_model *model, const kvs_weight_source *source, kvs_error *error) {
    kvs_weight weights[KVS_OUTER_WEIGHTS];
    kvs_outer_weights(&model->config, weights);
    KVS_TRY(load_matrix(model, source, -1, weights, KVS_EMBEDDING, KVS_EMBEDDING, &model->embedding, error));
    KVS_TRY(load_norm(model, source, -1, weights, KVS_FINAL_NORM, model->final_norm, error));
    KVS_TRY(load_matrix(model, source, -1, weights, KVS_LOGIT_HEAD, KVS_LOGIT_HEAD, &model->logit_head, error));
    for (int i = 0; i < model->config.layers; i++) {
        if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted");
        KVS_TRY(load_layer(model, source, i, error));
    }
    return KVS_OK;
}

static kvs_status open_cpu(kvs_model *model, kvs_weight_source *source, kvs_error *error) {
    KVS_TRY(kvs_blas_begin(error)); /* blocks are spread over OpenMP's threads, see model.h */
    KVS_TRY(allocate(model, source, error));
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

kvs_status kvs_model_admits(const kvs_model *model, int64_t tokens, kvs_error *error) {
    int limit = model->config.max_positions;
    if (tokens >= 1 && tokens <= limit) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, model->directory, "max_position_embeddings",
                    "%lld tokens; the model admits 1 to %d", (long long)tokens, limit);
}

double kvs_model_step_bytes(const kvs_model *model, double tokens) {
    const kvs_model_config *c = &model->config;
    const kvs_device_model *device = model->device;
    kvs_number number = device != NULL ? device->number : model->embedding.number;
    double weights = (double)(device != NULL ? device->bytes : model->memory_bytes), element = device != NULL ? 2 : 4;
    if (!c->tied) weights -= (double)kvs_number_bytes(number) * c->hidden * (c->vocabulary - 1.0);
    return weights + tokens * element * 2 * c->layers * c->kv_heads * c->head_dim;
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
