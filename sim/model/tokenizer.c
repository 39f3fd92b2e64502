#include "sim/model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "sim/model/bpe.h"
#include "sim/model/pretokenize.h"

enum { FILE_LIMIT_BYTES = 1 << 28 };

struct kvs_tokenizer {
    kvs_bpe bpe;
    kvs_pretokenizer *pretokenizer;
    int32_t *added; /* ids of added tokens */
    int added_count;
    unsigned char starts[256]; /* 1: an added token begins with this byte */
};

/* --- reading the file ----------------------------------------------------------------------------------------------
 */

/* What may stand at the top; `empty`: only null. Post-processors add tokens around a text, which encoding leaves out.
 */
static const struct {
    const char *key;
    int empty;
} top_keys[] = {{"version", 0},       {"truncation", 1},     {"padding", 1}, {"added_tokens", 0}, {"normalizer", 0},
                {"pre_tokenizer", 0}, {"post_processor", 0}, {"decoder", 0}, {"model", 0}};

static kvs_status check_top(const char *file, const cJSON *root, kvs_error *error) {
    for (const cJSON *item = root->child; item != NULL; item = item->next) {
        size_t i = 0, count = sizeof top_keys / sizeof *top_keys;
        while (i < count && strcmp(top_keys[i].key, item->string) != 0) i++;
        if (i == count) return kvs_fail(error, KVS_INPUT, file, item->string, "is no known part of a tokenizer");
        if (top_keys[i].empty && !cJSON_IsNull(item))
            return kvs_fail(error, KVS_INPUT, file, item->string, "is not supported");
    }
    return KVS_OK;
}

/* The decoder must be the byte-level one, alone or in a sequence of its own. */
static kvs_status check_decoder(const char *file, const cJSON *decoder, kvs_error *error) {
    const char *type;
    KVS_TRY(kvs_json_text(file, decoder, "type", "ByteLevel", &type, error));
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *list = kvs_json_find(decoder, "decoders");
        if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != 1)
            return kvs_fail(error, KVS_INPUT, file, "decoder", "a sequence must hold one decoder");
        KVS_TRY(kvs_json_text(file, list->child, "type", "", &type, error));
    }
    if (strcmp(type, "ByteLevel") == 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, file, "decoder", "the type '%s' is not supported; supported: ByteLevel", type);
}

static kvs_status read_added(const char *file, const cJSON *list, kvs_tokenizer *t, kvs_error *error) {
    static const char *const switches[] = {"single_word", "lstrip", "rstrip"};
    t->added = malloc(sizeof *t->added * ((size_t)cJSON_GetArraySize(list) + 1));
    if (t->added == NULL) return kvs_fail(error, KVS_INPUT, file, NULL, "out of memory");
    for (const cJSON *item = list != NULL ? list->child : NULL; item != NULL; item = item->next) {
        for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
            int on;
            KVS_TRY(kvs_json_bool(file, item, switches[i], 0, &on, error));
            if (on) return kvs_fail(error, KVS_INPUT, file, "added_tokens", "%s true is not supported", switches[i]);
        }
        int id = (int)kvs_json_find(item, "id")->valuedouble; /* checked by kvs_bpe_read */
        t->added[t->added_count++] = id;
        t->starts[t->bpe.tokens[id].bytes[0]] = 1;
    }
    return KVS_OK;
}

static kvs_status read_all(const char *file, const cJSON *root, kvs_tokenizer *t, kvs_error *error) {
    KVS_TRY(check_top(file, root, error));
    KVS_TRY(check_decoder(file, kvs_json_find(root, "decoder"), error));
    const cJSON *added = kvs_json_find(root, "added_tokens");
    if (added != NULL && !cJSON_IsArray(added))
        return kvs_fail(error, KVS_INPUT, file, "added_tokens", "must be a list");
    KVS_TRY(kvs_pretokenizer_read(file, kvs_json_find(root, "pre_tokenizer"), kvs_json_find(root, "normalizer"),
                                  &t->pretokenizer, error));
    KVS_TRY(kvs_bpe_read(file, kvs_json_find(root, "model"), added, &t->bpe, error));
    return read_added(file, added, t, error);
}

kvs_status kvs_tokenizer_parse(const char *file, const char *json, size_t bytes, kvs_tokenizer **tokenizer,
                               kvs_error *error) {
    *tokenizer = NULL;
    cJSON *root;
    KVS_TRY(kvs_utf8_check(file, json, bytes, error));
    KVS_TRY(kvs_json_parse(file, json, bytes, &root, error));
    kvs_tokenizer *t = calloc(1, sizeof *t);
    kvs_status status =
        t != NULL ? read_all(file, root, t, error) : kvs_fail(error, KVS_INPUT, file, NULL, "out of memory");
    cJSON_Delete(root);
    if (status == KVS_OK)
        *tokenizer = t;
    else
        kvs_tokenizer_close(t);
    return status;
}

