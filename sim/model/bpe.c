#include "sim/model/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/random.h"

enum { ID_LIMIT = 1 << 24 };

/* --- bytes as printable characters ---------------------------------------------------------------------------------
 */

/* GPT-2 writes each byte as one character: printable ones as themselves, the others from U+0100 on in their order. */
static int is_printable(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/* byte_of[c] for characters below 512, or -1. */
static void fill_byte_of(int16_t byte_of[512]) {
    for (int c = 0; c < 512; c++) byte_of[c] = -1;
    for (int byte = 0, next = 256; byte < 256; byte++) byte_of[is_printable(byte) ? byte : next++] = (int16_t)byte;
}

/* The bytes of a key; returns their number, or -1 if it holds another character. `bytes` has room for its length. */
static long key_bytes(const int16_t byte_of[512], const char *key, unsigned char *bytes) {
    long count = 0;
    for (const unsigned char *at = (const unsigned char *)key; *at != '\0'; count++) {
        int character = *at++;
        if (character >= 0x80) {
            if ((character & 0xe0) != 0xc0 || (*at & 0xc0) != 0x80) return -1;
            character = (character & 0x1f) << 6 | (*at++ & 0x3f);
        }
        if (character >= 512 || byte_of[character] < 0) return -1;
        bytes[count] = (unsigned char)byte_of[character];
    }
    return count;
}

/* --- the vocabulary ------------------------------------------------------------------------------------------------
 */

static uint64_t hash_bytes(const unsigned char *bytes, size_t count) {
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return kvs_random_mix(hash);
}

static size_t slots_for(size_t entries) {
    size_t slots = 16;
    while (slots < 2 * entries) slots *= 2;
    return slots;
}

/* The slot of these bytes in the table: holding their id, or free. */
static int32_t *text_slot(const kvs_bpe *bpe, const unsigned char *bytes, size_t count) {
    size_t slot = (size_t)hash_bytes(bytes, count) & (bpe->by_text_slots - 1);
    for (;; slot = (slot + 1) & (bpe->by_text_slots - 1)) {
        int32_t id = bpe->by_text[slot];
        if (id < 0) return &bpe->by_text[slot];
        if (bpe->tokens[id].count == count && memcmp(bpe->tokens[id].bytes, bytes, count) == 0)
            return &bpe->by_text[slot];
    }
}

int32_t kvs_bpe_find(const kvs_bpe *bpe, const unsigned char *bytes, size_t count) {
    return *text_slot(bpe, bytes, count);
}

typedef struct vocabulary_size {
    size_t entries, bytes;
    int64_t highest;
} vocabulary_size;

static kvs_status measure(const char *file, const cJSON *vocabulary, const cJSON *added, vocabulary_size *size,
                          kvs_error *error) {
    *size = (vocabulary_size){0, 0, -1};
    if (!cJSON_IsObject(vocabulary)) return kvs_fail(error, KVS_INPUT, file, "model.vocab", "must be an object");
    for (const cJSON *item = vocabulary->child; item != NULL; item = item->next) {
        int64_t id;
        if (kvs_json_integer(item, 0, ID_LIMIT - 1, &id))
            return kvs_fail(error, KVS_INPUT, file, "model.vocab", "the id of '%s' is not a whole number below %d",
                            item->string, ID_LIMIT);
        size->highest = id > size->highest ? id : size->highest;
        size->bytes += strlen(item->string);
        size->entries++;
    }
    for (const cJSON *item = added != NULL ? added->child : NULL; item != NULL; item = item->next) {
        const cJSON *content = kvs_json_find(item, "content");
        int64_t id;
        if (!cJSON_IsString(content) || content->valuestring[0] == '\0' ||
            kvs_json_integer(kvs_json_find(item, "id"), 0, ID_LIMIT - 1, &id))
            return kvs_fail(error, KVS_INPUT, file, "added_tokens", "each must have an id below %d and a content",
                            ID_LIMIT);
        size->highest = id > size->highest ? id : size->highest;
        size->bytes += strlen(content->valuestring);
        size->entries++;
    }
    return KVS_OK;
}

/* Added tokens stand for themselves, whatever the vocabulary says of their ids. */
static void add_added(kvs_bpe *bpe, const cJSON *added, unsigned char **next) {
    for (const cJSON *item = added != NULL ? added->child : NULL; item != NULL; item = item->next) {
        const char *content = kvs_json_find(item, "content")->valuestring;
        int id = (int)kvs_json_find(item, "id")->valuedouble;
        size_t count = strlen(content);
        memcpy(*next, content, count);
        bpe->tokens[id] = (kvs_token_bytes){*next, count};
        *next += count;
    }
}

static kvs_status add_vocabulary(const char *file, kvs_bpe *bpe, const cJSON *vocabulary, unsigned char **next,
                                 kvs_error *error) {
    int16_t byte_of[512];
    fill_byte_of(byte_of);
    for (const cJSON *item = vocabulary->child; item != NULL; item = item->next) {
        int id = (int)item->valuedouble;
        if (bpe->tokens[id].bytes != NULL) { /* an added token may also stand in the vocabulary, under the same text */
            if (strlen(item->string) == bpe->tokens[id].count &&
                memcmp(item->string, bpe->tokens[id].bytes, bpe->tokens[id].count) == 0)
                continue;
            return kvs_fail(error, KVS_INPUT, file, "model.vocab", "id %d is given to two tokens", id);
        }
        long count = key_bytes(byte_of, item->string, *next);
        if (count <= 0)
            return kvs_fail(error, KVS_INPUT, file, "model.vocab", "'%s' is not written in the byte-level alphabet",
                            item->string);
        bpe->tokens[id] = (kvs_token_bytes){*next, (size_t)count};
        int32_t *slot = text_slot(bpe, *next, (size_t)count);
        if (*slot >= 0) return kvs_fail(error, KVS_INPUT, file, "model.vocab", "'%s' is there twice", item->string);
        *slot = id;
        *next += count;
    }
    for (int byte = 0; byte < 256; byte++) {
        unsigned char one = (unsigned char)byte;
        bpe->byte_ids[byte] = kvs_bpe_find(bpe, &one, 1);
        if (bpe->byte_ids[byte] < 0)
            return kvs_fail(error, KVS_INPUT, file, "model.vocab", "has no token for byte %d", byte);
    }
    return KVS_OK;
}

static kvs_status read_vocabulary(const char *file, const cJSON *vocabulary, const cJSON *added, kvs_bpe *bpe,
                                  kvs_error *error) {
    vocabulary_size size;
    KVS_TRY(measure(file, vocabulary, added, &size, error));
    bpe->ids = (int)(size.highest + 1);
    bpe->by_text_slots = slots_for(size.entries);
    bpe->tokens = calloc((size_t)bpe->ids + 1, sizeof *bpe->tokens);
    bpe->by_text = malloc(sizeof *bpe->by_text * bpe->by_text_slots);
    bpe->memory = malloc(size.bytes + 1);
    if (bpe->tokens == NULL || bpe->by_text == NULL || bpe->memory == NULL)
        return kvs_fail(error, KVS_INPUT, file, NULL, "out of memory");
    for (size_t i = 0; i < bpe->by_text_slots; i++) bpe->by_text[i] = -1;
    unsigned char *next = bpe->memory;
    add_added(bpe, added, &next);
    return add_vocabulary(file, bpe, vocabulary, &next, error);
}

/* --- merges --------------------------------------------------------------------------------------------------------
 */

static kvs_merge *merge_slot(const kvs_bpe *bpe, int32_t left, int32_t right) {
    size_t slot = (size_t)kvs_random_mix((uint64_t)left << 32 | (uint64_t)right) & (bpe->merge_slots - 1);
    for (;; slot = (slot + 1) & (bpe->merge_slots - 1)) {
        kvs_merge *merge = &bpe->merges[slot];
        if (merge->left < 0 || (merge->left == left && merge->right == right)) return merge;
    }
}

const kvs_merge *kvs_bpe_merge(const kvs_bpe *bpe, int32_t left, int32_t right) {
    const kvs_merge *merge = merge_slot(bpe, left, right);
    return merge->left < 0 ? NULL : merge;
}

/* The two halves of a merge, "left right" or ["left", "right"], as bytes side by side in `bytes`. */
static int merge_halves(const int16_t byte_of[512], const cJSON *item, unsigned char *bytes, long counts[2]) {
    char *halves[2];
    char *space = NULL;
    if (cJSON_IsString(item)) {
        space = strchr(item->valuestring, ' ');
        if (space == NULL || strchr(space + 1, ' ') != NULL) return 1;
        *space = '\0';
        halves[0] = item->valuestring;
        halves[1] = space + 1;
    } else {
        if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 || !cJSON_IsString(item->child) ||
            !cJSON_IsString(item->child->next))
            return 1;
        halves[0] = item->child->valuestring;
        halves[1] = item->child->next->valuestring;
    }
    counts[0] = key_bytes(byte_of, halves[0], bytes);
    counts[1] = counts[0] > 0 ? key_bytes(byte_of, halves[1], bytes + counts[0]) : -1;
    if (space != NULL) *space = ' ';
    return counts[1] <= 0;
}

