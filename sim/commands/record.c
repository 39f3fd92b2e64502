/* record.c: kvscope record: a trace of a model, run natively. */
#include <cjson/cJSON.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/json.h"
#include "core/params.h"
#include "core/progress.h"
#include "core/version.h"
#include "sim/command.h"
#include "sim/model/record.h"
#include "sim/model/tokenizer.h"
#include "traces/tokens.h"

enum { TEXT_LIMIT_BYTES = 1 << 28, LAYERS_LIMIT = 4096 };

typedef struct settings {
    kvs_common common;
    const char *model, *text, *tokens, *output, *layers, *queries, *element, *license, *backend;
    int64_t window, first, sequences, generate, deflate;
    int before_rope;
} settings;

#define TEXT(name, member, metavar, fallback, summary)                                                                 \
    { name, KVS_OPTION_TEXT, offsetof(settings, member), metavar, fallback, 0, 0, summary }
#define INT(name, member, fallback, low, high, summary)                                                                \
    { name, KVS_OPTION_INT, offsetof(settings, member), "N", fallback, low, high, summary }

static const kvs_option options[] = {
    TEXT("model", model, "DIR", NULL, "a Hugging Face directory"),
    TEXT("backend", backend, "cpu|cuda|simt", "cpu",
         "what runs the model; devices round keys, queries and values to binary16; simt: on the host, slowly"),
    TEXT("text", text, "FILE", NULL, "UTF-8 text, encoded with the model's tokenizer"),
    TEXT("tokens", tokens, "FILE", NULL, "or an HDF5 file with token_ids"),
    TEXT("o", output, "TRACE", NULL, "the file to write"),
    INT("window", window, "2048", 1, 1 << 24, "tokens of a sequence, generated ones not counted"),
    INT("first", first, "0", 0, 1 << 28, "the first token taken"),
    INT("sequences", sequences, "0", 0, 1000000, "sequences; 0: as many as there are tokens for"),
    TEXT("layers", layers, "LIST", NULL, "only these layers, as 0,2-4"),
    TEXT("queries", queries, "WHICH", "128", "N evenly spread, last:N, all, or 0"),
    {"before-rope", KVS_OPTION_FLAG, offsetof(settings, before_rope), NULL, NULL, 0, 0,
     "keys and queries before the rotary embedding"},
    INT("generate", generate, "0", 0, 1 << 24, "greedy tokens behind each sequence"),
    TEXT("element", element, "TYPE", "binary16", "binary16, binary32 or bfloat16"),
    INT("deflate", deflate, "4", 0, 9, "level of shuffle + deflate; 0: no filter"),
    TEXT("license", license, "TEXT", "unknown", "terms of the recorded activations"),
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* --- options -------------------------------------------------------------------------------------------------------
 */

static kvs_status parse_queries(const char *text, kvs_record_options *o, kvs_error *error) {
    long long count = 0;
    int last = strncmp(text, "last:", 5) == 0;
    o->query_choice = last ? KVS_QUERIES_LAST : KVS_QUERIES_SPREAD;
    if (strcmp(text, "all") == 0)
        o->query_choice = KVS_QUERIES_ALL;
    else if (kvs_parse_int(text + (last ? 5 : 0), &count) || count < 0 || count > 1 << 24)
        return kvs_fail(error, KVS_USAGE, "--queries", NULL, "'%s' is none of N, last:N, all", text);
    o->queries = (int)count;
    return KVS_OK;
}

/* "0,2-4" as ascending numbers below `limit`. */
static kvs_status parse_layers(const char *text, int limit, int *layers, int *count, kvs_error *error) {
    *count = 0;
    while (text != NULL) {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        int good = end != text;
        if (good && *end == '-') {
            const char *second = end + 1;
            last = strtol(second, &end, 10);
            good = end != second;
        }
        good = good && (*end == ',' || *end == '\0') && first >= 0 && last >= first && last < limit &&
               (*count == 0 || first > layers[*count - 1]);
        if (!good)
            return kvs_fail(error, KVS_USAGE, "--layers", NULL, "must be ascending layers below %d, as 0,2-4", limit);
        for (long layer = first; layer <= last; layer++) layers[(*count)++] = (int)layer;
        text = *end == ',' ? end + 1 : NULL;
    }
    return KVS_OK;
}

/* --- input ---------------------------------------------------------------------------------------------------------
 */

static kvs_status read_text(const settings *s, int32_t **ids, int64_t *count, kvs_error *error) {
    kvs_tokenizer *tokenizer;
    char *text;
    size_t bytes, made = 0;
    KVS_TRY(kvs_tokenizer_open(s->model, &tokenizer, error));
    kvs_status status = kvs_read_file(s->text, TEXT_LIMIT_BYTES, &text, &bytes, error);
    if (status == KVS_OK) {
        status = kvs_tokenizer_encode(tokenizer, s->text, text, bytes, ids, &made, error);
        free(text);
    }
    kvs_tokenizer_close(tokenizer);
    *count = (int64_t)made;
    return status;
}

static kvs_status read_ids(const settings *s, int32_t **ids, int64_t *count, kvs_error *error) {
    if (s->text != NULL) return read_text(s, ids, count, error);
    kvs_tokens tokens;
    KVS_TRY(kvs_tokens_read(s->tokens, &tokens, error));
    *ids = tokens.ids;
    *count = tokens.count;
    tokens.ids = NULL;
    kvs_tokens_clear(&tokens);
    return KVS_OK;
}

/* --- running -------------------------------------------------------------------------------------------------------
 */

static kvs_status print(const settings *s, int sequences, double seconds, kvs_error *error) {
    struct stat info;
    double bytes = stat(s->output, &info) == 0 ? (double)info.st_size : 0;
    double rate = (double)sequences * (double)s->window / seconds;
    if (!s->common.json) {
        if (!s->common.quiet)
            printf("%s: %.0f bytes, %d sequences of %lld tokens, %.0f tokens/s\n", s->output, bytes, sequences,
                   (long long)s->window, rate);
        return KVS_OK;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "record");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "path", s->output);
    cJSON_AddNumberToObject(root, "bytes", bytes);
    cJSON_AddNumberToObject(root, "sequences", sequences);
    cJSON_AddNumberToObject(root, "tokens", (double)s->window);
    cJSON_AddNumberToObject(root, "seconds", seconds);
    cJSON_AddNumberToObject(root, "tokens_per_s", rate);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static kvs_status record(const settings *s, const kvs_model *model, kvs_record_options *o, kvs_error *error) {
    int layers[LAYERS_LIMIT];
    int32_t *ids = NULL;
    int64_t count = 0;
    int sequences = 0;
    KVS_TRY(parse_layers(s->layers, model->config.layers, layers, &o->layers_count, error));
    KVS_TRY(read_ids(s, &ids, &count, error));
    o->layers = layers;
    o->ids = ids + (s->first < count ? s->first : count);
    o->ids_count = count - (s->first < count ? s->first : count);
    double started = kvs_seconds();
    kvs_status status = kvs_record(model, s->output, o, &sequences, error);
    free(ids);
    return status == KVS_OK ? print(s, sequences, kvs_seconds() - started, error) : status;
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    (void)operands;
    const settings *s = config;
    if (s->model == NULL || s->output == NULL)
        return kvs_fail(error, KVS_USAGE, s->model == NULL ? "--model" : "-o", NULL, "is needed");
    if ((s->text == NULL) == (s->tokens == NULL))
        return kvs_fail(error, KVS_USAGE, "--text", NULL, "give either --text or --tokens");
    kvs_record_options o = {.window_tokens = (int)s->window,
                            .sequences = (int)s->sequences,
                            .generate = (int)s->generate,
                            .before_rope = s->before_rope,
                            .trace = {.deflate = (int)s->deflate},
                            .license = s->license,
                            .quiet = s->common.quiet};
    KVS_TRY(parse_queries(s->queries, &o, error));
    KVS_TRY(kvs_element_parse(s->element, &o.trace.element, error));
    omp_set_num_threads(s->common.threads > 0 ? (int)s->common.threads : omp_get_num_procs());
    kvs_interrupt_catch();
    kvs_model *model;
    kvs_model_options how = {.executor = NULL};
    if (strcmp(s->backend, "cpu") != 0) KVS_TRY(kvs_executor_find(s->backend, &how.executor, error));
    KVS_TRY(kvs_model_open_with(s->model, &how, &model, error));
    kvs_status status = record(s, model, &o, error);
    kvs_model_close(model);
    return status;
}

const kvs_command kvs_command_record = {
    .name = "record",
    .arguments = "--model DIR --text FILE|--tokens FILE -o TRACE",
    .summary = "run a model (Qwen3, Llama) and record its keys, values and queries",
    .details = "Example:\n"
               "  kvscope record --model qwen3-7m --text book.txt -o trace.h5 --sequences 4 --queries last:64\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 0,
    .max_operands = 0,
    .run = run,
};
