/* json.h: typed access to JSON files that others wrote; every fault names the file, the key and the rule. */
#ifndef KVS_CORE_JSON_H
#define KVS_CORE_JSON_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parses text[0, bytes) (no NUL needed), which must hold one JSON object and nothing else, and no key of
 * an object twice. *root is the caller's, freed with cJSON_Delete. `file` names the text in errors. */
KVS_MUST_CHECK kvs_status kvs_json_parse(const char *file, const char *text, size_t bytes, cJSON **root,
                                         kvs_error *error);
/* The same for a file of at most limit_bytes. */
KVS_MUST_CHECK kvs_status kvs_json_read(const char *path, size_t limit_bytes, cJSON **root, kvs_error *error);

/* The value of a key, or NULL where the key is absent or null. */
const cJSON *kvs_json_find(const cJSON *object, const char *key);

/* A whole number within [low, high] that binary64 holds exactly (|x| <= 2^53); 0 on success. */
int kvs_json_integer(const cJSON *value, int64_t low, int64_t high, int64_t *whole);

/* A key's value of one kind, within bounds. Absent or null gives the fallback; where there is none (_need_), KVS_INPUT.
 */
KVS_MUST_CHECK kvs_status kvs_json_need_int(const char *file, const cJSON *object, const char *key, int low, int high,
                                            int *value, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_json_int(const char *file, const cJSON *object, const char *key, int low, int high,
                                       int fallback, int *value, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_json_real(const char *file, const cJSON *object, const char *key, double low, double high,
                                        double fallback, double *value, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_json_bool(const char *file, const cJSON *object, const char *key, int fallback,
                                        int *value, kvs_error *error);
/* The text lives in the document. fallback may be NULL. */
KVS_MUST_CHECK kvs_status kvs_json_text(const char *file, const cJSON *object, const char *key, const char *fallback,
                                        const char **value, kvs_error *error);

/* Reads a whole file of at most limit_bytes into memory of the caller (freed with free), a NUL behind it. */
KVS_MUST_CHECK kvs_status kvs_read_file(const char *path, size_t limit_bytes, char **text, size_t *bytes,
                                        kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
