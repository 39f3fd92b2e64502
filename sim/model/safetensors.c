#include "sim/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/half.h"
#include "core/json.h"

enum { HEADER_LIMIT_BYTES = 100000000, INDEX_LIMIT_BYTES = 100000000, FILES_LIMIT = 4096 };

static const struct {
    const char *name;
    kvs_dtype dtype;
    size_t bytes;
} dtypes[] = {{"F32", KVS_DTYPE_F32, 4},    {"F16", KVS_DTYPE_F16, 2},       {"BF16", KVS_DTYPE_BF16, 2},
              {"F64", KVS_DTYPE_OTHER, 8},  {"I64", KVS_DTYPE_OTHER, 8},     {"U64", KVS_DTYPE_OTHER, 8},
              {"I32", KVS_DTYPE_OTHER, 4},  {"U32", KVS_DTYPE_OTHER, 4},     {"I16", KVS_DTYPE_OTHER, 2},
              {"U16", KVS_DTYPE_OTHER, 2},  {"I8", KVS_DTYPE_OTHER, 1},      {"U8", KVS_DTYPE_OTHER, 1},
              {"BOOL", KVS_DTYPE_OTHER, 1}, {"F8_E4M3", KVS_DTYPE_OTHER, 1}, {"F8_E5M2", KVS_DTYPE_OTHER, 1}};

/* --- one entry of the header ---------------------------------------------------------------------------------------
 */

static kvs_status read_dtype(const char *path, const cJSON *entry, kvs_stored_tensor *tensor, size_t *element_bytes,
                             kvs_error *error) {
    const char *name;
    KVS_TRY(kvs_json_text(path, entry, "dtype", "", &name, error));
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, name) == 0) {
            tensor->dtype = dtypes[i].dtype;
            *element_bytes = dtypes[i].bytes;
            return KVS_OK;
        }
    return kvs_fail(error, KVS_INPUT, path, entry->string, "has the unknown dtype '%s'", name);
}

static kvs_status read_shape(const char *path, const cJSON *entry, kvs_stored_tensor *tensor, kvs_error *error) {
    const cJSON *shape = kvs_json_find(entry, "shape");
    if (!cJSON_IsArray(shape)) return kvs_fail(error, KVS_INPUT, path, entry->string, "has no shape");
    tensor->elements = 1;
    for (const cJSON *item = shape->child; item != NULL; item = item->next) {
        int64_t length;
        if (tensor->rank == KVS_TENSOR_MAX_RANK)
            return kvs_fail(error, KVS_INPUT, path, entry->string, "has more than %d dimensions", KVS_TENSOR_MAX_RANK);
        if (kvs_json_integer(item, 0, INT64_C(1) << 52, &length))
            return kvs_fail(error, KVS_INPUT, path, entry->string, "has a dimension that is no whole number");
        tensor->shape[tensor->rank++] = length;
        if (__builtin_mul_overflow(tensor->elements, (size_t)length, &tensor->elements))
            return kvs_fail(error, KVS_INPUT, path, entry->string, "has a shape whose size overflows");
    }
    return KVS_OK;
}

static kvs_status read_offsets(const char *path, const cJSON *entry, size_t element_bytes, size_t data_bytes,
                               kvs_stored_tensor *tensor, kvs_error *error) {
    const cJSON *offsets = kvs_json_find(entry, "data_offsets");
    int64_t begin, end;
    size_t bytes;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        kvs_json_integer(offsets->child, 0, INT64_MAX, &begin) ||
        kvs_json_integer(offsets->child->next, 0, INT64_MAX, &end))
        return kvs_fail(error, KVS_INPUT, path, entry->string, "has no data_offsets of two whole numbers");
    if (begin > end || (uint64_t)end > data_bytes)
        return kvs_fail(error, KVS_INPUT, path, entry->string,
                        "has data_offsets [%lld, %lld) outside the %zu bytes of data", (long long)begin, (long long)end,
                        data_bytes);
    if (__builtin_mul_overflow(tensor->elements, element_bytes, &bytes) || bytes != (uint64_t)(end - begin))
        return kvs_fail(error, KVS_INPUT, path, entry->string, "has %lld bytes, which do not match its shape and dtype",
                        (long long)(end - begin));
    tensor->begin = (size_t)begin;
    tensor->end = (size_t)end;
    return KVS_OK;
}

