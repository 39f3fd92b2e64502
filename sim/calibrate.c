#include "sim/calibrate.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/rate_distortion.h"
#include "core/progress.h"
#include "core/random.h"
#include "kernels/blas.h"
#include "kernels/transform.h"
#include "sim/calibrate_fit.h"
#include "sim/cpu_unit.h"
#include "sim/model/rope.h"

enum { DRAWS = 4 }; /* positions of keys drawn for each query */

typedef struct run {
    kvs_trace *trace;
    const kvs_trace_header *header;
    const kvs_calibrate_options *options;
    kvs_rope rope;
    kvs_page_context context; /* the rotary embedding */
    int longest, most_queries;
    float *k, *v, *q, *weights, *across, *norms; /* [longest][dim] twice, [most_queries][dim], [longest] */
    double *wide;                                /* [longest][dim] */
    int32_t *positions;
    kvs_head_statistics *statistics; /* [layers * kv_heads] */
    kvs_head_curve *curves;
    double *numbers; /* what those point into */
    int *choices, *given;
} run;

/* --- one sequence of one head --------------------------------------------------------------------------------------
 */

static void unturn(const run *r, int64_t first, int64_t tokens, float *x) {
    const kvs_map map = {.type = &kvs_map_unturn};
    for (int64_t t = 0; t < tokens; t += KVS_MAP_TOKENS) {
        int64_t count = tokens - t < KVS_MAP_TOKENS ? tokens - t : KVS_MAP_TOKENS;
        kvs_map_rows rows = {&r->context, r->header->head_dim, first + t, count};
        map.type->forward(&map, rows, NULL, x + t * r->header->head_dim);
    }
}

static void add_tokens(run *r, const float *x, int tokens, double *sums, double *squares) {
    int dim = r->header->head_dim;
    for (int64_t i = 0; i < (int64_t)tokens * dim; i++) {
        r->wide[i] = (double)x[i];
        sums[i % dim] += (double)x[i];
    }
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, dim, dim, tokens, 1.0, r->wide, dim, r->wide, dim, 1.0,
                squares, dim);
}

static void add_moment(run *r, const float *q, kvs_head_statistics *s) {
    int dim = r->header->head_dim;
    for (int d = 0; d < dim; d++) r->wide[d] = (double)q[d] * r->header->softmax_scale;
    cblas_dger(CblasRowMajor, dim, dim, 1.0, r->wide, 1, r->wide, 1, s->moment, dim);
    s->moments++;
}

/* The query as keys at positions drawn in proportion to weights [tokens] would meet it before the rotary embedding. */
static void add_turned_moments(run *r, uint64_t key, const float *q, int tokens, double sum, kvs_head_statistics *s) {
    float turned[KVS_MAX_HEAD_DIM];
    for (int draw = 0; draw < DRAWS && sum > 0; draw++) {
        double left = sum * (double)kvs_random_unit(key, (uint64_t)draw);
        int t = 0;
        while (t + 1 < tokens && left >= (double)r->weights[t]) left -= (double)r->weights[t++];
        memcpy(turned, q, sizeof *turned * (size_t)r->header->head_dim);
        unturn(r, t, 1, turned);
        add_moment(r, turned, s);
    }
}

static int stored_end(const kvs_calibrate_options *o, int position, int recent) {
    kvs_window window = {.sink_tokens = o->sink, .page_tokens = o->page, .recent_tokens = recent};
    return (int)kvs_window_stored_end(&window, position, 0);
}

/* Adds what errors do to the output of one query; weights become p^2 |v - o|^2 of stored keys, 0 elsewhere. */
static double add_effects(run *r, const float *q, int position, kvs_head_statistics *s) {
    const kvs_calibrate_options *o = r->options;
    int dim = r->header->head_dim, visible = position + 1;
    float output[KVS_MAX_HEAD_DIM], *p = r->weights;
    float log_sum = kvs_log_sum((float)r->header->softmax_scale, dim, r->k, q, visible, p);
    for (int t = 0; t < visible; t++) p[t] = expf(p[t] - log_sum);
    cblas_sgemv(CblasRowMajor, CblasTrans, visible, dim, 1.0f, r->v, dim, p, 1, 0.0f, output, 1);
    cblas_sgemv(CblasRowMajor, CblasNoTrans, visible, dim, 1.0f, r->v, dim, output, 1, 0.0f, r->across, 1);
    double energy = 0, keys = 0, values = 0;
    for (int d = 0; d < dim; d++) energy += (double)output[d] * (double)output[d];
    int k_end = stored_end(o, position, 0), v_end = stored_end(o, position, o->window);
    for (int t = 0; t < visible; t++) {
        double square = (double)p[t] * (double)p[t];
        double apart = fmax((double)r->norms[t] - 2.0 * (double)r->across[t] + energy, 0.0);
        values += t >= o->sink && t < v_end ? square : 0.0;
        p[t] = t >= o->sink && t < k_end ? (float)(square * apart) : 0.0f;
        keys += (double)p[t];
    }
    double length = fmax(sqrt(energy), 1e-30);
    s->effects[KVS_CONSTANTS_K] += sqrt(keys) / length;
    s->effects[KVS_CONSTANTS_V] += sqrt(values) / length;
    s->queries++;
    return keys;
}

