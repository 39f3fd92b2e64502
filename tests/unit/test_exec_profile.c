/* Are the kernels of another program counted, and is each way that it can end told apart? With a program and a CUPTI of
 * the tests' own (tests/fake). */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "analysis/exec_profile.h"
#include "analysis/exec_read.h"

static void near(double value, double expected) {
    if (!(fabs(value - expected) <= 1e-9 * fabs(expected))) fail_msg("%.12g is not %.12g", value, expected);
}

/* --- adding up -----------------------------------------------------------------------------------------------------
 */

static void sums_and_means(void **state) {
    double all[KVS_COUNTERS] = {0}, one[KVS_COUNTERS] = {0};
    (void)state;
    one[KVS_COUNTER_LOAD_SECTORS] = 100;
    one[KVS_COUNTER_OCCUPANCY] = 0.5;
    one[KVS_COUNTER_DURATION] = 3;
    one[KVS_COUNTER_BULK_COPY_BYTES] = (double)NAN;
    kvs_exec_add(all, 0, one, 1);
    one[KVS_COUNTER_LOAD_SECTORS] = 10;
    one[KVS_COUNTER_OCCUPANCY] = 0.9;
    one[KVS_COUNTER_DURATION] = 1;
    kvs_exec_add(all, 1, one, 1);
    near(all[KVS_COUNTER_LOAD_SECTORS], 110);
    near(all[KVS_COUNTER_OCCUPANCY], (3 * 0.5 + 1 * 0.9) / 4);
    near(all[KVS_COUNTER_DURATION], 4);
    assert_true(isnan(all[KVS_COUNTER_BULK_COPY_BYTES]));
    /* Without a duration each launch weighs the same. */
    double other[KVS_COUNTERS] = {0};
    other[KVS_COUNTER_DURATION] = (double)NAN;
    other[KVS_COUNTER_OCCUPANCY] = 0.2;
    double many[KVS_COUNTERS] = {0};
    kvs_exec_add(many, 0, other, 3);
    other[KVS_COUNTER_OCCUPANCY] = 0.6;
    kvs_exec_add(many, 3, other, 1);
    near(many[KVS_COUNTER_OCCUPANCY], 0.3);
}

static kvs_status read_text(const char *text, kvs_exec_profile *profile, kvs_error *error) {
    char path[] = "/tmp/kvs-exec-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(close(file), 0);
    *profile = (kvs_exec_profile){.exit_status = 0};
    kvs_status status = kvs_exec_read(path, profile, error);
    assert_int_equal(remove(path), 0);
    return status;
}

static void files_that_are_refused(void **state) {
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "is empty"},
        {"something else\n", "line 1 is not"},
        {"kvscope-exec\t2\n", "line 1 is not"},
        {"kvscope-exec\t1\nkernel\t1\t1\tname\t0x1p+0\n", "line 2 is not"},
        {"kvscope-exec\t1\nstate\n", "line 2 is not"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kvs_exec_profile profile;
        kvs_error error;
        assert_int_equal(read_text(cases[i].text, &profile, &error), KVS_INPUT);
        if (strstr(error.rule, cases[i].words) == NULL) fail_msg("'%s' lacks '%s'", error.rule, cases[i].words);
        kvs_exec_profile_clear(&profile);
    }
}

#ifdef KVS_HAVE_CUPTI

static char folder[4096], program[4200], library[4200], cupti[4200];

static int64_t limit;

static kvs_status run(kvs_exec_profile *profile, kvs_error *error, const char *a, const char *b, const char *c,
                      const char *d, const char *e, const char *f, const char *g) {
    const char *const arguments[] = {program, a, b, c, d, e, f, g, NULL};
    kvs_exec_settings settings = {.inject = library, .limit = limit};
    settings.argv = (char *const *)(uintptr_t)arguments;
    return kvs_exec_profile_run(&settings, profile, error);
}

static double length_of(int counter) {
    return (double)strlen(kvs_counter_types[counter].cupti[0]);
}

