/* test_tasks.c: the texts of tasks hold what they ask for, once, at the distance they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/model/tasks.h"

enum { CONTEXT = 700, PASSAGE = 40 };

static kvs_tokenizer *tokenizer;
static kvs_tokens filler;
static int32_t ids[CONTEXT];

static int open_shared(void **state) {
    (void)state;
    const char *shared = getenv("KVS_SHARED") ? getenv("KVS_SHARED") : "../shared";
    char path[4096];
    kvs_error error;
    snprintf(path, sizeof path, "%s/models/qwen3-7m", shared);
    if (kvs_tokenizer_open(path, &tokenizer, &error) != KVS_OK) return 0;
    snprintf(path, sizeof path, "%s/corpus/validation_tokens.h5", shared);
    return kvs_tokens_read(path, &filler, &error) != KVS_OK;
}

static int close_shared(void **state) {
    (void)state;
    kvs_tokenizer_close(tokenizer);
    kvs_tokens_clear(&filler);
    return 0;
}

static kvs_status make(const char *name, uint64_t key, int distance, kvs_task_text *text) {
    kvs_task_source source = {tokenizer, &filler, key};
    kvs_error error;
    *text = (kvs_task_text){ids, CONTEXT, 0};
    return kvs_task_find(name)->make(&source, distance, text, &error);
}

static void a_copy_repeats_at_its_distance(void **state) {
    (void)state;
    if (tokenizer == NULL) skip();
    const int distances[] = {PASSAGE, 100, 333, CONTEXT - PASSAGE};
    kvs_task_text text;
    int32_t first[PASSAGE];
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(make("copy", i, distances[i], &text), KVS_OK);
        assert_int_equal(text.context, CONTEXT);
        assert_true(text.answer > 0 && text.answer < PASSAGE);
        const int32_t *again = ids + CONTEXT - PASSAGE;
        assert_memory_equal(again, again - distances[i], sizeof first);
        if (i > 0) assert_memory_not_equal(again, first, sizeof first); /* another key, other words */
        memcpy(first, again, sizeof first);
    }
    assert_int_equal(make("copy", 1, CONTEXT - PASSAGE + 1, &text), KVS_USAGE);
    assert_int_equal(make("copy", 1, PASSAGE - 1, &text), KVS_USAGE);
}

static void a_value_is_there_once_under_its_key(void **state) {
    (void)state;
    if (tokenizer == NULL) skip();
    for (int distance = 60; distance < CONTEXT - 100; distance += 90) {
        kvs_task_text text;
        kvs_error error;
        char *all, *cue, *before;
        size_t bytes, cue_bytes, before_bytes;
        assert_int_equal(make("retrieve", (uint64_t)distance, distance, &text), KVS_OK);
        int asked = text.context - text.answer;
        assert_int_equal(kvs_tokenizer_decode(tokenizer, ids, (size_t)text.context, &all, &bytes, &error), KVS_OK);
        assert_int_equal(kvs_tokenizer_decode(tokenizer, ids, (size_t)asked, &cue, &cue_bytes, &error), KVS_OK);
        assert_int_equal(bytes - cue_bytes, 4);
        assert_memory_equal(all, cue, cue_bytes);
        char *line = strrchr(all, '\n') + 1, *found = strstr(all, line);
        assert_int_equal(strlen(line), strlen("    \"abcd\": \"efgh"));
        assert_true(found < line); /* key and value stand further up, and there only */
        assert_ptr_equal(strstr(found + 1, line), line);
        /* The line that is asked for begins within half a line of the distance. */
        size_t at = 0;
        for (before_bytes = 0; before_bytes < (size_t)(found - all); at++) {
            assert_int_equal(kvs_tokenizer_decode(tokenizer, ids + at, 1, &before, &bytes, &error), KVS_OK);
            before_bytes += bytes;
            free(before);
        }
        assert_true(abs(asked - (int)at - distance) < 40);
        free(all);
        free(cue);
    }
    kvs_task_text text;
    assert_int_equal(make("retrieve", 1, CONTEXT, &text), KVS_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_copy_repeats_at_its_distance),
                                       cmocka_unit_test(a_value_is_there_once_under_its_key)};
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
