/* result_json.c: results as JSON, and single results and traces back from it (the sweep's journal). */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/result.h"
#include "core/file.h"

static kvs_status no_memory(kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

/* Adds item, which it takes over, to an object under a name. */
static kvs_status attach(cJSON *object, const char *name, cJSON *item, kvs_error *error) {
    if (item != NULL && cJSON_AddItemToObject(object, name, item)) return KVS_OK;
    cJSON_Delete(item);
    return no_memory(error);
}

/* One struct as an object of its own. */
static kvs_status row_to_json(const kvs_field *fields, const void *row, cJSON **json, kvs_error *error) {
    *json = cJSON_CreateObject();
    if (*json == NULL) return no_memory(error);
    kvs_status status = kvs_fields_to_json(fields, row, *json, error);
    if (status != KVS_OK) {
        cJSON_Delete(*json);
        *json = NULL;
    }
    return status;
}

/* Adds the rows of one table of a result to its object, as an array. */
static kvs_status add_rows(cJSON *object, const kvs_result_rows *table, const kvs_result *result, kvs_error *error) {
    const char *rows = *(const char *const *)((const char *)result + table->array);
    if (table->optional && rows == NULL) return KVS_OK;
    cJSON *array = cJSON_AddArrayToObject(object, table->json), *item;
    if (array == NULL) return no_memory(error);
    for (int i = 0; i < *(const int *)((const char *)result + table->count); i++) {
        KVS_TRY(row_to_json(table->fields, rows + (size_t)i * table->row_bytes, &item, error));
        if (!cJSON_AddItemToArray(array, item)) {
            cJSON_Delete(item);
            return no_memory(error);
        }
    }
    return KVS_OK;
}

kvs_status kvs_result_to_json(const kvs_result *result, cJSON **json, kvs_error *error) {
    KVS_TRY(row_to_json(kvs_result_fields, result, json, error));
    kvs_status status = KVS_OK;
    for (const kvs_result_rows *table = kvs_result_tables; status == KVS_OK && table->name != NULL; table++)
        status = add_rows(*json, table, result, error);
    if (status != KVS_OK) {
        cJSON_Delete(*json);
        *json = NULL;
    }
    return status;
}

static kvs_status rows_from_json(const cJSON *json, const kvs_result_rows *table, const char *file, kvs_result *result,
                                 kvs_error *error) {
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(json, table->json), *item;
    if (array == NULL && table->optional) return KVS_OK;
    if (!cJSON_IsArray(array)) return kvs_fail(error, KVS_INPUT, file, table->json, "is missing or no array");
    int length = cJSON_GetArraySize(array), i = 0;
    char *rows = calloc((size_t)length + 1, table->row_bytes);
    if (rows == NULL) return no_memory(error);
    *(char **)((char *)result + table->array) = rows;
    *(int *)((char *)result + table->count) = length;
    cJSON_ArrayForEach(item, array)
        KVS_TRY(kvs_fields_from_json(table->fields, item, file, rows + (size_t)i++ * table->row_bytes, error));
    return KVS_OK;
}

kvs_status kvs_result_from_json(const cJSON *json, const char *file, kvs_result *result, kvs_error *error) {
    KVS_TRY(kvs_fields_from_json(kvs_result_fields, json, file, result, error));
    for (const kvs_result_rows *table = kvs_result_tables; table->name != NULL; table++)
        KVS_TRY(rows_from_json(json, table, file, result, error));
    return KVS_OK;
}

static cJSON *floats_to_json(const float *values, size_t count) {
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; array != NULL && i < count; i++) {
        char text[32];
        kvs_real_text((double)values[i], text, sizeof text);
        cJSON *item = cJSON_CreateRaw(text);
        if (item == NULL || !cJSON_AddItemToArray(array, item)) {
            cJSON_Delete(item);
            cJSON_Delete(array);
            return NULL;
        }
    }
    return array;
}

