/* pass.h: one pass over a trace: every unit once, under several schemes. */
#ifndef KVS_SIM_PASS_H
#define KVS_SIM_PASS_H

#include "sim/backend.h"
#include "traces/trace.h"

typedef struct kvs_pass_job {
    kvs_trace *trace;
    const kvs_backend *backend;
    kvs_pass pass;
    int threads; /* units at a time */
    uint64_t seed;
    int32_t *const *positions; /* of each sequence: the queries to replay, the last of those recorded */
    const int *queries;        /* how many of each sequence */
    int64_t samples, most_of_head;
    kvs_trace_summary *summary; /* gets channel statistics, if not NULL */
    kvs_result *results;        /* [schemes_count]: get errors, heads, percentiles and wall_s */
    struct kvs_progress *progress;
} kvs_pass_job;

KVS_MUST_CHECK kvs_status kvs_pass_run(kvs_pass_job *job, kvs_error *error);

#endif
