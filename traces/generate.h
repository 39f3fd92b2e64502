/* generate.h: synthetic traces of any size, for tests and scale. Written block by block: memory does not grow with
 * them.
 *
 * Keys resemble recorded ones: each channel has its own mean and scale, a few pairs of channels (i and i + head_dim/2,
 * as the rotary embedding pairs them) stand out in mean and range, neighbouring tokens are alike, and the first four
 * tokens draw attention while their values are small (attention sinks). Values of V are milder, with no outliers. Every
 * value is a function of (seed, sequence, layer, tensor, head, token, channel) alone. */
#ifndef KVS_TRACES_GENERATE_H
#define KVS_TRACES_GENERATE_H

#include "traces/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_generate {
    int layers, query_heads, kv_heads, head_dim, sequences;
    int tokens, prompt_tokens; /* per sequence */
    int queries, first_query;  /* evenly spaced positions from first_query to the last token; 0 queries: none */
    int outlier_pairs;         /* per KV head, at most head_dim / 2 */
    double outlier_scale;      /* mean of an outlier channel, in units of an ordinary channel's deviation */
    kvs_trace_options options;
    uint64_t seed;
    int threads; /* the bytes do not depend on it */
    int quiet;   /* no progress */
} kvs_generate;

/* KVS_USAGE when the numbers do not fit together; KVS_INTERRUPTED leaves no file. */
KVS_MUST_CHECK kvs_status kvs_trace_generate(const char *path, const kvs_generate *generate, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
