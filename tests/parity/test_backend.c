/* test_backend.c: does a replay on a device give the codes and the errors of the CPU?
 *
 * The same units go through `cpu` and `simt`, which is the kernels of `cuda` on the host; where there is a GPU, through
 * `cuda` as well. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/half.h"
#include "core/random.h"
#include "sim/device_unit.h"
#include "sim/replay.h"
#include "traces/generate.h"

#define OK(expression)                                                                                                 \
    do {                                                                                                               \
        kvs_status ok_status = (expression);                                                                           \
        if (ok_status != KVS_OK) print_message("%s: %s: %s\n", error.file, error.object, error.rule);                  \
        assert_int_equal(ok_status, KVS_OK);                                                                           \
    } while (0)

enum { MOST_SCHEMES = 6 };

static const kvs_backend *device; /* the back end under test */

typedef struct shape {
    int head_dim, group, tokens, prompt, every, causal, prompt_exact, binary16;
    float size; /* of queries: how far attention is from uniform */
    const char *schemes[MOST_SCHEMES];
} shape;

static const shape shapes[] = {
    {64,
     2,
     300,
     40,
     7,
     1,
     0,
     1,
     1.0f,
     {"fp16", "kitty:page=32,sink=5,window=20,boost=0.25", "int:bits=4,window=7", "kivi",
      "kitty:page=64,group=32,boost=0.125"}},
    {128,
     1,
     270,
     150,
     9,
     1,
     1,
     1,
     0.3f,
     {"kitty-pro:sink=2,window=16,rank=variance", "int:bits=8,sink=3",
      "kitty:page=48,boost=1,v_window=token,v_group=32"}},
    {96, 3, 150, 10, 11, 1, 0, 0, 1.0f, {"fp16", "kitty:page=32,sink=4,window=8,rank=range", "int:bits=2"}},
    {256, 1, 140, 140, 13, 0, 0, 0, 0.5f, {"kitty:page=16,rank=random,sink=0", "int:bits=4"}},
    {64, 1, 200, 0, 5, 1, 0, 1, 60.0f, {"int:bits=2", "kitty:page=16,sink=1,window=0,boost=0"}}, /* e^x overflows */
    {64,
     16,
     60,
     0,
     3,
     1,
     0,
     1,
     1.0f,
     {"kitty:page=64", "int", "kivi:group=32,residual=32,sink=2,k_bits=8,v_bits=4"}}, /* nothing in a page */
    {64, 2, 80, 0, 0, 1, 0, 0, 1.0f, {"kitty:page=16,sink=3,window=9", "fp16"}},      /* no queries */
};

/* --- a unit ---------------------------------------------------------------------------------------------------------
 */

typedef struct setup {
    const shape *s;
    kvs_scheme *schemes[MOST_SCHEMES];
    kvs_pass pass;
    kvs_unit unit;
    float *values;
    int32_t *positions;
} setup;

static void fill(uint64_t key, int rows, const shape *s, float size, float *to) {
    for (int t = 0; t < rows; t++)
        for (int d = 0; d < s->head_dim; d++) {
            uint64_t i = (uint64_t)(t * s->head_dim + d);
            float x = kvs_random_unit(key, i) + kvs_random_unit(key + 1, i) - 1.0f;
            if (d % 9 == 4) x = x * 4.0f + 2.0f;
            to[i] = s->binary16 ? kvs_round_to_half(x * size) : x * size;
        }
}

static void open_setup(setup *u, const shape *s) {
    kvs_error error;
    *u = (setup){.s = s};
    size_t head = (size_t)s->tokens * (size_t)s->head_dim;
    int queries = s->every > 0 ? (s->tokens + s->every - 1) / s->every : 0;
    size_t asked = (size_t)queries * (size_t)s->head_dim;
    u->values = malloc((2 * head + asked * (size_t)s->group) * sizeof(float));
    u->positions = calloc((size_t)queries + 1, sizeof *u->positions);
    assert_true(u->values != NULL && u->positions != NULL);
    fill(11, s->tokens, s, 1.0f, u->values);
    fill(22, s->tokens, s, 1.0f, u->values + head);
    for (int h = 0; h < s->group; h++)
        fill(33 + 7 * (uint64_t)h, queries, s, s->size, u->values + 2 * head + (size_t)h * asked);
    for (int i = 0; i < queries; i++) u->positions[i] = i * s->every;
    int count = 0;
    for (; count < MOST_SCHEMES && s->schemes[count] != NULL; count++)
        OK(kvs_scheme_open(s->schemes[count], s->head_dim, &u->schemes[count], &error));
    u->pass = (kvs_pass){.schemes = (const kvs_scheme *const *)u->schemes,
                         .schemes_count = count,
                         .head_dim = s->head_dim,
                         .group = s->group,
                         .softmax_scale = 1.0 / sqrt(s->head_dim),
                         .causal = s->causal,
                         .prompt_exact = s->prompt_exact,
                         .binary16 = s->binary16,
                         .inner_threads = 1};
    u->unit = (kvs_unit){.place = {.seed = 5, .sequence = 1, .layer = 2, .kv_head = 3},
                         .path = "test",
                         .tokens = s->tokens,
                         .prompt_tokens = s->prompt,
                         .queries = queries,
                         .k = u->values,
                         .v = u->values + head,
                         .q = queries > 0 ? u->values + 2 * head : NULL,
                         .q_stride = (int64_t)asked,
                         .positions = u->positions};
}

