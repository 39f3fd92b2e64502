/* request_reader.c: text request traces line by line; what every format has in common: line ends, blank lines, skips,
 * the bounds of lengths, time that may not run backwards, dense ids. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traces/id_map.h"
#include "traces/requests.h"

extern const kvs_request_format kvs_format_mooncake, kvs_format_azure, kvs_format_burstgpt, kvs_format_jsonl;

const kvs_request_format *const kvs_request_formats[] = {
    &kvs_format_mooncake, &kvs_format_azure, &kvs_format_burstgpt, &kvs_format_jsonl, NULL,
};

const kvs_request_format *kvs_request_format_find(const char *name) {
    for (int i = 0; kvs_request_formats[i] != NULL; i++)
        if (strcmp(kvs_request_formats[i]->name, name) == 0) return kvs_request_formats[i];
    return NULL;
}

struct kvs_request_reader {
    char path[256];
    FILE *file;
    kvs_request_options options;
    kvs_reader_facts facts;
    int columns[8];
    char *line;
    size_t line_bytes;
    int have_line; /* the first line was read to guess the format */
    kvs_raw_request raw;
    kvs_id_map map;
    uint32_t *dense;
    int64_t dense_capacity, last_arrival_ns, requests, with_moments;
};

kvs_status kvs_raw_request_reserve(kvs_raw_request *request, int64_t ids, const char **rule) {
    if (ids <= request->ids_capacity) return KVS_OK;
    int64_t capacity = ids > 2 * request->ids_capacity ? ids : 2 * request->ids_capacity;
    uint64_t *grown = realloc(request->ids, (size_t)capacity * sizeof *grown);
    if (grown == NULL) {
        *rule = "out of memory for its ids";
        return KVS_INPUT;
    }
    request->ids = grown;
    request->ids_capacity = capacity;
    return KVS_OK;
}

int kvs_reader_block_tokens(const kvs_request_reader *reader) {
    if (reader->facts.format->block_tokens > 0) return reader->facts.format->block_tokens;
    return reader->options.block_tokens > 0 ? reader->options.block_tokens : 16;
}

int *kvs_reader_columns(kvs_request_reader *reader) {
    return reader->columns;
}

void kvs_reader_set_moments(kvs_request_reader *reader) {
    reader->with_moments++;
}

kvs_reader_facts kvs_request_reader_facts(const kvs_request_reader *reader) {
    kvs_reader_facts facts = reader->facts;
    facts.unique_blocks = reader->map.count;
    facts.block_tokens = facts.unique_blocks > 0 ? kvs_reader_block_tokens(reader) : 0;
    facts.has_moments = reader->requests > 0 && reader->with_moments == reader->requests;
    return facts;
}

void kvs_request_reader_close(kvs_request_reader *reader) {
    if (reader == NULL) return;
    if (reader->file != NULL) fclose(reader->file);
    kvs_id_map_clear(&reader->map);
    free(reader->line);
    free(reader->dense);
    free(reader->raw.ids);
    free(reader);
}

static kvs_status fail_line(const kvs_request_reader *reader, const char *rule, kvs_error *error) {
    char place[32];
    snprintf(place, sizeof place, "line %" PRId64, reader->facts.lines);
    return kvs_fail(error, KVS_INPUT, reader->path, place, "%s", rule);
}

/* The next line without its end; *end is 1 after the last. A last line may lack its newline. */
static kvs_status read_line(kvs_request_reader *reader, int *end, kvs_error *error) {
    errno = 0;
    ssize_t bytes = getline(&reader->line, &reader->line_bytes, reader->file);
    *end = bytes < 0;
    if (bytes < 0) {
        if (errno == ENOMEM) return kvs_fail(error, KVS_INPUT, reader->path, NULL, "a line does not fit in memory");
        if (ferror(reader->file))
            return kvs_fail(error, KVS_INPUT, reader->path, NULL, "cannot be read: %s", strerror(errno));
        return KVS_OK;
    }
    reader->facts.lines++;
    if (strlen(reader->line) != (size_t)bytes) return fail_line(reader, "holds a NUL byte: this is no text", error);
    while (bytes > 0 && (reader->line[bytes - 1] == '\n' || reader->line[bytes - 1] == '\r'))
        reader->line[--bytes] = '\0';
    return KVS_OK;
}

static int is_blank(const char *line) {
    return line[strspn(line, " \t")] == '\0';
}

