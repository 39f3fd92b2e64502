/* engine_internal.h: the engine's state, shared by scheduler.c and engine.c. */
#ifndef KVS_SIM_ENGINE_INTERNAL_H
#define KVS_SIM_ENGINE_INTERNAL_H

#include "sim/engine.h"

struct kvs_engine {
    const kvs_requests *requests;
    kvs_allocator *allocator;
    kvs_engine_options options;
    kvs_engine_sequence *running; /* in the order of their admission */
    int64_t running_count;
    kvs_engine_sequence *preempted; /* a stack: the last is the front of the queue */
    int64_t preempted_count, preempted_capacity;
    int64_t arrived, admitted; /* requests admitted .. arrived-1 wait for the first time */
    int64_t steps, completed, skipped, preemptions, recomputed_tokens, hit_tokens, queried_tokens, output_tokens;
    int64_t peak_running, peak_waiting;
    kvs_request_log log;
};

/* When a request arrives, the first at 0. */
double kvs_engine_arrival_s(const kvs_engine *engine, int64_t request);

#endif
