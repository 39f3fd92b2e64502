/* Is the order of CUPTI's calls kept, does each of their failures name its remedy, and do the values arrive? With a
 * CUPTI of the tests' own (tests/fake/cupti.c), and the work on the SIMT runtime. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "analysis/profiler.h"
#include "tests/fake/cupti.h"

#ifndef KVS_HAVE_CUPTI

static void without_cupti(void **state) {
    kvs_error error;
    kvs_profiler *profiler = (kvs_profiler *)(void *)state;
    kvs_profiler_settings settings = {.cache = KVS_CACHE_COLD};
    (void)state;
    assert_int_equal(kvs_profiler_open(&settings, &profiler, &error), KVS_DEVICE);
    assert_null(profiler);
    assert_non_null(strstr(error.rule, "no CUPTI"));
    kvs_profiler_close(profiler);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(without_cupti)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#include <cupti_result.h>

static char library[4096];
static const char *(*logged)(void);
static void (*forget)(void);

static kvs_executor_facts facts;
static const kvs_executor *executor;

/* --- the work ------------------------------------------------------------------------------------------------------
 */

typedef struct counted {
    int launched, prepared, fails_at; /* 0: never */
} counted;

static kvs_status launch(void *context, int iteration, void *stream, kvs_error *error) {
    counted *c = context;
    assert_non_null(stream);
    assert_int_equal(iteration, c->launched);
    c->launched++;
    if (c->launched == c->fails_at) return kvs_fail(error, KVS_DEVICE, "work", NULL, "is broken");
    return KVS_OK;
}

static kvs_status prepare(void *context, int iteration, void *stream, kvs_error *error) {
    counted *c = context;
    (void)iteration, (void)stream, (void)error;
    c->prepared++;
    return KVS_OK;
}

static kvs_profiler_settings settings_of(kvs_cache_state cache) {
    return (kvs_profiler_settings){
        .executor = executor, .device = &facts, .cache = cache, .timed_runs = 3, .cupti = library, .driver = library};
}

static kvs_status measure(kvs_cache_state cache, counted *c, kvs_measurement *m, kvs_profiler_facts *about,
                          kvs_error *error) {
    kvs_profiler *profiler = NULL;
    kvs_profiler_settings settings = settings_of(cache);
    kvs_profiled_work work = {prepare, launch, c};
    forget();
    kvs_status status = kvs_profiler_open(&settings, &profiler, error);
    if (status == KVS_OK) {
        *about = *kvs_profiler_describe(profiler);
        status = kvs_profiler_measure(profiler, "work", &work, m, error);
    } else
        assert_null(profiler);
    kvs_profiler_close(profiler);
    return status;
}

static int times(const char *name) {
    int count = 0;
    char word[128];
    (void)snprintf(word, sizeof word, "%s ", name);
    for (const char *at = logged(); (at = strstr(at, word)) != NULL; at++) count += at == logged() || at[-1] == ' ';
    return count;
}

/* --- what goes well ------------------------------------------------------------------------------------------------
 */

static void near(double value, double expected) {
    if (!(fabs(value - expected) <= 1e-6 * fabs(expected))) fail_msg("%.9g is not %.9g", value, expected);
}

static void check_values(const kvs_measurement *m) {
    for (int i = 0; i < KVS_COUNTERS; i++) {
        const kvs_counter_type *type = &kvs_counter_types[i];
        double expected = (double)strlen(type->cupti[0]);
        if (i == KVS_COUNTER_DRAM_WRITE_BACK_BYTES) expected += 1000; /* of the second range, the flush */
        if (i == KVS_COUNTER_BULK_COPY_BYTES)
            assert_true(isnan(m->values[i]));
        else
            near(m->values[i], expected * type->scale);
    }
    /* 1 ms was the run that loads; 2, 3 and 4 are timed */
    near(m->seconds, 3e-3);
    near(m->seconds_min, 2e-3);
    near(m->seconds_max, 4e-3);
    assert_int_equal(m->timed_runs, 3);
}