static kvs_status check_metadata(const char *path, const cJSON *entry, kvs_error *error) {
    if (!cJSON_IsObject(entry)) return kvs_fail(error, KVS_INPUT, path, "__metadata__", "must be an object of texts");
    for (const cJSON *item = entry->child; item != NULL; item = item->next)
        if (!cJSON_IsString(item))
            return kvs_fail(error, KVS_INPUT, path, "__metadata__", "must be an object of texts");
    return KVS_OK;
}

static kvs_status add_entry(kvs_safetensors *tensors, const char *path, const cJSON *entry, const unsigned char *data,
                            size_t data_bytes, kvs_error *error) {
    kvs_stored_tensor tensor = {.file = tensors->files_count - 1};
    size_t element_bytes = 0;
    if (!cJSON_IsObject(entry)) return kvs_fail(error, KVS_INPUT, path, entry->string, "must be an object");
    KVS_TRY(read_dtype(path, entry, &tensor, &element_bytes, error));
    KVS_TRY(read_shape(path, entry, &tensor, error));
    KVS_TRY(read_offsets(path, entry, element_bytes, data_bytes, &tensor, error));
    tensor.data = data + tensor.begin;
    tensor.name = strdup(entry->string);
    if (tensor.name == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    tensors->tensors[tensors->tensors_count++] = tensor;
    return KVS_OK;
}

/* --- one file ------------------------------------------------------------------------------------------------------
 */

static int by_offset(const void *a, const void *b) {
    const kvs_stored_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const kvs_stored_tensor *)a)->name, ((const kvs_stored_tensor *)b)->name);
}

/* Tensors in the order of their offsets must follow each other without gap or overlap, to the end of the data. */
static kvs_status check_cover(const char *path, kvs_stored_tensor *tensors, int count, size_t data_bytes,
                              kvs_error *error) {
    size_t end = 0;
    if (count > 0) qsort(tensors, (size_t)count, sizeof *tensors, by_offset);
    for (int i = 0; i < count; i++) {
        if (tensors[i].begin < end)
            return kvs_fail(error, KVS_INPUT, path, tensors[i].name, "overlaps another tensor at byte %zu of the data",
                            tensors[i].begin);
        if (tensors[i].begin > end)
            return kvs_fail(error, KVS_INPUT, path, tensors[i].name, "leaves a gap before it at byte %zu of the data",
                            end);
        end = tensors[i].end;
    }
    if (end != data_bytes)
        return kvs_fail(error, KVS_INPUT, path, NULL, "holds %zu bytes of data, its tensors end at %zu", data_bytes,
                        end);
    return KVS_OK;
}

