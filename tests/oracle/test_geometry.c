/* test_geometry.c: how sequences lie in pages: every scheme's bytes against its memory account, pages taken and
 * complete against the window policy token by token, and the names of pages against the tokens they stand for. */
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
#include "sim/geometry.h"
#include "sim/page_keys.h"

static const kvs_model_shape shape = {"small", 3, 4, 2, 128, 1e6, 2, ""};

static const char *const specs[] = {"kitty:boost=0.25,sink=0,window=0", "kivi:residual=64",
                                    "kitty:boost=0.125,sink=32,window=256", "int:bits=4,window=48,sink=4"};

/* Calls `use` for every registered scheme as it is, and for some with windows of their own. */
static void for_schemes(void (*use)(const kvs_scheme *, const kvs_geometry *)) {
    int types = 0, more = (int)(sizeof specs / sizeof *specs);
    while (kvs_scheme_types[types] != NULL) types++;
    assert_true(types >= 4);
    for (int i = 0; i < types + more; i++) {
        const char *spec = i < types ? kvs_scheme_types[i]->name : specs[i - types];
        kvs_error error = {0};
        kvs_scheme *scheme;
        kvs_geometry geometry;
        if (kvs_scheme_open(spec, 128, &scheme, &error) != KVS_OK) fail_msg("%s: %s", spec, error.rule);
        if (kvs_geometry_of(spec, &shape, 0, &geometry, &error) != KVS_OK) fail_msg("%s: %s", spec, error.rule);
        use(scheme, &geometry);
        kvs_scheme_close(scheme);
    }
}

static void near(double a, double b) {
    if (!(fabs(a - b) <= 1e-9 * (fabs(b) + 1))) fail_msg("%.17g is not %.17g", a, b);
}

static void bytes_are_the_account(const kvs_scheme *scheme, const kvs_geometry *g) {
    double heads = 3 * 2 / 8.0;
    for (int64_t tokens = 1; tokens < 1500; tokens += tokens < 600 ? 1 : 37) {
        kvs_bits account = kvs_scheme_head_bits(scheme, tokens), ours = kvs_sequence_bytes(g, tokens);
        near(ours.payload, account.payload * heads);
        near(ours.metadata, account.metadata * heads);
        near(ours.residual, account.residual * heads);
        near(ours.padding, account.padding * heads);
        near(kvs_read_bytes(g, tokens), (account.payload + account.metadata + account.residual) * heads);
        /* Pages and buffer always have room for it all. */
        double room = (double)kvs_sequence_pages(g, tokens) * g->page_bytes;
        assert_true(room >= ours.payload + ours.metadata + ours.padding + ours.residual - 1e-6);
    }
}

static void every_scheme_takes_the_bytes_of_its_account(void **state) {
    (void)state;
    for_schemes(bytes_are_the_account);
}

/* The stored range of one of K and V, from the window policy; all of it in full precision. */
static int64_t stored_end(const kvs_store *store, int64_t tokens) {
    return store->codec != NULL ? kvs_window_stored_end(&store->window, tokens, 0) : tokens;
}

static void pages_follow_the_window(const kvs_scheme *scheme, const kvs_geometry *g) {
    int64_t page = g->page_tokens, first = g->first_token;
    for (int64_t tokens = 1; tokens < 1200; tokens++) {
        int64_t k = stored_end(&scheme->k, tokens), v = stored_end(&scheme->v, tokens), taken = 0, full = 0;
        int64_t either = k > v ? k : v, both = k < v ? k : v;
        while (first + taken * page < either) taken++;
        while (first + (full + 1) * page <= both) full++;
        assert_int_equal(kvs_pages_taken(g, tokens), taken);
        assert_int_equal(kvs_pages_full(g, tokens), full);
    }
}

static void pages_are_taken_and_complete_when_the_window_says(void **state) {
    (void)state;
    for_schemes(pages_follow_the_window);
}

static void full_precision_pages_are_those_of_vllm(void **state) {
    (void)state;
    kvs_geometry g;
    kvs_error error;
    assert_int_equal(kvs_geometry_of("fp16", &shape, 16, &g, &error), KVS_OK);
    assert_int_equal(g.buffer_pages, 0);
    near(g.page_bytes, 16.0 * 2 * 2 * 3 * 2 * 128);
    for (int64_t tokens = 0; tokens < 200; tokens++) {
        assert_int_equal(kvs_pages_taken(&g, tokens), (tokens + 15) / 16);
        assert_int_equal(kvs_pages_full(&g, tokens), tokens / 16);
    }
    assert_int_equal(kvs_geometry_of("kitty", &shape, 100, &g, &error), KVS_USAGE); /* no whole pages of 128 */
    assert_int_equal(kvs_geometry_of("kitty", &shape, 256, &g, &error), KVS_OK);
    assert_int_equal(g.page_tokens, 256);
}

