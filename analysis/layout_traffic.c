#include "analysis/layout_traffic.h"

#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/random.h"
#include "kernels/executor.h"

enum { BLOCKS = 2 };

/* Memory of the executor for one format. */
typedef struct bench {
    const kvs_executor *executor;
    kvs_format format;
    int64_t pages;
    void *x, *y, *places, *tensors[2];
} bench;

/* Channels of two sizes, as the keys of models have; values too, which no layout treats otherwise. */
static void fill_elements(uint64_t seed, int64_t count, int head_dim, uint16_t *x) {
    for (int64_t i = 0; i < count; i++) {
        float size = i % head_dim % 8 == 3 ? 16.0f : 1.0f;
        x[i] = kvs_float_to_half(size * (2.0f * kvs_random_unit(seed, (uint64_t)i) - 1.0f));
    }
}

static kvs_status allocate(bench *b, kvs_error *error) {
    const kvs_page_shape *shape = &b->format.shape;
    size_t bytes = 2 * (size_t)b->pages * (size_t)shape->page_tokens * (size_t)shape->head_dim;
    KVS_TRY(b->executor->allocate(bytes, "input", &b->x, error));
    KVS_TRY(b->executor->allocate(bytes, "output", &b->y, error));
    KVS_TRY(b->executor->allocate((size_t)b->pages * sizeof(kvs_page_place), "places", &b->places, error));
    for (int i = 0; i < b->format.tensors; i++) {
        KVS_TRY(b->executor->allocate(BLOCKS * (size_t)b->format.block_bytes[i], i ? "metadata" : "pages",
                                      &b->tensors[i], error));
        KVS_TRY(b->executor->fill(b->tensors[i], 0, BLOCKS * (size_t)b->format.block_bytes[i], error));
    }
    return KVS_OK;
}

static kvs_status upload(bench *b, uint64_t seed, kvs_error *error) {
    const kvs_page_shape *shape = &b->format.shape;
    int64_t elements = b->pages * shape->page_tokens * shape->head_dim;
    uint16_t *x = malloc(2 * (size_t)elements);
    kvs_page_place *places = calloc((size_t)b->pages, sizeof *places);
    kvs_status status = KVS_OK;
    if (x == NULL || places == NULL) {
        status =
            kvs_fail(error, KVS_DEVICE, "transaction model", NULL, "no memory for %lld elements", (long long)elements);
    } else {
        fill_elements(seed, elements, shape->head_dim, x);
        for (int64_t p = 0; p < b->pages; p++) places[p] = (kvs_page_place){.seed = seed, .page = (int)p};
        status = b->executor->upload(b->x, x, 2 * (size_t)elements, error);
        if (status == KVS_OK) status = b->executor->upload(b->places, places, (size_t)b->pages * sizeof *places, error);
    }
    free(x);
    free(places);
    return status;
}

static void release(bench *b) {
    b->executor->release(b->x);
    b->executor->release(b->y);
    b->executor->release(b->places);
    for (int i = 0; i < 2; i++) b->executor->release(b->tensors[i]);
}

/* --- the kernels ----------------------------------------------------------------------------------------------------
 */

static kvs_quantize_args quantize_args(const bench *b) {
    kvs_quantize_args args = {.format = b->format, .metric = KVS_METRIC_MAGNITUDE, .pages = b->pages};
    args.rule = (kvs_affine_rule){KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0.0f};
    args.x = b->x;
    args.places = b->places;
    for (int i = 0; i < 2; i++) args.tensors[i] = b->tensors[i];
    return args;
}

static kvs_status write_keys(const bench *b, kvs_error *error) {
    kvs_quantize_args args = quantize_args(b);
    return kvs_executor_quantize(b->executor, 0, &args, NULL, error);
}

static kvs_status write_values(const bench *b, kvs_error *error) {
    kvs_quantize_args args = quantize_args(b);
    return kvs_executor_quantize(b->executor, 1, &args, NULL, error);
}

static kvs_status dequantize(const bench *b, int values, kvs_error *error) {
    kvs_dequantize_args args = {.format = b->format, .pages = b->pages, .values = values, .y = b->y};
    for (int i = 0; i < 2; i++) args.tensors[i] = b->tensors[i];
    return kvs_executor_dequantize(b->executor, &args, NULL, error);
}

static kvs_status read_keys(const bench *b, kvs_error *error) {
    return dequantize(b, 0, error);
}

static kvs_status read_values(const bench *b, kvs_error *error) {
    return dequantize(b, 1, error);
}

static const struct job {
    const char *kernel, *purpose;
    int packs; /* not for full-precision layouts, which are only copied to */
    kvs_status (*run)(const bench *b, kvs_error *error);
} jobs[KVS_LAYOUT_TRAFFIC_ROWS] = {
    {"quantize_pack_k", "write keys", 1, write_keys},
    {"quantize_pack_v", "write values", 1, write_values},
    {"dequantize", "read keys", 0, read_keys},
    {"dequantize", "read values", 0, read_values},
};

static kvs_status run_job(const bench *b, const struct job *job, kvs_kernel_traffic *row, kvs_error *error) {
    kvs_transactions t;
    kvs_simt_options *settings = kvs_simt_settings(), before = *settings;
    kvs_transactions_begin(&t);
    *settings = (kvs_simt_options){.record = kvs_transactions_record, .record_context = &t};
    kvs_status status = job->run(b, error);
    *settings = before;
    if (status == KVS_OK) status = kvs_transactions_finish(&t, error);
    if (status == KVS_OK) {
        row->kernel = job->kernel;
        row->purpose = job->purpose;
        row->loads = kvs_transactions_sum(&t, NULL, KVS_KINDS_LOAD);
        row->stores = kvs_transactions_sum(&t, NULL, KVS_KINDS_STORE);
        row->copies = kvs_transactions_sum(&t, NULL, KVS_KINDS_COPY);
        row->shared = kvs_transactions_sum(&t, NULL, KVS_KINDS_SHARED);
        row->footprint = kvs_transactions_footprint(&t, NULL);
    }
    kvs_transactions_clear(&t);
    return status;
}

kvs_status kvs_layout_traffic_of(const kvs_format *format, uint64_t seed, kvs_layout_traffic *traffic,
                                 kvs_error *error) {
    bench b = {.format = *format, .pages = (int64_t)BLOCKS * format->shape.kv_heads};
    memset(traffic, 0, sizeof *traffic);
    traffic->pages = b.pages;
    KVS_TRY(kvs_executor_find("simt", &b.executor, error));
    kvs_status status = allocate(&b, error);
    if (status == KVS_OK) status = upload(&b, seed, error);
    for (int i = 0; i < KVS_LAYOUT_TRAFFIC_ROWS && status == KVS_OK; i++)
        if (!jobs[i].packs || format->keys != KVS_KEYS_FULL)
            status = run_job(&b, &jobs[i], &traffic->rows[traffic->count++], error);
    release(&b);
    return status;
}
