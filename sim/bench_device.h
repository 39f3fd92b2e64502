/* bench_device.h: how fast the kernels are on a device, beside the copy bandwidth measured in the same run. */
#ifndef KVS_SIM_BENCH_DEVICE_H
#define KVS_SIM_BENCH_DEVICE_H

#include <stdint.h>

#include "kernels/executor.h"

/* One measurement: the median over the repeats, and the 10th and 90th percentile. */
typedef struct kvs_device_row {
    const char *kernel, *layout;
    int batch, tokens; /* 0 where they mean nothing */
    int splits;
    double seconds, seconds_p10, seconds_p90;
    double bytes;           /* that must move: each input read once, each output written once */
    double of_copy;         /* bytes per second over those of `copy` */
    double speedup_vs_full; /* over decode_attention_fp16 on fp16-hnd at the same batch and length; NaN elsewhere */
} kvs_device_row;

typedef struct kvs_device_bench {
    int kv_heads, query_heads, head_dim, page_tokens, boost_channels, sink_tokens, window_tokens;
    int repeats;
    int batches[8], lengths[8]; /* each ended by 0 */
    uint64_t seed;
    int quiet;
} kvs_device_bench;

/* The table: batch 1, 8, 32, 64 by 4096 and 32768 tokens, 8 KV heads, 32 query heads, head_dim 128. */
extern const kvs_device_bench kvs_device_bench_standard;

/* *rows is the caller's, freed with free. Configurations whose memory does not fit the device are left out; `facts`
 * says what it has. Fails with KVS_DEVICE; what it allocated is released. */
KVS_MUST_CHECK kvs_status kvs_bench_on_device(const kvs_executor *executor, const kvs_device_bench *bench,
                                              kvs_executor_facts *facts, kvs_device_row **rows, int *count,
                                              kvs_error *error);

#endif
