#include "analysis/workload.h"

#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/random.h"

enum { MAX_MEMORIES = 20 };

struct kvs_workload {
    const kvs_executor *executor;
    const kvs_workload_kernel *kernel;
    const kvs_workload_input *input; /* while it is prepared */
    kvs_format format;
    int full; /* pages are of full precision and begin with the first token; else after the sinks */
    int tokens, blocks_of_sequence, blocks; /* tokens and blocks of a sequence; blocks of all */
    void *memory[MAX_MEMORIES];
    int memories;
    uint8_t *tensors[2];
    int32_t *table; /* [blocks]: scatters the pages of a sequence; attention only */
    kvs_quantize_args quantize;
    kvs_dequantize_args dequantize;
    kvs_attention_args attention;
    void *from, *to; /* of copy */
    size_t bytes;
};

/* --- the input -----------------------------------------------------------------------------------------------------
 */

int kvs_workload_tokens(const kvs_workload_input *input) {
    return input->sink_tokens + input->pages * input->shape.page_tokens;
}

static size_t elements_of(const kvs_workload_input *input) {
    return (size_t)input->sequences * (size_t)input->shape.kv_heads * (size_t)kvs_workload_tokens(input) *
           (size_t)input->shape.head_dim;
}

static size_t queries_of(const kvs_workload_input *input) {
    return (size_t)input->sequences * (size_t)input->query_heads * (size_t)input->shape.head_dim;
}

kvs_status kvs_workload_input_alloc(kvs_workload_input *input, kvs_error *error) {
    input->keys = malloc(2 * elements_of(input));
    input->values = malloc(2 * elements_of(input));
    input->queries = malloc(2 * queries_of(input));
    if (input->keys != NULL && input->values != NULL && input->queries != NULL) return KVS_OK;
    kvs_workload_input_clear(input);
    return kvs_fail(error, KVS_INPUT, "pages", NULL, "no memory for %zu elements", elements_of(input));
}

static void fill(uint64_t seed, size_t count, int head_dim, uint16_t *x) {
    for (size_t i = 0; i < count; i++) {
        float size = i % (size_t)head_dim % 8 == 3 ? 16.0f : 1.0f;
        x[i] = kvs_float_to_half(size * (2.0f * kvs_random_unit(seed, i) - 1.0f));
    }
}

void kvs_workload_generate(kvs_workload_input *input) {
    fill(input->seed, elements_of(input), input->shape.head_dim, input->keys);
    fill(input->seed + 1, elements_of(input), input->shape.head_dim, input->values);
    fill(input->seed + 2, queries_of(input), input->shape.head_dim, input->queries);
}

void kvs_workload_input_clear(kvs_workload_input *input) {
    free(input->keys);
    free(input->values);
    free(input->queries);
    input->keys = input->values = input->queries = NULL;
}

/* --- memory --------------------------------------------------------------------------------------------------------
 */

/* Memory with these bytes in it, or zeros. */
static void *put(kvs_workload *w, const void *host, size_t bytes, const char *name, kvs_status *status,
                 kvs_error *error) {
    if (*status != KVS_OK) return NULL;
    void **at = &w->memory[w->memories];
    *status = w->executor->allocate(bytes, name, at, error);
    if (*status != KVS_OK) return NULL;
    w->memories++;
    *status = host != NULL ? w->executor->upload(*at, host, bytes, error) : w->executor->fill(*at, 0, bytes, error);
    return *at;
}

static const uint16_t *token_of(const kvs_workload_input *input, const uint16_t *x, int sequence, int head, int token) {
    size_t row = ((size_t)sequence * (size_t)input->shape.kv_heads + (size_t)head) * (size_t)kvs_workload_tokens(input);
    return x + (row + (size_t)token) * (size_t)input->shape.head_dim;
}

static size_t page_elements(const kvs_workload *w) {
    return (size_t)w->format.shape.page_tokens * (size_t)w->format.shape.head_dim;
}

static int64_t pages_of(const kvs_workload *w) {
    return (int64_t)w->blocks * w->format.shape.kv_heads;
}

