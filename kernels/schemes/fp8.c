/* fp8.c: K and V in 8-bit floating point, as vLLM, TensorRT-LLM and FlashInfer keep them: one scale a tensor, or one a
 * token and head (OFP8 1.0; Micikevicius et al., arXiv 2209.05433).
 *
 *     scale = largest / 448 (e4m3) or / 57344 (e5m2), binary32;  value = round(x / scale) * scale, saturating
 *
 * The scale of a tensor is set beforehand; here it is that of the prefix of each head, and what is larger later
 * saturates. scale=one is the engines' default without calibration. */
#include "core/simd.h"
#include "kernels/block_codec.h"
#include "kernels/minifloat.h"
#include "kernels/schemes/params.h"

enum { TENSOR, TOKEN, ONE };

typedef struct config {
    int format, scale, prefix, sink, window;
} config;

static const char *const format_choices[] = {"e4m3", "e5m2", NULL};
static const char *const scale_choices[] = {"tensor", "token", "one", NULL};

static const kvs_param params[] = {
    {"format", KVS_PARAM_CHOICE, offsetof(config, format), "e4m3", 0, 0, "", "of an element", format_choices},
    {"scale", KVS_PARAM_CHOICE, offsetof(config, scale), "tensor", 0, 0, "",
     "one a head of K and of V, one a token and head, or always 1", scale_choices},
    KVS_PREFIX_PARAM(config, "512", "largest element sets scale=tensor"),
    KVS_SINK_PARAM(config, "0"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

KVS_SIMD static void encode_scaled(const kvs_minifloat *format, int count, float scale, const float *x, float *x_hat) {
    kvs_minifloat f = *format;
    float divisor = scale > 0.0f ? scale : INFINITY;
#pragma omp simd
    for (int i = 0; i < count; i++) x_hat[i] = kvs_minifloat_round(&f, x[i] / divisor);
}

/* x_hat holds values of the format. */
static void finish(const kvs_block_config *c, float scale, float *x_hat, uint8_t *codes) {
    for (int i = 0; codes != NULL && i < c->block; i++) codes[i] = kvs_minifloat_code(c->format, x_hat[i]);
    for (int i = 0; i < c->block; i++) x_hat[i] *= scale;
}

static void encode_tensor(const kvs_block_config *c, float largest, const float *x, float *x_hat, uint8_t *codes) {
    const kvs_minifloat *format = c->format;
    float scale = c->fitted ? largest / format->largest : 1.0f;
    encode_scaled(format, c->block, scale, x, x_hat);
    finish(c, scale, x_hat, codes);
}

static void encode_token(const kvs_block_config *c, float largest, const float *x, float *x_hat, uint8_t *codes) {
    (void)largest;
    const kvs_minifloat *format = c->format;
    float scale = kvs_largest(x, c->block) / format->largest;
    encode_scaled(format, c->block, scale, x, x_hat);
    finish(c, scale, x_hat, codes);
}

static kvs_status open_fp8(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window};
    if (c->scale == TENSOR) window.prefix_tokens = c->prefix;
    kvs_block_config codec = {
        .block = scheme->head_dim,
        .bits = 8,
        .scale_bits = c->scale == TOKEN ? 32 : 0,
        .fitted = c->scale == TENSOR,
        .format = c->format == 0 ? &kvs_e4m3 : &kvs_e5m2,
        .encode = c->scale == TOKEN ? encode_token : encode_tensor,
    };
    KVS_TRY(kvs_block_store(scheme, &scheme->k, window, &codec, error));
    return kvs_block_store(scheme, &scheme->v, window, &codec, error);
}

const kvs_scheme_type kvs_scheme_fp8 = {
    .name = "fp8",
    .summary = "K and V in e4m3 or e5m2, a scale a tensor or a token and head",
    .paper = "FP8 formats, arXiv 2209.05433; the KV caches of vLLM and TensorRT-LLM",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_fp8,
};
