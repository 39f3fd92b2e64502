/* test_attention.c: is attention over packed pages what a float64 reference computes from the same pages? */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/half.h"
#include "core/random.h"
#include "kernels/executor.h"
#include "kernels/simt/runtime.h"

enum { MAX_SEQUENCES = 4, MAX_DIM = 256 };

static const kvs_executor *executor;
static kvs_error error;

static void ok(kvs_status status) {
    if (status != KVS_OK) print_message("# %s: %s: %s\n", error.file, error.object, error.rule);
    assert_int_equal(status, KVS_OK);
}

typedef enum inputs { RANDOM, OUTLIERS, ONE_HUGE, ALL_EQUAL, EXTREME } inputs;

typedef struct attention_case {
    const char *layout;
    int head_dim, page_tokens, bits, boost_bits, boost, value_bits, kv_heads, group, sinks, window, splits;
    int lengths[MAX_SEQUENCES]; /* 0: none */
    inputs kind;
} attention_case;

/* The whole cache of one case, as full-precision tokens and as pages. */
typedef struct cache {
    const attention_case *c;
    kvs_format format;
    int sequences, longest, table_pages, tail_tokens, full;
    double *k, *v; /* [sequences][kv_heads][longest][head_dim], as the kernel must see them */
    uint16_t *q, *sink_k, *sink_v, *tail_k, *tail_v;
    uint8_t *tensors[2];
    int32_t table[MAX_SEQUENCES * 64], key_pages[MAX_SEQUENCES], value_pages[MAX_SEQUENCES];
    int blocks;
} cache;

static float draw(uint64_t key, uint64_t i) {
    float sum = 0;
    for (uint64_t n = 0; n < 4; n++) sum += kvs_random_unit(key + n, i) - 0.5f;
    return sum * 1.7f;
}

static float key_of(inputs kind, uint64_t key, int token, int channel) {
    uint64_t i = (uint64_t)token * 4096 + (uint64_t)channel;
    float x = draw(key, i);
    if (kind == OUTLIERS || kind == EXTREME) {
        if (channel % 16 == 3) x = x * 8.0f + 25.0f;
        if (channel % 16 == 9) x *= 12.0f;
        if (channel % 16 == 5) x *= 1e-3f;
    }
    if (kind == EXTREME && channel == 7) x *= 900.0f;
    if (kind == ONE_HUGE && token == 77) x *= 40.0f;
    if (kind == ALL_EQUAL) x = 0.5f + 0.01f * (float)(channel % 9);
    return x;
}

static float value_of(inputs kind, uint64_t key, int token, int channel) {
    float x = draw(key + 100, (uint64_t)token * 4096 + (uint64_t)channel);
    if (kind == OUTLIERS && token % 37 == 5) x *= 50.0f;
    if (kind == EXTREME && token % 41 == 9) x *= 4000.0f;
    if (kind == EXTREME && token % 41 == 8) x *= 1e-4f;
    return x;
}

/* One page of keys (or values): min-max codes of x [page_tokens][head_dim]; x becomes what they stand for. */
static void quantize(cache *s, int values, double *x, int head, uint8_t *const block[2]) {
    static uint8_t codes[256 * MAX_DIM], ranks[MAX_DIM];
    static float scales[256], zeros[256];
    kvs_page page = {codes, ranks, scales, zeros};
    int head_dim = s->c->head_dim, tokens = s->c->page_tokens, count = s->format.shape.boost_channels;
    kvs_affine_rule rule = {KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0.0f};
    for (int d = 0; d < head_dim; d++) {
        int rank = (d * 37 + 11) % head_dim; /* 37 is prime to every head_dim */
        ranks[d] = (uint8_t)(count == head_dim ? d : rank < count ? rank : count);
    }
    for (int g = 0; g < (values ? tokens : head_dim); g++) {
        int members = values ? head_dim : tokens, first = values ? g * head_dim : g, stride = values ? 1 : head_dim;
        double low = DBL_MAX, high = -DBL_MAX;
        for (int i = 0; i < members; i++)
            low = fmin(low, x[first + i * stride]), high = fmax(high, x[first + i * stride]);
        int boosted = count > 0 && (count == head_dim || ranks[values ? 0 : g] < count);
        float levels = kvs_affine_levels(values ? s->c->value_bits : kvs_key_bits(&s->format, boosted));
        kvs_affine_group group = kvs_affine_fit(rule, (float)low, (float)high, levels);
        scales[g] = group.scale, zeros[g] = group.zero;
        for (int i = 0; i < members; i++) {
            int at = first + i * stride;
            float code = kvs_affine_code(rule.rounding, group, (float)x[at], levels);
            codes[at] = (uint8_t)code;
            x[at] = (double)code * (double)group.scale + (double)group.zero;
        }
    }
    (values ? kvs_pack_values : kvs_pack_keys)(&s->format, head, &page, block);
}

