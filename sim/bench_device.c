#include "sim/bench_device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/progress.h"
#include "core/random.h"

enum { MAX_SETS = 64, MAX_ROWS = 1024 };

const kvs_device_bench kvs_device_bench_standard = {
    .kv_heads = 8,
    .query_heads = 32,
    .head_dim = 128,
    .page_tokens = 128,
    .boost_channels = 32,
    .sink_tokens = 32,
    .window_tokens = 128,
    .batches = {1, 8, 32, 64},
    .lengths = {4096, 32768},
    .layouts = {"fp16-hnd", "fp16-nhd", "fragment", "kitty", "kitty-inline", "permuted", "mixed-scattered"},
    .kernel = "",
    .elements = 1 << 24,
    .copy_bytes = (int64_t)1 << 30,
    .quantize_pages = 1 << 15,
    .repeats = 51,
    .seed = 1,
};

const kvs_device_bench kvs_device_bench_toy = {
    .kv_heads = 2,
    .query_heads = 8,
    .head_dim = 128,
    .page_tokens = 128,
    .boost_channels = 32,
    .sink_tokens = 32,
    .window_tokens = 128,
    .batches = {1, 2},
    .lengths = {512},
    .layouts = {"fp16-hnd", "fp16-nhd", "fragment", "kitty", "kitty-inline", "permuted", "mixed-scattered"},
    .kernel = "",
    .elements = 1 << 16,
    .copy_bytes = 1 << 16,
    .quantize_pages = 4,
    .repeats = 2,
    .seed = 1,
};

/* Everything of one run. `pool` holds the inputs of the current layout: random elements, or pages made of them. */
typedef struct run {
    const kvs_executor *executor;
    const kvs_device_bench *bench;
    kvs_executor_facts facts;
    void *elements; /* bench->elements random binary16 */
    void *pool;
    size_t pool_bytes;
    double copy_rate; /* bytes per second */
    kvs_device_row rows[MAX_ROWS];
    int count;
} run;

