/* test_trellis.c: the trellis coder against its definition, exhaustive search and the rate-distortion bound; Lloyd-Max
 * rows against the nearest level; whole bits against every allocation; the scheme's page against its own description.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "kernels/bit_allocation.h"
#include "kernels/lloyd_max.h"
#include "kernels/row_coder.h"
#include "kernels/scheme.h"

enum { ROW = 128 };

/* Standard normal values: the sum of twelve uniform ones, which is close enough here and not how training draws. */
static void draw(uint64_t key, int count, float *x) {
    for (int i = 0; i < count; i++) {
        double sum = -6.0;
        for (int j = 0; j < 12; j++) sum += (double)kvs_random_unit(key, (uint64_t)i * 12 + (uint64_t)j);
        x[i] = (float)sum;
    }
}

static double distance(int count, const float *x, const float *y) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sum;
}

/* The level of value i by the header's words: the last 8 bits of the codes up to i, round the ring. */
static float level_at(int bits, int count, const uint8_t *codes, int i) {
    int state = 0;
    for (int b = 0; b < KVS_TRELLIS_STATE_BITS; b++) {
        int at = i - b / bits;
        while (at < 0) at += count;
        state |= (codes[at] >> (b % bits) & 1) << b;
    }
    return kvs_trellis_levels(bits)[state];
}

static void a_value_is_the_level_of_the_last_eight_bits(void **state) {
    (void)state;
    for (int bits = 1; bits <= KVS_TRELLIS_MAX_BITS; bits++)
        for (int count = 8; count <= 40; count += 11) {
            uint8_t codes[40];
            float values[40];
            for (int i = 0; i < count; i++) codes[i] = (uint8_t)(kvs_random_bits(3, (uint64_t)i) % (1u << bits));
            kvs_trellis_decode(bits, count, codes, values);
            for (int i = 0; i < count; i++) assert_true(values[i] == level_at(bits, count, codes, i));
        }
}

/* The least error of all rows of codes that end in the same state as these. */
static double exhaustive(int bits, int count, const float *x, const uint8_t *end) {
    double best = INFINITY;
    for (uint32_t all = 0; all < 1u << (bits * count); all++) {
        uint8_t codes[16];
        float values[16];
        int same = 1;
        for (int i = 0; i < count; i++) codes[i] = (uint8_t)(all >> (i * bits) & ((1u << bits) - 1));
        for (int b = 0; b < KVS_TRELLIS_STATE_BITS; b++)
            same &= ((codes[count - 1 - b / bits] ^ end[count - 1 - b / bits]) >> (b % bits) & 1) == 0;
        if (!same) continue;
        kvs_trellis_decode(bits, count, codes, values);
        best = fmin(best, distance(count, x, values));
    }
    return best;
}

/* The seam is chosen before the rest; what is between is the best there is. */
static void no_row_with_the_same_seam_is_better(void **state) {
    (void)state;
    static const int shapes[][2] = {{1, 16}, {2, 8}, {3, 5}, {4, 4}, {6, 3}};
    for (int s = 0; s < 5; s++)
        for (uint64_t row = 0; row < 6; row++) {
            int bits = shapes[s][0], count = shapes[s][1];
            float scratch[1024], x[16], values[16];
            uint8_t codes[16];
            assert_true(kvs_trellis_scratch(count) <= 1024);
            draw(100 + row, count, x);
            kvs_trellis_encode(bits, count, x, codes, scratch);
            kvs_trellis_decode(bits, count, codes, values);
            double error = distance(count, x, values), least = exhaustive(bits, count, x, codes);
            if (fabs(error - least) > 1e-5 * least) fail_msg("%d bits: %g against %g", bits, error, least);
        }
}

static void it_stands_between_lloyd_max_and_the_bound(void **state) {
    (void)state;
    static float x[ROW * 200], values[ROW];
    float *scratch = malloc(sizeof *scratch * kvs_trellis_scratch(ROW));
    uint8_t codes[ROW];
    kvs_row_coder scalar;
    assert_non_null(scratch);
    draw(5, ROW * 200, x);
    kvs_row_coder_make(KVS_ROW_LLOYD_MAX, &scalar);
    for (int bits = 1; bits <= KVS_TRELLIS_MAX_BITS; bits++) {
        double error = 0, bound = pow(4.0, -bits);
        for (int row = 0; row < 200; row++) {
            kvs_trellis_encode(bits, ROW, x + row * ROW, codes, scratch);
            kvs_trellis_decode(bits, ROW, codes, values);
            error += distance(ROW, x + row * ROW, values) / (200 * ROW);
        }
        double most = bits <= 6 ? 0.82 : bits == 7 ? 0.95 : 1.02; /* of scalar levels: the register fills up */
        if (error < bound || error > most * scalar.distortion[bits]) fail_msg("%d bits: %g", bits, error);
        assert_true(fabs(error / kvs_trellis_distortion(bits) - 1.0) < 0.12);
    }
    free(scratch);
}

