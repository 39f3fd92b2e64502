#include "sim/machine.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parameters counted from the published config.json: embeddings, attention, MLP, norms, output head. */
const kvs_model_shape kvs_model_shapes[] = {
    {"qwen3-8b", 36, 32, 8, 128, 8190735360.0, 2, "huggingface.co/Qwen/Qwen3-8B config.json"},
    {"llama3-8b", 32, 32, 8, 128, 8030261248.0, 2, "huggingface.co/meta-llama/Meta-Llama-3-8B config.json"},
    {"llama3-70b", 80, 64, 8, 128, 70553706496.0, 2, "huggingface.co/meta-llama/Meta-Llama-3-70B config.json"},
    {.name = ""},
};

const kvs_device kvs_devices[] = {
    {"a100-80gb", 80.0 * 1073741824, 2.039e12, 312e12, "NVIDIA A100 datasheet, SXM 80GB: 2,039 GB/s, 312 TFLOPS"},
    {"h100", 80.0 * 1073741824, 3.35e12, 989e12, "NVIDIA H100 datasheet, SXM 80GB: 3.35 TB/s, 989 TFLOPS dense"},
    {"h200", 141e9, 4.8e12, 989e12, "NVIDIA H200 datasheet, SXM 141GB: 4.8 TB/s, 989 TFLOPS dense"},
    {.name = ""},
};

enum { FILE_LIMIT = 1 << 20 };

static kvs_status read_json(const char *what, const char *path, cJSON **root, kvs_error *error) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return kvs_fail(error, KVS_USAGE, what, path, "is no built-in name and no file that can be read: %s",
                        strerror(errno));
    char *text = malloc(FILE_LIMIT + 1);
    size_t bytes = text != NULL ? fread(text, 1, FILE_LIMIT, file) : 0;
    int good = text != NULL && !ferror(file) && feof(file);
    fclose(file);
    if (good) text[bytes] = '\0';
    *root = good ? cJSON_ParseWithOpts(text, NULL, 1) : NULL;
    free(text);
    if (*root != NULL && cJSON_IsObject(*root)) return KVS_OK;
    cJSON_Delete(*root);
    return kvs_fail(error, KVS_INPUT, path, NULL, "is no JSON object of at most 1 MiB");
}

/* A positive number within [low, high]. */
static kvs_status number(const cJSON *root, const char *path, const char *name, double low, double high, double *value,
                         kvs_error *error) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, name);
    if (!cJSON_IsNumber(item)) return kvs_fail(error, KVS_INPUT, path, name, "is missing or no number");
    *value = item->valuedouble;
    if (!(*value >= low && *value <= high))
        return kvs_fail(error, KVS_INPUT, path, name, "%g is outside %g to %g", *value, low, high);
    return KVS_OK;
}

static kvs_status whole(const cJSON *root, const char *path, const char *name, double high, int64_t *value,
                        kvs_error *error) {
    double real = 0;
    KVS_TRY(number(root, path, name, 1, high, &real, error));
    *value = (int64_t)real;
    return real == floor(real) ? KVS_OK : kvs_fail(error, KVS_INPUT, path, name, "%g is no whole number", real);
}

static kvs_status shape_from(const cJSON *root, const char *path, kvs_model_shape *shape, kvs_error *error) {
    KVS_TRY(whole(root, path, "layers", 1e4, &shape->layers, error));
    KVS_TRY(whole(root, path, "query_heads", 1e4, &shape->query_heads, error));
    KVS_TRY(whole(root, path, "kv_heads", 1e4, &shape->kv_heads, error));
    KVS_TRY(whole(root, path, "head_dim", 1024, &shape->head_dim, error));
    KVS_TRY(number(root, path, "parameters", 1, 1e15, &shape->parameters, error));
    return number(root, path, "bytes_per_weight", 0.0625, 8, &shape->bytes_per_weight, error);
}

static kvs_status device_from(const cJSON *root, const char *path, kvs_device *device, kvs_error *error) {
    KVS_TRY(number(root, path, "memory_bytes", 1, 1e16, &device->memory_bytes, error));
    KVS_TRY(number(root, path, "bandwidth_bytes_per_s", 1, 1e18, &device->bandwidth_bytes_per_s, error));
    return number(root, path, "flops_per_s", 1, 1e21, &device->flops_per_s, error);
}

kvs_status kvs_model_shape_get(const char *name, kvs_model_shape *shape, kvs_error *error) {
    for (const kvs_model_shape *s = kvs_model_shapes; s->name[0] != '\0'; s++)
        if (strcmp(s->name, name) == 0) {
            *shape = *s;
            return KVS_OK;
        }
    cJSON *root;
    KVS_TRY(read_json("--model-shape", name, &root, error));
    *shape = (kvs_model_shape){.source = "file"};
    snprintf(shape->name, sizeof shape->name, "%s", name);
    kvs_status status = shape_from(root, name, shape, error);
    cJSON_Delete(root);
    return status;
}

kvs_status kvs_device_get(const char *name, kvs_device *device, kvs_error *error) {
    for (const kvs_device *d = kvs_devices; d->name[0] != '\0'; d++)
        if (strcmp(d->name, name) == 0) {
            *device = *d;
            return KVS_OK;
        }
    cJSON *root;
    KVS_TRY(read_json("--device", name, &root, error));
    *device = (kvs_device){.source = "file"};
    snprintf(device->name, sizeof device->name, "%s", name);
    kvs_status status = device_from(root, name, device, error);
    cJSON_Delete(root);
    return status;
}
