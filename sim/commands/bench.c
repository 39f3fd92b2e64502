/* bench.c: kvscope bench: how fast a back end is, as a table or as JSON. */
#include <cjson/cJSON.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/version.h"
#include "sim/bench.h"
#include "sim/bench_device.h"
#include "sim/command.h"

typedef struct settings {
    kvs_common common;
    const char *backend, *scheme, *kernel, *peer;
    kvs_texts layouts, batches, lengths;
    int64_t repeats;
} settings;

static const kvs_option options[] = {
    {"backend", KVS_OPTION_TEXT, offsetof(settings, backend), "cpu", "cpu", 0, 0, "what is measured"},
    {"scheme", KVS_OPTION_TEXT, offsetof(settings, scheme), "S", "kitty:boost=0.25", 0, 0,
     "the scheme whose pages are quantized"},
    {"kernel", KVS_OPTION_TEXT, offsetof(settings, kernel), "TEXT", "", 0, 0,
     "on a device: only kernels whose name contains it"},
    {"layout", KVS_OPTION_LIST, offsetof(settings, layouts), "L", NULL, 0, 0,
     "on a device: only this layout; repeat for more (kvscope layouts)"},
    {"batch", KVS_OPTION_LIST, offsetof(settings, batches), "N", NULL, 0, 0,
     "on a device: sequences, instead of 1, 8, 32, 64; repeat for more"},
    {"tokens", KVS_OPTION_LIST, offsetof(settings, lengths), "N", NULL, 0, 0,
     "on a device: tokens of each, instead of 4096 and 32768; repeat for more"},
    {"peer", KVS_OPTION_TEXT, offsetof(settings, peer), "FILE", NULL, 0, 0,
     "on a device: full precision by another program in the same session (tests/peers/sdpa_torch.py writes it)"},
    {"repeats", KVS_OPTION_INT, offsetof(settings, repeats), "N", "7", 1, 1000, "repeats; the median counts"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

static double rate(const kvs_bench_row *row) {
    return row->bytes / row->seconds / 1e9;
}

static void print_table(const kvs_bench_row *rows) {
    printf("%-16s %8s %10s %10s %12s %10s  %s\n", "what", "threads", "ms", "GB/s", "ns/element", "of memcpy", "");
    for (int i = 0; i < KVS_BENCH_ROWS; i++) {
        const kvs_bench_row *row = &rows[i], *yardstick = &rows[row->threads == 1];
        char per_element[32] = "-";
        if (row->elements > 0) snprintf(per_element, sizeof per_element, "%.3f", row->seconds / row->elements * 1e9);
        printf("%-16s %8d %10.3f %10.2f %12s %9.0f%%  %s\n", row->name, row->threads, row->seconds * 1e3, rate(row),
               per_element, 100 * rate(row) / rate(yardstick), row->what);
    }
}

/* Prints and frees a document. */
static kvs_status print_document(cJSON *root, kvs_error *error) {
    char *text = root != NULL ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static kvs_status print_json(const kvs_bench_row *rows, kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "bench");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "backend", "cpu");
    cJSON *results = cJSON_AddArrayToObject(root, "results");
    for (int i = 0; i < KVS_BENCH_ROWS; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "name", rows[i].name);
        cJSON_AddStringToObject(row, "what", rows[i].what);
        cJSON_AddNumberToObject(row, "threads", rows[i].threads);
        cJSON_AddNumberToObject(row, "seconds", rows[i].seconds);
        cJSON_AddNumberToObject(row, "bytes", rows[i].bytes);
        cJSON_AddNumberToObject(row, "elements", rows[i].elements);
        cJSON_AddNumberToObject(row, "gb_per_s", rate(&rows[i]));
        cJSON_AddItemToArray(results, row);
    }
    return print_document(root, error);
}

/* --- devices -------------------------------------------------------------------------------------------------------
 */

