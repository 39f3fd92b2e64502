#include "kernels/zero_point.h"

#include <math.h>

#include "core/half.h"
#include "core/simd.h"

static float within_half(float x) {
    float rounded = kvs_round_to_half(x);
    return fminf(fmaxf(rounded, -KVS_HALF_MAX), KVS_HALF_MAX);
}

static void fit(const kvs_zero_point_config *c, float minimum, float maximum, float *scale, float *zero) {
    float low = minimum * (float)c->clip, high = maximum * (float)c->clip, levels = (float)c->levels;
    if (c->through_zero) low = fminf(low, 0.0f), high = fmaxf(high, 0.0f);
    *scale = within_half((high - low) / levels);
    if (*scale > 0.0f) {
        *zero = within_half(c->whole ? rintf(-low / *scale) : levels * -low / (high - low));
    } else {
        *scale = within_half(fabsf(high));
        *zero = high < 0.0f ? 1.0f : 0.0f;
    }
}

/* One group. A scale of 0 is that of zeros alone: dividing by infinity gives codes of `zero`. */
KVS_SIMD static void encode(const kvs_zero_point_config *c, int group, const float *x, float *x_hat, uint8_t *codes) {
    float minimum = x[0], maximum = x[0], levels = (float)c->levels, scale, zero;
#pragma omp simd reduction(min : minimum) reduction(max : maximum)
    for (int i = 0; i < group; i++) {
        minimum = x[i] < minimum ? x[i] : minimum;
        maximum = x[i] > maximum ? x[i] : maximum;
    }
    fit(c, minimum, maximum, &scale, &zero);
    float divisor = scale > 0.0f ? scale : INFINITY, before = c->whole ? 0.0f : zero, after = c->whole ? zero : 0.0f;
#pragma omp simd
    for (int i = 0; i < group; i++) {
        float code = rintf(x[i] / divisor + before) + after;
        code = code > 0.0f ? code : 0.0f;
        code = code < levels ? code : levels;
        if (codes != NULL) codes[i] = (uint8_t)(int)code;
        x_hat[i] = (code - zero) * scale;
    }
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    (void)first, (void)scratch;
    const kvs_zero_point_config *c = store->config;
    int64_t elements = count * store->window.page_tokens * store->head_dim;
    for (int64_t at = 0; at < elements; at += c->group)
        encode(c, c->group, x + at, out.x_hat + at, out.codes != NULL ? out.codes + at : NULL);
}

static size_t scratch_floats(const kvs_store *store) {
    (void)store;
    return 0;
}

static kvs_bits page_bits(const kvs_store *store) {
    const kvs_zero_point_config *c = store->config;
    int width = 0, tokens = store->window.page_tokens;
    while (1 << width <= c->levels) width++;
    int row = store->head_dim * width;
    return (kvs_bits){
        .payload = (double)tokens * row,
        .metadata = 32.0 * tokens * (store->head_dim / c->group),
        .padding = (double)tokens * ((row + 7) / 8 * 8 - row),
    };
}

static const kvs_codec zero_point_codec = {pages, scratch_floats, NULL, page_bits};

kvs_status kvs_zero_point_store(kvs_scheme *scheme, kvs_store *store, kvs_window window,
                                const kvs_zero_point_config *config, kvs_error *error) {
    kvs_zero_point_config own = *config;
    if (own.group == 0) own.group = scheme->head_dim;
    if (scheme->head_dim % own.group != 0)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "group", "groups of %d channels do not divide head_dim %d",
                        own.group, scheme->head_dim);
    return kvs_store_make(scheme, store, window, &zero_point_codec, &own, sizeof own, error);
}
