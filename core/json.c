#include "core/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

kvs_status kvs_read_file(const char *path, size_t limit_bytes, char **text, size_t *bytes, kvs_error *error) {
    *text = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe that nobody writes must not hold us up */
    struct stat info;
    if (file < 0 || fstat(file, &info) != 0) {
        kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
        if (file >= 0) close(file);
        return KVS_INPUT;
    }
    const char *rule = NULL;
    char *buffer = NULL;
    size_t size = (size_t)info.st_size, got = 0;
    if (!S_ISREG(info.st_mode))
        rule = "is not a regular file";
    else if (size > limit_bytes)
        rule = "is too large for a file of this kind";
    else if ((buffer = malloc(size + 1)) == NULL)
        rule = "out of memory";
    while (rule == NULL && got < size) {
        ssize_t part = read(file, buffer + got, size - got);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) rule = "cannot be read to its end";
        if (part > 0) got += (size_t)part;
    }
    close(file);
    if (rule != NULL) {
        free(buffer);
        return kvs_fail(error, KVS_INPUT, path, NULL, "%s", rule);
    }
    buffer[size] = '\0';
    *text = buffer;
    *bytes = size;
    return KVS_OK;
}

static int by_key(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A key that one object has twice means one thing to one reader and another to the next. The parser has bounded the
 * depth. */
static kvs_status refuse_twins(const char *file, const cJSON *value, kvs_error *error) {
    int count = 0;
    for (const cJSON *item = value->child; item != NULL; item = item->next, count++)
        if (item->child != NULL) KVS_TRY(refuse_twins(file, item, error));
    if (!cJSON_IsObject(value) || count < 2) return KVS_OK;
    char **keys = malloc(sizeof *keys * (size_t)count), **next = keys;
    if (keys == NULL) return kvs_fail(error, KVS_INPUT, file, NULL, "out of memory");
    for (const cJSON *item = value->child; item != NULL; item = item->next) *next++ = item->string;
    qsort(keys, (size_t)count, sizeof *keys, by_key);
    kvs_status status = KVS_OK;
    for (int i = 1; i < count && status == KVS_OK; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0) status = kvs_fail(error, KVS_INPUT, file, keys[i], "is there twice");
    free(keys);
    return status;
}

kvs_status kvs_json_parse(const char *file, const char *text, size_t bytes, cJSON **root, kvs_error *error) {
    const char *end = NULL;
    *root = cJSON_ParseWithLengthOpts(text, bytes, &end, 0);
    if (*root == NULL) {
        size_t at = end != NULL && end >= text ? (size_t)(end - text) : 0;
        return kvs_fail(error, KVS_INPUT, file, NULL, "is no valid JSON, near byte %zu", at);
    }
    for (; end < text + bytes && *end != '\0'; end++)
        if (strchr(" \t\r\n", *end) == NULL) break;
    if (end < text + bytes || !cJSON_IsObject(*root)) {
        cJSON_Delete(*root);
        *root = NULL;
        return kvs_fail(error, KVS_INPUT, file, NULL, "must hold one JSON object and nothing else");
    }
    kvs_status status = refuse_twins(file, *root, error);
    if (status != KVS_OK) {
        cJSON_Delete(*root);
        *root = NULL;
    }
    return status;
}

kvs_status kvs_json_read(const char *path, size_t limit_bytes, cJSON **root, kvs_error *error) {
    char *text;
    size_t bytes;
    *root = NULL;
    KVS_TRY(kvs_read_file(path, limit_bytes, &text, &bytes, error));
    kvs_status status = kvs_json_parse(path, text, bytes, root, error);
    free(text);
    return status;
}

const cJSON *kvs_json_find(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

int kvs_json_integer(const cJSON *value, int64_t low, int64_t high, int64_t *whole) {
    if (!cJSON_IsNumber(value)) return 1;
    double number = value->valuedouble;
    if (!(fabs(number) <= 0x1p53) || number != floor(number)) return 1;
    if ((int64_t)number < low || (int64_t)number > high) return 1;
    *whole = (int64_t)number;
    return 0;
}

kvs_status kvs_json_need_int(const char *file, const cJSON *object, const char *key, int low, int high, int *value,
                             kvs_error *error) {
    const cJSON *item = kvs_json_find(object, key);
    int64_t whole;
    if (item == NULL) return kvs_fail(error, KVS_INPUT, file, key, "is missing");
    if (kvs_json_integer(item, low, high, &whole))
        return kvs_fail(error, KVS_INPUT, file, key, "must be a whole number from %d to %d", low, high);
    *value = (int)whole;
    return KVS_OK;
}

kvs_status kvs_json_int(const char *file, const cJSON *object, const char *key, int low, int high, int fallback,
                        int *value, kvs_error *error) {
    *value = fallback;
    return kvs_json_find(object, key) == NULL ? KVS_OK : kvs_json_need_int(file, object, key, low, high, value, error);
}

kvs_status kvs_json_real(const char *file, const cJSON *object, const char *key, double low, double high,
                         double fallback, double *value, kvs_error *error) {
    const cJSON *item = kvs_json_find(object, key);
    *value = fallback;
    if (item == NULL) return KVS_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= low && item->valuedouble <= high))
        return kvs_fail(error, KVS_INPUT, file, key, "must be a number from %g to %g", low, high);
    *value = item->valuedouble;
    return KVS_OK;
}

kvs_status kvs_json_bool(const char *file, const cJSON *object, const char *key, int fallback, int *value,
                         kvs_error *error) {
    const cJSON *item = kvs_json_find(object, key);
    *value = fallback;
    if (item == NULL) return KVS_OK;
    if (!cJSON_IsBool(item)) return kvs_fail(error, KVS_INPUT, file, key, "must be true or false");
    *value = cJSON_IsTrue(item);
    return KVS_OK;
}

kvs_status kvs_json_text(const char *file, const cJSON *object, const char *key, const char *fallback,
                         const char **value, kvs_error *error) {
    const cJSON *item = kvs_json_find(object, key);
    *value = fallback;
    if (item == NULL) return KVS_OK;
    if (!cJSON_IsString(item)) return kvs_fail(error, KVS_INPUT, file, key, "must be a text");
    *value = item->valuestring;
    return KVS_OK;
}
