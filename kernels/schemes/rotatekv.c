/* rotatekv.c: keys before the rotary embedding, channels in the order of their magnitude, a Hadamard rotation, then
 * each token by itself (arXiv 2501.16383).
 *
 * The paper rotates groups of heads together and finds the tokens to protect by massive activations; here a head is
 * rotated by itself and the first `sink` tokens are protected. The order comes from the prefix, where the paper takes a
 * calibration set. The published code has bits^2 - 1 levels instead of 2^bits - 1 (the same for 2 bits, one more than 3
 * bits hold): variant=code. */
#include "kernels/schemes/params.h"
#include "kernels/transform.h"
#include "kernels/zero_point.h"

enum { FORMULA, CODE };

typedef struct config {
    int bits, group, sink, window, prefix, variant;
    double clip;
} config;

static const char *const variant_choices[] = {"formula", "code", NULL};

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "2", 2, 8),
    KVS_GROUP_PARAM(config, "0"),
    {"clip", KVS_PARAM_REAL, offsetof(config, clip), "0.95", 0.1, 1, "", "factor on the range", NULL},
    KVS_PREFIX_PARAM(config, "512", "magnitudes order the channels"),
    {"variant", KVS_PARAM_CHOICE, offsetof(config, variant), "formula", 0, 0, "",
     "levels: 2^bits - 1, or bits^2 - 1 as the published code has it", variant_choices},
    KVS_SINK_PARAM(config, "4"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

static kvs_status open_rotatekv(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {
        .sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window, .prefix_tokens = c->prefix};
    kvs_zero_point_config codec = {
        .group = c->group,
        .levels = c->variant == CODE ? c->bits * c->bits - 1 : (1 << c->bits) - 1,
        .whole = 1,
        .clip = c->clip,
    };
    const kvs_map maps[] = {{.type = &kvs_map_unturn}, {.type = &kvs_map_sort}, {.type = &kvs_map_rotate}};
    KVS_TRY(kvs_zero_point_store(scheme, &scheme->k, window, &codec, error));
    KVS_TRY(kvs_transform_store(scheme, &scheme->k, maps, 3, error));
    KVS_TRY(kvs_zero_point_store(scheme, &scheme->v, window, &codec, error));
    KVS_TRY(kvs_transform_store(scheme, &scheme->v, maps + 1, 2, error));
    scheme->k.head_bits = scheme->v.head_bits = 16.0 * scheme->head_dim; /* the order */
    return KVS_OK;
}

const kvs_scheme_type kvs_scheme_rotatekv = {
    .name = "rotatekv",
    .summary = "K before the rotary embedding, K and V sorted and rotated, then per token with a clipped range",
    .paper = "RotateKV, arXiv 2501.16383",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_rotatekv,
};
