/* requests_mooncake.c: the traces of Mooncake (kvcache-ai/Mooncake, FAST25-release/traces): one JSON object a line,
 * timestamp in milliseconds, one chained id for each 512 prompt tokens; the last id may cover a partial block. */
#include <string.h>

#include "traces/request_json.h"

static int probe(const char *line) {
    return line[strspn(line, " \t")] == '{' && strstr(line, "\"timestamp\"") != NULL &&
           strstr(line, "\"input_length\"") != NULL;
}

static kvs_status read_object(const cJSON *object, kvs_raw_request *request, const char **rule) {
    if (kvs_json_time(cJSON_GetObjectItemCaseSensitive(object, "timestamp"), 1e6, &request->arrival_ns))
        *rule = "lacks a number 'timestamp' (milliseconds)";
    else if (kvs_json_whole(cJSON_GetObjectItemCaseSensitive(object, "input_length"), &request->input_tokens))
        *rule = "lacks a whole number 'input_length'";
    else if (kvs_json_whole(cJSON_GetObjectItemCaseSensitive(object, "output_length"), &request->output_tokens))
        *rule = "lacks a whole number 'output_length'";
    else
        return kvs_json_ids(cJSON_GetObjectItemCaseSensitive(object, "hash_ids"), request, rule);
    return KVS_INPUT;
}

static kvs_status line(kvs_request_reader *reader, char *text, kvs_raw_request *request, const char **rule) {
    (void)reader;
    cJSON *object = kvs_json_line(text, rule);
    if (object == NULL) return KVS_INPUT;
    kvs_status status = read_object(object, request, rule);
    cJSON_Delete(object);
    if (status == KVS_OK && request->ids_count == 0) {
        *rule = "has no 'hash_ids'";
        status = KVS_INPUT;
    }
    return status;
}

const kvs_request_format kvs_format_mooncake = {
    .name = "mooncake",
    .summary = "JSON lines: timestamp (ms), input_length, output_length, hash_ids (one for each 512 input tokens)",
    .source = "https://github.com/kvcache-ai/Mooncake",
    .block_tokens = 512,
    .probe = probe,
    .line = line,
};
