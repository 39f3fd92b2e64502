#include "analysis/profiler.h"

const char *const kvs_cache_state_names[] = {"cold", "warm"};

#ifndef KVS_HAVE_CUPTI /* else analysis/cupti/ has them */

kvs_status kvs_profiler_open(const kvs_profiler_settings *settings, kvs_profiler **profiler, kvs_error *error) {
    (void)settings;
    *profiler = NULL;
    return kvs_fail(error, KVS_DEVICE, "cupti", NULL,
                    "this build has no CUPTI; build it where cupti_range_profiler.h of CUDA 13 is");
}

const kvs_profiler_facts *kvs_profiler_describe(const kvs_profiler *profiler) {
    (void)profiler;
    return NULL;
}

kvs_status kvs_profiler_measure(kvs_profiler *profiler, const char *name, const kvs_profiled_work *work,
                                kvs_measurement *measurement, kvs_error *error) {
    (void)profiler, (void)work, (void)measurement;
    return kvs_fail(error, KVS_DEVICE, "cupti", name, "this build has no CUPTI");
}

void kvs_profiler_close(kvs_profiler *profiler) {
    (void)profiler;
}

#endif
