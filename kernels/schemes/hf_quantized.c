/* hf_quantized.c: the format of Hugging Face's QuantizedCache with its quanto back end: groups of channels of each
 * token, asymmetric, a residual buffer of K and V that is stored when it is full (Transformers, cache_utils.py).
 *
 * When the buffer is full the published code dequantizes everything that is stored and quantizes it again with the
 * buffer, so an old token has been through it once every `residual` tokens. Here a page is stored once; passes=N shows
 * what N times do. */
#include "kernels/affine_codec.h"
#include "kernels/schemes/params.h"

typedef struct config {
    int bits, group, residual, passes, sink, window;
} config;

/* The affine store of one pass, and how often. */
typedef struct repeated {
    kvs_store once;
    int passes;
} repeated;

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "4", 1, 8),
    {"group", KVS_PARAM_INT, offsetof(config, group), "auto", 1, KVS_MAX_HEAD_DIM, "channels",
     "channels of a token that share a scale; auto: 64, or 32 where 64 does not divide head_dim", NULL},
    {"residual", KVS_PARAM_INT, offsetof(config, residual), "128", 1, 4096, "tokens",
     "residual buffer of K and V, stored when full", NULL},
    {"passes", KVS_PARAM_INT, offsetof(config, passes), "1", 1, 64, "",
     "times that a page is quantized: the published code does it again with each new page", NULL},
    KVS_SINK_PARAM(config, "0"),
    KVS_V_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    const repeated *r = store->config;
    for (int pass = 0; pass < r->passes; pass++)
        r->once.codec->pages(&r->once, first, count, pass == 0 ? x : out.x_hat, out, scratch);
}

static size_t scratch_floats(const kvs_store *store) {
    return kvs_store_scratch_floats(&((const repeated *)store->config)->once);
}

static int page_groups(const kvs_store *store) {
    const kvs_store *once = &((const repeated *)store->config)->once;
    return once->codec->page_groups(once);
}

static kvs_bits page_bits(const kvs_store *store) {
    const kvs_store *once = &((const repeated *)store->config)->once;
    return once->codec->page_bits(once);
}

static const kvs_codec repeated_codec = {pages, scratch_floats, page_groups, page_bits};

static kvs_status open_hf_quantized(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = c->residual};
    kvs_affine_config codec = {
        .axis = KVS_AXIS_TOKEN,
        .group = c->group != KVS_PARAM_AUTO_INT ? c->group
                 : scheme->head_dim % 64 == 0   ? 64
                                                : 32,
        .group_param = "group",
        .bits = c->bits,
        .rule = {.rounding = KVS_ROUND_HALF_EVEN, .meta = KVS_META_BINARY16, .divisor = KVS_DIVIDE_BY_STORED},
    };
    kvs_store *stores[] = {&scheme->k, &scheme->v};
    for (int i = 0; i < 2; i++) {
        window.recent_tokens = i == 0 ? 0 : c->window;
        KVS_TRY(kvs_affine_store(scheme, stores[i], window, &codec, error));
        repeated r = {*stores[i], c->passes};
        if (c->passes > 1) KVS_TRY(kvs_store_make(scheme, stores[i], window, &repeated_codec, &r, sizeof r, error));
    }
    return KVS_OK;
}

const kvs_scheme_type kvs_scheme_hf_quantized = {
    .name = "hf-quantized",
    .summary = "K and V per token over groups of channels, a residual buffer at a time",
    .paper = "QuantizedCache of Hugging Face Transformers, quanto back end",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_hf_quantized,
};
