/* test_half.c: are binary16 and bfloat16 what IEEE 754 says? Every 16-bit word, and floats chosen to be hard, against
 * the definition (sign, exponent, fraction) in binary64 arithmetic, which holds all of these numbers exactly. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/half.h"
#include "core/random.h"

typedef struct {
    int exponent_bits, fraction_bits;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);
} format;

static float half_to_float(uint16_t h) {
    return kvs_half_to_float(h);
}
static uint16_t float_to_half(float x) {
    return kvs_float_to_half(x);
}
static float bfloat_to_float(uint16_t b) {
    return kvs_bfloat_to_float(b);
}
static uint16_t float_to_bfloat(float x) {
    return kvs_float_to_bfloat(x);
}

static format formats[] = {{5, 10, half_to_float, float_to_half}, {8, 7, bfloat_to_float, float_to_bfloat}};

static int bias_of(const format *f) {
    return (1 << (f->exponent_bits - 1)) - 1;
}

/* The value of a word by the definition; NaN and infinity included. */
static double define(const format *f, uint16_t word) {
    int top = (1 << f->exponent_bits) - 1, exponent = word >> f->fraction_bits & top;
    int fraction = word & ((1 << f->fraction_bits) - 1);
    double sign = word & 0x8000 ? -1 : 1;
    if (exponent == top) return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias_of(f) - f->fraction_bits);
    return sign * ldexp((1 << f->fraction_bits) + fraction, exponent - bias_of(f) - f->fraction_bits);
}

/* The value that x rounds to: to the nearest multiple of its last place, ties to even. */
static double define_rounding(const format *f, double x) {
    if (isnan(x) || isinf(x) || x == 0) return x;
    int lowest = 1 - bias_of(f), exponent = ilogb(x) > lowest ? ilogb(x) : lowest;
    double place = ldexp(1, exponent - f->fraction_bits);
    double rounded = nearbyint(x / place) * place;
    double limit = ldexp(1, bias_of(f) + 1);
    return fabs(rounded) >= limit ? copysign((double)INFINITY, x) : rounded;
}

static int same(double a, double b) {
    return isnan(a) ? isnan(b) : a == b && !signbit(a) == !signbit(b);
}

static void every_word_has_its_value(void **state) {
    const format *f = *state;
    for (int word = 0; word < 65536; word++) {
        double value = (double)f->widen((uint16_t)word);
        if (!same(value, define(f, (uint16_t)word))) fail_msg("word %04x is %a", word, value);
        if (!isnan(value)) assert_int_equal(f->narrow((float)value), word); /* and back */
    }
}

static void check_rounding(const format *f, float x) {
    uint16_t word = f->narrow(x);
    if (!same(define(f, word), define_rounding(f, (double)x))) fail_msg("%a rounds to word %04x", (double)x, word);
}

static void ties_and_their_neighbours_round_to_even(void **state) {
    const format *f = *state;
    for (int word = 0; word < 65535; word++) {
        double low = define(f, (uint16_t)word), high = define(f, (uint16_t)(word + 1));
        if (!isfinite(low)) continue;
        if (!isfinite(high)) high = 2 * low - define(f, (uint16_t)(word - 1)); /* past the largest: overflow's tie */
        float tie = (float)(low + (high - low) / 2);
        check_rounding(f, tie);
        check_rounding(f, nextafterf(tie, INFINITY));
        check_rounding(f, nextafterf(tie, -INFINITY));
    }
}

static void random_floats_round_to_nearest(void **state) {
    const format *f = *state;
    for (uint64_t i = 0; i < 1000000; i++) check_rounding(f, kvs_bits_float((uint32_t)kvs_random_bits(1, i)));
}

