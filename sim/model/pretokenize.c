#include "sim/model/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

enum { STEPS_LIMIT = 16, MATCH_LIMIT = 1000000 };

/* ByteLevel's own pattern (GPT-2). */
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* A superset of the characters that NFC can change or that it joins to the one before them: marks, conjoining Jamo,
 * Greek extended, compatibility ideographs and the singletons of the Unicode character database. */
static const char nfc_pattern[] =
    "[\\p{M}\\x{374}\\x{37e}\\x{387}\\x{958}-\\x{95f}\\x{9dc}-\\x{9df}\\x{a33}-\\x{a5e}\\x{b5c}\\x{b5d}\\x{f43}-\\x{"
    "f69}"
    "\\x{1100}-\\x{11ff}\\x{1f00}-\\x{1fff}\\x{2000}\\x{2001}\\x{2126}\\x{212a}\\x{212b}\\x{2329}\\x{232a}\\x{2adc}"
    "\\x{f900}-\\x{faff}\\x{fb1d}-\\x{fb4e}\\x{1d15e}-\\x{1d1c0}\\x{2f800}-\\x{2fa1f}]";

struct kvs_pretokenizer {
    pcre2_code *steps[STEPS_LIMIT];
    int count;
    pcre2_code *nfc; /* finds what NFC might change; NULL without a normalizer */
    pcre2_match_context *limits;
};

kvs_status kvs_pieces_add(kvs_pieces *pieces, size_t begin, size_t end, kvs_error *error) {
    if (begin == end) return KVS_OK;
    if (pieces->count == pieces->room) {
        size_t room = pieces->room > 0 ? 2 * pieces->room : 256;
        kvs_piece *grown = realloc(pieces->pieces, sizeof *grown * room);
        if (grown == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for the pieces of a text");
        pieces->pieces = grown;
        pieces->room = room;
    }
    pieces->pieces[pieces->count++] = (kvs_piece){begin, end};
    return KVS_OK;
}

void kvs_pieces_clear(kvs_pieces *pieces) {
    free(pieces->pieces);
    *pieces = (kvs_pieces){0};
}

/* --- reading the configuration -------------------------------------------------------------------------------------
 */

static kvs_status compile(const char *file, const char *pattern, uint32_t options, pcre2_code **code,
                          kvs_error *error) {
    int number;
    PCRE2_SIZE at;
    *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options | PCRE2_UTF, &number, &at, NULL);
    if (*code != NULL) return KVS_OK;
    PCRE2_UCHAR reason[200];
    pcre2_get_error_message(number, reason, sizeof reason);
    return kvs_fail(error, KVS_INPUT, file, "pre_tokenizer", "the pattern is wrong at byte %zu: %s", at, reason);
}

static kvs_status add_step(const char *file, const char *pattern, uint32_t options, kvs_pretokenizer *p,
                           kvs_error *error) {
    if (p->count == STEPS_LIMIT)
        return kvs_fail(error, KVS_INPUT, file, "pre_tokenizer", "has more than %d steps", STEPS_LIMIT);
    KVS_TRY(compile(file, pattern, options, &p->steps[p->count], error));
    p->count++;
    return KVS_OK;
}

static kvs_status read_byte_level(const char *file, const cJSON *step, kvs_pretokenizer *p, kvs_error *error) {
    int prefix, pattern;
    KVS_TRY(kvs_json_bool(file, step, "add_prefix_space", 1, &prefix, error));
    KVS_TRY(kvs_json_bool(file, step, "use_regex", 1, &pattern, error));
    if (prefix) return kvs_fail(error, KVS_INPUT, file, "pre_tokenizer.add_prefix_space", "true is not supported");
    return pattern ? add_step(file, gpt2_pattern, PCRE2_UCP, p, error) : KVS_OK;
}

