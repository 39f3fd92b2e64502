#include "sim/commands/engine_settings.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"

kvs_status kvs_choose(const char *option, const char *text, const char *const *words, int *index, kvs_error *error) {
    char list[128] = "";
    for (*index = 0; words[*index] != NULL; ++*index) {
        if (strcmp(words[*index], text) == 0) return KVS_OK;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", words[*index]);
    }
    return kvs_fail(error, KVS_USAGE, option, NULL, "'%s' is none of %s", text, list);
}

kvs_status kvs_engine_setup_get(const kvs_engine_settings *s, kvs_engine_setup *setup, kvs_error *error) {
    static const char *const orders[] = {"v019", "may2026", NULL};
    int order;
    *setup = (kvs_engine_setup){0};
    KVS_TRY(kvs_choose("--free-order", s->free_order, orders, &order, error));
    setup->order = (kvs_free_order)order;
    KVS_TRY(kvs_model_shape_get(s->model_shape, &setup->shape, error));
    KVS_TRY(kvs_device_get(s->device, &setup->device, error));
    setup->cache_bytes = setup->device.memory_bytes * s->utilization - kvs_weight_bytes(&setup->shape);
    return KVS_OK;
}

kvs_status kvs_engine_setup_memory(const kvs_engine_setup *setup, const kvs_engine_settings *s, kvs_error *error) {
    if (setup->cache_bytes > 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, setup->device.name, setup->shape.name,
                    "the weights take %.1f GB, more than %.2f of the device's %.1f GB: nothing is left for the cache",
                    kvs_weight_bytes(&setup->shape) / 1e9, s->utilization, setup->device.memory_bytes / 1e9);
}

int kvs_engine_page_tokens(const kvs_engine_settings *s) {
    return (int)(s->page_tokens > 0 ? s->page_tokens : s->block_tokens);
}

kvs_engine_options kvs_engine_settings_options(const kvs_engine_settings *s) {
    return (kvs_engine_options){.max_batched_tokens = s->max_batched_tokens,
                                .max_seqs = s->max_seqs,
                                .reserve_full_input = s->reserve,
                                .skip_bad = s->skip_bad,
                                .check = s->check,
                                .max_samples = 2048};
}

static int same_scheme(const char *name, size_t length, const char *scheme) {
    return strlen(scheme) == length ? strncmp(name, scheme, length) == 0
                                    : strcspn(scheme, ":") == length && strncmp(name, scheme, length) == 0;
}

/* "0.7" or "kitty=0.35": a later one wins, one for the scheme wins over one for all. */
static kvs_status stated_efficiency(const kvs_texts *list, const char *scheme, double *efficiency, int *stated,
                                    kvs_error *error) {
    int own = 0;
    *stated = 0;
    for (int i = 0; i < list->count; i++) {
        const char *text = list->texts[i], *equals = strrchr(text, '=');
        double value;
        if (kvs_parse_real(equals != NULL ? equals + 1 : text, &value) || !(value > 0 && value <= 1))
            return kvs_fail(error, KVS_USAGE, "--kv-efficiency", text, "is no number above 0 and at most 1");
        int for_this = equals != NULL && same_scheme(text, (size_t)(equals - text), scheme);
        if (equals != NULL ? !for_this : own) continue;
        *efficiency = value;
        *stated = 1;
        own |= for_this;
    }
    return KVS_OK;
}

static kvs_status read_document(const char *path, cJSON **root, kvs_error *error) {
    enum { LIMIT = 16 << 20 };
    FILE *file = fopen(path, "rb");
    if (file == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    char *text = malloc(LIMIT + 1);
    size_t bytes = text != NULL ? fread(text, 1, LIMIT, file) : 0;
    fclose(file);
    if (text != NULL) text[bytes] = '\0';
    *root = text != NULL ? cJSON_ParseWithOpts(text, NULL, 1) : NULL;
    free(text);
    return *root != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, path, NULL, "is not valid JSON of at most 16 MiB");
}

