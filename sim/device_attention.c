/* device_attention.c: attention over one block of positions, by the kernels of kernels/replay_kernels.h.
 *
 * The same steps as on the CPU (cpu_attention.c): in full precision once, then as each scheme changes it. */
#include "sim/cpu_unit.h"
#include "sim/device_unit.h"

enum { MATRIX_FLOATS = 1 << 22, TILE = 64, BLOCKS = 256, LEAST = 128 };

int64_t kvs_device_stride(int64_t tokens) {
    return (tokens + 15) / 16 * 16;
}

int kvs_device_span(const kvs_pass *pass, int64_t tokens, int64_t queries) {
    int64_t span = MATRIX_FLOATS / kvs_device_stride(tokens) / pass->group;
    if (span > queries) span = queries;
    return span > 1 ? (int)span : 1;
}

/* So many that BLOCKS blocks share the product, each with LEAST tokens at least; the same on every device. */
int kvs_device_splits(const kvs_pass *pass, int64_t tokens, int64_t queries) {
    int64_t rows = (int64_t)kvs_device_span(pass, tokens, queries) * pass->group;
    int64_t tiles = (rows + TILE - 1) / TILE * ((pass->head_dim + TILE - 1) / TILE);
    int64_t splits = BLOCKS / tiles, most = (tokens + LEAST - 1) / LEAST;
    if (splits > most) splits = most;
    return splits > 1 ? (int)splits : 1;
}

/* One block. */
typedef struct block {
    const kvs_device_state *state;
    const kvs_unit *unit;
    const kvs_replay_kernels *kernels;
    kvs_replay_rows rows;
    int64_t columns, stride, samples;
    int splits;
    const int32_t *ends; /* of KVS_DEVICE_ENDS */
} block;

static void *array(const block *b, kvs_device_array which) {
    return b->state->arrays[which].at;
}

static kvs_status launched(const block *b, int launch, const char *kernel, kvs_error *error) {
    return kvs_executor_launched(b->state->executor, launch, kernel, error);
}

static kvs_status score(const block *b, const float *queries, const float *keys, int64_t begin, int64_t end,
                        const int32_t *ends, int add, float *matrix, kvs_error *error) {
    kvs_scores_args args = {.rows = b->rows,
                            .a = queries,
                            .b = keys,
                            .begin = begin,
                            .end = end,
                            .stride = b->stride,
                            .ends = ends,
                            .scale = (float)b->state->pass->softmax_scale,
                            .add = add,
                            .matrix = matrix};
    return launched(b, b->kernels->scores(&args, b->state->stream), "replay scores", error);
}

/* Puts the parts of a product behind `parts` others. */
static kvs_status mix(const block *b, const float *weights, const float *values, int64_t begin, int64_t end,
                      const int32_t *ends, int parts, kvs_error *error) {
    size_t part = (size_t)b->rows.rows * (size_t)b->rows.head_dim;
    kvs_mix_args args = {.rows = b->rows,
                         .weights = weights,
                         .values = values,
                         .begin = begin,
                         .end = end,
                         .stride = b->stride,
                         .ends = ends,
                         .splits = b->splits,
                         .parts = (float *)array(b, KVS_DEVICE_PARTS) + (size_t)parts * part};
    return launched(b, b->kernels->mix(&args, b->state->stream), "replay mix", error);
}

static kvs_softmax_args softmax_args(const block *b) {
    return (kvs_softmax_args){.rows = b->rows,
                              .stride = b->stride,
                              .visible = b->ends,
                              .logits = array(b, KVS_DEVICE_LOGITS),
                              .probabilities = array(b, KVS_DEVICE_PROBABILITIES),
                              .tops = array(b, KVS_DEVICE_TOPS)};
}

/* What rounding to binary16 changes of the logits: scale (q_half . (k_half - k) + (q_half - q) . k). */
static kvs_status find_rounding(const block *b, kvs_error *error) {
    float *rounding = array(b, KVS_DEVICE_ROUNDING);
    KVS_TRY(score(b, array(b, KVS_DEVICE_Q_WIDE), array(b, KVS_DEVICE_K_ROUNDING), 0, b->columns, b->ends, 0, rounding,
                  error));
    return score(b, array(b, KVS_DEVICE_Q_ROUNDING), array(b, KVS_DEVICE_K), 0, b->columns, b->ends, 1, rounding,
                 error);
}

