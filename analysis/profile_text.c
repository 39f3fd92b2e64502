/* profile_text.c: profiles as JSON and CSV, and back from JSON. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/profile.h"
#include "analysis/profile_internal.h"
#include "core/file.h"
#include "core/json.h"

/* --- JSON ----------------------------------------------------------------------------------------------------------
 */

/* Rows of one launch (or, with launch < 0, all rows) as an array; `launch` lies first in each row. */
static int add_rows(cJSON *object, const char *name, const kvs_field *fields, const void *rows, size_t row_bytes,
                    int count, int launch) {
    cJSON *array = cJSON_AddArrayToObject(object, name);
    int good = array != NULL;
    for (int i = 0; i < count && good; i++) {
        const void *row = (const char *)rows + (size_t)i * row_bytes;
        if (launch >= 0 && *(const int *)row != launch) continue;
        cJSON *item = cJSON_CreateObject();
        good =
            item != NULL && cJSON_AddItemToArray(array, item) && kvs_fields_to_json(fields, row, item, NULL) == KVS_OK;
    }
    return good;
}

static int add_launch(cJSON *array, const kvs_profile *profile, int launch, int with_lines) {
    cJSON *item = cJSON_CreateObject();
    int good = item != NULL && cJSON_AddItemToArray(array, item) &&
               kvs_fields_to_json(kvs_profile_launch_fields, &profile->launches[launch], item, NULL) == KVS_OK &&
               add_rows(item, "metrics", kvs_profile_metric_fields, profile->metrics, sizeof *profile->metrics,
                        profile->metrics_count, launch);
    if (good && with_lines)
        good = add_rows(item, "lines", kvs_profile_line_fields, profile->lines, sizeof *profile->lines,
                        profile->lines_count, launch);
    return good;
}

struct cJSON *kvs_profile_to_json(const kvs_profile *profile, int with_lines) {
    cJSON *root = cJSON_CreateObject();
    int good = root != NULL && cJSON_AddStringToObject(root, "command", "profile") != NULL &&
               cJSON_AddStringToObject(root, "format", KVS_PROFILE_FORMAT) != NULL &&
               cJSON_AddNumberToObject(root, "format_version", KVS_PROFILE_MAJOR) != NULL &&
               kvs_fields_to_json(kvs_profile_fields, profile, root, NULL) == KVS_OK;
    cJSON *launches = good ? cJSON_AddArrayToObject(root, "launches") : NULL;
    good = launches != NULL;
    for (int i = 0; i < profile->launches_count && good; i++) good = add_launch(launches, profile, i, with_lines);
    if (good)
        good = add_rows(root, "notes", kvs_profile_note_fields, profile->notes, sizeof *profile->notes,
                        profile->notes_count, -1);
    if (good) return root;
    cJSON_Delete(root);
    return NULL;
}

kvs_status kvs_profile_write_json(const kvs_profile *profile, const char *path, kvs_error *error) {
    cJSON *root = kvs_profile_to_json(profile, 1);
    char *text = root != NULL ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    kvs_status status = kvs_write_text(path, text, error);
    cJSON_free(text);
    return status;
}

/* --- back from JSON ------------------------------------------------------------------------------------------------
 */

static kvs_status read_metrics(const cJSON *launch, const char *path, kvs_profile_launch *to, kvs_error *error) {
    const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(launch, "metrics"), *item;
    if (!cJSON_IsArray(metrics)) return kvs_fail(error, KVS_INPUT, path, "launches/metrics", "is not a list");
    cJSON_ArrayForEach(item, metrics) {
        kvs_profile_metric row = {0};
        kvs_status status = kvs_fields_from_json(kvs_profile_metric_fields, item, path, &row, error);
        if (status == KVS_OK) kvs_profile_adopt(to, &row);
        kvs_fields_free(kvs_profile_metric_fields, &row);
        KVS_TRY(status);
    }
    return KVS_OK;
}

