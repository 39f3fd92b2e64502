#include "traces/tokens.h"

#include <limits.h>
#include <stdlib.h>

#include "core/h5.h"

enum { TOKENS_LIMIT = 1 << 28, CHUNK_LIMIT_BYTES = 1 << 26 };

/* Reads one dataset of whole numbers from 0 to INT_MAX. */
static kvs_status read_whole_numbers(kvs_h5_place root, const char *name, int *count, int32_t **values,
                                     kvs_error *error) {
    hid_t dataset;
    hsize_t length;
    KVS_TRY(kvs_h5_dataset(root, name, 1, CHUNK_LIMIT_BYTES, &length, &dataset, error));
    hid_t type = H5Dget_type(dataset);
    int whole = type >= 0 && H5Tget_class(type) == H5T_INTEGER;
    if (type >= 0) H5Tclose(type);
    int64_t *wide = whole && length <= TOKENS_LIMIT ? malloc(sizeof *wide * (size_t)length) : NULL;
    *values = wide != NULL ? malloc(sizeof **values * (size_t)length) : NULL;
    kvs_status status = KVS_OK;
    if (!whole || length > TOKENS_LIMIT)
        status = kvs_fail(error, KVS_INPUT, root.file, name, "must hold 1 to %d whole numbers", TOKENS_LIMIT);
    else if (*values == NULL)
        status = kvs_fail(error, KVS_INPUT, root.file, name, "out of memory");
    else if (H5Dread(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, wide) < 0)
        status = kvs_h5_fail(error, root, name, "cannot be read");
    for (hsize_t i = 0; status == KVS_OK && i < length; i++) {
        if (wide[i] < 0 || wide[i] > INT_MAX)
            status = kvs_fail(error, KVS_INPUT, root.file, name, "element %llu is outside 0 to %d",
                              (unsigned long long)i, INT_MAX);
        (*values)[i] = (int32_t)wide[i];
    }
    H5Dclose(dataset);
    free(wide);
    *count = (int)length;
    return status;
}

static kvs_status read_offsets(kvs_h5_place root, kvs_tokens *tokens, kvs_error *error) {
    int count = 2;
    if (kvs_h5_has(root, "document_offsets")) {
        KVS_TRY(read_whole_numbers(root, "document_offsets", &count, &tokens->offsets, error));
    } else {
        tokens->offsets = calloc(2, sizeof *tokens->offsets);
        if (tokens->offsets == NULL) return kvs_fail(error, KVS_INPUT, root.file, NULL, "out of memory");
        tokens->offsets[1] = tokens->count;
    }
    tokens->documents = count - 1;
    int rising = count >= 2 && tokens->offsets[0] == 0 && tokens->offsets[count - 1] == tokens->count;
    for (int i = 1; rising && i < count; i++) rising = tokens->offsets[i] > tokens->offsets[i - 1];
    if (!rising)
        return kvs_fail(error, KVS_INPUT, root.file, "document_offsets", "must rise strictly from 0 to %d",
                        tokens->count);
    return KVS_OK;
}

kvs_status kvs_tokens_read(const char *path, kvs_tokens *tokens, kvs_error *error) {
    *tokens = (kvs_tokens){0};
    hid_t file;
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        kvs_h5_place root = {file, path, ""};
        status = read_whole_numbers(root, "token_ids", &tokens->count, &tokens->ids, error);
        if (status == KVS_OK) status = read_offsets(root, tokens, error);
        H5Fclose(file);
    }
    kvs_h5_unlock();
    if (status != KVS_OK) kvs_tokens_clear(tokens);
    return status;
}

void kvs_tokens_clear(kvs_tokens *tokens) {
    free(tokens->ids);
    free(tokens->offsets);
    *tokens = (kvs_tokens){0};
}
