#include "sim/bench_device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "core/version.h"
#include "sim/bench_run.h"

enum { MAX_SETS = 64 };

const kvs_device_bench kvs_device_bench_standard = {
    .kv_heads = 8,
    .query_heads = 32,
    .head_dim = 128,
    .page_tokens = 128,
    .boost_channels = 32,
    .sink_tokens = 32,
    .window_tokens = 128,
    .batches = {1, 8, 32, 64},
    .lengths = {4096, 32768},
    .layouts = {"fp16-hnd", "fp16-nhd", "fragment", "kitty", "kitty-inline", "permuted", "mixed-scattered"},
    .kernel = "",
    .elements = 1 << 24,
    .copy_bytes = (int64_t)1 << 30,
    .quantize_pages = 1 << 15,
    .repeats = 51,
    .seed = 1,
};

const kvs_device_bench kvs_device_bench_toy = {
    .kv_heads = 2,
    .query_heads = 8,
    .head_dim = 128,
    .page_tokens = 128,
    .boost_channels = 32,
    .sink_tokens = 32,
    .window_tokens = 128,
    .batches = {1, 2},
    .lengths = {512},
    .layouts = {"fp16-hnd", "fp16-nhd", "fragment", "kitty", "kitty-inline", "permuted", "mixed-scattered"},
    .kernel = "",
    .elements = 1 << 16,
    .copy_bytes = 1 << 16,
    .quantize_pages = 4,
    .repeats = 2,
    .seed = 1,
};

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

kvs_status kvs_bench_measure(kvs_bench_run *r, const kvs_bench_work *work, kvs_error *error) {
    int repeats = r->bench->repeats;
    kvs_timing *row;
    double *seconds = malloc(sizeof *seconds * (size_t)repeats);
    if (seconds == NULL) return kvs_fail(error, KVS_INPUT, "bench", work->kernel, "out of memory");
    kvs_status status = r->executor->time(work->start, work->context, work->sets, repeats, seconds, error);
    if (status == KVS_OK) status = kvs_timings_add(r->timings, work->kernel, work->layout, &row, error);
    if (status == KVS_OK) {
        qsort(seconds, (size_t)repeats, sizeof *seconds, compare);
        row->batch = work->batch;
        row->tokens = work->tokens;
        row->splits = work->splits;
        row->bytes = work->bytes;
        row->seconds = seconds[repeats / 2];
        row->seconds_p10 = seconds[repeats / 10];
        row->seconds_p90 = seconds[repeats - 1 - repeats / 10];
        row->gb_per_s = row->bytes / row->seconds / 1e9;
        if (r->copy_rate == 0) r->copy_rate = row->bytes / row->seconds; /* copy comes first */
        row->of_copy = row->bytes / row->seconds / r->copy_rate;
    }
    free(seconds);
    return status;
}

int kvs_bench_sets(const kvs_bench_run *r, double bytes) {
    double sets = ceil(4.0 * (double)r->facts.l2_bytes / bytes);
    return sets < 2 ? 2 : sets > MAX_SETS ? MAX_SETS : (int)sets;
}

static double faster(double a, double b) {
    return isnan(a) || b < a ? b : a;
}

static void compare_with_full(kvs_timings *timings, const kvs_device_bench *bench) {
    for (int i = 0; i < timings->count; i++) {
        kvs_timing *row = &timings->rows[i];
        double full = NAN, peer = NAN;
        if (row->batch == 0) continue;
        for (int j = 0; j < timings->count; j++) {
            const kvs_timing *other = &timings->rows[j];
            if (strcmp(other->layout, "fp16-hnd") == 0 && row->batch == other->batch && row->tokens == other->tokens)
                full = other->seconds;
        }
        for (int j = 0; j < bench->peers_count; j++) {
            const kvs_bench_peer *other = &bench->peers[j];
            if (row->batch == other->batch && row->tokens == other->tokens) peer = faster(peer, other->seconds);
        }
        row->speedup_vs_fp16 = full / row->seconds;
        row->speedup_vs_peer = peer / row->seconds;
        row->speedup_vs_fastest = faster(full, peer) / row->seconds;
    }
}

static kvs_status bench_layout(kvs_bench_run *r, const char *layout, kvs_progress *progress, kvs_error *error) {
    int full = kvs_bench_format(r, layout).keys == KVS_KEYS_FULL;
    if (!full) KVS_TRY(kvs_bench_quantize(r, layout, error));
    kvs_progress_add(progress, 1);
    if (strstr(full ? "decode_attention_fp16" : "decode_attention", r->bench->kernel) == NULL) return KVS_OK;
    return kvs_bench_attention(r, layout, progress, error);
}

static kvs_status run_all(kvs_bench_run *r, kvs_error *error) {
    const kvs_device_bench *b = r->bench;
    int layouts = 0, batches = 0, lengths = 0;
    kvs_progress progress;
    while (b->layouts[layouts] != NULL) layouts++;
    while (b->batches[batches] > 0) batches++;
    while (b->lengths[lengths] > 0) lengths++;
    kvs_progress_begin(&progress, "bench", "configurations", (uint64_t)(layouts * (1 + batches * lengths)), b->quiet);
    kvs_status status = kvs_bench_upload_elements(r, error);
    if (status == KVS_OK) status = kvs_bench_copy(r, error);
    for (int i = 0; i < layouts && status == KVS_OK; i++) status = bench_layout(r, b->layouts[i], &progress, error);
    kvs_progress_end(&progress);
    return status;
}

/* What the document says besides the rows. */
static kvs_status describe(const kvs_bench_run *r, kvs_error *error) {
    const kvs_device_bench *b = r->bench;
    char capability[32];
    snprintf(capability, sizeof capability, "%d.%d", r->facts.compute_major, r->facts.compute_minor);
    *r->timings = (kvs_timings){.version = strdup(KVS_VERSION),
                                .backend = strdup(r->executor->name),
                                .device = strdup(r->facts.name),
                                .compute_capability = strdup(capability),
                                .multiprocessors = r->facts.multiprocessors,
                                .l2_bytes = (int64_t)r->facts.l2_bytes,
                                .kv_heads = b->kv_heads,
                                .query_heads = b->query_heads,
                                .head_dim = b->head_dim,
                                .page_tokens = b->page_tokens,
                                .boost_channels = b->boost_channels,
                                .sink_tokens = b->sink_tokens,
                                .window_tokens = b->window_tokens,
                                .repeats = b->repeats};
    const kvs_timings *t = r->timings;
    if (t->version != NULL && t->backend != NULL && t->device != NULL && t->compute_capability != NULL) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, "bench", NULL, "out of memory");
}

kvs_status kvs_bench_on_device(const kvs_executor *executor, const kvs_device_bench *bench, kvs_timings *timings,
                               kvs_error *error) {
    kvs_bench_run r = {.executor = executor, .bench = bench, .timings = timings};
    *timings = (kvs_timings){0};
    if (executor->time == NULL) return kvs_fail(error, KVS_USAGE, executor->name, NULL, "cannot be timed");
    KVS_TRY(executor->open(&r.facts, error));
    kvs_status status = describe(&r, error);
    if (status == KVS_OK) status = run_all(&r, error);
    executor->release(r.pool);
    executor->release(r.elements);
    if (status == KVS_OK)
        compare_with_full(timings, bench);
    else
        kvs_timings_clear(timings);
    return status;
}
