/* test_safetensors.c: tensors are read exactly, and a header that lies is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "sim/model/safetensors.h"

enum { DATA = 24 };

/* A file in memory of exactly its size, so that a sanitizer sees any read past it. */
static unsigned char *make_file(const char *header, uint64_t claimed, size_t data_bytes, size_t *size) {
    size_t length = strlen(header);
    *size = 8 + length + data_bytes;
    unsigned char *bytes = malloc(*size);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(claimed >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++) bytes[8 + length + i] = (unsigned char)i;
    return bytes;
}

static kvs_status open_bytes(const unsigned char *bytes, size_t size, kvs_safetensors *tensors, kvs_error *error) {
    *tensors = (kvs_safetensors){.directory = strdup("memory")};
    kvs_status status = kvs_safetensors_add(tensors, "memory", bytes, size, error);
    return status == KVS_OK ? kvs_safetensors_sort(tensors, error) : status;
}

static void refuse_claimed(const char *header, uint64_t claimed, const char *rule) {
    size_t size;
    unsigned char *bytes = make_file(header, claimed, DATA, &size);
    kvs_safetensors tensors;
    kvs_error error = {0};
    char text[800] = "accepted";
    if (open_bytes(bytes, size, &tensors, &error) == KVS_INPUT) kvs_error_text(&error, text, sizeof text);
    if (strstr(text, rule) == NULL) fail_msg("%s: wanted '%s', got '%s'", header, rule, text);
    kvs_safetensors_close(&tensors);
    free(bytes);
}

static void refuse(const char *header, const char *rule) {
    refuse_claimed(header, strlen(header), rule);
}

#define A(shape, begin, end) "\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
#define B(shape, begin, end) "\"b\":{\"dtype\":\"BF16\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void lying_headers_are_refused(void **state) {
    (void)state;
    const char *good = "{" A("[2,2]", "0", "16") "," B("[4]", "16", "24") "}";
    refuse_claimed(good, strlen(good) + DATA + 1, "claims a header");
    refuse_claimed(good, UINT64_MAX, "claims a header");
    refuse_claimed(good, UINT64_MAX - 7, "claims a header");
    refuse_claimed(good, strlen(good) - 1, "no valid JSON");
    refuse_claimed(good, strlen(good) + 8, "nothing else");
    refuse("[]", "one JSON object");
    refuse("{" A("[2,2]", "0", "16") "," B("[4]", "12", "20") "}", "overlaps");
    refuse("{" A("[2,2]", "0", "16") "}", "holds 24 bytes of data, its tensors end at 16");
    refuse("{" A("[2]", "0", "8") "," B("[4]", "16", "24") "}", "leaves a gap");
    refuse("{" A("[2,2]", "0", "16") "," B("[8]", "16", "32") "}", "outside the 24 bytes");
    refuse("{" A("[2,2]", "16", "0") "}", "outside");
    refuse("{" A("[2,2]", "-16", "0") "}", "two whole numbers");
    refuse("{" A("[2,2]", "0.5", "16.5") "}", "two whole numbers");
    refuse("{" A("[2,2]", "0", "1e300") "}", "two whole numbers");
    refuse("{" A("[2,3]", "0", "16") "}", "do not match its shape");
    refuse("{" A("[4503599627370496,4503599627370496]", "0", "0") "}", "overflows");
    refuse("{" A("[4503599627370496,1024]", "0", "0") "}", "do not match its shape");
    refuse("{" A("[-2,-2]", "0", "16") "}", "no whole number");
    refuse("{" A("[1,1,1,1,1,1,1,1,4]", "0", "16") "}", "more than 8 dimensions");
    refuse("{" A("4", "0", "16") "}", "has no shape");
    refuse("{\"a\":{\"dtype\":\"F31\",\"shape\":[6],\"data_offsets\":[0,24]}}", "unknown dtype 'F31'");
    refuse("{\"a\":7}", "must be an object");
    refuse("{\"__metadata__\":{\"x\":1}}", "__metadata__: must be an object of texts");
    refuse("{" A("[2,2]", "0", "16") "," A("[2]", "16", "24") "}", "a: is there twice");
}

static void tensors_are_read(void **state) {
    (void)state;
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"}," B("[2,2]", "16", "24") "," A("[4]", "0", "16") "}";
    size_t size;
    unsigned char *bytes = make_file(header, strlen(header), DATA, &size);
    kvs_safetensors tensors;
    kvs_error error = {0};
    float got[4], want[4];
    assert_int_equal(open_bytes(bytes, size, &tensors, &error), KVS_OK);
    assert_int_equal(tensors.tensors_count, 2);
    assert_int_equal(kvs_safetensors_read(&tensors, "a", 1, 4, got, &error), KVS_OK);
    memcpy(want, bytes + 8 + strlen(header), sizeof want);
    assert_memory_equal(got, want, sizeof got);
    assert_int_equal(kvs_safetensors_read(&tensors, "b", 2, 2, got, &error), KVS_OK);
    for (int i = 0; i < 4; i++) {
        uint32_t bits = (uint32_t)(16 + 2 * i) << 16 | (uint32_t)(17 + 2 * i) << 24;
        assert_memory_equal(&got[i], &bits, 4);
    }
    assert_int_equal(kvs_safetensors_read(&tensors, "c", 1, 4, got, &error), KVS_INPUT);
    assert_non_null(strstr(error.rule, "missing"));
    assert_int_equal(kvs_safetensors_read(&tensors, "b", 4, 1, got, &error), KVS_INPUT);
    assert_int_equal(kvs_safetensors_read(&tensors, "a", 2, 2, got, &error), KVS_INPUT);
    kvs_safetensors_close(&tensors);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(lying_headers_are_refused), cmocka_unit_test(tensors_are_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
