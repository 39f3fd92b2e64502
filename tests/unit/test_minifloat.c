/* test_minifloat.c: every value of the small floating-point formats, and rounding to them against a search of the
 * nearest.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/random.h"
#include "kernels/minifloat.h"

/* The value of a code without its sign, from the specification. */
static double value_of(const kvs_minifloat *f, int code) {
    int exponent = code >> f->mantissa_bits, mantissa = code & ((1 << f->mantissa_bits) - 1);
    double fraction = ldexp(mantissa, -f->mantissa_bits);
    return exponent == 0 ? ldexp(fraction, 1 - f->bias) : ldexp(1 + fraction, exponent - f->bias);
}

static int largest_code(const kvs_minifloat *f) {
    int code = 0;
    while (value_of(f, code + 1) <= (double)f->largest) code++;
    return code;
}

static const kvs_minifloat *const formats[] = {&kvs_e4m3, &kvs_e5m2, &kvs_e2m1};

static void every_value_is_its_own(void **state) {
    (void)state;
    const int last[] = {0x7e, 0x7b, 0x7}; /* 448, 57344, 6 */
    for (int i = 0; i < 3; i++) {
        const kvs_minifloat *f = formats[i];
        int width = f->exponent_bits + f->mantissa_bits;
        assert_int_equal(largest_code(f), last[i]);
        for (int code = 0; code <= last[i]; code++) {
            float value = (float)value_of(f, code);
            assert_true(kvs_minifloat_round(f, value) == value && kvs_minifloat_round(f, -value) == -value);
            assert_int_equal(kvs_minifloat_code(f, value), code);
            assert_int_equal(kvs_minifloat_code(f, -value), 1 << width | code);
        }
    }
    const double published[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    for (int code = 0; code < 8; code++) assert_true(value_of(&kvs_e2m1, code) == published[code]);
}

/* The nearest value by search, ties to the even code. */
static double nearest(const kvs_minifloat *f, double x) {
    int last = largest_code(f), best = 0;
    for (int code = 1; code <= last; code++) {
        double now = fabs(value_of(f, code) - fabs(x)), before = fabs(value_of(f, best) - fabs(x));
        if (now < before || (now == before && code % 2 == 0)) best = code;
    }
    return copysign(value_of(f, best), x);
}

static void rounding_takes_the_nearest(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++)
        for (uint64_t n = 0; n < 4000; n++) {
            double magnitude = exp2(40.0 * (double)kvs_random_unit(1, n) - 22.0);
            float x = (float)(n % 2 ? magnitude : -magnitude);
            assert_true((double)kvs_minifloat_round(formats[i], x) == nearest(formats[i], (double)x));
        }
    for (int i = 0; i < 3; i++) /* halfway between two neighbours */
        for (int code = 0; code < largest_code(formats[i]); code++) {
            double middle = 0.5 * (value_of(formats[i], code) + value_of(formats[i], code + 1));
            assert_true((double)kvs_minifloat_round(formats[i], (float)middle) == nearest(formats[i], middle));
        }
}

static void powers_of_two_are_below(void **state) {
    (void)state;
    const float known[][2] = {{1, 1}, {1.999f, 1}, {2, 2}, {0.3f, 0.25f}, {65504, 32768}, {0, 0x1p-127f}};
    for (int i = 0; i < 6; i++) assert_true(kvs_power_below(known[i][0]) == known[i][1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_is_its_own),
        cmocka_unit_test(rounding_takes_the_nearest),
        cmocka_unit_test(powers_of_two_are_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