static kvs_status add_entries(kvs_safetensors *tensors, const char *path, const cJSON *root, const unsigned char *data,
                              size_t data_bytes, kvs_error *error) {
    int first = tensors->tensors_count, entries = cJSON_GetArraySize(root);
    kvs_stored_tensor *grown = realloc(tensors->tensors, sizeof *grown * ((size_t)first + (size_t)entries + 1));
    if (grown == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    tensors->tensors = grown;
    for (const cJSON *entry = root->child; entry != NULL; entry = entry->next) {
        if (strcmp(entry->string, "__metadata__") == 0)
            KVS_TRY(check_metadata(path, entry, error));
        else
            KVS_TRY(add_entry(tensors, path, entry, data, data_bytes, error));
    }
    return check_cover(path, tensors->tensors + first, tensors->tensors_count - first, data_bytes, error);
}

kvs_status kvs_safetensors_add(kvs_safetensors *tensors, const char *path, const unsigned char *bytes, size_t size,
                               kvs_error *error) {
    uint64_t header = 0;
    if (size < 8) return kvs_fail(error, KVS_INPUT, path, NULL, "is shorter than the 8 bytes of a header length");
    for (int i = 0; i < 8; i++) header |= (uint64_t)bytes[i] << (8 * i);
    if (header > HEADER_LIMIT_BYTES || header > size - 8)
        return kvs_fail(error, KVS_INPUT, path, NULL, "claims a header of %llu bytes in a file of %zu",
                        (unsigned long long)header, size);
    kvs_mapping *grown = realloc(tensors->files, sizeof *grown * ((size_t)tensors->files_count + 1));
    if (grown == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    tensors->files = grown;
    grown[tensors->files_count] = (kvs_mapping){.path = strdup(path)};
    if (grown[tensors->files_count].path == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    tensors->files_count++;
    cJSON *root;
    KVS_TRY(kvs_json_parse(path, (const char *)bytes + 8, (size_t)header, &root, error));
    kvs_status status = add_entries(tensors, path, root, bytes + 8 + header, size - 8 - (size_t)header, error);
    cJSON_Delete(root);
    return status;
}

kvs_status kvs_safetensors_sort(kvs_safetensors *tensors, kvs_error *error) {
    int count = tensors->tensors_count;
    if (count > 0) qsort(tensors->tensors, (size_t)count, sizeof *tensors->tensors, by_name);
    for (int i = 1; i < count; i++)
        if (strcmp(tensors->tensors[i - 1].name, tensors->tensors[i].name) == 0)
            return kvs_fail(error, KVS_INPUT, tensors->files[tensors->tensors[i].file].path, tensors->tensors[i].name,
                            "is there twice");
    return KVS_OK;
}

static kvs_status add_file(kvs_safetensors *tensors, const char *name, kvs_error *error) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", tensors->directory, name) >= (int)sizeof path)
        return kvs_fail(error, KVS_INPUT, tensors->directory, NULL, "the path is too long");
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe: refused below, not waited for */
    struct stat info;
    if (file < 0 || fstat(file, &info) != 0) {
        kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
        if (file >= 0) close(file);
        return KVS_INPUT;
    }
    size_t size = (size_t)info.st_size;
    if (!S_ISREG(info.st_mode) || size < 8) {
        close(file);
        return kvs_fail(error, KVS_INPUT, path, NULL, "is no safetensors file: %s",
                        S_ISREG(info.st_mode) ? "shorter than 8 bytes" : "not a regular file");
    }
    unsigned char *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (bytes == MAP_FAILED) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be mapped: %s", strerror(errno));
    int before = tensors->files_count;
    kvs_status status = kvs_safetensors_add(tensors, path, bytes, size, error);
    if (tensors->files_count > before) { /* from here on close unmaps it */
        tensors->files[before].bytes = bytes;
        tensors->files[before].size = size;
    } else
        munmap(bytes, size);
    return status;
}

/* --- a directory ---------------------------------------------------------------------------------------------------
 */

static int file_named(const kvs_safetensors *tensors, const char *name) {
    for (int i = 0; i < tensors->files_count; i++) {
        const char *slash = strrchr(tensors->files[i].path, '/');
        if (slash != NULL && strcmp(slash + 1, name) == 0) return i;
    }
    return -1;
}

static kvs_status add_indexed(kvs_safetensors *tensors, const char *index, const cJSON *root, kvs_error *error) {
    const cJSON *map = kvs_json_find(root, "weight_map");
    if (!cJSON_IsObject(map)) return kvs_fail(error, KVS_INPUT, index, "weight_map", "must be an object");
    for (const cJSON *item = map->child; item != NULL; item = item->next) {
        if (!cJSON_IsString(item) || item->valuestring[0] == '.' || strchr(item->valuestring, '/') != NULL)
            return kvs_fail(error, KVS_INPUT, index, item->string, "must name a file of the same directory");
        if (file_named(tensors, item->valuestring) >= 0) continue;
        if (tensors->files_count == FILES_LIMIT)
            return kvs_fail(error, KVS_INPUT, index, "weight_map", "names more than %d files", FILES_LIMIT);
        KVS_TRY(add_file(tensors, item->valuestring, error));
    }
    KVS_TRY(kvs_safetensors_sort(tensors, error));
    for (const cJSON *item = map->child; item != NULL; item = item->next) {
        const kvs_stored_tensor *tensor = kvs_safetensors_find(tensors, item->string);
        if (tensor == NULL || tensor->file != file_named(tensors, item->valuestring))
            return kvs_fail(error, KVS_INPUT, index, item->string, "is not in %s", item->valuestring);
    }
    return KVS_OK;
}

kvs_status kvs_safetensors_open(const char *directory, kvs_safetensors *tensors, kvs_error *error) {
    char index[4096];
    *tensors = (kvs_safetensors){.directory = strdup(directory)};
    if (tensors->directory == NULL) return kvs_fail(error, KVS_INPUT, directory, NULL, "out of memory");
    if (snprintf(index, sizeof index, "%s/model.safetensors.index.json", directory) >= (int)sizeof index)
        return kvs_fail(error, KVS_INPUT, directory, NULL, "the path is too long");
    if (access(index, F_OK) != 0) {
        KVS_TRY(add_file(tensors, "model.safetensors", error));
        return kvs_safetensors_sort(tensors, error);
    }
    cJSON *root;
    KVS_TRY(kvs_json_read(index, INDEX_LIMIT_BYTES, &root, error));
    kvs_status status = add_indexed(tensors, index, root, error);
    cJSON_Delete(root);
    return status;
}

void kvs_safetensors_close(kvs_safetensors *tensors) {
    for (int i = 0; i < tensors->tensors_count; i++) free(tensors->tensors[i].name);
    for (int i = 0; i < tensors->files_count; i++) {
        if (tensors->files[i].bytes != NULL) munmap(tensors->files[i].bytes, tensors->files[i].size);
        free(tensors->files[i].path);
    }
    free(tensors->tensors);
    free(tensors->files);
    free(tensors->directory);
    *tensors = (kvs_safetensors){0};
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

static int name_against(const void *name, const void *tensor) {
    return strcmp(name, ((const kvs_stored_tensor *)tensor)->name);
}

const kvs_stored_tensor *kvs_safetensors_find(const kvs_safetensors *tensors, const char *name) {
    if (tensors->tensors_count == 0) return NULL;
    return bsearch(name, tensors->tensors, (size_t)tensors->tensors_count, sizeof *tensors->tensors, name_against);
}

/* Elements [from, from + elements). Data may stand at any byte, so it goes through an aligned buffer. */
static void convert(const kvs_stored_tensor *tensor, size_t from, size_t elements, float *floats) {
    enum { PART = 4096 };
    uint16_t words[PART];
    if (tensor->dtype == KVS_DTYPE_F32) {
        memcpy(floats, tensor->data + from * sizeof *floats, elements * sizeof *floats);
        return;
    }
    for (size_t done = 0; done < elements; done += PART) {
        size_t count = elements - done < PART ? elements - done : PART;
        memcpy(words, tensor->data + (from + done) * sizeof *words, count * sizeof *words);
        if (tensor->dtype == KVS_DTYPE_F16)
            kvs_halves_to_floats(words, floats + done, count);
        else
            kvs_bfloats_to_floats(words, floats + done, count);
    }
}

static kvs_status locate(const kvs_safetensors *tensors, const char *name, int64_t rows, int64_t columns,
                         const kvs_stored_tensor **found, kvs_error *error) {
    const kvs_stored_tensor *tensor = kvs_safetensors_find(tensors, name);
    if (tensor == NULL)
        return kvs_fail(error, KVS_INPUT, tensors->directory, name, "the tensor is missing from the safetensors files");
    const char *path = tensors->files[tensor->file].path;
    int matches = tensor->rank == 2 ? tensor->shape[0] == rows && tensor->shape[1] == columns
                                    : tensor->rank == 1 && rows == 1 && tensor->shape[0] == columns;
    if (!matches)
        return kvs_fail(error, KVS_INPUT, path, name,
                        "has rank %d and %zu elements, the configuration needs [%lld, %lld]", tensor->rank,
                        tensor->elements, (long long)rows, (long long)columns);
    if (tensor->dtype == KVS_DTYPE_OTHER)
        return kvs_fail(error, KVS_INPUT, path, name, "is in no float type that is supported (F32, F16, BF16)");
    *found = tensor;
    return KVS_OK;
}

static kvs_status not_finite(const kvs_safetensors *tensors, const kvs_stored_tensor *tensor, size_t element,
                             kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, tensors->files[tensor->file].path, tensor->name, "element %zu is not finite",
                    element);
}

kvs_status kvs_safetensors_read(const kvs_safetensors *tensors, const char *name, int64_t rows, int64_t columns,
                                float *floats, kvs_error *error) {
    const kvs_stored_tensor *tensor = NULL;
    KVS_TRY(locate(tensors, name, rows, columns, &tensor, error));
    convert(tensor, 0, tensor->elements, floats);
    size_t first = kvs_first_nonfinite(floats, tensor->elements);
    return first == tensor->elements ? KVS_OK : not_finite(tensors, tensor, first, error);
}

kvs_status kvs_safetensors_check(const kvs_safetensors *tensors, const char *name, int64_t rows, int64_t columns,
                                 const kvs_stored_tensor **tensor, kvs_error *error) {
    enum { PART = 1 << 16 };
    KVS_TRY(locate(tensors, name, rows, columns, tensor, error));
    float *floats = malloc(PART * sizeof *floats);
    if (floats == NULL) return kvs_fail(error, KVS_INPUT, tensors->directory, name, "out of memory");
    size_t elements = (*tensor)->elements, done = 0, first = 0, count = 0;
    for (; done < elements && first == count; done += count) {
        count = elements - done < PART ? elements - done : PART;
        convert(*tensor, done, count, floats);
        first = kvs_first_nonfinite(floats, count);
    }
    free(floats);
    return first == count ? KVS_OK : not_finite(tensors, *tensor, done - count + first, error);
}
