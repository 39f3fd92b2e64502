#include "sim/geometry.h"

#include <math.h>
#include <stdio.h>

static int64_t common_multiple(int64_t a, int64_t b) {
    int64_t x = a, y = b;
    while (y != 0) {
        int64_t rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

/* The bytes of one store, and its window; without a codec every token is stored at once, behind the other's sinks. */
static kvs_geometry_store stored_of(const kvs_store *store, const kvs_store *other, const kvs_model_shape *shape) {
    double heads = (double)(shape->layers * shape->kv_heads), full = 2.0 * heads * (double)shape->head_dim;
    kvs_geometry_store s = {.page = 1, .payload = full, .full = full};
    if (store->codec == NULL) {
        s.first = other->codec != NULL ? other->window.sink_tokens : 0;
        return s;
    }
    kvs_bits bits = store->codec->page_bits(store);
    double scale = heads / (8.0 * store->window.page_tokens);
    s.first = store->window.sink_tokens;
    s.page = store->window.page_tokens;
    s.prefix = store->window.prefix_tokens;
    s.fixed = store->head_bits / 8.0 * heads;
    s.behind = store->window.recent_tokens + store->window.decode_lag;
    s.payload = bits.payload * scale;
    s.metadata = bits.metadata * scale;
    s.padding = bits.padding * scale;
    return s;
}

/* The full-precision buffer of one store: sinks, window, and where whole pages are quantized, one that fills; or the
 * prefix that waits to be stored at once. */
static double buffer_tokens(const kvs_geometry_store *s, int first) {
    return fmax((double)first + s->behind + (s->page > 1 ? s->page : 0), s->prefix);
}

static kvs_status fill(const kvs_scheme *scheme, const kvs_model_shape *shape, int page_tokens, kvs_geometry *g,
                       kvs_error *error) {
    g->k = stored_of(&scheme->k, &scheme->v, shape);
    g->v = stored_of(&scheme->v, &scheme->k, shape);
    int64_t least = common_multiple(g->k.page, g->v.page);
    int64_t page = page_tokens > 0 ? page_tokens : least > 1 ? least : 16;
    if (page % least != 0 || page > 1 << 20)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "page size",
                        "%lld tokens do not hold whole pages of %lld tokens of this scheme", (long long)page,
                        (long long)least);
    g->page_tokens = (int32_t)page;
    g->first_token = g->k.first > g->v.first ? g->k.first : g->v.first;
    int32_t k_after = g->k.page + g->k.behind, v_after = g->v.page + g->v.behind;
    g->taken_after = k_after < v_after ? k_after : v_after;
    g->full_behind = g->k.behind > g->v.behind ? g->k.behind : g->v.behind;
    g->taken_from = g->k.prefix < g->v.prefix ? g->k.prefix : g->v.prefix;
    g->full_from = g->k.prefix > g->v.prefix ? g->k.prefix : g->v.prefix;
    g->page_bytes =
        (double)page * (g->k.payload + g->k.metadata + g->k.padding + g->v.payload + g->v.metadata + g->v.padding);
    g->buffer_bytes = buffer_tokens(&g->k, g->first_token) * g->k.full +
                      buffer_tokens(&g->v, g->first_token) * g->v.full + g->k.fixed + g->v.fixed;
    g->buffer_pages = (int64_t)ceil(g->buffer_bytes / g->page_bytes);
    return KVS_OK;
}

kvs_status kvs_geometry_of(const char *spec, const kvs_model_shape *shape, int page_tokens, kvs_geometry *geometry,
                           kvs_error *error) {
    kvs_scheme *scheme;
    KVS_TRY(kvs_scheme_open(spec, (int)shape->head_dim, &scheme, error));
    *geometry = (kvs_geometry){0};
    snprintf(geometry->scheme, sizeof geometry->scheme, "%s", spec);
    kvs_status status = fill(scheme, shape, page_tokens, geometry, error);
    kvs_scheme_close(scheme);
    return status;
}

kvs_bits kvs_sequence_bytes(const kvs_geometry *g, int64_t tokens) {
    double k = (double)kvs_stored_tokens(&g->k, tokens), v = (double)kvs_stored_tokens(&g->v, tokens);
    double all = (double)tokens;
    return (kvs_bits){
        .payload = k * g->k.payload + v * g->v.payload,
        .metadata = k * g->k.metadata + v * g->v.metadata + kvs_fixed_bytes(&g->k, (int64_t)k) +
                    kvs_fixed_bytes(&g->v, (int64_t)v),
        .residual = (all - k) * g->k.full + (all - v) * g->v.full,
        .padding = k * g->k.padding + v * g->v.padding,
    };
}
