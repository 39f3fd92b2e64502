/* turboquant.c: the length of a token in binary16, its direction rotated by chance and each coordinate stored as the
 * nearest level of a Lloyd-Max codebook (arXiv 2504.19874).
 *
 * The rotation is a Hadamard matrix after random signs, where the paper draws any rotation. variant=paper: the codebook
 * is that of a coordinate of a random direction in head_dim dimensions, K and V alike (TurboQuant for squared error).
 * variant=vllm: the codebook of a normal variable for K, V uniform and asymmetric per token, slots of even bytes. */
#include <math.h>

#include "core/half.h"
#include "core/simd.h"
#include "kernels/affine_codec.h"
#include "kernels/lloyd_max.h"
#include "kernels/schemes/params.h"
#include "kernels/transform.h"

enum { PAPER, VLLM };
enum { MOST_LEVELS = 1 << KVS_LLOYD_MAX_BITS };

typedef struct config {
    int k_bits, v_bits, variant, sink, window;
} config;

static const char *const variant_choices[] = {"paper", "vllm", NULL};

static const kvs_param params[] = {
    {"k_bits", KVS_PARAM_INT, offsetof(config, k_bits), "4", 1, KVS_LLOYD_MAX_BITS, "bits", "width of a K code", NULL},
    {"v_bits", KVS_PARAM_INT, offsetof(config, v_bits), "4", 1, KVS_LLOYD_MAX_BITS, "bits", "width of a V code", NULL},
    {"variant", KVS_PARAM_CHOICE, offsetof(config, variant), "paper", 0, 0, "",
     "codebooks for K and V; or for K alone, V uniform", variant_choices},
    KVS_SINK_PARAM(config, "0"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

/* Levels for a vector of length sqrt(head_dim). */
typedef struct codebook {
    int bits, count;
    float levels[MOST_LEVELS], borders[MOST_LEVELS - 1];
} codebook;

KVS_SIMD static void encode(const codebook *c, int head_dim, const float *x, float *x_hat, uint8_t *codes,
                            float *ranks) {
    double energy = 0.0;
#pragma omp simd reduction(+ : energy)
    for (int d = 0; d < head_dim; d++) energy += (double)x[d] * (double)x[d];
    float length = (float)sqrt(energy), root = (float)sqrt(head_dim), rank_unit = length > 0.0f ? root / length : 0.0f;
    float stored = fminf(kvs_round_to_half(length), KVS_HALF_MAX), unit = stored / root;
    for (int d = 0; d < head_dim; d++) ranks[d] = 0.0f;
    for (int b = 0; b < c->count - 1; b++) {
        float border = c->borders[b];
#pragma omp simd
        for (int d = 0; d < head_dim; d++) ranks[d] += x[d] * rank_unit > border ? 1.0f : 0.0f;
    }
    for (int d = 0; d < head_dim; d++) {
        int code = (int)ranks[d];
        if (codes != NULL) codes[d] = (uint8_t)code;
        x_hat[d] = c->levels[code] * unit;
    }
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    (void)first;
    int64_t head_dim = store->head_dim, tokens = count * store->window.page_tokens;
    for (int64_t t = 0; t < tokens; t++)
        encode(store->config, store->head_dim, x + t * head_dim, out.x_hat + t * head_dim,
               out.codes != NULL ? out.codes + t * head_dim : NULL, scratch);
}

static size_t scratch_floats(const kvs_store *store) {
    return (size_t)store->head_dim;
}

/* A code a channel and the length; a row fills whole bytes. */
static kvs_bits page_bits(const kvs_store *store) {
    int row = store->head_dim * ((const codebook *)store->config)->bits;
    double tokens = store->window.page_tokens;
    return (kvs_bits){
        .payload = tokens * row, .metadata = tokens * 16.0, .padding = tokens * ((row + 7) / 8 * 8 - row)};
}

static const kvs_codec codec = {pages, scratch_floats, NULL, page_bits};

static kvs_status open_store(kvs_scheme *scheme, kvs_store *store, kvs_window window, int bits, int normal,
                             kvs_error *error) {
    codebook c = {.bits = bits, .count = 1 << bits};
    double levels[MOST_LEVELS];
    if (normal)
        kvs_lloyd_max_normal(bits, levels);
    else
        kvs_lloyd_max_sphere(scheme->head_dim, bits, levels);
    for (int i = 0; i < c.count; i++) c.levels[i] = (float)levels[i];
    for (int i = 0; i + 1 < c.count; i++) c.borders[i] = (float)(0.5 * (levels[i] + levels[i + 1]));
    const kvs_map rotate = {.type = &kvs_map_rotate, .count = 1};
    KVS_TRY(kvs_store_make(scheme, store, window, &codec, &c, sizeof c, error));
    return kvs_transform_store(scheme, store, &rotate, 1, error);
}

static kvs_status open_turboquant(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window};
    if (scheme->head_dim < 4)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "head_dim", "%d is below 4", scheme->head_dim);
    KVS_TRY(open_store(scheme, &scheme->k, window, c->k_bits, c->variant == VLLM, error));
    if (c->variant == PAPER) return open_store(scheme, &scheme->v, window, c->v_bits, 0, error);
    kvs_affine_config uniform = {
        .axis = KVS_AXIS_TOKEN, .group = scheme->head_dim, .group_param = "head_dim", .bits = c->v_bits};
    uniform.rule = (kvs_affine_rule){.rounding = KVS_ROUND_HALF_EVEN, .divisor = KVS_DIVIDE_BY_STORED};
    return kvs_affine_store(scheme, &scheme->v, window, &uniform, error);
}

const kvs_scheme_type kvs_scheme_turboquant = {
    .name = "turboquant",
    .summary = "the length of a token, and its rotated direction in a Lloyd-Max codebook",
    .paper = "TurboQuant, arXiv 2504.19874",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_turboquant,
};
