/* test_tokenizer.c: byte-level BPE against a naive merge loop, published ids, and files with unknown parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/random.h"
#include "sim/model/tokenizer.h"
#include "traces/tokens.h"

enum { MERGES = 400 };

/* --- a random tokenizer --------------------------------------------------------------------------------------------
 */

typedef struct toy {
    unsigned char bytes[256 + MERGES][64];
    size_t counts[256 + MERGES];
    int left[MERGES], right[MERGES];
    int count;
    char json[400000];
} toy;

/* One byte in GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 for U+0100 and on. */
static size_t spell(unsigned char byte, char *out) {
    int character = byte;
    int other = (byte < 33) ? byte : (byte >= 127 && byte <= 160) ? byte - 127 + 33 : byte == 173 ? 67 : -1;
    if (other >= 0) character = 256 + other;
    size_t used = 0;
    if (character == '"' || character == '\\') out[used++] = '\\';
    if (character < 0x80)
        out[used++] = (char)character;
    else {
        out[used++] = (char)(0xc0 | character >> 6);
        out[used++] = (char)(0x80 | (character & 0x3f));
    }
    return used;
}

static size_t spell_token(const toy *t, int id, char *out) {
    size_t used = 0;
    for (size_t i = 0; i < t->counts[id]; i++) used += spell(t->bytes[id][i], out + used);
    out[used] = '\0';
    return used;
}

/* Merges of random earlier tokens over the letters a to d, so that overlaps are frequent. */
static void make_toy(toy *t, const char *extra) {
    memset(t, 0, sizeof *t);
    for (t->count = 0; t->count < 256; t->count++) {
        t->bytes[t->count][0] = (unsigned char)t->count;
        t->counts[t->count] = 1;
    }
    int merges = 0;
    for (uint64_t draw = 0; merges < MERGES && draw < 20000; draw++) {
        int pool = 4 + merges, pick[2];
        for (int side = 0; side < 2; side++) {
            int one = (int)(kvs_random_bits(5, 2 * draw + (uint64_t)side) % (uint64_t)pool);
            pick[side] = one < 4 ? 'a' + one : 256 + one - 4;
        }
        size_t length = t->counts[pick[0]] + t->counts[pick[1]];
        if (length > 12) continue;
        memcpy(t->bytes[t->count], t->bytes[pick[0]], t->counts[pick[0]]);
        memcpy(t->bytes[t->count] + t->counts[pick[0]], t->bytes[pick[1]], t->counts[pick[1]]);
        t->counts[t->count] = length;
        int fresh = 1;
        for (int i = 0; i < t->count; i++)
            fresh &= t->counts[i] != length || memcmp(t->bytes[i], t->bytes[t->count], length) != 0;
        if (!fresh) continue;
        t->left[merges] = pick[0];
        t->right[merges++] = pick[1];
        t->count++;
    }
    char a[200], b[200], *at = t->json, *end = t->json + sizeof t->json;
    const char *plain = "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},";
    at += snprintf(at, (size_t)(end - at),
                   "{%s\"added_tokens\":[{\"id\":%d,\"content\":\"<x>\"},{\"id\":%d,\"content\":"
                   "\"<x><y>\"}]%s",
                   extra, t->count, t->count + 1, strstr(extra, "\"model\"") != NULL ? "}" : ",");
    if (strstr(extra, "\"model\"") != NULL) return; /* the model is what is tried */
    at += snprintf(at, (size_t)(end - at), "%s\"model\":{\"type\":\"BPE\",\"vocab\":{",
                   strstr(extra, "\"pre_tokenizer\"") != NULL ? "" : plain);
    for (int i = 0; i < t->count; i++) {
        spell_token(t, i, a);
        at += snprintf(at, (size_t)(end - at), "%s\"%s\":%d", i ? "," : "", a, i);
    }
    at += snprintf(at, (size_t)(end - at), "},\"merges\":[");
    for (int i = 0; i < merges; i++) {
        spell_token(t, t->left[i], a);
        spell_token(t, t->right[i], b);
        at += snprintf(at, (size_t)(end - at), i % 2 ? ",[\"%s\",\"%s\"]" : "%s\"%s %s\"",
                       i % 2 ? a
                       : i   ? ","
                             : "",
                       i % 2 ? b : a, b);
    }
    snprintf(at, (size_t)(end - at), "]}}");
}

