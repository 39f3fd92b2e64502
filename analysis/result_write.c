/* result_write.c: results as HDF5 (schema: analysis/RESULTS.md). The file is built in memory and written as bytes, so a
 * full disk is an ordinary error. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/result.h"
#include "core/file.h"
#include "core/h5.h"

/* Every helper returns KVS_OK or fills the writer's error, naming the object. */
typedef struct writer {
    const char *path;
    kvs_error *error;
    hid_t text; /* the type of variable-length UTF-8 */
} writer;

static kvs_status refuse(const writer *w, const char *object) {
    return kvs_fail(w->error, KVS_INPUT, w->path, object, "HDF5 cannot build the object");
}

static hid_t memory_type(const writer *w, kvs_field_type type) {
    switch (type) {
    case KVS_FIELD_REAL:
        return H5T_NATIVE_DOUBLE;
    case KVS_FIELD_INT:
        return H5T_NATIVE_INT;
    case KVS_FIELD_LONG:
        return H5T_NATIVE_INT64;
    default:
        return w->text;
    }
}

static hid_t file_type(const writer *w, kvs_field_type type) {
    switch (type) {
    case KVS_FIELD_REAL:
        return H5T_IEEE_F64LE;
    case KVS_FIELD_INT:
        return H5T_STD_I32LE;
    case KVS_FIELD_LONG:
        return H5T_STD_I64LE;
    default:
        return w->text;
    }
}

static kvs_status write_attribute(const writer *w, hid_t object, const char *name, kvs_field_type type, hsize_t count,
                                  const void *values) {
    hid_t space = count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &count, NULL);
    hid_t attribute = H5Acreate2(object, name, file_type(w, type), space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t failed = attribute < 0 ? -1 : H5Awrite(attribute, memory_type(w, type), values);
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    return failed < 0 ? refuse(w, name) : KVS_OK;
}

static kvs_status write_text_attribute(const writer *w, hid_t object, const char *name, const char *text) {
    return write_attribute(w, object, name, KVS_FIELD_TEXT, 1, &text);
}

static kvs_status write_dataset(const writer *w, hid_t group, const char *name, hid_t stored, hid_t given, int rank,
                                const hsize_t *dims, const void *values, const char *unit) {
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t dataset = H5Dcreate2(group, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    kvs_status status = KVS_OK;
    if (dataset < 0 || H5Dwrite(dataset, given, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) status = refuse(w, name);
    if (status == KVS_OK && unit[0] != '\0') status = write_text_attribute(w, dataset, "unit", unit);
    if (dataset >= 0) H5Dclose(dataset);
    if (space >= 0) H5Sclose(space);
    return status;
}

static size_t field_bytes(kvs_field_type type) {
    return type == KVS_FIELD_INT ? sizeof(int) : sizeof(double); /* a pointer is as long as a double */
}
_Static_assert(sizeof(double) == sizeof(char *) && sizeof(double) == sizeof(int64_t), "columns are gathered by size");

/* One column: the field of every row, gathered. */
static kvs_status write_column(const writer *w, hid_t group, const kvs_field *field, const void *const *rows,
                               hsize_t count) {
    static const char *const empty = "";
    size_t bytes = field_bytes(field->type);
    char *column = malloc(bytes * (size_t)count + 1);
    if (column == NULL) return kvs_fail(w->error, KVS_INPUT, w->path, field->name, "out of memory");
    for (hsize_t i = 0; i < count; i++) {
        const void *at = (const char *)rows[i] + field->offset;
        if (field->type == KVS_FIELD_TEXT && *(char *const *)at == NULL) at = &empty;
        memcpy(column + bytes * (size_t)i, at, bytes);
    }
    kvs_status status = write_dataset(w, group, field->name, file_type(w, field->type), memory_type(w, field->type), 1,
                                      &count, column, field->unit);
    free(column);
    return status;
}

/* A table: a group with one dataset a field, and `result` [rows] where the rows belong to results. */
static kvs_status write_table(const writer *w, hid_t file, const char *name, const kvs_field *fields,
                              const void *const *rows, const int *owners, int count) {
    hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0) return refuse(w, name);
    hsize_t length = (hsize_t)count;
    kvs_status status = KVS_OK;
    if (owners != NULL)
        status = write_dataset(w, group, "result", H5T_STD_I32LE, H5T_NATIVE_INT, 1, &length, owners, "");
    for (const kvs_field *field = fields; status == KVS_OK && field->name != NULL; field++)
        status = write_column(w, group, field, rows, length);
    if (H5Gclose(group) < 0 && status == KVS_OK) status = refuse(w, name);
    return status;
}

/* Which rows of a result a table holds. */
typedef struct rows_of {
    const char *name;
    const kvs_field *fields;
    size_t array, count, row_bytes; /* offsets in kvs_result */
} rows_of;

static const rows_of nested[] = {
    {"heads", kvs_head_result_fields, offsetof(kvs_result, heads), offsetof(kvs_result, heads_count),
     sizeof(kvs_head_result)},
    {"memory", kvs_memory_point_fields, offsetof(kvs_result, memory), offsetof(kvs_result, memory_count),
     sizeof(kvs_memory_point)},
};

static kvs_status write_nested(const writer *w, hid_t file, const rows_of *table, const kvs_results *results) {
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
        status = write_table(w, file, table->name, table->fields, rows, owners, total);
    }
    free(rows);
    free(owners);
    return status;
}

