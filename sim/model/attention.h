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

/* --- one token -----------------------------------------------------------------------------------------------------
 *
 * Decoding spreads the tokens that a query sees over threads in parts of KVS_ATTENTION_PART, and joins what they give:
 * the parts do not depend on the number of threads. */

enum { KVS_ATTENTION_PART = 256 };

/* What one query gets from one part. */
typedef struct kvs_part_sum {
    float top;    /* the largest q . k */
    float sum;    /* of exp(scale * (q . k - top)) */
    float *value; /* [head_dim]: the same sum with each term times v */
} kvs_part_sum;

/* Part `part` of the tokens that queries q [queries][head_dim], all at `position`, see; scratch has
 * [queries][KVS_ATTENTION_PART] floats, and the values of sums [queries] lie behind each other. */
void kvs_attention_part(int head_dim, float scale, const kvs_cache_side *k, const kvs_cache_side *v, const float *q,
                        int queries, int position, int part, float *scratch, kvs_part_sum *sums);

/* out [head_dim] of all parts of a query: sums[0], sums[stride], ... */
void kvs_attention_join(int head_dim, float scale, int parts, const kvs_part_sum *sums, int stride, float *out);

#ifdef __cplusplus
}
#endif
#endif