static void cold(void **state) {
    counted c = {0};
    kvs_measurement m;
    kvs_profiler_facts about;
    kvs_error error;
    (void)state;
    assert_int_equal(measure(KVS_CACHE_COLD, &c, &m, &about, &error), KVS_OK);
    check_values(&m);
    assert_string_equal(about.chip, "GH100");
    assert_int_equal(about.cupti_version, 130001);
    assert_int_equal(about.passes, 3);
    assert_int_equal(about.fetch_granularity_bytes, 32);
    assert_true(about.flush_bytes >= 1 << 20);
    assert_true(about.missing == KVS_COUNTER_BIT(KVS_COUNTER_BULK_COPY_BYTES));
    assert_true(about.collected == (KVS_ALL_COUNTERS & ~about.missing));
    assert_int_equal(c.launched, 4 + 3); /* timed, counted */
    assert_int_equal(c.prepared, 4 + 3);
    assert_int_equal(times("cuptiRangeProfilerStart"), 3);
    assert_int_equal(times("cuptiRangeProfilerPushRange"), 6);
    assert_int_equal(times("cuptiRangeProfilerPopRange"), 6);
    assert_int_equal(times("cuptiRangeProfilerDecodeData"), 1);
    assert_int_equal(times("cuptiRangeProfilerEnable"), times("cuptiRangeProfilerDisable"));
    assert_int_equal(times("cuptiProfilerHostInitialize"), times("cuptiProfilerHostDeinitialize"));
    assert_int_equal(times("cuCtxSetLimit"), 2); /* set, restored */
    /* The unprofiled runs come before the profiler is enabled for the work. */
    const char *timed = strstr(logged(), "cuEventElapsedTime "), *counted_at = strstr(logged(), "SetConfig ");
    assert_true(timed != NULL && counted_at != NULL && timed < counted_at);
}

static void warm(void **state) {
    counted c = {0};
    kvs_measurement m;
    kvs_profiler_facts about;
    kvs_error error;
    (void)state;
    assert_int_equal(measure(KVS_CACHE_WARM, &c, &m, &about, &error), KVS_OK);
    check_values(&m);
    assert_int_equal(c.launched, 2 * (4 + 3)); /* each once before, to warm */
    assert_int_equal(c.prepared, 2 * (4 + 3));
}

static void only_some_counters(void **state) {
    kvs_profiler *profiler = NULL;
    kvs_error error;
    kvs_profiler_settings settings = settings_of(KVS_CACHE_COLD);
    (void)state;
    forget();
    settings.counters = KVS_COUNTER_BIT(KVS_COUNTER_LOAD_SECTORS);
    assert_int_equal(kvs_profiler_open(&settings, &profiler, &error), KVS_OK);
    counted c = {0};
    kvs_profiled_work work = {NULL, launch, &c};
    kvs_measurement m;
    assert_int_equal(kvs_profiler_measure(profiler, "one", &work, &m, &error), KVS_OK);
    for (int i = 0; i < KVS_COUNTERS; i++) assert_int_equal(isnan(m.values[i]) == 0, i == KVS_COUNTER_LOAD_SECTORS);
    kvs_profiler_close(profiler);
    settings.counters = KVS_COUNTER_BIT(KVS_COUNTER_BULK_COPY_BYTES);
    assert_int_equal(kvs_profiler_open(&settings, &profiler, &error), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "none of the counters"));
}

/* --- what goes wrong -----------------------------------------------------------------------------------------------
 */

static void expect_failure(const char *words) {
    counted c = {0};
    kvs_measurement m;
    kvs_profiler_facts about;
    kvs_error error = {.status = KVS_OK};
    assert_int_equal(measure(KVS_CACHE_COLD, &c, &m, &about, &error), KVS_DEVICE);
    if (strstr(error.rule, words) == NULL && strstr(error.object, words) == NULL)
        fail_msg("'%s: %s: %s' lacks '%s'", error.file, error.object, error.rule, words);
    int opened = times("cuptiProfilerHostInitialize");
    const char *failing = getenv("FAKE_CUPTI_FAIL");
    if (failing != NULL && strstr(failing, "HostInitialize") != NULL) opened--;
    assert_int_equal(opened, times("cuptiProfilerHostDeinitialize"));
}

