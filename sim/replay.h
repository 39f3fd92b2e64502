/* replay.h: recorded K, V and queries through quantization schemes: the memory and the error of each.
 *
 * What is computed is in the design ("What a replay computes"); the fields of a result are in analysis/RESULTS.md. */
#ifndef KVS_SIM_REPLAY_H
#define KVS_SIM_REPLAY_H

#include "analysis/result.h"
#include "core/status.h"
#include "sim/backend.h"
#include "traces/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_replay_options {
    const kvs_backend *backend;
    int64_t seed, from_position;
    int64_t at_tokens; /* the length that memory is stated for; 0: the longest sequence */
    int prompt_exact, threads /* 0: one per core */, quiet;
    int cross; /* the sequences' cross attention: for those who open the trace */
} kvs_replay_options;

/* Opens a trace as the options say. *trace is the caller's, closed with kvs_trace_close. */
KVS_MUST_CHECK kvs_status kvs_replay_open_trace(const char *path, const kvs_replay_options *options, kvs_trace **trace,
                                                kvs_error *error);

/* Opens every scheme for a trace, or says what is wrong with the first that does not fit (KVS_USAGE). "{model}" in a
 * scheme stands for the trace's model name: one list then serves traces of several models, each with constants of its
 * own; scheme->spec is still as written. With layout not NULL, a scheme of another layout is refused by name. schemes
 * [count] are the caller's, each closed with kvs_scheme_close; on failure none are left open. */
KVS_MUST_CHECK kvs_status kvs_replay_open_schemes(const char *const *specs, int count, const kvs_trace_header *header,
                                                  const char *layout, kvs_scheme **schemes, kvs_error *error);

/* Replays a trace through schemes: fills results [count], zeroed by the caller and cleared by it also on failure
 * (.trace stays 0). summary, if not NULL and zeroed, gets the trace's description and channel statistics, but no
 * digest. The same bytes out whatever the number of threads, but for the throughput. KVS_INTERRUPTED when the user
 * stopped it (kvs_interrupt_catch); results are then incomplete. A scheme that ranks with queries which the trace
 * lacks has no errors, and a note that says which. */
KVS_MUST_CHECK kvs_status kvs_replay(kvs_trace *trace, const kvs_scheme *const *schemes, int count,
                                     const kvs_replay_options *options, kvs_trace_summary *summary, kvs_result *results,
                                     kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
