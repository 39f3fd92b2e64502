/* result.h: what a replay or sweep found: one file is enough to print every table and draw every plot of it.
 *
 * Schema of the HDF5 form: analysis/RESULTS.md. A number that is not available is NaN here, null in JSON, an empty
 * field in CSV; never 0. */
#ifndef KVS_ANALYSIS_RESULT_H
#define KVS_ANALYSIS_RESULT_H

#include <stdint.h>

#include "analysis/field.h"
#include "core/status.h"
#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;

#define KVS_RESULTS_FORMAT "kvscope-results"
enum { KVS_RESULTS_MAJOR = 1, KVS_RESULTS_MINOR = 1 }; /* a reader refuses another major version */

/* Over samples (sequence, layer, query head, position), all with equal weight. */
typedef struct kvs_statistic {
    double mean, median, p99, max;
} kvs_statistic;

typedef struct kvs_errors {
    kvs_statistic attention_output_rel_l2; /* |o' - o| / max(|o|, 1e-30) */
    kvs_statistic logit_mse;               /* of scaled logits over the visible keys */
    kvs_statistic attention_kl;            /* KL(full || quantized), nats */
    double attention_output_nrmse;         /* sqrt(sum |o' - o|^2 / sum |o|^2) per KV head, averaged over heads */
    double top1_agreement, top8_agreement; /* shared positions over min(k, visible) */
    double key_rel_l2, value_rel_l2;       /* Frobenius, over the elements that are stored quantized */
} kvs_errors;

typedef struct kvs_head_result {
    int layer, head; /* head: KV head */
    kvs_errors errors;
} kvs_head_result;

/* The memory of one sequence at several lengths: bits of all layers and heads together. */
typedef struct kvs_memory_point {
    int64_t tokens;
    kvs_bits bits; /* totals, not per element */
} kvs_memory_point;

/* What a model made of a text with its cache stored as the scheme says (kvscope eval): NaN where it was not run.
 * full_: the same in full precision. Standard errors are over documents; differences are paired by document. */
typedef struct kvs_closed_loop {
    double tokens; /* predicted */
    double loss_nats_per_token, loss_stderr, loss_difference, loss_difference_stderr;
    double perplexity, perplexity_ratio; /* exp of the loss, and of its difference from full precision's */
    double full_loss_nats_per_token;
    double top1_accuracy, top1_agreement, kl_mean; /* agreement and KL: with full precision's next-token distribution */
    double common_prefix_tokens, equal_share, generated_tokens; /* of greedy generation behind a prompt, means */
    double task_accuracy, full_task_accuracy; /* share of right answer tokens: mean over tasks and distances */
    double pass_s, steps_per_s;               /* forward passes over the text; decoding */
} kvs_closed_loop;

/* The same over a part of the window: predictions at positions [first, until). */
typedef struct kvs_position_result {
    int64_t first, until;
    double kl_mean, top1_agreement;
} kvs_position_result;

/* One task at one distance. */
typedef struct kvs_task_result {
    char *task;
    int64_t distance, answer_tokens;
    double token_accuracy, exact; /* shares of answer tokens that are right, and of samples with all of them right */
    double full_token_accuracy, full_exact;
} kvs_task_result;

typedef struct kvs_result {
    int trace; /* index into kvs_results.traces */
    char *scheme, *layout;
    kvs_bits bits; /* per element of K and V together, at kvs_trace_summary.at_tokens */
    double effective_bits;
    kvs_bits page_bits; /* per element of a full quantized page alone; residual is 0 */
    double bytes_per_token, bytes_per_sequence, compression_vs_fp16; /* over all layers and heads, at at_tokens */
    kvs_errors errors;
    int heads_count;
    kvs_head_result *heads; /* [layers * kv_heads], layer-major */
    int memory_count;
    kvs_memory_point *memory; /* ascending tokens */
    kvs_closed_loop closed_loop;
    int positions_count, tasks_count;
    kvs_position_result *positions;           /* ascending */
    kvs_task_result *tasks;                   /* task by task, by distance */
    double tokens_per_s, bytes_per_s, wall_s; /* wall_s: the pass over the trace, less what its other schemes took */
    char *percentiles;                        /* "exact", or "histogram": median and p99 are within 0.1 % */
    char *note;                               /* why numbers are missing; NULL if none are */
} kvs_result;

