/* tally.h: the errors of one scheme, gathered unit by unit into statistics per head and over all.
 *
 * A unit is one (sequence, layer, KV head). Units are added head by head (layer by layer, all sequences of a head in
 * order), so the sums are the same whatever computed them in whatever order. */
#ifndef KVS_ANALYSIS_TALLY_H
#define KVS_ANALYSIS_TALLY_H

#include <stdint.h>

#include "analysis/result.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of one of K and V: squares summed over the elements that are stored quantized. */
typedef struct kvs_stored_error {
    int64_t elements;
    double error, energy;
} kvs_stored_error;

/* What one unit found. Arrays are [query heads of the group][positions]. */
typedef struct kvs_unit_errors {
    float *rel_l2, *logit_mse, *attention_kl; /* of each sample */
    float *top1, *top8;                       /* agreement of each sample, 0 to 1 */
    double *output_error, *output_energy;     /* |o' - o|^2 and |o|^2 of each sample */
    kvs_stored_error key, value;
    double seconds; /* that the unit took for this scheme alone */
} kvs_unit_errors;

/* Arrays for `samples`; the memory is the caller's, freed with kvs_unit_errors_free. */
KVS_MUST_CHECK kvs_status kvs_unit_errors_alloc(int64_t samples, kvs_unit_errors *errors, kvs_error *error);
void kvs_unit_errors_free(kvs_unit_errors *errors);

typedef struct kvs_tally kvs_tally;

/* For samples in all, most_of_head at most in one head. *tally is the caller's, freed with kvs_tally_close. */
KVS_MUST_CHECK kvs_status kvs_tally_open(int64_t samples, int64_t most_of_head, kvs_tally **tally, kvs_error *error);
void kvs_tally_close(kvs_tally *tally);
int64_t kvs_tally_bytes(int64_t samples, int64_t most_of_head);
/* "exact" or "histogram". */
const char *kvs_tally_percentiles(const kvs_tally *tally);

KVS_MUST_CHECK kvs_status kvs_tally_add(kvs_tally *tally, const kvs_unit_errors *unit, int64_t samples,
                                        kvs_error *error);
/* Closes a head: fills its errors and starts the next one. */
void kvs_tally_end_head(kvs_tally *tally, kvs_errors *head);
/* The errors over all heads that were closed. */
void kvs_tally_end(kvs_tally *tally, kvs_errors *errors);

#ifdef __cplusplus
}
#endif
#endif
