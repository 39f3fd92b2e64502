/* bpe_encode.c: merges the bytes of one piece, the lowest rank first and the leftmost of equals, in n log n steps. */
#include <stdlib.h>

#include "sim/model/bpe.h"

/* A symbol of the piece under way, in a list; id -1: merged into the one before it. */
typedef struct kvs_bpe_symbol {
    int32_t id;
    int32_t before, after; /* indices, -1 at the ends */
} kvs_bpe_symbol;

/* A merge that could be done when it was entered: symbols `at` and its neighbour, which were `left` and `right`. */
typedef struct kvs_bpe_pair {
    int32_t rank, at, left, right;
} kvs_bpe_pair;

void kvs_bpe_scratch_clear(kvs_bpe_scratch *scratch) {
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (kvs_bpe_scratch){0};
}

static kvs_status reserve(kvs_bpe_scratch *scratch, size_t count, kvs_error *error) {
    if (count <= scratch->capacity) return KVS_OK;
    kvs_bpe_scratch_clear(scratch);
    if (count > INT32_MAX / 4) return kvs_fail(error, KVS_INPUT, NULL, NULL, "a piece of %zu bytes is too long", count);
    scratch->symbols = malloc(sizeof *scratch->symbols * count);
    scratch->heap = malloc(sizeof *scratch->heap * 3 * count); /* n - 1 at first, two more a merge */
    if (scratch->symbols == NULL || scratch->heap == NULL) {
        kvs_bpe_scratch_clear(scratch);
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for a piece of %zu bytes", count);
    }
    scratch->capacity = count;
    return KVS_OK;
}

/* --- a binary heap of pairs ----------------------------------------------------------------------------------------
 */

static int comes_first(const kvs_bpe_pair *a, const kvs_bpe_pair *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(kvs_bpe_pair *heap, size_t *size, kvs_bpe_pair pair) {
    size_t i = (*size)++;
    for (; i > 0 && comes_first(&pair, &heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = pair;
}

static kvs_bpe_pair pop(kvs_bpe_pair *heap, size_t *size) {
    kvs_bpe_pair first = heap[0], last = heap[--*size];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *size; i = child) {
        if (child + 1 < *size && comes_first(&heap[child + 1], &heap[child])) child++;
        if (!comes_first(&heap[child], &last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return first;
}

/* --- merging -------------------------------------------------------------------------------------------------------
 */

static void offer(const kvs_bpe *bpe, kvs_bpe_scratch *scratch, size_t *size, int32_t at) {
    if (at < 0 || scratch->symbols[at].after < 0) return;
    int32_t left = scratch->symbols[at].id, right = scratch->symbols[scratch->symbols[at].after].id;
    const kvs_merge *merge = kvs_bpe_merge(bpe, left, right);
    if (merge != NULL) push(scratch->heap, size, (kvs_bpe_pair){merge->rank, at, left, right});
}

static void merge_all(const kvs_bpe *bpe, kvs_bpe_scratch *scratch, int32_t count) {
    kvs_bpe_symbol *symbols = scratch->symbols;
    size_t size = 0;
    for (int32_t i = 0; i < count; i++) offer(bpe, scratch, &size, i);
    while (size > 0) {
        kvs_bpe_pair pair = pop(scratch->heap, &size);
        int32_t next = symbols[pair.at].id >= 0 ? symbols[pair.at].after : -1;
        /* A pair that an earlier merge has touched is out of date. */
        if (next < 0 || symbols[pair.at].id != pair.left || symbols[next].id != pair.right) continue;
        symbols[pair.at].id = kvs_bpe_merge(bpe, pair.left, pair.right)->merged;
        symbols[pair.at].after = symbols[next].after;
        symbols[next].id = -1;
        if (symbols[next].after >= 0) symbols[symbols[next].after].before = pair.at;
        offer(bpe, scratch, &size, symbols[pair.at].before);
        offer(bpe, scratch, &size, pair.at);
    }
}

kvs_status kvs_bpe_encode(const kvs_bpe *bpe, const unsigned char *piece, size_t count, kvs_bpe_scratch *scratch,
                          int32_t *ids, size_t *made, kvs_error *error) {
    *made = 0;
    int32_t whole = bpe->whole_words ? kvs_bpe_find(bpe, piece, count) : -1;
    if (whole >= 0) {
        ids[(*made)++] = whole;
        return KVS_OK;
    }
    KVS_TRY(reserve(scratch, count, error));
    for (size_t i = 0; i < count; i++)
        scratch->symbols[i] =
            (kvs_bpe_symbol){bpe->byte_ids[piece[i]], (int32_t)i - 1, i + 1 < count ? (int32_t)i + 1 : -1};
    merge_all(bpe, scratch, (int32_t)count);
    for (int32_t i = 0; i >= 0; i = scratch->symbols[i].after) ids[(*made)++] = scratch->symbols[i].id;
    return KVS_OK;
}
