#include "core/half.h"

#include "core/simd.h"

KVS_SIMD void kvs_halves_to_floats(const uint16_t *restrict halves, float *restrict floats, size_t count) {
    for (size_t i = 0; i < count; i++) floats[i] = kvs_half_to_float(halves[i]);
}

KVS_SIMD void kvs_floats_to_halves(const float *restrict floats, uint16_t *restrict halves, size_t count) {
    for (size_t i = 0; i < count; i++) halves[i] = kvs_float_to_half(floats[i]);
}

KVS_SIMD void kvs_bfloats_to_floats(const uint16_t *restrict bfloats, float *restrict floats, size_t count) {
    for (size_t i = 0; i < count; i++) floats[i] = kvs_bfloat_to_float(bfloats[i]);
}

KVS_SIMD void kvs_floats_to_bfloats(const float *restrict floats, uint16_t *restrict bfloats, size_t count) {
    for (size_t i = 0; i < count; i++) bfloats[i] = kvs_float_to_bfloat(floats[i]);
}

KVS_SIMD size_t kvs_round_floats_to_half(const float *floats, float *rounded, size_t count) {
    uint32_t overflow = 0;
    for (size_t i = 0; i < count; i++) {
        uint16_t half = kvs_float_to_half(floats[i]);
        overflow |= (half & 0x7c00u) == 0x7c00u;
        rounded[i] = kvs_half_to_float(half);
    }
    if (!overflow) return count;
    for (size_t i = 0; i < count; i++)
        if ((kvs_float_to_half(rounded[i]) & 0x7c00u) == 0x7c00u) return i;
    return count;
}

KVS_SIMD size_t kvs_first_nonfinite(const float *values, size_t count) {
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++) bad |= (kvs_float_bits(values[i]) & 0x7f800000u) == 0x7f800000u;
    if (!bad) return count;
    for (size_t i = 0; i < count; i++)
        if ((kvs_float_bits(values[i]) & 0x7f800000u) == 0x7f800000u) return i;
    return count;
}
