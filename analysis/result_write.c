/* result_write.c: results as HDF5 (schema: analysis/RESULTS.md). */
#include <stdio.h>
#include <stdlib.h>

#include "analysis/result.h"
#include "analysis/table.h"

static kvs_status write_nested(const kvs_table_file *w, const kvs_result_rows *table, const kvs_results *results) {
    int total = 0, next = 0;
    for (int i = 0; i < results->results_count; i++)
        total += *(const int *)((const char *)&results->results[i] + table->count);
    const void **rows = calloc((size_t)total + 1, sizeof *rows);
    int *owners = calloc((size_t)total + 1, sizeof *owners);
    kvs_status status = KVS_OK;
    if (rows == NULL || owners == NULL) {
        status = kvs_fail(w->error, KVS_INPUT, w->path, table->name, "out of memory");
    } else {
        for (int i = 0; i < results->results_count; i++) {
            const char *result = (const char *)&results->results[i];
            const char *array = *(const char *const *)(result + table->array);
            for (int j = 0; j < *(const int *)(result + table->count); j++, next++) {
                rows[next] = array + (size_t)j * table->row_bytes;
                owners[next] = i;
            }
        }
        status = kvs_table_put_rows(w, table->name, table->fields, rows, total, "result", owners);
    }
    free(rows);
    free(owners);
    return status;
}

static kvs_status refuse(const kvs_table_file *w, const char *object) {
    return kvs_fail(w->error, KVS_INPUT, w->path, object, "HDF5 cannot build the object");
}

static kvs_status write_channels(const kvs_table_file *w, const kvs_results *results) {
    hid_t folder = H5Gcreate2(w->file, "channels", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    kvs_status status = folder < 0 ? refuse(w, "channels") : KVS_OK;
    for (int t = 0; status == KVS_OK && t < results->traces_count; t++) {
        kvs_trace_summary trace = results->traces[t]; /* a view: the arrays by number */
        hsize_t dims[] = {(hsize_t)trace.layers, (hsize_t)trace.kv_heads, (hsize_t)trace.head_dim};
        char name[16];
        snprintf(name, sizeof name, "%06d", t);
        hid_t group = H5Gcreate2(folder, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        if (group < 0) status = refuse(w, name);
        for (int i = 0; status == KVS_OK && kvs_channels_names[i] != NULL; i++)
            if (*kvs_channels_array(&trace, i) != NULL)
                status = kvs_table_put_dataset(w, group, kvs_channels_names[i], H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3,
                                               dims, *kvs_channels_array(&trace, i), "");
        if (group >= 0) H5Gclose(group);
    }
    if (folder >= 0) H5Gclose(folder);
    return status;
}

static kvs_status write_root(const kvs_table_file *w, const void *context) {
    const kvs_results *results = context;
    KVS_TRY(kvs_table_put_attributes(w, kvs_results_fields, results));
    KVS_TRY(kvs_table_put(w, "traces", kvs_trace_summary_fields, results->traces, sizeof *results->traces,
                          results->traces_count));
    KVS_TRY(kvs_table_put(w, "results", kvs_result_fields, results->results, sizeof *results->results,
                          results->results_count));
    for (const kvs_result_rows *table = kvs_result_tables; table->name != NULL; table++)
        KVS_TRY(write_nested(w, table, results));
    return write_channels(w, results);
}

kvs_status kvs_results_write_h5(const kvs_results *results, const char *path, kvs_error *error) {
    return kvs_table_file_write(path, KVS_RESULTS_FORMAT, KVS_RESULTS_MAJOR, KVS_RESULTS_MINOR, write_root, results,
                                error);
}
