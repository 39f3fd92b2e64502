#include "analysis/channels.h"

#include <math.h>
#include <string.h>

#include "core/simd.h"

KVS_SIMD static void add_token(const float *restrict x, int head_dim, double *restrict magnitude, float *restrict low,
                               float *restrict high) {
    for (int d = 0; d < head_dim; d++) {
        magnitude[d] += (double)fabsf(x[d]);
        low[d] = x[d] < low[d] ? x[d] : low[d];
        high[d] = x[d] > high[d] ? x[d] : high[d];
    }
}

void kvs_channels_measure(const float *x, int64_t tokens, int head_dim, kvs_channel_sums *sums) {
    size_t bytes = (size_t)head_dim * sizeof *x;
    sums->tokens = tokens;
    memset(sums->magnitude, 0, (size_t)head_dim * sizeof *sums->magnitude);
    memcpy(sums->low, x, bytes);
    memcpy(sums->high, x, bytes);
    for (int64_t t = 0; t < tokens; t++) add_token(x + t * head_dim, head_dim, sums->magnitude, sums->low, sums->high);
}

void kvs_channels_add(kvs_channel_sums *sums, const kvs_channel_sums *one, int head_dim) {
    for (int d = 0; d < head_dim; d++) {
        int first = sums->tokens == 0;
        sums->magnitude[d] = (first ? 0 : sums->magnitude[d]) + one->magnitude[d];
        sums->low[d] = first || one->low[d] < sums->low[d] ? one->low[d] : sums->low[d];
        sums->high[d] = first || one->high[d] > sums->high[d] ? one->high[d] : sums->high[d];
    }
    sums->tokens += one->tokens;
}

void kvs_channels_end(const kvs_channel_sums *sums, int head_dim, float *magnitude, float *range) {
    for (int d = 0; d < head_dim; d++) {
        magnitude[d] = (float)(sums->magnitude[d] / (double)sums->tokens);
        range[d] = sums->high[d] - sums->low[d];
    }
}
