/* test_quantize.c: do the kernels give the codes and metadata of the CPU's codec, to the bit, in every layout? */
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

enum { HEADS = 2, BLOCKS = 2, PAGES = HEADS * BLOCKS, MAX_PAGE = 256 * 256, MAX_GROUPS = 256 * 8 };

static const kvs_executor *device;

#define OK(expression)                                                                                                 \
    do {                                                                                                               \
        kvs_error kvs_ok_error = {0};                                                                                  \
        (void)kvs_ok_error;                                                                                            \
        kvs_status kvs_ok_status = (expression);                                                                       \
        if (kvs_ok_status != KVS_OK) print_message("%s: %s\n", error.object, error.rule);                              \
        assert_int_equal(kvs_ok_status, KVS_OK);                                                                       \
    } while (0)

/* One case: a shape, a rule and a ranking. */
typedef struct parity_case {
    int head_dim, page_tokens, bits, boost_bits, boost, value_bits; /* boost in 32nds of head_dim */
    kvs_metric metric;
    kvs_affine_rule rule;
    int key_group, value_group;
} parity_case;

#define SYSTEM                                                                                                         \
    { KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0.0f }
#define KIVI                                                                                                           \
    { KVS_ROUND_HALF_EVEN, KVS_META_BINARY16, KVS_DIVIDE_BY_STORED, 0.0f, 0.0f }

static const parity_case cases[] = {
    {128, 128, 2, 4, 8, 2, KVS_METRIC_MAGNITUDE, SYSTEM, 0, 0},
    {128, 128, 2, 4, 4, 2, KVS_METRIC_VARIANCE, SYSTEM, 0, 0},
    {128, 128, 2, 4, 32, 2, KVS_METRIC_MAGNITUDE, SYSTEM, 0, 0},
    {128, 128, 4, 4, 0, 4, KVS_METRIC_MAGNITUDE, KIVI, 0, 0},
    {64, 16, 2, 4, 8, 2, KVS_METRIC_RANGE, KIVI, 0, 0},
    {64, 32, 2, 8, 3, 4, KVS_METRIC_MAGNITUDE, KIVI, 0, 0},
    {96, 64, 2, 4, 5, 2, KVS_METRIC_RANDOM, SYSTEM, 0, 0},
    {96, 128, 4, 8, 8, 8, KVS_METRIC_MAGNITUDE, KIVI, 0, 0},
    {256, 32, 2, 4, 8, 4, KVS_METRIC_VARIANCE, SYSTEM, 0, 0},
    {64, 256, 2, 4, 32, 2, KVS_METRIC_MAGNITUDE, SYSTEM, 0, 0},
    {128, 64, 2, 4, 0, 8, KVS_METRIC_MAGNITUDE, KIVI, 0, 0},
    {128, 32, 8, 8, 0, 2, KVS_METRIC_MAGNITUDE, SYSTEM, 0, 0},
    {256, 256, 4, 8, 8, 2, KVS_METRIC_MAGNITUDE, SYSTEM, 0, 0},
    {64, 48, 2, 4, 4, 2, KVS_METRIC_VARIANCE, SYSTEM, 0, 0},
    {128, 96, 2, 4, 8, 2, KVS_METRIC_MAGNITUDE, KIVI, 0, 0},
    {96, 208, 4, 4, 0, 8, KVS_METRIC_MAGNITUDE, KIVI, 0, 0},
    {64, 160, 2, 8, 5, 4, KVS_METRIC_VARIANCE, SYSTEM, 0, 0},
    {256, 80, 2, 4, 1, 2, KVS_METRIC_GIVEN, SYSTEM, 0, 0},
    {128, 128, 2, 2, 0, 2, KVS_METRIC_MAGNITUDE, KIVI, 32, 32},
    {96, 96, 2, 4, 6, 4, KVS_METRIC_RANGE, KIVI, 32, 32},
    {256, 192, 4, 8, 8, 8, KVS_METRIC_GIVEN, KIVI, 64, 128},
};