static kvs_status read_split(const char *file, const cJSON *step, kvs_pretokenizer *p, kvs_error *error) {
    const char *behavior, *expression, *literal;
    int invert;
    KVS_TRY(kvs_json_text(file, step, "behavior", "", &behavior, error));
    KVS_TRY(kvs_json_bool(file, step, "invert", 0, &invert, error));
    if (strcmp(behavior, "Isolated") != 0)
        return kvs_fail(error, KVS_INPUT, file, "pre_tokenizer.behavior", "'%s' is not supported; supported: Isolated",
                        behavior);
    if (invert) return kvs_fail(error, KVS_INPUT, file, "pre_tokenizer.invert", "true is not supported");
    const cJSON *pattern = kvs_json_find(step, "pattern");
    KVS_TRY(kvs_json_text(file, pattern, "Regex", NULL, &expression, error));
    KVS_TRY(kvs_json_text(file, pattern, "String", NULL, &literal, error));
    if ((expression == NULL) == (literal == NULL))
        return kvs_fail(error, KVS_INPUT, file, "pre_tokenizer.pattern", "must be one Regex or one String");
    return expression != NULL ? add_step(file, expression, PCRE2_UCP, p, error)
                              : add_step(file, literal, PCRE2_LITERAL, p, error);
}

static const struct {
    const char *type;
    kvs_status (*read)(const char *file, const cJSON *step, kvs_pretokenizer *p, kvs_error *error);
} readers[] = {{"ByteLevel", read_byte_level}, {"Split", read_split}};

static kvs_status read_step(const char *file, const cJSON *step, kvs_pretokenizer *p, kvs_error *error) {
    const char *type;
    KVS_TRY(kvs_json_text(file, step, "type", "", &type, error));
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (strcmp(readers[i].type, type) == 0) return readers[i].read(file, step, p, error);
    return kvs_fail(error, KVS_INPUT, file, "pre_tokenizer",
                    "the type '%s' is not supported; supported: ByteLevel, Split, Sequence of these", type);
}

static kvs_status read_all(const char *file, const cJSON *pre_tokenizer, const cJSON *normalizer, kvs_pretokenizer *p,
                           kvs_error *error) {
    const char *type;
    KVS_TRY(kvs_json_text(file, normalizer, "type", "none", &type, error));
    if (strcmp(type, "NFC") == 0)
        KVS_TRY(compile(file, nfc_pattern, PCRE2_UCP, &p->nfc, error));
    else if (strcmp(type, "none") != 0)
        return kvs_fail(error, KVS_INPUT, file, "normalizer", "the type '%s' is not supported; supported: NFC", type);
    if (pre_tokenizer == NULL) return KVS_OK;
    KVS_TRY(kvs_json_text(file, pre_tokenizer, "type", "", &type, error));
    if (strcmp(type, "Sequence") != 0) return read_step(file, pre_tokenizer, p, error);
    const cJSON *list = kvs_json_find(pre_tokenizer, "pretokenizers");
    if (!cJSON_IsArray(list)) return kvs_fail(error, KVS_INPUT, file, "pre_tokenizer.pretokenizers", "must be a list");
    for (const cJSON *step = list->child; step != NULL; step = step->next) KVS_TRY(read_step(file, step, p, error));
    return KVS_OK;
}

kvs_status kvs_pretokenizer_read(const char *file, const cJSON *pre_tokenizer, const cJSON *normalizer,
                                 kvs_pretokenizer **pretokenizer, kvs_error *error) {
    *pretokenizer = NULL;
    kvs_pretokenizer *p = calloc(1, sizeof *p);
    if (p != NULL) p->limits = pcre2_match_context_create(NULL);
    kvs_status status = KVS_OK;
    if (p == NULL || p->limits == NULL) status = kvs_fail(error, KVS_INPUT, file, NULL, "out of memory");
    if (status == KVS_OK) {
        pcre2_set_match_limit(p->limits, MATCH_LIMIT);
        status = read_all(file, pre_tokenizer, normalizer, p, error);
    }
    if (status == KVS_OK)
        *pretokenizer = p;
    else
        kvs_pretokenizer_close(p);
    return status;
}

void kvs_pretokenizer_close(kvs_pretokenizer *p) {
    if (p == NULL) return;
    for (int i = 0; i < p->count; i++) pcre2_code_free(p->steps[i]);
    pcre2_code_free(p->nfc);
    pcre2_match_context_free(p->limits);
    free(p);
}

/* --- cutting -------------------------------------------------------------------------------------------------------
 */

