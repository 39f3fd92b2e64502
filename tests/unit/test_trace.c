/* test_trace.c: does a trace give back what was written, and refuse what it must? */
#include <math.h>
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

#include "core/half.h"
#include "core/random.h"
#include "traces/trace.h"

enum { LAYERS = 2, QUERY_HEADS = 4, KV_HEADS = 2, DIM = 12, TOKENS = 300, QUERIES = 5 };

static char folder[] = "/tmp/kvscope-trace-XXXXXX";
static char path[256];
static const int32_t positions[QUERIES] = {0, 7, 130, 131, TOKENS - 1};

static const kvs_trace_header header = {.model_name = "tiny \xc3\xa9",
                                        .model_family = "none",
                                        .layers = LAYERS,
                                        .query_heads = QUERY_HEADS,
                                        .kv_heads = KV_HEADS,
                                        .head_dim = DIM,
                                        .softmax_scale = 0.3,
                                        .causal = 1,
                                        .rope_applied = 1,
                                        .rope_theta = 1e4,
                                        .rope_scaling = "{\"factor\": 8}",
                                        .rope_interleaved = 1,
                                        .rotary_dim = 6,
                                        .source_dtype = "bfloat16",
                                        .recorder = "test",
                                        .created_utc = "2026-01-01T00:00:00Z",
                                        .license = "CC0-1.0"};

/* What is written at one place: any function of the place would do. */
static float value_at(int sequence, kvs_tensor tensor, int layer, int head, int row, int channel) {
    uint64_t place =
        (((((uint64_t)sequence * 3 + tensor) * 8 + (uint64_t)layer) * 8 + (uint64_t)head) * 1024 + (uint64_t)row) * 64;
    return (kvs_random_unit(5, place + (uint64_t)channel) - 0.5f) * 100;
}

static void fill(float *values, int sequence, kvs_tensor tensor, int layer, int head, int rows) {
    for (int i = 0; i < rows * DIM; i++) values[i] = value_at(sequence, tensor, layer, head, i / DIM, i % DIM);
}

static const kvs_sequence sequences[] = {
    {.tokens = TOKENS, .prompt_tokens = 20, .queries = QUERIES, .task = "one"},
    {.tokens = 17, .prompt_tokens = 17, .queries = 0, .task = ""},
};

static kvs_status write_head(kvs_trace_writer *writer, int s, kvs_tensor tensor, int layer, int head,
                             kvs_error *error) {
    float values[TOKENS * DIM];
    int rows = tensor == KVS_TENSOR_Q ? sequences[s].queries : sequences[s].tokens;
    fill(values, s, tensor, layer, head, rows);
    for (int first = 0; first < rows; first += 130) { /* pieces that do not fit the chunks */
        int count = rows - first < 130 ? rows - first : 130;
        KVS_TRY(kvs_trace_write_rows(writer, tensor, layer, head, first, count, values + first * DIM, error));
    }
    return KVS_OK;
}

static kvs_status write_all(kvs_trace_writer *writer, kvs_error *error) {
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++) ids[i] = 7 * i - 3;
    for (int s = 0; s < 2; s++) {
        KVS_TRY(kvs_trace_add_sequence(writer, &sequences[s], s == 0 ? positions : NULL, s == 0 ? ids : NULL, error));
        for (int layer = 0; layer < LAYERS; layer++) {
            for (int h = 0; h < KV_HEADS; h++) KVS_TRY(write_head(writer, s, KVS_TENSOR_K, layer, h, error));
            for (int h = 0; h < KV_HEADS; h++) KVS_TRY(write_head(writer, s, KVS_TENSOR_V, layer, h, error));
            for (int h = 0; s == 0 && h < QUERY_HEADS; h++)
                KVS_TRY(write_head(writer, s, KVS_TENSOR_Q, layer, h, error));
        }
    }
    return KVS_OK;
}

