/* test_error_math.c: products, rows of attention and distributions against plain binary64. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <string.h>

#include <cmocka.h>

#include "analysis/channels.h"
#include "analysis/distribution.h"
#include "analysis/softmax_error.h"
#include "core/random.h"
#include "kernels/product.h"

static void fill(float *x, size_t count, uint64_t key, double size) {
    for (size_t i = 0; i < count; i++) x[i] = (float)(((double)kvs_random_unit(key, i) - 0.5) * size);
}

static void assert_close(double found, double wanted, double relative, double absolute) {
    if (fabs(found - wanted) <= relative * fabs(wanted) + absolute) return;
    fail_msg("%.9g, wanted %.9g", found, wanted);
}

/* --- products ------------------------------------------------------------------------------------------------------
 */

static void check_products(const kvs_product *product, int rows, int columns, int dim) {
    int stride = columns + 5;
    size_t packed_floats = kvs_product_packed_floats(columns, dim);
    float *a = malloc(sizeof *a * (size_t)(rows * dim)), *keys = malloc(sizeof *keys * (size_t)(columns * dim));
    float *packed = aligned_alloc(64, (packed_floats * sizeof *packed + 63) / 64 * 64);
    float *c = malloc(sizeof *c * (size_t)(rows * stride)), *o = malloc(sizeof *o * (size_t)(rows * dim));
    fill(a, (size_t)(rows * dim), 1, 2.0);
    fill(keys, (size_t)(columns * dim), 2, 2.0);
    product->pack(keys, columns, dim, packed);
    for (int add = 0; add < 2; add++) {
        for (int i = 0; i < rows * stride; i++) c[i] = 3.0f;
        for (int i = 0; i < rows * dim; i++) o[i] = -2.0f;
        product->scores(rows, columns, dim, 0.5f, a, packed, add, c, stride);
        for (int r = 0; r < rows; r++)
            for (int t = 0; t < stride; t++) {
                double wanted = add || t >= columns ? 3.0 : 0.0;
                for (int d = 0; d < dim && t < columns; d++)
                    wanted += 0.5 * (double)a[r * dim + d] * (double)keys[t * dim + d];
                assert_close((double)c[r * stride + t], wanted, 1e-5, 1e-5);
            }
        product->mix(rows, columns, dim, c, stride, keys, add, o);
        for (int r = 0; r < rows; r++)
            for (int d = 0; d < dim; d++) {
                double wanted = add ? -2.0 : 0.0, size = 0;
                for (int t = 0; t < columns; t++) {
                    wanted += (double)c[r * stride + t] * (double)keys[t * dim + d];
                    size += fabs((double)c[r * stride + t] * (double)keys[t * dim + d]);
                }
                assert_close((double)o[r * dim + d], wanted, 1e-6, 1e-6 * size + 1e-6);
            }
    }
    free(a);
    free(keys);
    free(packed);
    free(c);
    free(o);
}

static void products_of_every_shape(void **state) {
    (void)state;
    const kvs_product *const *all = kvs_products();
    assert_ptr_equal(all[0], kvs_product_best());
    for (int i = 0; all[i] != NULL; i++)
        for (int rows = 1; rows <= 13; rows += 3)
            for (int dim = 8; dim <= 96; dim += 29) {
                check_products(all[i], rows, 1, dim);
                check_products(all[i], rows, 31, dim);
                check_products(all[i], rows, 32, dim);
                check_products(all[i], rows, 300, dim);
            }
}

/* --- rows of attention ---------------------------------------------------------------------------------------------
 */

enum { MOST = 3000 };

static double p64[MOST], q64[MOST];

/* The same row in long double; returns the divergence. */
static double plain(const float *logits, const float *changes, int n) {
    long double max = -1e30L, max2 = -1e30L, sum = 0, sum2 = 0, kl = 0;
    for (int t = 0; t < n; t++) {
        max = fmaxl(max, (long double)logits[t]);
        max2 = fmaxl(max2, (long double)logits[t] + (long double)changes[t]);
    }
    for (int t = 0; t < n; t++) {
        sum += expl((long double)logits[t] - max);
        sum2 += expl((long double)logits[t] + (long double)changes[t] - max2);
    }
    for (int t = 0; t < n; t++) {
        long double before = (long double)logits[t] - max - logl(sum);
        long double after = (long double)logits[t] + (long double)changes[t] - max2 - logl(sum2);
        p64[t] = (double)expl(before);
        q64[t] = (double)expl(after);
        kl += expl(before) * (before - after);
    }
    return (double)kl;
}

