/* replay.c: kvscope replay: the memory and the error of each scheme on one trace. */
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "sim/command.h"
#include "sim/commands/report.h"

typedef struct config {
    kvs_common common;
    kvs_texts schemes, outputs;
    const char *layout, *backend;
    int64_t from_position, at_tokens;
    int prompt_exact, cross;
} config;

static const kvs_option options[] = {
    {"scheme", KVS_OPTION_LIST, offsetof(config, schemes), "S", NULL, 0, 0,
     "a scheme, name:key=value,...; repeat for several"},
    {"layout", KVS_OPTION_TEXT, offsetof(config, layout), "L", NULL, 0, 0,
     "refuse schemes whose pages are not stored in this layout"},
    {"backend", KVS_OPTION_TEXT, offsetof(config, backend), "B", "cpu", 0, 0,
     "cpu, cuda, or simt: the CUDA kernels on the host, for tests"},
    {"from-position", KVS_OPTION_INT, offsetof(config, from_position), "N", "0", 0, 9e15, "leave out queries before N"},
    {"at-tokens", KVS_OPTION_INT, offsetof(config, at_tokens), "N", "0", 0, 1e12,
     "sequence length that memory is stated for; 0: the longest sequence"},
    {"prompt-exact", KVS_OPTION_FLAG, offsetof(config, prompt_exact), NULL, NULL, 0, 0,
     "queries inside the prompt see full precision; the prompt is stored at once"},
    {"cross", KVS_OPTION_FLAG, offsetof(config, cross), NULL, NULL, 0, 0,
     "the sequences' cross attention to their source instead of their own"},
    {"o", KVS_OPTION_LIST, offsetof(config, outputs), "FILE", NULL, 0, 0,
     "write results: .h5, .csv or .json; repeat for several"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* The replay itself, with the schemes open. */
static kvs_status replay(kvs_trace *trace, kvs_scheme **schemes, int count, const kvs_replay_options *settings,
                         kvs_results *results, kvs_error *error) {
    results->results = calloc((size_t)count, sizeof *results->results);
    results->traces = calloc(1, sizeof *results->traces);
    if (results->results == NULL || results->traces == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    results->results_count = count;
    results->traces_count = 1;
    KVS_TRY(kvs_replay(trace, (const kvs_scheme *const *)schemes, count, settings, results->traces, results->results,
                       error));
    char digest[65];
    KVS_TRY(kvs_file_sha256(kvs_trace_path(trace), digest, error));
    results->traces->sha256 = strdup(digest);
    return results->traces->sha256 != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

static kvs_status open_and_replay(const config *c, const char *path, const kvs_replay_options *settings,
                                  kvs_results *results, kvs_error *error) {
    kvs_trace *trace = NULL;
    int count = c->schemes.count, opened = 0;
    kvs_scheme **schemes = calloc((size_t)count, sizeof *schemes);
    if (schemes == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_status status = kvs_replay_open_trace(path, settings, &trace, error);
    if (status == KVS_OK) {
        status =
            kvs_replay_open_schemes(c->schemes.texts, count, kvs_trace_header_of(trace), c->layout, schemes, error);
        opened = status == KVS_OK ? count : 0;
    }
    if (status == KVS_OK) status = replay(trace, schemes, count, settings, results, error);
    for (int i = 0; i < opened; i++) kvs_scheme_close(schemes[i]);
    free(schemes);
    kvs_trace_close(trace);
    return status;
}

static kvs_status report(const config *c, const kvs_results *results, kvs_error *error) {
    for (int i = 0; i < c->outputs.count; i++) KVS_TRY(kvs_report_write(results, c->outputs.texts[i], error));
    if (c->common.json) return kvs_report_print_json(results, error);
    if (!c->common.quiet) kvs_report_print_table(results);
    return KVS_OK;
}

static kvs_status run(const void *configuration, const kvs_texts *operands, kvs_error *error) {
    const config *c = configuration;
    if (c->schemes.count == 0)
        return kvs_fail(error, KVS_USAGE, "replay", NULL, "needs at least one --scheme; see kvscope list schemes");
    kvs_replay_options settings = {.seed = c->common.seed,
                                   .from_position = c->from_position,
                                   .at_tokens = c->at_tokens,
                                   .prompt_exact = c->prompt_exact,
                                   .cross = c->cross,
                                   .threads = (int)c->common.threads,
                                   .quiet = c->common.quiet};
    KVS_TRY(kvs_backend_find(c->backend, &settings.backend, error));
    for (int i = 0; i < c->outputs.count; i++) KVS_TRY(kvs_report_check_output(c->outputs.texts[i], error));
    kvs_results results = {0};
    kvs_interrupt_catch();
    kvs_status status = kvs_report_begin("replay", kvs_command_line(), &settings, &results, error);
    if (status == KVS_OK) status = open_and_replay(c, operands->texts[0], &settings, &results, error);
    if (status == KVS_OK) status = report(c, &results, error);
    kvs_results_clear(&results);
    return status;
}

const kvs_command kvs_command_replay = {
    .name = "replay",
    .arguments = "TRACE --scheme S [--scheme S ...] [-o RESULTS.h5]",
    .summary = "memory and attention error of quantization schemes on a recorded trace",
    .details =
        "Every recorded query attends to the cache as it would be stored at its position while decoding, and to the\n"
        "cache in full precision; the difference is the error. Fields of the results: analysis/RESULTS.md.\n\n"
        "  kvscope replay traces/sample/qwen3-7m.h5 --scheme fp16 --scheme kitty --scheme kivi:bits=2\n"
        "  kvscope replay TRACE --scheme kitty:boost=0.25,sink=32,window=128 --json\n"
        "  kvscope replay TRACE --scheme kitty --from-position 512 -o kitty.h5 -o kitty.csv\n",
    .options = options,
    .config_bytes = sizeof(config),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
