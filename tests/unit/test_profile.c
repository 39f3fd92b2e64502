/* test_profile.c: do profiles survive their files, do their rules find what differs, and do workloads compute what they
 * are meant to? */
#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "analysis/profile.h"
#include "analysis/workload.h"
#include "core/file.h"

static char folder[] = "/tmp/kvs_profile_XXXXXX";
static kvs_error error;

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static char *text(const char *from) {
    char *copy = strdup(from);
    assert_non_null(copy);
    return copy;
}

static kvs_profile_launch *add(kvs_profile *p, const char *kernel, const char *layout) {
    int number;
    assert_int_equal(kvs_profile_add_launch(p, kernel, layout, &number, &error), KVS_OK);
    kvs_profile_launch *launch = &p->launches[number];
    launch->blocks = launch->recorded_blocks = 12;
    return launch;
}

/* Two launches that agree in everything: 3 requests of 5 sectors, 4 MB of DRAM. */
static kvs_profile *measured_profile(void) {
    static kvs_profile p;
    p = (kvs_profile){.head_dim = 128, .page_tokens = 64, .kv_heads = 2, .query_heads = 4, .sequences = 1, .pages = 2};
    p.version = text("1"), p.command_line = text("kvscope profile, \"quoted\""), p.input = text("generated");
    p.kernel_sources = text("0"), p.device = text("H"), p.counters = text("CUPTI 130001"), p.cache = text("cold");
    p.passes = 4, p.fetch_granularity_bytes = 32, p.seed = 7;
    for (int i = 0; i < 2; i++) {
        kvs_profile_launch *l = add(&p, i == 0 ? "copy" : "quantize_pack_k", i == 0 ? NULL : "kitty");
        for (int side = 0; side < 2; side++) {
            double *c = side ? l->measured : l->predicted;
            c[KVS_COUNTER_LOAD_REQUESTS] = 3;
            c[KVS_COUNTER_LOAD_SECTORS] = 15;
            c[KVS_COUNTER_LOCAL_LOAD_SECTORS] = 0;
            c[KVS_COUNTER_DRAM_READ_BYTES] = 4e6;
        }
        l->measured[KVS_COUNTER_DRAM_WRITE_BYTES] = 1e6;
        l->measured[KVS_COUNTER_DRAM_WRITE_BACK_BYTES] = 3e6;
        l->measured[KVS_COUNTER_OCCUPANCY] = 0.5;
        l->compulsory_written_bytes = 4e6;
        l->seconds = i == 0 ? 2e-6 : 4e-6;
    }
    kvs_profile_line *lines = calloc(1, sizeof *lines);
    lines[0] = (kvs_profile_line){.launch = 1,
                                  .file = text("a.cu"),
                                  .instruction = text("ld.global"),
                                  .line = 12,
                                  .width = 16,
                                  .requests = 3,
                                  .sectors = 15,
                                  .lines = 4,
                                  .useful_bytes = 480};
    p.lines = lines, p.lines_count = 1;
    add(&p, "quantize_pack_k", "fp16-nhd")->refused = text("a full-precision layout holds no codes");
    assert_int_equal(kvs_profile_evaluate(&p, &error), KVS_OK);
    return &p;
}

static const kvs_profile_metric *metric(const kvs_profile *p, int launch, const char *name) {
    const kvs_profile_metric *row = kvs_profile_find_metric(p, launch, name);
    assert_non_null(row);
    return row;
}

static void test_metrics(void **state) {
    (void)state;
    kvs_profile *p = measured_profile();
    assert_true(metric(p, 1, "load_sectors_per_request")->predicted == 5);
    assert_true(metric(p, 1, "dram_written_bytes")->measured == 4e6);
    assert_true(fabs(metric(p, 0, "bandwidth")->measured - 8e6 / 2e-6) < 1);
    assert_true(fabs(metric(p, 1, "fraction_of_copy")->measured - 0.5) < 1e-12);
    assert_true(isnan(metric(p, 1, "bandwidth")->predicted));
    assert_true(isnan(metric(p, 1, "occupancy")->predicted) && metric(p, 1, "occupancy")->measured == 0.5);
    assert_null(kvs_profile_find_metric(p, 1, "store_requests")); /* on neither side */
    assert_null(kvs_profile_find_metric(p, 2, "load_requests"));  /* refused */
    assert_string_equal(metric(p, 1, "load_sectors")->rule, "exact");
    assert_string_equal(metric(p, 1, "load_sectors")->verdict, "holds");
    assert_int_equal(kvs_profile_check(p, &error), KVS_OK);
    kvs_profile_clear(p);
}

