#include "sim/grid.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"
#include "kernels/scheme.h"

void kvs_grid_clear(kvs_grid *grid) {
    for (int i = 0; i < grid->count; i++) free(grid->specs[i]);
    free(grid->specs);
    *grid = (kvs_grid){0};
}

static kvs_status no_memory(kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

/* Appends a text, which it takes over. */
static kvs_status append(kvs_grid *list, char *text, kvs_error *error) {
    if (text != NULL && (list->count & (list->count - 1)) == 0) { /* room doubles at each power of two */
        char **grown = realloc(list->specs, sizeof *grown * (size_t)(list->count > 0 ? 2 * list->count : 1));
        if (grown == NULL) {
            free(text);
            return no_memory(error);
        }
        list->specs = grown;
    }
    if (text == NULL) return no_memory(error);
    list->specs[list->count++] = text;
    return KVS_OK;
}

/* --- values of one key ---------------------------------------------------------------------------------------------
 */

/* "0:0.5:0.125" as its numbers. */
static kvs_status add_range(const char *spec, char *item, kvs_grid *values, kvs_error *error) {
    double bounds[3];
    int count = 0;
    char *rest = NULL;
    for (char *part = strtok_r(item, ":", &rest); part != NULL; part = strtok_r(NULL, ":", &rest)) {
        if (count == 3 || kvs_parse_real(part, &bounds[count]))
            return kvs_fail(error, KVS_USAGE, spec, part, "a range is first:last:step, three numbers");
        count++;
    }
    if (count != 3) return kvs_fail(error, KVS_USAGE, spec, item, "a range is first:last:step, three numbers");
    double steps = (bounds[1] - bounds[0]) / bounds[2];
    if (!(steps >= 0 && steps < KVS_GRID_MOST))
        return kvs_fail(error, KVS_USAGE, spec, item, "the range never reaches its last value, or holds too many");
    for (int i = 0; i <= (int)floor(steps + 1e-9); i++) {
        char text[32];
        snprintf(text, sizeof text, "%.10g", bounds[0] + i * bounds[2]);
        KVS_TRY(append(values, strdup(text), error));
    }
    return KVS_OK;
}

/* What a key takes: the text after its "=", a list in brackets or one value. */
static kvs_status add_values(const char *spec, const char *text, kvs_grid *values, kvs_error *error) {
    size_t length = strlen(text);
    if (text[0] != '[') return append(values, strdup(text), error);
    if (length < 3 || text[length - 1] != ']')
        return kvs_fail(error, KVS_USAGE, spec, text, "a list is [value,value,...]");
    char *copy = strndup(text + 1, length - 2), *rest = NULL;
    if (copy == NULL) return no_memory(error);
    kvs_status status = KVS_OK;
    for (char *item = strtok_r(copy, ",", &rest); item != NULL && status == KVS_OK; item = strtok_r(NULL, ",", &rest))
        status = strchr(item, ':') != NULL ? add_range(spec, item, values, error) : append(values, strdup(item), error);
    free(copy);
    return status;
}

/* --- the product ---------------------------------------------------------------------------------------------------
 */

enum { MOST_KEYS = 32 };

typedef struct axis {
    char *key;
    kvs_grid values;
} axis;

/* Splits "key=value,key=[a,b]" at the commas outside brackets. */
static kvs_status split(const char *spec, char *text, axis axes[MOST_KEYS], int *count, kvs_error *error) {
    int depth = 0;
    for (char *start = text, *c = text;; c++) {
        depth += *c == '[' ? 1 : *c == ']' ? -1 : 0;
        if (depth < 0 || depth > 1 || (*c == '\0' && depth != 0))
            return kvs_fail(error, KVS_USAGE, spec, NULL, "brackets do not match");
        if (*c != '\0' && (*c != ',' || depth > 0)) continue;
        int last = *c == '\0';
        *c = '\0';
        char *equals = strchr(start, '=');
        if (equals == NULL || equals == start)
            return kvs_fail(error, KVS_USAGE, spec, start, "must be key=value or key=[value,...]");
        if (*count == MOST_KEYS) return kvs_fail(error, KVS_USAGE, spec, start, "too many keys");
        *equals = '\0';
        axes[*count].key = start;
        KVS_TRY(add_values(spec, equals + 1, &axes[(*count)++].values, error));
        if (last) return KVS_OK;
        start = c + 1;
    }
}

static int known(const kvs_grid *grid, const char *spec) {
    for (int i = 0; i < grid->count; i++)
        if (strcmp(grid->specs[i], spec) == 0) return 1;
    return 0;
}

/* Adds the scheme at one place of the product. */
static kvs_status add_product(kvs_grid *grid, const char *name, const axis *axes, int count, const int *at,
                              kvs_error *error) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL) return no_memory(error);
    fputs(name, out);
    for (int i = 0; i < count; i++)
        fprintf(out, "%c%s=%s", i == 0 ? ':' : ',', axes[i].key, axes[i].values.specs[at[i]]);
    if (ferror(out) | fclose(out)) {
        free(text);
        return no_memory(error);
    }
    if (!known(grid, text)) return append(grid, text, error);
    free(text);
    return KVS_OK;
}

