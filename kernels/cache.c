#include "kernels/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"

int kvs_store_append(const kvs_store *store, const kvs_page_context *context, int64_t seen, int64_t fresh,
                     int64_t prefill_tokens, float *full, float *stored, float *scratch) {
    size_t dim = (size_t)store->head_dim, count = (size_t)fresh * dim;
    float *added = full + (size_t)seen * dim;
    if (kvs_round_floats_to_half(added, added, count) != count) return 0;
    if (store->codec == NULL) return 1;
    int64_t from = kvs_window_stored_end(&store->window, seen, prefill_tokens);
    int64_t to = kvs_window_stored_end(&store->window, seen + fresh, prefill_tokens);
    if (to <= from) return 1;
    kvs_coded out = {.x_hat = stored + (size_t)from * dim};
    kvs_page_context at = *context;
    at.place.page = (int)((from - store->window.sink_tokens) / store->window.page_tokens);
    at.prefix = store->window.prefix_tokens > 0 ? full : NULL;
    store->codec->pages(store, &at, (to - from) / store->window.page_tokens, full + (size_t)from * dim, out, scratch);
    return 1;
}

kvs_status kvs_cache_append(const kvs_scheme *scheme, int side, const kvs_page_place *place, int64_t seen,
                            int64_t fresh, int64_t prefill_tokens, float *full, float *read, int64_t *stored_end,
                            kvs_error *error) {
    const kvs_store *store = side == KVS_CACHE_V ? &scheme->v : &scheme->k;
    size_t at = (size_t)seen * (size_t)store->head_dim, count = (size_t)fresh * (size_t)store->head_dim;
    KVS_TRY(kvs_scheme_without_queries(scheme, "a cache of another engine", error));
    KVS_TRY(kvs_scheme_without_rope(scheme, "a cache of another engine", error));
    KVS_TRY(kvs_scheme_without_constants(scheme, "a cache of another engine", error));
    float *scratch = malloc(sizeof *scratch * (kvs_store_scratch_floats(store) + 1));
    if (scratch == NULL) return kvs_fail(error, KVS_INPUT, scheme->spec, NULL, "out of memory");
    /* Rounded first, so that `read` has the new rows before a page that ends among them is stored. */
    int fits = kvs_round_floats_to_half(full + at, full + at, count) == count;
    if (fits) {
        memcpy(read + at, full + at, sizeof *read * count);
        kvs_page_context context = {.place = *place};
        fits = kvs_store_append(store, &context, seen, fresh, prefill_tokens, full, read, scratch);
    }
    free(scratch);
    if (stored_end != NULL) *stored_end = kvs_window_stored_end(&store->window, seen + fresh, prefill_tokens);
    if (fits) return KVS_OK;
    char object[64];
    snprintf(object, sizeof object, "%s of layer %d, head %d", side == KVS_CACHE_V ? "V" : "K", place->layer,
             place->kv_head);
    return kvs_fail(error, KVS_INPUT, scheme->spec, object, "does not fit binary16");
}
