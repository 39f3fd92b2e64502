#include "kernels/minifloat.h"

const kvs_minifloat kvs_e4m3 = {"e4m3", 4, 3, 7, 448.0f};
const kvs_minifloat kvs_e5m2 = {"e5m2", 5, 2, 15, 57344.0f};
const kvs_minifloat kvs_e2m1 = {"e2m1", 2, 1, 1, 6.0f};

uint8_t kvs_minifloat_code(const kvs_minifloat *format, float value) {
    int width = format->exponent_bits + format->mantissa_bits, exponent;
    uint32_t sign = kvs_float_bits(value) >> 31 << width;
    float magnitude = fabsf(value), normal = ldexpf(1.0f, 1 - format->bias);
    if (magnitude < normal)
        return (uint8_t)(sign | (uint32_t)ldexpf(magnitude, format->bias - 1 + format->mantissa_bits));
    float fraction = frexpf(magnitude, &exponent); /* in [0.5, 1) */
    uint32_t mantissa = (uint32_t)ldexpf(2.0f * fraction - 1.0f, format->mantissa_bits);
    return (uint8_t)(sign | (uint32_t)(exponent - 1 + format->bias) << format->mantissa_bits | mantissa);
}

float kvs_power_below(float x) {
    int exponent;
    if (x < 0x1p-126f) return 0x1p-127f;
    frexpf(x, &exponent);
    return ldexpf(1.0f, exponent - 1);
}
