#include "sim/model/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/progress.h"
#include "core/version.h"
#include "sim/model/device_model.h"
#include "sim/model/forward.h"
#include "sim/model/generate.h"

typedef struct recorder {
    const kvs_model *model;
    const kvs_record_options *options;
    kvs_trace_writer *writer;
    int32_t *ids;       /* of the sequence under way: its window, then what was generated */
    int32_t *positions; /* of its queries */
    float *rows;        /* [queries][head_dim] */
    float *hidden;      /* [tokens][hidden] */
    int tokens, queries;
    kvs_progress progress;
} recorder;

/* --- what is written about the model -------------------------------------------------------------------------------
 */

/* Now, or SOURCE_DATE_EPOCH for the same bytes every time (reproducible-builds.org). */
static void write_time(char *text, size_t bytes) {
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    time_t now = fixed != NULL ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
    struct tm parts;
    if (gmtime_r(&now, &parts) == NULL || strftime(text, bytes, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(text, bytes, "1970-01-01T00:00:00Z");
}

static void describe(const recorder *r, kvs_trace_header *header) {
    const kvs_model_config *c = &r->model->config;
    const kvs_record_options *o = r->options;
    *header = (kvs_trace_header){
        .layers = o->layers_count > 0 ? o->layers_count : c->layers,
        .query_heads = c->query_heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->head_dim,
        .softmax_scale = kvs_model_softmax_scale(c),
        .causal = 1,
        .rope_applied = !o->before_rope,
        .rope_theta = c->rope.theta,
        .rotary_dim = c->rope.rotary_dim,
        .source_dtype = "float32",
    };
    if (r->model->device != NULL) snprintf(header->source_dtype, sizeof header->source_dtype, "float16");
    snprintf(header->model_name, sizeof header->model_name, "%s", c->name);
    snprintf(header->model_family, sizeof header->model_family, "%s", c->family);
    snprintf(header->rope_scaling, sizeof header->rope_scaling, "%s", c->rope.scaling);
    snprintf(header->license, sizeof header->license, "%s", o->license);
    write_time(header->created_utc, sizeof header->created_utc);
    const kvs_device_model *device = r->model->device;
    int used = snprintf(header->recorder, sizeof header->recorder, "kvscope %s%s%s", KVS_VERSION,
                        device != NULL ? " on " : "", device != NULL ? device->facts.name : "");
    for (int i = 0; i < o->layers_count && used < (int)sizeof header->recorder; i++)
        used += snprintf(header->recorder + used, sizeof header->recorder - (size_t)used, "%s%d", i ? "," : ", layers ",
                         o->layers[i]);
}

static void choose_queries(recorder *r) {
    int t = r->tokens, n = r->options->queries, first = t / 32;
    if (r->options->query_choice == KVS_QUERIES_SPREAD) {
        n = n < t - first ? n : t - first;
        for (int i = 0; i < n; i++)
            r->positions[i] = first + (n > 1 ? (int)((int64_t)i * (t - 1 - first) / (n - 1)) : t - 1 - first);
    } else {
        n = r->options->query_choice == KVS_QUERIES_ALL || n > t ? t : n;
        for (int i = 0; i < n; i++) r->positions[i] = t - n + i;
    }
    r->queries = n;
}

/* --- one sequence --------------------------------------------------------------------------------------------------
 */

/* The trace's number of a layer of the model, or -1 if it is not recorded. */
static int layer_index(const kvs_record_options *o, int layer) {
    if (o->layers_count == 0) return layer;
    for (int i = 0; i < o->layers_count; i++)
        if (o->layers[i] == layer) return i;
    return -1;
}

static kvs_status write_layer(void *user, int layer, const kvs_projections *now, kvs_error *error) {
    recorder *r = user;
    const kvs_model_config *c = &r->model->config;
    size_t dim = (size_t)c->head_dim, head_floats = (size_t)now->stride * dim;
    int index = layer_index(r->options, layer);
    kvs_progress_add(&r->progress, 1);
    if (index < 0) return KVS_OK;
    for (int h = 0; h < c->kv_heads; h++) {
        const float *k = now->k + (size_t)h * head_floats, *v = now->v + (size_t)h * head_floats;
        KVS_TRY(kvs_trace_write_rows(r->writer, KVS_TENSOR_K, index, h, 0, r->tokens, k, error));
        KVS_TRY(kvs_trace_write_rows(r->writer, KVS_TENSOR_V, index, h, 0, r->tokens, v, error));
    }
    for (int h = 0; h < c->query_heads && r->queries > 0; h++) {
        const float *q = now->q + (size_t)h * (size_t)now->tokens * dim;
        for (int i = 0; i < r->queries; i++)
            memcpy(r->rows + (size_t)i * dim, q + (size_t)r->positions[i] * dim, sizeof(float) * dim);
        KVS_TRY(kvs_trace_write_rows(r->writer, KVS_TENSOR_Q, index, h, 0, r->queries, r->rows, error));
    }
    return KVS_OK;
}

static kvs_status record_sequence(recorder *r, int number, kvs_error *error) {
    const kvs_record_options *o = r->options;
    int made = 0;
    memcpy(r->ids, o->ids + (size_t)number * (size_t)o->window_tokens, sizeof *r->ids * (size_t)o->window_tokens);
    if (o->generate > 0) {
        kvs_model_pass plain = {.scheme = NULL};
        KVS_TRY(kvs_generate_greedy(r->model, &plain, r->ids, o->window_tokens, o->generate, 1,
                                    r->ids + o->window_tokens, &made, NULL, error));
    }
    r->tokens = o->window_tokens + made;
    choose_queries(r);
    kvs_sequence sequence = {.tokens = r->tokens,
                             .prompt_tokens = o->window_tokens,
                             .queries = r->queries,
                             .has_token_ids = 1,
                             .k_element = o->trace.element,
                             .v_element = o->trace.element,
                             .q_element = o->trace.element};
    snprintf(sequence.task, sizeof sequence.task, "%s",
             o->generate > 0 ? "greedy generation behind a prompt" : "language modelling, teacher forced");
    KVS_TRY(kvs_trace_add_sequence(r->writer, &sequence, r->queries > 0 ? r->positions : NULL, r->ids, error));
    kvs_model_pass pass = {.observe = write_layer, .before_rope = o->before_rope, .user = r};
    return kvs_model_forward(r->model, &pass, r->ids, r->tokens, r->hidden, error);
}

/* --- the whole trace -----------------------------------------------------------------------------------------------
 */

static kvs_status allocate(recorder *r, kvs_error *error) {
    const kvs_model_config *c = &r->model->config;
    size_t most = (size_t)r->options->window_tokens + (size_t)r->options->generate;
    r->ids = malloc(sizeof *r->ids * most);
    r->positions = malloc(sizeof *r->positions * most);
    r->rows = malloc(sizeof *r->rows * most * (size_t)c->head_dim);
    r->hidden = malloc(sizeof *r->hidden * most * (size_t)c->hidden);
    return r->ids && r->positions && r->rows && r->hidden
               ? KVS_OK
               : kvs_fail(error, KVS_INPUT, r->model->directory, NULL, "out of memory for %zu tokens", most);
}

static kvs_status record_all(recorder *r, const char *path, int sequences, kvs_error *error) {
    kvs_trace_header header;
    describe(r, &header);
    KVS_TRY(allocate(r, error));
    KVS_TRY(kvs_trace_create(path, &header, r->options->trace, &r->writer, error));
    kvs_progress_begin(&r->progress, "record", "layers", (double)sequences * r->model->config.layers,
                       r->options->quiet);
    kvs_status status = KVS_OK;
    for (int i = 0; i < sequences && status == KVS_OK; i++) status = record_sequence(r, i, error);
    kvs_progress_end(&r->progress);
    if (status != KVS_OK) {
        kvs_trace_writer_abandon(r->writer);
        return status;
    }
    return kvs_trace_writer_finish(r->writer, error);
}

kvs_status kvs_record(const kvs_model *model, const char *path, const kvs_record_options *options, int *sequences,
                      kvs_error *error) {
    int64_t fit = options->ids_count / options->window_tokens;
    int64_t wanted = options->sequences > 0 ? options->sequences : fit;
    if (fit == 0 || wanted > fit)
        return kvs_fail(error, KVS_INPUT, "token ids", NULL, "%lld tokens do not fill %lld sequences of %d",
                        (long long)options->ids_count, (long long)(wanted > 0 ? wanted : 1), options->window_tokens);
    KVS_TRY(kvs_model_admits(model, (int64_t)options->window_tokens + options->generate, error));
    recorder r = {.model = model, .options = options};
    kvs_status status = record_all(&r, path, (int)wanted, error);
    free(r.ids);
    free(r.positions);
    free(r.rows);
    free(r.hidden);
    *sequences = (int)wanted;
    return status;
}