/* Per channel over all sequences: [layers][kv_heads][head_dim]. */
typedef struct kvs_channel_statistics {
    float *k_magnitude, *k_range, *v_magnitude, *v_range; /* mean |x|; max - min */
} kvs_channel_statistics;

typedef struct kvs_trace_summary {
    char *path, *sha256, *model_name, *model_family;
    char *attention; /* "cross": of an encoder-decoder's decoder to its source; NULL: of a sequence to itself */
    int layers, query_heads, kv_heads, head_dim, sequences;
    int64_t tokens, queries, at_tokens; /* tokens and queries over all sequences */
    kvs_channel_statistics channels;    /* NULL where no trace was replayed */
    char *model_path, *model_sha256;    /* of kvscope eval, else NULL: the directory, and its weights' file or index */
    char *tokens_path, *tokens_sha256;
    double windows, window_tokens, exact_tokens; /* the text, in windows whose first exact_tokens were a prompt; NaN */
} kvs_trace_summary;

typedef struct kvs_results {
    char *command, *version, *command_line, *backend, *device; /* command: "replay", "sweep" or "eval" */
    int64_t seed, from_position;                               /* queries before from_position were left out */
    int prompt_exact;                                          /* queries inside the prompt saw full precision */
    int traces_count;
    kvs_trace_summary *traces;
    int results_count;
    kvs_result *results;
} kvs_results;

/* Names, offsets and units of the fields of kvs_results, kvs_trace_summary and kvs_result: what JSON, CSV and HDF5 are
 * written and read from. */
extern const kvs_field kvs_results_fields[], kvs_trace_summary_fields[], kvs_result_fields[];

/* The rows that belong to one result, a table each: heads, memory, positions, tasks. */
typedef struct kvs_result_rows {
    const char *name, *json; /* of the table; of the array in JSON */
    const kvs_field *fields;
    size_t array, count, row_bytes; /* offsets in kvs_result */
    int optional;                   /* older files lack the table: no rows */
} kvs_result_rows;
extern const kvs_result_rows kvs_result_tables[]; /* ended by a NULL name */

/* Frees everything in it and zeroes it. */
void kvs_results_clear(kvs_results *results);
void kvs_result_clear(kvs_result *result);
void kvs_trace_summary_clear(kvs_trace_summary *trace);

/* Makes every number NaN: not available. */
void kvs_errors_unknown(kvs_errors *errors);
void kvs_closed_loop_unknown(kvs_closed_loop *closed_loop);

/* Elements of one array of a trace's channel statistics; and the arrays, allocated (KVS_INPUT) or freed. */
size_t kvs_channels_count(const kvs_trace_summary *trace);
KVS_MUST_CHECK kvs_status kvs_channels_alloc(kvs_trace_summary *trace, kvs_error *error);
/* The four arrays by number, NULL-named after the last: "k_magnitude", "k_range", "v_magnitude", "v_range". */
extern const char *const kvs_channels_names[];
float **kvs_channels_array(kvs_trace_summary *trace, int index);

/* One file each, whole or not at all. */
KVS_MUST_CHECK kvs_status kvs_results_write_h5(const kvs_results *results, const char *path, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_results_write_csv(const kvs_results *results, const char *path, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_results_write_json(const kvs_results *results, const char *path, kvs_error *error);

/* Reads the HDF5 form; *results is the caller's, freed with kvs_results_clear. Refuses any other file with KVS_INPUT.
 */
KVS_MUST_CHECK kvs_status kvs_results_read_h5(const char *path, kvs_results *results, kvs_error *error);

/* The whole document; "trace" holds the trace of a replay, "traces" those of a sweep. */
KVS_MUST_CHECK kvs_status kvs_results_to_json(const kvs_results *results, struct cJSON **json, kvs_error *error);

/* One result, or one trace with its channel statistics, and the reverse to the bit (into a zeroed struct, cleared by
 * the caller even on failure); `file` is for the error. *json is the caller's, freed with cJSON_Delete. */
KVS_MUST_CHECK kvs_status kvs_result_to_json(const kvs_result *result, struct cJSON **json, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_result_from_json(const struct cJSON *json, const char *file, kvs_result *result,
                                               kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_trace_summary_to_json(const kvs_trace_summary *trace, int channels, struct cJSON **json,
                                                    kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_trace_summary_from_json(const struct cJSON *json, const char *file,
                                                      kvs_trace_summary *trace, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
