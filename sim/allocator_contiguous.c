/* allocator_contiguous.c: every sequence gets a slot of the longest length for its whole life; what it does not fill is
 * lost. So do engines that preallocate [batch][longest sequence]. */
#include <math.h>

#include "sim/allocator.h"

/* The state is the number of slots in use: place of a sequence is 1 while it has one. */
static double slot_bytes(const kvs_allocator *a) {
    const kvs_geometry *g = a->geometry;
    return (double)kvs_pages_taken(g, a->options.max_tokens) * g->page_bytes + g->buffer_bytes;
}

static int64_t slots(const kvs_allocator *a) {
    return (int64_t)floor(a->options.memory_bytes / slot_bytes(a));
}

static kvs_status open_contiguous(kvs_allocator *a, kvs_error *error) {
    if (slots(a) < 1)
        return kvs_fail(error, KVS_INPUT, a->geometry->scheme, "memory",
                        "%.0f bytes hold no slot of %lld tokens, %.0f bytes", a->options.memory_bytes,
                        (long long)a->options.max_tokens, slot_bytes(a));
    return KVS_OK;
}

static void close_contiguous(kvs_allocator *a) {
    (void)a;
}

static int fits(const kvs_allocator *a, int64_t tokens) {
    return tokens <= a->options.max_tokens;
}

static int admit(kvs_allocator *a, kvs_engine_sequence *s, int64_t budget, int reserve, int others_run,
                 int64_t *hit_tokens) {
    (void)budget, (void)reserve, (void)others_run;
    *hit_tokens = 0;
    if (a->in_use == slots(a)) return 0;
    a->in_use++;
    s->place = 1;
    return 1;
}

static int extend(kvs_allocator *a, kvs_engine_sequence *s, int64_t tokens) {
    (void)s;
    return tokens <= a->options.max_tokens;
}

static void release(kvs_allocator *a, kvs_engine_sequence *s) {
    a->in_use--;
    s->place = 0;
}

static void state(const kvs_allocator *a, kvs_memory_state *m) {
    m->total = slots(a);
    m->used = a->in_use;
    m->free = m->total - m->used;
    m->cached_free = 0;
    m->used_bytes = (double)m->used * slot_bytes(a);
    m->largest_free_bytes = (double)m->free * slot_bytes(a);
}

static kvs_status check(const kvs_allocator *a, kvs_error *error) {
    if (a->in_use >= 0 && a->in_use <= slots(a)) return KVS_OK;
    return kvs_fail(error, KVS_CHECK, "contiguous allocator", NULL, "%lld slots in use of %lld", (long long)a->in_use,
                    (long long)slots(a));
}

const kvs_allocator_type kvs_allocator_contiguous = {
    .name = "contiguous",
    .summary = "a slot of the longest length for each sequence",
    .open = open_contiguous,
    .close = close_contiguous,
    .fits = fits,
    .admit = admit,
    .extend = extend,
    .release = release,
    .state = state,
    .check = check,
};
