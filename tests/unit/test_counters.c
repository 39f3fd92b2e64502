/* Does the table of counters hold together; and do CUPTI's names exist on real chips, in how many passes? CUPTI answers
 * the last on any machine that has its libraries, without a GPU. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "analysis/counters.h"
#include "analysis/cupti/config.h"

static void every_counter_says_what_it_is(void **state) {
    (void)state;
    for (int i = 0; i < KVS_COUNTERS; i++) {
        const kvs_counter_type *type = &kvs_counter_types[i];
        kvs_counter found = KVS_COUNTERS;
        kvs_error error;
        assert_non_null(type->name);
        assert_non_null(type->cupti[0]);
        assert_true(strlen(type->unit) > 0 && strlen(type->meaning) > 0 && type->scale > 0);
        assert_int_equal(kvs_counter_find(type->name, &found, &error), KVS_OK);
        assert_int_equal(found, i); /* and so no name twice */
    }
    kvs_counter none = KVS_COUNTERS;
    kvs_error error;
    assert_int_equal(kvs_counter_find("dram__bytes_read.sum", &none, &error), KVS_USAGE);
    assert_string_equal(error.object, "dram__bytes_read.sum");
}

#ifdef KVS_HAVE_CUPTI

static kvs_cupti cupti;
static int there; /* libcupti and libnvperf_host */

static int load(void **state) {
    kvs_error error;
    kvs_cupti_config config;
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    print_message(
        "# skipped: CUPTI loads libnvperf_host in a way that the address sanitizer refuses (RTLD_DEEPBIND)\n");
    return 0;
#endif
    if (kvs_cupti_load(&cupti, NULL, &error) != KVS_OK) {
        print_message("# skipped: %s: %s\n", error.file, error.rule);
        return 0;
    }
    there = kvs_cupti_config_open(&config, &cupti, "GH100", NULL, KVS_ALL_COUNTERS, &error) == KVS_OK;
    if (!there) print_message("# skipped: %s: %s\n", error.object, error.rule);
    kvs_cupti_config_close(&config);
    return 0;
}

static int unload(void **state) {
    (void)state;
    kvs_cupti_unload(&cupti);
    return 0;
}

#define BULK KVS_COUNTER_BIT(KVS_COUNTER_BULK_COPY_BYTES)

/* Only Hopper and later have bulk copies. */
static void names_exist_and_passes_are_few(void **state) {
    static const struct {
        const char *chip;
        kvs_counter_set missing;
        size_t passes;
    } chips[] = {
        {"GH100", 0, 3},    /* H100, H200 */
        {"GA100", BULK, 3}, /* A100 */
        {"AD102", BULK, 3}, /* RTX 4090, L40 */
        {"GA102", BULK, 3}, /* RTX 3090, A40 */
        {"GB202", 0, 3},    /* RTX 5090, whose DRAM counters have other names */
    };
    (void)state;
    if (!there) skip();
    for (size_t i = 0; i < sizeof chips / sizeof *chips; i++) {
        kvs_cupti_config config;
        kvs_error error;
        if (kvs_cupti_config_open(&config, &cupti, chips[i].chip, NULL, KVS_ALL_COUNTERS, &error) != KVS_OK)
            fail_msg("%s: %s: %s", chips[i].chip, error.object, error.rule);
        if (config.missing != chips[i].missing || config.passes > chips[i].passes)
            fail_msg("%s: missing %llx, %zu passes", chips[i].chip, (unsigned long long)config.missing, config.passes);
        assert_true(config.collected == (KVS_ALL_COUNTERS & ~config.missing));
        kvs_cupti_config_close(&config);
    }
}

/* The hit rate of L2 and the bytes of bulk copies share the third pass. */
static void fewer_counters_take_fewer_passes(void **state) {
    kvs_counter_set third = KVS_COUNTER_BIT(KVS_COUNTER_L2_HIT_RATE) | BULK;
    kvs_counter_set dram = KVS_COUNTER_BIT(KVS_COUNTER_DRAM_READ_BYTES) | KVS_COUNTER_BIT(KVS_COUNTER_DRAM_WRITE_BYTES);
    kvs_cupti_config config;
    kvs_error error;
    (void)state;
    if (!there) skip();
    assert_int_equal(kvs_cupti_config_open(&config, &cupti, "GH100", NULL, KVS_ALL_COUNTERS & ~third, &error), KVS_OK);
    assert_int_equal(config.passes, 2);
    kvs_cupti_config_close(&config);
    assert_int_equal(kvs_cupti_config_open(&config, &cupti, "GH100", NULL, dram, &error), KVS_OK);
    assert_int_equal(config.passes, 1);
    assert_int_equal(config.count, 2);
    kvs_cupti_config_close(&config);
}

static void unknown_chips_are_refused(void **state) {
    kvs_cupti_config config;
    kvs_error error;
    (void)state;
    if (!there) skip();
    assert_int_equal(kvs_cupti_config_open(&config, &cupti, "XY100", NULL, KVS_ALL_COUNTERS, &error), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "does not know the chip"));
    kvs_cupti_config_close(&config);
    kvs_counter_set bulk = BULK;
    assert_int_equal(kvs_cupti_config_open(&config, &cupti, "GA100", NULL, bulk, &error), KVS_DEVICE);
    assert_string_equal(error.object, "GA100");
    assert_true(config.missing == bulk);
    kvs_cupti_config_close(&config);
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_counter_says_what_it_is),
#ifdef KVS_HAVE_CUPTI
        cmocka_unit_test(names_exist_and_passes_are_few),
        cmocka_unit_test(fewer_counters_take_fewer_passes),
        cmocka_unit_test(unknown_chips_are_refused),
#endif
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
#ifdef KVS_HAVE_CUPTI
    return cmocka_run_group_tests(tests, load, unload);
#else
    return cmocka_run_group_tests(tests, NULL, NULL);
#endif
}
