/* pool_check.c: the invariants of the block pool, from its arrays alone. */
#include <stdio.h>
#include <stdlib.h>

#include "sim/pool.h"

static kvs_status broken(kvs_error *error, uint32_t b, const char *rule) {
    char place[32];
    snprintf(place, sizeof place, "block %u", b);
    return kvs_fail(error, KVS_CHECK, "pool", place, "%s", rule);
}

static kvs_status check_queue(const kvs_pool *pool, kvs_error *error) {
    uint32_t steps = 0, last = 0;
    for (uint32_t b = pool->block[0].next; b != 0; b = pool->block[b].next) {
        if (b >= pool->blocks || ++steps > pool->free) return broken(error, last, "the free queue does not end");
        if (pool->block[b].previous != last) return broken(error, b, "the free queue is not linked both ways");
        if (pool->block[b].refs != 0) return broken(error, b, "is free and used at once");
        last = b;
    }
    if (pool->block[0].previous != last) return broken(error, last, "is the last free block, but not the tail");
    uint32_t unused = 0;
    for (uint32_t b = 1; b < pool->blocks; b++) unused += pool->block[b].refs == 0;
    if (steps != pool->free || unused != pool->free) return broken(error, 0, "free + used is not all blocks");
    return KVS_OK;
}

/* The ring of b's key comes back to b, through blocks of that key, past the first holder. */
static kvs_status check_ring(const kvs_pool *pool, uint32_t b, uint32_t first, kvs_error *error) {
    uint32_t steps = 0, seen_first = 0, at = b;
    do {
        uint32_t next = pool->twin[at].next;
        if (next >= pool->blocks || pool->twin[next].previous != at || pool->block[next].key != pool->block[b].key)
            return broken(error, at, "the ring of a key is broken");
        seen_first |= at == first;
        at = next;
    } while (at != b && ++steps < pool->blocks);
    return at == b && seen_first ? KVS_OK : broken(error, b, "the ring of a key misses its first holder");
}

kvs_status kvs_pool_check(const kvs_pool *pool, kvs_error *error) {
    if (pool->block[0].refs != 0 || pool->block[0].key != KVS_POOL_NONE)
        return broken(error, 0, "the null block is used or cached");
    KVS_TRY(check_queue(pool, error));
    uint32_t cached = 0, cached_free = 0;
    for (uint32_t b = 1; b < pool->blocks; b++) {
        uint32_t key = pool->block[b].key;
        if (key == KVS_POOL_NONE) continue;
        cached++;
        cached_free += pool->block[b].refs == 0;
        uint32_t holder = key < pool->keys ? pool->block_of_key[key] : KVS_POOL_NONE;
        if (holder == KVS_POOL_NONE) return broken(error, b, "has a key that finds no block");
        if (holder & KVS_POOL_TWINS)
            KVS_TRY(check_ring(pool, b, holder & ~KVS_POOL_TWINS, error));
        else if (holder != b)
            return broken(error, b, "has a key that finds only another block");
    }
    if (cached != pool->cached || cached_free != pool->cached_free)
        return broken(error, 0, "the count of cached blocks is wrong");
    for (int64_t key = 0; key < pool->keys; key++) {
        uint32_t holder = pool->block_of_key[key] & ~KVS_POOL_TWINS;
        if (pool->block_of_key[key] != KVS_POOL_NONE && pool->block[holder].key != key)
            return broken(error, holder, "is found by a key that it does not have");
    }
    return KVS_OK;
}
