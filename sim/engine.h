/* engine.h: an inference engine, iteration by iteration: arrivals, vLLM v1's scheduler, an allocator, a clock.
 *
 * One step schedules first the running sequences, in the order of their admission, then waiting ones, head of line,
 * within a budget of tokens; a prompt may take several steps (chunked prefill). A running sequence that finds no page
 * preempts the one admitted last: its memory is freed, it goes to the front of the queue and is computed again, from
 * what of it is still cached. A sequence whose known tokens are all computed gets its next token when the step ends. */
#ifndef KVS_SIM_ENGINE_H
#define KVS_SIM_ENGINE_H

#include <stdint.h>

#include "analysis/occupancy.h"
#include "sim/allocator.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What one step computes and reads: the input of the clock. */
typedef struct kvs_step {
    double start_s;
    int64_t sequences, tokens; /* scheduled */
    int64_t decodes;           /* sequences with one token to compute, behind a prompt that is done */
    double kv_bytes;           /* of the cache, read once a sequence */
    double pairs;              /* (new token, token it sees), over all sequences */
} kvs_step;

typedef struct kvs_clock {
    /* Seconds that a step takes, above 0. */
    double (*seconds)(const void *model, const kvs_step *step);
    const void *model;
} kvs_clock;

typedef struct kvs_engine_options {
    int64_t max_batched_tokens, max_seqs; /* of one step; running at once */
    int reserve_full_input;               /* admit only when all known tokens fit, not just the first chunk */
    int saturate;                         /* arrivals do not count: all wait from the start */
    int skip_bad;                         /* leave out requests that can never fit rather than fail */
    int check;                            /* verify the allocator after every step */
    /* [requests] or NULL: when each request left a recorded engine. Then it leaves here at that time, not when its
     * tokens are done: one that is early holds its memory, one that is late is cut short. */
    const double *leave_s;
    int64_t max_samples; /* of the series; when full, every other one goes */
    double sample_s;     /* seconds between samples; 0: adapted so that they cover the whole run */
} kvs_engine_options;

/* What happened to each request, NaN where it did not. All arrays are [requests], owned by the log. */
typedef struct kvs_request_log {
    int64_t count;
    double *first_token_s, *finish_s;
} kvs_request_log;
void kvs_request_log_clear(kvs_request_log *log);

/* Runs all requests to their end. *run is filled (its texts are the caller's to set) and owned by the caller; so is
 * *log, unless it is NULL. Fails with KVS_INPUT on a request that can never fit, KVS_CHECK on a broken invariant. */
KVS_MUST_CHECK kvs_status kvs_engine_run(const kvs_requests *requests, kvs_allocator *allocator,
                                         kvs_engine_options options, kvs_clock clock, kvs_occupancy_run *run,
                                         kvs_request_log *log, kvs_error *error);

/* --- a step at a time, for those who watch it -------------------------------------------------------------------- */

typedef struct kvs_engine kvs_engine;
KVS_MUST_CHECK kvs_status kvs_engine_create(const kvs_requests *requests, kvs_allocator *allocator,
                                            kvs_engine_options options, kvs_engine **engine, kvs_error *error);
void kvs_engine_destroy(kvs_engine *engine);
/* Lets arrive what has arrived by now_s, then schedules. step->sequences is 0 when there is nothing to run: then the
 * next arrival (or recorded leave) is at *next_s, infinite after the last. */
KVS_MUST_CHECK kvs_status kvs_engine_schedule(kvs_engine *engine, double now_s, kvs_step *step, double *next_s,
                                              kvs_error *error);
/* The step ended: tokens come out, finished sequences leave. */
void kvs_engine_finish_step(kvs_engine *engine, double end_s);
int64_t kvs_engine_running(const kvs_engine *engine, const kvs_engine_sequence **sequences);
int64_t kvs_engine_waiting(const kvs_engine *engine);
kvs_occupancy kvs_engine_occupancy(const kvs_engine *engine, double now_s);

#ifdef __cplusplus
}
#endif
#endif
