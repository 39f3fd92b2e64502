/* occupancy_h5.c: allocation results as HDF5 (schema: analysis/OCCUPANCY.md). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/occupancy.h"
#include "core/h5_isolate.h"
#include "core/h5_output.h"

enum { VERSION = 1, MOST_RUNS = 100000 };

/* "version" is the number of the schema; the program's own stands beside it. */
static const char *attribute_name(const kvs_field *field) {
    return strcmp(field->name, "version") == 0 ? "kvscope_version" : field->name;
}

static kvs_status put_int(kvs_h5_place at, const char *name, int64_t number, kvs_error *error) {
    return kvs_h5_put(at, name, H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &number, error);
}

static kvs_status put_fields(kvs_h5_place at, const kvs_field *fields, const void *row, kvs_error *error) {
    for (; fields->name != NULL; fields++) {
        const void *value = (const char *)row + fields->offset;
        kvs_status status = KVS_OK;
        if (fields->type == KVS_FIELD_TEXT) {
            const char *text = *(char *const *)value;
            status = kvs_h5_put_text(at, attribute_name(fields), text != NULL ? text : "", error);
        } else if (fields->type == KVS_FIELD_REAL)
            status = kvs_h5_put(at, fields->name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, value, error);
        else
            status = put_int(at, fields->name, *(const int64_t *)value, error);
        KVS_TRY(status);
    }
    return KVS_OK;
}

static kvs_status put_series(kvs_h5_place at, const kvs_occupancy_run *run, kvs_error *error) {
    hsize_t dims[2] = {(hsize_t)run->samples, KVS_OCCUPANCY_COLUMNS};
    if (run->samples == 0) return KVS_OK;
    hid_t space = H5Screate_simple(2, dims, NULL), list = H5Pcreate(H5P_DATASET_CREATE), set = -1;
    if (space >= 0 && list >= 0 && H5Pset_chunk(list, 2, dims) >= 0 && H5Pset_shuffle(list) >= 0 &&
        H5Pset_deflate(list, 4) >= 0)
        set = H5Dcreate2(at.id, "series", H5T_IEEE_F64LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    int good = set >= 0 && H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, run->series) >= 0;
    if (set >= 0 && H5Dclose(set) < 0) good = 0;
    if (list >= 0) H5Pclose(list);
    if (space >= 0) H5Sclose(space);
    return good ? KVS_OK : kvs_h5_fail(error, at, "series", "cannot be written");
}

static kvs_status put_run(kvs_h5_place runs, int i, const kvs_occupancy_run *run, kvs_error *error) {
    char name[32];
    snprintf(name, sizeof name, "%03d", i);
    hid_t group = H5Gcreate2(runs.id, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0) return kvs_h5_fail(error, runs, name, "cannot be created");
    kvs_h5_place at = {group, runs.file, name};
    kvs_status status = put_fields(at, kvs_occupancy_run_fields, run, error);
    if (status == KVS_OK) status = put_series(at, run, error);
    H5Gclose(group);
    return status;
}

static kvs_status put_all(kvs_h5_place root, const kvs_occupancy_results *results, kvs_error *error) {
    KVS_TRY(kvs_h5_put_text(root, "kvscope_kind", "occupancy", error));
    KVS_TRY(put_int(root, "version", VERSION, error));
    KVS_TRY(put_int(root, "count", results->runs_count, error));
    KVS_TRY(put_fields(root, kvs_occupancy_results_fields, results, error));
    hid_t group = H5Gcreate2(root.id, "runs", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0) return kvs_h5_fail(error, root, "runs", "cannot be created");
    kvs_status status = KVS_OK;
    for (int i = 0; i < results->runs_count && status == KVS_OK; i++)
        status = put_run((kvs_h5_place){group, root.file, "runs"}, i, &results->runs[i], error);
    H5Gclose(group);
    return status;
}

