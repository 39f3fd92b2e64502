/* test_scan.c: are generated traces what they promise, and statistics of traces what brute force finds? */
#include <math.h>
#include <setjmp.h>
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

#include "core/file.h"
#include "core/half.h"
#include "traces/generate.h"
#include "traces/scan.h"

static char folder[] = "/tmp/kvscope-scan-XXXXXX";
static char path[256];

static const kvs_generate usual = {.layers = 2,
                                   .query_heads = 4,
                                   .kv_heads = 2,
                                   .head_dim = 64,
                                   .sequences = 2,
                                   .tokens = 3000,
                                   .prompt_tokens = 2500,
                                   .queries = 9,
                                   .first_query = 1000,
                                   .outlier_pairs = 3,
                                   .outlier_scale = 12,
                                   .threads = 2,
                                   .quiet = 1};

static kvs_trace *generate(const kvs_generate *g) {
    kvs_error error;
    kvs_trace *trace;
    assert_int_equal(kvs_trace_generate(path, g, &error), KVS_OK);
    assert_int_equal(kvs_trace_open(path, &trace, &error), KVS_OK);
    return trace;
}

static void the_same_bytes_whatever_the_threads(void **state) {
    (void)state;
    char first[65], digest[65];
    static const int threads[] = {1, 2, 3, 8};
    for (int i = 0; i < 4; i++) {
        kvs_generate g = usual;
        g.threads = threads[i];
        kvs_error error;
        assert_int_equal(kvs_trace_generate(path, &g, &error), KVS_OK);
        assert_int_equal(kvs_file_sha256(path, i == 0 ? first : digest, &error), KVS_OK);
        if (i > 0) assert_string_equal(digest, first);
    }
    kvs_generate other = usual;
    other.seed = 1;
    kvs_error error;
    assert_int_equal(kvs_trace_generate(path, &other, &error), KVS_OK);
    assert_int_equal(kvs_file_sha256(path, digest, &error), KVS_OK);
    assert_string_not_equal(digest, first);
}

static void queries_are_spread_evenly(void **state) {
    (void)state;
    kvs_error error;
    int32_t positions[9];
    kvs_trace *trace = generate(&usual);
    assert_int_equal(kvs_trace_read_query_pos(trace, 1, positions, &error), KVS_OK);
    assert_int_equal(positions[0], 1000);
    assert_int_equal(positions[8], 2999);
    for (int i = 1; i < 9; i++) assert_in_range(positions[i] - positions[i - 1], 249, 250);
    assert_int_equal(kvs_trace_sequence(trace, 1)->prompt_tokens, 2500);
    kvs_trace_close(trace);
}

/* Sums every value in binary64, one head after the other. */
static void brute_force(kvs_trace *trace, kvs_tensor tensor, int layer, int head, int channel, kvs_channel *found) {
    static float values[3000 * 64];
    kvs_error error;
    double sum = 0;
    int count = 0;
    *found = (kvs_channel){0, INFINITY, -INFINITY};
    for (int s = 0; s < kvs_trace_sequences(trace); s++) {
        assert_int_equal(kvs_trace_read_head(trace, s, tensor, layer, head, 0, values, &error), KVS_OK);
        for (int t = 0; t < kvs_trace_sequence(trace, s)->tokens; t++, count++) {
            float x = values[t * 64 + channel];
            sum += fabs((double)x);
            found->low = fminf(found->low, x);
            found->high = fmaxf(found->high, x);
        }
    }
    found->magnitude = sum / count;
}

