/* sequential.h: the hit rate of a block pool when requests come one after another, each freed before the next.
 *
 * No concurrency and no outputs: the classical way to compare prefix caches, and what our reference numbers are. */
#ifndef KVS_SIM_SEQUENTIAL_H
#define KVS_SIM_SEQUENTIAL_H

#include "sim/pool.h"
#include "traces/requests.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What becomes of an input's last, partly filled page. */
typedef enum kvs_partial_page {
    KVS_PARTIAL_COUNT, /* every page is cached, and a hit may cover the whole input */
    KVS_PARTIAL_DROP,  /* it is allocated but not cached; hits are at most floor((input - 1) / page) */
} kvs_partial_page;

typedef struct kvs_sequential_options {
    int page_tokens;
    kvs_partial_page partial;
    kvs_free_order order;
    int caching;
    int check;  /* verify the pool's invariants after every request */
    int repeat; /* times to run; wall_s is the median */
} kvs_sequential_options;

typedef struct kvs_sequential_result {
    int64_t capacity_pages; /* without the null block */
    int64_t requested_blocks, hit_blocks, evictions;
    int64_t skipped; /* requests larger than the pool */
    double wall_s;   /* of the replay alone: not of reading the trace or making its keys */
} kvs_sequential_result;

typedef struct kvs_sequential kvs_sequential;

/* Prepares a trace: its keys, page by page, in one array. The requests must outlive it. */
KVS_MUST_CHECK kvs_status kvs_sequential_create(const kvs_requests *requests, kvs_sequential_options options,
                                                kvs_sequential **replay, kvs_error *error);
void kvs_sequential_destroy(kvs_sequential *replay);

/* Replays at one capacity in pages, the null block not counted; 0: one that never evicts. A request larger than the
 * capacity fails with KVS_INPUT, or is counted and left out when skip_bad is set. Safe from several threads. */
KVS_MUST_CHECK kvs_status kvs_sequential_run(const kvs_sequential *replay, int64_t capacity_pages, int skip_bad,
                                             kvs_sequential_result *result, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