static void extremes_are_kept(void **state) {
    (void)state;
    assert_int_equal(kvs_float_to_half(65504.0f), 0x7bff);
    assert_int_equal(kvs_float_to_half(65519.996f), 0x7bff);
    assert_int_equal(kvs_float_to_half(65520.0f), 0x7c00);
    assert_int_equal(kvs_float_to_half(-INFINITY), 0xfc00);
    assert_int_equal(kvs_float_to_half(-0.0f), 0x8000);
    assert_int_equal(kvs_float_to_half(0x1p-24f), 1);
    assert_int_equal(kvs_float_to_half(0x1p-25f), 0);
    assert_int_equal(kvs_float_to_half(0x1.000002p-25f), 1);
    assert_int_equal(kvs_float_to_half(NAN) & 0x7e00, 0x7e00);
    /* A NaN whose fraction lies below the 16 bits must not become infinity. */
    assert_int_equal(kvs_float_to_bfloat(kvs_bits_float(0x7f800001u)) & 0x7fc0, 0x7fc0);
    assert_int_equal(kvs_float_to_half(kvs_bits_float(0x7f800001u)) & 0x7e00, 0x7e00);
    assert_int_equal(kvs_float_to_bfloat(3.4e38f), 0x7f80);
}

/* Vectors of every length to 100 and odd starts, so that each tail of each vector width is met. */
static void vectors_equal_scalars(void **state) {
    (void)state;
    enum { MOST = 1000 };
    float floats[MOST], wide[MOST], wide_b[MOST];
    uint16_t halves[MOST], bfloats[MOST], words[MOST];
    for (int i = 0; i < MOST; i++) {
        floats[i] = kvs_bits_float((uint32_t)kvs_random_bits(2, (uint64_t)i));
        words[i] = (uint16_t)kvs_random_bits(3, (uint64_t)i);
    }
    for (size_t count = 0; count <= MOST; count += count < 100 ? 1 : 450) {
        size_t start = count < MOST ? count % 7 : 0, length = count < MOST ? count : MOST;
        kvs_floats_to_halves(floats + start, halves, length);
        kvs_floats_to_bfloats(floats + start, bfloats, length);
        kvs_halves_to_floats(words + start, wide, length);
        kvs_bfloats_to_floats(words + start, wide_b, length);
        for (size_t i = 0; i < length; i++) {
            assert_int_equal(halves[i], kvs_float_to_half(floats[start + i]));
            assert_int_equal(bfloats[i], kvs_float_to_bfloat(floats[start + i]));
            assert_true(same((double)wide[i], (double)kvs_half_to_float(words[start + i])));
            assert_true(same((double)wide_b[i], (double)kvs_bfloat_to_float(words[start + i])));
        }
    }
}

static void values_that_are_not_finite_are_found(void **state) {
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    float values[200];
    for (size_t i = 0; i < 200; i++) values[i] = i % 2 ? 3.4e38f : -1e-45f;
    assert_int_equal(kvs_first_nonfinite(values, 200), 200);
    for (size_t at = 0; at < 200; at++) {
        float good = values[at];
        values[at] = bad[at % 3];
        assert_int_equal(kvs_first_nonfinite(values, 200), at);
        assert_int_equal(kvs_first_nonfinite(values, at), at);
        values[at] = good;
    }
}

static void rounding_in_place_finds_overflow(void **state) {
    (void)state;
    float values[] = {1.0f, 0.1f, 65519.0f, -65520.0f, NAN};
    float rounded[5];
    assert_int_equal(kvs_round_floats_to_half(values, rounded, 3), 3);
    assert_true(rounded[1] == 0x1.998p-4f && rounded[2] == 65504.0f);
    assert_int_equal(kvs_round_floats_to_half(values, rounded, 5), 3);
    assert_int_equal(kvs_round_floats_to_half(values + 4, values + 4, 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"every binary16 word has its value", every_word_has_its_value, NULL, NULL, &formats[0]},
        {"every bfloat16 word has its value", every_word_has_its_value, NULL, NULL, &formats[1]},
        {"binary16 ties round to even", ties_and_their_neighbours_round_to_even, NULL, NULL, &formats[0]},
        {"bfloat16 ties round to even", ties_and_their_neighbours_round_to_even, NULL, NULL, &formats[1]},
        {"binary16 rounds to nearest", random_floats_round_to_nearest, NULL, NULL, &formats[0]},
        {"bfloat16 rounds to nearest", random_floats_round_to_nearest, NULL, NULL, &formats[1]},
        cmocka_unit_test(extremes_are_kept),
        cmocka_unit_test(vectors_equal_scalars),
        cmocka_unit_test(values_that_are_not_finite_are_found),
        cmocka_unit_test(rounding_in_place_finds_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
