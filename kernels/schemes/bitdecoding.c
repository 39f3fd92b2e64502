/* bitdecoding.c: the formats KC (keys per channel over 128 tokens) and KT (keys per token) of BitDecoding, V per token
 * (arXiv 2503.18773).
 *
 * K and V leave full precision together, a block at a time: 128 tokens with 4 bits, 256 with 2. Codes are rounded half
 * away from zero, scale and minimum share one 32-bit word. */
#include "kernels/affine_codec.h"
#include "kernels/schemes/params.h"

enum { KC, KT };
enum { KEY_GROUP = 128 };

typedef struct config {
    int bits, format, residual, sink, window;
} config;

static const char *const format_choices[] = {"kc", "kt", NULL};

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "4", 2, 4),
    {"format", KVS_PARAM_CHOICE, offsetof(config, format), "kc", 0, 0, "", "keys per channel or per token",
     format_choices},
    {"residual", KVS_PARAM_INT, offsetof(config, residual), "auto", KEY_GROUP, 4096, "tokens",
     "block in full precision, a multiple of 128; auto: 512 / bits", NULL},
    KVS_SINK_PARAM(config, "0"),
    KVS_V_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

static kvs_status open_bitdecoding(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    if (c->bits == 3) return kvs_fail(error, KVS_USAGE, scheme->spec, "bits", "3 is neither 2 nor 4");
    kvs_window window = {.sink_tokens = c->sink,
                         .page_tokens = c->residual != KVS_PARAM_AUTO_INT ? c->residual : 512 / c->bits};
    kvs_affine_config codec = {
        .axis = KVS_AXIS_TOKEN,
        .group = scheme->head_dim,
        .group_param = "head_dim",
        .bits = c->bits,
        .rule = {.rounding = KVS_ROUND_HALF_UP, .meta = KVS_META_BINARY16},
    };
    kvs_window v_window = window;
    v_window.recent_tokens = c->window;
    KVS_TRY(kvs_affine_store(scheme, &scheme->v, v_window, &codec, error));
    if (c->format == KC) {
        codec.axis = KVS_AXIS_CHANNEL;
        codec.group = KEY_GROUP;
        codec.group_param = "residual";
    }
    return kvs_affine_store(scheme, &scheme->k, window, &codec, error);
}

const kvs_scheme_type kvs_scheme_bitdecoding = {
    .name = "bitdecoding",
    .summary = "K per channel (KC) or per token (KT), V per token, a block of 128 or 256 tokens at a time",
    .paper = "BitDecoding, arXiv 2503.18773",
    .layout = "kivi",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_bitdecoding,
};
