/* polarquant.c: channel pairs of keys as radius and angle, each quantized over the tokens of a page (arXiv 2502.00527).
 *
 *     radius, angle = |(a, b)|, atan2(b, a) in [0, 2 pi)   of the pair that the rotary embedding turns
 *     scale = (max - min) / 2^bits over the page;  code = min(floor((y - min) / scale), 2^bits - 1)
 *     value = min + (code + 1/2) scale
 *
 * The paper quantizes keys; V is per token here, or in full precision with v_bits=0. A constant pair, whose scale is 0,
 * has codes 0. */
#include <math.h>

#include "core/half.h"
#include "kernels/affine_codec.h"
#include "kernels/schemes/params.h"

typedef struct config {
    int radius_bits, angle_bits, v_bits, page, sink, window;
} config;

static const kvs_param params[] = {
    {"radius_bits", KVS_PARAM_INT, offsetof(config, radius_bits), "4", 1, 7, "bits", "of a radius", NULL},
    {"angle_bits", KVS_PARAM_INT, offsetof(config, angle_bits), "4", 1, 7, "bits", "of an angle", NULL},
    {"v_bits", KVS_PARAM_INT, offsetof(config, v_bits), "4", 0, 8, "bits", "of a V code; 0: full precision", NULL},
    {"page", KVS_PARAM_INT, offsetof(config, page), "128", 1, 4096, "tokens", "tokens of K that share a scale", NULL},
    KVS_SINK_PARAM(config, "0"),
    KVS_V_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

/* y [tokens] of one pair becomes what its codes stand for; codes (may be NULL) are `step` apart. */
static void quantize(int bits, int tokens, float *y, uint8_t *codes, int step) {
    float low = y[0], high = y[0], most = (float)((1 << bits) - 1);
    for (int t = 1; t < tokens; t++) low = fminf(low, y[t]), high = fmaxf(high, y[t]);
    float scale = (high - low) / (most + 1.0f), stored = kvs_round_to_half(scale), zero = kvs_round_to_half(low);
    stored = fminf(stored, KVS_HALF_MAX), zero = fminf(zero, KVS_HALF_MAX);
    float divisor = scale > 0.0f ? scale : INFINITY;
    for (int t = 0; t < tokens; t++) {
        float code = fminf(floorf((y[t] - low) / divisor), most);
        if (codes != NULL) codes[t * step] = (uint8_t)(int)code;
        y[t] = zero + (code + 0.5f) * stored;
    }
}

/* The codes of a pair stand at its two channels: that of the radius, that of the angle. */
static void encode_pair(const config *c, int head_dim, const float *x, float *x_hat, uint8_t *codes, int a, int b,
                        float *radius, float *angle) {
    for (int t = 0; t < c->page; t++) {
        float u = x[t * head_dim + a], v = x[t * head_dim + b];
        radius[t] = sqrtf(u * u + v * v);
        angle[t] = atan2f(v, u);
        if (angle[t] < 0.0f) angle[t] += (float)(2.0 * M_PI);
    }
    quantize(c->radius_bits, c->page, radius, codes != NULL ? codes + a : NULL, head_dim);
    quantize(c->angle_bits, c->page, angle, codes != NULL ? codes + b : NULL, head_dim);
    for (int t = 0; t < c->page; t++) {
        x_hat[t * head_dim + a] = radius[t] * cosf(angle[t]);
        x_hat[t * head_dim + b] = radius[t] * sinf(angle[t]);
    }
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    const config *c = store->config;
    int head_dim = store->head_dim, half = head_dim / 2;
    size_t elements = (size_t)c->page * (size_t)head_dim;
    for (int64_t p = 0; p < count; p++)
        for (int i = 0; i < half; i++) {
            int a = first->rope.interleaved ? 2 * i : i, b = first->rope.interleaved ? a + 1 : i + half;
            size_t at = (size_t)p * elements;
            encode_pair(c, head_dim, x + at, out.x_hat + at, out.codes != NULL ? out.codes + at : NULL, a, b, scratch,
                        scratch + c->page);
        }
}

static size_t scratch_floats(const kvs_store *store) {
    return 2 * (size_t)store->window.page_tokens;
}

/* Of each pair over the page: a row of radii and one of angles, a scale and a minimum of both. */
static kvs_bits page_bits(const kvs_store *store) {
    const config *c = store->config;
    double pairs = store->head_dim / 2.0;
    int radii = c->page * c->radius_bits, angles = c->page * c->angle_bits;
    return (kvs_bits){
        .payload = pairs * (radii + angles),
        .metadata = pairs * 4.0 * 16.0,
        .padding = pairs * ((radii + 7) / 8 * 8 - radii + (angles + 7) / 8 * 8 - angles),
    };
}

static const kvs_codec codec = {pages, scratch_floats, NULL, page_bits};

static kvs_status open_polarquant(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    if (scheme->head_dim % 2 != 0)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "head_dim", "%d is odd: pairs do not cover it",
                        scheme->head_dim);
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = c->page};
    KVS_TRY(kvs_store_make(scheme, &scheme->k, window, &codec, c, sizeof *c, error));
    if (c->v_bits == 0) {
        scheme->v = (kvs_store){.window = KVS_NEVER_STORED, .head_dim = scheme->head_dim};
        return KVS_OK;
    }
    window.page_tokens = 1;
    window.recent_tokens = c->window;
    kvs_affine_config uniform = {
        .axis = KVS_AXIS_TOKEN, .group = scheme->head_dim, .group_param = "head_dim", .bits = c->v_bits};
    uniform.rule = (kvs_affine_rule){.rounding = KVS_ROUND_HALF_EVEN, .divisor = KVS_DIVIDE_BY_STORED};
    return kvs_affine_store(scheme, &scheme->v, window, &uniform, error);
}

const kvs_scheme_type kvs_scheme_polarquant = {
    .name = "polarquant",
    .summary = "K pairs as radius and angle over the tokens of a page, V per token",
    .paper = "PolarQuant, arXiv 2502.00527",
    .layout = "kivi",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_polarquant,
};
