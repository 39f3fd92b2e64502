/* tokenizer.h: text to token ids and back, as a Hugging Face tokenizer.json says (byte-level BPE).
 *
 * Encoding follows the tokenizers library with add_special_tokens = false: added tokens are found in the text first
 * (the longest at the leftmost place), what lies between them is cut into pieces (pretokenize.h) and each piece is
 * encoded (bpe.h). No post-processor adds anything. Parts of the file that would change the result and are not
 * supported are refused by name. */
#ifndef KVS_SIM_MODEL_TOKENIZER_H
#define KVS_SIM_MODEL_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_tokenizer kvs_tokenizer;

/* Reads directory/tokenizer.json, or a text in memory that `file` names in errors. *tokenizer is the caller's, freed
 * with kvs_tokenizer_close. */
KVS_MUST_CHECK kvs_status kvs_tokenizer_open(const char *directory, kvs_tokenizer **tokenizer, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_tokenizer_parse(const char *file, const char *json, size_t bytes,
                                              kvs_tokenizer **tokenizer, kvs_error *error);
void kvs_tokenizer_close(kvs_tokenizer *tokenizer);

/* Ids are below this. */
int kvs_tokenizer_ids(const kvs_tokenizer *tokenizer);

/* Encodes UTF-8 text [bytes]; *ids is the caller's, freed with free; *count may be 0. `name` names the text in errors.
 */
KVS_MUST_CHECK kvs_status kvs_tokenizer_encode(const kvs_tokenizer *tokenizer, const char *name, const char *text,
                                               size_t bytes, int32_t **ids, size_t *count, kvs_error *error);

/* The bytes that ids [count] stand for, a NUL behind them; the caller's, freed with free. KVS_INPUT if an id is none of
 * the tokenizer's. */
KVS_MUST_CHECK kvs_status kvs_tokenizer_decode(const kvs_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                               char **text, size_t *bytes, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
