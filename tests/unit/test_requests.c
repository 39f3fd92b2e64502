/* test_requests.c: request traces: every format says what its file says, line ends and partial blocks included; bad
 * lines are named or counted; requests.h5 gives back what was imported. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "traces/id_map.h"
#include "traces/requests.h"

static char folder[64], text_path[96], h5_path[96];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/kvs-requests-XXXXXX");
    if (mkdtemp(folder) == NULL) return 1;
    snprintf(text_path, sizeof text_path, "%s/trace.txt", folder);
    snprintf(h5_path, sizeof h5_path, "%s/trace.h5", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(text_path);
    unlink(h5_path);
    return rmdir(folder);
}

static void write_bytes(const char *text, size_t bytes) {
    FILE *file = fopen(text_path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void load(const char *text, kvs_requests *requests) {
    kvs_error error = {0};
    write_bytes(text, strlen(text));
    if (kvs_requests_load(text_path, NULL, (kvs_request_options){0}, requests, &error) != KVS_OK)
        fail_msg("%s: %s", error.object, error.rule);
}

/* --- formats ----------------------------------------------------------------------------------------------------- */

static void assert_request(const kvs_requests *r, int64_t i, int64_t arrival_ns, int input, int output, int blocks) {
    assert_int_equal(r->arrival_ns[i], arrival_ns);
    assert_int_equal(r->input_tokens[i], input);
    assert_int_equal(r->output_tokens[i], output);
    assert_int_equal(r->block_start[i + 1] - r->block_start[i], blocks);
}

static void mooncake_says_milliseconds_and_ids(void **state) {
    (void)state;
    kvs_requests r;
    load("{\"timestamp\": 0, \"input_length\": 1024, \"output_length\": 5, \"hash_ids\": [90, 7]}\n"
         "\n"
         "{\"timestamp\": 3001, \"input_length\": 1025, \"output_length\": 6, \"hash_ids\": [90, 8, 7]}",
         &r);
    assert_string_equal(r.format, "mooncake");
    assert_int_equal(r.count, 2);
    assert_int_equal(r.block_tokens, 512);
    assert_request(&r, 0, 0, 1024, 5, 2);
    assert_request(&r, 1, 3001000000, 1025, 6, 3);
    /* dense, in order of appearance */
    const uint32_t ids[] = {0, 1, 0, 2, 1};
    assert_memory_equal(r.block_ids, ids, sizeof ids);
    assert_int_equal(r.unique_blocks, 3);
    kvs_requests_clear(&r);
}

static void azure_says_times_of_day_with_crlf_and_no_last_newline(void **state) {
    (void)state;
    kvs_requests r;
    load("TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
         "2023-11-16 23:59:59.9799600,4808,10\r\n"
         "2023-11-17 00:00:00.0319601,3180,8\r\n"
         "2023-11-17 02:00:01+02:00,31,0",
         &r);
    assert_string_equal(r.format, "azure");
    assert_int_equal(r.count, 3);
    assert_int_equal(r.arrival_ns[0] % 1000000000, 979960000);
    assert_int_equal(r.arrival_ns[1] - r.arrival_ns[0], 52000100);
    assert_int_equal(r.arrival_ns[2] - r.arrival_ns[1], 1000000000 - 31960100);
    assert_request(&r, 2, r.arrival_ns[2], 31, 0, 0);
    assert_int_equal(r.block_tokens, 0);
    /* 2023-11-16 is day 19677 of the Unix epoch */
    assert_int_equal(r.arrival_ns[0] / 1000000000, 19677LL * 86400 + 86399);
    kvs_requests_clear(&r);
}

static void burstgpt_columns_are_found_by_name(void **state) {
    (void)state;
    kvs_requests r;
    load("Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
         "5.5,abc,1.2,\"ChatGPT, old\",472,18,490,Conversation log\n"
         "45,,,GPT-4,1087,230,1317,API log\n",
         &r);
    assert_string_equal(r.format, "burstgpt");
    assert_request(&r, 0, 5500000000, 472, 18, 0);
    assert_request(&r, 1, 45000000000, 1087, 230, 0);
    kvs_requests_clear(&r);
    load("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,API log\n", &r);
    assert_request(&r, 0, 5000000000, 472, 18, 0);
    kvs_requests_clear(&r);
}

