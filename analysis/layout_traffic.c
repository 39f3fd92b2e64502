#include "analysis/layout_traffic.h"

#include <string.h>

#include "analysis/workload.h"

enum { BLOCKS = 2 };

static const struct job {
    const char *kernel, *shown, *purpose; /* kernel: of kvs_workload_kernels */
    int packs;                            /* not for full-precision layouts, which are only copied to */
} jobs[KVS_LAYOUT_TRAFFIC_ROWS] = {
    {"quantize_pack_k", "quantize_pack_k", "write keys", 1},
    {"quantize_pack_v", "quantize_pack_v", "write values", 1},
    {"dequantize_k", "dequantize", "read keys", 0},
    {"dequantize_v", "dequantize", "read values", 0},
};

static kvs_status count(const kvs_workload *workload, kvs_kernel_traffic *row, kvs_error *error) {
    kvs_transactions t;
    kvs_simt_options *settings = kvs_simt_settings(), before = *settings;
    kvs_transactions_begin(&t);
    *settings = (kvs_simt_options){.record = kvs_transactions_record, .record_context = &t};
    kvs_status status = kvs_workload_launch(workload, NULL, error);
    *settings = before;
    if (status == KVS_OK) status = kvs_transactions_finish(&t, error);
    if (status == KVS_OK) {
        row->loads = kvs_transactions_sum(&t, NULL, KVS_KINDS_LOAD);
        row->stores = kvs_transactions_sum(&t, NULL, KVS_KINDS_STORE);
        row->copies = kvs_transactions_sum(&t, NULL, KVS_KINDS_COPY);
        row->shared = kvs_transactions_sum(&t, NULL, KVS_KINDS_SHARED);
        row->footprint = kvs_transactions_footprint(&t, NULL);
    }
    kvs_transactions_clear(&t);
    return status;
}

static kvs_status run_job(const struct job *job, const kvs_executor *executor, const kvs_format *format,
                          const kvs_workload_input *input, kvs_kernel_traffic *row, kvs_error *error) {
    kvs_workload *workload;
    row->kernel = job->shown;
    row->purpose = job->purpose;
    KVS_TRY(kvs_workload_open(executor, kvs_workload_kernel_find(job->kernel), format, input, &workload, error));
    kvs_status status = count(workload, row, error);
    kvs_workload_close(workload);
    return status;
}

kvs_status kvs_layout_traffic_of(const kvs_format *format, uint64_t seed, kvs_layout_traffic *traffic,
                                 kvs_error *error) {
    kvs_workload_input input = {.shape = format->shape, .query_heads = format->shape.kv_heads, .sequences = 1};
    const kvs_executor *executor;
    input.pages = BLOCKS;
    input.seed = seed;
    memset(traffic, 0, sizeof *traffic);
    traffic->pages = (int64_t)BLOCKS * format->shape.kv_heads;
    KVS_TRY(kvs_executor_find("simt", &executor, error));
    KVS_TRY(kvs_workload_input_alloc(&input, error));
    kvs_workload_generate(&input);
    kvs_status status = KVS_OK;
    for (int i = 0; i < KVS_LAYOUT_TRAFFIC_ROWS && status == KVS_OK; i++)
        if (!jobs[i].packs || format->keys != KVS_KEYS_FULL)
            status = run_job(&jobs[i], executor, format, &input, &traffic->rows[traffic->count++], error);
    kvs_workload_input_clear(&input);
    return status;
}
