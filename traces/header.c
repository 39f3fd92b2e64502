/* header.c: the root attributes of a trace, read and written from one table. */
#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "traces/internal.h"

#define FORMAT "kvscope-trace"
#define MAJOR  1

typedef enum { INTEGER, REAL, TEXT } kind;

typedef struct {
    const char *name;
    kind kind;
    int optional; /* left out by the writer when it says nothing: 0, "" or the default */
    size_t offset, bytes;
    int low, high;
} field;

#define FIELD(member, kind, optional, low, high)                                                                       \
    { #member, kind, optional, offsetof(kvs_trace_header, member), sizeof(((kvs_trace_header *)0)->member), low, high }
#define NAMED(name, member, low, high)                                                                                 \
    { name, INTEGER, 0, offsetof(kvs_trace_header, member), sizeof(int), low, high }

static const field fields[] = {
    FIELD(model_name, TEXT, 0, 0, 0),
    FIELD(model_family, TEXT, 0, 0, 0),
    NAMED("num_layers", layers, 1, 1 << 16),
    NAMED("num_query_heads", query_heads, 1, 1 << 16),
    NAMED("num_kv_heads", kv_heads, 1, 1 << 16),
    FIELD(head_dim, INTEGER, 0, 1, 1 << 16),
    FIELD(softmax_scale, REAL, 0, 0, 0),
    FIELD(causal, INTEGER, 0, 0, 1),
    FIELD(rope_applied, INTEGER, 0, 0, 1),
    FIELD(rope_theta, REAL, 0, 0, 0),
    FIELD(rope_scaling, TEXT, 1, 0, 0),
    FIELD(rope_interleaved, INTEGER, 1, 0, 1),
    FIELD(rotary_dim, INTEGER, 1, 1, 1 << 16),
    FIELD(source_dtype, TEXT, 0, 0, 0),
    FIELD(recorder, TEXT, 0, 0, 0),
    FIELD(created_utc, TEXT, 0, 0, 0),
    FIELD(license, TEXT, 0, 0, 0),
};
enum { FIELDS = sizeof fields / sizeof *fields };

static kvs_status read_version(kvs_h5_place root, kvs_error *error) {
    static const char object[] = "/@format_version";
    int version[2] = {0, 0};
    hid_t attribute = kvs_h5_has_attribute(root, "format_version") ? H5Aopen(root.id, "format_version", H5P_DEFAULT)
                                                                   : H5I_INVALID_HID;
    if (attribute < 0) return kvs_fail(error, KVS_INPUT, root.file, object, "attribute is missing");
    hid_t space = H5Aget_space(attribute), type = H5Aget_type(attribute);
    int right = space >= 0 && type >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_npoints(space) == 2 && H5Tget_class(type) == H5T_INTEGER;
    if (right) right = H5Aread(attribute, H5T_NATIVE_INT, version) >= 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    if (!right) return kvs_fail(error, KVS_INPUT, root.file, object, "attribute must be two integers");
    if (version[0] == MAJOR && version[1] >= 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, root.file, object, "version %d.%d is not supported; this program reads %d.x",
                    version[0], version[1], MAJOR);
}

static kvs_status read_field(kvs_h5_place root, const field *f, kvs_trace_header *header, kvs_error *error) {
    void *member = (char *)header + f->offset;
    int64_t whole;
    if (f->optional && !kvs_h5_has_attribute(root, f->name)) return KVS_OK;
    switch (f->kind) {
    case TEXT:
        return kvs_h5_text(root, f->name, member, f->bytes, error);
    case REAL:
        return kvs_h5_real(root, f->name, member, error);
    case INTEGER:
        KVS_TRY(kvs_h5_int(root, f->name, f->low, f->high, &whole, error));
        *(int *)member = (int)whole;
    }
    return KVS_OK;
}

kvs_status kvs_header_read(kvs_h5_place root, kvs_trace_header *header, kvs_error *error) {
    char format[32];
    *header = (kvs_trace_header){.layers = 0};
    KVS_TRY(kvs_h5_text(root, "format", format, sizeof format, error));
    if (strcmp(format, FORMAT) != 0)
        return kvs_fail(error, KVS_INPUT, root.file, "/@format", "is '%s', must be '%s'", format, FORMAT);
    KVS_TRY(read_version(root, error));
    for (int i = 0; i < FIELDS; i++) KVS_TRY(read_field(root, &fields[i], header, error));
    if (header->rotary_dim == 0) header->rotary_dim = header->head_dim;
    return kvs_header_check(root.file, header, error);
}

static kvs_status check_integers(const char *path, const kvs_trace_header *header, kvs_error *error) {
    for (int i = 0; i < FIELDS; i++) {
        if (fields[i].kind != INTEGER) continue;
        int value = *(const int *)((const char *)header + fields[i].offset);
        if (value >= fields[i].low && value <= fields[i].high) continue;
        return kvs_fail(error, KVS_INPUT, path, fields[i].name, "%d is outside %d to %d", value, fields[i].low,
                        fields[i].high);
    }
    return KVS_OK;
}

static int is_json(const char *text) {
    cJSON *parsed = cJSON_ParseWithOpts(text, NULL, 1);
    cJSON_Delete(parsed);
    return parsed != NULL;
}

kvs_status kvs_header_check(const char *path, const kvs_trace_header *h, kvs_error *error) {
    static const char *const dtypes[] = {"float32", "bfloat16", "float16"};
    KVS_TRY(check_integers(path, h, error));
    if (h->query_heads % h->kv_heads != 0)
        return kvs_fail(error, KVS_INPUT, path, "/@num_query_heads", "%d is no multiple of num_kv_heads %d",
                        h->query_heads, h->kv_heads);
    if (!isfinite(h->softmax_scale) || h->softmax_scale <= 0)
        return kvs_fail(error, KVS_INPUT, path, "/@softmax_scale", "%g is not above 0", h->softmax_scale);
    if (!isfinite(h->rope_theta) || h->rope_theta < 0)
        return kvs_fail(error, KVS_INPUT, path, "/@rope_theta", "%g is below 0", h->rope_theta);
    if (h->rotary_dim > h->head_dim || (h->rope_applied && h->rotary_dim % 2 != 0))
        return kvs_fail(error, KVS_INPUT, path, "/@rotary_dim", "%d is odd or above head_dim %d", h->rotary_dim,
                        h->head_dim);
    if (h->rope_scaling[0] != '\0' && !is_json(h->rope_scaling))
        return kvs_fail(error, KVS_INPUT, path, "/@rope_scaling", "is not JSON");
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(h->source_dtype, dtypes[i]) == 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, path, "/@source_dtype", "is '%s', must be float32, bfloat16 or float16",
                    h->source_dtype);
}