kvs_status kvs_tokenizer_open(const char *directory, kvs_tokenizer **tokenizer, kvs_error *error) {
    *tokenizer = NULL;
    char path[4096], *json;
    size_t bytes;
    if (snprintf(path, sizeof path, "%s/tokenizer.json", directory) >= (int)sizeof path)
        return kvs_fail(error, KVS_INPUT, directory, NULL, "the path is too long");
    KVS_TRY(kvs_read_file(path, FILE_LIMIT_BYTES, &json, &bytes, error));
    kvs_status status = kvs_tokenizer_parse(path, json, bytes, tokenizer, error);
    free(json);
    return status;
}

void kvs_tokenizer_close(kvs_tokenizer *t) {
    if (t == NULL) return;
    kvs_bpe_clear(&t->bpe);
    kvs_pretokenizer_close(t->pretokenizer);
    free(t->added);
    free(t);
}

int kvs_tokenizer_ids(const kvs_tokenizer *t) {
    return t->bpe.ids;
}

/* --- encoding ------------------------------------------------------------------------------------------------------
 */

typedef struct encoder {
    const kvs_tokenizer *tokenizer;
    const char *name, *text;
    kvs_pieces pieces; /* of the stretch under way */
    kvs_bpe_scratch scratch;
    int32_t *ids; /* [bytes of the text]: no id stands for less than a byte */
    size_t count;
} encoder;

/* The longest added token at a place of the text, or -1. */
static int32_t added_at(const kvs_tokenizer *t, const char *text, size_t left) {
    int32_t best = -1;
    size_t longest = 0;
    if (!t->starts[(unsigned char)text[0]]) return -1;
    for (int i = 0; i < t->added_count; i++) {
        const kvs_token_bytes *token = &t->bpe.tokens[t->added[i]];
        if (token->count <= longest || token->count > left || memcmp(token->bytes, text, token->count) != 0) continue;
        longest = token->count;
        best = t->added[i];
    }
    return best;
}

static kvs_status encode_stretch(encoder *e, size_t begin, size_t end, kvs_error *error) {
    e->pieces.count = 0;
    KVS_TRY(kvs_pretokenize(e->tokenizer->pretokenizer, e->name, e->text, begin, end, &e->pieces, error));
    for (size_t i = 0; i < e->pieces.count; i++) {
        kvs_piece piece = e->pieces.pieces[i];
        size_t made;
        KVS_TRY(kvs_bpe_encode(&e->tokenizer->bpe, (const unsigned char *)e->text + piece.begin,
                               piece.end - piece.begin, &e->scratch, e->ids + e->count, &made, error));
        e->count += made;
    }
    return KVS_OK;
}

static kvs_status encode_all(encoder *e, size_t bytes, kvs_error *error) {
    size_t begin = 0;
    for (size_t at = 0; at < bytes;) {
        int32_t id = added_at(e->tokenizer, e->text + at, bytes - at);
        if (id < 0) {
            at++;
            continue;
        }
        KVS_TRY(encode_stretch(e, begin, at, error));
        e->ids[e->count++] = id;
        at += e->tokenizer->bpe.tokens[id].count;
        begin = at;
    }
    return encode_stretch(e, begin, bytes, error);
}

kvs_status kvs_tokenizer_encode(const kvs_tokenizer *tokenizer, const char *name, const char *text, size_t bytes,
                                int32_t **ids, size_t *count, kvs_error *error) {
    *ids = NULL;
    *count = 0;
    KVS_TRY(kvs_utf8_check(name, text, bytes, error));
    encoder e = {.tokenizer = tokenizer, .name = name, .text = text};
    e.ids = malloc(sizeof *e.ids * (bytes + 1));
    kvs_status status =
        e.ids != NULL ? encode_all(&e, bytes, error) : kvs_fail(error, KVS_INPUT, name, NULL, "out of memory");
    kvs_pieces_clear(&e.pieces);
    kvs_bpe_scratch_clear(&e.scratch);
    if (status == KVS_OK) {
        *ids = e.ids;
        *count = e.count;
    } else
        free(e.ids);
    return status;
}

/* --- decoding ------------------------------------------------------------------------------------------------------
 */

kvs_status kvs_tokenizer_decode(const kvs_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
                                size_t *bytes, kvs_error *error) {
    *text = NULL;
    *bytes = 0;
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->bpe.ids || tokenizer->bpe.tokens[ids[i]].bytes == NULL)
            return kvs_fail(error, KVS_INPUT, "token ids", NULL, "token %zu: %d is no id of the tokenizer", i, ids[i]);
        total += tokenizer->bpe.tokens[ids[i]].count;
    }
    char *made = malloc(total + 1);
    if (made == NULL) return kvs_fail(error, KVS_INPUT, "token ids", NULL, "out of memory");
    for (size_t i = 0, at = 0; i < count; at += tokenizer->bpe.tokens[ids[i]].count, i++)
        memcpy(made + at, tokenizer->bpe.tokens[ids[i]].bytes, tokenizer->bpe.tokens[ids[i]].count);
    made[total] = '\0';
    *text = made;
    *bytes = total;
    return KVS_OK;
}