/* Whether a row of `kvscope bench --backend cuda --json` times attention over a cache in this layout. */
static int reads_layout(const cJSON *row, const char *layout) {
    const char *kernel = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "kernel"));
    const char *found = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "layout"));
    if (kernel == NULL || found == NULL || strncmp(kernel, "decode_attention", 16) != 0) return 0;
    return strncmp(layout, "fp16", 4) == 0 ? strncmp(found, "fp16", 4) == 0 : strcmp(found, layout) == 0;
}

/* The best such row of the scheme's layout: its gb_per_s over the device's bandwidth. */
static kvs_status measured_efficiency(const char *path, const char *spec, const kvs_engine_setup *setup,
                                      double *efficiency, kvs_error *error) {
    kvs_scheme *scheme;
    cJSON *root;
    const cJSON *row;
    double best = 0;
    KVS_TRY(read_document(path, &root, error));
    kvs_status status = kvs_scheme_open(spec, (int)setup->shape.head_dim, &scheme, error);
    if (status != KVS_OK) {
        cJSON_Delete(root);
        return status;
    }
    cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(root, "results")) {
        const cJSON *rate = cJSON_GetObjectItemCaseSensitive(row, "gb_per_s");
        if (reads_layout(row, scheme->layout) && cJSON_IsNumber(rate) && rate->valuedouble > best)
            best = rate->valuedouble;
    }
    if (best <= 0)
        status = kvs_fail(error, KVS_INPUT, path, spec, "has no decode_attention row with layout %s", scheme->layout);
    kvs_scheme_close(scheme);
    cJSON_Delete(root);
    if (status != KVS_OK) return status;
    *efficiency = best * 1e9 / setup->device.bandwidth_bytes_per_s;
    if (*efficiency <= 1) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, path, spec, "reads %.0f GB/s, more than %s has: it was measured elsewhere", best,
                    setup->device.name);
}

kvs_status kvs_engine_step_model(const kvs_engine_settings *s, const kvs_engine_setup *setup, const char *scheme,
                                 kvs_step_model *model, char *note, kvs_error *error) {
    int stated, full = same_scheme("fp16", 4, scheme);
    double efficiency = full ? 0.8 : 0.5;
    KVS_TRY(stated_efficiency(&s->kv_efficiency, scheme, &efficiency, &stated, error));
    if (!stated && s->kernels != NULL) KVS_TRY(measured_efficiency(s->kernels, scheme, setup, &efficiency, error));
    if (note != NULL)
        snprintf(note, 128, "%s", stated ? "stated" : s->kernels != NULL ? "measured (--kernels)" : "assumed");
    *model = (kvs_step_model){.shape = setup->shape,
                              .device = setup->device,
                              .weight_efficiency = s->weight_efficiency,
                              .kv_efficiency = efficiency,
                              .compute_efficiency = s->compute_efficiency,
                              .overhead_s = s->overhead_ms * 1e-3,
                              .fixed_s = s->step_ms * 1e-3};
    if (model->fixed_s > 0 || model->overhead_s > 0 || model->shape.parameters > 0) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, "--overhead-ms", NULL, "a step must take some time");
}

void kvs_engine_settings_text(const kvs_engine_settings *s, char *text, size_t text_bytes) {
    int used =
        snprintf(text, text_bytes,
                 "page_tokens=%lld num_blocks=%lld max_batched_tokens=%lld max_seqs=%lld watermark=%.17g "
                 "reserve_full_input=%d free_order=%s caching=%d weight_efficiency=%.17g "
                 "compute_efficiency=%.17g overhead_ms=%.17g step_ms=%.17g skip_bad=%d kernels=%s kv_efficiency=",
                 (long long)kvs_engine_page_tokens(s), (long long)s->num_blocks, (long long)s->max_batched_tokens,
                 (long long)s->max_seqs, s->watermark, s->reserve, s->free_order, s->caching, s->weight_efficiency,
                 s->compute_efficiency, s->overhead_ms, s->step_ms, s->skip_bad, s->kernels != NULL ? s->kernels : "");
    for (int i = 0; i < s->kv_efficiency.count && used > 0 && (size_t)used < text_bytes; i++)
        used += snprintf(text + used, text_bytes - (size_t)used, "%s%s", i ? "," : "", s->kv_efficiency.texts[i]);
}