/* One page: the tokens of a block and head, zeros beyond the last. */
static void take_page(const kvs_workload *w, const uint16_t *x, int block, int head, uint16_t *page) {
    const kvs_workload_input *input = w->input;
    int P = w->format.shape.page_tokens;
    int first = (w->full ? 0 : input->sink_tokens) + block % w->blocks_of_sequence * P;
    int known = kvs_workload_tokens(input) - first;
    size_t bytes = 2 * page_elements(w) / (size_t)P * (size_t)(known < P ? known : P);
    memset(page, 0, 2 * page_elements(w));
    memcpy(page, token_of(input, x, block / w->blocks_of_sequence, head, first), bytes);
}

/* All pages, [blocks][kv_heads][page_tokens][head_dim]. */
static uint16_t *put_pages(kvs_workload *w, const uint16_t *x, const char *name, kvs_status *status, kvs_error *error) {
    size_t bytes = 2 * (size_t)pages_of(w) * page_elements(w);
    int heads = w->format.shape.kv_heads;
    uint16_t *host = *status == KVS_OK ? malloc(bytes) : NULL;
    if (*status == KVS_OK && host == NULL)
        *status = kvs_fail(error, KVS_INPUT, name, NULL, "no memory for %zu bytes", bytes);
    for (int i = 0; *status == KVS_OK && i < w->blocks * heads; i++)
        take_page(w, x, i / heads, i % heads, host + (size_t)i * page_elements(w));
    uint16_t *at = put(w, host, bytes, name, status, error);
    free(host);
    return at;
}

static void put_tensors(kvs_workload *w, kvs_status *status, kvs_error *error) {
    static const char *const names[] = {"pages", "metadata"};
    for (int i = 0; i < w->format.tensors; i++)
        w->tensors[i] = put(w, NULL, (size_t)w->blocks * w->format.block_bytes[i], names[i], status, error);
}

/* --- packed pages --------------------------------------------------------------------------------------------------
 */

static kvs_quantize_args quantize_args(const kvs_workload *w, const uint16_t *x) {
    kvs_quantize_args args = {.format = w->format, .metric = KVS_METRIC_MAGNITUDE, .pages = pages_of(w), .x = x};
    args.rule = (kvs_affine_rule){KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0.0f};
    args.blocks = w->table;
    for (int i = 0; i < 2; i++) args.tensors[i] = w->tensors[i];
    return args;
}

static kvs_status pack_full(kvs_workload *w, const int32_t *table, kvs_error *error) {
    size_t bytes = (size_t)w->blocks * w->format.block_bytes[0];
    uint8_t *host = calloc(bytes, 1);
    uint16_t *pages = malloc(4 * page_elements(w));
    kvs_status status = KVS_OK;
    if (host == NULL || pages == NULL)
        status = kvs_fail(error, KVS_INPUT, "pages", NULL, "no memory for %zu bytes", bytes);
    for (int b = 0; b < w->blocks && status == KVS_OK; b++)
        for (int head = 0; head < w->format.shape.kv_heads; head++) {
            uint8_t *const at[2] = {host + (size_t)(table != NULL ? table[b] : b) * w->format.block_bytes[0], NULL};
            take_page(w, w->input->keys, b, head, pages);
            take_page(w, w->input->values, b, head, pages + page_elements(w));
            kvs_pack_full(&w->format, head, pages, pages + page_elements(w), at);
        }
    if (status == KVS_OK) status = w->executor->upload(w->tensors[0], host, bytes, error);
    free(host);
    free(pages);
    return status;
}

/* The tensors with the pages of the input in them; `table` on the host, like w->table on the executor. */
static kvs_status pack(kvs_workload *w, const int32_t *table, kvs_error *error) {
    kvs_status status = KVS_OK;
    put_tensors(w, &status, error);
    KVS_TRY(status);
    if (w->full) return pack_full(w, table, error);
    for (int values = 0; values < 2; values++) {
        const uint16_t *x = put_pages(w, values ? w->input->values : w->input->keys, "elements", &status, error);
        kvs_quantize_args args = quantize_args(w, x);
        if (status == KVS_OK) status = kvs_executor_quantize(w->executor, values, &args, NULL, error);
        if (status == KVS_OK) status = w->executor->synchronize(error);
        KVS_TRY(status);
        w->executor->release(w->memory[--w->memories]);
    }
    return KVS_OK;
}

/* --- the kernels ---------------------------------------------------------------------------------------------------
 */

