/* vector.h: the element-wise parts of a transformer over rows of binary32, vectorized, the same bits on every machine
 * and for any number of threads (sums run over 16 lanes in a fixed order). */
#ifndef KVS_SIM_MODEL_VECTOR_H
#define KVS_SIM_MODEL_VECTOR_H

#ifdef __cplusplus
extern "C" {
#endif

/* y = x / sqrt(mean(x^2) + epsilon) * weight, over one row; y may be x. */
void kvs_rms_norm(int count, const float *x, const float *weight, float epsilon, float *y);

/* gate = silu(gate) * up, with silu(x) = x / (1 + exp(-x)). */
void kvs_silu_gate(int count, float *gate, const float *up);

/* Softmax of scale * row in place, over count elements. */
void kvs_softmax(int count, float scale, float *row);

/* The exponentials of a softmax without its division: row = exp(scale * (row - top)) in place; *sum receives their sum.
 * Returns top, the largest element. */
float kvs_exponentials(int count, float scale, float *row, float *sum);

/* y += x */
void kvs_add(int count, const float *x, float *y);

/* The first largest element. */
int kvs_logits_top(int count, const float *logits);

/* What one row of logits says: its first largest element and the logarithm of the sum of exponentials. */
typedef struct kvs_logit_row {
    int top;
    double log_sum;
} kvs_logit_row;
kvs_logit_row kvs_logits_summarize(int count, const float *logits);

/* KL(p || q) in nats of the distributions that two rows of logits stand for, given their summaries; never below 0. */
double kvs_logits_kl(int count, const float *p_logits, kvs_logit_row p, const float *q_logits, kvs_logit_row q);

#ifdef __cplusplus
}
#endif
#endif
