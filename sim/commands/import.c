/* import.c: kvscope import: a request trace of another format into requests.h5, a piece at a time. */
#include <stdio.h>

#include "core/file.h"
#include "core/progress.h"
#include "sim/command.h"
#include "traces/requests.h"

typedef struct settings {
    kvs_common common;
    const char *output;
    int skip_bad;
    int64_t block_tokens;
} settings;

static const kvs_option options[] = {
    {"o", KVS_OPTION_TEXT, offsetof(settings, output), "REQUESTS", NULL, 0, 0, "the requests.h5 to write"},
    {"skip-bad", KVS_OPTION_FLAG, offsetof(settings, skip_bad), NULL, NULL, 0, 0, "count and leave out bad lines"},
    {"block-tokens", KVS_OPTION_INT, offsetof(settings, block_tokens), "N", "16", 1, 1 << 20,
     "tokens an id of a jsonl trace covers, or is made for"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

static kvs_status copy(kvs_request_reader *reader, kvs_request_writer *writer, int64_t *requests, int quiet,
                       kvs_error *error) {
    kvs_progress progress;
    kvs_progress_begin(&progress, "import", "requests", 0, quiet);
    kvs_interrupt_catch();
    for (*requests = 0;; ++*requests) {
        kvs_request request;
        int end;
        KVS_TRY(kvs_request_reader_next(reader, &request, &end, error));
        if (end) break;
        KVS_TRY(kvs_request_writer_add(writer, &request, kvs_request_reader_facts(reader).has_moments, error));
        if ((*requests & 0xfff) != 0) continue;
        kvs_progress_add(&progress, 0x1000);
        if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted; nothing was written");
    }
    kvs_progress_end(&progress);
    return KVS_OK;
}

static kvs_status convert(const settings *s, kvs_request_reader *reader, const char *path, kvs_error *error) {
    kvs_request_writer *writer;
    char sha256[65];
    int64_t requests = 0;
    KVS_TRY(kvs_file_sha256(path, sha256, error));
    KVS_TRY(kvs_request_writer_create(s->output, &writer, error));
    kvs_status status = copy(reader, writer, &requests, s->common.quiet, error);
    kvs_reader_facts facts = kvs_request_reader_facts(reader);
    if (status == KVS_OK && requests == 0)
        status =
            kvs_fail(error, KVS_INPUT, path, NULL, "holds no request (%lld lines left out)", (long long)facts.skipped);
    if (status != KVS_OK) {
        kvs_request_writer_abandon(writer);
        return status;
    }
    KVS_TRY(kvs_request_writer_finish(writer, &facts, path, sha256, error));
    if (s->common.json)
        printf("{\"command\":\"import\",\"format\":\"%s\",\"requests\":%lld,\"skipped\":%lld,\"unique_blocks\":%lld}\n",
               facts.format->name, (long long)requests, (long long)facts.skipped, (long long)facts.unique_blocks);
    else if (!s->common.quiet)
        printf("%s: %lld requests, %lld distinct blocks, %lld lines left out%s%s\n", s->output, (long long)requests,
               (long long)facts.unique_blocks, (long long)facts.skipped, facts.skipped ? "; the first: " : "",
               facts.first_skip);
    return KVS_OK;
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const settings *s = config;
    const kvs_request_format *format = kvs_request_format_find(operands->texts[0]);
    if (format == NULL)
        return kvs_fail(error, KVS_USAGE, "import", operands->texts[0],
                        "unknown format; one of mooncake, azure, burstgpt, jsonl");
    if (s->output == NULL) return kvs_fail(error, KVS_USAGE, "import", "-o", "needs -o REQUESTS");
    kvs_request_options reading = {.skip_bad = s->skip_bad, .block_tokens = (int)s->block_tokens};
    kvs_request_reader *reader;
    KVS_TRY(kvs_request_reader_open(operands->texts[1], format, reading, &reader, error));
    kvs_status status = convert(s, reader, operands->texts[1], error);
    kvs_request_reader_close(reader);
    return status;
}

const kvs_command kvs_command_import = {
    .name = "import",
    .arguments = "FORMAT FILE -o REQUESTS",
    .summary = "request traces of other formats (mooncake, azure, burstgpt, jsonl) into requests.h5",
    .details = "Formats are described in traces/REQUESTS.md. Example:\n"
               "  kvscope import mooncake conversation_trace.jsonl -o requests.h5\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 2,
    .max_operands = 2,
    .run = run,
};
