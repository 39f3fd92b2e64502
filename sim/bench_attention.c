/* bench_attention.c: times attention in one layout, over pages of random elements that a page table scatters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/bench_run.h"

typedef struct attention_work {
    kvs_bench_run *r;
    kvs_attention_args args; /* of set 0 */
    size_t table_entries;    /* of a set */
    size_t blocks;           /* of a set */
    size_t full_elements;    /* of a set: sinks and tails, of keys and of values */
    void *memory[8];
    int memories;
} attention_work;

static kvs_status start_attention(void *context, int iteration, void *stream, kvs_error *error) {
    attention_work *w = context;
    kvs_attention_args args = w->args;
    args.page_table += (size_t)iteration * w->table_entries;
    args.sink_k += (size_t)iteration * w->full_elements;
    args.sink_v += (size_t)iteration * w->full_elements;
    args.tail_k += (size_t)iteration * w->full_elements;
    args.tail_v += (size_t)iteration * w->full_elements;
    return kvs_executor_attend(w->r->executor, &args, stream, error);
}

static kvs_status put(attention_work *w, const void *host, size_t bytes, const char *name, const void *field,
                      kvs_error *error) {
    void **at = &w->memory[w->memories];
    KVS_TRY(w->r->executor->allocate(bytes, name, at, error));
    w->memories++;
    if (host != NULL)
        KVS_TRY(w->r->executor->upload(*at, host, bytes, error));
    else
        KVS_TRY(w->r->executor->fill(*at, 0, bytes, error));
    memcpy((void *)(uintptr_t)field, at, sizeof *at);
    return KVS_OK;
}

/* Blocks in an order that scatters the pages of a sequence. */
static kvs_status put_table(attention_work *w, int sets, kvs_error *error) {
    size_t entries = w->table_entries * (size_t)sets, blocks = w->blocks * (size_t)sets, stride = 7919;
    int32_t *table = malloc(sizeof *table * entries);
    if (table == NULL) return kvs_fail(error, KVS_INPUT, "bench", "page_table", "out of memory");
    while (blocks % stride == 0) stride += 2;
    for (size_t i = 0; i < entries; i++) table[i] = (int32_t)(i * stride % blocks);
    kvs_status status = put(w, table, sizeof *table * entries, "page_table", &w->args.page_table, error);
    free(table);
    return status;
}

/* Sinks and tails of every set. */
static kvs_status put_full(attention_work *w, int sets, kvs_error *error) {
    kvs_attention_args *args = &w->args;
    size_t row = (size_t)args->sequences * (size_t)(args->format.shape.kv_heads * args->format.shape.head_dim);
    size_t sinks = row * (size_t)args->sink_tokens, tails = row * (size_t)args->tail_tokens;
    void *full = NULL;
    w->full_elements = 2 * (sinks + tails);
    size_t bytes = 2 * w->full_elements * (size_t)sets;
    KVS_TRY(put(w, NULL, bytes, "sinks and tails", &full, error));
    KVS_TRY(kvs_bench_repeat(w->r, full, bytes, w->r->elements, kvs_bench_element_bytes(w->r), error));
    args->sink_k = full;
    args->sink_v = args->sink_k + sinks;
    args->tail_k = args->sink_v + sinks;
    args->tail_v = args->tail_k + tails;
    return KVS_OK;
}

static kvs_status put_counts(attention_work *w, int batch, int tokens, int key_pages, int value_pages,
                             kvs_error *error) {
    int32_t counts[3][1024];
    for (int i = 0; i < batch; i++) counts[0][i] = tokens, counts[1][i] = key_pages, counts[2][i] = value_pages;
    size_t bytes = sizeof(int32_t) * (size_t)batch;
    KVS_TRY(put(w, counts[0], bytes, "lengths", &w->args.lengths, error));
    KVS_TRY(put(w, counts[1], bytes, "key_pages", &w->args.key_pages, error));
    return put(w, counts[2], bytes, "value_pages", &w->args.value_pages, error);
}

typedef struct shape_of_run {
    int key_pages, value_pages, pages; /* pages: of a sequence, in the table */
    double bytes;                      /* that must move */
    size_t set_bytes;                  /* of pages */
} shape_of_run;

static shape_of_run shape_at(const kvs_bench_run *r, const kvs_format *format, int batch, int tokens) {
    const kvs_device_bench *b = r->bench;
    shape_of_run s = {0};
    double row = 2.0 * b->head_dim, heads = (double)batch * b->kv_heads;
    if (format->keys == KVS_KEYS_FULL) {
        s.pages = (tokens + b->page_tokens - 1) / b->page_tokens;
        s.bytes = heads * tokens * 2.0 * row;
    } else {
        s.key_pages = s.pages = (tokens - b->sink_tokens) / b->page_tokens;
        s.value_pages = (tokens - b->sink_tokens - b->window_tokens) / b->page_tokens;
        s.bytes =
            heads * (s.key_pages * kvs_bench_part_bytes(format, 0) + s.value_pages * kvs_bench_part_bytes(format, 1));
        s.bytes += heads * row * (2.0 * tokens - (double)b->page_tokens * (s.key_pages + s.value_pages));
    }
    s.bytes += batch * (double)b->query_heads * b->head_dim * (2 + 4);
    s.set_bytes = (size_t)batch * (size_t)s.pages * (format->block_bytes[0] + format->block_bytes[1]);
    return s;
}

