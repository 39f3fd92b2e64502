/* test_calibrated.c: constants of a model: files and their faults, pages coded by them, and the rate-distortion bound.
 */
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

#include "analysis/rate_distortion.h"
#include "core/half.h"
#include "core/random.h"
#include "kernels/constants.h"
#include "kernels/scheme.h"

enum { DIM = 16, LAYERS = 2, HEADS = 2, TOKENS = 128 };

static const kvs_constants_header header = {LAYERS, HEADS, DIM, 0, TOKENS, 0, 128, "one"};
static char path[64];

/* Component c of head h is channel DIM - 1 - c times c + 1; the mean is h; component c has c % 5 bits. */
static uint8_t *make_records(void) {
    uint8_t *records = calloc(1, kvs_constants_bytes(&header));
    assert_non_null(records);
    for (int i = 0; i < 2 * LAYERS * HEADS; i++) {
        kvs_constants_record r = kvs_constants_at(&header, records, i / 4, i / 2 % 2, i % 2);
        for (int c = 0; c < DIM; c++) {
            r.basis[c * DIM + DIM - 1 - c] = kvs_float_to_half((float)c + 1.0f);
            r.mean[c] = kvs_float_to_half((float)(i % 4));
            r.widths[c] = (uint8_t)(c % 5);
        }
    }
    return records;
}

static int prepare(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/kvs-constants-%ld", (long)getpid());
    uint8_t *records = make_records();
    kvs_error error;
    int failed = kvs_constants_write(path, &header, records, &error) != KVS_OK;
    free(records);
    return failed;
}

static int clean(void **state) {
    (void)state;
    return remove(path);
}

static void what_is_written_is_read(void **state) {
    (void)state;
    kvs_constants_header read;
    uint8_t *records, *want = make_records();
    kvs_error error;
    assert_int_equal(kvs_constants_read(path, &read, &records, &error), KVS_OK);
    assert_memory_equal(&read, &header, sizeof read);
    assert_memory_equal(records, want, kvs_constants_bytes(&header));
    free(records);
    free(want);
}

/* The file with one change: bytes at an offset, or another length. */
static void damage(long offset, const void *bytes, size_t count, long length) {
    FILE *file = fopen(path, "rb+");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
    if (length >= 0) assert_int_equal(truncate(path, length), 0);
}

static void bad_files_are_refused(void **state) {
    const int32_t none = 0, negative = -1, many = 70000, three = 3, wide = 4096;
    const uint16_t infinite = 0x7c00, zero = 0;
    const uint8_t seven = 7, nine = 9;
    const long record = 128, widths = record + 2 * DIM * (DIM + 1);
    const struct {
        long offset;
        const void *bytes;
        size_t count;
        long length;
        const char *rule;
    } faults[] = {
        {0, "K", 1, -1, "no file of kvscope calibrate"},
        {0, "", 0, 40, "has 40 bytes, fewer than its header"},
        {0, "", 0, 0, "no file of kvscope calibrate"},
        {0, "", 0, 200, "bytes, where its header asks for"},
        {32, &none, 4, -1, "outside 1 to"},
        {36, &many, 4, -1, "outside 1 to"},
        {36, &three, 4, -1, "bytes, where its header asks for"},
        {40, &wide, 4, -1, "outside 1 to 1024"},
        {44, &three, 4, -1, "outside 0 to 1"},
        {48, &none, 4, -1, "outside 1 to"},
        {56, &negative, 4, -1, "outside 0 to"},
        {127, &seven, 1, -1, "has no end"},
        {record, &infinite, 2, -1, "not finite"},
        {widths, &nine, 1, -1, "component 0 has 9 bits"},
        {record + 2 * (DIM - 1), &zero, 2, -1, "has no inverse"},
    };
    char spec[128];
    snprintf(spec, sizeof spec, "tcq:sink=0,constants=%s", path);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        kvs_scheme *scheme;
        kvs_error error;
        assert_int_equal(prepare(state), 0);
        damage(faults[i].offset, faults[i].bytes, faults[i].count, faults[i].length);
        assert_int_equal(kvs_scheme_open(spec, DIM, &scheme, &error), KVS_INPUT);
        assert_string_equal(error.file, path);
        if (strstr(error.rule, faults[i].rule) == NULL) fail_msg("fault %zu: %s", i, error.rule);
    }
    assert_int_equal(prepare(state), 0);
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_scheme_open(spec, 2 * DIM, &scheme, &error), KVS_USAGE);
    assert_int_equal(kvs_scheme_open("tcq:constants=/nowhere/at/all", DIM, &scheme, &error), KVS_INPUT);
}