kvs_status kvs_occupancy_write_h5(const kvs_occupancy_results *results, const char *path, kvs_error *error) {
    kvs_h5_output output;
    kvs_h5_lock();
    kvs_status status = kvs_h5_create(path, &output, error);
    if (status == KVS_OK) {
        status = put_all((kvs_h5_place){output.file, path, ""}, results, error);
        if (status == KVS_OK)
            status = kvs_h5_finish(&output, error);
        else
            kvs_h5_abandon(&output);
    }
    kvs_h5_unlock();
    return status;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static kvs_status get_text(kvs_h5_place at, const char *name, char **text, kvs_error *error) {
    char buffer[8192];
    KVS_TRY(kvs_h5_text(at, name, buffer, sizeof buffer, error));
    *text = strdup(buffer);
    return *text != NULL ? KVS_OK : kvs_h5_fail(error, at, name, "does not fit in memory");
}

/* NaN is a value here: not available. */
static kvs_status get_real(kvs_h5_place at, const char *name, double *value, kvs_error *error) {
    hid_t attribute = kvs_h5_has_attribute(at, name) ? H5Aopen(at.id, name, H5P_DEFAULT) : -1;
    hid_t space = attribute >= 0 ? H5Aget_space(attribute) : -1;
    int good =
        space >= 0 && H5Sget_simple_extent_npoints(space) == 1 && H5Aread(attribute, H5T_NATIVE_DOUBLE, value) >= 0;
    if (space >= 0) H5Sclose(space);
    if (attribute >= 0) H5Aclose(attribute);
    return good ? KVS_OK : kvs_h5_fail(error, at, name, "is missing or no number");
}

static kvs_status get_fields(kvs_h5_place at, const kvs_field *fields, void *row, kvs_error *error) {
    for (; fields->name != NULL; fields++) {
        void *value = (char *)row + fields->offset;
        if (fields->type == KVS_FIELD_TEXT)
            KVS_TRY(get_text(at, attribute_name(fields), value, error));
        else if (fields->type == KVS_FIELD_REAL)
            KVS_TRY(get_real(at, fields->name, value, error));
        else
            KVS_TRY(kvs_h5_int(at, fields->name, 0, INT64_MAX, value, error));
    }
    return KVS_OK;
}

static kvs_status get_series(kvs_h5_place at, kvs_occupancy_run *run, kvs_error *error) {
    hsize_t dims[2];
    hid_t set;
    if (run->samples == 0) return KVS_OK;
    KVS_TRY(kvs_h5_dataset(at, "series", 2, 256 << 20, dims, &set, error));
    kvs_status status = KVS_OK;
    if (dims[0] != (hsize_t)run->samples || dims[1] != KVS_OCCUPANCY_COLUMNS || dims[0] > 1 << 24)
        status = kvs_h5_fail(error, at, "series", "is not [samples][columns]");
    if (status == KVS_OK) {
        run->series = malloc((size_t)run->samples * sizeof *run->series);
        if (run->series == NULL || H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, run->series) < 0)
            status = kvs_h5_fail(error, at, "series", "cannot be read");
    }
    H5Dclose(set);
    return status;
}

static kvs_status get_runs(kvs_h5_place root, kvs_occupancy_results *results, int64_t count, kvs_error *error) {
    hid_t group;
    KVS_TRY(kvs_h5_group(root, "runs", &group, error));
    results->runs = calloc((size_t)count + 1, sizeof *results->runs);
    kvs_status status = results->runs != NULL ? KVS_OK : kvs_h5_fail(error, root, "runs", "do not fit in memory");
    for (int i = 0; i < count && status == KVS_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "%03d", i);
        hid_t one;
        status = kvs_h5_group((kvs_h5_place){group, root.file, "runs"}, name, &one, error);
        if (status != KVS_OK) break;
        results->runs_count = i + 1;
        status = get_fields((kvs_h5_place){one, root.file, name}, kvs_occupancy_run_fields, &results->runs[i], error);
        if (status == KVS_OK) status = get_series((kvs_h5_place){one, root.file, name}, &results->runs[i], error);
        H5Gclose(one);
    }
    H5Gclose(group);
    return status;
}

static kvs_status get_all(kvs_h5_place root, kvs_occupancy_results *results, kvs_error *error) {
    char kind[32];
    int64_t version, count;
    KVS_TRY(kvs_h5_text(root, "kvscope_kind", kind, sizeof kind, error));
    if (strcmp(kind, "occupancy") != 0) return kvs_h5_fail(error, root, "kvscope_kind", "is not 'occupancy'");
    KVS_TRY(kvs_h5_int(root, "version", VERSION, VERSION, &version, error));
    KVS_TRY(kvs_h5_int(root, "count", 0, MOST_RUNS, &count, error));
    KVS_TRY(get_fields(root, kvs_occupancy_results_fields, results, error));
    return get_runs(root, results, count, error);
}

static kvs_status read_file(const char *path, kvs_occupancy_results *results, kvs_error *error) {
    hid_t file;
    *results = (kvs_occupancy_results){0};
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        status = get_all((kvs_h5_place){file, path, ""}, results, error);
        H5Fclose(file);
    }
    kvs_h5_unlock();
    if (status != KVS_OK) kvs_occupancy_results_clear(results);
    return status;
}

/* In a child process, since HDF5 crashes on some damaged files. */
static kvs_status look(const char *path, kvs_error *error) {
    kvs_occupancy_results results;
    KVS_TRY(read_file(path, &results, error));
    kvs_occupancy_results_clear(&results);
    return KVS_OK;
}

kvs_status kvs_occupancy_read_h5(const char *path, kvs_occupancy_results *results, kvs_error *error) {
    *results = (kvs_occupancy_results){0};
    KVS_TRY(kvs_h5_isolated(path, look, error));
    return read_file(path, results, error);
}

/* KVS_OK: allocation results; KVS_CHECK: something else that HDF5 can read. */
static kvs_status look_for_kind(const char *path, kvs_error *error) {
    char kind[32];
    hid_t file;
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        status = kvs_h5_text((kvs_h5_place){file, path, ""}, "kvscope_kind", kind, sizeof kind, error);
        if (status != KVS_OK || strcmp(kind, "occupancy") != 0) status = KVS_CHECK;
        H5Fclose(file);
    }
    kvs_h5_unlock();
    return status;
}

int kvs_occupancy_is_h5(const char *path) {
    return kvs_h5_isolated(path, look_for_kind, NULL) == KVS_OK;
}
