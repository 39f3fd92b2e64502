/* plot_results.h: a results file as plots see it, made by formula: two traces, every scheme family, outlier channels.
 * The numbers are plausible and nothing more. */
#ifndef KVS_TESTS_PLOT_RESULTS_H
#define KVS_TESTS_PLOT_RESULTS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/result.h"
#include "core/random.h"
#include "plots/plot.h"

enum { EXAMPLE_TRACES = 2, EXAMPLE_SCHEMES = 31 };

static inline void example_scheme(int i, char *text, size_t text_bytes, double *bits, double *error) {
    static const char *const ranks[] = {"magnitude", "variance", "range", "random"};
    static const int widths[] = {2, 3, 4, 6, 8};
    if (i == 0) {
        snprintf(text, text_bytes, "fp16");
        *bits = 16;
        *error = 0;
    } else if (i < 6) {
        snprintf(text, text_bytes, "int:bits=%d", widths[i - 1]);
        *bits = widths[i - 1] + 0.5;
        *error = 2.4 * exp2(-widths[i - 1]);
    } else if (i < 10) {
        int bits_of = i % 2 ? 4 : 2, sink = i < 8 ? 0 : 32;
        snprintf(text, text_bytes, "kivi:bits=%d,group=32,residual=128,sink=%d", bits_of, sink);
        *bits = bits_of + 1 + sink / 90.0;
        *error = (sink ? 0.7 : 1.1) * exp2(-bits_of);
    } else {
        int rank = (i - 10) % 4, boost = (i - 10) / 4;
        if (i == 30) rank = 0, boost = 6;
        snprintf(text, text_bytes, "kitty:boost=%g,rank=%s,sink=32", boost * 0.1, ranks[rank]);
        *bits = 2.9 + boost * 0.1;
        *error = 0.19 * exp(-boost * (rank == 3 ? 0.1 : 0.5 - 0.06 * rank));
    }
}

static inline kvs_errors example_errors(double error, double wobble) {
    kvs_statistic rel = {error * wobble, error * 0.8 * wobble, error * 3 * wobble, error * 9 * wobble};
    kvs_statistic mse = {error * error, error * error, error * 4, error * 9};
    return (kvs_errors){rel, mse, mse, error * 1.1, 1 - error / 2, 1 - error, error, error * 1.5};
}

static inline void example_trace(kvs_trace_summary *trace, int t) {
    trace->path = strdup(t ? "traces/sample/llama.h5" : "traces/sample/qwen3.h5");
    trace->sha256 = strdup("");
    trace->model_name = strdup(t ? "llama-7m" : "qwen3-7m");
    trace->model_family = strdup(t ? "llama" : "qwen3");
    trace->layers = t ? 4 : 6;
    trace->kv_heads = t ? 4 : 2;
    trace->query_heads = 8;
    trace->head_dim = 64;
    trace->sequences = 1;
    trace->tokens = trace->at_tokens = 2048;
    trace->queries = 128;
    int count = trace->layers * trace->kv_heads * trace->head_dim;
    kvs_channel_statistics *c = &trace->channels;
    float **arrays[] = {&c->k_magnitude, &c->k_range, &c->v_magnitude, &c->v_range};
    for (int a = 0; a < 4; a++) {
        *arrays[a] = malloc(sizeof(float) * (size_t)count);
        for (int i = 0; i < count; i++) {
            float outlier = a < 2 && kvs_random_unit(7, (uint64_t)(i % 64 + 64 * (i / 256))) < 0.06f ? 12 : 1;
            (*arrays[a])[i] = outlier * (a % 2 ? 4 : 1) * (0.4f + kvs_random_unit((uint64_t)a, (uint64_t)i));
        }
    }
}