static kvs_status begin(kvs_request_reader *reader, kvs_error *error) {
    int end;
    KVS_TRY(read_line(reader, &end, error));
    if (end) return kvs_fail(error, KVS_INPUT, reader->path, NULL, "is empty: no requests");
    if (strncmp(reader->line, "\xef\xbb\xbf", 3) == 0)
        memmove(reader->line, reader->line + 3, strlen(reader->line) - 2);
    for (int i = 0; reader->facts.format == NULL && kvs_request_formats[i] != NULL; i++)
        if (kvs_request_formats[i]->probe(reader->line)) reader->facts.format = kvs_request_formats[i];
    if (reader->facts.format == NULL)
        return fail_line(reader, "is of no known request format (mooncake, azure, burstgpt, jsonl)", error);
    reader->have_line = !reader->facts.format->has_header;
    const char *rule = "";
    if (reader->facts.format->has_header &&
        reader->facts.format->header(reader->line, reader->columns, &rule) != KVS_OK)
        return fail_line(reader, rule, error);
    return KVS_OK;
}

kvs_status kvs_request_reader_open(const char *path, const kvs_request_format *format, kvs_request_options options,
                                   kvs_request_reader **reader, kvs_error *error) {
    kvs_request_reader *r = calloc(1, sizeof *r);
    if (r == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    snprintf(r->path, sizeof r->path, "%s", path);
    r->options = options;
    r->facts.format = format;
    r->last_arrival_ns = INT64_MIN;
    r->file = fopen(path, "r");
    kvs_status status = r->file != NULL
                            ? begin(r, error)
                            : kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    if (status != KVS_OK) {
        kvs_request_reader_close(r);
        return status;
    }
    *reader = r;
    return KVS_OK;
}

/* The rules of every format. */
static const char *broken_rule(const kvs_request_reader *reader, const kvs_raw_request *raw) {
    if (raw->input_tokens < 1) return "needs at least one input token, and no negative count";
    if (raw->output_tokens < 0) return "has a negative number of output tokens";
    if (raw->input_tokens + raw->output_tokens > KVS_REQUEST_MAX_TOKENS)
        return "is absurdly long: above 16777216 tokens";
    if (raw->arrival_ns < 0) return "arrives before time 0";
    if (raw->arrival_ns < reader->last_arrival_ns) return "arrives before the request above it: time runs backwards";
    int64_t block = kvs_reader_block_tokens(reader);
    if (raw->ids_count > 0 && raw->ids_count != (raw->input_tokens + block - 1) / block)
        return "has a number of ids that is not its input tokens over the tokens of a block, rounded up";
    return NULL;
}

static kvs_status densify(kvs_request_reader *reader, kvs_request *request, kvs_error *error) {
    const kvs_raw_request *raw = &reader->raw;
    if (raw->ids_count > reader->dense_capacity) {
        uint32_t *grown = realloc(reader->dense, (size_t)raw->ids_capacity * sizeof *grown);
        if (grown == NULL) return kvs_fail(error, KVS_INPUT, reader->path, NULL, "out of memory");
        reader->dense = grown;
        reader->dense_capacity = raw->ids_capacity;
    }
    for (int64_t i = 0; i < raw->ids_count; i++)
        KVS_TRY(kvs_id_map_number(&reader->map, raw->ids[i], &reader->dense[i], error));
    *request = (kvs_request){.arrival_ns = raw->arrival_ns,
                             .input_tokens = (int32_t)raw->input_tokens,
                             .output_tokens = (int32_t)raw->output_tokens,
                             .blocks = (int32_t)raw->ids_count,
                             .block_ids = reader->dense};
    memcpy(request->moments_ns, raw->moments_ns, sizeof request->moments_ns);
    reader->last_arrival_ns = raw->arrival_ns;
    reader->requests++;
    return KVS_OK;
}

kvs_status kvs_request_reader_next(kvs_request_reader *reader, kvs_request *request, int *end, kvs_error *error) {
    for (;;) {
        *end = 0;
        if (!reader->have_line) KVS_TRY(read_line(reader, end, error));
        reader->have_line = 0;
        if (*end) return KVS_OK;
        if (is_blank(reader->line)) continue;
        const char *rule = NULL;
        int64_t with_moments = reader->with_moments;
        reader->raw.ids_count = 0;
        kvs_status status = reader->facts.format->line(reader, reader->line, &reader->raw, &rule);
        if (status == KVS_OK) rule = broken_rule(reader, &reader->raw);
        if (rule == NULL) return densify(reader, request, error);
        if (!reader->options.skip_bad) return fail_line(reader, rule, error);
        reader->with_moments = with_moments;
        if (reader->facts.skipped++ == 0)
            snprintf(reader->facts.first_skip, sizeof reader->facts.first_skip, "line %" PRId64 ": %s",
                     reader->facts.lines, rule);
    }
}
