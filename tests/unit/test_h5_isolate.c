/* test_h5_isolate.c: what becomes of a look that answers, refuses, crashes or does not finish in its process. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/h5_isolate.h"

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static int *looks; /* counted in memory that the children share */

static kvs_status accept(const char *path, kvs_error *error) {
    (void)path, (void)error;
    ++*looks;
    return KVS_OK;
}

static kvs_status refuse(const char *path, kvs_error *error) {
    ++*looks;
    return kvs_fail(error, KVS_INPUT, path, "/k", "rule %d", 42);
}

static kvs_status crash(const char *path, kvs_error *error) {
    (void)path, (void)error;
    ++*looks;
    raise(SIGSEGV);
    return KVS_OK;
}

static kvs_status spin(const char *path, kvs_error *error) {
    (void)path, (void)error;
    ++*looks;
    for (volatile int forever = 1; forever;) continue;
    return KVS_OK;
}

static kvs_status spin_once(const char *path, kvs_error *error) {
    return *looks == 0 ? spin(path, error) : accept(path, error);
}

static kvs_status isolated(kvs_h5_look look, kvs_error *error) {
    *looks = 0;
    *error = (kvs_error){.status = KVS_OK};
    return kvs_h5_isolated("missing.h5", look, error);
}

static void answers_come_back(void **unused) {
    (void)unused;
    kvs_error error;
    assert_int_equal(isolated(accept, &error), KVS_OK);
    assert_int_equal(*looks, 1);
    assert_int_equal(isolated(refuse, &error), KVS_INPUT);
    assert_int_equal(*looks, 1);
    assert_string_equal(error.file, "missing.h5");
    assert_string_equal(error.object, "/k");
    assert_string_equal(error.rule, "rule 42");
}

static void a_crash_is_a_damaged_file(void **unused) {
    (void)unused;
    kvs_error error;
    assert_int_equal(isolated(crash, &error), KVS_INPUT);
    assert_int_equal(*looks, 1);
    assert_string_equal(error.rule, "is a damaged HDF5 file: HDF5 crashes on it");
}

static void what_does_not_finish_is_a_damaged_file(void **unused) {
    (void)unused;
    kvs_error error;
    assert_int_equal(isolated(spin, &error), KVS_INPUT);
    assert_int_equal(*looks, SANITIZED ? 2 : 1);
    assert_string_equal(error.rule, "is a damaged HDF5 file: HDF5 does not finish on it");
}

/* Under the sanitizer a child may hang on a lock that has nothing to do with the file. */
static void only_the_sanitizer_gets_a_second_look(void **unused) {
    (void)unused;
    kvs_error error;
    assert_int_equal(isolated(spin_once, &error), SANITIZED ? KVS_OK : KVS_INPUT);
    assert_int_equal(*looks, SANITIZED ? 2 : 1);
}

int main(void) {
    looks = mmap(NULL, sizeof *looks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (looks == MAP_FAILED) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_back),
        cmocka_unit_test(a_crash_is_a_damaged_file),
        cmocka_unit_test(what_does_not_finish_is_a_damaged_file),
        cmocka_unit_test(only_the_sanitizer_gets_a_second_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