static kvs_status write_rows(const writer *w, hid_t file, const char *name, const kvs_field *fields, const void *array,
                             size_t row_bytes, int count) {
    const void **rows = calloc((size_t)count + 1, sizeof *rows);
    if (rows == NULL) return kvs_fail(w->error, KVS_INPUT, w->path, name, "out of memory");
    for (int i = 0; i < count; i++) rows[i] = (const char *)array + (size_t)i * row_bytes;
    kvs_status status = write_table(w, file, name, fields, rows, NULL, count);
    free(rows);
    return status;
}

static kvs_status write_channels(const writer *w, hid_t file, const kvs_results *results) {
    hid_t folder = H5Gcreate2(file, "channels", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
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
                status = write_dataset(w, group, kvs_channels_names[i], H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, dims,
                                       *kvs_channels_array(&trace, i), "");
        if (group >= 0) H5Gclose(group);
    }
    if (folder >= 0) H5Gclose(folder);
    return status;
}

static kvs_status write_root(const writer *w, hid_t file, const kvs_results *results) {
    int version[] = {KVS_RESULTS_MAJOR, KVS_RESULTS_MINOR};
    KVS_TRY(write_text_attribute(w, file, "format", KVS_RESULTS_FORMAT));
    KVS_TRY(write_attribute(w, file, "format_version", KVS_FIELD_INT, 2, version));
    for (const kvs_field *field = kvs_results_fields; field->name != NULL; field++) {
        const void *at = (const char *)results + field->offset;
        if (field->type == KVS_FIELD_TEXT)
            KVS_TRY(write_text_attribute(w, file, field->name, *(char *const *)at ? *(char *const *)at : ""));
        else
            KVS_TRY(write_attribute(w, file, field->name, field->type, 1, at));
    }
    KVS_TRY(write_rows(w, file, "traces", kvs_trace_summary_fields, results->traces, sizeof *results->traces,
                       results->traces_count));
    KVS_TRY(write_rows(w, file, "results", kvs_result_fields, results->results, sizeof *results->results,
                       results->results_count));
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) KVS_TRY(write_nested(w, file, &nested[i], results));
    return write_channels(w, file, results);
}

/* Builds the file in memory; *image is the caller's. */
static kvs_status build(const kvs_results *results, const char *path, void **image, size_t *bytes, kvs_error *error) {
    writer w = {path, error, H5Tcopy(H5T_C_S1)};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    kvs_status status = KVS_OK;
    if (w.text < 0 || access < 0 || H5Tset_size(w.text, H5T_VARIABLE) < 0 || H5Tset_cset(w.text, H5T_CSET_UTF8) < 0 ||
        H5Pset_fapl_core(access, 1 << 20, 0) < 0 || (file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access)) < 0)
        status = refuse(&w, "/");
    if (status == KVS_OK) status = write_root(&w, file, results);
    ssize_t size = status == KVS_OK && H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0 ? H5Fget_file_image(file, NULL, 0) : -1;
    if (status == KVS_OK) {
        *image = size > 0 ? malloc((size_t)size) : NULL;
        if (*image == NULL || H5Fget_file_image(file, *image, (size_t)size) != size) status = refuse(&w, "/");
        *bytes = (size_t)size;
    }
    if (file >= 0) H5Fclose(file);
    if (access >= 0) H5Pclose(access);
    if (w.text >= 0) H5Tclose(w.text);
    return status;
}

static kvs_status write_image(const char *path, const void *image, size_t bytes, kvs_error *error) {
    kvs_output output;
    KVS_TRY(kvs_output_begin(path, &output, error));
    FILE *file = fopen(output.temporary, "wb");
    int failed = file == NULL || fwrite(image, 1, bytes, file) != bytes;
    if (file != NULL) failed |= fclose(file) != 0;
    if (!failed) return kvs_output_commit(&output, error);
    kvs_fail(error, KVS_INPUT, path, NULL, "cannot be written: %s", strerror(errno));
    kvs_output_abandon(&output);
    return KVS_INPUT;
}

kvs_status kvs_results_write_h5(const kvs_results *results, const char *path, kvs_error *error) {
    void *image = NULL;
    size_t bytes = 0;
    kvs_h5_lock();
    kvs_status status = build(results, path, &image, &bytes, error);
    kvs_h5_unlock();
    if (status == KVS_OK) status = write_image(path, image, bytes, error);
    free(image);
    return status;
}
