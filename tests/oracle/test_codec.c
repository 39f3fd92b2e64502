/* test_codec.c: the vectorized page codec against a slow one that is written from the formulas of kernels/README.md,
 * element by element, and shares no arithmetic with the library: codes, values, scales, zeros and ranks, bit for bit.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "kernels/scheme.h"

enum { MAX_PAGE = 256, MAX_CHANNELS = 256, MAX_ELEMENTS = MAX_PAGE * MAX_CHANNELS };

/* --- the slow codec ------------------------------------------------------------------------------------------------
 */

typedef struct quantizer {
    int half_up, binary16, divide_by_stored;
    float scale_floor, range_floor;
} quantizer;

static const quantizer system_numerics = {1, 1, 0, 1e-6f, 0}, simulator_numerics = {0, 0, 0, 0, 1e-4f},
                       kivi_numerics = {0, 1, 1, 0, 0};

typedef struct coded {
    float x_hat[MAX_ELEMENTS], scales[MAX_ELEMENTS], zeros[MAX_ELEMENTS];
    uint8_t codes[MAX_ELEMENTS], ranks[MAX_CHANNELS];
} coded;

static coded slow, fast;
static float x[MAX_ELEMENTS];

static float to_binary16(float value) {
    float rounded = (float)(_Float16)value;
    return rounded > 65504.0f ? 65504.0f : rounded;
}

static float stays(volatile float value) { /* one rounding at a time, whatever the compiler would like to fuse */
    return value;
}

/* One group: the elements at first, first + step, ... */
static void slow_group(quantizer q, int bits, size_t first, size_t step, int count, size_t at) {
    float least = x[first], most = x[first], levels = (float)((1 << bits) - 1);
    for (int i = 1; i < count; i++) {
        float value = x[first + (size_t)i * step];
        if (value < least) least = value;
        if (value > most) most = value;
    }
    if (least == 0) least = 0.0f; /* not -0 */
    float range = stays(most - least);
    if (range < q.range_floor) range = q.range_floor;
    float scale = stays(range / levels);
    if (scale < q.scale_floor) scale = q.scale_floor;
    if (scale == 0) scale = 0.0f;
    float stored_scale = q.binary16 ? to_binary16(scale) : scale, stored_zero = q.binary16 ? to_binary16(least) : least;
    float divisor = q.divide_by_stored ? stored_scale : scale;
    slow.scales[at] = stored_scale;
    slow.zeros[at] = stored_zero;
    for (int i = 0; i < count; i++) {
        size_t e = first + (size_t)i * step;
        float steps = divisor > 0 ? stays(stays(x[e] - least) / divisor) : 0;
        float code = q.half_up ? floorf(stays(steps + 0.5f)) : nearbyintf(steps);
        code = fminf(fmaxf(code, 0), levels);
        slow.codes[e] = (uint8_t)code;
        slow.x_hat[e] = stays(stays(code * stored_scale) + stored_zero);
    }
}

static float tree(const float *values, int tokens, int first, int step, int n) {
    if (step == n) return first < tokens ? values[first] : 0.0f;
    return stays(tree(values, tokens, first, 2 * step, n) + tree(values, tokens, first + step, 2 * step, n));
}

static float mean(const float *values, int tokens) {
    int n = 1;
    while (n < tokens) n *= 2;
    return tree(values, tokens, 0, 1, n) / (float)tokens;
}

static float slow_score(const char *rank, int tokens, int head_dim, int channel, const kvs_page_place *place) {
    float column[MAX_PAGE], derived[MAX_PAGE], least = INFINITY, most = -INFINITY;
    for (int t = 0; t < tokens; t++) {
        column[t] = x[t * head_dim + channel];
        derived[t] = fabsf(column[t]);
        least = fminf(least, column[t]), most = fmaxf(most, column[t]);
    }
    if (strcmp(rank, "range") == 0) return most - least;
    if (strcmp(rank, "magnitude") == 0) return mean(derived, tokens);
    if (strcmp(rank, "variance") == 0) {
        float middle = mean(column, tokens);
        for (int t = 0; t < tokens; t++) derived[t] = stays(stays(column[t] - middle) * stays(column[t] - middle));
        return mean(derived, tokens);
    }
    const uint64_t parts[] = {(uint64_t)place->sequence, (uint64_t)place->layer, (uint64_t)place->kv_head,
                              (uint64_t)place->page, (uint64_t)channel};
    uint64_t key = place->seed;
    for (int i = 0; i < 5; i++) key = kvs_random_key(key, parts[i]);
    return (float)(key >> 40) / 16777216.0f;
}