/* One number off, and the check must fail and name it. */
static void plant(kvs_counter counter, int launch, double change, kvs_status expected) {
    kvs_profile *p = measured_profile();
    p->launches[launch].measured[counter] += change;
    assert_int_equal(kvs_profile_evaluate(p, &error), KVS_OK);
    error = (kvs_error){.status = KVS_OK};
    assert_int_equal(kvs_profile_check(p, &error), expected);
    if (expected != KVS_OK) {
        assert_non_null(strstr(error.rule, kvs_counter_types[counter].name));
        assert_non_null(strstr(error.object, p->launches[launch].kernel));
        assert_true(p->notes_count > 0);
    }
    kvs_profile_clear(p);
}

static void test_planted_differences(void **state) {
    (void)state;
    plant(KVS_COUNTER_LOAD_REQUESTS, 1, 1, KVS_CHECK);
    plant(KVS_COUNTER_LOAD_SECTORS, 0, -1, KVS_CHECK);
    plant(KVS_COUNTER_LOCAL_LOAD_SECTORS, 1, 1, KVS_CHECK);
    plant(KVS_COUNTER_DRAM_READ_BYTES, 1, 0.049 * 4e6, KVS_OK);
    plant(KVS_COUNTER_DRAM_READ_BYTES, 1, 0.051 * 4e6, KVS_CHECK);
    plant(KVS_COUNTER_DRAM_READ_BYTES, 1, -0.051 * 4e6, KVS_CHECK);
    plant(KVS_COUNTER_OCCUPANCY, 1, 0.3, KVS_OK);
}

/* Where a rule does not apply: sampled counts, a warm cache, few bytes. */
static void test_rules_that_do_not_apply(void **state) {
    (void)state;
    kvs_profile *p = measured_profile();
    p->launches[1].recorded_blocks = 3;
    p->launches[1].measured[KVS_COUNTER_LOAD_REQUESTS] = 4;
    p->launches[0].predicted[KVS_COUNTER_DRAM_READ_BYTES] = 1e6;
    assert_int_equal(kvs_profile_evaluate(p, &error), KVS_OK);
    assert_null(metric(p, 1, "load_requests")->rule);
    assert_null(metric(p, 0, "dram_read_bytes")->rule);
    assert_int_equal(kvs_profile_check(p, &error), KVS_OK);
    assert_non_null(strstr(p->notes[0].text, "sample"));
    strcpy(p->cache, "warm");
    p->launches[1].measured[KVS_COUNTER_DRAM_READ_BYTES] = 0;
    assert_int_equal(kvs_profile_evaluate(p, &error), KVS_OK);
    assert_int_equal(kvs_profile_check(p, &error), KVS_OK);
    kvs_profile_clear(p);
}

static void assert_same_json(const kvs_profile *a, const kvs_profile *b) {
    cJSON *x = kvs_profile_to_json(a, 1), *y = kvs_profile_to_json(b, 1);
    assert_non_null(x);
    assert_non_null(y);
    char *s = cJSON_Print(x), *t = cJSON_Print(y);
    assert_string_equal(s, t);
    assert_non_null(strstr(s, "a.cu"));
    cJSON_free(s), cJSON_free(t);
    cJSON_Delete(x), cJSON_Delete(y);
}

static void test_files(void **state) {
    (void)state;
    kvs_profile *p = measured_profile(), back;
    assert_int_equal(kvs_profile_write_h5(p, in_folder("p.h5"), &error), KVS_OK);
    assert_true(kvs_profile_is_h5(in_folder("p.h5")));
    assert_int_equal(kvs_profile_read_h5(in_folder("p.h5"), &back, &error), KVS_OK);
    assert_same_json(p, &back);
    kvs_profile_clear(&back);
    assert_int_equal(kvs_profile_write_json(p, in_folder("p.json"), &error), KVS_OK);
    assert_int_equal(kvs_profile_read_json(in_folder("p.json"), &back, &error), KVS_OK);
    assert_same_json(p, &back);
    kvs_profile_clear(&back);
    assert_int_equal(kvs_profile_write_csv(p, in_folder("p.csv"), &error), KVS_OK);
    assert_false(kvs_profile_is_h5(in_folder("p.json")));
    kvs_profile_clear(p);
}

