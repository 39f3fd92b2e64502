/* timings.h: how long kernels took on a device: what `kvscope bench --backend cuda|simt` measured. The JSON document
 * that it prints is enough to draw its plot; a number that is not available is NaN here and null there. */
#ifndef KVS_ANALYSIS_TIMINGS_H
#define KVS_ANALYSIS_TIMINGS_H

#include <stdint.h>

#include "analysis/field.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;

/* One measurement: the median over the repeats, and the 10th and 90th percentile. */
typedef struct kvs_timing {
    char *kernel, *layout; /* layout: "" where the kernel has none */
    int batch, tokens;     /* 0 where they mean nothing */
    int splits;
    double seconds, seconds_p10, seconds_p90;
    double bytes; /* that must move: each input read once, each output written once */
    double gb_per_s;
    double of_copy; /* bytes per second over those of `copy`; its inverse is the time over the floor */
    /* Of attention. Over decode_attention_fp16 on fp16-hnd at the same batch and length, over the peer's full
     * precision, and over the faster of the two. */
    double speedup_vs_fp16, speedup_vs_peer, speedup_vs_fastest;
} kvs_timing;

typedef struct kvs_timings {
    char *version, *command_line, *backend, *device, *compute_capability; /* the last: "9.0" */
    int multiprocessors;
    int64_t l2_bytes;
    int kv_heads, query_heads, head_dim, page_tokens, boost_channels, sink_tokens, window_tokens, repeats;
    int count;
    kvs_timing *rows; /* [count] */
} kvs_timings;

extern const kvs_field kvs_timings_fields[], kvs_timing_fields[];

/* Frees everything in it and zeroes it. */
void kvs_timings_clear(kvs_timings *timings);

/* A row more, without numbers: 0 and NaN. *row is valid until the next one. KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_timings_add(kvs_timings *timings, const char *kernel, const char *layout,
                                          kvs_timing **row, kvs_error *error);

/* The whole document, the caller's. NULL when memory is short. */
struct cJSON *kvs_timings_to_json(const kvs_timings *timings);

/* *timings is the caller's, freed with kvs_timings_clear. Refuses any other file with KVS_INPUT. */
KVS_MUST_CHECK kvs_status kvs_timings_read_json(const char *path, kvs_timings *timings, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
