/* test_rotation_codebook.c: the Hadamard transform against a matrix written from its definition, and the codebooks
 * against published tables and the conditions that define them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "kernels/hadamard.h"
#include "kernels/lloyd_max.h"

/* --- Hadamard ------------------------------------------------------------------------------------------------------
 */

static void orders_are_those_that_the_header_says(void **state) {
    (void)state;
    const int yes[] = {1, 2, 4, 12, 20, 24, 40, 64, 80, 96, 128, 160, 192, 256, 320, 512, 1024};
    const int no[] = {-4, 0, 3, 5, 6, 7, 10, 28, 36, 100, 112, 127, 144, 224, 2048};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) assert_true(kvs_hadamard_admits(yes[i]));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) assert_false(kvs_hadamard_admits(no[i]));
}

/* The columns of the transform are those of a matrix of +-1 over sqrt(n) whose rows are orthogonal. */
static void the_matrix_is_a_hadamard_matrix(void **state) {
    (void)state;
    const int orders[] = {1, 2, 12, 20, 64, 80, 96, 128, 256};
    static float columns[256][256];
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
        int n = orders[o];
        for (int j = 0; j < n; j++) {
            memset(columns[j], 0, sizeof columns[j]);
            columns[j][j] = 1.0f;
            kvs_hadamard_rows(n, 1, columns[j]);
            for (int i = 0; i < n; i++) assert_true(fabs(fabs(columns[j][i]) * sqrt(n) - 1.0) < 1e-6);
        }
        for (int i = 0; i < n; i++)
            for (int j = 0; j <= i; j++) {
                double dot = 0;
                for (int k = 0; k < n; k++) dot += (double)columns[i][k] * (double)columns[j][k];
                assert_true(fabs(dot - (i == j)) < 1e-5);
            }
    }
}

static void a_power_of_two_is_sylvesters(void **state) {
    (void)state;
    float x[128];
    for (int j = 0; j < 128; j++) {
        memset(x, 0, sizeof x);
        x[j] = 1.0f;
        kvs_hadamard_rows(128, 1, x);
        for (int i = 0; i < 128; i++) assert_true((x[i] < 0) == __builtin_parity((unsigned)(i & j)));
    }
}

static void back_is_the_inverse_row_by_row(void **state) {
    (void)state;
    const int orders[] = {12, 64, 80, 96, 128, 256};
    static float x[5 * 256], y[5 * 256];
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
        int count = 5 * orders[o];
        for (int i = 0; i < count; i++) y[i] = x[i] = kvs_random_unit(o, (uint64_t)i) - 0.5f;
        kvs_hadamard_rows(orders[o], 5, y);
        double energy[2] = {0};
        for (int i = 0; i < count; i++) {
            energy[0] += (double)x[i] * (double)x[i];
            energy[1] += (double)y[i] * (double)y[i];
        }
        assert_true(fabs(energy[0] / energy[1] - 1.0) < 1e-5);
        assert_true(memcmp(x, y, sizeof *x * (size_t)count) != 0);
        kvs_hadamard_rows_back(orders[o], 5, y);
        for (int i = 0; i < count; i++) assert_true(fabsf(x[i] - y[i]) < 1e-6f);
    }
}

/* --- codebooks -----------------------------------------------------------------------------------------------------
 */

/* Max 1960, table I, and the levels of two and three bits as other engines print them. */
static void the_normal_codebooks_are_those_of_max(void **state) {
    (void)state;
    static const double known[4][8] = {{0.7979},
                                       {0.4528, 1.510},
                                       {0.2451, 0.7560, 1.344, 2.152},
                                       {0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733}};
    for (int bits = 1; bits <= 4; bits++) {
        double levels[16];
        int half = 1 << (bits - 1);
        kvs_lloyd_max_normal(bits, levels);
        for (int i = 0; i < half; i++) {
            assert_true(fabs(levels[half + i] - known[bits - 1][i]) < 6e-4);
            assert_true(levels[half - 1 - i] == -levels[half + i]);
        }
    }
}

static double density(int dim, double x) {
    if (dim == 0) return exp(-0.5 * x * x);
    return x * x < dim ? pow(1.0 - x * x / dim, 0.5 * (dim - 3)) : 0.0;
}

/* Every level is the centroid of its cell, integrated here by the midpoint rule. */
static void levels_are_centroids(void **state) {
    (void)state;
    const int dims[] = {0, 8, 64, 128, 256};
    for (int i = 0; i < 5 * 3; i++) {
        int dim = dims[i / 3], bits = i % 3 == 0 ? 2 : i % 3 == 1 ? 4 : 8, count = 1 << bits;
        double levels[256];
        if (dim == 0)
            kvs_lloyd_max_normal(bits, levels);
        else
            kvs_lloyd_max_sphere(dim, bits, levels);
        for (int j = 0; j < count; j++) {
            double end = dim == 0 ? 9.0 : fmin(9.0, sqrt(dim));
            double low = j > 0 ? 0.5 * (levels[j - 1] + levels[j]) : -end;
            double high = j + 1 < count ? 0.5 * (levels[j] + levels[j + 1]) : end;
            double mass = 0, moment = 0;
            for (int k = 0; k < 4000; k++) {
                double x = low + (high - low) * (k + 0.5) / 4000, f = density(dim, x);
                mass += f, moment += f * x;
            }
            assert_true(j == 0 || levels[j] > levels[j - 1]);
            if (!(fabs(moment / mass - levels[j]) < 2e-5))
                fail_msg("dim %d, %d bits, level %d: %g, not %g", dim, bits, j, levels[j], moment / mass);
        }
    }
}

static void a_sample_of_two_clusters_finds_them(void **state) {
    (void)state;
    const double values[] = {-3, -2, -1, 10, 11, 20}, weights[] = {1, 2, 1, 3, 1, 4};
    double levels[3];
    kvs_lloyd_max_sample(6, values, weights, 3, 100, levels);
    assert_true(fabs(levels[0] + 2) < 1e-12 && fabs(levels[1] - 10.25) < 1e-12 && fabs(levels[2] - 20) < 1e-12);
    const double constant[] = {5, 5, 5}, ones[] = {1, 1, 1};
    double four[4];
    kvs_lloyd_max_sample(3, constant, ones, 4, 10, four);
    for (int i = 0; i < 4; i++) assert_true(four[i] == 5);
}

/* A large sample of a normal variable, as weights on a grid, has its codebook. */
static void a_sampled_density_has_its_codebook(void **state) {
    (void)state;
    static double values[4001], weights[4001];
    double levels[8], want[8];
    for (int i = 0; i <= 4000; i++) {
        values[i] = (i - 2000) / 400.0;
        weights[i] = exp(-0.5 * values[i] * values[i]);
    }
    kvs_lloyd_max_sample(4001, values, weights, 8, 1000, levels);
    kvs_lloyd_max_normal(3, want);
    for (int i = 0; i < 8; i++) assert_true(fabs(levels[i] - want[i]) < 0.02);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_those_that_the_header_says), cmocka_unit_test(the_matrix_is_a_hadamard_matrix),
        cmocka_unit_test(a_power_of_two_is_sylvesters),          cmocka_unit_test(back_is_the_inverse_row_by_row),
        cmocka_unit_test(the_normal_codebooks_are_those_of_max), cmocka_unit_test(levels_are_centroids),
        cmocka_unit_test(a_sample_of_two_clusters_finds_them),   cmocka_unit_test(a_sampled_density_has_its_codebook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
