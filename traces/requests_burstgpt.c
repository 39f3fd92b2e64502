/* requests_burstgpt.c: the traces of BurstGPT (HPMLL/BurstGPT): CSV, Timestamp in seconds, token counts, no prefixes.
 * Columns are found by name, so files without Session ID and Elapsed time are read too. */
#include <string.h>

#include "traces/request_csv.h"
#include "traces/requests.h"

static const char *const names[] = {"Timestamp", "Request tokens", "Response tokens", NULL};

static int probe(const char *line) {
    int columns[8];
    return kvs_csv_columns(line, names, columns) == NULL;
}

static kvs_status header(const char *line, int columns[8], const char **rule) {
    if (kvs_csv_columns(line, names, columns) == NULL) return KVS_OK;
    *rule = "is no BurstGPT header: needs Timestamp, Request tokens and Response tokens";
    return KVS_INPUT;
}

static kvs_status line(kvs_request_reader *reader, char *text, kvs_raw_request *request, const char **rule) {
    static const char *const rules[] = {"has a Timestamp that is no number of seconds",
                                        "has Request tokens that are no whole number",
                                        "has Response tokens that are no whole number"};
    return kvs_csv_request(kvs_reader_columns(reader), text, kvs_csv_seconds, rules, request, rule);
}

const kvs_request_format kvs_format_burstgpt = {
    .name = "burstgpt",
    .summary = "CSV: Timestamp (s), Request tokens, Response tokens; other columns are not read",
    .source = "https://github.com/HPMLL/BurstGPT",
    .has_header = 1,
    .probe = probe,
    .header = header,
    .line = line,
};