/* Channels with outliers, channels that are constant, values on the halves of a code, equal scores. */
static void fill_input(uint64_t key, int tokens, int head_dim, uint16_t *x) {
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) {
            uint64_t i = (uint64_t)(t * head_dim + d);
            float value = kvs_random_unit(key, i) + kvs_random_unit(key + 1, i) - 1.0f;
            if (d % 7 == 0) value = value * 20.0f + 30.0f;
            if (d % 11 == 3) value = 0.25f * (float)(d % 5);
            if (d % 13 == 5) value = (float)(kvs_random_bits(key, i) % 7) * 0.5f; /* steps of half a code at 2 bits */
            if (d % 13 == 6) value = (float)(kvs_random_bits(key, i - 1) % 7) * 0.5f; /* the same score */
            if (d % 17 == 2 && t == 5) value = 60000.0f;
            if (d % 19 == 4) value *= 1e-6f;
            x[i] = kvs_float_to_half(value);
        }
}

typedef struct setup {
    const parity_case *c;
    kvs_format format;
    uint16_t *x;
    kvs_page_place places[PAGES];
    uint8_t *expected[2], *got[2];
    void *device_x, *device_scores, *device_places, *device_tensors[2], *device_blocks, *device_y;
} setup;

static const char *const metric_names[] = {"magnitude", "variance", "range", "random"};
static const int32_t block_ids[BLOCKS] = {2, 0}; /* of three blocks in memory */

/* Scores of either sign with ties, zeros of both signs among them: what a ranking on the CPU may come to. */
static float given_score(int page, int channel) {
    int step = (int)(kvs_random_bits((uint64_t)page + 70, (uint64_t)channel) % 31) - 15;
    return step == 0 && channel % 2 ? -0.0f : 0.125f * (float)step;
}

static void expected_ranks(const setup *s, int page, const float *x, uint8_t *ranks_out) {
    static float scratch[2 * MAX_PAGE], scores[256];
    int ranks[256], head_dim = s->format.shape.head_dim, count = s->format.shape.boost_channels;
    kvs_page_context context = {.place = s->places[page]};
    if (s->c->metric == KVS_METRIC_GIVEN)
        for (int d = 0; d < head_dim; d++) scores[d] = given_score(page, d);
    else
        kvs_ranking_find(metric_names[s->c->metric])
            ->score(&context, s->format.shape.page_tokens, head_dim, x, scratch, scores);
    kvs_rank_channels(head_dim, scores, ranks);
    for (int d = 0; d < head_dim; d++) ranks_out[d] = (uint8_t)(ranks[d] < count ? ranks[d] : count);
    if (count == head_dim)
        for (int d = 0; d < head_dim; d++) ranks_out[d] = (uint8_t)d;
}

/* The CPU's arithmetic, straight from its definition. */
static void expected_page(const setup *s, int page, int values, kvs_page *out) {
    static float x[MAX_PAGE];
    const kvs_page_shape *shape = &s->format.shape;
    int head_dim = shape->head_dim, tokens = shape->page_tokens, count = shape->boost_channels;
    for (int i = 0; i < tokens * head_dim; i++)
        x[i] = kvs_half_to_float(s->x[(size_t)page * (size_t)(tokens * head_dim) + (size_t)i]);
    expected_ranks(s, page, x, out->ranks);
    int members = values ? shape->value_group : shape->key_group, stride = values ? 1 : head_dim;
    for (int g = 0; g < tokens * head_dim / members; g++) {
        int first = values ? g * members : g / head_dim * members * head_dim + g % head_dim;
        float low = x[first], high = low;
        for (int i = 1; i < members; i++) {
            low = fminf(low, x[first + i * stride]);
            high = fmaxf(high, x[first + i * stride]);
        }
        int boosted = count == head_dim || (count > 0 && out->ranks[g % head_dim] < count);
        float levels = kvs_affine_levels(values ? shape->value_bits : kvs_key_bits(&s->format, boosted));
        kvs_affine_group group = kvs_affine_fit(s->c->rule, low, high, levels);
        out->scales[g] = group.scale;
        out->zeros[g] = group.zero;
        for (int i = 0; i < members; i++)
            out->codes[first + i * stride] =
                (uint8_t)kvs_affine_code(s->c->rule.rounding, group, x[first + i * stride], levels);
    }
}

static void block_of(const setup *s, int page, uint8_t *const tensors[2], uint8_t *block[2]) {
    for (int i = 0; i < 2; i++) block[i] = tensors[i] + (size_t)block_ids[page / HEADS] * s->format.block_bytes[i];
}

