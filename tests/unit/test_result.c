/* test_result.c: do results survive their files to the bit, and are foreign files refused? */
#include <cjson/cJSON.h>
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "analysis/result.h"
#include "core/random.h"

static char folder[] = "/tmp/kvs_result_XXXXXX";

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Fills every field of a row with a value of its own; some reals become NaN. */
static void fill(const kvs_field *fields, void *row, uint64_t key) {
    uint64_t counter = 0;
    for (const kvs_field *field = fields; field->name != NULL; field++, counter++) {
        void *at = (char *)row + field->offset;
        uint64_t bits = kvs_random_bits(key, counter);
        char text[64];
        snprintf(text, sizeof text, "%s \"%d\", é", field->name, (int)(bits % 1000));
        if (field->type == KVS_FIELD_REAL)
            *(double *)at = bits % 7 == 0 ? NAN : (double)bits / 3.0 * pow(10, (double)(bits % 60) - 40);
        else if (field->type == KVS_FIELD_INT)
            *(int *)at = (int)(bits % 100000);
        else if (field->type == KVS_FIELD_LONG)
            *(int64_t *)at = (int64_t)(bits >> 12);
        else
            *(char **)at = bits % 5 == 0 ? NULL : strdup(text);
    }
}

static void assert_rows_equal(const kvs_field *fields, const void *a, const void *b) {
    for (const kvs_field *field = fields; field->name != NULL; field++) {
        const void *x = (const char *)a + field->offset, *y = (const char *)b + field->offset;
        if (field->type == KVS_FIELD_TEXT) {
            const char *s = *(char *const *)x, *t = *(char *const *)y;
            if (s == NULL || t == NULL)
                assert_true(s == t);
            else
                assert_string_equal(s, t);
        } else if (field->type == KVS_FIELD_REAL && isnan(*(const double *)x)) {
            assert_true(isnan(*(const double *)y));
        } else {
            assert_memory_equal(x, y, field->type == KVS_FIELD_INT ? sizeof(int) : sizeof(double));
        }
    }
}

enum { TRACES = 2, RESULTS = 5, LAYERS = 3, HEADS = 2, DIM = 4, POINTS = 4 };

static void make_results(kvs_results *results) {
    kvs_error error;
    *results = (kvs_results){.traces_count = TRACES, .results_count = RESULTS};
    fill(kvs_results_fields, results, 1);
    results->traces = calloc(TRACES, sizeof *results->traces);
    results->results = calloc(RESULTS, sizeof *results->results);
    for (int t = 0; t < TRACES; t++) {
        kvs_trace_summary *trace = &results->traces[t];
        fill(kvs_trace_summary_fields, trace, (uint64_t)t + 10);
        trace->layers = LAYERS, trace->kv_heads = HEADS, trace->head_dim = DIM;
        assert_int_equal(kvs_channels_alloc(trace, &error), KVS_OK);
        for (int i = 0; i < 4; i++)
            for (size_t j = 0; j < kvs_channels_count(trace); j++)
                (*kvs_channels_array(trace, i))[j] = kvs_random_unit((uint64_t)i, j);
    }
    for (int r = 0; r < RESULTS; r++) {
        kvs_result *result = &results->results[r];
        fill(kvs_result_fields, result, (uint64_t)r + 100);
        result->trace = r % TRACES;
        free(result->scheme);
        result->scheme = strdup("kitty:boost=0.25,rank=magnitude");
        static const int counts[] = {LAYERS * HEADS, POINTS, POINTS, 2};
        for (int i = 0; kvs_result_tables[i].name != NULL; i++) {
            const kvs_result_rows *table = &kvs_result_tables[i];
            char *rows = calloc((size_t)counts[i], table->row_bytes);
            for (int k = 0; k < counts[i]; k++)
                fill(table->fields, rows + (size_t)k * table->row_bytes, (uint64_t)(1000 * (i + 1) + r * 100 + k));
            *(char **)((char *)result + table->array) = rows;
            *(int *)((char *)result + table->count) = counts[i];
        }
        for (int h = 0; h < LAYERS * HEADS; h++) result->heads[h].layer = h / HEADS, result->heads[h].head = h % HEADS;
    }
}

static void assert_result_equal(const kvs_result *a, const kvs_result *b) {
    assert_rows_equal(kvs_result_fields, a, b);
    for (const kvs_result_rows *table = kvs_result_tables; table->name != NULL; table++) {
        int count = *(const int *)((const char *)a + table->count);
        assert_true(count > 0);
        assert_int_equal(count, *(const int *)((const char *)b + table->count));
        const char *x = *(char *const *)((const char *)a + table->array);
        const char *y = *(char *const *)((const char *)b + table->array);
        for (int i = 0; i < count; i++)
            assert_rows_equal(table->fields, x + (size_t)i * table->row_bytes, y + (size_t)i * table->row_bytes);
    }
}