static void channels_equal_brute_force(void **state) {
    (void)state;
    enum { COUNT = 2 * 2 * 64 };
    kvs_channel one[2][COUNT], many[2][COUNT], wanted;
    kvs_error error;
    kvs_trace *trace = generate(&usual);
    assert_int_equal(kvs_trace_channels(trace, 1, 1, one[0], one[1], &error), KVS_OK);
    assert_int_equal(kvs_trace_channels(trace, 4, 1, many[0], many[1], &error), KVS_OK);
    assert_memory_equal(one, many, sizeof one);
    for (int i = 0; i < COUNT; i += 7)
        for (kvs_tensor t = KVS_TENSOR_K; t <= KVS_TENSOR_V; t++) {
            brute_force(trace, t, i / 128, i / 64 % 2, i % 64, &wanted);
            assert_true(one[t][i].low == wanted.low && one[t][i].high == wanted.high);
            assert_true(wanted.magnitude > 0.01);
            assert_true(fabs(one[t][i].magnitude - wanted.magnitude) <= 1e-5 * wanted.magnitude);
        }
    kvs_trace_close(trace);
}

/* The three pairs (i, i + 32) of each K head stand out in mean and range; V has no such channels. */
static void outliers_come_in_pairs(void **state) {
    (void)state;
    kvs_channel k[2 * 2 * 64], v[2 * 2 * 64];
    kvs_error error;
    kvs_trace *trace = generate(&usual);
    assert_int_equal(kvs_trace_channels(trace, 2, 1, k, v, &error), KVS_OK);
    for (int head = 0; head < 4; head++) {
        int large = 0;
        for (int c = 0; c < 64; c++) {
            const kvs_channel *channel = &k[head * 64 + c], *partner = &k[head * 64 + (c + 32) % 64];
            int is_large = channel->magnitude > 6;
            large += is_large;
            assert_int_equal(is_large, partner->magnitude > 6);
            if (is_large) assert_true((double)channel->high - (double)channel->low > 12);
            assert_true(v[head * 64 + c].magnitude < 6);
        }
        assert_int_equal(large, 6);
    }
    kvs_trace_close(trace);
}

/* Attention over a generated head, as a query at the last position computes it. */
static double weight_of_first_tokens(kvs_trace *trace, int tokens, int dim) {
    float *keys = malloc(sizeof *keys * (size_t)(tokens * dim)), query[9 * 64];
    double *logits = malloc(sizeof *logits * (size_t)tokens), most = -INFINITY, all = 0, first = 0;
    kvs_error error;
    assert_int_equal(kvs_trace_read_head(trace, 0, KVS_TENSOR_K, 0, 0, 0, keys, &error), KVS_OK);
    assert_int_equal(kvs_trace_read_head(trace, 0, KVS_TENSOR_Q, 0, 0, 0, query, &error), KVS_OK);
    for (int t = 0; t < tokens; t++) {
        double dot = 0;
        for (int c = 0; c < dim; c++) dot += (double)query[8 * dim + c] * (double)keys[t * dim + c];
        logits[t] = dot * kvs_trace_header_of(trace)->softmax_scale;
        most = fmax(most, logits[t]);
    }
    for (int t = 0; t < tokens; t++) {
        double weight = exp(logits[t] - most);
        all += weight;
        first += t < 4 ? weight : 0;
    }
    free(keys);
    free(logits);
    return first / all;
}

static void the_first_tokens_are_sinks(void **state) {
    (void)state;
    kvs_generate g = usual;
    kvs_trace *trace = generate(&g);
    double weight = weight_of_first_tokens(trace, g.tokens, g.head_dim);
    print_message("# weight of the 4 sinks among %d tokens: %.3g\n", g.tokens, weight);
    assert_true(weight > 10 * 4.0 / g.tokens);
    kvs_trace_close(trace);
}

static void wrong_numbers_are_usage(void **state) {
    (void)state;
    kvs_error error;
    kvs_generate wrong[4] = {usual, usual, usual, usual};
    wrong[0].query_heads = 3;
    wrong[1].prompt_tokens = 3001;
    wrong[2].queries = 2001;
    wrong[3].outlier_pairs = 33;
    unlink(path);
    for (int i = 0; i < 4; i++) assert_int_equal(kvs_trace_generate(path, &wrong[i], &error), KVS_USAGE);
    assert_int_equal(access(path, F_OK), -1);
}

