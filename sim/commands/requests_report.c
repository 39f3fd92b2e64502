#include "sim/commands/requests_report.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/version.h"
#include "traces/requests.h"

/* Text is what starts with none of the bytes that text has no use for, and with something. */
static int is_text(const char *path) {
    unsigned char head[64];
    FILE *file = fopen(path, "rb");
    size_t bytes = file != NULL ? fread(head, 1, sizeof head, file) : 0;
    if (file != NULL) fclose(file);
    for (size_t i = 0; i < bytes; i++)
        if (head[i] < 32 && strchr("\t\r\n", head[i]) == NULL) return 0;
    return bytes > 0;
}

int kvs_requests_probe(const char *path) {
    struct stat info; /* opening a pipe would wait for its writer */
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && (kvs_requests_is_h5(path) || is_text(path));
}

static kvs_status print_document(cJSON *root, kvs_error *error) {
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static cJSON *document(const char *command, const char *path, const char *format) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", command);
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "path", path);
    cJSON_AddStringToObject(root, "kind", "requests");
    cJSON_AddStringToObject(root, "format", format);
    return root;
}

/* --- check ---------------------------------------------------------------------------------------------------------
 */

typedef struct tally {
    char format[32];
    int64_t requests, tokens, blocks;
} tally;

/* A text trace is checked as a stream: memory does not grow with it, but for its ids. */
static kvs_status tally_text(const char *path, tally *t, kvs_error *error) {
    kvs_request_reader *reader;
    kvs_request request;
    int end = 0;
    KVS_TRY(kvs_request_reader_open(path, NULL, (kvs_request_options){0}, &reader, error));
    snprintf(t->format, sizeof t->format, "%s", kvs_request_reader_facts(reader).format->name);
    kvs_status status = KVS_OK;
    while (status == KVS_OK && !end) {
        status = kvs_request_reader_next(reader, &request, &end, error);
        if (status != KVS_OK || end) break;
        t->requests++;
        t->tokens += (int64_t)request.input_tokens + request.output_tokens;
        t->blocks += request.blocks;
    }
    kvs_request_reader_close(reader);
    if (status != KVS_OK || t->requests > 0) return status;
    return kvs_fail(error, KVS_INPUT, path, NULL, "holds no request");
}

static kvs_status tally_h5(const char *path, tally *t, kvs_error *error) {
    kvs_requests r;
    KVS_TRY(kvs_requests_read_h5(path, &r, error));
    snprintf(t->format, sizeof t->format, "%s", r.format);
    t->requests = r.count;
    t->tokens = kvs_requests_total_input(&r) + kvs_requests_total_output(&r);
    t->blocks = r.block_start[r.count];
    kvs_requests_clear(&r);
    return KVS_OK;
}

kvs_status kvs_requests_report_check(const char *path, const kvs_common *common, kvs_error *error) {
    tally t = {.format = ""};
    KVS_TRY(kvs_requests_is_h5(path) ? tally_h5(path, &t, error) : tally_text(path, &t, error));
    if (common->json) {
        cJSON *root = document("check", path, t.format);
        cJSON_AddBoolToObject(root, "ok", 1);
        cJSON *counts = cJSON_AddObjectToObject(root, "checked");
        cJSON_AddNumberToObject(counts, "requests", (double)t.requests);
        cJSON_AddNumberToObject(counts, "tokens", (double)t.tokens);
        cJSON_AddNumberToObject(counts, "block_ids", (double)t.blocks);
        return print_document(root, error);
    }
    if (!common->quiet)
        printf("%s: ok, %s, %lld requests, %lld tokens, %lld block ids\n", path, t.format, (long long)t.requests,
               (long long)t.tokens, (long long)t.blocks);
    return KVS_OK;
}

/* --- info ----------------------------------------------------------------------------------------------------------
 */

typedef struct lengths {
    double mean;
    int32_t median, p99, max;
} lengths;

static int by_value(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static kvs_status measure(const int32_t *values, int64_t count, lengths *l, kvs_error *error) {
    int32_t *sorted = malloc((size_t)count * sizeof *sorted);
    if (sorted == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    for (int64_t i = 0; i < count; i++) l->mean += sorted[i] / (double)count;
    l->median = sorted[(count - 1) / 2];
    l->p99 = sorted[(count - 1) * 99 / 100];
    l->max = sorted[count - 1];
    free(sorted);
    return KVS_OK;
}

static void add_lengths(cJSON *root, const char *name, const lengths *l) {
    cJSON *object = cJSON_AddObjectToObject(root, name);
    cJSON_AddNumberToObject(object, "mean", l->mean);
    cJSON_AddNumberToObject(object, "median", l->median);
    cJSON_AddNumberToObject(object, "p99", l->p99);
    cJSON_AddNumberToObject(object, "max", l->max);
}

static kvs_status print_info(const char *path, const kvs_requests *r, const kvs_common *common, kvs_error *error) {
    lengths input = {0}, output = {0};
    KVS_TRY(measure(r->input_tokens, r->count, &input, error));
    KVS_TRY(measure(r->output_tokens, r->count, &output, error));
    double seconds = 1e-9 * (double)(r->arrival_ns[r->count - 1] - r->arrival_ns[0]);
    int64_t ids = r->block_start[r->count];
    if (common->json) {
        cJSON *root = document("info", path, r->format);
        cJSON_AddNumberToObject(root, "requests", (double)r->count);
        cJSON_AddNumberToObject(root, "seconds", seconds);
        add_lengths(root, "input_tokens", &input);
        add_lengths(root, "output_tokens", &output);
        cJSON_AddNumberToObject(root, "block_tokens", r->block_tokens);
        cJSON_AddNumberToObject(root, "block_ids", (double)ids);
        cJSON_AddNumberToObject(root, "unique_blocks", (double)r->unique_blocks);
        cJSON_AddBoolToObject(root, "recorded_moments", r->moments_ns != NULL);
        return print_document(root, error);
    }
    printf("%s: requests, %s\n", path, r->format);
    printf("  requests       %lld over %.1f s", (long long)r->count, seconds);
    if (seconds > 0) printf(", %.3g a second", (double)r->count / seconds);
    printf("\n  input tokens   mean %.1f, median %d, p99 %d, max %d\n", input.mean, input.median, input.p99, input.max);
    printf("  output tokens  mean %.1f, median %d, p99 %d, max %d\n", output.mean, output.median, output.p99,
           output.max);
    if (ids > 0)
        printf("  prefixes       %lld ids of %d tokens, %lld distinct: at most %.1f %% can be hits\n", (long long)ids,
               r->block_tokens, (long long)r->unique_blocks, 100 * (1 - (double)r->unique_blocks / (double)ids));
    else
        printf("  prefixes       no ids: nothing is shared\n");
    if (r->moments_ns != NULL) printf("  recorded       queued, scheduled, first and last token of every request\n");
    return KVS_OK;
}

kvs_status kvs_requests_report_info(const char *path, const kvs_common *common, kvs_error *error) {
    kvs_requests r;
    KVS_TRY(kvs_requests_load(path, NULL, (kvs_request_options){0}, &r, error));
    kvs_status status = print_info(path, &r, common, error);
    kvs_requests_clear(&r);
    return status;
}
