/* scan.h: every head of a trace, once, on several threads; and what each channel of K and V looks like. */
#ifndef KVS_TRACES_SCAN_H
#define KVS_TRACES_SCAN_H

#include "traces/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_scanned_head {
    kvs_tensor tensor;
    int layer, head, sequence, rows;
    const float *values; /* [rows][head_dim] */
} kvs_scanned_head;

/* Called for the sequences of one (tensor, layer, head) in order and on one thread, for different ones at once. */
typedef void (*kvs_visit)(void *user, const kvs_scanned_head *head);

typedef struct kvs_scan {
    int tensors; /* bit 1 << KVS_TENSOR_K, ... */
    int threads; /* fewer are used where heads are so long that they would fill more than 256 MB */
    int quiet;   /* no progress */
    kvs_visit visit;
    void *user;
} kvs_scan;

/* Reads all values, which must be finite; visit may be NULL. On failure the error is that of the first faulty head, in
 * the order tensor, layer, head, sequence, whatever the number of threads. */
KVS_MUST_CHECK kvs_status kvs_trace_scan(kvs_trace *trace, const kvs_scan *scan, kvs_error *error);

/* One channel over all tokens of all sequences. */
typedef struct kvs_channel {
    double magnitude; /* mean |x| */
    float low, high;
} kvs_channel;

/* k and v: [layers][kv_heads][head_dim], the caller's. Fails as a scan does. */
KVS_MUST_CHECK kvs_status kvs_trace_channels(kvs_trace *trace, int threads, int quiet, kvs_channel *k, kvs_channel *v,
                                             kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
