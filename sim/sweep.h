/* sweep.h: many schemes over many traces, a few at a time, resumable. */
#ifndef KVS_SIM_SWEEP_H
#define KVS_SIM_SWEEP_H

#include "analysis/result.h"
#include "core/status.h"
#include "sim/replay.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_sweep {
    const char *const *traces, *const *specs;
    int traces_count, specs_count;
    const char *layout;  /* NULL: any */
    const char *journal; /* path */
    int restart;         /* forget an older journal */
    kvs_replay_options replay;
} kvs_sweep;

/* Checks every trace and scheme, then replays what the journal does not hold, adding to it. results, whose description
 * is filled, gets the traces and, trace after trace, the results of all schemes; then write them, and remove the
 * journal. KVS_INTERRUPTED: what was finished is in the journal. */
KVS_MUST_CHECK kvs_status kvs_sweep_run(const kvs_sweep *sweep, kvs_results *results, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
