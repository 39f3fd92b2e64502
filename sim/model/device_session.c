/* device_session.c: a sequence on a device. Tokens pass the layers in blocks; in a block every token is a sequence of
 * its own for the attention kernels: they share one cache, and each sees of it what stands there when its token is
 * decoded. */
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/model/device_session.h"
#include "sim/model/vector.h"

static kvs_status launched(const kvs_device_session *s, int launch, const char *kernel, kvs_error *error) {
    return kvs_executor_launched(s->d->executor, launch, kernel, error);
}

kvs_status kvs_device_session_open(const kvs_model *model, const kvs_model_pass *pass, int capacity, int layers_kept,
                                   kvs_device_session **session, kvs_error *error) {
    *session = NULL;
    kvs_device_session *s = calloc(1, sizeof *s);
    if (s == NULL) return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    *s = (kvs_device_session){
        .model = model, .d = model->device, .pass = *pass, .capacity = capacity, .layers_kept = layers_kept};
    kvs_status status = kvs_device_session_set_up(s, error);
    if (status == KVS_OK && pass->observe != NULL) status = kvs_device_shown_open(s, error);
    if (status == KVS_OK)
        *session = s;
    else
        kvs_device_session_close(s);
    return status;
}

void kvs_device_session_close(kvs_device_session *s) {
    if (s == NULL) return;
    for (int i = 0; i < s->memory_count; i++) s->d->executor->release(s->memory[i]);
    s->d->executor->release(s->workspace);
    kvs_device_shown_close(s->shown);
    for (int i = 0; i < 2; i++) free(s->pages_at[i]);
    free(s->memory);
    free(s->layers);
    free(s);
}

/* --- one layer: the cache ------------------------------------------------------------------------------------------
 */

kvs_cache_rows kvs_device_rows(const kvs_device_session *s, const kvs_device_cache *layer, int values) {
    int dim = s->format.shape.head_dim, page = s->format.shape.page_tokens;
    if (s->packed)
        return (kvs_cache_rows){.rows = values ? layer->tail_v : layer->tail_k,
                                .sinks = values ? layer->sink_v : layer->sink_k,
                                .head_stride = (int64_t)s->tail * dim,
                                .row_stride = dim,
                                .capacity = s->tail,
                                .page_tokens = s->tail,
                                .sink_tokens = s->sinks};
    return (kvs_cache_rows){.rows = (uint16_t *)layer->tensors[0] + (values ? s->format.value.base / 16 : 0),
                            .block_stride = s->format.block_bytes[0] / 2,
                            .head_stride = s->format.head_bytes[0] / 2,
                            .row_stride = dim,
                            .capacity = s->table_pages * page,
                            .page_tokens = page};
}

/* Packs pages [from, to) of K or V of a layer. */
static kvs_status pack(const kvs_device_session *s, int layer, int values, int from, int to, kvs_error *error) {
    const kvs_device_model *d = s->d;
    const kvs_device_store *store = values ? &s->v_store : &s->k_store;
    kvs_device_cache *cache = &s->layers[layer % s->layers_kept];
    int heads = s->model->config.kv_heads, page = s->format.shape.page_tokens;
    kvs_page_place places[KVS_DEVICE_STAGED_PAGES * KVS_DEVICE_PACKED_HEADS];
    for (int first = from; first < to; first += KVS_DEVICE_STAGED_PAGES) {
        int pages = to - first < KVS_DEVICE_STAGED_PAGES ? to - first : KVS_DEVICE_STAGED_PAGES;
        kvs_gather_args gather = {kvs_device_rows(s, cache, values),
                                  s->sinks + first * page,
                                  pages,
                                  page,
                                  heads,
                                  s->format.shape.head_dim,
                                  s->staged};
        kvs_quantize_args args = {.format = s->format,
                                  .rule = store->rule,
                                  .metric = store->metric,
                                  .pages = (int64_t)pages * heads,
                                  .x = s->staged,
                                  .blocks = s->table + first,
                                  .places = s->places,
                                  .tensors = {cache->tensors[0], cache->tensors[1]}};
        if (!values && store->metric == KVS_METRIC_RANDOM) {
            for (int i = 0; i < pages * heads; i++)
                places[i] = (kvs_page_place){s->pass.seed, s->pass.sequence, layer, i % heads, first + i / heads};
            KVS_TRY(d->executor->send(s->places, places, sizeof *places * (size_t)(pages * heads), d->stream, error));
        }
        KVS_TRY(launched(s, d->executor->kernels->model.gather(&gather, d->stream), "gather", error));
        KVS_TRY(kvs_executor_quantize(d->executor, values, &args, d->stream, error));
    }
    return KVS_OK;
}

