/* qserve.c: the KV4 of QServe: keys smoothed, then each token by itself with a zero point that is not rounded to a
 * whole number (arXiv 2405.04532).
 *
 * SmoothAttention divides channel d by max(|k_d|, |k_{d + D/2}|)^alpha, which folds into the projections of query and
 * key; the paper takes the maxima from a calibration set, here they come from the prefix. alpha=0 leaves it out. */
#include "kernels/schemes/params.h"
#include "kernels/transform.h"
#include "kernels/zero_point.h"

typedef struct config {
    int bits, sink, window, prefix;
    double alpha;
} config;

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "4", 1, 8),
    {"alpha", KVS_PARAM_REAL, offsetof(config, alpha), "0.5", 0, 1, "", "exponent of SmoothAttention; 0: none", NULL},
    KVS_PREFIX_PARAM(config, "512", "largest keys smooth the channels"),
    KVS_SINK_PARAM(config, "0"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

static kvs_status open_qserve(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window};
    kvs_zero_point_config codec = {.levels = (1 << c->bits) - 1, .clip = 1.0};
    KVS_TRY(kvs_zero_point_store(scheme, &scheme->v, window, &codec, error));
    if (c->alpha > 0.0) window.prefix_tokens = c->prefix;
    KVS_TRY(kvs_zero_point_store(scheme, &scheme->k, window, &codec, error));
    const kvs_map smooth = {.type = &kvs_map_smooth, .strength = c->alpha};
    return c->alpha > 0.0 ? kvs_transform_store(scheme, &scheme->k, &smooth, 1, error) : KVS_OK;
}

const kvs_scheme_type kvs_scheme_qserve = {
    .name = "qserve",
    .summary = "K smoothed, K and V per token, asymmetric with a binary16 zero point",
    .paper = "QServe, arXiv 2405.04532",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_qserve,
};