static size_t merge_length(const cJSON *item) {
    size_t length = cJSON_IsString(item) ? strlen(item->valuestring) : 0;
    for (const cJSON *half = cJSON_IsArray(item) ? item->child : NULL; half != NULL; half = half->next)
        length += cJSON_IsString(half) ? strlen(half->valuestring) : 0;
    return length;
}

static kvs_status add_merge(const char *file, kvs_bpe *bpe, const int16_t byte_of[512], const cJSON *item, int rank,
                            unsigned char *bytes, kvs_error *error) {
    long counts[2];
    if (merge_halves(byte_of, item, bytes, counts))
        return kvs_fail(error, KVS_INPUT, file, "model.merges", "entry %d is no pair of byte-level texts", rank);
    int32_t left = kvs_bpe_find(bpe, bytes, (size_t)counts[0]);
    int32_t right = kvs_bpe_find(bpe, bytes + counts[0], (size_t)counts[1]);
    int32_t merged = kvs_bpe_find(bpe, bytes, (size_t)(counts[0] + counts[1]));
    if (left < 0 || right < 0 || merged < 0)
        return kvs_fail(error, KVS_INPUT, file, "model.merges", "entry %d names a token outside the vocabulary", rank);
    kvs_merge *slot = merge_slot(bpe, left, right);
    if (slot->left < 0) *slot = (kvs_merge){left, right, merged, rank};
    return KVS_OK;
}

