#include "sim/model/device_model.h"

#include <stdlib.h>
#include <string.h>

#include "core/progress.h"

/* --- memory --------------------------------------------------------------------------------------------------------
 */

static kvs_status take(kvs_device_model *d, size_t bytes, const char *name, void **place, kvs_error *error) {
    if (d->memory_count == d->memory_room) {
        int room = d->memory_room * 2 + 64;
        void **more = realloc(d->memory, (size_t)room * sizeof *more);
        if (more == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
        d->memory = more;
        d->memory_room = room;
    }
    KVS_TRY(d->executor->allocate(bytes, name, place, error));
    d->memory[d->memory_count++] = *place;
    return KVS_OK;
}

void kvs_device_model_close(kvs_device_model *d) {
    if (d == NULL) return;
    for (int i = 0; i < d->memory_count; i++) d->executor->release(d->memory[i]);
    kvs_gemm_close(d->gemm);
    if (d->stream != NULL) d->executor->close_stream(d->stream);
    free(d->final_norm);
    free(d->memory);
    free(d->layers);
    free(d);
}

/* --- the weights ---------------------------------------------------------------------------------------------------
 */

static kvs_status launched(const kvs_device_model *d, int launch, const char *kernel, kvs_error *error) {
    return kvs_executor_launched(d->executor, launch, kernel, error);
}

static kvs_status fill(kvs_device_model *d, const kvs_weight_source *source, int layer, int index,
                       const kvs_weight *weight, void *to, kvs_error *error) {
    int64_t count = (int64_t)weight->rows * weight->columns;
    if (source->random) {
        kvs_random_args args = {d->number, count, kvs_weight_key(source, layer, index), kvs_weight_spread(weight), to};
        return launched(d, d->executor->kernels->model.randomize(&args, d->stream), "randomize", error);
    }
    const kvs_stored_tensor *tensor;
    KVS_TRY(kvs_weight_find(source, layer, weight, &tensor, error));
    if (kvs_dtype_number(tensor->dtype) != d->number)
        return kvs_fail(error, KVS_INPUT, source->tensors.files[tensor->file].path, tensor->name,
                        "is stored in another type than the embedding; on a device all weights must share one");
    return d->executor->upload(to, tensor->data, (size_t)count * kvs_number_bytes(d->number), error);
}

/* Weights [from, to) of `weights` behind each other, at *place. */
static kvs_status load(kvs_model *model, const kvs_weight_source *source, int layer, const kvs_weight *weights,
                       int from, int to, void **place, kvs_error *error) {
    kvs_device_model *d = model->device;
    size_t elements = 0, done = 0, each = kvs_number_bytes(d->number);
    for (int i = from; i < to; i++) elements += (size_t)weights[i].rows * (size_t)weights[i].columns;
    *place = NULL;
    if (weights[from].name == NULL) return KVS_OK;
    KVS_TRY(take(d, elements * each, weights[from].name, place, error));
    for (int i = from; i < to; i++) {
        KVS_TRY(fill(d, source, layer, i, &weights[i], (char *)*place + done * each, error));
        done += (size_t)weights[i].rows * (size_t)weights[i].columns;
    }
    model->parameters += elements;
    d->bytes += elements * each;
    return KVS_OK;
}

static kvs_status load_layer(kvs_model *model, const kvs_weight_source *source, int index, kvs_error *error) {
    kvs_weight weights[KVS_LAYER_WEIGHTS];
    kvs_device_layer *layer = &model->device->layers[index];
    const struct {
        int from, to;
        void **place;
    } parts[] = {
        {KVS_INPUT_NORM, KVS_INPUT_NORM + 1, &layer->input_norm},
        {KVS_Q_ROWS, KVS_V_ROWS + 1, &layer->qkv},
        {KVS_Q_NORM, KVS_Q_NORM + 1, &layer->q_norm},
        {KVS_K_NORM, KVS_K_NORM + 1, &layer->k_norm},
        {KVS_OUTPUT, KVS_OUTPUT + 1, &layer->output},
        {KVS_POST_NORM, KVS_POST_NORM + 1, &layer->post_norm},
        {KVS_GATE, KVS_UP + 1, &layer->gate_up},
        {KVS_DOWN, KVS_DOWN + 1, &layer->down},
    };
    kvs_layer_weights(&model->config, weights);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        KVS_TRY(load(model, source, index, weights, parts[i].from, parts[i].to, parts[i].place, error));
    return KVS_OK;
}

static kvs_status load_all(kvs_model *model, const kvs_weight_source *source, kvs_error *error) {
    kvs_device_model *d = model->device;
    kvs_weight weights[KVS_OUTER_WEIGHTS];
    kvs_outer_weights(&model->config, weights);
    d->number = model->config.number;
    if (!source->random) {
        const kvs_stored_tensor *tensor;
        KVS_TRY(kvs_weight_find(source, -1, &weights[KVS_EMBEDDING], &tensor, error));
        d->number = kvs_dtype_number(tensor->dtype);
    }
    KVS_TRY(load(model, source, -1, weights, KVS_EMBEDDING, KVS_EMBEDDING + 1, &d->embedding, error));
    KVS_TRY(load(model, source, -1, weights, KVS_LOGIT_HEAD, KVS_LOGIT_HEAD + 1, &d->logit_head, error));
    KVS_TRY(
        kvs_weight_read(source, -1, KVS_FINAL_NORM, &weights[KVS_FINAL_NORM], KVS_NUMBER_F32, d->final_norm, error));
    model->parameters += (size_t)model->config.hidden;
    if (d->logit_head == NULL) d->logit_head = d->embedding;
    for (int i = 0; i < model->config.layers; i++) {
        if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted");
        KVS_TRY(load_layer(model, source, i, error));
    }
    return d->executor->wait(d->stream, error);
}

kvs_status kvs_device_model_open(kvs_model *model, const kvs_weight_source *source, const kvs_executor *executor,
                                 kvs_error *error) {
    kvs_device_model *d = model->device = calloc(1, sizeof *d);
    const size_t rows = KVS_DEVICE_LOGIT_ROWS, hidden = (size_t)model->config.hidden;
    if (d == NULL) return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    d->executor = executor;
    d->layers = calloc((size_t)model->config.layers, sizeof *d->layers);
    d->final_norm = malloc(hidden * sizeof *d->final_norm);
    if (d->layers == NULL || d->final_norm == NULL)
        return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    KVS_TRY(executor->open(&d->facts, error));
    KVS_TRY(executor->open_stream(&d->stream, error));
    KVS_TRY(kvs_gemm_open(executor, &d->gemm, error));
    KVS_TRY(load_all(model, source, error));
    KVS_TRY(take(d, rows * hidden * 4, "rows of logits", (void **)&d->logit_rows, error));
    KVS_TRY(take(d, rows * hidden * kvs_number_bytes(d->number), "rows of logits", &d->logit_left, error));
    return take(d, rows * (size_t)model->config.vocabulary * 4, "logits", (void **)&d->logits, error);
}

/* --- logits --------------------------------------------------------------------------------------------------------
 */

static kvs_status some_logits(const kvs_model *model, const float *hidden, int rows, float *logits, kvs_error *error) {
    const kvs_device_model *d = model->device;
    const kvs_executor *e = d->executor;
    int columns = model->config.hidden, vocabulary = model->config.vocabulary;
    kvs_narrow_args narrow = {d->number, (int64_t)rows * columns, d->logit_rows, d->logit_left};
    KVS_TRY(e->send(d->logit_rows, hidden, (size_t)rows * (size_t)columns * 4, d->stream, error));
    KVS_TRY(launched(d, e->kernels->model.narrow(&narrow, d->stream), "narrow", error));
    KVS_TRY(kvs_gemm_multiply(d->gemm, d->number, rows, vocabulary, columns, d->logit_left, d->logit_head, 0.0f,
                              d->logits, d->stream, error));
    KVS_TRY(e->fetch(logits, d->logits, (size_t)rows * (size_t)vocabulary * 4, d->stream, error));
    return e->wait(d->stream, error);
}

kvs_status kvs_device_model_logits(const kvs_model *model, const float *hidden, int rows, float *logits,
                                   kvs_error *error) {
    kvs_status status = KVS_OK;
#pragma omp critical(kvs_device_model) /* one set of buffers */
    for (int first = 0; first < rows && status == KVS_OK; first += KVS_DEVICE_LOGIT_ROWS) {
        int some = rows - first < KVS_DEVICE_LOGIT_ROWS ? rows - first : KVS_DEVICE_LOGIT_ROWS;
        status = some_logits(model, hidden + (size_t)first * (size_t)model->config.hidden, some,
                             logits + (size_t)first * (size_t)model->config.vocabulary, error);
    }
    return status;
}

/* --- what the device does at best ----------------------------------------------------------------------------------
 */

enum { REPEATS = 20 };

typedef struct trial {
    const kvs_device_model *device;
    int rows, n, k;
    void *x, *w, *y;
    size_t bytes;
} trial;

static kvs_status try_product(const trial *t, kvs_error *error) {
    return kvs_gemm_multiply(t->device->gemm, t->device->number, t->rows, t->n, t->k, t->x, t->w, 0.0f, t->y,
                             t->device->stream, error);
}

static kvs_status try_copy(const trial *t, kvs_error *error) {
    return kvs_executor_copy(t->device->executor, t->w, t->y, t->bytes, t->device->stream, error);
}

static kvs_status seconds_of(const trial *t, kvs_status (*work)(const trial *, kvs_error *), double *seconds,
                             kvs_error *error) {
    const kvs_executor *e = t->device->executor;
    double started = 0;
    for (int i = 0; i <= REPEATS; i++) { /* the first one warms up */
        KVS_TRY(work(t, error));
        if (i == 0) KVS_TRY(e->wait(t->device->stream, error));
        if (i == 0) started = kvs_seconds();
    }
    KVS_TRY(e->wait(t->device->stream, error));
    *seconds = (kvs_seconds() - started) / REPEATS;
    return KVS_OK;
}

static kvs_status measure(const kvs_model *model, trial *t, int tokens, double *product_rate, double *copy_rate,
                          kvs_error *error) {
    const kvs_model_config *c = &model->config;
    int q = c->query_heads * c->head_dim, sizes[][2] = {{q + 2 * c->kv_heads * c->head_dim, c->hidden},
                                                        {c->hidden, q},
                                                        {2 * c->intermediate, c->hidden},
                                                        {c->hidden, c->intermediate}};
    double operations = 0, seconds = 0, once;
    t->rows = tokens;
    for (int i = 0; i < 4; i++) {
        t->n = sizes[i][0];
        t->k = sizes[i][1];
        KVS_TRY(seconds_of(t, try_product, &once, error));
        operations += 2.0 * tokens * t->n * t->k;
        seconds += once;
    }
    *product_rate = operations / seconds;
    KVS_TRY(seconds_of(t, try_copy, &once, error));
    *copy_rate = 2.0 * (double)t->bytes / once;
    return KVS_OK;
}

kvs_status kvs_device_model_rates(const kvs_model *model, int tokens, double *product_rate, double *copy_rate,
                                  kvs_error *error) {
    const kvs_model_config *c = &model->config;
    const kvs_executor *e = model->device->executor;
    size_t wide = (size_t)(c->query_heads + 2 * c->kv_heads) * (size_t)c->head_dim;
    if (wide < 2 * (size_t)c->intermediate) wide = 2 * (size_t)c->intermediate;
    if (wide < (size_t)c->hidden) wide = (size_t)c->hidden;
    trial t = {.device = model->device, .bytes = wide * wide * 4};
    size_t left = (size_t)tokens * wide * 4, most = t.bytes > left ? t.bytes : left;
    kvs_status status = e->allocate(left, "trial", &t.x, error);
    if (status == KVS_OK) status = e->allocate(t.bytes, "trial", &t.w, error);
    if (status == KVS_OK) status = e->allocate(most, "trial", &t.y, error);
    if (status == KVS_OK) status = e->fill(t.x, 0, left, error);
    if (status == KVS_OK) status = e->fill(t.w, 0, t.bytes, error);
    if (status == KVS_OK) status = measure(model, &t, tokens, product_rate, copy_rate, error);
    e->release(t.x);
    e->release(t.w);
    e->release(t.y);
    return status;
}
