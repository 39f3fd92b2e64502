/* session.h: a range profiler on one CUDA context, from what CUPTI wants first to decoded values. */
#ifndef KVS_ANALYSIS_CUPTI_SESSION_H
#define KVS_ANALYSIS_CUPTI_SESSION_H

#include "analysis/cupti/config.h"

#if defined(KVS_HAVE_CUPTI) && !defined(__cplusplus)

typedef struct kvs_cupti_session {
    const kvs_cupti *cupti;
    CUcontext context;
    char chip[32];
    kvs_cupti_config config;
    CUpti_RangeProfiler_Object *profiler; /* while enabled */
    uint8_t *data;
    size_t data_bytes, max_ranges;
} kvs_cupti_session;

/* Asks whether the context's device may be profiled, what its chip is, and which counters it has. Closed with
 * kvs_cupti_session_close, also after a failure. */
KVS_MUST_CHECK kvs_status kvs_cupti_session_open(kvs_cupti_session *session, const kvs_cupti *cupti, CUcontext context,
                                                 CUdevice device, kvs_counter_set counters, kvs_error *error);
void kvs_cupti_session_close(kvs_cupti_session *session);

/* Takes the counters for at most max_ranges ranges; gives them back. */
KVS_MUST_CHECK kvs_status kvs_cupti_session_enable(kvs_cupti_session *session, size_t max_ranges, kvs_error *error);
void kvs_cupti_session_disable(kvs_cupti_session *session);
/* Empties what was counted, for ranges of this kind and replay. */
KVS_MUST_CHECK kvs_status kvs_cupti_session_set(kvs_cupti_session *session, CUpti_ProfilerRange range,
                                                CUpti_ProfilerReplayMode replay, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_cupti_session_start(kvs_cupti_session *session, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_cupti_session_push(kvs_cupti_session *session, const char *range, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_cupti_session_pop(kvs_cupti_session *session, kvs_error *error);
/* *all: every pass was counted. */
KVS_MUST_CHECK kvs_status kvs_cupti_session_stop(kvs_cupti_session *session, int *all, kvs_error *error);
/* Makes values of what was counted since set; how many ranges. Fails when a range was dropped. */
KVS_MUST_CHECK kvs_status kvs_cupti_session_decode(kvs_cupti_session *session, size_t *ranges, kvs_error *error);
/* Of a range: its name (valid until the next call) and values [KVS_COUNTERS]. */
KVS_MUST_CHECK kvs_status kvs_cupti_session_values(kvs_cupti_session *session, size_t range, const char **name,
                                                   double *values, kvs_error *error);

#endif
#endif
