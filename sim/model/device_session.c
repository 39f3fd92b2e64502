/* device_session.c: a sequence on a device. Tokens pass the layers in blocks of BLOCK; in a block every token is a
 * sequence of its own for the attention kernels: they share one cache, and each sees of it what stands there when its
 * token is decoded. */
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/device_store.h"
#include "sim/model/device_model.h"
#include "sim/model/rope.h"
#include "sim/model/vector.h"

enum { BLOCK = 1024, FULL_PAGE = 64, STAGED_PAGES = 16, MOST_HEADS = 256 /* of KV that are packed */ };

/* The cache of one layer: pages, and with a scheme the rows in full precision beside them. */
typedef struct layer_cache {
    uint8_t *tensors[2];
    uint16_t *sink_k, *sink_v; /* [kv_heads][sinks][head_dim] */
    uint16_t *tail_k, *tail_v; /* [kv_heads][tail][head_dim] */
} layer_cache;

struct kvs_device_session {
    const kvs_model *model;
    kvs_device_model *d;
    kvs_model_pass pass;
    int capacity, seen, layers_kept;
    kvs_format format; /* of the pages */
    int packed, sinks, tail, table_pages;
    kvs_device_store k_store, v_store; /* packed */
    layer_cache *layers;               /* [layers_kept] */
    size_t cache_bytes;
    int *pages_at[2]; /* [capacity + 1]: stored pages of K and of V once so many tokens are there; on the host */
    /* On the device: */
    void **memory;
    int memory_count;
    float *cosines, *sines;             /* [capacity][head_dim / 2] */
    int32_t *lengths, *device_pages[2]; /* [capacity], by position of the query */
    int32_t *table, *ids;               /* [BLOCK][table_pages], [capacity] */
    float *x;                           /* [capacity][hidden] */
    float *wide;                        /* [BLOCK][projections or 2 intermediate] */
    float *attended;                    /* [BLOCK][query_heads * head_dim] */
    void *left;                         /* [BLOCK][largest left factor] in the type of the weights */
    uint16_t *q, *staged;               /* [BLOCK][query_heads][head_dim]; pages to be packed */
    kvs_page_place *places;             /* of them */
    uint32_t *overflows;
    void *workspace;
    size_t workspace_bytes;
    int workspace_rows; /* that it has been used with: it is ready for as many */
};

static kvs_status launched(const kvs_device_session *s, int launch, const char *kernel, kvs_error *error) {
    return kvs_executor_launched(s->d->executor, launch, kernel, error);
}

/* --- set-up --------------------------------------------------------------------------------------------------------
 */

enum { MEMORY = 16 };

static kvs_status take(kvs_device_session *s, size_t bytes, const char *name, void *place, kvs_error *error) {
    void *memory;
    KVS_TRY(s->d->executor->allocate(bytes, name, &memory, error));
    s->memory[s->memory_count++] = memory;
    memcpy(place, &memory, sizeof memory);
    return KVS_OK;
}

static kvs_status refuse(const kvs_scheme *scheme, const char *tensor, const char *what, kvs_error *error) {
    return kvs_fail(error, KVS_USAGE, scheme->spec, tensor, "decode_attention does not read %s; use --backend cpu",
                    what);
}

/* The pages that decode_attention reads hold what the scheme stores, or it is refused. */
static kvs_status arrange_packed(kvs_device_session *s, kvs_error *error) {
    const kvs_scheme *scheme = s->pass.scheme;
    const kvs_window *k = &scheme->k.window, *v = &scheme->v.window;
    KVS_TRY(kvs_device_store_of(scheme, "k", &scheme->k, &s->k_store, error));
    KVS_TRY(kvs_device_store_of(scheme, "v", &scheme->v, &s->v_store, error));
    if (s->k_store.full && s->v_store.full) return KVS_OK;
    if (s->k_store.full || s->k_store.values) return refuse(scheme, "k", "keys without scales per channel", error);
    if (s->v_store.full || !s->v_store.values) return refuse(scheme, "v", "values without scales per token", error);
    kvs_page_shape shape = s->k_store.format.shape;
    if (shape.page_tokens != k->page_tokens || v->page_tokens != k->page_tokens || v->sink_tokens != k->sink_tokens)
        return refuse(scheme, "v", "values that leave full precision by other pages than keys", error);
    if (v->recent_tokens + v->decode_lag < k->recent_tokens + k->decode_lag)
        return refuse(scheme, "v", "values packed before their keys", error);
    if (s->model->config.kv_heads > MOST_HEADS) return refuse(scheme, "k", "so many KV heads", error);
    shape.kv_heads = s->model->config.kv_heads;
    shape.value_bits = s->v_store.format.shape.value_bits;
    shape.value_group = s->v_store.format.shape.value_group;
    s->packed = 1;
    s->sinks = k->sink_tokens;
    s->tail = v->recent_tokens + v->decode_lag + shape.page_tokens + BLOCK;
    if (s->pass.prompt_tokens > 0) s->tail += s->pass.prompt_tokens;
    if (s->tail > s->capacity) s->tail = s->capacity;
    kvs_error inner;
    if (kvs_format_make(kvs_layout_find("fragment"), &shape, &s->format, &inner) == KVS_OK) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, scheme->spec, inner.object, "%s; use --backend cpu", inner.rule);
}

