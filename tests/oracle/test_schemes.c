/* test_schemes.c: what every registered scheme must keep, whatever its formula: pages do not depend on how many are
 * stored at once, x_hat may be x, codes do not change values, finite stays finite, and scratch is as large as it says.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/half.h"
#include "core/random.h"
#include "kernels/scheme.h"

enum { TOKENS = 660, MOST_DIM = 256, HEADS = 2, QUERIES = 66 };

static float x[TOKENS * MOST_DIM], keys[TOKENS * MOST_DIM], queries[HEADS * QUERIES * MOST_DIM];
static float many[TOKENS * MOST_DIM], single[TOKENS * MOST_DIM], in_place[TOKENS * MOST_DIM];
static float log_sums[HEADS * QUERIES];
static int32_t positions[QUERIES];
static double frequencies[MOST_DIM / 2];
static uint8_t codes[TOKENS * MOST_DIM];

static float normal(uint64_t key, uint64_t i) {
    float sum = -6.0f;
    for (uint64_t k = 0; k < 12; k++) sum += kvs_random_unit(key, 12 * i + k);
    return sum;
}

/* A constant channel; from token 500 on outlier channels, which no prefix has announced, runs of zeros and of
 * constants, tiny and huge values. */
static void fill(int dim) {
    for (int i = 0; i < TOKENS * dim; i++) {
        int t = i / dim, d = i % dim;
        float value = normal(1, (uint64_t)i) * (d % 29 == 3 && t >= 500 ? 50.0f : 1.0f);
        if (d == 11) value = -2.0f;
        if (t >= 520 && t < 530) value = 0.0f;
        if (t >= 530 && t < 535) value = -3.0f;
        if (t >= 540 && t < 545) value *= 1e-6f;
        if (t == 550 && d % 7 == 0) value = d % 2 ? 65504.0f : -65504.0f;
        x[i] = kvs_round_to_half(value);
        keys[i] = kvs_round_to_half(normal(2, (uint64_t)i));
    }
    for (int i = 0; i < HEADS * QUERIES * dim; i++) queries[i] = kvs_round_to_half(normal(3, (uint64_t)i));
    for (int i = 0; i < HEADS * QUERIES; i++) log_sums[i] = 4.0f;
    for (int i = 0; i < QUERIES; i++) positions[i] = 10 * i + 5;
    for (int i = 0; i < dim / 2; i++) frequencies[i] = pow(1e4, -2.0 * i / dim);
}

static kvs_page_context context_of(const kvs_store *store, int dim) {
    return (kvs_page_context){
        .place = {.seed = 5, .layer = 2, .kv_head = 1},
        .rope = {dim, 0, frequencies},
        .softmax_scale = 1.0f / sqrtf((float)dim),
        .queries = {HEADS, QUERIES, dim, positions, queries, QUERIES * dim, log_sums, QUERIES},
        .prefix = store->window.prefix_tokens > 0 ? x : NULL,
        .keys = keys,
    };
}

static void assert_same(const float *a, const float *b, int64_t first, int64_t end, int dim, const char *name,
                        const char *what) {
    if (memcmp(a + first * dim, b + first * dim, sizeof *a * (size_t)((end - first) * dim)) != 0)
        fail_msg("%s, head_dim %d: %s", name, dim, what);
}

static void check_store(const kvs_store *store, const char *name, int dim) {
    if (store->codec == NULL) return;
    int page = store->window.page_tokens;
    int64_t first = store->window.sink_tokens, end = kvs_window_stored_end(&store->window, TOKENS, 0);
    assert_true(end - first > 300);
    float *scratch = malloc(sizeof *scratch * kvs_store_scratch_floats(store)); /* exact, for the sanitizer */
    assert_true(scratch != NULL || kvs_store_scratch_floats(store) == 0);
    kvs_page_context whole = context_of(store, dim);
    for (int i = 0; i < TOKENS * dim; i++) many[i] = NAN;
    kvs_store_pages(store, &whole, end, x, many, codes, scratch);
    for (int64_t i = first * dim; i < end * dim; i++)
        if (!isfinite(many[i])) fail_msg("%s, head_dim %d: element %lld is not finite", name, dim, (long long)i);
    memcpy(in_place, x, sizeof *x * (size_t)(TOKENS * dim));
    for (int64_t t = first; t < end; t += page) {
        kvs_page_context at = context_of(store, dim);
        at.place.page = (int)((t - first) / page);
        store->codec->pages(store, &at, 1, x + t * dim, (kvs_coded){.x_hat = single + t * dim}, scratch);
        store->codec->pages(store, &at, 1, in_place + t * dim, (kvs_coded){.x_hat = in_place + t * dim}, scratch);
    }
    assert_same(many, single, first, end, dim, name, "one page at a time differs");
    assert_same(many, in_place, first, end, dim, name, "in place differs");
    double error = 0, energy = 0;
    for (int64_t i = first * dim; i < 380 * dim; i++) {
        error += ((double)many[i] - (double)x[i]) * ((double)many[i] - (double)x[i]);
        energy += (double)x[i] * (double)x[i];
    }
    if (!(error < 0.6 * energy)) fail_msg("%s, head_dim %d: error %g of energy %g", name, dim, error, energy);
    free(scratch);
}

static void every_scheme_keeps_the_contract(void **state) {
    (void)state;
    const int dims[] = {64, 96, 128, 256};
    for (int h = 0; h < 4; h++) {
        fill(dims[h]);
        for (int i = 0; kvs_scheme_types[i] != NULL; i++) {
            kvs_scheme *scheme;
            kvs_error error;
            const char *name = kvs_scheme_types[i]->name;
            if (kvs_scheme_open(name, dims[h], &scheme, &error) != KVS_OK) fail_msg("%s: %s", name, error.rule);
            check_store(&scheme->k, name, dims[h]);
            check_store(&scheme->v, name, dims[h]);
            kvs_scheme_close(scheme);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_scheme_keeps_the_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