static void refused(const char *json, const char *rule) {
    kvs_profile back;
    assert_int_equal(kvs_write_text(in_folder("bad.json"), json, &error), KVS_OK);
    assert_int_equal(kvs_profile_read_json(in_folder("bad.json"), &back, &error), KVS_INPUT);
    if (strstr(error.rule, rule) == NULL && strstr(error.object, rule) == NULL)
        fail_msg("%s: %s: %s", error.file, error.object, error.rule);
}

static void test_foreign_files(void **state) {
    (void)state;
    kvs_profile *p = measured_profile(), back;
    refused("{", "no valid JSON");
    refused("[]", "must hold one JSON object");
    refused("{}", "is not kvscope-profile");
    refused("{\"format\":\"kvscope-profile\",\"format_version\":2}", "format_version");
    refused("{\"format\":\"kvscope-profile\",\"format_version\":1}", "version");
    p->head_dim = 100000;
    assert_int_equal(kvs_profile_write_json(p, in_folder("p.json"), &error), KVS_OK);
    assert_int_equal(kvs_profile_read_json(in_folder("p.json"), &back, &error), KVS_INPUT);
    assert_string_equal(error.object, "head_dim");
    p->head_dim = 128, p->lines[0].launch = 9;
    assert_int_equal(kvs_profile_write_h5(p, in_folder("p.h5"), &error), KVS_OK);
    assert_int_equal(kvs_profile_read_h5(in_folder("p.h5"), &back, &error), KVS_INPUT);
    assert_int_equal(kvs_profile_read_h5(in_folder("missing.h5"), &back, &error), KVS_INPUT);
    assert_int_equal(kvs_profile_write_json(p, "/nowhere/p.json", &error), KVS_INPUT);
    kvs_profile_clear(p);
}

static void test_taking_measurements(void **state) {
    (void)state;
    kvs_profile *p = measured_profile(), now = {.head_dim = 128};
    add(&now, "copy", NULL)->predicted[KVS_COUNTER_LOAD_REQUESTS] = 3;
    assert_int_equal(kvs_profile_take_measured(&now, p, "f", &error), KVS_OK);
    assert_true(now.launches[0].measured[KVS_COUNTER_LOAD_SECTORS] == 15 && now.launches[0].seconds == 2e-6);
    assert_string_equal(now.device, "H");
    now.launches[0].blocks = 13;
    assert_int_equal(kvs_profile_take_measured(&now, p, "f", &error), KVS_CHECK);
    assert_non_null(strstr(error.rule, "12 blocks"));
    kvs_profile_clear(&now);
    kvs_profile_clear(p);
}

/* Every kernel of every layout runs twice on the same memory, or says that it does not exist. */
static void test_workloads(void **state) {
    (void)state;
    kvs_workload_input input = {.shape = {64, 32, 2, 2, 4, 16, 2},
                                .query_heads = 4,
                                .sequences = 2,
                                .pages = 3,
                                .sink_tokens = 8,
                                .window_tokens = 32,
                                .multiprocessors = 4,
                                .softmax_scale = 0.125f};
    const kvs_executor *executor;
    kvs_format format;
    assert_int_equal(kvs_executor_find("simt", &executor, &error), KVS_OK);
    assert_int_equal(kvs_workload_input_alloc(&input, &error), KVS_OK);
    assert_int_equal(kvs_workload_tokens(&input), 8 + 3 * 32);
    kvs_workload_generate(&input);
    for (int l = 0; kvs_layouts[l] != NULL; l++) {
        if (kvs_layouts[l]->arrange == NULL) continue;
        if (kvs_format_make(kvs_layouts[l], &input.shape, &format, &error) != KVS_OK) continue;
        for (int k = 0; kvs_workload_kernels[k] != NULL; k++) {
            kvs_workload *workload;
            kvs_status status =
                kvs_workload_open(executor, kvs_workload_kernels[k], &format, &input, &workload, &error);
            if (status == KVS_USAGE) continue;
            assert_int_equal(status, KVS_OK);
            status = kvs_workload_launch(workload, NULL, &error);
            if (status == KVS_OK) status = kvs_workload_launch(workload, NULL, &error); /* the same again */
            if (status != KVS_OK && status != KVS_USAGE)
                fail_msg("%s, %s: %s", kvs_workload_kernels[k]->name, kvs_layouts[l]->name, error.rule);
            kvs_workload_close(workload);
        }
    }
    kvs_workload_input_clear(&input);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"p.h5", "p.json", "p.csv", "bad.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(in_folder(names[i]));
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_planted_differences),
        cmocka_unit_test(test_rules_that_do_not_apply),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_taking_measurements),
        cmocka_unit_test(test_workloads),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
