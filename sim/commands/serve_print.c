/* serve_print.c: the tables and the JSON of kvscope serve. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>

#include "core/version.h"
#include "sim/commands/serve.h"

static void print_assumptions(const kvs_serve_settings *s, const kvs_engine_setup *setup, const kvs_workload *w) {
    const kvs_device *d = &setup->device;
    printf("\nassumed: %s, %.2f GB of weights; %s: %.1f GB of memory, %.0f GB/s, %.0f TFLOP/s; ", setup->shape.name,
           kvs_weight_bytes(&setup->shape) / 1e9, d->name, d->memory_bytes / 1e9, d->bandwidth_bytes_per_s / 1e9,
           d->flops_per_s / 1e12);
    if (s->memory > 0)
        printf("%.2f GB for the cache;\n", (double)s->memory / 1e9);
    else
        printf("%.2f of the memory less the weights = %.2f GB for the cache;\n", s->engine.utilization,
               setup->cache_bytes / 1e9);
    printf("weights are read at %.2f and prompts computed at %.2f of these rates; overhead %.3g ms a step; buffers are "
           "rounded up to pages;\n",
           s->engine.weight_efficiency, s->engine.compute_efficiency, s->engine.overhead_ms);
    printf("step times are a model, not a measurement: a larger batch is a gain of memory, never of a kernel.\n");
    if (w->trace != NULL)
        printf("tok/s: all requests offered at once; TTFT and TPOT: under the arrivals of the trace.\n");
}

static void print_curve(const kvs_serve_row *rows, int count) {
    printf("\n%-34s tokens/s against batch\n", "scheme");
    for (int i = 0; i < count; i++) {
        printf("%-34s", rows[i].geometry.scheme);
        for (int p = 0; p < rows[i].points_count; p++)
            printf(" %lld:%.0f", (long long)rows[i].points[p].batch, rows[i].points[p].tokens_per_s);
        putchar('\n');
    }
}

static double ratio(int64_t a, int64_t b) {
    return b > 0 ? (double)a / (double)b : NAN;
}

/* What the paper says (reference: arXiv 2511.18643), beside what this model says. */
static void print_published(const kvs_serve_row *rows, int count) {
    printf(
        "\npublished (Kitty, Qwen3-8B, one A100-80GB, 8192 tokens): batch up to 8x, throughput 2.1x to 4.1x at equal "
        "memory\n");
    for (int i = 1; i < count; i++)
        printf("%-34s batch %lld -> %lld on the grid of powers of two: %.3gx; largest %lld -> %lld: %.2fx; throughput "
               "%.2fx at equal memory, %.2fx at equal batch\n",
               rows[i].geometry.scheme, (long long)rows[0].power_of_two, (long long)rows[i].power_of_two,
               ratio(rows[i].power_of_two, rows[0].power_of_two), (long long)rows[0].max_batch,
               (long long)rows[i].max_batch, ratio(rows[i].max_batch, rows[0].max_batch), rows[i].ratio_equal_memory,
               rows[i].ratio_equal_batch);
}

/* Of a trace, the batch is what the engine let run. */
static int is_limited(const kvs_serve_settings *s, const kvs_workload *w, const kvs_serve_row *row) {
    return w->trace != NULL && row->max_batch == s->engine.max_seqs;
}

void kvs_serve_print_table(const kvs_serve_settings *s, const kvs_engine_setup *setup, const kvs_workload *w,
                           const kvs_serve_row *rows, int count) {
    printf("%-34s %9s %8s %10s %9s %9s %12s %10s %8s %14s\n", "scheme", "max_batch", "power 2", "MB/seq", "tok/s",
           "TTFT ms", "TPOT ms", "=memory", "=batch", "KV efficiency");
    for (int i = 0; i < count; i++) {
        const kvs_serve_row *r = &rows[i];
        printf("%-34s %9lld %8lld %10.1f %9.0f %9.0f %12.2f %9.2fx %7.2fx %5.2f %s\n", r->geometry.scheme,
               (long long)r->max_batch, (long long)r->power_of_two, r->kv_bytes_per_sequence / 1e6,
               r->best.tokens_per_s, r->ttft_s * 1e3, r->tpot_s * 1e3, r->ratio_equal_memory, r->ratio_equal_batch,
               r->model.kv_efficiency, r->efficiency_note);
    }
    for (int i = 0; i < count; i++)
        if (is_limited(s, w, &rows[i]))
            printf("%s: more would fit, but --max-seqs is %lld\n", rows[i].geometry.scheme,
                   (long long)s->engine.max_seqs);
    print_curve(rows, count);
    if (s->published) print_published(rows, count);
    print_assumptions(s, setup, w);
}

/* null where a number is not available. */
static void add_number(cJSON *object, const char *name, double value) {
    if (isfinite(value))
        cJSON_AddNumberToObject(object, name, value);
    else
        cJSON_AddNullToObject(object, name);
}

