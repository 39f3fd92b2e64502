/* fp4.c: blocks of channels in 4-bit floating point: NVFP4 (16 channels, a scale in e4m3 under one of the tensor) and
 * MXFP4 (32 channels, a scale that is a power of two; OCP Microscaling Formats 1.0).
 *
 *     nvfp4   g = largest of the tensor / (448 * 6), binary32;   s = e4m3(largest of the block / 6 / g) * g
 *     mxfp4   s = 2^(floor(log2(largest of the block)) - 2)
 *     value = e2m1(x / s) * s, saturating at 6 s
 *
 * The tensor's scale is set beforehand; here it is that of the prefix of each head. */
#include "core/simd.h"
#include "kernels/block_codec.h"
#include "kernels/minifloat.h"
#include "kernels/schemes/params.h"

enum { MOST_CHANNELS = 64 };

typedef struct config {
    int block, prefix, sink, window;
} config;

#define BLOCK_PARAM(DEFAULT)                                                                                           \
    {                                                                                                                  \
        "block", KVS_PARAM_INT, offsetof(config, block), DEFAULT, 2, MOST_CHANNELS, "channels",                        \
            "channels that share a scale", NULL                                                                        \
    }

static const kvs_param nv_params[] = {
    BLOCK_PARAM("16"),
    KVS_PREFIX_PARAM(config, "512", "largest element sets the scale"),
    KVS_SINK_PARAM(config, "0"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};
static const kvs_param mx_params[] = {
    BLOCK_PARAM("32"),
    KVS_SINK_PARAM(config, "0"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

KVS_SIMD static void encode_scaled(int count, float scale, const float *x, float *x_hat, uint8_t *codes) {
    kvs_minifloat format = kvs_e2m1;
    float divisor = scale > 0.0f ? scale : INFINITY, values[MOST_CHANNELS];
#pragma omp simd
    for (int i = 0; i < count; i++) values[i] = kvs_minifloat_round(&format, x[i] / divisor);
    for (int i = 0; i < count; i++) x_hat[i] = values[i] * scale;
    for (int i = 0; codes != NULL && i < count; i++) codes[i] = kvs_minifloat_code(&kvs_e2m1, values[i]);
}

static void encode_nv(const kvs_block_config *c, float largest, const float *x, float *x_hat, uint8_t *codes) {
    float global = largest / (kvs_e4m3.largest * kvs_e2m1.largest), most = kvs_largest(x, c->block);
    float scale = global > 0.0f ? kvs_minifloat_round(&kvs_e4m3, most / kvs_e2m1.largest / global) * global : 0.0f;
    encode_scaled(c->block, scale, x, x_hat, codes);
}

static void encode_mx(const kvs_block_config *c, float largest, const float *x, float *x_hat, uint8_t *codes) {
    (void)largest;
    encode_scaled(c->block, 0.25f * kvs_power_below(kvs_largest(x, c->block)), x, x_hat, codes);
}

static kvs_status open_fp4(kvs_scheme *scheme, int fitted, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window};
    if (fitted) window.prefix_tokens = c->prefix;
    kvs_block_config codec = {
        .block = c->block, .bits = 4, .scale_bits = 8, .fitted = fitted, .encode = fitted ? encode_nv : encode_mx};
    KVS_TRY(kvs_block_store(scheme, &scheme->k, window, &codec, error));
    return kvs_block_store(scheme, &scheme->v, window, &codec, error);
}

static kvs_status open_nvfp4(kvs_scheme *scheme, kvs_error *error) {
    return open_fp4(scheme, 1, error);
}

static kvs_status open_mxfp4(kvs_scheme *scheme, kvs_error *error) {
    return open_fp4(scheme, 0, error);
}

const kvs_scheme_type kvs_scheme_nvfp4 = {
    .name = "nvfp4",
    .summary = "K and V in e2m1, a scale in e4m3 for 16 channels of a token",
    .paper = "NVFP4 of NVIDIA Blackwell; the KV caches of TensorRT-LLM, vLLM and FlashInfer",
    .layout = "int",
    .params = nv_params,
    .config_bytes = sizeof(config),
    .open = open_nvfp4,
};

const kvs_scheme_type kvs_scheme_mxfp4 = {
    .name = "mxfp4",
    .summary = "K and V in e2m1, a power of two as scale for 32 channels of a token",
    .paper = "OCP Microscaling Formats 1.0, arXiv 2310.10537",
    .layout = "int",
    .params = mx_params,
    .config_bytes = sizeof(config),
    .open = open_mxfp4,
};
