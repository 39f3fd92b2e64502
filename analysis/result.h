/* result.h: what a replay or sweep found: one file is enough to print every table and draw every plot of it.
 *
 * Schema of the HDF5 form: analysis/RESULTS.md. A number that is not available is NaN here, null in JSON, an empty
 * field in CSV; never 0. */
#ifndef KVS_ANALYSIS_RESULT_H
#define KVS_ANALYSIS_RESULT_H

#include <stdint.h>

#include "core/status.h"
#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;

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
    double tokens_per_s, bytes_per_s, wall_s;
    char *note; /* why numbers are missing; NULL if none are */
} kvs_result;

/* Per channel over all sequences: [layers][kv_heads][head_dim]. */
typedef struct kvs_channel_statistics {
    float *k_magnitude, *k_range, *v_magnitude, *v_range; /* mean |x|; max - min */
} kvs_channel_statistics;

typedef struct kvs_trace_summary {
    char *path, *sha256, *model_name, *model_family;
    int layers, query_heads, kv_heads, head_dim, sequences;
    int64_t tokens, queries, at_tokens; /* tokens and queries over all sequences */
    kvs_channel_statistics channels;
} kvs_trace_summary;

typedef struct kvs_results {
    char *command, *version, *command_line, *backend, *device; /* command: "replay" or "sweep" */
    int traces_count;
    kvs_trace_summary *traces;
    int results_count;
    kvs_result *results;
} kvs_results;

/* Frees everything in it and zeroes it. */
void kvs_results_clear(kvs_results *results);

/* One file each, whole or not at all. */
KVS_MUST_CHECK kvs_status kvs_results_write_h5(const kvs_results *results, const char *path, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_results_write_csv(const kvs_results *results, const char *path, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_results_write_json(const kvs_results *results, const char *path, kvs_error *error);

/* Reads the HDF5 form; *results is the caller's, freed with kvs_results_clear. Refuses any other file with KVS_INPUT.
 */
KVS_MUST_CHECK kvs_status kvs_results_read_h5(const char *path, kvs_results *results, kvs_error *error);

/* The whole document, or one result; the caller's, freed with cJSON_Delete. NULL when memory is short. */
struct cJSON *kvs_results_to_json(const kvs_results *results);

#ifdef __cplusplus
}
#endif
#endif