static int says_nothing(const field *f, const kvs_trace_header *header) {
    const char *member = (const char *)header + f->offset;
    if (f->kind == TEXT) return member[0] == '\0';
    return *(const int *)member == (f->offset == offsetof(kvs_trace_header, rotary_dim) ? header->head_dim : 0);
}

static kvs_status write_field(kvs_h5_place root, const field *f, const kvs_trace_header *header, kvs_error *error) {
    const void *member = (const char *)header + f->offset;
    if (f->optional && says_nothing(f, header)) return KVS_OK;
    switch (f->kind) {
    case TEXT:
        return kvs_h5_put_text(root, f->name, member, error);
    case REAL:
        return kvs_h5_put(root, f->name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, member, error);
    case INTEGER:
        return kvs_h5_put(root, f->name, H5T_STD_I32LE, H5T_NATIVE_INT, 1, member, error);
    }
    return KVS_OK;
}

kvs_status kvs_header_write(kvs_h5_place root, const kvs_trace_header *header, kvs_error *error) {
    static const int version[2] = {MAJOR, 0};
    KVS_TRY(kvs_h5_put_text(root, "format", FORMAT, error));
    KVS_TRY(kvs_h5_put(root, "format_version", H5T_STD_I32LE, H5T_NATIVE_INT, 2, version, error));
    for (int i = 0; i < FIELDS; i++) KVS_TRY(write_field(root, &fields[i], header, error));
    return KVS_OK;
}
