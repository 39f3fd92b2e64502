/* test_shared_budget.c: boosts out of one budget, against choosing among all channels and all ways to share. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "analysis/shared_budget.h"
#include "core/random.h"
#include "kernels/ranking.h"

enum { HEADS = 5, DIM = 24, MOST = 6 };

/* Whether head h's channel d is among the `total` highest, by counting those before it. */
static int taken(float scores[HEADS][DIM], int h, int d, int total) {
    int before = 0;
    for (int i = 0; i < HEADS * DIM; i++) {
        float other = scores[i / DIM][i % DIM];
        before += other > scores[h][d] || (other == scores[h][d] && i < h * DIM + d);
    }
    return before < total;
}

static void the_highest_scores_of_all_heads_are_boosted(void **state) {
    (void)state;
    for (uint64_t key = 1; key < 40; key++) {
        float scores[HEADS][DIM];
        const float *rows[HEADS];
        for (int h = 0; h < HEADS; h++) {
            rows[h] = scores[h];
            for (int d = 0; d < DIM; d++) /* few distinct values: many ties */
                scores[h][d] = (float)(kvs_random_bits(key, (uint64_t)(h * DIM + d)) % (key % 2 ? 7 : 1000));
        }
        for (int total = 0; total <= HEADS * DIM; total += 15) {
            int counts[HEADS], ranks[DIM];
            kvs_error error;
            assert_int_equal(kvs_shared_counts(rows, HEADS, DIM, total, counts, &error), KVS_OK);
            for (int h = 0; h < HEADS; h++) {
                kvs_rank_channels(DIM, scores[h], ranks);
                for (int d = 0; d < DIM; d++) assert_int_equal(ranks[d] < counts[h], taken(scores, h, d, total));
            }
        }
    }
}

/* The least sum of errors over all ways to share: by trying them. */
static double best(double errors[HEADS][MOST + 1], int head, int left) {
    if (head == HEADS) return left == 0 ? 0 : INFINITY;
    double least = INFINITY;
    for (int count = 0; count <= MOST && count <= left; count++)
        least = fmin(least, errors[head][count] + best(errors, head + 1, left - count));
    return least;
}

static void steps_reach_the_best_where_gains_shrink(void **state) {
    (void)state;
    for (uint64_t key = 1; key < 20; key++) {
        double errors[HEADS][MOST + 1];
        const double *rows[HEADS];
        for (int h = 0; h < HEADS; h++) {
            double gain = 4 * (double)kvs_random_unit(key, (uint64_t)(100 * h));
            rows[h] = errors[h];
            errors[h][0] = 100;
            for (int i = 1; i <= MOST; i++) {
                errors[h][i] = errors[h][i - 1] - gain;
                gain *= 0.3 + 0.6 * (double)kvs_random_unit(key, (uint64_t)(100 * h + i));
            }
        }
        for (int total = 0; total <= HEADS * MOST; total += 6) {
            int counts[HEADS], sum = 0;
            double reached = 0;
            kvs_shared_steps(rows, HEADS, MOST, total, counts);
            for (int h = 0; h < HEADS; h++) {
                assert_in_range(counts[h], 0, MOST);
                sum += counts[h];
                reached += errors[h][counts[h]];
            }
            assert_int_equal(sum, total);
            assert_true(fabs(reached - best(errors, 0, total)) < 1e-9);
        }
    }
}

static void steps_go_on_where_a_boost_hurts(void **state) {
    (void)state;
    const double worse[] = {1, 2, 3}, better[] = {9, 8, 5};
    const double *rows[] = {worse, better};
    int counts[2];
    kvs_shared_steps(rows, 2, 2, 3, counts);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_scores_of_all_heads_are_boosted),
        cmocka_unit_test(steps_reach_the_best_where_gains_shrink),
        cmocka_unit_test(steps_go_on_where_a_boost_hurts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
