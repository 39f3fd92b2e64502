#include "sim/device_store.h"

#include <stdio.h>
#include <string.h>

#include "kernels/affine_codec.h"

enum { VALUE_PAGE = 32 }; /* tokens of a page of the kernels where scales are per token, and pages mean nothing */

static const struct {
    const char *name;
    kvs_metric metric;
} metrics[] = {
    {"magnitude", KVS_METRIC_MAGNITUDE},
    {"variance", KVS_METRIC_VARIANCE},
    {"range", KVS_METRIC_RANGE},
    {"random", KVS_METRIC_RANDOM},
};

static kvs_status find_metric(const char *spec, const kvs_ranking *ranking, kvs_metric *metric, kvs_error *error) {
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        if (strcmp(metrics[i].name, ranking->name) == 0) {
            *metric = metrics[i].metric;
            return KVS_OK;
        }
    return kvs_fail(error, KVS_USAGE, spec, "rank",
                    "no kernel ranks by %s; magnitude, variance, range and random have one, and --backend cpu has all",
                    ranking->name);
}

static kvs_status fill_keys(const char *spec, const kvs_affine_config *config, const kvs_store *store,
                            kvs_page_shape *shape, kvs_device_store *device, kvs_error *error) {
    int some = config->boost_count > 0 && config->boost_count < store->head_dim &&
               config->boost_bits != config->bits; /* otherwise groups are pages of their own */
    shape->page_tokens = some ? store->window.page_tokens : config->group;
    shape->key_group = config->group;
    shape->bits = config->boost_count == store->head_dim ? config->boost_bits : config->bits;
    shape->boost_bits = some ? config->boost_bits : shape->bits;
    shape->boost_channels = some ? config->boost_count : 0;
    return some ? find_metric(spec, config->ranking, &device->metric, error) : KVS_OK;
}

static void fill_values(const kvs_affine_config *config, kvs_page_shape *shape, kvs_device_store *device) {
    device->values = 1;
    shape->page_tokens = VALUE_PAGE;
    shape->value_bits = config->bits;
    shape->value_group = config->group;
}

kvs_status kvs_device_store_of(const kvs_scheme *scheme, const char *tensor, const kvs_store *store,
                               kvs_device_store *device, kvs_error *error) {
    const kvs_affine_config *config = kvs_affine_config_of(store);
    *device = (kvs_device_store){.store = store, .full = store->codec == NULL};
    if (device->full) return KVS_OK;
    if (config == NULL)
        return kvs_fail(error, KVS_USAGE, scheme->spec, tensor, "no kernel has this codec; use --backend cpu");
    if (config->rule.meta != KVS_META_BINARY16)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "meta",
                        "the kernels store scales and zeros as binary16; use --backend cpu for fp32");
    device->rule = config->rule;
    kvs_page_shape shape = {.head_dim = store->head_dim, .kv_heads = 1, .bits = 2, .boost_bits = 2, .value_bits = 2};
    if (config->axis == KVS_AXIS_TOKEN)
        fill_values(config, &shape, device);
    else
        KVS_TRY(fill_keys(scheme->spec, config, store, &shape, device, error));
    kvs_error inner;
    kvs_status status = kvs_format_make(kvs_layout_find("kitty"), &shape, &device->format, &inner);
    if (status == KVS_OK) return KVS_OK;
    return kvs_fail(error, status, scheme->spec, tensor, "no kernel stores it: %s: %s; use --backend cpu", inner.object,
                    inner.rule);
}

int64_t kvs_device_store_blocks(const kvs_device_store *device, int64_t tokens) {
    if (device->full || tokens <= 0) return 0;
    return (tokens + device->format.shape.page_tokens - 1) / device->format.shape.page_tokens;
}

kvs_status kvs_device_store_pack(const kvs_executor *executor, const kvs_device_store *device, const uint16_t *x,
                                 int64_t tokens, const kvs_device_pages *pages, void *stream, kvs_error *error) {
    kvs_quantize_args args = {.format = device->format,
                              .rule = device->rule,
                              .metric = device->metric,
                              .pages = kvs_device_store_blocks(device, tokens),
                              .x = x,
                              .places = pages->places,
                              .tensors = {pages->tensors[0], pages->tensors[1]}};
    return kvs_executor_quantize(executor, device->values, &args, stream, error);
}
