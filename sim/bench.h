/* bench.h: how fast the CPU back end is, beside the memory bandwidth of the same machine in the same run. */
#ifndef KVS_SIM_BENCH_H
#define KVS_SIM_BENCH_H

#include "core/status.h"

/* One measurement: the median over the repeats. */
typedef struct kvs_bench_row {
    const char *name, *what;
    int threads;
    double seconds, bytes, elements; /* bytes: read plus written; elements 0 where they mean nothing */
} kvs_bench_row;

enum { KVS_BENCH_ROWS = 6 };

/* Measures copying (the yardstick, all threads and one), conversion of binary16 and bfloat16 (one thread), reading the
 * trace's K and V from the page cache (one thread), and quantizing and dequantizing all of the trace's pages with a
 * scheme (all threads). K and V of the whole trace are held in memory. The caller keeps `rows`. */
KVS_MUST_CHECK kvs_status kvs_bench_cpu(const char *trace_path, const char *scheme, int threads, int repeats,
                                        kvs_bench_row rows[KVS_BENCH_ROWS], kvs_error *error);

#endif