/* Max's table of 1960. */
static void scalar_rows_get_the_nearest_level(void **state) {
    (void)state;
    static const double published[] = {1.0, 0.3634, 0.1175, 0.03454, 0.009497, 0.002499};
    kvs_row_coder coder;
    kvs_row_coder_make(KVS_ROW_LLOYD_MAX, &coder);
    float x[ROW], values[ROW];
    uint8_t codes[ROW];
    draw(6, ROW, x);
    for (int bits = 0; bits <= 5; bits++) {
        double levels[32] = {0};
        assert_true(fabs(coder.distortion[bits] / published[bits] - 1.0) < 3e-3);
        if (bits > 0) kvs_lloyd_max_normal(bits, levels);
        kvs_row_encode(&coder, bits, ROW, x, codes, values, NULL);
        for (int i = 0; i < ROW; i++) {
            double nearest = INFINITY;
            for (int j = 0; j < 1 << bits; j++) nearest = fmin(nearest, fabs(levels[j] - (double)x[i]));
            assert_true(codes[i] < 1 << bits);
            assert_true(fabs(fabs((double)values[i] - (double)x[i]) - nearest) < 1e-6);
        }
    }
}

static void whole_bits_are_given_as_well_as_can_be(void **state) {
    (void)state;
    static const double distortion[] = {1.0, 0.3, 0.08, 0.02};
    for (uint64_t trial = 0; trial < 40; trial++) {
        double variances[5], gains[5], best = INFINITY, got = 0;
        uint8_t widths[5];
        int total = (int)(trial % 17), given = 0;
        for (int i = 0; i < 5; i++) variances[i] = exp(4.0 * (double)kvs_random_unit(trial, (uint64_t)i));
        for (int all = 0; all < 1024; all++) {
            int sum = 0;
            double error = 0;
            for (int i = 0; i < 5; i++) {
                sum += all >> 2 * i & 3;
                error += variances[i] * distortion[all >> 2 * i & 3];
            }
            if (sum <= total) best = fmin(best, error);
        }
        kvs_allocate_bits(5, variances, 3, distortion, total, gains, widths);
        for (int i = 0; i < 5; i++) given += widths[i], got += variances[i] * distortion[widths[i]];
        assert_int_equal(given, total < 15 ? total : 15);
        assert_true(fabs(got / best - 1.0) < 1e-12);
    }
    double none[2] = {0.0, 0.0}, gains[2];
    uint8_t widths[2] = {9, 9};
    kvs_allocate_bits(2, none, 3, distortion, 4, gains, widths);
    assert_int_equal(widths[0] + widths[1], 0);
}

/* A page whose channels are constant, of two values, or normal: what the description says of each. */
static void a_page_keeps_means_and_spends_bits_where_they_count(void **state) {
    (void)state;
    kvs_scheme *scheme;
    kvs_error error;
    enum { DIM = 64 };
    static float x[ROW * DIM], x_hat[ROW * DIM], column[ROW];
    static uint8_t codes[ROW * DIM];
    assert_int_equal(kvs_scheme_open("tcq:k_bits=1,sink=0", DIM, &scheme, &error), KVS_OK);
    for (int d = 0; d < DIM; d++) {
        draw(40 + (uint64_t)d, ROW, column);
        float mean = d % 2 ? 10.0f : 0.0f, spread = d < 16 ? 1.0f : d < 32 ? 1e-3f : 0.0f;
        for (int t = 0; t < ROW; t++) x[t * DIM + d] = mean + spread * column[t];
    }
    const kvs_store *store = &scheme->k;
    float *scratch = malloc(sizeof *scratch * kvs_store_scratch_floats(store));
    assert_non_null(scratch);
    kvs_page_context context = {0};
    kvs_store_pages(store, &context, ROW, x, x_hat, codes, scratch);
    for (int d = 0; d < DIM; d++) {
        double errors = 0;
        int used = 0;
        for (int t = 0; t < ROW; t++) {
            double change = (double)x_hat[t * DIM + d] - (double)x[t * DIM + d];
            errors += change * change / ROW;
            used |= codes[t * DIM + d];
        }
        /* 64 planes: 4 bits for each of the 16 channels that vary, and none for the others, whose means are stored to
         * half a step of 10 / 127. */
        assert_int_equal(used > 3, d < 16);
        assert_int_equal(used > 0, d < 16);
        assert_true(errors < (d < 16 ? 0.012 : d % 2 ? 0.002 : 2e-6));
    }
    kvs_bits bits = store->codec->page_bits(store);
    assert_true(bits.payload == 64 * ROW && bits.metadata == 16 + 19 * DIM);
    assert_true(bits.padding == 5 * 256 - (16 + 19 * DIM)); /* whole sectors */
    free(scratch);
    kvs_scheme_close(scheme);
}

static void the_defaults_fit_the_budget(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        double most;
    } budgets[] = {{"tcq", 2.53125},
                   {"tcq:rope=before", 2.53125},
                   {"tcq:k_bits=2.5", 2.40625},
                   {"tcq:weigh=feedback", 2.53125},
                   {"tcq:weigh=feedback,k_bits=2.5", 2.40625}};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        kvs_scheme *scheme;
        kvs_error error;
        assert_int_equal(kvs_scheme_open(budgets[i].spec, 128, &scheme, &error), KVS_OK);
        double sum = kvs_bits_sum(kvs_scheme_page_bits(scheme));
        assert_true(sum <= budgets[i].most && sum > budgets[i].most - 0.05);
        kvs_scheme_close(scheme);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_the_level_of_the_last_eight_bits),
        cmocka_unit_test(no_row_with_the_same_seam_is_better),
        cmocka_unit_test(it_stands_between_lloyd_max_and_the_bound),
        cmocka_unit_test(scalar_rows_get_the_nearest_level),
        cmocka_unit_test(whole_bits_are_given_as_well_as_can_be),
        cmocka_unit_test(a_page_keeps_means_and_spends_bits_where_they_count),
        cmocka_unit_test(the_defaults_fit_the_budget),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
