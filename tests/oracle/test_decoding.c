/* test_decoding.c: what one token goes through: products with weights as they are held and attention in parts, against
 * plain sums in binary64; and threads, which must not show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/random.h"
#include "sim/model/attention.h"
#include "sim/model/forward.h"
#include "sim/model/matrix.h"

static float number_at(uint64_t key, size_t i) {
    return kvs_random_unit(key, i) - 0.5f;
}

/* --- products ------------------------------------------------------------------------------------------------------
 */

enum { MOST_ROWS = 300, MOST_COLUMNS = 1100, MOST_X = 5 };

static float wide[MOST_ROWS * MOST_COLUMNS], x[MOST_X * MOST_COLUMNS], y[MOST_X * MOST_ROWS + 1], row[MOST_COLUMNS];
static uint16_t narrow[MOST_ROWS * MOST_COLUMNS];

static void check_product(int rows, int columns, int count, int add, kvs_number number) {
    size_t elements = (size_t)rows * (size_t)columns;
    for (size_t i = 0; i < elements; i++) wide[i] = number_at(1, i);
    if (number == KVS_NUMBER_BF16) {
        kvs_floats_to_bfloats(wide, narrow, elements);
        kvs_bfloats_to_floats(narrow, wide, elements);
    }
    kvs_matrix w = {number == KVS_NUMBER_BF16 ? (void *)narrow : wide, rows, columns, number};
    for (int i = 0; i < count * columns; i++) x[i] = number_at(2, (size_t)i);
    for (int i = 0; i < MOST_X * MOST_ROWS + 1; i++) y[i] = 7;
    kvs_matrix_multiply(&w, x, count, add, y);
    for (int i = 0; i < count; i++)
        for (int r = 0; r < rows; r++) {
            double sum = add ? 7 : 0;
            for (int c = 0; c < columns; c++) sum += (double)wide[r * columns + c] * (double)x[i * columns + c];
            if (fabs(sum - (double)y[i * rows + r]) > 1e-4)
                fail_msg("[%d][%d] by %d, number %d, add %d: row %d is %g, not %g", rows, columns, count, (int)number,
                         add, r, (double)y[i * rows + r], sum);
        }
    assert_true(y[count * rows] == 7.0f);
    kvs_matrix_row(&w, rows - 1, row);
    assert_memory_equal(row, wide + (size_t)(rows - 1) * (size_t)columns, sizeof *row * (size_t)columns);
}

static void products_equal_plain_sums(void **state) {
    (void)state;
    static const int shapes[][2] = {{1, 1}, {3, 16}, {4, 33}, {5, 47}, {300, 256}, {130, 513}, {17, 1100}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int count = 1; count <= MOST_X; count += 2)
            for (int kind = 0; kind < 4; kind++)
                check_product(shapes[i][0], shapes[i][1], count, kind % 2, kind < 2 ? KVS_NUMBER_F32 : KVS_NUMBER_BF16);
}

static void any_partition_gives_the_same_bits(void **state) {
    (void)state;
    kvs_matrix w = {narrow, 130, 513, KVS_NUMBER_BF16};
    float whole[130], parts[130];
    for (size_t i = 0; i < 130 * 513; i++) narrow[i] = kvs_float_to_bfloat(number_at(3, i));
    kvs_matrix_times(&w, x, 0, whole);
    for (int first = 0, rows = 1; first < 130; first += rows, rows = rows % 7 + 1) {
        if (rows > 130 - first) rows = 130 - first;
        kvs_matrix part = kvs_matrix_part(&w, first, rows);
        kvs_matrix_times(&part, x, 0, parts + first);
    }
    assert_memory_equal(whole, parts, sizeof whole);
}

/* --- attention -----------------------------------------------------------------------------------------------------
 */

enum { TOKENS = 600, MOST_DIM = 96, QUERIES = 3, MOST_PARTS = TOKENS / KVS_ATTENTION_PART + 1 };

static float full[2][TOKENS * MOST_DIM], stored[2][TOKENS * MOST_DIM], q[QUERIES * MOST_DIM];
static int ends[2][TOKENS];

static void plain_attention(int dim, const kvs_cache_side *sides, const float *one, int position, double *out) {
    double weights[TOKENS], top = -INFINITY, total = 0;
    for (int t = 0; t <= position; t++) {
        int as_stored = t >= sides[0].stored_begin && t < sides[0].stored_end[position];
        weights[t] = 0;
        for (int d = 0; d < dim; d++)
            weights[t] += 0.3 * (double)one[d] * (double)(as_stored ? sides[0].stored : sides[0].full)[t * dim + d];
        top = fmax(top, weights[t]);
    }
    for (int d = 0; d < dim; d++) out[d] = 0;
    for (int t = 0; t <= position; t++) {
        int as_stored = t >= sides[1].stored_begin && t < sides[1].stored_end[position];
        double weight = exp(weights[t] - top);
        total += weight;
        for (int d = 0; d < dim; d++)
            out[d] += weight * (double)(as_stored ? sides[1].stored : sides[1].full)[t * dim + d];
    }
    for (int d = 0; d < dim; d++) out[d] /= total;
}

