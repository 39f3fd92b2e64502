/* info.c: kvscope info: what is in a trace, its size and statistics. */
#include <cjson/cJSON.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "analysis/rank_result.h"
#include "core/progress.h"
#include "sim/command.h"
#include "sim/commands/info.h"
#include "sim/commands/rank_print.h"
#include "sim/commands/requests_report.h"

typedef struct settings {
    kvs_common common;
    int64_t top;
    int no_statistics;
} settings;

static const kvs_option options[] = {
    {"top", KVS_OPTION_INT, offsetof(settings, top), "N", "3", 0, 65536,
     "channels of largest range, and of largest mean |x|, per layer"},
    {"no-statistics", KVS_OPTION_FLAG, offsetof(settings, no_statistics), NULL, NULL, 0, 0,
     "shapes and sizes only: reads no values"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

kvs_layer_channels kvs_info_layer(const kvs_trace_info *info, kvs_tensor tensor, int layer) {
    const kvs_trace_header *h = kvs_trace_header_of(info->trace);
    size_t count = (size_t)h->kv_heads * (size_t)h->head_dim;
    return (kvs_layer_channels){info->channels[tensor] + (size_t)layer * count, h->kv_heads, h->head_dim};
}

double kvs_channel_range(const kvs_channel *c) {
    return (double)c->high - (double)c->low;
}

double kvs_channel_magnitude(const kvs_channel *c) {
    return c->magnitude;
}

double kvs_info_mean_magnitude(kvs_layer_channels layer) {
    double sum = 0;
    int count = layer.heads * layer.columns;
    for (int i = 0; i < count; i++) sum += layer.channels[i].magnitude;
    return sum / count;
}

int kvs_info_next(kvs_layer_channels layer, kvs_channel_measure of, int previous) {
    int best = -1, count = layer.heads * layer.columns;
    double bound = previous >= 0 ? of(&layer.channels[previous]) : 0;
    for (int i = 0; i < count; i++) {
        double value = of(&layer.channels[i]);
        int after = previous < 0 || value < bound || (value == bound && i > previous);
        if (after && (best < 0 || value > of(&layer.channels[best]))) best = i;
    }
    return best;
}

double kvs_info_value_bytes(const kvs_trace_header *h, const kvs_sequence *s) {
    double row = (double)h->layers * h->head_dim;
    double k = (double)kvs_element_bytes(s->k_element), v = (double)kvs_element_bytes(s->v_element);
    double q = (double)kvs_element_bytes(s->q_element);
    return row * ((double)h->kv_heads * s->tokens * (k + v) + (double)h->query_heads * s->queries * q);
}

static kvs_status print(const kvs_trace_info *info, const settings *s, kvs_error *error) {
    if (s->common.json) return kvs_info_print_json(info, error);
    kvs_info_print_text(info);
    return KVS_OK;
}

static kvs_status describe(kvs_trace *trace, const settings *s, kvs_error *error) {
    const kvs_trace_header *h = kvs_trace_header_of(trace);
    struct stat file;
    kvs_trace_info info = {.trace = trace, .top = (int)s->top};
    if (stat(kvs_trace_path(trace), &file) == 0) info.file_bytes = (double)file.st_size;
    if (s->no_statistics) return print(&info, s, error);
    size_t count = (size_t)h->layers * (size_t)h->kv_heads * (size_t)h->head_dim;
    kvs_channel *channels = malloc(2 * count * sizeof *channels);
    if (channels == NULL) return kvs_fail(error, KVS_INPUT, kvs_trace_path(trace), NULL, "out of memory");
    info.channels[0] = channels;
    info.channels[1] = channels + count;
    int threads = s->common.threads > 0 ? (int)s->common.threads : omp_get_max_threads();
    kvs_status status = kvs_trace_channels(trace, threads, s->common.quiet, channels, channels + count, error);
    if (status == KVS_OK) status = print(&info, s, error);
    free(channels);
    return status;
}

static kvs_status describe_trace(const char *path, const settings *s, kvs_error *error) {
    kvs_trace *trace;
    KVS_TRY(kvs_trace_open(path, &trace, error));
    kvs_status status = describe(trace, s, error);
    kvs_trace_close(trace);
    return status;
}

static kvs_status describe_requests(const char *path, const settings *s, kvs_error *error) {
    return kvs_requests_report_info(path, &s->common, error);
}

static kvs_status print_ranking_json(const kvs_rank_results *results, kvs_error *error) {
    cJSON *root = kvs_rank_results_to_json(results), *name = cJSON_CreateString("info");
    if (name != NULL && !cJSON_ReplaceItemInObject(root, "command", name)) cJSON_Delete(name);
    char *text = root != NULL ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

/* What kvscope rank printed when it wrote the file, and of what. */
static kvs_status describe_ranking(const char *path, const settings *s, kvs_error *error) {
    kvs_rank_results r;
    KVS_TRY(kvs_rank_results_read_h5(path, &r, error));
    kvs_status status = KVS_OK;
    if (s->common.json) {
        status = print_ranking_json(&r, error);
    } else if (!s->common.quiet) {
        printf("%s: ranking study of %s (%s), %d layers, %d KV heads, head_dim %d, %d sequences\n", path, r.trace_path,
               r.model_name, r.layers, r.kv_heads, r.head_dim, r.sequences);
        kvs_rank_print(&r);
    }
    kvs_rank_results_clear(&r);
    return status;
}

/* The kinds of files, each with a look at the file that tells it from those below it; NULL takes what is left. */
static const struct {
    int (*probe)(const char *path);
    kvs_status (*describe)(const char *path, const settings *s, kvs_error *error);
} kinds[] = {
    {kvs_requests_probe, describe_requests},
    {kvs_rank_results_is_h5, describe_ranking},
    {NULL, describe_trace},
};

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const char *path = operands->texts[0];
    int i = 0;
    kvs_interrupt_catch();
    while (kinds[i].probe != NULL && !kinds[i].probe(path)) i++;
    return kinds[i].describe(path, config, error);
}

const kvs_command kvs_command_info = {
    .name = "info",
    .arguments = "TRACE|REQUESTS|RANKING [--top N]",
    .summary = "what is in a trace, its size and statistics",
    .details =
        "Per layer: the mean |x| of K and V, and the channels of largest range (maximum - minimum over all tokens of\n"
        "all sequences) and of largest mean |x|, as head/channel: value.\n\n"
        "Of a file of kvscope rank: its tables.\n\n"
        "  kvscope info trace.h5 --top 8\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
