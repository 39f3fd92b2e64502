/* affine.h: the arithmetic of asymmetric uniform quantization: scale, code, dequantized value.
 *
 * The one definition that the CPU, CUDA and the SIMT runtime share; codes and metadata agree to the bit on all of
 * them. Compile it without multiply-add contraction and without fast math. A faster path may reach the same codes
 * otherwise, where tests prove equality. Formulas: Kitty (arXiv 2511.18643) and KIVI (arXiv 2402.02750).
 *
 *     levels = 2^bits - 1
 *     range  = max - min                                    (binary32)
 *     scale  = range / levels, floored                      (binary32, the working scale)
 *     code   = clamp(round((x - min) / divisor), 0, levels) (divisor: the working or the stored scale)
 *     value  = code * stored_scale + stored_min             (two roundings)
 *
 * Defined cases: a group whose divisor is 0 (constant, without a floor) has codes 0 and value = min. A stored scale
 * that overflows binary16 is stored as 65504, so no value is ever infinite or NaN for finite binary16 inputs. */
#ifndef KVS_KERNELS_AFFINE_H
#define KVS_KERNELS_AFFINE_H

#include <math.h>
#include <stdint.h>

#include "core/half.h"
#include "core/hd.h"

typedef enum kvs_rounding { KVS_ROUND_HALF_UP, KVS_ROUND_HALF_EVEN } kvs_rounding;
typedef enum kvs_meta_format { KVS_META_BINARY16, KVS_META_BINARY32 } kvs_meta_format;
typedef enum kvs_divisor { KVS_DIVIDE_BY_WORKING, KVS_DIVIDE_BY_STORED } kvs_divisor;

/* How one group becomes codes. A floor of 0 is none; with both above 0, both apply. */
typedef struct kvs_affine_rule {
    kvs_rounding rounding;
    kvs_meta_format meta; /* how scale and minimum are stored: 16 or 32 bits each */
    kvs_divisor divisor;
    float scale_floor; /* the working scale is at least this (the published system: 1e-6) */
    float range_floor; /* the range is at least this before it is divided (the published simulator: 1e-4) */
} kvs_affine_rule;

/* The two numbers that a group stores, and what its codes are computed with. */
typedef struct kvs_affine_group {
    float scale, zero; /* as stored, read back as binary32 */
    float divisor, minimum;
} kvs_affine_group;

KVS_HD float kvs_affine_levels(int bits) {
    return (float)((1 << bits) - 1);
}

/* As binary16 holds it. A device has instructions that round the same (nearest even, subnormals kept). */
KVS_HD float kvs_affine_stored(float x) {
#ifdef __CUDA_ARCH__
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
#else
    return kvs_round_to_half(x);
#endif
}

KVS_HD kvs_affine_group kvs_affine_fit(kvs_affine_rule rule, float minimum, float maximum, float levels) {
    kvs_affine_group group;
    group.minimum = minimum + 0.0f; /* -0 becomes +0: one bit pattern whatever the order of the minimum */
    float range = (maximum + 0.0f) - group.minimum;
    if (range < rule.range_floor) range = rule.range_floor;
    float scale = range / levels;
    if (scale < rule.scale_floor) scale = rule.scale_floor;
    group.scale = scale;
    group.zero = group.minimum;
    if (rule.meta == KVS_META_BINARY16) {
        float stored = kvs_affine_stored(scale);
        group.scale = stored < KVS_HALF_MAX ? stored : KVS_HALF_MAX;
        group.zero = kvs_affine_stored(group.minimum);
    }
    group.divisor = rule.divisor == KVS_DIVIDE_BY_STORED ? group.scale : scale;
    return group;
}

/* The code, as a whole number in binary32. */
KVS_HD float kvs_affine_code(kvs_rounding rounding, kvs_affine_group group, float x, float levels) {
    float steps = group.divisor > 0.0f ? (x - group.minimum) / group.divisor : 0.0f;
    float code = rounding == KVS_ROUND_HALF_UP ? floorf(steps + 0.5f) : rintf(steps);
    code = code > 0.0f ? code : 0.0f;
    return code < levels ? code : levels;
}

KVS_HD float kvs_affine_value(float code, float scale, float zero) {
    float product = code * scale;
    return product + zero;
}

#endif
