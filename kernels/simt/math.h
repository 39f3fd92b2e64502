/* math.h: arithmetic that has an instruction of its own on a device: pairs of binary16, exponentials, byte selection.
 *
 * A pair is two binary16 in one 32-bit word, the first in the low half. On the host the same results come from
 * core/half.h; exp2 is approximate on a device (2 ulp). Included by simt.h after the wrappers. */
#ifndef KVS_KERNELS_SIMT_MATH_H
#define KVS_KERNELS_SIMT_MATH_H

#include "core/half.h"

#ifdef __CUDACC__

#include <cuda_fp16.h>

KVS_DEVICE __half2 kvs_as_half2(uint32_t pair) {
    return kvs_bit_cast<__half2>(pair);
}

KVS_DEVICE uint32_t kvs_pair_min(uint32_t a, uint32_t b) {
    return kvs_bit_cast<uint32_t>(__hmin2(kvs_as_half2(a), kvs_as_half2(b)));
}

KVS_DEVICE uint32_t kvs_pair_max(uint32_t a, uint32_t b) {
    return kvs_bit_cast<uint32_t>(__hmax2(kvs_as_half2(a), kvs_as_half2(b)));
}

/* Of the halves as unsigned numbers. */
KVS_DEVICE uint32_t kvs_pair_min_unsigned(uint32_t a, uint32_t b) {
    return __vminu2(a, b);
}

KVS_DEVICE uint32_t kvs_pair_mul(uint32_t a, uint32_t b) {
    return kvs_bit_cast<uint32_t>(__hmul2_rn(kvs_as_half2(a), kvs_as_half2(b)));
}

KVS_DEVICE uint32_t kvs_pair_fma(uint32_t a, uint32_t b, uint32_t c) {
    return kvs_bit_cast<uint32_t>(__hfma2(kvs_as_half2(a), kvs_as_half2(b), kvs_as_half2(c)));
}

/* Rounds to nearest even. */
KVS_DEVICE uint32_t kvs_pair_of(float low, float high) {
    return kvs_bit_cast<uint32_t>(__floats2half2_rn(low, high));
}

KVS_DEVICE float kvs_pair_low(uint32_t pair) {
    return __low2float(kvs_as_half2(pair));
}

KVS_DEVICE float kvs_pair_high(uint32_t pair) {
    return __high2float(kvs_as_half2(pair));
}

KVS_DEVICE float kvs_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Within 1 ulp, for normal x. */
KVS_DEVICE float kvs_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

KVS_DEVICE float kvs_fma(float a, float b, float c) {
    return __fmaf_rn(a, b, c);
}

KVS_DEVICE float kvs_sqrt(float x) {
    return __fsqrt_rn(x);
}

KVS_DEVICE uint32_t kvs_byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
    return __byte_perm(a, b, selector);
}

KVS_DEVICE int kvs_popcount(uint32_t x) {
    return __popc(x);
}

/* Lane 4g + q holds row g, columns 2q and 2q + 1 of an 8 x 8 matrix of 16-bit elements; gets the same of the transpose.
 */
KVS_DEVICE uint32_t kvs_movmatrix_trans(uint32_t pair) {
    uint32_t transposed;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(pair));
    return transposed;
}

#else

KVS_DEVICE float kvs_pair_low(uint32_t pair) {
    return kvs_half_to_float((uint16_t)pair);
}

KVS_DEVICE float kvs_pair_high(uint32_t pair) {
    return kvs_half_to_float((uint16_t)(pair >> 16));
}

KVS_DEVICE uint32_t kvs_pair_of(float low, float high) {
    return (uint32_t)kvs_float_to_half(low) | (uint32_t)kvs_float_to_half(high) << 16;
}

KVS_DEVICE uint32_t kvs_pair_min(uint32_t a, uint32_t b) {
    float low = kvs_pair_low(a), low_b = kvs_pair_low(b), high = kvs_pair_high(a), high_b = kvs_pair_high(b);
    return kvs_pair_of(low_b < low ? low_b : low, high_b < high ? high_b : high);
}

KVS_DEVICE uint32_t kvs_pair_max(uint32_t a, uint32_t b) {
    float low = kvs_pair_low(a), low_b = kvs_pair_low(b), high = kvs_pair_high(a), high_b = kvs_pair_high(b);
    return kvs_pair_of(low_b > low ? low_b : low, high_b > high ? high_b : high);
}

KVS_DEVICE uint32_t kvs_pair_min_unsigned(uint32_t a, uint32_t b) {
    uint32_t low = (a & 0xffffu) < (b & 0xffffu) ? a & 0xffffu : b & 0xffffu;
    return low | (a >> 16 < b >> 16 ? a & 0xffff0000u : b & 0xffff0000u);
}

KVS_DEVICE uint32_t kvs_pair_mul(uint32_t a, uint32_t b) {
    return kvs_pair_of(kvs_pair_low(a) * kvs_pair_low(b), kvs_pair_high(a) * kvs_pair_high(b));
}

/* a b + c of binary16 values rounded to odd in binary32: toward zero, and to an odd last place where that is not exact,
 * so that rounding to binary16 afterwards rounds the exact value once. The product is exact in binary64; `error` is
 * what the sum there lost (Knuth). */
KVS_DEVICE float kvs_fma_to_odd(float a, float b, float c) {
    double product = (double)a * b, sum = product + c;
    double part = sum - product, error = (product - (sum - part)) + (c - part);
    float rounded = (float)sum;
    if (!__builtin_isfinite(rounded) || ((double)rounded == sum && error == 0.0)) return rounded;
    double rest = sum - rounded; /* exact */
    if (rest == 0.0) rest = error;
    uint32_t bits = kvs_float_bits(rounded);
    if ((rest < 0.0) != (rounded < 0.0f)) bits--; /* it was rounded away from zero */
    return kvs_bits_float(bits | 1u);
}

KVS_DEVICE uint32_t kvs_pair_fma(uint32_t a, uint32_t b, uint32_t c) {
    return kvs_pair_of(kvs_fma_to_odd(kvs_pair_low(a), kvs_pair_low(b), kvs_pair_low(c)),
                       kvs_fma_to_odd(kvs_pair_high(a), kvs_pair_high(b), kvs_pair_high(c)));
}

KVS_DEVICE float kvs_exp2(float x) {
    return __builtin_exp2f(x);
}

KVS_DEVICE float kvs_reciprocal(float x) {
    return 1.0f / x;
}

KVS_DEVICE float kvs_fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}

KVS_DEVICE float kvs_sqrt(float x) {
    return __builtin_sqrtf(x);
}

KVS_DEVICE uint32_t kvs_byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) result |= (uint32_t)(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return result;
}

KVS_DEVICE int kvs_popcount(uint32_t x) {
    return __builtin_popcount(x);
}

KVS_DEVICE uint32_t kvs_movmatrix_trans(uint32_t pair) {
    int lane = (int)(threadIdx.x % 32), row = lane / 4, column = lane % 4 * 2;
    uint32_t first = kvs_shfl(pair, column * 4 + row / 2);
    uint32_t second = kvs_shfl(pair, (column + 1) * 4 + row / 2);
    return kvs_byte_perm(first, second, row % 2 ? 0x7632 : 0x5410);
}

#endif

#endif