static void expect(setup *s) {
    static uint8_t codes[MAX_PAGE], ranks[256];
    static float scales[MAX_GROUPS], zeros[MAX_GROUPS];
    kvs_page page = {codes, ranks, scales, zeros};
    for (int p = 0; p < PAGES; p++) {
        uint8_t *block[2];
        block_of(s, p, s->expected, block);
        expected_page(s, p, 0, &page);
        kvs_pack_keys(&s->format, p % HEADS, &page, block);
        expected_page(s, p, 1, &page);
        kvs_pack_values(&s->format, p % HEADS, &page, block);
    }
}

static void open_setup(setup *s, const kvs_layout *layout, const parity_case *c) {
    kvs_error error;
    kvs_page_shape shape = {c->head_dim,   c->page_tokens, HEADS,
                            c->bits,       c->boost_bits,  c->boost * c->head_dim / 32,
                            c->value_bits, c->key_group,   c->value_group};
    memset(s, 0, sizeof *s);
    s->c = c;
    OK(kvs_format_make(layout, &shape, &s->format, &error));
    size_t elements = (size_t)(PAGES * c->head_dim * c->page_tokens);
    s->x = malloc(2 * elements);
    fill_input((uint64_t)c->head_dim, PAGES * c->page_tokens, c->head_dim, s->x);
    for (int p = 0; p < PAGES; p++) s->places[p] = (kvs_page_place){99, 1, 2, p % HEADS, 40 + p};
    OK(device->allocate(2 * elements, "x", &s->device_x, &error));
    OK(device->allocate(2 * elements, "y", &s->device_y, &error));
    OK(device->allocate(sizeof s->places, "places", &s->device_places, &error));
    OK(device->allocate(sizeof block_ids, "blocks", &s->device_blocks, &error));
    OK(device->upload(s->device_x, s->x, 2 * elements, &error));
    float scores[PAGES * 256];
    for (int i = 0; i < PAGES * c->head_dim; i++) scores[i] = given_score(i / c->head_dim, i % c->head_dim);
    OK(device->allocate(sizeof scores, "scores", &s->device_scores, &error));
    OK(device->upload(s->device_scores, scores, sizeof(float) * (size_t)(PAGES * c->head_dim), &error));
    OK(device->upload(s->device_places, s->places, sizeof s->places, &error));
    OK(device->upload(s->device_blocks, block_ids, sizeof block_ids, &error));
    for (int i = 0; i < 2; i++) {
        size_t bytes = 3 * (size_t)s->format.block_bytes[i];
        s->expected[i] = calloc(bytes + 1, 1);
        s->got[i] = malloc(bytes + 1);
        OK(device->allocate(bytes, "tensor", &s->device_tensors[i], &error));
        OK(device->fill(s->device_tensors[i], 0xa5, bytes, &error));
        memset(s->expected[i], 0xa5, bytes);
    }
}

static void close_setup(setup *s) {
    device->release(s->device_x);
    device->release(s->device_y);
    device->release(s->device_scores);
    device->release(s->device_places);
    device->release(s->device_blocks);
    for (int i = 0; i < 2; i++) {
        device->release(s->device_tensors[i]);
        free(s->expected[i]);
        free(s->got[i]);
    }
    free(s->x);
}

static void run_quantize(setup *s) {
    kvs_error error;
    kvs_quantize_args args = {.format = s->format, .rule = s->c->rule, .metric = s->c->metric, .pages = PAGES};
    args.x = s->device_x;
    args.places = s->device_places;
    args.scores = s->device_scores;
    args.blocks = s->device_blocks;
    for (int i = 0; i < 2; i++) args.tensors[i] = s->device_tensors[i];
    OK(kvs_executor_quantize(device, 0, &args, NULL, &error));
    OK(kvs_executor_quantize(device, 1, &args, NULL, &error));
    OK(device->synchronize(&error));
    for (int i = 0; i < 2; i++)
        OK(device->download(s->got[i], s->device_tensors[i], 3 * (size_t)s->format.block_bytes[i], &error));
}

/* What comes back must be code * scale + zero of the expected codes, and the bytes those of the CPU's packing. Padding
 * is not compared: whoever packs may leave anything there. */
