/* kernels.h: the kernels as functions of the host, once for CUDA and once for the SIMT runtime.
 *
 * Every pointer in the arguments is memory of the device that runs the kernel. A function starts the kernel on a stream
 * and returns 0, or an error of the device that `text` explains. It does not check its arguments: kvs_executor_quantize
 * and its like (executor.h) do. */
#ifndef KVS_KERNELS_KERNELS_H
#define KVS_KERNELS_KERNELS_H

#include <stdint.h>

#include "kernels/affine.h"
#include "kernels/layout.h"
#include "kernels/model_kernels.h"
#include "kernels/replay_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rankings that a kernel computes itself (the formulas are those of kernels/rankings/), and scores given by the caller.
 */
typedef enum kvs_metric {
    KVS_METRIC_MAGNITUDE,
    KVS_METRIC_VARIANCE,
    KVS_METRIC_RANGE,
    KVS_METRIC_RANDOM,
    KVS_METRIC_GIVEN,
} kvs_metric;

/* Page i of the input goes to head i % kv_heads of block blocks[i / kv_heads] (blocks NULL: i / kv_heads). */
typedef struct kvs_quantize_args {
    kvs_format format;
    kvs_affine_rule rule; /* meta is binary16 */
    kvs_metric metric;    /* keys only */
    int64_t pages;
    const uint16_t *x; /* [pages][page_tokens][head_dim] binary16 */
    const int32_t *blocks;
    const kvs_page_place *places; /* [pages]; only for KVS_METRIC_RANDOM */
    const float *scores;          /* [pages][head_dim]; only for KVS_METRIC_GIVEN; not NaN */
    uint8_t *tensors[2];
} kvs_quantize_args;

/* The reverse: y [pages][page_tokens][head_dim] is code * scale + zero, rounded to binary16. */
typedef struct kvs_dequantize_args {
    kvs_format format;
    int64_t pages;
    const uint8_t *tensors[2];
    const int32_t *blocks;
    int values; /* 0: keys, 1: values */
    uint16_t *y;
} kvs_dequantize_args;

/* One query token per sequence. A sequence of n tokens is, in order: sink_tokens in full precision, key_pages pages of
 * packed keys (and value_pages <= key_pages of packed values), the rest in full precision. In a full-precision layout
 * there are no sinks and no tail: all n tokens are in pages, and key_pages and value_pages are not looked at. */
typedef struct kvs_attention_args {
    int sequences, query_heads; /* query_heads: a multiple of kv_heads, at most 16 times it */
    float softmax_scale;
    const uint16_t *q;                      /* [sequences][query_heads][head_dim] binary16 */
    const int32_t *lengths;                 /* [sequences], at least 1 */
    const int32_t *key_pages, *value_pages; /* [sequences] */
    const int32_t *page_table;              /* [sequences][table_pages]: the block of each page;
                                             * all may be read, those of pages that are not there as well */
    int table_pages;
    const uint8_t *tensors[2];
    int one_cache;                   /* 1: all sequences share the sinks and the tail of the first */
    int sink_tokens;                 /* room for sinks; a shorter sequence has fewer */
    const uint16_t *sink_k, *sink_v; /* [sequences][kv_heads][sink_tokens][head_dim] */
    int tail_tokens;                 /* room for the rest, of values: a ring */
    const uint16_t *tail_k, *tail_v; /* [sequences][kv_heads][tail_tokens][head_dim], token t at t % tail_tokens */
    int splits;                      /* parts of a sequence that blocks share, at least 1 */
    void *workspace;                 /* kvs_attention_workspace bytes, zeroed once; calls leave it ready for the next */
    float *out;                      /* [sequences][query_heads][head_dim], at a multiple of 16 bytes */
    kvs_format format;               /* last: what a kernel reads of its arguments should lie together */
} kvs_attention_args;

/* Bytes of workspace that args needs; and splits that fill a device of so many multiprocessors. */
size_t kvs_attention_workspace(const kvs_attention_args *args);
int kvs_attention_splits(const kvs_attention_args *args, int multiprocessors, int longest_tokens);

typedef struct kvs_kernels {
    const char *name; /* "cuda" or "simt" */
    int (*quantize_pack_k)(const kvs_quantize_args *args, void *stream);
    int (*quantize_pack_v)(const kvs_quantize_args *args, void *stream);
    int (*dequantize)(const kvs_dequantize_args *args, void *stream);
    int (*decode_attention)(const kvs_attention_args *args, void *stream);      /* packed layouts */
    int (*decode_attention_fp16)(const kvs_attention_args *args, void *stream); /* full-precision layouts */
    /* bytes is a multiple of 16. */
    int (*copy)(const void *source, void *destination, int64_t bytes, void *stream);
    /* Reads, which evicts everything else from the caches. bytes is a multiple of 16. Writes to sink only when a
     * thread's words add up to one odd number; never where they are all 0. */
    int (*read)(const void *source, int64_t bytes, uint32_t *sink, void *stream);
    const char *(*text)(int error);
    kvs_replay_kernels replay;
    kvs_model_kernels model;
} kvs_kernels;

extern const kvs_kernels kvs_kernels_simt;
extern const kvs_kernels kvs_kernels_cuda; /* only in builds with CUDA */

#ifdef __cplusplus
}
#endif
#endif
