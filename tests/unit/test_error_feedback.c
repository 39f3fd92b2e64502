/* test_error_feedback.c: the factors against the quadratic form that they are of, and feedback against its definition.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "kernels/error_feedback.h"

enum { DIM = 12, HEADS = 2, COUNT = 3, TOKENS = 5 };

static float q[HEADS][COUNT + 1][DIM]; /* the row behind each head's queries is none of them */
static double factor[DIM * DIM];

static float value(uint64_t key, int i) {
    return (float)kvs_random_unit(key, (uint64_t)i) - 0.5f;
}

/* Fewer queries than channels; channel 7 of none, channel 3 large. */
static kvs_query_set fill(void) {
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i <= COUNT; i++)
            for (int d = 0; d < DIM; d++)
                q[h][i][d] = (i == COUNT ? 100.0f
                              : d == 7   ? 0.0f
                              : d == 3   ? 9.0f
                                         : 1.0f) *
                             value(1, (h * 4 + i) * DIM + d);
    return (kvs_query_set){
        .heads = HEADS, .count = COUNT, .head_dim = DIM, .values = q[0][0], .head_stride = (COUNT + 1) * DIM};
}

/* Mean of (q . e)^2 over all queries, and ridge times what it would be with channels apart. */
static double damage(const double *e, double ridge) {
    double sum = 0;
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < COUNT; i++) {
            double product = 0, apart = 0;
            for (int d = 0; d < DIM; d++) {
                double term = (double)q[h][i][d] * e[d];
                product += term;
                apart += term * term;
            }
            sum += product * product + ridge * apart;
        }
    return sum / (HEADS * COUNT);
}

static double by_factor(const double *e) {
    double sum = 0;
    for (int d = 0; d < DIM; d++) {
        double part = e[d];
        for (int j = d + 1; j < DIM; j++) part += factor[j * DIM + d] * e[j];
        sum += factor[d * DIM + d] * part * part;
    }
    return sum;
}

static void factors_are_of_the_queries_moments(void **state) {
    (void)state;
    kvs_query_set queries = fill();
    const double ridges[] = {0.01, 1, 30};
    for (int r = 0; r < 3; r++) {
        kvs_feedback_factor(&queries, DIM, ridges[r], factor);
        for (int trial = 0; trial < 50; trial++) {
            double e[DIM];
            for (int d = 0; d < DIM; d++) e[d] = (double)value(2, trial * DIM + d);
            double want = damage(e, ridges[r]);
            assert_true(want > 1e-3);
            assert_true(fabs(by_factor(e) - want) < 1e-10 * want);
        }
        for (int d = 0; d < DIM; d++) assert_true(d == 7 ? factor[d * DIM + d] == 0 : factor[d * DIM + d] > 0);
    }
}

/* Given the errors of later channels, the row that feedback asks for is the one of least damage. */
static void feedback_takes_back_what_later_channels_did(void **state) {
    (void)state;
    kvs_query_set queries = fill();
    kvs_feedback_factor(&queries, DIM, 0.5, factor);
    for (int d = 0; d < DIM; d++) {
        float rows[DIM][TOKENS];
        for (int j = 0; j < DIM; j++)
            for (int t = 0; t < TOKENS; t++) rows[j][t] = value(3, j * TOKENS + t);
        float before[TOKENS];
        memcpy(before, rows[d], sizeof before);
        kvs_feedback_apply(factor, DIM, TOKENS, d, rows[0]);
        for (int t = 0; t < TOKENS; t++) {
            double errors[DIM] = {0}; /* of a row stored as asked; earlier channels can be chosen freely still */
            for (int j = d; j < DIM; j++) errors[j] = j == d ? (double)(rows[d][t] - before[t]) : (double)rows[j][t];
            double sum = errors[d];
            for (int j = d + 1; j < DIM; j++) sum += factor[j * DIM + d] * errors[j];
            assert_true(fabs(sum) < 1e-5);
            if (d == 0) { /* nothing is left to choose: any other error of channel 0 does more damage */
                double least = damage(errors, 0.5);
                for (int sign = -1; sign <= 1; sign += 2) {
                    errors[0] += 0.1 * sign;
                    assert_true(damage(errors, 0.5) > least);
                    errors[0] -= 0.1 * sign;
                }
            }
        }
    }
}

static void without_queries_nothing_is_coupled(void **state) {
    (void)state;
    kvs_query_set none = {.heads = HEADS, .head_dim = DIM};
    memset(factor, 0xff, sizeof factor);
    kvs_feedback_factor(&none, DIM, 1, factor);
    for (int i = 0; i < DIM * DIM; i++) assert_true(factor[i] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_are_of_the_queries_moments),
        cmocka_unit_test(feedback_takes_back_what_later_channels_did),
        cmocka_unit_test(without_queries_nothing_is_coupled),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("error feedback", tests, NULL, NULL);
}
