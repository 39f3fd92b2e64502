/* channels.h: magnitude and range of the channels of a head, gathered over sequences. */
#ifndef KVS_ANALYSIS_CHANNELS_H
#define KVS_ANALYSIS_CHANNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Arrays are [head_dim]. Tokens are added in their order, so the sums do not depend on who adds them. */
typedef struct kvs_channel_sums {
    int64_t tokens;
    double *magnitude;
    float *low, *high;
} kvs_channel_sums;

/* Measures x [tokens][head_dim] into sums, whatever they held. */
void kvs_channels_measure(const float *x, int64_t tokens, int head_dim, kvs_channel_sums *sums);
/* Adds what one sequence measured to what the ones before it did; sums->tokens 0 is an empty sum. */
void kvs_channels_add(kvs_channel_sums *sums, const kvs_channel_sums *one, int head_dim);
/* Mean |x| and maximum - minimum. */
void kvs_channels_end(const kvs_channel_sums *sums, int head_dim, float *magnitude, float *range);

#ifdef __cplusplus
}
#endif
#endif
