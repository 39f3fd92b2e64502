/* gen.c: kvscope gen: a synthetic trace. */
#include <cjson/cJSON.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/progress.h"
#include "core/version.h"
#include "sim/command.h"
#include "traces/generate.h"

typedef struct settings {
    kvs_common common;
    const char *output, *element;
    int64_t layers, query_heads, kv_heads, head_dim, sequences, tokens, prompt_tokens, queries, first_query, deflate;
    int64_t outliers;
    double outlier_scale;
} settings;

#define INT(name, member, fallback, low, high, summary)                                                                \
    { name, KVS_OPTION_INT, offsetof(settings, member), "N", fallback, low, high, summary }

static const kvs_option options[] = {
    {"o", KVS_OPTION_TEXT, offsetof(settings, output), "TRACE", NULL, 0, 0, "the file to write"},
    INT("layers", layers, "4", 1, 65536, "layers"),
    INT("query-heads", query_heads, "8", 1, 65536, "query heads, a multiple of the KV heads"),
    INT("kv-heads", kv_heads, "2", 1, 65536, "KV heads"),
    INT("head-dim", head_dim, "128", 1, 65536, "channels of a head"),
    INT("tokens", tokens, "4096", 1, 1 << 28, "tokens of a sequence"),
    INT("prompt-tokens", prompt_tokens, "-1", -1, 1 << 28, "tokens of its prompt; -1: all"),
    INT("queries", queries, "-1", -1, 1 << 28, "recorded queries; -1: 64, or as many as fit; 0: none"),
    INT("first-query", first_query, "-1", -1, 1 << 28, "position of the first; -1: the middle"),
    INT("sequences", sequences, "1", 1, 1000000, "sequences"),
    {"element", KVS_OPTION_TEXT, offsetof(settings, element), "TYPE", "binary16", 0, 0,
     "binary16, binary32 or bfloat16"},
    INT("deflate", deflate, "0", 0, 9, "level of shuffle + deflate; 0: no filter"),
    INT("outliers", outliers, "4", 0, 32768, "outlier pairs of channels of a K head"),
    {"outlier-scale", KVS_OPTION_REAL, offsetof(settings, outlier_scale), "X", "12", 0, 1000,
     "size of outlier channels, in deviations of an ordinary one"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

static kvs_status resolve(const settings *s, kvs_generate *g, kvs_error *error) {
    *g = (kvs_generate){.layers = (int)s->layers,
                        .query_heads = (int)s->query_heads,
                        .kv_heads = (int)s->kv_heads,
                        .head_dim = (int)s->head_dim,
                        .sequences = (int)s->sequences,
                        .tokens = (int)s->tokens,
                        .prompt_tokens = (int)(s->prompt_tokens < 0 ? s->tokens : s->prompt_tokens),
                        .first_query = (int)(s->first_query < 0 ? s->tokens / 2 : s->first_query),
                        .outlier_pairs = (int)s->outliers,
                        .outlier_scale = s->outlier_scale,
                        .options = {.deflate = (int)s->deflate},
                        .seed = (uint64_t)s->common.seed,
                        .threads = s->common.threads > 0 ? (int)s->common.threads : omp_get_max_threads(),
                        .quiet = s->common.quiet};
    int fit = g->tokens - g->first_query;
    g->queries = (int)(s->queries >= 0 ? s->queries : fit < 0 ? 0 : fit < 64 ? fit : 64);
    return kvs_element_parse(s->element, &g->options.element, error);
}

static void print(const settings *s, const kvs_generate *g, double seconds) {
    struct stat info;
    double bytes = stat(s->output, &info) == 0 ? (double)info.st_size : 0;
    if (!s->common.json) {
        if (!s->common.quiet)
            printf("%s: %.0f bytes, %d sequences of %d tokens, %.3g MB/s\n", s->output, bytes, g->sequences, g->tokens,
                   bytes / 1e6 / seconds);
        return;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "gen");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "path", s->output);
    cJSON_AddNumberToObject(root, "bytes", bytes);
    cJSON_AddNumberToObject(root, "sequences", g->sequences);
    cJSON_AddNumberToObject(root, "tokens", g->tokens);
    cJSON_AddNumberToObject(root, "queries", g->queries);
    cJSON_AddNumberToObject(root, "seconds", seconds);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text != NULL) puts(text);
    cJSON_free(text);
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    (void)operands;
    const settings *s = config;
    kvs_generate g;
    if (s->output == NULL) return kvs_fail(error, KVS_USAGE, "-o", NULL, "is needed: the file to write");
    KVS_TRY(resolve(s, &g, error));
    kvs_interrupt_catch();
    double started = kvs_seconds();
    KVS_TRY(kvs_trace_generate(s->output, &g, error));
    print(s, &g, kvs_seconds() - started);
    return KVS_OK;
}

const kvs_command kvs_command_gen = {
    .name = "gen",
    .arguments = "-o TRACE [--tokens N ...]",
    .summary = "write a synthetic trace of any size, with outlier channels",
    .details = "The same options and seed give the same bytes, whatever the number of threads.\n\n"
               "  kvscope gen -o small.h5 --tokens 1024 --deflate 1\n"
               "  kvscope gen -o 4gb.h5 --layers 32 --kv-heads 8 --query-heads 32 --tokens 32768\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .max_operands = 0,
    .run = run,
};
