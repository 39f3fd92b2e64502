/* allocator_unpaged.c: every sequence gets one stretch of exactly its final length, first fit. Nothing is lost inside,
 * but free memory falls to pieces; and it must know the length of the answer beforehand, which no engine does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/allocator.h"

typedef struct stretch {
    int64_t start, end; /* bytes */
} stretch;

typedef struct unpaged {
    stretch *used; /* ascending, disjoint */
    int64_t count, capacity, bytes;
} unpaged;

static int64_t bytes_of(const kvs_allocator *a, int64_t tokens) {
    const kvs_geometry *g = a->geometry;
    return (int64_t)ceil((double)kvs_pages_taken(g, tokens) * g->page_bytes + g->buffer_bytes);
}

static kvs_status open_unpaged(kvs_allocator *a, kvs_error *error) {
    a->state = calloc(1, sizeof(unpaged));
    return a->state != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, a->geometry->scheme, NULL, "out of memory");
}

static void close_unpaged(kvs_allocator *a) {
    unpaged *u = a->state;
    if (u != NULL) free(u->used);
    free(u);
    a->state = NULL;
}

static int fits(const kvs_allocator *a, int64_t tokens) {
    return (double)bytes_of(a, tokens) <= a->options.memory_bytes;
}

static int admit(kvs_allocator *a, kvs_engine_sequence *s, int64_t budget, int reserve, int others_run,
                 int64_t *hit_tokens) {
    (void)budget, (void)reserve, (void)others_run;
    unpaged *u = a->state;
    const kvs_requests *q = a->keys->requests;
    int64_t bytes = bytes_of(a, (int64_t)q->input_tokens[s->request] + q->output_tokens[s->request]);
    int64_t start = 0, at = 0;
    *hit_tokens = 0;
    for (; at < u->count && u->used[at].start - start < bytes; at++) start = u->used[at].end;
    if ((double)(start + bytes) > a->options.memory_bytes) return 0;
    if (u->count == u->capacity) {
        int64_t capacity = 2 * u->capacity + 64;
        stretch *grown = realloc(u->used, (size_t)capacity * sizeof *grown);
        if (grown == NULL) return -1;
        u->used = grown;
        u->capacity = capacity;
    }
    memmove(u->used + at + 1, u->used + at, (size_t)(u->count++ - at) * sizeof *u->used);
    u->used[at] = (stretch){start, start + bytes};
    u->bytes += bytes;
    s->place = start;
    return 1;
}

static int extend(kvs_allocator *a, kvs_engine_sequence *s, int64_t tokens) {
    (void)a, (void)s, (void)tokens;
    return 1; /* it has its final length */
}

static void release(kvs_allocator *a, kvs_engine_sequence *s) {
    unpaged *u = a->state;
    int64_t at = 0;
    while (u->used[at].start != s->place) at++;
    u->bytes -= u->used[at].end - u->used[at].start;
    memmove(u->used + at, u->used + at + 1, (size_t)(--u->count - at) * sizeof *u->used);
}

static void state(const kvs_allocator *a, kvs_memory_state *m) {
    const unpaged *u = a->state;
    double page = a->geometry->page_bytes, largest = 0;
    for (int64_t i = 0, start = 0; i <= u->count; i++) {
        double end = i < u->count ? (double)u->used[i].start : a->options.memory_bytes;
        if (end - (double)start > largest) largest = end - (double)start;
        if (i < u->count) start = u->used[i].end;
    }
    m->total = (int64_t)(a->options.memory_bytes / page);
    m->used = (int64_t)ceil((double)u->bytes / page);
    m->free = m->total - m->used;
    m->cached_free = 0;
    m->used_bytes = (double)u->bytes;
    m->largest_free_bytes = largest;
}

static kvs_status check(const kvs_allocator *a, kvs_error *error) {
    const unpaged *u = a->state;
    int64_t bytes = 0, end = 0;
    for (int64_t i = 0; i < u->count; i++) {
        if (u->used[i].start < end || u->used[i].end <= u->used[i].start)
            return kvs_fail(error, KVS_CHECK, "unpaged allocator", NULL, "two stretches overlap");
        end = u->used[i].end;
        bytes += u->used[i].end - u->used[i].start;
    }
    if (bytes == u->bytes && (double)end <= a->options.memory_bytes) return KVS_OK;
    return kvs_fail(error, KVS_CHECK, "unpaged allocator", NULL, "its bytes do not add up");
}

const kvs_allocator_type kvs_allocator_unpaged = {
    .name = "unpaged",
    .summary = "one stretch of exactly its final length for each sequence, first fit",
    .open = open_unpaged,
    .close = close_unpaged,
    .fits = fits,
    .admit = admit,
    .extend = extend,
    .release = release,
    .state = state,
    .check = check,
};