static void assert_trace_equal(kvs_trace_summary *a, kvs_trace_summary *b) {
    assert_rows_equal(kvs_trace_summary_fields, a, b);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(*kvs_channels_array(a, i), *kvs_channels_array(b, i),
                            kvs_channels_count(a) * sizeof(float));
}

static void hdf5_keeps_every_bit(void **state) {
    (void)state;
    kvs_results results, back;
    kvs_error error;
    make_results(&results);
    assert_int_equal(kvs_results_write_h5(&results, in_folder("r.h5"), &error), KVS_OK);
    assert_int_equal(kvs_results_read_h5(in_folder("r.h5"), &back, &error), KVS_OK);
    assert_rows_equal(kvs_results_fields, &results, &back);
    assert_int_equal(back.traces_count, TRACES);
    assert_int_equal(back.results_count, RESULTS);
    for (int t = 0; t < TRACES; t++) assert_trace_equal(&results.traces[t], &back.traces[t]);
    for (int r = 0; r < RESULTS; r++) assert_result_equal(&results.results[r], &back.results[r]);
    kvs_results_clear(&results);
    kvs_results_clear(&back);
}

static void json_keeps_every_bit(void **state) {
    (void)state;
    kvs_results results;
    kvs_error error;
    make_results(&results);
    cJSON *json, *parsed;
    for (int r = 0; r < RESULTS; r++) {
        kvs_result back = {0};
        assert_int_equal(kvs_result_to_json(&results.results[r], &json, &error), KVS_OK);
        char *text = cJSON_PrintUnformatted(json);
        assert_non_null(parsed = cJSON_Parse(text));
        assert_int_equal(kvs_result_from_json(parsed, "journal", &back, &error), KVS_OK);
        assert_result_equal(&results.results[r], &back);
        cJSON_DeleteItemFromObject(cJSON_GetObjectItem(parsed, "error"), "top1_agreement");
        kvs_result_clear(&back);
        assert_int_equal(kvs_result_from_json(parsed, "journal", &back, &error), KVS_INPUT);
        assert_string_equal(error.object, "error.top1_agreement");
        kvs_result_clear(&back);
        cJSON_Delete(parsed);
        cJSON_Delete(json);
        free(text);
    }
    kvs_trace_summary back = {0};
    results.traces[0].tokens = 1 << 30, results.traces[0].queries = 5, results.traces[0].at_tokens = 2048;
    assert_int_equal(kvs_trace_summary_to_json(&results.traces[0], 1, &json, &error), KVS_OK);
    char *text = cJSON_PrintUnformatted(json);
    assert_non_null(parsed = cJSON_Parse(text));
    assert_int_equal(kvs_trace_summary_from_json(parsed, "journal", &back, &error), KVS_OK);
    assert_trace_equal(&results.traces[0], &back);
    kvs_trace_summary_clear(&back);
    cJSON_Delete(parsed);
    cJSON_Delete(json);
    free(text);
    kvs_results_clear(&results);
}

