/* device_setup.c: the memory of a sequence on a device. */
#include <stdlib.h>
#include <string.h>

#include "sim/model/device_session.h"
#include "sim/model/rope.h"

enum { MEMORY = 16, FULL_PAGE = 64 };

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
    if (s->model->config.kv_heads > KVS_DEVICE_PACKED_HEADS) return refuse(scheme, "k", "so many KV heads", error);
    shape.kv_heads = s->model->config.kv_heads;
    shape.value_bits = s->v_store.format.shape.value_bits;
    shape.value_group = s->v_store.format.shape.value_group;
    s->packed = 1;
    s->sinks = k->sink_tokens;
    s->tail = v->recent_tokens + v->decode_lag + shape.page_tokens + KVS_DEVICE_BLOCK;
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

static kvs_status take_layer(kvs_device_session *s, kvs_device_cache *layer, kvs_error *error) {
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
    size_t rows = s->capacity < KVS_DEVICE_BLOCK ? (size_t)s->capacity : KVS_DEVICE_BLOCK,
           count = rows * (size_t)s->table_pages;
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
    size_t rows = s->capacity < KVS_DEVICE_BLOCK ? (size_t)s->capacity : KVS_DEVICE_BLOCK,
           q = (size_t)c->query_heads * (size_t)c->head_dim;
    size_t projected = q + 2 * (size_t)c->kv_heads * (size_t)c->head_dim, inner = (size_t)c->intermediate;
    size_t wide = projected > 2 * inner ? projected : 2 * inner, left = (size_t)c->hidden;
    size_t staged = (size_t)KVS_DEVICE_STAGED_PAGES * (size_t)c->kv_heads * (size_t)s->format.shape.page_tokens;
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
    return take(s, KVS_DEVICE_STAGED_PAGES * (size_t)c->kv_heads * sizeof *s->places, "places", &s->places, error);
}

kvs_status kvs_device_session_set_up(kvs_device_session *s, kvs_error *error) {
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
