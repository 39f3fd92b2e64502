/* cpu_attention.c: attention over one block of positions, in full precision once and then as each scheme changes it.
 *
 * Everything is a difference (analysis/softmax_error.h): change of the logits = scale q . (k' - k), change of the
 * output from p (e^x - 1) and v, p e^x and v' - v. Where recorded values are not binary16, k' - k is made of the
 * rounding, the same under all schemes, and of what storing adds to it. */
#include <math.h>
#include <string.h>

#include "analysis/softmax_error.h"
#include "core/progress.h"
#include "core/simd.h"
#include "sim/cpu_unit.h"

enum { ROWS = 64, ROW_FLOATS = 1 << 21 }; /* rows of a block; floats of one of its arrays of logits (8 MB) */

/* The arrays of a block; a row is (query head, position), n columns are the keys that its last position sees. */
typedef struct block {
    const kvs_prepared *prepared;
    int first, positions, rows;
    int64_t n, stride;
    float *q, *q_change;           /* [rows][head_dim]: as recorded; half - recorded, or NULL */
    float *q_half;                 /* q when they are the same */
    float *logits, *probabilities; /* [rows][stride] */
    float *rounding;               /* [rows][stride]: what rounding changes of the logits, or NULL */
    float *changes, *shifted;      /* [rows][stride] */
    float *output, *moved;         /* [rows][head_dim] */
    float *maxima;
    double *energy, *gains; /* [rows] */
    kvs_top *tops;          /* [rows] */
} block;

int kvs_unit_span(const kvs_pass *pass, int64_t tokens) {
    int64_t rows = ROW_FLOATS / tokens < ROWS ? ROW_FLOATS / tokens : ROWS;
    return rows > pass->group ? (int)(rows / pass->group) : 1;
}

static int64_t stride_of(int64_t tokens) {
    return (tokens + 15) / 16 * 16 + 16; /* rows start on cache lines, and not all in the same set */
}

static void carve(const kvs_pass *pass, int64_t tokens, kvs_arena *arena, block *b) {
    size_t rows = (size_t)(kvs_unit_span(pass, tokens) * pass->group), dim = (size_t)pass->head_dim;
    size_t area = rows * (size_t)stride_of(tokens);
    b->stride = stride_of(tokens);
    b->q = kvs_arena_take(arena, rows * dim, sizeof *b->q);
    b->output = kvs_arena_take(arena, rows * dim, sizeof *b->output);
    b->moved = kvs_arena_take(arena, rows * dim, sizeof *b->moved);
    b->logits = kvs_arena_take(arena, area, sizeof *b->logits);
    b->probabilities = kvs_arena_take(arena, area, sizeof *b->probabilities);
    b->changes = kvs_arena_take(arena, area, sizeof *b->changes);
    b->shifted = kvs_arena_take(arena, area, sizeof *b->shifted);
    b->maxima = kvs_arena_take(arena, (size_t)tokens / 32 + 1, sizeof *b->maxima);
    b->energy = kvs_arena_take(arena, rows, sizeof *b->energy);
    b->gains = kvs_arena_take(arena, rows, sizeof *b->gains);
    b->tops = kvs_arena_take(arena, rows, sizeof *b->tops);
    if (pass->binary16) return;
    b->q_half = kvs_arena_take(arena, rows * dim, sizeof *b->q_half);
    b->q_change = kvs_arena_take(arena, rows * dim, sizeof *b->q_change);
    b->rounding = kvs_arena_take(arena, area, sizeof *b->rounding);
}

size_t kvs_unit_attend_bytes(const kvs_pass *pass, int64_t tokens) {
    kvs_arena measure = {0};
    block unused;
    carve(pass, tokens, &measure, &unused);
    return measure.used;
}

/* --- products ------------------------------------------------------------------------------------------------------
 */

static void scores(const block *b, float scale, const float *queries, const float *packed, int64_t columns, int add,
                   float *logits) {
    b->prepared->product->scores(b->rows, columns, b->prepared->pass->head_dim, scale, queries, packed, add, logits,
                                 b->stride);
}

static void mix(const block *b, const float *weights, const float *values, int64_t columns, int add, float *output) {
    b->prepared->product->mix(b->rows, columns, b->prepared->pass->head_dim, weights, b->stride, values, add, output);
}