/* --- names ------------------------------------------------------------------------------------------------------- */

enum { REQUESTS = 40, BLOCK = 64, LONGEST = 600 };

/* Tokens drawn so that requests share prefixes: token t of a request is its family's up to `own`, then its own. */
static int64_t token_at(int64_t r, const int *own, int64_t t) {
    return t < own[r] ? (r % 3) * 100000 + t : (r + 10) * 100000 + t;
}

/* Equal prefixes up to a block's end get one id, as a trace with chained hashes has it. */
static void make_trace(kvs_requests *q, int *own) {
    kvs_error error;
    uint32_t ids[LONGEST / BLOCK + 1], unique = 0;
    for (int64_t r = 0; r < REQUESTS; r++) {
        int tokens = 1 + (int)(kvs_random_bits(77, (uint64_t)(2 * r)) % LONGEST);
        own[r] = (int)(kvs_random_bits(77, (uint64_t)(2 * r + 1)) % LONGEST);
        int blocks = (tokens + BLOCK - 1) / BLOCK;
        for (int b = 0; b < blocks; b++) {
            int64_t end = (b + 1) * BLOCK < tokens ? (b + 1) * BLOCK : tokens;
            ids[b] = unique;
            for (int64_t other = 0; other < r && ids[b] == unique; other++) {
                int64_t covers = (b + 1) * BLOCK < q->input_tokens[other] ? (b + 1) * BLOCK : q->input_tokens[other];
                int same = covers == end && b < q->block_start[other + 1] - q->block_start[other];
                for (int64_t t = 0; t < end && same; t++) same = token_at(other, own, t) == token_at(r, own, t);
                if (same) ids[b] = q->block_ids[q->block_start[other] + b];
            }
            unique += ids[b] == unique;
        }
        kvs_request one = {.input_tokens = tokens, .output_tokens = 30, .blocks = blocks, .block_ids = ids};
        assert_int_equal(kvs_requests_append(q, &one, 0, &error), KVS_OK);
    }
    q->block_tokens = BLOCK;
}

static void check_names(const kvs_requests *q, const int *own, int page, int first) {
    kvs_page_keys keys;
    kvs_error error;
    int64_t equal = 0;
    assert_int_equal(kvs_page_keys_create(&keys, q, page, first, &error), KVS_OK);
    for (int64_t a = 0; a < REQUESTS; a++)
        for (int64_t b = 0; b < REQUESTS; b++)
            for (int64_t i = 0; first + (i + 1) * page <= q->input_tokens[a] + q->output_tokens[a]; i++)
                for (int64_t j = 0; first + (j + 1) * page <= q->input_tokens[b] + q->output_tokens[b]; j++) {
                    uint32_t x = kvs_page_key(&keys, a, i), y = kvs_page_key(&keys, b, j);
                    assert_true(x < keys.keys && y < keys.keys);
                    if (a == b) assert_int_equal(x == y, i == j);
                    if (a == b || x != y) continue;
                    /* One name: the same page of the same tokens, all of them input. */
                    int64_t end = first + (i + 1) * page;
                    assert_int_equal(i, j);
                    assert_true(end <= q->input_tokens[a] && end <= q->input_tokens[b]);
                    for (int64_t t = 0; t < end; t++) assert_int_equal(token_at(a, own, t), token_at(b, own, t));
                    equal++;
                }
    assert_true(equal > 20);
    kvs_page_keys_destroy(&keys);
}

static void equal_names_mean_equal_tokens(void **state) {
    (void)state;
    kvs_requests q = {0};
    static int own[REQUESTS];
    kvs_page_keys keys;
    kvs_error error;
    make_trace(&q, own);
    check_names(&q, own, 16, 0);
    check_names(&q, own, 64, 0);
    check_names(&q, own, 128, 0);
    check_names(&q, own, 32, 8); /* behind sinks */
    check_names(&q, own, 64, 4);
    assert_int_equal(kvs_page_keys_create(&keys, &q, 48, 0, &error), KVS_USAGE);
    kvs_requests_clear(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scheme_takes_the_bytes_of_its_account),
        cmocka_unit_test(pages_are_taken_and_complete_when_the_window_says),
        cmocka_unit_test(full_precision_pages_are_those_of_vllm),
        cmocka_unit_test(equal_names_mean_equal_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