/* Keys, values and queries of the block's projections go where attention reads them; pages that have become due by its
 * last token are packed. */
static kvs_status fill_cache(const kvs_device_session *s, int layer, int first, int rows, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    const kvs_device_layer *weights = &s->d->layers[layer];
    const kvs_device_cache *cache = &s->layers[layer % s->layers_kept];
    kvs_heads_args args = {.number = s->d->number,
                           .rows = rows,
                           .first = first,
                           .query_heads = c->query_heads,
                           .kv_heads = c->kv_heads,
                           .head_dim = c->head_dim,
                           .rotary_dim = c->rope.rotary_dim,
                           .epsilon = (float)c->norm_epsilon,
                           .projections = s->wide,
                           .q_norm = weights->q_norm,
                           .k_norm = weights->k_norm,
                           .cosines = s->cosines,
                           .sines = s->sines,
                           .q = s->q,
                           .k = kvs_device_rows(s, cache, 0),
                           .v = kvs_device_rows(s, cache, 1),
                           .overflows = s->overflows};
    KVS_TRY(launched(s, s->d->executor->kernels->model.heads(&args, s->d->stream), "heads", error));
    for (int side = 0; side < 2 && s->packed; side++) {
        const int *pages = s->pages_at[side];
        KVS_TRY(pack(s, layer, side, first > 0 ? pages[first - 1] : 0, pages[first + rows - 1], error));
    }
    return KVS_OK;
}

static kvs_status attend(kvs_device_session *s, int layer, int first, int rows, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    const kvs_executor *e = s->d->executor;
    const kvs_device_cache *cache = &s->layers[layer % s->layers_kept];
    kvs_attention_args args = {.format = s->format,
                               .sequences = rows,
                               .query_heads = c->query_heads,
                               .softmax_scale = (float)kvs_model_softmax_scale(c),
                               .q = s->q,
                               .lengths = s->lengths + first,
                               .key_pages = s->device_pages[0] + first,
                               .value_pages = s->device_pages[1] + first,
                               .page_table = s->table,
                               .table_pages = s->table_pages,
                               .tensors = {cache->tensors[0], cache->tensors[1]},
                               .one_cache = 1,
                               .sink_tokens = s->sinks,
                               .sink_k = cache->sink_k,
                               .sink_v = cache->sink_v,
                               .tail_tokens = s->tail,
                               .tail_k = cache->tail_k,
                               .tail_v = cache->tail_v,
                               .out = s->attended};
    args.splits = kvs_attention_splits(&args, s->d->facts.multiprocessors, first + rows);
    size_t bytes = kvs_attention_workspace(&args);
    if (bytes > s->workspace_bytes) {
        KVS_TRY(e->wait(s->d->stream, error));
        e->release(s->workspace);
        s->workspace = NULL;
        s->workspace_bytes = 0;
        KVS_TRY(e->allocate(bytes, "attention's workspace", &s->workspace, error));
        s->workspace_bytes = bytes;
        s->workspace_rows = 0;
    }
    if (s->workspace_rows != rows) {
        KVS_TRY(e->wait(s->d->stream, error));
        KVS_TRY(e->fill(s->workspace, 0, s->workspace_bytes, error));
        KVS_TRY(e->synchronize(error));
    }
    s->workspace_rows = rows;
    args.workspace = s->workspace;
    return kvs_executor_attend(e, &args, s->d->stream, error);
}

/* --- one layer: products -------------------------------------------------------------------------------------------
 */

static kvs_status multiply(const kvs_device_session *s, int rows, int n, int k, const void *w, float beta, float *y,
                           kvs_error *error) {
    return kvs_gemm_multiply(s->d->gemm, s->d->number, rows, n, k, s->left, w, beta, y, s->d->stream, error);
}

static kvs_status norm(const kvs_device_session *s, const float *x, int rows, const void *weight, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    kvs_norm_args args = {s->d->number, rows, c->hidden, (float)c->norm_epsilon, x, weight, s->left};
    return launched(s, s->d->executor->kernels->model.norm(&args, s->d->stream), "norm", error);
}