static void other_windows_than_calibrated_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *parameters, *object, *rule;
    } others[] = {{"sink=32", "sink", "was 0 when these constants were calibrated, and here it is 32"},
                  {"sink=0,page=64", "page", "was 128 when these constants were calibrated, and here it is 64"},
                  {"sink=0,window=0", "window", "was 128 when these constants were calibrated, and here it is 0"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char spec[128];
        kvs_scheme *scheme;
        kvs_error error;
        snprintf(spec, sizeof spec, "tcq:%s,constants=%s", others[i].parameters, path);
        assert_int_equal(kvs_scheme_open(spec, DIM, &scheme, &error), KVS_USAGE);
        assert_string_equal(error.file, path);
        assert_string_equal(error.object, others[i].object);
        assert_string_equal(error.rule, others[i].rule);
    }
}

static void a_page_is_coded_in_the_basis_of_its_head(void **state) {
    (void)state;
    char spec[128];
    snprintf(spec, sizeof spec, "tcq:sink=0,constants=%s", path);
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_scheme_open(spec, DIM, &scheme, &error), KVS_OK);
    const kvs_store *store = &scheme->k;
    float *scratch = malloc(sizeof *scratch * kvs_store_scratch_floats(store));
    static float x[TOKENS * DIM], x_hat[TOKENS * DIM];
    assert_non_null(scratch);
    for (int h = 0; h < LAYERS * HEADS; h++) {
        double errors[DIM] = {0};
        /* Uniform values of variance 1 times the component's length, round the mean. */
        for (int i = 0; i < TOKENS * DIM; i++)
            x[i] = (float)h + (float)(DIM - i % DIM) * sqrtf(12.0f) * (kvs_random_unit(9, (uint64_t)i) - 0.5f);
        kvs_page_context context = {.place = {.layer = h / HEADS, .kv_head = h % HEADS}};
        kvs_store_pages(store, &context, TOKENS, x, x_hat, NULL, scratch);
        for (int i = 0; i < TOKENS * DIM; i++) {
            double change = ((double)x_hat[i] - (double)x[i]) / (DIM - i % DIM);
            int bits = (DIM - 1 - i % DIM) % 5;
            if (bits == 0) assert_true(fabs((double)x_hat[i] - h) < 1e-6);
            errors[i % DIM] += change * change / TOKENS;
        }
        static const double most[] = {1.4, 0.4, 0.12, 0.04, 0.013}, least[] = {0.6, 0.1, 0.01, 0.002, 0.0003};
        for (int d = 0; d < DIM; d++) {
            int bits = (DIM - 1 - d) % 5;
            if (errors[d] > most[bits] || errors[d] < least[bits]) fail_msg("%d bits leave %g", bits, errors[d]);
        }
    }
    /* 16 components of 0 1 2 3 4 bits in turn are 30 planes; 560 bytes of constants over 2^20 tokens. */
    kvs_bits bits = store->codec->page_bits(store);
    assert_true(bits.payload == 30 * 128 && bits.padding == 0);
    assert_true(fabs(bits.metadata - 560.0 * 8 * 128 / 1048576) < 1e-12);
    assert_int_equal(kvs_scheme_check_model(scheme, "one", LAYERS, HEADS, &error), KVS_OK);
    assert_int_equal(kvs_scheme_check_model(scheme, "", LAYERS, HEADS, &error), KVS_OK);
    assert_int_equal(kvs_scheme_check_model(scheme, "one", LAYERS, HEADS + 1, &error), KVS_USAGE);
    assert_int_equal(kvs_scheme_check_model(scheme, "another", LAYERS, HEADS, &error), KVS_USAGE);
    assert_int_equal(kvs_scheme_without_constants(scheme, "a test", &error), KVS_USAGE);
    free(scratch);
    kvs_scheme_close(scheme);
}

static void water_fills_as_in_the_book(void **state) {
    (void)state;
    const double equal[] = {2.0, 2.0, 2.0, 2.0}, apart[] = {1.0, 16.0, 0.0}, nothing[] = {0.0, 0.0};
    for (int bits = 0; bits <= 12; bits += 3)
        assert_true(fabs(kvs_rate_distortion(4, equal, bits) / (8.0 * pow(4.0, -bits / 4.0)) - 1.0) < 1e-9);
    /* Up to log2(16) / 2 = 2 bits only the larger one is stored; then both share. */
    assert_true(fabs(kvs_rate_distortion(3, apart, 1.0) - (1.0 + 4.0)) < 1e-9);
    assert_true(fabs(kvs_rate_distortion(3, apart, 2.0) - 2.0) < 1e-9);
    assert_true(fabs(kvs_rate_distortion(3, apart, 4.0) - 0.5) < 1e-9);
    assert_true(kvs_rate_distortion(2, nothing, 3.0) == 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read, prepare, clean),
        cmocka_unit_test_setup_teardown(bad_files_are_refused, prepare, clean),
        cmocka_unit_test_setup_teardown(other_windows_than_calibrated_are_refused, prepare, clean),
        cmocka_unit_test_setup_teardown(a_page_is_coded_in_the_basis_of_its_head, prepare, clean),
        cmocka_unit_test(water_fills_as_in_the_book),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