static kvs_status read_merges(const char *file, const cJSON *list, kvs_bpe *bpe, kvs_error *error) {
    if (!cJSON_IsArray(list)) return kvs_fail(error, KVS_INPUT, file, "model.merges", "must be a list");
    int16_t byte_of[512];
    fill_byte_of(byte_of);
    size_t longest = 0, count = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next, count++) {
        size_t length = merge_length(item);
        longest = length > longest ? length : longest;
    }
    bpe->merge_slots = slots_for(count);
    bpe->merges = malloc(sizeof *bpe->merges * bpe->merge_slots);
    unsigned char *bytes = malloc(longest + 1);
    kvs_status status = KVS_OK;
    if (bpe->merges == NULL || bytes == NULL) status = kvs_fail(error, KVS_INPUT, file, NULL, "out of memory");
    for (size_t i = 0; status == KVS_OK && i < bpe->merge_slots; i++) bpe->merges[i].left = -1;
    int rank = 0;
    for (const cJSON *item = list->child; status == KVS_OK && item != NULL; item = item->next)
        status = add_merge(file, bpe, byte_of, item, rank++, bytes, error);
    free(bytes);
    return status;
}

kvs_status kvs_bpe_read(const char *file, const cJSON *model, const cJSON *added, kvs_bpe *bpe, kvs_error *error) {
    *bpe = (kvs_bpe){0};
    const char *type, *text;
    KVS_TRY(kvs_json_text(file, model, "type", "BPE", &type, error));
    if (strcmp(type, "BPE") != 0)
        return kvs_fail(error, KVS_INPUT, file, "model.type", "'%s' is not supported; supported: BPE", type);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof affixes / sizeof *affixes; i++) {
        KVS_TRY(kvs_json_text(file, model, affixes[i], "", &text, error));
        if (text[0] != '\0') return kvs_fail(error, KVS_INPUT, file, affixes[i], "'%s' is not supported", text);
    }
    double dropout;
    int byte_fallback;
    KVS_TRY(kvs_json_real(file, model, "dropout", 0, 1, 0, &dropout, error));
    if (dropout > 0) return kvs_fail(error, KVS_INPUT, file, "model.dropout", "%g is not supported", dropout);
    KVS_TRY(kvs_json_bool(file, model, "byte_fallback", 0, &byte_fallback, error));
    if (byte_fallback) return kvs_fail(error, KVS_INPUT, file, "model.byte_fallback", "true is not supported");
    KVS_TRY(kvs_json_bool(file, model, "ignore_merges", 0, &bpe->whole_words, error));
    KVS_TRY(read_vocabulary(file, kvs_json_find(model, "vocab"), added, bpe, error));
    return read_merges(file, kvs_json_find(model, "merges"), bpe, error);
}

void kvs_bpe_clear(kvs_bpe *bpe) {
    free(bpe->tokens);
    free(bpe->by_text);
    free(bpe->merges);
    free(bpe->memory);
    *bpe = (kvs_bpe){0};
}
