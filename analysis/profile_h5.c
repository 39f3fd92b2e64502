/* profile_h5.c: profiles as HDF5 (schema: analysis/PROFILE.md). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/profile_internal.h"
#include "analysis/table.h"
#include "core/h5_isolate.h"

/* Metrics and lines name their launch in a column. */
static const char launch_column[] = "launch";

static kvs_status put_owned(const kvs_table_file *file, const char *name, const kvs_field *fields, const void *array,
                            size_t row_bytes, int count) {
    const void **rows = calloc((size_t)count + 1, sizeof *rows);
    int *owners = calloc((size_t)count + 1, sizeof *owners);
    kvs_status status = KVS_OK;
    if (rows == NULL || owners == NULL) status = kvs_fail(file->error, KVS_INPUT, file->path, name, "out of memory");
    for (int i = 0; i < count && status == KVS_OK; i++) {
        rows[i] = (const char *)array + (size_t)i * row_bytes;
        owners[i] = *(const int *)rows[i]; /* `launch` is the first member of both */
    }
    if (status == KVS_OK) status = kvs_table_put_rows(file, name, fields, rows, count, launch_column, owners);
    free(rows);
    free(owners);
    return status;
}
_Static_assert(offsetof(kvs_profile_metric, launch) == 0 && offsetof(kvs_profile_line, launch) == 0,
               "rows begin with their launch");

static kvs_status fill(const kvs_table_file *file, const void *context) {
    const kvs_profile *p = context;
    KVS_TRY(kvs_table_put_attributes(file, kvs_profile_fields, p));
    KVS_TRY(kvs_table_put(file, "launches", kvs_profile_launch_fields, p->launches, sizeof *p->launches,
                          p->launches_count));
    KVS_TRY(put_owned(file, "metrics", kvs_profile_metric_fields, p->metrics, sizeof *p->metrics, p->metrics_count));
    KVS_TRY(put_owned(file, "lines", kvs_profile_line_fields, p->lines, sizeof *p->lines, p->lines_count));
    return kvs_table_put(file, "notes", kvs_profile_note_fields, p->notes, sizeof *p->notes, p->notes_count);
}

kvs_status kvs_profile_write_h5(const kvs_profile *profile, const char *path, kvs_error *error) {
    return kvs_table_file_write(path, KVS_PROFILE_FORMAT, KVS_PROFILE_MAJOR, KVS_PROFILE_MINOR, fill, profile, error);
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

/* A table whose rows name their launch: *rows is the caller's, also on failure. */
static kvs_status get_owned(hid_t file, const char *path, const char *name, const kvs_field *fields, size_t row_bytes,
                            int64_t *count, void **rows, kvs_error *error) {
    static const kvs_field owner = {launch_column, KVS_FIELD_INT, 0, "", 0};
    void *owners = NULL;
    *count = -1;
    kvs_status status = kvs_table_get_column(file, path, name, &owner, count, &owners, error);
    if (status == KVS_OK) status = kvs_table_get(file, path, name, fields, row_bytes, count, rows, error);
    for (int64_t i = 0; i < *count && status == KVS_OK; i++)
        *(int *)(void *)((char *)*rows + (size_t)i * row_bytes) = ((const int *)owners)[i];
    free(owners);
    return status;
}

/* The launches, as add_launch makes them: what is no field is NaN until the metrics say it. */
static kvs_status get_launches(hid_t file, const char *path, kvs_profile *p, kvs_error *error) {
    int64_t count = -1;
    void *rows = NULL;
    kvs_status status =
        kvs_table_get(file, path, "launches", kvs_profile_launch_fields, sizeof *p->launches, &count, &rows, error);
    p->launches = rows;
    p->launches_count = rows != NULL ? (int)count : 0;
    for (int i = 0; i < p->launches_count; i++)
        for (int c = 0; c < KVS_COUNTERS; c++) p->launches[i].predicted[c] = p->launches[i].measured[c] = NAN;
    return status;
}

static kvs_status get_metrics(hid_t file, const char *path, kvs_profile *p, kvs_error *error) {
    int64_t count = -1;
    void *rows = NULL;
    kvs_status status =
        get_owned(file, path, "metrics", kvs_profile_metric_fields, sizeof(kvs_profile_metric), &count, &rows, error);
    kvs_profile_metric *metrics = rows;
    for (int64_t i = 0; rows != NULL && i < count; i++) {
        if (status == KVS_OK && (metrics[i].launch < 0 || metrics[i].launch >= p->launches_count))
            status = kvs_table_refuse(path, "metrics", launch_column, "names no launch of the file", error);
        if (status == KVS_OK) kvs_profile_adopt(&p->launches[metrics[i].launch], &metrics[i]);
        kvs_fields_free(kvs_profile_metric_fields, &metrics[i]);
    }
    free(rows);
    return status;
}

static kvs_status get_all(hid_t file, const char *path, kvs_profile *p, kvs_error *error) {
    KVS_TRY(kvs_table_check_format(file, path, KVS_PROFILE_FORMAT, KVS_PROFILE_MAJOR, error));
    KVS_TRY(kvs_table_get_attributes(file, path, kvs_profile_fields, p, error));
    KVS_TRY(get_launches(file, path, p, error));
    KVS_TRY(get_metrics(file, path, p, error));
    int64_t count = -1;
    void *rows = NULL;
    kvs_status status = get_owned(file, path, "lines", kvs_profile_line_fields, sizeof *p->lines, &count, &rows, error);
    p->lines = rows;
    p->lines_count = rows != NULL ? (int)count : 0;
    KVS_TRY(status);
    KVS_TRY(kvs_profile_validate(p, path, error));
    return kvs_profile_evaluate(p, error);
}

static kvs_status read_here(const char *path, kvs_profile *profile, kvs_error *error) {
    hid_t file;
    *profile = (kvs_profile){0};
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        status = get_all(file, path, profile, error);
        H5Fclose(file);
    }
    kvs_h5_unlock();
    if (status != KVS_OK) kvs_profile_clear(profile);
    return status;
}

/* In a child process, since HDF5 crashes on some damaged files. */
static kvs_status look(const char *path, kvs_error *error) {
    kvs_profile profile;
    KVS_TRY(read_here(path, &profile, error));
    kvs_profile_clear(&profile);
    return KVS_OK;
}

kvs_status kvs_profile_read_h5(const char *path, kvs_profile *profile, kvs_error *error) {
    *profile = (kvs_profile){0};
    KVS_TRY(kvs_h5_isolated(path, look, error));
    return read_here(path, profile, error);
}

static kvs_status look_for_format(const char *path, kvs_error *error) {
    hid_t file;
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        status = kvs_table_check_format(file, path, KVS_PROFILE_FORMAT, KVS_PROFILE_MAJOR, error);
        H5Fclose(file);
    }
    kvs_h5_unlock();
    return status;
}

int kvs_profile_is_h5(const char *path) {
    return kvs_h5_isolated(path, look_for_format, NULL) == KVS_OK;
}
