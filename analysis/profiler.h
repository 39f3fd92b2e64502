/* profiler.h: the hardware's counters (counters.h) of kernels that this process launches, read with CUPTI's Range
 * Profiler; and the duration of the same work when nobody looks.
 *
 * libcupti, libnvperf and the driver are loaded at run time; a machine without them runs everything else. Each launch
 * is repeated for every pass that the hardware needs (user replay), its inputs restored by `prepare` before each. The
 * profiler sets the context's L2 fetch granularity to 32 bytes while it is open, and changes no clock, power limit or
 * permission.
 *
 * Cold: a buffer of 4 times the L2 cache is read before each launch, so that nothing of the work is in L2 and nothing
 * in L2 is dirty. After each launch the same is done again, and what it writes back to DRAM is the work's: so the bytes
 * written are dram_write_bytes (while the kernel ran) + dram_write_back_bytes (later, by the flush).
 * Warm: cold, then the same work once. */
#ifndef KVS_ANALYSIS_PROFILER_H
#define KVS_ANALYSIS_PROFILER_H

#include <stddef.h>

#include "analysis/counters.h"
#include "kernels/executor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvs_cache_state { KVS_CACHE_COLD, KVS_CACHE_WARM } kvs_cache_state;
extern const char *const kvs_cache_state_names[]; /* "cold", "warm" */

typedef struct kvs_profiler_settings {
    const kvs_executor *executor; /* open; "cuda", but for tests */
    const kvs_executor_facts *device;
    kvs_counter_set counters; /* 0: all */
    kvs_cache_state cache;
    int timed_runs;     /* unprofiled, 0: 11 */
    const char *cupti;  /* path of libcupti; NULL: $KVSCOPE_CUPTI, or where it usually is */
    const char *driver; /* path of libcuda; NULL: $KVSCOPE_CUDA_DRIVER, or "libcuda.so.1" */
} kvs_profiler_settings;

/* What a report says about how it was measured. */
typedef struct kvs_profiler_facts {
    char chip[32];                  /* "GH100" */
    int cupti_version;              /* CUPTI_API_VERSION of the library, e.g. 130001 */
    int passes;                     /* launches that each measurement takes */
    size_t fetch_granularity_bytes; /* as the driver reports it after it was set to 32 */
    size_t flush_bytes;             /* read before and after each launch */
    kvs_counter_set collected;      /* what the chip has of what was asked for */
    kvs_counter_set missing;        /* the rest */
} kvs_profiler_facts;

typedef struct kvs_measurement {
    double values[KVS_COUNTERS]; /* in the units of kvs_counter_types; NaN: missing, or not asked for */
    double seconds;              /* median of the unprofiled runs, from event to event on the device */
    double seconds_min, seconds_max;
    int timed_runs;
} kvs_measurement;

/* Work to measure: `launch` starts it on the stream it is given; `prepare` (or NULL) first restores what it changes,
 * on the same stream. Their iteration counts launches from 0; each must do the same. */
typedef struct kvs_profiled_work {
    kvs_executor_work *prepare, *launch;
    void *context;
} kvs_profiled_work;

typedef struct kvs_profiler kvs_profiler;

/* Fails with KVS_DEVICE, saying what helps, in a build without CUPTI, without libcupti, without a GPU, without the
 * permission to read counters, on a virtualized or partitioned GPU, while another profiler holds it, and when the chip
 * has none of the counters; with KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_profiler_open(const kvs_profiler_settings *settings, kvs_profiler **profiler,
                                            kvs_error *error);
const kvs_profiler_facts *kvs_profiler_describe(const kvs_profiler *profiler);
/* Times the work, then counts it. `name` is for reports (a range's name: no '/'). Fails as open does, and as the work
 * does. May be called again after a failure of the work. */
KVS_MUST_CHECK kvs_status kvs_profiler_measure(kvs_profiler *profiler, const char *name, const kvs_profiled_work *work,
                                               kvs_measurement *measurement, kvs_error *error);
/* Restores the fetch granularity and releases everything; takes NULL. */
void kvs_profiler_close(kvs_profiler *profiler);

#ifdef __cplusplus
}
#endif
#endif
