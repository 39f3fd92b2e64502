/* calibrate.c: kvscope calibrate: constants of a model for tcq:constants=FILE, from recorded sequences. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "core/progress.h"
#include "kernels/calibrated.h"
#include "kernels/trellis.h"
#include "sim/calibrate.h"
#include "sim/command.h"

typedef struct config {
    kvs_common common;
    const char *output, *share, *rope;
    double bits;
    int64_t sink, page, window, from_position;
} config;

static const kvs_option options[] = {
    {"o", KVS_OPTION_TEXT, offsetof(config, output), "FILE", NULL, 0, 0, "the file to write"},
    {"bits", KVS_OPTION_REAL, offsetof(config, bits), "B", "2.521", 0, KVS_TRELLIS_MAX_BITS,
     "bits of code an element, K and V together, on average over the heads"},
    {"share", KVS_OPTION_TEXT, offsetof(config, share), "WHOSE", "model", 0, 0,
     "head: every head has these bits; model: they are one budget, and heads' pages differ in size"},
    {"rope", KVS_OPTION_TEXT, offsetof(config, rope), "WHEN", "after", 0, 0,
     "after or before: where K is taken with respect to the rotary embedding"},
    {"sink", KVS_OPTION_INT, offsetof(config, sink), "N", "32", 0, 1e6, "first tokens in full precision"},
    {"page", KVS_OPTION_INT, offsetof(config, page), "N", "128", 8, 4096, "tokens of a page"},
    {"window", KVS_OPTION_INT, offsetof(config, window), "N", "128", 0, 1e6, "last tokens of V in full precision"},
    {"from-position", KVS_OPTION_INT, offsetof(config, from_position), "N", "512", 0, 9e15,
     "leave out queries before N"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* --- output --------------------------------------------------------------------------------------------------------
 */

static kvs_calibrated_head mean_of(int count, const kvs_calibrated_head *heads) {
    kvs_calibrated_head mean = {0};
    for (int h = 0; h < count; h++) {
        mean.k_bits += heads[h].k_bits / count;
        mean.v_bits += heads[h].v_bits / count;
        mean.error += heads[h].error / count;
        mean.bound += heads[h].bound / count;
    }
    return mean;
}

static void add_head(cJSON *object, kvs_calibrated_head head) {
    cJSON_AddNumberToObject(object, "k_bits", head.k_bits);
    cJSON_AddNumberToObject(object, "v_bits", head.v_bits);
    cJSON_AddNumberToObject(object, "expected_error", head.error);
    cJSON_AddNumberToObject(object, "rate_distortion_bound", head.bound);
}

static kvs_status print_json(const char *path, const kvs_constants_header *h, const kvs_calibrated_head *heads,
                             kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "calibrate");
    cJSON_AddStringToObject(root, "trace", path);
    cJSON_AddNumberToObject(root, "constants_bytes", (double)kvs_constants_bytes(h));
    add_head(root, mean_of(h->layers * h->kv_heads, heads));
    cJSON *each = cJSON_AddArrayToObject(root, "heads");
    for (int i = 0; i < h->layers * h->kv_heads; i++) {
        cJSON *head = cJSON_CreateObject();
        cJSON_AddItemToArray(each, head);
        cJSON_AddNumberToObject(head, "layer", i / h->kv_heads);
        cJSON_AddNumberToObject(head, "head", i % h->kv_heads);
        add_head(head, heads[i]);
    }
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    free(text);
    return KVS_OK;
}

static void print_table(const kvs_constants_header *h, const kvs_calibrated_head *heads) {
    printf("%zu bytes of constants, %.5f bits an element over %d tokens\n\n", kvs_constants_bytes(h),
           8.0 * (double)kvs_constants_bytes(h) / (2.0 * KVS_CONSTANTS_TOKENS * h->layers * h->kv_heads * h->head_dim),
           KVS_CONSTANTS_TOKENS);
    printf("%5s %5s %7s %7s %15s %12s\n", "layer", "head", "K bits", "V bits", "expected error", "bound");
    for (int i = 0; i < h->layers * h->kv_heads; i++)
        printf("%5d %5d %7.3f %7.3f %15.3e %12.3e\n", i / h->kv_heads, i % h->kv_heads, heads[i].k_bits,
               heads[i].v_bits, heads[i].error, heads[i].bound);
    kvs_calibrated_head mean = mean_of(h->layers * h->kv_heads, heads);
    printf("%11s %7.3f %7.3f %15.3e %12.3e\n", "mean", mean.k_bits, mean.v_bits, mean.error, mean.bound);
}