static kvs_status prepare_copy(kvs_workload *w, kvs_error *error) {
    kvs_status status = KVS_OK;
    w->bytes = 2 * (size_t)pages_of(w) * page_elements(w);
    w->from = put_pages(w, w->input->keys, "elements", &status, error);
    w->to = put(w, NULL, w->bytes, "copy", &status, error);
    return status;
}

static kvs_status launch_copy(const kvs_workload *w, void *stream, kvs_error *error) {
    return kvs_executor_copy(w->executor, w->from, w->to, w->bytes, stream, error);
}

static kvs_status prepare_quantize(kvs_workload *w, const uint16_t *x, kvs_error *error) {
    if (w->full)
        return kvs_fail(error, KVS_USAGE, w->executor->name, w->kernel->name, "a full-precision layout holds no codes");
    kvs_status status = KVS_OK;
    const uint16_t *pages = put_pages(w, x, "elements", &status, error);
    put_tensors(w, &status, error);
    w->quantize = quantize_args(w, pages);
    return status;
}

static kvs_status prepare_quantize_k(kvs_workload *w, kvs_error *error) {
    return prepare_quantize(w, w->input->keys, error);
}

static kvs_status prepare_quantize_v(kvs_workload *w, kvs_error *error) {
    return prepare_quantize(w, w->input->values, error);
}

static kvs_status launch_quantize_k(const kvs_workload *w, void *stream, kvs_error *error) {
    return kvs_executor_quantize(w->executor, 0, &w->quantize, stream, error);
}

static kvs_status launch_quantize_v(const kvs_workload *w, void *stream, kvs_error *error) {
    return kvs_executor_quantize(w->executor, 1, &w->quantize, stream, error);
}

static kvs_status prepare_dequantize(kvs_workload *w, int values, kvs_error *error) {
    kvs_status status = pack(w, NULL, error);
    w->dequantize = (kvs_dequantize_args){.format = w->format, .pages = pages_of(w), .values = values};
    for (int i = 0; i < 2; i++) w->dequantize.tensors[i] = w->tensors[i];
    w->dequantize.y = put(w, NULL, 2 * (size_t)pages_of(w) * page_elements(w), "elements", &status, error);
    return status;
}

static kvs_status prepare_dequantize_k(kvs_workload *w, kvs_error *error) {
    return prepare_dequantize(w, 0, error);
}

static kvs_status prepare_dequantize_v(kvs_workload *w, kvs_error *error) {
    return prepare_dequantize(w, 1, error);
}

static kvs_status launch_dequantize(const kvs_workload *w, void *stream, kvs_error *error) {
    return kvs_executor_dequantize(w->executor, &w->dequantize, stream, error);
}

/* Tokens first..last-1 of every KV head, each at its number modulo room: the sinks, or the ring of the last tokens. */
static const uint16_t *put_tokens(kvs_workload *w, const uint16_t *x, int first, int last, int room, const char *name,
                                  kvs_status *status, kvs_error *error) {
    const kvs_workload_input *input = w->input;
    size_t row = (size_t)w->format.shape.head_dim, heads = (size_t)(input->sequences * w->format.shape.kv_heads);
    int kv_heads = w->format.shape.kv_heads;
    uint16_t *host = *status == KVS_OK ? calloc(heads * (size_t)room * row + 1, 2) : NULL;
    if (*status == KVS_OK && host == NULL) *status = kvs_fail(error, KVS_INPUT, name, NULL, "out of memory");
    for (int h = 0; *status == KVS_OK && h < (int)heads; h++)
        for (int t = first; t < last; t++)
            memcpy(host + ((size_t)h * (size_t)room + (size_t)(t % room)) * row,
                   token_of(input, x, h / kv_heads, h % kv_heads, t), 2 * row);
    const uint16_t *at = put(w, host, 2 * heads * (size_t)room * row, name, status, error);
    free(host);
    return at;
}

