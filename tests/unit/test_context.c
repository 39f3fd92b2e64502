/* test_context.c: which queries a page may know of, held to when queries begin to read it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "kernels/scheme.h"

enum { DIM = 3, HEADS = 2, COUNT = 40, PAGES = 5 };

static int32_t positions[COUNT];
static float values[HEADS][COUNT][DIM], sums[HEADS][COUNT];
static const kvs_window windows[] = {
    {32, 128, 0, 0, 0}, {0, 16, 0, 1, 0}, {5, 64, 128, 0, 0}, {4, 1, 7, 0, 0}, {4, 16, 0, 0, 100}};

static kvs_page_context everything(void) {
    for (int i = 0; i < COUNT; i++) {
        positions[i] = 20 * i + (int32_t)(kvs_random_bits(3, (uint64_t)i) % 20);
        for (int h = 0; h < HEADS; h++) {
            for (int d = 0; d < DIM; d++) values[h][i][d] = (float)(100 * i + 10 * h + d);
            sums[h][i] = (float)(1000 * h + i);
        }
    }
    return (kvs_page_context){.place = {1, 2, 3, 4, 77},
                              .queries = {.heads = HEADS,
                                          .count = COUNT,
                                          .head_dim = DIM,
                                          .positions = positions,
                                          .values = values[0][0],
                                          .head_stride = COUNT * DIM,
                                          .log_sums = sums[0],
                                          .sums_stride = COUNT}};
}

/* Whether a query at that position finds the page stored while decoding. */
static int reads(const kvs_window *window, int page, int position) {
    return kvs_window_stored_end(window, position, 0) >= window->sink_tokens + (page + 1) * window->page_tokens;
}

/* The position of the first query that finds it. */
static int first_reader(const kvs_window *window, int page) {
    int position = 0;
    while (!reads(window, page, position)) position++;
    return position;
}

static int wanted(const kvs_window *window, kvs_query_needs needs, int page, int position) {
    if (needs.use == KVS_QUERIES_NONE) return 0;
    if (needs.use == KVS_QUERIES_FUTURE) return reads(window, page, position);
    if (reads(window, page, position)) return 0;
    return needs.window == 0 || position >= first_reader(window, page) - needs.window;
}

static void a_page_knows_the_queries_that_did_not_find_it(void **state) {
    (void)state;
    const kvs_query_needs needs[] = {
        {KVS_QUERIES_NONE, 0, 0}, {KVS_QUERIES_PAST, 0, 0}, {KVS_QUERIES_PAST, 1, 100}, {KVS_QUERIES_FUTURE, 0, 0}};
    kvs_page_context whole = everything();
    for (int w = 0; w < 5; w++)
        for (int n = 0; n < 4; n++)
            for (int page = 0; page < PAGES; page++) {
                kvs_page_context context = kvs_page_context_of(&whole, &windows[w], needs[n], page);
                assert_int_equal(context.place.page, page);
                assert_int_equal(context.first_token, windows[w].sink_tokens + page * windows[w].page_tokens);
                int found = 0;
                for (int i = 0; i < COUNT; i++) {
                    if (!wanted(&windows[w], needs[n], page, positions[i])) continue;
                    assert_true(found < context.queries.count);
                    assert_int_equal(context.queries.positions[found], positions[i]);
                    for (int h = 0; h < HEADS; h++) {
                        assert_ptr_equal(kvs_query_at(&context.queries, h, found), values[h][i]);
                        assert_true(context.queries.log_sums[h * context.queries.sums_stride + found] == sums[h][i]);
                    }
                    found++;
                }
                assert_int_equal(context.queries.count, found);
            }
}

static void missing_queries_are_found(void **state) {
    (void)state;
    everything();
    kvs_query_needs past = {KVS_QUERIES_PAST, 0, 40}, all = {KVS_QUERIES_PAST, 0, 0}, none = {KVS_QUERIES_NONE, 0, 30};
    kvs_window window = windows[0];
    assert_int_equal(kvs_page_without_queries(&window, past, positions, COUNT, PAGES), -1);
    assert_int_equal(kvs_page_without_queries(&window, all, positions + 20, COUNT - 20, PAGES), 0);
    assert_int_equal(kvs_page_without_queries(&window, none, positions, 0, PAGES), -1);
    assert_int_equal(kvs_page_without_queries(&window, past, positions, 0, 0), -1);
    /* Page 2 is stored at 416, and the last of these is below 376. */
    int count = 0;
    while (positions[count] < 376) count++;
    assert_int_equal(kvs_page_without_queries(&window, past, positions, count, PAGES), 2);
    assert_int_equal(kvs_page_without_queries(&window, all, positions, count, PAGES), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_knows_the_queries_that_did_not_find_it),
        cmocka_unit_test(missing_queries_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
