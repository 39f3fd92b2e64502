/* attention.h: causal attention of a block of queries over a cache of which part is stored quantized.
 *
 * A query at position p reads K and V as they stand in decoding: stored values at stored_begin <= t < stored_end[p],
 * full precision elsewhere, up to and including t = p. The block is computed with matrix products over the stored and
 * the full copy; where queries of one block differ, both are computed and each row takes what it sees. */
#ifndef KVS_SIM_MODEL_ATTENTION_H
#define KVS_SIM_MODEL_ATTENTION_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_ATTENTION_ROWS = 64 }; /* queries of one block */

/* K or V of one KV head. */
typedef struct kvs_cache_side {
    const float *full;     /* [tokens][head_dim] */
    const float *stored;   /* [tokens][head_dim]; NULL: nothing is quantized */
    int stored_begin;      /* sink tokens */
    const int *stored_end; /* [tokens], by position of the query; never falls, at most the position */
} kvs_cache_side;

/* Floats of scratch for any block whose last query stands below `tokens`. */
size_t kvs_attention_scratch(int tokens);

/* Queries q [rows][head_dim] of positions first, first + 1, ... (rows <= KVS_ATTENTION_ROWS) give
 * out[r * out_stride + d] = sum_t softmax_t(scale * q_r . k_t) v_t[d]. */
void kvs_attention_block(int head_dim, float scale, const kvs_cache_side *k, const kvs_cache_side *v, const float *q,
                         int first, int rows, float *scratch, float *out, size_t out_stride);

#ifdef __cplusplus
}
#endif
#endif
