/* int.c: every token and KV head by itself, asymmetric: the integer cache of QServe, QuaRot, TurboMind and others. */
#include "kernels/affine_codec.h"

typedef struct config {
    int bits, group, sink, window;
    kvs_numerics numerics;
} config;

static const kvs_param params[] = {
    {"bits", KVS_PARAM_INT, offsetof(config, bits), "4", 1, 8, "bits", "width of a code", NULL},
    {"group", KVS_PARAM_INT, offsetof(config, group), "0", 0, KVS_MAX_HEAD_DIM, "channels",
     "channels that share a scale; 0: head_dim", NULL},
    {"sink", KVS_PARAM_INT, offsetof(config, sink), "0", 0, 1000000, "tokens", "first tokens kept in full precision",
     NULL},
    {"window", KVS_PARAM_INT, offsetof(config, window), "0", 0, 1000000, "tokens", "last tokens kept in full precision",
     NULL},
    KVS_NUMERICS_PARAMS(config, , "even", "fp16", "stored", "0", "0"),
    {.name = NULL},
};

static kvs_status open_int(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window};
    kvs_affine_config codec = {
        .axis = KVS_AXIS_TOKEN,
        .group = c->group > 0 ? c->group : scheme->head_dim,
        .group_param = "group",
        .bits = c->bits,
        .rule = kvs_numerics_rule(&c->numerics, &(kvs_affine_rule){0}),
    };
    KVS_TRY(kvs_affine_store(scheme, &scheme->k, window, &codec, error));
    return kvs_affine_store(scheme, &scheme->v, window, &codec, error);
}

const kvs_scheme_type kvs_scheme_int = {
    .name = "int",
    .summary = "K and V per token and KV head, asymmetric integers",
    .paper = "the KV4 of QServe, arXiv 2405.04532, and QuaRot, arXiv 2404.00456",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_int,
};
