/* allocator_paged.c: vLLM v1's KV cache manager over the block pool: lookup, watermark, reserve of the full input. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/allocator.h"

typedef struct paged {
    kvs_pool pool;
    int64_t watermark_blocks;
    uint32_t *keys, *found; /* of one sequence */
    int64_t capacity;
} paged;

static kvs_status open_paged(kvs_allocator *a, kvs_error *error) {
    const kvs_geometry *g = a->geometry;
    int64_t blocks = a->options.blocks;
    if (blocks == 0) {
        double fit = floor(a->options.memory_bytes / g->page_bytes);
        blocks = fit < 2147483647.0 ? (int64_t)fit : 2147483647;
    }
    if (blocks < 2)
        return kvs_fail(error, KVS_INPUT, g->scheme, "memory", "%.0f bytes hold no two pages of %.0f bytes",
                        a->options.memory_bytes, g->page_bytes);
    paged *p = calloc(1, sizeof *p);
    if (p == NULL) return kvs_fail(error, KVS_INPUT, g->scheme, NULL, "out of memory");
    a->state = p;
    p->watermark_blocks = (int64_t)(a->options.watermark * (double)blocks);
    kvs_status status = kvs_pool_create(&p->pool, blocks, a->keys->keys, a->options.caching, a->options.order, error);
    if (status != KVS_OK) a->type->close(a);
    return status;
}

static void close_paged(kvs_allocator *a) {
    paged *p = a->state;
    if (p == NULL) return;
    kvs_pool_destroy(&p->pool);
    free(p->keys);
    free(p->found);
    free(p);
    a->state = NULL;
}

static int fits(const kvs_allocator *a, int64_t tokens) {
    const paged *p = a->state;
    return kvs_sequence_pages(a->geometry, tokens) <= (int64_t)p->pool.blocks - 1;
}

static int reserve_scratch(paged *p, int64_t pages) {
    if (pages <= p->capacity) return 1;
    uint32_t *keys = realloc(p->keys, (size_t)pages * sizeof *keys);
    if (keys != NULL) p->keys = keys;
    uint32_t *found = realloc(p->found, (size_t)pages * sizeof *found);
    if (found != NULL) p->found = found;
    if (keys == NULL || found == NULL) return 0;
    p->capacity = pages;
    return 1;
}

/* The cached prefix in p->found: complete pages only, and never all known tokens: the last is computed again, and the
 * tokens that must be in full precision behind a page cannot come from one. */
static int64_t lookup(kvs_allocator *a, const kvs_engine_sequence *s) {
    paged *p = a->state;
    if (!p->pool.caching) return 0;
    int64_t most = kvs_pages_full(a->geometry, (int64_t)s->known - 1), hits = 0;
    /* Page by page: most lookups miss early, and a key costs a division. */
    for (; hits < most; hits++) {
        uint32_t key = kvs_page_key(a->keys, s->request, hits);
        if (kvs_pool_lookup(&p->pool, &key, 1, &p->found[hits]) == 0) break;
    }
    return hits;
}

/* Gives the pages that became complete their keys. */
static void cache_complete(kvs_allocator *a, kvs_engine_sequence *s, int64_t tokens) {
    paged *p = a->state;
    int64_t complete = kvs_pages_full(a->geometry, tokens < s->known ? tokens : s->known);
    if (!p->pool.caching || complete <= s->complete) return;
    for (int64_t i = s->complete; i < complete; i++) p->keys[i] = kvs_page_key(a->keys, s->request, i);
    kvs_pool_cache(&p->pool, s->blocks + a->geometry->buffer_pages + s->complete, p->keys + s->complete,
                   complete - s->complete);
    s->complete = complete;
}

static int admit(kvs_allocator *a, kvs_engine_sequence *s, int64_t budget, int reserve, int others_run,
                 int64_t *hit_tokens) {
    const kvs_geometry *g = a->geometry;
    paged *p = a->state;
    const kvs_requests *q = a->keys->requests;
    int64_t longest = kvs_sequence_pages(g, (int64_t)q->input_tokens[s->request] + q->output_tokens[s->request] + 1);
    if (!reserve_scratch(p, longest + 1)) return -1;
    int64_t hits = lookup(a, s);
    *hit_tokens = hits * g->page_tokens;
    int64_t rest = s->known - *hit_tokens, now = *hit_tokens + (rest < budget ? rest : budget);
    int64_t unused = kvs_pool_count_free(&p->pool, p->found, hits), watermark = others_run ? p->watermark_blocks : 0;
    int64_t room = (int64_t)p->pool.free - unused - watermark - g->buffer_pages + hits;
    int64_t pages = kvs_pages_taken(g, now);
    if (pages < hits) pages = hits;
    if (pages > room || (reserve && kvs_pages_taken(g, s->known) > room)) return 0;
    s->blocks = malloc((size_t)(longest + 1) * sizeof *s->blocks);
    if (s->blocks == NULL) return -1;
    kvs_pool_touch(&p->pool, p->found, hits);
    kvs_pool_allocate(&p->pool, g->buffer_pages, s->blocks);
    memcpy(s->blocks + g->buffer_pages, p->found, (size_t)hits * sizeof *p->found);
    kvs_pool_allocate(&p->pool, pages - hits, s->blocks + g->buffer_pages + hits);
    s->pages = pages;
    s->complete = hits;
    cache_complete(a, s, now);
    a->evictions = p->pool.evictions;
    return 1;
}

static int extend(kvs_allocator *a, kvs_engine_sequence *s, int64_t tokens) {
    const kvs_geometry *g = a->geometry;
    paged *p = a->state;
    int64_t pages = kvs_pages_taken(g, tokens);
    if (pages > s->pages) {
        if (pages - s->pages > (int64_t)p->pool.free) return 0;
        kvs_pool_allocate(&p->pool, pages - s->pages, s->blocks + g->buffer_pages + s->pages);
        s->pages = pages;
        a->evictions = p->pool.evictions;
    }
    cache_complete(a, s, tokens);
    return 1;
}

static void release(kvs_allocator *a, kvs_engine_sequence *s) {
    paged *p = a->state;
    kvs_pool_release(&p->pool, s->blocks, a->geometry->buffer_pages + s->pages);
    free(s->blocks);
    s->blocks = NULL;
    s->pages = s->complete = 0;
}

static void state(const kvs_allocator *a, kvs_memory_state *m) {
    const paged *p = a->state;
    double page = a->geometry->page_bytes;
    m->total = p->pool.blocks - 1;
    m->free = p->pool.free;
    m->used = m->total - m->free;
    m->cached_free = p->pool.cached_free;
    m->used_bytes = (double)m->used * page;
    m->largest_free_bytes = a->options.memory_bytes - m->used_bytes; /* any page will do: nothing is in pieces */
}

static kvs_status check(const kvs_allocator *a, kvs_error *error) {
    return kvs_pool_check(&((const paged *)a->state)->pool, error);
}

const kvs_allocator_type kvs_allocator_paged = {
    .name = "paged",
    .summary = "pages on demand from one pool, shared by equal prefixes (vLLM v1)",
    .open = open_paged,
    .close = close_paged,
    .fits = fits,
    .admit = admit,
    .extend = extend,
    .release = release,
    .state = state,
    .check = check,
};
