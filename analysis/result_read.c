/* result_read.c: results from HDF5. Anything that is not what result_write.c writes is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/result.h"
#include "core/h5_isolate.h"

enum { MOST_ROWS = 1 << 26 }; /* of one table: keeps hostile sizes out of memory arithmetic */

static kvs_status refuse(const char *path, const char *group, const char *name, const char *rule, kvs_error *error) {
    char object[128];
    snprintf(object, sizeof object, "%s%s/%s", group[0] != '\0' ? "/" : "", group, name);
    return kvs_fail(error, KVS_INPUT, path, object, "%s", rule);
}

/* The type to read a field with, or -1 when the stored one is of another kind. Texts: *text is set, to be closed. */
static hid_t reading_type(kvs_field_type type, hid_t stored, hid_t *text) {
    H5T_class_t class = H5Tget_class(stored);
    if (type == KVS_FIELD_TEXT) {
        if (class != H5T_STRING || H5Tis_variable_str(stored) <= 0) return -1;
        *text = H5Tcopy(stored);
        return *text;
    }
    if (type == KVS_FIELD_REAL) return class == H5T_FLOAT ? H5T_NATIVE_DOUBLE : -1;
    if (class != H5T_INTEGER) return -1;
    return type == KVS_FIELD_INT ? H5T_NATIVE_INT : H5T_NATIVE_INT64;
}

/* Texts of HDF5's allocator become ours; an empty one becomes NULL. */
static int adopt_text(char **text) {
    char *theirs = *text;
    *text = theirs != NULL && theirs[0] != '\0' ? strdup(theirs) : NULL;
    int failed = theirs != NULL && theirs[0] != '\0' && *text == NULL;
    H5free_memory(theirs);
    return failed;
}

static kvs_status read_attribute(hid_t file, const char *path, const kvs_field *field, void *row, kvs_error *error) {
    hid_t attribute = H5Aopen(file, field->name, H5P_DEFAULT), text = -1;
    hid_t space = attribute < 0 ? -1 : H5Aget_space(attribute), stored = attribute < 0 ? -1 : H5Aget_type(attribute);
    void *at = (char *)row + field->offset;
    kvs_status status = KVS_OK;
    hid_t type = stored < 0 ? -1 : reading_type(field->type, stored, &text);
    if (type < 0 || H5Sget_simple_extent_npoints(space) != 1 || H5Aread(attribute, type, at) < 0)
        status = refuse(path, "", field->name, "the attribute is missing or of another type", error);
    else if (field->type == KVS_FIELD_TEXT && adopt_text(at))
        status = kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    if (text >= 0) H5Tclose(text);
    if (stored >= 0) H5Tclose(stored);
    if (space >= 0) H5Sclose(space);
    if (attribute >= 0) H5Aclose(attribute);
    return status;
}

static kvs_status check_format(hid_t file, const char *path, kvs_error *error) {
    struct {
        char *format;
    } root = {NULL};
    static const kvs_field format = {"format", KVS_FIELD_TEXT, 0, ""};
    KVS_TRY(read_attribute(file, path, &format, &root, error));
    int same = root.format != NULL && strcmp(root.format, KVS_RESULTS_FORMAT) == 0, version[2] = {-1, -1};
    free(root.format);
    if (!same) return refuse(path, "", "format", "is not " KVS_RESULTS_FORMAT, error);
    hid_t attribute = H5Aopen(file, "format_version", H5P_DEFAULT);
    hid_t space = attribute < 0 ? -1 : H5Aget_space(attribute);
    int good =
        space >= 0 && H5Sget_simple_extent_npoints(space) == 2 && H5Aread(attribute, H5T_NATIVE_INT, version) >= 0;
    if (space >= 0) H5Sclose(space);
    if (attribute >= 0) H5Aclose(attribute);
    if (!good) return refuse(path, "", "format_version", "the attribute is missing or of another type", error);
    if (version[0] == KVS_RESULTS_MAJOR) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, path, "/format_version", "%d.%d cannot be read, only %d", version[0], version[1],
                    KVS_RESULTS_MAJOR);
}

/* Reads [count] values of one column; count < 0: takes the column's own length. */
static kvs_status read_column(hid_t file, const char *path, const char *group, const kvs_field *field, int64_t *count,
                              void **values, kvs_error *error) {
    char name[128];
    snprintf(name, sizeof name, "%s/%s", group, field->name);
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT), text = -1;
    hid_t space = dataset < 0 ? -1 : H5Dget_space(dataset), stored = dataset < 0 ? -1 : H5Dget_type(dataset);
    hid_t type = stored < 0 ? -1 : reading_type(field->type, stored, &text);
    hsize_t length = 0;
    kvs_status status = KVS_OK;
    *values = NULL;
    if (type < 0 || H5Sget_simple_extent_ndims(space) != 1 || H5Sget_simple_extent_dims(space, &length, NULL) != 1)
        status = refuse(path, group, field->name, "the column is missing or of another type", error);
    else if (length > MOST_ROWS || (*count >= 0 && length != (hsize_t)*count))
        status = refuse(path, group, field->name, "the column's length is not the table's", error);
    else if ((*values = calloc((size_t)length + 1, sizeof(double))) == NULL)
        status = kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    else if (length > 0 && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *values) < 0)
        status = refuse(path, group, field->name, "the column cannot be read", error);
    if (status == KVS_OK) *count = (int64_t)length;
    if (text >= 0) H5Tclose(text);
    if (stored >= 0) H5Tclose(stored);
    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    return status;
}