static void print_device_table(const kvs_timings *timings) {
    printf("%s, compute capability %s, %d multiprocessors, %.0f MB of L2\n", timings->device,
           timings->compute_capability, timings->multiprocessors, (double)timings->l2_bytes / 1e6);
    printf("%-22s %-16s %5s %7s %6s %10s %19s %10s %9s %8s %8s %8s\n", "kernel", "layout", "batch", "tokens", "splits",
           "us", "p10 .. p90", "MB", "GB/s", "of copy", "vs fp16", "vs best");
    for (int i = 0; i < timings->count; i++) {
        const kvs_timing *row = &timings->rows[i];
        char ratio[32] = "-", best[32] = "-";
        if (!isnan(row->speedup_vs_fp16)) snprintf(ratio, sizeof ratio, "%.2fx", row->speedup_vs_fp16);
        if (!isnan(row->speedup_vs_fastest)) snprintf(best, sizeof best, "%.2fx", row->speedup_vs_fastest);
        printf("%-22s %-16s %5d %7d %6d %10.1f %9.1f %9.1f %10.2f %9.0f %7.0f%% %8s %8s\n", row->kernel, row->layout,
               row->batch, row->tokens, row->splits, row->seconds * 1e6, row->seconds_p10 * 1e6, row->seconds_p90 * 1e6,
               row->bytes / 1e6, row->gb_per_s, 100 * row->of_copy, ratio, best);
    }
}

/* Whole numbers from 1 to `most` instead of the standard ones, where some are given. */
static kvs_status read_numbers(const kvs_texts *texts, const char *option, int most, int numbers[KVS_BENCH_LIST],
                               kvs_error *error) {
    if (texts->count >= KVS_BENCH_LIST)
        return kvs_fail(error, KVS_USAGE, option, NULL, "%d are more than %d", texts->count, KVS_BENCH_LIST - 1);
    for (int i = 0; i < texts->count; i++) {
        char *end;
        long number = strtol(texts->texts[i], &end, 10);
        if (end == texts->texts[i] || *end != '\0' || number < 1 || number > most)
            return kvs_fail(error, KVS_USAGE, option, texts->texts[i], "is no whole number in 1..%d", most);
        numbers[i] = (int)number;
        numbers[i + 1] = 0;
    }
    return KVS_OK;
}

static kvs_status read_layouts(const kvs_texts *texts, kvs_device_bench *bench, kvs_error *error) {
    if (texts->count >= KVS_BENCH_LIST)
        return kvs_fail(error, KVS_USAGE, "--layout", NULL, "%d are more than %d", texts->count, KVS_BENCH_LIST - 1);
    for (int i = 0; i < texts->count; i++) {
        const kvs_layout *layout = kvs_layout_find(texts->texts[i]);
        if (layout == NULL || layout->arrange == NULL)
            return kvs_fail(error, KVS_USAGE, "--layout", texts->texts[i], "no kernel stores it; see kvscope layouts");
        bench->layouts[i] = layout->name;
        bench->layouts[i + 1] = NULL;
    }
    return KVS_OK;
}

enum { MAX_PEERS = 256, MAX_PEER_BYTES = 1 << 20 };

/* {"results": [{"batch": N, "tokens": N, "seconds": S}, ...]}. *peers is the caller's, freed with free. */
static kvs_status read_peers(const char *path, kvs_device_bench *bench, kvs_bench_peer **peers, kvs_error *error) {
    cJSON *root;
    int count = 0;
    KVS_TRY(kvs_json_read(path, MAX_PEER_BYTES, &root, error));
    *peers = calloc(MAX_PEERS, sizeof **peers);
    kvs_status status = *peers != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    const cJSON *results = kvs_json_find(root, "results"), *item = NULL;
    if (status == KVS_OK && !cJSON_IsArray(results)) status = kvs_fail(error, KVS_INPUT, path, "results", "is no list");
    if (status == KVS_OK && cJSON_GetArraySize(results) > MAX_PEERS)
        status = kvs_fail(error, KVS_INPUT, path, "results", "has more than %d", MAX_PEERS);
    if (status == KVS_OK) cJSON_ArrayForEach(item, results) {
            const cJSON *seconds = kvs_json_find(item, "seconds");
            kvs_bench_peer *peer = &(*peers)[count];
            status = kvs_json_need_int(path, item, "batch", 1, 1024, &peer->batch, error);
            if (status == KVS_OK) status = kvs_json_need_int(path, item, "tokens", 1, 1 << 24, &peer->tokens, error);
            if (status == KVS_OK && !(cJSON_IsNumber(seconds) && seconds->valuedouble > 0))
                status = kvs_fail(error, KVS_INPUT, path, "seconds", "is no number above 0");
            if (status != KVS_OK) break;
            peer->seconds = seconds->valuedouble;
            count++;
        }
    cJSON_Delete(root);
    bench->peers = *peers;
    bench->peers_count = count;
    return status;
}