static size_t element_bytes(const run *r) {
    return 2 * (size_t)r->bench->elements;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static kvs_status measure(run *r, kvs_device_row row, kvs_executor_work *work, void *context, int sets,
                          kvs_error *error) {
    int repeats = r->bench->repeats;
    double *seconds = malloc(sizeof *seconds * (size_t)repeats);
    if (seconds == NULL) return kvs_fail(error, KVS_INPUT, "bench", row.kernel, "out of memory");
    kvs_status status = r->executor->time(work, context, sets, repeats, seconds, error);
    if (status == KVS_OK) {
        qsort(seconds, (size_t)repeats, sizeof *seconds, compare);
        row.seconds = seconds[repeats / 2];
        row.seconds_p10 = seconds[repeats / 10];
        row.seconds_p90 = seconds[repeats - 1 - repeats / 10];
        row.of_copy = r->copy_rate > 0 ? row.bytes / row.seconds / r->copy_rate : 1.0;
        row.speedup_vs_full = row.speedup_vs_peer = row.speedup_vs_fastest = NAN;
        if (r->count < MAX_ROWS) r->rows[r->count++] = row;
    }
    free(seconds);
    return status;
}

/* Enough inputs that the L2 forgets each before its next turn. */
static int sets_for(const run *r, double bytes) {
    double sets = ceil(4.0 * (double)r->facts.l2_bytes / bytes);
    return sets < 2 ? 2 : sets > MAX_SETS ? MAX_SETS : (int)sets;
}

/* --- inputs --------------------------------------------------------------------------------------------------------
 */

static kvs_status upload_elements(run *r, kvs_error *error) {
    uint16_t *x = malloc(element_bytes(r));
    if (x == NULL) return kvs_fail(error, KVS_INPUT, "bench", NULL, "out of memory");
    for (int i = 0; i < r->bench->elements; i++) {
        uint64_t bits = kvs_random_bits(r->bench->seed, (uint64_t)i);
        float sum = 0;
        for (int j = 0; j < 4; j++) sum += (float)(bits >> 16 * j & 0xffff) / 65536.0f - 0.5f;
        if (i % 16 == 3) sum = 4.0f * sum + 8.0f; /* channels with outliers, as keys have them */
        x[i] = kvs_float_to_half(sum);
    }
    kvs_status status = r->executor->allocate(element_bytes(r), "elements", &r->elements, error);
    if (status == KVS_OK) status = r->executor->upload(r->elements, x, element_bytes(r), error);
    free(x);
    return status;
}

/* Fills `begin` with the `bytes` bytes of source, again and again; source may be its first part. */
static kvs_status repeat_over(run *r, void *begin, size_t whole, const void *source, size_t bytes, kvs_error *error) {
    for (size_t at = 0; at < whole; at += bytes) {
        size_t piece = whole - at < bytes ? whole - at : bytes;
        char *to = (char *)begin + at;
        if (to == source) continue;
        KVS_TRY(kvs_executor_copy(r->executor, source, to, piece / 16 * 16, NULL, error));
    }
    return r->executor->synchronize(error);
}

static kvs_status repeat_over_pool(run *r, const void *source, size_t bytes, kvs_error *error) {
    return repeat_over(r, r->pool, r->pool_bytes, source, bytes, error);
}

static kvs_status new_pool(run *r, size_t bytes, kvs_error *error) {
    r->executor->release(r->pool);
    r->pool = NULL;
    r->pool_bytes = (bytes + 255) / 256 * 256;
    return r->executor->allocate(r->pool_bytes, "pages", &r->pool, error);
}

static kvs_format format_of(const run *r, const char *layout) {
    const kvs_device_bench *b = r->bench;
    kvs_page_shape shape = {b->head_dim, b->page_tokens, b->kv_heads, 2, 4, b->boost_channels, 2, 0, 0};
    kvs_format format;
    if (kvs_format_make(kvs_layout_find(layout), &shape, &format, NULL) != KVS_OK) format = (kvs_format){.tensors = 0};
    return format;
}

/* --- copy and quantize ---------------------------------------------------------------------------------------------
 */

typedef struct copy_work {
    run *r;
    size_t bytes;
} copy_work;

static kvs_status start_copy(void *context, int iteration, void *stream, kvs_error *error) {
    copy_work *w = context;
    char *from = (char *)w->r->pool + (size_t)iteration * 2 * w->bytes;
    return kvs_executor_copy(w->r->executor, from, from + w->bytes, w->bytes, stream, error);
}

static kvs_status bench_copy(run *r, kvs_error *error) {
    copy_work work = {r, (size_t)r->bench->copy_bytes};
    KVS_TRY(new_pool(r, 4 * work.bytes, error));
    KVS_TRY(repeat_over_pool(r, r->elements, element_bytes(r), error));
    kvs_device_row row = {.kernel = "copy", .layout = "", .bytes = 2.0 * (double)work.bytes};
    KVS_TRY(measure(r, row, start_copy, &work, 2, error));
    r->copy_rate = r->rows[0].bytes / r->rows[0].seconds;
    return KVS_OK;
}

typedef struct quantize_work {
    run *r;
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

/* Bytes of a head's page that belong to keys (with the index) or to values. */
static double part_bytes(const kvs_format *format, int values) {
    double bytes = 0;
    for (int i = 0; i < format->sections_count; i++)
        if ((strncmp(format->sections[i].name, "value", 5) == 0) == values) bytes += format->sections[i].bytes;
    return format->keys == KVS_KEYS_FULL ? bytes / format->shape.kv_heads : bytes;
}

/* The pool holds, twice: the elements of all pages, then both tensors. */
static kvs_status bench_quantize(run *r, const char *layout, kvs_error *error) {
    static const char *const names[] = {"quantize_pack_k", "quantize_pack_v", "dequantize k", "dequantize v"};
    const kvs_device_bench *b = r->bench;
    kvs_format format = format_of(r, layout);
    size_t blocks = (size_t)(b->quantize_pages / b->kv_heads);
    size_t elements = (size_t)b->quantize_pages * (size_t)(b->head_dim * b->page_tokens);
    size_t bytes[2] = {blocks * format.block_bytes[0], blocks * format.block_bytes[1]};
    size_t each = 2 * elements + bytes[0] + bytes[1];
    quantize_work work = {.r = r};
    KVS_TRY(new_pool(r, 2 * each, error));
    KVS_TRY(repeat_over_pool(r, r->elements, element_bytes(r), error));
    for (int i = 0; i < 2; i++) {
        uint8_t *at = (uint8_t *)r->pool + (size_t)i * each;
        work.args[i] =
            (kvs_quantize_args){.format = format, .pages = b->quantize_pages, .x = (const uint16_t *)(void *)at};
        work.args[i].rule = (kvs_affine_rule){KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0};
        work.args[i].tensors[0] = at + 2 * elements;
        work.args[i].tensors[1] = at + 2 * elements + bytes[0];
        work.back[i] = (kvs_dequantize_args){.format = format, .pages = b->quantize_pages, .y = (uint16_t *)(void *)at};
        work.back[i].tensors[0] = work.args[i].tensors[0];
        work.back[i].tensors[1] = work.args[i].tensors[1];
    }
    for (int i = 0; i < 4; i++) {
        if (strstr(names[i], b->kernel) == NULL) continue;
        work.values = i % 2;
        double moved = 2.0 * (double)elements + (double)b->quantize_pages * part_bytes(&format, work.values);
        kvs_device_row row = {.kernel = names[i], .layout = layout, .bytes = moved};
        KVS_TRY(measure(r, row, i < 2 ? start_quantize : start_dequantize, &work, 2, error));
    }
    return KVS_OK;
}

/* --- attention -----------------------------------------------------------------------------------------------------
 */

typedef struct attention_work {
    run *r;
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
    KVS_TRY(repeat_over(w->r, full, bytes, w->r->elements, element_bytes(w->r), error));
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

static shape_of_run shape_at(const run *r, const kvs_format *format, int batch, int tokens) {
    const kvs_device_bench *b = r->bench;
    shape_of_run s = {0};
    double row = 2.0 * b->head_dim, heads = (double)batch * b->kv_heads;
    if (format->keys == KVS_KEYS_FULL) {
        s.pages = (tokens + b->page_tokens - 1) / b->page_tokens;
        s.bytes = heads * tokens * 2.0 * row;
    } else {
        s.key_pages = s.pages = (tokens - b->sink_tokens) / b->page_tokens;
        s.value_pages = (tokens - b->sink_tokens - b->window_tokens) / b->page_tokens;
        s.bytes = heads * (s.key_pages * part_bytes(format, 0) + s.value_pages * part_bytes(format, 1));
        s.bytes += heads * row * (2.0 * tokens - (double)b->page_tokens * (s.key_pages + s.value_pages));
    }
    s.bytes += batch * (double)b->query_heads * b->head_dim * (2 + 4);
    s.set_bytes = (size_t)batch * (size_t)s.pages * (format->block_bytes[0] + format->block_bytes[1]);
    return s;
}

/* The pool holds the blocks of the first tensor, then those of the second. */
static size_t blocks_of_pool(const run *r, const kvs_format *format) {
    return r->pool_bytes / (format->block_bytes[0] + format->block_bytes[1]);
}

static uint8_t *second_tensor(const run *r, const kvs_format *format) {
    return (uint8_t *)r->pool + blocks_of_pool(r, format) * format->block_bytes[0];
}

static kvs_status time_attention(run *r, attention_work *w, const kvs_format *format, const char *layout, int batch,
                                 int tokens, kvs_error *error) {
    const kvs_device_bench *b = r->bench;
    shape_of_run s = shape_at(r, format, batch, tokens);
    int sets = sets_for(r, (double)s.set_bytes);
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
    kvs_device_row row = {kernel, layout, batch, tokens, args->splits, .bytes = s.bytes};
    return measure(r, row, start_attention, w, sets, error);
}

/* Pages of random elements, packed once, then repeated over both tensors. */
static kvs_status fill_with_pages(run *r, const kvs_format *format, kvs_error *error) {
    if (format->keys == KVS_KEYS_FULL) return repeat_over_pool(r, r->elements, element_bytes(r), error);
    int64_t pages = r->bench->elements / (r->bench->head_dim * r->bench->page_tokens);
    size_t blocks = (size_t)(pages / r->bench->kv_heads), room = blocks_of_pool(r, format);
    if (blocks > room) blocks = room;
    kvs_quantize_args args = {.format = *format, .pages = (int64_t)blocks * r->bench->kv_heads, .x = r->elements};
    args.rule = (kvs_affine_rule){KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0};
    args.tensors[0] = r->pool;
    args.tensors[1] = second_tensor(r, format);
    KVS_TRY(r->executor->fill(r->pool, 0, r->pool_bytes, error)); /* what fills up a page is written by no kernel */
    KVS_TRY(kvs_executor_quantize(r->executor, 0, &args, NULL, error));
    KVS_TRY(kvs_executor_quantize(r->executor, 1, &args, NULL, error));
    for (int i = 0; i < format->tensors; i++) {
        size_t each = format->block_bytes[i];
        KVS_TRY(repeat_over(r, args.tensors[i], room * each, args.tensors[i], blocks * each, error));
    }
    return KVS_OK;
}

static kvs_status bench_attention(run *r, const char *layout, kvs_progress *progress, kvs_error *error) {
    const kvs_device_bench *b = r->bench;
    kvs_format format = format_of(r, layout);
    size_t pool = 0, room = r->facts.free_bytes > 0 ? r->facts.free_bytes / 10 * 9 : SIZE_MAX;
    for (int i = 0; b->batches[i] > 0; i++)
        for (int j = 0; b->lengths[j] > 0; j++) {
            size_t bytes = shape_at(r, &format, b->batches[i], b->lengths[j]).set_bytes;
            bytes *= (size_t)sets_for(r, (double)bytes);
            if (bytes > pool && bytes < room) pool = bytes;
        }
    KVS_TRY(new_pool(r, pool, error));
    KVS_TRY(fill_with_pages(r, &format, error));
    for (int j = 0; b->lengths[j] > 0; j++)
        for (int i = 0; b->batches[i] > 0; i++) {
            size_t bytes = shape_at(r, &format, b->batches[i], b->lengths[j]).set_bytes;
            if (bytes * (size_t)sets_for(r, (double)bytes) > pool) continue;
            attention_work work = {.r = r};
            kvs_status status = time_attention(r, &work, &format, layout, b->batches[i], b->lengths[j], error);
            for (int m = 0; m < work.memories; m++) r->executor->release(work.memory[m]);
            if (status != KVS_OK) return status;
            kvs_progress_add(progress, 1);
            if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, "bench", NULL, "interrupted");
        }
    return KVS_OK;
}

static double faster(double a, double b) {
    return isnan(a) || b < a ? b : a;
}

static void compare_with_full(run *r) {
    for (int i = 0; i < r->count; i++) {
        kvs_device_row *row = &r->rows[i];
        double full = NAN, peer = NAN;
        if (row->batch == 0) continue;
        for (int j = 0; j < r->count; j++) {
            const kvs_device_row *other = &r->rows[j];
            if (strcmp(other->layout, "fp16-hnd") == 0 && row->batch == other->batch && row->tokens == other->tokens)
                full = other->seconds;
        }
        for (int j = 0; j < r->bench->peers_count; j++) {
            const kvs_bench_peer *other = &r->bench->peers[j];
            if (row->batch == other->batch && row->tokens == other->tokens) peer = faster(peer, other->seconds);
        }
        row->speedup_vs_full = full / row->seconds;
        row->speedup_vs_peer = peer / row->seconds;
        row->speedup_vs_fastest = faster(full, peer) / row->seconds;
    }
}

static kvs_status bench_layout(run *r, const char *layout, kvs_progress *progress, kvs_error *error) {
    int full = format_of(r, layout).keys == KVS_KEYS_FULL;
    if (!full) KVS_TRY(bench_quantize(r, layout, error));
    kvs_progress_add(progress, 1);
    if (strstr(full ? "decode_attention_fp16" : "decode_attention", r->bench->kernel) == NULL) return KVS_OK;
    return bench_attention(r, layout, progress, error);
}

static kvs_status run_all(run *r, kvs_error *error) {
    const kvs_device_bench *b = r->bench;
    int layouts = 0, batches = 0, lengths = 0;
    kvs_progress progress;
    while (b->layouts[layouts] != NULL) layouts++;
    while (b->batches[batches] > 0) batches++;
    while (b->lengths[lengths] > 0) lengths++;
    kvs_progress_begin(&progress, "bench", "configurations", (uint64_t)(layouts * (1 + batches * lengths)), b->quiet);
    kvs_status status = upload_elements(r, error);
    if (status == KVS_OK) status = bench_copy(r, error);
    for (int i = 0; i < layouts && status == KVS_OK; i++) status = bench_layout(r, b->layouts[i], &progress, error);
    kvs_progress_end(&progress);
    return status;
}

kvs_status kvs_bench_on_device(const kvs_executor *executor, const kvs_device_bench *bench, kvs_executor_facts *facts,
                               kvs_device_row **rows, int *count, kvs_error *error) {
    *rows = NULL;
    *count = 0;
    if (executor->time == NULL) return kvs_fail(error, KVS_USAGE, executor->name, NULL, "cannot be timed");
    KVS_TRY(executor->open(facts, error));
    run *r = calloc(1, sizeof *r);
    if (r == NULL) return kvs_fail(error, KVS_INPUT, "bench", NULL, "out of memory");
    *r = (run){.executor = executor, .bench = bench, .facts = *facts};
    kvs_status status = run_all(r, error);
    executor->release(r->pool);
    executor->release(r->elements);
    if (status == KVS_OK) {
        compare_with_full(r);
        *rows = malloc(sizeof *r->rows * (size_t)r->count);
        if (*rows == NULL)
            status = kvs_fail(error, KVS_INPUT, "bench", NULL, "out of memory");
        else {
            memcpy(*rows, r->rows, sizeof *r->rows * (size_t)r->count);
            *count = r->count;
        }
    }
    free(r);
    return status;
}