/* Each function of the order, failing with a code that no remedy knows: the failure names the function. */
static void each_call_fails(void **state) {
    static const char *const calls[] = {
        "cuInit",
        "cuCtxGetCurrent",
        "cuCtxGetDevice",
        "cuCtxGetLimit",
        "cuCtxSetLimit",
        "cuStreamCreate",
        "cuStreamSynchronize",
        "cuEventCreate",
        "cuEventRecord",
        "cuEventElapsedTime",
        "cuptiProfilerInitialize",
        "cuptiProfilerDeviceSupported",
        "cuptiDeviceGetChipName",
        "cuptiProfilerGetCounterAvailability",
        "cuptiProfilerHostInitialize",
        "cuptiProfilerHostConfigAddMetrics",
        "cuptiProfilerHostGetConfigImageSize",
        "cuptiProfilerHostGetConfigImage",
        "cuptiProfilerHostGetNumOfPasses",
        "cuptiRangeProfilerEnable",
        "cuptiRangeProfilerGetCounterDataSize",
        "cuptiRangeProfilerCounterDataImageInitialize",
        "cuptiRangeProfilerSetConfig",
        "cuptiRangeProfilerStart",
        "cuptiRangeProfilerPushRange",
        "cuptiRangeProfilerPopRange",
        "cuptiRangeProfilerStop",
        "cuptiRangeProfilerDecodeData",
        "cuptiRangeProfilerGetCounterDataInfo",
        "cuptiRangeProfilerCounterDataGetRangeInfo",
        "cuptiProfilerHostEvaluateToGpuValues",
    };
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char fail[128];
        (void)snprintf(fail, sizeof fail, "%s=999", calls[i]);
        assert_int_equal(setenv("FAKE_CUPTI_FAIL", fail, 1), 0);
        expect_failure(calls[i]);
        assert_int_equal(unsetenv("FAKE_CUPTI_FAIL"), 0);
    }
}

typedef struct situation {
    const char *variable, *value, *words;
} situation;

static void each_situation_names_its_remedy(void **state) {
    static const situation situations[] = {
        {"FAKE_CUPTI_FAIL", "cuptiRangeProfilerEnable=35", "NVreg_RestrictProfilingToAdminUsers=0"},
        {"FAKE_CUPTI_FAIL", "cuptiProfilerGetCounterAvailability=35", "SYS_ADMIN"},
        {"FAKE_CUPTI_FAIL", "cuptiRangeProfilerStart=26", "another profiler"},
        {"FAKE_CUPTI_FAIL", "cuptiRangeProfilerEnable=39", "already uses CUPTI"},
        {"FAKE_CUPTI_FAIL", "cuptiRangeProfilerEnable=43", "MIG"},
        {"FAKE_CUPTI_FAIL", "cuptiProfilerHostInitialize=46", "does not know the chip"},
        {"FAKE_CUPTI_FAIL", "cuInit=100", "no GPU"},
        {"FAKE_CUPTI_SUPPORT", "vgpu", "passed through"},
        {"FAKE_CUPTI_SUPPORT", "vgpu-off", "does not permit profiling"},
        {"FAKE_CUPTI_SUPPORT", "conf", "confidential"},
        {"FAKE_CUPTI_SUPPORT", "cc", "7.5"},
        {"FAKE_CUPTI_SUPPORT", "sli", "SLI"},
        {"FAKE_CUPTI_SUPPORT", "cmp", "mining"},
        {"FAKE_CUPTI_SUPPORT", "wsl", "WSL"},
        {"FAKE_CUPTI_SUPPORT", "unnamed", "does not support this GPU"},
        {"FAKE_CUPTI_DROPPED", "2", "2 ranges were dropped"},
        {"FAKE_CUPTI_RANGES", "1", "1 ranges where"},
        {"FAKE_CUPTI_ENDLESS", "1", "ever more than the 3 passes"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof situations / sizeof *situations; i++) {
        assert_int_equal(setenv(situations[i].variable, situations[i].value, 1), 0);
        expect_failure(situations[i].words);
        assert_int_equal(unsetenv(situations[i].variable), 0);
    }
}

static void the_work_fails(void **state) {
    counted c = {.fails_at = 6}; /* in the second pass */
    kvs_measurement m;
    kvs_error error;
    kvs_profiler *profiler = NULL;
    kvs_profiler_settings settings = settings_of(KVS_CACHE_COLD);
    kvs_profiled_work work = {prepare, launch, &c};
    (void)state;
    forget();
    assert_int_equal(kvs_profiler_open(&settings, &profiler, &error), KVS_OK);
    assert_int_equal(kvs_profiler_measure(profiler, "work", &work, &m, &error), KVS_DEVICE);
    assert_string_equal(error.rule, "is broken");
    c = (counted){.fails_at = 0};
    assert_int_equal(kvs_profiler_measure(profiler, "work", &work, &m, &error), KVS_OK);
    kvs_profiler_close(profiler);
}

static void libraries_are_missing(void **state) {
    kvs_profiler *profiler = NULL;
    kvs_error error;
    kvs_profiler_settings settings = settings_of(KVS_CACHE_COLD);
    (void)state;
    settings.cupti = "/nowhere/libcupti.so";
    assert_int_equal(kvs_profiler_open(&settings, &profiler, &error), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "KVSCOPE_CUPTI"));
    settings.cupti = "libm.so.6"; /* a library, but not CUPTI */
    assert_int_equal(kvs_profiler_open(&settings, &profiler, &error), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "is not in this library"));
    settings = settings_of(KVS_CACHE_COLD);
    settings.driver = "/nowhere/libcuda.so";
    assert_int_equal(kvs_profiler_open(&settings, &profiler, &error), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "no NVIDIA driver"));
}

