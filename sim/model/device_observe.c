/* device_observe.c: what attention on a device takes in, fetched for the observer of a pass. */
#include <stdlib.h>

#include "core/half.h"
#include "sim/model/device_session.h"

struct kvs_device_shown {
    float *q;         /* [query_heads][tokens][head_dim] */
    float *k, *v;     /* [kv_heads][capacity][head_dim] */
    uint16_t *halves; /* what comes from the device: queries of a block, or the pages of a layer */
};

kvs_status kvs_device_shown_open(kvs_device_session *s, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    if (s->pass.before_rope)
        return kvs_fail(error, KVS_USAGE, s->model->directory, "--before-rope",
                        "a device shows keys and queries after the rotary embedding only; use --backend cpu");
    if (s->packed)
        return kvs_fail(error, KVS_USAGE, s->pass.scheme->spec, NULL,
                        "a device shows a cache in full precision only; use --backend cpu");
    size_t row = (size_t)c->head_dim, tokens = (size_t)s->capacity, kv = (size_t)c->kv_heads * tokens * row;
    size_t q = (size_t)c->query_heads * row, pages = (size_t)s->table_pages * s->format.block_bytes[0] / 2;
    kvs_device_shown *shown = s->shown = calloc(1, sizeof *shown);
    if (shown != NULL) {
        shown->q = malloc(sizeof(float) * q * tokens);
        shown->k = malloc(sizeof(float) * kv);
        shown->v = malloc(sizeof(float) * kv);
        shown->halves = malloc(sizeof(uint16_t) * (q * KVS_DEVICE_BLOCK > pages ? q * KVS_DEVICE_BLOCK : pages));
    }
    if (shown == NULL || !shown->q || !shown->k || !shown->v || !shown->halves)
        return kvs_fail(error, KVS_INPUT, s->model->directory, NULL, "out of memory for %d tokens", s->capacity);
    return KVS_OK;
}

void kvs_device_shown_close(kvs_device_shown *shown) {
    if (shown == NULL) return;
    free(shown->q);
    free(shown->k);
    free(shown->v);
    free(shown->halves);
    free(shown);
}

static kvs_status fetch(const kvs_device_session *s, const void *from, size_t bytes, kvs_error *error) {
    KVS_TRY(s->d->executor->fetch(s->shown->halves, from, bytes, s->d->stream, error));
    return s->d->executor->wait(s->d->stream, error);
}

kvs_status kvs_device_show_block(const kvs_device_session *s, int done, int rows, int tokens, kvs_error *error) {
    size_t heads = (size_t)s->model->config.query_heads, dim = (size_t)s->model->config.head_dim;
    KVS_TRY(fetch(s, s->q, sizeof(uint16_t) * (size_t)rows * heads * dim, error));
    for (size_t r = 0; r < (size_t)rows; r++)
        for (size_t h = 0; h < heads; h++)
            kvs_halves_to_floats(s->shown->halves + (r * heads + h) * dim,
                                 s->shown->q + (h * (size_t)tokens + (size_t)done + r) * dim, dim);
    return KVS_OK;
}

/* K or V of all tokens up to `end`, from the fetched pages. */
static void unpack(const kvs_device_session *s, const kvs_device_cache *cache, int values, int end, float *to) {
    const kvs_cache_rows rows = kvs_device_rows(s, cache, values);
    const uint16_t *base = s->shown->halves + (rows.rows - (const uint16_t *)cache->tensors[0]);
    size_t dim = (size_t)s->model->config.head_dim;
    for (int h = 0; h < s->model->config.kv_heads; h++)
        for (int t = 0; t < end; t++)
            kvs_halves_to_floats(base + t / rows.page_tokens * rows.block_stride + h * rows.head_stride +
                                     t % rows.page_tokens * rows.row_stride,
                                 to + ((size_t)h * (size_t)s->capacity + (size_t)t) * dim, dim);
}

kvs_status kvs_device_show_layer(const kvs_device_session *s, int layer, int tokens, kvs_error *error) {
    const kvs_device_cache *cache = &s->layers[layer % s->layers_kept];
    const kvs_device_shown *shown = s->shown;
    KVS_TRY(fetch(s, cache->tensors[0], (size_t)s->table_pages * s->format.block_bytes[0], error));
    unpack(s, cache, 0, s->seen + tokens, shown->k);
    unpack(s, cache, 1, s->seen + tokens, shown->v);
    kvs_projections now = {s->seen, tokens, s->capacity, shown->q, shown->k, shown->v};
    return s->pass.observe(s->pass.user, layer, &now, error);
}
