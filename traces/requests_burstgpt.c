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
    const int *columns = kvs_reader_columns(reader);
    char *fields[KVS_CSV_MAX_FIELDS];
    int count = kvs_csv_split(text, fields);
    if (count <= columns[0] || count <= columns[1] || count <= columns[2])
        *rule = "has fewer fields than the header";
    else if (kvs_csv_seconds(fields[columns[0]], &request->arrival_ns))
        *rule = "has a Timestamp that is no number of seconds";
    else if (kvs_csv_whole(fields[columns[1]], &request->input_tokens))
        *rule = "has Request tokens that are no whole number";
    else if (kvs_csv_whole(fields[columns[2]], &request->output_tokens))
        *rule = "has Response tokens that are no whole number";
    else
        return KVS_OK;
    return KVS_INPUT;
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