static void remedies_have_the_headers_numbers(void **state) {
    static const struct {
        CUptiResult code;
        const char *word;
    } known[] = {
        {CUPTI_ERROR_HARDWARE_BUSY, "another profiler"},
        {CUPTI_ERROR_NOT_SUPPORTED, "does not support"},
        {CUPTI_ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED, "vGPU"},
        {CUPTI_ERROR_INSUFFICIENT_PRIVILEGES, "permission"},
        {CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED, "another tool"},
        {CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES, "vGPU"},
        {CUPTI_ERROR_CONFIDENTIAL_COMPUTING_NOT_SUPPORTED, "confidential"},
        {CUPTI_ERROR_CMP_DEVICE_NOT_SUPPORTED, "CMP"},
        {CUPTI_ERROR_MIG_DEVICE_NOT_SUPPORTED, "MIG"},
        {CUPTI_ERROR_SLI_DEVICE_NOT_SUPPORTED, "SLI"},
        {CUPTI_ERROR_WSL_DEVICE_NOT_SUPPORTED, "WSL"},
        {CUPTI_ERROR_INVALID_CHIP_NAME, "chip"},
        {CUPTI_ERROR_INVALID_METRIC_NAME, "counter"},
        {CUPTI_ERROR_OUT_OF_MEMORY, "memory"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *text = kvs_cupti_remedy((int)known[i].code);
        assert_non_null(text);
        assert_non_null(strstr(text, known[i].word));
        assert_true(strlen(text) < sizeof((kvs_error *)NULL)->rule);
    }
    assert_null(kvs_cupti_remedy(CUPTI_SUCCESS));
    assert_null(kvs_cupti_remedy(CUPTI_ERROR_INVALID_PARAMETER)); /* a mistake of ours */
}

static int find_library(void **state) {
    ssize_t length = readlink("/proc/self/exe", library, sizeof library - 64);
    (void)state;
    if (length <= 0) return -1;
    library[length] = '\0';
    for (int i = 0; i < 2; i++) *strrchr(library, '/') = '\0';
    (void)strncat(library, "/fake/libcupti.so", 32);
    void *handle = dlopen(library, RTLD_NOW);
    if (handle == NULL) return -1;
    void *functions[] = {dlsym(handle, "fake_cupti_log"), dlsym(handle, "fake_cupti_forget")};
    memcpy(&logged, &functions[0], sizeof logged);
    memcpy(&forget, &functions[1], sizeof forget);
    kvs_error error;
    if (kvs_executor_find("simt", &executor, &error) != KVS_OK) return -1;
    return executor->open(&facts, &error) == KVS_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cold),
        cmocka_unit_test(warm),
        cmocka_unit_test(only_some_counters),
        cmocka_unit_test(each_call_fails),
        cmocka_unit_test(each_situation_names_its_remedy),
        cmocka_unit_test(the_work_fails),
        cmocka_unit_test(libraries_are_missing),
        cmocka_unit_test(remedies_have_the_headers_numbers),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, find_library, NULL);
}

#endif