static double *row(const cache *s, double *x, int sequence, int head, int token) {
    return x +
           ((size_t)(sequence * s->c->kv_heads + head) * (size_t)s->longest + (size_t)token) * (size_t)s->c->head_dim;
}

static void pack_head(cache *s, int sequence, int head) {
    int P = s->c->page_tokens, D = s->c->head_dim, length = s->c->lengths[sequence];
    int pages = s->full ? (length + P - 1) / P : s->key_pages[sequence];
    static uint16_t full[2][256 * MAX_DIM];
    for (int p = 0; p < pages; p++) {
        uint8_t *block[2];
        for (int i = 0; i < 2; i++)
            block[i] = s->tensors[i] + (size_t)s->table[sequence * s->table_pages + p] * s->format.block_bytes[i];
        if (s->full) {
            for (int i = 0; i < P * D; i++) {
                int token = p * P + i / D, known = token < length;
                full[0][i] = known ? kvs_float_to_half((float)row(s, s->k, sequence, head, token)[i % D]) : 0x7e00;
                full[1][i] = known ? kvs_float_to_half((float)row(s, s->v, sequence, head, token)[i % D]) : 0x7e00;
            }
            kvs_pack_full(&s->format, head, full[0], full[1], block);
            continue;
        }
        quantize(s, 0, row(s, s->k, sequence, head, s->c->sinks + p * P), head, block);
        if (p < s->value_pages[sequence])
            quantize(s, 1, row(s, s->v, sequence, head, s->c->sinks + p * P), head, block);
    }
}

/* Sinks and ring in full precision. What must not be read is NaN. */
static void keep_full(cache *s, int sequence, int head) {
    int D = s->c->head_dim, length = s->c->lengths[sequence], P = s->c->page_tokens, S = s->c->sinks;
    size_t at = (size_t)(sequence * s->c->kv_heads + head);
    for (int t = 0; t < length; t++) {
        size_t sink = (at * (size_t)S + (size_t)t) * (size_t)D;
        size_t tail = (at * (size_t)s->tail_tokens + (size_t)(t % s->tail_tokens)) * (size_t)D;
        for (int d = 0; d < D; d++) {
            uint16_t k = kvs_float_to_half((float)row(s, s->k, sequence, head, t)[d]);
            uint16_t v = kvs_float_to_half((float)row(s, s->v, sequence, head, t)[d]);
            if (t < S) s->sink_k[sink + (size_t)d] = k, s->sink_v[sink + (size_t)d] = v;
            if (t >= S + s->key_pages[sequence] * P) s->tail_k[tail + (size_t)d] = k;
            if (t >= S + s->value_pages[sequence] * P) s->tail_v[tail + (size_t)d] = v;
        }
    }
}

static void *nans(size_t count) {
    uint16_t *x = malloc(2 * count + 2);
    for (size_t i = 0; i < count; i++) x[i] = 0x7e00;
    return x;
}

