/* simt_test.h: what the tests of the SIMT runtime share. */
#ifndef KVS_TESTS_SIMT_TEST_H
#define KVS_TESTS_SIMT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include "kernels/simt/simt.h"

/* Memory of a kernel, registered while it is in scope. */
template <class T> struct device_array {
    T *data;
    size_t count;
    device_array(size_t elements, const char *name, kvs_simt_access access = KVS_SIMT_READ_WRITE) : count(elements) {
        size_t bytes = (elements * sizeof(T) + 255) / 256 * 256;
        data = static_cast<T *>(aligned_alloc(256, bytes));
        memset((void *)data, 0, bytes);
        kvs_error error;
        assert_int_equal(kvs_simt_register(data, elements * sizeof(T), name, access, &error), KVS_OK);
    }
    ~device_array() {
        kvs_simt_forget(data);
        free(data);
    }
    device_array(const device_array &) = delete;
    device_array &operator=(const device_array &) = delete;
    T &operator[](size_t i) {
        return data[i];
    }
};

static inline void launched(int error) {
    if (error != 0) fail_msg("%s", kvs_launch_text(error));
}

/* Every test begins with the default options. */
static inline int default_options(void **) {
    *kvs_simt_settings() = kvs_simt_options();
    return 0;
}

#endif