static kvs_status add_queries(run *r, int sequence, int layer, int query_head, kvs_head_statistics *s,
                              kvs_error *error) {
    int count = kvs_trace_sequence(r->trace, sequence)->queries, dim = r->header->head_dim;
    if (count == 0) return KVS_OK;
    KVS_TRY(kvs_trace_read_query_pos(r->trace, sequence, r->positions, error));
    KVS_TRY(kvs_trace_read_head(r->trace, sequence, KVS_TENSOR_Q, layer, query_head, 0, r->q, error));
    uint64_t key = kvs_random_key(kvs_random_key((uint64_t)sequence, (uint64_t)layer), (uint64_t)query_head);
    for (int i = 0; i < count; i++) {
        const float *q = r->q + (size_t)i * (size_t)dim;
        if (r->positions[i] < r->options->from_position) continue;
        double sum = add_effects(r, q, r->positions[i], s);
        if (r->options->before_rope)
            add_turned_moments(r, kvs_random_key(key, (uint64_t)i), q, r->positions[i] + 1, sum, s);
        else
            add_moment(r, q, s);
    }
    return KVS_OK;
}

static kvs_status add_sequence(run *r, int sequence, int layer, int head, kvs_head_statistics *s, kvs_error *error) {
    int tokens = kvs_trace_sequence(r->trace, sequence)->tokens, dim = r->header->head_dim, sink = r->options->sink;
    int group = r->header->query_heads / r->header->kv_heads;
    KVS_TRY(kvs_trace_read_head(r->trace, sequence, KVS_TENSOR_K, layer, head, 0, r->k, error));
    KVS_TRY(kvs_trace_read_head(r->trace, sequence, KVS_TENSOR_V, layer, head, 0, r->v, error));
    if (tokens <= sink) return KVS_OK;
    for (int t = 0; t < tokens; t++) {
        const float *v = r->v + (size_t)t * (size_t)dim;
        r->norms[t] = cblas_sdot(dim, v, 1, v, 1);
    }
    for (int h = head * group; h < (head + 1) * group; h++) KVS_TRY(add_queries(r, sequence, layer, h, s, error));
    size_t first = (size_t)sink * (size_t)dim;
    add_tokens(r, r->v + first, tokens - sink, s->sums[KVS_CONSTANTS_V], s->squares[KVS_CONSTANTS_V]);
    if (r->options->before_rope) unturn(r, sink, tokens - sink, r->k + first);
    add_tokens(r, r->k + first, tokens - sink, s->sums[KVS_CONSTANTS_K], s->squares[KVS_CONSTANTS_K]);
    s->tokens += tokens - sink;
    return KVS_OK;
}

/* --- all of it -----------------------------------------------------------------------------------------------------
 */

static kvs_status allocate(run *r, kvs_error *error) {
    for (int i = 0; i < kvs_trace_sequences(r->trace); i++) {
        const kvs_sequence *s = kvs_trace_sequence(r->trace, i);
        r->longest = s->tokens > r->longest ? s->tokens : r->longest;
        r->most_queries = s->queries > r->most_queries ? s->queries : r->most_queries;
    }
    size_t dim = (size_t)r->header->head_dim, heads = (size_t)r->header->layers * (size_t)r->header->kv_heads;
    size_t rows = (size_t)r->longest, queries = (size_t)r->most_queries, planes = (size_t)kvs_curve_planes((int)dim);
    size_t numbers = 2 * dim + 3 * dim * dim + 2 * dim + planes + 1;
    r->k = malloc(sizeof(float) * (2 * rows * dim + queries * dim + 3 * rows));
    r->wide = malloc(sizeof(double) * (rows + 1) * dim);
    r->positions = malloc(sizeof(int32_t) * (queries + 1));
    r->statistics = calloc(heads, sizeof *r->statistics);
    r->curves = calloc(heads, sizeof *r->curves);
    r->numbers = calloc(heads * numbers, sizeof(double));
    r->choices = malloc(sizeof(int) * heads * planes);
    r->given = malloc(sizeof(int) * heads);
    if (r->k == NULL || r->wide == NULL || r->positions == NULL || r->statistics == NULL || r->curves == NULL ||
        r->numbers == NULL || r->choices == NULL || r->given == NULL)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(r->trace), NULL, "out of memory");
    r->v = r->k + rows * dim;
    r->q = r->v + rows * dim;
    r->weights = r->q + queries * dim;
    r->across = r->weights + rows;
    r->norms = r->across + rows;
    for (size_t h = 0; h < heads; h++) {
        double *at = r->numbers + h * numbers, *squares = at + 2 * dim, *rest = squares + 3 * dim * dim;
        kvs_head_statistics *s = &r->statistics[h];
        s->sums[0] = at, s->sums[1] = at + dim;
        s->squares[0] = squares, s->squares[1] = squares + dim * dim, s->moment = squares + 2 * dim * dim;
        r->curves[h] = (kvs_head_curve){(int)planes, rest, rest + 2 * dim, r->choices + h * planes};
    }
    return KVS_OK;
}

