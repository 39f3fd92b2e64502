#include "kernels/block_codec.h"

#include <math.h>

#include "core/simd.h"

KVS_SIMD float kvs_largest(const float *x, int64_t count) {
    float most = 0.0f;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < count; i++) {
        float magnitude = fabsf(x[i]);
        most = magnitude > most ? magnitude : most;
    }
    return most;
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    (void)scratch;
    const kvs_block_config *c = store->config;
    int64_t elements = count * store->window.page_tokens * store->head_dim;
    float largest =
        c->fitted ? kvs_largest(first->prefix, (int64_t)store->window.prefix_tokens * store->head_dim) : 0.0f;
    for (int64_t at = 0; at < elements; at += c->block)
        c->encode(c, largest, x + at, out.x_hat + at, out.codes != NULL ? out.codes + at : NULL);
}

static size_t scratch_floats(const kvs_store *store) {
    (void)store;
    return 0;
}

static kvs_bits page_bits(const kvs_store *store) {
    const kvs_block_config *c = store->config;
    double tokens = store->window.page_tokens;
    return (kvs_bits){.payload = tokens * store->head_dim * c->bits,
                      .metadata = tokens * (store->head_dim / c->block) * c->scale_bits};
}

static const kvs_codec block_codec = {pages, scratch_floats, NULL, page_bits};

kvs_status kvs_block_store(kvs_scheme *scheme, kvs_store *store, kvs_window window, const kvs_block_config *config,
                           kvs_error *error) {
    if (config->block < 1 || scheme->head_dim % config->block != 0)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "head_dim", "%d is not a multiple of blocks of %d channels",
                        scheme->head_dim, config->block);
    KVS_TRY(kvs_store_make(scheme, store, window, &block_codec, config, sizeof *config, error));
    store->reads_prefix = config->fitted;
    if (config->fitted) store->head_bits = 32.0;
    return KVS_OK;
}
