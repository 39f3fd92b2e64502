#include "kernels/transform.h"

#include <string.h>

typedef struct config {
    kvs_store inner;
    kvs_map maps[KVS_MAX_MAPS];
    int count;
} config;

/* Floats of scratch: the states of all maps, the mapped prefix, a block of tokens; then what the inner codec takes. */
typedef struct work {
    float *states[KVS_MAX_MAPS], *prefix, *block, *inner;
} work;

/* Pages that are mapped at a time: few, which stay in the cache, but for a codec that fits itself at each call. */
static int64_t block_pages(const kvs_store *store) {
    enum { FITTED_TOKENS = 1024 };
    int tokens = store->reads_prefix ? FITTED_TOKENS : KVS_MAP_TOKENS;
    return store->window.page_tokens < tokens ? tokens / store->window.page_tokens : 1;
}

static size_t divide(const config *c, float *scratch, work *w) {
    size_t at = 0, head_dim = (size_t)c->inner.head_dim;
    for (int m = 0; m < c->count; m++) {
        w->states[m] = scratch + at;
        if (c->maps[m].type->state_floats != NULL) at += c->maps[m].type->state_floats(c->inner.head_dim);
    }
    w->prefix = scratch + at;
    at += (size_t)c->inner.window.prefix_tokens * head_dim;
    w->block = scratch + at;
    at += (size_t)block_pages(&c->inner) * (size_t)c->inner.window.page_tokens * head_dim;
    w->inner = scratch + at;
    return at;
}

static void apply(const config *c, int m, int back, const kvs_page_context *context, int64_t first_token,
                  int64_t tokens, const float *state, float *x) {
    const kvs_map *map = &c->maps[m];
    for (int64_t t = 0; t < tokens; t += KVS_MAP_TOKENS) {
        kvs_map_rows rows = {context, c->inner.head_dim, first_token + t,
                             tokens - t < KVS_MAP_TOKENS ? tokens - t : KVS_MAP_TOKENS};
        (back ? map->type->back : map->type->forward)(map, rows, state, x + t * c->inner.head_dim);
    }
}

/* Every map is fitted to what the maps before it make of the prefix. */
static const float *fit(const config *c, const kvs_page_context *context, work *w) {
    int64_t tokens = c->inner.window.prefix_tokens;
    if (context->prefix == NULL || tokens == 0) return NULL;
    int last = c->inner.reads_prefix ? c->count - 1 : -1; /* nobody sees what the maps after the last fit make of it */
    for (int m = 0; m < c->count; m++)
        if (c->maps[m].type->fit != NULL && m > last) last = m;
    memcpy(w->prefix, context->prefix, sizeof(float) * (size_t)tokens * (size_t)c->inner.head_dim);
    for (int m = 0; m <= last; m++) {
        const kvs_map *map = &c->maps[m];
        if (map->type->fit != NULL) map->type->fit(map, c->inner.head_dim, tokens, w->prefix, context, w->states[m]);
        if (m < last || c->inner.reads_prefix) apply(c, m, 0, context, 0, tokens, w->states[m], w->prefix);
    }
    return w->prefix;
}

/* `at` groups on: where the metadata of a page start. */
static kvs_coded from(kvs_coded out, size_t elements, size_t groups, size_t ranks, float *x_hat) {
    return (kvs_coded){
        .x_hat = x_hat,
        .codes = out.codes != NULL ? out.codes + elements : NULL,
        .scales = out.scales != NULL ? out.scales + groups : NULL,
        .zeros = out.zeros != NULL ? out.zeros + groups : NULL,
        .ranks = out.ranks != NULL ? out.ranks + ranks : NULL,
    };
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    const config *c = store->config;
    const kvs_store *inner = &c->inner;
    work w;
    divide(c, scratch, &w);
    kvs_page_context context = *first;
    context.prefix = fit(c, first, &w);
    size_t head_dim = (size_t)store->head_dim, page_tokens = (size_t)store->window.page_tokens;
    size_t page_groups = inner->codec->page_groups != NULL ? (size_t)inner->codec->page_groups(inner) : 0;
    int64_t step = block_pages(inner);
    for (int64_t p = 0; p < count; p += step) {
        int64_t block = count - p < step ? count - p : step, tokens = block * (int64_t)page_tokens;
        size_t element = (size_t)p * page_tokens * head_dim;
        context.place.page = first->place.page + (int)p;
        int64_t token = store->window.sink_tokens + (int64_t)context.place.page * (int64_t)page_tokens;
        memcpy(w.block, x + element, sizeof *x * (size_t)tokens * head_dim);
        for (int m = 0; m < c->count; m++) apply(c, m, 0, first, token, tokens, w.states[m], w.block);
        inner->codec->pages(inner, &context, block, w.block,
                            from(out, element, (size_t)p * page_groups, (size_t)p * head_dim, w.block), w.inner);
        for (int m = c->count - 1; m >= 0; m--) apply(c, m, 1, first, token, tokens, w.states[m], w.block);
        memcpy(out.x_hat + element, w.block, sizeof *x * (size_t)tokens * head_dim);
    }
}

static size_t scratch_floats(const kvs_store *store) {
    const config *c = store->config;
    work unused;
    return divide(c, NULL, &unused) + kvs_store_scratch_floats(&c->inner);
}

static int page_groups(const kvs_store *store) {
    const kvs_store *inner = &((const config *)store->config)->inner;
    return inner->codec->page_groups != NULL ? inner->codec->page_groups(inner) : 0;
}

static kvs_bits page_bits(const kvs_store *store) {
    const kvs_store *inner = &((const config *)store->config)->inner;
    return inner->codec->page_bits(inner);
}

static const kvs_codec transformed_codec = {pages, scratch_floats, page_groups, page_bits};

kvs_status kvs_transform_store(kvs_scheme *scheme, kvs_store *store, const kvs_map *maps, int count, kvs_error *error) {
    config c = {.inner = *store, .count = count};
    for (int m = 0; m < count; m++) {
        const kvs_map_type *type = maps[m].type;
        if (type->admits != NULL && !type->admits(scheme->head_dim))
            return kvs_fail(error, KVS_USAGE, scheme->spec, "head_dim", "%d: %s needs %s", scheme->head_dim, type->name,
                            type->what_admits);
        c.maps[m] = maps[m];
    }
    kvs_store wrapped;
    KVS_TRY(kvs_store_make(scheme, &wrapped, store->window, &transformed_codec, &c, sizeof c, error));
    wrapped.needs = store->needs;
    wrapped.head_bits = store->head_bits;
    wrapped.unturns = store->unturns;
    wrapped.reads_prefix = store->reads_prefix;
    for (int m = 0; m < count; m++) wrapped.unturns |= maps[m].type->unturns;
    *store = wrapped;
    return KVS_OK;
}
