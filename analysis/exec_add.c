#include <math.h>

#include "analysis/exec_profile.h"

/* Time on the device is the weight; where it was not counted, launches are. */
void kvs_exec_add(double *values, int64_t launches, const double *more_values, int64_t more) {
    double weight = values[KVS_COUNTER_DURATION], more_weight = more_values[KVS_COUNTER_DURATION];
    if (launches == 0) weight = 0;
    if (!isfinite(weight) || !isfinite(more_weight) || weight + more_weight <= 0) {
        weight = (double)launches;
        more_weight = (double)more;
    }
    for (int i = 0; i < KVS_COUNTERS; i++) {
        double before = launches == 0 ? 0 : values[i];
        values[i] = kvs_counter_types[i].over == KVS_OVER_SUM
                        ? before + more_values[i]
                        : (before * weight + more_values[i] * more_weight) / (weight + more_weight);
    }
}