static cJSON *row_to_json(const kvs_serve_row *r) {
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "scheme", r->geometry.scheme);
    add_number(row, "max_batch", (double)r->max_batch);
    add_number(row, "max_batch_power_of_two", (double)r->power_of_two);
    add_number(row, "tokens_per_s", r->best.tokens_per_s);
    add_number(row, "ttft_ms", r->ttft_s * 1e3);
    add_number(row, "tpot_ms", r->tpot_s * 1e3);
    add_number(row, "ratio_equal_memory", r->ratio_equal_memory);
    add_number(row, "ratio_equal_batch", r->ratio_equal_batch);
    add_number(row, "equal_batch", (double)r->equal.batch);
    add_number(row, "kv_bytes_per_sequence", r->kv_bytes_per_sequence);
    add_number(row, "offered_tokens_per_s", r->offered_tokens_per_s);
    add_number(row, "page_tokens", r->geometry.page_tokens);
    add_number(row, "page_bytes", r->geometry.page_bytes);
    add_number(row, "buffer_bytes", r->geometry.buffer_bytes);
    add_number(row, "total_pages", (double)r->total_pages);
    add_number(row, "kv_efficiency", r->model.kv_efficiency);
    cJSON_AddStringToObject(row, "kv_efficiency_from", r->efficiency_note);
    cJSON *curve = cJSON_AddArrayToObject(row, "curve");
    for (int p = 0; p < r->points_count; p++) {
        cJSON *point = cJSON_CreateObject();
        add_number(point, "batch", (double)r->points[p].batch);
        add_number(point, "tokens_per_s", r->points[p].tokens_per_s);
        add_number(point, "ttft_ms", r->points[p].ttft_s * 1e3);
        add_number(point, "tpot_ms", r->points[p].tpot_s * 1e3);
        add_number(point, "preemptions", (double)r->points[p].preemptions);
        cJSON_AddItemToArray(curve, point);
    }
    return row;
}

static void add_assumptions(cJSON *root, const kvs_serve_settings *s, const kvs_engine_setup *setup) {
    cJSON *a = cJSON_AddObjectToObject(root, "assumptions");
    cJSON_AddStringToObject(a, "model", setup->shape.name);
    cJSON_AddStringToObject(a, "device", setup->device.name);
    add_number(a, "device_memory_bytes", setup->device.memory_bytes);
    add_number(a, "memory_utilization", s->engine.utilization);
    add_number(a, "weight_bytes", kvs_weight_bytes(&setup->shape));
    add_number(a, "cache_bytes", s->memory > 0 ? (double)s->memory : setup->cache_bytes);
    add_number(a, "bandwidth_bytes_per_s", setup->device.bandwidth_bytes_per_s);
    add_number(a, "flops_per_s", setup->device.flops_per_s);
    add_number(a, "weight_efficiency", s->engine.weight_efficiency);
    add_number(a, "compute_efficiency", s->engine.compute_efficiency);
    add_number(a, "overhead_ms", s->engine.overhead_ms);
    cJSON_AddStringToObject(a, "step_time", "a model, not a measurement");
}

static void add_published(cJSON *root, const kvs_serve_row *rows, int count) {
    cJSON *list = cJSON_AddArrayToObject(root, "published");
    for (int i = 1; i < count; i++) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "scheme", rows[i].geometry.scheme);
        add_number(one, "batch_ratio_power_of_two", ratio(rows[i].power_of_two, rows[0].power_of_two));
        add_number(one, "batch_ratio", ratio(rows[i].max_batch, rows[0].max_batch));
        add_number(one, "published_batch_ratio", 8);
        add_number(one, "published_throughput_ratio_low", 2.1);
        add_number(one, "published_throughput_ratio_high", 4.1);
        cJSON_AddItemToArray(list, one);
    }
}

kvs_status kvs_serve_print_json(const kvs_serve_settings *s, const kvs_engine_setup *setup, const kvs_workload *w,
                                const kvs_serve_row *rows, int count, kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "serve");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "command_line", kvs_command_line());
    cJSON_AddStringToObject(root, "requests", w->trace != NULL ? w->trace->source : s->uniform);
    if (w->trace != NULL) cJSON_AddStringToObject(root, "sha256", w->trace->sha256);
    if (w->trace != NULL) add_number(root, "skipped_lines", (double)w->trace->skipped);
    cJSON *results = cJSON_AddArrayToObject(root, "results");
    for (int i = 0; i < count; i++) {
        cJSON *row = row_to_json(&rows[i]);
        cJSON_AddBoolToObject(row, "limited_by_max_seqs", is_limited(s, w, &rows[i]));
        cJSON_AddItemToArray(results, row);
    }
    if (s->published) add_published(root, rows, count);
    add_assumptions(root, s, setup);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}
