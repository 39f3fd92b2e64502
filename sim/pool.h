/* pool.h: the block pool of a paged KV allocator, with the semantics of vLLM v1's BlockPool and FreeKVCacheBlockQueue.
 *
 * Blocks are numbered 0 .. blocks-1; block 0 is the null block, never handed out. Every other block is either used
 * (refs > 0) or free and in the queue. A block may carry a key, the identity of its content; it is then cached, and a
 * free cached block can be found again until allocation takes it (that, and only that, is an eviction). Several blocks
 * may carry one key; lookup returns the one that got it first. The free queue starts in order of block number.
 *
 * All calls work on the blocks of one request at a time, in the order of its pages. Keys are dense numbers below
 * pool->keys; the caller chooses them so that equal keys mean an equal prefix (vLLM's chained hashes).
 *
 * Speed: 16 bytes a block, 4 bytes a key, no hashing; the queue's ends live in block 0, so that unlinking has no
 * special case. The second and later holders of a key form a ring in a separate array that is touched only then. */
#ifndef KVS_SIM_POOL_H
#define KVS_SIM_POOL_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVS_POOL_NONE UINT32_MAX

/* Where a freed block enters the queue. v019: at the tail. may2026 (vLLM since its pull request 42656): at the tail if
 * it is cached, at the head if not. */
typedef enum kvs_free_order { KVS_FREE_V019, KVS_FREE_MAY2026 } kvs_free_order;

typedef struct kvs_block {
    uint32_t refs;           /* requests that hold it */
    uint32_t key;            /* KVS_POOL_NONE: not cached */
    uint32_t previous, next; /* in the free queue, while refs is 0 */
} kvs_block;

typedef struct kvs_twin {
    uint32_t previous, next; /* ring of the blocks of one key, in the order they got it */
} kvs_twin;

typedef struct kvs_pool {
    uint32_t blocks, free; /* blocks counts the null block, free does not */
    int64_t keys;
    int caching;
    kvs_free_order order;
    uint32_t cached;      /* blocks with a key, used or free */
    uint32_t cached_free; /* of these, the free ones */
    int64_t evictions;
    kvs_block *block;       /* [blocks]; block[0] holds the ends of the free queue: next is its head */
    uint32_t *block_of_key; /* [keys]: the first holder, with KVS_POOL_TWINS set when there are more */
    kvs_twin *twin;         /* [blocks] */
} kvs_pool;

#define KVS_POOL_TWINS 0x80000000u

/* blocks: with the null block, 2 .. 2^31 - 1. keys: 0 .. 2^32 - 2. Fails with KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_pool_create(kvs_pool *pool, int64_t blocks, int64_t keys, int caching,
                                          kvs_free_order order, kvs_error *error);
void kvs_pool_destroy(kvs_pool *pool);

/* The longest cached prefix of keys[0 .. count): stops at the first miss; returns its length and the blocks. */
int64_t kvs_pool_lookup(const kvs_pool *pool, const uint32_t *keys, int64_t count, uint32_t *blocks);

/* How many of these blocks are free, that is, would leave the free queue if touched. */
int64_t kvs_pool_count_free(const kvs_pool *pool, const uint32_t *blocks, int64_t count);

/* One more holder of each block. */
void kvs_pool_touch(kvs_pool *pool, const uint32_t *blocks, int64_t count);

/* Takes count <= pool->free blocks from the head of the queue, evicting what they cached; refs becomes 1. */
void kvs_pool_allocate(kvs_pool *pool, int64_t count, uint32_t *blocks);

/* Gives used blocks without a key their keys. Does nothing when caching is off. */
void kvs_pool_cache(kvs_pool *pool, const uint32_t *blocks, const uint32_t *keys, int64_t count);

/* One holder fewer of each block, the last page first. */
void kvs_pool_release(kvs_pool *pool, const uint32_t *blocks, int64_t count);

/* The invariants, in time proportional to the pool:
 *   1. used + free = blocks - 1; the queue holds exactly the blocks with refs = 0, each once, well linked;
 *   2. the null block is neither used nor cached;
 *   3. block_of_key[k] names a block with key k, or none has it; `cached` counts the blocks with a key,
 *      cached_free the free ones;
 *   4. the ring of a key holds exactly its holders.
 * Fails with KVS_CHECK and names the block. */
KVS_MUST_CHECK kvs_status kvs_pool_check(const kvs_pool *pool, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