static kvs_status expand(kvs_grid *grid, const char *spec, const char *name, const axis *axes, int count,
                         kvs_error *error) {
    int at[MOST_KEYS] = {0};
    double product = 1;
    for (int i = 0; i < count; i++) product *= axes[i].values.count;
    if (product + grid->count > KVS_GRID_MOST)
        return kvs_fail(error, KVS_USAGE, spec, NULL, "gives more than %d schemes", KVS_GRID_MOST);
    for (;;) {
        KVS_TRY(add_product(grid, name, axes, count, at, error));
        int i = count - 1;
        while (i >= 0 && ++at[i] == axes[i].values.count) at[i--] = 0;
        if (i < 0) return KVS_OK;
    }
}

static kvs_status add_spec(kvs_grid *grid, const char *spec, kvs_error *error) {
    char *copy = strdup(spec);
    if (copy == NULL) return no_memory(error);
    char *colon = strchr(copy, ':');
    if (colon != NULL) *colon = '\0';
    axis axes[MOST_KEYS] = {{0}};
    int count = 0;
    kvs_status status = colon != NULL ? split(spec, colon + 1, axes, &count, error) : KVS_OK;
    if (status == KVS_OK) status = expand(grid, spec, copy, axes, count, error);
    for (int i = 0; i < count; i++) kvs_grid_clear(&axes[i].values);
    free(copy);
    return status;
}

/* --- files ---------------------------------------------------------------------------------------------------------
 */

/* Whether text begins with a scheme's name. */
static int names_scheme(const char *text) {
    char name[64];
    size_t length = strcspn(text, ":");
    if (length >= sizeof name) return 0;
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    return kvs_scheme_type_find(name) != NULL;
}

static kvs_status add_line(kvs_grid *grid, const char *path, int number, char *line, kvs_error *error) {
    line[strcspn(line, "#\r\n")] = '\0';
    line += strspn(line, " \t");
    for (size_t length = strlen(line); length > 0 && strchr(" \t", line[length - 1]) != NULL;) line[--length] = '\0';
    if (line[0] == '\0') return KVS_OK;
    char object[32];
    snprintf(object, sizeof object, "line %d", number);
    if (!names_scheme(line)) return kvs_fail(error, KVS_USAGE, path, object, "'%s' names no known scheme", line);
    return add_spec(grid, line, error);
}

static kvs_status add_file(kvs_grid *grid, const char *path, kvs_error *error) {
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return kvs_fail(error, errno == ENOENT ? KVS_USAGE : KVS_INPUT, "--grid", path,
                        "begins with no known scheme, and as a file it cannot be read: %s", strerror(errno));
    char *line = NULL;
    size_t room = 0;
    kvs_status status = KVS_OK;
    for (int number = 1; status == KVS_OK && getline(&line, &room, file) > 0; number++)
        status = add_line(grid, path, number, line, error);
    if (status == KVS_OK && ferror(file)) status = kvs_fail(error, KVS_INPUT, path, NULL, "cannot be read");
    free(line);
    fclose(file);
    return status;
}

kvs_status kvs_grid_add(kvs_grid *grid, const char *text, kvs_error *error) {
    return names_scheme(text) ? add_spec(grid, text, error) : add_file(grid, text, error);
}
