/* table_read.c: tables of fields from HDF5. Anything that is not what table_write.c writes is refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/table.h"

kvs_status kvs_table_refuse(const char *path, const char *group, const char *name, const char *rule, kvs_error *error) {
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
        status = kvs_table_refuse(path, "", field->name, "the attribute is missing or of another type", error);
    else if (field->type == KVS_FIELD_TEXT && adopt_text(at))
        status = kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    if (text >= 0) H5Tclose(text);
    if (stored >= 0) H5Tclose(stored);
    if (space >= 0) H5Sclose(space);
    if (attribute >= 0) H5Aclose(attribute);
    return status;
}

kvs_status kvs_table_check_format(hid_t file, const char *path, const char *format, int major, kvs_error *error) {
    struct {
        char *format;
    } root = {NULL};
    static const kvs_field field = {"format", KVS_FIELD_TEXT, 0, "", 0};
    KVS_TRY(read_attribute(file, path, &field, &root, error));
    int same = root.format != NULL && strcmp(root.format, format) == 0, version[2] = {-1, -1};
    free(root.format);
    if (!same) return kvs_fail(error, KVS_INPUT, path, "/format", "is not %s", format);
    hid_t attribute = H5Aopen(file, "format_version", H5P_DEFAULT);
    hid_t space = attribute < 0 ? -1 : H5Aget_space(attribute);
    int good =
        space >= 0 && H5Sget_simple_extent_npoints(space) == 2 && H5Aread(attribute, H5T_NATIVE_INT, version) >= 0;
    if (space >= 0) H5Sclose(space);
    if (attribute >= 0) H5Aclose(attribute);
    if (!good)
        return kvs_table_refuse(path, "", "format_version", "the attribute is missing or of another type", error);
    if (version[0] == major) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, path, "/format_version", "%d.%d cannot be read, only %d", version[0], version[1],
                    major);
}

kvs_status kvs_table_get_column(hid_t file, const char *path, const char *group, const kvs_field *field, int64_t *count,
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
        status = kvs_table_refuse(path, group, field->name, "the column is missing or of another type", error);
    else if (length > KVS_TABLE_MOST_ROWS || (*count >= 0 && length != (hsize_t)*count))
        status = kvs_table_refuse(path, group, field->name, "the column's length is not the table's", error);
    else if ((*values = calloc((size_t)length + 1, sizeof(double))) == NULL)
        status = kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    else if (length > 0 && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *values) < 0)
        status = kvs_table_refuse(path, group, field->name, "the column cannot be read", error);
    if (status == KVS_OK) *count = (int64_t)length;
    if (text >= 0) H5Tclose(text);
    if (stored >= 0) H5Tclose(stored);
    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    return status;
}

static int has_column(hid_t file, const char *group, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", group, name);
    return H5Lexists(file, path, H5P_DEFAULT) > 0;
}

kvs_status kvs_table_get(hid_t file, const char *path, const char *group, const kvs_field *fields, size_t row_bytes,
                         int64_t *count, void **rows, kvs_error *error) {
    for (const kvs_field *field = fields; field->name != NULL; field++) {
        void *column;
        if (field->optional && *rows != NULL && !has_column(file, group, field->name)) {
            for (int64_t i = 0; field->type == KVS_FIELD_REAL && i < *count; i++)
                *(double *)((char *)*rows + row_bytes * (size_t)i + field->offset) = NAN;
            continue;
        }
        KVS_TRY(kvs_table_get_column(file, path, group, field, count, &column, error));
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

kvs_status kvs_table_get_attributes(hid_t file, const char *path, const kvs_field *fields, void *row,
                                    kvs_error *error) {
    for (const kvs_field *field = fields; field->name != NULL; field++)
        KVS_TRY(read_attribute(file, path, field, row, error));
    return KVS_OK;
}