static void make_cache(cache *s, const attention_case *c) {
    kvs_page_shape shape = {c->head_dim, c->page_tokens, c->kv_heads, c->bits, c->boost_bits,
                            c->boost,    c->value_bits,  0,           0};
    memset(s, 0, sizeof *s);
    s->c = c;
    ok(kvs_format_make(kvs_layout_find(c->layout), &shape, &s->format, &error));
    s->full = s->format.keys == KVS_KEYS_FULL;
    while (s->sequences < MAX_SEQUENCES && c->lengths[s->sequences] > 0) {
        int length = c->lengths[s->sequences], after = length - c->sinks;
        if (length > s->longest) s->longest = length;
        s->key_pages[s->sequences] = after > 0 ? after / c->page_tokens : 0;
        s->value_pages[s->sequences] = after > c->window ? (after - c->window) / c->page_tokens : 0;
        s->sequences++;
    }
    s->table_pages = (s->longest + c->page_tokens - 1) / c->page_tokens;
    s->blocks = s->sequences * s->table_pages;
    while (s->blocks % 5 == 0) s->blocks++; /* so that multiples of 5 reach every block */
    for (int i = 0; i < s->sequences * s->table_pages; i++) s->table[i] = (i * 5 + 3) % s->blocks;
    s->tail_tokens = c->window + c->page_tokens;
    size_t heads = (size_t)(s->sequences * c->kv_heads), D = (size_t)c->head_dim;
    s->k = malloc(sizeof(double) * heads * (size_t)s->longest * D);
    s->v = malloc(sizeof(double) * heads * (size_t)s->longest * D);
    s->q = malloc(2 * heads * (size_t)c->group * D);
    s->sink_k = nans(heads * (size_t)c->sinks * D), s->sink_v = nans(heads * (size_t)c->sinks * D);
    s->tail_k = nans(heads * (size_t)s->tail_tokens * D), s->tail_v = nans(heads * (size_t)s->tail_tokens * D);
    for (int i = 0; i < 2; i++) s->tensors[i] = calloc((size_t)s->blocks * s->format.block_bytes[i] + 1, 1);
    for (size_t i = 0; i < heads * (size_t)c->group * D; i++) {
        float x = draw(1, i) * (c->kind == ONE_HUGE ? 6.0f : 2.0f);
        if (c->kind == EXTREME && i % 128 == 7) x *= 0.001f;
        s->q[i] = kvs_float_to_half(x);
    }
    for (int n = 0; n < s->sequences; n++)
        for (int h = 0; h < c->kv_heads; h++) {
            for (int t = 0; t < s->longest; t++)
                for (int d = 0; d < c->head_dim; d++) {
                    uint64_t key = (uint64_t)(1000 * n + 10 * h);
                    row(s, s->k, n, h, t)[d] = kvs_round_to_half(key_of(c->kind, key, t, d));
                    row(s, s->v, n, h, t)[d] = kvs_round_to_half(value_of(c->kind, key, t, d));
                }
            keep_full(s, n, h);
            pack_head(s, n, h);
        }
}

static void free_cache(cache *s) {
    free(s->k), free(s->v), free(s->q), free(s->sink_k), free(s->sink_v), free(s->tail_k), free(s->tail_v);
    free(s->tensors[0]), free(s->tensors[1]);
}

/* In float64, from what the pages stand for. */
static void reference(cache *s, int sequence, int query_head, double *out) {
    int D = s->c->head_dim, head = query_head / s->c->group, length = s->c->lengths[sequence];
    double *weights = malloc(sizeof(double) * (size_t)length), maximum = -DBL_MAX, sum = 0;
    const uint16_t *q = s->q + (size_t)(sequence * s->c->kv_heads * s->c->group + query_head) * (size_t)D;
    for (int t = 0; t < length; t++) {
        weights[t] = 0;
        for (int d = 0; d < D; d++) weights[t] += kvs_half_to_float(q[d]) * row(s, s->k, sequence, head, t)[d];
        weights[t] /= sqrt(D);
        maximum = fmax(maximum, weights[t]);
    }
    for (int t = 0; t < length; t++) sum += weights[t] = exp(weights[t] - maximum);
    for (int d = 0; d < D; d++) out[d] = 0;
    for (int t = 0; t < length; t++)
        for (int d = 0; d < D; d++) out[d] += weights[t] / sum * row(s, s->v, sequence, head, t)[d];
    free(weights);
}

typedef struct on_device {
    void *memory[16];
    int count;
} on_device;

static void *put(on_device *m, const void *bytes, size_t count, const char *name) {
    void **at = &m->memory[m->count++];
    ok(executor->allocate(count, name, at, &error));
    if (bytes != NULL) ok(executor->upload(*at, bytes, count, &error));
    return *at;
}