static kvs_status write_trace(kvs_trace_options options, kvs_error *error) {
    kvs_trace_writer *writer;
    KVS_TRY(kvs_trace_create(path, &header, options, &writer, error));
    kvs_status status = write_all(writer, error);
    if (status == KVS_OK) return kvs_trace_writer_finish(writer, error);
    kvs_trace_writer_abandon(writer);
    return status;
}

static float stored(kvs_element element, float x) {
    if (element == KVS_ELEMENT_BINARY32) return x;
    return element == KVS_ELEMENT_BINARY16 ? kvs_round_to_half(x) : kvs_bfloat_to_float(kvs_float_to_bfloat(x));
}

static void expect_head(kvs_trace *trace, kvs_element element, int s, kvs_tensor tensor, int layer, int head) {
    kvs_error error;
    float values[TOKENS * DIM], wanted[TOKENS * DIM];
    int rows = tensor == KVS_TENSOR_Q ? QUERIES : sequences[s].tokens;
    assert_int_equal(kvs_trace_read_head(trace, s, tensor, layer, head, 0, values, &error), KVS_OK);
    fill(wanted, s, tensor, layer, head, rows);
    for (int i = 0; i < rows * DIM; i++) assert_true(values[i] == stored(element, wanted[i]));
}

static void expect_header(const kvs_trace *trace) {
    const kvs_trace_header *h = kvs_trace_header_of(trace);
    assert_string_equal(h->model_name, header.model_name);
    assert_string_equal(h->rope_scaling, header.rope_scaling);
    assert_string_equal(h->source_dtype, "bfloat16");
    assert_string_equal(h->license, "CC0-1.0");
    assert_int_equal(h->layers, LAYERS);
    assert_int_equal(h->query_heads, QUERY_HEADS);
    assert_int_equal(h->kv_heads, KV_HEADS);
    assert_int_equal(h->head_dim, DIM);
    assert_true(h->softmax_scale == 0.3 && h->rope_theta == 1e4);
    assert_int_equal(h->rope_interleaved, 1);
    assert_int_equal(h->rotary_dim, 6);
}

static void what_is_written_is_read(void **state) {
    kvs_trace_options options = *(const kvs_trace_options *)*state;
    kvs_error error;
    kvs_trace *trace;
    int32_t numbers[TOKENS];
    assert_int_equal(write_trace(options, &error), KVS_OK);
    assert_int_equal(kvs_trace_open(path, &trace, &error), KVS_OK);
    expect_header(trace);
    assert_int_equal(kvs_trace_sequences(trace), 2);
    const kvs_sequence *s = kvs_trace_sequence(trace, 0);
    assert_int_equal(s->tokens, TOKENS);
    assert_int_equal(s->prompt_tokens, 20);
    assert_int_equal(s->queries, QUERIES);
    assert_int_equal(s->k_element, options.element);
    assert_string_equal(s->task, "one");
    assert_true(s->has_token_ids && s->source_tokens == 0 && !kvs_trace_sequence(trace, 1)->has_token_ids);
    assert_int_equal(kvs_trace_read_query_pos(trace, 0, numbers, &error), KVS_OK);
    assert_memory_equal(numbers, positions, sizeof positions);
    assert_int_equal(kvs_trace_read_token_ids(trace, 0, numbers, &error), KVS_OK);
    for (int i = 0; i < TOKENS; i++) assert_int_equal(numbers[i], 7 * i - 3);
    for (uint64_t i = 0; i < 60; i++) { /* heads in any order, sequences mixed */
        uint64_t draw = kvs_random_bits(9, i);
        int sequence = (int)(draw % 2);
        kvs_tensor tensor = (kvs_tensor)((draw >> 8) % (sequence ? 2 : 3));
        int heads = tensor == KVS_TENSOR_Q ? QUERY_HEADS : KV_HEADS;
        expect_head(trace, options.element, sequence, tensor, (int)((draw >> 16) % LAYERS),
                    (int)((draw >> 24) % (uint64_t)heads));
    }
    float none[1];
    assert_int_equal(kvs_trace_read_head(trace, 1, KVS_TENSOR_Q, 0, 0, 0, none, &error), KVS_INPUT);
    assert_string_equal(error.object, "/sequences/000001/q");
    kvs_trace_close(trace);
}

