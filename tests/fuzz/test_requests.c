/* test_requests.c: damaged request traces are read or refused, never worse: bytes flipped, cut, doubled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/random.h"
#include "sim/timeline.h"
#include "traces/requests.h"

enum { BYTES = 6000, ROUNDS = 300 };

static const char *const samples[] = {
    "traces/sample/requests/mooncake-conversation.jsonl", "traces/sample/requests/azure-2023-conv.csv",
    "traces/sample/requests/vllm-rtx4090.jsonl", "traces/sample/requests/vllm-rtx4090.csv"};
enum { SAMPLES = sizeof samples / sizeof *samples };

static size_t damage(const char *good, size_t bytes, uint64_t key, char *bad) {
    static const char odd[] = "\0\n\r\",{}[]-0e9.:\xff\x80 ";
    memcpy(bad, good, bytes);
    int edits = 1 + (int)(kvs_random_bits(key, 0) % 4);
    for (int i = 0; i < edits; i++) {
        size_t at = (size_t)(kvs_random_bits(key, 10u + (uint64_t)i) % bytes);
        uint64_t what = kvs_random_bits(key, 20u + (uint64_t)i);
        if (what % 4 == 0)
            bad[at] ^= (char)(1 << (what >> 8) % 8);
        else if (what % 4 == 1)
            bad[at] = odd[(what >> 8) % sizeof odd];
        else if (what % 4 == 2)
            memmove(bad + at, bad, bytes - at); /* the start once more in the middle */
        else
            bytes = at + 1;
    }
    return bytes;
}

static void read_it(const char *path, int skip_bad, long *read, long *refused) {
    kvs_requests requests;
    kvs_timeline timeline;
    kvs_error error = {0};
    kvs_status status = kvs_requests_load(path, NULL, (kvs_request_options){.skip_bad = skip_bad}, &requests, &error);
    assert_true(status == KVS_OK || (status == KVS_INPUT && error.rule[0] != '\0'));
    if (status == KVS_OK) {
        for (int64_t i = 0; i < requests.block_start[requests.count]; i++)
            assert_true(requests.block_ids[i] < requests.unique_blocks);
        kvs_requests_clear(&requests);
    }
    *(status == KVS_OK ? read : refused) += 1;
    status = kvs_timeline_load(path, &timeline, &error);
    assert_true(status == KVS_OK || status == KVS_INPUT);
    if (status == KVS_OK) kvs_timeline_clear(&timeline);
}

static void damaged_traces_are_read_or_refused(void **state) {
    (void)state;
    static char good[BYTES], bad[BYTES];
    char path[] = "/tmp/kvs-fuzz-requests-XXXXXX";
    long read = 0, refused = 0;
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    for (int s = 0; s < SAMPLES; s++) {
        FILE *file = fopen(samples[s], "rb");
        assert_non_null(file);
        size_t bytes = fread(good, 1, BYTES, file);
        fclose(file);
        assert_true(bytes > 1000);
        for (int round = 0; round < ROUNDS; round++) {
            size_t left = damage(good, bytes, kvs_random_key((uint64_t)s, (uint64_t)round), bad);
            file = fopen(path, "wb");
            assert_non_null(file);
            assert_int_equal(fwrite(bad, 1, left, file), left);
            assert_int_equal(fclose(file), 0);
            read_it(path, round % 2, &read, &refused);
        }
    }
    unlink(path);
    assert_true(read > ROUNDS && refused > ROUNDS / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(damaged_traces_are_read_or_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