/* --- the command ---------------------------------------------------------------------------------------------------
 */

static kvs_status calibrate(const config *c, const kvs_calibrate_options *settings, kvs_trace *trace,
                            kvs_error *error) {
    const kvs_trace_header *trace_header = kvs_trace_header_of(trace);
    kvs_constants_header header = {.layers = trace_header->layers,
                                   .kv_heads = trace_header->kv_heads,
                                   .head_dim = trace_header->head_dim,
                                   .before_rope = settings->before_rope,
                                   .page = settings->page,
                                   .sink = settings->sink,
                                   .window = settings->window};
    snprintf(header.model, sizeof header.model, "%.*s", (int)sizeof header.model - 1, trace_header->model_name);
    kvs_calibrated_head *heads = calloc((size_t)header.layers * (size_t)header.kv_heads, sizeof *heads);
    uint8_t *records = calloc(1, kvs_constants_bytes(&header));
    kvs_status status = KVS_OK;
    if (heads == NULL || records == NULL) status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (status == KVS_OK) status = kvs_calibrate(trace, settings, &header, records, heads, error);
    if (status == KVS_OK) status = kvs_constants_write(c->output, &header, records, error);
    if (status == KVS_OK && c->common.json) status = print_json(kvs_trace_path(trace), &header, heads, error);
    if (status == KVS_OK && !c->common.json && !c->common.quiet) print_table(&header, heads);
    free(heads);
    free(records);
    return status;
}

/* Which of two words value is; KVS_USAGE when neither. */
static kvs_status either(const char *option, const char *value, const char *first, const char *second, int *which,
                         kvs_error *error) {
    *which = strcmp(value, second) == 0;
    if (*which || strcmp(value, first) == 0) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, option, NULL, "'%s' is not one of %s, %s", value, first, second);
}

static kvs_status run(const void *configuration, const kvs_texts *operands, kvs_error *error) {
    const config *c = configuration;
    if (c->output == NULL) return kvs_fail(error, KVS_USAGE, "calibrate", NULL, "needs -o FILE");
    int whose;
    kvs_calibrate_options settings = {.bits = c->bits,
                                      .sink = (int)c->sink,
                                      .page = (int)c->page,
                                      .window = (int)c->window,
                                      .from_position = c->from_position,
                                      .quiet = c->common.quiet};
    KVS_TRY(either("--share", c->share, "head", "model", &whose, error));
    KVS_TRY(either("--rope", c->rope, "after", "before", &settings.before_rope, error));
    settings.share = whose ? KVS_SHARE_MODEL : KVS_SHARE_HEAD;
    kvs_trace *trace;
    KVS_TRY(kvs_trace_open(operands->texts[0], &trace, error));
    kvs_interrupt_catch();
    kvs_status status = calibrate(c, &settings, trace, error);
    kvs_trace_close(trace);
    return status;
}

const kvs_command kvs_command_calibrate = {
    .name = "calibrate",
    .arguments = "TRACE -o FILE",
    .summary = "fit the constants of a model that tcq:constants=FILE stores by",
    .details = "Means, bases and code widths of K and V for every layer and KV head, from a trace with queries of\n"
               "other text than what they will be judged by. Beside what errors it expects stands the\n"
               "rate-distortion bound of normal components with the same covariance, at the same bits.\n\n"
               "  kvscope record --model qwen3-7m --text other.txt -o other.h5\n"
               "  kvscope calibrate other.h5 -o qwen3-7m.constants\n"
               "  kvscope replay TRACE --scheme kitty-pro --scheme tcq:constants=qwen3-7m.constants\n",
    .options = options,
    .config_bytes = sizeof(config),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
