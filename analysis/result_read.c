/* result_read.c: results from HDF5. Anything that is not what result_write.c writes is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/result.h"
#include "analysis/table.h"
#include "core/h5_isolate.h"

/* Frees rows with their texts. */
static void free_rows(const kvs_field *fields, void *rows, size_t row_bytes, int64_t count) {
    for (int64_t i = 0; rows != NULL && i < count; i++) kvs_fields_free(fields, (char *)rows + (size_t)i * row_bytes);
    free(rows);
}

/* Deals a table's rows out to their results: those that were dealt are cleared here, as their texts have moved. The
 * `result` column is ascending. */
static kvs_status deal_rows(const char *path, const kvs_result_rows *table, const int *of, char *rows, int64_t count,
                            kvs_results *results, kvs_error *error) {
    for (int64_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && of[end] == of[i];) end++;
        char *result = of[i] >= 0 && of[i] < results->results_count ? (char *)&results->results[of[i]] : NULL;
        if (result == NULL || *(void **)(result + table->array) != NULL)
            return kvs_table_refuse(path, table->name, "result", "is out of range or out of order", error);
        size_t size = (size_t)(end - i) * table->row_bytes;
        void *own = malloc(size);
        if (own == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
        memcpy(own, rows + (size_t)i * table->row_bytes, size);
        memset(rows + (size_t)i * table->row_bytes, 0, size);
        *(void **)(result + table->array) = own;
        *(int *)(result + table->count) = (int)(end - i);
    }
    return KVS_OK;
}

static kvs_status read_nested(hid_t file, const char *path, const kvs_result_rows *table, kvs_results *results,
                              kvs_error *error) {
    static const kvs_field owner = {"result", KVS_FIELD_INT, 0, "", 0};
    if (table->optional && H5Lexists(file, table->name, H5P_DEFAULT) == 0) return KVS_OK;
    int64_t count = -1;
    void *owners = NULL, *rows = NULL;
    kvs_status status = kvs_table_get_column(file, path, table->name, &owner, &count, &owners, error);
    if (status == KVS_OK)
        status = kvs_table_get(file, path, table->name, table->fields, table->row_bytes, &count, &rows, error);
    if (status == KVS_OK) status = deal_rows(path, table, owners, rows, count, results, error);
    free(owners);
    free_rows(table->fields, rows, table->row_bytes, count);
    return status;
}

/* No arrays at all: no trace was replayed. */
static int has_channels(hid_t file, int trace) {
    char group[32];
    H5G_info_t info = {.nlinks = 0};
    snprintf(group, sizeof group, "channels/%06d", trace);
    hid_t id = H5Gopen2(file, group, H5P_DEFAULT);
    int none = id >= 0 && H5Gget_info(id, &info) >= 0 && info.nlinks == 0;
    if (id >= 0) H5Gclose(id);
    return !none;
}

static kvs_status read_channels(hid_t file, const char *path, kvs_results *results, kvs_error *error) {
    for (int t = 0; t < results->traces_count; t++) {
        kvs_trace_summary *trace = &results->traces[t];
        if (!has_channels(file, t)) continue;
        KVS_TRY(kvs_channels_alloc(trace, error));
        for (int i = 0; kvs_channels_names[i] != NULL; i++) {
            char group[32];
            snprintf(group, sizeof group, "channels/%06d", t);
            char name[64];
            snprintf(name, sizeof name, "%s/%s", group, kvs_channels_names[i]);
            hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
            hid_t space = dataset < 0 ? -1 : H5Dget_space(dataset);
            hsize_t dims[3] = {0};
            int good =
                space >= 0 && H5Sget_simple_extent_ndims(space) == 3 &&
                H5Sget_simple_extent_dims(space, dims, NULL) == 3 && dims[0] == (hsize_t)trace->layers &&
                dims[1] == (hsize_t)trace->kv_heads && dims[2] == (hsize_t)trace->head_dim &&
                H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, *kvs_channels_array(trace, i)) >= 0;
            if (space >= 0) H5Sclose(space);
            if (dataset >= 0) H5Dclose(dataset);
            if (!good)
                return kvs_table_refuse(path, group, kvs_channels_names[i],
                                        "is missing or not [layers][kv_heads][head_dim]", error);
        }
    }
    return KVS_OK;
}