static void slow_k_page(quantizer q, const char *rank, int tokens, int head_dim, int group, int bits, int boost_bits,
                        int boosted, const kvs_page_place *place) {
    float scores[MAX_CHANNELS];
    for (int d = 0; d < head_dim; d++) scores[d] = slow_score(rank, tokens, head_dim, d, place);
    for (int d = 0; d < head_dim; d++) {
        int before = 0;
        for (int e = 0; e < head_dim; e++) before += scores[e] > scores[d] || (scores[e] == scores[d] && e < d);
        if (boosted == head_dim) before = d; /* nothing to choose: the index is not stored */
        slow.ranks[d] = (uint8_t)(before < boosted ? before : boosted);
        for (int t = 0; t < tokens; t += group)
            slow_group(q, before < boosted ? boost_bits : bits, (size_t)(t * head_dim + d), (size_t)head_dim, group,
                       (size_t)(t / group * head_dim + d));
    }
}

static void slow_v_page(quantizer q, int tokens, int head_dim, int group, int bits) {
    for (int first = 0; first < tokens * head_dim; first += group)
        slow_group(q, bits, (size_t)first, 1, group, (size_t)(first / group));
}

/* --- inputs --------------------------------------------------------------------------------------------------------
 */

enum { NORMAL, OUTLIERS, CODES, ZEROS, TINY, HUGE_VALUES, MIXED, KINDS };

/* Every value is one that binary16 holds. CODES lie on and halfway between whole codes: all ties. MIXED has a kind per
 * channel, constants and signed zeros among them. */
static float input(int kind, int t, int d, uint64_t key) {
    uint64_t bits = kvs_random_bits(key, (uint64_t)(t * MAX_CHANNELS + d));
    float unit = (float)(bits >> 40) * 0x1p-23f - 1.0f;
    if (kind == MIXED) return d % 8 == 7 ? (float)(d - 20) : input(d % 8 == 6 ? ZEROS : d % 6, t, d, key);
    if (kind == OUTLIERS) return (float)(_Float16)(unit * (d % 13 == 3 ? 200.0f : 1.0f) + (d % 17 == 5 ? 30.0f : 0.0f));
    if (kind == CODES) return (float)(t % 7 == 0 ? 0 : t % 7 == 1 ? 60 : bits % 61) * 0.5f;
    if (kind == ZEROS) return bits & 1 ? 0.0f : -0.0f;
    if (kind == TINY) return (float)(_Float16)(unit * (d % 2 ? 3e-7f : 2e-5f));
    if (kind == HUGE_VALUES) return bits % 97 == 0 ? 65504.0f : bits % 89 == 0 ? -65504.0f : (float)(_Float16)unit;
    return (float)(_Float16)(unit * 4.0f);
}

static void fill(int kind, int tokens, int head_dim, uint64_t key) {
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) x[t * head_dim + d] = input(kind, t, d, key);
}

/* --- comparing -----------------------------------------------------------------------------------------------------
 */

static int compared;

static void compare(const kvs_store *store, kvs_page_place place, const char *spec, int kind) {
    size_t elements = (size_t)store->window.page_tokens * (size_t)store->head_dim;
    size_t groups = (size_t)store->codec->page_groups(store);
    float *scratch = malloc(sizeof *scratch * kvs_store_scratch_floats(store)); /* exact, for the sanitizer */
    assert_non_null(scratch);
    kvs_coded out = {fast.x_hat, fast.codes, fast.scales, fast.zeros, fast.ranks};
    store->codec->pages(store, &(kvs_page_context){.place = place}, 1, x, out, scratch);
    int same = memcmp(fast.x_hat, slow.x_hat, sizeof *x * elements) == 0 &&
               memcmp(fast.codes, slow.codes, elements) == 0 &&
               memcmp(fast.scales, slow.scales, sizeof *x * groups) == 0 &&
               memcmp(fast.zeros, slow.zeros, sizeof *x * groups) == 0 &&
               memcmp(fast.ranks, slow.ranks, (size_t)store->head_dim) == 0;
    if (!same) fail_msg("%s, head_dim %d, input %d differs", spec, store->head_dim, kind);
    for (size_t i = 0; i < elements; i++) assert_true(isfinite(fast.x_hat[i]));
    /* The same without codes, and in place. */
    memcpy(fast.x_hat, x, sizeof *x * elements);
    store->codec->pages(store, &(kvs_page_context){.place = place}, 1, fast.x_hat, (kvs_coded){.x_hat = fast.x_hat},
                        scratch);
    assert_memory_equal(fast.x_hat, slow.x_hat, sizeof *x * elements);
    free(scratch);
    compared++;
}