/* Runs the kernel twice, so that the workspace's reuse shows, and gives the larger relative error of any head. */
static double run(cache *s) {
    const attention_case *c = s->c;
    on_device m = {.count = 0};
    size_t heads = (size_t)(s->sequences * c->kv_heads), D = (size_t)c->head_dim, Q = heads * (size_t)c->group;
    size_t sinks = 2 * heads * (size_t)c->sinks * D, tail = 2 * heads * (size_t)s->tail_tokens * D;
    kvs_attention_args args = {.format = s->format, .sequences = s->sequences, .query_heads = c->kv_heads * c->group};
    args.softmax_scale = (float)(1.0 / sqrt(c->head_dim));
    args.q = put(&m, s->q, 2 * Q * D, "q");
    args.lengths = put(&m, c->lengths, sizeof(int32_t) * (size_t)s->sequences, "lengths");
    args.key_pages = put(&m, s->key_pages, sizeof s->key_pages, "key_pages");
    args.value_pages = put(&m, s->value_pages, sizeof s->value_pages, "value_pages");
    args.page_table = put(&m, s->table, sizeof s->table, "page_table");
    args.table_pages = s->table_pages;
    for (int i = 0; i < 2; i++)
        args.tensors[i] = put(&m, s->tensors[i], (size_t)s->blocks * s->format.block_bytes[i], "pages");
    args.sink_tokens = c->sinks, args.tail_tokens = s->tail_tokens;
    args.sink_k = put(&m, s->sink_k, sinks, "sink_k"), args.sink_v = put(&m, s->sink_v, sinks, "sink_v");
    args.tail_k = put(&m, s->tail_k, tail, "tail_k"), args.tail_v = put(&m, s->tail_v, tail, "tail_v");
    args.splits = c->splits;
    size_t workspace = kvs_attention_workspace(&args);
    args.workspace = put(&m, NULL, workspace, "workspace");
    ok(executor->fill(args.workspace, 0, workspace, &error));
    args.out = put(&m, NULL, sizeof(float) * Q * D, "out");
    float *out = malloc(sizeof(float) * Q * D);
    double worst = 0;
    for (int again = 0; again < 2; again++) {
        ok(executor->fill(args.out, 0xff, sizeof(float) * Q * D, &error));
        ok(kvs_executor_attend(executor, &args, NULL, &error));
        ok(executor->synchronize(&error));
        ok(executor->download(out, args.out, sizeof(float) * Q * D, &error));
        for (size_t i = 0; i < Q; i++) {
            double expected[MAX_DIM], difference = 0, norm = 0;
            int per_sequence = c->kv_heads * c->group;
            reference(s, (int)i / per_sequence, (int)i % per_sequence, expected);
            for (size_t d = 0; d < D; d++) {
                difference += pow(out[i * D + d] - expected[d], 2);
                norm += expected[d] * expected[d];
            }
            double relative = sqrt(difference / norm);
            if (!(relative <= worst)) worst = relative; /* a NaN stays */
        }
    }
    free(out);
    for (int i = 0; i < m.count; i++) executor->release(m.memory[i]);
    return worst;
}

static void check(const attention_case *c) {
    static const char *const kinds[] = {"random", "outliers", "one huge score", "all scores equal", "extreme"};
    cache s;
    make_cache(&s, c);
    double worst = run(&s);
    print_message("# %s, %s, head_dim %d, page %d, bits %d/%d/%d, group %d, splits %d: %.1e\n", executor->name,
                  c->layout, c->head_dim, c->page_tokens, c->bits, c->boost_bits, c->value_bits, c->group, c->splits,
                  worst);
    if (!(worst < 2e-3)) fail_msg("%s: relative error %g", kinds[c->kind], worst);
    free_cache(&s);
}

/* Of every packed layout that admits the page. */
static const attention_case packed_cases[] = {
    {"", 128, 128, 2, 4, 32, 2, 2, 4, 32, 128, 2, {32 + 128 * 5 + 17, 1, 20, 33}, RANDOM},
    {"", 128, 128, 2, 4, 32, 2, 1, 4, 32, 128, 3, {32 + 128 * 6, 32 + 128 + 127, 400}, OUTLIERS},
    {"", 128, 128, 2, 4, 16, 2, 1, 4, 0, 0, 1, {128 * 3, 200}, ONE_HUGE},
    {"", 128, 128, 2, 4, 32, 2, 1, 3, 32, 128, 2, {700, 500}, ALL_EQUAL},
    {"", 128, 128, 2, 4, 32, 2, 1, 4, 32, 128, 2, {700, 500}, EXTREME},
    {"", 64, 32, 2, 4, 16, 2, 2, 8, 4, 64, 2, {300, 99, 5}, OUTLIERS},
    {"", 96, 64, 2, 8, 20, 4, 1, 1, 16, 64, 2, {333, 50}, RANDOM},
    {"", 64, 256, 4, 8, 11, 8, 1, 6, 8, 32, 2, {900, 300}, OUTLIERS},
    {"", 256, 128, 2, 4, 64, 2, 1, 4, 32, 128, 2, {500}, RANDOM},
    {"", 96, 128, 2, 2, 0, 2, 1, 16, 32, 0, 1, {500, 290}, OUTLIERS},
    {"", 64, 128, 8, 8, 0, 4, 1, 4, 32, 64, 1, {600}, OUTLIERS},
    {"", 64, 128, 2, 4, 64, 2, 1, 4, 32, 64, 1, {600}, OUTLIERS},
    {"", 128, 16, 2, 8, 37, 2, 1, 2, 3, 20, 2, {200, 19}, OUTLIERS},
    {"", 64, 48, 2, 4, 5, 4, 1, 2, 16, 48, 2, {300, 115}, OUTLIERS},
    {"", 128, 96, 2, 4, 32, 2, 1, 4, 32, 128, 1, {510, 200}, RANDOM},
    {"", 96, 240, 4, 8, 31, 2, 1, 4, 32, 16, 1, {800}, OUTLIERS},
    {"", 64, 224, 2, 4, 64, 2, 1, 4, 0, 100, 1, {800}, EXTREME},
};

