/* distribution.h: mean, median, 99th percentile and maximum of many samples that are 0 or above.
 *
 * Up to KVS_EXACT_SAMPLES samples are kept and the percentiles are exact, with linear interpolation between order
 * statistics (rank q * (n - 1), as NumPy's default). Above, a histogram counts them in bins that keep a binary32's
 * exponent and 9 bits of its fraction: each percentile is within 0.1 % of the exact one. Results do not depend on how
 * the samples were dealt out over calls, only on their order, and the percentiles not even on that. */
#ifndef KVS_ANALYSIS_DISTRIBUTION_H
#define KVS_ANALYSIS_DISTRIBUTION_H

#include <stddef.h>
#include <stdint.h>

#include "analysis/result.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVS_EXACT_SAMPLES ((int64_t)1 << 22)

typedef struct kvs_distribution kvs_distribution;

/* For at most `most` samples when exact. *distribution is the caller's, freed with kvs_distribution_close. */
KVS_MUST_CHECK kvs_status kvs_distribution_open(int64_t most, int exact, kvs_distribution **distribution,
                                                kvs_error *error);
void kvs_distribution_close(kvs_distribution *distribution);

/* Bytes that an exact one of that many samples takes, or a histogram typically. */
int64_t kvs_distribution_bytes(int64_t most, int exact);

/* Adds samples: finite, 0 or above. KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_distribution_add(kvs_distribution *distribution, const float *samples, size_t count,
                                               kvs_error *error);
/* NaN throughout when there are no samples. */
kvs_statistic kvs_distribution_statistic(kvs_distribution *distribution);
/* Forgets the samples. */
void kvs_distribution_clear(kvs_distribution *distribution);

#ifdef __cplusplus
}
#endif
#endif
