/* quarot.c: a Hadamard rotation of every head, then each token by itself (arXiv 2404.00456).
 *
 * The query is rotated as the key is, so logits are unchanged; V's rotation folds into the weights on both sides. The
 * range is clipped and made to hold 0, the zero point is a whole number: as the published quantizer has it. */
#include "kernels/schemes/params.h"
#include "kernels/transform.h"
#include "kernels/zero_point.h"

typedef struct config {
    int bits, group, sink, window;
    double clip;
} config;

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "4", 1, 8),
    KVS_GROUP_PARAM(config, "0"),
    {"clip", KVS_PARAM_REAL, offsetof(config, clip), "0.95", 0.1, 1, "", "factor on the range", NULL},
    KVS_SINK_PARAM(config, "0"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

static kvs_status open_quarot(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window};
    kvs_zero_point_config codec = {
        .group = c->group, .levels = (1 << c->bits) - 1, .whole = 1, .through_zero = 1, .clip = c->clip};
    const kvs_map rotate = {.type = &kvs_map_rotate};
    kvs_store *stores[] = {&scheme->k, &scheme->v};
    for (int i = 0; i < 2; i++) {
        KVS_TRY(kvs_zero_point_store(scheme, stores[i], window, &codec, error));
        KVS_TRY(kvs_transform_store(scheme, stores[i], &rotate, 1, error));
    }
    return KVS_OK;
}

const kvs_scheme_type kvs_scheme_quarot = {
    .name = "quarot",
    .summary = "K and V rotated by a Hadamard matrix, then per token with a clipped range",
    .paper = "QuaRot, arXiv 2404.00456",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_quarot,
};