static kvs_status finish_block(const kvs_device_session *s, int layer, float *x, int rows, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    const kvs_device_layer *weights = &s->d->layers[layer];
    const kvs_model_kernels *kernels = &s->d->executor->kernels->model;
    int q = c->query_heads * c->head_dim;
    kvs_narrow_args narrow = {s->d->number, (int64_t)rows * q, s->attended, s->left};
    kvs_swiglu_args swiglu = {s->d->number, rows, c->intermediate, s->wide, s->left};
    KVS_TRY(launched(s, kernels->narrow(&narrow, s->d->stream), "narrow", error));
    KVS_TRY(multiply(s, rows, c->hidden, q, weights->output, 1.0f, x, error));
    KVS_TRY(norm(s, x, rows, weights->post_norm, error));
    KVS_TRY(multiply(s, rows, 2 * c->intermediate, c->hidden, weights->gate_up, 0.0f, s->wide, error));
    KVS_TRY(launched(s, kernels->swiglu(&swiglu, s->d->stream), "swiglu", error));
    return multiply(s, rows, c->hidden, c->intermediate, weights->down, 1.0f, x, error);
}

static kvs_status run_block(kvs_device_session *s, int layer, int first, int rows, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    const kvs_device_layer *weights = &s->d->layers[layer];
    float *x = s->x + (size_t)(first - s->seen) * (size_t)c->hidden;
    int columns = (c->query_heads + 2 * c->kv_heads) * c->head_dim;
    KVS_TRY(norm(s, x, rows, weights->input_norm, error));
    KVS_TRY(multiply(s, rows, columns, c->hidden, weights->qkv, 0.0f, s->wide, error));
    KVS_TRY(fill_cache(s, layer, first, rows, error));
    KVS_TRY(attend(s, layer, first, rows, error));
    return finish_block(s, layer, x, rows, error);
}

/* --- the contract --------------------------------------------------------------------------------------------------
 */

static kvs_status check_ids(const kvs_device_session *s, const int32_t *ids, int tokens, kvs_error *error) {
    for (int t = 0; t < tokens; t++)
        if (ids[t] < 0 || ids[t] >= s->model->config.vocabulary)
            return kvs_fail(error, KVS_INPUT, s->model->directory, NULL, "token id %d is outside the vocabulary of %d",
                            ids[t], s->model->config.vocabulary);
    return KVS_OK;
}

static kvs_status run_layers(kvs_device_session *s, int tokens, kvs_error *error) {
    for (int layer = 0; layer < s->model->config.layers; layer++) {
        if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted");
        for (int done = 0; done < tokens; done += KVS_DEVICE_BLOCK) {
            int rows = tokens - done < KVS_DEVICE_BLOCK ? tokens - done : KVS_DEVICE_BLOCK;
            KVS_TRY(run_block(s, layer, s->seen + done, rows, error));
            if (s->shown != NULL) KVS_TRY(kvs_device_show_block(s, done, rows, tokens, error));
        }
        if (s->shown != NULL) KVS_TRY(kvs_device_show_layer(s, layer, tokens, error));
    }
    return KVS_OK;
}

/* The last norm is done on the host, in binary32: the rows go there anyway. */
static kvs_status fetch_rows(const kvs_device_session *s, int tokens, float *hidden, kvs_error *error) {
    const kvs_executor *e = s->d->executor;
    uint32_t overflows;
    KVS_TRY(e->fetch(&overflows, s->overflows, sizeof overflows, s->d->stream, error));
    KVS_TRY(e->fetch(hidden, s->x, (size_t)tokens * (size_t)s->model->config.hidden * 4, s->d->stream, error));
    KVS_TRY(e->wait(s->d->stream, error));
    for (int t = 0; t < tokens; t++) {
        float *row = hidden + (size_t)t * (size_t)s->model->config.hidden;
        kvs_rms_norm(s->model->config.hidden, row, s->d->final_norm, (float)s->model->config.norm_epsilon, row);
    }
    if (overflows == 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, s->model->directory, "K or V", "%u elements do not fit binary16", overflows);
}

kvs_status kvs_device_session_run(kvs_device_session *s, const int32_t *ids, int tokens, float *hidden,
                                  kvs_error *error) {
    const kvs_device_model *d = s->d;
    KVS_TRY(check_ids(s, ids, tokens, error));
    const uint32_t none = 0;
    KVS_TRY(d->executor->send(s->ids, ids, (size_t)tokens * sizeof *ids, d->stream, error));
    KVS_TRY(d->executor->send(s->overflows, &none, sizeof none, d->stream, error));
    kvs_embed_args embed = {d->number, tokens, s->model->config.hidden, s->ids, d->embedding, s->x};
    KVS_TRY(launched(s, d->executor->kernels->model.embed(&embed, d->stream), "embed", error));
    KVS_TRY(run_layers(s, tokens, error));
    KVS_TRY(fetch_rows(s, tokens, hidden, error));
    s->seen += tokens;
    return KVS_OK;
}
