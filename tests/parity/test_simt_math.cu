/* test_simt_math.cu: does the host meaning of the arithmetic instructions round as the device does? */
#include "core/random.h"
#include "tests/parity/simt_test.h"

/* A finite binary16 as a whole number of 2^-24. */
static __int128 whole(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    __int128 magnitude = exponent == 0 ? fraction : (__int128)(fraction + 1024) << (exponent - 1);
    return half & 0x8000 ? -magnitude : magnitude;
}

/* a b + c rounded once to nearest even, from whole numbers of 2^-48. Zeros come without their sign. */
static uint16_t fused(uint16_t a, uint16_t b, uint16_t c) {
    __int128 exact = whole(a) * whole(b) + whole(c) * ((__int128)1 << 24);
    unsigned __int128 magnitude = (unsigned __int128)(exact < 0 ? -exact : exact);
    uint16_t sign = exact < 0 ? 0x8000 : 0;
    int places = 24; /* of 2^-48 below the last place of the result */
    while (magnitude >> places >= 2048) places++;
    unsigned __int128 kept = magnitude >> places, rest = magnitude - (kept << places);
    unsigned __int128 half = (unsigned __int128)1 << (places - 1);
    if (rest > half || (rest == half && kept % 2 == 1)) kept++;
    if (kept == 2048) kept = 1024, places++;
    if (kept < 1024) return (uint16_t)(sign | (uint16_t)kept);
    int exponent = places - 24 + 1;
    if (exponent >= 31) return (uint16_t)(sign | 0x7c00);
    return (uint16_t)(sign | exponent << 10 | (uint16_t)(kept - 1024));
}

/* What rounding the sum to binary32 on the way would give. */
static uint16_t rounded_twice(uint16_t a, uint16_t b, uint16_t c) {
    double sum = (double)kvs_half_to_float(a) * kvs_half_to_float(b) + kvs_half_to_float(c);
    return kvs_float_to_half((float)sum);
}

static uint16_t draw(uint64_t key, uint64_t i, int kind) {
    uint32_t bits = (uint32_t)kvs_random_bits(key, i);
    int exponent = kind == 0 ? (int)(bits >> 16 & 31) : kind == 1 ? 14 + (int)(bits >> 16 & 3) : (int)(bits >> 16 & 1);
    if (exponent == 31) exponent = 30;
    uint32_t fraction = bits & 1023;
    if (bits >> 30 == 0) fraction &= 0x300; /* few bits: sums that lie on halves */
    if (bits >> 30 == 1) fraction = 1;
    return (uint16_t)((bits & 0x8000) | (uint32_t)exponent << 10 | fraction);
}

static void test_fma_rounds_once(void **) {
    int differs_from_twice = 0, subnormal = 0, infinite = 0;
    for (int i = 0; i < 1200000; i++) {
        int kind = i % 4; /* exponents: all; all of one size; a product far below c; tiny */
        uint16_t a = draw(1, (uint64_t)i, kind == 3 ? 0 : kind % 2), b = draw(2, (uint64_t)i, kind == 2 ? 2 : kind % 2);
        uint16_t c = draw(3, (uint64_t)i, kind == 3 ? 2 : kind % 2);
        uint32_t pair = kvs_pair_fma((uint32_t)a << 16 | b, (uint32_t)b << 16 | a, (uint32_t)c << 16 | c);
        uint16_t expected = fused(a, b, c), got = (uint16_t)pair;
        assert_int_equal(pair >> 16, got);
        if ((expected & 0x7fff) == 0)
            assert_int_equal(got & 0x7fff, 0);
        else if (got != expected)
            fail_msg("%04x * %04x + %04x is %04x, got %04x", a, b, c, expected, got);
        differs_from_twice += (expected & 0x7fff) != 0 && rounded_twice(a, b, c) != expected;
        subnormal += (expected & 0x7c00) == 0 && (expected & 0x3ff) != 0;
        infinite += (expected & 0x7fff) == 0x7c00;
    }
    print_message("%d of the sums would come out otherwise when rounded twice\n", differs_from_twice);
    assert_true(differs_from_twice > 0);
    assert_true(subnormal > 1000);
    assert_true(infinite > 1000);
}

/* An infinity stays one. */
static void test_fma_of_infinities(void **) {
    assert_int_equal(kvs_pair_fma(0x7c003c00u, 0x3c007c00u, 0x3c003c00u), 0x7c007c00u);
    assert_int_equal(kvs_pair_fma(0x3c003c00u, 0x3c003c00u, 0xfc007c00u), 0xfc007c00u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fma_rounds_once),
        cmocka_unit_test(test_fma_of_infinities),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