static kvs_status arrange(kvs_device_session *s, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    if (s->pass.scheme != NULL) KVS_TRY(arrange_packed(s, error));
    if (s->packed) return KVS_OK;
    kvs_page_shape shape = {.head_dim = c->head_dim, .kv_heads = c->kv_heads, .page_tokens = FULL_PAGE};
    shape.bits = shape.boost_bits = shape.value_bits = 2; /* of no meaning in full precision */
    kvs_error inner;
    if (kvs_format_make(kvs_layout_find("fp16-hnd"), &shape, &s->format, &inner) == KVS_OK) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, s->model->directory, inner.object, "%s; use --backend cpu", inner.rule);
}

static kvs_status take_layer(kvs_device_session *s, layer_cache *layer, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    size_t row = (size_t)c->kv_heads * (size_t)c->head_dim * sizeof(uint16_t);
    for (int i = 0; i < s->format.tensors; i++) {
        size_t bytes = (size_t)s->table_pages * s->format.block_bytes[i];
        KVS_TRY(take(s, bytes, "pages", &layer->tensors[i], error));
        KVS_TRY(s->d->executor->fill(layer->tensors[i], 0, bytes, error));
        s->cache_bytes += bytes;
    }
    if (!s->packed) return KVS_OK;
    KVS_TRY(take(s, row * (size_t)s->sinks, "sinks of K", &layer->sink_k, error));
    KVS_TRY(take(s, row * (size_t)s->sinks, "sinks of V", &layer->sink_v, error));
    KVS_TRY(take(s, row * (size_t)s->tail, "K in full precision", &layer->tail_k, error));
    KVS_TRY(take(s, row * (size_t)s->tail, "V in full precision", &layer->tail_v, error));
    s->cache_bytes += 2 * row * (size_t)(s->sinks + s->tail);
    return KVS_OK;
}

/* Stored pages by position, on the host and on the device; position p reads p + 1 tokens. */
static kvs_status take_positions(kvs_device_session *s, kvs_error *error) {
    const kvs_executor *e = s->d->executor;
    size_t count = (size_t)s->capacity, bytes = count * sizeof(int32_t);
    const kvs_store *stores[2] = {s->packed ? &s->pass.scheme->k : NULL, s->packed ? &s->pass.scheme->v : NULL};
    int32_t *host = malloc(bytes);
    kvs_status status = host != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (size_t p = 0; p < count && status == KVS_OK; p++) host[p] = (int32_t)p + 1;
    if (status == KVS_OK) status = take(s, bytes, "lengths", &s->lengths, error);
    if (status == KVS_OK) status = e->upload(s->lengths, host, bytes, error);
    for (int side = 0; side < 2 && status == KVS_OK; side++) {
        s->pages_at[side] = calloc(count, sizeof(int));
        if (s->pages_at[side] == NULL) status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
        for (int p = 0; status == KVS_OK && s->packed && p < s->capacity; p++) {
            int64_t end =
                p < s->pass.prompt_tokens ? 0 : kvs_window_stored_end(&stores[side]->window, p, s->pass.prompt_tokens);
            s->pages_at[side][p] = end > s->sinks ? (int)((end - s->sinks) / s->format.shape.page_tokens) : 0;
        }
        if (status == KVS_OK) status = take(s, bytes, "stored pages", &s->device_pages[side], error);
        if (status == KVS_OK) status = e->upload(s->device_pages[side], s->pages_at[side], bytes, error);
    }
    free(host);
    return status;
}

