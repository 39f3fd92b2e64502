/* test_results.c: can a damaged results file hurt, or a damaged ranking study? Bytes of a small valid one are changed;
 * reading it must succeed or fail with KVS_INPUT and a rule, in bounded time, without a crash. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "analysis/rank_result.h"
#include "analysis/result.h"
#include "core/random.h"

enum { MOST_BYTES = 1 << 20, ROUNDS = 200 };

static char path[] = "/tmp/kvs_results_XXXXXX";
static unsigned char good[MOST_BYTES], bad[MOST_BYTES];
static size_t bytes;

static void take_good(void) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    bytes = fread(good, 1, MOST_BYTES, file);
    fclose(file);
    assert_true(bytes > 1000 && bytes < MOST_BYTES);
}

static void make_results(void) {
    kvs_head_result heads[2] = {{.layer = 0}, {.layer = 1}};
    kvs_memory_point memory = {.tokens = 128};
    kvs_position_result position = {.until = 128};
    kvs_task_result task = {.task = "copy", .distance = 100};
    float channels[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    kvs_trace_summary trace = {.path = "trace.h5",
                               .layers = 2,
                               .query_heads = 1,
                               .kv_heads = 1,
                               .head_dim = 4,
                               .channels = {channels, channels, channels, channels}};
    kvs_result result = {.scheme = "fp16",
                         .heads_count = 2,
                         .heads = heads,
                         .memory_count = 1,
                         .memory = &memory,
                         .positions_count = 1,
                         .positions = &position,
                         .tasks_count = 1,
                         .tasks = &task};
    kvs_results results = {
        .command = "replay", .traces_count = 1, .traces = &trace, .results_count = 1, .results = &result};
    kvs_error error;
    assert_int_equal(kvs_results_write_h5(&results, path, &error), KVS_OK);
}

static void make_study(void) {
    kvs_rank_results study = {.layers = 1,
                              .kv_heads = 2,
                              .head_dim = 4,
                              .sequences = 1,
                              .ratios_count = 2,
                              .ratios = {{0.125, 0}, {0.25, 1}},
                              .metrics_count = 3,
                              .pages_count = 4};
    kvs_error error;
    assert_int_equal(kvs_rank_results_alloc(&study, &error), KVS_OK);
    for (int m = 0; m < 3; m++) {
        study.metrics[m].name = strdup(m == 0 ? "range" : m == 1 ? KVS_RANK_CHANCE : KVS_RANK_GREEDY);
        study.metrics[m].uses = strdup("keys");
    }
    for (int p = 0; p < 4; p++) study.pages[p] = (kvs_rank_page){.head = p / 2, .page = p % 2};
    assert_int_equal(kvs_rank_summarize(&study, &error), KVS_OK);
    assert_int_equal(kvs_rank_results_write_h5(&study, path, &error), KVS_OK);
    kvs_rank_results_clear(&study);
}

static kvs_status read_results(kvs_error *error) {
    kvs_results results;
    kvs_status status = kvs_results_read_h5(path, &results, error);
    if (status == KVS_OK) kvs_results_clear(&results);
    return status;
}

static kvs_status read_study(kvs_error *error) {
    kvs_rank_results study;
    kvs_status status = kvs_rank_results_read_h5(path, &study, error);
    if (status == KVS_OK) kvs_rank_results_clear(&study);
    return status;
}

static struct kind {
    void (*make)(void);
    kvs_status (*read)(kvs_error *error);
} kinds[] = {{make_results, read_results}, {make_study, read_study}};
static const struct kind *kind;

/* 0 if the file is read, 3 if it is refused with a rule, 99 if in some other way. */
static int read_all(void) {
    kvs_error error = {.status = KVS_OK};
    kvs_status status = kind->read(&error);
    if (status == KVS_OK) return 0;
    return status == KVS_INPUT && error.rule[0] != '\0' && error.file[0] != '\0' ? 3 : 99;
}

/* The same of given bytes, in a process of its own: anything else is a crash (128 + signal). */
static int outcome(const unsigned char *content, size_t length) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        for (int number = 1; number < 32; number++) signal(number, SIG_DFL); /* cmocka would survive a crash */
        alarm(60);
        _exit(read_all());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void changed_bytes_are_read_or_refused(void **state) {
    kind = *state;
    kind->make();
    take_good();
    int refused = 0;
    assert_int_equal(outcome(good, bytes), 0);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        memcpy(bad, good, bytes);
        for (uint64_t i = 0; i <= round % 4; i++) {
            size_t at = (size_t)(kvs_random_bits(round, 2 * i) % bytes);
            bad[at] = round % 3 == 0 ? 0xff : (unsigned char)kvs_random_bits(round, 2 * i + 1);
        }
        int found = outcome(bad, bytes);
        if (found != 0 && found != 3) fail_msg("round %d: outcome %d", (int)round, found);
        refused += found == 3;
    }
    assert_true(refused > ROUNDS / 20);
}

static void cut_files_are_refused(void **state) {
    kind = *state;
    kind->make();
    take_good();
    for (int i = 0; i < 16; i++) assert_int_equal(outcome(good, bytes * (size_t)i / 16), 3);
}

static int set_up(void **state) {
    (void)state;
    int file = mkstemp(path);
    return file < 0 || close(file) != 0;
}

static int tear_down(void **state) {
    (void)state;
    return unlink(path);
}

#define OF_KIND(TEST, NAME, KIND)                                                                                      \
    { #TEST ": " NAME, TEST, NULL, NULL, &kinds[KIND] }

int main(void) {
    const struct CMUnitTest tests[] = {
        OF_KIND(changed_bytes_are_read_or_refused, "results", 0),
        OF_KIND(cut_files_are_refused, "results", 0),
        OF_KIND(changed_bytes_are_read_or_refused, "a ranking study", 1),
        OF_KIND(cut_files_are_refused, "a ranking study", 1),
    };
    return cmocka_run_group_tests_name("results", tests, set_up, tear_down);
}