static kvs_status print_device(const settings *s, const kvs_executor *executor, const kvs_device_bench *bench,
                               kvs_error *error) {
    kvs_timings timings;
    KVS_TRY(kvs_bench_on_device(executor, bench, &timings, error));
    kvs_status status = KVS_OK;
    timings.command_line = strdup(kvs_command_line());
    if (timings.command_line == NULL) status = kvs_fail(error, KVS_INPUT, "bench", NULL, "out of memory");
    if (status == KVS_OK && s->common.json) status = print_document(kvs_timings_to_json(&timings), error);
    if (status == KVS_OK && !s->common.json) print_device_table(&timings);
    kvs_timings_clear(&timings);
    return status;
}

static kvs_status run_device(const settings *s, kvs_error *error) {
    const kvs_executor *executor;
    kvs_device_bench bench = strcmp(s->backend, "simt") == 0 ? kvs_device_bench_toy : kvs_device_bench_standard;
    kvs_bench_peer *peers = NULL;
    bench.repeats = (int)s->repeats;
    bench.seed = (uint64_t)s->common.seed;
    bench.quiet = s->common.quiet;
    bench.kernel = s->kernel;
    KVS_TRY(read_layouts(&s->layouts, &bench, error));
    KVS_TRY(read_numbers(&s->batches, "--batch", 1024, bench.batches, error));
    KVS_TRY(read_numbers(&s->lengths, "--tokens", 1 << 24, bench.lengths, error));
    for (int i = 0; bench.lengths[i] > 0; i++)
        if (bench.lengths[i] < bench.sink_tokens + bench.window_tokens + bench.page_tokens)
            return kvs_fail(error, KVS_USAGE, "--tokens", NULL, "%d hold no page besides %d sinks and %d in the window",
                            bench.lengths[i], bench.sink_tokens, bench.window_tokens);
    KVS_TRY(kvs_executor_find(s->backend, &executor, error));
    kvs_status status = KVS_OK;
    if (s->peer != NULL) status = read_peers(s->peer, &bench, &peers, error);
    if (status == KVS_OK) status = print_device(s, executor, &bench, error);
    free(peers);
    return status;
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const settings *s = config;
    if (strcmp(s->backend, "cuda") == 0 || strcmp(s->backend, "simt") == 0) return run_device(s, error);
    if (strcmp(s->backend, "cpu") != 0)
        return kvs_fail(error, KVS_USAGE, "--backend", s->backend, "unknown back end; known: cpu, cuda, simt");
    if (operands->count == 0)
        return kvs_fail(error, KVS_USAGE, "kvscope bench", NULL, "usage: kvscope bench TRACE [--scheme S]");
    int threads = s->common.threads ? (int)s->common.threads : omp_get_num_procs();
    kvs_bench_row rows[KVS_BENCH_ROWS];
    KVS_TRY(kvs_bench_cpu(operands->texts[0], s->scheme, threads, (int)s->repeats, rows, error));
    if (s->common.json) return print_json(rows, error);
    print_table(rows);
    return KVS_OK;
}

const kvs_command kvs_command_bench = {
    .name = "bench",
    .arguments = "TRACE [--scheme S] [--repeats N] | --backend cuda|simt [--peer FILE] [...]",
    .summary = "speed of a back end beside the memory bandwidth of the same run",
    .details =
        "The trace's K and V are held in memory; write a larger one with kvscope gen. GB/s counts bytes read\n"
        "plus bytes written (for `read`: bytes of the file). `make bench` adds the comparison with NumPy.\n"
        "With --backend cuda the kernels are timed on generated pages: 8 KV heads, 32 query heads, head_dim 128,\n"
        "boost 0.25, sinks 32, V window 128; graph replays over inputs larger than the L2. `vs fp16` compares with\n"
        "decode_attention_fp16 on fp16-hnd, `vs best` with the faster of that and the --peer. --backend simt runs the\n"
        "same on the host at toy size: its times say nothing about a device. --json is what kvscope plot --kind bench "
        "draws:\n"
        "attention's time beside its floor (its bytes at the copy's rate), its share of copy bandwidth and its speed "
        "over\n"
        "full precision, by batch, length and layout; and the share that quantizing and dequantizing reach.\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 0,
    .max_operands = 1,
    .run = run,
};