static void kernels_are_counted(void **state) {
    kvs_exec_profile p;
    kvs_error error;
    (void)state;
    assert_int_equal(run(&p, &error, "cuda", "launch", "_Z5alphaPf", "2", "launch", "beta", "1"), KVS_OK);
    assert_int_equal(p.exit_status, 0);
    assert_int_equal(p.processes, 1);
    assert_int_equal(p.unfinished, 0);
    assert_string_equal(p.chip, "GH100");
    assert_int_equal(p.passes, 3);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.launches, 3);
    assert_string_equal(p.kernels[0].name, "beta"); /* range 2, the longest */
    if (strcmp(p.kernels[1].name, "_Z5alphaPf") != 0) assert_string_equal(p.kernels[1].name, "alpha(float*)");
    assert_int_equal(p.kernels[1].launches, 2);
    near(p.kernels[0].values[KVS_COUNTER_LOAD_SECTORS], length_of(KVS_COUNTER_LOAD_SECTORS) + 2000);
    near(p.kernels[1].values[KVS_COUNTER_LOAD_SECTORS], 2 * length_of(KVS_COUNTER_LOAD_SECTORS) + 1000);
    double t = length_of(KVS_COUNTER_DURATION), o = length_of(KVS_COUNTER_OCCUPANCY);
    near(p.kernels[1].values[KVS_COUNTER_OCCUPANCY], 0.01 * (t * o + (t + 1000) * (o + 1000)) / (2 * t + 1000));
    assert_true(isnan(p.kernels[0].values[KVS_COUNTER_BULK_COPY_BYTES])); /* the chip lacks it */
    assert_true(isnan(p.kernels[0].values[KVS_COUNTER_DRAM_WRITE_BACK_BYTES]));
    assert_true(p.missing == KVS_COUNTER_BIT(KVS_COUNTER_BULK_COPY_BYTES));
    kvs_exec_profile_clear(&p);
}

static void more_launches_than_ranges(void **state) {
    kvs_exec_profile p;
    kvs_error error;
    (void)state;
    assert_int_equal(run(&p, &error, "cuda", "launch", "k", "300", NULL, NULL, NULL), KVS_OK);
    assert_int_equal(p.count, 1);
    assert_int_equal(p.kernels[0].launches, 300);
    double ranges = 255.0 * 256 / 2 + 43.0 * 44 / 2; /* numbers 0..255, then 0..43 */
    near(p.kernels[0].values[KVS_COUNTER_STORE_SECTORS], 300 * length_of(KVS_COUNTER_STORE_SECTORS) + 1000 * ranges);
    kvs_exec_profile_clear(&p);
}

static void only_the_first_launches(void **state) {
    kvs_exec_profile p;
    kvs_error error;
    (void)state;
    limit = 2;
    assert_int_equal(run(&p, &error, "cuda", "launch", "a", "5", "launch", "b", "3"), KVS_OK);
    limit = 0;
    assert_int_equal(p.count, 2);
    assert_int_equal(p.launches, 8);
    assert_string_equal(p.kernels[0].name, "a"); /* the same counts: by name */
    assert_int_equal(p.kernels[0].launches, 5);
    assert_int_equal(p.kernels[1].launches, 3);
    for (int i = 0; i < 2; i++) { /* each in ranges 0 and 1 of a start of its own */
        assert_int_equal(p.kernels[i].counted, 2);
        near(p.kernels[i].values[KVS_COUNTER_LOAD_SECTORS], 2 * length_of(KVS_COUNTER_LOAD_SECTORS) + 1000);
    }
    kvs_exec_profile_clear(&p);
}

static void graphs_are_left_out(void **state) {
    kvs_exec_profile p;
    kvs_error error;
    (void)state;
    assert_int_equal(run(&p, &error, "cuda", "launch", "a", "1", "graph", "2", NULL), KVS_OK);
    assert_int_equal(p.graph_launches, 2);
    assert_int_equal(p.launches, 1); /* what was captured did not run */
    assert_int_equal(p.count, 1);
    near(p.kernels[0].values[KVS_COUNTER_LOAD_SECTORS], length_of(KVS_COUNTER_LOAD_SECTORS));
    kvs_exec_profile_clear(&p);
    assert_int_equal(run(&p, &error, "cuda", "graph", "1", NULL, NULL, NULL, NULL), KVS_INPUT);
    assert_non_null(strstr(error.rule, "CUDA graphs only"));
    kvs_exec_profile_clear(&p);
}

static void the_program_fails(void **state) {
    kvs_exec_profile p;
    kvs_error error;
    (void)state;
    assert_int_equal(run(&p, &error, "cuda", "launch", "k", "3", "exit", "7", NULL), KVS_OK);
    assert_int_equal(p.exit_status, 7);
    assert_int_equal(p.kernels[0].launches, 3);
    kvs_exec_profile_clear(&p);
    assert_int_equal(run(&p, &error, "cuda", "launch", "k", "300", "crash", NULL, NULL), KVS_OK);
    assert_int_equal(p.exit_status, 128 + 6);
    assert_int_equal(p.unfinished, 1);
    assert_int_equal(p.kernels[0].counted, 256); /* what was read before */
    kvs_exec_profile_clear(&p);
    assert_int_equal(run(&p, &error, "cuda", "launch", "k", "3", "_exit", "5", NULL), KVS_INPUT);
    assert_int_equal(p.exit_status, 5);
    assert_non_null(strstr(error.rule, "before any counts were kept (status 5"));
    kvs_exec_profile_clear(&p);
}

