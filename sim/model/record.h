/* record.h: what attention takes in, recorded from a model into a trace (format version 1). */
#ifndef KVS_SIM_MODEL_RECORD_H
#define KVS_SIM_MODEL_RECORD_H

#include <stdint.h>

#include "core/status.h"
#include "sim/model/model.h"
#include "traces/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which queries of a sequence of T tokens are recorded. */
typedef enum kvs_query_choice {
    KVS_QUERIES_SPREAD, /* N evenly from position T / 32 to the last, both among them */
    KVS_QUERIES_LAST,   /* the last N */
    KVS_QUERIES_ALL,
} kvs_query_choice;

typedef struct kvs_record_options {
    const int32_t *ids; /* [ids_count], cut into sequences of window_tokens; a rest is left out */
    int64_t ids_count;
    int window_tokens, sequences; /* sequences 0: as many as there are tokens for */
    int generate;                 /* greedy tokens behind each window, fewer where the model ends its text */
    kvs_query_choice query_choice;
    int queries;       /* N; more than there are positions: all of them */
    const int *layers; /* [layers_count], ascending; the trace numbers them from 0 */
    int layers_count;  /* 0: all */
    int before_rope;
    kvs_trace_options trace;
    const char *license;
    int quiet;
} kvs_record_options;

/* Runs each window and writes K, V and the chosen queries as they are computed, one layer of one sequence
 * in memory at a time. Generated tokens come after the sequence's num_prompt_tokens; the rows recorded for them are
 * those of one pass over the whole sequence. *sequences is how many were written. A model on a device gives what its
 * attention takes in, binary16; KVS_USAGE for before_rope there. */
KVS_MUST_CHECK kvs_status kvs_record(const kvs_model *model, const char *path, const kvs_record_options *options,
                                     int *sequences, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
