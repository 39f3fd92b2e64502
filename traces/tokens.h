/* tokens.h: files of token ids, as evaluation and recording take them.
 *
 * An HDF5 file with `token_ids` [N] (any integer type) and, optionally, `document_offsets` [documents + 1]: document i
 * is tokens [offsets[i], offsets[i + 1]); the first offset is 0, the last N, and they rise strictly. */
#ifndef KVS_TRACES_TOKENS_H
#define KVS_TRACES_TOKENS_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_tokens {
    int count, documents; /* one document where the file has no offsets */
    int32_t *ids;         /* [count], each 0 or more */
    int32_t *offsets;     /* [documents + 1] */
} kvs_tokens;

/* Reads a file; *tokens is the caller's, freed with kvs_tokens_clear. KVS_INPUT names the dataset and the rule. */
KVS_MUST_CHECK kvs_status kvs_tokens_read(const char *path, kvs_tokens *tokens, kvs_error *error);
void kvs_tokens_clear(kvs_tokens *tokens);

#ifdef __cplusplus
}
#endif
#endif