static void release(run *r) {
    free(r->k);
    free(r->wide);
    free(r->positions);
    free(r->statistics);
    free(r->curves);
    free(r->numbers);
    free(r->choices);
    free(r->given);
}

static kvs_status gather(run *r, kvs_error *error) {
    int sequences = kvs_trace_sequences(r->trace), heads = r->header->kv_heads, layers = r->header->layers;
    kvs_progress progress;
    kvs_status status = KVS_OK;
    kvs_progress_begin(&progress, "calibrate", "heads", (double)sequences * heads * layers, r->options->quiet);
    for (int i = 0; status == KVS_OK && i < sequences * layers * heads; i++) {
        int head = i % heads, layer = i / heads % layers;
        if (kvs_interrupted()) status = kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted");
        if (status == KVS_OK)
            status = add_sequence(r, i / (heads * layers), layer, head, &r->statistics[layer * heads + head], error);
        kvs_progress_add(&progress, 1);
    }
    kvs_progress_end(&progress);
    if (status == KVS_OK && r->statistics[0].queries == 0)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(r->trace), NULL, "has no query at or after position %lld",
                        (long long)r->options->from_position);
    return status;
}

/* Planes of each head, as the options say whose they are. */
static kvs_status share(run *r, kvs_error *error) {
    int heads = r->header->layers * r->header->kv_heads;
    double planes = 2.0 * r->header->head_dim * r->options->bits + 1e-6;
    if (r->options->share == KVS_SHARE_MODEL)
        return kvs_calibrate_share(heads, r->curves, (int64_t)(planes * heads), r->given, error);
    for (int h = 0; h < heads; h++)
        KVS_TRY(kvs_calibrate_share(1, &r->curves[h], (int64_t)planes, &r->given[h], error));
    return KVS_OK;
}

static void write_head(const run *r, int h, const kvs_constants_record records[2], kvs_calibrated_head *head) {
    const kvs_head_curve *curve = &r->curves[h];
    int dim = r->header->head_dim, planes = r->given[h];
    *head = (kvs_calibrated_head){.error = curve->errors[planes],
                                  .bound = sqrt(kvs_rate_distortion(2 * dim, curve->variances, planes))};
    for (int t = 0; t < 2; t++) memset(records[t].widths, 0, (size_t)dim);
    for (int i = 0; i < planes; i++) {
        int c = curve->components[i];
        records[c / dim].widths[c % dim]++;
        *(c < dim ? &head->k_bits : &head->v_bits) += 1.0 / dim;
    }
}

static kvs_status fit(run *r, const kvs_constants_header *header, uint8_t *records, kvs_calibrated_head *heads,
                      kvs_error *error) {
    kvs_constants_record both[2];
    int count = header->layers * header->kv_heads;
    for (int h = 0; h < count; h++) {
        for (int t = 0; t < 2; t++)
            both[t] = kvs_constants_at(header, records, t, h / header->kv_heads, h % header->kv_heads);
        KVS_TRY(kvs_calibrate_fit(header->head_dim, &r->statistics[h], both, &r->curves[h], error));
    }
    KVS_TRY(share(r, error));
    for (int h = 0; h < count; h++) {
        for (int t = 0; t < 2; t++)
            both[t] = kvs_constants_at(header, records, t, h / header->kv_heads, h % header->kv_heads);
        write_head(r, h, both, &heads[h]);
    }
    return KVS_OK;
}

static kvs_status know_rope(run *r, kvs_error *error) {
    const kvs_trace_header *h = r->header;
    r->context.rope = (kvs_rope_pairs){h->rotary_dim, h->rope_interleaved, NULL};
    if (!r->options->before_rope || !h->rope_applied) return KVS_OK;
    if (h->rope_scaling[0] != '\0' || !(h->rope_theta > 0) || h->rotary_dim < 2)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(r->trace), "rope_theta",
                        "keys before the rotary embedding need a trace with a plain one");
    KVS_TRY(kvs_rope_read(kvs_trace_path(r->trace), NULL, h->rope_theta, h->rotary_dim, 0, &r->rope, error));
    r->context.rope.inverse_frequency = r->rope.inverse_frequency;
    return KVS_OK;
}

kvs_status kvs_calibrate(kvs_trace *trace, const kvs_calibrate_options *options, kvs_constants_header *header,
                         uint8_t *records, kvs_calibrated_head *heads, kvs_error *error) {
    run r = {.trace = trace, .header = kvs_trace_header_of(trace), .options = options};
    if (r.header->head_dim > KVS_MAX_HEAD_DIM || !r.header->causal)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(trace), NULL,
                        "calibration is for causal attention and a head_dim of at most %d", KVS_MAX_HEAD_DIM);
    kvs_status status = kvs_blas_begin(error);
    if (status == KVS_OK) status = know_rope(&r, error);
    if (status == KVS_OK) status = allocate(&r, error);
    if (status == KVS_OK) status = gather(&r, error);
    if (status == KVS_OK) status = fit(&r, header, records, heads, error);
    release(&r);
    return status;
}