/* Puts a NaN into the raw binary32 words of the file where `good` stands; both must be there exactly once. */
static void poison(float good) {
    static unsigned char content[8 << 20];
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    size_t bytes = fread(content, 1, sizeof content, file), hits = 0, at = 0;
    for (size_t i = 0; i + 4 <= bytes; i++)
        if (memcmp(content + i, &good, 4) == 0) hits++, at = i;
    assert_int_equal(hits, 1);
    float bad = NAN;
    fseek(file, (long)at, SEEK_SET);
    assert_int_equal(fwrite(&bad, 4, 1, file), 1);
    fclose(file);
}

static void the_first_fault_is_the_same_whatever_the_threads(void **state) {
    (void)state;
    static float values[3000 * 64];
    kvs_generate g = usual;
    g.options.element = KVS_ELEMENT_BINARY32;
    kvs_error error;
    kvs_trace *trace = generate(&g);
    assert_int_equal(kvs_trace_read_head(trace, 1, KVS_TENSOR_K, 1, 0, 0, values, &error), KVS_OK);
    float first = values[17 * 64 + 3];
    assert_int_equal(kvs_trace_read_head(trace, 0, KVS_TENSOR_V, 0, 1, 0, values, &error), KVS_OK);
    float second = values[5];
    kvs_trace_close(trace);
    poison(first);
    poison(second);
    for (int threads = 1; threads <= 8; threads *= 2) {
        assert_int_equal(kvs_trace_open(path, &trace, &error), KVS_OK); /* which looks at no values */
        kvs_scan scan = {.tensors = 7, .threads = threads, .quiet = 1};
        assert_int_equal(kvs_trace_scan(trace, &scan, &error), KVS_INPUT);
        assert_string_equal(error.object, "/sequences/000001/k");
        assert_non_null(strstr(error.rule, "[1, 0, 17, 3]"));
        assert_int_equal(kvs_trace_read_head(trace, 1, KVS_TENSOR_K, 1, 0, 1, values, &error), KVS_OK);
        assert_true(isnan(values[17 * 64 + 3]));
        kvs_trace_close(trace);
    }
}

/* Kilobytes of memory that a child needs to generate and scan a trace. */
static long memory_of(const kvs_generate *g) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        kvs_trace *trace;
        kvs_scan scan = {.tensors = 7, .threads = 2, .quiet = 1};
        int good = kvs_trace_generate(path, g, NULL) == KVS_OK && kvs_trace_open(path, &trace, NULL) == KVS_OK &&
                   kvs_trace_scan(trace, &scan, NULL) == KVS_OK;
        _exit(good ? 0 : 1);
    }
    int status;
    struct rusage usage;
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    assert_int_equal(status, 0);
    return usage.ru_maxrss;
}

static void memory_grows_with_a_head_and_not_with_the_file(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* it multiplies memory */
#endif
    kvs_generate g = usual;
    g.tokens = 4096;
    g.layers = 1;
    long small = memory_of(&g);
    g.layers = 16;
    long large = memory_of(&g);
    print_message("# 4 MB trace: %ld kB; 64 MB trace: %ld kB\n", small, large);
    assert_true(large < small + 8000);
}

int main(void) {
    if (mkdtemp(folder) == NULL) return 1;
    snprintf(path, sizeof path, "%s/trace.h5", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_grows_with_a_head_and_not_with_the_file),
        cmocka_unit_test(the_same_bytes_whatever_the_threads),
        cmocka_unit_test(queries_are_spread_evenly),
        cmocka_unit_test(channels_equal_brute_force),
        cmocka_unit_test(outliers_come_in_pairs),
        cmocka_unit_test(the_first_tokens_are_sinks),
        cmocka_unit_test(wrong_numbers_are_usage),
        cmocka_unit_test(the_first_fault_is_the_same_whatever_the_threads),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    failed |= rmdir(folder);
    return failed;
}