static void the_program_forks(void **state) {
    kvs_exec_profile p;
    kvs_error error;
    (void)state;
    assert_int_equal(run(&p, &error, "cuda", "launch", "k", "2", "fork", NULL, NULL), KVS_OK);
    assert_int_equal(p.exit_status, 0);
    assert_int_equal(p.processes, 1); /* the child did not count its parent's launches again */
    assert_int_equal(p.launches, 2);
    kvs_exec_profile_clear(&p);
}

static void no_kernel_no_cuda_no_program(void **state) {
    kvs_exec_profile p;
    kvs_error error;
    (void)state;
    assert_int_equal(run(&p, &error, "cuda", "exit", "9", NULL, NULL, NULL, NULL), KVS_INPUT);
    assert_int_equal(p.exit_status, 9);
    assert_non_null(strstr(error.rule, "launched no kernel"));
    kvs_exec_profile_clear(&p);
    assert_int_equal(run(&p, &error, "exit", "4", NULL, NULL, NULL, NULL, NULL), KVS_INPUT);
    assert_int_equal(p.exit_status, 4);
    assert_non_null(strstr(error.rule, "used no CUDA"));
    kvs_exec_profile_clear(&p);
    char nothing[] = "/nowhere/program", *argv[] = {nothing, NULL};
    kvs_exec_settings settings = {.argv = argv, .inject = library};
    assert_int_equal(kvs_exec_profile_run(&settings, &p, &error), KVS_USAGE);
    assert_string_equal(error.file, nothing);
    kvs_exec_profile_clear(&p);
    settings.inject = "/nowhere/libkvscope_inject.so";
    assert_int_equal(kvs_exec_profile_run(&settings, &p, &error), KVS_DEVICE);
    kvs_exec_profile_clear(&p);
}

static void the_profiler_fails(void **state) {
    static const char *const failures[][2] = {
        {"cuptiRangeProfilerEnable=35", "NVreg_RestrictProfilingToAdminUsers=0"},
        {"cuptiSubscribe=39", "already uses CUPTI"},
        {"cuptiRangeProfilerSetConfig=999", "CUPTI error 999"},
        {"cuptiRangeProfilerDecodeData=26", "another profiler"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        kvs_exec_profile p;
        kvs_error error;
        assert_int_equal(setenv("FAKE_CUPTI_FAIL", failures[i][0], 1), 0);
        assert_int_equal(run(&p, &error, "cuda", "launch", "k", "3", "exit", "2", NULL), KVS_DEVICE);
        assert_int_equal(p.exit_status, 2); /* the program went on to its own end */
        if (strstr(error.rule, failures[i][1]) == NULL) fail_msg("'%s' lacks '%s'", error.rule, failures[i][1]);
        kvs_exec_profile_clear(&p);
        assert_int_equal(unsetenv("FAKE_CUPTI_FAIL"), 0);
    }
    kvs_exec_profile p;
    kvs_error error;
    assert_int_equal(setenv("FAKE_CUPTI_RANGES", "1", 1), 0);
    assert_int_equal(run(&p, &error, "cuda", "launch", "k", "3", NULL, NULL, NULL), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "3 launches gave 1 ranges"));
    kvs_exec_profile_clear(&p);
    assert_int_equal(unsetenv("FAKE_CUPTI_RANGES"), 0);
}

static int find_files(void **state) {
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 64);
    (void)state;
    if (length <= 0) return -1;
    folder[length] = '\0';
    for (int i = 0; i < 2; i++) *strrchr(folder, '/') = '\0'; /* tests */
    (void)snprintf(program, sizeof program, "%s/fake/program", folder);
    (void)snprintf(cupti, sizeof cupti, "%s/fake/libcupti.so", folder);
    (void)snprintf(library, sizeof library, "%s/../libkvscope_inject.so", folder);
    return setenv("KVSCOPE_CUPTI", cupti, 1) != 0 || setenv("KVSCOPE_CUDA_DRIVER", cupti, 1) != 0;
}

#else

static void without_cupti(void **state) {
    kvs_exec_profile p;
    kvs_error error;
    char name[] = "true", *argv[] = {name, NULL};
    kvs_exec_settings settings = {.argv = argv};
    (void)state;
    assert_int_equal(kvs_exec_profile_run(&settings, &p, &error), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "CUDA 13"));
}

static int find_files(void **state) {
    (void)state;
    return unsetenv("KVSCOPE_INJECT");
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_and_means),
        cmocka_unit_test(files_that_are_refused),
#ifdef KVS_HAVE_CUPTI
        cmocka_unit_test(kernels_are_counted),
        cmocka_unit_test(more_launches_than_ranges),
        cmocka_unit_test(only_the_first_launches),
        cmocka_unit_test(graphs_are_left_out),
        cmocka_unit_test(the_program_fails),
        cmocka_unit_test(the_program_forks),
        cmocka_unit_test(no_kernel_no_cuda_no_program),
        cmocka_unit_test(the_profiler_fails),
#else
        cmocka_unit_test(without_cupti),
#endif
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, find_files, NULL);
}
