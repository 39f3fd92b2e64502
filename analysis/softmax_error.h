/* softmax_error.h: one row of attention, as it was and as quantized keys make it.
 *
 * Errors are computed from the differences of the logits, never as the difference of two nearly equal results, so that
 * small ones are as accurate as large ones. With l the logits, p = softmax(l), d the change of the logits,
 * m = sum p d, x = d - m:
 *
 *     p' = p e^x / (1 + G),    G = sum p (e^x - 1),    KL(p || p') = log(1 + G) - sum p x
 *     o' - o = (sum p (e^x - 1) v + sum p e^x (v' - v) - G o) / (1 + G)
 *
 * where sum p x is 0 but for rounding, so G is summed as p (e^x - 1 - x), in which nothing cancels, and the rest. */
#ifndef KVS_ANALYSIS_SOFTMAX_ERROR_H
#define KVS_ANALYSIS_SOFTMAX_ERROR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_TOP = 8 };

/* The positions of the largest logits, larger ones first, ties to the lower position. */
typedef struct kvs_top {
    int count; /* min(KVS_TOP, visible) */
    int32_t positions[KVS_TOP];
} kvs_top;

typedef struct kvs_row_change {
    double mse, kl;              /* of the logits; nats */
    double gain;                 /* G; 0 where weights are differences of probabilities already */
    int shared_top1, shared_top; /* of min(1, visible) and min(KVS_TOP, visible) */
} kvs_row_change;

/* probabilities = softmax(logits), both [visible], and the top of the logits. maxima: scratch [visible / 32 + 1]. */
void kvs_softmax_row(const float *logits, int64_t visible, float *probabilities, float *maxima, kvs_top *top);

/* What the changes [visible] do to that row. Overwrites changes with the weights of v in o' - o, p (e^x - 1), and sets
 * shifted [visible] to those of v' - v, p e^x. */
void kvs_softmax_change(const float *logits, const float *probabilities, const kvs_top *top, int64_t visible,
                        float *changes, float *shifted, float *maxima, kvs_row_change *change);

#ifdef __cplusplus
}
#endif
#endif