static void compare_pages(setup *s, const char *layout) {
    static uint8_t codes[2][MAX_PAGE], ranks[2][256];
    static float scales[2][MAX_GROUPS], zeros[2][MAX_GROUPS];
    int head_dim = s->format.shape.head_dim, tokens = s->format.shape.page_tokens;
    kvs_page page[2] = {{codes[0], ranks[0], scales[0], zeros[0]}, {codes[1], ranks[1], scales[1], zeros[1]}};
    for (int p = 0; p < PAGES; p++)
        for (int values = 0; values < 2; values++) {
            for (int side = 0; side < 2; side++) {
                uint8_t *block[2];
                block_of(s, p, side ? s->got : s->expected, block);
                (values ? kvs_unpack_values : kvs_unpack_keys)(&s->format, p % HEADS, (const uint8_t *const *)block,
                                                               &page[side]);
            }
            const kvs_page_shape *shape = &s->format.shape;
            int count = values ? tokens * kvs_value_groups(shape) : head_dim * kvs_key_groups(shape);
            size_t groups = sizeof(float) * (size_t)count;
            if (memcmp(codes[0], codes[1], (size_t)(head_dim * tokens)) != 0 ||
                memcmp(scales[0], scales[1], groups) != 0 || memcmp(zeros[0], zeros[1], groups) != 0 ||
                (!values && memcmp(ranks[0], ranks[1], (size_t)head_dim) != 0))
                fail_msg("%s on %s: head_dim %d, page %d, bits %d and %d: page %d of %s differs", layout, device->name,
                         head_dim, tokens, s->c->bits, s->c->boost_bits, p, values ? "V" : "K");
        }
}

static void compare_dequantized(setup *s, int values) {
    static uint8_t codes[MAX_PAGE], ranks[256];
    static float scales[MAX_GROUPS], zeros[MAX_GROUPS];
    static uint16_t y[PAGES * MAX_PAGE];
    kvs_page page = {codes, ranks, scales, zeros};
    kvs_error error;
    int head_dim = s->format.shape.head_dim, tokens = s->format.shape.page_tokens;
    kvs_dequantize_args args = {.format = s->format, .pages = PAGES, .values = values, .y = s->device_y};
    args.blocks = s->device_blocks;
    for (int i = 0; i < 2; i++) args.tensors[i] = s->device_tensors[i];
    OK(kvs_executor_dequantize(device, &args, NULL, &error));
    OK(device->synchronize(&error));
    OK(device->download(y, s->device_y, 2u * (size_t)(PAGES * head_dim * tokens), &error));
    for (int p = 0; p < PAGES; p++) {
        uint8_t *block[2];
        block_of(s, p, s->expected, block);
        (values ? kvs_unpack_values : kvs_unpack_keys)(&s->format, p % HEADS, (const uint8_t *const *)block, &page);
        for (int i = 0; i < tokens * head_dim; i++) {
            int group = values ? i / s->format.shape.value_group
                               : i / (s->format.shape.key_group * head_dim) * head_dim + i % head_dim;
            uint16_t expected = kvs_float_to_half(kvs_affine_value(codes[i], scales[group], zeros[group]));
            assert_int_equal(y[p * tokens * head_dim + i], expected);
        }
    }
}

static void check_case(const kvs_layout *layout, const parity_case *c) {
    setup s;
    open_setup(&s, layout, c);
    expect(&s);
    run_quantize(&s);
    compare_pages(&s, layout->name);
    compare_dequantized(&s, 0);
    compare_dequantized(&s, 1);
    close_setup(&s);
}

static void test_layouts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int l = 0; kvs_layouts[l] != NULL; l++)
            if (kvs_layouts[l]->arrange != NULL && strncmp(kvs_layouts[l]->name, "fp16", 4) != 0 &&
                cases[i].page_tokens % kvs_layouts[l]->min_page_tokens == 0)
                check_case(kvs_layouts[l], &cases[i]);
}

/* Every page size with every head_dim, each in one layout or another; meanwhile each pair of widths, and boosted
 * channels from none to all. */