/* o' - o is (sum of weights v - G o) / (1 + G): the weights must give p' - p to `relative` of the largest. */
static void check_row(int n, double size, double change_size, double offset, double relative) {
    static float logits[MOST], changes[MOST], given[MOST], p[MOST], shifted[MOST], maxima[MOST / 32 + 1];
    kvs_top top;
    kvs_row_change change;
    fill(logits, (size_t)n, (uint64_t)n, size);
    fill(given, (size_t)n, (uint64_t)n + 1, change_size);
    for (int t = 0; t < n; t++) given[t] += (float)offset;
    memcpy(changes, given, sizeof changes);
    double kl = plain(logits, given, n), mse = 0, most = 0;
    double tiny = 1e-14 * change_size * change_size; /* what binary32 leaves of changes that large */
    kvs_softmax_row(logits, n, p, maxima, &top);
    kvs_softmax_change(logits, p, &top, n, changes, shifted, maxima, &change);
    for (int t = 0; t < n; t++) {
        mse += (double)given[t] * (double)given[t] / n;
        most = fmax(most, fabs(q64[t] - p64[t]));
        assert_close((double)p[t], p64[t], 1e-4, 1e-20);
    }
    assert_close(change.mse, mse, 1e-6, 0);
    assert_close(change.kl, kl, relative, tiny);
    for (int t = 0; t < n; t++) {
        double moved = ((double)changes[t] - change.gain * (double)p[t]) / (1 + change.gain);
        assert_close(moved, q64[t] - p64[t], relative, relative * most + tiny);
        assert_close((double)shifted[t] / (1 + change.gain), q64[t], 1e-3, tiny);
    }
}

static void changes_of_every_size(void **state) {
    (void)state;
    static const int lengths[] = {2, 7, 8, 33, 640, 3000};
    for (int i = 0; i < 6; i++) {
        check_row(lengths[i], 8.0, 1.0, 0.0, 1e-5);
        check_row(lengths[i], 8.0, 1e-2, 0.0, 1e-5);
        check_row(lengths[i], 8.0, 1e-4, 0.0, 1e-4); /* a divergence near 1e-9 */
        check_row(lengths[i], 8.0, 20.0, 3.0, 1e-4);
        check_row(lengths[i], 8.0, 0.1, -7.0, 1e-4);   /* all logits move together */
        check_row(lengths[i], 30.0, 300.0, 0.0, 1e-4); /* beyond the factorization */
    }
    for (int n = 2; n < 60; n++) { /* logits so large that one key takes all, before, after or both */
        check_row(n, 400.0, 30.0, 0.0, 1e-3);
        check_row(n, 400.0, 600.0, 0.0, 1e-3);
        check_row(n, 100.0, 200.0, 0.0, 1e-3);
        check_row(n, 10.0, 400.0, -900.0, 1e-3);
    }
}

static void no_change_is_exactly_none(void **state) {
    (void)state;
    float logits[100], changes[100] = {0}, p[100], shifted[100], maxima[4];
    kvs_top top;
    kvs_row_change change;
    fill(logits, 100, 3, 10.0);
    kvs_softmax_row(logits, 100, p, maxima, &top);
    kvs_softmax_change(logits, p, &top, 100, changes, shifted, maxima, &change);
    assert_true(change.mse == 0 && change.kl == 0 && change.gain == 0);
    assert_int_equal(change.shared_top1, 1);
    assert_int_equal(change.shared_top, KVS_TOP);
    for (int t = 0; t < 100; t++) assert_true(changes[t] == 0 && shifted[t] == p[t]);
}

static void tops_and_ties(void **state) {
    (void)state;
    static float logits[500], changes[500], p[500], shifted[500], maxima[500 / 32 + 1];
    kvs_top top;
    kvs_row_change change;
    for (int t = 0; t < 500; t++) logits[t] = 1.0f;
    kvs_softmax_row(logits, 500, p, maxima, &top);
    for (int i = 0; i < KVS_TOP; i++) assert_int_equal(top.positions[i], i); /* all tie: the lowest positions */
    logits[480] = 2.0f, logits[77] = 3.0f, logits[78] = 2.0f, logits[499] = 2.0f;
    static const int wanted[KVS_TOP] = {77, 78, 480, 499, 0, 1, 2, 3};
    kvs_softmax_row(logits, 500, p, maxima, &top);
    for (int i = 0; i < KVS_TOP; i++) assert_int_equal(top.positions[i], wanted[i]);
    changes[77] = -1.5f, changes[300] = 9.0f; /* 300 enters at the front, 3 leaves, 77 stays in */
    kvs_softmax_change(logits, p, &top, 500, changes, shifted, maxima, &change);
    assert_int_equal(change.shared_top1, 0);
    assert_int_equal(change.shared_top, KVS_TOP - 1);
    kvs_softmax_row(logits, 3, p, maxima, &top);
    assert_int_equal(top.count, 3);
}

