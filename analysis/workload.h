/* workload.h: every kernel on given keys, values and queries, ready to be launched any number of times on an executor:
 * what the transaction model predicts and what a profiler measures is the same work.
 *
 * The input is a batch of decoding sequences, each of tokens = sink_tokens + pages * page_tokens tokens. The first
 * sink_tokens are in full precision; the rest are `pages` pages of packed keys, and as many of packed values as leave
 * the last window_tokens tokens in full precision. A full-precision layout holds all tokens in pages. */
#ifndef KVS_ANALYSIS_WORKLOAD_H
#define KVS_ANALYSIS_WORKLOAD_H

#include <stdint.h>

#include "kernels/executor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_workload_input {
    kvs_page_shape shape;
    int query_heads, sequences, pages; /* pages: of each KV head of each sequence */
    int sink_tokens, window_tokens;
    int splits;          /* of attention: the parts of a sequence that blocks share; 0: what fills ... */
    int multiprocessors; /* ... so many of these (kvs_attention_splits) */
    float softmax_scale;
    uint64_t seed;
    uint16_t *keys, *values; /* [sequences][kv_heads][tokens][head_dim] binary16 */
    uint16_t *queries;       /* [sequences][query_heads][head_dim] binary16 */
} kvs_workload_input;

int kvs_workload_tokens(const kvs_workload_input *input);
/* Allocates keys, values and queries; KVS_INPUT when memory is short. Freed with kvs_workload_input_clear. */
KVS_MUST_CHECK kvs_status kvs_workload_input_alloc(kvs_workload_input *input, kvs_error *error);
/* Fills them with uniform random numbers drawn from the seed; every eighth channel is 16 times as large, as the keys of
 * models have outlier channels. */
void kvs_workload_generate(kvs_workload_input *input);
void kvs_workload_input_clear(kvs_workload_input *input);

typedef struct kvs_workload kvs_workload;

/* A kernel as `kvscope profile --kernels` names it. */
typedef struct kvs_workload_kernel {
    const char *name, *summary;
    int layouts; /* 0: the same for every layout */
    kvs_status (*prepare)(kvs_workload *workload, kvs_error *error);
    kvs_status (*launch)(const kvs_workload *workload, void *stream, kvs_error *error);
    double (*operations)(const kvs_workload *workload); /* of arithmetic, as analysis/PROFILE.md counts them */
} kvs_workload_kernel;

/* All of them, ended by NULL; and one by its name, or NULL. */
extern const kvs_workload_kernel *const kvs_workload_kernels[];
const kvs_workload_kernel *kvs_workload_kernel_find(const char *name);

/* Allocates and fills the memory of the kernel on the executor, which is open; pages that the kernel reads are packed
 * there, by quantize_pack_k and quantize_pack_v. The input may be freed afterwards. *workload is the caller's, closed
 * with kvs_workload_close. Fails with KVS_USAGE when the kernel does not exist for the layout (the error says why),
 * with KVS_DEVICE or KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_workload_open(const kvs_executor *executor, const kvs_workload_kernel *kernel,
                                            const kvs_format *format, const kvs_workload_input *input,
                                            kvs_workload **workload, kvs_error *error);
/* Starts the kernel once; the next launch finds the same inputs and gives the same outputs. */
KVS_MUST_CHECK kvs_status kvs_workload_launch(const kvs_workload *workload, void *stream, kvs_error *error);
/* Arithmetic operations of one launch, of the algorithm: not counting addresses, bits and reductions. */
double kvs_workload_operations(const kvs_workload *workload);
/* The splits that attention has; 0 for other kernels. */
int kvs_workload_splits(const kvs_workload *workload);
void kvs_workload_close(kvs_workload *workload);

#ifdef __cplusplus
}
#endif
#endif
