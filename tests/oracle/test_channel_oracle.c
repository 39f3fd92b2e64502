/* test_channel_oracle.c: correlations against pairs counted by hand, oracles against attention computed anew. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "analysis/channel_oracle.h"
#include "analysis/correlation.h"
#include "core/random.h"

enum { TOKENS = 12, DIM = 18, QUERIES = 5, OUTSIDE = 7, KEYS = TOKENS + OUTSIDE };

static float k[KEYS][DIM], v[KEYS][DIM], q[QUERIES][DIM], base[TOKENS][DIM], boost[TOKENS][DIM];
static float probabilities[QUERIES][TOKENS], outputs[QUERIES][DIM], scratch[20000];
static kvs_oracle_page page = {TOKENS, DIM, QUERIES, 0.3, v[0], base[0], boost[0], q[0], probabilities[0], outputs[0]};

static float value(uint64_t key, int i) {
    return 2.0f * kvs_random_unit(key, (uint64_t)i) - 1.0f;
}

/* Attention of one query over all keys, the page's first, with width[d]: 0 exact, 1 base, 2 boosted. */
static void attend(int query, const int *width, double *weights, double *output) {
    double sum = 0;
    for (int t = 0; t < KEYS; t++) {
        double logit = 0;
        for (int d = 0; d < DIM; d++) {
            double key = (double)k[t][d];
            if (t < TOKENS && width[d] > 0) key += (double)(width[d] == 1 ? base[t][d] : boost[t][d]);
            logit += (double)q[query][d] * key;
        }
        sum += weights[t] = exp(0.3 * logit);
    }
    for (int d = 0; d < DIM; d++) output[d] = 0;
    for (int t = 0; t < KEYS; t++) {
        weights[t] /= sum;
        for (int d = 0; d < DIM; d++) output[d] += weights[t] * (double)v[t][d];
    }
}

static double slow_error(const int *width) {
    const int exact[DIM] = {0};
    double mean = 0;
    for (int i = 0; i < QUERIES; i++) {
        double weights[KEYS], before[DIM], after[DIM], distance = 0, energy = 0;
        attend(i, exact, weights, before);
        attend(i, width, weights, after);
        for (int d = 0; d < DIM; d++) {
            distance += (after[d] - before[d]) * (after[d] - before[d]);
            energy += before[d] * before[d];
        }
        mean += sqrt(distance / energy) / QUERIES;
    }
    return mean;
}

static void fill(uint64_t key) {
    const int exact[DIM] = {0};
    for (int t = 0; t < KEYS; t++)
        for (int d = 0; d < DIM; d++) {
            k[t][d] = 2 * value(key, t * DIM + d);
            v[t][d] = value(key + 1, t * DIM + d);
            if (t >= TOKENS) continue;
            base[t][d] = value(key + 2, t * DIM + d) * (d % 4 == 1 ? 1.0f : 0.3f);
            boost[t][d] = value(key + 3, t * DIM + d) * 0.1f;
        }
    for (int i = 0; i < QUERIES; i++) {
        double weights[KEYS], output[DIM];
        for (int d = 0; d < DIM; d++) q[i][d] = 2 * value(key + 4, i * DIM + d);
        attend(i, exact, weights, output);
        for (int t = 0; t < TOKENS; t++) probabilities[i][t] = (float)weights[t];
        for (int d = 0; d < DIM; d++) outputs[i][d] = (float)output[d];
    }
    assert_true(kvs_oracle_scratch(TOKENS, DIM, QUERIES) <= sizeof scratch / sizeof *scratch);
}

#define CLOSE(a, b) assert_true(fabs((a) - (b)) <= 2e-5 * fabs(b))

static void errors_are_those_of_attention(void **state) {
    (void)state;
    for (uint64_t key = 1; key < 60; key += 10) {
        fill(key);
        double single[DIM];
        kvs_oracle_single(&page, scratch, single);
        for (int d = 0; d < DIM; d++) {
            int width[DIM] = {0};
            width[d] = 1;
            CLOSE(single[d], slow_error(width));
        }
        for (int count = 0; count <= DIM; count += 3) {
            int ranks[DIM], width[DIM];
            for (int d = 0; d < DIM; d++) {
                ranks[d] = (d * 7 + 3) % DIM;
                width[d] = ranks[d] < count ? 2 : 1;
            }
            CLOSE(kvs_oracle_error(&page, ranks, count, scratch), slow_error(width));
        }
    }
}

static void greedy_takes_the_best_next_channel(void **state) {
    (void)state;
    for (uint64_t key = 1; key < 40; key += 10) {
        fill(key);
        int candidates[DIM], chosen[5], width[DIM];
        double errors[6];
        for (int d = 0; d < DIM; d++) candidates[d] = d, width[d] = 1;
        kvs_oracle_greedy(&page, candidates, DIM, 0, 5, scratch, chosen, errors);
        for (int step = 0; step <= 5; step++) {
            CLOSE(errors[step], slow_error(width));
            if (step == 5) break;
            double best = INFINITY;
            for (int d = 0; d < DIM; d++) {
                if (width[d] == 2) continue;
                width[d] = 2;
                best = fmin(best, slow_error(width));
                width[d] = 1;
            }
            width[chosen[step]] = 2;
            CLOSE(slow_error(width), best);
        }
    }
}

static void exhaustive_choice_is_the_least_of_all(void **state) {
    (void)state;
    fill(77);
    int candidates[16], chosen[4], tried = 0;
    double errors[5], best = INFINITY;
    for (int c = 0; c < 16; c++) candidates[c] = c + 1;
    for (int mask = 0; mask < 1 << 16; mask++) {
        if (__builtin_popcount((unsigned)mask) != 4) continue;
        int width[DIM] = {0};
        for (int c = 0; c < 16; c++) width[c + 1] = mask >> c & 1 ? 2 : 1;
        best = fmin(best, slow_error(width));
        tried++;
    }
    assert_int_equal(tried, 1820);
    double found = kvs_oracle_best_4_of_16(&page, candidates, scratch);
    CLOSE(found, best);
    kvs_oracle_greedy(&page, candidates, 16, 1, 4, scratch, chosen, errors);
    assert_true(errors[4] >= found * (1 - 1e-6));
    assert_true(errors[4] < errors[0]);
}

static void correlations_count_pairs(void **state) {
    (void)state;
    const double a[] = {1, 2, 2, 4, 5}, b[] = {3, 1, 4, 4, 9}, same[] = {2, 2, 2, 2, 2};
    /* Pairs of a and b by hand: 7 agree, 1 disagrees, 1 is tied in a, 1 in b. */
    CLOSE(kvs_kendall(a, b, 5), 6.0 / sqrt(9.0 * 9.0));
    /* Ranks 0, 1.5, 1.5, 3, 4 and 1, 0, 2.5, 2.5, 4: covariance 7.25, squares 9.5 both. */
    CLOSE(kvs_spearman(a, b, 5), 7.25 / 9.5);
    CLOSE(kvs_spearman(a, a, 5), 1.0);
    CLOSE(kvs_kendall(a, a, 5), 1.0);
    assert_true(isnan(kvs_kendall(a, same, 5)) && isnan(kvs_spearman(same, b, 5)));
    CLOSE(kvs_top_overlap(a, b, 5, 2), 0.5); /* {4, 3} and {4, 2}: ties to the lower */
    CLOSE(kvs_top_overlap(a, b, 5, 5), 1.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_those_of_attention),
        cmocka_unit_test(greedy_takes_the_best_next_channel),
        cmocka_unit_test(exhaustive_choice_is_the_least_of_all),
        cmocka_unit_test(correlations_count_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