static int admits(const kvs_layout *layout, const attention_case *c) {
    return layout->arrange != NULL && c->page_tokens % layout->min_page_tokens == 0 &&
           strncmp(layout->name, "fp16", 4) != 0;
}

static void test_packed(void **state) {
    (void)state;
    for (int l = 0; kvs_layouts[l] != NULL; l++)
        for (size_t i = 0; i < sizeof packed_cases / sizeof *packed_cases; i++) {
            attention_case c = packed_cases[i];
            c.layout = kvs_layouts[l]->name;
            if (admits(kvs_layouts[l], &c)) check(&c);
        }
}

/* Every page size with every head_dim in every layout that admits it; meanwhile each number of query heads per KV head
 * from 1 to 16, each pair of widths, and boosted channels from none to all. */
static void test_shapes(void **state) {
    (void)state;
    static const int dims[] = {64, 96, 128, 256}, widths[][2] = {{2, 2}, {2, 4}, {2, 8}, {4, 4}, {4, 8}, {8, 8}};
    int n = 0;
    for (int page = 16; page <= 256; page += 16)
        for (int d = 0; d < 4; d++, n++) {
            int dim = dims[d], boosts[] = {dim / 4, dim, 1, 0, dim - 1, dim / 8, dim / 2};
            const int *bits = widths[n % 6];
            attention_case c = {.head_dim = dim, .page_tokens = page, .bits = bits[0], .boost_bits = bits[1]};
            c.boost = boosts[n % 7], c.value_bits = 2 << n % 3, c.kv_heads = 1, c.group = 1 + n * 5 % 16;
            c.sinks = n % 4 * 3, c.window = n % 3 * 8, c.splits = 1 + n % 2, c.kind = n % 2 ? OUTLIERS : RANDOM;
            c.lengths[0] = c.sinks + c.window + page + 1 + n % 7;
            for (int l = 0; kvs_layouts[l] != NULL; l++) {
                c.layout = kvs_layouts[l]->name;
                if (admits(kvs_layouts[l], &c)) check(&c);
            }
        }
}

/* A sequence of 4096 tokens after 32 sinks: 30 pages of values, one of keys alone in 8 tiles, 2 tiles of sinks and 6 of
 * the tail: 46 units, one each for the warps of 12 blocks. With more sequences the blocks fill the device once. */
static void test_splits(void **state) {
    (void)state;
    kvs_page_shape shape = {128, 128, 8, 2, 4, 32, 2, 0, 0};
    kvs_attention_args args = {.sequences = 1, .query_heads = 32, .sink_tokens = 32, .tail_tokens = 256};
    ok(kvs_format_make(kvs_layout_find("fragment"), &shape, &args.format, &error));
    assert_int_equal(kvs_attention_splits(&args, 132, 4096), 12);
    assert_int_equal(kvs_attention_splits(&args, 132, 1), 1);
    args.sequences = 32; /* 256 blocks a split; 528 fit */
    assert_int_equal(kvs_attention_splits(&args, 132, 32768), 2);
    args.sequences = 64;
    assert_int_equal(kvs_attention_splits(&args, 132, 32768), 1);
    ok(kvs_format_make(kvs_layout_find("fp16-hnd"), &shape, &args.format, &error));
    args.sequences = 1; /* 256 tiles: two a warp, and 32 splits are merged in two turns, 64 in four */
    assert_int_equal(kvs_attention_splits(&args, 132, 4096), 32);
}

