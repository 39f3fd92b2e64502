#include "traces/generate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/progress.h"
#include "core/random.h"
#include "core/simd.h"
#include "core/version.h"
#include "traces/internal.h"

enum {
    BLOCK_ROWS = 16 * KVS_TRACE_CHUNK_TOKENS, /* generated at once, by one thread */
    KNOT_TOKENS = 16,                         /* the slow part of a channel is linear between such tokens */
    SINKS = 4,
};

/* Draws under one key, told apart by what they are for. */
enum { DRAW_MEAN = 1, DRAW_SCALE, DRAW_PAIR, DRAW_SIGN, DRAW_SINK, DRAW_NOISE, DRAW_SLOW };

/* What one head of one tensor looks like: value = mean + fast * noise + slow * (line between knots). */
typedef struct {
    uint64_t noise, knots; /* keys */
    float *mean, *fast, *slow, *sink;
} head_model;

/* Nearly normal: the sum of the four 16-bit parts of one draw, centred, with variance 1 (Irwin-Hall). */
static inline float normal(uint64_t key, uint64_t counter) {
    uint64_t bits = kvs_random_bits(key, counter);
    uint64_t pairs = (bits & 0x0000ffff0000ffffu) + ((bits >> 16) & 0x0000ffff0000ffffu);
    uint32_t sum = (uint32_t)(pairs >> 32) + (uint32_t)pairs;
    return ((float)(int32_t)sum - 131070.0f) * 2.6428918e-5f; /* sqrt(12 / 4) / 65536 */
}

static void ordinary_channels(head_model *m, uint64_t key, int columns, double mean, double spread) {
    for (int c = 0; c < columns; c++) {
        float scale = expf((float)spread * normal(kvs_random_key(key, DRAW_SCALE), (uint64_t)c));
        m->mean[c] = (float)mean * normal(kvs_random_key(key, DRAW_MEAN), (uint64_t)c);
        m->fast[c] = 0.8f * scale;
        m->slow[c] = 0.6f * scale; /* knots of variance 1: between 0.64 + 0.18 and 0.64 + 0.36 of scale^2 */
        m->sink[c] = normal(kvs_random_key(key, DRAW_SINK), (uint64_t)c);
    }
}

/* Pairs are chosen by the first steps of a Fisher-Yates shuffle. */
static kvs_status outlier_channels(head_model *m, uint64_t key, const kvs_generate *g, kvs_error *error) {
    int half = g->head_dim / 2;
    int *order = malloc(sizeof *order * (size_t)(half + 1));
    if (order == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int i = 0; i < half; i++) order[i] = i;
    for (int i = 0; i < g->outlier_pairs; i++) {
        int j = i + (int)(kvs_random_bits(kvs_random_key(key, DRAW_PAIR), (uint64_t)i) % (uint64_t)(half - i));
        int pair = order[j];
        order[j] = order[i];
        for (int c = pair; c < g->head_dim; c += half) {
            uint64_t sign = kvs_random_key(key, DRAW_SIGN);
            float size = (float)g->outlier_scale * (0.75f + 0.5f * kvs_random_unit(sign, (uint64_t)(2 * c)));
            m->mean[c] = kvs_random_bits(sign, (uint64_t)(2 * c + 1)) & 1 ? size : -size;
            m->fast[c] = 0.3f * size;
            m->slow[c] = 0.2f * size;
        }
    }
    free(order);
    return KVS_OK;
}

/* kv_key: of the KV head. What a channel looks like belongs to the model: only noise tells sequences apart. Queries
 * lean towards what marks the sinks of their KV head. */
static kvs_status describe_head(head_model *m, const kvs_generate *g, kvs_tensor tensor, uint64_t kv_key, int head,
                                int sequence, kvs_error *error) {
    uint64_t key = kvs_random_key(kvs_random_key(kv_key, (uint64_t)tensor), (uint64_t)head);
    m->noise = kvs_random_key(kvs_random_key(key, DRAW_NOISE), (uint64_t)sequence);
    m->knots = kvs_random_key(kvs_random_key(key, DRAW_SLOW), (uint64_t)sequence);
    float sink_length = (float)sqrt((double)g->head_dim);
    if (tensor == KVS_TENSOR_Q) {
        ordinary_channels(m, key, g->head_dim, 0.2, 0.3);
        uint64_t key_of_k = kvs_random_key(kvs_random_key(kv_key, KVS_TENSOR_K), 0);
        for (int c = 0; c < g->head_dim; c++)
            m->mean[c] += 6.0f / sink_length * normal(kvs_random_key(key_of_k, DRAW_SINK), (uint64_t)c);
        return KVS_OK;
    }
    int is_key = tensor == KVS_TENSOR_K;
    ordinary_channels(m, key, g->head_dim, is_key ? 0.5 : 0.1, is_key ? 0.4 : 0.3);
    for (int c = 0; c < g->head_dim; c++) m->sink[c] *= is_key ? 8.0f / sink_length : 0.0f;
    return is_key ? outlier_channels(m, key, g, error) : KVS_OK;
}

