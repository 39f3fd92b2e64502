/* allocator.h: who gives a running sequence its KV memory. An allocator is one file that registers one
 * kvs_allocator_type: `paged` (vLLM v1's block pool), `contiguous` (a slot of the longest length for each sequence) and
 * `unpaged` (one stretch of exactly its final length for each sequence), for comparison. */
#ifndef KVS_SIM_ALLOCATOR_H
#define KVS_SIM_ALLOCATOR_H

#include <stdint.h>

#include "sim/geometry.h"
#include "sim/page_keys.h"
#include "sim/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A request on its way. Owned by the engine; the allocator keeps its memory in `blocks`, `pages`, `complete`, `place`.
 */
typedef struct kvs_engine_sequence {
    int64_t request;
    int32_t computed; /* tokens whose K and V are in the cache (with those just scheduled) */
    int32_t known;    /* input tokens and generated tokens */
    int32_t generated;
    int32_t lost;      /* computed tokens that a preemption threw away */
    int32_t scheduled; /* tokens of the current step */
    int64_t pages;     /* taken, without the buffer's */
    int64_t complete;  /* of these, cached under their key */
    int64_t place;     /* of allocators without pages */
    uint32_t *blocks;  /* [buffer_pages + pages of the final length]: the buffer's first; NULL while waiting */
} kvs_engine_sequence;

typedef struct kvs_allocator_options {
    double memory_bytes;
    int64_t blocks;     /* of a paged pool, null block included; 0: as many as memory_bytes hold */
    int64_t max_tokens; /* longest sequence: the size of a contiguous slot */
    int caching, check;
    kvs_free_order order;
    double watermark; /* share of the blocks that admission leaves free while others run */
} kvs_allocator_options;

/* What is in memory now; bytes are filled in by kvs_occupancy_bytes (engine.h). */
typedef struct kvs_memory_state {
    int64_t total, used, free, cached_free; /* pages, or slots; cached_free: free pages that can still be hit */
    double used_bytes;                      /* handed out, buffers included */
    double largest_free_bytes;              /* of stretches; a paged pool's is all that is free */
} kvs_memory_state;

typedef struct kvs_allocator_type kvs_allocator_type;

typedef struct kvs_allocator {
    const kvs_allocator_type *type;
    const kvs_geometry *geometry;
    const kvs_page_keys *keys;
    kvs_allocator_options options;
    int64_t evictions;
    int64_t in_use; /* sequences that hold memory */
    void *state;
} kvs_allocator;

struct kvs_allocator_type {
    const char *name, *summary;
    kvs_status (*open)(kvs_allocator *allocator, kvs_error *error);
    void (*close)(kvs_allocator *allocator);
    /* Whether a sequence of that many tokens could ever run alone. */
    int (*fits)(const kvs_allocator *allocator, int64_t tokens);
    /* Finds the cached prefix of a waiting sequence and, if `budget` of the tokens behind it (with reserve: all of
     * them) fit beside the watermark, takes the prefix and room for the budget. *hit_tokens is set either way. Returns
     * -1 when memory of the machine is short, 0 when it does not fit (and nothing changed), 1 when it was admitted. */
    int (*admit)(kvs_allocator *allocator, kvs_engine_sequence *sequence, int64_t budget, int reserve, int others_run,
                 int64_t *hit_tokens);
    /* Room for `tokens` in all; 0 when there is none and nothing changed. */
    int (*extend)(kvs_allocator *allocator, kvs_engine_sequence *sequence, int64_t tokens);
    void (*release)(kvs_allocator *allocator, kvs_engine_sequence *sequence);
    void (*state)(const kvs_allocator *allocator, kvs_memory_state *state);
    kvs_status (*check)(const kvs_allocator *allocator, kvs_error *error);
};

extern const kvs_allocator_type *const kvs_allocator_types[]; /* ended by NULL */
const kvs_allocator_type *kvs_allocator_type_find(const char *name);

/* geometry and keys must outlive it. Fails with KVS_INPUT when the budget holds nothing. */
KVS_MUST_CHECK kvs_status kvs_allocator_open(const kvs_allocator_type *type, const kvs_geometry *geometry,
                                             const kvs_page_keys *keys, kvs_allocator_options options,
                                             kvs_allocator *allocator, kvs_error *error);
void kvs_allocator_close(kvs_allocator *allocator);

#ifdef __cplusplus
}
#endif
#endif
