/* bpe.h: byte-level byte pair encoding: a vocabulary of byte strings and merges ranked by when they were learnt
 * (Sennrich et al., arXiv 1508.07909; byte-level as GPT-2 introduced it). */
#ifndef KVS_SIM_MODEL_BPE_H
#define KVS_SIM_MODEL_BPE_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The bytes that an id stands for. */
typedef struct kvs_token_bytes {
    const unsigned char *bytes; /* NULL: no such id */
    size_t count;
} kvs_token_bytes;

typedef struct kvs_merge {
    int32_t left, right, merged; /* ids */
    int32_t rank;
} kvs_merge;

typedef struct kvs_bpe {
    kvs_token_bytes *tokens; /* [ids] */
    int ids;
    int32_t byte_ids[256];
    int32_t *by_text; /* hash table of ids by their bytes; -1: free */
    size_t by_text_slots;
    kvs_merge *merges; /* hash table by (left, right); left -1: free */
    size_t merge_slots;
    int whole_words; /* 1: a piece that is a token itself is not merged ("ignore_merges") */
    unsigned char *memory;
} kvs_bpe;

/* Reads the "model" object of a tokenizer.json. `added` is its list of added tokens (or NULL), whose contents stand for
 * themselves. KVS_INPUT names the part that is wrong or unknown. The caller frees it with kvs_bpe_clear, also after a
 * failure. */
KVS_MUST_CHECK kvs_status kvs_bpe_read(const char *file, const cJSON *model, const cJSON *added, kvs_bpe *bpe,
                                       kvs_error *error);
void kvs_bpe_clear(kvs_bpe *bpe);

/* The id of these bytes in the vocabulary, or -1; and the merge of two ids, or NULL. */
int32_t kvs_bpe_find(const kvs_bpe *bpe, const unsigned char *bytes, size_t count);
const kvs_merge *kvs_bpe_merge(const kvs_bpe *bpe, int32_t left, int32_t right);

/* Room for pieces of up to `capacity` bytes. */
typedef struct kvs_bpe_scratch {
    struct kvs_bpe_symbol *symbols;
    struct kvs_bpe_pair *heap;
    size_t capacity;
} kvs_bpe_scratch;
void kvs_bpe_scratch_clear(kvs_bpe_scratch *scratch);

/* Encodes one piece (count > 0) to at most count ids; *made is how many. KVS_INPUT if memory is short. */
KVS_MUST_CHECK kvs_status kvs_bpe_encode(const kvs_bpe *bpe, const unsigned char *piece, size_t count,
                                         kvs_bpe_scratch *scratch, int32_t *ids, size_t *made, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