KVS_SIMD static void fill_row(float *row, const head_model *m, int columns, const float *from, const float *to,
                              float share, uint64_t counter) {
    for (int c = 0; c < columns; c++) {
        float slow = from[c] + share * (to[c] - from[c]);
        row[c] = m->mean[c] + m->fast[c] * normal(m->noise, counter + (uint64_t)c) + m->slow[c] * slow;
    }
}

KVS_SIMD static void fill_knot(float *knot, const head_model *m, int columns, uint64_t index) {
    for (int c = 0; c < columns; c++) knot[c] = normal(m->knots, index * (uint64_t)columns + (uint64_t)c);
}

/* Rows of one head at consecutive indices (tokens for k and v, queries for q). */
static void fill_rows(float *rows, const head_model *m, const kvs_generate *g, kvs_tensor tensor, int first, int count,
                      float *knots) {
    size_t columns = (size_t)g->head_dim;
    float *from = knots, *to = knots + columns;
    int at = -1; /* the knot that `from` holds */
    for (int t = first; t < first + count; t++, rows += columns) {
        int knot = t / KNOT_TOKENS;
        if (knot != at) {
            fill_knot(from, m, g->head_dim, (uint64_t)knot);
            fill_knot(to, m, g->head_dim, (uint64_t)knot + 1);
            at = knot;
        }
        float share = (float)(t % KNOT_TOKENS) / KNOT_TOKENS;
        fill_row(rows, m, g->head_dim, from, to, share, (uint64_t)t * columns);
        if (tensor == KVS_TENSOR_Q || t >= SINKS) continue;
        for (size_t c = 0; c < columns; c++)
            rows[c] = tensor == KVS_TENSOR_K ? 0.3f * rows[c] + m->sink[c] : 0.05f * rows[c];
    }
}

/* One block of one head: the unit of parallel work, written in order. */
typedef struct {
    kvs_tensor tensor;
    int layer, head, first, count;
} block;