/* The definition: while any pair of neighbours has a merge, do the leftmost of the lowest rank. */
static size_t naive(const toy *t, const unsigned char *text, size_t count, int32_t *ids) {
    for (size_t i = 0; i < count; i++) ids[i] = text[i];
    for (;;) {
        int best = MERGES;
        size_t where = 0;
        for (size_t i = 0; i + 1 < count; i++)
            for (int m = 0; m < best; m++)
                if (t->left[m] == ids[i] && t->right[m] == ids[i + 1] && t->counts[256 + m] > 0) {
                    best = m;
                    where = i;
                }
        if (best == MERGES) return count;
        ids[where] = 256 + best;
        memmove(ids + where + 1, ids + where + 2, (count - where - 2) * sizeof *ids);
        count--;
    }
}

static toy one;

static void merging_equals_the_naive_loop(void **state) {
    (void)state;
    make_toy(&one, "");
    kvs_tokenizer *tokenizer;
    kvs_error error = {0};
    if (kvs_tokenizer_parse("toy", one.json, strlen(one.json), &tokenizer, &error) != KVS_OK)
        fail_msg("%s", error.rule);
    for (uint64_t round = 0; round < 300; round++) {
        char text[80];
        int32_t want[80], *got;
        size_t count = 1 + round % 79, made;
        for (size_t i = 0; i < count; i++) text[i] = (char)('a' + kvs_random_bits(round, i) % 4);
        size_t wanted = naive(&one, (unsigned char *)text, count, want);
        assert_int_equal(kvs_tokenizer_encode(tokenizer, "text", text, count, &got, &made, &error), KVS_OK);
        assert_int_equal(made, wanted);
        assert_memory_equal(got, want, made * sizeof *got);
        assert_true(count < 20 || made < count);
        free(got);
    }
    kvs_tokenizer_close(tokenizer);
}

static void added_tokens_and_all_bytes_come_back(void **state) {
    (void)state;
    make_toy(&one, "");
    kvs_tokenizer *tokenizer;
    kvs_error error = {0};
    assert_int_equal(kvs_tokenizer_parse("toy", one.json, strlen(one.json), &tokenizer, &error), KVS_OK);
    const char text[] = "a<x><y>b<x>\xc3\xa9 \xe2\x82\xac\x01\x7f\n  \xf0\x9f\x98\x80 'll<";
    int32_t *ids;
    size_t count, bytes;
    char *back;
    assert_int_equal(kvs_tokenizer_encode(tokenizer, "text", text, sizeof text - 1, &ids, &count, &error), KVS_OK);
    assert_int_equal(ids[0], 'a');
    assert_int_equal(ids[1], one.count + 1); /* the longest */
    assert_int_equal(ids[3], one.count);
    assert_int_equal(kvs_tokenizer_decode(tokenizer, ids, count, &back, &bytes, &error), KVS_OK);
    assert_int_equal(bytes, sizeof text - 1);
    assert_memory_equal(back, text, bytes);
    free(back);
    ids[0] = one.count + 2;
    assert_int_equal(kvs_tokenizer_decode(tokenizer, ids, count, &back, &bytes, &error), KVS_INPUT);
    free(ids);
    assert_int_equal(kvs_tokenizer_encode(tokenizer, "text", "a\xc3", 2, &ids, &count, &error), KVS_INPUT);
    assert_non_null(strstr(error.rule, "not UTF-8 at byte 1"));
    kvs_tokenizer_close(tokenizer);
}

/* --- files ---------------------------------------------------------------------------------------------------------
 */

static void refuse(const char *json, const char *rule) {
    kvs_tokenizer *tokenizer;
    kvs_error error = {0};
    char text[800] = "accepted";
    if (kvs_tokenizer_parse("t", json, strlen(json), &tokenizer, &error) == KVS_INPUT)
        kvs_error_text(&error, text, sizeof text);
    if (strstr(text, rule) == NULL) fail_msg("wanted '%s', got '%s'", rule, text);
}

