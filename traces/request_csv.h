/* request_csv.h: fields of one CSV line of a request trace. */
#ifndef KVS_TRACES_REQUEST_CSV_H
#define KVS_TRACES_REQUEST_CSV_H

#include <stdint.h>

#include "core/status.h"
#include "traces/requests.h"

#define KVS_CSV_MAX_FIELDS 32

/* Splits line in place; fields may be quoted ("" is a quote). Returns their number, or -1 where a quote does not end
 * or there are more than KVS_CSV_MAX_FIELDS. */
int kvs_csv_split(char *line, char *fields[KVS_CSV_MAX_FIELDS]);

/* Where the named columns (NULL-terminated list, any order, others ignored) are in a header line: columns[i] for
 * names[i]. Returns the first name that is missing, or NULL. */
const char *kvs_csv_columns(const char *header, const char *const *names, int *columns);

/* A whole number and nothing else; 0 on success. */
int kvs_csv_whole(const char *field, int64_t *value);
/* Seconds, possibly with a fraction, to nanoseconds; 0 on success. */
int kvs_csv_seconds(const char *field, int64_t *ns);

/* One request whose arrival, input tokens and output tokens are in columns[0..2] of text, which is split in place.
 * rules[i] says what is wrong with a field that does not parse; KVS_INPUT and *rule on the first fault. */
KVS_MUST_CHECK kvs_status kvs_csv_request(const int *columns, char *text, int (*parse_time)(const char *, int64_t *),
                                          const char *const rules[3], kvs_raw_request *request, const char **rule);

#endif