static void token_ids_become_chained_ids(void **state) {
    (void)state;
    kvs_requests r;
    kvs_error error;
    const char *text =
        "{\"arrival_ns\": 1, \"input_tokens\": 5, \"output_tokens\": 1, \"input_token_ids\": [1,2,3,4,5]}\n"
        "{\"arrival_ns\": 2, \"input_tokens\": 6, \"output_tokens\": 1, \"input_token_ids\": [1,2,3,4,5,6]}\n"
        "{\"arrival_ns\": 3, \"input_tokens\": 4, \"output_tokens\": 1, \"input_token_ids\": [9,2,3,4]}\n";
    write_bytes(text, strlen(text));
    assert_int_equal(kvs_requests_load(text_path, NULL, (kvs_request_options){.block_tokens = 2}, &r, &error), KVS_OK);
    assert_int_equal(r.block_tokens, 2);
    /* [1 2][3 4][5] | [1 2][3 4][5 6] | [9 2][3 4 after 9 2]: a partial block is another one, and so is another past */
    const uint32_t ids[] = {0, 1, 2, 0, 1, 3, 4, 5};
    assert_int_equal(r.block_start[3], 8);
    assert_memory_equal(r.block_ids, ids, sizeof ids);
    kvs_requests_clear(&r);
}

static void recorded_moments_are_kept(void **state) {
    (void)state;
    kvs_requests r;
    load("{\"input_toks\": 5, \"output_toks\": 2, \"queued_ts\": 100.25, \"scheduled_ts\": 100.5, \"first_token_ts\": "
         "101, "
         "\"last_token_ts\": 102.125}\n",
         &r);
    assert_request(&r, 0, 100250000000, 5, 2, 0);
    assert_non_null(r.moments_ns);
    assert_int_equal(r.moments_ns[KVS_MOMENT_SCHEDULED], 100500000000);
    assert_int_equal(r.moments_ns[KVS_MOMENT_LAST_TOKEN], 102125000000);
    kvs_requests_clear(&r);
    /* one request without them: the trace has none */
    load("{\"input_toks\": 5, \"output_toks\": 2, \"queued_ts\": 1, \"scheduled_ts\": 1, \"first_token_ts\": 1, "
         "\"last_token_ts\": 2}\n{\"arrival_ns\": 2000000000, \"input_tokens\": 5, \"output_tokens\": 2}\n",
         &r);
    assert_null(r.moments_ns);
    kvs_requests_clear(&r);
}

/* --- bad input --------------------------------------------------------------------------------------------------- */

