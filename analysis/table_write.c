/* table_write.c: tables of fields as HDF5. The file is built in memory and written as bytes, so a full disk is an
 * ordinary error. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/table.h"
#include "core/file.h"

static kvs_status refuse(const kvs_table_file *w, const char *object) {
    return kvs_fail(w->error, KVS_INPUT, w->path, object, "HDF5 cannot build the object");
}

static hid_t memory_type(const kvs_table_file *w, kvs_field_type type) {
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

static hid_t file_type(const kvs_table_file *w, kvs_field_type type) {
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

static kvs_status write_attribute(const kvs_table_file *w, hid_t object, const char *name, kvs_field_type type,
                                  hsize_t count, const void *values) {
    hid_t space = count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &count, NULL);
    hid_t attribute = H5Acreate2(object, name, file_type(w, type), space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t failed = attribute < 0 ? -1 : H5Awrite(attribute, memory_type(w, type), values);
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    return failed < 0 ? refuse(w, name) : KVS_OK;
}

static kvs_status write_text_attribute(const kvs_table_file *w, hid_t object, const char *name, const char *text) {
    return write_attribute(w, object, name, KVS_FIELD_TEXT, 1, &text);
}

kvs_status kvs_table_put_dataset(const kvs_table_file *w, hid_t group, const char *name, hid_t stored, hid_t given,
                                 int rank, const hsize_t *dims, const void *values, const char *unit) {
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
static kvs_status write_column(const kvs_table_file *w, hid_t group, const kvs_field *field, const void *const *rows,
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
    kvs_status status = kvs_table_put_dataset(w, group, field->name, file_type(w, field->type),
                                              memory_type(w, field->type), 1, &count, column, field->unit);
    free(column);
    return status;
}

kvs_status kvs_table_put_rows(const kvs_table_file *w, const char *name, const kvs_field *fields,
                              const void *const *rows, int count, const char *owner, const int *owners) {
    hid_t group = H5Gcreate2(w->file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0) return refuse(w, name);
    hsize_t length = (hsize_t)count;
    kvs_status status = KVS_OK;
    if (owner != NULL)
        status = kvs_table_put_dataset(w, group, owner, H5T_STD_I32LE, H5T_NATIVE_INT, 1, &length, owners, "");
    for (const kvs_field *field = fields; status == KVS_OK && field->name != NULL; field++)
        status = write_column(w, group, field, rows, length);
    if (H5Gclose(group) < 0 && status == KVS_OK) status = refuse(w, name);
    return status;
}

kvs_status kvs_table_put(const kvs_table_file *w, const char *name, const kvs_field *fields, const void *array,
                         size_t row_bytes, int count) {
    const void **rows = calloc((size_t)count + 1, sizeof *rows);
    if (rows == NULL) return kvs_fail(w->error, KVS_INPUT, w->path, name, "out of memory");
    for (int i = 0; i < count; i++) rows[i] = (const char *)array + (size_t)i * row_bytes;
    kvs_status status = kvs_table_put_rows(w, name, fields, rows, count, NULL, NULL);
    free(rows);
    return status;
}

kvs_status kvs_table_put_attributes(const kvs_table_file *w, const kvs_field *fields, const void *row) {
    for (const kvs_field *field = fields; field->name != NULL; field++) {
        const void *at = (const char *)row + field->offset;
        if (field->type == KVS_FIELD_TEXT)
            KVS_TRY(write_text_attribute(w, w->file, field->name, *(char *const *)at ? *(char *const *)at : ""));
        else
            KVS_TRY(write_attribute(w, w->file, field->name, field->type, 1, at));
    }
    return KVS_OK;
}

/* --- the file ------------------------------------------------------------------------------------------------------
 */

/* What a file begins with, and what comes after. */
typedef struct content {
    const char *format;
    int version[2];
    kvs_status (*fill)(const kvs_table_file *file, const void *context);
    const void *context;
} content;

static kvs_status fill(const kvs_table_file *w, const content *c) {
    KVS_TRY(write_text_attribute(w, w->file, "format", c->format));
    KVS_TRY(write_attribute(w, w->file, "format_version", KVS_FIELD_INT, 2, c->version));
    return c->fill(w, c->context);
}

/* Builds the file in memory; *image is the caller's. */
static kvs_status build(const content *c, const char *path, void **image, size_t *bytes, kvs_error *error) {
    kvs_table_file w = {path, error, -1, H5Tcopy(H5T_C_S1)};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    kvs_status status = KVS_OK;
    if (w.text < 0 || access < 0 || H5Tset_size(w.text, H5T_VARIABLE) < 0 || H5Tset_cset(w.text, H5T_CSET_UTF8) < 0 ||
        H5Pset_fapl_core(access, 1 << 20, 0) < 0 || (w.file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access)) < 0)
        status = refuse(&w, "/");
    if (status == KVS_OK) status = fill(&w, c);
    ssize_t size =
        status == KVS_OK && H5Fflush(w.file, H5F_SCOPE_GLOBAL) >= 0 ? H5Fget_file_image(w.file, NULL, 0) : -1;
    if (status == KVS_OK) {
        *image = size > 0 ? malloc((size_t)size) : NULL;
        if (*image == NULL || H5Fget_file_image(w.file, *image, (size_t)size) != size) status = refuse(&w, "/");
        *bytes = (size_t)size;
    }
    if (w.file >= 0) H5Fclose(w.file);
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

kvs_status kvs_table_file_write(const char *path, const char *format, int major, int minor,
                                kvs_status (*fill_file)(const kvs_table_file *file, const void *context),
                                const void *context, kvs_error *error) {
    content c = {format, {major, minor}, fill_file, context};
    void *image = NULL;
    size_t bytes = 0;
    kvs_h5_lock();
    kvs_status status = build(&c, path, &image, &bytes, error);
    kvs_h5_unlock();
    if (status == KVS_OK) status = write_image(path, image, bytes, error);
    free(image);
    return status;
}
