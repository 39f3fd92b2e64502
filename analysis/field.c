#include "analysis/field.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kvs_real_text(double value, char *text, size_t text_bytes) {
    if (!isfinite(value)) {
        snprintf(text, text_bytes, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, text_bytes, "%.*g", digits, value);
        if (strtod(text, NULL) == value) return;
    }
}

static cJSON *number(const kvs_field *field, const char *at) {
    char text[32];
    if (field->type == KVS_FIELD_REAL)
        kvs_real_text(*(const double *)at, text, sizeof text);
    else if (field->type == KVS_FIELD_LONG)
        snprintf(text, sizeof text, "%lld", (long long)*(const int64_t *)at);
    else
        snprintf(text, sizeof text, "%d", *(const int *)at);
    return cJSON_CreateRaw(text);
}

/* The object that holds the last part of a dotted name, which *leaf is set to; made where it is missing and `make` is
 * set. */
static const cJSON *descend(const cJSON *object, const char *name, int make, const char **leaf) {
    const char *dot;
    while (object != NULL && (dot = strchr(name, '.')) != NULL) {
        char part[64];
        snprintf(part, sizeof part, "%.*s", (int)(dot - name), name);
        const cJSON *inner = cJSON_GetObjectItemCaseSensitive(object, part);
        if (inner == NULL && make) inner = cJSON_AddObjectToObject((cJSON *)(uintptr_t)object, part);
        object = inner;
        name = dot + 1;
    }
    *leaf = name;
    return object;
}

static int is_available(const kvs_field *field, const char *at) {
    return field->type == KVS_FIELD_TEXT ? *(char *const *)at != NULL : isfinite(*(const double *)at);
}

kvs_status kvs_fields_to_json(const kvs_field *fields, const void *row, cJSON *object, kvs_error *error) {
    for (const kvs_field *field = fields; field->name != NULL; field++) {
        const char *at = (const char *)row + field->offset, *leaf;
        if (field->optional && !is_available(field, at)) continue;
        cJSON *parent = (cJSON *)(uintptr_t)descend(object, field->name, 1, &leaf);
        const char *text = field->type == KVS_FIELD_TEXT ? *(char *const *)at : NULL;
        cJSON *item = field->type != KVS_FIELD_TEXT ? number(field, at)
                      : text != NULL                ? cJSON_CreateString(text)
                                                    : cJSON_CreateNull();
        if (parent == NULL || item == NULL || !cJSON_AddItemToObject(parent, leaf, item)) {
            cJSON_Delete(item);
            return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
        }
    }
    return KVS_OK;
}

/* 0 when item is what the field holds. */
static int read_field(const kvs_field *field, const cJSON *item, char *at) {
    double value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    switch (field->type) {
    case KVS_FIELD_REAL:
        *(double *)at = value;
        return !cJSON_IsNumber(item) && !cJSON_IsNull(item);
    case KVS_FIELD_INT:
        if (!(fabs(value) <= INT32_MAX) || value != floor(value)) return 1;
        *(int *)at = (int)value;
        return 0;
    case KVS_FIELD_LONG:
        if (!(fabs(value) <= 0x1p53) || value != floor(value)) return 1;
        *(int64_t *)at = (int64_t)value;
        return 0;
    default:
        if (cJSON_IsNull(item)) return 0;
        return !cJSON_IsString(item) || (*(char **)at = strdup(item->valuestring)) == NULL;
    }
}

kvs_status kvs_fields_from_json(const kvs_field *fields, const cJSON *object, const char *file, void *row,
                                kvs_error *error) {
    for (const kvs_field *field = fields; field->name != NULL; field++) {
        const char *leaf;
        const cJSON *parent = descend(object, field->name, 0, &leaf);
        const cJSON *item = parent != NULL ? cJSON_GetObjectItemCaseSensitive(parent, leaf) : NULL;
        if (item == NULL && field->optional) {
            if (field->type == KVS_FIELD_REAL) *(double *)((char *)row + field->offset) = NAN;
            continue;
        }
        if (item == NULL || read_field(field, item, (char *)row + field->offset))
            return kvs_fail(error, KVS_INPUT, file, field->name, "is missing or of another type");
    }
    return KVS_OK;
}

void kvs_csv_text(FILE *file, const char *text) {
    if (text == NULL) return;
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

void kvs_field_to_csv(const kvs_field *field, const void *row, FILE *file) {
    const char *at = (const char *)row + field->offset;
    char text[32];
    switch (field->type) {
    case KVS_FIELD_REAL:
        kvs_real_text(*(const double *)at, text, sizeof text);
        if (isfinite(*(const double *)at)) fputs(text, file);
        return;
    case KVS_FIELD_INT:
        fprintf(file, "%d", *(const int *)at);
        return;
    case KVS_FIELD_LONG:
        fprintf(file, "%lld", (long long)*(const int64_t *)at);
        return;
    default:
        kvs_csv_text(file, *(char *const *)at);
    }
}

void kvs_fields_free(const kvs_field *fields, void *row) {
    for (const kvs_field *field = fields; field->name != NULL; field++)
        if (field->type == KVS_FIELD_TEXT) {
            char **text = (char **)((char *)row + field->offset);
            free(*text);
            *text = NULL;
        }
}
