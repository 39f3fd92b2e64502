/* ggml.c: the q4_0 and q8_0 caches of llama.cpp: blocks of 32 channels with one binary16 scale (ggml, quantization of
 * rows).
 *
 *     q4_0   d = m / -8, m the element of largest magnitude with its sign;  code = min(15, trunc(x / d + 8.5));
 *            value = (code - 8) * binary16(d)
 *     q8_0   d = largest magnitude / 127;  code = round(x / d), halves away from zero;  value = code * binary16(d)
 *
 * x / d is x times the reciprocal of d, as there. rotate=yes turns K and V by a Hadamard matrix first, as llama.cpp
 * does since it quantizes attention that way by itself. */
#include <math.h>

#include "core/half.h"
#include "core/simd.h"
#include "kernels/block_codec.h"
#include "kernels/schemes/params.h"
#include "kernels/transform.h"

enum { CHANNELS = 32 };

typedef struct config {
    int rotate, sink, window;
} config;

static const char *const rotate_choices[] = {"no", "yes", NULL};

static const kvs_param params[] = {
    {"rotate", KVS_PARAM_CHOICE, offsetof(config, rotate), "no", 0, 0, "", "by a Hadamard matrix first",
     rotate_choices},
    KVS_SINK_PARAM(config, "0"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

KVS_SIMD static void encode_q4_0(const kvs_block_config *c, float largest, const float *x, float *x_hat,
                                 uint8_t *codes) {
    (void)c, (void)largest;
    float most = 0.0f, extreme = 0.0f;
    for (int i = 0; i < CHANNELS; i++)
        if (fabsf(x[i]) > most) most = fabsf(x[i]), extreme = x[i];
    float d = extreme / -8.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f, stored = kvs_round_to_half(d);
    inverse = isinf(inverse) ? 0.0f : inverse;
#pragma omp simd
    for (int i = 0; i < CHANNELS; i++) {
        float code = truncf(x[i] * inverse + 8.5f);
        code = code < 15.0f ? code : 15.0f;
        if (codes != NULL) codes[i] = (uint8_t)(int)code;
        x_hat[i] = (code - 8.0f) * stored;
    }
}

KVS_SIMD static void encode_q8_0(const kvs_block_config *c, float largest, const float *x, float *x_hat,
                                 uint8_t *codes) {
    (void)c, (void)largest;
    float d = kvs_largest(x, CHANNELS) / 127.0f, inverse = d > 0.0f ? 1.0f / d : 0.0f, stored = kvs_round_to_half(d);
#pragma omp simd
    for (int i = 0; i < CHANNELS; i++) {
        float steps = x[i] * inverse, code = copysignf(floorf(fabsf(steps) + 0.5f), steps);
        if (codes != NULL) codes[i] = (uint8_t)(int)code;
        x_hat[i] = code * stored;
    }
}

static kvs_status open_ggml(kvs_scheme *scheme, const kvs_block_config *codec, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window};
    const kvs_map rotate = {.type = &kvs_map_rotate};
    kvs_store *stores[] = {&scheme->k, &scheme->v};
    for (int i = 0; i < 2; i++) {
        KVS_TRY(kvs_block_store(scheme, stores[i], window, codec, error));
        if (c->rotate) KVS_TRY(kvs_transform_store(scheme, stores[i], &rotate, 1, error));
    }
    return KVS_OK;
}

static kvs_status open_q4_0(kvs_scheme *scheme, kvs_error *error) {
    const kvs_block_config codec = {.block = CHANNELS, .bits = 4, .scale_bits = 16, .encode = encode_q4_0};
    return open_ggml(scheme, &codec, error);
}

static kvs_status open_q8_0(kvs_scheme *scheme, kvs_error *error) {
    const kvs_block_config codec = {.block = CHANNELS, .bits = 8, .scale_bits = 16, .encode = encode_q8_0};
    return open_ggml(scheme, &codec, error);
}

const kvs_scheme_type kvs_scheme_q4_0 = {
    .name = "q4_0",
    .summary = "K and V in blocks of 32 channels, 4 bits around a signed largest element",
    .paper = "llama.cpp (ggml), cache type q4_0",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_q4_0,
};

const kvs_scheme_type kvs_scheme_q8_0 = {
    .name = "q8_0",
    .summary = "K and V in blocks of 32 channels, 8 bits, symmetric",
    .paper = "llama.cpp (ggml), cache type q8_0",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_q8_0,
};
