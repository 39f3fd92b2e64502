#include "analysis/softmax_error.h"

#include <math.h>
#include <string.h>

#include "core/exponent.h"
#include "core/simd.h"

enum { BLOCK = 32, FLUSH = 1024 }; /* logits a maximum; binary32 terms a sum before it goes to binary64 */

/* --- the largest logits --------------------------------------------------------------------------------------------
 */

/* The KVS_TOP-th largest of the block maxima: at least KVS_TOP logits are not below it. */
static float top_threshold(const float *maxima, int64_t blocks) {
    float best[KVS_TOP];
    if (blocks < KVS_TOP) return -INFINITY;
    for (int i = 0; i < KVS_TOP; i++) best[i] = -INFINITY;
    for (int64_t b = 0; b < blocks; b++) {
        if (maxima[b] <= best[KVS_TOP - 1]) continue;
        int place = KVS_TOP - 1;
        for (; place > 0 && best[place - 1] < maxima[b]; place--) best[place] = best[place - 1];
        best[place] = maxima[b];
    }
    return best[KVS_TOP - 1];
}

/* The top of logits + changes (NULL: none), given the maxima of its blocks. */
static void find_top(const float *logits, const float *changes, int64_t visible, const float *maxima, kvs_top *top) {
    int64_t blocks = (visible + BLOCK - 1) / BLOCK;
    float threshold = top_threshold(maxima, blocks), best[KVS_TOP];
    top->count = 0;
    for (int64_t b = 0; b < blocks; b++) {
        if (maxima[b] < threshold) continue;
        int64_t end = (b + 1) * BLOCK < visible ? (b + 1) * BLOCK : visible;
        for (int64_t t = b * BLOCK; t < end; t++) {
            float value = changes != NULL ? logits[t] + changes[t] : logits[t];
            if (value < threshold || (top->count == KVS_TOP && value <= best[KVS_TOP - 1])) continue;
            int place = top->count < KVS_TOP ? top->count++ : KVS_TOP - 1;
            for (; place > 0 && best[place - 1] < value; place--) {
                best[place] = best[place - 1];
                top->positions[place] = top->positions[place - 1];
            }
            best[place] = value;
            top->positions[place] = (int32_t)t;
        }
    }
}

static int shared(const kvs_top *a, const kvs_top *b) {
    int count = 0;
    for (int i = 0; i < a->count; i++)
        for (int j = 0; j < b->count; j++) count += a->positions[i] == b->positions[j];
    return count;
}

/* --- the row as it was ---------------------------------------------------------------------------------------------
 */

KVS_SIMD static float block_maxima(const float *logits, int64_t visible, float *maxima) {
    float most = -INFINITY;
    for (int64_t b = 0; b * BLOCK < visible; b++) {
        int64_t end = (b + 1) * BLOCK < visible ? (b + 1) * BLOCK : visible;
        float max = -INFINITY;
#pragma omp simd reduction(max : max)
        for (int64_t t = b * BLOCK; t < end; t++) max = logits[t] > max ? logits[t] : max;
        maxima[b] = max;
        most = max > most ? max : most;
    }
    return most;
}

KVS_SIMD static double exponentials(const float *logits, int64_t visible, float max, float *probabilities) {
    double total = 0;
    for (int64_t start = 0; start < visible; start += FLUSH) {
        int64_t end = start + FLUSH < visible ? start + FLUSH : visible;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t t = start; t < end; t++) {
            float x = logits[t] - max;
            x = x > KVS_EXPONENT_LOW ? x : KVS_EXPONENT_LOW;
            float value = kvs_exponent_value(kvs_exponent_of(x));
            probabilities[t] = value;
            sum += value;
        }
        total += (double)sum;
    }
    return total;
}

KVS_SIMD static void multiply(float *values, int64_t count, float factor) {
    for (int64_t t = 0; t < count; t++) values[t] *= factor;
}

void kvs_softmax_row(const float *logits, int64_t visible, float *probabilities, float *maxima, kvs_top *top) {
    float max = block_maxima(logits, visible, maxima);
    find_top(logits, NULL, visible, maxima, top);
    double sum = exponentials(logits, visible, max, probabilities);
    multiply(probabilities, visible, (float)(1.0 / sum));
}

/* --- the row as it becomes -----------------------------------------------------------------------------------------
 */

