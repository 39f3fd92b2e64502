#include "core/params.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int kvs_parse_int(const char *text, long long *value) {
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return errno != 0 || end == text || *end != '\0' || (text[0] != '-' && (text[0] < '0' || text[0] > '9'));
}

int kvs_parse_real(const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    return end == text || *end != '\0' || !isfinite(*value) || strpbrk(text, "xXpP \t") != NULL;
}

static const kvs_param *find(const kvs_param *table, const char *key) {
    for (; table->name != NULL; table++)
        if (strcmp(table->name, key) == 0) return table;
    return NULL;
}

/* "a, b, c" of all keys or choices, for error messages. */
static void join(char *text, size_t text_bytes, const char *name, int *count) {
    size_t used = strlen(text);
    snprintf(text + used, text_bytes - used, "%s%s", (*count)++ ? ", " : "", name);
}

static kvs_status out_of_bounds(const kvs_param *p, const char *owner, const char *value, kvs_error *error) {
    return kvs_fail(error, KVS_USAGE, owner, p->name, "%s is outside %g to %g%s%s", value, p->low, p->high,
                    p->unit[0] ? " " : "", p->unit);
}

static kvs_status set(const kvs_param *p, const char *owner, const char *value, void *config, kvs_error *error) {
    void *field = (char *)config + p->offset;
    if (p->type != KVS_PARAM_CHOICE && strcmp(p->fallback, "auto") == 0 && strcmp(value, "auto") == 0) {
        if (p->type == KVS_PARAM_INT)
            *(int *)field = KVS_PARAM_AUTO_INT;
        else
            *(double *)field = NAN;
        return KVS_OK;
    }
    if (p->type == KVS_PARAM_INT) {
        long long number;
        if (kvs_parse_int(value, &number))
            return kvs_fail(error, KVS_USAGE, owner, p->name, "'%s' is not a whole number", value);
        if ((double)number < p->low || (double)number > p->high || number < INT_MIN || number > INT_MAX)
            return out_of_bounds(p, owner, value, error);
        *(int *)field = (int)number;
        return KVS_OK;
    }
    if (p->type == KVS_PARAM_REAL) {
        double number;
        if (kvs_parse_real(value, &number))
            return kvs_fail(error, KVS_USAGE, owner, p->name, "'%s' is not a finite number", value);
        if (number < p->low || number > p->high) return out_of_bounds(p, owner, value, error);
        *(double *)field = number;
        return KVS_OK;
    }
    if (p->type == KVS_PARAM_TEXT) {
        if (strlen(value) >= KVS_PARAM_TEXT_BYTES)
            return kvs_fail(error, KVS_USAGE, owner, p->name, "is longer than %d characters", KVS_PARAM_TEXT_BYTES - 1);
        memcpy(field, value, strlen(value) + 1);
        return KVS_OK;
    }
    char known[256] = "";
    int count = 0;
    for (int i = 0; p->choices[i] != NULL; i++) {
        if (strcmp(p->choices[i], value) == 0) {
            *(int *)field = i;
            return KVS_OK;
        }
        join(known, sizeof known, p->choices[i], &count);
    }
    return kvs_fail(error, KVS_USAGE, owner, p->name, "'%s' is not one of %s", value, known);
}

kvs_status kvs_params_set(const kvs_param *table, const char *owner, const char *key, const char *value, void *config,
                          kvs_error *error) {
    const kvs_param *p = find(table, key);
    if (p != NULL) return set(p, owner, value, config, error);
    char known[256] = "";
    int count = 0;
    for (p = table; p->name != NULL; p++) join(known, sizeof known, p->name, &count);
    return kvs_fail(error, KVS_USAGE, owner, key, "unknown parameter; known: %s", count ? known : "none");
}

void kvs_params_defaults(const kvs_param *table, void *config) {
    for (; table->name != NULL; table++) {
        kvs_status status = set(table, "", table->fallback, config, NULL);
        assert(status == KVS_OK);
        (void)status;
    }
}

kvs_status kvs_params_parse(const kvs_param *table, const char *owner, const char *text, void *config,
                            kvs_error *error) {
    char seen[512] = ",";
    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, ",");
        char pair[KVS_PARAM_TEXT_BYTES + 64];
        if (length >= sizeof pair)
            return kvs_fail(error, KVS_USAGE, owner, NULL, "a parameter is longer than %zu characters", sizeof pair);
        memcpy(pair, text, length);
        pair[length] = '\0';
        text += length + (text[length] == ',');
        char *value = strchr(pair, '=');
        if (value == NULL || value == pair || value[1] == '\0')
            return kvs_fail(error, KVS_USAGE, owner, pair, "a parameter is written key=value");
        *value++ = '\0';
        KVS_TRY(kvs_params_set(table, owner, pair, value, config, error));
        char mark[KVS_PARAM_TEXT_BYTES + 68];
        snprintf(mark, sizeof mark, ",%s,", pair);
        if (strstr(seen, mark) != NULL) return kvs_fail(error, KVS_USAGE, owner, pair, "given twice");
        size_t used = strlen(seen);
        snprintf(seen + used, sizeof seen - used, "%s,", pair);
    }
    return KVS_OK;
}

void kvs_params_text(const kvs_param *param, const void *config, char *text, size_t text_bytes) {
    const void *field = (const char *)config + param->offset;
    if ((param->type == KVS_PARAM_INT && *(const int *)field == KVS_PARAM_AUTO_INT) ||
        (param->type == KVS_PARAM_REAL && isnan(*(const double *)field)))
        snprintf(text, text_bytes, "auto");
    else if (param->type == KVS_PARAM_INT)
        snprintf(text, text_bytes, "%d", *(const int *)field);
    else if (param->type == KVS_PARAM_REAL)
        snprintf(text, text_bytes, "%.9g", *(const double *)field);
    else if (param->type == KVS_PARAM_TEXT)
        snprintf(text, text_bytes, "%s", (const char *)field);
    else
        snprintf(text, text_bytes, "%s", param->choices[*(const int *)field]);
}