static kvs_status read_lines(const cJSON *launch, const char *path, kvs_profile *profile, int number,
                             kvs_error *error) {
    const cJSON *lines = cJSON_GetObjectItemCaseSensitive(launch, "lines"), *item;
    cJSON_ArrayForEach(item, lines) {
        kvs_profile_line *row = kvs_profile_new_line(profile, error);
        if (row == NULL) return KVS_INPUT;
        row->launch = number;
        KVS_TRY(kvs_fields_from_json(kvs_profile_line_fields, item, path, row, error));
    }
    return KVS_OK;
}

static kvs_status read_launches(const cJSON *root, const char *path, kvs_profile *profile, kvs_error *error) {
    const cJSON *launches = cJSON_GetObjectItemCaseSensitive(root, "launches"), *item;
    if (!cJSON_IsArray(launches)) return kvs_fail(error, KVS_INPUT, path, "launches", "is not a list");
    cJSON_ArrayForEach(item, launches) {
        int number;
        KVS_TRY(kvs_profile_add_launch(profile, "", NULL, &number, error));
        kvs_profile_launch *launch = &profile->launches[number];
        kvs_fields_free(kvs_profile_launch_fields, launch);
        KVS_TRY(kvs_fields_from_json(kvs_profile_launch_fields, item, path, launch, error));
        KVS_TRY(read_metrics(item, path, launch, error));
        KVS_TRY(read_lines(item, path, profile, number, error));
    }
    return KVS_OK;
}

static kvs_status read_document(const cJSON *root, const char *path, kvs_profile *profile, kvs_error *error) {
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format");
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(root, "format_version");
    if (!cJSON_IsString(format) || strcmp(format->valuestring, KVS_PROFILE_FORMAT) != 0)
        return kvs_fail(error, KVS_INPUT, path, "format", "is not " KVS_PROFILE_FORMAT);
    if (!cJSON_IsNumber(version) || version->valuedouble != KVS_PROFILE_MAJOR)
        return kvs_fail(error, KVS_INPUT, path, "format_version", "cannot be read, only %d", KVS_PROFILE_MAJOR);
    KVS_TRY(kvs_fields_from_json(kvs_profile_fields, root, path, profile, error));
    KVS_TRY(read_launches(root, path, profile, error));
    KVS_TRY(kvs_profile_validate(profile, path, error));
    return kvs_profile_evaluate(profile, error);
}

enum { MOST_BYTES = 1 << 28 };

kvs_status kvs_profile_read_json(const char *path, kvs_profile *profile, kvs_error *error) {
    cJSON *root;
    *profile = (kvs_profile){0};
    KVS_TRY(kvs_json_read(path, MOST_BYTES, &root, error));
    kvs_status status = read_document(root, path, profile, error);
    cJSON_Delete(root);
    if (status != KVS_OK) kvs_profile_clear(profile);
    return status;
}

/* --- CSV -----------------------------------------------------------------------------------------------------------
 */

kvs_status kvs_profile_write_csv(const kvs_profile *profile, const char *path, kvs_error *error) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    if (file == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    fputs("kernel,layout,blocks,recorded_blocks", file);
    for (const kvs_field *field = kvs_profile_metric_fields; field->name != NULL; field++)
        fprintf(file, ",%s", field->name);
    fputc('\n', file);
    for (int i = 0; i < profile->metrics_count; i++) {
        const kvs_profile_launch *launch = &profile->launches[profile->metrics[i].launch];
        kvs_csv_text(file, launch->kernel);
        fputc(',', file);
        kvs_csv_text(file, launch->layout);
        fprintf(file, ",%lld,%lld", (long long)launch->blocks, (long long)launch->recorded_blocks);
        for (const kvs_field *field = kvs_profile_metric_fields; field->name != NULL; field++) {
            fputc(',', file);
            kvs_field_to_csv(field, &profile->metrics[i], file);
        }
        fputc('\n', file);
    }
    kvs_status status = ferror(file) | fclose(file) ? kvs_fail(error, KVS_INPUT, path, NULL, "out of memory")
                                                    : kvs_write_text(path, text, error);
    free(text);
    return status;
}
