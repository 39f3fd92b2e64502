/* requests_azure.c: the LLM inference traces of Azure (Azure/AzurePublicDataset): CSV, TIMESTAMP of a day and time to
 * 100 ns, UTC unless it ends in an offset, ContextTokens, GeneratedTokens; CRLF, the last line without a newline. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "traces/request_csv.h"
#include "traces/requests.h"

static const char *const names[] = {"TIMESTAMP", "ContextTokens", "GeneratedTokens", NULL};

static int probe(const char *line) {
    int columns[8];
    return kvs_csv_columns(line, names, columns) == NULL;
}

static kvs_status header(const char *line, int columns[8], const char **rule) {
    if (kvs_csv_columns(line, names, columns) == NULL) return KVS_OK;
    *rule = "is no Azure header: needs TIMESTAMP, ContextTokens and GeneratedTokens";
    return KVS_INPUT;
}

/* ".9799600" in nanoseconds, digits beyond the ninth dropped; text moves behind it. */
static int64_t fraction_ns(const char **text) {
    int64_t ns = 0, unit = 100000000;
    if (**text != '.') return 0;
    for (++*text; **text >= '0' && **text <= '9'; ++*text, unit /= 10) ns += (**text - '0') * unit;
    return ns;
}

/* "2023-11-16 18:17:03.9799600" or "...+00:00" in nanoseconds since 1970; 0 on success. */
static int parse_time(const char *text, int64_t *ns) {
    struct tm day = {0};
    const char *rest = strptime(text, "%Y-%m-%d %H:%M:%S", &day);
    if (rest == NULL || day.tm_year < 70 || day.tm_year >= 362) return 1; /* nanoseconds since 1970 end in 2262 */
    int64_t fraction = fraction_ns(&rest);
    int64_t offset_s = 0;
    if (*rest == '+' || *rest == '-') {
        char *end;
        long hours = strtol(rest + 1, &end, 10);
        long minutes = *end == ':' ? strtol(end + 1, &end, 10) : 0;
        if (hours < 0 || hours > 14 || minutes < 0 || minutes > 59) return 1;
        offset_s = (*rest == '+' ? 60 : -60) * (60 * hours + minutes);
        rest = end;
    }
    if (*rest != '\0') return 1;
    *ns = ((int64_t)timegm(&day) - offset_s) * 1000000000 + fraction;
    return 0;
}

static kvs_status line(kvs_request_reader *reader, char *text, kvs_raw_request *request, const char **rule) {
    static const char *const rules[] = {"has a TIMESTAMP that is no day and time",
                                        "has ContextTokens that are no whole number",
                                        "has GeneratedTokens that are no whole number"};
    return kvs_csv_request(kvs_reader_columns(reader), text, parse_time, rules, request, rule);
}

const kvs_request_format kvs_format_azure = {
    .name = "azure",
    .summary = "CSV: TIMESTAMP, ContextTokens, GeneratedTokens",
    .source = "https://github.com/Azure/AzurePublicDataset",
    .has_header = 1,
    .probe = probe,
    .header = header,
    .line = line,
};