static void close_setup(setup *u) {
    for (int i = 0; i < u->pass.schemes_count; i++) kvs_scheme_close(u->schemes[i]);
    free(u->values);
    free(u->positions);
}

/* --- errors ---------------------------------------------------------------------------------------------------------
 */

static void compute(setup *u, const kvs_backend *backend, kvs_unit_errors *errors) {
    kvs_error error;
    void *state;
    for (int i = 0; i < u->pass.schemes_count; i++) {
        OK(kvs_unit_errors_alloc((int64_t)u->unit.queries * u->pass.group, &errors[i], &error));
        if (backend->accept != NULL) OK(backend->accept(u->schemes[i], &error));
    }
    OK(backend->open(&u->pass, &state, &error));
    OK(backend->unit(state, &u->unit, errors, &error));
    backend->close(state);
}

/* What replay promises of --backend cuda: each sample's errors within 1e-4 of the CPU's, beyond what rounding the
 * logits to binary32 costs anyway. */
static void assert_near(double got, double expected, double absolute, const char *what) {
    if (fabs(got - expected) <= 1e-4 * fabs(expected) + absolute) return;
    print_message("%s: %.9g, and the CPU has %.9g\n", what, got, expected);
    fail();
}

static void compare_errors(const setup *u, const kvs_unit_errors *cpu, const kvs_unit_errors *found) {
    int samples = u->unit.queries * u->pass.group, other_tops = 0;
    for (int i = 0; i < samples; i++) {
        assert_near((double)found->rel_l2[i], (double)cpu->rel_l2[i], 1e-6, "rel_l2");
        assert_near((double)found->logit_mse[i], (double)cpu->logit_mse[i], 1e-10, "logit_mse");
        assert_near((double)found->attention_kl[i], (double)cpu->attention_kl[i], 2e-7, "attention_kl");
        assert_near(found->output_energy[i], cpu->output_energy[i], 0.0, "output_energy");
        assert_near(found->output_error[i], cpu->output_error[i], 1e-11, "output_error");
        other_tops += found->top1[i] != cpu->top1[i] || found->top8[i] != cpu->top8[i];
    }
    assert_true(other_tops <= samples / 50); /* logits that are equal but for rounding may change places */
    const kvs_stored_error *stored[2][2] = {{&cpu->key, &found->key}, {&cpu->value, &found->value}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stored[i][0]->elements, stored[i][1]->elements);
        assert_near(stored[i][1]->error, stored[i][0]->error, 0.0, "stored error");
        assert_near(stored[i][1]->energy, stored[i][0]->energy, 0.0, "stored energy");
    }
}

static void errors_are_those_of_the_cpu(void **unused) {
    (void)unused;
    double largest = 0, total = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        setup u;
        kvs_unit_errors cpu[MOST_SCHEMES], found[MOST_SCHEMES];
        open_setup(&u, &shapes[i]);
        compute(&u, kvs_backends[0], cpu);
        compute(&u, device, found);
        for (int s = 0; s < u.pass.schemes_count; s++) {
            compare_errors(&u, &cpu[s], &found[s]);
            for (int j = 0; j < u.unit.queries * u.pass.group; j++) {
                total += (double)cpu[s].rel_l2[j];
                largest = fmax(largest, (double)cpu[s].attention_kl[j]);
            }
            kvs_unit_errors_free(&cpu[s]);
            kvs_unit_errors_free(&found[s]);
        }
        close_setup(&u);
    }
    assert_true(total > 10.0 && largest > 20.0); /* there were errors to compare, and rows with a new winner */
}

/* --- codes ----------------------------------------------------------------------------------------------------------
 */

typedef struct coded {
    uint8_t *codes, *ranks;
    float *scales, *zeros, *values;
} coded;

static coded alloc_coded(size_t elements) {
    coded c = {calloc(elements, 1), calloc(elements, 1), calloc(elements, sizeof(float)),
               calloc(elements, sizeof(float)), calloc(elements, sizeof(float))};
    assert_true(c.codes != NULL && c.ranks != NULL && c.scales != NULL && c.zeros != NULL && c.values != NULL);
    return c;
}