static int blocks_of(int rows) {
    return (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

/* The index-th block of a sequence, tensor by tensor, layer by layer, head by head. */
static block block_at(const kvs_generate *g, long index) {
    block b = {.tensor = KVS_TENSOR_K};
    for (;; b.tensor++) {
        int rows = b.tensor == KVS_TENSOR_Q ? g->queries : g->tokens;
        int heads = b.tensor == KVS_TENSOR_Q ? g->query_heads : g->kv_heads;
        long blocks = blocks_of(rows), all = blocks * heads * g->layers;
        if (index >= all && b.tensor != KVS_TENSOR_Q) {
            index -= all;
            continue;
        }
        b.first = (int)(index % blocks) * BLOCK_ROWS;
        b.count = rows - b.first < BLOCK_ROWS ? rows - b.first : BLOCK_ROWS;
        b.head = (int)(index / blocks % heads);
        b.layer = (int)(index / blocks / heads);
        return b;
    }
}

static kvs_status generate_block(const kvs_generate *g, const block *b, int sequence, float *rows, kvs_error *error) {
    size_t columns = (size_t)g->head_dim;
    float *floats = malloc(sizeof *floats * 6 * columns);
    if (floats == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    head_model m = {
        .mean = floats, .fast = floats + columns, .slow = floats + 2 * columns, .sink = floats + 3 * columns};
    int group = b->tensor == KVS_TENSOR_Q ? g->query_heads / g->kv_heads : 1;
    uint64_t key = kvs_random_key(kvs_random_key(g->seed, (uint64_t)b->layer), (uint64_t)(b->head / group));
    kvs_status status = describe_head(&m, g, b->tensor, key, b->head % group, sequence, error);
    if (status == KVS_OK) fill_rows(rows, &m, g, b->tensor, b->first, b->count, floats + 4 * columns);
    free(floats);
    return status;
}

/* Blocks are made in parallel and written in order, so at most one a thread is in memory. */
static kvs_status write_blocks(const kvs_generate *g, kvs_trace_writer *writer, int sequence, kvs_progress *progress,
                               kvs_error *error) {
    long blocks =
        (long)g->layers * (2L * g->kv_heads * blocks_of(g->tokens) + (long)g->query_heads * blocks_of(g->queries));
    double row_megabytes = g->head_dim * (double)kvs_element_bytes(g->options.element) / 1e6;
    kvs_status status = KVS_OK;
    int stop = 0;
#pragma omp parallel num_threads(g->threads)
    {
        float *rows = malloc(sizeof *rows * BLOCK_ROWS * (size_t)g->head_dim);
#pragma omp for ordered schedule(dynamic, 1)
        for (long i = 0; i < blocks; i++) {
            block b = block_at(g, i);
            kvs_error mine = {.status = KVS_OK};
            kvs_status made;
            int failed;
#pragma omp atomic read
            failed = stop;
            if (failed) continue;
            made = rows != NULL ? generate_block(g, &b, sequence, rows, &mine)
                                : kvs_fail(&mine, KVS_INPUT, NULL, NULL, "out of memory");
#pragma omp ordered
            if (status == KVS_OK) {
                if (kvs_interrupted()) made = kvs_fail(&mine, KVS_INTERRUPTED, "gen", NULL, "interrupted");
                if (made == KVS_OK)
                    made = kvs_trace_write_rows(writer, b.tensor, b.layer, b.head, b.first, b.count, rows, &mine);
                if (made != KVS_OK && error != NULL) *error = mine;
                status = made;
#pragma omp atomic write
                stop = made != KVS_OK;
                kvs_progress_add(progress, (double)b.count * row_megabytes);
            }
        }
        free(rows);
    }
    return status;
}

static kvs_status check(const kvs_generate *g, kvs_error *error) {
    if (g->query_heads % g->kv_heads != 0)
        return kvs_fail(error, KVS_USAGE, "query heads", NULL, "%d is no multiple of %d KV heads", g->query_heads,
                        g->kv_heads);
    if (g->prompt_tokens > g->tokens)
        return kvs_fail(error, KVS_USAGE, "prompt tokens", NULL, "%d is more than %d tokens", g->prompt_tokens,
                        g->tokens);
    if (g->queries > 0 && g->queries > g->tokens - g->first_query)
        return kvs_fail(error, KVS_USAGE, "queries", NULL, "%d queries do not fit between position %d and %d tokens",
                        g->queries, g->first_query, g->tokens);
    if (g->outlier_pairs > g->head_dim / 2 || (g->outlier_pairs > 0 && g->head_dim % 2 != 0))
        return kvs_fail(error, KVS_USAGE, "outlier pairs", NULL, "%d pairs do not fit in %d channels", g->outlier_pairs,
                        g->head_dim);
    return KVS_OK;
}

static kvs_trace_header describe(const kvs_generate *g) {
    kvs_trace_header h = {.model_name = "synthetic",
                          .model_family = "synthetic",
                          .layers = g->layers,
                          .query_heads = g->query_heads,
                          .kv_heads = g->kv_heads,
                          .head_dim = g->head_dim,
                          .softmax_scale = 1 / sqrt((double)g->head_dim),
                          .causal = 1,
                          .source_dtype = "float32",
                          .recorder = "kvscope gen " KVS_VERSION,
                          .created_utc = "1970-01-01T00:00:00Z", /* the same bytes whenever it is run */
                          .license = "CC0-1.0"};
    return h;
}

static int32_t query_position(const kvs_generate *g, int i) {
    int64_t last = g->tokens - 1 - g->first_query;
    return g->queries == 1 ? g->tokens - 1 : (int32_t)(g->first_query + i * last / (g->queries - 1));
}

static kvs_status generate_all(const kvs_generate *g, kvs_trace_writer *writer, int32_t *positions, kvs_error *error) {
    kvs_progress progress;
    double rows = 2.0 * g->kv_heads * g->tokens + (double)g->query_heads * g->queries;
    double bytes = rows * g->layers * g->sequences * g->head_dim * (double)kvs_element_bytes(g->options.element);
    kvs_progress_begin(&progress, "gen", "MB", bytes / 1e6, g->quiet);
    kvs_status status = KVS_OK;
    for (int i = 0; i < g->queries; i++) positions[i] = query_position(g, i);
    for (int s = 0; status == KVS_OK && s < g->sequences; s++) {
        kvs_sequence sequence = {.tokens = g->tokens, .prompt_tokens = g->prompt_tokens, .queries = g->queries};
        snprintf(sequence.task, sizeof sequence.task, "synthetic, seed %llu", (unsigned long long)g->seed);
        status = kvs_trace_add_sequence(writer, &sequence, g->queries > 0 ? positions : NULL, NULL, error);
        if (status == KVS_OK) status = write_blocks(g, writer, s, &progress, error);
    }
    kvs_progress_end(&progress);
    return status;
}

kvs_status kvs_trace_generate(const char *path, const kvs_generate *g, kvs_error *error) {
    KVS_TRY(check(g, error));
    kvs_trace_header header = describe(g);
    kvs_trace_writer *writer;
    int32_t *positions = malloc(sizeof *positions * (size_t)(g->queries + 1));
    if (positions == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    kvs_status status = kvs_trace_create(path, &header, g->options, &writer, error);
    if (status == KVS_OK) {
        status = generate_all(g, writer, positions, error);
        if (status == KVS_OK)
            status = kvs_trace_writer_finish(writer, error);
        else
            kvs_trace_writer_abandon(writer);
    }
    free(positions);
    return status;
}
