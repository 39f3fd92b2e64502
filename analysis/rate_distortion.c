#include "analysis/rate_distortion.h"

#include <math.h>

static double rate_at(int count, const double *variances, double level) {
    double bits = 0;
    for (int i = 0; i < count; i++) bits += variances[i] > level ? 0.5 * log2(variances[i] / level) : 0.0;
    return bits;
}

double kvs_rate_distortion(int count, const double *variances, double bits) {
    double most = 0, sum = 0;
    for (int i = 0; i < count; i++) most = fmax(most, variances[i]);
    if (most == 0) return 0;
    /* In log2 of the level: at `most` nothing is spent, and 2 * bits + 1 below it more than bits. */
    double high = log2(most), low = high - 2.0 * bits - 1.0;
    for (int halving = 0; halving < 100; halving++) {
        double middle = 0.5 * (low + high);
        if (rate_at(count, variances, exp2(middle)) > bits)
            low = middle;
        else
            high = middle;
    }
    for (int i = 0; i < count; i++) sum += fmin(variances[i], exp2(high));
    return sum;
}
