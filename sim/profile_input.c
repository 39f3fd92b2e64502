/* profile_input.c: pages for the kernels that are profiled, from a trace or generated. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "sim/profile.h"
#include "traces/trace.h"

enum { DEFAULT_PAGES = 4 };

const kvs_workload_input kvs_profile_input = {
    .shape = {.head_dim = 128, .page_tokens = 128, .kv_heads = 8, .bits = 2, .boost_bits = 4, .value_bits = 2},
    .query_heads = 32,
    .sequences = 1,
    .sink_tokens = 32,
    .window_tokens = 128,
    .multiprocessors = 132,
    .seed = 1,
};

/* Of each layer of a sequence so many pages follow the sinks. */
static int pages_in(const kvs_trace *trace, const kvs_workload_input *input) {
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    int pages = INT32_MAX;
    for (int s = 0; s < input->sequences && s / header->layers < kvs_trace_sequences(trace); s++) {
        int tokens = kvs_trace_sequence(trace, s / header->layers)->tokens - input->sink_tokens;
        int here = tokens > 0 ? tokens / input->shape.page_tokens : 0;
        if (here < pages) pages = here;
    }
    return pages;
}

static kvs_status check_trace(const kvs_profile_request *request, const kvs_trace *trace, kvs_workload_input *input,
                              kvs_error *error) {
    int units = kvs_trace_header_of(trace)->layers * kvs_trace_sequences(trace), pages = pages_in(trace, input);
    if (input->sequences > units)
        return kvs_fail(error, KVS_USAGE, request->trace, "--sequences",
                        "%d are wanted, the trace has %d layers of sequences", input->sequences, units);
    if (pages < 1 || request->input.pages > pages)
        return kvs_fail(error, KVS_USAGE, request->trace, "--pages",
                        "the trace has %d pages of %d tokens after %d sink tokens", pages, input->shape.page_tokens,
                        input->sink_tokens);
    if (input->pages == 0) input->pages = pages < DEFAULT_PAGES ? pages : DEFAULT_PAGES;
    return KVS_OK;
}

/* Rounds `rows` rows from `first` on to binary16. */
static kvs_status round_rows(const kvs_profile_request *request, const float *values, int head_dim, int first, int rows,
                             uint16_t *to, kvs_error *error) {
    for (int i = 0; i < rows * head_dim; i++) {
        float value = values[(size_t)first * (size_t)head_dim + (size_t)i];
        to[i] = kvs_float_to_half(value);
        if (isinf(kvs_half_to_float(to[i])))
            return kvs_fail(error, KVS_INPUT, request->trace, NULL, "%g is too large for binary16", (double)value);
    }
    return KVS_OK;
}

/* Keys, values or queries of one layer of one sequence. */
static kvs_status read_unit(const kvs_profile_request *request, kvs_trace *trace, kvs_workload_input *input, int unit,
                            float *values, kvs_error *error) {
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    int sequence = unit / header->layers, layer = unit % header->layers, D = header->head_dim;
    int tokens = kvs_workload_tokens(input), queries = kvs_trace_sequence(trace, sequence)->queries;
    size_t row = (size_t)tokens * (size_t)D;
    for (int h = 0; h < header->kv_heads; h++) {
        size_t at = ((size_t)unit * (size_t)header->kv_heads + (size_t)h) * row;
        KVS_TRY(kvs_trace_read_head(trace, sequence, KVS_TENSOR_K, layer, h, 0, values, error));
        KVS_TRY(round_rows(request, values, D, 0, tokens, input->keys + at, error));
        KVS_TRY(kvs_trace_read_head(trace, sequence, KVS_TENSOR_V, layer, h, 0, values, error));
        KVS_TRY(round_rows(request, values, D, 0, tokens, input->values + at, error));
    }
    for (int h = 0; h < header->query_heads && queries > 0; h++) { /* the last query of each head */
        size_t at = ((size_t)unit * (size_t)header->query_heads + (size_t)h) * (size_t)D;
        KVS_TRY(kvs_trace_read_head(trace, sequence, KVS_TENSOR_Q, layer, h, 0, values, error));
        KVS_TRY(round_rows(request, values, D, queries - 1, 1, input->queries + at, error));
    }
    return KVS_OK;
}

static kvs_status read_units(const kvs_profile_request *request, kvs_trace *trace, kvs_workload_input *input,
                             kvs_error *error) {
    size_t rows = 1;
    for (int s = 0; s < kvs_trace_sequences(trace); s++) {
        const kvs_sequence *sequence = kvs_trace_sequence(trace, s);
        if ((size_t)sequence->tokens > rows) rows = (size_t)sequence->tokens;
        if ((size_t)sequence->queries > rows) rows = (size_t)sequence->queries;
    }
    float *values = malloc(rows * (size_t)input->shape.head_dim * sizeof *values);
    if (values == NULL) return kvs_fail(error, KVS_INPUT, request->trace, NULL, "out of memory");
    kvs_workload_generate(input); /* for queries that the trace does not have */
    kvs_status status = KVS_OK;
    for (int s = 0; s < input->sequences && status == KVS_OK; s++)
        status = read_unit(request, trace, input, s, values, error);
    free(values);
    return status;
}

static kvs_status load_trace(const kvs_profile_request *request, kvs_workload_input *input, kvs_error *error) {
    kvs_trace *trace;
    KVS_TRY(kvs_trace_open(request->trace, &trace, error));
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    input->shape.head_dim = header->head_dim;
    input->shape.kv_heads = header->kv_heads;
    input->query_heads = header->query_heads;
    input->softmax_scale = (float)header->softmax_scale;
    kvs_status status = check_trace(request, trace, input, error);
    if (status == KVS_OK) status = kvs_workload_input_alloc(input, error);
    if (status == KVS_OK) status = read_units(request, trace, input, error);
    kvs_trace_close(trace);
    return status;
}

kvs_status kvs_profile_load(const kvs_profile_request *request, kvs_workload_input *input, kvs_error *error) {
    *input = request->input;
    input->keys = input->values = input->queries = NULL;
    kvs_status status;
    if (request->trace != NULL) {
        status = load_trace(request, input, error);
    } else {
        if (input->pages == 0) input->pages = DEFAULT_PAGES;
        input->softmax_scale = 1.0f / sqrtf((float)input->shape.head_dim);
        status = kvs_workload_input_alloc(input, error);
        if (status == KVS_OK) kvs_workload_generate(input);
    }
    input->shape.boost_channels = (int)((double)input->shape.head_dim * request->boost + 1e-6);
    if (status != KVS_OK) kvs_workload_input_clear(input);
    return status;
}