/* Row r of the table is for the r-th token of a block; block i of memory is page i. */
static kvs_status take_table(kvs_device_session *s, kvs_error *error) {
    size_t rows = s->capacity < BLOCK ? (size_t)s->capacity : BLOCK, count = rows * (size_t)s->table_pages;
    int32_t *host = malloc(count * sizeof *host);
    if (host == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (size_t i = 0; i < count; i++) host[i] = (int32_t)(i % (size_t)s->table_pages);
    kvs_status status = take(s, count * sizeof *host, "page table", &s->table, error);
    if (status == KVS_OK) status = s->d->executor->upload(s->table, host, count * sizeof *host, error);
    free(host);
    return status;
}

static kvs_status take_rope(kvs_device_session *s, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    size_t count = (size_t)s->capacity * (size_t)c->head_dim / 2, bytes = count * sizeof(float);
    float *host = malloc(2 * bytes);
    if (host == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_rope_table(&c->rope, 0, s->capacity, host, host + count);
    kvs_status status = take(s, bytes, "cosines", &s->cosines, error);
    if (status == KVS_OK) status = take(s, bytes, "sines", &s->sines, error);
    if (status == KVS_OK) status = s->d->executor->upload(s->cosines, host, bytes, error);
    if (status == KVS_OK) status = s->d->executor->upload(s->sines, host + count, bytes, error);
    free(host);
    return status;
}

static kvs_status take_rows(kvs_device_session *s, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    size_t rows = s->capacity < BLOCK ? (size_t)s->capacity : BLOCK, q = (size_t)c->query_heads * (size_t)c->head_dim;
    size_t projected = q + 2 * (size_t)c->kv_heads * (size_t)c->head_dim, inner = (size_t)c->intermediate;
    size_t wide = projected > 2 * inner ? projected : 2 * inner, left = (size_t)c->hidden;
    size_t staged = (size_t)STAGED_PAGES * (size_t)c->kv_heads * (size_t)s->format.shape.page_tokens;
    if (left < q) left = q;
    if (left < inner) left = inner;
    KVS_TRY(take(s, (size_t)s->capacity * sizeof *s->ids, "token ids", &s->ids, error));
    KVS_TRY(take(s, (size_t)s->capacity * (size_t)c->hidden * sizeof *s->x, "rows", &s->x, error));
    KVS_TRY(take(s, rows * wide * sizeof *s->wide, "projections", &s->wide, error));
    KVS_TRY(take(s, rows * q * sizeof *s->attended, "attention's output", &s->attended, error));
    KVS_TRY(take(s, rows * left * kvs_number_bytes(s->d->number), "left factors", &s->left, error));
    KVS_TRY(take(s, rows * q * sizeof *s->q, "queries", &s->q, error));
    KVS_TRY(take(s, sizeof *s->overflows, "overflows", &s->overflows, error));
    if (!s->packed) return KVS_OK;
    KVS_TRY(take(s, staged * (size_t)c->head_dim * sizeof *s->staged, "pages to pack", &s->staged, error));
    return take(s, STAGED_PAGES * (size_t)c->kv_heads * sizeof *s->places, "places", &s->places, error);
}

static kvs_status set_up(kvs_device_session *s, kvs_error *error) {
    int page;
    KVS_TRY(arrange(s, error));
    page = s->format.shape.page_tokens;
    s->table_pages = (s->capacity + page - 1) / page;
    s->layers = calloc((size_t)s->layers_kept, sizeof *s->layers);
    s->memory = calloc((size_t)(6 * s->layers_kept + MEMORY), sizeof *s->memory);
    if (s->layers == NULL || s->memory == NULL)
        return kvs_fail(error, KVS_INPUT, s->model->directory, NULL, "out of memory");
    for (int i = 0; i < s->layers_kept; i++) KVS_TRY(take_layer(s, &s->layers[i], error));
    KVS_TRY(take_positions(s, error));
    KVS_TRY(take_table(s, error));
    KVS_TRY(take_rope(s, error));
    KVS_TRY(take_rows(s, error));
    if (s->cache_bytes > s->d->largest_cache) s->d->largest_cache = s->cache_bytes;
    return s->d->executor->synchronize(error);
}

kvs_status kvs_device_session_open(const kvs_model *model, const kvs_model_pass *pass, int capacity, int layers_kept,
                                   kvs_device_session **session, kvs_error *error) {
    *session = NULL;
    if (pass->observe != NULL)
        return kvs_fail(error, KVS_USAGE, model->directory, NULL,
                        "a device does not show its projections; use the CPU");
    kvs_device_session *s = calloc(1, sizeof *s);
    if (s == NULL) return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    *s = (kvs_device_session){
        .model = model, .d = model->device, .pass = *pass, .capacity = capacity, .layers_kept = layers_kept};
    kvs_status status = set_up(s, error);
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
    for (int i = 0; i < 2; i++) free(s->pages_at[i]);
    free(s->memory);
    free(s->layers);
    free(s);
}

/* --- one layer: the cache ------------------------------------------------------------------------------------------
 */

static kvs_cache_rows rows_of(const kvs_device_session *s, const layer_cache *layer, int values) {
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
    layer_cache *cache = &s->layers[layer % s->layers_kept];
    int heads = s->model->config.kv_heads, page = s->format.shape.page_tokens;
    kvs_page_place places[STAGED_PAGES * MOST_HEADS];
    for (int first = from; first < to; first += STAGED_PAGES) {
        int pages = to - first < STAGED_PAGES ? to - first : STAGED_PAGES;
        kvs_gather_args gather = {rows_of(s, cache, values),
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
    const layer_cache *cache = &s->layers[layer % s->layers_kept];
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
                           .k = rows_of(s, cache, 0),
                           .v = rows_of(s, cache, 1),
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
    const layer_cache *cache = &s->layers[layer % s->layers_kept];
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
        for (int done = 0; done < tokens; done += BLOCK)
            KVS_TRY(run_block(s, layer, s->seen + done, tokens - done < BLOCK ? tokens - done : BLOCK, error));
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