static kvs_scheme *open_scheme(const char *spec, int head_dim) {
    kvs_scheme *scheme;
    kvs_error error;
    if (kvs_scheme_open(spec, head_dim, &scheme, &error) != KVS_OK) fail_msg("%s: %s", spec, error.rule);
    return scheme;
}

static const int head_dims[] = {64, 96, 128, 256}, page_sizes[] = {16, 32, 64, 128, 256};

static void kitty_key_pages(void **state) {
    (void)state;
    static const struct {
        int bits, boost_bits;
        double boost;
    } widths[] = {{2, 4, 0.25}, {2, 4, 0.125}, {1, 8, 0.2}, {3, 5, 0.5}, {4, 4, 0.0}, {2, 6, 1.0}};
    static const char *const ranks[] = {"magnitude", "variance", "range", "random"};
    for (int c = 0; c < 4 * 5 * 6 * 4; c++) {
        int head_dim = head_dims[c % 4], page = page_sizes[c / 4 % 5], w = c / 20 % 6, r = c / 120;
        int group = c % 3 == 0 ? page : c % 3 == 1 ? 16 : page / 2;
        for (int simulator = 0; simulator < 2; simulator++) {
            char spec[160];
            snprintf(spec, sizeof spec, "kitty:bits=%d,boost_bits=%d,boost=%g,rank=%s,page=%d,group=%d,variant=%s",
                     widths[w].bits, widths[w].boost_bits, widths[w].boost, ranks[r], page, group,
                     simulator ? "simulator" : "system");
            kvs_scheme *scheme = open_scheme(spec, head_dim);
            kvs_page_place place = {3, c, 1, simulator, c % 7};
            int kind = (c + simulator) % KINDS;
            fill(kind, page, head_dim, (uint64_t)c);
            slow_k_page(simulator ? simulator_numerics : system_numerics, ranks[r], page, head_dim, group,
                        widths[w].bits, widths[w].boost_bits, (int)(head_dim * widths[w].boost + 1e-6), &place);
            compare(&scheme->k, place, spec, kind);
            kvs_scheme_close(scheme);
        }
    }
}

static void kivi_key_pages(void **state) {
    (void)state;
    for (int c = 0; c < 4 * 5 * KINDS; c++) {
        int head_dim = head_dims[c % 4], page = page_sizes[c / 4 % 5], kind = c / 20, bits = 1 + c % 8;
        char spec[96];
        snprintf(spec, sizeof spec, "kivi:k_bits=%d,group=16,residual=%d", bits, page);
        kvs_scheme *scheme = open_scheme(spec, head_dim);
        fill(kind, page, head_dim, (uint64_t)c);
        slow_k_page(kivi_numerics, "range", page, head_dim, 16, bits, 0, 0, &(kvs_page_place){0});
        compare(&scheme->k, (kvs_page_place){0}, spec, kind);
        kvs_scheme_close(scheme);
    }
}

static void value_pages(void **state) {
    (void)state;
    const int groups[] = {0, 32, 16, 8, 1};
    for (int c = 0; c < 4 * 5 * 5 * KINDS; c++) {
        int head_dim = head_dims[c % 4], page = page_sizes[c / 4 % 5], group = groups[c / 20 % 5], kind = c / 100;
        for (int simulator = 0; simulator < 2; simulator++) {
            char spec[96];
            int bits = 1 + c % 8;
            snprintf(spec, sizeof spec, "kitty:v_bits=%d,v_group=%d,page=%d,variant=%s,v_window=page", bits, group,
                     page, simulator ? "simulator" : "system");
            kvs_scheme *scheme = open_scheme(spec, head_dim);
            fill(kind, page, head_dim, (uint64_t)c);
            memset(slow.ranks, 0, sizeof slow.ranks);
            slow_v_page(simulator ? simulator_numerics : system_numerics, page, head_dim, group ? group : head_dim,
                        bits);
            compare(&scheme->v, (kvs_page_place){0}, spec, kind);
            kvs_scheme_close(scheme);
        }
    }
}

