/* model_kernels.h: what a forward pass computes between its matrix products and its attention, as kernels.
 *
 * As in kernels.h: all pointers are memory of the device, a function starts the kernel on a stream and returns 0 or an
 * error that kvs_kernels.text explains, and does not check its arguments. Rows are tokens; x is binary32. */
#ifndef KVS_KERNELS_MODEL_KERNELS_H
#define KVS_KERNELS_MODEL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How weights, and with them the left factors of their products, are held. */
typedef enum kvs_number { KVS_NUMBER_F32, KVS_NUMBER_F16, KVS_NUMBER_BF16 } kvs_number;

static inline size_t kvs_number_bytes(kvs_number number) {
    return number == KVS_NUMBER_F32 ? 4 : 2;
}

/* y [rows][columns] = table [ids[row]]; ids are within the table. */
typedef struct kvs_embed_args {
    kvs_number number;
    int rows, columns;
    const int32_t *ids;
    const void *table;
    float *y;
} kvs_embed_args;

/* y = x / sqrt(mean(x^2) + epsilon) * weight, by row (RMSNorm, Zhang and Sennrich, arXiv 1910.07467). */
typedef struct kvs_norm_args {
    kvs_number number; /* of weight and y */
    int rows, columns;
    float epsilon;
    const float *x;
    const void *weight; /* [columns] */
    void *y;
} kvs_norm_args;

/* Where the full-precision rows of a cache stand, binary16. Row t of head h: the first sink_tokens at
 * sinks[h][t]; the others (with_sinks 0: all) at slot s = t % capacity, rows + (s / page_tokens) * block_stride +
 * h * head_stride + (s % page_tokens) * row_stride, strides in elements. */
typedef struct kvs_cache_rows {
    uint16_t *rows, *sinks;
    int64_t block_stride, head_stride, row_stride;
    int capacity, page_tokens, sink_tokens;
} kvs_cache_rows;

/* Splits projections [rows][(query_heads + 2 kv_heads) * head_dim] of the tokens at first, first + 1, ...: q and k of a
 * head through its norm (NULL: none) and the rotary embedding of channel pairs (i, i + rotary_dim / 2), into q
 * [rows][query_heads][head_dim] and the caches. Counts elements that do not fit binary16 in *overflows. */
typedef struct kvs_heads_args {
    kvs_number number; /* of the norms */
    int rows, first, query_heads, kv_heads, head_dim, rotary_dim;
    float epsilon;
    const float *projections;
    const void *q_norm, *k_norm;  /* [head_dim] */
    const float *cosines, *sines; /* [positions][rotary_dim / 2] */
    uint16_t *q;
    kvs_cache_rows k, v;
    uint32_t *overflows;
} kvs_heads_args;

/* x [pages][kv_heads][page_tokens][head_dim] = the rows of tokens first, first + 1, ... of every head; none is a sink.
 */
typedef struct kvs_gather_args {
    kvs_cache_rows from;
    int first, pages, page_tokens, kv_heads, head_dim;
    uint16_t *x;
} kvs_gather_args;

/* y [rows][columns] = silu(x[row][column]) * x[row][columns + column], silu(a) = a / (1 + exp(-a)) (SwiGLU, Shazeer,
 * arXiv 2002.05202). */
typedef struct kvs_swiglu_args {
    kvs_number number;
    int rows, columns;
    const float *x;
    void *y;
} kvs_swiglu_args;

/* y = x, rounded. */
typedef struct kvs_narrow_args {
    kvs_number number;
    int64_t count;
    const float *x;
    void *y;
} kvs_narrow_args;

/* y[i] = kvs_random_weight(key, i, spread), rounded; or 1 where spread is 0. */
typedef struct kvs_random_args {
    kvs_number number;
    int64_t count;
    uint64_t key;
    float spread;
    void *y;
} kvs_random_args;

typedef struct kvs_model_kernels {
    int (*embed)(const kvs_embed_args *args, void *stream);
    int (*norm)(const kvs_norm_args *args, void *stream);
    int (*heads)(const kvs_heads_args *args, void *stream);
    int (*gather)(const kvs_gather_args *args, void *stream);
    int (*swiglu)(const kvs_swiglu_args *args, void *stream);
    int (*narrow)(const kvs_narrow_args *args, void *stream);
    int (*randomize)(const kvs_random_args *args, void *stream);
} kvs_model_kernels;

#ifdef __cplusplus
}
#endif
#endif
