#include "analysis/occupancy.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>

#include "analysis/field_table.h"

#define ROW kvs_occupancy
const kvs_field kvs_occupancy_fields[] = {
    REAL(t_s, "s"),
    REAL(used_pages, "pages"),
    REAL(free_pages, "pages"),
    REAL(cached_free_pages, "pages"),
    REAL(running, "requests"),
    REAL(waiting, "requests"),
    REAL(used_bytes, "bytes"),
    REAL(payload_bytes, "bytes"),
    REAL(metadata_bytes, "bytes"),
    REAL(residual_bytes, "bytes"),
    REAL(padding_bytes, "bytes"),
    REAL(fragmentation_bytes, "bytes"),
    REAL(external_bytes, "bytes"),
    REAL(hit_tokens, "tokens"),
    REAL(queried_tokens, "tokens"),
    REAL(evictions, "pages"),
    REAL(preemptions, "requests"),
    REAL(recomputed_tokens, "tokens"),
    REAL(output_tokens, "tokens"),
    END,
};
_Static_assert(sizeof kvs_occupancy_fields / sizeof *kvs_occupancy_fields == KVS_OCCUPANCY_COLUMNS + 1,
               "every member is a column");
#undef ROW

#define ROW kvs_occupancy_run
const kvs_field kvs_occupancy_run_fields[] = {
    TEXT(scheme),
    TEXT(allocator),
    REAL(memory_bytes, "bytes"),
    REAL(page_bytes, "bytes"),
    REAL(buffer_bytes, "bytes"),
    LONG(page_tokens, "tokens"),
    LONG(total_pages, "pages"),
    LONG(buffer_pages, "pages"),
    LONG(requests, "requests"),
    LONG(completed, "requests"),
    LONG(skipped, "requests"),
    LONG(steps, ""),
    REAL(duration_s, "s"),
    REAL(tokens_per_s, "tokens/s"),
    REAL(requests_per_s, "requests/s"),
    LONG(input_tokens, "tokens"),
    LONG(output_tokens, "tokens"),
    LONG(queried_tokens, "tokens"),
    LONG(hit_tokens, "tokens"),
    REAL(hit_rate, "1"),
    LONG(evictions, "pages"),
    LONG(preemptions, "requests"),
    LONG(recomputed_tokens, "tokens"),
    LONG(peak_running, "requests"),
    LONG(peak_waiting, "requests"),
    LONG(peak_used_pages, "pages"),
    REAL(mean_running, "requests"),
    REAL(mean_used_share, "1"),
    REAL(ttft_mean_s, "s"),
    REAL(ttft_p50_s, "s"),
    REAL(ttft_p99_s, "s"),
    REAL(tpot_mean_s, "s"),
    REAL(tpot_p50_s, "s"),
    REAL(tpot_p99_s, "s"),
    REAL(payload_share, "1"),
    REAL(metadata_share, "1"),
    REAL(residual_share, "1"),
    REAL(padding_share, "1"),
    REAL(fragmentation_share, "1"),
    REAL(external_share, "1"),
    LONG(samples, ""),
    REAL(wall_s, "s"),
    END,
};
#undef ROW

#define ROW kvs_occupancy_results
const kvs_field kvs_occupancy_results_fields[] = {
    TEXT(version), TEXT(command_line), TEXT(requests), TEXT(sha256), TEXT(model), TEXT(device), TEXT(settings), END,
};
#undef ROW

void kvs_occupancy_run_clear(kvs_occupancy_run *run) {
    kvs_fields_free(kvs_occupancy_run_fields, run);
    free(run->series);
    *run = (kvs_occupancy_run){0};
}

void kvs_occupancy_results_clear(kvs_occupancy_results *results) {
    kvs_fields_free(kvs_occupancy_results_fields, results);
    for (int i = 0; i < results->runs_count; i++) kvs_occupancy_run_clear(&results->runs[i]);
    free(results->runs);
    *results = (kvs_occupancy_results){0};
}

/* Each sample stands for the time up to the next. */
void kvs_occupancy_summarize(kvs_occupancy_run *run) {
    double used = 0, payload = 0, metadata = 0, residual = 0, padding = 0, fragmentation = 0, external = 0, all = 0;
    for (int64_t i = 0; i + 1 < run->samples; i++) {
        const kvs_occupancy *s = &run->series[i];
        double seconds = run->series[i + 1].t_s - s->t_s;
        used += seconds * s->used_bytes;
        payload += seconds * s->payload_bytes;
        metadata += seconds * s->metadata_bytes;
        residual += seconds * s->residual_bytes;
        padding += seconds * s->padding_bytes;
        fragmentation += seconds * s->fragmentation_bytes;
        external += seconds * s->external_bytes;
        all += seconds * run->memory_bytes;
    }
    run->payload_share = used > 0 ? payload / used : NAN;
    run->metadata_share = used > 0 ? metadata / used : NAN;
    run->residual_share = used > 0 ? residual / used : NAN;
    run->padding_share = used > 0 ? padding / used : NAN;
    run->fragmentation_share = used > 0 ? fragmentation / used : NAN;
    run->external_share = all > 0 ? external / all : NAN;
}

/* {"t_s": [...], "used_pages": [...], ...} */
static int add_series(cJSON *row, const kvs_occupancy_run *run) {
    cJSON *series = cJSON_AddObjectToObject(row, "series");
    double *column = malloc((size_t)(run->samples + 1) * sizeof *column);
    int good = series != NULL && column != NULL;
    for (int c = 0; c < KVS_OCCUPANCY_COLUMNS && good; c++) {
        for (int64_t i = 0; i < run->samples; i++) column[i] = ((const double *)&run->series[i])[c];
        cJSON *array = cJSON_CreateDoubleArray(column, (int)run->samples);
        good = array != NULL && cJSON_AddItemToObject(series, kvs_occupancy_fields[c].name, array);
    }
    free(column);
    return good;
}

struct cJSON *kvs_occupancy_to_json(const kvs_occupancy_results *results, int with_series) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "alloc");
    int good = kvs_fields_to_json(kvs_occupancy_results_fields, results, root, NULL) == KVS_OK;
    cJSON *rows = cJSON_AddArrayToObject(root, "results");
    for (int i = 0; i < results->runs_count && good; i++) {
        cJSON *row = cJSON_CreateObject();
        good = row != NULL && kvs_fields_to_json(kvs_occupancy_run_fields, &results->runs[i], row, NULL) == KVS_OK &&
               cJSON_AddItemToArray(rows, row);
        if (good && with_series) good = add_series(row, &results->runs[i]);
    }
    if (good) return root;
    cJSON_Delete(root);
    return NULL;
}
