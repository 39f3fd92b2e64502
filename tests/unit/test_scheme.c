/* test_scheme.c: opening schemes: specs, parameters, what does not fit and how it is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/affine_codec.h"
#include "kernels/layout.h"

static kvs_scheme *opened(const char *spec, int head_dim) {
    kvs_scheme *scheme;
    kvs_error error;
    if (kvs_scheme_open(spec, head_dim, &scheme, &error) != KVS_OK)
        fail_msg("%s: %s: %s", error.file, error.object, error.rule);
    return scheme;
}

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        int head_dim;
        const char *file, *object, *rule;
    } wrong[] = {
        {"kitten", 128, "kitten", "", "unknown scheme; known: fp16, int, kivi, kitty, kitty-pro, "},
        {"", 128, "", "", "unknown scheme"},
        {":bits=2", 128, ":bits=2", "", "unknown scheme"},
        {"kitty:", 0, "kitty:", "head_dim", "0 is outside 1 to 1024"},
        {"kitty", 2048, "kitty", "head_dim", "2048 is outside"},
        {"fp16:bits=2", 128, "scheme fp16", "bits", "unknown parameter; known: none"},
        {"int:bits=9", 128, "scheme int", "bits", "9 is outside 1 to 8 bits"},
        {"int:bits=0", 128, "scheme int", "bits", "0 is outside 1 to 8 bits"},
        {"int:group=auto", 128, "scheme int", "group", "'auto' is not a whole number"},
        {"int:group=64", 96, "int:group=64", "group", "groups of 64 channels do not divide head_dim 96"},
        {"int:rounding=auto", 128, "scheme int", "rounding", "'auto' is not one of up, even"},
        {"kivi:residual=48", 128, "kivi:residual=48", "residual", "48 tokens are not a multiple of group 32"},
        {"kivi:group=64", 96, "kivi:group=64", "group", "groups of 64 channels do not divide head_dim 96"},
        {"kitty:page=100,group=32", 128, "kitty:page=100,group=32", "group",
         "groups of 32 tokens do not divide a page of 100"},
        {"kitty:group=256", 128, "kitty:group=256", "group", "groups of 256 tokens do not divide a page of 128"},
        {"kitty:v_group=128", 96, "kitty:v_group=128", "v_group", "groups of 128 channels do not divide head_dim 96"},
        {"kitty:bits=4,boost_bits=2", 128, "kitty:bits=4,boost_bits=2", "boost_bits", "2 bits are fewer than bits 4"},
        {"kitty:boost=1.1", 128, "scheme kitty", "boost", "1.1 is outside 0 to 1"},
        {"kitty:rank=loudness", 128, "scheme kitty", "rank",
         "'loudness' is not one of magnitude, variance, range, random"},
        {"kitty:boost=0.5", 1024, "kitty:boost=0.5", "boost", "512 of 1024 channels"},
        {"kitty:sink=1,sink=1", 128, "scheme kitty", "sink", "given twice"},
        {"turboquant", 100, "turboquant", "head_dim",
         "100: a Hadamard rotation needs 2^k, 12 * 2^k or 20 * 2^k channels"},
        {"quarot:group=48", 128, "quarot:group=48", "group", "groups of 48 channels do not divide head_dim 128"},
        {"q4_0", 80, "q4_0", "head_dim", "80 is not a multiple of blocks of 32 channels"},
        {"nvfp4:block=24", 128, "nvfp4:block=24", "head_dim", "128 is not a multiple of blocks of 24 channels"},
        {"polarquant", 65, "polarquant", "head_dim", "65 is odd"},
        {"bitdecoding:bits=3", 128, "bitdecoding:bits=3", "bits", "3 is neither 2 nor 4"},
        {"bitdecoding:residual=192", 128, "bitdecoding:residual=192", "residual",
         "groups of 128 tokens do not divide a page of 192"},
        {"skvq:group=64", 96, "skvq:group=64", "group", "groups of 64 channels do not divide head_dim 96"},
        {"gear:rank=16,page=16,group=16", 128, "gear:rank=16,page=16,group=16", "rank", "16 is not below page 16"},
        {"mixkvq:full=0.5,high=0.5", 128, "mixkvq:full=0.5,high=0.5", "high", "64 and 64 of 128 channels"},
        {"mixkvq:high_bits=1", 128, "mixkvq:high_bits=1", "high_bits", "1 bits are fewer than bits 2"},
        {"kvquant:prefix=0", 128, "scheme kvquant", "prefix", "0 is outside 1 to"},
        {"kitty-pro:boots=1", 128, "scheme kitty-pro", "boots", "unknown parameter"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        kvs_scheme *scheme;
        kvs_error error = {0};
        if (kvs_scheme_open(wrong[i].spec, wrong[i].head_dim, &scheme, &error) != KVS_USAGE)
            fail_msg("%s is accepted", wrong[i].spec);
        assert_null(scheme);
        assert_int_equal(error.status, KVS_USAGE);
        assert_string_equal(error.file, wrong[i].file);
        assert_string_equal(error.object, wrong[i].object);
        if (strstr(error.rule, wrong[i].rule) == NULL) fail_msg("%s: %s", wrong[i].spec, error.rule);
    }
    kvs_scheme_close(NULL);
}

static void every_scheme_opens_with_its_defaults(void **state) {
    (void)state;
    const int head_dims[] = {64, 96, 128, 256};
    for (int i = 0; kvs_scheme_types[i] != NULL; i++)
        for (int h = 0; h < 4; h++) {
            const kvs_scheme_type *type = kvs_scheme_types[i];
            kvs_scheme *scheme = opened(type->name, head_dims[h]);
            assert_ptr_equal(scheme->type, type);
            assert_ptr_equal(kvs_scheme_type_find(type->name), type);
            assert_string_equal(scheme->spec, type->name);
            assert_string_equal(scheme->layout, type->layout);
            assert_non_null(kvs_layout_find(scheme->layout));
            assert_int_equal(scheme->k.head_dim, head_dims[h]);
            assert_int_equal(scheme->v.head_dim, head_dims[h]);
            assert_true(scheme->k.window.page_tokens >= 1 && scheme->v.window.page_tokens >= 1);
            kvs_scheme_close(scheme);
        }
    assert_null(kvs_layout_find("nonsense"));
}

/* Every parameter of every scheme can be set to its own default without changing anything. */
static void defaults_can_be_written_out(void **state) {
    (void)state;
    for (int i = 0; kvs_scheme_types[i] != NULL; i++) {
        const kvs_scheme_type *type = kvs_scheme_types[i];
        kvs_scheme *plain = opened(type->name, 128);
        for (const kvs_param *p = type->params; p->name != NULL; p++) {
            if (*p->fallback == '\0') continue; /* a text that means none, which nobody can write */
            char spec[96], text[32];
            kvs_params_text(p, plain->config, text, sizeof text);
            assert_string_equal(text, p->fallback);
            snprintf(spec, sizeof spec, "%s:%s=%s", type->name, p->name, text);
            kvs_scheme *same = opened(spec, 128);
            kvs_params_text(p, same->config, text, sizeof text);
            assert_string_equal(text, p->fallback);
            assert_memory_equal(&same->k.window, &plain->k.window, sizeof(kvs_window));
            assert_memory_equal(&same->v.window, &plain->v.window, sizeof(kvs_window));
            kvs_bits a = kvs_scheme_head_bits(same, 1000), b = kvs_scheme_head_bits(plain, 1000);
            assert_memory_equal(&a, &b, sizeof a);
            kvs_scheme_close(same);
        }
        kvs_scheme_close(plain);
    }
}