/* One search in a subject known to be UTF-8. */
static kvs_status search(const kvs_pretokenizer *p, const pcre2_code *code, pcre2_match_data *match, const char *name,
                         const char *subject, size_t length, size_t from, int *found, kvs_error *error) {
    int count = pcre2_match(code, (PCRE2_SPTR)subject, length, from, PCRE2_NO_UTF_CHECK, match, p->limits);
    *found = count >= 0;
    if (count >= 0 || count == PCRE2_ERROR_NOMATCH) return KVS_OK;
    PCRE2_UCHAR reason[200];
    pcre2_get_error_message(count, reason, sizeof reason);
    return kvs_fail(error, KVS_INPUT, name, NULL, "cannot be cut into pieces near byte %zu: %s", from,
                    (const char *)reason);
}

kvs_status kvs_utf8_check(const char *name, const char *text, size_t bytes, kvs_error *error) {
    /* PCRE2 checks all of a subject before it matches. */
    pcre2_code *anywhere;
    KVS_TRY(compile(name, "", 0, &anywhere, error));
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    kvs_status status = KVS_OK;
    if (match == NULL)
        status = kvs_fail(error, KVS_INPUT, name, NULL, "out of memory");
    else if (pcre2_match(anywhere, (PCRE2_SPTR)text, bytes, 0, 0, match, NULL) < 0)
        status = kvs_fail(error, KVS_INPUT, name, NULL, "is not UTF-8 at byte %zu", pcre2_get_startchar(match));
    pcre2_match_data_free(match);
    pcre2_code_free(anywhere);
    return status;
}

/* Matches are pieces of their own, and so is what lies between them. */
static kvs_status split(const kvs_pretokenizer *p, const pcre2_code *code, pcre2_match_data *match, const char *name,
                        const char *text, kvs_piece piece, kvs_pieces *out, kvs_error *error) {
    const char *subject = text + piece.begin;
    size_t length = piece.end - piece.begin, kept = 0;
    for (size_t from = 0; from < length;) {
        int found;
        KVS_TRY(search(p, code, match, name, subject, length, from, &found, error));
        if (!found) break;
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
        if (range[1] <= range[0] || range[0] < kept) { /* an empty match, or one that \K moved: try one further on */
            for (from = (range[1] > from ? range[1] : from) + 1; from < length && (subject[from] & 0xc0) == 0x80;)
                from++;
            continue;
        }
        KVS_TRY(kvs_pieces_add(out, piece.begin + kept, piece.begin + range[0], error));
        KVS_TRY(kvs_pieces_add(out, piece.begin + range[0], piece.begin + range[1], error));
        from = kept = range[1];
    }
    return kvs_pieces_add(out, piece.begin + kept, piece.end, error);
}

static kvs_status check_nfc(const kvs_pretokenizer *p, pcre2_match_data *match, const char *name, const char *text,
                            size_t length, kvs_error *error) {
    int found;
    if (p->nfc == NULL || length == 0) return KVS_OK;
    KVS_TRY(search(p, p->nfc, match, name, text, length, 0, &found, error));
    if (!found) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, name, NULL,
                    "byte %zu begins a character that the tokenizer's NFC normalizer might change, which is not "
                    "supported",
                    pcre2_get_ovector_pointer(match)[0]);
}

static kvs_status cut(const kvs_pretokenizer *p, pcre2_match_data *match, const char *name, const char *text,
                      kvs_pieces *now, kvs_pieces *next, kvs_error *error) {
    for (int step = 0; step < p->count; step++) {
        next->count = 0;
        for (size_t i = 0; i < now->count; i++)
            KVS_TRY(split(p, p->steps[step], match, name, text, now->pieces[i], next, error));
        kvs_pieces swapped = *now;
        *now = *next;
        *next = swapped;
    }
    return KVS_OK;
}

kvs_status kvs_pretokenize(const kvs_pretokenizer *p, const char *name, const char *text, size_t begin, size_t end,
                           kvs_pieces *pieces, kvs_error *error) {
    kvs_pieces now = {0}, next = {0};
    pcre2_match_data *match = pcre2_match_data_create(4, NULL);
    kvs_status status = match != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (status == KVS_OK) status = check_nfc(p, match, name, text + begin, end - begin, error);
    if (status == KVS_OK) status = kvs_pieces_add(&now, begin, end, error);
    if (status == KVS_OK) status = cut(p, match, name, text, &now, &next, error);
    for (size_t i = 0; status == KVS_OK && i < now.count; i++)
        status = kvs_pieces_add(pieces, now.pieces[i].begin, now.pieces[i].end, error);
    pcre2_match_data_free(match);
    kvs_pieces_clear(&now);
    kvs_pieces_clear(&next);
    return status;
}