static void bad_lines_are_named_or_counted(void **state) {
    (void)state;
#define GOOD  "{\"arrival_ns\": 10, \"input_tokens\": 5, \"output_tokens\": 1}\n"
#define AZURE "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,1\n"
    static const struct {
        const char *text, *place, *rule;
    } wrong[] = {
        {GOOD "{\"arrival_ns\": 10", "line 2", "JSON"},
        {GOOD "{\"arrival_ns\": 10, \"input_tokens\": 5, \"output_tokens\": 1} x\n", "line 2", "JSON"},
        {GOOD "\n{\"arrival_ns\": 10, \"input_tokens\": -5, \"output_tokens\": 1}\n", "line 3", "negative"},
        {GOOD "{\"arrival_ns\": 10, \"input_tokens\": 0, \"output_tokens\": 1}\n", "line 2", "at least one"},
        {GOOD "{\"arrival_ns\": 10, \"input_tokens\": 5.5, \"output_tokens\": 1}\n", "line 2", "input_tokens"},
        {GOOD "{\"arrival_ns\": 10, \"input_tokens\": 1e300, \"output_tokens\": 1}\n", "line 2", "input_tokens"},
        {GOOD "{\"arrival_ns\": 10, \"input_tokens\": 99999999, \"output_tokens\": 1}\n", "line 2", "absurd"},
        {GOOD "{\"arrival_ns\": 9, \"input_tokens\": 5, \"output_tokens\": 1}\n", "line 2", "backwards"},
        {GOOD "{\"arrival_ns\": -9, \"input_tokens\": 5, \"output_tokens\": 1}\n", "line 2", "before time 0"},
        {GOOD "{\"arrival_ns\": 10, \"input_tokens\": 5, \"output_tokens\": 1, \"hash_ids\": [1, 2]}\n", "line 2",
         "ids"},
        {GOOD "{\"arrival_ns\": 10, \"input_tokens\": 5, \"output_tokens\": 1, \"hash_ids\": [-1]}\n", "line 2", "id"},
        {GOOD "{\"arrival_ns\": 10, \"input_tokens\": 5, \"output_tokens\": 1, \"input_token_ids\": [1]}\n", "line 2",
         "input_token_ids"},
        {AZURE "2023-11-16 18:17,1,1\n", "line 3", "TIMESTAMP"},
        {AZURE "0023-11-16 18:17:04,1,1\n", "line 3", "TIMESTAMP"},
        {AZURE "2262-01-01 00:00:00,1,1\n", "line 3", "TIMESTAMP"},
        {AZURE "2023-11-16 18:17:04,1\n", "line 3", "fewer"},
        {AZURE "2023-11-16 18:17:04,one,1\n", "line 3", "ContextTokens"},
        {AZURE "2023-11-16 18:17:04,1,-1\n", "line 3", "negative"},
        {AZURE "2023-11-16 18:17:02,1,1\n", "line 3", "backwards"},
        {"Timestamp,Request tokens,Response tokens\n1,1,1\n2,99999999999999999999,1\n", "line 3", "Request tokens"},
        {"Timestamp,Request tokens,Response tokens\n1,1,1\nnan,1,1\n", "line 3", "Timestamp"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        kvs_requests r;
        kvs_error error = {0};
        write_bytes(wrong[i].text, strlen(wrong[i].text));
        assert_int_equal(kvs_requests_load(text_path, NULL, (kvs_request_options){0}, &r, &error), KVS_INPUT);
        assert_string_equal(error.object, wrong[i].place);
        if (strstr(error.rule, wrong[i].rule) == NULL) fail_msg("'%s' does not say '%s'", error.rule, wrong[i].rule);
        kvs_request_options skipping = {.skip_bad = 1};
        assert_int_equal(kvs_requests_load(text_path, NULL, skipping, &r, &error), KVS_OK);
        assert_int_equal(r.count, 1);
        assert_int_equal(r.skipped, 1);
        assert_non_null(strstr(r.first_skip, wrong[i].rule));
        kvs_requests_clear(&r);
    }
}

static void files_that_are_no_trace_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } wrong[] = {{"", 0}, {"hello\n", 6}, {"TIMESTAMP,ContextTokens,GeneratedTokens\n", 40}, {"{\"a\0b\"}\n", 8}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        kvs_requests r;
        kvs_error error = {0};
        write_bytes(wrong[i].text, wrong[i].bytes);
        assert_int_equal(kvs_requests_load(text_path, NULL, (kvs_request_options){.skip_bad = 1}, &r, &error),
                         KVS_INPUT);
    }
    kvs_error error;
    kvs_requests r;
    assert_int_equal(kvs_requests_load("nowhere/trace", NULL, (kvs_request_options){0}, &r, &error), KVS_INPUT);
    assert_int_equal(kvs_requests_load(folder, NULL, (kvs_request_options){0}, &r, &error), KVS_INPUT);
}

/* --- requests.h5 ---------------------------------------------------------------------------------------------------
 */

static void import(kvs_request_options options) {
    kvs_request_reader *reader;
    kvs_request_writer *writer;
    kvs_request request;
    kvs_error error = {0};
    assert_int_equal(kvs_request_reader_open(text_path, NULL, options, &reader, &error), KVS_OK);
    assert_int_equal(kvs_request_writer_create(h5_path, &writer, &error), KVS_OK);
    for (;;) {
        int end;
        assert_int_equal(kvs_request_reader_next(reader, &request, &end, &error), KVS_OK);
        if (end) break;
        int moments = kvs_request_reader_facts(reader).has_moments;
        assert_int_equal(kvs_request_writer_add(writer, &request, moments, &error), KVS_OK);
    }
    kvs_reader_facts facts = kvs_request_reader_facts(reader);
    assert_int_equal(kvs_request_writer_finish(writer, &facts, "source", "digest", &error), KVS_OK);
    kvs_request_reader_close(reader);
}

