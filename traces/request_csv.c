#include "traces/request_csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"

/* Ends the quoted field that starts at *text, unescaping in place; *text moves behind it. 0 on success. */
static int unquote(char **text) {
    char *from = *text + 1, *to = *text;
    while (*from != '\0' && !(from[0] == '"' && from[1] != '"')) {
        if (*from == '"') from++;
        *to++ = *from++;
    }
    if (*from == '\0' || (from[1] != ',' && from[1] != '\0')) return 1;
    *text = from + 1;
    *to = '\0';
    return 0;
}

int kvs_csv_split(char *line, char *fields[KVS_CSV_MAX_FIELDS]) {
    int count = 0;
    for (char *text = line;; text++) {
        if (count == KVS_CSV_MAX_FIELDS) return -1;
        fields[count++] = text;
        if (*text == '"' && unquote(&text)) return -1;
        text += strcspn(text, ",");
        if (*text == '\0') return count;
        *text = '\0';
    }
}

const char *kvs_csv_columns(const char *header, const char *const *names, int *columns) {
    char *copy = strdup(header), *fields[KVS_CSV_MAX_FIELDS];
    int count = copy != NULL ? kvs_csv_split(copy, fields) : 0;
    const char *missing = NULL;
    for (int i = 0; missing == NULL && names[i] != NULL; i++) {
        columns[i] = -1;
        for (int f = 0; f < count; f++)
            if (strcmp(fields[f], names[i]) == 0) columns[i] = f;
        if (columns[i] < 0) missing = names[i];
    }
    free(copy);
    return missing;
}

int kvs_csv_whole(const char *field, int64_t *value) {
    long long whole;
    if (kvs_parse_int(field, &whole)) return 1;
    *value = whole;
    return 0;
}

int kvs_csv_seconds(const char *field, int64_t *ns) {
    double seconds;
    if (kvs_parse_real(field, &seconds) || fabs(seconds) > 9e9) return 1;
    *ns = (int64_t)rint(seconds * 1e9);
    return 0;
}

kvs_status kvs_csv_request(const int *columns, char *text, int (*parse_time)(const char *, int64_t *),
                           const char *const rules[3], kvs_raw_request *request, const char **rule) {
    char *fields[KVS_CSV_MAX_FIELDS];
    int count = kvs_csv_split(text, fields);
    if (count <= columns[0] || count <= columns[1] || count <= columns[2])
        *rule = "has fewer fields than the header";
    else if (parse_time(fields[columns[0]], &request->arrival_ns))
        *rule = rules[0];
    else if (kvs_csv_whole(fields[columns[1]], &request->input_tokens))
        *rule = rules[1];
    else if (kvs_csv_whole(fields[columns[2]], &request->output_tokens))
        *rule = rules[2];
    else
        return KVS_OK;
    return KVS_INPUT;
}
