/* bench_quantize.c: times `copy`, and quantizing and dequantizing in one layout. */
#include <string.h>

#include "sim/bench_run.h"

typedef struct copy_work {
    kvs_bench_run *r;
    size_t bytes;
} copy_work;

static kvs_status start_copy(void *context, int iteration, void *stream, kvs_error *error) {
    copy_work *w = context;
    char *from = (char *)w->r->pool + (size_t)iteration * 2 * w->bytes;
    return kvs_executor_copy(w->r->executor, from, from + w->bytes, w->bytes, stream, error);
}

kvs_status kvs_bench_copy(kvs_bench_run *r, kvs_error *error) {
    copy_work work = {r, (size_t)r->bench->copy_bytes};
    KVS_TRY(kvs_bench_new_pool(r, 4 * work.bytes, error));
    KVS_TRY(kvs_bench_fill_pool(r, error));
    kvs_bench_work timed = {.kernel = "copy", .layout = "", .bytes = 2.0 * (double)work.bytes, .sets = 2};
    timed.start = start_copy;
    timed.context = &work;
    return kvs_bench_measure(r, &timed, error);
}

typedef struct quantize_work {
    kvs_bench_run *r;
    kvs_quantize_args args[2];
    kvs_dequantize_args back[2];
    int values;
} quantize_work;

static kvs_status start_quantize(void *context, int iteration, void *stream, kvs_error *error) {
    quantize_work *w = context;
    return kvs_executor_quantize(w->r->executor, w->values, &w->args[iteration], stream, error);
}

static kvs_status start_dequantize(void *context, int iteration, void *stream, kvs_error *error) {
    quantize_work *w = context;
    w->back[iteration].values = w->values;
    return kvs_executor_dequantize(w->r->executor, &w->back[iteration], stream, error);
}

/* The pool holds, twice: the elements of all pages, then both tensors. */
kvs_status kvs_bench_quantize(kvs_bench_run *r, const char *layout, kvs_error *error) {
    static const char *const names[] = {"quantize_pack_k", "quantize_pack_v", "dequantize k", "dequantize v"};
    const kvs_device_bench *b = r->bench;
    kvs_format format = kvs_bench_format(r, layout);
    size_t blocks = (size_t)(b->quantize_pages / b->kv_heads);
    size_t elements = (size_t)b->quantize_pages * (size_t)(b->head_dim * b->page_tokens);
    size_t bytes[2] = {blocks * format.block_bytes[0], blocks * format.block_bytes[1]};
    size_t each = 2 * elements + bytes[0] + bytes[1];
    quantize_work work = {.r = r};
    KVS_TRY(kvs_bench_new_pool(r, 2 * each, error));
    KVS_TRY(kvs_bench_fill_pool(r, error));
    for (int i = 0; i < 2; i++) {
        uint8_t *at = (uint8_t *)r->pool + (size_t)i * each;
        work.args[i] =
            (kvs_quantize_args){.format = format, .pages = b->quantize_pages, .x = (const uint16_t *)(void *)at};
        work.args[i].rule = kvs_bench_rule();
        work.args[i].tensors[0] = at + 2 * elements;
        work.args[i].tensors[1] = at + 2 * elements + bytes[0];
        work.back[i] = (kvs_dequantize_args){.format = format, .pages = b->quantize_pages, .y = (uint16_t *)(void *)at};
        work.back[i].tensors[0] = work.args[i].tensors[0];
        work.back[i].tensors[1] = work.args[i].tensors[1];
    }
    for (int i = 0; i < 4; i++) {
        if (strstr(names[i], b->kernel) == NULL) continue;
        work.values = i % 2;
        double moved = 2.0 * (double)elements + (double)b->quantize_pages * kvs_bench_part_bytes(&format, work.values);
        kvs_bench_work timed = {.kernel = names[i], .layout = layout, .bytes = moved, .sets = 2};
        timed.start = i < 2 ? start_quantize : start_dequantize;
        timed.context = &work;
        KVS_TRY(kvs_bench_measure(r, &timed, error));
    }
    return KVS_OK;
}
