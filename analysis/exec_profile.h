/* exec_profile.h: the counters of another program's kernels, whatever launches them (Triton, PyTorch, a CUDA program).
 *
 * The program is started with CUDA_INJECTION64_PATH naming libkvscope_inject.so, which the driver loads into each of
 * its processes that uses CUDA. That library (analysis/cupti/inject.c) has CUPTI repeat a kernel launch for each pass
 * that the hardware needs, saving and restoring memory in between, adds the counts up by kernel, and leaves them in a
 * file in a private folder, which is read here once the program has ended. The caches are as the program and the replay
 * left them. A counted launch takes about a quarter of a second, so of each kernel only the first few are counted.
 * Kernels of CUDA graphs are not: CUPTI does not say which of them a count belongs to. */
#ifndef KVS_ANALYSIS_EXEC_PROFILE_H
#define KVS_ANALYSIS_EXEC_PROFILE_H

#include <stdint.h>

#include "analysis/counters.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One kernel. */
typedef struct kvs_exec_kernel {
    char *name;                /* as the source has it, where it can be told from the symbol */
    int64_t launches, counted; /* of all its launches, how many were counted */
    /* Over the counted launches: summed, or the mean weighted by profiled duration, as kvs_counter_types says; NaN. */
    double values[KVS_COUNTERS];
} kvs_exec_kernel;

typedef struct kvs_exec_profile {
    int exit_status; /* the program's; 128 + the signal's number where one ended it */
    int processes;   /* that used CUDA */
    int unfinished;  /* of these, how many ended without telling the end of their counts (_exit, a signal) */
    char chip[32];
    int cupti_version, passes;
    kvs_counter_set collected, missing;
    kvs_exec_kernel *kernels; /* by time on the device, the longest first; then by name */
    int count;
    int64_t launches, graph_launches; /* of kernels, of all processes; of graphs */
} kvs_exec_profile;

typedef struct kvs_exec_settings {
    char *const *argv;        /* the program and its arguments, NULL at the end */
    kvs_counter_set counters; /* 0: all; dram_write_back_bytes is never among them */
    int64_t limit;            /* launches of a kernel that are counted; 0: all */
    const char *inject;       /* path of the library; NULL: $KVSCOPE_INJECT, or beside this program or in ../lib */
} kvs_exec_settings;

/* Runs the program to its end and reads what was counted. Fails with KVS_USAGE when the program cannot be started, with
 * KVS_DEVICE when it ran but the counters could not be read (the remedy is in the error), with KVS_INPUT when it used
 * no CUDA or launched no kernel. profile->exit_status is the program's in each of these but the first (there 0). A
 * program that fails after some launches is no failure here: its exit_status says it. Cleared with
 * kvs_exec_profile_clear, also after a failure. */
KVS_MUST_CHECK kvs_status kvs_exec_profile_run(const kvs_exec_settings *settings, kvs_exec_profile *profile,
                                               kvs_error *error);
void kvs_exec_profile_clear(kvs_exec_profile *profile);

/* --- what the injected library and this share ----------------------------------------------------------------------
 */

/* Of the environment: the folder, the set of counters in hexadecimal, and the limit. */
#define KVS_EXEC_FOLDER   "KVSCOPE_PROFILE_FOLDER"
#define KVS_EXEC_COUNTERS "KVSCOPE_PROFILE_COUNTERS"
#define KVS_EXEC_LIMIT    "KVSCOPE_PROFILE_LAUNCHES"
/* A file FOLDER/PID a process, lines of fields separated by tabs:
 *   kvscope-exec 1
 *   state     started | ended
 *   machine   CHIP CUPTI_VERSION PASSES COLLECTED MISSING
 *   error     FILE OBJECT RULE
 *   graphs    LAUNCHES
 *   kernel    LAUNCHES COUNTED NAME VALUE...   (KVS_COUNTERS of them, as %a; nan) */
#define KVS_EXEC_HEAD "kvscope-exec\t1"

/* Adds what `more` launches of a kernel counted (values as above) to what `launches` did. */
void kvs_exec_add(double *values, int64_t launches, const double *more_values, int64_t more);

#ifdef __cplusplus
}
#endif
#endif