KVS_SIMD static double sum_squares(const float *x, int count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* --- full precision ------------------------------------------------------------------------------------------------
 */

static int64_t visible_of(const block *b, int row) {
    const kvs_unit *unit = b->prepared->unit;
    return b->prepared->pass->causal ? unit->positions[b->first + row % b->positions] + 1 : unit->tokens;
}

static void clear_tail(const block *b, float *matrix, int row, int64_t visible) {
    memset(matrix + row * b->stride + visible, 0, (size_t)(b->n - visible) * sizeof *matrix);
}

/* Which of the arrays of a kvs_rounded. */
enum { RECORDED, HALF, CHANGE };

/* The queries of the block as rows; changes that are none are 0. */
static void gather(const block *b, int which, float *rows) {
    const kvs_prepared *p = b->prepared;
    size_t dim = (size_t)p->pass->head_dim, length = (size_t)b->positions * dim;
    for (int h = 0; h < p->pass->group; h++) {
        const float *from = which == RECORDED ? p->q[h].recorded : which == HALF ? p->q[h].half : p->q[h].change;
        if (from != NULL)
            memcpy(rows + (size_t)h * length, from + (size_t)b->first * dim, length * sizeof *rows);
        else
            memset(rows + (size_t)h * length, 0, length * sizeof *rows);
    }
}

/* Rounding changes logits by scale (q_half . (k_half - k) + (q_half - q) . k). */
static void find_rounding(block *b, float scale) {
    const kvs_prepared *p = b->prepared;
    int queries_change = 0;
    for (int h = 0; h < p->pass->group; h++) queries_change |= p->q[h].change != NULL;
    if (!queries_change && p->k.change == NULL && p->v.change == NULL) {
        b->rounding = NULL;
        b->q_half = b->q;
        return;
    }
    gather(b, HALF, b->q_half);
    memset(b->rounding, 0, (size_t)b->rows * (size_t)b->stride * sizeof *b->rounding);
    if (p->k.change != NULL) scores(b, scale, b->q_half, p->k_change_packed, b->n, 1, b->rounding);
    if (!queries_change) return;
    gather(b, CHANGE, b->q_change);
    scores(b, scale, b->q_change, p->k_packed, b->n, 1, b->rounding);
}

static void reference(block *b, float scale) {
    const kvs_prepared *p = b->prepared;
    int dim = p->pass->head_dim;
    gather(b, RECORDED, b->q);
    scores(b, scale, b->q, p->k_packed, b->n, 0, b->logits);
    for (int row = 0; row < b->rows; row++) {
        int64_t visible = visible_of(b, row);
        kvs_softmax_row(b->logits + row * b->stride, visible, b->probabilities + row * b->stride, b->maxima,
                        &b->tops[row]);
        clear_tail(b, b->probabilities, row, visible);
    }
    mix(b, b->probabilities, p->v.recorded, b->n, 0, b->output);
    for (int row = 0; row < b->rows; row++) b->energy[row] = sum_squares(b->output + row * dim, dim);
    find_rounding(b, scale);
}

/* --- under a scheme ------------------------------------------------------------------------------------------------
 */

/* The end of the stored range that the query of a row sees. */
static int64_t end_for(const block *b, const kvs_stored *stored, int row) {
    if (stored->window == NULL) return 0;
    return kvs_unit_stored_end(b->prepared->pass, b->prepared->unit, stored->window, b->first + row % b->positions);
}

/* Completes the change of a row's logits: outside the stored range [begin, end) only rounding changes anything. Returns
 * whether anything may change. */
static int complete_changes(const block *b, int row, int64_t begin, int64_t end, int64_t visible) {
    float *changes = b->changes + row * b->stride;
    const float *rounding = b->rounding != NULL ? b->rounding + row * b->stride : NULL;
    if (end <= begin) {
        if (rounding != NULL) memcpy(changes, rounding, (size_t)visible * sizeof *changes);
        return rounding != NULL;
    }
    if (rounding == NULL) {
        memset(changes, 0, (size_t)begin * sizeof *changes);
        memset(changes + end, 0, (size_t)(visible - end) * sizeof *changes);
        return 1;
    }
    memcpy(changes, rounding, (size_t)begin * sizeof *changes);
    for (int64_t t = begin; t < end; t++) changes[t] += rounding[t];
    memcpy(changes + end, rounding + end, (size_t)(visible - end) * sizeof *changes);
    return 1;
}

/* Changes of logits become weights; returns whether any row changed. */
static int weigh(block *b, const kvs_stored *keys, kvs_unit_errors *errors) {
    int any = 0, queries = b->prepared->unit->queries;
    for (int row = 0; row < b->rows; row++) {
        int64_t visible = visible_of(b, row);
        float *changes = b->changes + row * b->stride, *shifted = b->shifted + row * b->stride;
        const float *probabilities = b->probabilities + row * b->stride;
        const kvs_top *top = &b->tops[row];
        kvs_row_change change = {.shared_top1 = 1, .shared_top = top->count};
        if (complete_changes(b, row, keys->window != NULL ? keys->begin : 0, end_for(b, keys, row), visible)) {
            kvs_softmax_change(b->logits + row * b->stride, probabilities, top, visible, changes, shifted, b->maxima,
                               &change);
            any = 1;
        } else {
            memset(changes, 0, (size_t)visible * sizeof *changes);
            memcpy(shifted, probabilities, (size_t)visible * sizeof *shifted);
        }
        clear_tail(b, b->changes, row, visible);
        clear_tail(b, b->shifted, row, visible);
        b->gains[row] = change.gain;
        int64_t sample = (int64_t)(row / b->positions) * queries + b->first + row % b->positions;
        errors->logit_mse[sample] = (float)change.mse;
        errors->attention_kl[sample] = (float)change.kl;
        errors->top1[sample] = (float)change.shared_top1;
        errors->top8[sample] = (float)change.shared_top / (float)top->count;
    }
    return any;
}

/* moved += what storing V changes under the shifted weights. Destroys those outside the stored range. */
static void move_by_values(block *b, const kvs_stored *values) {
    int64_t last = end_for(b, values, b->positions - 1);
    if (values->window == NULL || last <= values->begin) return;
    for (int row = 0; row < b->rows; row++) {
        int64_t end = end_for(b, values, row);
        end = end > values->begin ? end : values->begin;
        memset(b->shifted + row * b->stride + end, 0, (size_t)(last - end) * sizeof *b->shifted);
    }
    mix(b, b->shifted + values->begin, values->change, last - values->begin, 1, b->moved);
}

static void conclude(const block *b, kvs_unit_errors *errors) {
    int dim = b->prepared->pass->head_dim, queries = b->prepared->unit->queries;
    for (int row = 0; row < b->rows; row++) {
        int64_t sample = (int64_t)(row / b->positions) * queries + b->first + row % b->positions;
        const float *moved = b->moved + row * dim, *output = b->output + row * dim;
        double error = 0, gain = b->gains[row];
        for (int d = 0; d < dim; d++) {
            double change = ((double)moved[d] - gain * (double)output[d]) / (1.0 + gain);
            error += change * change;
        }
        errors->output_error[sample] = error;
        errors->output_energy[sample] = b->energy[row];
        errors->rel_l2[sample] = (float)fmin(sqrt(error) / fmax(sqrt(b->energy[row]), 1e-30), 3e38);
    }
}

static void under_scheme(block *b, const kvs_stored *keys, const kvs_stored *values, float scale,
                         kvs_unit_errors *errors) {
    const kvs_prepared *p = b->prepared;
    int64_t last = end_for(b, keys, b->positions - 1), dim = p->pass->head_dim;
    if (keys->window != NULL && last > keys->begin)
        scores(b, scale, b->q_half, keys->change, last - keys->begin, 0, b->changes + keys->begin);
    if (weigh(b, keys, errors))
        mix(b, b->changes, p->v.recorded, b->n, 0, b->moved);
    else
        memset(b->moved, 0, (size_t)b->rows * (size_t)dim * sizeof *b->moved);
    if (p->v.change != NULL) mix(b, b->shifted, p->v.change, b->n, 1, b->moved);
    move_by_values(b, values);
    conclude(b, errors);
}

void kvs_unit_attend(const kvs_prepared *prepared, int first, int last, double share, kvs_arena *work,
                     kvs_unit_errors *errors) {
    const kvs_pass *pass = prepared->pass;
    const kvs_unit *unit = prepared->unit;
    block b = {.prepared = prepared, .first = first, .positions = last - first, .rows = (last - first) * pass->group};
    carve(pass, unit->tokens, work, &b);
    b.n = pass->causal ? unit->positions[last - 1] + 1 : unit->tokens;
    float scale = (float)pass->softmax_scale;
    reference(&b, scale);
    for (int s = 0; s < pass->schemes_count; s++) {
        double started = kvs_seconds();
        under_scheme(&b, &prepared->keys[s], &prepared->values[s], scale, &errors[s]);
        double seconds = share * (kvs_seconds() - started);
#pragma omp atomic
        errors[s].seconds += seconds;
    }
}