/* What version 1.0 did not have yet: gone from the file, it is not available, and all else is as it was. */
static void older_files_are_read(void **state) {
    (void)state;
    static const char *const newer[] = {"positions", "tasks", "results/closed_loop.perplexity", "traces/eval.windows",
                                        "traces/eval.model_path"};
    kvs_results results, back;
    kvs_error error;
    make_results(&results);
    for (int i = 0; i < 4; i++) { /* no trace was replayed */
        free(*kvs_channels_array(&results.traces[1], i));
        *kvs_channels_array(&results.traces[1], i) = NULL;
    }
    assert_int_equal(kvs_results_write_h5(&results, in_folder("b.h5"), &error), KVS_OK);
    hid_t file = H5Fopen(in_folder("b.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) assert_true(H5Ldelete(file, newer[i], H5P_DEFAULT) >= 0);
    H5Fclose(file);
    assert_int_equal(kvs_results_read_h5(in_folder("b.h5"), &back, &error), KVS_OK);
    assert_null(back.traces[1].channels.k_magnitude);
    assert_non_null(back.traces[0].channels.v_range);
    for (int t = 0; t < TRACES; t++) {
        assert_true(isnan(back.traces[t].windows));
        assert_null(back.traces[t].model_path);
    }
    for (int r = 0; r < RESULTS; r++) {
        kvs_result *old = &results.results[r], *found = &back.results[r];
        assert_true(isnan(found->closed_loop.perplexity));
        assert_int_equal(found->positions_count + found->tasks_count, 0);
        old->closed_loop.perplexity = NAN;
        assert_rows_equal(kvs_result_fields, old, found);
    }
    kvs_results_clear(&results);
    kvs_results_clear(&back);
}

static void numbers_are_short_and_exact(void **state) {
    (void)state;
    char text[32];
    kvs_real_text(2.53125, text, sizeof text);
    assert_string_equal(text, "2.53125");
    kvs_real_text(0.1, text, sizeof text);
    assert_string_equal(text, "0.1");
    kvs_real_text(NAN, text, sizeof text);
    assert_string_equal(text, "null");
    kvs_real_text(INFINITY, text, sizeof text);
    assert_string_equal(text, "null");
    for (uint64_t i = 0; i < 20000; i++) {
        double value = (double)kvs_random_bits(3, i) * pow(2, (double)(kvs_random_bits(4, i) % 1000) - 600);
        kvs_real_text(value, text, sizeof text);
        assert_true(strtod(text, NULL) == value);
    }
}

/* Each breaks one thing of a good file; the error names it. */
static const struct {
    const char *object, *absent;
} breaks[] = {
    {"results/error.attention_kl.p99", "/results/error.attention_kl.p99"},
    {"heads/result", "/heads/result"},
    {"heads/layer", "/heads/layer"},
    {"traces/sha256", "/traces/sha256"},
    {"channels/000001/v_range", "/channels/000001/v_range"},
};

static void broken_files_are_refused(void **state) {
    (void)state;
    kvs_results results, back;
    kvs_error error;
    make_results(&results);
    for (size_t i = 0; i < sizeof breaks / sizeof *breaks; i++) {
        assert_int_equal(kvs_results_write_h5(&results, in_folder("b.h5"), &error), KVS_OK);
        hid_t file = H5Fopen(in_folder("b.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(H5Ldelete(file, breaks[i].object, H5P_DEFAULT) >= 0);
        H5Fclose(file);
        assert_int_equal(kvs_results_read_h5(in_folder("b.h5"), &back, &error), KVS_INPUT);
        assert_string_equal(error.object, breaks[i].absent);
        assert_null(back.results);
    }
    results.results[1].trace = TRACES;
    assert_int_equal(kvs_results_write_h5(&results, in_folder("b.h5"), &error), KVS_OK);
    assert_int_equal(kvs_results_read_h5(in_folder("b.h5"), &back, &error), KVS_INPUT);
    assert_string_equal(error.object, "/results/trace");
    FILE *file = fopen(in_folder("text.h5"), "w");
    fputs("no HDF5", file);
    fclose(file);
    assert_int_equal(kvs_results_read_h5(in_folder("text.h5"), &back, &error), KVS_INPUT);
    hid_t foreign = H5Fcreate(in_folder("foreign.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(foreign);
    assert_int_equal(kvs_results_read_h5(in_folder("foreign.h5"), &back, &error), KVS_INPUT);
    assert_string_equal(error.object, "/format");
    assert_int_equal(kvs_results_read_h5(in_folder("absent.h5"), &back, &error), KVS_INPUT);
    results.results[1].trace = 0;
    kvs_results_clear(&results);
}

static void unwritable_outputs_say_so(void **state) {
    (void)state;
    kvs_results results;
    kvs_error error;
    make_results(&results);
    assert_int_equal(kvs_results_write_h5(&results, in_folder("no/r.h5"), &error), KVS_INPUT);
    assert_int_equal(kvs_results_write_csv(&results, in_folder("no/r.csv"), &error), KVS_INPUT);
    assert_int_equal(kvs_results_write_json(&results, in_folder("no/r.json"), &error), KVS_INPUT);
    assert_non_null(strstr(error.file, "no/r.json"));
    kvs_results_clear(&results);
}

static void csv_has_a_field_a_column(void **state) {
    (void)state;
    kvs_results results;
    kvs_error error;
    make_results(&results);
    assert_int_equal(kvs_results_write_csv(&results, in_folder("r.csv"), &error), KVS_OK);
    FILE *file = fopen(in_folder("r.csv"), "r");
    int columns = 3, lines = 0;
    for (const kvs_field *field = kvs_result_fields; field->name != NULL; field++) columns++;
    char line[8192];
    while (fgets(line, sizeof line, file) != NULL) {
        int commas = 0, quoted = 0;
        for (const char *c = line; *c; c++) {
            if (*c == '"') quoted = !quoted;
            commas += *c == ',' && !quoted;
        }
        assert_int_equal(commas + 1, columns);
        assert_null(strstr(line, "nan"));
        lines++;
    }
    assert_int_equal(lines, RESULTS + 1);
    fclose(file);
    kvs_results_clear(&results);
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {"r.h5", "b.h5", "text.h5", "foreign.h5", "r.csv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(in_folder(names[i]));
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hdf5_keeps_every_bit),        cmocka_unit_test(json_keeps_every_bit),
        cmocka_unit_test(numbers_are_short_and_exact), cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(unwritable_outputs_say_so),   cmocka_unit_test(csv_has_a_field_a_column),
        cmocka_unit_test(older_files_are_read),
    };
    return cmocka_run_group_tests_name("result", tests, set_up, tear_down);
}