static void test_shapes(void **state) {
    (void)state;
    static const char *const names[] = {"fragment", "kitty", "permuted", "mixed-scattered", "kitty-inline"};
    static const int dims[] = {64, 96, 128, 256}, widths[][2] = {{2, 2}, {2, 4}, {2, 8}, {4, 4}, {4, 8}, {8, 8}};
    static const int boosts[] = {8, 32, 1, 0, 31, 4, 16};
    static const kvs_affine_rule rules[] = {SYSTEM, KIVI};
    int n = 0, next = 0;
    for (int page = 16; page <= 256; page += 16)
        for (int d = 0; d < 4; d++, n++) {
            const int *bits = widths[n % 6];
            parity_case c = {dims[d],      page, bits[0], bits[1], boosts[n % 7], 2 << n % 3, (kvs_metric)(n % 5),
                             rules[n % 2], 0,    0};
            while (page % kvs_layout_find(names[next % 5])->min_page_tokens != 0) next++;
            check_case(kvs_layout_find(names[next++ % 5]), &c);
        }
}

/* Every order of lanes, warps and blocks gives the same. */
static void test_orders(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        kvs_simt_settings()->order_seed = seed;
        check_case(kvs_layout_find("fragment"), &cases[0]);
        check_case(kvs_layout_find("kitty"), &cases[0]);
        check_case(kvs_layout_find("kitty"), &cases[6]);
    }
    kvs_simt_settings()->order_seed = 0;
}

static void test_full_pages_come_back(void **state) {
    (void)state;
    static const char *const names[] = {"fp16-nhd", "fp16-hnd"};
    kvs_error error;
    for (int n = 0; n < 2; n++) {
        setup s;
        open_setup(&s, kvs_layout_find(names[n]), &cases[6]);
        size_t elements = (size_t)(s.format.shape.head_dim * s.format.shape.page_tokens);
        uint16_t *y = malloc(2 * elements * PAGES);
        for (int p = 0; p < PAGES; p++) {
            uint8_t *block[2];
            block_of(&s, p, s.expected, block);
            kvs_pack_full(&s.format, p % HEADS, s.x + (size_t)p * elements, s.x + (size_t)p * elements, block);
        }
        OK(device->upload(s.device_tensors[0], s.expected[0], 3 * (size_t)s.format.block_bytes[0], &error));
        for (int values = 0; values < 2; values++) {
            kvs_dequantize_args args = {.format = s.format, .pages = PAGES, .values = values, .y = s.device_y};
            args.blocks = s.device_blocks;
            args.tensors[0] = s.device_tensors[0];
            OK(kvs_executor_dequantize(device, &args, NULL, &error));
            OK(device->synchronize(&error));
            OK(device->download(y, s.device_y, 2 * elements * PAGES, &error));
            assert_memory_equal(y, s.x, 2 * elements * PAGES);
        }
        free(y);
        close_setup(&s);
    }
}

static void test_copy(void **state) {
    (void)state;
    enum { BYTES = 16 * 5001 };
    static uint8_t from[BYTES], to[BYTES];
    void *source, *destination;
    kvs_error error;
    for (int i = 0; i < BYTES; i++) from[i] = (uint8_t)kvs_random_bits(5, (uint64_t)i);
    OK(device->allocate(BYTES, "source", &source, &error));
    OK(device->allocate(BYTES, "destination", &destination, &error));
    OK(device->upload(source, from, BYTES, &error));
    OK(kvs_executor_copy(device, source, destination, BYTES, NULL, &error));
    OK(device->synchronize(&error));
    OK(device->download(to, destination, BYTES, &error));
    assert_memory_equal(to, from, BYTES);
    device->release(source);
    device->release(destination);
}

