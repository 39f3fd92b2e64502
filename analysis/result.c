/* result.c: the fields of results, their life, and the CSV form. The other forms: result_json.c, result_write.c,
 * result_read.c. */
#include "analysis/result.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

/* --- the fields ----------------------------------------------------------------------------------------------------
 */

#define REAL(name, owner, member, unit)                                                                                \
    { name, KVS_FIELD_REAL, offsetof(owner, member), unit, 0 }
#define NEWER_REAL(name, owner, member, unit)                                                                          \
    { name, KVS_FIELD_REAL, offsetof(owner, member), unit, 1 }
#define NEWER_TEXT(name, owner, member)                                                                                \
    { name, KVS_FIELD_TEXT, offsetof(owner, member), "", 1 }
#define INT(name, owner, member, unit)                                                                                 \
    { name, KVS_FIELD_INT, offsetof(owner, member), unit, 0 }
#define LONG(name, owner, member, unit)                                                                                \
    { name, KVS_FIELD_LONG, offsetof(owner, member), unit, 0 }
#define TEXT(name, owner, member)                                                                                      \
    { name, KVS_FIELD_TEXT, offsetof(owner, member), "", 0 }

#define STATISTIC(prefix, owner, member, unit)                                                                         \
    REAL(prefix #member ".mean", owner, errors.member.mean, unit),                                                     \
        REAL(prefix #member ".median", owner, errors.member.median, unit),                                             \
        REAL(prefix #member ".p99", owner, errors.member.p99, unit),                                                   \
        REAL(prefix #member ".max", owner, errors.member.max, unit)
#define RATIO(prefix, owner, member) REAL(prefix #member, owner, errors.member, "1")
#define ERRORS(prefix, owner)                                                                                          \
    STATISTIC(prefix, owner, attention_output_rel_l2, "1"), STATISTIC(prefix, owner, logit_mse, "1"),                  \
        STATISTIC(prefix, owner, attention_kl, "nats"), RATIO(prefix, owner, attention_output_nrmse),                  \
        RATIO(prefix, owner, top1_agreement), RATIO(prefix, owner, top8_agreement), RATIO(prefix, owner, key_rel_l2),  \
        RATIO(prefix, owner, value_rel_l2)

#define CLOSED(member, unit) NEWER_REAL("closed_loop." #member, kvs_result, closed_loop.member, unit)

#define END                                                                                                            \
    { NULL, KVS_FIELD_REAL, 0, NULL, 0 }

const kvs_field kvs_results_fields[] = {
    TEXT("command", kvs_results, command),
    TEXT("version", kvs_results, version),
    TEXT("command_line", kvs_results, command_line),
    TEXT("backend", kvs_results, backend),
    TEXT("device", kvs_results, device),
    LONG("seed", kvs_results, seed, ""),
    LONG("from_position", kvs_results, from_position, "tokens"),
    INT("prompt_exact", kvs_results, prompt_exact, ""),
    END,
};

const kvs_field kvs_trace_summary_fields[] = {
    TEXT("path", kvs_trace_summary, path),
    TEXT("sha256", kvs_trace_summary, sha256),
    TEXT("model_name", kvs_trace_summary, model_name),
    TEXT("model_family", kvs_trace_summary, model_family),
    INT("num_layers", kvs_trace_summary, layers, "layers"),
    INT("num_query_heads", kvs_trace_summary, query_heads, "heads"),
    INT("num_kv_heads", kvs_trace_summary, kv_heads, "heads"),
    INT("head_dim", kvs_trace_summary, head_dim, "channels"),
    INT("num_sequences", kvs_trace_summary, sequences, "sequences"),
    LONG("num_tokens", kvs_trace_summary, tokens, "tokens"),
    LONG("num_queries", kvs_trace_summary, queries, "positions"),
    LONG("at_tokens", kvs_trace_summary, at_tokens, "tokens"),
    NEWER_TEXT("attention", kvs_trace_summary, attention),
    NEWER_TEXT("eval.model_path", kvs_trace_summary, model_path),
    NEWER_TEXT("eval.model_sha256", kvs_trace_summary, model_sha256),
    NEWER_TEXT("eval.tokens_path", kvs_trace_summary, tokens_path),
    NEWER_TEXT("eval.tokens_sha256", kvs_trace_summary, tokens_sha256),
    NEWER_REAL("eval.windows", kvs_trace_summary, windows, "windows"),
    NEWER_REAL("eval.window_tokens", kvs_trace_summary, window_tokens, "tokens"),
    NEWER_REAL("eval.exact_tokens", kvs_trace_summary, exact_tokens, "tokens"),
    END,
};

const kvs_field kvs_result_fields[] = {
    INT("trace", kvs_result, trace, ""),
    TEXT("scheme", kvs_result, scheme),
    TEXT("layout", kvs_result, layout),
    REAL("bits.payload", kvs_result, bits.payload, "bits/element"),
    REAL("bits.metadata", kvs_result, bits.metadata, "bits/element"),
    REAL("bits.residual", kvs_result, bits.residual, "bits/element"),
    REAL("bits.padding", kvs_result, bits.padding, "bits/element"),
    REAL("bits.effective", kvs_result, effective_bits, "bits/element"),
    REAL("page_bits.payload", kvs_result, page_bits.payload, "bits/element"),
    REAL("page_bits.metadata", kvs_result, page_bits.metadata, "bits/element"),
    REAL("page_bits.padding", kvs_result, page_bits.padding, "bits/element"),
    REAL("bytes_per_token", kvs_result, bytes_per_token, "bytes/token"),
    REAL("bytes_per_sequence", kvs_result, bytes_per_sequence, "bytes"),
    REAL("compression_vs_fp16", kvs_result, compression_vs_fp16, "1"),
    ERRORS("error.", kvs_result),
    REAL("throughput.tokens_per_s", kvs_result, tokens_per_s, "tokens/s"),
    REAL("throughput.bytes_per_s", kvs_result, bytes_per_s, "bytes/s"),
    REAL("throughput.wall_s", kvs_result, wall_s, "s"),
    CLOSED(tokens, "tokens"),
    CLOSED(loss_nats_per_token, "nats"),
    CLOSED(loss_stderr, "nats"),
    CLOSED(loss_difference, "nats"),
    CLOSED(loss_difference_stderr, "nats"),
    CLOSED(perplexity, "1"),
    CLOSED(perplexity_ratio, "1"),
    CLOSED(full_loss_nats_per_token, "nats"),
    CLOSED(top1_accuracy, "1"),
    CLOSED(top1_agreement, "1"),
    CLOSED(kl_mean, "nats"),
    CLOSED(common_prefix_tokens, "tokens"),
    CLOSED(equal_share, "1"),
    CLOSED(generated_tokens, "tokens"),
    CLOSED(task_accuracy, "1"),
    CLOSED(full_task_accuracy, "1"),
    CLOSED(pass_s, "s"),
    CLOSED(steps_per_s, "tokens/s"),
    TEXT("percentiles", kvs_result, percentiles),
    TEXT("note", kvs_result, note),
    END,
};

static const kvs_field head_fields[] = {
    INT("layer", kvs_head_result, layer, ""),
    INT("head", kvs_head_result, head, ""),
    ERRORS("", kvs_head_result),
    END,
};

static const kvs_field memory_fields[] = {
    LONG("tokens", kvs_memory_point, tokens, "tokens"),
    REAL("payload_bits", kvs_memory_point, bits.payload, "bits"),
    REAL("metadata_bits", kvs_memory_point, bits.metadata, "bits"),
    REAL("residual_bits", kvs_memory_point, bits.residual, "bits"),
    REAL("padding_bits", kvs_memory_point, bits.padding, "bits"),
    END,
};

static const kvs_field position_fields[] = {
    LONG("first", kvs_position_result, first, "tokens"),
    LONG("until", kvs_position_result, until, "tokens"),
    REAL("kl_mean", kvs_position_result, kl_mean, "nats"),
    REAL("top1_agreement", kvs_position_result, top1_agreement, "1"),
    END,
};

static const kvs_field task_fields[] = {
    TEXT("task", kvs_task_result, task),
    LONG("distance", kvs_task_result, distance, "tokens"),
    LONG("answer_tokens", kvs_task_result, answer_tokens, "tokens"),
    REAL("token_accuracy", kvs_task_result, token_accuracy, "1"),
    REAL("exact", kvs_task_result, exact, "1"),
    REAL("full_token_accuracy", kvs_task_result, full_token_accuracy, "1"),
    REAL("full_exact", kvs_task_result, full_exact, "1"),
    END,
};

#define ROWS(name, json, fields, member, type, optional)                                                               \
    { name, json, fields, offsetof(kvs_result, member), offsetof(kvs_result, member##_count), sizeof(type), optional }

const kvs_result_rows kvs_result_tables[] = {
    ROWS("heads", "layers", head_fields, heads, kvs_head_result, 0),
    ROWS("memory", "memory", memory_fields, memory, kvs_memory_point, 0),
    ROWS("positions", "positions", position_fields, positions, kvs_position_result, 1),
    ROWS("tasks", "tasks", task_fields, tasks, kvs_task_result, 1),
    {.name = NULL},
};

const char *const kvs_channels_names[] = {"k_magnitude", "k_range", "v_magnitude", "v_range", NULL};

/* --- their life ----------------------------------------------------------------------------------------------------
 */

float **kvs_channels_array(kvs_trace_summary *trace, int index) {
    kvs_channel_statistics *channels = &trace->channels;
    float **arrays[] = {&channels->k_magnitude, &channels->k_range, &channels->v_magnitude, &channels->v_range};
    return arrays[index];
}

size_t kvs_channels_count(const kvs_trace_summary *trace) {
    return (size_t)trace->layers * (size_t)trace->kv_heads * (size_t)trace->head_dim;
}

kvs_status kvs_channels_alloc(kvs_trace_summary *trace, kvs_error *error) {
    for (int i = 0; kvs_channels_names[i] != NULL; i++) {
        float **array = kvs_channels_array(trace, i);
        *array = calloc(kvs_channels_count(trace), sizeof **array);
        if (*array == NULL) return kvs_fail(error, KVS_INPUT, trace->path, NULL, "out of memory");
    }
    return KVS_OK;
}

void kvs_trace_summary_clear(kvs_trace_summary *trace) {
    for (int i = 0; kvs_channels_names[i] != NULL; i++) free(*kvs_channels_array(trace, i));
    kvs_fields_free(kvs_trace_summary_fields, trace);
    *trace = (kvs_trace_summary){0};
}

void kvs_result_clear(kvs_result *result) {
    for (const kvs_result_rows *table = kvs_result_tables; table->name != NULL; table++) {
        char *rows = *(char **)((char *)result + table->array);
        for (int i = 0; i < *(int *)((char *)result + table->count); i++)
            kvs_fields_free(table->fields, rows + (size_t)i * table->row_bytes);
        free(rows);
    }
    kvs_fields_free(kvs_result_fields, result);
    *result = (kvs_result){0};
}

void kvs_results_clear(kvs_results *results) {
    for (int i = 0; i < results->traces_count; i++) kvs_trace_summary_clear(&results->traces[i]);
    for (int i = 0; i < results->results_count; i++) kvs_result_clear(&results->results[i]);
    free(results->traces);
    free(results->results);
    kvs_fields_free(kvs_results_fields, results);
    *results = (kvs_results){0};
}

void kvs_errors_unknown(kvs_errors *errors) {
    kvs_statistic nothing = {NAN, NAN, NAN, NAN};
    *errors = (kvs_errors){nothing, nothing, nothing, NAN, NAN, NAN, NAN, NAN};
}

void kvs_closed_loop_unknown(kvs_closed_loop *closed_loop) {
    double *numbers = (double *)closed_loop;
    for (size_t i = 0; i < sizeof *closed_loop / sizeof *numbers; i++) numbers[i] = NAN;
}

/* --- CSV -----------------------------------------------------------------------------------------------------------
 */

kvs_status kvs_results_write_csv(const kvs_results *results, const char *path, kvs_error *error) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    if (file == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    fputs("trace_path,model_name,at_tokens", file);
    for (const kvs_field *field = kvs_result_fields; field->name != NULL; field++) fprintf(file, ",%s", field->name);
    fputc('\n', file);
    for (int i = 0; i < results->results_count; i++) {
        const kvs_result *result = &results->results[i];
        const kvs_trace_summary *trace = &results->traces[result->trace];
        kvs_csv_text(file, trace->path);
        fputc(',', file);
        kvs_csv_text(file, trace->model_name);
        fprintf(file, ",%lld", (long long)trace->at_tokens);
        for (const kvs_field *field = kvs_result_fields; field->name != NULL; field++) {
            fputc(',', file);
            kvs_field_to_csv(field, result, file);
        }
        fputc('\n', file);
    }
    kvs_status status = ferror(file) | fclose(file) ? kvs_fail(error, KVS_INPUT, path, NULL, "out of memory")
                                                    : kvs_write_text(path, text, error);
    free(text);
    return status;
}