kvs_status kvs_trace_summary_to_json(const kvs_trace_summary *trace, int channels, cJSON **json, kvs_error *error) {
    KVS_TRY(row_to_json(kvs_trace_summary_fields, trace, json, error));
    kvs_status status = KVS_OK;
    kvs_trace_summary view = *trace; /* the arrays by number */
    for (int i = 0; status == KVS_OK && channels && kvs_channels_names[i] != NULL; i++) {
        const float *array = *kvs_channels_array(&view, i);
        if (array != NULL)
            status = attach(*json, kvs_channels_names[i], floats_to_json(array, kvs_channels_count(trace)), error);
    }
    if (status != KVS_OK) {
        cJSON_Delete(*json);
        *json = NULL;
    }
    return status;
}

kvs_status kvs_trace_summary_from_json(const cJSON *json, const char *file, kvs_trace_summary *trace,
                                       kvs_error *error) {
    KVS_TRY(kvs_fields_from_json(kvs_trace_summary_fields, json, file, trace, error));
    const cJSON *first = cJSON_GetObjectItemCaseSensitive(json, kvs_channels_names[0]), *item;
    if (first == NULL) return KVS_OK; /* no trace was replayed */
    size_t count = trace->layers > 0 && trace->kv_heads > 0 && trace->head_dim > 0 ? kvs_channels_count(trace) : 0;
    if ((size_t)cJSON_GetArraySize(first) != count)
        return kvs_fail(error, KVS_INPUT, file, kvs_channels_names[0], "does not have the trace's channels");
    KVS_TRY(kvs_channels_alloc(trace, error));
    for (int i = 0; kvs_channels_names[i] != NULL; i++) {
        const cJSON *array = cJSON_GetObjectItemCaseSensitive(json, kvs_channels_names[i]);
        size_t index = 0;
        if ((size_t)cJSON_GetArraySize(array) != count)
            return kvs_fail(error, KVS_INPUT, file, kvs_channels_names[i], "does not have the trace's channels");
        cJSON_ArrayForEach(item, array)(*kvs_channels_array(trace, i))[index++] = (float)cJSON_GetNumberValue(item);
    }
    return KVS_OK;
}

static kvs_status add_traces(const kvs_results *results, cJSON *json, kvs_error *error) {
    cJSON *traces = NULL, *item;
    int one = results->traces_count == 1 && results->command != NULL && strcmp(results->command, "replay") == 0;
    if (!one && (traces = cJSON_AddArrayToObject(json, "traces")) == NULL) return no_memory(error);
    for (int i = 0; i < results->traces_count; i++) {
        KVS_TRY(kvs_trace_summary_to_json(&results->traces[i], 0, &item, error));
        if (one) return attach(json, "trace", item, error);
        if (!cJSON_AddItemToArray(traces, item)) {
            cJSON_Delete(item);
            return no_memory(error);
        }
    }
    return KVS_OK;
}

kvs_status kvs_results_to_json(const kvs_results *results, cJSON **json, kvs_error *error) {
    KVS_TRY(row_to_json(kvs_results_fields, results, json, error));
    kvs_status status = add_traces(results, *json, error);
    cJSON *array = status == KVS_OK ? cJSON_AddArrayToObject(*json, "results") : NULL, *item;
    if (status == KVS_OK && array == NULL) status = no_memory(error);
    for (int i = 0; status == KVS_OK && i < results->results_count; i++) {
        status = kvs_result_to_json(&results->results[i], &item, error);
        if (status == KVS_OK && !cJSON_AddItemToArray(array, item)) {
            cJSON_Delete(item);
            status = no_memory(error);
        }
    }
    if (status != KVS_OK) {
        cJSON_Delete(*json);
        *json = NULL;
    }
    return status;
}

kvs_status kvs_results_write_json(const kvs_results *results, const char *path, kvs_error *error) {
    cJSON *json;
    KVS_TRY(kvs_results_to_json(results, &json, error));
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    kvs_status status = text != NULL ? kvs_write_text(path, text, error) : no_memory(error);
    cJSON_free(text);
    return status;
}