static void free_coded(coded *c) {
    free(c->codes);
    free(c->ranks);
    free(c->scales);
    free(c->zeros);
    free(c->values);
}

/* The codec's own result for the stored tokens. */
static coded code_on_cpu(const setup *u, const kvs_store *store, const float *x, int64_t tokens) {
    size_t dim = (size_t)u->s->head_dim, first = (size_t)store->window.sink_tokens * dim;
    coded c = alloc_coded((size_t)u->s->tokens * dim + 1);
    float *scratch = malloc((kvs_store_scratch_floats(store) + 1) * sizeof *scratch);
    float *half = malloc((size_t)u->s->tokens * dim * sizeof *half);
    assert_true(scratch != NULL && half != NULL);
    for (size_t i = 0; i < (size_t)u->s->tokens * dim; i++) half[i] = kvs_round_to_half(x[i]);
    kvs_page_context context = {.place = u->unit.place};
    store->codec->pages(store, &context, tokens / store->window.page_tokens, half + first,
                        (kvs_coded){c.values, c.codes, c.scales, c.zeros, c.ranks}, scratch);
    free(scratch);
    free(half);
    return c;
}

/* The same out of the packed pages of the device, block after block. */
static coded unpack_from_device(const setup *u, const kvs_device_state *state, const kvs_device_store *store,
                                int64_t tokens) {
    kvs_error error;
    const kvs_format *format = &store->format;
    int64_t blocks = kvs_device_store_blocks(store, tokens);
    int page = format->shape.page_tokens, dim = format->shape.head_dim;
    coded c = alloc_coded((size_t)(blocks + 1) * (size_t)(page * dim) + (size_t)(u->s->tokens * u->s->head_dim));
    uint8_t *tensors[2] = {NULL, NULL};
    for (int i = 0; i < format->tensors; i++) {
        tensors[i] = malloc((size_t)blocks * format->block_bytes[i]);
        assert_non_null(tensors[i]);
        OK(state->executor->download(tensors[i], state->arrays[KVS_DEVICE_CODES + i].at,
                                     (size_t)blocks * format->block_bytes[i], &error));
    }
    for (int64_t b = 0; b < blocks; b++) {
        const uint8_t *block[2] = {tensors[0] + (size_t)b * format->block_bytes[0],
                                   tensors[1] + (size_t)b * format->block_bytes[1]};
        size_t groups = (size_t)b * (size_t)(store->values ? page * (dim / format->shape.value_group)
                                                           : dim * (page / format->shape.key_group));
        kvs_page out = {c.codes + (size_t)b * (size_t)(page * dim), c.ranks + (size_t)b * (size_t)dim,
                        c.scales + groups, c.zeros + groups};
        if (store->values)
            kvs_unpack_values(format, 0, block, &out);
        else
            kvs_unpack_keys(format, 0, block, &out);
    }
    free(tensors[0]);
    free(tensors[1]);
    return c;
}

static void compare_store(const setup *u, const kvs_device_state *state, int index, int64_t tokens) {
    const kvs_device_store *store = &state->stores[index];
    size_t elements = (size_t)tokens * (size_t)u->s->head_dim;
    size_t groups =
        (size_t)(tokens / store->store->window.page_tokens * store->store->codec->page_groups(store->store));
    coded cpu = code_on_cpu(u, store->store, index % 2 == 0 ? u->unit.k : u->unit.v, tokens);
    coded found = unpack_from_device(u, state, store, tokens);
    assert_memory_equal(found.codes, cpu.codes, elements);
    assert_memory_equal(found.scales, cpu.scales, groups * sizeof(float));
    assert_memory_equal(found.zeros, cpu.zeros, groups * sizeof(float));
    int64_t pages = tokens / store->store->window.page_tokens;
    if (store->format.shape.boost_channels > 0)
        assert_memory_equal(found.ranks, cpu.ranks, (size_t)pages * (size_t)u->s->head_dim);
    free_coded(&cpu);
    free_coded(&found);
}

static void codes_and_metadata_are_those_of_the_cpu(void **unused) {
    (void)unused;
    kvs_error error;
    int compared = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        setup u;
        void *opened;
        kvs_unit_errors errors[MOST_SCHEMES] = {0};
        open_setup(&u, &shapes[i]);
        OK(device->open(&u.pass, &opened, &error));
        kvs_device_state *state = opened;
        OK(kvs_device_send(state, &u.unit, errors, &error));
        for (int s = 0; s < 2 * u.pass.schemes_count; s++) {
            int64_t tokens;
            OK(kvs_device_pack(state, &u.unit, s, &tokens, &error));
            OK(state->executor->wait(state->stream, &error)); /* a download does not wait for other streams */
            if (tokens > 0) compare_store(&u, state, s, tokens);
            compared += tokens > 0;
        }
        device->close(state);
        close_setup(&u);
    }
    assert_true(compared >= 25);
}

