/* serve.h: what a scheme buys a serving engine: the largest batch that fits beside the weights, and its throughput.
 *
 * A gain has two sources that must not be mixed: a larger batch in the same memory (ratio_equal_memory, each scheme at
 * its own largest batch) and a faster step at the same batch (ratio_equal_batch). Both are against full precision. */
#ifndef KVS_SIM_SERVE_H
#define KVS_SIM_SERVE_H

#include "sim/engine.h"
#include "sim/step_time.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `batch` identical requests at once, or a trace. */
typedef struct kvs_workload {
    const kvs_requests *trace;           /* NULL: uniform */
    int32_t input_tokens, output_tokens; /* of uniform ones */
    int64_t batch;                       /* at most so many at once; 0: as many as fit */
} kvs_workload;

typedef struct kvs_serve_options {
    double cache_bytes; /* memory for the cache */
    int64_t num_blocks; /* of the pool, instead; 0: as many as cache_bytes hold */
    kvs_allocator_options allocator;
    kvs_engine_options engine;
    int threads;
} kvs_serve_options;

/* All requests offered at once, at most `batch` running. */
typedef struct kvs_serve_point {
    int64_t batch, preemptions;
    double tokens_per_s, ttft_s, tpot_s;
} kvs_serve_point;

typedef struct kvs_serve_row {
    kvs_geometry geometry;
    kvs_step_model model;
    char efficiency_note[128];
    int64_t total_pages, max_batch; /* uniform: all sequences at full length; trace: the most that ran at once */
    int64_t power_of_two;           /* the largest power of two up to max_batch; 0 if that is 0 */
    double kv_bytes_per_sequence;   /* in pages, buffers included; of a trace, the mean at final length */
    kvs_serve_point *points;        /* ascending batch; the last at min(max_batch, workload.batch) */
    int points_count;
    kvs_serve_point best, equal; /* at the largest batch; at the largest batch of full precision, if it fits */
    double ttft_s, tpot_s;       /* uniform: of best; trace: under the arrivals of the trace */
    double offered_tokens_per_s; /* under the arrivals of the trace; NaN when uniform */
    double ratio_equal_memory, ratio_equal_batch; /* NaN where full precision does not fit */
} kvs_serve_row;

/* rows[0] is full precision. geometry, model and efficiency_note of every row are given; the rest is filled. Fails with
 * KVS_INPUT when a scheme holds no single request. */
KVS_MUST_CHECK kvs_status kvs_serve_run(const kvs_workload *workload, const kvs_serve_options *options,
                                        kvs_serve_row *rows, int count, kvs_error *error);
void kvs_serve_row_clear(kvs_serve_row *row);

#ifdef __cplusplus
}
#endif
#endif