static kvs_status reference(const block *b, kvs_error *error) {
    KVS_TRY(score(b, array(b, KVS_DEVICE_Q), array(b, KVS_DEVICE_K), 0, b->columns, b->ends, 0,
                  array(b, KVS_DEVICE_LOGITS), error));
    kvs_softmax_args softmax = softmax_args(b);
    KVS_TRY(launched(b, b->kernels->softmax(&softmax, b->state->stream), "replay softmax", error));
    KVS_TRY(mix(b, softmax.probabilities, array(b, KVS_DEVICE_V), 0, b->columns, b->ends, 0, error));
    kvs_output_args output = {.rows = b->rows,
                              .splits = b->splits,
                              .parts = array(b, KVS_DEVICE_PARTS),
                              .output = array(b, KVS_DEVICE_OUTPUT),
                              .energy = array(b, KVS_DEVICE_DOUBLES)};
    KVS_TRY(launched(b, b->kernels->output(&output, b->state->stream), "replay output", error));
    return b->state->pass->binary16 ? KVS_OK : find_rounding(b, error);
}

/* A store's range that this block sees, and where its changes lie. */
typedef struct range {
    int64_t begin, end;
    const int32_t *ends;
    const float *change;
} range;

static range range_of(const block *b, int store) {
    const kvs_device_store *device = &b->state->stores[store];
    const kvs_pass *pass = b->state->pass;
    if (device->full) return (range){0};
    range r = {.begin = device->store->window.sink_tokens};
    r.ends = b->ends + (size_t)(1 + store) * (size_t)b->unit->queries;
    r.end = kvs_unit_stored_end(pass, b->unit, &device->store->window, b->rows.first + b->rows.positions - 1);
    r.change =
        (const float *)array(b, KVS_DEVICE_CHANGED) + (size_t)store * (size_t)b->unit->tokens * (size_t)pass->head_dim;
    return r;
}

static kvs_status under_scheme(const block *b, int scheme, kvs_error *error) {
    const kvs_pass *pass = b->state->pass;
    range keys = range_of(b, 2 * scheme), values = range_of(b, 2 * scheme + 1);
    float *changes = array(b, KVS_DEVICE_CHANGES), *shifted = array(b, KVS_DEVICE_SHIFTED);
    const float *queries = array(b, pass->binary16 ? KVS_DEVICE_Q : KVS_DEVICE_Q_WIDE);
    if (keys.end > keys.begin)
        KVS_TRY(score(b, queries, keys.change, keys.begin, keys.end, keys.ends, 0, changes, error));
    float *floats = (float *)array(b, KVS_DEVICE_FLOATS) + (size_t)scheme * 5 * (size_t)b->samples;
    double *doubles = array(b, KVS_DEVICE_DOUBLES), *gains = array(b, KVS_DEVICE_GAINS);
    kvs_softmax_change_args change = {.row = softmax_args(b),
                                      .begin = keys.begin,
                                      .ends = keys.ends,
                                      .rounding = pass->binary16 ? NULL : array(b, KVS_DEVICE_ROUNDING),
                                      .changes = changes,
                                      .shifted = shifted,
                                      .gains = gains,
                                      .logit_mse = floats + b->samples,
                                      .attention_kl = floats + 2 * b->samples,
                                      .top1 = floats + 3 * b->samples,
                                      .top8 = floats + 4 * b->samples};
    KVS_TRY(launched(b, b->kernels->softmax_change(&change, b->state->stream), "replay softmax change", error));
    KVS_TRY(mix(b, changes, array(b, KVS_DEVICE_V), 0, b->columns, b->ends, 0, error));
    int parts = b->splits;
    if (!pass->binary16) {
        KVS_TRY(mix(b, shifted, array(b, KVS_DEVICE_V_ROUNDING), 0, b->columns, b->ends, parts, error));
        parts += b->splits;
    }
    if (values.end > values.begin) {
        KVS_TRY(mix(b, shifted, values.change, values.begin, values.end, values.ends, parts, error));
        parts += b->splits;
    }
    kvs_output_args output = {.rows = b->rows,
                              .splits = parts,
                              .parts = array(b, KVS_DEVICE_PARTS),
                              .output = array(b, KVS_DEVICE_OUTPUT),
                              .energy = doubles,
                              .gains = gains,
                              .output_error = doubles + (size_t)(1 + scheme) * (size_t)b->samples,
                              .rel_l2 = floats};
    return launched(b, b->kernels->output(&output, b->state->stream), "replay output", error);
}

kvs_status kvs_device_attend(const kvs_device_state *state, const kvs_unit *unit, int first, int last,
                             kvs_error *error) {
    const kvs_pass *pass = state->pass;
    block b = {.state = state,
               .unit = unit,
               .kernels = &state->executor->kernels->replay,
               .rows = {(last - first) * pass->group, last - first, first, unit->queries, pass->head_dim},
               .columns = pass->causal ? unit->positions[last - 1] + 1 : unit->tokens,
               .stride = kvs_device_stride(unit->tokens),
               .samples = (int64_t)unit->queries * pass->group,
               .splits = kvs_device_splits(pass, unit->tokens, unit->queries),
               .ends = state->arrays[KVS_DEVICE_ENDS].at};
    KVS_TRY(reference(&b, error));
    for (int s = 0; s < pass->schemes_count; s++) KVS_TRY(under_scheme(&b, s, error));
    return KVS_OK;
}