static void threads_may_read_one_trace(void **state) {
    (void)state;
    kvs_error error;
    kvs_trace *trace;
    int wrong = 0;
    assert_int_equal(write_trace((kvs_trace_options){KVS_ELEMENT_BINARY16, 1}, &error), KVS_OK);
    assert_int_equal(kvs_trace_open(path, &trace, &error), KVS_OK);
#pragma omp parallel for num_threads(4) reduction(+ : wrong)
    for (int i = 0; i < 200; i++) {
        float values[TOKENS * DIM];
        int s = i % 2, layer = i / 2 % LAYERS, head = i / 4 % KV_HEADS;
        wrong += kvs_trace_read_head(trace, s, KVS_TENSOR_V, layer, head, 0, values, NULL) != KVS_OK;
        wrong += values[DIM + 1] != kvs_round_to_half(value_at(s, KVS_TENSOR_V, layer, head, 1, 1));
    }
    assert_int_equal(wrong, 0);
    kvs_trace_close(trace);
}

/* A trace of one head of four tokens and no queries, of which one value is `bad`. */
static kvs_status write_one(kvs_element element, float bad, kvs_error *error) {
    kvs_trace_writer *writer;
    kvs_trace_header small = header;
    small.layers = small.kv_heads = small.query_heads = 1;
    kvs_sequence sequence = {.tokens = 4};
    float values[4 * DIM] = {0};
    KVS_TRY(kvs_trace_create(path, &small, (kvs_trace_options){element, 0}, &writer, error));
    kvs_status status = kvs_trace_add_sequence(writer, &sequence, NULL, NULL, error);
    if (status == KVS_OK) status = kvs_trace_write_rows(writer, KVS_TENSOR_K, 0, 0, 0, 4, values, error);
    values[2 * DIM + 5] = bad;
    if (status == KVS_OK) status = kvs_trace_write_rows(writer, KVS_TENSOR_V, 0, 0, 0, 4, values, error);
    if (status == KVS_OK) return kvs_trace_writer_finish(writer, error);
    kvs_trace_writer_abandon(writer);
    return status;
}