static kvs_status put_counts(kvs_workload *w, kvs_error *error) {
    const kvs_workload_input *input = w->input;
    int P = w->format.shape.page_tokens, unpacked = input->pages * P - input->window_tokens;
    int32_t counts[] = {kvs_workload_tokens(input), input->pages, unpacked > 0 ? unpacked / P : 0};
    const char *const names[] = {"lengths", "key_pages", "value_pages"};
    const int32_t **const fields[] = {&w->attention.lengths, &w->attention.key_pages, &w->attention.value_pages};
    int32_t *all = malloc(sizeof *all * (size_t)input->sequences);
    kvs_status status = all != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, "lengths", NULL, "out of memory");
    for (int i = 0; i < 3 && status == KVS_OK; i++) {
        for (int s = 0; s < input->sequences; s++) all[s] = counts[i];
        *fields[i] = put(w, all, sizeof *all * (size_t)input->sequences, names[i], &status, error);
    }
    free(all);
    return status;
}

/* The pages of a sequence lie scattered, as an allocator leaves them after a while. */
static kvs_status pack_scattered(kvs_workload *w, kvs_error *error) {
    int32_t *table = malloc(sizeof *table * (size_t)w->blocks);
    int stride = 7919;
    if (table == NULL) return kvs_fail(error, KVS_INPUT, "page_table", NULL, "out of memory");
    while (w->blocks % stride == 0) stride += 2; /* a prime that the count has not: reaches every block */
    for (int i = 0; i < w->blocks; i++) table[i] = (int32_t)((int64_t)i * stride % w->blocks);
    kvs_status status = KVS_OK;
    w->table = put(w, table, sizeof *table * (size_t)w->blocks, "page_table", &status, error);
    if (status == KVS_OK) status = pack(w, table, error);
    free(table);
    return status;
}

static kvs_status prepare_attention(kvs_workload *w, kvs_error *error) {
    const kvs_workload_input *input = w->input;
    kvs_attention_args *args = &w->attention;
    KVS_TRY(pack_scattered(w, error));
    *args = (kvs_attention_args){.format = w->format, .sequences = input->sequences, .query_heads = input->query_heads};
    args->softmax_scale = input->softmax_scale;
    args->page_table = w->table;
    args->table_pages = w->blocks_of_sequence;
    for (int i = 0; i < 2; i++) args->tensors[i] = w->tensors[i];
    KVS_TRY(put_counts(w, error));
    kvs_status status = KVS_OK;
    args->q = put(w, input->queries, 2 * queries_of(input), "queries", &status, error);
    if (w->format.keys != KVS_KEYS_FULL) {
        int P = w->format.shape.page_tokens, tokens = kvs_workload_tokens(input);
        args->sink_tokens = input->sink_tokens;
        args->tail_tokens = input->window_tokens + P;
        int first = tokens > args->tail_tokens ? tokens - args->tail_tokens : 0;
        args->sink_k =
            put_tokens(w, input->keys, 0, input->sink_tokens, input->sink_tokens, "sink keys", &status, error);
        args->sink_v =
            put_tokens(w, input->values, 0, input->sink_tokens, input->sink_tokens, "sink values", &status, error);
        args->tail_k = put_tokens(w, input->keys, first, tokens, args->tail_tokens, "tail keys", &status, error);
        args->tail_v = put_tokens(w, input->values, first, tokens, args->tail_tokens, "tail values", &status, error);
    }
    args->splits = input->splits > 0 ? input->splits
                                     : kvs_attention_splits(args, input->multiprocessors, kvs_workload_tokens(input));
    args->workspace = put(w, NULL, kvs_attention_workspace(args), "workspace", &status, error);
    args->out = put(w, NULL, 2 * sizeof(uint16_t) * queries_of(input), "out", &status, error);
    return status;
}

static kvs_status launch_attention(const kvs_workload *w, void *stream, kvs_error *error) {
    return kvs_executor_attend(w->executor, &w->attention, stream, error);
}

/* --- operations of their arithmetic --------------------------------------------------------------------------------
 */

static double no_operations(const kvs_workload *w) {
    (void)w;
    return 0;
}

static double elements(const kvs_workload *w) {
    return (double)pages_of(w) * (double)page_elements(w);
}

/* Minimum, maximum and a multiply-add for each element; keys also a sum of magnitudes, which ranks the channels. */
static double quantize_k_operations(const kvs_workload *w) {
    return 5 * elements(w);
}

static double quantize_v_operations(const kvs_workload *w) {
    return 4 * elements(w);
}