static void unknown_parts_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *extra, *rule;
    } cases[] = {
        {"\"surprise\":1,", "surprise: is no known part"},
        {"\"truncation\":{},", "truncation: is not supported"},
        {"\"normalizer\":{\"type\":\"Lowercase\"},", "'Lowercase' is not supported"},
        {"\"decoder\":{\"type\":\"WordPiece\"},", "'WordPiece' is not supported"},
        {"\"pre_tokenizer\":{\"type\":\"Metaspace\"},", "'Metaspace' is not supported"},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Removed\",\"pattern\":{\"Regex\":\"a\"}},", "'Removed'"},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"(a\"}},",
         "wrong at"},
        {"\"model\":{\"type\":\"Unigram\"},", "'Unigram' is not supported"},
        {"\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},", "no token for byte 0"},
        {"\"model\":{\"vocab\":{\"a\":0.5},\"merges\":[]},", "no whole number"},
        {"\"model\":{\"vocab\":{\"a\":99999999999},\"merges\":[]},", "not a whole number below"},
        {"\"model\":{\"vocab\":{\"a b\":0},\"merges\":[]},", "byte-level alphabet"},
        {"\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]},", "id 0 is given to two"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_toy(&one, cases[i].extra);
        refuse(one.json, strstr(cases[i].rule, "no whole") ? "not a whole number" : cases[i].rule);
    }
    make_toy(&one, "\"added_tokens\":[],");
    refuse(one.json, "added_tokens: is there twice");
    refuse("{", "no valid JSON");
    refuse("{\"a\":\"\xff\"}", "not UTF-8");
    refuse("{}", "model.vocab: must be an object");
}

static void hostile_patterns_end(void **state) {
    (void)state;
    make_toy(&one, "\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
                   "\"(a+)+$\"}},");
    kvs_tokenizer *tokenizer;
    kvs_error error = {0};
    int32_t *ids;
    size_t count;
    char text[64];
    memset(text, 'a', sizeof text);
    text[63] = 'b';
    assert_int_equal(kvs_tokenizer_parse("toy", one.json, strlen(one.json), &tokenizer, &error), KVS_OK);
    assert_int_equal(kvs_tokenizer_encode(tokenizer, "text", text, sizeof text, &ids, &count, &error), KVS_INPUT);
    assert_non_null(strstr(error.rule, "limit"));
    kvs_tokenizer_close(tokenizer);
}

static void the_corpus_is_reproduced(void **state) {
    (void)state;
    const char *shared = getenv("KVS_SHARED") ? getenv("KVS_SHARED") : "../shared";
    char path[4096], *text, *back;
    size_t bytes, count, back_bytes;
    kvs_error error = {0};
    kvs_tokenizer *tokenizer;
    kvs_tokens tokens;
    int32_t *ids;
    snprintf(path, sizeof path, "%s/corpus/validation.txt", shared);
    if (kvs_read_file(path, 1 << 24, &text, &bytes, &error) != KVS_OK) skip();
    snprintf(path, sizeof path, "%s/corpus/validation_tokens.h5", shared);
    assert_int_equal(kvs_tokens_read(path, &tokens, &error), KVS_OK);
    snprintf(path, sizeof path, "%s/models/qwen3-7m", shared);
    assert_int_equal(kvs_tokenizer_open(path, &tokenizer, &error), KVS_OK);
    assert_int_equal(kvs_tokenizer_encode(tokenizer, "text", text, bytes, &ids, &count, &error), KVS_OK);
    assert_int_equal(count, tokens.count);
    assert_memory_equal(ids, tokens.ids, count * sizeof *ids);
    assert_int_equal(kvs_tokenizer_decode(tokenizer, ids, count, &back, &back_bytes, &error), KVS_OK);
    assert_int_equal(back_bytes, bytes);
    assert_memory_equal(back, text, bytes);
    free(text);
    free(back);
    free(ids);
    kvs_tokens_clear(&tokens);
    kvs_tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merging_equals_the_naive_loop), cmocka_unit_test(added_tokens_and_all_bytes_come_back),
        cmocka_unit_test(unknown_parts_are_refused), cmocka_unit_test(hostile_patterns_end),
        cmocka_unit_test(the_corpus_is_reproduced)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
