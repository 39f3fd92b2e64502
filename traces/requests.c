/* requests.c: a whole request trace in flat arrays. */
#include "traces/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

static int grow(void **array, int64_t count, size_t bytes) {
    void *grown = realloc(*array, (size_t)count * bytes);
    if (grown == NULL) return 1;
    *array = grown;
    return 0;
}

static int reserve(kvs_requests *r, int64_t count, int64_t ids, int has_moments) {
    if (count > r->capacity) {
        int64_t capacity = count > 2 * r->capacity ? count + 1023 : 2 * r->capacity;
        if (grow((void **)&r->arrival_ns, capacity, sizeof *r->arrival_ns) ||
            grow((void **)&r->input_tokens, capacity, sizeof *r->input_tokens) ||
            grow((void **)&r->output_tokens, capacity, sizeof *r->output_tokens) ||
            grow((void **)&r->block_start, capacity + 1, sizeof *r->block_start) ||
            (has_moments && grow((void **)&r->moments_ns, capacity, KVS_MOMENTS * sizeof *r->moments_ns)))
            return 1;
        r->capacity = capacity;
    }
    if (ids > r->ids_capacity) {
        int64_t capacity = ids > 2 * r->ids_capacity ? ids + 4095 : 2 * r->ids_capacity;
        if (grow((void **)&r->block_ids, capacity, sizeof *r->block_ids)) return 1;
        r->ids_capacity = capacity;
    }
    return 0;
}

kvs_status kvs_requests_append(kvs_requests *r, const kvs_request *request, int has_moments, kvs_error *error) {
    int64_t n = r->count, ids = n > 0 ? r->block_start[n] : 0;
    if (reserve(r, n + 1, ids + request->blocks, has_moments))
        return kvs_fail(error, KVS_INPUT, r->source, NULL, "out of memory after %lld requests", (long long)n);
    if (n == 0) r->block_start[0] = 0;
    r->arrival_ns[n] = request->arrival_ns;
    r->input_tokens[n] = request->input_tokens;
    r->output_tokens[n] = request->output_tokens;
    if (request->blocks > 0)
        memcpy(r->block_ids + ids, request->block_ids, (size_t)request->blocks * sizeof *r->block_ids);
    if (has_moments) memcpy(r->moments_ns + n * KVS_MOMENTS, request->moments_ns, sizeof request->moments_ns);
    for (int32_t i = 0; i < request->blocks; i++)
        if (request->block_ids[i] >= r->unique_blocks) r->unique_blocks = (int64_t)request->block_ids[i] + 1;
    r->block_start[n + 1] = ids + request->blocks;
    r->count++;
    return KVS_OK;
}

void kvs_requests_clear(kvs_requests *r) {
    free(r->arrival_ns);
    free(r->input_tokens);
    free(r->output_tokens);
    free(r->block_start);
    free(r->block_ids);
    free(r->moments_ns);
    *r = (kvs_requests){0};
}

int64_t kvs_requests_total_input(const kvs_requests *r) {
    int64_t total = 0;
    for (int64_t i = 0; i < r->count; i++) total += r->input_tokens[i];
    return total;
}

int64_t kvs_requests_total_output(const kvs_requests *r) {
    int64_t total = 0;
    for (int64_t i = 0; i < r->count; i++) total += r->output_tokens[i];
    return total;
}

static kvs_status read_all(kvs_request_reader *reader, kvs_requests *r, kvs_error *error) {
    for (;;) {
        kvs_request request;
        int end;
        KVS_TRY(kvs_request_reader_next(reader, &request, &end, error));
        if (end) return KVS_OK;
        int has_moments = kvs_request_reader_facts(reader).has_moments;
        if (r->count > 0 && !has_moments) { /* one request without them: the trace has none */
            free(r->moments_ns);
            r->moments_ns = NULL;
        }
        KVS_TRY(kvs_requests_append(r, &request, r->count == 0 ? has_moments : r->moments_ns != NULL, error));
    }
}

kvs_status kvs_requests_load(const char *path, const kvs_request_format *format, kvs_request_options options,
                             kvs_requests *requests, kvs_error *error) {
    if (kvs_requests_has_h5_signature(path)) return kvs_requests_read_h5(path, requests, error);
    kvs_request_reader *reader;
    KVS_TRY(kvs_request_reader_open(path, format, options, &reader, error));
    kvs_requests r = {0};
    snprintf(r.source, sizeof r.source, "%s", path);
    kvs_status status = read_all(reader, &r, error);
    kvs_reader_facts facts = kvs_request_reader_facts(reader);
    kvs_request_reader_close(reader);
    if (status == KVS_OK) status = kvs_file_sha256(path, r.sha256, error);
    if (status == KVS_OK && r.count == 0)
        status =
            kvs_fail(error, KVS_INPUT, path, NULL, "holds no request (%lld lines left out)", (long long)facts.skipped);
    if (status != KVS_OK) {
        kvs_requests_clear(&r);
        return status;
    }
    snprintf(r.format, sizeof r.format, "%s", facts.format->name);
    r.skipped = facts.skipped;
    memcpy(r.first_skip, facts.first_skip, sizeof r.first_skip);
    r.block_tokens = facts.block_tokens;
    *requests = r;
    return KVS_OK;
}
