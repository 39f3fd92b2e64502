#include "sim/commands/report.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/version.h"

kvs_status kvs_report_begin(const char *command, const char *command_line, const kvs_replay_options *options,
                            kvs_results *results, kvs_error *error) {
    char device[256] = "";
    KVS_TRY(options->backend->probe(device, sizeof device, error));
    results->command = strdup(command);
    results->version = strdup(KVS_VERSION);
    results->command_line = strdup(command_line);
    results->backend = strdup(options->backend->name);
    results->device = strdup(device);
    results->seed = options->seed;
    results->from_position = options->from_position;
    results->prompt_exact = options->prompt_exact;
    if (results->command != NULL && results->version != NULL && results->command_line != NULL &&
        results->backend != NULL && results->device != NULL)
        return KVS_OK;
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

/* --- files ---------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *extension;
    kvs_status (*write)(const kvs_results *results, const char *path, kvs_error *error);
} forms[] = {{".h5", kvs_results_write_h5}, {".csv", kvs_results_write_csv}, {".json", kvs_results_write_json}};

/* The form of a path, or -1. */
static int form_of(const char *path) {
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof forms / sizeof *forms; i++)
        if (strcmp(dot, forms[i].extension) == 0) return (int)i;
    return -1;
}

kvs_status kvs_report_check_output(const char *path, kvs_error *error) {
    kvs_output output;
    if (form_of(path) < 0) return kvs_fail(error, KVS_USAGE, "-o", path, "must end in .h5, .csv or .json");
    KVS_TRY(kvs_output_begin(path, &output, error));
    kvs_output_abandon(&output);
    return KVS_OK;
}

kvs_status kvs_report_write(const kvs_results *results, const char *path, kvs_error *error) {
    return forms[form_of(path)].write(results, path, error);
}

/* --- standard output -----------------------------------------------------------------------------------------------
 */

kvs_status kvs_report_print_json(const kvs_results *results, kvs_error *error) {
    cJSON *json;
    KVS_TRY(kvs_results_to_json(results, &json, error));
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

/* The columns of the table: a heading and where the number lies. */
static const struct {
    const char *heading;
    int scientific, digits;
    size_t offset;
} columns[] = {
    {"bits", 0, 3, offsetof(kvs_result, effective_bits)},
    {"payload", 0, 3, offsetof(kvs_result, bits.payload)},
    {"metadata", 0, 3, offsetof(kvs_result, bits.metadata)},
    {"residual", 0, 3, offsetof(kvs_result, bits.residual)},
    {"bytes/token", 0, 0, offsetof(kvs_result, bytes_per_token)},
    {"x fp16", 0, 2, offsetof(kvs_result, compression_vs_fp16)},
    {"output err", 1, 0, offsetof(kvs_result, errors.attention_output_rel_l2.mean)},
    {"p99", 1, 0, offsetof(kvs_result, errors.attention_output_rel_l2.p99)},
    {"nrmse", 1, 0, offsetof(kvs_result, errors.attention_output_nrmse)},
    {"KL nats", 1, 0, offsetof(kvs_result, errors.attention_kl.mean)},
    {"top-1", 0, 3, offsetof(kvs_result, errors.top1_agreement)},
    {"top-8", 0, 3, offsetof(kvs_result, errors.top8_agreement)},
    {"K err", 1, 0, offsetof(kvs_result, errors.key_rel_l2)},
    {"V err", 1, 0, offsetof(kvs_result, errors.value_rel_l2)},
    {"tokens/s", 0, 0, offsetof(kvs_result, tokens_per_s)},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static void cell(const kvs_result *result, int column, char *text, size_t text_bytes) {
    double value = *(const double *)((const char *)result + columns[column].offset);
    if (!isfinite(value))
        snprintf(text, text_bytes, "-");
    else if (columns[column].scientific)
        snprintf(text, text_bytes, "%.3e", value);
    else
        snprintf(text, text_bytes, "%.*f", columns[column].digits, value);
}

static void print_rows(const kvs_results *results, int trace) {
    int width[COLUMNS], name = (int)strlen("scheme");
    char text[48];
    for (int i = 0; i < results->results_count; i++)
        if ((int)strlen(results->results[i].scheme) > name) name = (int)strlen(results->results[i].scheme);
    for (int c = 0; c < COLUMNS; c++) {
        width[c] = (int)strlen(columns[c].heading);
        for (int i = 0; i < results->results_count; i++) {
            cell(&results->results[i], c, text, sizeof text);
            if ((int)strlen(text) > width[c]) width[c] = (int)strlen(text);
        }
    }
    printf("%-*s", name, "scheme");
    for (int c = 0; c < COLUMNS; c++) printf("  %*s", width[c], columns[c].heading);
    putchar('\n');
    for (int i = 0; i < results->results_count; i++) {
        if (results->results[i].trace != trace) continue;
        printf("%-*s", name, results->results[i].scheme);
        for (int c = 0; c < COLUMNS; c++) {
            cell(&results->results[i], c, text, sizeof text);
            printf("  %*s", width[c], text);
        }
        putchar('\n');
    }
}

void kvs_report_print_table(const kvs_results *results) {
    for (int t = 0; t < results->traces_count; t++) {
        const kvs_trace_summary *trace = &results->traces[t];
        printf(
            "%s%s: %s, %s%d layers, %d query heads, %d KV heads, head_dim %d; %d sequences, %lld tokens, %lld queried\n"
            "bits per element of K and V at %lld tokens; errors against full precision\n\n",
            t > 0 ? "\n" : "", trace->path, trace->model_name,
            trace->attention != NULL && strcmp(trace->attention, "cross") == 0 ? "cross attention, " : "",
            trace->layers, trace->query_heads, trace->kv_heads, trace->head_dim, trace->sequences,
            (long long)trace->tokens, (long long)trace->queries, (long long)trace->at_tokens);
        print_rows(results, t);
        for (int i = 0; i < results->results_count; i++)
            if (results->results[i].trace == t && results->results[i].note != NULL) {
                printf("note: %s\n", results->results[i].note);
                break;
            }
    }
}