static inline void example_result(kvs_result *result, int t, int i, const kvs_trace_summary *trace) {
    char scheme[96];
    double bits, error;
    example_scheme(i, scheme, sizeof scheme, &bits, &error);
    if (t) error *= 1.6;
    result->trace = t;
    result->scheme = strdup(scheme);
    result->layout = strdup(i ? "paged" : "contiguous");
    double quantized = i ? bits - 0.9 : 0;
    result->bits = (kvs_bits){quantized * 0.85, quantized * 0.15, bits - quantized, 0};
    result->effective_bits = bits;
    double elements = 2.0 * trace->layers * trace->kv_heads * trace->head_dim;
    result->bytes_per_token = bits * elements / 8;
    result->errors = example_errors(error, 1);
    kvs_closed_loop_unknown(&result->closed_loop);
    result->heads_count = trace->layers * trace->kv_heads;
    result->heads = calloc((size_t)result->heads_count, sizeof *result->heads);
    for (int h = 0; h < result->heads_count; h++) {
        result->heads[h].layer = h / trace->kv_heads;
        result->heads[h].head = h % trace->kv_heads;
        result->heads[h].errors = example_errors(error, 0.4 + 1.5 * kvs_random_unit((uint64_t)t, (uint64_t)h));
    }
    result->memory_count = 11;
    result->memory = calloc((size_t)result->memory_count, sizeof *result->memory);
    for (int m = 0; m < result->memory_count; m++) {
        double tokens = exp2(7 + m), kept = i == 0 ? tokens : tokens < 160 ? tokens : 160, stored = tokens - kept;
        result->memory[m] =
            (kvs_memory_point){(int64_t)tokens,
                               {stored * elements * quantized * 0.85, stored * elements * quantized * 0.15,
                                kept * elements * 16, stored * elements * 0.05}};
    }
}

/* The caller frees it with kvs_results_clear. */
static inline kvs_results example_results(void) {
    kvs_results results = {.traces_count = EXAMPLE_TRACES, .results_count = EXAMPLE_TRACES * EXAMPLE_SCHEMES};
    results.command = strdup("sweep");
    results.version = strdup("0");
    results.command_line = strdup("kvscope sweep");
    results.backend = strdup("cpu");
    results.device = strdup("");
    results.traces = calloc(EXAMPLE_TRACES, sizeof *results.traces);
    results.results = calloc((size_t)results.results_count, sizeof *results.results);
    for (int t = 0; t < EXAMPLE_TRACES; t++) {
        example_trace(&results.traces[t], t);
        for (int i = 0; i < EXAMPLE_SCHEMES; i++)
            example_result(&results.results[t * EXAMPLE_SCHEMES + i], t, i, &results.traces[t]);
    }
    return results;
}

/* Adds what a closed loop would have found: losses that mostly follow the errors, tasks that do less well. */
static inline void example_closed_loop(kvs_results *results) {
    for (int t = 0; t < results->traces_count; t++) results->traces[t].windows = results->traces[t].window_tokens = 8;
    for (int i = 0; i < results->results_count; i++) {
        kvs_result *result = &results->results[i];
        double error = result->errors.attention_output_rel_l2.mean;
        double difference = error * error * (0.5 + kvs_random_unit(11, (uint64_t)i)) - 1e-4;
        result->closed_loop.full_loss_nats_per_token = 2.5;
        result->closed_loop.loss_nats_per_token = 2.5 + difference;
        result->closed_loop.loss_difference = difference;
        result->closed_loop.perplexity = exp(2.5 + difference);
        result->closed_loop.perplexity_ratio = exp(difference);
        result->closed_loop.task_accuracy = 0.7 - error * 0.5 - 0.1 * kvs_random_unit(12, (uint64_t)i);
        result->closed_loop.full_task_accuracy = 0.7;
    }
}

/* Composes a plot with parameters as a user writes them. */
static inline kvs_status compose(const kvs_plot_type *type, const kvs_results *results, const char *params,
                                 kvs_figure *figure, kvs_error *error) {
    double config[16];
    kvs_params_defaults(type->params, config);
    KVS_TRY(kvs_params_parse(type->params, type->name, params, config, error));
    return kvs_figure_compose(type, results, config, figure, error);
}

#endif
