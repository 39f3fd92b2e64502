/* half.h: binary16 and bfloat16 as 16-bit words, by integer code of our own, the same on every back end.
 *
 * binary16 is IEEE 754-2008's; bfloat16 is the upper half of a binary32. To 16 bits we round to nearest, ties to
 * even; overflow gives infinity, subnormals are kept, a NaN stays a (quiet) NaN. To binary32 is exact. */
#ifndef KVS_CORE_HALF_H
#define KVS_CORE_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/hd.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVS_HALF_MAX 65504.0f /* the largest finite binary16 */

KVS_HD uint32_t kvs_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

KVS_HD float kvs_bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

KVS_HD float kvs_half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t rest = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t normal = rest + (112u << 23);                                /* rebias the exponent: 127 - 15 */
    uint32_t special = rest | 0x7f800000u;                                /* infinity and NaN */
    uint32_t small = kvs_float_bits(kvs_bits_float((113u << 23) + rest) - /* subnormal: exact subtraction */
                                    kvs_bits_float(113u << 23));
    uint32_t magnitude = rest < (1u << 23) ? small : rest >= (31u << 23) ? special : normal;
    return kvs_bits_float(sign | magnitude);
}

KVS_HD uint16_t kvs_float_to_half(float x) {
    uint32_t bits = kvs_float_bits(x);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t rest = bits & 0x7fffffffu;
    /* Normal results: rebias, then add just under half of the last place, and one more when that place is odd. */
    uint32_t normal = (rest - (112u << 23) + 0xfffu + ((rest >> 13) & 1u)) >> 13;
    /* Subnormal results: adding 0.5 lines the binary16 last place up with the binary32 one and rounds to even. */
    uint32_t small = kvs_float_bits(kvs_bits_float(rest) + 0.5f) - kvs_float_bits(0.5f);
    uint32_t special = rest > 0x7f800000u ? 0x7e00u : 0x7c00u;
    uint32_t half = rest < (113u << 23) ? small : rest >= (143u << 23) ? special : normal;
    return (uint16_t)(sign | half);
}

KVS_HD float kvs_bfloat_to_float(uint16_t bfloat) {
    return kvs_bits_float((uint32_t)bfloat << 16);
}

KVS_HD uint16_t kvs_float_to_bfloat(float x) {
    uint32_t bits = kvs_float_bits(x);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}

/* The value after a trip through binary16. */
KVS_HD float kvs_round_to_half(float x) {
    return kvs_half_to_float(kvs_float_to_half(x));
}

/* Vectorized conversions of count elements; source and destination do not overlap. */
void kvs_halves_to_floats(const uint16_t *halves, float *floats, size_t count);
void kvs_floats_to_halves(const float *floats, uint16_t *halves, size_t count);
void kvs_bfloats_to_floats(const uint16_t *bfloats, float *floats, size_t count);
void kvs_floats_to_bfloats(const float *floats, uint16_t *bfloats, size_t count);

/* Rounds count floats to binary16 and back, into `rounded` (which may be `floats`). Returns the index of the first
 * element that is not finite or overflows binary16, or count if all fit. */
size_t kvs_round_floats_to_half(const float *floats, float *rounded, size_t count);

/* The index of the first value that is infinite or NaN, or count if there is none. */
size_t kvs_first_nonfinite(const float *values, size_t count);

#ifdef __cplusplus
}
#endif
#endif
