/* serve.c: kvscope serve: batch and throughput of schemes under one memory budget. */
#include "sim/commands/serve.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"

typedef kvs_serve_settings settings;

#define KVS_ENGINE_BASE offsetof(settings, engine)
static const kvs_option options[] = {
    KVS_ENGINE_OPTIONS,
    {"uniform", KVS_OPTION_TEXT, offsetof(settings, uniform), "SPEC", NULL, 0, 0,
     "input=N,output=N[,batch=N]: identical requests at once in place of REQUESTS; batch 0: as many as fit"},
    {"format", KVS_OPTION_TEXT, offsetof(settings, format), "NAME", NULL, 0, 0,
     "of REQUESTS: mooncake, azure, burstgpt, jsonl; otherwise guessed"},
    {"memory", KVS_OPTION_BYTES, offsetof(settings, memory), "BYTES", "0", 0, 1e18,
     "for the cache; 0: what the device has beside the weights"},
    {"published", KVS_OPTION_FLAG, offsetof(settings, published), NULL, NULL, 0, 0,
     "print the published claims of Kitty beside the numbers (Qwen3-8B, A100-80GB, 8192 tokens)"},
    {"verify-timeline", KVS_OPTION_TEXT, offsetof(settings, timeline), "FILE", NULL, 0, 0,
     "compare with a recorded engine: CSV t,running,waiting,kv_cache_pct"},
    {"timeline-offset", KVS_OPTION_REAL, offsetof(settings, timeline_offset_s), "S", "0", -1e6, 1e6,
     "seconds from the timeline's 0 to the first request's arrival"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

typedef struct uniform {
    int input, output, batch;
} uniform;

static const kvs_param uniform_params[] = {
    {"input", KVS_PARAM_INT, offsetof(uniform, input), "64", 1, KVS_REQUEST_MAX_TOKENS / 2, "tokens", "", NULL},
    {"output", KVS_PARAM_INT, offsetof(uniform, output), "128", 1, KVS_REQUEST_MAX_TOKENS / 2, "tokens", "", NULL},
    {"batch", KVS_PARAM_INT, offsetof(uniform, batch), "0", 0, 1 << 20, "sequences", "", NULL},
    {.name = NULL},
};

static kvs_status load(const settings *s, const kvs_texts *operands, kvs_requests *requests, kvs_workload *workload,
                       kvs_error *error) {
    *requests = (kvs_requests){0};
    *workload = (kvs_workload){0};
    if ((s->uniform != NULL) == (operands->count > 0))
        return kvs_fail(error, KVS_USAGE, "serve", NULL, "needs either REQUESTS or --uniform");
    if (s->uniform != NULL) {
        uniform u;
        kvs_params_defaults(uniform_params, &u);
        KVS_TRY(kvs_params_parse(uniform_params, "--uniform", s->uniform, &u, error));
        *workload = (kvs_workload){NULL, u.input, u.output, u.batch};
        return KVS_OK;
    }
    const kvs_request_format *format = NULL;
    if (s->format != NULL && (format = kvs_request_format_find(s->format)) == NULL)
        return kvs_fail(error, KVS_USAGE, "--format", s->format, "unknown; one of mooncake, azure, burstgpt, jsonl");
    kvs_request_options reading = {.skip_bad = s->engine.skip_bad, .block_tokens = (int)s->engine.block_tokens};
    workload->trace = requests;
    return kvs_requests_load(operands->texts[0], format, reading, requests, error);
}

/* Full precision comes first, asked for or not; then the schemes in their order. */
static kvs_status make_rows(const settings *s, const kvs_engine_setup *setup, kvs_serve_row **rows, int *count,
                            kvs_error *error) {
    const kvs_texts *schemes = &s->engine.schemes;
    *count = 0;
    *rows = calloc((size_t)schemes->count + 1, sizeof **rows);
    if (*rows == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int i = -1; i < schemes->count; i++) {
        const char *scheme = i < 0 ? "fp16" : schemes->texts[i];
        if (i >= 0 && strcmp(scheme, "fp16") == 0) continue;
        kvs_serve_row *row = &(*rows)[(*count)++];
        KVS_TRY(kvs_geometry_of(scheme, &setup->shape, kvs_engine_page_tokens(&s->engine), &row->geometry, error));
        KVS_TRY(kvs_engine_step_model(&s->engine, setup, scheme, &row->model, row->efficiency_note, error));
    }
    return KVS_OK;
}

static kvs_status compare(const settings *s, const kvs_engine_setup *setup, const kvs_workload *workload,
                          kvs_error *error) {
    kvs_serve_row *rows = NULL;
    int count = 0;
    kvs_serve_options serving = {
        .cache_bytes = s->memory > 0 ? (double)s->memory : setup->cache_bytes,
        .num_blocks = s->engine.num_blocks,
        .allocator = {.caching = s->engine.caching, .order = setup->order, .watermark = s->engine.watermark},
        .engine = kvs_engine_settings_options(&s->engine),
        .threads = s->common.threads > 0 ? (int)s->common.threads : omp_get_num_procs(),
    };
    kvs_status status =
        s->memory > 0 || s->engine.num_blocks > 0 ? KVS_OK : kvs_engine_setup_memory(setup, &s->engine, error);
    if (status == KVS_OK) status = make_rows(s, setup, &rows, &count, error);
    if (status == KVS_OK) status = kvs_serve_run(workload, &serving, rows, count, error);
    if (status == KVS_OK && s->common.json)
        status = kvs_serve_print_json(s, setup, workload, rows, count, error);
    else if (status == KVS_OK && !s->common.quiet)
        kvs_serve_print_table(s, setup, workload, rows, count);
    for (int i = 0; i < count; i++) kvs_serve_row_clear(&rows[i]);
    free(rows);
    return status;
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const settings *s = config;
    kvs_requests requests;
    kvs_workload workload;
    kvs_engine_setup setup;
    KVS_TRY(kvs_engine_setup_get(&s->engine, &setup, error));
    KVS_TRY(load(s, operands, &requests, &workload, error));
    kvs_status status = KVS_OK;
    if (s->timeline == NULL)
        status = compare(s, &setup, &workload, error);
    else if (workload.trace == NULL)
        status = kvs_fail(error, KVS_USAGE, "--verify-timeline", NULL, "needs REQUESTS, not --uniform");
    else
        status = kvs_serve_timeline(s, &setup, &requests, error);
    kvs_requests_clear(&requests);
    return status;
}

const kvs_command kvs_command_serve = {
    .name = "serve",
    .arguments = "REQUESTS|--uniform SPEC --scheme S [--scheme S ...]",
    .summary = "batch and throughput of schemes under one memory budget",
    .details =
        "Full precision is always the first row. A larger batch in the same memory and a faster step at the same "
        "batch\n"
        "are two numbers: ratio_equal_memory and ratio_equal_batch. sim/ALLOCATOR.md has the model. Examples:\n"
        "  kvscope serve --uniform input=64,output=8128 --scheme kitty:boost=0.25 --published\n"
        "  kvscope serve requests.h5 --scheme kitty:boost=0.25 --scheme kivi --model-shape llama3-8b --device h100\n"
        "  kvscope serve log.jsonl --verify-timeline timeline.csv --num-blocks 2588 --block-tokens 16 \\\n"
        "      --max-batched-tokens 2048 --max-seqs 256 --reserve-full-input --free-order v019\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 0,
    .max_operands = 1,
    .run = run,
};
