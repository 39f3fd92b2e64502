/* exponent.h: e^x and e^x - 1 in binary32, the same steps on the CPU and on a device. */
#ifndef KVS_CORE_EXPONENT_H
#define KVS_CORE_EXPONENT_H

#include <stdint.h>
#include <string.h>

#include "core/hd.h"

/* e^x = 2^n e^r, |r| <= ln(2)/2, with the Taylor polynomial of e^r to r^7 (error below 6e-9). */
typedef struct kvs_exponent {
    float power, n, r, tail; /* 2^n; n; r; e^r - 1 - r */
} kvs_exponent;

#define KVS_EXPONENT_LOW  (-80.0f) /* e^-80 is 1.8e-35: no weight of a softmax, and no subnormal */
#define KVS_EXPONENT_HIGH 60.0f

KVS_HD kvs_exponent kvs_exponent_of(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    kvs_exponent e;
    e.n = (x * 1.44269504088896341f + magic) - magic;
    e.r = (x - e.n * 0.693359375f) + e.n * 2.12194440054690583e-4f;
    float r = e.r;
    float q = 1.0f / 5040.0f;
    q = q * r + 1.0f / 720.0f;
    q = q * r + 1.0f / 120.0f;
    q = q * r + 1.0f / 24.0f;
    q = q * r + 1.0f / 6.0f;
    q = q * r + 0.5f;
    e.tail = q * r * r;
    int32_t bits = (int32_t)((uint32_t)((int32_t)e.n + 127) << 23);
    memcpy(&e.power, &bits, sizeof bits);
    return e;
}

/* e^x, e^x - 1, and e^x - 1 - x: the last without cancellation where |x| is small. */
KVS_HD float kvs_exponent_value(kvs_exponent e) {
    return e.power * (1.0f + (e.r + e.tail));
}

KVS_HD float kvs_exponent_less_one(kvs_exponent e) {
    return e.power * (e.r + e.tail) + (e.power - 1.0f);
}

KVS_HD float kvs_exponent_curve(kvs_exponent e, float x) {
    return e.n == 0.0f ? e.tail : kvs_exponent_less_one(e) - x;
}

#endif
