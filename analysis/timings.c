#include "analysis/timings.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/field_table.h"
#include "core/json.h"

#define ROW kvs_timings
const kvs_field kvs_timings_fields[] = {
    TEXT(version),
    TEXT(command_line),
    TEXT(backend),
    TEXT(device),
    TEXT(compute_capability),
    INT(multiprocessors, ""),
    LONG(l2_bytes, "bytes"),
    INT(kv_heads, "heads"),
    INT(query_heads, "heads"),
    INT(head_dim, "channels"),
    INT(page_tokens, "tokens"),
    INT(boost_channels, "channels"),
    INT(sink_tokens, "tokens"),
    INT(window_tokens, "tokens"),
    INT(repeats, ""),
    END,
};
#undef ROW

#define ROW kvs_timing
const kvs_field kvs_timing_fields[] = {
    TEXT(kernel),
    TEXT(layout),
    INT(batch, "sequences"),
    INT(tokens, "tokens"),
    INT(splits, ""),
    REAL(seconds, "s"),
    REAL(seconds_p10, "s"),
    REAL(seconds_p90, "s"),
    REAL(bytes, "bytes"),
    REAL(gb_per_s, "GB/s"),
    REAL(of_copy, "1"),
    REAL(speedup_vs_fp16, "1"),
    REAL(speedup_vs_peer, "1"),
    REAL(speedup_vs_fastest, "1"),
    END,
};
#undef ROW

void kvs_timings_clear(kvs_timings *timings) {
    for (int i = 0; i < timings->count; i++) kvs_fields_free(kvs_timing_fields, &timings->rows[i]);
    free(timings->rows);
    kvs_fields_free(kvs_timings_fields, timings);
    *timings = (kvs_timings){0};
}

/* Room for a row more, zeroed; NULL when memory is short. */
static kvs_timing *new_row(kvs_timings *timings, kvs_error *error) {
    kvs_timing *grown = realloc(timings->rows, ((size_t)timings->count + 1) * sizeof *grown);
    if (grown == NULL) {
        kvs_fail(error, KVS_INPUT, "timings", NULL, "out of memory");
        return NULL;
    }
    timings->rows = grown;
    grown[timings->count] = (kvs_timing){0};
    return &grown[timings->count++];
}

kvs_status kvs_timings_add(kvs_timings *timings, const char *kernel, const char *layout, kvs_timing **row,
                           kvs_error *error) {
    *row = new_row(timings, error);
    if (*row == NULL) return KVS_INPUT;
    **row = (kvs_timing){.kernel = strdup(kernel), .layout = strdup(layout), .seconds = NAN, .seconds_p10 = NAN};
    (*row)->seconds_p90 = (*row)->bytes = (*row)->gb_per_s = (*row)->of_copy = NAN;
    (*row)->speedup_vs_fp16 = (*row)->speedup_vs_peer = (*row)->speedup_vs_fastest = NAN;
    if ((*row)->kernel != NULL && (*row)->layout != NULL) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, "timings", kernel, "out of memory");
}

struct cJSON *kvs_timings_to_json(const kvs_timings *timings) {
    cJSON *root = cJSON_CreateObject();
    int good = cJSON_AddStringToObject(root, "command", "bench") != NULL &&
               kvs_fields_to_json(kvs_timings_fields, timings, root, NULL) == KVS_OK;
    cJSON *rows = cJSON_AddArrayToObject(root, "results");
    for (int i = 0; i < timings->count && good; i++) {
        cJSON *row = cJSON_CreateObject();
        good = row != NULL && cJSON_AddItemToArray(rows, row) &&
               kvs_fields_to_json(kvs_timing_fields, &timings->rows[i], row, NULL) == KVS_OK;
    }
    if (good) return root;
    cJSON_Delete(root);
    return NULL;
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

enum { MOST_BYTES = 1 << 24, MOST_TOKENS = 1 << 24, MOST_BATCH = 1 << 16 };

static int is_positive(double x) {
    return isfinite(x) && x > 0;
}

static kvs_status check_row(const char *path, const kvs_timing *row, int number, kvs_error *error) {
    if (row->kernel == NULL || row->layout == NULL)
        return kvs_fail(error, KVS_INPUT, path, "results", "result %d has no kernel, or no layout", number);
    if (row->batch < 0 || row->batch > MOST_BATCH || row->tokens < 0 || row->tokens > MOST_TOKENS)
        return kvs_fail(error, KVS_INPUT, path, "results", "result %d: %d sequences of %d tokens: outside 0 to %d, %d",
                        number, row->batch, row->tokens, MOST_BATCH, MOST_TOKENS);
    if (!is_positive(row->seconds) || !is_positive(row->of_copy))
        return kvs_fail(error, KVS_INPUT, path, "results", "result %d: seconds and of_copy are no numbers above 0",
                        number);
    return KVS_OK;
}

static kvs_status read_document(const cJSON *root, const char *path, kvs_timings *timings, kvs_error *error) {
    const char *command, *backend;
    const cJSON *results = kvs_json_find(root, "results"), *item;
    KVS_TRY(kvs_json_text(path, root, "command", "", &command, error));
    KVS_TRY(kvs_json_text(path, root, "backend", "", &backend, error));
    if (strcmp(command, "bench") != 0)
        return kvs_fail(error, KVS_INPUT, path, "command", "is not bench; of all else the plots read HDF5");
    if (strcmp(backend, "cpu") == 0)
        return kvs_fail(error, KVS_INPUT, path, "backend", "cpu has no kernels; of cuda and simt there are plots");
    KVS_TRY(kvs_fields_from_json(kvs_timings_fields, root, path, timings, error));
    if (!cJSON_IsArray(results)) return kvs_fail(error, KVS_INPUT, path, "results", "is no list");
    cJSON_ArrayForEach(item, results) {
        kvs_timing *row = new_row(timings, error);
        if (row == NULL) return KVS_INPUT;
        KVS_TRY(kvs_fields_from_json(kvs_timing_fields, item, path, row, error));
        KVS_TRY(check_row(path, row, timings->count - 1, error));
    }
    return KVS_OK;
}

kvs_status kvs_timings_read_json(const char *path, kvs_timings *timings, kvs_error *error) {
    cJSON *root;
    *timings = (kvs_timings){0};
    KVS_TRY(kvs_json_read(path, MOST_BYTES, &root, error));
    kvs_status status = read_document(root, path, timings, error);
    cJSON_Delete(root);
    if (status != KVS_OK) kvs_timings_clear(timings);
    return status;
}
