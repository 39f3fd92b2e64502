#include "kernels/bit_allocation.h"

#include <string.h>

/* What the next bit of a component takes off the sum. */
static double gain_of(double variance, int width, int max_bits, const double *distortion) {
    return width < max_bits ? variance * (distortion[width] - distortion[width + 1]) : 0.0;
}

void kvs_allocate_bits(int count, const double *variances, int max_bits, const double *distortion, int64_t total,
                       double *gains, uint8_t *widths) {
    memset(widths, 0, (size_t)count);
    for (int i = 0; i < count; i++) gains[i] = gain_of(variances[i], 0, max_bits, distortion);
    /* The distortion is convex, so a component's next bit never gains more than its last one: greedy is optimal. */
    for (int64_t bit = 0; bit < total; bit++) {
        int best = 0;
        for (int i = 1; i < count; i++) best = gains[i] > gains[best] ? i : best;
        if (!(gains[best] > 0.0)) return;
        widths[best]++;
        gains[best] = gain_of(variances[best], widths[best], max_bits, distortion);
    }
}
