/* check.c: kvscope check: every rule of a file's format, its values included. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <omp.h>
#include <stdio.h>

#include "analysis/rank_result.h"
#include "core/progress.h"
#include "core/version.h"
#include "sim/command.h"
#include "sim/commands/requests_report.h"
#include "traces/scan.h"

typedef struct settings {
    kvs_common common;
} settings;

static const kvs_option options[] = {{NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL}};

static void print_json(const char *path, const char *kind, cJSON *counts) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "check");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "path", path);
    cJSON_AddStringToObject(root, "kind", kind);
    cJSON_AddBoolToObject(root, "ok", 1);
    cJSON_AddItemToObject(root, "checked", counts);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text != NULL) puts(text);
    cJSON_free(text);
}

/* What was looked at: the sequences' own attention, and their cross attention. */
typedef struct counts {
    int sequences, cross;
    int64_t tokens, queries, source_tokens, values;
} counts;

static counts count_trace(const kvs_trace *trace) {
    const kvs_trace_header *h = kvs_trace_header_of(trace);
    counts c = {.sequences = kvs_trace_sequences(trace)};
    int64_t rows = 0;
    for (int i = 0; i < c.sequences; i++) {
        const kvs_sequence *q = kvs_trace_sequence(trace, i);
        int attentions = 1 + (q->source_tokens > 0);
        c.tokens += q->tokens;
        c.queries += q->queries;
        c.source_tokens += q->source_tokens;
        c.cross += q->source_tokens > 0;
        rows += 2 * (int64_t)h->kv_heads * (q->tokens + q->source_tokens);
        rows += (int64_t)h->query_heads * q->queries * attentions;
    }
    c.values = rows * h->layers * h->head_dim;
    return c;
}

static void print_trace(const kvs_trace *trace, const settings *s) {
    const char *path = kvs_trace_path(trace);
    counts c = count_trace(trace);
    if (s->common.json) {
        cJSON *found = cJSON_CreateObject();
        cJSON_AddNumberToObject(found, "sequences", c.sequences);
        cJSON_AddNumberToObject(found, "tokens", (double)c.tokens);
        cJSON_AddNumberToObject(found, "queries", (double)c.queries);
        cJSON_AddNumberToObject(found, "cross_attentions", c.cross);
        cJSON_AddNumberToObject(found, "source_tokens", (double)c.source_tokens);
        cJSON_AddNumberToObject(found, "values", (double)c.values);
        print_json(path, "trace", found);
    } else if (!s->common.quiet) {
        printf("%s: ok, %d sequences, %" PRId64 " tokens, %" PRId64 " queries, %" PRId64 " values, all finite\n", path,
               c.sequences, c.tokens, c.queries, c.values);
        if (c.cross > 0) printf("%s: %d of them attend to %" PRId64 " source tokens\n", path, c.cross, c.source_tokens);
    }
}

/* Reads every value of the cross attentions, if there are any. */
static kvs_status scan_cross(const char *path, const kvs_scan *scan, kvs_error *error) {
    kvs_trace *trace;
    KVS_TRY(kvs_trace_open_cross(path, &trace, error));
    kvs_status status = kvs_trace_scan(trace, scan, error);
    kvs_trace_close(trace);
    return status;
}

static kvs_status check_trace(const char *path, const settings *s, kvs_error *error) {
    kvs_trace *trace;
    KVS_TRY(kvs_trace_open(path, &trace, error));
    int threads = s->common.threads > 0 ? (int)s->common.threads : omp_get_max_threads();
    kvs_scan scan = {.tensors = 7, .threads = threads, .quiet = s->common.quiet};
    kvs_status status = kvs_trace_scan(trace, &scan, error);
    if (status == KVS_OK && count_trace(trace).cross > 0) status = scan_cross(path, &scan, error);
    if (status == KVS_OK) print_trace(trace, s);
    kvs_trace_close(trace);
    return status;
}

static kvs_status check_requests(const char *path, const settings *s, kvs_error *error) {
    return kvs_requests_report_check(path, &s->common, error);
}

static kvs_status check_ranking(const char *path, const settings *s, kvs_error *error) {
    kvs_rank_results results;
    KVS_TRY(kvs_rank_results_read_h5(path, &results, error));
    if (s->common.json) {
        cJSON *found = cJSON_CreateObject();
        cJSON_AddNumberToObject(found, "pages", results.pages_count);
        cJSON_AddNumberToObject(found, "metrics", results.metrics_count - 2);
        cJSON_AddNumberToObject(found, "ratios", results.ratios_count);
        print_json(path, "ranking", found);
    } else if (!s->common.quiet) {
        printf("%s: ok, a ranking study of %d pages, %d metrics and %d boost ratios\n", path, results.pages_count,
               results.metrics_count - 2, results.ratios_count);
    }
    kvs_rank_results_clear(&results);
    return KVS_OK;
}

/* The kinds of files, each with a look at the file that tells it from those below it; NULL takes what is left. */
static const struct {
    int (*probe)(const char *path);
    kvs_status (*check)(const char *path, const settings *s, kvs_error *error);
} kinds[] = {
    {kvs_requests_probe, check_requests},
    {kvs_rank_results_is_h5, check_ranking},
    {NULL, check_trace},
};

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const char *path = operands->texts[0];
    int i = 0;
    kvs_interrupt_catch();
    while (kinds[i].probe != NULL && !kinds[i].probe(path)) i++;
    return kinds[i].check(path, config, error);
}

const kvs_command kvs_command_check = {
    .name = "check",
    .arguments = "TRACE|REQUESTS|RANKING",
    .summary = "validate a file against its format; exit 3 and one line on the first fault",
    .details = "  kvscope check trace.h5\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