static void test_full(void **state) {
    (void)state;
    static const attention_case cases[] = {
        {"fp16-nhd", 128, 64, 2, 2, 0, 2, 2, 4, 0, 0, 3, {300, 1, 17}, RANDOM},
        {"fp16-hnd", 128, 16, 2, 2, 0, 2, 2, 5, 0, 0, 2, {150, 16}, OUTLIERS},
        {"fp16-hnd", 64, 32, 2, 2, 0, 2, 1, 16, 0, 0, 1, {150, 64}, ONE_HUGE},
        {"fp16-nhd", 96, 32, 2, 2, 0, 2, 3, 1, 0, 0, 2, {150, 64}, ALL_EQUAL},
        {"fp16-nhd", 256, 128, 2, 2, 0, 2, 1, 2, 0, 0, 2, {150, 64}, EXTREME},
        {"fp16-hnd", 64, 48, 2, 2, 0, 2, 2, 4, 0, 0, 2, {400, 48, 49}, OUTLIERS},
        {"fp16-nhd", 128, 240, 2, 2, 0, 2, 1, 4, 0, 0, 3, {700, 240}, RANDOM},
        {"fp16-hnd", 128, 16, 2, 2, 0, 2, 1, 4, 0, 0, 40, {1000}, RANDOM},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check(&cases[i]);
}

static void test_orders(void **state) {
    (void)state;
    static const char *const layouts[] = {"fragment", "kitty", "mixed-scattered"}; /* each way to read pages */
    for (int l = 0; l < 3; l++) {
        attention_case c = packed_cases[0];
        c.layout = layouts[l];
        kvs_simt_settings()->order_seed = (uint64_t)l + 1;
        check(&c);
    }
    kvs_simt_settings()->order_seed = 0;
}

/* Devices whose blocks have less shared memory than compute capability 9.0 gives: fewer warps share a block, and what
 * not even one warp has room for is refused by name before anything is launched. */
static void test_less_shared_memory(void **state) {
    (void)state;
    static const size_t limits[] = {163 << 10, 99 << 10, 0}; /* of 8.0; of 8.6 and 8.9; as it was */
    attention_case fits = {"", 256, 256, 2, 4, 64, 2, 1, 1, 0, 0, 1, {3 * 256}, OUTLIERS};
    attention_case large = {"", 256, 256, 8, 8, 0, 8, 1, 1, 0, 0, 1, {256}, OUTLIERS};
    if (strcmp(executor->name, "simt") != 0) skip();
    for (int l = 0; kvs_layouts[l] != NULL; l++)
        for (int i = 0; i < 3; i++) {
            kvs_simt_settings()->shared_bytes = limits[i];
            fits.layout = large.layout = kvs_layouts[l]->name;
            if (!admits(kvs_layouts[l], &fits)) continue;
            check(&fits);
            cache s;
            make_cache(&s, &large);
            kvs_attention_args args = {.format = s.format, .sequences = 1, .query_heads = 1, .splits = 1};
            if (limits[i] == 99 << 10) {
                assert_int_equal(kvs_executor_attend(executor, &args, NULL, &error), KVS_DEVICE);
                assert_string_equal(error.object, "decode_attention");
                assert_non_null(strstr(error.rule, "bytes of shared memory; a block may have 101376"));
            } else if (!(run(&s) < 2e-3))
                fail_msg("%s: an error above 2e-3 with %zu bytes of shared memory", large.layout, limits[i]);
            free_cache(&s);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed), cmocka_unit_test(test_shapes), cmocka_unit_test(test_splits),
        cmocka_unit_test(test_full),   cmocka_unit_test(test_orders), cmocka_unit_test(test_less_shared_memory),
    };
    int failures = 0;
    cmocka_set_message_output(CM_OUTPUT_TAP);
    for (int i = 0; kvs_executors[i] != NULL; i++) {
        kvs_executor_facts facts;
        executor = kvs_executors[i];
        if (executor->open(&facts, &error) != KVS_OK) {
            printf("# SKIP %s: %s\n", executor->name, error.rule);
            continue;
        }
        printf("# on %s: %s\n", executor->name, facts.name);
        failures += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failures;
}
