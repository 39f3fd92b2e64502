/* timeline.h: the engine model beside a recorded run of a real engine.
 *
 * The recording is a table of moments: t (s), running, waiting, kv_cache_pct = 100 * (1 - free / (blocks - 1)). Where
 * the requests carry recorded moments, arrival, admission and the end of steps are taken from them, so that what is
 * judged is the allocator (and preemption, which the moments do not show): a request may be admitted from its
 * scheduled_ts on, a step that completes a prompt ends at its first_token_ts, other steps are as long as brings the
 * running requests to their ends, and a request leaves at its last_token_ts. Otherwise the clock is the serving
 * model's. */
#ifndef KVS_SIM_TIMELINE_H
#define KVS_SIM_TIMELINE_H

#include "sim/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_timeline_row {
    double t_s, running, waiting, kv_cache_pct;
} kvs_timeline_row;

typedef struct kvs_timeline {
    int64_t count;
    kvs_timeline_row *rows; /* ascending t_s */
} kvs_timeline;

/* CSV with a header; the four columns are found by name. Errors name the line. */
KVS_MUST_CHECK kvs_status kvs_timeline_load(const char *path, kvs_timeline *timeline, kvs_error *error);
void kvs_timeline_clear(kvs_timeline *timeline);

typedef struct kvs_deviation {
    double mean_abs, max_abs, max_at_s;
} kvs_deviation;

typedef struct kvs_timeline_result {
    double seconds; /* of the timeline */
    int64_t moments, preemptions, steps;
    int recorded_timing;
    kvs_deviation kv_cache_pct, running, waiting;
    kvs_timeline_row *model; /* [moments]: what the model says at the same moments; the caller's to free */
} kvs_timeline_result;

/* offset_s: from the timeline's 0 to the first arrival. clock is used where the requests have no moments. */
KVS_MUST_CHECK kvs_status kvs_timeline_verify(const kvs_timeline *timeline, double offset_s,
                                              const kvs_requests *requests, kvs_allocator *allocator,
                                              kvs_engine_options options, kvs_clock clock, kvs_timeline_result *result,
                                              kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
