#include "sim/sequential.h"

#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/page_keys.h"

/* Pages of request r are keys[start[r] .. start[r + 1]); a partial page that is dropped has no key of its own and is
 * the one allocated beyond them. */
struct kvs_sequential {
    const kvs_requests *requests;
    kvs_sequential_options options;
    int64_t *start; /* [count + 1] */
    uint32_t *keys;
    uint8_t *partial; /* [count]: one more page, not cached */
    int64_t key_count, requested, longest;
};

static int64_t pages_up(int64_t tokens, int64_t page) {
    return (tokens + page - 1) / page;
}

static kvs_status count_pages(kvs_sequential *s, kvs_error *error) {
    const kvs_requests *q = s->requests;
    int page = s->options.page_tokens, drop = s->options.partial == KVS_PARTIAL_DROP;
    s->start = malloc((size_t)(q->count + 1) * sizeof *s->start);
    s->partial = malloc((size_t)q->count + 1);
    if (s->start == NULL || s->partial == NULL) return kvs_fail(error, KVS_INPUT, q->source, NULL, "out of memory");
    s->start[0] = 0;
    for (int64_t r = 0; r < q->count; r++) {
        int64_t all = pages_up(q->input_tokens[r], page), full = q->input_tokens[r] / page;
        s->partial[r] = drop && all > full;
        s->start[r + 1] = s->start[r] + (drop ? full : all);
        s->requested += all;
        if (all > s->longest) s->longest = all;
    }
    s->keys = malloc((size_t)(s->start[q->count] + 1) * sizeof *s->keys);
    return s->keys != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, q->source, NULL, "out of memory");
}

/* With `count`, a partial last page is cached like a full one that ends where the input ends. */
static uint32_t partial_key(const kvs_page_keys *keys, int64_t r) {
    const kvs_requests *q = keys->requests;
    int64_t last = q->input_tokens[r] - 1, id = q->block_ids[q->block_start[r] + last / q->block_tokens];
    return (uint32_t)(id * keys->per_id + last % q->block_tokens / keys->page_tokens);
}

static kvs_status make_keys(kvs_sequential *s, kvs_error *error) {
    const kvs_requests *q = s->requests;
    kvs_page_keys keys;
    KVS_TRY(kvs_page_keys_create(&keys, q, s->options.page_tokens, 0, error));
    s->key_count = keys.keys;
    for (int64_t r = 0; r < q->count; r++) {
        int64_t pages = s->start[r + 1] - s->start[r], full = q->input_tokens[r] / s->options.page_tokens;
        int has_ids = q->block_start[r + 1] > q->block_start[r];
        for (int64_t i = 0; i < pages; i++) {
            uint32_t key = 0;
            if (i < full)
                key = kvs_page_key(&keys, r, i);
            else
                key = has_ids ? partial_key(&keys, r) : (uint32_t)s->key_count++;
            s->keys[s->start[r] + i] = key;
        }
    }
    kvs_page_keys_destroy(&keys);
    return KVS_OK;
}

kvs_status kvs_sequential_create(const kvs_requests *requests, kvs_sequential_options options, kvs_sequential **replay,
                                 kvs_error *error) {
    kvs_sequential *s = calloc(1, sizeof *s);
    if (s == NULL) return kvs_fail(error, KVS_INPUT, requests->source, NULL, "out of memory");
    s->requests = requests;
    s->options = options;
    kvs_status status = count_pages(s, error);
    if (status == KVS_OK) status = make_keys(s, error);
    if (status != KVS_OK)
        kvs_sequential_destroy(s);
    else
        *replay = s;
    return status;
}

void kvs_sequential_destroy(kvs_sequential *s) {
    if (s == NULL) return;
    free(s->start);
    free(s->keys);
    free(s->partial);
    free(s);
}

/* One request: find its prefix, allocate the rest, cache what is full, free it all. Returns the hits. */
static inline int64_t serve(const kvs_sequential *s, kvs_pool *pool, int64_t r, uint32_t *blocks) {
    const uint32_t *keys = s->keys + s->start[r];
    int64_t keyed = s->start[r + 1] - s->start[r], all = keyed + s->partial[r], most = keyed;
    if (s->options.partial == KVS_PARTIAL_DROP)
        most = (s->requests->input_tokens[r] - 1) / s->options.page_tokens; /* the last token is computed again */
    int64_t hits = pool->caching ? kvs_pool_lookup(pool, keys, most, blocks) : 0;
    kvs_pool_touch(pool, blocks, hits);
    kvs_pool_allocate(pool, all - hits, blocks + hits);
    kvs_pool_cache(pool, blocks + hits, keys + hits, keyed - hits);
    kvs_pool_release(pool, blocks, all);
    return hits;
}

static kvs_status run_once(const kvs_sequential *s, kvs_pool *pool, uint32_t *blocks, int skip_bad,
                           kvs_sequential_result *result, kvs_error *error) {
    double started = kvs_seconds();
    int64_t limit = pool->blocks - 1;
    for (int64_t r = 0; r < s->requests->count; r++) {
        int64_t pages = s->start[r + 1] - s->start[r] + s->partial[r];
        if (pages > limit) {
            result->skipped++;
            result->requested_blocks -= pages;
            if (skip_bad) continue;
            return kvs_fail(error, KVS_INPUT, s->requests->source, NULL,
                            "request %lld needs %lld pages, more than the whole memory of %lld; --skip-bad leaves such "
                            "requests out",
                            (long long)r, (long long)pages, (long long)limit);
        }
        result->hit_blocks += serve(s, pool, r, blocks);
        if (s->options.check) KVS_TRY(kvs_pool_check(pool, error));
        if ((r & 0xfff) == 0 && kvs_interrupted())
            return kvs_fail(error, KVS_INTERRUPTED, s->requests->source, NULL, "interrupted");
    }
    result->wall_s = kvs_seconds() - started;
    result->evictions = pool->evictions;
    if (pool->free != pool->blocks - 1)
        return kvs_fail(error, KVS_CHECK, "pool", NULL, "blocks leaked: %u of %u are free at the end", pool->free,
                        pool->blocks - 1);
    return KVS_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

kvs_status kvs_sequential_run(const kvs_sequential *s, int64_t capacity_pages, int skip_bad,
                              kvs_sequential_result *result, kvs_error *error) {
    int64_t capacity = capacity_pages > 0 ? capacity_pages : s->requested + 1;
    int repeat = s->options.repeat > 0 ? s->options.repeat : 1;
    double *walls = malloc((size_t)repeat * sizeof *walls);
    uint32_t *blocks = malloc((size_t)(s->longest + 1) * sizeof *blocks);
    kvs_status status = walls != NULL && blocks != NULL
                            ? KVS_OK
                            : kvs_fail(error, KVS_INPUT, s->requests->source, NULL, "out of memory");
    for (int i = 0; i < repeat && status == KVS_OK; i++) {
        kvs_pool pool;
        *result = (kvs_sequential_result){.capacity_pages = capacity_pages, .requested_blocks = s->requested};
        status = kvs_pool_create(&pool, capacity + 1, s->key_count, s->options.caching, s->options.order, error);
        if (status == KVS_OK) status = run_once(s, &pool, blocks, skip_bad, result, error);
        kvs_pool_destroy(&pool);
        walls[i] = result->wall_s;
    }
    if (status == KVS_OK) {
        qsort(walls, (size_t)repeat, sizeof *walls, by_value);
        result->wall_s = walls[repeat / 2];
    }
    free(walls);
    free(blocks);
    return status;
}
