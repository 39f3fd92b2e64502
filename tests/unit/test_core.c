/* test_core.c: parameters, errors, output files, random draws. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/params.h"
#include "core/random.h"

typedef struct settings {
    int bits, mode;
    double ratio;
} settings;

static const char *const modes[] = {"slow", "fast", NULL};
static const kvs_param table[] = {
    {"bits", KVS_PARAM_INT, offsetof(settings, bits), "2", 1, 8, "bits", "code width", NULL},
    {"ratio", KVS_PARAM_REAL, offsetof(settings, ratio), "0.25", 0, 1, "", "share", NULL},
    {"mode", KVS_PARAM_CHOICE, offsetof(settings, mode), "fast", 0, 0, "", "how", modes},
    {NULL, KVS_PARAM_INT, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static void parameters_take_defaults_and_values(void **state) {
    (void)state;
    settings s;
    kvs_error error;
    kvs_params_defaults(table, &s);
    assert_int_equal(s.bits, 2);
    assert_int_equal(s.mode, 1);
    assert_true(s.ratio == 0.25);
    assert_int_equal(kvs_params_parse(table, "scheme x", "mode=slow,bits=8,ratio=1e-1", &s, &error), KVS_OK);
    assert_int_equal(s.bits, 8);
    assert_int_equal(s.mode, 0);
    assert_true(s.ratio == 0.1);
    assert_int_equal(kvs_params_parse(table, "scheme x", NULL, &s, &error), KVS_OK);
    char text[32];
    kvs_params_text(&table[1], &s, text, sizeof text);
    assert_string_equal(text, "0.1");
    kvs_params_text(&table[2], &s, text, sizeof text);
    assert_string_equal(text, "slow");
}

static void wrong_parameters_are_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *object, *rule;
    } wrong[] = {
        {"bitz=2", "bitz", "unknown parameter; known: bits, ratio, mode"},
        {"bits=9", "bits", "9 is outside 1 to 8 bits"},
        {"bits=2.5", "bits", "'2.5' is not a whole number"},
        {"bits=99999999999999999999", "bits", "'99999999999999999999' is not a whole number"},
        {"bits= 2", "bits", "' 2' is not a whole number"},
        {"ratio=nan", "ratio", "'nan' is not a finite number"},
        {"ratio=0x1", "ratio", "'0x1' is not a finite number"},
        {"ratio=-0.1", "ratio", "-0.1 is outside 0 to 1"},
        {"mode=medium", "mode", "'medium' is not one of slow, fast"},
        {"bits", "bits", "a parameter is written key=value"},
        {"bits=", "bits=", "a parameter is written key=value"},
        {"=2", "=2", "a parameter is written key=value"},
        {"bits=2,bits=3", "bits", "given twice"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        settings s;
        kvs_error error = {0};
        kvs_params_defaults(table, &s);
        assert_int_equal(kvs_params_parse(table, "scheme x", wrong[i].text, &s, &error), KVS_USAGE);
        assert_string_equal(error.file, "scheme x");
        assert_string_equal(error.object, wrong[i].object);
        assert_string_equal(error.rule, wrong[i].rule);
    }
    char long_text[300];
    memset(long_text, 'b', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    settings s;
    assert_int_equal(kvs_params_parse(table, "scheme x", long_text, &s, NULL), KVS_USAGE);
}

static void an_error_is_one_line(void **state) {
    (void)state;
    kvs_error error;
    char text[64];
    kvs_fail(&error, KVS_INPUT, "a\nb", NULL, "rule %d\x1b[31m", 7);
    kvs_error_text(&error, text, sizeof text);
    assert_string_equal(text, "a?b: rule 7?[31m");
    char small[8];
    kvs_error_text(&error, small, sizeof small);
    assert_string_equal(small, "a?b: ru");
}

static int exists(const char *path) {
    return access(path, F_OK) == 0;
}

static void an_output_appears_whole_or_not_at_all(void **state) {
    (void)state;
    char folder[] = "kvs_test_XXXXXX", path[64], inner[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/out", folder);
    kvs_error error = {0};
    assert_int_equal(kvs_write_text(path, "old", &error), KVS_OK);

    kvs_output output;
    assert_int_equal(kvs_output_begin(path, &output, &error), KVS_OK);
    assert_true(exists(output.temporary));
    kvs_output_abandon(&output);
    assert_false(exists(output.temporary));
    char digest[65];
    assert_int_equal(kvs_file_sha256(path, digest, &error), KVS_OK); /* sha256("old"), from sha256sum */
    assert_string_equal(digest, "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4");

    assert_int_equal(kvs_write_text("kvs_test_no_such_folder/out", "x", &error), KVS_INPUT);
    assert_int_equal(kvs_write_text(folder, "x", &error), KVS_INPUT);
    assert_int_equal(kvs_write_text("", "x", &error), KVS_INPUT);
    assert_int_equal(kvs_file_sha256("kvs_test_no_such_file", digest, &error), KVS_INPUT);

    snprintf(inner, sizeof inner, "%s/a/b", folder);
    assert_int_equal(kvs_make_folder(inner, &error), KVS_OK);
    assert_int_equal(kvs_make_folder(inner, &error), KVS_OK);
    char below_file[80];
    snprintf(below_file, sizeof below_file, "%s/x", path);
    assert_int_equal(kvs_make_folder(below_file, &error), KVS_INPUT);
    rmdir(inner);
    snprintf(inner, sizeof inner, "%s/a", folder);
    rmdir(inner);
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left behind */
}

static void draws_depend_on_the_key_alone_and_are_uniform(void **state) {
    (void)state;
    uint64_t key = kvs_random_key(kvs_random_key(1, 2), 3);
    assert_true(kvs_random_bits(key, 5) == kvs_random_bits(key, 5));
    assert_true(kvs_random_bits(key, 5) != kvs_random_bits(key, 6));
    assert_true(kvs_random_key(1, 2) != kvs_random_key(2, 1));
    double sum = 0, squares = 0;
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        double u = kvs_random_unit(key, (uint64_t)i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
    }
    assert_true(sum / N > 0.495 && sum / N < 0.505); /* the mean's standard error is 0.0009 */
    assert_true(squares / N > 0.328 && squares / N < 0.338);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_take_defaults_and_values),
        cmocka_unit_test(wrong_parameters_are_named),
        cmocka_unit_test(an_error_is_one_line),
        cmocka_unit_test(an_output_appears_whole_or_not_at_all),
        cmocka_unit_test(draws_depend_on_the_key_alone_and_are_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
