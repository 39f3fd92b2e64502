/* safetensors.h: tensors of .safetensors files, memory-mapped and checked before anything is believed.
 *
 * The format (huggingface/safetensors): 8 bytes header length N (little endian), N bytes of JSON that map a tensor's
 * name to {dtype, shape, data_offsets [begin, end)}, then the data that the offsets count into. Refused, by name:
 * a header longer than the file or than 100 MB, duplicate names, a shape whose bytes differ from its offsets, offsets
 * out of range, overlapping tensors, bytes that belong to none. */
#ifndef KVS_SIM_MODEL_SAFETENSORS_H
#define KVS_SIM_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvs_dtype { KVS_DTYPE_F32, KVS_DTYPE_F16, KVS_DTYPE_BF16, KVS_DTYPE_OTHER } kvs_dtype;

enum { KVS_TENSOR_MAX_RANK = 8 };

typedef struct kvs_stored_tensor {
    char *name;
    kvs_dtype dtype; /* KVS_DTYPE_OTHER is listed, but cannot be read as floats */
    int rank;
    int64_t shape[KVS_TENSOR_MAX_RANK];
    size_t elements, begin, end; /* begin and end count bytes in the file's data */
    const unsigned char *data;   /* elements in little endian; no alignment is promised */
    int file;                    /* index into kvs_safetensors.files */
} kvs_stored_tensor;

typedef struct kvs_mapping {
    char *path;
    unsigned char *bytes;
    size_t size;
} kvs_mapping;

typedef struct kvs_safetensors {
    char *directory;
    int files_count, tensors_count;
    kvs_mapping *files;
    kvs_stored_tensor *tensors; /* in the order of their names */
} kvs_safetensors;

/* Opens directory/model.safetensors, or every file that directory/model.safetensors.index.json names. The caller closes
 * it with kvs_safetensors_close, also after a failure. */
KVS_MUST_CHECK kvs_status kvs_safetensors_open(const char *directory, kvs_safetensors *tensors, kvs_error *error);
void kvs_safetensors_close(kvs_safetensors *tensors);

/* Adds the tensors of one file's bytes, which must outlive them; `path` names it in errors. For tests and fuzzing; call
 * kvs_safetensors_sort after the last. */
KVS_MUST_CHECK kvs_status kvs_safetensors_add(kvs_safetensors *tensors, const char *path, const unsigned char *bytes,
                                              size_t size, kvs_error *error);
/* Sorts by name and refuses a name that occurs twice. */
KVS_MUST_CHECK kvs_status kvs_safetensors_sort(kvs_safetensors *tensors, kvs_error *error);

/* One tensor by its name, or NULL. */
const kvs_stored_tensor *kvs_safetensors_find(const kvs_safetensors *tensors, const char *name);

/* Copies a tensor as binary32 to `floats`. It must exist with exactly rows x columns elements (rank 2, or rank 1 where
 * rows is 1) in a float type, every value finite. */
KVS_MUST_CHECK kvs_status kvs_safetensors_read(const kvs_safetensors *tensors, const char *name, int64_t rows,
                                               int64_t columns, float *floats, kvs_error *error);
/* The same checks without a copy: *tensor's data stay as they are stored. */
KVS_MUST_CHECK kvs_status kvs_safetensors_check(const kvs_safetensors *tensors, const char *name, int64_t rows,
                                                int64_t columns, const kvs_stored_tensor **tensor, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