/* --- distributions -------------------------------------------------------------------------------------------------
 */

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double rank_of(const float *sorted, int count, double q) {
    double place = q * (count - 1);
    int low = (int)place, high = low + 1 < count ? low + 1 : low;
    return (double)sorted[low] + ((double)sorted[high] - (double)sorted[low]) * (place - low);
}

/* Samples over many orders of magnitude, some 0. */
static float *make_samples(int count) {
    float *x = malloc(sizeof *x * (size_t)count);
    for (int i = 0; i < count; i++) {
        double u = (double)kvs_random_unit(9, (uint64_t)i);
        x[i] = i % 11 == 0 ? 0.0f : (float)pow(10.0, 12.0 * u - 9.0);
    }
    return x;
}

static void check_distribution(int count, int exact, double relative) {
    kvs_distribution *d;
    kvs_error error;
    float *x = make_samples(count);
    assert_int_equal(kvs_distribution_open(count, exact, &d, &error), KVS_OK);
    for (int round = 0; round < 2; round++) { /* the second after a clear */
        double sum = 0;
        for (int at = 0, part; at < count; at += part) {
            part = count - at < 1 + at / 3 ? count - at : 1 + at / 3;
            assert_int_equal(kvs_distribution_add(d, x + at, (size_t)part, &error), KVS_OK);
        }
        for (int i = 0; i < count; i++) sum += (double)x[i];
        kvs_statistic s = kvs_distribution_statistic(d);
        qsort(x, (size_t)count, sizeof *x, ascending);
        assert_close(s.mean, sum / count, 1e-12, 0);
        assert_true(s.max == (double)x[count - 1]);
        assert_close(s.median, rank_of(x, count, 0.5), relative, 0);
        assert_close(s.p99, rank_of(x, count, 0.99), relative, 0);
        kvs_distribution_clear(d);
        assert_true(isnan(kvs_distribution_statistic(d).p99));
    }
    kvs_distribution_close(d);
    free(x);
}

static void percentiles_are_exact(void **state) {
    (void)state;
    static const int counts[] = {1, 2, 3, 100, 101, 4097, 50000};
    for (int i = 0; i < 7; i++) check_distribution(counts[i], 1, 1e-12);
}

static void histograms_are_within_a_thousandth(void **state) {
    (void)state;
    static const int counts[] = {1, 2, 3, 100, 101, 4097, 50000};
    for (int i = 0; i < 7; i++) check_distribution(counts[i], 0, 1.0001e-3);
}

static void too_many_samples_are_refused(void **state) {
    (void)state;
    kvs_distribution *d;
    kvs_error error;
    float x[3] = {1, 2, 3};
    assert_int_equal(kvs_distribution_open(2, 1, &d, &error), KVS_OK);
    assert_int_equal(kvs_distribution_add(d, x, 3, &error), KVS_INPUT);
    kvs_distribution_close(d);
}

static void channels_over_sequences(void **state) {
    (void)state;
    enum { DIM = 5, FIRST = 7, SECOND = 11 };
    float x[(FIRST + SECOND) * DIM], magnitude[DIM], range[DIM], bounds[4][DIM];
    double magnitudes[2][DIM];
    fill(x, (FIRST + SECOND) * DIM, 4, 6.0);
    kvs_channel_sums sums = {0, magnitudes[0], bounds[0], bounds[1]}, one = {0, magnitudes[1], bounds[2], bounds[3]};
    kvs_channels_measure(x, FIRST, DIM, &one);
    kvs_channels_add(&sums, &one, DIM);
    kvs_channels_measure(x + FIRST * DIM, SECOND, DIM, &one);
    kvs_channels_add(&sums, &one, DIM);
    kvs_channels_end(&sums, DIM, magnitude, range);
    for (int d = 0; d < DIM; d++) {
        double sum = 0;
        float low = x[d], high = x[d];
        for (int t = 0; t < FIRST + SECOND; t++) {
            float value = x[t * DIM + d];
            sum += fabs((double)value);
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        assert_close((double)magnitude[d], sum / (FIRST + SECOND), 1e-6, 0);
        assert_true(range[d] == high - low);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_every_shape),      cmocka_unit_test(changes_of_every_size),
        cmocka_unit_test(no_change_is_exactly_none),    cmocka_unit_test(tops_and_ties),
        cmocka_unit_test(percentiles_are_exact),        cmocka_unit_test(histograms_are_within_a_thousandth),
        cmocka_unit_test(too_many_samples_are_refused), cmocka_unit_test(channels_over_sequences),
    };
    return cmocka_run_group_tests_name("error_math", tests, NULL, NULL);
}
