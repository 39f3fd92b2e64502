/* layout_traffic.h: what it takes a GPU's memory system to write and to read the pages of a layout: the kernels run on
 * the SIMT runtime over pages of random keys and values with outlier channels, and the transaction model counts. */
#ifndef KVS_ANALYSIS_LAYOUT_TRAFFIC_H
#define KVS_ANALYSIS_LAYOUT_TRAFFIC_H

#include "analysis/transactions.h"
#include "kernels/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_LAYOUT_TRAFFIC_ROWS = 4 };

/* One kernel over all pages. */
typedef struct kvs_kernel_traffic {
    const char *kernel;                                   /* "quantize_pack_k", ... */
    const char *purpose;                                  /* "write keys", ... */
    kvs_transaction_counts loads, stores, copies, shared; /* copies: asynchronous */
    kvs_footprint footprint;
} kvs_kernel_traffic;

typedef struct kvs_layout_traffic {
    int64_t pages; /* of one KV head each, keys and values */
    int count;
    kvs_kernel_traffic rows[KVS_LAYOUT_TRAFFIC_ROWS];
} kvs_layout_traffic;

/* Runs each kernel that the format has over two blocks of pages (every thread block is recorded, none sampled). The
 * SIMT runtime's settings of this thread are as before when it returns. Fails with KVS_DEVICE when memory is short or
 * a kernel refuses or breaks a rule of the SIMT runtime. */
KVS_MUST_CHECK kvs_status kvs_layout_traffic_of(const kvs_format *format, uint64_t seed, kvs_layout_traffic *traffic,
                                                kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
