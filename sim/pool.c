#include "sim/pool.h"

#include <stdlib.h>
#include <string.h>

kvs_status kvs_pool_create(kvs_pool *pool, int64_t blocks, int64_t keys, int caching, kvs_free_order order,
                           kvs_error *error) {
    *pool = (kvs_pool){.keys = keys, .caching = caching, .order = order};
    if (blocks < 2 || blocks >= KVS_POOL_TWINS)
        return kvs_fail(error, KVS_INPUT, "pool", NULL, "%lld blocks: needs 2 (one is the null block) to 2^31 - 1",
                        (long long)blocks);
    if (keys >= KVS_POOL_NONE)
        return kvs_fail(error, KVS_INPUT, "pool", NULL, "%lld distinct blocks: at most 2^32 - 2 fit; larger pages help",
                        (long long)keys);
    pool->blocks = (uint32_t)blocks;
    pool->free = pool->blocks - 1;
    pool->block = malloc((size_t)blocks * sizeof *pool->block);
    pool->twin = malloc((size_t)blocks * sizeof *pool->twin);
    pool->block_of_key = malloc((size_t)(keys > 0 ? keys : 1) * sizeof *pool->block_of_key);
    if (pool->block == NULL || pool->twin == NULL || pool->block_of_key == NULL) {
        kvs_pool_destroy(pool);
        return kvs_fail(error, KVS_INPUT, "pool", NULL, "out of memory for %lld blocks and %lld keys",
                        (long long)blocks, (long long)keys);
    }
    for (uint32_t b = 0; b < pool->blocks; b++)
        pool->block[b] = (kvs_block){0, KVS_POOL_NONE, b > 0 ? b - 1 : pool->blocks - 1, (b + 1) % pool->blocks};
    memset(pool->block_of_key, 0xff, (size_t)keys * sizeof *pool->block_of_key);
    return KVS_OK;
}

void kvs_pool_destroy(kvs_pool *pool) {
    free(pool->block);
    free(pool->twin);
    free(pool->block_of_key);
    *pool = (kvs_pool){0};
}

int64_t kvs_pool_lookup(const kvs_pool *pool, const uint32_t *keys, int64_t count, uint32_t *blocks) {
    int64_t hits = 0;
    for (; hits < count; hits++) {
        uint32_t holder = pool->block_of_key[keys[hits]];
        if (holder == KVS_POOL_NONE) break;
        blocks[hits] = holder & ~KVS_POOL_TWINS;
    }
    return hits;
}

int64_t kvs_pool_count_free(const kvs_pool *pool, const uint32_t *blocks, int64_t count) {
    int64_t unused = 0;
    for (int64_t i = 0; i < count; i++) unused += pool->block[blocks[i]].refs == 0;
    return unused;
}

void kvs_pool_touch(kvs_pool *pool, const uint32_t *blocks, int64_t count) {
    kvs_block *block = pool->block;
    for (int64_t i = 0; i < count; i++) {
        kvs_block *b = &block[blocks[i]];
        if (b->refs++ > 0) continue;
        block[b->previous].next = b->next;
        block[b->next].previous = b->previous;
        pool->free--;
        pool->cached_free -= b->key != KVS_POOL_NONE;
    }
}

/* Takes the key off a block that shares it with others. */
static void leave_ring(kvs_pool *pool, uint32_t b, uint32_t first) {
    uint32_t key = pool->block[b].key, previous = pool->twin[b].previous, next = pool->twin[b].next;
    pool->twin[previous].next = next;
    pool->twin[next].previous = previous;
    if (b == first) first = next;
    pool->block_of_key[key] = first | (previous == next ? 0 : KVS_POOL_TWINS); /* two before: one is left */
}

static void join_ring(kvs_pool *pool, uint32_t b, uint32_t key, uint32_t holder) {
    uint32_t first = holder & ~KVS_POOL_TWINS;
    if (!(holder & KVS_POOL_TWINS)) pool->twin[first] = (kvs_twin){first, first};
    uint32_t last = pool->twin[first].previous;
    pool->twin[b] = (kvs_twin){last, first};
    pool->twin[last].next = b;
    pool->twin[first].previous = b;
    pool->block_of_key[key] = first | KVS_POOL_TWINS;
}

void kvs_pool_allocate(kvs_pool *pool, int64_t count, uint32_t *blocks) {
    kvs_block *block = pool->block;
    uint32_t b = block[0].next;
    for (int64_t i = 0; i < count; i++) {
        uint32_t key = block[b].key, next = block[b].next;
        if (key != KVS_POOL_NONE) {
            uint32_t holder = pool->block_of_key[key];
            if (holder == b)
                pool->block_of_key[key] = KVS_POOL_NONE;
            else
                leave_ring(pool, b, holder & ~KVS_POOL_TWINS);
            block[b].key = KVS_POOL_NONE;
            pool->evictions++;
            pool->cached--;
            pool->cached_free--;
        }
        block[b].refs = 1;
        blocks[i] = b;
        b = next;
    }
    block[0].next = b;
    block[b].previous = 0;
    pool->free -= (uint32_t)count;
}

void kvs_pool_cache(kvs_pool *pool, const uint32_t *blocks, const uint32_t *keys, int64_t count) {
    if (!pool->caching) return;
    for (int64_t i = 0; i < count; i++) {
        uint32_t holder = pool->block_of_key[keys[i]];
        pool->block[blocks[i]].key = keys[i];
        if (holder == KVS_POOL_NONE)
            pool->block_of_key[keys[i]] = blocks[i];
        else
            join_ring(pool, blocks[i], keys[i], holder);
    }
    pool->cached += (uint32_t)count;
}

/* Links b between two neighbours of the queue. */
static inline void link_free(kvs_block *block, uint32_t b, uint32_t previous, uint32_t next) {
    block[b].previous = previous;
    block[b].next = next;
    block[previous].next = b;
    block[next].previous = b;
}

void kvs_pool_release(kvs_pool *pool, const uint32_t *blocks, int64_t count) {
    kvs_block *block = pool->block;
    int to_head = pool->order == KVS_FREE_MAY2026;
    for (int64_t i = count - 1; i >= 0; i--) {
        uint32_t b = blocks[i];
        if (--block[b].refs > 0) continue;
        pool->free++;
        int cached = block[b].key != KVS_POOL_NONE;
        pool->cached_free += (uint32_t)cached;
        if (to_head && !cached)
            link_free(block, b, 0, block[0].next);
        else
            link_free(block, b, block[0].previous, 0);
    }
}