static void a_writer_refuses_what_its_elements_cannot_hold(void **state) {
    (void)state;
    static const struct {
        kvs_element element;
        float value;
        kvs_status status;
    } cases[] = {
        {KVS_ELEMENT_BINARY16, 65504.0f, KVS_OK},     {KVS_ELEMENT_BINARY16, 65520.0f, KVS_INPUT},
        {KVS_ELEMENT_BINARY16, NAN, KVS_INPUT},       {KVS_ELEMENT_BINARY32, 3e38f, KVS_OK},
        {KVS_ELEMENT_BINARY32, -INFINITY, KVS_INPUT}, {KVS_ELEMENT_BFLOAT16, 3e38f, KVS_OK},
        {KVS_ELEMENT_BFLOAT16, 3.4e38f, KVS_INPUT},   {KVS_ELEMENT_BFLOAT16, INFINITY, KVS_INPUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kvs_error error;
        unlink(path);
        assert_int_equal(write_one(cases[i].element, cases[i].value, &error), cases[i].status);
        assert_int_equal(access(path, F_OK) == 0, cases[i].status == KVS_OK);
        if (cases[i].status == KVS_OK) continue;
        assert_string_equal(error.object, "/sequences/000000/v");
        assert_non_null(strstr(error.rule, "[0, 0, 2, 5]"));
    }
}

static void a_writer_refuses_what_a_reader_would(void **state) {
    (void)state;
    kvs_error error;
    kvs_trace_writer *writer;
    kvs_trace_options options = {KVS_ELEMENT_BINARY16, 0};
    kvs_trace_header wrong = header;
    unlink(path);
    wrong.query_heads = 3;
    assert_int_equal(kvs_trace_create(path, &wrong, options, &writer, &error), KVS_INPUT);
    wrong = header;
    wrong.softmax_scale = NAN;
    assert_int_equal(kvs_trace_create(path, &wrong, options, &writer, &error), KVS_INPUT);
    static const int32_t backwards[] = {3, 2};
    kvs_sequence sequence = {.tokens = 4, .queries = 2};
    assert_int_equal(kvs_trace_create(path, &header, options, &writer, &error), KVS_OK);
    assert_int_equal(kvs_trace_add_sequence(writer, &sequence, backwards, NULL, &error), KVS_INPUT);
    assert_string_equal(error.object, "/sequences/000000/query_pos");
    kvs_trace_writer_abandon(writer);
    assert_int_equal(kvs_trace_create(path, &header, options, &writer, &error), KVS_OK);
    sequence.queries = 0;
    assert_int_equal(kvs_trace_add_sequence(writer, &sequence, NULL, NULL, &error), KVS_OK);
    assert_int_equal(kvs_trace_writer_finish(writer, &error), KVS_INPUT); /* nothing was written to it */
    assert_non_null(strstr(error.rule, "rows were not written"));
    assert_int_equal(access(path, F_OK), -1);
}

/* Writes under a limit on the size of files, as a full disk would do, in a process of its own: HDF5 must survive its
 * own exit handlers, and print nothing. Returns the status, or 128 + signal. */
static int write_within(rlim_t bytes, const char *printed) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
        signal(SIGXFSZ, SIG_IGN);
        if (freopen(printed, "w", stderr) == NULL) _exit(99);
        struct rlimit limit = {bytes, bytes};
        setrlimit(RLIMIT_FSIZE, &limit);
        kvs_error error = {.status = KVS_OK};
        kvs_status status = write_trace((kvs_trace_options){KVS_ELEMENT_BINARY32, 0}, &error);
        exit(status == KVS_INPUT && strstr(error.rule, "cannot be written") == NULL ? 98 : (int)status);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void a_full_disk_leaves_no_file(void **state) {
    (void)state;
    char printed[300];
    snprintf(printed, sizeof printed, "%s/stderr", folder);
    unlink(path);
    assert_int_equal(write_within(1 << 20, printed), 0);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    long whole = ftell(file);
    fclose(file);
    for (long limit = 0; limit < whole; limit += whole / 40) {
        unlink(path);
        assert_int_equal(write_within((rlim_t)limit, printed), KVS_INPUT);
        assert_int_equal(access(path, F_OK), -1);
        file = fopen(printed, "rb");
        assert_int_equal(fgetc(file), EOF);
        fclose(file);
    }
    unlink(printed);
}

int main(void) {
    static kvs_trace_options options[] = {
        {KVS_ELEMENT_BINARY16, 0}, {KVS_ELEMENT_BINARY16, 4}, {KVS_ELEMENT_BINARY32, 0},
        {KVS_ELEMENT_BINARY32, 1}, {KVS_ELEMENT_BFLOAT16, 0}, {KVS_ELEMENT_BFLOAT16, 9},
    };
    if (mkdtemp(folder) == NULL) return 1;
    snprintf(path, sizeof path, "%s/trace.h5", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_leaves_no_file), /* first: it forks, which threads would not survive */
        {"binary16 round trip", what_is_written_is_read, NULL, NULL, &options[0]},
        {"binary16 round trip, deflate", what_is_written_is_read, NULL, NULL, &options[1]},
        {"binary32 round trip", what_is_written_is_read, NULL, NULL, &options[2]},
        {"binary32 round trip, deflate", what_is_written_is_read, NULL, NULL, &options[3]},
        {"bfloat16 round trip", what_is_written_is_read, NULL, NULL, &options[4]},
        {"bfloat16 round trip, deflate", what_is_written_is_read, NULL, NULL, &options[5]},
        cmocka_unit_test(threads_may_read_one_trace),
        cmocka_unit_test(a_writer_refuses_what_its_elements_cannot_hold),
        cmocka_unit_test(a_writer_refuses_what_a_reader_would),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    failed |= rmdir(folder); /* nothing else was left behind */
    return failed;
}
