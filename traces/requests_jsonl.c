/* requests_jsonl.c: our plain form, one JSON object a line: arrival_ns, input_tokens, output_tokens, and either
 * hash_ids (one chained id a block of --block-tokens tokens) or input_token_ids (the ids are made here: a chained hash
 * of each block's tokens). Engines' request logs are read too: queued_ts, scheduled_ts, first_token_ts, last_token_ts
 * in seconds, with their names of the counts; then a request arrives when it was queued. */
#include <string.h>

#include "core/random.h"
#include "traces/request_json.h"

static const char *const input_names[] = {"input_tokens", "input_toks", "prompt_tokens", NULL};
static const char *const output_names[] = {"output_tokens", "output_toks", "completion_tokens", NULL};
static const char *const moment_names[KVS_MOMENTS] = {"queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts"};

static int probe(const char *line) {
    return line[strspn(line, " \t")] == '{' &&
           (strstr(line, "\"arrival_ns\"") || strstr(line, "\"arrival_time_ns\"") || strstr(line, "\"queued_ts\""));
}

/* vLLM hashes (hash of the block before, tokens of this one) with SHA-256; here splitmix64 chains, in 64 bits: two
 * different blocks among n share one with probability below n^2 / 2^65. */
static kvs_status hash_tokens(const cJSON *array, int block_tokens, kvs_raw_request *request, const char **rule) {
    uint64_t key = 0;
    int64_t tokens = 0;
    if (!cJSON_IsArray(array)) {
        *rule = "has input_token_ids that are no array";
        return KVS_INPUT;
    }
    for (const cJSON *item = array->child; item != NULL; item = item->next) {
        int64_t token;
        if (kvs_json_whole(item, &token) || token < 0) {
            *rule = "has a token id that is no whole number of at least 0";
            return KVS_INPUT;
        }
        key = kvs_random_key(key, (uint64_t)token);
        if (++tokens % block_tokens == 0 || item->next == NULL) {
            key = kvs_random_key(key, (uint64_t)(tokens % block_tokens) << 32); /* a partial block is another one */
            KVS_TRY(kvs_raw_request_reserve(request, request->ids_count + 1, rule));
            request->ids[request->ids_count++] = key;
        }
    }
    if (tokens == request->input_tokens) return KVS_OK;
    *rule = "has a number of input_token_ids that is not its input_tokens";
    return KVS_INPUT;
}

/* The four moments, if the first is there; *given says so. */
static kvs_status read_moments(const cJSON *object, kvs_raw_request *request, int *given, const char **rule) {
    *given = cJSON_GetObjectItemCaseSensitive(object, moment_names[0]) != NULL;
    for (int i = 0; *given && i < KVS_MOMENTS; i++) {
        if (kvs_json_time(cJSON_GetObjectItemCaseSensitive(object, moment_names[i]), 1e9, &request->moments_ns[i])) {
            *rule = "lacks one of the numbers queued_ts, scheduled_ts, first_token_ts, last_token_ts (seconds)";
            return KVS_INPUT;
        }
        if (i > 0 && request->moments_ns[i] < request->moments_ns[i - 1]) {
            *rule = "has recorded moments that run backwards";
            return KVS_INPUT;
        }
    }
    return KVS_OK;
}

static kvs_status read_object(const cJSON *object, int block_tokens, int *moments, kvs_raw_request *request,
                              const char **rule) {
    static const char *const arrivals[] = {"arrival_ns", "arrival_time_ns", NULL};
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(object, "hash_ids");
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(object, "input_token_ids");
    const cJSON *arrival = kvs_json_member(object, arrivals);
    *rule = NULL;
    KVS_TRY(read_moments(object, request, moments, rule));
    request->arrival_ns = request->moments_ns[KVS_MOMENT_QUEUED];
    if (!*moments && kvs_json_whole(arrival, &request->arrival_ns))
        *rule = "lacks a whole number 'arrival_ns'";
    else if (kvs_json_whole(kvs_json_member(object, input_names), &request->input_tokens))
        *rule = "lacks a whole number 'input_tokens'";
    else if (kvs_json_whole(kvs_json_member(object, output_names), &request->output_tokens))
        *rule = "lacks a whole number 'output_tokens'";
    else if (ids != NULL && tokens != NULL)
        *rule = "has both hash_ids and input_token_ids: one of them would be ignored";
    if (*rule != NULL) return KVS_INPUT;
    if (ids != NULL) return kvs_json_ids(ids, request, rule);
    return tokens != NULL ? hash_tokens(tokens, block_tokens, request, rule) : KVS_OK;
}

static kvs_status line(kvs_request_reader *reader, char *text, kvs_raw_request *request, const char **rule) {
    cJSON *object = kvs_json_line(text, rule);
    if (object == NULL) return KVS_INPUT;
    int moments = 0;
    kvs_status status = read_object(object, kvs_reader_block_tokens(reader), &moments, request, rule);
    cJSON_Delete(object);
    if (status == KVS_OK && moments) kvs_reader_set_moments(reader);
    return status;
}

const kvs_request_format kvs_format_jsonl = {
    .name = "jsonl",
    .summary = "JSON lines: arrival_ns, input_tokens, output_tokens [, hash_ids | input_token_ids | recorded moments]",
    .source = "",
    .probe = probe,
    .line = line,
};