/* The pool holds the blocks of the first tensor, then those of the second. */
static size_t blocks_of_pool(const kvs_bench_run *r, const kvs_format *format) {
    return r->pool_bytes / (format->block_bytes[0] + format->block_bytes[1]);
}

static uint8_t *second_tensor(const kvs_bench_run *r, const kvs_format *format) {
    return (uint8_t *)r->pool + blocks_of_pool(r, format) * format->block_bytes[0];
}

static kvs_status time_attention(kvs_bench_run *r, attention_work *w, const kvs_format *format, const char *layout,
                                 int batch, int tokens, kvs_error *error) {
    const kvs_device_bench *b = r->bench;
    shape_of_run s = shape_at(r, format, batch, tokens);
    int sets = kvs_bench_sets(r, (double)s.set_bytes);
    kvs_attention_args *args = &w->args;
    *args = (kvs_attention_args){.format = *format, .sequences = batch, .query_heads = b->query_heads};
    args->softmax_scale = 1.0f / sqrtf((float)b->head_dim);
    args->table_pages = s.pages;
    args->tensors[0] = r->pool;
    args->tensors[1] = second_tensor(r, format);
    args->sink_tokens = b->sink_tokens;
    args->tail_tokens = b->window_tokens + b->page_tokens;
    w->table_entries = w->blocks = (size_t)batch * (size_t)s.pages;
    args->q = r->elements;
    args->splits = kvs_attention_splits(args, r->facts.multiprocessors, tokens);
    KVS_TRY(put_table(w, sets, error));
    KVS_TRY(put_full(w, sets, error));
    KVS_TRY(put_counts(w, batch, tokens, s.key_pages, s.value_pages, error));
    KVS_TRY(put(w, NULL, kvs_attention_workspace(args), "workspace", &args->workspace, error));
    size_t out = sizeof(float) * (size_t)batch * (size_t)(b->query_heads * b->head_dim);
    KVS_TRY(put(w, NULL, out, "out", &args->out, error));
    const char *kernel = format->keys == KVS_KEYS_FULL ? "decode_attention_fp16" : "decode_attention";
    kvs_bench_work timed = {kernel, layout, batch, tokens, args->splits, s.bytes, start_attention, w, sets};
    return kvs_bench_measure(r, &timed, error);
}

/* Pages of random elements, packed once, then repeated over both tensors. */
static kvs_status fill_with_pages(kvs_bench_run *r, const kvs_format *format, kvs_error *error) {
    if (format->keys == KVS_KEYS_FULL) return kvs_bench_fill_pool(r, error);
    int64_t pages = r->bench->elements / (r->bench->head_dim * r->bench->page_tokens);
    size_t blocks = (size_t)(pages / r->bench->kv_heads), room = blocks_of_pool(r, format);
    if (blocks > room) blocks = room;
    kvs_quantize_args args = {.format = *format, .pages = (int64_t)blocks * r->bench->kv_heads, .x = r->elements};
    args.rule = kvs_bench_rule();
    args.tensors[0] = r->pool;
    args.tensors[1] = second_tensor(r, format);
    KVS_TRY(r->executor->fill(r->pool, 0, r->pool_bytes, error)); /* what fills up a page is written by no kernel */
    KVS_TRY(kvs_executor_quantize(r->executor, 0, &args, NULL, error));
    KVS_TRY(kvs_executor_quantize(r->executor, 1, &args, NULL, error));
    for (int i = 0; i < format->tensors; i++) {
        size_t each = format->block_bytes[i];
        KVS_TRY(kvs_bench_repeat(r, args.tensors[i], room * each, args.tensors[i], blocks * each, error));
    }
    return KVS_OK;
}

kvs_status kvs_bench_attention(kvs_bench_run *r, const char *layout, kvs_progress *progress, kvs_error *error) {
    const kvs_device_bench *b = r->bench;
    kvs_format format = kvs_bench_format(r, layout);
    size_t pool = 0, room = r->facts.free_bytes > 0 ? r->facts.free_bytes / 10 * 9 : SIZE_MAX;
    for (int i = 0; b->batches[i] > 0; i++)
        for (int j = 0; b->lengths[j] > 0; j++) {
            size_t bytes = shape_at(r, &format, b->batches[i], b->lengths[j]).set_bytes;
            bytes *= (size_t)kvs_bench_sets(r, (double)bytes);
            if (bytes > pool && bytes < room) pool = bytes;
        }
    KVS_TRY(kvs_bench_new_pool(r, pool, error));
    KVS_TRY(fill_with_pages(r, &format, error));
    for (int j = 0; b->lengths[j] > 0; j++)
        for (int i = 0; b->batches[i] > 0; i++) {
            size_t bytes = shape_at(r, &format, b->batches[i], b->lengths[j]).set_bytes;
            if (bytes * (size_t)kvs_bench_sets(r, (double)bytes) > pool) continue;
            attention_work work = {.r = r};
            kvs_status status = time_attention(r, &work, &format, layout, b->batches[i], b->lengths[j], error);
            for (int m = 0; m < work.memories; m++) r->executor->release(work.memory[m]);
            if (status != KVS_OK) return status;
            kvs_progress_add(progress, 1);
            if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, "bench", NULL, "interrupted");
        }
    return KVS_OK;
}
