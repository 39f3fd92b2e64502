#include "sim/model/vector.h"

#include <math.h>

#include "core/half.h"
#include "core/simd.h"

enum { LANES = 16 };

/* exp(x), relative error below 2e-7 for x <= 0 and 3e-7 above; 0 below -87. x = n ln 2 + r with |r| <= ln 2 / 2, then
 * the Taylor sum of exp(r) to r^7 (its rest is below 6e-9) and 2^n by the exponent bits. */
static inline float exp_fast(float x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding and taking it away rounds to a whole number */
    float bounded = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = (bounded * 1.44269504f + round) - round;
    float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts, the first exact in 12 bits */
    float sum = 1.0f / 5040;
    sum = sum * r + 1.0f / 720;
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    float value = sum * kvs_bits_float((uint32_t)((int)n + 127) << 23);
    return x < -87.0f ? 0.0f : value;
}

/* The lanes in a fixed tree. */
static inline float lanes_sum(const float *lanes) {
    float part[LANES];
    for (int i = 0; i < LANES; i++) part[i] = lanes[i];
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) part[i] += part[i + n];
    return part[0];
}

KVS_SIMD static float sum_squares(int count, const float *x) {
    float lanes[LANES] = {0};
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] += x[i + j] * x[i + j];
    for (int j = 0; i + j < count; j++) lanes[j] += x[i + j] * x[i + j];
    return lanes_sum(lanes);
}

KVS_SIMD void kvs_rms_norm(int count, const float *x, const float *weight, float epsilon, float *y) {
    float factor = 1.0f / sqrtf(sum_squares(count, x) / (float)count + epsilon);
    for (int i = 0; i < count; i++) y[i] = x[i] * factor * weight[i];
}

KVS_SIMD void kvs_silu_gate(int count, float *gate, const float *up) {
    for (int i = 0; i < count; i++) gate[i] = gate[i] / (1.0f + exp_fast(-gate[i])) * up[i];
}

KVS_SIMD void kvs_add(int count, const float *x, float *y) {
    for (int i = 0; i < count; i++) y[i] += x[i];
}

KVS_SIMD static float largest(int count, const float *x) {
    float lanes[LANES];
    for (int j = 0; j < LANES; j++) lanes[j] = x[0];
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    for (int j = 0; i + j < count; j++) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    float top = lanes[0];
    for (int j = 1; j < LANES; j++) top = lanes[j] > top ? lanes[j] : top;
    return top;
}

KVS_SIMD static float exponentials(int count, float scale, float top, float *row) {
    float lanes[LANES] = {0};
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) {
            float e = exp_fast((row[i + j] - top) * scale);
            row[i + j] = e;
            lanes[j] += e;
        }
    for (int j = 0; i + j < count; j++) {
        row[i + j] = exp_fast((row[i + j] - top) * scale);
        lanes[j] += row[i + j];
    }
    return lanes_sum(lanes);
}

KVS_SIMD static void multiply(int count, float factor, float *row) {
    for (int i = 0; i < count; i++) row[i] *= factor;
}

float kvs_exponentials(int count, float scale, float *row, float *sum) {
    float top = largest(count, row);
    *sum = exponentials(count, scale, top, row);
    return top;
}

void kvs_softmax(int count, float scale, float *row) {
    float sum;
    kvs_exponentials(count, scale, row, &sum);
    multiply(count, 1.0f / sum, row);
}

KVS_SIMD static double sum_exponentials(int count, const float *logits, float top) {
    double lanes[LANES] = {0};
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] += (double)exp_fast(logits[i + j] - top);
    for (int j = 0; i + j < count; j++) lanes[j] += (double)exp_fast(logits[i + j] - top);
    double sum = 0;
    for (int j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

int kvs_logits_top(int count, const float *logits) {
    float top = largest(count, logits);
    int first = 0;
    while (first < count - 1 && logits[first] != top) first++;
    return first;
}

kvs_logit_row kvs_logits_summarize(int count, const float *logits) {
    kvs_logit_row row = {.top = kvs_logits_top(count, logits)};
    float top = logits[row.top];
    row.log_sum = (double)top + log(sum_exponentials(count, logits, top));
    return row;
}

KVS_SIMD static double sum_kl(int count, const float *p_logits, float p_log_sum, const float *q_logits) {
    double lanes[LANES] = {0};
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] += (double)exp_fast(p_logits[i + j] - p_log_sum) * (double)(p_logits[i + j] - q_logits[i + j]);
    for (int j = 0; i + j < count; j++)
        lanes[j] += (double)exp_fast(p_logits[i + j] - p_log_sum) * (double)(p_logits[i + j] - q_logits[i + j]);
    double sum = 0;
    for (int j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

double kvs_logits_kl(int count, const float *p_logits, kvs_logit_row p, const float *q_logits, kvs_logit_row q) {
    double kl = sum_kl(count, p_logits, (float)p.log_sum, q_logits) - p.log_sum + q.log_sum;
    return kl > 0 ? kl : 0;
}
