/* minifloat.h: binary floating point of 8 and 4 bits, and scales that are powers of two.
 *
 * Formats: OCP 8-bit Floating Point Specification (OFP8 1.0) and OCP Microscaling Formats (MX 1.0). Rounding is to
 * nearest, ties to even; what is beyond the largest value becomes the largest (saturation), so a finite number stays
 * finite. Subnormals are kept. */
#ifndef KVS_KERNELS_MINIFLOAT_H
#define KVS_KERNELS_MINIFLOAT_H

#include <math.h>
#include <stdint.h>

#include "core/half.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_minifloat {
    const char *name;
    int exponent_bits, mantissa_bits, bias;
    float largest;
} kvs_minifloat;

extern const kvs_minifloat kvs_e4m3; /* 8 bits, 448 is the largest, no infinity */
extern const kvs_minifloat kvs_e5m2; /* 8 bits, 57344 is the largest finite */
extern const kvs_minifloat kvs_e2m1; /* 4 bits: 0, 0.5, 1, 1.5, 2, 3, 4, 6 */

/* The nearest value of the format; x is finite. Powers of two scale exactly, so this is one rounding. */
static inline float kvs_minifloat_round(const kvs_minifloat *format, float x) {
    uint32_t binade = kvs_float_bits(x) & 0x7f800000u, lowest = (uint32_t)(128 - format->bias) << 23;
    binade = binade > lowest ? binade : lowest; /* subnormals share the spacing of the lowest binade */
    uint32_t step = (uint32_t)format->mantissa_bits << 23;
    float spacing = kvs_bits_float(binade - step), inverse = kvs_bits_float((254u << 23) - binade + step);
    float rounded = rintf(x * inverse) * spacing;
    rounded = rounded < format->largest ? rounded : format->largest;
    return rounded > -format->largest ? rounded : -format->largest;
}

/* The bits of a value that is one of the format's: sign, exponent, mantissa. */
uint8_t kvs_minifloat_code(const kvs_minifloat *format, float value);

/* The largest power of two that is at most x > 0, and 2^-127 .. 2^127 (e8m0); 0 gives 2^-127. */
float kvs_power_below(float x);

#ifdef __cplusplus
}
#endif
#endif