static int boost_count(const char *spec, int head_dim) {
    kvs_scheme *scheme = opened(spec, head_dim);
    int count = ((const kvs_affine_config *)scheme->k.config)->boost_count;
    kvs_scheme_close(scheme);
    return count;
}

static void boost_counts_are_truncated(void **state) {
    (void)state;
    assert_int_equal(boost_count("kitty:boost=0.2", 128), 25); /* of 25.6 */
    assert_int_equal(boost_count("kitty:boost=0.125", 128), 16);
    assert_int_equal(boost_count("kitty-pro", 96), 24);
    assert_int_equal(boost_count("kitty:boost=0.1", 10), 1);
    assert_int_equal(boost_count("kitty:boost=0.3", 10), 3); /* 0.3 in binary is below 0.3 */
    assert_int_equal(boost_count("kitty:boost=0.7", 10), 7);
    assert_int_equal(boost_count("kitty:boost=0.007", 128), 0);
    assert_int_equal(boost_count("kitty:boost=0", 128), 0);
    assert_int_equal(boost_count("kitty:boost=1", 256), 256);
}

static kvs_affine_rule rule_of(const char *spec, kvs_window *k, kvs_window *v) {
    kvs_scheme *scheme = opened(spec, 128);
    kvs_affine_rule rule = ((const kvs_affine_config *)scheme->k.config)->rule;
    kvs_affine_rule other = ((const kvs_affine_config *)scheme->v.config)->rule;
    assert_memory_equal(&rule, &other, sizeof rule);
    *k = scheme->k.window, *v = scheme->v.window;
    kvs_scheme_close(scheme);
    return rule;
}