/* What no kernel supports is refused by name, before anything is launched. */
static void test_refusals(void **state) {
    (void)state;
    kvs_error error;
    kvs_page_shape shape = {64, 32, HEADS, 2, 4, 8, 2, 0, 0};
    kvs_quantize_args args = {.pages = PAGES};
    assert_int_equal(kvs_format_make(kvs_layout_find("kitty"), &shape, &args.format, &error), KVS_OK);
    args.rule.meta = KVS_META_BINARY32;
    assert_int_equal(kvs_executor_quantize(device, 0, &args, NULL, &error), KVS_USAGE);
    assert_non_null(strstr(error.rule, "binary16"));
    args.rule.meta = KVS_META_BINARY16;
    args.metric = KVS_METRIC_RANDOM;
    assert_int_equal(kvs_executor_quantize(device, 0, &args, NULL, &error), KVS_USAGE);
    assert_non_null(strstr(error.rule, "places"));
    args.metric = KVS_METRIC_GIVEN;
    assert_int_equal(kvs_executor_quantize(device, 0, &args, NULL, &error), KVS_USAGE);
    assert_non_null(strstr(error.rule, "scores"));
    args.pages = PAGES + 1;
    assert_int_equal(kvs_executor_quantize(device, 1, &args, NULL, &error), KVS_USAGE);
    kvs_attention_args attention = {.format = args.format, .sequences = 1, .query_heads = 2 * HEADS, .splits = 1};
    assert_int_equal(kvs_format_make(kvs_layout_find("fragment"), &shape, &attention.format, &error), KVS_OK);
    attention.query_heads = 17 * HEADS;
    assert_int_equal(kvs_executor_attend(device, &attention, NULL, &error), KVS_USAGE);
    assert_non_null(strstr(error.rule, "query heads"));
    attention.query_heads = 2 * HEADS, attention.out = (float *)0x108;
    assert_int_equal(kvs_executor_attend(device, &attention, NULL, &error), KVS_USAGE);
    assert_string_equal(error.object, "decode_attention");
    assert_string_equal(error.rule, "out does not begin at a multiple of 16 bytes");
    attention.out = NULL, attention.splits = 0;
    assert_int_equal(kvs_executor_attend(device, &attention, NULL, &error), KVS_USAGE);
    assert_non_null(strstr(error.rule, "splits"));
    attention.splits = 1, shape.value_group = 32;
    assert_int_equal(kvs_format_make(kvs_layout_find("kitty"), &shape, &attention.format, &error), KVS_OK);
    assert_int_equal(kvs_executor_attend(device, &attention, NULL, &error), KVS_USAGE);
    assert_string_equal(error.rule, "groups of 32 tokens and 32 channels: only whole pages and tokens are supported");
    shape.value_group = 0, shape.page_tokens = 64, shape.key_group = 32;
    assert_int_equal(kvs_format_make(kvs_layout_find("kitty"), &shape, &attention.format, &error), KVS_OK);
    assert_int_equal(kvs_executor_attend(device, &attention, NULL, &error), KVS_USAGE);
    assert_string_equal(error.rule, "groups of 32 tokens and 64 channels: only whole pages and tokens are supported");
}

/* The largest page of keys, 128 KB in full precision, fits a block of compute capability 8.0, not one of 8.6. */
static void test_shared_memory_that_is_short(void **state) {
    (void)state;
    kvs_error error;
    kvs_page_shape shape = {256, 256, HEADS, 2, 4, 64, 2, 0, 0};
    kvs_quantize_args args = {.pages = PAGES, .rule = SYSTEM};
    if (strcmp(device->name, "simt") != 0) skip();
    assert_int_equal(kvs_format_make(kvs_layout_find("kitty"), &shape, &args.format, &error), KVS_OK);
    kvs_simt_settings()->shared_bytes = 99 << 10;
    assert_int_equal(kvs_executor_quantize(device, 0, &args, NULL, &error), KVS_DEVICE);
    assert_string_equal(error.object, "quantize_pack_k");
    assert_non_null(strstr(error.rule, "bytes of shared memory; a block may have 101376"));
    static const parity_case largest = {256, 256, 2, 4, 8, 2, KVS_METRIC_MAGNITUDE, SYSTEM, 0, 0};
    kvs_simt_settings()->shared_bytes = 163 << 10;
    check_case(kvs_layout_find("kitty"), &largest);
    kvs_simt_settings()->shared_bytes = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_full_pages_come_back),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_shared_memory_that_is_short),
    };
    int failures = 0;
    cmocka_set_message_output(CM_OUTPUT_TAP);
    for (int i = 0; kvs_executors[i] != NULL; i++) {
        kvs_executor_facts facts;
        kvs_error error;
        device = kvs_executors[i];
        if (device->open(&facts, &error) != KVS_OK) {
            printf("# SKIP %s: %s\n", device->name, error.rule);
            continue;
        }
        printf("# on %s: %s\n", device->name, facts.name);
        failures += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failures;
}