/* What the tables must hold together for their readers' sake. */
static kvs_status check(const char *path, const kvs_results *results, kvs_error *error) {
    for (int i = 0; i < results->traces_count; i++) {
        const kvs_trace_summary *trace = &results->traces[i];
        if (trace->layers < 1 || trace->kv_heads < 1 || trace->head_dim < 1 ||
            (double)trace->layers * trace->kv_heads * trace->head_dim > KVS_TABLE_MOST_ROWS)
            return kvs_table_refuse(path, "traces", "num_layers", "the trace's dimensions are out of bounds", error);
    }
    for (int i = 0; i < results->results_count; i++) {
        const kvs_result *result = &results->results[i];
        if (result->trace < 0 || result->trace >= results->traces_count)
            return kvs_table_refuse(path, "results", "trace", "names no trace of the file", error);
        if (result->scheme == NULL) return kvs_table_refuse(path, "results", "scheme", "is empty", error);
        const kvs_trace_summary *trace = &results->traces[result->trace];
        for (int j = 0; j < result->heads_count; j++)
            if (result->heads[j].layer != j / trace->kv_heads || result->heads[j].head != j % trace->kv_heads)
                return kvs_table_refuse(path, "heads", "layer", "heads are not layer by layer", error);
        if (result->heads_count > 0 && result->heads_count != trace->layers * trace->kv_heads)
            return kvs_table_refuse(path, "heads", "result", "does not have every head of its trace", error);
    }
    return KVS_OK;
}

static kvs_status read_all(hid_t file, const char *path, kvs_results *results, kvs_error *error) {
    KVS_TRY(kvs_table_check_format(file, path, KVS_RESULTS_FORMAT, KVS_RESULTS_MAJOR, error));
    KVS_TRY(kvs_table_get_attributes(file, path, kvs_results_fields, results, error));
    int64_t count = -1;
    void *rows = NULL;
    kvs_status status =
        kvs_table_get(file, path, "traces", kvs_trace_summary_fields, sizeof(kvs_trace_summary), &count, &rows, error);
    results->traces = rows;
    results->traces_count = rows != NULL ? (int)count : 0;
    KVS_TRY(status);
    count = -1;
    rows = NULL;
    status = kvs_table_get(file, path, "results", kvs_result_fields, sizeof(kvs_result), &count, &rows, error);
    results->results = rows;
    results->results_count = rows != NULL ? (int)count : 0;
    KVS_TRY(status);
    for (const kvs_result_rows *table = kvs_result_tables; table->name != NULL; table++)
        KVS_TRY(read_nested(file, path, table, results, error));
    KVS_TRY(check(path, results, error));
    return read_channels(file, path, results, error);
}

/* Reads the file in this process. */
static kvs_status read_here(const char *path, kvs_results *results, kvs_error *error) {
    hid_t file;
    *results = (kvs_results){0};
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        status = read_all(file, path, results, error);
        H5Fclose(file);
    }
    kvs_h5_unlock();
    if (status != KVS_OK) kvs_results_clear(results);
    return status;
}

static kvs_status look(const char *path, kvs_error *error) {
    kvs_results results;
    KVS_TRY(read_here(path, &results, error));
    kvs_results_clear(&results);
    return KVS_OK;
}

kvs_status kvs_results_read_h5(const char *path, kvs_results *results, kvs_error *error) {
    *results = (kvs_results){0};
    KVS_TRY(kvs_h5_isolated(path, look, error)); /* HDF5 crashes on some damaged files */
    return read_here(path, results, error);
}