/* A whole table as an array of structs: *rows is the caller's, also on failure; its texts go with it. */
static kvs_status read_table(hid_t file, const char *path, const char *group, const kvs_field *fields, size_t row_bytes,
                             int64_t *count, void **rows, kvs_error *error) {
    for (const kvs_field *field = fields; field->name != NULL; field++) {
        void *column;
        KVS_TRY(read_column(file, path, group, field, count, &column, error));
        if (*rows == NULL) *rows = calloc((size_t)*count + 1, row_bytes);
        kvs_status status = *rows != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
        size_t bytes = field->type == KVS_FIELD_INT ? sizeof(int) : sizeof(double);
        for (int64_t i = 0; i < *count; i++) {
            char *from = (char *)column + bytes * (size_t)i;
            if (field->type == KVS_FIELD_TEXT && adopt_text((char **)from))
                status = kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
            if (*rows != NULL) memcpy((char *)*rows + row_bytes * (size_t)i + field->offset, from, bytes);
        }
        free(column);
        KVS_TRY(status);
    }
    return KVS_OK;
}

/* Deals a table's rows out to their results. The `result` column is ascending. */
static kvs_status read_nested(hid_t file, const char *path, const char *group, const kvs_field *fields,
                              size_t row_bytes, kvs_results *results, size_t array, size_t length, kvs_error *error) {
    static const kvs_field owner = {"result", KVS_FIELD_INT, 0, ""};
    int64_t count = -1;
    void *owners = NULL, *rows = NULL;
    kvs_status status = read_column(file, path, group, &owner, &count, &owners, error);
    if (status == KVS_OK) status = read_table(file, path, group, fields, row_bytes, &count, &rows, error);
    const int *of = owners;
    for (int64_t i = 0, end; status == KVS_OK && i < count; i = end) {
        for (end = i + 1; end < count && of[end] == of[i];) end++;
        char *result = of[i] >= 0 && of[i] < results->results_count ? (char *)&results->results[of[i]] : NULL;
        if (result == NULL || *(void **)(result + array) != NULL) {
            status = refuse(path, group, "result", "is out of range or out of order", error);
            break;
        }
        void *own = malloc((size_t)(end - i) * row_bytes);
        if (own == NULL) {
            status = kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
            break;
        }
        memcpy(own, (char *)rows + (size_t)i * row_bytes, (size_t)(end - i) * row_bytes);
        *(void **)(result + array) = own;
        *(int *)(result + length) = (int)(end - i);
    }
    free(owners);
    free(rows);
    return status;
}

static kvs_status read_channels(hid_t file, const char *path, kvs_results *results, kvs_error *error) {
    for (int t = 0; t < results->traces_count; t++) {
        kvs_trace_summary *trace = &results->traces[t];
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
                return refuse(path, group, kvs_channels_names[i], "is missing or not [layers][kv_heads][head_dim]",
                              error);
        }
    }
    return KVS_OK;
}

/* What the tables must hold together for their readers' sake. */
static kvs_status check(const char *path, const kvs_results *results, kvs_error *error) {
    for (int i = 0; i < results->traces_count; i++) {
        const kvs_trace_summary *trace = &results->traces[i];
        if (trace->layers < 1 || trace->kv_heads < 1 || trace->head_dim < 1 ||
            (double)trace->layers * trace->kv_heads * trace->head_dim > MOST_ROWS)
            return refuse(path, "traces", "num_layers", "the trace's dimensions are out of bounds", error);
    }
    for (int i = 0; i < results->results_count; i++) {
        const kvs_result *result = &results->results[i];
        if (result->trace < 0 || result->trace >= results->traces_count)
            return refuse(path, "results", "trace", "names no trace of the file", error);
        if (result->scheme == NULL) return refuse(path, "results", "scheme", "is empty", error);
        const kvs_trace_summary *trace = &results->traces[result->trace];
        for (int j = 0; j < result->heads_count; j++)
            if (result->heads[j].layer != j / trace->kv_heads || result->heads[j].head != j % trace->kv_heads)
                return refuse(path, "heads", "layer", "heads are not layer by layer", error);
        if (result->heads_count != trace->layers * trace->kv_heads)
            return refuse(path, "heads", "result", "does not have every head of its trace", error);
    }
    return KVS_OK;
}

static kvs_status read_all(hid_t file, const char *path, kvs_results *results, kvs_error *error) {
    KVS_TRY(check_format(file, path, error));
    for (const kvs_field *field = kvs_results_fields; field->name != NULL; field++)
        KVS_TRY(read_attribute(file, path, field, results, error));
    int64_t count = -1;
    void *rows = NULL;
    kvs_status status =
        read_table(file, path, "traces", kvs_trace_summary_fields, sizeof(kvs_trace_summary), &count, &rows, error);
    results->traces = rows;
    results->traces_count = rows != NULL ? (int)count : 0;
    KVS_TRY(status);
    count = -1;
    rows = NULL;
    status = read_table(file, path, "results", kvs_result_fields, sizeof(kvs_result), &count, &rows, error);
    results->results = rows;
    results->results_count = rows != NULL ? (int)count : 0;
    KVS_TRY(status);
    KVS_TRY(read_nested(file, path, "heads", kvs_head_result_fields, sizeof(kvs_head_result), results,
                        offsetof(kvs_result, heads), offsetof(kvs_result, heads_count), error));
    KVS_TRY(read_nested(file, path, "memory", kvs_memory_point_fields, sizeof(kvs_memory_point), results,
                        offsetof(kvs_result, memory), offsetof(kvs_result, memory_count), error));
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
