/* occupancy.h: what `kvscope alloc` found: one run for each scheme, allocator and memory, with a summary and a series.
 *
 * One file is enough to print every table and draw every plot of it. Schema of the HDF5 form: analysis/OCCUPANCY.md.
 * Bytes of memory that is handed out fall into five kinds that add up to used_bytes: payload (codes, or binary16 words
 * in full precision), metadata (scales, zeros, indices), residual (tokens in full precision beside a quantized cache),
 * padding (what the page layout aligns away) and internal fragmentation (handed out, but holding no token). A page that
 * several sequences share counts once. */
#ifndef KVS_ANALYSIS_OCCUPANCY_H
#define KVS_ANALYSIS_OCCUPANCY_H

#include <stdint.h>

#include "analysis/field.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;

/* One moment, after a step. Counters run from the start. */
typedef struct kvs_occupancy {
    double t_s;
    double used_pages, free_pages, cached_free_pages; /* cached_free: free, but a prefix can still be found there */
    double running, waiting;
    double used_bytes, payload_bytes, metadata_bytes, residual_bytes, padding_bytes, fragmentation_bytes;
    double external_bytes; /* free, but not in the largest free stretch */
    double hit_tokens, queried_tokens, evictions, preemptions, recomputed_tokens, output_tokens;
} kvs_occupancy;

#define KVS_OCCUPANCY_COLUMNS ((int)(sizeof(kvs_occupancy) / sizeof(double)))
extern const kvs_field kvs_occupancy_fields[]; /* all of type REAL, one a column, ended by a NULL name */

typedef struct kvs_occupancy_run {
    char *scheme, *allocator;
    double memory_bytes, page_bytes, buffer_bytes;
    int64_t page_tokens, total_pages, buffer_pages;
    int64_t requests, completed, skipped, steps;
    double duration_s, tokens_per_s, requests_per_s;
    int64_t input_tokens, output_tokens, queried_tokens, hit_tokens, evictions, preemptions, recomputed_tokens;
    double hit_rate; /* hit_tokens / queried_tokens, both at first admissions: preempted ones find themselves */
    int64_t peak_running, peak_waiting, peak_used_pages;
    double mean_running, mean_used_share; /* over time */
    double ttft_mean_s, ttft_p50_s, ttft_p99_s, tpot_mean_s, tpot_p50_s, tpot_p99_s;
    double payload_share, metadata_share, residual_share, padding_share, fragmentation_share; /* of used_bytes, mean */
    double external_share;                                                                    /* of all memory, mean */
    double wall_s;
    int64_t samples;
    kvs_occupancy *series; /* [samples] */
} kvs_occupancy_run;

extern const kvs_field kvs_occupancy_run_fields[];

typedef struct kvs_occupancy_results {
    char *version, *command_line, *requests, *sha256, *model, *device, *settings;
    int runs_count;
    kvs_occupancy_run *runs;
} kvs_occupancy_results;

extern const kvs_field kvs_occupancy_results_fields[];

void kvs_occupancy_run_clear(kvs_occupancy_run *run);
void kvs_occupancy_results_clear(kvs_occupancy_results *results);

/* Fills the shares from the series. */
void kvs_occupancy_summarize(kvs_occupancy_run *run);

/* The whole document; series are in it only when asked for. The caller's, freed with cJSON_Delete; NULL when memory is
 * short. */
struct cJSON *kvs_occupancy_to_json(const kvs_occupancy_results *results, int with_series);

KVS_MUST_CHECK kvs_status kvs_occupancy_write_h5(const kvs_occupancy_results *results, const char *path,
                                                 kvs_error *error);
/* *results is the caller's, freed with kvs_occupancy_results_clear. Refuses any other file with KVS_INPUT. */
KVS_MUST_CHECK kvs_status kvs_occupancy_read_h5(const char *path, kvs_occupancy_results *results, kvs_error *error);
/* Whether an HDF5 file is one of these. */
int kvs_occupancy_is_h5(const char *path);

#ifdef __cplusplus
}
#endif
#endif
