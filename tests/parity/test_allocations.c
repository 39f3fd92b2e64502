/* test_allocations.c: does whatever computes on a device give everything back when an allocation fails, whichever it
 * is?
 *
 * Every allocation of a benchmark, of a replay's unit and of a model's session fails once: of the device's memory and
 * the host's side of it by the SIMT runtime, or by CUDA where there is a GPU; of the program's own by the allocator
 * below. Each failure must be reported as one, and leave as much allocated as was before; under the address sanitizer,
 * its leak checker looks too, and on a GPU `compute-sanitizer --leak-check full` can. */
#include <errno.h>
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

#include "core/random.h"
#include "kernels/executor.h"
#include "kernels/simt/runtime.h"
#include "sim/backend.h"
#include "sim/bench_device.h"
#include "sim/cpu_unit.h"
#include "sim/model/forward.h"

/* --- the program's own memory --------------------------------------------------------------------------------------
 */

static int64_t blocks, calls, failing; /* not released; taken so far; the number of the call that fails, 0: none */

#ifndef __SANITIZE_ADDRESS__
enum { HOST_TOO = 1 };
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *memory);

extern char __executable_start, etext;

/* Only the program's own calls fail: libraries that end the process without memory (libgomp) are not on trial. */
static int fails(const void *caller) {
    if ((const char *)caller < &__executable_start || (const char *)caller >= &etext) return 0;
    return __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) == failing;
}
#define FAILS() fails(__builtin_return_address(0))

static void *counted(void *memory) {
    if (memory != NULL) __atomic_add_fetch(&blocks, 1, __ATOMIC_RELAXED);
    return memory;
}

