/* bench_device.h: how fast the kernels are on a device, beside the copy bandwidth measured in the same run. */
#ifndef KVS_SIM_BENCH_DEVICE_H
#define KVS_SIM_BENCH_DEVICE_H

#include <stdint.h>

#include "analysis/timings.h"
#include "kernels/executor.h"

enum { KVS_BENCH_LIST = 12 };

/* Attention in full precision by another program, in the same session on the same device. */
typedef struct kvs_bench_peer {
    int batch, tokens;
    double seconds;
} kvs_bench_peer;

typedef struct kvs_device_bench {
    int kv_heads, query_heads, head_dim, page_tokens, boost_channels, sink_tokens, window_tokens;
    int batches[KVS_BENCH_LIST], lengths[KVS_BENCH_LIST]; /* each ended by 0 */
    const char *layouts[KVS_BENCH_LIST];                  /* ended by NULL */
    const char *kernel; /* only kernels whose name contains it; copy always is timed */
    int elements;       /* random ones that inputs are made of */
    int64_t copy_bytes; /* a multiple of 16 */
    int quantize_pages; /* a multiple of kv_heads */
    int repeats;
    uint64_t seed;
    int quiet;
    const kvs_bench_peer *peers;
    int peers_count;
} kvs_device_bench;

/* The table: batch 1, 8, 32, 64 by 4096 and 32768 tokens, 8 KV heads, 32 query heads, head_dim 128; and one
 * that the SIMT runtime of the host ends in a second, whose times say nothing about a device. */
extern const kvs_device_bench kvs_device_bench_standard, kvs_device_bench_toy;

/* *timings is the caller's, freed with kvs_timings_clear; empty on failure. Configurations whose memory does not fit
 * the device are left out. Fails with KVS_DEVICE; what it allocated is released. */
KVS_MUST_CHECK kvs_status kvs_bench_on_device(const kvs_executor *executor, const kvs_device_bench *bench,
                                              kvs_timings *timings, kvs_error *error);

#endif
