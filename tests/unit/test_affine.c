/* test_affine.c: what the golden data cannot see of kernels/affine.h: floors, ties, clamps, odd groups, zero's sign. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/affine.h"

static const kvs_affine_rule published_system = {KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0};
static const kvs_affine_rule published_simulator = {KVS_ROUND_HALF_EVEN, KVS_META_BINARY32, KVS_DIVIDE_BY_WORKING, 0,
                                                    1e-4f};
static const kvs_affine_rule published_kivi = {KVS_ROUND_HALF_EVEN, KVS_META_BINARY16, KVS_DIVIDE_BY_STORED, 0, 0};

#define assert_same_bits(a, b) assert_int_equal(kvs_float_bits(a), kvs_float_bits(b))

static void floors_stand_where_they_were_published(void **state) {
    (void)state;
    /* The system floors the scale: a range of 2e-6 over 3 levels is 6.7e-7, below 1e-6; 4e-6 is above it. */
    assert_same_bits(kvs_affine_fit(published_system, 0, 2e-6f, 3).divisor, 1e-6f);
    assert_same_bits(kvs_affine_fit(published_system, 0, 4e-6f, 3).divisor, 4e-6f / 3);
    assert_same_bits(kvs_affine_fit(published_system, 0, 3e-6f, 3).divisor, 3e-6f / 3);
    /* The simulator floors the range: below, at and above 1e-4. */
    assert_same_bits(kvs_affine_fit(published_simulator, 0, 2e-6f, 3).divisor, 1e-4f / 3);
    assert_same_bits(kvs_affine_fit(published_simulator, 0, 1e-4f, 3).divisor, 1e-4f / 3);
    float above = nextafterf(1e-4f, 1);
    assert_same_bits(kvs_affine_fit(published_simulator, 0, above, 15).divisor, above / 15);
    assert_true(kvs_affine_fit(published_simulator, 0, above, 15).divisor >= 1e-4f / 15);
    /* Both at once: the range first. */
    kvs_affine_rule both = {KVS_ROUND_HALF_UP, KVS_META_BINARY32, KVS_DIVIDE_BY_WORKING, 1e-3f, 2e-3f};
    assert_same_bits(kvs_affine_fit(both, 0, 0, 1).scale, 2e-3f);
    assert_same_bits(kvs_affine_fit(both, 0, 0, 15).scale, 1e-3f);
}

static void halves_go_up_or_to_even(void **state) {
    (void)state;
    kvs_affine_group group = {.divisor = 2.0f, .minimum = -8.0f};
    const float halves[] = {0.5f, 1.5f, 2.5f, 3.5f}, up[] = {1, 2, 3, 4}, even[] = {0, 2, 2, 4};
    for (int i = 0; i < 4; i++) {
        float x = group.minimum + halves[i] * group.divisor;
        assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_UP, group, x, 15), up[i]);
        assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_EVEN, group, x, 15), even[i]);
    }
    /* As published: floor(x + 0.5) in binary32 rounds the number below one half up; rint does not. */
    kvs_affine_group unit = {.divisor = 1.0f, .minimum = 0.0f};
    float below = nextafterf(0.5f, 0);
    assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_UP, unit, below, 3), 1);
    assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_EVEN, unit, below, 3), 0);
}

static void codes_are_clamped_after_rounding(void **state) {
    (void)state;
    /* A stored scale below the working one lifts the last code over the levels. */
    kvs_affine_group group = {.divisor = 0.9f, .minimum = 0.0f, .scale = 0.9f};
    assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_UP, group, 3.6f, 3), 3);
    assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_EVEN, group, 100.0f, 3), 3);
    assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_EVEN, group, -1.0f, 3), 0);
    assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_UP, group, -0.4f, 3), 0); /* and no -0 */
}

static void the_divisor_is_the_working_or_the_stored_scale(void **state) {
    (void)state;
    kvs_affine_rule rule = published_kivi;
    float working = 1.0f / 3, stored = kvs_round_to_half(working);
    assert_true(working != stored);
    assert_same_bits(kvs_affine_fit(rule, 0, 1, 3).divisor, stored);
    assert_same_bits(kvs_affine_fit(rule, 0, 1, 3).scale, stored);
    rule.divisor = KVS_DIVIDE_BY_WORKING;
    assert_same_bits(kvs_affine_fit(rule, 0, 1, 3).divisor, working);
    assert_same_bits(kvs_affine_fit(rule, 0, 1, 3).scale, stored);
    rule.meta = KVS_META_BINARY32;
    assert_same_bits(kvs_affine_fit(rule, 0, 1, 3).scale, working);
}

