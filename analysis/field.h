/* field.h: a table says where each field of a struct lies and what it is called: the single source of the names in
 * JSON, CSV and HDF5.
 *
 * A dot in a name nests in JSON ("bits.payload" is payload inside bits) and stands as it is in CSV and HDF5. */
#ifndef KVS_ANALYSIS_FIELD_H
#define KVS_ANALYSIS_FIELD_H

#include <stddef.h>
#include <stdio.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;

typedef enum kvs_field_type {
    KVS_FIELD_REAL, /* double; NaN where not available: null in JSON, empty in CSV */
    KVS_FIELD_INT,  /* int */
    KVS_FIELD_LONG, /* int64_t */
    KVS_FIELD_TEXT, /* char *, owned by the struct; NULL where not available: null, empty */
} kvs_field_type;

/* A table ends with an entry whose name is NULL. */
typedef struct kvs_field {
    const char *name;
    kvs_field_type type;
    size_t offset;
    const char *unit; /* "bits", "tokens/s", "1" for a ratio, "" for texts and numbers that count nothing */
    int optional;     /* a real or a text that older files lack: reads as not available */
} kvs_field;

/* Writes a number so that reading it back gives the same double, as short as 15 to 17 digits allow; "null" for what is
 * not finite. The text fits in 32 bytes. */
void kvs_real_text(double value, char *text, size_t text_bytes);

/* Adds the fields of one struct to a JSON object, nesting at dots; optional ones that are not available are left out.
 * KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_fields_to_json(const kvs_field *fields, const void *row, struct cJSON *object,
                                             kvs_error *error);
/* The reverse, into a zeroed struct whose texts become the caller's. KVS_INPUT names a field that is missing or of
 * another type; `file` is for the error. */
KVS_MUST_CHECK kvs_status kvs_fields_from_json(const kvs_field *fields, const struct cJSON *object, const char *file,
                                               void *row, kvs_error *error);

/* Writes a field of CSV (RFC 4180): a text with a comma, a quote or a line break goes in quotes, what is not available
 * is empty. */
void kvs_csv_text(FILE *file, const char *text);
void kvs_field_to_csv(const kvs_field *field, const void *row, FILE *file);

/* Frees the texts of one struct. */
void kvs_fields_free(const kvs_field *fields, void *row);

#ifdef __cplusplus
}
#endif
#endif