static void check_attention(int dim, int position, int k_end, int v_end) {
    kvs_cache_side sides[2];
    kvs_part_sum sums[MOST_PARTS * QUERIES];
    float values[MOST_PARTS * QUERIES * MOST_DIM], scratch[QUERIES * KVS_ATTENTION_PART], out[MOST_DIM];
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < TOKENS * dim; i++) {
            full[side][i] = 4 * number_at(10 + (uint64_t)side, (size_t)i);
            stored[side][i] = 4 * number_at(20 + (uint64_t)side, (size_t)i);
        }
        for (int p = 0; p < TOKENS; p++) ends[side][p] = -1; /* of other positions: not to be looked at */
        ends[side][position] = side == 0 ? k_end : v_end;
        sides[side] = (kvs_cache_side){full[side], stored[side], 20 * side, ends[side]};
    }
    for (int i = 0; i < QUERIES * dim; i++) q[i] = number_at(30, (size_t)i);
    for (int i = 0; i < MOST_PARTS * QUERIES; i++) sums[i].value = values + i * dim;
    int parts = position / KVS_ATTENTION_PART + 1;
    for (int part = 0; part < parts; part++)
        kvs_attention_part(dim, 0.3f, &sides[0], &sides[1], q, QUERIES, position, part, scratch, &sums[part * QUERIES]);
    for (int i = 0; i < QUERIES; i++) {
        double want[MOST_DIM];
        plain_attention(dim, sides, q + i * dim, position, want);
        kvs_attention_join(dim, 0.3f, parts, &sums[i], QUERIES, out);
        for (int d = 0; d < dim; d++)
            if (fabs(want[d] - (double)out[d]) > 1e-5)
                fail_msg("head_dim %d, position %d, stored to %d and %d: query %d, channel %d is %g, not %g", dim,
                         position, k_end, v_end, i, d, (double)out[d], want[d]);
    }
}

static void parts_join_to_attention(void **state) {
    (void)state;
    static const int cases[][3] = {{0, 0, 0},       {40, 0, 30},     {255, 200, 130}, {256, 256, 10},
                                   {511, 300, 500}, {599, 590, 260}, {599, 5, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_attention(96, cases[i][0], cases[i][1], cases[i][2]);
        check_attention(10, cases[i][0], cases[i][1], cases[i][2]);
    }
}

/* --- threads -------------------------------------------------------------------------------------------------------
 */

enum { PROMPT = 300, STEPS = 4 };

/* Rows and logits of some steps of the sample model behind a prompt. */
static void decode(const kvs_model *model, const kvs_scheme *scheme, int threads, float *rows, float *logits) {
    kvs_model_pass pass = {.scheme = scheme, .seed = 5};
    kvs_session *session;
    kvs_error error;
    int32_t ids[PROMPT + STEPS];
    float *hidden = malloc(sizeof *hidden * (size_t)(PROMPT * model->config.hidden));
    assert_non_null(hidden);
    for (size_t t = 0; t < PROMPT + STEPS; t++) ids[t] = (int32_t)(kvs_random_bits(6, t) % 4000);
    omp_set_num_threads(threads);
    assert_int_equal(kvs_session_open(model, &pass, PROMPT + STEPS, &session, &error), KVS_OK);
    assert_int_equal(kvs_session_run(session, ids, PROMPT, hidden, &error), KVS_OK);
    for (int t = 0; t < STEPS; t++) {
        float *one = rows + t * model->config.hidden;
        assert_int_equal(kvs_session_run(session, ids + PROMPT + t, 1, one, &error), KVS_OK);
        assert_int_equal(kvs_model_logits(model, one, 1, logits + t * model->config.vocabulary, &error), KVS_OK);
    }
    kvs_session_close(session);
    free(hidden);
}

static void threads_do_not_show(void **state) {
    (void)state;
    kvs_model *model;
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_model_open("traces/sample/qwen3-7m", &model, &error), KVS_OK);
    assert_int_equal(kvs_scheme_open("kitty:boost=0.25", model->config.head_dim, &scheme, &error), KVS_OK);
    size_t rows = (size_t)(STEPS * model->config.hidden), logits = (size_t)(STEPS * model->config.vocabulary);
    float *found[2] = {calloc(rows + logits, sizeof(float)), calloc(rows + logits, sizeof(float))};
    assert_true(found[0] != NULL && found[1] != NULL);
    for (int i = 0; i < 2; i++) decode(model, scheme, i == 0 ? 1 : 3, found[i], found[i] + rows);
    assert_memory_equal(found[0], found[1], (rows + logits) * sizeof(float));
    assert_true(found[0][0] != 0 && found[0][rows] != 0);
    for (int i = 0; i < 2; i++) free(found[i]);
    kvs_scheme_close(scheme);
    kvs_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_equal_plain_sums), cmocka_unit_test(any_partition_gives_the_same_bits),
        cmocka_unit_test(parts_join_to_attention), cmocka_unit_test(threads_do_not_show)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
