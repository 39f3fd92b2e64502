#include "kernels/context.h"

#include <stddef.h>

#include "kernels/scheme.h"

/* Tokens that are there when the page is stored; queries at positions below that are past. */
static int64_t stored_at(const kvs_window *window, int64_t page) {
    int64_t due = window->sink_tokens + (page + 1) * window->page_tokens + window->recent_tokens + window->decode_lag;
    return due > window->prefix_tokens ? due : window->prefix_tokens;
}

static int first_at(const int32_t *positions, int count, int64_t position) {
    int first = 0;
    while (first < count && positions[first] < position) first++;
    return first;
}

/* Indices [*first, *last) of the positions that the needs ask for. */
static void choose(const kvs_window *window, kvs_query_needs needs, const int32_t *positions, int count, int64_t page,
                   int *first, int *last) {
    int64_t stored = stored_at(window, page);
    int now = needs.use != KVS_QUERIES_NONE ? first_at(positions, count, stored) : 0;
    *first = needs.use == KVS_QUERIES_FUTURE ? now : 0;
    *last = needs.use == KVS_QUERIES_FUTURE ? count : now;
    if (needs.use == KVS_QUERIES_PAST && needs.window > 0) *first = first_at(positions, now, stored - needs.window);
}

kvs_page_context kvs_page_context_of(const kvs_page_context *whole, const kvs_window *window, kvs_query_needs needs,
                                     int page) {
    kvs_page_context context = *whole;
    context.place.page = page;
    context.first_token = window->sink_tokens + (int64_t)page * window->page_tokens;
    kvs_query_set *queries = &context.queries;
    int first, last;
    choose(window, needs, queries->positions, queries->count, page, &first, &last);
    queries->count = last - first;
    queries->positions += first;
    queries->values += (int64_t)first * queries->head_dim;
    if (queries->log_sums != NULL) queries->log_sums += first;
    return context;
}

int kvs_page_without_queries(const kvs_window *window, kvs_query_needs needs, const int32_t *positions, int count,
                             int64_t pages) {
    for (int page = 0; needs.use == KVS_QUERIES_PAST && page < pages; page++) {
        int first, last;
        choose(window, needs, positions, count, page, &first, &last);
        if (first == last) return page;
    }
    return -1;
}