typedef struct moments {
    double mean, squares; /* sum p d, sum d^2 */
    float most;           /* max d */
} moments;

KVS_SIMD static moments measure(const float *logits, const float *p, const float *d, int64_t visible, float *maxima) {
    moments m = {0, 0, -INFINITY};
    float most = -INFINITY;
    for (int64_t b = 0; b * BLOCK < visible; b++) {
        int64_t end = (b + 1) * BLOCK < visible ? (b + 1) * BLOCK : visible;
        float max = -INFINITY, mean = 0, squares = 0;
#pragma omp simd reduction(max : max, most) reduction(+ : mean, squares)
        for (int64_t t = b * BLOCK; t < end; t++) {
            float value = logits[t] + d[t];
            max = value > max ? value : max;
            most = d[t] > most ? d[t] : most;
            mean += p[t] * d[t];
            squares += d[t] * d[t];
        }
        maxima[b] = max;
        m.mean += (double)mean;
        m.squares += (double)squares;
    }
    m.most = most;
    return m;
}

/* d becomes p (e^x - 1), shifted p e^x. *curve = sum p (e^x - 1 - x); *tilt = sum p x, what rounding the mean to
 * binary32 left of it. */
KVS_SIMD static void shift(const float *p, float *d, float *shifted, int64_t visible, float mean, double *curve,
                           double *tilt) {
    *curve = *tilt = 0;
    for (int64_t start = 0; start < visible; start += FLUSH) {
        int64_t end = start + FLUSH < visible ? start + FLUSH : visible;
        float curves = 0, tilts = 0;
#pragma omp simd reduction(+ : curves, tilts)
        for (int64_t t = start; t < end; t++) {
            float x = d[t] - mean;
            /* the curve goes on falling with x itself */
            kvs_exponent e = kvs_exponent_of(x > KVS_EXPONENT_LOW ? x : KVS_EXPONENT_LOW);
            curves += p[t] * kvs_exponent_curve(e, x);
            tilts += p[t] * x;
            d[t] = p[t] * kvs_exponent_less_one(e);
            shifted[t] = p[t] * kvs_exponent_value(e); /* not d + p: e^x may be far below 1 */
        }
        *curve += (double)curves;
        *tilt += (double)tilts;
    }
}

/* The same in binary64 without the factorization, where a logit rises so far that e^x or what p lost would not do.
 * d becomes p' - p, shifted p', and G is 0. */
static double recompute(const float *logits, float *d, float *shifted, int64_t visible) {
    double before = -INFINITY, after = -INFINITY, sum_before = 0, sum_after = 0, kl = 0;
    for (int64_t t = 0; t < visible; t++) {
        before = fmax(before, (double)logits[t]);
        after = fmax(after, (double)logits[t] + (double)d[t]);
    }
    for (int64_t t = 0; t < visible; t++) {
        sum_before += exp((double)logits[t] - before);
        sum_after += exp((double)logits[t] + (double)d[t] - after);
    }
    before += log(sum_before);
    after += log(sum_after);
    for (int64_t t = 0; t < visible; t++) {
        double p = exp((double)logits[t] - before), q = exp((double)logits[t] + (double)d[t] - after);
        kl += p * (after - before - (double)d[t]);
        d[t] = (float)(q - p);
        shifted[t] = (float)q;
    }
    return kl;
}

void kvs_softmax_change(const float *logits, const float *probabilities, const kvs_top *top, int64_t visible,
                        float *changes, float *shifted, float *maxima, kvs_row_change *change) {
    moments m = measure(logits, probabilities, changes, visible, maxima);
    kvs_top now = {0};
    find_top(logits, changes, visible, maxima, &now);
    change->shared_top1 = now.positions[0] == top->positions[0];
    change->shared_top = shared(&now, top);
    change->mse = m.squares / (double)visible;
    if ((double)m.most - m.mean > (double)KVS_EXPONENT_HIGH) {
        change->gain = 0;
        change->kl = recompute(logits, changes, shifted, visible);
    } else {
        double curve, tilt;
        shift(probabilities, changes, shifted, visible, (float)m.mean, &curve, &tilt);
        change->gain = curve + tilt;
        change->kl = log1p(change->gain) - tilt;
        if (change->kl < 0) change->kl = 0;
    }
}
