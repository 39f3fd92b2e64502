/* skvq.c: channels of like range together, then groups of channels of each token with a clipped range and scales and
 * minima in fp8 (arXiv 2405.06219).
 *
 * The paper reorders the channels of all heads together and lets a group be what a cluster holds; here each head is
 * reordered by itself, and a group is `group` consecutive channels in the order of the clusters. Order and clusters
 * come from the prefix, where the paper takes a calibration set. With a group of head_dim the order changes nothing. */
#include "kernels/affine_codec.h"
#include "kernels/schemes/params.h"
#include "kernels/transform.h"

enum { AFTER, BEFORE };

typedef struct config {
    int bits, group, sink, window, prefix, rope;
    double clip;
} config;

static const char *const rope_choices[] = {"after", "before", NULL};

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "2", 1, 8),
    KVS_GROUP_PARAM(config, "32"),
    {"clip", KVS_PARAM_REAL, offsetof(config, clip), "0.94", 0.1, 1, "", "factor on the range", NULL},
    {"rope", KVS_PARAM_CHOICE, offsetof(config, rope), "after", 0, 0, "", "keys after or before the rotary embedding",
     rope_choices},
    KVS_PREFIX_PARAM(config, "512", "ranges order the channels"),
    KVS_SINK_PARAM(config, "5"),
    KVS_RECENT_PARAM(config, "128"),
    {.name = NULL},
};

static kvs_status open_skvq(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {
        .sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->window, .prefix_tokens = c->prefix};
    kvs_affine_config codec = {
        .axis = KVS_AXIS_TOKEN,
        .group = c->group > 0 ? c->group : scheme->head_dim,
        .group_param = "group",
        .bits = c->bits,
        .rule = {.rounding = KVS_ROUND_HALF_EVEN, .meta = KVS_META_BINARY32, .scale_floor = 1e-5f},
        .clip = (float)c->clip,
        .meta = &kvs_e4m3,
    };
    const kvs_map maps[] = {{.type = &kvs_map_unturn}, {.type = &kvs_map_cluster, .count = codec.group}};
    KVS_TRY(kvs_affine_store(scheme, &scheme->k, window, &codec, error));
    KVS_TRY(kvs_affine_store(scheme, &scheme->v, window, &codec, error));
    KVS_TRY(
        kvs_transform_store(scheme, &scheme->k, c->rope == BEFORE ? maps : maps + 1, c->rope == BEFORE ? 2 : 1, error));
    KVS_TRY(kvs_transform_store(scheme, &scheme->v, maps + 1, 1, error));
    scheme->k.head_bits = scheme->v.head_bits = 16.0 * scheme->head_dim; /* the order */
    return KVS_OK;
}

const kvs_scheme_type kvs_scheme_skvq = {
    .name = "skvq",
    .summary = "channels ordered by range, groups of them per token, clipped, scales and minima in fp8",
    .paper = "SKVQ, arXiv 2405.06219",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_skvq,
};