static void variants_set_what_is_auto(void **state) {
    (void)state;
    kvs_window k, v;
    kvs_affine_rule rule = rule_of("kitty", &k, &v);
    assert_int_equal(rule.rounding, KVS_ROUND_HALF_UP);
    assert_int_equal(rule.meta, KVS_META_BINARY16);
    assert_int_equal(rule.divisor, KVS_DIVIDE_BY_WORKING);
    assert_true(rule.scale_floor == 1e-6f && rule.range_floor == 0);
    assert_true(k.decode_lag == 0 && k.recent_tokens == 0 && v.page_tokens == 128 && v.recent_tokens == 128);
    rule = rule_of("kitty:variant=simulator", &k, &v);
    assert_int_equal(rule.rounding, KVS_ROUND_HALF_EVEN);
    assert_int_equal(rule.meta, KVS_META_BINARY32);
    assert_true(rule.scale_floor == 0 && rule.range_floor == 1e-4f);
    assert_true(k.decode_lag == 1 && v.decode_lag == 0 && v.page_tokens == 1 && v.recent_tokens == 128);
    rule = rule_of("kitty:variant=simulator,rounding=up,meta=fp16,divisor=stored,scale_floor=1e-3,range_floor=0,"
                   "v_window=page,k_lag=0",
                   &k, &v);
    assert_int_equal(rule.rounding, KVS_ROUND_HALF_UP);
    assert_int_equal(rule.meta, KVS_META_BINARY16);
    assert_int_equal(rule.divisor, KVS_DIVIDE_BY_STORED);
    assert_true(rule.scale_floor == 1e-3f && rule.range_floor == 0);
    assert_true(k.decode_lag == 0 && v.page_tokens == 128);
    rule = rule_of("kivi", &k, &v);
    assert_int_equal(rule.rounding, KVS_ROUND_HALF_EVEN);
    assert_int_equal(rule.divisor, KVS_DIVIDE_BY_STORED);
    assert_true(rule.scale_floor == 0 && rule.range_floor == 0);
    assert_true(k.page_tokens == 128 && v.page_tokens == 1 && v.recent_tokens == 128 && k.sink_tokens == 0);
}

static void a_store_without_a_codec_stores_nothing(void **state) {
    (void)state;
    kvs_scheme *scheme = opened("fp16", 4);
    const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float x_hat[8] = {0};
    assert_int_equal(kvs_store_scratch_floats(&scheme->k), 0);
    kvs_store_pages(&scheme->k, &(kvs_page_context){.place = {0}}, 2, x, x_hat, NULL, NULL);
    for (int i = 0; i < 8; i++) assert_true(x_hat[i] == 0);
    kvs_scheme_close(scheme);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_named),  cmocka_unit_test(every_scheme_opens_with_its_defaults),
        cmocka_unit_test(defaults_can_be_written_out), cmocka_unit_test(boost_counts_are_truncated),
        cmocka_unit_test(variants_set_what_is_auto),   cmocka_unit_test(a_store_without_a_codec_stores_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
