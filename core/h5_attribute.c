#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/h5.h"

/* "/sequences/000000" and "num_tokens" give "/sequences/000000@num_tokens". */
static const char *join(kvs_h5_place at, const char *name, char object[160]) {
    snprintf(object, 160, "%s@%s", at.object[0] ? at.object : "/", name);
    return object;
}

int kvs_h5_has_attribute(kvs_h5_place at, const char *name) {
    return H5Aexists(at.id, name) > 0;
}

/* Opens an attribute of exactly one element of that class. */
static kvs_status open_one(kvs_h5_place at, const char *name, H5T_class_t class, const char *kind, hid_t *attribute,
                           hid_t *type, kvs_error *error) {
    char object[160];
    *attribute = *type = H5I_INVALID_HID;
    if (!kvs_h5_has_attribute(at, name))
        return kvs_fail(error, KVS_INPUT, at.file, join(at, name, object), "attribute is missing");
    *attribute = H5Aopen(at.id, name, H5P_DEFAULT);
    hid_t space = *attribute >= 0 ? H5Aget_space(*attribute) : H5I_INVALID_HID;
    if (*attribute >= 0) *type = H5Aget_type(*attribute);
    hssize_t count = space >= 0 ? H5Sget_simple_extent_npoints(space) : -1;
    H5T_class_t found = *type >= 0 ? H5Tget_class(*type) : H5T_NO_CLASS;
    if (space >= 0) H5Sclose(space);
    if (found == class && count == 1) return KVS_OK;
    if (*type >= 0) H5Tclose(*type);
    if (*attribute >= 0) H5Aclose(*attribute);
    return kvs_fail(error, KVS_INPUT, at.file, join(at, name, object), "attribute must be one %s", kind);
}

static kvs_status read_number(kvs_h5_place at, const char *name, H5T_class_t class, const char *kind, hid_t memory,
                              void *value, kvs_error *error) {
    char object[160];
    hid_t attribute, type;
    KVS_TRY(open_one(at, name, class, kind, &attribute, &type, error));
    herr_t read = H5Aread(attribute, memory, value);
    H5Tclose(type);
    H5Aclose(attribute);
    if (read >= 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, at.file, join(at, name, object), "attribute cannot be read");
}

kvs_status kvs_h5_int(kvs_h5_place at, const char *name, int64_t low, int64_t high, int64_t *value, kvs_error *error) {
    char object[160];
    *value = 0; /* a value too wide for int64 reads as the nearest one, which the bounds refuse */
    KVS_TRY(read_number(at, name, H5T_INTEGER, "integer", H5T_NATIVE_INT64, value, error));
    if (*value >= low && *value <= high) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, at.file, join(at, name, object), "%lld is outside %lld to %lld",
                    (long long)*value, (long long)low, (long long)high);
}

kvs_status kvs_h5_real(kvs_h5_place at, const char *name, double *value, kvs_error *error) {
    char object[160];
    *value = 0;
    KVS_TRY(read_number(at, name, H5T_FLOAT, "floating-point number", H5T_NATIVE_DOUBLE, value, error));
    if (isfinite(*value)) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, at.file, join(at, name, object), "%g is not finite", *value);
}

static int continuation_bytes(unsigned char lead) {
    return lead < 0x80                   ? 0
           : lead >= 0xc2 && lead < 0xe0 ? 1
           : (lead & 0xf0) == 0xe0       ? 2
           : lead >= 0xf0 && lead < 0xf5 ? 3
                                         : -1;
}

/* Whether every byte belongs to a well-formed UTF-8 sequence (RFC 3629): no overlong forms, no surrogates. */
static int is_utf8(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    while (*c) {
        int more = continuation_bytes(*c);
        if (more < 0) return 0;
        if (more >= 2) {
            unsigned char low = *c == 0xe0 ? 0xa0 : *c == 0xf0 ? 0x90 : 0x80;
            unsigned char high = *c == 0xed ? 0x9f : *c == 0xf4 ? 0x8f : 0xbf;
            if (c[1] < low || c[1] > high) return 0;
        }
        for (c++; more > 0; more--, c++)
            if ((*c & 0xc0) != 0x80) return 0;
    }
    return 1;
}

/* Copies `length` bytes at most, up to a NUL. Returns 0 if they do not fit. */
static int take(const char *from, size_t length, char *text, size_t bytes) {
    size_t used = from == NULL ? 0 : strnlen(from, length);
    if (used >= bytes) return 0;
    if (used > 0) memcpy(text, from, used);
    text[used] = '\0';
    return 1;
}

/* Returns 1 on success, 0 if too long, -1 if HDF5 fails. */
static int read_variable(hid_t attribute, hid_t type, char *text, size_t bytes) {
    char *value = NULL;
    if (H5Aread(attribute, type, &value) < 0) return -1;
    int fits = take(value, SIZE_MAX, text, bytes);
    if (value != NULL) H5free_memory(value);
    return fits;
}

static int read_fixed(hid_t attribute, hid_t type, char *text, size_t bytes) {
    size_t stored = H5Tget_size(type);
    char *value = calloc(1, stored + 1);
    int result = value != NULL && H5Aread(attribute, type, value) >= 0 ? 1 : -1;
    if (result == 1 && H5Tget_strpad(type) == H5T_STR_SPACEPAD)
        for (size_t end = stored; end > 0 && value[end - 1] == ' ';) value[--end] = '\0';
    if (result == 1) result = take(value, stored, text, bytes);
    free(value);
    return result;
}

kvs_status kvs_h5_text(kvs_h5_place at, const char *name, char *text, size_t bytes, kvs_error *error) {
    char object[160];
    hid_t attribute, type;
    KVS_TRY(open_one(at, name, H5T_STRING, "string", &attribute, &type, error));
    htri_t variable = H5Tis_variable_str(type);
    int result = variable < 0 ? -1 : (variable ? read_variable : read_fixed)(attribute, type, text, bytes);
    H5Tclose(type);
    H5Aclose(attribute);
    join(at, name, object);
    if (result < 0) return kvs_fail(error, KVS_INPUT, at.file, object, "attribute cannot be read");
    if (result == 0) return kvs_fail(error, KVS_INPUT, at.file, object, "is longer than %zu bytes", bytes - 1);
    return is_utf8(text) ? KVS_OK : kvs_fail(error, KVS_INPUT, at.file, object, "is not UTF-8");
}

kvs_status kvs_h5_put(kvs_h5_place at, const char *name, hid_t stored, hid_t memory, int count, const void *values,
                      kvs_error *error) {
    char object[160];
    hsize_t length = (hsize_t)count;
    hid_t space = count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &length, NULL);
    hid_t attribute = space < 0 ? -1 : H5Acreate2(at.id, name, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t written = attribute < 0 ? -1 : H5Awrite(attribute, memory, values);
    if (attribute >= 0 && H5Aclose(attribute) < 0) written = -1;
    if (space >= 0) H5Sclose(space);
    if (written >= 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, at.file, join(at, name, object), "attribute cannot be written");
}

kvs_status kvs_h5_put_text(kvs_h5_place at, const char *name, const char *text, kvs_error *error) {
    hid_t type = H5Tcopy(H5T_C_S1);
    kvs_status status = KVS_OK;
    if (type < 0 || H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)
        status = kvs_fail(error, KVS_INPUT, at.file, at.object, "attribute %s cannot be written", name);
    else
        status = kvs_h5_put(at, name, type, type, 1, &text, error);
    if (type >= 0) H5Tclose(type);
    return status;
}
