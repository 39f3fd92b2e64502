#include "sim/bench.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/progress.h"
#include "kernels/scheme.h"
#include "traces/trace.h"

/* K and V of every head of a trace in memory, as [heads][tokens][head_dim] one after the other. */
typedef struct heads {
    int count, head_dim;
    int *tokens;                 /* [count] */
    float **k, **v;              /* [count] */
    size_t most;                 /* elements of the largest head */
    double elements, file_bytes; /* of K and V together; bytes as the file stores them */
} heads;

static void heads_free(heads *h) {
    for (int i = 0; i < h->count; i++) {
        free(h->k[i]);
        free(h->v[i]);
    }
    free(h->k);
    free(h->v);
    free(h->tokens);
}

static kvs_status out_of_memory(kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

static kvs_status heads_allocate(const kvs_trace *trace, heads *h, kvs_error *error) {
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    int per_sequence = header->layers * header->kv_heads, sequences = kvs_trace_sequences(trace);
    h->head_dim = header->head_dim;
    size_t count = (size_t)per_sequence * (size_t)sequences;
    h->tokens = calloc(count, sizeof *h->tokens);
    h->k = calloc(count, sizeof *h->k);
    h->v = calloc(count, sizeof *h->v);
    if (h->tokens == NULL || h->k == NULL || h->v == NULL) return out_of_memory(error);
    h->count = (int)count;
    for (int i = 0; i < h->count; i++) {
        const kvs_sequence *sequence = kvs_trace_sequence(trace, i / per_sequence);
        size_t elements = (size_t)sequence->tokens * (size_t)h->head_dim;
        h->tokens[i] = sequence->tokens;
        h->k[i] = malloc(elements * sizeof(float));
        h->v[i] = malloc(elements * sizeof(float));
        if (h->k[i] == NULL || h->v[i] == NULL) return out_of_memory(error);
        h->most = elements > h->most ? elements : h->most;
        h->elements += 2.0 * (double)elements;
        h->file_bytes += (double)elements * ((sequence->k_element == KVS_ELEMENT_BINARY32 ? 4 : 2) +
                                             (sequence->v_element == KVS_ELEMENT_BINARY32 ? 4 : 2));
    }
    return KVS_OK;
}

static kvs_status heads_read(kvs_trace *trace, heads *h, kvs_error *error) {
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    for (int i = 0; i < h->count; i++) {
        int head = i % header->kv_heads, layer = i / header->kv_heads % header->layers;
        int sequence = i / (header->kv_heads * header->layers);
        KVS_TRY(kvs_trace_read_head(trace, sequence, KVS_TENSOR_K, layer, head, 0, h->k[i], error));
        KVS_TRY(kvs_trace_read_head(trace, sequence, KVS_TENSOR_V, layer, head, 0, h->v[i], error));
    }
    return KVS_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *seconds, int count) {
    qsort(seconds, (size_t)count, sizeof *seconds, by_value);
    return seconds[count / 2];
}

/* Copies one buffer to another, each thread its own part. */
static void copy(char *to, const char *from, size_t bytes, int threads) {
#pragma omp parallel num_threads(threads)
    {
        size_t part = bytes / (size_t)threads, start = part * (size_t)omp_get_thread_num();
        memcpy(to + start, from + start, part);
    }
}

static void measure_copy(char *to, const char *from, size_t bytes, int threads, int repeats, double *samples,
                         kvs_bench_row *row) {
    for (int r = 0; r < repeats; r++) {
        double started = kvs_seconds();
        copy(to, from, bytes, threads);
        samples[r] = kvs_seconds() - started;
    }
    row->threads = threads;
    row->seconds = median(samples, repeats);
    row->bytes = 2.0 * (double)bytes;
}

static void measure_conversion(void (*convert)(const uint16_t *, float *, size_t), float *to, const uint16_t *from,
                               size_t count, int repeats, double *samples, kvs_bench_row *row) {
    for (int r = 0; r < repeats; r++) {
        double started = kvs_seconds();
        convert(from, to, count);
        samples[r] = kvs_seconds() - started;
    }
    row->threads = 1;
    row->seconds = median(samples, repeats);
    row->elements = (double)count;
    row->bytes = 6.0 * (double)count;
}

/* The first four rows: what memory and conversion can do, on buffers well beyond the caches. */
static kvs_status bench_memory(int threads, int repeats, double *samples, kvs_bench_row *rows, kvs_error *error) {
    size_t bytes = (size_t)128 << 20, halves = bytes / 4;
    char *from = malloc(bytes), *to = malloc(bytes);
    kvs_status status = from != NULL && to != NULL ? KVS_OK : out_of_memory(error);
    if (status == KVS_OK) {
        for (size_t i = 0; i < bytes; i++) from[i] = (char)(i * 37 % 59);
        copy(to, from, bytes, threads); /* touches the pages */
        rows[0] = (kvs_bench_row){.name = "memcpy", .what = "copy, the yardstick"};
        measure_copy(to, from, bytes, threads, repeats, samples, &rows[0]);
        rows[1] = (kvs_bench_row){.name = "memcpy_1", .what = "copy on one core"};
        measure_copy(to, from, bytes, 1, repeats, samples, &rows[1]);
        rows[2] = (kvs_bench_row){.name = "half_to_float", .what = "binary16 to binary32"};
        measure_conversion(kvs_halves_to_floats, (float *)to, (uint16_t *)from, halves, repeats, samples, &rows[2]);
        rows[3] = (kvs_bench_row){.name = "bfloat_to_float", .what = "bfloat16 to binary32"};
        measure_conversion(kvs_bfloats_to_floats, (float *)to, (uint16_t *)from, halves, repeats, samples, &rows[3]);
    }
    free(from);
    free(to);
    return status;
}

/* Quantizes and dequantizes every head once; seconds, or a negative number when memory is short. */
static double quantize_all(const kvs_scheme *scheme, const heads *h, int threads, double *elements) {
    size_t scratch_floats = kvs_store_scratch_floats(&scheme->k), v_floats = kvs_store_scratch_floats(&scheme->v);
    if (v_floats > scratch_floats) scratch_floats = v_floats;
    /* Each thread dequantizes into a buffer of its own, as the replay does. */
    size_t thread_floats = scratch_floats + h->most;
    float *buffers = malloc((size_t)threads * thread_floats * sizeof *buffers);
    if (buffers == NULL) return -1;
    double stored = 0, started = kvs_seconds();
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : stored)
    for (int i = 0; i < h->count; i++) {
        float *hat = buffers + (size_t)omp_get_thread_num() * thread_floats, *scratch = hat + h->most;
        for (int side = 0; side < 2; side++) {
            const kvs_store *store = side ? &scheme->v : &scheme->k;
            int64_t end = kvs_window_stored_end(&store->window, h->tokens[i], 0);
            kvs_page_context context = {.place = {.layer = i}};
            kvs_store_pages(store, &context, end, side ? h->v[i] : h->k[i], hat, NULL, scratch);
            if (end > store->window.sink_tokens) stored += (double)(end - store->window.sink_tokens) * h->head_dim;
        }
    }
    double seconds = kvs_seconds() - started;
    free(buffers);
    *elements = stored;
    return seconds;
}

