/* bit_allocation.h: how many bits each of several components gets when bits are whole: reverse water-filling as it can
 * be done (Gersho and Gray 1992, section 8.3; Fox 1966). */
#ifndef KVS_KERNELS_BIT_ALLOCATION_H
#define KVS_KERNELS_BIT_ALLOCATION_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* widths [count], each 0 to max_bits, with a sum of `total` at most and the least sum of
 * variances[i] * distortion[widths[i]]; distortion [max_bits + 1] falls and is convex. A bit that gains nothing is not
 * given; ties go to the lower component. gains: [count] doubles of work. */
void kvs_allocate_bits(int count, const double *variances, int max_bits, const double *distortion, int64_t total,
                       double *gains, uint8_t *widths);

#ifdef __cplusplus
}
#endif
#endif
