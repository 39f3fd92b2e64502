#include "traces/scan.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "core/progress.h"
#include "core/simd.h"
#include "traces/internal.h"

/* All sequences of one head of one layer of one tensor. */
typedef struct {
    kvs_tensor tensor;
    int layer, head;
} unit;

static int units_of(const kvs_trace_header *header, kvs_tensor tensor) {
    return header->layers * kvs_tensor_heads(header, tensor);
}

/* The index-th unit among the tensors that are scanned. */
static unit unit_at(const kvs_trace_header *header, int tensors, int index) {
    kvs_tensor tensor = KVS_TENSOR_K;
    while (!(tensors & 1 << tensor) || index >= units_of(header, tensor)) {
        if (tensors & 1 << tensor) index -= units_of(header, tensor);
        tensor++;
    }
    int heads = kvs_tensor_heads(header, tensor);
    return (unit){tensor, index / heads, index % heads};
}

static size_t longest_head(const kvs_trace *trace, int tensors) {
    size_t most = 0, columns = (size_t)kvs_trace_header_of(trace)->head_dim;
    for (int s = 0; s < kvs_trace_sequences(trace); s++)
        for (kvs_tensor t = KVS_TENSOR_K; t <= KVS_TENSOR_Q; t++) {
            size_t length = (size_t)kvs_tensor_rows(kvs_trace_sequence(trace, s), t) * columns;
            if (tensors & 1 << t && length > most) most = length;
        }
    return most;
}

static kvs_status scan_unit(kvs_trace *trace, const kvs_scan *scan, unit u, float *values, kvs_error *error) {
    for (int s = 0; s < kvs_trace_sequences(trace); s++) {
        int rows = kvs_tensor_rows(kvs_trace_sequence(trace, s), u.tensor);
        if (rows == 0) continue; /* a sequence without queries */
        if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, kvs_trace_path(trace), NULL, "interrupted");
        KVS_TRY(kvs_trace_read_head(trace, s, u.tensor, u.layer, u.head, 0, values, error));
        kvs_scanned_head head = {u.tensor, u.layer, u.head, s, rows, values};
        if (scan->visit != NULL) scan->visit(scan->user, &head);
    }
    return KVS_OK;
}

kvs_status kvs_trace_scan(kvs_trace *trace, const kvs_scan *scan, kvs_error *error) {
    enum { MOST_BYTES = 256 << 20 };
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    size_t bytes = longest_head(trace, scan->tensors) * sizeof(float), fit = bytes > 0 ? MOST_BYTES / bytes : 1;
    int threads = scan->threads > 1 ? scan->threads : 1, units = 0, worst;
    if ((size_t)threads > fit) threads = fit > 0 ? (int)fit : 1;
    for (kvs_tensor t = KVS_TENSOR_K; t <= KVS_TENSOR_Q; t++)
        if (scan->tensors & 1 << t) units += units_of(header, t);
    worst = units; /* the first unit that failed */
    kvs_status status = KVS_OK;
    kvs_progress progress;
    kvs_progress_begin(&progress, "read", "heads", units, scan->quiet);
#pragma omp parallel num_threads(threads)
    {
        float *values = malloc(bytes > 0 ? bytes : 1);
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < units; i++) {
            kvs_error mine = {.status = KVS_OK};
            kvs_status found;
            int seen;
#pragma omp atomic read
            seen = worst;
            if (i > seen) continue;
            found = values == NULL ? kvs_fail(&mine, KVS_INPUT, kvs_trace_path(trace), NULL, "out of memory")
                                   : scan_unit(trace, scan, unit_at(header, scan->tensors, i), values, &mine);
            kvs_progress_add(&progress, 1);
            if (found == KVS_OK) continue;
#pragma omp critical(kvs_scan)
            if (i < worst) {
#pragma omp atomic write
                worst = i;
                status = found;
                if (error != NULL) *error = mine;
            }
        }
        free(values);
    }
    kvs_progress_end(&progress);
    return status;
}

/* --- channels ------------------------------------------------------------------------------------------------------
 */

typedef struct {
    kvs_channel *channels[2]; /* K, V */
    int heads, columns;
} channel_sums;

/* Sums run in binary32 over a block of rows (to within 1e-5) and in binary64 over blocks, in the order of the tokens.
 */
enum { BLOCK = 64, SPAN = 256 };

KVS_SIMD static void add_block(const float *values, size_t stride, int rows, int span, float *restrict sums,
                               float *restrict low, float *restrict high) {
    for (int c = 0; c < span; c++) sums[c] = 0;
    for (int t = 0; t < rows; t++, values += stride)
        for (int c = 0; c < span; c++) {
            sums[c] += fabsf(values[c]);
            low[c] = values[c] < low[c] ? values[c] : low[c];
            high[c] = values[c] > high[c] ? values[c] : high[c];
        }
}

/* Adds all rows to `span` channels from the first of `values` on. */
static void add_span(const float *values, size_t stride, int rows, int span, kvs_channel *channels) {
    float sums[SPAN], low[SPAN], high[SPAN];
    for (int c = 0; c < span; c++) low[c] = channels[c].low, high[c] = channels[c].high;
    for (int t = 0; t < rows; t += BLOCK) {
        add_block(values + (size_t)t * stride, stride, rows - t < BLOCK ? rows - t : BLOCK, span, sums, low, high);
        for (int c = 0; c < span; c++) channels[c].magnitude += (double)sums[c];
    }
    for (int c = 0; c < span; c++) channels[c].low = low[c], channels[c].high = high[c];
}

static void add_head(void *user, const kvs_scanned_head *head) {
    const channel_sums *all = user;
    size_t columns = (size_t)all->columns,
           first = ((size_t)head->layer * (size_t)all->heads + (size_t)head->head) * columns;
    for (size_t c = 0; c < columns; c += SPAN)
        add_span(head->values + c, columns, head->rows, columns - c < SPAN ? (int)(columns - c) : SPAN,
                 all->channels[head->tensor] + first + c);
}

kvs_status kvs_trace_channels(kvs_trace *trace, int threads, int quiet, kvs_channel *k, kvs_channel *v,
                              kvs_error *error) {
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    size_t count = (size_t)units_of(header, KVS_TENSOR_K) * (size_t)header->head_dim;
    double tokens = 0;
    for (int s = 0; s < kvs_trace_sequences(trace); s++) tokens += kvs_trace_sequence(trace, s)->tokens;
    for (size_t i = 0; i < count; i++) k[i] = v[i] = (kvs_channel){0, FLT_MAX, -FLT_MAX};
    channel_sums sums = {{k, v}, header->kv_heads, header->head_dim};
    kvs_scan scan = {1 << KVS_TENSOR_K | 1 << KVS_TENSOR_V, threads, quiet, add_head, &sums};
    KVS_TRY(kvs_trace_scan(trace, &scan, error));
    for (size_t i = 0; i < count; i++) {
        k[i].magnitude /= tokens;
        v[i].magnitude /= tokens;
    }
    return KVS_OK;
}
