/* bench_run.h: what the parts of a benchmark on a device share (bench_device.c says what is run). */
#ifndef KVS_SIM_BENCH_RUN_H
#define KVS_SIM_BENCH_RUN_H

#include "core/progress.h"
#include "sim/bench_device.h"

/* Everything of one run. `pool` holds the inputs of the current layout: random elements, or pages made of them. */
typedef struct kvs_bench_run {
    const kvs_executor *executor;
    const kvs_device_bench *bench;
    kvs_executor_facts facts;
    void *elements; /* bench->elements random binary16 */
    void *pool;
    size_t pool_bytes;
    double copy_rate; /* bytes per second; 0 until copy was timed */
    kvs_timings *timings;
} kvs_bench_run;

size_t kvs_bench_element_bytes(const kvs_bench_run *run);

/* One row to be: what is timed, the bytes that it must move, and how it is started. */
typedef struct kvs_bench_work {
    const char *kernel, *layout;
    int batch, tokens, splits; /* 0 where they mean nothing */
    double bytes;
    kvs_executor_work *start;
    void *context;
    int sets; /* works 0 .. sets-1, in turn, so that inputs rotate */
} kvs_bench_work;

/* Times it and adds the row. */
KVS_MUST_CHECK kvs_status kvs_bench_measure(kvs_bench_run *run, const kvs_bench_work *work, kvs_error *error);
/* Enough inputs of so many bytes that the L2 forgets each before its next turn. */
int kvs_bench_sets(const kvs_bench_run *run, double bytes);

/* --- inputs (bench_inputs.c) ---------------------------------------------------------------------------------------
 */

KVS_MUST_CHECK kvs_status kvs_bench_upload_elements(kvs_bench_run *run, kvs_error *error);
/* Instead of the pool before; with nothing in it. */
KVS_MUST_CHECK kvs_status kvs_bench_new_pool(kvs_bench_run *run, size_t bytes, kvs_error *error);
/* Fills begin[0, whole) with the `bytes` bytes of source, again and again; source may be its first part. */
KVS_MUST_CHECK kvs_status kvs_bench_repeat(kvs_bench_run *run, void *begin, size_t whole, const void *source,
                                           size_t bytes, kvs_error *error);
/* The pool full of random elements. */
KVS_MUST_CHECK kvs_status kvs_bench_fill_pool(kvs_bench_run *run, kvs_error *error);
/* The benchmark's shape in a layout; no tensors where the layout does not store it. */
kvs_format kvs_bench_format(const kvs_bench_run *run, const char *layout);
/* The rule of scales and codes. */
kvs_affine_rule kvs_bench_rule(void);
/* Bytes of a head's page that belong to keys (with the index) or to values. */
double kvs_bench_part_bytes(const kvs_format *format, int values);

/* --- what is timed (bench_quantize.c, bench_attention.c) -----------------------------------------------------------
 */

KVS_MUST_CHECK kvs_status kvs_bench_copy(kvs_bench_run *run, kvs_error *error);
/* quantize_pack_k, quantize_pack_v, dequantize of a packed layout. */
KVS_MUST_CHECK kvs_status kvs_bench_quantize(kvs_bench_run *run, const char *layout, kvs_error *error);
/* Attention at every batch and length whose inputs fit the device. */
KVS_MUST_CHECK kvs_status kvs_bench_attention(kvs_bench_run *run, const char *layout, kvs_progress *progress,
                                              kvs_error *error);

#endif
