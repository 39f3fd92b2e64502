/* profile.h: profiles kernels over layouts: what the transaction model predicts, and what a measurer counts. */
#ifndef KVS_SIM_PROFILE_H
#define KVS_SIM_PROFILE_H

#include "analysis/profile.h"
#include "analysis/profiler.h"
#include "analysis/workload.h"

/* What is profiled. Lists end with NULL; `pages` 0: 4, or as many as a trace has if these are fewer. */
typedef struct kvs_profile_request {
    const kvs_workload_kernel *const *kernels;
    const kvs_layout *const *layouts;
    const char *trace;        /* NULL: generated pages of the shape below */
    kvs_workload_input input; /* without elements; of a trace, its model's heads and head_dim are taken */
    double boost;             /* share of the channels that are boosted */
    int64_t sample_blocks;
    int quiet;
    kvs_cache_state cache;
} kvs_profile_request;

/* The default shape: 8 KV heads, 32 query heads, head_dim 128, pages of 128 tokens, 2 bits and 4 boosted. */
extern const kvs_workload_input kvs_profile_input;

/* The elements of a request: of its trace, or generated; *input is the caller's, freed with kvs_workload_input_clear.
 * Sequence s of the batch is layer s % layers of sequence s / layers of the trace. KVS_USAGE when the trace is shorter
 * than what is asked for; KVS_INPUT when it cannot be read. */
KVS_MUST_CHECK kvs_status kvs_profile_load(const kvs_profile_request *request, kvs_workload_input *input,
                                           kvs_error *error);

/* Fills *profile, which the caller clears also on failure, and evaluates it: predicted of every kernel with every
 * layout on the host; measured too where `measured` is not 0, on the CUDA device with CUPTI. A kernel that refuses a
 * layout has a row that says so. Fails with KVS_DEVICE when measuring is not possible (before anything is predicted).
 */
KVS_MUST_CHECK kvs_status kvs_profile_run(const kvs_profile_request *request, int measured, kvs_profile *profile,
                                          kvs_error *error);

/* Predicts the work that an earlier profile, read from `path`, measured, and holds it against what that one measured.
 * Kernels, layouts and, unless 0, sample_blocks are the request's; the rest is the file's (a trace is read from where
 * it was, or from request->trace). Fails as kvs_profile_run and kvs_profile_take_measured do, and with KVS_INPUT when
 * the file holds no measurement or the trace is another. */
KVS_MUST_CHECK kvs_status kvs_profile_compare(const kvs_profile_request *request, const kvs_profile *from,
                                              const char *path, kvs_profile *profile, kvs_error *error);

#endif