/* A multiply-add. */
static double dequantize_operations(const kvs_workload *w) {
    return w->full ? 0 : 2 * elements(w);
}

/* A multiply-add for q k and one for p v, of each query head, token and channel; packed elements are dequantized. */
static double attention_operations(const kvs_workload *w) {
    double tokens = (double)w->tokens * w->attention.sequences * w->format.shape.head_dim;
    return 4 * tokens * w->attention.query_heads + 2 * dequantize_operations(w);
}

#define KERNEL(id, its_name, its_summary, has_layouts, its_prepare, its_launch, its_operations)                        \
    static const kvs_workload_kernel id = {its_name, its_summary, has_layouts, its_prepare, its_launch, its_operations}

KERNEL(copy, "copy", "copies the keys of all pages: the yardstick", 0, prepare_copy, launch_copy, no_operations);
KERNEL(quantize_k, "quantize_pack_k", "ranks, quantizes and packs keys", 1, prepare_quantize_k, launch_quantize_k,
       quantize_k_operations);
KERNEL(quantize_v, "quantize_pack_v", "quantizes and packs values", 1, prepare_quantize_v, launch_quantize_v,
       quantize_v_operations);
KERNEL(dequantize_k, "dequantize_k", "kernel dequantize: keys back to binary16", 1, prepare_dequantize_k,
       launch_dequantize, dequantize_operations);
KERNEL(dequantize_v, "dequantize_v", "kernel dequantize: values back to binary16", 1, prepare_dequantize_v,
       launch_dequantize, dequantize_operations);
KERNEL(attend, "decode_attention", "attention over packed pages", 1, prepare_attention, launch_attention,
       attention_operations);
KERNEL(attend_full, "decode_attention_fp16", "attention over full-precision pages", 1, prepare_attention,
       launch_attention, attention_operations);

const kvs_workload_kernel *const kvs_workload_kernels[] = {
    &copy, &quantize_k, &quantize_v, &dequantize_k, &dequantize_v, &attend, &attend_full, NULL,
};

const kvs_workload_kernel *kvs_workload_kernel_find(const char *name) {
    for (int i = 0; kvs_workload_kernels[i] != NULL; i++)
        if (strcmp(kvs_workload_kernels[i]->name, name) == 0) return kvs_workload_kernels[i];
    return NULL;
}

/* --- a workload ----------------------------------------------------------------------------------------------------
 */

kvs_status kvs_workload_open(const kvs_executor *executor, const kvs_workload_kernel *kernel, const kvs_format *format,
                             const kvs_workload_input *input, kvs_workload **workload, kvs_error *error) {
    int full = format->keys == KVS_KEYS_FULL && kernel->layouts, P = input->shape.page_tokens;
    *workload = NULL;
    if (kernel == &attend_full && !full)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel->name, "packed pages are read by decode_attention");
    if (kernel == &attend && full)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel->name,
                        "full-precision pages are read by decode_attention_fp16");
    kvs_workload *w = calloc(1, sizeof *w);
    if (w == NULL) return kvs_fail(error, KVS_INPUT, kernel->name, NULL, "out of memory");
    *w = (kvs_workload){.executor = executor, .kernel = kernel, .input = input, .format = *format, .full = full};
    w->tokens = kvs_workload_tokens(input);
    w->blocks_of_sequence = full ? (kvs_workload_tokens(input) + P - 1) / P : input->pages;
    w->blocks = w->blocks_of_sequence * input->sequences;
    kvs_status status = kernel->prepare(w, error);
    if (status == KVS_OK) status = executor->synchronize(error);
    w->input = NULL;
    if (status != KVS_OK)
        kvs_workload_close(w);
    else
        *workload = w;
    return status;
}

kvs_status kvs_workload_launch(const kvs_workload *workload, void *stream, kvs_error *error) {
    return workload->kernel->launch(workload, stream, error);
}

double kvs_workload_operations(const kvs_workload *workload) {
    return workload->kernel->operations(workload);
}

int kvs_workload_splits(const kvs_workload *workload) {
    return workload->attention.splits;
}

void kvs_workload_close(kvs_workload *workload) {
    if (workload == NULL) return;
    for (int i = workload->memories - 1; i >= 0; i--) workload->executor->release(workload->memory[i]);
    free(workload);
}