static void odd_shapes(void **state) {
    (void)state;
    const int dims[] = {1, 3, 17, 80, 100, 255};
    for (int c = 0; c < 6 * KINDS; c++) {
        int head_dim = dims[c % 6], kind = c / 6, page = 18 + c;
        char spec[96];
        snprintf(spec, sizeof spec, "kitty:page=%d,boost=0.3,bits=2,boost_bits=8,rounding=even,divisor=stored", page);
        quantizer numerics = system_numerics;
        numerics.half_up = 0, numerics.divide_by_stored = 1;
        kvs_scheme *scheme = open_scheme(spec, head_dim);
        kvs_page_place place = {.page = c};
        fill(kind, page, head_dim, (uint64_t)c);
        slow_k_page(numerics, "magnitude", page, head_dim, page, 2, 8, (int)(head_dim * 0.3 + 1e-6), &place);
        compare(&scheme->k, place, spec, kind);
        memset(slow.ranks, 0, sizeof slow.ranks);
        slow_v_page(numerics, page, head_dim, head_dim, 2);
        compare(&scheme->v, place, spec, kind);
        kvs_scheme_close(scheme);
    }
}

/* Many pages in one call are the pages one by one, and kvs_store_pages starts after the sinks. */
static void pages_do_not_depend_on_each_other(void **state) {
    (void)state;
    enum { D = 64, TOKENS = 300 };
    const char *const specs[] = {"kitty:page=32,sink=5,rank=random,boost=0.5,window=40", "kivi:residual=32,sink=3",
                                 "int:bits=3,sink=1,window=7", "kitty:variant=simulator,page=64,group=16,v_group=32"};
    static float all[TOKENS * D], x_hat[TOKENS * D], one[TOKENS * D];
    static uint8_t codes[TOKENS * D], one_codes[TOKENS * D];
    for (int i = 0; i < TOKENS * D; i++) all[i] = input(OUTLIERS, i / D, i % D, 9);
    for (int s = 0; s < 8; s++) {
        kvs_scheme *scheme = open_scheme(specs[s / 2], D);
        const kvs_store *store = s % 2 ? &scheme->v : &scheme->k;
        float *scratch = malloc(sizeof *scratch * kvs_store_scratch_floats(store));
        assert_non_null(scratch);
        int page = store->window.page_tokens, sink = store->window.sink_tokens;
        int64_t end = kvs_window_stored_end(&store->window, TOKENS, 0);
        for (int i = 0; i < TOKENS * D; i++) x_hat[i] = one[i] = -7.0f, codes[i] = one_codes[i] = 99;
        kvs_store_pages(store, &(kvs_page_context){.place = {.seed = 2, .page = 12345}}, end, all, x_hat, codes,
                        scratch);
        for (int p = 0; sink + (p + 1) * page <= end; p++) {
            size_t at = (size_t)((sink + p * page) * D);
            store->codec->pages(store, &(kvs_page_context){.place = {.seed = 2, .page = p}}, 1, all + at,
                                (kvs_coded){.x_hat = one + at, .codes = one_codes + at}, scratch);
        }
        assert_memory_equal(x_hat, one, sizeof one);
        assert_memory_equal(codes, one_codes, sizeof codes);
        for (int i = 0; i < sink * D; i++) assert_true(x_hat[i] == -7.0f && codes[i] == 99);
        assert_true(end > 150);
        for (int64_t i = end * D; i < TOKENS * D; i++) assert_true(x_hat[i] == -7.0f && codes[i] == 99);
        free(scratch);
        kvs_scheme_close(scheme);
    }
}

static void enough_was_compared(void **state) {
    (void)state;
    assert_in_range(compared, 960 + 140 + 1400 + 84, 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kitty_key_pages),
        cmocka_unit_test(kivi_key_pages),
        cmocka_unit_test(value_pages),
        cmocka_unit_test(odd_shapes),
        cmocka_unit_test(pages_do_not_depend_on_each_other),
        cmocka_unit_test(enough_was_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