/* --- what is refused ------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *spec;
    int head_dim;
    const char *object, *rule; /* what the message names */
} refused[] = {
    {"kitty:rank=query_error", 128, "rank", "query_error"},
    {"kitty:meta=fp32", 128, "meta", "binary16"},
    {"kitty:page=1024", 128, "k", "1024"},
    {"int:bits=3", 128, "k", "3"},
    {"int", 80, "k", "80"},
    {"kitty:v_bits=5", 128, "v", "5"},
    {"kivi:group=16", 128, "v", "16"},
};

static void what_no_kernel_does_is_refused_by_name(void **unused) {
    (void)unused;
    kvs_error error;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        kvs_scheme *scheme;
        OK(kvs_scheme_open(refused[i].spec, refused[i].head_dim, &scheme, &error));
        assert_int_equal(device->accept(scheme, &error), KVS_USAGE);
        assert_string_equal(error.file, refused[i].spec);
        assert_string_equal(error.object, refused[i].object);
        assert_non_null(strstr(error.rule, refused[i].rule));
        kvs_scheme_close(scheme);
    }
}

/* --- a device that is too small -------------------------------------------------------------------------------------
 */

static int64_t free_bytes;

static kvs_status say_free_bytes(int64_t *bytes, kvs_error *error) {
    (void)error;
    *bytes = free_bytes;
    return KVS_OK;
}

static kvs_status replay_on(const kvs_backend *backend, const char *path, kvs_results *results, kvs_error *error) {
    kvs_trace *trace;
    kvs_scheme *schemes[2];
    kvs_replay_options options = {.backend = backend, .quiet = 1};
    KVS_TRY(kvs_trace_open(path, &trace, error));
    for (int i = 0; i < 2; i++)
        KVS_TRY(kvs_scheme_open(i == 0 ? "int:bits=8" : "kitty:page=16,sink=0", 64, &schemes[i], error));
    results->results = calloc(2, sizeof *results->results);
    results->results_count = 2;
    kvs_status status =
        kvs_replay(trace, (const kvs_scheme *const *)schemes, 2, &options, NULL, results->results, error);
    for (int i = 0; i < 2; i++) kvs_scheme_close(schemes[i]);
    kvs_trace_close(trace);
    return status;
}

static void too_little_memory_splits_the_work_or_says_so(void **unused) {
    (void)unused;
    kvs_error error;
    kvs_backend small = *device;
    small.free_bytes = say_free_bytes;
    char path[] = "/tmp/kvs_backend_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    const kvs_generate generate = {.layers = 1,
                                   .query_heads = 2,
                                   .kv_heads = 1,
                                   .head_dim = 64,
                                   .sequences = 1,
                                   .tokens = 100,
                                   .prompt_tokens = 100,
                                   .queries = 9,
                                   .first_query = 20,
                                   .quiet = 1};
    OK(kvs_trace_generate(path, &generate, &error));
    kvs_results all = {0}, split = {0}, none = {0};
    free_bytes = INT64_MAX;
    OK(replay_on(&small, path, &all, &error));
    free_bytes = 0;
    assert_int_equal(replay_on(&small, path, &none, &error), KVS_DEVICE);
    long long needed = 0, tokens = 0;
    assert_int_equal(sscanf(error.rule, "one head of %lld tokens and 9 queries needs %lld", &tokens, &needed), 2);
    assert_true(tokens == 100 && needed > 100 * 64 * 8);
    free_bytes = needed + needed / 8; /* one scheme at a time */
    OK(replay_on(&small, path, &split, &error));
    for (int i = 0; i < 2; i++) {
        const kvs_errors *a = &all.results[i].errors, *b = &split.results[i].errors;
        assert_true(a->attention_output_rel_l2.mean > 1e-4);
        assert_memory_equal(a, b, sizeof *a);
    }
    kvs_results_clear(&all);
    kvs_results_clear(&split);
    kvs_results_clear(&none);
    remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_and_metadata_are_those_of_the_cpu),
        cmocka_unit_test(errors_are_those_of_the_cpu),
        cmocka_unit_test(what_no_kernel_does_is_refused_by_name),
        cmocka_unit_test(too_little_memory_splits_the_work_or_says_so),
    };
    int failed = 0;
    for (int i = 1; kvs_backends[i] != NULL; i++) {
        kvs_error error;
        char name[128];
        device = kvs_backends[i];
        if (device->probe(name, sizeof name, &error) != KVS_OK)
            print_message("# skip %s: %s\n", device->name, error.rule);
        else
            failed += cmocka_run_group_tests_name(device->name, tests, NULL, NULL);
    }
    return failed;
}
