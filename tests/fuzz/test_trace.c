/* test_trace.c: can a damaged trace hurt? Bytes of a small valid file are changed; opening it and reading all of it
 * must succeed or fail with KVS_INPUT and a rule, in bounded time, without a crash. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "core/progress.h"
#include "core/random.h"
#include "traces/generate.h"
#include "traces/scan.h"

static char folder[] = "/tmp/kvscope-fuzz-XXXXXX";

static char *path_of(const char *name, char path[256]) {
    snprintf(path, 256, "%s/%s", folder, name);
    return path;
}

static unsigned char *load(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    unsigned char *content = malloc(1 << 20);
    *bytes = fread(content, 1, 1 << 20, file);
    fclose(file);
    assert_true(*bytes > 1000 && *bytes < 1 << 20);
    return content;
}

static void store(const char *path, const unsigned char *content, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static kvs_status read_attention(kvs_trace *trace, kvs_error *error) {
    kvs_scan scan = {.tensors = 7, .threads = 1, .quiet = 1};
    kvs_status status = kvs_trace_scan(trace, &scan, error);
    for (int s = 0; status == KVS_OK && s < kvs_trace_sequences(trace); s++) {
        const kvs_sequence *sequence = kvs_trace_sequence(trace, s);
        int32_t *numbers = malloc(sizeof *numbers * (size_t)(sequence->tokens + 1));
        if (sequence->has_token_ids) status = kvs_trace_read_token_ids(trace, s, numbers, error);
        free(numbers);
    }
    return status;
}

/* The whole of a trace: 0 if it is valid, 3 if it is refused with a rule, 99 if it is refused in some other way. */
static int read_all(const char *path) {
    kvs_error error = {.status = KVS_OK};
    kvs_trace *trace;
    kvs_status status = kvs_trace_open(path, &trace, &error);
    int cross = 0;
    if (status == KVS_OK) {
        for (int s = 0; s < kvs_trace_sequences(trace); s++) cross |= kvs_trace_sequence(trace, s)->source_tokens > 0;
        status = read_attention(trace, &error);
        kvs_trace_close(trace);
    }
    if (status == KVS_OK && cross) status = kvs_trace_open_cross(path, &trace, &error);
    if (status == KVS_OK && cross) {
        status = read_attention(trace, &error);
        kvs_trace_close(trace);
    }
    if (status == KVS_OK) return 0;
    return status == KVS_INPUT && error.rule[0] != '\0' && error.file[0] != '\0' ? 3 : 99;
}

/* In a process of its own: 0 or 3 as above, anything else is a crash (128 + signal). */
static int outcome(const char *path) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        for (int number = 1; number < 32; number++) signal(number, SIG_DFL); /* cmocka would survive a crash */
        alarm(60);
        _exit(read_all(path));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Gives the first sequence the second one's tensors as its cross attention. */
static void add_cross(const char *path) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gcreate2(file, "sequences/000000/cross", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0 && group >= 0);
    static const char *const names[][2] = {{"k", "k"}, {"v", "v"}, {"q", "q"}, {"token_ids", "source_token_ids"}};
    for (int i = 0; i < 4; i++) {
        char from[64];
        snprintf(from, sizeof from, "sequences/000001/%s", names[i][0]);
        if (H5Lexists(file, from, H5P_DEFAULT) > 0)
            assert_true(H5Ocopy(file, from, group, names[i][1], H5P_DEFAULT, H5P_DEFAULT) >= 0);
    }
    H5Gclose(group);
    H5Fclose(file);
}

static void make_seed(const char *path, int deflate) {
    kvs_generate generate = {.layers = 1,
                             .query_heads = 2,
                             .kv_heads = 1,
                             .head_dim = 8,
                             .sequences = 2,
                             .tokens = 20,
                             .prompt_tokens = 20,
                             .queries = 2,
                             .threads = 1,
                             .quiet = 1,
                             .options = {KVS_ELEMENT_BINARY16, deflate}};
    kvs_error error;
    assert_int_equal(kvs_trace_generate(path, &generate, &error), KVS_OK);
    add_cross(path);
    assert_int_equal(outcome(path), 0);
}

/* Changes one to four places: a bit, a byte, or a word with a value that often goes wrong. */
static void damage(unsigned char *content, size_t bytes, uint64_t key) {
    static const uint64_t words[] = {0, UINT64_MAX, INT64_MAX, UINT32_MAX, INT32_MAX, 1, 1u << 20, 1u << 30};
    int places = 1 + (int)(kvs_random_bits(key, 0) % 4);
    for (int i = 0; i < places; i++) {
        uint64_t how = kvs_random_bits(key, (uint64_t)(2 * i + 1));
        size_t at = kvs_random_bits(key, (uint64_t)(2 * i + 2)) % (bytes - 8);
        if (how % 3 == 0) content[at] ^= (unsigned char)(1u << (how >> 8) % 8);
        if (how % 3 == 1) content[at] = (unsigned char)(how >> 8);
        if (how % 3 == 2) memcpy(content + at, &words[(how >> 8) % 8], (how >> 16) % 2 ? 4 : 8);
    }
}

static void damaged_traces_are_read_or_refused(void **state) {
    int deflate = *(const int *)*state;
    char seed[256], path[256];
    make_seed(path_of("seed.h5", seed), deflate);
    size_t bytes;
    unsigned char *good = load(seed, &bytes), *bad = malloc(bytes);
    double started = kvs_seconds(), limit = getenv("KVS_FUZZ_SECONDS") ? atof(getenv("KVS_FUZZ_SECONDS")) : 3;
    int refused = 0, read = 0, hurt = 0;
    for (uint64_t i = 0; i < 1000000 && kvs_seconds() - started < limit; i++) {
        memcpy(bad, good, bytes);
        damage(bad, bytes, kvs_random_key(7, i));
        store(path_of("damaged.h5", path), bad, bytes);
        int result = outcome(path);
        refused += result == 3;
        read += result == 0;
        if (result == 0 || result == 3) continue;
        hurt++;
        print_error("damage %llu: %d\n", (unsigned long long)i, result);
        char keep[256], name[64];
        snprintf(name, sizeof name, "hurt-%d-%llu.h5", deflate, (unsigned long long)i);
        if (getenv("KVS_FUZZ_KEEP")) rename(path, path_of(name, keep));
    }
    print_message("# deflate %d: %d refused, %d read, %d hurt\n", deflate, refused, read, hurt);
    assert_int_equal(hurt, 0);
    assert_true(refused > 10); /* the damage does reach what is checked */
    free(good);
    free(bad);
}

int main(void) {
    static int none = 0, deflate = 6;
    if (mkdtemp(folder) == NULL) return 1;
    const struct CMUnitTest tests[] = {
        {"plain traces", damaged_traces_are_read_or_refused, NULL, NULL, &none},
        {"compressed traces", damaged_traces_are_read_or_refused, NULL, NULL, &deflate},
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char path[256];
    unlink(path_of("seed.h5", path));
    unlink(path_of("damaged.h5", path));
    rmdir(folder);
    return failed;
}
