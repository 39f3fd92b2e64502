/* params.h: named parameters of registered things (schemes, plots, generators), as one table each.
 *
 * A table says for each parameter where its value goes in a plain configuration struct; the same table parses
 * "name:key=value,key=value", fills defaults, checks bounds, and prints the documentation of `kvscope list`. */
#ifndef KVS_CORE_PARAMS_H
#define KVS_CORE_PARAMS_H

#include <limits.h>
#include <stddef.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_PARAM_TEXT_BYTES = 256 };

typedef enum kvs_param_type {
    KVS_PARAM_INT,    /* int */
    KVS_PARAM_REAL,   /* double */
    KVS_PARAM_CHOICE, /* int: index into choices */
    KVS_PARAM_TEXT,   /* char[KVS_PARAM_TEXT_BYTES]: a file's path, say; without a comma, "" by default */
} kvs_param_type;

typedef struct kvs_param {
    const char *name;
    kvs_param_type type;
    size_t offset;              /* of the int or double in the configuration struct */
    const char *fallback;       /* the default, as a user would write it */
    double low, high;           /* inclusive bounds of numbers */
    const char *unit;           /* "tokens", "bits", "" */
    const char *summary;        /* one line */
    const char *const *choices; /* NULL-terminated; for KVS_PARAM_CHOICE */
} kvs_param;

/* What a number holds whose value is "auto": allowed where the default is "auto". A real holds NaN. */
#define KVS_PARAM_AUTO_INT INT_MIN

/* A table of parameters ends with an entry whose name is NULL. */

/* Fills config with the table's defaults. A default that does not parse is a programmer's error (asserted). */
void kvs_params_defaults(const kvs_param *table, void *config);

/* Parses "key=value,key=value" (may be empty or NULL) over what config already holds. `owner` names the thing in
 * errors ("scheme kitty"). Fails with KVS_USAGE on an unknown or repeated key, a bad number, or a value out of bounds.
 */
KVS_MUST_CHECK kvs_status kvs_params_parse(const kvs_param *table, const char *owner, const char *text, void *config,
                                           kvs_error *error);

/* Sets one parameter from text; same errors. */
KVS_MUST_CHECK kvs_status kvs_params_set(const kvs_param *table, const char *owner, const char *key, const char *value,
                                         void *config, kvs_error *error);

/* Writes the value of one parameter as a user would write it; the text fits in 32 bytes. */
void kvs_params_text(const kvs_param *param, const void *config, char *text, size_t text_bytes);

/* Strict numbers: the whole text must be one finite number. Return 0 on success. */
int kvs_parse_int(const char *text, long long *value);
int kvs_parse_real(const char *text, double *value);

#ifdef __cplusplus
}
#endif
#endif