static kvs_status bench_quantize(const char *spec, const heads *h, int threads, int repeats, double *samples,
                                 kvs_bench_row *row, kvs_error *error) {
    kvs_scheme *scheme;
    KVS_TRY(kvs_scheme_open(spec, h->head_dim, &scheme, error));
    kvs_status usable = kvs_scheme_without_queries(scheme, "bench", error);
    if (usable == KVS_OK) usable = kvs_scheme_without_rope(scheme, "bench", error);
    if (usable == KVS_OK) usable = kvs_scheme_without_constants(scheme, "bench", error);
    if (usable != KVS_OK) {
        kvs_scheme_close(scheme);
        return usable;
    }
    *row = (kvs_bench_row){.name = "quantize", .what = "quantize and dequantize all pages", .threads = threads};
    for (int r = -1; r < repeats; r++) { /* the first run warms up */
        double seconds = quantize_all(scheme, h, threads, &row->elements);
        if (seconds < 0) {
            kvs_scheme_close(scheme);
            return out_of_memory(error);
        }
        if (r >= 0) samples[r] = seconds;
    }
    row->seconds = median(samples, repeats);
    row->bytes = 8.0 * row->elements; /* binary32 in, binary32 out */
    kvs_scheme_close(scheme);
    return KVS_OK;
}

static kvs_status bench_trace(kvs_trace *trace, const char *scheme, int threads, int repeats, double *samples,
                              kvs_bench_row *rows, kvs_error *error) {
    heads h = {0};
    kvs_status status = heads_allocate(trace, &h, error);
    for (int r = -1; r < repeats && status == KVS_OK; r++) {
        double started = kvs_seconds();
        status = heads_read(trace, &h, error);
        if (r >= 0) samples[r] = kvs_seconds() - started;
    }
    if (status == KVS_OK) {
        rows[0] = (kvs_bench_row){.name = "read", .what = "read K and V from the page cache", .threads = 1};
        rows[0].seconds = median(samples, repeats);
        rows[0].elements = h.elements;
        rows[0].bytes = h.file_bytes;
        status = bench_quantize(scheme, &h, threads, repeats, samples, &rows[1], error);
    }
    heads_free(&h);
    return status;
}

kvs_status kvs_bench_cpu(const char *trace_path, const char *scheme, int threads, int repeats,
                         kvs_bench_row rows[KVS_BENCH_ROWS], kvs_error *error) {
    kvs_trace *trace;
    KVS_TRY(kvs_trace_open(trace_path, &trace, error));
    double *samples = malloc((size_t)repeats * sizeof *samples);
    kvs_status status = samples != NULL ? bench_memory(threads, repeats, samples, rows, error) : out_of_memory(error);
    if (status == KVS_OK) status = bench_trace(trace, scheme, threads, repeats, samples, rows + 4, error);
    free(samples);
    kvs_trace_close(trace);
    return status;
}
