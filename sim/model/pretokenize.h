/* pretokenize.h: cuts a text into the pieces that byte pair encoding merges within. */
#ifndef KVS_SIM_MODEL_PRETOKENIZE_H
#define KVS_SIM_MODEL_PRETOKENIZE_H

#include <cjson/cJSON.h>
#include <stddef.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A part of the text: bytes [begin, end). */
typedef struct kvs_piece {
    size_t begin, end;
} kvs_piece;

typedef struct kvs_pieces {
    kvs_piece *pieces;
    size_t count, room;
} kvs_pieces;

KVS_MUST_CHECK kvs_status kvs_pieces_add(kvs_pieces *pieces, size_t begin, size_t end, kvs_error *error);
void kvs_pieces_clear(kvs_pieces *pieces);

typedef struct kvs_pretokenizer kvs_pretokenizer;

/* Reads the "pre_tokenizer" and "normalizer" of a tokenizer.json; each may be NULL. Supported: ByteLevel without a
 * prefix space (its own pattern is GPT-2's), Split by a regular expression or a text with behavior "Isolated",
 * Sequences of these; no normalizer or NFC. Others are refused by name. */
KVS_MUST_CHECK kvs_status kvs_pretokenizer_read(const char *file, const cJSON *pre_tokenizer, const cJSON *normalizer,
                                                kvs_pretokenizer **pretokenizer, kvs_error *error);
void kvs_pretokenizer_close(kvs_pretokenizer *pretokenizer);

/* Whether a text is UTF-8; KVS_INPUT names the first byte that is not. */
KVS_MUST_CHECK kvs_status kvs_utf8_check(const char *name, const char *text, size_t bytes, kvs_error *error);

/* Cuts bytes [begin, end) of a text that is known to be UTF-8, at characters, and appends the pieces, in order and
 * without gaps. `name` names the text in errors: where the normalizer is NFC, it must hold no character that NFC could
 * change; and no pattern may need more than a million steps of PCRE2's. */
KVS_MUST_CHECK kvs_status kvs_pretokenize(const kvs_pretokenizer *pretokenizer, const char *name, const char *text,
                                          size_t begin, size_t end, kvs_pieces *pieces, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
