/* alloc.c: kvscope alloc: request traces through a model of a paged allocator. */
#include "sim/commands/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"
#include "traces/requests.h"

typedef kvs_alloc_settings settings;

#define KVS_ENGINE_BASE offsetof(settings, engine)
static const kvs_option options[] = {
    KVS_ENGINE_OPTIONS,
    {"format", KVS_OPTION_TEXT, offsetof(settings, format), "NAME", NULL, 0, 0,
     "of REQUESTS: mooncake, azure, burstgpt, jsonl; otherwise guessed"},
    {"generate", KVS_OPTION_INT, offsetof(settings, generate), "N", "0", 0, 1e8,
     "N synthetic requests with shared prefixes in place of REQUESTS"},
    {"memory", KVS_OPTION_TEXT, offsetof(settings, memory), "BYTES,...", NULL, 0, 0,
     "for the cache, such as 20GiB,40GiB; otherwise what the device has beside the weights"},
    {"allocator", KVS_OPTION_LIST, offsetof(settings, allocators), "NAME", NULL, 0, 0,
     "paged (default), contiguous, unpaged; repeat for several"},
    {"max-tokens", KVS_OPTION_INT, offsetof(settings, max_tokens), "N", "0", 0, KVS_REQUEST_MAX_TOKENS,
     "a contiguous slot's; 0: the longest request's"},
    {"o", KVS_OPTION_TEXT, offsetof(settings, output), "FILE", NULL, 0, 0,
     "write summary and time series as HDF5; runs that are already there are kept (resume)"},
    {"series", KVS_OPTION_FLAG, offsetof(settings, series), NULL, NULL, 0, 0, "with --json: the time series too"},
    {"sequential", KVS_OPTION_FLAG, offsetof(settings, sequential), NULL, NULL, 0, 0,
     "one request after another: hit rates without a clock"},
    {"capacity-pages", KVS_OPTION_TEXT, offsetof(settings, capacities), "N,...", "inf", 0, 0,
     "with --sequential: pages of the pool, the null block not counted; inf never evicts"},
    {"partial-hash", KVS_OPTION_TEXT, offsetof(settings, partial), "RULE", "drop", 0, 0,
     "with --sequential: count: a partly filled last page is cached too; drop: it is not"},
    {"repeat", KVS_OPTION_INT, offsetof(settings, repeat), "N", "1", 1, 1000,
     "with --sequential: runs; wall_s is their median"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

static kvs_status load(const settings *s, const kvs_texts *operands, kvs_requests *requests, kvs_error *error) {
    const kvs_request_format *format = NULL;
    if ((s->generate > 0) == (operands->count > 0))
        return kvs_fail(error, KVS_USAGE, "alloc", NULL, "needs either REQUESTS or --generate N");
    if (s->generate > 0) return kvs_requests_generate(s->generate, (uint64_t)s->common.seed, requests, error);
    if (s->format != NULL && (format = kvs_request_format_find(s->format)) == NULL)
        return kvs_fail(error, KVS_USAGE, "--format", s->format, "unknown; one of mooncake, azure, burstgpt, jsonl");
    kvs_request_options reading = {.skip_bad = s->engine.skip_bad, .block_tokens = (int)s->engine.block_tokens};
    return kvs_requests_load(operands->texts[0], format, reading, requests, error);
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const settings *s = config;
    kvs_requests requests;
    KVS_TRY(load(s, operands, &requests, error));
    kvs_status status =
        s->sequential ? kvs_alloc_sequential(s, &requests, error) : kvs_alloc_traffic(s, &requests, error);
    kvs_requests_clear(&requests);
    return status;
}

const kvs_command kvs_command_alloc = {
    .name = "alloc",
    .arguments = "REQUESTS --scheme S [--scheme S ...] [--memory BYTES,...] [-o FILE]",
    .summary = "a paged allocator under real requests: occupancy, fragmentation, hits, evictions",
    .details =
        "Every scheme runs with every allocator in every memory, on all cores; sim/ALLOCATOR.md says how. Examples:\n"
        "  kvscope alloc requests.h5 --scheme fp16 --scheme kitty:boost=0.25 --memory 10GiB,20GiB,40GiB -o out.h5\n"
        "  kvscope alloc requests.h5 --scheme fp16 --allocator paged --allocator contiguous --allocator unpaged\n"
        "  kvscope alloc requests.h5 --sequential --page-tokens 512 --capacity-pages 1000,10000,inf --json\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 0,
    .max_operands = 1,
    .run = run,
};
