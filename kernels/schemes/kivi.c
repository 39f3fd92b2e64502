/* kivi.c: K per channel over groups of tokens, V per token over groups of channels (arXiv 2402.02750).
 *
 * K waits in a residual buffer until it holds `residual` tokens, then all of them are quantized; of V exactly the last
 * `residual` tokens stay in full precision. */
#include "kernels/affine_codec.h"

typedef struct config {
    int bits, k_bits, v_bits, group, residual, sink;
    kvs_numerics numerics;
} config;

static const kvs_param params[] = {
    {"bits", KVS_PARAM_INT, offsetof(config, bits), "2", 1, 8, "bits", "width of a code", NULL},
    {"k_bits", KVS_PARAM_INT, offsetof(config, k_bits), "auto", 1, 8, "bits", "the same for K alone; auto: bits", NULL},
    {"v_bits", KVS_PARAM_INT, offsetof(config, v_bits), "auto", 1, 8, "bits", "the same for V alone; auto: bits", NULL},
    {"group", KVS_PARAM_INT, offsetof(config, group), "32", 1, 4096, "elements",
     "tokens of K, channels of V that share a scale", NULL},
    {"residual", KVS_PARAM_INT, offsetof(config, residual), "128", 1, 4096, "tokens",
     "residual buffer of K, recent window of V; a multiple of group", NULL},
    {"sink", KVS_PARAM_INT, offsetof(config, sink), "0", 0, 1000000, "tokens", "first tokens kept in full precision",
     NULL},
    KVS_NUMERICS_PARAMS(config, , "even", "fp16", "stored", "0", "0"),
    {.name = NULL},
};

static kvs_status open_kivi(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    if (c->residual % c->group != 0)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "residual", "%d tokens are not a multiple of group %d",
                        c->residual, c->group);
    kvs_affine_config codec = {
        .axis = KVS_AXIS_CHANNEL,
        .group = c->group,
        .group_param = "group",
        .bits = c->k_bits != KVS_PARAM_AUTO_INT ? c->k_bits : c->bits,
        .rule = kvs_numerics_rule(&c->numerics, &(kvs_affine_rule){0}),
    };
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = c->residual};
    KVS_TRY(kvs_affine_store(scheme, &scheme->k, window, &codec, error));
    codec.axis = KVS_AXIS_TOKEN;
    codec.bits = c->v_bits != KVS_PARAM_AUTO_INT ? c->v_bits : c->bits;
    window = (kvs_window){.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->residual};
    return kvs_affine_store(scheme, &scheme->v, window, &codec, error);
}

const kvs_scheme_type kvs_scheme_kivi = {
    .name = "kivi",
    .summary = "K per channel over groups of tokens, V per token over groups of channels",
    .paper = "KIVI, arXiv 2402.02750",
    .layout = "kivi",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_kivi,
};