void *malloc(size_t bytes) {
    return FAILS() ? NULL : counted(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes) {
    return FAILS() ? NULL : counted(__libc_calloc(count, bytes));
}

void *realloc(void *memory, size_t bytes) {
    if (FAILS()) return NULL;
    return memory == NULL ? counted(__libc_realloc(NULL, bytes)) : __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    return FAILS() ? NULL : counted(__libc_memalign(alignment, bytes));
}

void *memalign(size_t alignment, size_t bytes) {
    return FAILS() ? NULL : counted(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
    *memory = FAILS() ? NULL : counted(__libc_memalign(alignment, bytes));
    return *memory != NULL ? 0 : ENOMEM;
}

char *strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = FAILS() ? NULL : counted(__libc_malloc(bytes));
    return copy != NULL ? memcpy(copy, text, bytes) : NULL;
}

void free(void *memory) {
    if (memory != NULL) __atomic_sub_fetch(&blocks, 1, __ATOMIC_RELAXED);
    __libc_free(memory);
}
#else
enum { HOST_TOO = 0 };
#endif

/* --- a GPU's memory ------------------------------------------------------------------------------------------------
 */

static int64_t cuda_blocks, cuda_calls, cuda_failing;

#ifdef KVS_HAVE_CUDA
#include <cuda_runtime_api.h>

/* The Makefile has the linker put these in the places of the runtime's. */
cudaError_t __real_cudaMalloc(void **memory, size_t bytes);
cudaError_t __real_cudaMallocHost(void **memory, size_t bytes);
cudaError_t __real_cudaFree(void *memory);
cudaError_t __real_cudaFreeHost(void *memory);
cudaError_t __wrap_cudaMalloc(void **memory, size_t bytes);
cudaError_t __wrap_cudaMallocHost(void **memory, size_t bytes);
cudaError_t __wrap_cudaFree(void *memory);
cudaError_t __wrap_cudaFreeHost(void *memory);

/* More than any machine has: so it is the runtime that fails, with all that this leaves behind in it. */
static size_t wanted(size_t bytes) {
    return ++cuda_calls == cuda_failing ? (size_t)1 << 46 : bytes;
}

cudaError_t __wrap_cudaMalloc(void **memory, size_t bytes) {
    cudaError_t result = __real_cudaMalloc(memory, wanted(bytes));
    cuda_blocks += result == cudaSuccess;
    return result;
}

cudaError_t __wrap_cudaMallocHost(void **memory, size_t bytes) {
    cudaError_t result = __real_cudaMallocHost(memory, wanted(bytes));
    cuda_blocks += result == cudaSuccess;
    return result;
}

cudaError_t __wrap_cudaFree(void *memory) {
    cuda_blocks -= memory != NULL;
    return __real_cudaFree(memory);
}

cudaError_t __wrap_cudaFreeHost(void *memory) {
    cuda_blocks -= memory != NULL;
    return __real_cudaFreeHost(memory);
}
#endif

/* --- the trial -----------------------------------------------------------------------------------------------------
 */

/* Does the work, and gives back all that it took. */
typedef kvs_status kvs_trial(kvs_error *error);

static const kvs_executor *executor;

/* CUDA's own allocations in the host's memory are its own affair, so there only the device's fail. */
static void every_failure_on_a_gpu_is_clean(kvs_trial *trial) {
    kvs_error error;
    int64_t failures = 0;
    for (int warm = 0; warm < 2; warm++)
        if (trial(&error) != KVS_OK) fail_msg("%s: %s: %s", error.file, error.object, error.rule);
    int64_t first = cuda_calls, before = cuda_blocks;
    assert_int_equal(trial(&error), KVS_OK);
    int64_t last = cuda_calls - first;
    assert_true(last >= 3);
    for (int64_t n = 1; n <= last; n++, failures++) {
        cuda_failing = cuda_calls + n;
        kvs_status status = trial(&error);
        cuda_failing = 0;
        if (status != KVS_DEVICE) fail_msg("the failure of allocation %d of %d went by unseen", (int)n, (int)last);
        if (cuda_blocks != before)
            fail_msg("allocation %d of %d: %d blocks are left", (int)n, (int)last, (int)(cuda_blocks - before));
        assert_int_equal(trial(&error), KVS_OK); /* nothing of the failure stays with the device */
    }
    print_message("# %d failures\n", (int)failures);
}

static void every_failure_is_clean(kvs_trial *trial, int64_t device_step, int64_t host_step) {
    kvs_error error;
    int64_t failures = 0, before = 0;
    if (strcmp(executor->name, "simt") != 0) {
        every_failure_on_a_gpu_is_clean(trial);
        return;
    }
    for (int warm = 0; warm < 2; warm++) { /* what is kept for the next time is there after the first */
        before = blocks;
        if (trial(&error) != KVS_OK) fail_msg("%s: %s: %s", error.file, error.object, error.rule);
    }
    assert_int_equal(blocks, before);
    assert_int_equal(kvs_simt_allocations(), 0);
    for (int64_t n = 1;; n += device_step, failures++) {
        kvs_simt_fail_allocation(n);
        kvs_status status = trial(&error);
        kvs_simt_fail_allocation(0);
        assert_int_equal(kvs_simt_allocations(), 0);
        assert_int_equal(blocks, before);
        if (status == KVS_OK) break; /* there are fewer than n */
        assert_int_equal(status, KVS_DEVICE);
        assert_non_null(strstr(error.rule, "no memory for"));
    }
    assert_true(failures >= 3);
    int64_t last = 0, first = calls;
    if (HOST_TOO) assert_int_equal(trial(&error), KVS_OK);
    last = calls - first;
    for (int64_t n = 1; n <= last; n += host_step, failures++) {
        first = calls;
        failing = first + n;
        kvs_status status = trial(&error);
        failing = 0;
        if (status == KVS_OK) fail_msg("the failure of allocation %d of %d went by unseen", (int)n, (int)last);
        if (kvs_simt_allocations() != 0 || blocks != before)
            fail_msg("allocation %d of %d: %d of the device, %d of the host are left", (int)n, (int)last,
                     (int)kvs_simt_allocations(), (int)(blocks - before));
    }
    print_message("# %d failures, %d allocations of the host\n", (int)failures, (int)last);
}

/* --- a benchmark ---------------------------------------------------------------------------------------------------
 */

static kvs_status run_bench(kvs_error *error) {
    kvs_timings timings;
    kvs_device_bench bench = kvs_device_bench_toy;
    bench.batches[1] = 0;
    bench.lengths[0] = 300;
    bench.layouts[0] = "fp16-hnd", bench.layouts[1] = "fragment", bench.layouts[2] = NULL;
    bench.quantize_pages = 2;
    bench.elements = 1 << 15;
    bench.repeats = 1;
    bench.quiet = 1;
    KVS_TRY(kvs_bench_on_device(executor, &bench, &timings, error));
    kvs_timings_clear(&timings);
    return KVS_OK;
}

static void test_bench(void **state) {
    (void)state;
    every_failure_is_clean(run_bench, 1, 1);
}

/* --- a unit of a replay --------------------------------------------------------------------------------------------
 */

enum { DIM = 64, GROUP = 2, TOKENS = 70, QUERIES = 5 };

static kvs_status run_unit(kvs_error *error) {
    static float k[TOKENS * DIM], v[TOKENS * DIM], q[GROUP * QUERIES * DIM];
    static const int32_t positions[QUERIES] = {0, 20, 40, 60, 69};
    static const char *const specs[] = {"kitty:page=32,sink=2,window=8,boost=0.25,rank=random", "int:bits=4"};
    kvs_scheme *schemes[2] = {NULL, NULL};
    kvs_unit_errors errors[2] = {{.rel_l2 = NULL}, {.rel_l2 = NULL}};
    const kvs_backend *backend;
    void *opened = NULL;
    for (int i = 0; i < TOKENS * DIM; i++)
        k[i] = kvs_random_unit(1, (uint64_t)i), v[i] = kvs_random_unit(2, (uint64_t)i);
    for (int i = 0; i < GROUP * QUERIES * DIM; i++) q[i] = kvs_random_unit(3, (uint64_t)i) - 0.5f;
    kvs_pass pass = {.schemes = (const kvs_scheme *const *)schemes,
                     .schemes_count = 2,
                     .head_dim = DIM,
                     .group = GROUP,
                     .softmax_scale = 0.125,
                     .causal = 1,
                     .inner_threads = 1};
    kvs_unit unit = {.path = "test",
                     .tokens = TOKENS,
                     .queries = QUERIES,
                     .k = k,
                     .v = v,
                     .q = q,
                     .q_stride = QUERIES * DIM,
                     .positions = positions};
    KVS_TRY(kvs_backend_find(executor->name, &backend, error));
    kvs_status status = KVS_OK;
    for (int i = 0; i < 2 && status == KVS_OK; i++) {
        status = kvs_scheme_open(specs[i], DIM, &schemes[i], error);
        if (status == KVS_OK) status = kvs_unit_errors_alloc(QUERIES * GROUP, &errors[i], error);
    }
    if (status == KVS_OK) status = backend->open(&pass, &opened, error);
    if (status == KVS_OK) status = backend->unit(opened, &unit, errors, error);
    backend->close(opened);
    for (int i = 0; i < 2; i++) {
        kvs_unit_errors_free(&errors[i]);
        kvs_scheme_close(schemes[i]);
    }
    return status;
}

static void test_unit(void **state) {
    (void)state;
    every_failure_is_clean(run_unit, 1, 1);
}

/* --- a session of a model ------------------------------------------------------------------------------------------
 */

static char directory[32], config_path[64];

static int write_config(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/kvs_allocations_XXXXXX");
    if (mkdtemp(directory) == NULL) return -1;
    snprintf(config_path, sizeof config_path, "%s/config.json", directory);
    FILE *file = fopen(config_path, "w");
    if (file == NULL) return -1;
    fputs("{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", \"hidden_size\": 64, "
          "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 64, "
          "\"intermediate_size\": 64, \"vocab_size\": 31, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0, "
          "\"max_position_embeddings\": 256, \"tie_word_embeddings\": false, \"hidden_act\": \"silu\", "
          "\"torch_dtype\": \"float32\"}",
          file);
    return fclose(file);
}

static int remove_config(void **state) {
    (void)state;
    unlink(config_path);
    return rmdir(directory);
}

static kvs_status run_model(kvs_error *error) {
    enum { COUNT = 50 };
    static float rows[COUNT * 64], logits[31];
    int32_t ids[COUNT];
    kvs_model *model = NULL;
    kvs_session *session = NULL;
    kvs_scheme *scheme = NULL;
    kvs_model_options how = {.executor = executor, .random_weights = 1, .seed = 5};
    for (int i = 0; i < COUNT; i++) ids[i] = i * 7 % 31;
    kvs_status status = kvs_scheme_open("kitty:page=32,sink=4,window=8,boost=0.25", 64, &scheme, error);
    if (status == KVS_OK) status = kvs_model_open_with(directory, &how, &model, error);
    kvs_model_pass pass = {.scheme = scheme, .seed = 3};
    if (status == KVS_OK) status = kvs_session_open(model, &pass, COUNT, &session, error);
    if (status == KVS_OK) status = kvs_session_run(session, ids, COUNT, rows, error);
    if (status == KVS_OK) status = kvs_model_logits(model, rows, 1, logits, error);
    kvs_session_close(session);
    kvs_model_close(model);
    kvs_scheme_close(scheme);
    return status;
}

static void test_model(void **state) {
    (void)state;
    every_failure_is_clean(run_model, 1, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_unit),
        cmocka_unit_test(test_model),
    };
    int failures = 0;
    cmocka_set_message_output(CM_OUTPUT_TAP);
    kvs_simt_settings()->threads = 1;
    for (int i = 0; kvs_executors[i] != NULL; i++) {
        kvs_executor_facts facts;
        kvs_error error;
        executor = kvs_executors[i];
        if (executor->open(&facts, &error) != KVS_OK) {
            printf("# SKIP %s: %s\n", executor->name, error.rule);
            continue;
        }
        printf("# on %s: %s\n", executor->name, facts.name);
        failures += cmocka_run_group_tests(tests, write_config, remove_config);
    }
    return failures;
}
