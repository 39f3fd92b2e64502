#include "analysis/cupti/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/counters.h"

#define TEXT_OF(name) #name
#define SYMBOL(name)  TEXT_OF(name) /* after cuda.h's macros */

/* CUDA 13 first on the loader's path, then where the toolkit and its packages put it. */
static const char *const cupti_places[] = {
    "libcupti.so.13",
    "/usr/local/cuda/lib64/libcupti.so.13",
    "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so.13",
    "/usr/local/cuda-13.0/extras/CUPTI/lib64/libcupti.so.13",
    NULL,
};

static kvs_status symbol(void *handle, const char *library, const char *name, void *function, kvs_error *error) {
    void *found = dlsym(handle, name);
    if (found == NULL) return kvs_fail(error, KVS_DEVICE, library, name, "is not in this library; CUDA 13 has it");
    memcpy(function, &found, sizeof found); /* a function's address, which C does not convert */
    return KVS_OK;
}

/* libcupti looks for libnvperf_host on the loader's path alone; they lie side by side. */
static void load_neighbour(kvs_cupti *cupti) {
    Dl_info info;
    char path[4096];
    void *function;
    memcpy(&function, &cupti->cuptiGetVersion, sizeof function);
    if (dladdr(function, &info) == 0 || info.dli_fname == NULL) return;
    const char *slash = strrchr(info.dli_fname, '/');
    int length = slash == NULL ? 0 : (int)(slash - info.dli_fname + 1);
    if (snprintf(path, sizeof path, "%.*slibnvperf_host.so", length, info.dli_fname) >= (int)sizeof path) return;
    cupti->handles[1] = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* where it is missing, CUPTI says what it needs */
}

kvs_status kvs_cupti_load(kvs_cupti *cupti, const char *path, kvs_error *error) {
    *cupti = (kvs_cupti){.handles = {NULL}};
    if (path == NULL) path = getenv("KVSCOPE_CUPTI");
    const char *library = path == NULL ? cupti_places[0] : path;
    if (path != NULL)
        cupti->handles[0] = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    else
        for (int i = 0; cupti->handles[0] == NULL && cupti_places[i] != NULL; i++)
            cupti->handles[0] = dlopen(cupti_places[i], RTLD_LAZY | RTLD_LOCAL);
    if (cupti->handles[0] == NULL)
        return kvs_fail(
            error, KVS_DEVICE, library, NULL,
            "CUPTI is not there; install that of CUDA 13 (package cuda-cupti-13-0, or nvidia-cuda-cupti with "
            "pip), or name its file in KVSCOPE_CUPTI");
#define LOAD(name) KVS_TRY(symbol(cupti->handles[0], library, SYMBOL(name), &cupti->name, error));
    KVS_CUPTI_HOST_FUNCTIONS(LOAD)
    KVS_CUPTI_TARGET_FUNCTIONS(LOAD)
#undef LOAD
    load_neighbour(cupti);
    return KVS_OK;
}

kvs_status kvs_cupti_load_driver(kvs_cupti *cupti, const char *path, kvs_error *error) {
    if (path == NULL) path = getenv("KVSCOPE_CUDA_DRIVER");
    if (path == NULL) path = "libcuda.so.1";
    cupti->handles[2] = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (cupti->handles[2] == NULL)
        return kvs_fail(error, KVS_DEVICE, path, NULL,
                        "no NVIDIA driver here; counters are read on a machine with a GPU");
#define LOAD(name) KVS_TRY(symbol(cupti->handles[2], path, SYMBOL(name), &cupti->name, error));
    KVS_CUDA_DRIVER_FUNCTIONS(LOAD)
#undef LOAD
    return KVS_OK;
}

void kvs_cupti_unload(kvs_cupti *cupti) {
    if (cupti->handles[2] == NULL)
        for (int i = 0; i < 2; i++)
            if (cupti->handles[i] != NULL) (void)dlclose(cupti->handles[i]);
    *cupti = (kvs_cupti){.handles = {NULL}};
}

kvs_status kvs_cupti_done(const kvs_cupti *cupti, CUptiResult result, const char *call, kvs_error *error) {
    const char *text = NULL, *remedy = kvs_cupti_remedy((int)result);
    if (result == CUPTI_SUCCESS) return KVS_OK;
    if (remedy != NULL) return kvs_fail(error, KVS_DEVICE, "cupti", call, "%s", remedy);
    if (cupti->cuptiGetResultString(result, &text) != CUPTI_SUCCESS || text == NULL) text = "unknown";
    return kvs_fail(error, KVS_DEVICE, "cupti", call, "%s (CUPTI error %d)", text, (int)result);
}

kvs_status kvs_driver_done(const kvs_cupti *cupti, CUresult result, const char *call, kvs_error *error) {
    const char *text = NULL;
    if (result == CUDA_SUCCESS) return KVS_OK;
    if (cupti->cuGetErrorString(result, &text) != CUDA_SUCCESS || text == NULL) text = "unknown";
    if (result == CUDA_ERROR_NO_DEVICE)
        return kvs_fail(error, KVS_DEVICE, "cuda", call, "no GPU; counters are read on a machine with one");
    return kvs_fail(error, KVS_DEVICE, "cuda", call, "%s (CUDA error %d)", text, (int)result);
}
