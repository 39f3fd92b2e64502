/* alloc.c: kvscope alloc: request traces through a model of a paged allocator. */
#include "sim/commands/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"
#include "traces/requests.h"

typedef kvs_alloc_settings settings;

static const kvs_option options[] = {
    {"format", KVS_OPTION_TEXT, offsetof(settings, format), "NAME", NULL, 0, 0,
     "of REQUESTS: mooncake, azure, burstgpt, jsonl; otherwise guessed"},
    {"generate", KVS_OPTION_INT, offsetof(settings, generate), "N", "0", 0, 1e8,
     "N synthetic requests with shared prefixes in place of REQUESTS"},
    {"sequential", KVS_OPTION_FLAG, offsetof(settings, sequential), NULL, NULL, 0, 0,
     "one request after another: hit rates without a clock"},
    {"page-tokens", KVS_OPTION_INT, offsetof(settings, page_tokens), "N", "0", 0, 1 << 20,
     "tokens of a page; 0: the scheme's, or 16"},
    {"block-tokens", KVS_OPTION_INT, offsetof(settings, block_tokens), "N", "16", 1, 1 << 20,
     "tokens an id of a jsonl trace covers"},
    {"capacity-pages", KVS_OPTION_TEXT, offsetof(settings, capacities), "N,...", "inf", 0, 0,
     "pages of the pool, the null block not counted; inf never evicts"},
    {"partial-hash", KVS_OPTION_TEXT, offsetof(settings, partial), "RULE", "drop", 0, 0,
     "count: a partly filled last page is cached too; drop: it is not, and a hit leaves the last token out"},
    {"free-order", KVS_OPTION_TEXT, offsetof(settings, free_order), "ORDER", "may2026", 0, 0,
     "v019: freed blocks go to the tail; may2026: to the head unless cached"},
    {"caching", KVS_OPTION_TEXT, offsetof(settings, caching), "on|off", "on", 0, 0, "prefix caching"},
    {"skip-bad", KVS_OPTION_FLAG, offsetof(settings, skip_bad), NULL, NULL, 0, 0,
     "count and leave out bad lines and requests that can never fit"},
    {"check-invariants", KVS_OPTION_FLAG, offsetof(settings, check), NULL, NULL, 0, 0,
     "verify the pool after every event (slow)"},
    {"repeat", KVS_OPTION_INT, offsetof(settings, repeat), "N", "1", 1, 1000, "runs; wall_s is their median"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

kvs_status kvs_choose(const char *option, const char *text, const char *const *words, int *index, kvs_error *error) {
    char list[128] = "";
    for (*index = 0; words[*index] != NULL; ++*index) {
        if (strcmp(words[*index], text) == 0) return KVS_OK;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", words[*index]);
    }
    return kvs_fail(error, KVS_USAGE, option, NULL, "'%s' is none of %s", text, list);
}

kvs_status kvs_parse_capacities(const char *text, int64_t **capacities, int *count, kvs_error *error) {
    char *copy = strdup(text), *rest = copy;
    int64_t *values = malloc((strlen(text) + 1) * sizeof *values);
    *count = 0;
    kvs_status status =
        copy != NULL && values != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, "--capacity-pages", NULL, "out of memory");
    for (char *word; status == KVS_OK && (word = strsep(&rest, ",")) != NULL;) {
        long long number = 0;
        if (strcmp(word, "inf") != 0 && (kvs_parse_int(word, &number) || number < 1 || number > 2147483645))
            status = kvs_fail(error, KVS_USAGE, "--capacity-pages", NULL,
                              "'%s' is no whole number from 1 to 2147483645 and not inf", word);
        values[(*count)++] = number;
    }
    free(copy);
    if (status != KVS_OK)
        free(values);
    else
        *capacities = values;
    return status;
}

static kvs_status load(const settings *s, const kvs_texts *operands, kvs_requests *requests, kvs_error *error) {
    const kvs_request_format *format = NULL;
    if ((s->generate > 0) == (operands->count > 0))
        return kvs_fail(error, KVS_USAGE, "alloc", NULL, "needs either REQUESTS or --generate N");
    if (s->generate > 0) return kvs_requests_generate(s->generate, (uint64_t)s->common.seed, requests, error);
    if (s->format != NULL && (format = kvs_request_format_find(s->format)) == NULL)
        return kvs_fail(error, KVS_USAGE, "--format", s->format, "unknown; one of mooncake, azure, burstgpt, jsonl");
    kvs_request_options reading = {.skip_bad = s->skip_bad, .block_tokens = (int)s->block_tokens};
    return kvs_requests_load(operands->texts[0], format, reading, requests, error);
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const settings *s = config;
    kvs_requests requests;
    KVS_TRY(load(s, operands, &requests, error));
    kvs_status status = kvs_alloc_sequential(s, &requests, error);
    kvs_requests_clear(&requests);
    return status;
}

const kvs_command kvs_command_alloc = {
    .name = "alloc",
    .arguments = "REQUESTS --sequential [--capacity-pages N,...]",
    .summary = "a paged allocator under real requests: occupancy, fragmentation, hits, evictions",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 0,
    .max_operands = 1,
    .run = run,
};