static void groups_without_a_range_are_defined(void **state) {
    (void)state;
    const kvs_affine_rule rules[] = {published_system, published_simulator, published_kivi};
    const float constants[] = {0.0f, 1.0f, -3.5f, 65504.0f, -65504.0f, 0x1p-24f, -0x1p-24f};
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 7; c++) {
            kvs_affine_group group = kvs_affine_fit(rules[r], constants[c], constants[c], 3);
            float code = kvs_affine_code(rules[r].rounding, group, constants[c], 3);
            assert_same_bits(code, 0);
            assert_same_bits(kvs_affine_value(code, group.scale, group.zero), constants[c]);
        }
    /* No floor: scale 0 is stored, as +0. */
    assert_same_bits(kvs_affine_fit(published_kivi, 5, 5, 3).scale, 0.0f);
}

static void zeros_have_one_bit_pattern(void **state) {
    (void)state;
    const float signs[] = {0.0f, -0.0f};
    for (int i = 0; i < 4; i++) {
        kvs_affine_group group = kvs_affine_fit(published_kivi, signs[i / 2], signs[i % 2], 3);
        assert_same_bits(group.minimum, 0.0f);
        assert_same_bits(group.zero, 0.0f);
        assert_same_bits(group.scale, 0.0f);
        assert_same_bits(kvs_affine_value(0, group.scale, group.zero), 0.0f);
    }
}

static void the_widest_range_stays_finite(void **state) {
    (void)state;
    const kvs_affine_rule rules[] = {published_system, published_simulator, published_kivi};
    for (int r = 0; r < 3; r++)
        for (int bits = 1; bits <= 8; bits++) {
            float levels = kvs_affine_levels(bits);
            kvs_affine_group group = kvs_affine_fit(rules[r], -65504, 65504, levels);
            assert_true(isfinite(group.scale) && group.scale > 0 && isfinite(group.zero));
            assert_true(group.scale <= KVS_HALF_MAX || rules[r].meta == KVS_META_BINARY32);
            for (int i = -2; i <= 2; i++) {
                float code = kvs_affine_code(rules[r].rounding, group, (float)i * 32752.0f, levels);
                assert_true(code >= 0 && code <= levels && code == rintf(code));
                assert_true(isfinite(kvs_affine_value(code, group.scale, group.zero)));
            }
        }
    /* One bit: the range 131008 does not fit binary16; the stored scale is the largest that does. */
    assert_same_bits(kvs_affine_fit(published_system, -65504, 65504, 1).scale, 65504.0f);
    assert_same_bits(kvs_affine_fit(published_system, -65504, 65504, 1).divisor, 131008.0f);
    assert_same_bits(kvs_affine_fit(published_simulator, -65504, 65504, 1).scale, 131008.0f);
}

static void subnormal_groups_are_defined(void **state) {
    (void)state;
    float least = 0x1p-24f; /* the least binary16 */
    kvs_affine_group group = kvs_affine_fit(published_kivi, 0, least, 3);
    assert_same_bits(group.scale, 0.0f); /* a third of it is stored as 0 */
    assert_same_bits(kvs_affine_code(KVS_ROUND_HALF_EVEN, group, least, 3), 0);
    group = kvs_affine_fit(published_kivi, 0, 3 * least, 3);
    assert_same_bits(group.scale, least);
    for (int i = 0; i <= 3; i++) {
        float code = kvs_affine_code(KVS_ROUND_HALF_EVEN, group, (float)i * least, 3);
        assert_same_bits(kvs_affine_value(code, group.scale, group.zero), (float)i * least);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floors_stand_where_they_were_published),
        cmocka_unit_test(halves_go_up_or_to_even),
        cmocka_unit_test(codes_are_clamped_after_rounding),
        cmocka_unit_test(the_divisor_is_the_working_or_the_stored_scale),
        cmocka_unit_test(groups_without_a_range_are_defined),
        cmocka_unit_test(zeros_have_one_bit_pattern),
        cmocka_unit_test(the_widest_range_stays_finite),
        cmocka_unit_test(subnormal_groups_are_defined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