static void what_is_imported_comes_back(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"timestamp\": 7, \"input_length\": 1025, \"output_length\": 5, \"hash_ids\": [90, 7, 1]}\n"
        "{\"timestamp\": 8, \"input_length\": 1, \"output_length\": 9, \"hash_ids\": [1]}\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 23:59:59.97,4808,10",
        "{\"input_toks\": 5, \"output_toks\": 2, \"queued_ts\": 1, \"scheduled_ts\": 1, \"first_token_ts\": 1, "
        "\"last_token_ts\": 2}\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        kvs_requests a, b;
        kvs_error error = {0};
        load(texts[i], &a);
        import((kvs_request_options){0});
        assert_true(kvs_requests_is_h5(h5_path));
        if (kvs_requests_read_h5(h5_path, &b, &error) != KVS_OK) fail_msg("%s: %s", error.object, error.rule);
        assert_int_equal(a.count, b.count);
        assert_int_equal(a.block_tokens, b.block_tokens);
        assert_int_equal(a.unique_blocks, b.unique_blocks);
        assert_string_equal(a.format, b.format);
        assert_memory_equal(a.arrival_ns, b.arrival_ns, (size_t)a.count * sizeof *a.arrival_ns);
        assert_memory_equal(a.input_tokens, b.input_tokens, (size_t)a.count * sizeof *a.input_tokens);
        assert_memory_equal(a.output_tokens, b.output_tokens, (size_t)a.count * sizeof *a.output_tokens);
        assert_memory_equal(a.block_start, b.block_start, (size_t)(a.count + 1) * sizeof *a.block_start);
        if (a.block_start[a.count] > 0)
            assert_memory_equal(a.block_ids, b.block_ids, (size_t)a.block_start[a.count] * sizeof *a.block_ids);
        assert_int_equal(a.moments_ns != NULL, b.moments_ns != NULL);
        if (a.moments_ns != NULL)
            assert_memory_equal(a.moments_ns, b.moments_ns, (size_t)a.count * KVS_MOMENTS * sizeof *a.moments_ns);
        kvs_requests_clear(&a);
        kvs_requests_clear(&b);
    }
}

/* More than one piece, and more ids than the map starts with. */
static void long_traces_survive_the_trip(void **state) {
    (void)state;
    enum { COUNT = 70000 };
    FILE *file = fopen(text_path, "w");
    assert_non_null(file);
    for (int i = 0; i < COUNT; i++)
        fprintf(file, "{\"timestamp\": %d, \"input_length\": 513, \"output_length\": 1, \"hash_ids\": [%d, %d]}\n", i,
                i / 2, COUNT + i);
    assert_int_equal(fclose(file), 0);
    import((kvs_request_options){0});
    kvs_requests r;
    kvs_error error;
    assert_int_equal(kvs_requests_read_h5(h5_path, &r, &error), KVS_OK);
    assert_int_equal(r.count, COUNT);
    assert_int_equal(r.unique_blocks, COUNT + COUNT / 2);
    assert_int_equal(r.arrival_ns[COUNT - 1], (COUNT - 1) * 1000000LL);
    assert_int_equal(r.block_ids[r.block_start[COUNT - 1]], r.block_ids[r.block_start[COUNT - 2]]);
    kvs_requests_clear(&r);
}

static void ids_are_numbered_in_order(void **state) {
    (void)state;
    kvs_id_map map = {0};
    kvs_error error;
    uint32_t number;
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 5000; i++) {
            assert_int_equal(kvs_id_map_number(&map, (uint64_t)i << 32, &number, &error), KVS_OK);
            assert_int_equal(number, i);
        }
    assert_int_equal(map.count, 5000);
    kvs_id_map_clear(&map);
}

static void generated_requests_keep_the_rules(void **state) {
    (void)state;
    kvs_requests a, b;
    kvs_error error;
    assert_int_equal(kvs_requests_generate(20000, 1, &a, &error), KVS_OK);
    assert_int_equal(kvs_requests_generate(20000, 1, &b, &error), KVS_OK);
    assert_memory_equal(a.input_tokens, b.input_tokens, 20000 * sizeof *a.input_tokens);
    int64_t shared = a.block_start[a.count] - a.unique_blocks;
    assert_true(shared > a.block_start[a.count] / 10);
    for (int64_t i = 0; i < a.count; i++) {
        assert_int_equal(a.block_start[i + 1] - a.block_start[i], (a.input_tokens[i] + 511) / 512);
        assert_true(a.output_tokens[i] >= 1 && (i == 0 || a.arrival_ns[i] >= a.arrival_ns[i - 1]));
    }
    kvs_requests_clear(&a);
    kvs_requests_clear(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mooncake_says_milliseconds_and_ids),
        cmocka_unit_test(azure_says_times_of_day_with_crlf_and_no_last_newline),
        cmocka_unit_test(burstgpt_columns_are_found_by_name),
        cmocka_unit_test(token_ids_become_chained_ids),
        cmocka_unit_test(recorded_moments_are_kept),
        cmocka_unit_test(bad_lines_are_named_or_counted),
        cmocka_unit_test(files_that_are_no_trace_are_refused),
        cmocka_unit_test(what_is_imported_comes_back),
        cmocka_unit_test(long_traces_survive_the_trip),
        cmocka_unit_test(ids_are_numbered_in_order),
        cmocka_unit_test(generated_requests_keep_the_rules),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
